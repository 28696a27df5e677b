// conv: convolution as an implicit GEMM; the matrix that im2col would write is indexed, never stored.
//
// N images, C channels, H×W pixels in; K filters with an R×R window; P×Q pixels out; G groups, each with C/G channels
// and K/G filters. x is (N, H, W, C), y (N, P, Q, K).
//
//                           rows         columns      summed over   A                  B
//   conv_forward            (n, p, q)    k            (r, s, c)     x under the window w
//   conv_backward_data      (n, h, w)    c            (r, s, k)     dy over the pixel  w
//   conv_backward_weight    k            (r, s, c)    (n, p, q)     dy                 x under the window
//
// Channels are innermost in x and in the sums, so adjacent lanes read adjacent addresses. They are innermost in w and dw too:
// w is (K, R, L), where a row of a window is R·C/G elements (s, c), padded with zeros to L. PyTorch's order is (K, C/G, R, R), in
// which a warp would touch one 32-byte sector per element; parameters are reordered when they are read or written by the host.
//
// If C/G elements are not whole packs of 16 bytes, like the three channels of an image, each element would be loaded on its
// own, with four divisions for its address. With one group, conv_rows then copies x to (N, H, Q, L): for each row of pixels
// and each window its R·C elements, which are contiguous in x, padded with zeros to L, a whole number of sectors. On this copy
// the convolution has L channels and an R×1 window, in packs, on tensor cores. The copy has stride/R of the size that
// im2col's would have.
//
// Block (x, y, z) computes row tile x, column tile y (of group y / tiles per group) over chunk z of the sum, see Tile in
// tile.cuh: on tensor cores if T is half, bf16 or tf32 and the device supports it (sm_75 for half only, sm_70
// never). The last of a tile's blocks to finish adds the chunks and applies the epilogue. conv_backward_weight also computes
// db (K), the sums of dy, in one more column of tiles.
//
// Work in each direction: 2·N·P·Q·K·R·R·C/G operations, padding included. Minimum memory traffic: x, y and w once.
#include "prelude.cuh"
#include "tile.cuh"
#include "epilogue.cuh"
#include "update.cuh"

// The shape, with divisors for its sizes. Filled in by the launcher; see Shape in conv.rs.
struct Shape {
    int height, width, channels, filters, stride, padding, out_height, out_width;
    int stride_x, padding_x, kernel_x;  // along the width; 1, 0 and 1 for rows, whose windows are adjacent
    int kernel, row;                    // R, L
    int group_channels, group_filters;  // C/G, K/G; L for C/G with rows
    int inputs, outputs;                // N·H·W, N·P·Q
    int column_tiles;                   // of one group
    Divisor by_image, by_width, by_out_image, by_out_width, by_row, by_channels, by_filters, by_kernel, by_stride;
};

// A column of the GEMM's sum or result: element (r, t, c) of a filter. PADDED: L may exceed R·C/G.
template <bool PADDED> struct Tap {
    int r, t, c, at;
    bool inside;
    Tap() = default;
    DEVICE Tap(const Shape& s, int j) {
        r = s.by_row.quotient(j);
        int l = s.by_row.remainder(j, r);
        t = s.by_channels.quotient(l), c = s.by_channels.remainder(l, t);
        at = (r * s.width + t) * s.channels + c;
        inside = r < s.kernel && (!PADDED || t < s.kernel_x);
    }
};
// An output (n, p, q), and the corner (h, w) of its window, where h is out of range for no output.
struct Window {
    int h, w, corner;
    Window() = default;
    DEVICE Window(const Shape& s, int output) {
        int n = s.by_out_image.quotient(output), pq = s.by_out_image.remainder(output, n);
        int p = s.by_out_width.quotient(pq), q = s.by_out_width.remainder(pq, p);
        h = p * s.stride - s.padding, w = q * s.stride_x - s.padding_x;
        corner = ((n * s.height + h) * s.width + w) * s.channels;
        if (output >= s.outputs) h = -0x40000000;
    }
};
template <bool PADDED> DEVICE Place pixel(const T* x, const Shape& s, const Window& at, const Tap<PADDED>& tap) {
    bool inside = tap.inside && (u32)(at.h + tap.r) < (u32)s.height && (u32)(at.w + tap.t) < (u32)s.width;
    return {x + (at.corner + tap.at), inside};
}

