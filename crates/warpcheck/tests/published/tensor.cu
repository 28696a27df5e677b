// Six ways to multiply matrices of halves on tensor cores, C (n × n, float) = A · B, each with one idea more than the last.
// The ideas, tile sizes and grids are those of the article "Implementing a fast Tensor Core matmul on the Ada Architecture"
// (https://www.spatters.ca/mma-matmul), which gives their rates on an RTX 4090; the code is written for this test.
// A is row-major; B too in the first two kernels, in the others column-major. n is a multiple of 128. A block has 8 warps, 2 × 4.
typedef unsigned int u32;
typedef unsigned short u16;

__device__ __forceinline__ void multiply_add(float (&c)[4], const u32 *a, const u32 *b) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ u32 pair(u16 low, u16 high) { return low | u32(high) << 16; }

// The 16 × 8 numbers of a product go from registers to memory.
__device__ __forceinline__ void store(float *c, int n, u32 row, u32 column, const float (&sum)[4]) {
    const u32 lane = threadIdx.x % 32;
    c += (row + lane / 4) * n + column + lane % 4 * 2;
    *reinterpret_cast<float2 *>(c) = make_float2(sum[0], sum[1]);
    *reinterpret_cast<float2 *>(c + 8 * n) = make_float2(sum[2], sum[3]);
}

