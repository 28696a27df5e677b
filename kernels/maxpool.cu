// maxpool: y[n,p,q,c] = max over r, s < R of x[n, p·stride + r − padding, q·stride + s − padding, c].
//
// N images, C channels, H×W pixels in, P×Q out, all NHWC; windows of R×R. argmax[n,p,q,c] is the position r·R + s of
// the maximum in its window, the first in row order if there are several; a NaN counts as the maximum.
//
// A thread processes V consecutive channels: 4 if C is a multiple of 4, so that loads and stores are packs, otherwise 1.
// Forward: one thread per output. Backward: a gather, without atomics, so that each pixel's sum has a fixed order. With stride
// 2 a thread computes a cell of 2×2 pixels and loads each window's gradient once per cell; with another stride a cell is one
// pixel. If windows overlap (AlexNet's 3×3 with stride 2), a block takes a tile of outputs or cells and 32 channels and first
// copies what they read into shared memory: each element is loaded once, except at the tile's edge. With a mask, which is y,
// backward takes dy for 0 where it is ≤ 0: the gradient of a ReLU before the pool. Minimum memory traffic: x, y and 1 byte per
// output in each direction, and y once more with a mask.
#include "prelude.cuh"

struct MaxPool {
    u32 work;  // number of threads with work
    u32 height, width, channels, kernel, stride, padding, out_height, out_width;
    u32 tile_rows, tile_columns;  // outputs or cells per block, if windows overlap
};

// One output: the maximum in the window of (p, q); pixel(h, w) is a pack of x.
template <int V, typename Pixel> DEVICE void largest(u32 p, u32 q, const MaxPool& s, Pixel pixel, T* y, u8* argmax) {
    // The window's rows and columns inside the image.
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
        for (u32 t = s_first; t < s_end; t++) {
            Pack<V> value = pixel(top + r, left + t);
            for (int v = 0; v < V; v++) {
                bool nan = value.v[v] != value.v[v], best_nan = best.v[v] != best.v[v];
                if (value.v[v] > best.v[v] || (nan && !best_nan)) {
                    best.v[v] = value.v[v];
                    position[v] = r * s.kernel + t;
                }
            }
        }
    }
    store<V>(y, best);
    if constexpr (V == 4) *(u32*)argmax = position[0] | position[1] << 8 | position[2] << 16 | position[3] << 24;
    else *argmax = position[0];
}

template <int V> DEVICE void forward(const T* x, T* y, u8* argmax, const MaxPool& s) {
    u32 i = blockIdx.x * 256 + threadIdx.x;
    if (i >= s.work) return;
    u32 packs = s.channels / V;
    u32 c = i % packs * V, q = i / packs % s.out_width, p = i / packs / s.out_width % s.out_height;
    u32 n = i / packs / s.out_width / s.out_height;
    const T* image = x + (u64)n * s.height * s.width * s.channels + c;
    auto pixel = [&](u32 h, u32 w) { return load<V>(image + (u64)(h * s.width + w) * s.channels); };
    largest<V>(p, q, s, pixel, y + (u64)i * V, argmax + (u64)i * V);
}

// y (N, P, Q, C), argmax (N, P, Q, C) from x (N, H, W, C); C a multiple of 4.
KERNEL void __launch_bounds__(256) maxpool_forward(const T* x, T* y, u8* argmax, MaxPool s) {
    begin_kernel();
    forward<4>(x, y, argmax, s);
}
// The same for any C.
KERNEL void __launch_bounds__(256) maxpool_forward_odd(const T* x, T* y, u8* argmax, MaxPool s) {
    begin_kernel();
    forward<1>(x, y, argmax, s);
}

// The cell of S×S pixels of the padded image that begins at (row, column). gradient(p, q, position) returns a window's pack of
// dy and its bytes of argmax.
template <int V, int S, typename Gradient>
DEVICE void cell(u32 row, u32 column, const MaxPool& s, Gradient gradient, T* dx) {
    Pack<V> sum[S][S] = {};
    // The windows that overlap the cell: from the first whose last row is not above it to the last that starts in it.
    u32 p_first = row + s.stride > s.kernel ? (row + s.stride - s.kernel) / s.stride : 0;
    u32 q_first = column + s.stride > s.kernel ? (column + s.stride - s.kernel) / s.stride : 0;
    u32 p_end = min((row + S - 1) / s.stride + 1, s.out_height), q_end = min((column + S - 1) / s.stride + 1, s.out_width);
    for (u32 p = p_first; p < p_end; p++) {
        for (u32 q = q_first; q < q_end; q++) {
            u32 word;
            Pack<V> dy = gradient(p, q, word);
#pragma unroll
            for (int v = 0; v < V; v++) {
                u32 position = word >> 8 * v & 0xff;
                // Position of the maximum in the cell; outside it the differences wrap to large numbers.
                u32 a = p * s.stride + position / s.kernel - row, b = q * s.stride + position % s.kernel - column;
#pragma unroll
                for (int h = 0; h < S; h++)
#pragma unroll
                    for (int w = 0; w < S; w++)
                        if (a == h && b == w) sum[h][w].v[v] += dy.v[v];
            }
        }
    }
#pragma unroll
    for (int h = 0; h < S; h++) {
#pragma unroll
        for (int w = 0; w < S; w++) {
            u32 y = row + h - s.padding, x = column + w - s.padding;
            if (y < s.height && x < s.width) store<V>(dx + (u64)(y * s.width + x) * s.channels, sum[h][w]);
        }
    }
}