template <bool PADDED> struct ForwardX {
    static constexpr bool ALONG_K = true;
    const T* p;
    const Shape& s;
    typedef Window Row;
    typedef Tap<PADDED> Column;
    DEVICE Row row(int i) const { return Row(s, i); }
    DEVICE Column column(int k) const { return Column(s, k); }
    DEVICE Place operator()(const Row& row, const Column& column) const { return pixel(p, s, row, column); }
};
struct ForwardW {
    static constexpr bool ALONG_K = true;
    const T* p;
    const Shape& s;
    struct Row {
        int at;
        bool inside;
    };
    typedef int Column;
    DEVICE Row row(int i) const { return {i * s.kernel * s.row, i < s.group_filters}; }
    DEVICE Column column(int k) const { return k; }
    DEVICE Place operator()(const Row& row, int k) const {
        return {p + (row.at + k), row.inside && k < s.kernel * s.row};
    }
};

// dy[n, (h + padding − r) / stride, …, k], if that is an integer and inside. With h + padding = stride·p + e and r = stride·u + f
// it is an integer, p − u, if e = f.
struct DataDy {
    static constexpr bool ALONG_K = true;
    const T* p;
    const Shape& s;
    struct Row {
        int p, q, e, at;  // e of both directions in one word
    };
    DEVICE Row row(int i) const {
        int n = s.by_image.quotient(i), hw = s.by_image.remainder(i, n);
        int h = s.by_width.quotient(hw), w = s.by_width.remainder(hw, h);
        int y = h + s.padding, x = w + s.padding;
        int p = s.by_stride.quotient(y), q = s.by_stride.quotient(x);
        int e = s.by_stride.remainder(y, p) << 16 | s.by_stride.remainder(x, q);
        // No remainder is −1, for pixels beyond the last; nor −2, for taps beyond the last.
        return {p, q, i < s.inputs ? e : -1, ((n * s.out_height + p) * s.out_width + q) * s.filters};
    }
    struct Column {
        int u, v, f, at;
    };
    DEVICE Column column(int k) const {
        int tap = s.by_filters.quotient(k), filter = s.by_filters.remainder(k, tap);
        int r = s.by_kernel.quotient(tap), t = s.by_kernel.remainder(tap, r);
        int u = s.by_stride.quotient(r), v = s.by_stride.quotient(t);
        int f = s.by_stride.remainder(r, u) << 16 | s.by_stride.remainder(t, v);
        return {u, v, r < s.kernel ? f : -2, filter - (u * s.out_width + v) * s.filters};
    }
    DEVICE Place operator()(const Row& row, const Column& column) const {
        bool inside = row.e == column.f && (u32)(row.p - column.u) < (u32)s.out_height &&
                      (u32)(row.q - column.v) < (u32)s.out_width;
        return {p + row.at + column.at, inside};  // As a sum of indices fp32 would spill registers.
    }
};
template <bool PADDED> struct DataW {
    static constexpr bool ALONG_K = false;
    const T* p;
    const Shape& s;
    typedef int Row;
    struct Column {
        int at;
        bool inside;
    };
    DEVICE Row row(int i) const { return i; }
    DEVICE Column column(int k) const {
        int tap = s.by_filters.quotient(k), filter = s.by_filters.remainder(k, tap);
        int at = filter * s.kernel * s.row + tap * s.group_channels;
        if (PADDED) at += s.by_kernel.quotient(tap) * (s.row - s.kernel * s.group_channels);
        return {at, tap < s.kernel * s.kernel};
    }
    DEVICE Place operator()(Row i, const Column& column) const {
        return {p + (column.at + i), column.inside && i < s.group_channels};
    }
};

