// Tiles of a matrix product, shared by gemm, conv and winograd: loading, multiplying and storing.
#pragma once

// ---- Tiles in float ------------------------------------------------------------------------------------------------
//
// C (M, N) = A (M, K) · B (K, N). A block computes one tile of C along K in slices of 8, double-buffered: it copies one slice
// through registers into shared memory while it multiplies the other. A slice is stored as [k][i ^ 4k], where i is the row of
// A or the column of B, whatever the layout in global memory: a thread reads its eight rows and eight columns for one k with
// four 16-byte loads, for 64 multiply-adds. The exclusive or swaps groups of four, so that the transposing stores (a warp's
// 16 rows × 2 packs along k, or 4 rows × 8 elements) have no bank conflicts.
//
// A functor addresses the operands: at(at.row(i), at.column(k)) is the address of the pack that begins at (i, k), whose elements
// are consecutive along k if At::ALONG_K, otherwise along i. A thread loads the same rows in every slice: what depends on i alone
// is computed once, before the loop along K, and what depends on k alone once per slice. So conv is gemm with another functor,
// without im2col.

struct Place {
    const T* p;
    bool inside;  // if false the pack is zeros and p is not read
};

// What T is, for the preprocessor.
#define NUMBER_float 1
#define NUMBER_half 2
#define NUMBER_bf16 3
#define NUMBER_tf32 4
#define PASTE(A, B) A##B
#define NUMBER_OF(STORAGE) PASTE(NUMBER_, STORAGE)
#define TF32 (NUMBER_OF(STORAGE) == 4)
#define TENSOR (NUMBER_OF(STORAGE) == 2 && __CUDA_ARCH__ >= 750 || NUMBER_OF(STORAGE) > 2 && __CUDA_ARCH__ >= 800)

constexpr int SLICE = 8;

// v = the elements of a pack as floats.
DEVICE void load_or_zero(float (&v)[1], const Place& place) {
    v[0] = place.inside ? to_float(*place.p) : 0.0f;
}
DEVICE void load_or_zero(float (&v)[4], const Place& place) {
    float4x pack = {};
    if (place.inside) pack = load4(place.p);
#pragma unroll
    for (int j = 0; j < 4; j++) v[j] = pack.v[j];
}

// Division by a number that the launcher knows: one multiplication and a shift. For 0 ≤ n < 2³¹.
struct Divisor {
    u32 divisor, multiplier, shift;
    DEVICE int quotient(int n) const { return (int)(__umulhi(2 * (u32)n, multiplier) >> shift); }
    DEVICE int remainder(int n, int quotient) const { return n - quotient * (int)divisor; }
};

// The part of a slice that one thread copies: I rows (or columns) × SLICE, WIDTH elements at a time.
template <int I, int THREADS, int WIDTH, typename At> struct Stage {
    static constexpr bool ALONG_K = At::ALONG_K;
    static constexpr int SLOTS = I * SLICE / WIDTH / THREADS;
    // Adjacent lanes follow the direction of the loads: 32 bytes of a row of K, or a whole row of I.
    static constexpr int ACROSS = (ALONG_K ? SLICE : I) / WIDTH;
    const At& at;
    typename At::Row rows[SLOTS];
    float v[SLOTS][WIDTH];

    DEVICE Stage(const At& at, int i0) : at(at) {
#pragma unroll
        for (int slot = 0; slot < SLOTS; slot++) rows[slot] = at.row(i0 + i_of(slot));
    }
    DEVICE static int i_of(int slot) {
        return ALONG_K ? threadIdx.x / ACROSS + slot * (THREADS / ACROSS) : threadIdx.x % ACROSS * WIDTH;
    }
    DEVICE static int k_of(int slot) {
        return ALONG_K ? threadIdx.x % ACROSS * WIDTH : threadIdx.x / ACROSS + slot * (THREADS / ACROSS);
    }
    DEVICE void fetch(int k0) {
#pragma unroll
        for (int slot = 0; slot < SLOTS; slot++) load_or_zero(v[slot], at(rows[slot], at.column(k0 + k_of(slot))));
    }
    DEVICE void put(float* slice) const {
#pragma unroll
        for (int slot = 0; slot < SLOTS; slot++) {
            int i = i_of(slot), k = k_of(slot);
            if (!ALONG_K && WIDTH == 4) {
                const float(&pack)[WIDTH] = v[slot];  // % is for the compiler only: here WIDTH is 4
                *(float4*)&slice[k * I + (i ^ 4 * k)] =
                    make_float4(pack[0], pack[1 % WIDTH], pack[2 % WIDTH], pack[3 % WIDTH]);
            } else {
#pragma unroll
                for (int j = 0; j < WIDTH; j++) slice[(k + j) * I + (i ^ 4 * (k + j))] = v[slot][j];
            }
        }
    }
};

