// What every kernel shares: number types, 16-byte packs, reductions, Philox, and the instructions of the tensor
// cores. No CUDA header is included anywhere, so that NVRTC needs nothing but itself.
//
// T is how activations are stored: float, half or bfloat16, chosen by -DSTORAGE=float|half|bf16 when a kernel is
// compiled. Arithmetic is in float everywhere; T is only how numbers lie in memory.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define DEVICE __device__ __forceinline__
#define KERNEL extern "C" __global__
#define INFINITY __int_as_float(0x7f800000)

// ---- Numbers in memory ------------------------------------------------------------------------------------------

struct half { u16 bits; };  // IEEE binary16
struct bf16 { u16 bits; };  // the upper half of a float

#ifndef STORAGE
#define STORAGE float
#endif
typedef STORAGE T;

DEVICE float to_float(float x) { return x; }
DEVICE float to_float(half x) {
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
    return y;
}
DEVICE float to_float(bf16 x) { return __uint_as_float((u32)x.bits << 16); }

// Rounds to nearest, ties to even. from_float<T>(x)
template <typename To> DEVICE To from_float(float x);
template <> DEVICE float from_float<float>(float x) { return x; }
template <> DEVICE half from_float<half>(float x) {
    half y;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    return y;
}
template <> DEVICE bf16 from_float<bf16>(float x) {
    bf16 y;
#if __CUDA_ARCH__ >= 800
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
#else
    u32 bits = __float_as_uint(x);
    // A NaN whose payload lies in the lower half would round to infinity.
    y.bits = (bits & 0x7fffffffu) > 0x7f800000u ? 0x7fff : (u16)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
#endif
    return y;
}

// Two floats in one word of two T, the first in the lower half, as the tensor cores take them.
template <typename To> DEVICE u32 pack2(float low, float high) {
    return (u32)from_float<To>(low).bits | (u32)from_float<To>(high).bits << 16;
}

// Four consecutive elements, one load or store of 16 bytes (float) or 8 (half, bf16). The address must be aligned to
// the size of the pack.
struct float4x { float v[4]; };
DEVICE float4x load4(const float* p) {
    float4 x = *(const float4*)p;
    return {{x.x, x.y, x.z, x.w}};
}
template <typename From> DEVICE float4x load4(const From* p) {
    uint2 x = *(const uint2*)p;
    return {{to_float(From{(u16)x.x}), to_float(From{(u16)(x.x >> 16)}), to_float(From{(u16)x.y}),
             to_float(From{(u16)(x.y >> 16)})}};
}
DEVICE void store4(float* p, float4x x) { *(float4*)p = make_float4(x.v[0], x.v[1], x.v[2], x.v[3]); }
template <typename To> DEVICE void store4(To* p, float4x x) {
    *(uint2*)p = make_uint2(pack2<To>(x.v[0], x.v[1]), pack2<To>(x.v[2], x.v[3]));
}

// Applies `f(float&, index)` to the elements [0, len) of x in place, four to a thread; the last thread takes the tail.
// One thread a pack: launch ceil(len / 4) threads in all.
template <typename Storage, typename F> DEVICE void map4(Storage* x, u32 len, F f) {
    u32 i = (blockIdx.x * blockDim.x + threadIdx.x) * 4;
    if (i + 4 <= len) {
        float4x pack = load4(x + i);
        for (u32 j = 0; j < 4; j++) f(pack.v[j], i + j);
        store4(x + i, pack);
    } else {
        for (; i < len; i++) {
            float value = to_float(x[i]);
            f(value, i);
            x[i] = from_float<Storage>(value);
        }
    }
}

// ---- Reductions: the order is fixed, so the bits are ---------------------------------------------------------------

DEVICE float warp_sum(float x) {
    for (int offset = 16; offset > 0; offset /= 2) x += __shfl_xor_sync(0xffffffffu, x, offset);
    return x;
}
DEVICE float warp_max(float x) {
    for (int offset = 16; offset > 0; offset /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, offset));
    return x;
}

// ---- Philox4x32-10, as crates/core/src/random.rs ------------------------------------------------------------------

