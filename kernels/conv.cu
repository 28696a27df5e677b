// conv: convolution as an implicit GEMM; the matrix that im2col would write is indexed, never stored.
//
// N images, C channels, H×W pixels in; K filters with an R×R window; P×Q pixels out; G groups, each with C/G channels
// and K/G filters. x is (N, H, W, C), y (N, P, Q, K), w as PyTorch keeps it (K, C/G, R, R).
//
//                           rows         columns      summed over   A                  B
//   conv_forward            (n, p, q)    k            (r, s, c)     x under the window packed w
//   conv_backward_data      (n, h, w)    c            (r, s, k)     dy over the pixel  packed w
//   conv_backward_weight    k            (r, s, c)    (n, p, q)     dy                 x under the window
//
// Channels are innermost in x and in the sums, so adjacent lanes read adjacent addresses. In w they are not: a warp would
// touch one 32-byte sector per element. conv_pack_weights therefore copies w to (K, R, R, C/G), as T, each time before it is
// used: 2 · 4 bytes per weight, 0.2 % of what the GEMMs read. The weight gradient is computed in the same order; the kernel
// that adds its partial sums restores PyTorch's order.
//
// If C/G elements are not whole packs of 16 bytes, like the three channels of an image, each element would be loaded on its
// own, with four divisions for its address. With one group, conv_rows then copies x to (N, H, Q, L): for each row of pixels
// and each window its R·C elements, which are contiguous in x, padded with zeros to L, a whole number of sectors. On this copy
// the convolution has L channels and an R×1 window, in packs, on tensor cores; the weights are copied to (K, R, L). The copy
// has stride/R of the size that im2col's would have.
//
// Block (x, y, z) computes row tile x, column tile y (of group y / tiles per group) over chunk z of the sum, see Tile in
// tile.cuh: on tensor cores if T is half, bf16 or, with TF32, float, and the device supports it (sm_75 for half only, sm_70
// never). gemm_reduce or conv_reduce_weights add the partial sums of several chunks in order.
//
// Work in each direction: 2·N·P·Q·K·R·R·C/G operations, padding included. Minimum memory traffic: x, y and w once.
#include "prelude.cuh"
#include "tile.cuh"

// The shape, with divisors for its sizes. Filled in by the launcher; see Shape in conv.rs.
struct Shape {
    int height, width, channels, filters, stride, padding, out_height, out_width;
    int stride_x, padding_x;            // along the width; 1 and 0 for rows, whose windows are adjacent
    int group_channels, group_filters;  // C/G, K/G
    int inputs, outputs, taps;          // N·H·W, N·P·Q, R·R (R for rows)
    int column_tiles;                   // of one group
    Divisor by_image, by_width, by_out_image, by_out_width, by_channels, by_filters, by_kernel, by_stride;
};

// x[pixel under tap (r, s) of output (n, p, q), c], where (r, s, c) is element j of the window.
DEVICE Place window(const T* x, const Shape& s, int output, int j) {
    int n = s.by_out_image.quotient(output), pq = s.by_out_image.remainder(output, n);
    int p = s.by_out_width.quotient(pq), q = s.by_out_width.remainder(pq, p);
    int tap = s.by_channels.quotient(j), c = s.by_channels.remainder(j, tap);
    int r = s.by_kernel.quotient(tap), t = s.by_kernel.remainder(tap, r);
    int h = p * s.stride - s.padding + r, w = q * s.stride_x - s.padding_x + t;
    bool inside = output < s.outputs && tap < s.taps && (u32)h < (u32)s.height && (u32)w < (u32)s.width;
    return {x + (((n * s.height + h) * s.width + w) * s.channels + c), inside};
}

struct ForwardX {
    static constexpr bool ALONG_K = true;
    const T* p;
    const Shape& s;
    DEVICE Place operator()(int i, int k) const { return window(p, s, i, k); }
};
struct ForwardW {
    static constexpr bool ALONG_K = true;
    const T* p;
    const Shape& s;
    DEVICE Place operator()(int i, int k) const {
        int row = s.taps * s.group_channels;
        return {p + i * row + k, i < s.group_filters && k < row};
    }
};

