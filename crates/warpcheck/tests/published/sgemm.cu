// Ten ways to multiply fp32 matrices, C (n × n) = alpha · A · B + beta · C, row-major, each with one idea more than the last.
// The ideas, tile sizes and grids are those of Simon Boehm's article on CUDA matrix multiplication
// (https://siboehm.com/articles/22/CUDA-MMM), which gives their rates on an RTX A6000; the code is written for this test.
// n is a multiple of 128.
typedef unsigned int u32;

__device__ __forceinline__ void put(float *c, float sum, float alpha, float beta) { *c = alpha * sum + beta * *c; }

__device__ __forceinline__ void put4(float *c, const float *sum, float alpha, float beta) {
    float4 old = *reinterpret_cast<float4 *>(c);
    *reinterpret_cast<float4 *>(c) = make_float4(alpha * sum[0] + beta * old.x, alpha * sum[1] + beta * old.y,
                                                 alpha * sum[2] + beta * old.z, alpha * sum[3] + beta * old.w);
}

// The dot product of a row of A and a column of B.
__device__ __forceinline__ void dot(int n, float alpha, const float *a, const float *b, float beta, float *c, u32 row,
                                    u32 column) {
    float sum = 0.0f;
    for (int k = 0; k < n; ++k) sum += a[row * n + k] * b[k * n + column];
    put(c + row * n + column, sum, alpha, beta);
}

// 1. A thread an element; the 32 threads of a warp have 32 rows: each reads a line of A of its own.
extern "C" __global__ void naive(int n, float alpha, const float *a, const float *b, float beta, float *c) {
    dot(n, alpha, a, b, beta, c, blockIdx.x * 32 + threadIdx.x, blockIdx.y * 32 + threadIdx.y);
}

// 2. The threads of a warp have 32 neighbouring columns: they read a line of B together.
extern "C" __global__ void coalesced(int n, float alpha, const float *a, const float *b, float beta, float *c) {
    dot(n, alpha, a, b, beta, c, blockIdx.x * 32 + threadIdx.x / 32, blockIdx.y * 32 + threadIdx.x % 32);
}

// 3. Tiles of 32 × 32 in shared memory.
extern "C" __global__ void shared_tiles(int n, float alpha, const float *a, const float *b, float beta, float *c) {
    __shared__ float left[32 * 32], right[32 * 32];
    const u32 i = threadIdx.x / 32, j = threadIdx.x % 32, row = blockIdx.x * 32, column = blockIdx.y * 32;
    float sum = 0.0f;
    for (int k = 0; k < n; k += 32) {
        left[threadIdx.x] = a[(row + i) * n + k + j];
        right[threadIdx.x] = b[(k + i) * n + column + j];
        __syncthreads();
        for (int d = 0; d < 32; ++d) sum += left[i * 32 + d] * right[d * 32 + j];
        __syncthreads();
    }
    put(c + (row + i) * n + column + j, sum, alpha, beta);
}

// 4. A thread has 8 elements of a column: one number of B serves 8 multiply-adds.
extern "C" __global__ void columns(int n, float alpha, const float *a, const float *b, float beta, float *c) {
    __shared__ float left[64 * 8], right[8 * 64];
    const u32 j = threadIdx.x % 64, group = threadIdx.x / 64, row = blockIdx.y * 64, column = blockIdx.x * 64;
    const float *from_a = a + (row + threadIdx.x / 8) * n + threadIdx.x % 8;
    const float *from_b = b + group * n + column + j;
    float sum[8] = {};
    for (int k = 0; k < n; k += 8, from_a += 8, from_b += 8 * n) {
        left[threadIdx.x] = *from_a;
        right[threadIdx.x] = *from_b;
        __syncthreads();
        for (u32 d = 0; d < 8; ++d) {
            float y = right[d * 64 + j];
            for (u32 i = 0; i < 8; ++i) sum[i] += left[(group * 8 + i) * 8 + d] * y;
        }
        __syncthreads();
    }
    for (u32 i = 0; i < 8; ++i) put(c + (row + group * 8 + i) * n + column + j, sum[i], alpha, beta);
}

