// cast: between T and float. A thread converts four elements. Minimum memory traffic: both arrays.
#include "prelude.cuh"

template <typename From, typename To> DEVICE void cast(const From* x, To* y, u32 len) {
    u32 i = (blockIdx.x * 256 + threadIdx.x) * 4;
    if (i + 4 <= len) {
        store4(y + i, load4(x + i));
    } else {
        for (; i < len; i++) y[i] = from_float<To>(to_float(x[i]));
    }
}

KERNEL void __launch_bounds__(256) cast_from_float(const float* x, T* y, u32 len) { cast(x, y, len); }
KERNEL void __launch_bounds__(256) cast_to_float(const T* x, float* y, u32 len) { cast(x, y, len); }