// A tile of 32·WARPS_M × 64·WARPS_N. A warp is 4 × 8 threads; a thread computes 2 × 2 squares of 4 × 4, which are half a tile
// apart.
template <int WARPS_M, int WARPS_N, int WIDTH> struct FloatTile {
    static constexpr int M = 32 * WARPS_M, N = 64 * WARPS_N, THREADS = 32 * WARPS_M * WARPS_N, SUMS = 64;
    float c[8][8];

    DEVICE static const T* base(const T* p) { return p; }
    DEVICE static int row_of(int i) {
        return threadIdx.x / 32 / WARPS_N * 16 + threadIdx.x % 32 / 8 * 4 + i % 4 + i / 4 * (M / 2);
    }
    DEVICE static int column_of(int j) {
        return threadIdx.x / 32 % WARPS_N * 32 + threadIdx.x % 8 * 4 + j % 4 + j / 4 * (N / 2);
    }

    // NEAR: whether rows of A take so many registers that few are left for what is loaded ahead.
    template <bool NEAR> DEVICE void multiply_slice(const float* a, const float* b) {
#pragma unroll
        for (int k = 0; k < SLICE; k++) {
            // Otherwise NVRTC 13 loads so far ahead that registers spill.
            if (NEAR && k == SLICE / 2) __syncwarp();
            float x[8], y[8];
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float4 p = *(const float4*)&a[k * M + (row_of(0) ^ 4 * k) + half * (M / 2)];
                float4 q = *(const float4*)&b[k * N + (column_of(0) ^ 4 * k) + half * (N / 2)];
                x[4 * half] = p.x, x[4 * half + 1] = p.y, x[4 * half + 2] = p.z, x[4 * half + 3] = p.w;
                y[4 * half] = q.x, y[4 * half + 1] = q.y, y[4 * half + 2] = q.z, y[4 * half + 3] = q.w;
            }
#pragma unroll
            for (int i = 0; i < 8; i++) {
#pragma unroll
                for (int j = 0; j < 8; j++) c[i][j] = fmaf(x[i], y[j], c[i][j]);
            }
        }
    }

    // c = the products over k in k0..k_end of the tile that begins at row m0 and column n0.
    template <typename AtA, typename AtB>
    DEVICE void multiply(const AtA& at_a, const AtB& at_b, int m0, int n0, int k0, int k_end) {
        __shared__ __align__(16) float a[2][SLICE * M];
        __shared__ __align__(16) float b[2][SLICE * N];
        Stage<M, THREADS, WIDTH, AtA> stage_a(at_a, m0);
        Stage<N, THREADS, WIDTH, AtB> stage_b(at_b, n0);
#pragma unroll
        for (int i = 0; i < 64; i++) c[i / 8][i % 8] = 0.0f;
        stage_a.fetch(k0);
        stage_b.fetch(k0);
        stage_a.put(a[0]);
        stage_b.put(b[0]);
        __syncthreads();
        for (int buffer = 0; k0 < k_end; buffer ^= 1) {
            k0 += SLICE;
            if (k0 < k_end) {
                stage_a.fetch(k0);
                stage_b.fetch(k0);
            }
            multiply_slice<sizeof(typename AtA::Row) >= 3 * sizeof(int)>(a[buffer], b[buffer]);
            if (k0 < k_end) {
                stage_a.put(a[buffer ^ 1]);
                stage_b.put(b[buffer ^ 1]);
                __syncthreads();
            }
        }
    }

    // Passes each row's four consecutive columns to `output`.
    template <typename Output> DEVICE void store(const Output& output, int m0, int n0) const {
#pragma unroll
        for (int j = 0; j < 8; j += 4) {
            int column = n0 + column_of(j);
            auto constants = output.constants(column);
#pragma unroll
            for (int i = 0; i < 8; i++)
                output.store(m0 + row_of(i), column, {{c[i][j], c[i][j + 1], c[i][j + 2], c[i][j + 3]}}, constants);
        }
    }
};