// dy of V channels, 0 where the mask, if there is one, is ≤ 0.
template <int V> DEVICE Pack<V> masked(const T* dy, const T* mask, u64 at) {
    Pack<V> gradient = load<V>(dy + at);
    if (mask == nullptr) return gradient;
    Pack<V> y = load<V>(mask + at);
    for (int v = 0; v < V; v++) gradient.v[v] = y.v[v] <= 0.0f ? 0.0f : gradient.v[v];
    return gradient;
}

template <int V, int S>
DEVICE void backward(const T* dy, const u8* argmax, const T* mask, T* dx, const MaxPool& s) {
    u32 i = blockIdx.x * 256 + threadIdx.x;
    if (i >= s.work) return;
    u32 packs = s.channels / V;
    u32 rows = (s.height + s.padding + S - 1) / S, columns = (s.width + s.padding + S - 1) / S;
    u32 c = i % packs * V, column = i / packs % columns * S, row = i / packs / columns % rows * S;
    u32 n = i / packs / columns / rows;
    auto gradient = [&](u32 p, u32 q, u32& word) {
        u64 at = ((u64)(n * s.out_height + p) * s.out_width + q) * s.channels + c;
        if constexpr (V == 4) word = *(const u32*)(argmax + at);
        else word = argmax[at];
        return masked<V>(dy, mask, at);
    };
    cell<V, S>(row, column, s, gradient, dx + (u64)n * s.height * s.width * s.channels + c);
}

// dx (N, H, W, C) from dy and argmax (N, P, Q, C); stride 2, C a multiple of 4.
// 64 registers are enough: left alone, ptxas spills to have 48.
KERNEL void __launch_bounds__(256, 4)
    maxpool_backward(const T* dy, const u8* argmax, const T* mask, T* dx, MaxPool s) {
    begin_kernel();
    backward<4, 2>(dy, argmax, mask, dx, s);
}
// The same for any stride and any C.
KERNEL void __launch_bounds__(256)
    maxpool_backward_odd(const T* dy, const u8* argmax, const T* mask, T* dx, MaxPool s) {
    begin_kernel();
    backward<1, 1>(dy, argmax, mask, dx, s);
}

// ---- Overlapping windows: through shared memory --------------------------------------------------------------------
//
// Grid: tiles of an image, groups of 32 channels, images. A warp takes four adjacent positions of a row × 8 packs: in shared
// memory, where a position is 128 bytes of float, that covers all banks four times, and 128 bytes of argmax; in global memory
// it is whole sectors.

extern __shared__ __align__(16) float memory[];

struct Tile {
    u32 row, column;  // of the first output or cell
    u32 c;            // first channel of the lane
    u64 image;        // index of the image
    bool idle;        // whether the lane has no channel
};
DEVICE Tile tile(u32 columns, const MaxPool& s) {
    u32 across = (columns + s.tile_columns - 1) / s.tile_columns, c = blockIdx.y * 32 + threadIdx.x % 8 * 4;
    return {blockIdx.x / across * s.tile_rows, blockIdx.x % across * s.tile_columns, c, blockIdx.z, c >= s.channels};
}
// Spelled out, because NVRTC splits a store4 that is followed by another store into four stores, with bank conflicts.
DEVICE void store4_shared(float* p, const float4x& x) {
    asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(shared_address(p)), "f"(x.v[0]), "f"(x.v[1]), "f"(x.v[2]),
                 "f"(x.v[3])
                 : "memory");
}
// Calls f(row, column) for all of rows × columns, by eight warps.
template <typename F> DEVICE void for_each(u32 rows, u32 columns, F f) {
    u32 strips = (columns + 3) / 4;
    for (u32 i = threadIdx.x / 32; i < rows * strips; i += 8) {
        u32 row = i / strips, column = (i - row * strips) * 4 + threadIdx.x % 32 / 8;
        if (column < columns) f(row, column);
    }
}