// dy[n, (h + padding − r) / stride, …, k], if that is an integer and inside.
struct DataDy {
    static constexpr bool ALONG_K = true;
    const T* p;
    const Shape& s;
    DEVICE Place operator()(int i, int k) const {
        int n = s.by_image.quotient(i), hw = s.by_image.remainder(i, n);
        int h = s.by_width.quotient(hw), w = s.by_width.remainder(hw, h);
        int tap = s.by_filters.quotient(k), filter = s.by_filters.remainder(k, tap);
        int r = s.by_kernel.quotient(tap), t = s.by_kernel.remainder(tap, r);
        int y = h + s.padding - r, x = w + s.padding - t;
        int p = s.by_stride.quotient(y), q = s.by_stride.quotient(x);
        bool inside = i < s.inputs && tap < s.taps && y >= 0 && x >= 0 && p * s.stride == y && q * s.stride == x &&
                      p < s.out_height && q < s.out_width;
        return {this->p + (((n * s.out_height + p) * s.out_width + q) * s.filters + filter), inside};
    }
};
struct DataW {
    static constexpr bool ALONG_K = false;
    const T* p;
    const Shape& s;
    DEVICE Place operator()(int i, int k) const {
        int tap = s.by_filters.quotient(k), filter = s.by_filters.remainder(k, tap);
        return {p + (filter * s.taps + tap) * s.group_channels + i, i < s.group_channels && tap < s.taps};
    }
};

struct WeightDy {
    static constexpr bool ALONG_K = false;
    const T* p;
    const Shape& s;
    DEVICE Place operator()(int i, int k) const {
        return {p + k * s.filters + i, i < s.group_filters && k < s.outputs};
    }
};
struct WeightX {
    static constexpr bool ALONG_K = false;
    const T* p;
    const Shape& s;
    DEVICE Place operator()(int i, int k) const { return window(p, s, k, i); }
};

// y = x ⋆ w + bias, then max(y, 0) if the epilogue has ReLU.
template <int WARPS_M, int WARPS_N, int WIDTH>
DEVICE void forward(const T* x, const T* w, const float* bias, T* y, float* partial, const Shape& s, int chunk,
                    const Epilogue& epilogue) {
    Tile<WARPS_M, WARPS_N, WIDTH> tile;
    int group = blockIdx.y / s.column_tiles, length = s.taps * s.group_channels;
    int m0 = blockIdx.x * tile.M, n0 = (blockIdx.y - group * s.column_tiles) * tile.N, k0 = blockIdx.z * chunk;
    x += group * s.group_channels;
    w += group * s.group_filters * length;
    tile.multiply(ForwardX{x, s}, ForwardW{w, s}, m0, n0, k0, min(k0 + chunk, length));
    if (partial) partial += (size_t)blockIdx.z * s.outputs * padded(s.filters);
    tile.store(Output<T>{y, partial, bias, epilogue, s.outputs, s.group_filters, group * s.group_filters, s.filters},
               m0, n0);
}

// dx = Σ dy·w over the windows that contain the pixel. A gather: each dx is written once, without atomics.
template <int WARPS_M, int WARPS_N, int WIDTH>
DEVICE void backward_data(const T* dy, const T* w, T* dx, float* partial, const Shape& s, int chunk,
                          const Epilogue& epilogue) {
    Tile<WARPS_M, WARPS_N, WIDTH> tile;
    int group = blockIdx.y / s.column_tiles, length = s.taps * s.group_filters;
    int m0 = blockIdx.x * tile.M, n0 = (blockIdx.y - group * s.column_tiles) * tile.N, k0 = blockIdx.z * chunk;
    dy += group * s.group_filters;
    w += group * s.group_filters * s.taps * s.group_channels;
    tile.multiply(DataDy{dy, s}, DataW{w, s}, m0, n0, k0, min(k0 + chunk, length));
    if (partial) partial += (size_t)blockIdx.z * s.inputs * padded(s.channels);
    tile.store(
        Output<T>{dx, partial, nullptr, epilogue, s.inputs, s.group_channels, group * s.group_channels, s.channels}, m0,
        n0);
}