// ---- Tiles on tensor cores -----------------------------------------------------------------------------------------
//
// half from Turing on, bf16 and tf32 from Ampere on; other combinations use FloatTile. Volta's tensor cores are not used:
// their quarter-warp products (m8n8k4) need another layout.
//
// The same tiles. A warp computes 64×64 of the large one, 32×64 of the small one, as products of 16×8 along steps of K, 16 halves
// or 8 floats:
//
//     a block, 128×128          a warp, 64×64: 4 × 8 products            a product, 16×8: lanes, with two sums each
//
//     +--------+--------+         B: 16 columns, 16, 16, 16              columns   01 23 45 67
//     | warp 0 | warp 1 |       +---+---+---+---+---+---+---+---+        row 0      0  1  2  3
//     |        |        |   A:  |   |   |   |   |   |   |   |   | 16     row 1      4  5  6  7
//     +--------+--------+       +---+---+---+---+---+---+---+---+        ...
//     | warp 2 | warp 3 |       |   |   |   |   |   |   |   |   | 16     row 7     28 29 30 31
//     |        |        |       +---+---+---+---+---+---+---+---+        row 8      0  1  2  3
//     +--------+--------+       |   |   |   |   |   |   |   |   | 16     row 9      4  5  6  7
//                               +---+---+---+---+---+---+---+---+        ...
//                               |   |   |   |   |   |   |   |   | 16     row 15    28 29 30 31
//                               +---+---+---+---+---+---+---+---+
//                                             c[i][j]                    c[i][j][0], [1]; eight rows below [2], [3]
//
// For a step eight ldmatrix, 32 passes over the banks of shared memory, load four times 16 rows of A and four times 16 columns of B
// for 32 products of 4,096 operations; with 32×64 per warp twelve would. With the 16 passes in which they were stored there, that is
// 2,730 operations per pass. An A100's tensor cores do 2,048 in the time of a pass.
//
// Slices are of 64 bytes along K: 32 halves or 16 floats. From Ampere on, three slices are in shared memory or in flight by cp.async;
// on Turing, which lacks it, two, through registers. A slice consists of chunks of 16 bytes: along K, [i][k] with four chunks per
// row, chunk q at q ^ (i / 2 mod 4); along I, [k][i] with chunk q at q ^ flip(k), see offset(). So neither the eight rows that
// ldmatrix reads at once, nor the 4 × 8 words that tf32 reads where ldmatrix cannot transpose, nor the eight chunks that are stored
// at once, have bank conflicts.