DEVICE uint4 philox(uint4 counter, u32 key0, u32 key1) {
#pragma unroll
    for (int round = 0; round < 10; round++) {
        u32 a_low = 0xD2511F53u * counter.x, a_high = __umulhi(0xD2511F53u, counter.x);
        u32 b_low = 0xCD9E8D57u * counter.z, b_high = __umulhi(0xCD9E8D57u, counter.z);
        counter = make_uint4(b_high ^ counter.y ^ key0, b_low, a_high ^ counter.w ^ key1, a_low);
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return counter;
}
// The four words of the counter (block, step, purpose) for a seed.
DEVICE uint4 philox_block(u64 seed, u32 purpose, u32 step, u64 block) {
    return philox(make_uint4((u32)block, (u32)(block >> 32), step, purpose), (u32)seed, (u32)(seed >> 32));
}
// In [0, 1) with 24 random bits.
DEVICE float uniform(u32 word) { return (float)(word >> 8) * (1.0f / 16777216.0f); }

// ---- Asynchronous copies (sm_80) ------------------------------------------------------------------------------------

DEVICE u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }

#if __CUDA_ARCH__ >= 800
// Copies 16 bytes to shared memory without registers; the bytes beyond `bytes` become zero.
DEVICE void cp_async16(void* to_shared, const void* from, u32 bytes = 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to_shared)), "l"(from), "r"(bytes)
                 : "memory");
}
// The same for 4 bytes.
DEVICE void cp_async4(void* to_shared, const void* from, u32 bytes = 4) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(to_shared)), "l"(from), "r"(bytes)
                 : "memory");
}
DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most `Pending` of this thread's groups are under way.
template <int Pending> DEVICE void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}
#endif

// ---- Tensor cores ---------------------------------------------------------------------------------------------------

#if __CUDA_ARCH__ >= 750
// Four 8×8 matrices of 16-bit numbers; lane l gives the address of row l%8 of matrix l/8 (16 bytes, aligned).
DEVICE void ldmatrix4(u32 (&d)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
                 : "r"(shared_address(row))
                 : "memory");
}
// The same, each matrix transposed.
DEVICE void ldmatrix4_transposed(u32 (&d)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
                 : "r"(shared_address(row))
                 : "memory");
}
// c (16×8, float) += a (16×8) · b (8×8), half inputs: the shape Turing has.
DEVICE void mma_m16n8k8(float (&c)[4], u32 a0, u32 a1, u32 b0, half) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a0), "r"(a1), "r"(b0));
}
#endif