// partial (chunks, K, R·R·C/G rounded up to 8) = dyᵀ·x for each chunk of pixels.
template <int WARPS_M, int WARPS_N, int WIDTH>
DEVICE void backward_weight(const T* x, const T* dy, float* partial, const Shape& s, int chunk,
                            const Epilogue& epilogue) {
    Tile<WARPS_M, WARPS_N, WIDTH> tile;
    int group = blockIdx.y / s.column_tiles, length = s.taps * s.group_channels;
    int m0 = blockIdx.x * tile.M, n0 = (blockIdx.y - group * s.column_tiles) * tile.N, k0 = blockIdx.z * chunk;
    x += group * s.group_channels;
    dy += group * s.group_filters;
    tile.multiply(WeightDy{dy, s}, WeightX{x, s}, m0, n0, k0, min(k0 + chunk, s.outputs));
    partial += ((size_t)blockIdx.z * s.filters + group * s.group_filters) * padded(length);
    tile.store(Output<float>{nullptr, partial, nullptr, epilogue, s.group_filters, length, 0, length}, m0, n0);
}

#define SHAPE const __grid_constant__ Shape
#define EPILOGUE const __grid_constant__ Epilogue
#define CONV(SUFFIX, WARPS_M, WARPS_N, WIDTH)                                                                          \
    KERNEL void __launch_bounds__(32 * WARPS_M * WARPS_N, TILE_BLOCKS(WARPS_N))                                        \
        conv_forward_##SUFFIX(const T* x, const T* w, const float* bias, T* y, float* partial, SHAPE s, int chunk,     \
                              EPILOGUE epilogue) {                                                                     \
        forward<WARPS_M, WARPS_N, WIDTH>(x, w, bias, y, partial, s, chunk, epilogue);                                  \
    }                                                                                                                  \
    KERNEL void __launch_bounds__(32 * WARPS_M * WARPS_N, TILE_BLOCKS(WARPS_N))                                        \
        conv_backward_data_##SUFFIX(const T* dy, const T* w, T* dx, float* partial, SHAPE s, int chunk,                \
                                    EPILOGUE epilogue) {                                                               \
        backward_data<WARPS_M, WARPS_N, WIDTH>(dy, w, dx, partial, s, chunk, epilogue);                                \
    }                                                                                                                  \
    KERNEL void __launch_bounds__(32 * WARPS_M * WARPS_N, TILE_BLOCKS(WARPS_N))                                        \
        conv_backward_weight_##SUFFIX(const T* x, const T* dy, float* partial, SHAPE s, int chunk,                     \
                                      EPILOGUE epilogue) {                                                             \
        backward_weight<WARPS_M, WARPS_N, WIDTH>(x, dy, partial, s, chunk, epilogue);                                  \
    }
// As for gemm: large tiles, small tiles for little work, and element by element if C/G or K/G is not a multiple of 4.
CONV(128, 4, 2, 4)
CONV(64, 2, 1, 4)
CONV(odd, 2, 1, 1)

// packed (K, R, R, C/G) = w (K, C/G, R, R). A block transposes `channels` channels of `filters` filters in shared memory:
// global reads and writes are contiguous; the shared stride of R·R words is odd for odd windows, so there are no bank
// conflicts.
KERNEL void conv_pack_weights(const float* w, T* packed, int filter_count, int group_channels, int taps, int filters,
                              int channels) {
    extern __shared__ float block[];  // filters × channels × taps
    int k0 = blockIdx.x * filters, c0 = blockIdx.y * channels;
    filters = min(filters, filter_count - k0);
    int count = min(channels, group_channels - c0), run = count * taps;
    for (int i = threadIdx.x; i < filters * run; i += blockDim.x)
        block[i] = w[((k0 + i / run) * group_channels + c0) * taps + i % run];
    __syncthreads();
    for (int i = threadIdx.x; i < filters * run; i += blockDim.x) {
        int k = i / run, tap = i % run / count, c = i % count;
        packed[((k0 + k) * taps + tap) * group_channels + c0 + c] = from_float<T>(block[k * run + c * taps + tap]);
    }
}