#if TENSOR
template <int WARP_M, int WARPS_M, int WARPS_N> struct TensorTile {
    static constexpr int M = WARP_M * WARPS_M, N = 64 * WARPS_N, THREADS = 32 * WARPS_M * WARPS_N, SUMS = 2 * WARP_M;
    static constexpr int PACK = 16 / sizeof(T), DEPTH = 4 * PACK;  // elements per chunk, and per slice along K
    static constexpr int STAGES = __CUDA_ARCH__ >= 800 ? 3 : 2;
    static constexpr int A_BYTES = 64 * M, STAGE = 64 * (M + N);
    // A warp's 16 rows in the epilogue, as floats; the pitch spreads four rows' pairs over the banks.
    static constexpr int PITCH = 72, ROWS = 16 * PITCH * 4, EPILOGUE = ROWS * WARPS_M * WARPS_N;
    static constexpr int BYTES = STAGES * STAGE > EPILOGUE ? STAGES * STAGE : EPILOGUE;
    float c[WARP_M / 16][8][4];  // 16×8 products: along M, eight along N

    // p, of which the compiler does not know how it was computed: then it adds an index in one instruction instead of four.
    DEVICE static const T* base(const T* p) {
#if __CUDA_ARCH__ >= 800
        asm("" : "+l"(p));
#endif
        return p;
    }
    // Offset of chunk (i, k) of an operand with I rows in its slice; i and k count elements.
    template <int I, bool ALONG_K> DEVICE static int offset(int i, int k) {
        if (ALONG_K) return i * 64 + ((k / PACK ^ (i / 2 & 3)) << 4);
        // Different for eight adjacent k (in tf32 four, of two chunks each); and two adjacent k are four chunks apart, so that
        // eight threads can store half a row of 128 bytes of each.
        int flip = (k & 1) << 2 | (PACK == 8 ? k >> 1 & 3 : k & 2);
        return k * I * (int)sizeof(T) + ((i / PACK ^ flip) << 4);
    }
    // The chunks of an operand with I rows that one thread copies, for one slice after the other: SLOTS_I of them have the same k.
    // ACROSS adjacent threads copy adjacent chunks: few, so that a thread has few different k, but two sectors at least.
    template <int I, typename At> struct Stage {
        static constexpr bool ALONG_K = At::ALONG_K;
        static constexpr int ACROSS = ALONG_K || THREADS < 4 * DEPTH ? 4 : THREADS / DEPTH, DOWN = THREADS / ACROSS;
        static constexpr int SLOTS = 4 * I / THREADS, SLOTS_I = ALONG_K ? SLOTS : I / PACK / ACROSS;
        static constexpr int I_STEP = ALONG_K ? DOWN : ACROSS * PACK;
        static_assert(DOWN % 8 == 0 && SLOTS % SLOTS_I == 0);
        const At& at;
        int k;
        u32 to;
        typename At::Row rows[SLOTS_I];

        DEVICE Stage(const At& at, int i0, int k0) : at(at) {
            int across = threadIdx.x % ACROSS * PACK, down = threadIdx.x / ACROSS;
            int i = ALONG_K ? down : across;
            k = ALONG_K ? across : down;
            to = offset<I, ALONG_K>(i, k);
            k += k0;
#pragma unroll
            for (int slot = 0; slot < SLOTS_I; slot++) rows[slot] = at.row(i0 + i + slot * I_STEP);
        }
        DEVICE Place place(int slot) const {
            return at(rows[slot % SLOTS_I], at.column(k + slot / SLOTS_I * DOWN));
        }
        DEVICE u32 target(u32 slice, int slot) const {
            // Along I the exclusive or reaches over eight chunks, 128 bytes.
            u32 step = slot % SLOTS_I * I_STEP * (ALONG_K ? 64 : (int)sizeof(T)), flip = ALONG_K ? 0 : step & 64;
            return (slice + to ^ flip) + (step - flip) + slot / SLOTS_I * DOWN * I * (u32)sizeof(T);
        }
#if __CUDA_ARCH__ >= 800
        DEVICE void copy(u32 slice) {
#pragma unroll
            for (int slot = 0; slot < SLOTS; slot++) {
                Place from = place(slot);
                // Of an address outside the array nothing is read.
                cp_async16(target(slice, slot), from.p, from.inside ? 16 : 0);
            }
            k += DEPTH;
        }
#else
        uint4 v[SLOTS];
        DEVICE void fetch() {
#pragma unroll
            for (int slot = 0; slot < SLOTS; slot++) {
                Place from = place(slot);
                v[slot] = from.inside ? *(const uint4*)from.p : make_uint4(0, 0, 0, 0);
            }
            k += DEPTH;
        }
        DEVICE void put(u32 slice) const {
#pragma unroll
            for (int slot = 0; slot < SLOTS; slot++) store_shared(target(slice, slot), v[slot]);
        }
#endif
    };

    // Registers of a block of 16 rows × two chunks of an operand at row first + i, depth k (multiples of 16 and of two chunks): for
    // A in the order of mma's operand, for B for two 8-column products in turn. ROWS_FIRST: the second of the four matrices is
    // eight rows further (A), otherwise one chunk further (B).
    template <int I, bool ALONG_K, bool ROWS_FIRST>
    DEVICE static void fragment(u32 (&d)[4], u32 slice, int first, int i, int k) {
        int lane = threadIdx.x % 32, odd = lane / 8 % 2, second = lane / 16;
        int down = ROWS_FIRST ? odd : second, on = ROWS_FIRST ? second : odd;
        // The exclusive or repeats after 16 rows and after 16 or 8 elements along K: what is added there is a constant.
        if (ALONG_K) {
            ldmatrix4(d, slice + offset<I, true>(first + down * 8 + lane % 8, k + on * PACK) + i * 64);
        } else if (PACK == 8) {
            u32 at = offset<I, false>(first + i + down * 8, on * 8 + lane % 8);
            ldmatrix4_transposed(d, slice + at + k * I * (u32)sizeof(T));
        } else {
#pragma unroll
            for (int r = 0; r < 4; r++) {
                int row = first + i + (ROWS_FIRST ? r % 2 : r / 2) * 8 + lane / 4;
                u32 at = offset<I, false>(row, lane % 4) + row % 4 * 4;
                asm volatile("ld.shared.u32 %0, [%1];"
                             : "=r"(d[r])
                             : "r"(slice + at + (k + (ROWS_FIRST ? r / 2 : r % 2) * 4) * I * 4)
                             : "memory");
            }
        }
    }

    DEVICE static void multiply_add(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
#if TF32
        mma_m16n8k8_tf32(c, a, b0, b1);
#elif __CUDA_ARCH__ >= 800
        mma_m16n8k16(c, a, b0, b1, T{});
#else
        mma_m16n8k8(c, a[0], a[1], b0, half{});
        mma_m16n8k8(c, a[2], a[3], b1, half{});
#endif
    }

    template <bool A_ALONG_K, bool B_ALONG_K> DEVICE void multiply_slice(u32 a, u32 b) {
        int warp = threadIdx.x / 32, i0 = warp / WARPS_N * WARP_M, j0 = warp % WARPS_N * 64;
#pragma unroll
        for (int k = 0; k < DEPTH; k += 2 * PACK) {
            u32 x[WARP_M / 16][4];
#pragma unroll
            for (int i = 0; i < WARP_M / 16; i++) fragment<M, A_ALONG_K, true>(x[i], a, i0, 16 * i, k);
#pragma unroll
            for (int j = 0; j < 8; j += 2) {
                u32 y[4];
                fragment<N, B_ALONG_K, false>(y, b, j0, 8 * j, k);
#pragma unroll
                for (int i = 0; i < WARP_M / 16; i++) {
                    multiply_add(c[i][j], x[i], y[0], y[1]);
                    multiply_add(c[i][j + 1], x[i], y[2], y[3]);
                }
            }
        }
    }

    DEVICE static char* memory() {
        __shared__ __align__(128) char bytes[BYTES];
        return bytes;
    }

    template <typename AtA, typename AtB>
    DEVICE void multiply(const AtA& at_a, const AtB& at_b, int m0, int n0, int k0, int k_end) {
        u32 begin = shared_address(memory());
        int count = (k_end - k0 + DEPTH - 1) / DEPTH;
#pragma unroll
        for (int i = 0; i < SUMS; i++) c[i / 32][i / 4 % 8][i % 4] = 0.0f;
        Stage<M, AtA> stage_a(at_a, m0, k0);
        Stage<N, AtB> stage_b(at_b, n0, k0);
        auto after = [&](u32 slice) { return slice == begin + (STAGES - 1) * STAGE ? begin : slice + STAGE; };
#if __CUDA_ARCH__ >= 800
        auto start = [&](u32 to, bool any) {
            if (any) {
                stage_a.copy(to);
                stage_b.copy(to + A_BYTES);
            }
            cp_async_commit();  // One group per slice, even if empty: the number of pending groups tells which slices have arrived.
        };
#pragma unroll
        for (int slice = 0; slice < STAGES - 1; slice++) start(begin + slice * STAGE, slice < count);
        // The buffer to fill next is that of the slice before.
        u32 now = begin, free = begin + (STAGES - 1) * STAGE;
        for (; count > 0; count--) {
            cp_async_wait<STAGES - 2>();
            __syncthreads();
            start(free, count >= STAGES);  // All warps have finished reading it, by the barrier.
            multiply_slice<AtA::ALONG_K, AtB::ALONG_K>(now, now + A_BYTES);
            free = now;
            now = after(now);
        }
        cp_async_wait<0>();
#else
        stage_a.fetch();
        stage_b.fetch();
        for (u32 now = begin; count > 0; count--) {
            stage_a.put(now);
            stage_b.put(now + A_BYTES);
            __syncthreads();
            if (count > 1) {
                stage_a.fetch();
                stage_b.fetch();
            }
            multiply_slice<AtA::ALONG_K, AtB::ALONG_K>(now, now + A_BYTES);
            now = after(now);
        }
#endif
        __syncthreads();
    }

    // Through shared memory, 16 rows of a warp at a time, so that adjacent lanes store adjacent elements: two rows of 64 per warp.
    template <typename Output> DEVICE void store(const Output& output, int m0, int n0) const {
        int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
        float* rows = (float*)(memory() + warp * ROWS);
        int row = m0 + warp / WARPS_N * WARP_M + lane / 16, column = n0 + warp % WARPS_N * 64 + lane % 16 * 4;
        auto constants = output.constants(column);
#pragma unroll
        for (int i = 0; i < WARP_M / 16; i++) {
#pragma unroll
            for (int j = 0; j < 8; j++) {
                float* to = rows + lane / 4 * PITCH + j * 8 + lane % 4 * 2;
                *(float2*)to = make_float2(c[i][j][0], c[i][j][1]);
                *(float2*)(to + 8 * PITCH) = make_float2(c[i][j][2], c[i][j][3]);
            }
            __syncwarp();
            // Four at once keep enough accesses in flight; eight double ptxas's time.
#pragma unroll 4
            for (int r = 0; r < 16; r += 2)
                output.store(row + 16 * i + r, column, load4(rows + (lane / 16 + r) * PITCH + lane % 16 * 4), constants);
            __syncwarp();
        }
    }
};
#endif

