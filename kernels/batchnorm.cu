// batchnorm: batch normalisation of the channels of x (rows, C), rows = N·H·W, as in torch.nn.BatchNorm2d.
//   forward    y = w·x̂ + b,   x̂ = (x − μ)/√(σ²+ε),   μ and σ² of the channel's rows
//   backward   dw = Σ dy·x̂,  db = Σ dy,  dx = w/√(σ²+ε) · (dy − db/rows − x̂·dw/rows)
//   inference  the same y with the running μ and σ²; dx = dy·w/√(σ²+ε)
//
// x, y, dy, dx (rows, C) of T; w, b, statistics, gradients of float. A block processes 32 channels, one per lane, and rows in
// tiles of TILE: warp t the rows t, t + 8, …, of which it loads ROWS before it computes. Blocks of adjacent channels are
// consecutive, so that adjacent memory is read at the same time.
//
// Sums are split into `chunks` chunks of rows, one block each; one block per 32 channels combines them, in a fixed order. The
// variance is a sum of squared deviations in registers, merged as in Chan, Golub and LeVeque: with δ the difference of two
// means, mean = m₁ + δ·n₂/n and squares = q₁ + q₂ + δ²·n₁·n₂/n.
// Minimum memory traffic: forward x twice and y, backward x and dy twice and dx.
#include "prelude.cuh"

#define ROWS 16
#define WARPS 8
#define TILE (ROWS * WARPS)

struct BatchNorm {
    u32 rows, channels;
    u32 blocks;          // of 32 channels
    u32 chunk, chunks;   // rows per chunk, a multiple of TILE; number of chunks
    float epsilon, momentum;
    float unbiased;      // rows/(rows − 1)
};

DEVICE u32 channel(const BatchNorm& s) { return blockIdx.x % s.blocks * 32 + threadIdx.x % 32; }

// The values of `from` for the block's channels, in shared memory: read by one warp instead of by each. For one array at a
// time, because an array of pointers would be in local memory.
DEVICE void share(const float* from, const BatchNorm& s, u32 warp, float (&to)[32]) {
    u32 c = channel(s);
    if (threadIdx.x / 32 == warp && c < s.channels) to[threadIdx.x % 32] = from[c];
}

struct Moments {
    float count, mean, squares;
};
DEVICE void merge(Moments& to, const Moments& from) {
    if (from.count == 0.0f) return;
    float count = to.count + from.count, share = from.count / count, delta = from.mean - to.mean;
    to.mean += delta * share;
    to.squares += from.squares + delta * delta * (to.count * share);
    to.count = count;
}

// Calls f(row, i) for this thread's rows in the tile that begins at `start`, i from 0 to ROWS − 1.
template <typename F> DEVICE void for_rows(u32 start, u32 end, F f) {
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
        u32 row = start + threadIdx.x / 32 + i * WARPS;
        if (row < end) f(row, i);
    }
}

// partial (chunks, 2, C) = mean and squared deviations of each chunk's rows.
KERNEL void __launch_bounds__(256) batchnorm_moments(const T* x, float* partial, BatchNorm s) {
    begin_kernel();
    __shared__ Moments warps[WARPS][32];
    u32 c = channel(s), chunk = blockIdx.x / s.blocks, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    u32 first = chunk * s.chunk, end = min(first + s.chunk, s.rows);
    Moments all = {0.0f, 0.0f, 0.0f};
    if (c < s.channels) {
        for (u32 start = first; start < end; start += TILE) {
            float value[ROWS];
            Moments tile = {0.0f, 0.0f, 0.0f};
            for_rows(start, end, [&](u32 row, int i) { value[i] = to_float(x[(u64)row * s.channels + c]); });
            for_rows(start, end, [&](u32, int i) { tile.mean += value[i], tile.count += 1.0f; });
            if (tile.count == 0.0f) continue;
            tile.mean /= tile.count;
            for_rows(start, end, [&](u32, int i) {
                float difference = value[i] - tile.mean;
                tile.squares += difference * difference;
            });
            if (all.count == 0.0f) all = tile; else merge(all, tile);
        }
    }
    warps[warp][lane] = all;
    __syncthreads();
    if (warp != 0 || c >= s.channels) return;
    for (int i = 1; i < WARPS; i++) merge(all, warps[i][lane]);
    partial[(u64)chunk * 2 * s.channels + c] = all.mean;
    partial[((u64)chunk * 2 + 1) * s.channels + c] = all.squares;
}