// The outer product of 8 numbers of A and 8 of B.
__device__ __forceinline__ void outer(float (&sum)[64], const float (&x)[8], const float (&y)[8]) {
    for (u32 i = 0; i < 8; ++i)
        for (u32 j = 0; j < 8; ++j) sum[i * 8 + j] += x[i] * y[j];
}

// 5. A thread has 8 × 8 elements of a tile of 128 × 128.
extern "C" __global__ void __launch_bounds__(256, 1)
squares(int n, float alpha, const float *a, const float *b, float beta, float *c) {
    __shared__ float left[128 * 8], right[8 * 128];
    const u32 t = threadIdx.x, j = t % 16 * 8, i = t / 16 * 8, row = blockIdx.y * 128, column = blockIdx.x * 128;
    float sum[64] = {}, x[8], y[8];
    a += row * n;
    b += column;
    for (int k = 0; k < n; k += 8, a += 8, b += 8 * n) {
        for (u32 r = 0; r < 128; r += 32) left[r * 8 + t] = a[(t / 8 + r) * n + t % 8];
        for (u32 r = 0; r < 8; r += 2) right[r * 128 + t] = b[(t / 128 + r) * n + t % 128];
        __syncthreads();
        for (u32 d = 0; d < 8; ++d) {
            for (u32 r = 0; r < 8; ++r) x[r] = left[(i + r) * 8 + d];
            for (u32 r = 0; r < 8; ++r) y[r] = right[d * 128 + j + r];
            outer(sum, x, y);
        }
        __syncthreads();
    }
    for (u32 r = 0; r < 8; ++r)
        for (u32 s = 0; s < 8; ++s)
            put(c + (row + i + r) * n + column + j + s, sum[r * 8 + s], alpha, beta);
}

// A slice of A, 128 rows of SLICE numbers, read 4 numbers at a time and stored transposed; the same of B, as it is.
template <u32 THREADS, u32 SLICE>
__device__ __forceinline__ void load_left(float *left, const float *a, int n, u32 t) {
    constexpr u32 VECTORS = SLICE / 4, ROWS = THREADS / VECTORS;
    for (u32 r = 0; r < 128; r += ROWS) {
        float4 v = *reinterpret_cast<const float4 *>(a + (t / VECTORS + r) * n + t % VECTORS * 4);
        float *to = left + t % VECTORS * 4 * 128 + t / VECTORS + r;
        to[0] = v.x;
        to[128] = v.y;
        to[256] = v.z;
        to[384] = v.w;
    }
}

template <u32 THREADS, u32 SLICE>
__device__ __forceinline__ void load_right(float *right, const float *b, int n, u32 t) {
    for (u32 r = 0; r < SLICE; r += THREADS / 32)
        *reinterpret_cast<float4 *>(right + (t / 32 + r) * 128 + t % 32 * 4) =
            *reinterpret_cast<const float4 *>(b + (t / 32 + r) * n + t % 32 * 4);
}

// How the slice of B lies in shared memory.
enum Layout { ROWS, INTERLEAVED, PADDED };

