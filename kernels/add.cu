// add: y = y + x, then max(y, 0) if `relu`, in place: residual shortcuts, and the sum of their two gradients. A NaN stays NaN.
//
// x, y are flat arrays of `len` elements of any layout. A thread processes four consecutive elements as one pack. Minimum
// memory traffic: x and y read, y written.
#include "prelude.cuh"

DEVICE float sum(float x, float y, u32 relu) {
    float sum = x + y;
    return relu && sum < 0.0f ? 0.0f : sum;
}

KERNEL void __launch_bounds__(256) add(const T* x, T* y, u32 relu, u32 len) {
    u32 i = (blockIdx.x * 256 + threadIdx.x) * 4;
    if (i + 4 <= len) {
        float4x from = load4(x + i), to = load4(y + i);
        for (int j = 0; j < 4; j++) to.v[j] = sum(from.v[j], to.v[j], relu);
        store4(y + i, to);
    } else {
        for (; i < len; i++) y[i] = from_float<T>(sum(to_float(x[i]), to_float(y[i]), relu));
    }
}