// Combines the chunks: statistics (2, C) = μ and 1/√(σ²+ε), and the running statistics.
KERNEL void __launch_bounds__(256)
    batchnorm_statistics(const float* partial, float* mean, float* variance, float* statistics, BatchNorm s) {
    begin_kernel();
    __shared__ Moments warps[WARPS][32];
    u32 c = channel(s), warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    Moments all = {0.0f, 0.0f, 0.0f};
    if (c < s.channels) {
        for (u32 chunk = warp; chunk < s.chunks; chunk += WARPS) {
            const float* from = partial + (u64)chunk * 2 * s.channels + c;
            Moments next = {(float)min(s.chunk, s.rows - chunk * s.chunk), from[0], from[s.channels]};
            if (all.count == 0.0f) all = next; else merge(all, next);
        }
    }
    warps[warp][lane] = all;
    __syncthreads();
    if (warp != 0 || c >= s.channels) return;
    for (int i = 1; i < WARPS; i++) merge(all, warps[i][lane]);
    float biased = all.squares / all.count;
    statistics[c] = all.mean;
    statistics[s.channels + c] = 1.0f / sqrtf(biased + s.epsilon);
    if (s.momentum == 1.0f) {
        // Without the rounding of a difference.
        mean[c] = all.mean;
        variance[c] = __fmul_rn(s.unbiased, biased);
        return;
    }
    mean[c] += s.momentum * (all.mean - mean[c]);
    variance[c] += s.momentum * (s.unbiased * biased - variance[c]);
}

// y = w·(x − mean)·inverse + b, then max(y, 0) if `relu`; with `inference`, σ² is passed in place of the inverse.
KERNEL void __launch_bounds__(256) batchnorm_normalise(const T* x, const float* w, const float* b, const float* mean,
                                                       const float* inverse, u32 inference, u32 relu, T* y,
                                                       BatchNorm s) {
    begin_kernel();
    __shared__ float own[4][32];
    share(w, s, 0, own[0]);
    share(b, s, 1, own[1]);
    share(mean, s, 2, own[2]);
    share(inverse, s, 3, own[3]);
    __syncthreads();
    u32 c = channel(s), start = blockIdx.x / s.blocks * TILE, lane = threadIdx.x % 32;
    if (c >= s.channels) return;
    float scale = own[0][lane] * (inference ? 1.0f / sqrtf(own[3][lane] + s.epsilon) : own[3][lane]);
    float bias = own[1][lane], m = own[2][lane];
    float value[ROWS];
    for_rows(start, s.rows, [&](u32 row, int i) { value[i] = to_float(x[(u64)row * s.channels + c]); });
    for_rows(start, s.rows, [&](u32 row, int i) {
        float out = (value[i] - m) * scale + bias;
        // A NaN stays NaN.
        y[(u64)row * s.channels + c] = from_float<T>(relu && out < 0.0f ? 0.0f : out);
    });
}

// partial (chunks, 2, C) = Σ dy and Σ dy·x̂ of each chunk's rows.
KERNEL void __launch_bounds__(256)
    batchnorm_sums(const T* x, const T* dy, const float* statistics, float* partial, BatchNorm s) {
    begin_kernel();
    __shared__ float warps[2][WARPS][32];
    u32 c = channel(s), chunk = blockIdx.x / s.blocks, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    u32 first = chunk * s.chunk, end = min(first + s.chunk, s.rows);
    __shared__ float own[2][32];
    share(statistics, s, 0, own[0]);
    share(statistics + s.channels, s, 1, own[1]);
    __syncthreads();
    float sum = 0.0f, product = 0.0f;
    if (c < s.channels) {
        float mean = own[0][lane], inverse = own[1][lane];
        for (u32 start = first; start < end; start += TILE) {
            float value[ROWS], gradient[ROWS];
            for_rows(start, end, [&](u32 row, int i) {
                value[i] = to_float(x[(u64)row * s.channels + c]);
                gradient[i] = to_float(dy[(u64)row * s.channels + c]);
            });
            for_rows(start, end, [&](u32, int i) {
                sum += gradient[i];
                product += gradient[i] * ((value[i] - mean) * inverse);
            });
        }
    }
    warps[0][warp][lane] = sum;
    warps[1][warp][lane] = product;
    __syncthreads();
    if (warp != 0 || c >= s.channels) return;
    for (int i = 1; i < WARPS; i++) sum += warps[0][i][lane], product += warps[1][i][lane];
    partial[(u64)chunk * 2 * s.channels + c] = sum;
    partial[((u64)chunk * 2 + 1) * s.channels + c] = product;
}