struct WeightDy {
    static constexpr bool ALONG_K = false;
    const T* p;
    const Shape& s;
    typedef int Row, Column;
    DEVICE Row row(int i) const { return i; }
    DEVICE Column column(int k) const { return k; }
    DEVICE Place operator()(int i, int k) const {
        return {p + (k * s.filters + i), i < s.group_filters && k < s.outputs};
    }
};
template <bool PADDED> struct WeightX {
    static constexpr bool ALONG_K = false;
    const T* p;
    const Shape& s;
    typedef Tap<PADDED> Row;
    typedef Window Column;
    DEVICE Row row(int i) const { return Row(s, i); }
    DEVICE Column column(int k) const { return Column(s, k); }
    DEVICE Place operator()(const Row& row, const Column& column) const { return pixel(p, s, column, row); }
};

// Where this block's tile and chunk are.
template <typename Tile> struct Position {
    int group, m0, n0, k0, k_end;
    DEVICE Position(const Shape& s, int chunk, int length)
        : group(blockIdx.y / s.column_tiles), m0(blockIdx.x * Tile::M),
          n0((blockIdx.y - group * s.column_tiles) * Tile::N), k0(blockIdx.z * chunk), k_end(min(k0 + chunk, length)) {}
};

// y = x ⋆ w + bias, then max(y, 0) if the epilogue has ReLU.
template <typename Tile, bool PADDED>
DEVICE void forward(const T* x, const T* w, const float* bias, T* y, const Split& split, const Shape& s, int chunk,
                    const Epilogue& epilogue) {
    int length = s.kernel * s.row;
    Position<Tile> at(s, chunk, length);
    x = Tile::base(x + at.group * s.group_channels);
    w = Tile::base(w + at.group * s.group_filters * length);
    Tile tile;
    tile.multiply(ForwardX<PADDED>{x, s}, ForwardW{w, s}, at.m0, at.n0, at.k0, at.k_end);
    Output<T> output{y, bias, epilogue, s.outputs, s.group_filters, at.group * s.group_filters, s.filters};
    if (combine<Tile>((float(&)[Tile::SUMS])tile.c, split)) tile.store(output, at.m0, at.n0);
}

// dx = Σ dy·w over the windows that contain the pixel. A gather: each dx is written once, without atomics.
template <typename Tile, bool PADDED>
DEVICE void backward_data(const T* dy, const T* w, T* dx, const Split& split, const Shape& s, int chunk,
                          const Epilogue& epilogue) {
    Position<Tile> at(s, chunk, s.kernel * s.kernel * s.group_filters);
    dy = Tile::base(dy + at.group * s.group_filters);
    w = Tile::base(w + at.group * s.group_filters * s.kernel * s.row);
    Tile tile;
    tile.multiply(DataDy{dy, s}, DataW<PADDED>{w, s}, at.m0, at.n0, at.k0, at.k_end);
    Output<T> output{dx, nullptr, epilogue, s.inputs, s.group_channels, at.group * s.group_channels, s.channels};
    if (combine<Tile>((float(&)[Tile::SUMS])tile.c, split)) tile.store(output, at.m0, at.n0);
}

// Destination of a gradient that is tested where it is stored, as sgd_test in sgd.cu would.
struct GradientOutput {
    Output<float> gradient;
    Scaler* scaler;  // null: not tested

