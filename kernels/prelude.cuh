// Shared by all kernels: number types, 16-byte packs, reductions, Philox, and tensor core instructions. No kernel includes a
// CUDA header, so NVRTC needs no CUDA toolkit.
//
// T is the storage type of activations: float, tf32, half or bfloat16, set by -DSTORAGE=float|tf32|half|bf16 when a kernel is
// compiled. All arithmetic is in float.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define DEVICE __device__ __forceinline__
#define KERNEL extern "C" __global__  // the body begins with begin_kernel()
#define INFINITY __int_as_float(0x7f800000)

// The first statement of every kernel. From compute capability 9.0 on a kernel may become resident before the one ahead of it has
// ended (programmatic dependent launch). It waits here until that has completed and its memory is visible, then lets the next one
// in. A kernel that has not waited cannot complete, so the wait covers all kernels ahead: nothing may touch global memory or return
// before it. docs/gpu.md has the whole argument.
DEVICE void begin_kernel() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// ---- Numbers in memory ------------------------------------------------------------------------------------------

struct half { u16 bits; };  // IEEE binary16
struct bf16 { u16 bits; };  // bfloat16: the upper half of a float
struct tf32 { u32 bits; };  // a float whose lower 13 bits are zero: rounded once, where it is stored, for the tensor cores

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
DEVICE float to_float(tf32 x) { return __uint_as_float(x.bits); }

// Rounds to nearest; ties to even, to tf32 away from zero. from_float<T>(x)
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
    // A NaN whose payload is in the lower half would round to infinity.
    y.bits = (bits & 0x7fffffffu) > 0x7f800000u ? 0x7fff : (u16)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
#endif
    return y;
}

template <> DEVICE tf32 from_float<tf32>(float x) {
    u32 bits = __float_as_uint(x);
    // As bfloat16: a carry into the exponent is right, but a NaN would carry into the sign.
    return {(bits & 0x7fffffffu) > 0x7f800000u ? 0x7fffe000 : (bits + 0x1000) & 0xffffe000u};
}

// Packs two floats into one word of two T, the first in the lower half, as tensor cores expect.
template <typename To> DEVICE u32 pack2(float low, float high) {
    return (u32)from_float<To>(low).bits | (u32)from_float<To>(high).bits << 16;
}

// V consecutive elements as floats. Four are one load or store of 16 bytes (float, tf32) or 8 (half, bf16), aligned to its size.
template <int V> struct Pack { float v[V]; };
typedef Pack<4> float4x;
DEVICE float4x load4(const float* p) {
    float4 x = *(const float4*)p;
    return {{x.x, x.y, x.z, x.w}};
}
DEVICE float4x load4(const tf32* p) { return load4((const float*)p); }
template <typename From> DEVICE float4x load4(const From* p) {
    uint2 x = *(const uint2*)p;
    return {{to_float(From{(u16)x.x}), to_float(From{(u16)(x.x >> 16)}), to_float(From{(u16)x.y}),
             to_float(From{(u16)(x.y >> 16)})}};
}
DEVICE void store4(float* p, float4x x) { *(float4*)p = make_float4(x.v[0], x.v[1], x.v[2], x.v[3]); }
DEVICE void store4(tf32* p, float4x x) {
    *(uint4*)p = make_uint4(from_float<tf32>(x.v[0]).bits, from_float<tf32>(x.v[1]).bits, from_float<tf32>(x.v[2]).bits,
                            from_float<tf32>(x.v[3]).bits);
}
template <typename To> DEVICE void store4(To* p, float4x x) {
    *(uint2*)p = make_uint2(pack2<To>(x.v[0], x.v[1]), pack2<To>(x.v[2], x.v[3]));
}

// The same for V = 4, or for one element.
template <int V, typename From> DEVICE Pack<V> load(const From* p) {
    if constexpr (V == 4) return load4(p);
    else return {{to_float(*p)}};
}
template <int V, typename To> DEVICE void store(To* p, const Pack<V>& x) {
    if constexpr (V == 4) store4(p, x);
    else *p = from_float<To>(x.v[0]);
}

// Calls f(Width<4>, i) if four elements begin at i < len, otherwise f(Width<1>, ·) for each of the last ones.
template <int V> struct Width { static constexpr int value = V; };
template <typename F> DEVICE void for_pack(u32 i, u32 len, F f) {
    if (i + 4 <= len) {
        f(Width<4>{}, i);
    } else {
        for (; i < len; i++) f(Width<1>{}, i);
    }
}

// Applies `f(float&, index)` to the elements [0, len) of x in place. Launch ⌈len / 4⌉ threads.
template <typename Storage, typename F> DEVICE void map4(Storage* x, u32 len, F f) {
    for_pack((blockIdx.x * blockDim.x + threadIdx.x) * 4, len, [&](auto width, u32 i) {
        constexpr int V = width.value;
        Pack<V> pack = load<V>(x + i);
        for (u32 j = 0; j < V; j++) f(pack.v[j], i + j);
        store<V>(x + i, pack);
    });
}

// ---- Reductions, in a fixed order: always the same bits --------------------------------------------------------------

DEVICE float warp_sum(float x) {
    for (int offset = 16; offset > 0; offset /= 2) x += __shfl_xor_sync(0xffffffffu, x, offset);
    return x;
}

// ---- Philox4x32-10, as crates/ops/src/random.rs -------------------------------------------------------------------

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
// The four random words for counter (block, step, purpose) and a seed.
DEVICE uint4 philox_block(u64 seed, u32 purpose, u32 step, u64 block) {
    return philox(make_uint4((u32)block, (u32)(block >> 32), step, purpose), (u32)seed, (u32)(seed >> 32));
}
// A float in [0, 1) with 24 random bits.
DEVICE float uniform(u32 word) { return (float)(word >> 8) * (1.0f / 16777216.0f); }

// ---- Asynchronous copies (sm_80) ------------------------------------------------------------------------------------

DEVICE u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }
DEVICE void store_shared(u32 to, uint4 x) {
    asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(x.x), "r"(x.y), "r"(x.z), "r"(x.w) : "memory");
}

#if __CUDA_ARCH__ >= 800
// Copies 16 bytes to shared memory without registers; the bytes after the first `bytes` are set to zero.
DEVICE void cp_async16(u32 to_shared, const void* from, u32 bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to_shared), "l"(from), "r"(bytes) : "memory");
}
DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most `Pending` of this thread's groups are in flight.
template <int Pending> DEVICE void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}
#endif

// ---- Tensor cores ---------------------------------------------------------------------------------------------------

#if __CUDA_ARCH__ >= 750
// Loads four 8×8 matrices of 16-bit numbers; lane l gives the address of row l%8 of matrix l/8 (16 bytes, aligned).
DEVICE void ldmatrix4(u32 (&d)[4], u32 row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
                 : "r"(row)
                 : "memory");
}
// The same, each matrix transposed.
DEVICE void ldmatrix4_transposed(u32 (&d)[4], u32 row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
                 : "r"(row)
                 : "memory");
}
// c (16×8, float) += a (16×8) · b (8×8), half inputs: Turing's shape.
DEVICE void mma_m16n8k8(float (&c)[4], u32 a0, u32 a1, u32 b0, half) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a0), "r"(a1), "r"(b0));
}
#endif

#if __CUDA_ARCH__ >= 800
// c (16×8, float) += a (16×16) · b (16×8). The last argument only selects the type.
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
// c (16×8) += a (16×8) · b (8×8), inputs tf32.
DEVICE void mma_m16n8k8_tf32(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
#endif