// The tile of SIDE × SIDE for packs of WIDTH elements: tensor cores need whole chunks.
template <int SIDE, int WIDTH> struct Choice {
    typedef FloatTile<SIDE / 32, SIDE / 64, WIDTH> Tile;
};
#if TENSOR
template <> struct Choice<128, 4> {
    typedef TensorTile<64, 2, 2> Tile;
};
template <> struct Choice<64, 4> {
    typedef TensorTile<32, 2, 1> Tile;
};
#endif
template <int SIDE, int WIDTH> using Tile = typename Choice<SIDE, WIDTH>::Tile;

// For __launch_bounds__: blocks that must fit a multiprocessor. Of the large tile two, with 128 registers for each of 256 threads or
// 255 for each of 128; of the small one six with 168, but four where each element is loaded by itself. Code of FloatTile for Volta,
// Turing and Blackwell, and of the small tile in tf32 for Blackwell, would spill a few registers to do so.
#define TWO_BLOCKS (__CUDA_ARCH__ >= 800 && __CUDA_ARCH__ < (sizeof(T) == 4 ? 1000 : 1200))
#define BOUNDS(SIDE, WIDTH)                                                                                            \
    __launch_bounds__(Tile<SIDE, WIDTH>::THREADS,                                                                      \
                      SIDE == 64 ? (TWO_BLOCKS && WIDTH == 4 ? 6 : 4) : (TWO_BLOCKS || TENSOR ? 2 : 1))
