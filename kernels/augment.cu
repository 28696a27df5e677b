// augment: crop, flip and normalise a batch of images out of the data set, which lies on the GPU as bytes; the draws
// and the result are those of crates/train/src/data/augment.rs, bit for bit.
//
// images (count, S, S, 3) of bytes, indices (N), out (N, S, S, 3) of T. Image n of the batch takes Philox block
// (purpose, epoch, indices[n]): dx and dy from words 0 and 1, flip from word 2. Output (y, x, c) is
// (v/255 − mean[c]) / std[c], every operation rounded to float, of the byte v at (y + dy − p, x' + dx − p, c), or of 0
// outside the image; x' = S − 1 − x if flipped.
//
// A block makes `rows` rows of one image: it copies the source's rows, which are one run of bytes, into shared memory
// and writes the result as packs. Bytes at least: the image once as bytes, once as T.
#include "prelude.cuh"

struct Augment {
    u64 seed;
    u32 purpose, epoch, side, padding;
    u32 rows;   // a block
    u32 bands;  // ⌈S / rows⌉
    u32 crop, flip;
    float mean[3], std[3];
    float reciprocal[3];  // 1/std
};

// a / b rounded to nearest, where y is 1/b rounded to nearest: Markstein's refinement, exact for the second time at the
// latest, without the branches of a general division.
DEVICE float divide(float a, float b, float y) {
    float q = __fmul_rn(a, y);
    q = __fmaf_rn(__fmaf_rn(-q, b, a), y, q);
    return __fmaf_rn(__fmaf_rn(-q, b, a), y, q);
}

// Shared: (rows · S · 3 rounded up to 16) + 16 bytes.
KERNEL void __launch_bounds__(256) augment(const u8* images, const u32* indices, T* out, Augment s) {
    extern __shared__ uint4 shared_words[];
    u8* shared = (u8*)shared_words;
    u32 n = blockIdx.x / s.bands, band = blockIdx.x % s.bands, index = indices[n];
    uint4 words = philox_block(s.seed, s.purpose, s.epoch, index);
    u32 choices = 2 * s.padding + 1;
    int dx = s.crop ? __umulhi(words.x, choices) : s.padding, dy = s.crop ? __umulhi(words.y, choices) : s.padding;
    bool flip = s.flip && words.z >> 31;
    int shift_x = dx - (int)s.padding, shift_y = dy - (int)s.padding, side = s.side;

    // The source's rows for this band, clipped to the image: one run of bytes. It is copied with the same offset from
    // a multiple of 16, so that all but its ends goes in words of 16 bytes.
    u32 width = s.side * 3;
    int y_first = band * s.rows, y_end = min(y_first + (int)s.rows, side);
    int from_row = min(max(y_first + shift_y, 0), side), to_row = min(max(y_end + shift_y, 0), side);
    u64 begin = ((u64)index * s.side + from_row) * width;
    u32 bytes = (u32)max(to_row - from_row, 0) * width, offset = (u32)((u64)(images + begin) & 15);
    const u8* source = images + begin - offset;
    u32 head = offset == 0 ? 0 : min(16 - offset, bytes), words16 = (bytes - head) / 16, tail = head + words16 * 16;
    for (u32 i = threadIdx.x; i < words16; i += 256) {
        u32 at = (offset + head) / 16 + i;
        shared_words[at] = ((const uint4*)source)[at];
    }
    for (u32 i = threadIdx.x; i < head; i += 256) shared[offset + i] = source[offset + i];
    for (u32 i = tail + threadIdx.x; i < bytes; i += 256) shared[offset + i] = source[offset + i];
    __syncthreads();

    u64 target = ((u64)n * s.side + y_first) * width;
    u32 len = (u32)(y_end - y_first) * width;
    auto result = [&](u32 row, u32 column) {
        u32 x = column / 3, c = column - x * 3;
        int from_y = y_first + (int)row + shift_y, from_x = (flip ? side - 1 - (int)x : (int)x) + shift_x;
        u32 v = 0;
        if (from_y >= 0 && from_y < side && from_x >= 0 && from_x < side)
            v = shared[offset + (from_y - from_row) * width + from_x * 3 + c];
        float mean = c == 0 ? s.mean[0] : c == 1 ? s.mean[1] : s.mean[2];
        float std = c == 0 ? s.std[0] : c == 1 ? s.std[1] : s.std[2];
        float reciprocal = c == 0 ? s.reciprocal[0] : c == 1 ? s.reciprocal[1] : s.reciprocal[2];
        return divide(__fsub_rn(divide((float)v, 255.0f, 1.0f / 255.0f), mean), std, reciprocal);
    };
    if (width % 4 == 0) {
        // Packs, and a warp stays in a row: the bytes it reads, even from right to left, lie within 128.
        for (u32 row = threadIdx.x / 32; row < y_end - y_first; row += 8) {
            T* to = out + target + row * width;
            for (u32 i = threadIdx.x % 32 * 4; i < width; i += 128)
                store4(to + i, {{result(row, i), result(row, i + 1), result(row, i + 2), result(row, i + 3)}});
        }
        return;
    }
    auto flat = [&](u32 i) { return result(i / width, i % width); };
    if (target % 4 == 0) {
        // Packs across the rows, where the band's start is aligned to one.
        for (u32 i = threadIdx.x * 4; i < len; i += 1024) {
            if (i + 4 <= len) store4(out + target + i, {{flat(i), flat(i + 1), flat(i + 2), flat(i + 3)}});
            else
                for (u32 j = i; j < len; j++) out[target + j] = from_float<T>(flat(j));
        }
    } else {
        for (u32 i = threadIdx.x; i < len; i += 256) out[target + i] = from_float<T>(flat(i));
    }
}
