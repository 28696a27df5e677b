// rand_augment: crop and flip of a batch of images in bytes, then RandAugment (Cubuk et al., 2020): N operations in sequence on each
// image. The first part of the operator `augment`; `reference::rand_augment` of alexnet-core defines the random numbers and the
// result, byte for byte.
//
// images (count, S, S, 3), draws (N) of an index and how often the image came before, as in augment.cu; buffers (2, N, S, S, 3), of
// which the one with the number (operations mod 2) has the result. Operation j of an image takes the Philox block (purpose,
// epoch, element + j·2³²): it is number ⌊14·w[0] / 2³²⌋ of Operation, with the sign of the top bit of w[1].
//
// A block computes an image, from one buffer to the other for each operation, a thread a byte after the other. Operations that
// look at a byte alone, or at statistics of the image, are tables of 256 bytes per channel. Everything is in integers or is rounded
// after each operation, as on the host; how far operations go is computed there. Minimum memory traffic: 2·(operations + 1) bytes
// per byte, of which all but the first read come from the second-level cache.
#include "prelude.cuh"

enum Operation : u32 {
    IDENTITY, SHEAR_X, SHEAR_Y, TRANSLATE_X, TRANSLATE_Y, ROTATE, BRIGHTNESS, COLOR, CONTRAST, SHARPNESS, POSTERIZE, SOLARIZE,
    AUTO_CONTRAST, EQUALIZE, OPERATIONS
};

// How far the operations go with one of the signs, see RandAugmentStrengths.
struct Strengths {
    double shear, translation, sin, cos;
    float own, other;
};

struct RandAugment {
    u64 seed;
    Strengths strengths[2];  // positive, negative
    u32 purposes[2];
    u32 epoch, side, padding, flip, operations;
    u32 cleared;
    float threshold;
    u32 dataset;  // whether the images are a data set
};

constexpr u32 THREADS = 512;

DEVICE u32 grey(const u8* pixel) {
    float r = __fmul_rn(0.2989f, (float)pixel[0]), g = __fmul_rn(0.587f, (float)pixel[1]);
    return (u32)__fadd_rn(__fadd_rn(r, g), __fmul_rn(0.114f, (float)pixel[2]));
}
DEVICE u32 blend(const Strengths& m, u32 v, float with) {
    float mixed = __fadd_rn(__fmul_rn(m.own, (float)v), __fmul_rn(m.other, with));
    return (u32)fminf(fmaxf(mixed, 0.0f), 255.0f);
}

// Where pixel (x, y) is taken from; false outside the image.
DEVICE bool source(u32 operation, const Strengths& m, int side, int& x, int& y) {
    double from_x = x, from_y = y;
    if (operation == SHEAR_X) {
        from_x = __dadd_rn(from_x, __dmul_rn(m.shear, __dadd_rn(from_y, 0.5)));
    } else if (operation == SHEAR_Y) {
        from_y = __dadd_rn(from_y, __dmul_rn(m.shear, __dadd_rn(from_x, 0.5)));
    } else if (operation == TRANSLATE_X) {
        from_x = __dadd_rn(from_x, -m.translation);
    } else if (operation == TRANSLATE_Y) {
        from_y = __dadd_rn(from_y, -m.translation);
    } else {
        double middle = (side - 1) * 0.5, u = __dadd_rn(from_x, -middle), v = __dadd_rn(from_y, -middle);
        from_x = __dadd_rn(__dadd_rn(__dmul_rn(m.cos, u), -__dmul_rn(m.sin, v)), middle);
        from_y = __dadd_rn(__dadd_rn(__dmul_rn(m.sin, u), __dmul_rn(m.cos, v)), middle);
    }
    x = __double2int_rn(from_x), y = __double2int_rn(from_y);
    return x >= 0 && x < side && y >= 0 && y < side;
}

// Byte i smoothed, at the border itself.
DEVICE u32 blurred(const u8* image, int side, int i) {
    int x = i / 3 % side, y = i / 3 / side, row = side * 3;
    if (x == 0 || y == 0 || x + 1 == side || y + 1 == side) return image[i];
    u32 sum = 4 * image[i];
    for (int from = i - row; from <= i + row; from += row) sum += image[from - 3] + image[from] + image[from + 3];
    return (2 * sum + 13) / 26;
}

// Sum of the grey values. Called by all threads of the block.
DEVICE u64 sum_of_greys(const u8* image, u32 pixels) {
    __shared__ unsigned long long total;
    if (threadIdx.x == 0) total = 0;
    __syncthreads();
    unsigned long long sum = 0;
    for (u32 i = threadIdx.x; i < pixels; i += THREADS) sum += grey(image + i * 3);
    atomicAdd(&total, sum);
    __syncthreads();
    return total;
}