    DEVICE float4x constants(int) const { return {}; }
    DEVICE void store(int row, int column, const float4x& g, const float4x& none) const {
        gradient.store(row, column, g, none);
        if (scaler == nullptr || row >= gradient.rows || column >= gradient.columns) return;
        bool finite = true;
        // x − x is NaN for an infinity or a NaN, otherwise 0. Sums beyond the last column are of zeros, or of zeros times what is not
        // finite, and then sums in the other columns are not finite either.
#pragma unroll
        for (int j = 0; j < 4; j++) finite &= g.v[j] - g.v[j] == 0.0f;
        if (!finite) atomicOr(&scaler->found, 1);
    }
};

// dw = dyᵀ·x, and db in the last column of tiles of a group.
template <typename Tile, int WIDTH>
DEVICE void backward_weight(const T* x, const T* dy, float* dw, float* db, const Split& split, const Shape& s, int chunk,
                            const Epilogue& epilogue, Scaler* scaler) {
    int length = s.kernel * s.row;
    Position<Tile> at(s, chunk, s.outputs);
    int first = at.group * s.group_filters;
    x += at.group * s.group_channels;
    dy += first;
    if (at.n0 >= length) {
        GradientOutput sums{{db, nullptr, epilogue, 1, s.group_filters, first, 0}, scaler};
        column_sums<Tile, WIDTH>(WeightDy{dy, s}, at.m0, at.k0, at.k_end, split, sums);
        return;
    }
    Tile tile;
    WeightDy a{Tile::base(dy), s};
    WeightX<WIDTH == 1> b{Tile::base(x), s};
    tile.multiply(a, b, at.m0, at.n0, at.k0, at.k_end);
    GradientOutput output{{dw + first * length, nullptr, epilogue, s.group_filters, length, 0, length}, scaler};
    if (combine<Tile>((float(&)[Tile::SUMS])tile.c, split)) tile.store(output, at.m0, at.n0);
}

#define SHAPE const __grid_constant__ Shape
#define EPILOGUE const __grid_constant__ Epilogue
#define CONV(SUFFIX, SIDE, WIDTH)                                                                                      \
    KERNEL void BOUNDS(SIDE, WIDTH)                                                                                    \
        conv_forward_##SUFFIX(const T* x, const T* w, const float* bias, T* y, Split split, SHAPE s, int chunk,        \
                              EPILOGUE epilogue) {                                                                     \
        begin_kernel();                                                                                                \
        forward<Tile<SIDE, WIDTH>, WIDTH == 1>(x, w, bias, y, split, s, chunk, epilogue);                              \
    }                                                                                                                  \
    KERNEL void BOUNDS(SIDE, WIDTH)                                                                                    \
        conv_backward_data_##SUFFIX(const T* dy, const T* w, T* dx, Split split, SHAPE s, int chunk,                   \
                                    EPILOGUE epilogue) {                                                               \
        begin_kernel();                                                                                                \
        backward_data<Tile<SIDE, WIDTH>, WIDTH == 1>(dy, w, dx, split, s, chunk, epilogue);                            \
    }                                                                                                                  \
    KERNEL void BOUNDS(SIDE, WIDTH)                                                                                    \
        conv_backward_weight_##SUFFIX(const T* x, const T* dy, float* dw, float* db, Split split, SHAPE s, int chunk,  \
                                      EPILOGUE epilogue, Scaler* scaler) {                                             \
        begin_kernel();                                                                                                \
        backward_weight<Tile<SIDE, WIDTH>, WIDTH>(x, dy, dw, db, split, s, chunk, epilogue, scaler);                   \
    }
// As for gemm: large tiles, small tiles for little work, and element by element if C/G or K/G is not a multiple of 4.
CONV(128, 128, 4)
CONV(64, 64, 4)
CONV(odd, 64, 1)

// ---- Rows -------------------------------------------------------------------------------------------------------------

DEVICE u32 bits_of(float x) { return __float_as_uint(x); }
DEVICE u32 bits_of(half x) { return x.bits; }
DEVICE u32 bits_of(bf16 x) { return x.bits; }
DEVICE u32 bits_of(tf32 x) { return x.bits; }

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
    begin_kernel();
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