// As maxpool_forward. Shared memory: 128 bytes per pixel under the tile's windows.
KERNEL void __launch_bounds__(256) maxpool_forward_tile(const T* x, T* y, u8* argmax, MaxPool s) {
    begin_kernel();
    Tile t = tile(s.out_width, s);
    if (t.idle) t.c = 0;
    u32 rows = min(s.tile_rows, s.out_height - t.row), columns = min(s.tile_columns, s.out_width - t.column);
    // The pixels under the windows.
    u32 top = max((int)(t.row * s.stride) - (int)s.padding, 0), left = max((int)(t.column * s.stride) - (int)s.padding, 0);
    u32 bottom = min((t.row + rows - 1) * s.stride + s.kernel - s.padding, s.height);
    u32 pitch = min((t.column + columns - 1) * s.stride + s.kernel - s.padding, s.width) - left;
    const T* image = x + t.image * s.height * s.width * s.channels + t.c;
    float* own = memory + threadIdx.x % 8 * 4;
    for_each(bottom - top, pitch, [&](u32 h, u32 w) {
        if (!t.idle)
            store4_shared(own + (h * pitch + w) * 32, load4(image + (u64)((top + h) * s.width + left + w) * s.channels));
    });
    __syncthreads();
    for_each(rows, columns, [&](u32 p, u32 q) {
        p += t.row, q += t.column;
        auto pixel = [&](u32 h, u32 w) { return load4(own + ((h - top) * pitch + w - left) * 32); };
        u64 at = ((t.image * s.out_height + p) * s.out_width + q) * s.channels + t.c;
        if (!t.idle) largest<4>(p, q, s, pixel, y + at, argmax + at);
    });
}

template <int S>
DEVICE void backward_tile(const T* dy, const u8* argmax, const T* mask, T* dx, const MaxPool& s) {
    u32 all_rows = (s.height + s.padding + S - 1) / S, all_columns = (s.width + s.padding + S - 1) / S;
    Tile t = tile(all_columns, s);
    if (t.idle) t.c = 0;
    u32 rows = min(s.tile_rows, all_rows - t.row), columns = min(s.tile_columns, all_columns - t.column);
    // The windows that overlap the tile's cells.
    u32 row = t.row * S, column = t.column * S;
    u32 top = row + s.stride > s.kernel ? (row + s.stride - s.kernel) / s.stride : 0;
    u32 left = column + s.stride > s.kernel ? (column + s.stride - s.kernel) / s.stride : 0;
    u32 bottom = min((row + rows * S - 1) / s.stride + 1, s.out_height);
    u32 right = min((column + columns * S - 1) / s.stride + 1, s.out_width);
    u32 pitch = max(right, left) - left, height = max(bottom, top) - top;
    float* own = memory + threadIdx.x % 8 * 4;
    u32* words = (u32*)(memory + height * pitch * 32) + threadIdx.x % 8;
    for_each(height, pitch, [&](u32 p, u32 q) {
        u64 at = ((t.image * s.out_height + top + p) * s.out_width + left + q) * s.channels + t.c;
        if (t.idle) return;
        float4x gradient = masked<4>(dy, mask, at);
        u32 word = *(const u32*)(argmax + at);
        store4_shared(own + (p * pitch + q) * 32, gradient);
        words[(p * pitch + q) * 8] = word;
    });
    __syncthreads();
    T* image = dx + t.image * s.height * s.width * s.channels + t.c;
    for_each(rows, columns, [&](u32 i, u32 j) {
        auto gradient = [&](u32 p, u32 q, u32& word) {
            u32 at = (p - top) * pitch + q - left;
            word = words[at * 8];
            return load4(own + at * 32);
        };
        if (!t.idle) cell<4, S>(row + i * S, column + j * S, s, gradient, image);
    });
}

// As maxpool_backward. Shared memory: 160 bytes per window that overlaps the tile.
KERNEL void __launch_bounds__(256)
    maxpool_backward_tile(const T* dy, const u8* argmax, const T* mask, T* dx, MaxPool s) {
    begin_kernel();
    backward_tile<2>(dy, argmax, mask, dx, s);
}
// The same for any stride.
KERNEL void __launch_bounds__(256)
    maxpool_backward_tile_1(const T* dy, const u8* argmax, const T* mask, T* dx, MaxPool s) {
    begin_kernel();
    backward_tile<1>(dy, argmax, mask, dx, s);
}
