// maxpool: y[n,p,q,c] = max over r, s < R of x[n, p·stride + r − padding, q·stride + s − padding, c].
//
// N images, C channels, H×W pixels in, P×Q out, all NHWC; windows of R×R. argmax[n,p,q,c] is the position r·R + s of
// the largest in its window, the first of equals in row order; a NaN counts as the largest.
//
// A thread takes V consecutive channels: 4 where C is a multiple of 4, so that loads and stores are packs, else 1.
// Forward: a thread an output. Backward: a gather, so that nothing needs to be atomic and each pixel's sum has a fixed
// order. With stride 2 a thread owns a cell of 2×2 pixels, so that a 2×2 window's gradient is loaded once; with
// another stride a cell is one pixel. Bytes at least: forward x + y + 1 byte an output; backward the same the other way.
#include "prelude.cuh"

struct MaxPool {
    u32 work;  // threads that have something to do
    u32 height, width, channels, kernel, stride, padding, out_height, out_width;
};

template <int V> struct Pack { float v[V]; };
template <int V> DEVICE Pack<V> load(const T* p) {
    Pack<V> pack;
    if constexpr (V == 4) {
        float4x x = load4(p);
        for (int i = 0; i < 4; i++) pack.v[i] = x.v[i];
    } else {
        pack.v[0] = to_float(*p);
    }
    return pack;
}
template <int V> DEVICE void store(T* p, const Pack<V>& pack) {
    if constexpr (V == 4) store4(p, {{pack.v[0], pack.v[1], pack.v[2], pack.v[3]}});
    else *p = from_float<T>(pack.v[0]);
}

template <int V> DEVICE void forward(const T* x, T* y, u8* argmax, const MaxPool& s) {
    u32 i = blockIdx.x * 256 + threadIdx.x;
    if (i >= s.work) return;
    u32 packs = s.channels / V;
    u32 c = i % packs * V, q = i / packs % s.out_width, p = i / packs / s.out_width % s.out_height;
    u32 n = i / packs / s.out_width / s.out_height;
    // The window's rows and columns that lie in the image.
    int top = (int)(p * s.stride) - (int)s.padding, left = (int)(q * s.stride) - (int)s.padding;
    u32 r_first = top < 0 ? -top : 0, s_first = left < 0 ? -left : 0;
    u32 r_end = min((int)s.kernel, (int)s.height - top), s_end = min((int)s.kernel, (int)s.width - left);
    Pack<V> best;
    u32 position[V];
    for (int v = 0; v < V; v++) {
        best.v[v] = -INFINITY;
        position[v] = r_first * s.kernel + s_first;
    }
    for (u32 r = r_first; r < r_end; r++) {
        const T* row = x + ((u64)(n * s.height + top + r) * s.width + left) * s.channels + c;
        for (u32 t = s_first; t < s_end; t++) {
            Pack<V> value = load<V>(row + (u64)t * s.channels);
            for (int v = 0; v < V; v++) {
                bool nan = value.v[v] != value.v[v], best_nan = best.v[v] != best.v[v];
                if (value.v[v] > best.v[v] || (nan && !best_nan)) {
                    best.v[v] = value.v[v];
                    position[v] = r * s.kernel + t;
                }
            }
        }
    }
    store<V>(y + (u64)i * V, best);
    if constexpr (V == 4)
        *(u32*)(argmax + (u64)i * 4) = position[0] | position[1] << 8 | position[2] << 16 | position[3] << 24;
    else argmax[i] = position[0];
}

// y (N, P, Q, C), argmax (N, P, Q, C) from x (N, H, W, C); C a multiple of 4.
KERNEL void __launch_bounds__(256) maxpool_forward(const T* x, T* y, u8* argmax, MaxPool s) {
    forward<4>(x, y, argmax, s);
}
// The same for any C.
KERNEL void __launch_bounds__(256) maxpool_forward_odd(const T* x, T* y, u8* argmax, MaxPool s) {
    forward<1>(x, y, argmax, s);
}

// A cell is S×S pixels of the padded image, from row i·S and column j·S on.
template <int V, int S> DEVICE void backward(const T* dy, const u8* argmax, T* dx, const MaxPool& s) {
    u32 i = blockIdx.x * 256 + threadIdx.x;
    if (i >= s.work) return;
    u32 packs = s.channels / V;
    u32 rows = (s.height + s.padding + S - 1) / S, columns = (s.width + s.padding + S - 1) / S;
    u32 c = i % packs * V, column = i / packs % columns * S, row = i / packs / columns % rows * S;
    u32 n = i / packs / columns / rows;
    Pack<V> sum[S][S] = {};
    // The windows that reach into the cell: from the first whose last row is not above it to the last that starts in it.
    u32 p_first = row + s.stride > s.kernel ? (row + s.stride - s.kernel) / s.stride : 0;
    u32 q_first = column + s.stride > s.kernel ? (column + s.stride - s.kernel) / s.stride : 0;
    u32 p_end = min((row + S - 1) / s.stride + 1, s.out_height), q_end = min((column + S - 1) / s.stride + 1, s.out_width);
    for (u32 p = p_first; p < p_end; p++) {
        for (u32 q = q_first; q < q_end; q++) {
            u64 at = ((u64)(n * s.out_height + p) * s.out_width + q) * s.channels + c;
            Pack<V> gradient = load<V>(dy + at);
            u32 word;
            if constexpr (V == 4) word = *(const u32*)(argmax + at);
            else word = argmax[at];
            for (int v = 0; v < V; v++) {
                u32 position = word >> 8 * v & 0xff;
                // Where in the cell the largest lies; outside it the differences wrap to something large.
                u32 a = p * s.stride + position / s.kernel - row, b = q * s.stride + position % s.kernel - column;
                for (int h = 0; h < S; h++)
                    for (int w = 0; w < S; w++)
                        if (a == h && b == w) sum[h][w].v[v] += gradient.v[v];
            }
        }
    }
    for (int h = 0; h < S; h++) {
        for (int w = 0; w < S; w++) {
            u32 y = row + h - s.padding, x = column + w - s.padding;
            if (y < s.height && x < s.width) store<V>(dx + ((u64)(n * s.height + y) * s.width + x) * s.channels + c, sum[h][w]);
        }
    }
}

// dx (N, H, W, C) from dy and argmax (N, P, Q, C); stride 2, C a multiple of 4.
KERNEL void __launch_bounds__(256) maxpool_backward(const T* dy, const u8* argmax, T* dx, MaxPool s) {
    backward<4, 2>(dy, argmax, dx, s);
}
// The same for any stride and any C.
KERNEL void __launch_bounds__(256) maxpool_backward_odd(const T* dy, const u8* argmax, T* dx, MaxPool s) {
    backward<1, 1>(dy, argmax, dx, s);
}
