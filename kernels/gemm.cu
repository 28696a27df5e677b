// gemm: C (M, N) = op(A) · op(B) with an epilogue, for the fully connected layers.
//
//   gemm_nt   A (M, K), B (N, K)   y = x·wᵀ + b        x (batch, inputs), w (outputs, inputs)
//   gemm_nn   A (M, K), B (K, N)   dx = dy·w
//   gemm_tn   A (K, M), B (K, N)   dw = dyᵀ·x          always float: gradient of master weights, or their update by it
//
// All arrays are dense and row-major. Block (x, y, z) computes tile (x, y) of C over the z-th chunk of K, see Tile in
// tile.cuh: on tensor cores if T is half, bf16 or tf32 and the device supports it (sm_75 for half only, sm_70
// never). The last of a tile's blocks to finish adds the chunks and applies the epilogue. gemm_tn also computes db (M), the
// sums of the columns of A.
//
// Work: 2·M·N·K operations. Minimum memory traffic: M·K + K·N + M·N elements. A 128×128 tile does 32 operations per byte
// that it reads in float, 2.6 times what an A100 needs to be bound by fp32 arithmetic, and 64 in half precision.
#include "prelude.cuh"
#include "tile.cuh"
#include "epilogue.cuh"
#include "update.cuh"

// A matrix with element (i, k) at i·ld + k.
struct AlongK {
    static constexpr bool ALONG_K = true;
    const T* p;
    int rows, k_end;
    struct Row {
        int at;
        bool inside;
    };
    typedef int Column;
    DEVICE Row row(int i) const { return {i * k_end, i < rows}; }
    DEVICE Column column(int k) const { return k; }
    DEVICE Place operator()(const Row& row, int k) const {
#if TENSOR
        return {p + (row.at + k), row.inside && k < k_end};
#else
        return {p + row.at + k, row.inside && k < k_end};  // More instructions, but as a sum of indices registers would spill.
#endif
    }
};

// A matrix with element (i, k) at k·ld + i.
struct AlongI {
    static constexpr bool ALONG_K = false;
    const T* p;
    int rows, k_end;
    typedef int Row, Column;
    DEVICE Row row(int i) const { return i; }
    DEVICE Column column(int k) const { return k; }
    DEVICE Place operator()(int i, int k) const { return {p + (k * rows + i), i < rows && k < k_end}; }
};

// y = A·B through the epilogue, from the K's chunk of this block.
template <typename Tile, typename A, typename B, typename Output>
DEVICE void gemm(const A& a, const B& b, const Output& c, const Split& split, int chunk) {
    Tile tile;
    int m0 = blockIdx.x * tile.M, n0 = blockIdx.y * tile.N, k0 = blockIdx.z * chunk;
    tile.multiply(a, b, m0, n0, k0, min(k0 + chunk, a.k_end));
    if (combine<Tile>((float(&)[Tile::SUMS])tile.c, split)) tile.store(c, m0, n0);
}

// Destination of a gradient: stored, or the update of its parameter, which in half costs 18 bytes per weight in place of 30 for
// storing the gradient, testing it and reading it again.
struct GradientOutput {
    Output<float> gradient;
    const Update& update;
    const Updated& own;

    DEVICE Sgd constants(int) const {
        return update.optimizer == nullptr ? Sgd() : Sgd(*update.optimizer, *update.scaler, own.decays, own.factor);
    }
    DEVICE void store(int row, int column, const float4x& g, const Sgd& sgd) const {
        if (update.optimizer == nullptr) return gradient.store(row, column, g, {});
        if (row >= gradient.rows || column >= gradient.columns) return;
        int count = gradient.columns - column;
        size_t at = (size_t)row * gradient.ld + column;
        float4x w = gradient.get(own.w + at, count), v = gradient.get(own.v + at, count);
#pragma unroll
        for (int j = 0; j < 4; j++) sgd.update(w.v[j], g.v[j], v.v[j]);
        gradient.put(own.w + at, w, count);
        gradient.put(own.v + at, v, count);
        if (own.copy != nullptr) gradient.put(own.copy + at, w, count);
    }
};

#define EPILOGUE const __grid_constant__ Epilogue
#define UPDATE const __grid_constant__ Update

// One kernel per transposition and tile: 128×128; 64×64 to fill the device with less work; and one that loads element by
// element, for rows that are not a multiple of four.
#define GEMM(SUFFIX, SIDE, WIDTH)                                                                                      \
    KERNEL void BOUNDS(SIDE, WIDTH)                                                                                    \
        gemm_nt_##SUFFIX(const T* a, const T* b, const float* bias, T* c, Split split, int m, int n, int k, int chunk, \
                         EPILOGUE epilogue) {                                                                          \
        begin_kernel();                                                                                                \
        Output<T, true> output{c, bias, epilogue, m, n, 0, n};                                                         \
        gemm<Tile<SIDE, WIDTH>, AlongK, AlongK>({a, m, k}, {b, n, k}, output, split, chunk);                           \
    }                                                                                                                  \
    KERNEL void BOUNDS(SIDE, WIDTH)                                                                                    \
        gemm_nn_##SUFFIX(const T* a, const T* b, const float* bias, T* c, Split split, int m, int n, int k, int chunk, \
                         EPILOGUE epilogue) {                                                                          \
        begin_kernel();                                                                                                \
        Output<T, true> output{c, bias, epilogue, m, n, 0, n};                                                         \
        gemm<Tile<SIDE, WIDTH>, AlongK, AlongI>({a, m, k}, {b, n, k}, output, split, chunk);                           \
    }                                                                                                                  \
    KERNEL void BOUNDS(SIDE, WIDTH)                                                                                    \
        gemm_tn_##SUFFIX(const T* a, const T* b, float* db, float* c, Split split, int m, int n, int k, int chunk,     \
                         EPILOGUE epilogue, UPDATE update) {                                                           \
        begin_kernel();                                                                                                \
        typedef Tile<SIDE, WIDTH> Tile;                                                                                \
        if (update.skips()) return;                                                                                    \
        AlongI dy{a, m, k};                                                                                            \
        if (blockIdx.y * Tile::N >= n) {                                                                               \
            int k0 = blockIdx.z * chunk;                                                                               \
            GradientOutput sums{{db, nullptr, epilogue, 1, m, 0, 0}, update, update.bias};                             \
            column_sums<Tile, WIDTH>(dy, blockIdx.x * Tile::M, k0, min(k0 + chunk, k), split, sums);                   \
        } else {                                                                                                       \
            GradientOutput output{{c, nullptr, epilogue, m, n, 0, n}, update, update.weight};                          \
            gemm<Tile, AlongI, AlongI>(dy, {b, n, k}, output, split, chunk);                                           \
        }                                                                                                              \
    }
GEMM(128, 128, 4)
GEMM(64, 64, 4)
GEMM(odd, 64, 1)
