// lrn: local response normalisation across channels, as in torch.nn.LocalResponseNorm.
//   forward   y[c] = x[c] · s[c]^−β,   s[c] = k + α/size · Σ x[i]² over i from c − size/2 to c + (size−1)/2
//   backward  dx[c] = dy[c]·s[c]^−β − 2αβ/size · x[c] · Σ dy[i]·x[i]·s[i]^(−β−1) over the i whose window contains c,
//             which are c − (size−1)/2 to c + size/2
//
// x, y, dy, dx are (pixels, C). A block loads TILE consecutive elements, of any pixels, and a halo as wide as the windows reach
// into shared memory: each element is loaded once, and a window stays in its pixel because it is clipped to the channels.
// Thread t computes the elements t, t + 256, …: adjacent lanes read adjacent words. The halo before the tile begins with a
// whole sector, so that the tile does too. Minimum memory traffic: forward x + y, backward x + dy + dx.
#include "prelude.cuh"

#define TILE 1024

struct Lrn {
    u64 len;
    u32 channels;
    u32 before, after;  // reach of a window: size/2 and (size−1)/2, at most C − 1
    float alpha;        // α / size
    float beta, k;
    float factor;       // 2αβ / size
};

// Elements to load for a halo of `reach`, rounded up to whole sectors.
DEVICE u32 whole(u32 reach) { return (reach + 15) & ~15u; }

// Σ f(j) over the j from −before to after for which c + j is a channel. All lanes are at the same j.
template <typename F> DEVICE float window_sum(u32 before, u32 after, u32 c, u32 channels, F f) {
    float sum = 0.0f;
    for (int j = -(int)before; j <= (int)after; j++) {
        if (c + j < channels) sum += f(j);
    }
    return sum;
}

// s[c] of the element at `x` of channel c.
DEVICE float scale(const float* x, u32 c, const Lrn& s) {
    return s.k + s.alpha * window_sum(s.before, s.after, c, s.channels, [&](int j) { return x[j] * x[j]; });
}

// Shared memory: x of TILE + whole(before) + whole(after) elements.
KERNEL void __launch_bounds__(256) lrn_forward(const T* x, T* y, Lrn s) {
    begin_kernel();
    extern __shared__ float tile[];
    u32 lead = whole(s.before);
    u64 start = (u64)blockIdx.x * TILE;
    for (u32 i = threadIdx.x; i < lead + TILE + whole(s.after); i += 256) {
        u64 at = start + i - lead;  // before the array's start it wraps to a large number
        tile[i] = at < s.len ? to_float(x[at]) : 0.0f;
    }
    __syncthreads();
    for (u32 i = threadIdx.x; i < TILE && start + i < s.len; i += 256) {
        const float* own = tile + lead + i;
        y[start + i] = from_float<T>(*own * powf(scale(own, (u32)((start + i) % s.channels), s), -s.beta));
    }
}

// Shared memory: x of TILE + 2·whole(before + after) elements, then dy·s^−β and dy·x·s^(−β−1) of TILE + whole(before) +
// whole(after) each.
KERNEL void __launch_bounds__(256) lrn_backward(const T* x, const T* dy, T* dx, Lrn s) {
    begin_kernel();
    extern __shared__ float tile[];
    // The elements whose window contains one of the tile extend `after` before it and `before` after it; their windows extend
    // `before` and `after` further.
    u32 lead = whole(s.before + s.after), lead_dy = whole(s.after), middle = lead_dy + TILE + whole(s.before);
    float* scaled = tile + 2 * lead + TILE;
    float* product = scaled + middle;
    u64 start = (u64)blockIdx.x * TILE;
    for (u32 i = threadIdx.x; i < 2 * lead + TILE; i += 256) {
        u64 at = start + i - lead;
        tile[i] = at < s.len ? to_float(x[at]) : 0.0f;
    }
    __syncthreads();
    for (u32 i = threadIdx.x; i < middle; i += 256) {
        u64 at = start + i - lead_dy;
        if (at < s.len && i + s.after >= lead_dy && i < lead_dy + TILE + s.before) {
            const float* own = tile + lead + i - lead_dy;
            float base = scale(own, (u32)(at % s.channels), s);
            scaled[i] = to_float(dy[at]) * powf(base, -s.beta);
            product[i] = scaled[i] * *own / base;
        }
    }
    __syncthreads();
    for (u32 i = threadIdx.x; i < TILE && start + i < s.len; i += 256) {
        u32 c = (u32)((start + i) % s.channels), at = lead_dy + i;
        float sum = window_sum(s.after, s.before, c, s.channels, [&](int j) { return product[(int)at + j]; });
        dx[start + i] = from_float<T>(scaled[at] - s.factor * tile[lead + i] * sum);
    }
}
