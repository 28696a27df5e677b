// Kernels that read and write memory once, with a float4 for a thread.
extern "C" __global__ void scale(float4 *a, const float4 *b, const float4 *) {
    unsigned i = blockIdx.x * 1024 + threadIdx.x;
    float4 v = b[i];
    a[i] = make_float4(3.0f * v.x, 3.0f * v.y, 3.0f * v.z, 3.0f * v.w);
}

extern "C" __global__ void triad(float4 *a, const float4 *b, const float4 *c) {
    unsigned i = blockIdx.x * 1024 + threadIdx.x;
    float4 v = b[i], w = c[i];
    a[i] = make_float4(v.x + 3.0f * w.x, v.y + 3.0f * w.y, v.z + 3.0f * w.z, v.w + 3.0f * w.w);
}

// The sum of each warp's numbers; a grid's sums are then added by another launch, which costs nothing in comparison.
extern "C" __global__ void sum(float4 *a, const float4 *b, const float4 *) {
    unsigned i = blockIdx.x * 1024 + threadIdx.x;
    float4 v = b[i];
    float s = v.x + v.y + v.z + v.w;
    for (int d = 16; d > 0; d /= 2) s += __shfl_down_sync(~0u, s, d);
    if (threadIdx.x % 32 == 0) a[i / 32].x = s;
}