#if __CUDA_ARCH__ >= 800
// c (16×8, float) += a (16×16) · b (16×8). The last argument only picks the type.
DEVICE void mma_m16n8k16(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1, half) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
DEVICE void mma_m16n8k16(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1, bf16) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
// c (16×8) += a (16×8) · b (8×8), inputs rounded to tf32 by to_tf32.
DEVICE u32 to_tf32(float x) {
    u32 y;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y) : "f"(x));
    return y;
}
DEVICE void mma_m16n8k8_tf32(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
#endif

// v = the WIDTH numbers at p, or zeros where `inside` is false. Four must be aligned as a pack.
template <typename From> DEVICE void load_or_zero(float (&v)[1], const From* p, bool inside) {
    v[0] = inside ? to_float(*p) : 0.0f;
}
template <typename From> DEVICE void load_or_zero(float (&v)[4], const From* p, bool inside) {
    float4x pack = {};
    if (inside) pack = load4(p);
#pragma unroll
    for (int j = 0; j < 4; j++) v[j] = pack.v[j];
}

// ---- Tiles of a product in float: shared by gemm and conv ------------------------------------------------------------
//
// C (M, N) = A (M, K) · B (K, N). A block computes one tile of C; it walks along K in slices of 8, which it copies
// through registers into one of two buffers in shared memory while it multiplies the other. A slice lies as
// [k][i ^ 4k], i being the row of A or the column of B, whichever way it lay in global memory: a thread reads its
// eight rows and eight columns of one k as four 16-byte loads, for 64 multiply-adds. The exclusive or moves groups of
// four, so that the stores that transpose (a warp's 16 rows × 2 packs along k, or 4 rows × 8 numbers) meet 32 banks.
//
// Where the numbers come from is a functor's business: load(v, i, k) gives the WIDTH numbers at (i, k), zeros outside,
// consecutive along k if Load::ALONG_K, else along i. So conv is gemm with another functor, and no im2col exists.

constexpr int SLICE = 8;

// For __launch_bounds__: the blocks that must fit a multiprocessor, two of 256 threads with 128 registers each. Code for
// Volta, Turing and consumer Blackwell would spill a few to do so.
#define TILE_BLOCKS(WARPS_N) ((WARPS_N) == 1 ? 4 : __CUDA_ARCH__ >= 800 && __CUDA_ARCH__ < 1200 ? 2 : 1)

// A division by a number the launcher knows: one multiplication and a shift. For 0 ≤ n < 2³¹.
struct Divisor {
    u32 divisor, multiplier, shift;
    DEVICE int quotient(int n) const { return divisor == 1 ? n : (int)(__umulhi((u32)n, multiplier) >> shift); }
    DEVICE int remainder(int n, int quotient) const { return n - quotient * (int)divisor; }
};

// The part of a slice that one thread copies: I rows (or columns) × SLICE, WIDTH numbers at a time.
template <int I, int THREADS, int WIDTH, bool ALONG_K> struct Stage {
    static constexpr int SLOTS = I * SLICE / WIDTH / THREADS;
    // Lanes side by side in the direction of the loads: 32 bytes of a row of K, or all of a row of I.
    static constexpr int ACROSS = (ALONG_K ? SLICE : I) / WIDTH;
    float v[SLOTS][WIDTH];

    DEVICE static int i_of(int slot) {
        return ALONG_K ? threadIdx.x / ACROSS + slot * (THREADS / ACROSS) : threadIdx.x % ACROSS * WIDTH;
    }
    DEVICE static int k_of(int slot) {
        return ALONG_K ? threadIdx.x % ACROSS * WIDTH : threadIdx.x / ACROSS + slot * (THREADS / ACROSS);
    }
    template <typename Load> DEVICE void fetch(const Load& load, int i0, int k0) {
#pragma unroll
        for (int slot = 0; slot < SLOTS; slot++) load(v[slot], i0 + i_of(slot), k0 + k_of(slot));
    }
    DEVICE void put(float* slice) const {
#pragma unroll
        for (int slot = 0; slot < SLOTS; slot++) {
            int i = i_of(slot), k = k_of(slot);
            if (!ALONG_K && WIDTH == 4) {
                const float(&pack)[WIDTH] = v[slot];  // % only for the compiler: here WIDTH is 4
                *(float4*)&slice[k * I + (i ^ 4 * k)] =
                    make_float4(pack[0], pack[1 % WIDTH], pack[2 % WIDTH], pack[3 % WIDTH]);
            } else {
#pragma unroll
                for (int j = 0; j < WIDTH; j++) slice[(k + j) * I + (i ^ 4 * (k + j))] = v[slot][j];
            }
        }
    }
};

// A tile of 32·WARPS_M × 64·WARPS_N. A warp is 4 × 8 threads; a thread owns 2 × 2 squares of 4 × 4, the squares half a
// tile apart.
template <int WARPS_M, int WARPS_N, int WIDTH> struct Tile {
    static constexpr int M = 32 * WARPS_M, N = 64 * WARPS_N, THREADS = 32 * WARPS_M * WARPS_N;
    float c[8][8];

    DEVICE static int row_of(int i) {
        return threadIdx.x / 32 / WARPS_N * 16 + threadIdx.x % 32 / 8 * 4 + i % 4 + i / 4 * (M / 2);
    }
    DEVICE static int column_of(int j) {
        return threadIdx.x / 32 % WARPS_N * 32 + threadIdx.x % 8 * 4 + j % 4 + j / 4 * (N / 2);
    }

    DEVICE void multiply_slice(const float* a, const float* b) {
#pragma unroll
        for (int k = 0; k < SLICE; k++) {
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

    // c = the products over k in k0..k_end of the tile whose first row and column are m0 and n0.
    template <typename LoadA, typename LoadB>
    DEVICE void multiply(const LoadA& load_a, const LoadB& load_b, int m0, int n0, int k0, int k_end) {
        __shared__ __align__(16) float a[2][SLICE * M];
        __shared__ __align__(16) float b[2][SLICE * N];
        Stage<M, THREADS, WIDTH, LoadA::ALONG_K> stage_a;
        Stage<N, THREADS, WIDTH, LoadB::ALONG_K> stage_b;
#pragma unroll
        for (int i = 0; i < 64; i++) c[i / 8][i % 8] = 0.0f;
        stage_a.fetch(load_a, m0, k0);
        stage_b.fetch(load_b, n0, k0);
        stage_a.put(a[0]);
        stage_b.put(b[0]);
        __syncthreads();
        for (int buffer = 0; k0 < k_end; buffer ^= 1) {
            k0 += SLICE;
            if (k0 < k_end) {
                stage_a.fetch(load_a, m0, k0);
                stage_b.fetch(load_b, n0, k0);
            }
            multiply_slice(a[buffer], b[buffer]);
            if (k0 < k_end) {
                stage_a.put(a[buffer ^ 1]);
                stage_b.put(b[buffer ^ 1]);
                __syncthreads();
            }
        }
    }

    // Hands each row's four consecutive columns to `output`.
    template <typename Output> DEVICE void store(const Output& output, int m0, int n0) const {
#pragma unroll
        for (int j = 0; j < 8; j += 4) {
            int column = n0 + column_of(j);
            float4x bias = output.bias_of(column);
#pragma unroll
            for (int i = 0; i < 8; i++)
                output.store(m0 + row_of(i), column, {{c[i][j], c[i][j + 1], c[i][j + 2], c[i][j + 3]}}, bias);
        }
    }
};

// Rows of partial sums are whole sectors of 32 bytes.
DEVICE int padded(int columns) { return (columns + 7) & ~7; }

// What becomes of a sum before it is stored: + bias, + what was there, max(·, 0), dropout, in this order.
struct Epilogue {
    enum : u32 { BIAS = 1, ACCUMULATE = 2, RELU = 4, DROPOUT = 8 };
    u32 steps;
    u32 purpose;        // dropout's stream, see random.rs
    float rate, scale;  // the share that becomes 0; 1/(1 − rate)
    const u32* step;    // in memory, so that a captured step can be run again with the next
    u64 seed, offset;   // element i of the output draws the number of element offset + i

    // The factors of four consecutive elements.
    DEVICE void drop(float4x& v, u64 element) const {
        element += offset;
        uint4 words = philox_block(seed, purpose, *step, element / 4);
#pragma unroll
        for (int j = 0; j < 4; j++, element++) {
            if (j > 0 && element % 4 == 0) words = philox_block(seed, purpose, *step, element / 4);
            u32 low = element & 1 ? words.y : words.x, high = element & 1 ? words.w : words.z;
            v.v[j] *= uniform(element & 2 ? high : low) < rate ? 0.0f : scale;
        }
    }
};

// Where a tile goes: into y (rows, ld) through the epilogue, or, if the sum is split along K, as it is into this
// split's partial sums, whose rows are padded(ld) long. The tile's columns count from `first`.
// DROPOUT: whether the epilogue may hold it; only gemm_reduce, so that the tiles' code stays small.
template <typename To, bool DROPOUT = false> struct Output {
    To* y;
    float* partial;
    const float* bias;
    const Epilogue& epilogue;
    int rows, columns, first, ld;

    DEVICE float4x bias_of(int column) const {
        if (!(epilogue.steps & Epilogue::BIAS) || partial) return {};
        return get(bias + first + column, columns - column);
    }
    // v = the sums at (row, column..column + 4).
    DEVICE void store(int row, int column, float4x v, const float4x& bias) const {
        // Partial sums are padded by zeros to whole sectors.
        if (row >= rows || column >= (partial && columns == ld ? padded(ld) : columns)) return;
        int count = columns - column;
        column += first;
        if (partial) {
            put(partial + (size_t)row * padded(ld) + column, v, columns == ld ? 4 : count);
            return;
        }
        To* to = y + (size_t)row * ld + column;
        float4x old = {};
        if (epilogue.steps & Epilogue::ACCUMULATE) old = get(to, count);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            if (epilogue.steps & Epilogue::BIAS) v.v[j] += bias.v[j];
            if (epilogue.steps & Epilogue::ACCUMULATE) v.v[j] += old.v[j];
            if (epilogue.steps & Epilogue::RELU) v.v[j] = v.v[j] < 0.0f ? 0.0f : v.v[j];
        }
        if (DROPOUT && epilogue.steps & Epilogue::DROPOUT) epilogue.drop(v, (u64)row * ld + column);
        put(to, v, count);
    }

    // The first `count` of four neighbours: one access where all four are there and aligned as a pack.
    template <typename P> DEVICE static float4x get(const P* p, int count) {
        float4x v = {};
        if (count >= 4 && (size_t)p % (4 * sizeof(P)) == 0) return load4(p);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            if (j < count) v.v[j] = to_float(p[j]);
        }
        return v;
    }
    template <typename P> DEVICE static void put(P* p, float4x v, int count) {
        if (count >= 4 && (size_t)p % (4 * sizeof(P)) == 0) {
            store4(p, v);
        } else {
#pragma unroll
            for (int j = 0; j < 4; j++) {
                if (j < count) p[j] = from_float<P>(v.v[j]);
            }
        }
    }
};