// 1. Tiles of 32·TILES squared, 16 deep, copied half by half; operands are read half by half too.
template <int TILES>
__device__ __forceinline__ void by_halves(int n, const u16 *a, const u16 *b, float *c) {
    constexpr int SIDE = 32 * TILES;
    __shared__ u16 left[SIDE][16], right[16][SIDE];
    const u32 x = threadIdx.x % 16, y = threadIdx.x / 16, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const u32 row = blockIdx.y * SIDE, column = blockIdx.x * SIDE;
    const u32 i = warp / 4 * 16 * TILES + lane / 4, j = warp % 4 * 8 * TILES + lane / 4, k = lane % 4 * 2;
    float sum[TILES][TILES][4] = {};
    for (int from = 0; from < n; from += 16) {
#pragma unroll
        for (int t = 0; t < 2 * TILES; ++t) {
            left[y + 16 * t][x] = a[(row + y + 16 * t) * n + from + x];
            right[y][x + 16 * t] = b[(from + y) * n + column + x + 16 * t];
        }
        __syncthreads();
#pragma unroll
        for (int m = 0; m < TILES; ++m) {
            u32 p[4];
#pragma unroll
            for (int r = 0; r < 4; ++r) {
                const u16 *at = &left[i + 16 * m + r % 2 * 8][k + r / 2 * 8];
                p[r] = pair(at[0], at[1]);
            }
#pragma unroll
            for (int l = 0; l < TILES; ++l) {
                u32 q[2];
#pragma unroll
                for (int r = 0; r < 2; ++r) q[r] = pair(right[k + r * 8][j + 8 * l], right[k + r * 8 + 1][j + 8 * l]);
                multiply_add(sum[m][l], p, q);
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (int m = 0; m < TILES; ++m)
#pragma unroll
        for (int l = 0; l < TILES; ++l)
            store(c, n, row + warp / 4 * 16 * TILES + 16 * m, column + warp % 4 * 8 * TILES + 8 * l, sum[m][l]);
}
extern "C" __global__ void mma_naive(int n, const u16 *a, const u16 *b, float *c) { by_halves<1>(n, a, b, c); }
extern "C" __global__ void mma_tiled(int n, const u16 *a, const u16 *b, float *c) { by_halves<2>(n, a, b, c); }

// Where 16 bytes, chunk k of row i, of a tile 32 deep are: two rows per 128 bytes, permuted so that eight rows of a chunk, as ldmatrix
// reads them, have different banks.
__device__ __forceinline__ u32 place(u32 i, u32 k) { return i / 2 * 8 + ((i % 2 * 4 + k) ^ (i / 2 % 4)); }

__device__ __forceinline__ void load_rows(u32 *d, const uint4 *tile, u32 row, u32 k) {
    const u32 lane = threadIdx.x % 32;
    const u32 at = (u32)__cvta_generic_to_shared(tile + place(row + lane % 16, k + lane / 16));
    asm volatile("ldmatrix.sync.aligned.x4.m8n8.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
                 : "r"(at));
}
__device__ __forceinline__ void load_columns(u32 *d, const uint4 *tile, u32 column, u32 k) {
    const u32 lane = threadIdx.x % 16;
    const u32 at = (u32)__cvta_generic_to_shared(tile + place(column + lane % 8, k + lane / 8));
    asm volatile("ldmatrix.sync.aligned.x2.m8n8.shared.b16 {%0, %1}, [%2];" : "=r"(d[0]), "=r"(d[1]) : "r"(at));
}

// 2. Tiles of 64 × 64, 32 deep, copied by 16 bytes and read by ldmatrix. ONCE: rows of A are read once for all columns of B.
template <bool ONCE> __device__ __forceinline__ void permuted(int n, const uint4 *a, const uint4 *b, float *c) {
    __shared__ uint4 left[64 * 4], right[64 * 4];
    const u32 warp = threadIdx.x / 32, row = blockIdx.y * 64, column = blockIdx.x * 64;
    const u32 own = threadIdx.x / 4, chunk = threadIdx.x % 4, i = warp / 4 * 32, j = warp % 4 * 16;
    const uint4 *from_a = a + (row + own) * (n / 8) + chunk, *from_b = b + (column + own) * (n / 8) + chunk;
    float sum[2][2][4] = {};
    for (int k = 0; k < n / 8; k += 4) {
        left[place(own, chunk)] = from_a[k];
        right[place(own, chunk)] = from_b[k];
        __syncthreads();
#pragma unroll
        for (int m = 0; m < 2; ++m) {
            u32 p[8], q[4];
            if (ONCE) load_rows(p, left, i + 16 * m, 0), load_rows(p + 4, left, i + 16 * m, 2);
#pragma unroll
            for (int l = 0; l < 2; ++l) {
                if (!ONCE) load_rows(p, left, i + 16 * m, 0), load_rows(p + 4, left, i + 16 * m, 2);
                load_columns(q, right, j + 8 * l, 0), load_columns(q + 2, right, j + 8 * l, 2);
                multiply_add(sum[m][l], p, q);
                multiply_add(sum[m][l], p + 4, q + 2);
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (int m = 0; m < 2; ++m)
#pragma unroll
        for (int l = 0; l < 2; ++l) store(c, n, row + i + 16 * m, column + j + 8 * l, sum[m][l]);
}
extern "C" __global__ void mma_permuted(int n, const uint4 *a, const uint4 *b, float *c) { permuted<false>(n, a, b, c); }
extern "C" __global__ void mma_reused(int n, const uint4 *a, const uint4 *b, float *c) { permuted<true>(n, a, b, c); }

__device__ __forceinline__ void copy(uint4 *to, const uint4 *from) {
    const u32 at = (u32)__cvta_generic_to_shared(to);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(at), "l"(from) : "memory");
}

// 3. Tiles of 32·TILES squared, 32 deep, of which three are in shared memory or on their way there.
template <int TILES> __device__ __forceinline__ void pipelined(int n, const uint4 *a, const uint4 *b, float *c) {
    constexpr int SIDE = 32 * TILES, STAGES = 3;
    __shared__ uint4 left[STAGES][SIDE * 4], right[STAGES][SIDE * 4];
    const u32 warp = threadIdx.x / 32, row = blockIdx.y * SIDE, column = blockIdx.x * SIDE;
    const u32 own = threadIdx.x / 4, chunk = threadIdx.x % 4, i = warp / 4 * 16 * TILES, j = warp % 4 * 8 * TILES;
    const uint4 *from_a = a + (row + own) * (n / 8) + chunk, *from_b = b + (column + own) * (n / 8) + chunk;
    const int slices = n / 32;
    auto start = [&](int slice) {
        // Those beyond the last are not used: as many groups of copies are pending in each round.
        const int k = min(slice, slices - 1) * 4;
#pragma unroll
        for (int r = 0; r < SIDE; r += 64) {
            copy(&left[slice % STAGES][place(own + r, chunk)], from_a + r * (n / 8) + k);
            copy(&right[slice % STAGES][place(own + r, chunk)], from_b + r * (n / 8) + k);
        }
        asm volatile("cp.async.commit_group;" ::: "memory");
    };
    float sum[TILES][TILES][4] = {};
    for (int slice = 0; slice < STAGES - 1; ++slice) start(slice);
    for (int slice = 0; slice < slices; ++slice) {
        asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 2) : "memory");
        __syncthreads();
        u32 p[TILES][8], q[TILES][4];
        const uint4 *rows = left[slice % STAGES], *columns = right[slice % STAGES];
#pragma unroll
        for (int t = 0; t < TILES; ++t) {
            load_rows(p[t], rows, i + 16 * t, 0), load_rows(p[t] + 4, rows, i + 16 * t, 2);
            load_columns(q[t], columns, j + 8 * t, 0), load_columns(q[t] + 2, columns, j + 8 * t, 2);
        }
        start(slice + STAGES - 1);
#pragma unroll
        for (int m = 0; m < TILES; ++m) {
#pragma unroll
            for (int l = 0; l < TILES; ++l) {
                multiply_add(sum[m][l], p[m], q[l]);
                multiply_add(sum[m][l], p[m] + 4, q[l] + 2);
            }
        }
    }
#pragma unroll
    for (int m = 0; m < TILES; ++m)
#pragma unroll
        for (int l = 0; l < TILES; ++l) store(c, n, row + i + 16 * m, column + j + 8 * l, sum[m][l]);
}
extern "C" __global__ void mma_pipelined(int n, const uint4 *a, const uint4 *b, float *c) { pipelined<2>(n, a, b, c); }
extern "C" __global__ void mma_large_tiles(int n, const uint4 *a, const uint4 *b, float *c) { pipelined<4>(n, a, b, c); }
