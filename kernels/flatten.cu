// flatten: between an image (N, H, W, C) and a row (N, C·H·W) in PyTorch's order: a transposition of an M×C matrix per image,
// M = H·W pixels.
//
// A block transposes CHANNELS channels × up to `pixels` pixels of one image in shared memory, stored channel by channel as in
// the row. On the image's side a warp accesses whole 32-byte sectors: 8 channels × 4 pixels (float) or 16 × 2 (half), without
// bank conflicts if M is 4 times an odd number, as in AlexNet (2×2 and 6×6). On the row's side it accesses consecutive
// elements. Minimum memory traffic: both arrays.
#include "prelude.cuh"

#define CHANNELS 32

struct Flatten {
    u32 total;     // M
    u32 channels;  // C
    u32 pixels;    // pixels per block, at most M
    u32 parts;     // ⌈M / pixels⌉
    u32 groups;    // ⌈C / CHANNELS⌉
};

// Channels and pixels that a warp accesses at once on the image's side.
constexpr u32 SECTOR = 32 / sizeof(T), PIXELS = 32 / SECTOR;

template <bool FORWARD> DEVICE void transpose(const T* from, T* to, const Flatten& s) {
    extern __shared__ u8 memory[];
    T* tile = (T*)memory;
    u32 part = blockIdx.x % s.parts, group = blockIdx.x / s.parts % s.groups;
    u64 image = (u64)(blockIdx.x / s.parts / s.groups) * s.total * s.channels;
    u32 c_first = group * CHANNELS, m_first = part * s.pixels;
    u32 c_count = min((u32)CHANNELS, s.channels - c_first), m_count = min(s.pixels, s.total - m_first);

    auto image_side = [&](auto move) {
        u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32;
        u32 sectors = (c_count + SECTOR - 1) / SECTOR, strips = (m_count + PIXELS - 1) / PIXELS;
        for (u32 i = warp; i < sectors * strips; i += 8) {
            u32 c = i % sectors * SECTOR + lane % SECTOR, m = i / sectors * PIXELS + lane / SECTOR;
            if (c < c_count && m < m_count) move(image + (u64)(m_first + m) * s.channels + c_first + c, c * m_count + m);
        }
    };
    auto row_side = [&](auto move) {
        for (u32 i = threadIdx.x; i < c_count * m_count; i += 256) {
            // With all pixels in one part the channels of the group are contiguous.
            u32 c = s.parts == 1 ? 0 : i / m_count, m = i - c * m_count;
            move(image + (u64)(c_first + c) * s.total + m_first + m, i);
        }
    };
    auto into_tile = [&](u64 at, u32 i) { tile[i] = from[at]; };
    auto out_of_tile = [&](u64 at, u32 i) { to[at] = tile[i]; };
    if (FORWARD) image_side(into_tile);
    else row_side(into_tile);
    __syncthreads();
    if (FORWARD) row_side(out_of_tile);
    else image_side(out_of_tile);
}

// y (N, C·H·W) from x (N, H, W, C). Shared memory: CHANNELS · pixels elements.
KERNEL void __launch_bounds__(256) flatten_forward(const T* x, T* y, Flatten s) {
    begin_kernel();
    transpose<true>(x, y, s);
}
// dx (N, H, W, C) from dy (N, C·H·W).
KERNEL void __launch_bounds__(256) flatten_backward(const T* dy, T* dx, Flatten s) {
    begin_kernel();
    transpose<false>(dy, dx, s);
}
