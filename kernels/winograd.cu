// winograd: 3×3 convolutions of stride 1 in float by Winograd's F(4×4, 3×3): a quarter of the multiplications.
//
// The letters are those of conv.cu. A tile is 4×4 pixels of y; T tiles cover all images. With d the 6×6 pixels of x under a tile
// and g the 3×3 weights of a filter,
//
//   y = Aᵀ [(G·g·Gᵀ) ⊙ (Bᵀ·d·B)] A        dw = Gᵀ [Σ over tiles of (A·dy·Aᵀ) ⊙ (Bᵀ·d·B)] G
//
// so that, summed over channels or tiles, each of the 36 positions of a transformed tile is a matrix product of its own:
//
//                              A                  B                    product, for each position and group
//   y                          V (T, C/G) of x    U (K/G, C/G) of w    M (T, K/G) = V·Uᵀ
//   dx: y of dy, w turned      V (T, K/G) of dy   U (K/G, C/G) of w    M (T, C/G) = V·U
//   dw                         Y (T, K/G) of dy   V (T, C/G) of x      dU (K/G, C/G) = Yᵀ·V
//
// All transformed arrays are (36, G, rows, columns). The interpolation points are 1, −1, 2, −2, 0, ∞, in this order (Lavin and
// Gray, 2016, have 0 first): so position 0 of Y is the sum of a tile of dy, and the sums of its columns are db.
//
// A thread transforms one tile of one channel, or one window of a filter; adjacent threads have adjacent channels, so that each
// of their loads and stores is whole sectors. Of an image smaller than its tiles, pixels outside are zeros and not stored.
//
// Work: 2·36·T·C·K/G operations in the products, 2·144·T·C·K/G without the algorithm. Minimum memory traffic: x, y and w, and
// the transformed arrays, written and read: 8·36·(T·(C + K) + C·K/G) bytes. The error bound is that of the CPU's algorithm, see
// crates/core/src/device/cpu/conv/winograd/mod.rs.
#include "prelude.cuh"
#include "tile.cuh"
#include "epilogue.cuh"

// An array of pixels (N, H, W, C) in tiles. Filled in by the launcher; see Tiles in winograd.rs.
struct Tiles {
    int height, width, channels, group_channels;  // H, W, C, C/G
    int first;                                    // row and column of the first tile's first pixel
    int len;                                      // T·C: elements per position, and threads
    Divisor by_channels, by_tiles, by_image, by_row;  // C/G, T, tiles per image, tiles per row
};

// The first pixel of the tile, and the channel, that element i of a transformed array is of.
struct Corner {
    int h, w, c, at;  // at: the index in the array of pixels, though the pixel may be outside
    DEVICE Corner(const Tiles& s, int i) {
        int row = s.by_channels.quotient(i);
        c = s.by_channels.remainder(i, row);
        int group = s.by_tiles.quotient(row), tile = s.by_tiles.remainder(row, group);
        int n = s.by_image.quotient(tile), rest = s.by_image.remainder(tile, n);
        int y = s.by_row.quotient(rest), x = s.by_row.remainder(rest, y);
        h = 4 * y + s.first, w = 4 * x + s.first;
        c += group * s.group_channels;
        at = ((n * s.height + h) * s.width + w) * s.channels + c;
    }
    // The index of pixel (i, j) of the tile, or −1 outside the image.
    DEVICE int pixel(const Tiles& s, int i, int j) const {
        bool inside = (u32)(h + i) < (u32)s.height && (u32)(w + j) < (u32)s.width;
        return inside ? at + (i * s.width + j) * s.channels : -1;
    }
};

// ---- Transformations in one dimension ------------------------------------------------------------------------------

template <int N> struct Line { float v[N]; };

// Bᵀ·d
struct Image {
    DEVICE static Line<6> of(const float (&d)[6]) {
        float a = fmaf(-4.0f, d[2], d[4]), b = fmaf(-4.0f, d[1], d[3]);
        float c = d[4] - d[2], e = 2.0f * (d[3] - d[1]);
        return {{a + b, a - b, c + e, c - e, fmaf(4.0f, d[0], fmaf(-5.0f, d[2], d[4])),
                 fmaf(4.0f, d[1], fmaf(-5.0f, d[3], d[5]))}};
    }
};
// G·g
struct Filter {
    DEVICE static Line<6> of(const float (&g)[3]) {
        float s = -1.0f / 6.0f * (g[0] + g[2]), t = 1.0f / 6.0f * g[1];
        float a = fmaf(1.0f / 24.0f, g[0], 1.0f / 6.0f * g[2]), b = 1.0f / 12.0f * g[1];
        return {{s - t, s + t, a + b, a - b, 0.25f * g[0], g[2]}};
    }
};
// A·dy
struct OutputGradient {
    DEVICE static Line<6> of(const float (&d)[4]) {
        float e = d[0] + d[2], f = d[1] + d[3];
        float g = fmaf(4.0f, d[2], d[0]), h = fmaf(8.0f, d[3], 2.0f * d[1]);
        return {{e + f, e - f, g + h, g - h, d[0], d[3]}};
    }
};
// Aᵀ·m
struct OutputTile {
    DEVICE static Line<4> of(const float (&m)[6]) {
        float p = m[0] + m[1], d = m[0] - m[1], q = m[2] + m[3], e = m[2] - m[3];
        return {{m[4] + (p + q), fmaf(2.0f, e, d), fmaf(4.0f, q, p), fmaf(8.0f, e, d) + m[5]}};
    }
};
// Gᵀ·u
struct FilterGradient {
    DEVICE static Line<3> of(const float (&u)[6]) {
        float p = u[0] + u[1], m = u[0] - u[1], q = u[2] + u[3], n = u[2] - u[3];
        return {{fmaf(0.25f, u[4], fmaf(1.0f / 24.0f, q, -1.0f / 6.0f * p)), fmaf(1.0f / 12.0f, n, -1.0f / 6.0f * m),
                 fmaf(1.0f / 6.0f, q - p, u[5])}};
    }
};