// dw (K, C/G, R, R) (+)= Σ over the chunks, in order, of partial (chunks, K, R·row rounded up to 8), where a window has rows
// of `row` elements: R·C/G, or L. Blocks as above.
KERNEL void conv_reduce_weights(const float* partial, float* dw, int filter_count, int group_channels, int taps,
                                int filters, int channels, int chunks, int kernel, int row, int accumulate) {
    extern __shared__ float block[];
    int k0 = blockIdx.x * filters, c0 = blockIdx.y * channels, pitch = padded(kernel * row);
    filters = min(filters, filter_count - k0);
    int count = min(channels, group_channels - c0), run = count * taps;
    const float* own = partial + (size_t)k0 * pitch + c0;
    auto total = [&](int at) {
        float sum = own[at];
#pragma unroll 4
        for (int chunk = 1; chunk < chunks; chunk++) sum += own[at + (size_t)chunk * filter_count * pitch];
        return sum;
    };
    if (count == group_channels) {
        // Whole rows including their padding, which is in the same sectors.
        for (int i = threadIdx.x; i < filters * kernel * row; i += blockDim.x) {
            int line = i / row, l = i - line * row, k = line / kernel, r = line - k * kernel;
            int s = l / count, c = l - s * count;
            float sum = total(k * pitch + r * row + l);
            if (s < kernel) block[k * run + c * taps + r * kernel + s] = sum;
        }
    } else {
        for (int i = threadIdx.x; i < filters * run; i += blockDim.x) {
            int k = i / run, tap = i % run / count, c = i % count, r = tap / kernel;
            block[k * run + c * taps + tap] = total(k * pitch + r * row + (tap - r * kernel) * group_channels + c);
        }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < filters * run; i += blockDim.x) {
        float* to = dw + ((k0 + i / run) * group_channels + c0) * taps + i % run;
        *to = accumulate ? *to + block[i] : block[i];
    }
}

// ---- Rows -------------------------------------------------------------------------------------------------------------

DEVICE u32 bits_of(float x) { return __float_as_uint(x); }
DEVICE u32 bits_of(half x) { return x.bits; }
DEVICE u32 bits_of(bf16 x) { return x.bits; }

struct Rows {
    int rows, block;   // N·H; rows per block
    int pixels;        // W·C
    int length, pitch; // R·C, L
    int windows;       // Q
    int step, before;  // stride·C, padding·C
    Divisor by_row, by_pitch;  // words per row, Q·L, and per window, L
};

// rows (N, H, Q, L) from x (N, H, W, C). A block copies its rows of x, which are contiguous, into shared memory; each lane then
// writes one 4-byte word at a time. Minimum memory traffic: both arrays.
KERNEL void __launch_bounds__(256) conv_rows(const T* x, u32* rows, const __grid_constant__ Rows s) {
    extern __shared__ float block[];
    constexpr int WORD = 4 / sizeof(T);
    T* own = (T*)block;
    int first = blockIdx.x * s.block, count = min(s.block, s.rows - first);
    x += (size_t)first * s.pixels;
    for (int i = threadIdx.x; i < count * s.pixels; i += 256) own[i] = x[i];
    __syncthreads();
    rows += (size_t)first * s.by_row.divisor;
    // Not unrolled: the last lanes of a warp would fall an iteration behind the others.
#pragma unroll 1
    for (int i = threadIdx.x; i < count * (int)s.by_row.divisor; i += 256) {
        int row = s.by_row.quotient(i), rest = s.by_row.remainder(i, row);
        int q = s.by_pitch.quotient(rest), l = s.by_pitch.remainder(rest, q) * WORD;
        u32 word = 0;
#pragma unroll
        for (int j = 0; j < WORD; j++) {
            int at = q * s.step - s.before + l + j;
            if (l + j < s.length && (u32)at < (u32)s.pixels) word |= bits_of(own[row * s.pixels + at]) << 16 * j;
        }
        rows[i] = word;
    }
}

// rows (K·R, L) from packed weights (K·R, R·C).
KERNEL void __launch_bounds__(256) conv_pad_weights(const T* packed, T* rows, int count, int length, int pitch) {
    int i = blockIdx.x * 256 + threadIdx.x;
    if (i >= count * pitch) return;
    int row = i / pitch, l = i - row * pitch;
    rows[i] = l < length ? packed[row * length + l] : from_float<T>(0.0f);
}
