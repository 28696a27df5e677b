// gemm: C (M, N) = op(A) · op(B) with an epilogue, for the fully connected layers.
//
//   gemm_nt   A (M, K), B (N, K)   y = x·wᵀ + b        x (batch, inputs), w (outputs, inputs)
//   gemm_nn   A (M, K), B (K, N)   dx = dy·w
//   gemm_tn   A (K, M), B (K, N)   dw = dyᵀ·x          always float: gradient of master weights
//
// All arrays are dense and row-major. Block (x, y, z) computes tile (x, y) of C over the z-th chunk of K, see Tile in
// tile.cuh: on tensor cores if T is half, bf16 or, with TF32, float, and the device supports it (sm_75 for half only, sm_70
// never). With one chunk it applies the epilogue itself; with several it writes partial sums (chunks, M, N rounded up to 8),
// which gemm_reduce adds in order: no atomics, always the same bits.
//
// Work: 2·M·N·K operations. Minimum memory traffic: M·K + K·N + M·N elements. A 128×128 tile does 32 operations per byte
// that it reads in float, 2.6 times what an A100 needs to be bound by fp32 arithmetic, and 64 in half precision.
#include "prelude.cuh"
#include "tile.cuh"

// A matrix with element (i, k) at i·ld + k.
struct AlongK {
    static constexpr bool ALONG_K = true;
    const T* p;
    int rows, k_end;
    DEVICE Place operator()(int i, int k) const { return {p + (size_t)i * k_end + k, i < rows && k < k_end}; }
};

// A matrix with element (i, k) at k·ld + i.
struct AlongI {
    static constexpr bool ALONG_K = false;
    const T* p;
    int rows, k_end;
    DEVICE Place operator()(int i, int k) const { return {p + (size_t)k * rows + i, i < rows && k < k_end}; }
};

template <typename To, typename A, typename B, int WARPS_M, int WARPS_N, int WIDTH>
DEVICE void gemm(const T* a, const T* b, const float* bias, To* c, float* partial, int m, int n, int k, int chunk,
                 const Epilogue& epilogue) {
    Tile<WARPS_M, WARPS_N, WIDTH> tile;
    int m0 = blockIdx.x * tile.M, n0 = blockIdx.y * tile.N, k0 = blockIdx.z * chunk;
    tile.multiply(A{a, m, k}, B{b, n, k}, m0, n0, k0, min(k0 + chunk, k));
    if (partial) partial += (size_t)blockIdx.z * m * padded(n);
    tile.store(Output<To>{c, partial, bias, epilogue, m, n, 0, n}, m0, n0);
}

// One kernel per transposition and tile: 128×128; 64×64 to fill the device with less work; and one that loads element by
// element, for rows that are not a multiple of four.
#define GEMM(NAME, TO, A, B, WARPS_M, WARPS_N, WIDTH)                                                                  \
    KERNEL void __launch_bounds__(32 * WARPS_M * WARPS_N, TILE_BLOCKS(WARPS_N))                                        \
        NAME(const T* a, const T* b, const float* bias, TO* c, float* partial, int m, int n, int k, int chunk,         \
             const __grid_constant__ Epilogue epilogue) {                                                              \
        gemm<TO, A, B, WARPS_M, WARPS_N, WIDTH>(a, b, bias, c, partial, m, n, k, chunk, epilogue);                     \
    }
GEMM(gemm_nt_128, T, AlongK, AlongK, 4, 2, 4)
GEMM(gemm_nt_64, T, AlongK, AlongK, 2, 1, 4)
GEMM(gemm_nt_odd, T, AlongK, AlongK, 2, 1, 1)
GEMM(gemm_nn_128, T, AlongK, AlongI, 4, 2, 4)
GEMM(gemm_nn_64, T, AlongK, AlongI, 2, 1, 4)
GEMM(gemm_nn_odd, T, AlongK, AlongI, 2, 1, 1)
GEMM(gemm_tn_128, float, AlongI, AlongI, 4, 2, 4)
GEMM(gemm_tn_64, float, AlongI, AlongI, 2, 1, 4)
GEMM(gemm_tn_odd, float, AlongI, AlongI, 2, 1, 1)

// C = epilogue(Σ over the chunks of partial); one thread per four columns of a row.
template <typename To>
DEVICE void reduce(const float* partial, const float* bias, To* c, int m, int n, int chunks, const Epilogue& epilogue) {
    int packs = padded(n) / 4;
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= m * packs) return;
    float4x sum = load4(partial + (size_t)i * 4);
    for (int chunk = 1; chunk < chunks; chunk++) {
        float4x next = load4(partial + ((size_t)chunk * m * packs + i) * 4);
#pragma unroll
        for (int j = 0; j < 4; j++) sum.v[j] += next.v[j];
    }
    if (i % packs * 4 >= n) return;
    Output<To, true> output{c, nullptr, bias, epilogue, m, n, 0, n};
    int column = i % packs * 4;
    output.store(i / packs, column, sum, output.bias_of(column));
}
KERNEL void gemm_reduce(const float* partial, const float* bias, T* c, int m, int n, int chunks,
                        const __grid_constant__ Epilogue epilogue) {
    reduce(partial, bias, c, m, n, chunks, epilogue);
}
KERNEL void gemm_reduce_float(const float* partial, const float* bias, float* c, int m, int n, int chunks,
                              const __grid_constant__ Epilogue epilogue) {
    reduce(partial, bias, c, m, n, chunks, epilogue);
}

// db[n] (+)= Σ over m of x[m, n], the gradient of the bias. A block sums 32 columns of `chunk` rows, a warp every eighth row;
// the warps' sums are added in order. With several chunks `y` is (chunks, N), to be summed the same way. Chunks are along x of
// the grid, because there can be more than the limit of y.
// Rows of fewer than 32 columns are not aligned to sectors: PASS rows at a time are copied as one contiguous run to shared
// memory (PASS · N floats).
constexpr int PASS = 256;
template <typename From>
DEVICE void column_sum(const From* x, float* y, int m, int n, int chunk, int accumulate) {
    extern __shared__ float run[];
    __shared__ float sums[8][32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int column = blockIdx.y * 32 + lane, first = blockIdx.x * chunk, rows = min(chunk, m - first);
    x += (size_t)first * n;
    float sum = 0.0f;
    if (n < 32) {
        for (int done = 0; done < rows; done += PASS) {
            int count = min(PASS, rows - done);
            for (int i = threadIdx.x; i < count * n; i += 256) run[i] = to_float(x[done * n + i]);
            __syncthreads();
            if (column < n) {
                for (int row = warp; row < count; row += 8) sum += run[row * n + column];
            }
            __syncthreads();
        }
    } else if (column < n) {
#pragma unroll 4
        for (int row = warp; row < rows; row += 8) sum += to_float(x[(size_t)row * n + column]);
    }
    sums[warp][lane] = sum;
    __syncthreads();
    if (warp == 0 && column < n) {
        for (int i = 1; i < 8; i++) sum += sums[i][lane];
        float* to = y + (size_t)blockIdx.x * n + column;
        *to = accumulate ? *to + sum : sum;
    }
}
KERNEL void __launch_bounds__(256) column_sum(const T* x, float* y, int m, int n, int chunk, int accumulate) {
    column_sum<T>(x, y, m, n, chunk, accumulate);
}
KERNEL void __launch_bounds__(256) column_sum_float(const float* x, float* y, int m, int n, int chunk, int accumulate) {
    column_sum<float>(x, y, m, n, chunk, accumulate);
}
