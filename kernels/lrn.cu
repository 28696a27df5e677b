// lrn: local response normalisation across channels, as torch.nn.LocalResponseNorm.
//   forward   y[c] = x[c] · s[c]^−β,   s[c] = k + α/size · Σ x[i]² over i from c − size/2 to c + (size−1)/2
//   backward  dx[c] = dy[c]·s[c]^−β − 2αβ/size · x[c] · Σ dy[i]·x[i]·s[i]^(−β−1) over the i whose window holds c,
//             which are c − (size−1)/2 to c + size/2
//
// x, y, dy, dx are (pixels, C). A block takes TILE consecutive elements, whatever pixels they belong to, with as many
// before and after as the windows reach, into shared memory: each element is loaded once and a window never leaves its
// pixel because it is clipped to the pixel's channels. Thread t works on the elements t, t + 256, …: neighbouring lanes
// read neighbouring words. Bytes at least: forward x + y, backward x + dy + dx.
#include "prelude.cuh"

#define TILE 1024

struct Lrn {
    u64 len;
    u32 channels;
    u32 before, after;  // reach of a window: size/2 and (size−1)/2, no more than C − 1
    float alpha;        // α / size
    float beta, k;
    float factor;       // 2αβ / size
};

// s[c] of the element at `i` of the tile's array; c its channel.
DEVICE float scale(const float* x, int i, u32 c, const Lrn& s) {
    int first = -(int)min(s.before, c), last = (int)min(s.after, s.channels - 1 - c);
    float squares = 0.0f;
    for (int j = first; j <= last; j++) squares += x[i + j] * x[i + j];
    return s.k + s.alpha * squares;
}

// Shared: x of TILE + before + after elements.
KERNEL void __launch_bounds__(256) lrn_forward(const T* x, T* y, Lrn s) {
    extern __shared__ float tile[];
    u64 start = (u64)blockIdx.x * TILE;
    for (u32 i = threadIdx.x; i < TILE + s.before + s.after; i += 256) {
        u64 at = start + i - s.before;  // before the array's start it wraps to something large
        tile[i] = at < s.len ? to_float(x[at]) : 0.0f;
    }
    __syncthreads();
    for (u32 i = threadIdx.x; i < TILE && start + i < s.len; i += 256) {
        u32 c = (u32)((start + i) % s.channels), at = i + s.before;
        y[start + i] = from_float<T>(tile[at] * powf(scale(tile, at, c, s), -s.beta));
    }
}

// Shared: x of TILE + 2·(before + after) elements, then dy·x·s^(−β−1) of TILE + before + after.
KERNEL void __launch_bounds__(256) lrn_backward(const T* x, const T* dy, T* dx, Lrn s) {
    extern __shared__ float tile[];
    // The elements whose window holds one of the tile's reach `after` before it and `before` after it.
    u32 reach = s.before + s.after, middle = TILE + reach;
    float* product = tile + middle + reach;
    u64 start = (u64)blockIdx.x * TILE;
    for (u32 i = threadIdx.x; i < middle + reach; i += 256) {
        u64 at = start + i - reach;
        tile[i] = at < s.len ? to_float(x[at]) : 0.0f;
    }
    __syncthreads();
    for (u32 i = threadIdx.x; i < middle; i += 256) {
        u64 at = start + i - s.after;
        if (at < s.len) {
            u32 in_tile = i + s.before;
            float base = scale(tile, in_tile, (u32)(at % s.channels), s);
            product[i] = to_float(dy[at]) * tile[in_tile] * powf(base, -s.beta - 1.0f);
        }
    }
    __syncthreads();
    for (u32 i = threadIdx.x; i < TILE && start + i < s.len; i += 256) {
        u32 c = (u32)((start + i) % s.channels), at = i + reach;
        int first = -(int)min(s.after, c), last = (int)min(s.before, s.channels - 1 - c);
        float sum = 0.0f;
        for (int j = first; j <= last; j++) sum += product[(int)(i + s.after) + j];
        float own = to_float(dy[start + i]) * powf(scale(tile, at, c, s), -s.beta);
        dx[start + i] = from_float<T>(own - s.factor * tile[at] * sum);
    }
}
