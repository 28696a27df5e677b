// augment: crop, flip, colour jitter, normalisation and cutout of a batch of images in bytes; `reference::augment` of
// alexnet-core defines the random numbers and the result, bit for bit.
//
// images (count, S, S, 3) of bytes, draws (N) of an index and how often the image came before, out (N, S, S, 3) of T. Image n
// of the batch is that of draw n in a data set, or else the n-th. It takes the Philox blocks (purpose, epoch, element), where
// the element is index + repeat·2⁴⁰: shift and flip from the first purpose, the factors of the jitter from the second, the
// centre of the cutout from the third. Output (y, x, c) is (v/255 − mean[c]) / std[c], every operation rounded to float,
// of the byte v at (y + dy, x' + dx, c), or of 0 outside the image; x' = S − 1 − x if flipped. With jitter v/255 is changed
// before it is normalised (see `reference::transform`), and the square that is cut out is 0.
//
// A block computes `rows` rows of one image: it copies the source's rows, which are contiguous, into shared memory and writes
// the result as packs. Contrast needs the mean of the whole image: each block computes it from the visible part of the source,
// in integers, so that the order does not matter. Minimum memory traffic: the image once as bytes, once as T.
#include "prelude.cuh"

struct Augment {
    u64 seed;
    u32 purposes[3];
    u32 epoch, side, padding;
    u32 rows;   // per block
    u32 bands;  // ⌈S / rows⌉
    u32 flip, cutout;
    float low, span;  // range of the jitter's factors; no jitter if span is 0
    float mean[3], std[3];
    float reciprocal[3];  // 1/std
    u32 dataset;  // whether the images are a data set
};

// a / b rounded to nearest, where y is 1/b rounded to nearest: Markstein's refinement, exact after at most two iterations,
// without the branches of a general division.
DEVICE float divide(float a, float b, float y) {
    float q = __fmul_rn(a, y);
    q = __fmaf_rn(__fmaf_rn(-q, b, a), y, q);
    return __fmaf_rn(__fmaf_rn(-q, b, a), y, q);
}

DEVICE float level(u32 v) { return divide((float)v, 255.0f, 1.0f / 255.0f); }
DEVICE float unit(float v) { return fminf(fmaxf(v, 0.0f), 1.0f); }
DEVICE float grey(float r, float g, float b) {
    return __fadd_rn(__fadd_rn(__fmul_rn(0.2989f, r), __fmul_rn(0.587f, g)), __fmul_rn(0.114f, b));
}
DEVICE float blend(float a, float b, float factor) {
    return unit(__fadd_rn(__fmul_rn(factor, a), __fmul_rn(__fsub_rn(1.0f, factor), b)));
}

// Mean of the brightened grey values; `image` is the whole source. Called by all threads of the block.
DEVICE float mean_grey(const u8* image, int side, int shift_x, int shift_y, float brightness) {
    __shared__ unsigned long long total;
    if (threadIdx.x == 0) total = 0;
    __syncthreads();
    // The part of the source that is visible after the shift; the rest is black.
    int left = max(shift_x, 0), top = max(shift_y, 0);
    int columns = max(min(side + shift_x, side) - left, 0), rows = max(min(side + shift_y, side) - top, 0);
    unsigned long long sum = 0;
    for (int i = threadIdx.x; i < rows * columns; i += 256) {
        const u8* pixel = image + ((u64)(top + i / columns) * side + left + i % columns) * 3;
        float r = unit(__fmul_rn(level(pixel[0]), brightness));
        float g = unit(__fmul_rn(level(pixel[1]), brightness));
        float b = unit(__fmul_rn(level(pixel[2]), brightness));
        sum += (u32)__fmul_rn(grey(r, g, b), 16777216.0f);
    }
    atomicAdd(&total, sum);
    __syncthreads();
    return __fdiv_rn((float)total, __fmul_rn((float)(side * side), 16777216.0f));
}