template <u32 SLICE, Layout LAYOUT>
__device__ __forceinline__ void vector_tiles(int n, float alpha, const float *a, const float *b, float beta, float *c) {
    constexpr u32 PITCH = LAYOUT == PADDED ? 133 : 128;
    __shared__ __align__(16) float left[SLICE * 128], right[SLICE * PITCH];
    const u32 t = threadIdx.x, j = t % 16 * 8, i = t / 16 * 8, row = blockIdx.y * 128, column = blockIdx.x * 128;
    float sum[64] = {}, x[8], y[8];
    a += row * n;
    b += column;
    for (int k = 0; k < n; k += SLICE, a += SLICE, b += SLICE * n) {
        load_left<256, SLICE>(left, a, n, t);
        if (LAYOUT == ROWS) {
            load_right<256, SLICE>(right, b, n, t);
        } else {
            const float4 v = *reinterpret_cast<const float4 *>(b + t / 32 * n + t % 32 * 4);
            const float of[4] = {v.x, v.y, v.z, v.w};
            for (u32 s = 0; s < 4; ++s) {
                const u32 at = t % 32 * 4 + s;
                right[LAYOUT == PADDED ? t / 32 * PITCH + at : (t / 32 * 8 + at % 8) * 16 + at / 8] = of[s];
            }
        }
        __syncthreads();
        for (u32 d = 0; d < SLICE; ++d) {
            for (u32 r = 0; r < 8; ++r) x[r] = left[d * 128 + i + r];
            for (u32 r = 0; r < 8; ++r)
                y[r] = right[LAYOUT == INTERLEAVED ? (d * 8 + r) * 16 + j / 8 : d * PITCH + j + r];
            outer(sum, x, y);
        }
        __syncthreads();
    }
    for (u32 r = 0; r < 8; ++r)
        for (u32 s = 0; s < 8; s += 4)
            put4(c + (row + i + r) * n + column + j + s, sum + r * 8 + s, alpha, beta);
}

// 6. Loads of 16 bytes.
extern "C" __global__ void vectors(int n, float alpha, const float *a, const float *b, float beta, float *c) {
    vector_tiles<8, ROWS>(n, alpha, a, b, beta, c);
}

// 7. The 8 columns of a thread lie 16 words apart, so that neighbouring threads read neighbouring words.
extern "C" __global__ void interleaved(int n, float alpha, const float *a, const float *b, float beta, float *c) {
    vector_tiles<8, INTERLEAVED>(n, alpha, a, b, beta, c);
}

// 8. Rows of B are 5 words longer.
extern "C" __global__ void padded(int n, float alpha, const float *a, const float *b, float beta, float *c) {
    vector_tiles<8, PADDED>(n, alpha, a, b, beta, c);
}

// 9. A slice of 16 along K, which the article's search found best.
extern "C" __global__ void __launch_bounds__(256)
deeper(int n, float alpha, const float *a, const float *b, float beta, float *c) {
    vector_tiles<16, ROWS>(n, alpha, a, b, beta, c);
}

// 10. Each of 4 warps has 64 × 64 elements, a thread 8 × 16 of them: 8 rows and 4 times 4 columns, 16 apart.
extern "C" __global__ void __launch_bounds__(128)
warp_tiles(int n, float alpha, const float *a, const float *b, float beta, float *c) {
    __shared__ __align__(16) float left[16 * 128], right[16 * 128];
    const u32 t = threadIdx.x, row = blockIdx.y * 128, column = blockIdx.x * 128;
    const u32 i = t / 64 * 64 + t % 32 / 4 * 8, j = t / 32 % 2 * 64 + t % 4 * 4;
    float sum[8 * 16] = {}, x[8], y[16];
    a += row * n;
    b += column;
    for (int k = 0; k < n; k += 16, a += 16, b += 16 * n) {
        load_left<128, 16>(left, a, n, t);
        load_right<128, 16>(right, b, n, t);
        __syncthreads();
        for (u32 d = 0; d < 16; ++d) {
            for (u32 r = 0; r < 8; ++r) x[r] = left[d * 128 + i + r];
            for (u32 s = 0; s < 16; ++s) y[s] = right[d * 128 + j + s / 4 * 16 + s % 4];
            for (u32 r = 0; r < 8; ++r)
                for (u32 s = 0; s < 16; ++s) sum[r * 16 + s] += x[r] * y[s];
        }
        __syncthreads();
    }
    for (u32 r = 0; r < 8; ++r)
        for (u32 s = 0; s < 16; s += 4)
            put4(c + (row + i + r) * n + column + j + s / 4 * 16, sum + r * 16 + s, alpha, beta);
}