// Combines the chunks: dw and db (or adds to them), and factors (2, C) = db/rows and dw/rows/√(σ²+ε).
KERNEL void __launch_bounds__(256) batchnorm_gradients(const float* partial, const float* statistics, u32 accumulate,
                                                       float* dw, float* db, float* factors, BatchNorm s) {
    begin_kernel();
    __shared__ float warps[2][WARPS][32];
    u32 c = channel(s), warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    float sum = 0.0f, product = 0.0f;
    if (c < s.channels) {
        for (u32 chunk = warp; chunk < s.chunks; chunk += WARPS) {
            const float* from = partial + (u64)chunk * 2 * s.channels + c;
            sum += from[0], product += from[s.channels];
        }
    }
    warps[0][warp][lane] = sum;
    warps[1][warp][lane] = product;
    __syncthreads();
    if (warp != 0 || c >= s.channels) return;
    for (int i = 1; i < WARPS; i++) sum += warps[0][i][lane], product += warps[1][i][lane];
    factors[c] = sum / (float)s.rows;
    factors[s.channels + c] = statistics[s.channels + c] * (product / (float)s.rows);
    db[c] = accumulate ? db[c] + sum : sum;
    dw[c] = accumulate ? dw[c] + product : product;
}

KERNEL void __launch_bounds__(256) batchnorm_backward(const T* x, const T* dy, const float* w, const float* statistics,
                                                      const float* factors, T* dx, BatchNorm s) {
    begin_kernel();
    __shared__ float own[5][32];
    share(w, s, 0, own[0]);
    share(statistics, s, 1, own[1]);
    share(statistics + s.channels, s, 2, own[2]);
    share(factors, s, 3, own[3]);
    share(factors + s.channels, s, 4, own[4]);
    __syncthreads();
    u32 c = channel(s), start = blockIdx.x / s.blocks * TILE, lane = threadIdx.x % 32;
    if (c >= s.channels) return;
    float mean = own[1][lane], scale = own[0][lane] * own[2][lane], average = own[3][lane], slope = own[4][lane];
    float value[ROWS], gradient[ROWS];
    for_rows(start, s.rows, [&](u32 row, int i) {
        value[i] = to_float(x[(u64)row * s.channels + c]);
        gradient[i] = to_float(dy[(u64)row * s.channels + c]);
    });
    for_rows(start, s.rows, [&](u32 row, int i) {
        float out = scale * (gradient[i] - average - (value[i] - mean) * slope);
        dx[(u64)row * s.channels + c] = from_float<T>(out);
    });
}

KERNEL void __launch_bounds__(256)
    batchnorm_inference_backward(const T* dy, const float* w, const float* variance, T* dx, BatchNorm s) {
    begin_kernel();
    __shared__ float own[2][32];
    share(w, s, 0, own[0]);
    share(variance, s, 1, own[1]);
    __syncthreads();
    u32 c = channel(s), start = blockIdx.x / s.blocks * TILE, lane = threadIdx.x % 32;
    if (c >= s.channels) return;
    float scale = own[0][lane] / sqrtf(own[1][lane] + s.epsilon);
    float gradient[ROWS];
    for_rows(start, s.rows, [&](u32 row, int i) { gradient[i] = to_float(dy[(u64)row * s.channels + c]); });
    for_rows(start, s.rows,
             [&](u32 row, int i) { dx[(u64)row * s.channels + c] = from_float<T>(gradient[i] * scale); });
}
