// avgpool, adaptive: y[n,p,q,c] = mean of x[n,h,w,c] over the rows ⌊p·H/P⌋ to ⌈(p+1)·H/P⌉ − 1, and the columns likewise.
//
// N images, C channels, H×W pixels in, P×Q out, NHWC. One thread per output (forward) or input (backward), of four channels
// if C is a multiple of 4, otherwise of one. Backward is a gather: the outputs whose window contains row h are
// p = ⌊h·P/H⌋ to ⌈(h+1)·P/H⌉ − 1. Minimum memory traffic: x + y in each direction.
#include "prelude.cuh"

struct AvgPool {
    u32 work;  // number of threads with work
    u32 height, width, channels, out_height, out_width;
};

// The first index of a window and the one after its last: ⌊i·n/m⌋ and ⌈(i+1)·n/m⌉.
DEVICE u32 window_begin(u32 i, u32 n, u32 m) { return i * n / m; }
DEVICE u32 window_end(u32 i, u32 n, u32 m) { return ((i + 1) * n + m - 1) / m; }

template <int V> DEVICE void forward(const T* x, T* y, const AvgPool& s) {
    u32 i = blockIdx.x * 256 + threadIdx.x;
    if (i >= s.work) return;
    u32 packs = s.channels / V;
    u32 c = i % packs * V, q = i / packs % s.out_width, p = i / packs / s.out_width % s.out_height;
    u32 n = i / packs / s.out_width / s.out_height;
    u32 h_begin = window_begin(p, s.height, s.out_height), h_end = window_end(p, s.height, s.out_height);
    u32 w_begin = window_begin(q, s.width, s.out_width), w_end = window_end(q, s.width, s.out_width);
    Pack<V> sum = {};
    for (u32 h = h_begin; h < h_end; h++) {
        for (u32 w = w_begin; w < w_end; w++) {
            Pack<V> value = load<V>(x + ((u64)(n * s.height + h) * s.width + w) * s.channels + c);
            for (int v = 0; v < V; v++) sum.v[v] += value.v[v];
        }
    }
    float pixels = (float)((h_end - h_begin) * (w_end - w_begin));
    for (int v = 0; v < V; v++) sum.v[v] /= pixels;
    store<V>(y + (u64)i * V, sum);
}

template <int V> DEVICE void backward(const T* dy, T* dx, const AvgPool& s) {
    u32 i = blockIdx.x * 256 + threadIdx.x;
    if (i >= s.work) return;
    u32 packs = s.channels / V;
    u32 c = i % packs * V, w = i / packs % s.width, h = i / packs / s.width % s.height;
    u32 n = i / packs / s.width / s.height;
    u32 p_begin = window_begin(h, s.out_height, s.height), p_end = window_end(h, s.out_height, s.height);
    u32 q_begin = window_begin(w, s.out_width, s.width), q_end = window_end(w, s.out_width, s.width);
    Pack<V> sum = {};
    for (u32 p = p_begin; p < p_end; p++) {
        u32 rows = window_end(p, s.height, s.out_height) - window_begin(p, s.height, s.out_height);
        for (u32 q = q_begin; q < q_end; q++) {
            u32 columns = window_end(q, s.width, s.out_width) - window_begin(q, s.width, s.out_width);
            Pack<V> value = load<V>(dy + ((u64)(n * s.out_height + p) * s.out_width + q) * s.channels + c);
            for (int v = 0; v < V; v++) sum.v[v] += value.v[v] / (float)(rows * columns);
        }
    }
    store<V>(dx + (u64)i * V, sum);
}

// y (N, P, Q, C) from x (N, H, W, C); C a multiple of 4.
KERNEL void __launch_bounds__(256) avgpool_forward(const T* x, T* y, AvgPool s) {
    begin_kernel();
    forward<4>(x, y, s);
}
// The same for any C.
KERNEL void __launch_bounds__(256) avgpool_forward_odd(const T* x, T* y, AvgPool s) {
    begin_kernel();
    forward<1>(x, y, s);
}
// dx (N, H, W, C) from dy (N, P, Q, C); C a multiple of 4.
KERNEL void __launch_bounds__(256) avgpool_backward(const T* dy, T* dx, AvgPool s) {
    begin_kernel();
    backward<4>(dy, dx, s);
}
// The same for any C.
KERNEL void __launch_bounds__(256) avgpool_backward_odd(const T* dy, T* dx, AvgPool s) {
    begin_kernel();
    backward<1>(dy, dx, s);
}