// Shared memory: (rows · S · 3 rounded up to 16) + 16 bytes.
KERNEL void __launch_bounds__(256) augment(const u8* images, const uint2* draws, T* out, Augment s) {
    begin_kernel();
    extern __shared__ uint4 shared_words[];
    u8* shared = (u8*)shared_words;
    u32 n = blockIdx.x / s.bands, band = blockIdx.x % s.bands;
    uint2 draw = draws[n];
    u64 place = s.dataset ? draw.x : n, element = (u64)draw.y << 40 | draw.x;
    uint4 words = philox_block(s.seed, s.purposes[0], s.epoch, element);
    u32 choices = 2 * s.padding + 1;
    bool flip = s.flip && words.z >> 31;
    int shift_x = (int)__umulhi(words.x, choices) - (int)s.padding, side = s.side;
    int shift_y = (int)__umulhi(words.y, choices) - (int)s.padding;

    // The source's rows for this band, clipped to the image: contiguous bytes. The copy has the same alignment modulo 16, so
    // that all but its ends are copied in words of 16 bytes.
    u32 width = s.side * 3;
    int y_first = band * s.rows, y_end = min(y_first + (int)s.rows, side);
    int from_row = min(max(y_first + shift_y, 0), side), to_row = min(max(y_end + shift_y, 0), side);
    u64 begin = (place * s.side + from_row) * width;
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

    // The square that is cut out.
    int cut_left = 0, cut_top = 0, cut = s.cutout;
    if (cut > 0) {
        uint4 centre = philox_block(s.seed, s.purposes[2], s.epoch, element);
        cut_left = (int)__umulhi(centre.x, s.side) - cut / 2;
        cut_top = (int)__umulhi(centre.y, s.side) - cut / 2;
    }
    bool jitter = s.span > 0.0f;
    float brightness = 1.0f, contrast = 1.0f, saturation = 1.0f, mean_of_image = 0.0f;
    if (jitter) {
        uint4 colour = philox_block(s.seed, s.purposes[1], s.epoch, element);
        brightness = __fadd_rn(s.low, __fmul_rn(uniform(colour.x), s.span));
        contrast = __fadd_rn(s.low, __fmul_rn(uniform(colour.y), s.span));
        saturation = __fadd_rn(s.low, __fmul_rn(uniform(colour.z), s.span));
        mean_of_image = mean_grey(images + place * side * width, side, shift_x, shift_y, brightness);
    }

    u64 target = ((u64)n * s.side + y_first) * width;
    u32 len = (u32)(y_end - y_first) * width;
    auto result = [&](u32 row, u32 column) {
        u32 x = column / 3, c = column - x * 3;
        int y = y_first + (int)row, from_y = y + shift_y, from_x = (flip ? side - 1 - (int)x : (int)x) + shift_x;
        if (y >= cut_top && y < cut_top + cut && (int)x >= cut_left && (int)x < cut_left + cut) return 0.0f;
        bool inside = from_y >= 0 && from_y < side && from_x >= 0 && from_x < side;
        const u8* pixel = shared + offset + (from_y - from_row) * (int)width + from_x * 3;
        float v = level(inside ? pixel[c] : 0);
        float mean = c == 0 ? s.mean[0] : c == 1 ? s.mean[1] : s.mean[2];
        float std = c == 0 ? s.std[0] : c == 1 ? s.std[1] : s.std[2];
        float reciprocal = c == 0 ? s.reciprocal[0] : c == 1 ? s.reciprocal[1] : s.reciprocal[2];
        if (jitter) {
            float rgb[3];
            for (u32 i = 0; i < 3; i++)
                rgb[i] = blend(unit(__fmul_rn(level(inside ? pixel[i] : 0), brightness)), mean_of_image, contrast);
            v = blend(c == 0 ? rgb[0] : c == 1 ? rgb[1] : rgb[2], grey(rgb[0], rgb[1], rgb[2]), saturation);
        }
        return divide(__fsub_rn(v, mean), std, reciprocal);
    };
    if (width % 4 == 0) {
        // Packs, and a warp stays in a row: the bytes it reads, even from right to left, are within 128.
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