// How often each value is in each channel. Called by all threads of the block.
DEVICE void count_values(const u8* image, u32 len, u32 (&counts)[3][256]) {
    for (u32 i = threadIdx.x; i < 3 * 256; i += THREADS) counts[i / 256][i % 256] = 0;
    __syncthreads();
    for (u32 i = threadIdx.x; i < len; i += THREADS) atomicAdd(&counts[i % 3][image[i]], 1u);
    __syncthreads();
}

// What AUTO_CONTRAST or EQUALIZE makes of value v, of a channel with these counts of `pixels` pixels.
DEVICE u32 stretched(u32 operation, const u32 (&counts)[256], u32 pixels, u32 v) {
    u32 least = 255, most = 0, below = 0;
    for (u32 i = 0; i < 256; i++) {
        u32 count = counts[i];
        if (count > 0) least = min(least, i), most = i;
        if (i < v) below += count;
    }
    if (operation == AUTO_CONTRAST) {
        if (most == least) return v;
        // By the reciprocal, as PyTorch divides a number by a tensor.
        float scale = __fmul_rn(255.0f, __fdiv_rn(1.0f, (float)(most - least)));
        return v < least || v > most ? v : (u32)__fmul_rn((float)(v - least), scale);
    }
    u32 step = (pixels - counts[most]) / 255;
    return step == 0 ? v : min((below + step / 2) / step, 255u);
}

// Applies an operation to an image. Called by all threads of the block.
DEVICE void apply(u32 operation, const Strengths& m, const RandAugment& s, const u8* image, u8* out) {
    __shared__ u32 counts[3][256];
    __shared__ u8 tables[3][256];
    u32 pixels = s.side * s.side, len = pixels * 3;
    bool moves = operation >= SHEAR_X && operation <= ROTATE, looks_up = !moves && operation != COLOR && operation != SHARPNESS;
    if (looks_up) {
        float mean = operation == CONTRAST ? __fdiv_rn((float)sum_of_greys(image, pixels), (float)pixels) : 0.0f;
        if (operation == AUTO_CONTRAST || operation == EQUALIZE) count_values(image, len, counts);
        for (u32 i = threadIdx.x; i < 3 * 256; i += THREADS) {
            u32 v = i % 256, to = v;
            if (operation == BRIGHTNESS || operation == CONTRAST) to = blend(m, v, mean);
            else if (operation == POSTERIZE) to = v >> s.cleared << s.cleared;
            else if (operation == SOLARIZE) to = (float)v >= s.threshold ? 255 - v : v;
            else if (operation != IDENTITY) to = stretched(operation, counts[i / 256], pixels, v);
            tables[i / 256][v] = to;
        }
        __syncthreads();
    }
    for (u32 i = threadIdx.x; i < len; i += THREADS) {
        u32 pixel = i / 3, c = i - pixel * 3, v = 0;
        if (looks_up) {
            v = tables[c][image[i]];
        } else if (moves) {
            int x = pixel % s.side, y = pixel / s.side;
            if (source(operation, m, s.side, x, y)) v = image[(y * s.side + x) * 3 + c];
        } else {
            v = blend(m, image[i], operation == COLOR ? grey(image + pixel * 3) : blurred(image, s.side, i));
        }
        out[i] = v;
    }
    __syncthreads();
}

KERNEL void __launch_bounds__(THREADS)
    rand_augment(const u8* images, const uint2* draws, u8* buffers, const __grid_constant__ RandAugment s) {
    begin_kernel();
    u32 n = blockIdx.x, len = s.side * s.side * 3;
    int side = s.side;
    uint2 draw = draws[n];
    u64 element = (u64)draw.y << 40 | draw.x;
    const u8* image = images + (s.dataset ? draw.x : n) * (u64)len;
    u8 *from = buffers + n * (u64)len, *to = from + gridDim.x * (u64)len;

    uint4 words = philox_block(s.seed, s.purposes[0], s.epoch, element);
    u32 choices = 2 * s.padding + 1;
    bool flip = s.flip && words.z >> 31;
    int shift_x = (int)__umulhi(words.x, choices) - (int)s.padding;
    int shift_y = (int)__umulhi(words.y, choices) - (int)s.padding;
    for (u32 i = threadIdx.x; i < len; i += THREADS) {
        u32 pixel = i / 3;
        int x = pixel % side, y = (int)(pixel / side) + shift_y;
        x = (flip ? side - 1 - x : x) + shift_x;
        bool inside = y >= 0 && y < side && x >= 0 && x < side;
        from[i] = inside ? image[(y * side + x) * 3 + (i - pixel * 3)] : 0;
    }
    __syncthreads();
    for (u32 j = 0; j < s.operations; j++) {
        words = philox_block(s.seed, s.purposes[1], s.epoch, element + ((u64)j << 32));
        apply(__umulhi(words.x, OPERATIONS), s.strengths[words.y >> 31], s, from, to);
        u8* next = from;
        from = to, to = next;
    }
}
