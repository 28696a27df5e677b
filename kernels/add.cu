// add: y = y + x, then max(y, 0) if `relu`, in place: residual shortcuts, and the sum of their two gradients. A NaN stays NaN.
//
// x, y are flat arrays of `len` elements of any layout. A thread processes four consecutive elements as one pack. Minimum
// memory traffic: x and y read, y written.
#include "prelude.cuh"

KERNEL void __launch_bounds__(256) add(const T* x, T* y, u32 relu, u32 len) {
    begin_kernel();
    for_pack((blockIdx.x * 256 + threadIdx.x) * 4, len, [&](auto width, u32 i) {
        constexpr int V = width.value;
        Pack<V> from = load<V>(x + i), to = load<V>(y + i);
        for (int j = 0; j < V; j++) {
            to.v[j] += from.v[j];
            if (relu && to.v[j] < 0.0f) to.v[j] = 0.0f;
        }
        store<V>(y + i, to);
    });
}