// Transforms a square of FROM×FROM numbers load(i, j), first its columns, then its rows, and calls store(i, j, ·) for all TO×TO.
template <typename Transformation, int FROM, int TO, typename Load, typename Store>
DEVICE void transform(Load load, Store store) {
    float half[TO][FROM];
#pragma unroll
    for (int j = 0; j < FROM; j++) {
        float column[FROM];
#pragma unroll
        for (int i = 0; i < FROM; i++) column[i] = load(i, j);
        auto line = Transformation::of(column);
#pragma unroll
        for (int i = 0; i < TO; i++) half[i][j] = line.v[i];
    }
#pragma unroll
    for (int i = 0; i < TO; i++) {
        auto line = Transformation::of(half[i]);
#pragma unroll
        for (int j = 0; j < TO; j++) store(i, j, line.v[j]);
    }
}

// A tile of pixels, SIDE×SIDE, to element i of a transformed array.
template <typename Transformation, int SIDE>
DEVICE void transform_tile(const float* pixels, float* to, const Tiles& s, int i) {
    if (i >= s.len) return;
    Corner corner(s, i);
    to += i;
    transform<Transformation, SIDE, 6>(
        [&](int row, int column) {
            int at = corner.pixel(s, row, column);
            return at < 0 ? 0.0f : pixels[at];
        },
        [&](int row, int column, float x) { to[(size_t)(row * 6 + column) * s.len] = x; });
}

// ---- Transformations of arrays -------------------------------------------------------------------------------------------------------

#define TILES const __grid_constant__ Tiles
constexpr int THREADS = 128;

// V of x, and by the first `filter_blocks` blocks U of w (K, 3, 3, C/G), whose `windows` are K·C/G; turned by 180° for dx.
KERNEL void __launch_bounds__(THREADS) winograd_input(const float* x, float* v, TILES s, const float* w, float* u, int windows,
                                                      int group_channels, int turned, int filter_blocks) {
    begin_kernel();
    int i = ((int)blockIdx.x - filter_blocks) * THREADS + threadIdx.x;
    if (i >= 0) {
        transform_tile<Image, 6>(x, v, s, i);
        return;
    }
    i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= windows) return;
    int k = i / group_channels, first = turned ? 8 : 0, step = turned ? -1 : 1;
    w += (size_t)k * 8 * group_channels + i;  // k·9·C/G + c
    u += i;
    transform<Filter, 3, 6>(
        [&](int r, int t) { return w[(first + step * (r * 3 + t)) * group_channels]; },
        [&](int row, int column, float g) { u[(size_t)(row * 6 + column) * windows] = g; });
}

// V of x, and by the first `gradient_blocks` blocks Y of dy.
KERNEL void __launch_bounds__(THREADS) winograd_gradient_input(const float* x, float* v, TILES xs, const float* dy, float* y,
                                                               TILES ys, int gradient_blocks) {
    begin_kernel();
    int i = ((int)blockIdx.x - gradient_blocks) * THREADS + threadIdx.x;
    if (i >= 0) transform_tile<Image, 6>(x, v, xs, i);
    else transform_tile<OutputGradient, 4>(dy, y, ys, blockIdx.x * THREADS + threadIdx.x);
}

// y from M, + bias, max(·, 0) if `relu`, 0 where the mask is ≤ 0; bias and mask may be null.
KERNEL void __launch_bounds__(THREADS) winograd_output(const float* m, const float* bias, const float* mask, float* y, TILES s,
                                                       int relu) {
    begin_kernel();
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= s.len) return;
    Corner corner(s, i);
    float b = bias ? bias[corner.c] : 0.0f;
    m += i;
    transform<OutputTile, 6, 4>([&](int row, int column) { return m[(size_t)(row * 6 + column) * s.len]; },
                                [&](int row, int column, float out) {
                                    int at = corner.pixel(s, row, column);
                                    if (at < 0) return;
                                    if (bias) out += b;
                                    if (relu) out = out < 0.0f ? 0.0f : out;
                                    if (mask && mask[at] <= 0.0f) out = 0.0f;
                                    y[at] = out;
                                });
}

