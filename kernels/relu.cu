// relu: y = max(x, 0), in place. A NaN stays NaN.
//
// x, dy, y are flat arrays of `len` elements of any layout. A thread processes four consecutive elements as one pack, a warp
// 128: each load and store is a whole cache line. Minimum memory traffic in bytes: forward 2·len·sizeof(T), backward
// 3·len·sizeof(T) (y and dy read, dy written); one comparison per element.
#include "prelude.cuh"

KERNEL void __launch_bounds__(256) relu_forward(T* x, u32 len) {
    begin_kernel();
    map4(x, len, [](float& x, u32) { x = x < 0.0f ? 0.0f : x; });
}

// dy = 0 where y ≤ 0; y is the forward output.
KERNEL void __launch_bounds__(256) relu_backward(const T* y, T* dy, u32 len) {
    begin_kernel();
    u32 i = (blockIdx.x * 256 + threadIdx.x) * 4;
    if (i + 4 <= len) {
        float4x output = load4(y + i), gradient = load4(dy + i);
        for (int j = 0; j < 4; j++) gradient.v[j] = output.v[j] <= 0.0f ? 0.0f : gradient.v[j];
        store4(dy + i, gradient);
    } else {
        for (; i < len; i++)
            if (to_float(y[i]) <= 0.0f) dy[i] = from_float<T>(0.0f);
    }
}
