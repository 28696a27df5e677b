// mix: mixes the images of a batch in pairs, image n with image N − 1 − n, in place; the middle one of an odd number is
// unchanged. MixUp: x[n] = λ·x[n] + (1 − λ)·x[N−1−n], every operation rounded to float. CutMix: x[n] = x[N−1−n] within a box.
//
// x (N, S, S, C) of T. A thread processes the same elements of both images of a pair, as one pack of four if an image is a
// whole number of packs. Minimum memory traffic in bytes: MixUp 2·N·S·S·C·sizeof(T), CutMix the same for the box.
#include "prelude.cuh"

struct Pair { float a, b; };

DEVICE Pair mixed(float a, float b, float own, float other) {
    return {__fadd_rn(__fmul_rn(own, a), __fmul_rn(other, b)), __fadd_rn(__fmul_rn(own, b), __fmul_rn(other, a))};
}

// `image` elements per image; one thread per four elements, rounded up, of the first ⌊N/2⌋ images.
KERNEL void __launch_bounds__(256) mix_blend(T* x, u32 batch, u32 image, float own, float other) {
    begin_kernel();
    u64 len = (u64)(batch / 2) * image, i = ((u64)blockIdx.x * 256 + threadIdx.x) * 4;
    auto partner = [&](u64 i) { return (u64)(batch - 1 - (u32)(i / image)) * image + i % image; };
    if (image % 4 == 0) {
        if (i >= len) return;
        u64 j = partner(i);
        float4x a = load4(x + i), b = load4(x + j);
        for (int k = 0; k < 4; k++) {
            Pair pair = mixed(a.v[k], b.v[k], own, other);
            a.v[k] = pair.a, b.v[k] = pair.b;
        }
        store4(x + i, a);
        store4(x + j, b);
        return;
    }
    for (u64 end = min(i + 4, len); i < end; i++) {
        u64 j = partner(i);
        Pair pair = mixed(to_float(x[i]), to_float(x[j]), own, other);
        x[i] = from_float<T>(pair.a);
        x[j] = from_float<T>(pair.b);
    }
}

// `row` elements per row of an image; the box has `width` of them from `first` on, in `height` rows from `top` on. One thread
// per element of the box in the first ⌊N/2⌋ images.
KERNEL void __launch_bounds__(256)
    mix_paste(T* x, u32 batch, u32 image, u32 row, u32 first, u32 width, u32 top, u32 height) {
    begin_kernel();
    u64 i = (u64)blockIdx.x * 256 + threadIdx.x, box = (u64)width * height;
    if (i >= batch / 2 * box) return;
    u32 n = (u32)(i / box), within = (u32)(i % box);
    u64 at = (u64)(top + within / width) * row + first + within % width;
    T* a = x + (u64)n * image + at;
    T* b = x + (u64)(batch - 1 - n) * image + at;
    T kept = *a;
    *a = *b;
    *b = kept;
}