// dw (K, 3, 3, C/G) from dU, and db (K) from its sums; or adds them.
KERNEL void __launch_bounds__(THREADS) winograd_filter_gradient(const float* du, const float* sums, float* dw, float* db,
                                                                int windows, int group_channels, int filters, int accumulate) {
    begin_kernel();
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i < filters) db[i] = accumulate ? db[i] + sums[i] : sums[i];
    if (i >= windows) return;
    int k = i / group_channels;
    du += i;
    dw += (size_t)k * 8 * group_channels + i;
    transform<FilterGradient, 6, 3>([&](int row, int column) { return du[(size_t)(row * 6 + column) * windows]; },
                                    [&](int r, int t, float g) {
                                        float* to = dw + (r * 3 + t) * group_channels;
                                        *to = accumulate ? *to + g : g;
                                    });
}

// ---- Products ------------------------------------------------------------------------------------------------------
//
// All products of a direction are one launch. Block (x, y, z) computes row tile x, column tile y (of product y / column_tiles) of C
// over chunk z of the sum, as in gemm.cu. Only float has them.

#if NUMBER_OF(STORAGE) == NUMBER_float

// A matrix with element (i, k) at first + i·K + k, or, not along K, at first + k·rows + i.
template <bool K> struct Along {
    static constexpr bool ALONG_K = K;
    const float* p;
    int first, rows, k_end;
    struct Row {
        int at;
        bool inside;
    };
    typedef int Column;
    DEVICE Row row(int i) const { return {first + (K ? i * k_end : i), i < rows}; }
    DEVICE Column column(int k) const { return k; }
    DEVICE Place operator()(const Row& row, int k) const {
        return {p + (K ? row.at + k : k * rows + row.at), row.inside && k < k_end};
    }
};
typedef Along<true> AlongK;
typedef Along<false> AlongI;

// C (M, N) = A (M, K) · B (K, N) of all products, which lie one after the other; for the first `summed` of them, in one more column
// of tiles, also the sums (products, M) of A along K.
template <typename Tile, int WIDTH, typename A, typename B>
DEVICE void product(const float* a, const float* b, float* c, float* sums, const Split& split, int m, int n, int k,
                    int chunk, int column_tiles, int summed) {
    int index = blockIdx.y / column_tiles, m0 = blockIdx.x * Tile::M;
    int n0 = (blockIdx.y - index * column_tiles) * Tile::N, k0 = blockIdx.z * chunk, k_end = min(k0 + chunk, k);
    Epilogue epilogue = {};
    A at_a{a, index * (m * k), m, k};
    if (!A::ALONG_K && n0 >= n) {
        if (index >= summed) return;
        Output<float> output{sums, nullptr, epilogue, 1, m, index * m, 0};
        column_sums<Tile, WIDTH>(at_a, m0, k0, k_end, split, output);
        return;
    }
    Tile tile;
    tile.multiply(at_a, B{b, index * (n * k), n, k}, m0, n0, k0, k_end);
    Output<float> output{c + (size_t)index * (m * n), nullptr, epilogue, m, n, 0, n};
    if (combine<Tile>((float(&)[Tile::SUMS])tile.c, split)) tile.store(output, m0, n0);
}

// Two blocks of 256 threads with 128 registers each, where no register is spilled for it.
#define AT_ONCE(WARPS_N) ((WARPS_N) == 1 ? 4 : __CUDA_ARCH__ == 800 ? 2 : 1)
#define PRODUCT(NAME, A, B, WARPS_M, WARPS_N, WIDTH)                                                                   \
    KERNEL void __launch_bounds__(32 * WARPS_M * WARPS_N, AT_ONCE(WARPS_N))                                            \
        winograd_product_##NAME(const float* a, const float* b, float* c, float* sums, Split split, int m, int n,      \
                                int k, int chunk, int column_tiles, int summed) {                                      \
        begin_kernel();                                                                                                \
        product<FloatTile<WARPS_M, WARPS_N, WIDTH>, WIDTH, A, B>(a, b, c, sums, split, m, n, k, chunk, column_tiles,   \
                                                                 summed);                                              \
    }
#define PRODUCTS(SUFFIX, WARPS_M, WARPS_N, WIDTH)                                                                      \
    PRODUCT(nt_##SUFFIX, AlongK, AlongK, WARPS_M, WARPS_N, WIDTH)                                                      \
    PRODUCT(nn_##SUFFIX, AlongK, AlongI, WARPS_M, WARPS_N, WIDTH)                                                      \
    PRODUCT(tn_##SUFFIX, AlongI, AlongI, WARPS_M, WARPS_N, WIDTH)
PRODUCTS(128, 4, 2, 4)
PRODUCTS(64, 2, 1, 4)
PRODUCTS(odd, 2, 1, 1)

#endif
