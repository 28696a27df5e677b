// softmax_cross_entropy: loss, correct predictions and gradient of N rows of K logits in one pass.
//   losses[n]  = −Σ target[i] · ln softmax(x[n])[i]
//              = ln Σ exp(x[i] − max) − own·(λ·(x[label] − max) + (1 − λ)·(x[second] − max)) − other·Σ (x[i] − max)
//   correct[n] = 1 if the first of the largest logits is that of the label with the larger share, else 0
//   dx[n,i]    = (softmax[i] − target[i]) / divisor · loss_scale
// where target[i] = other + own·((i = label ? λ : 0) + (i = second ? 1 − λ : 0)), own = 1 − ε and other = ε/K. Without
// second labels λ is 1. λ is in memory, so that a captured step can be replayed with another.
//
// With class weights w (K floats, null: all 1) every target[i] is w[i] times that, and the softmax in dx is multiplied by their
// sum W, as is ln Σ exp in the loss.
//
// logits, dlogits (N, K) of T; labels and second (N); weight, which is λ, one float; losses and correct (N) of float. A block
// processes `rows` rows, at most 32, which it loads as one contiguous run into shared memory; then one warp per row. Labels,
// losses and correct are loaded and stored for all rows at once. If a row is too long for that (`rows` = 0), a block reads one
// row from global memory in each pass. Sums are per lane, then in a tree: always the same order. Minimum memory traffic:
// logits + dlogits.
#include "prelude.cuh"

struct Loss {
    u32 batch, classes, rows;
    float own, other, divisor;
};

// The labels of a row and their shares.
struct Labels {
    u32 first, second;
    float weight, rest;
    u32 heavier;  // the one with the larger share
};

DEVICE Labels labels_of(u32 first, u32 second, float weight) {
    return {first, second, weight, 1.0f - weight, weight >= 0.5f ? first : second};
}

// A share of 0 contributes 0, even if the logit is −∞.
DEVICE float part(float share, float x) { return share == 0.0f ? 0.0f : share * x; }

// One row by one warp; `x` is float in shared memory, or T in global memory. Writes the loss to `loss`, 1 or 0 for a correct
// prediction to `hit`, and dx to `put(i, gradient)`.
template <typename From, typename Put>
DEVICE void row(const From* x, Labels labels, const float* class_weights, float* loss, float* hit, const Loss& s, bool gradient, Put put) {
    u32 lane = threadIdx.x % 32;
    float largest = -INFINITY;
    u32 where = 0xffffffffu;
    for (u32 i = lane; i < s.classes; i += 32) {
        float v = to_float(x[i]);
        if (v > largest) largest = v, where = i;
    }
    for (int offset = 16; offset > 0; offset /= 2) {
        float v = __shfl_xor_sync(0xffffffffu, largest, offset);
        u32 i = __shfl_xor_sync(0xffffffffu, where, offset);
        if (v > largest || (v == largest && i < where)) largest = v, where = i;
    }
    if (where == 0xffffffffu) {
        // All are −∞ or NaN: start with the first, so that a NaN is kept.
        where = 0;
        largest = to_float(x[0]);
    }
    float sum = 0.0f, differences = 0.0f, total = 1.0f;
    if (class_weights == nullptr) {
        for (u32 i = lane; i < s.classes; i += 32) {
            float difference = to_float(x[i]) - largest;
            sum += expf(difference);
            differences += difference;
        }
    } else {
        float weights = 0.0f;
        for (u32 i = lane; i < s.classes; i += 32) {
            float difference = to_float(x[i]) - largest;
            sum += expf(difference);
            differences += part(class_weights[i], difference);
            weights += class_weights[i];
        }
        // A label that is no class adds nothing to the target.
        labels.weight *= labels.first < s.classes ? class_weights[labels.first] : 0.0f;
        labels.rest *= labels.second < s.classes ? class_weights[labels.second] : 0.0f;
        total = s.other * warp_sum(weights) + s.own * (labels.weight + labels.rest);
    }
    sum = warp_sum(sum);
    differences = warp_sum(differences);
    if (lane == 0) {
        auto own = [&](u32 label, float share) {
            return label < s.classes ? part(share, to_float(x[label]) - largest) : 0.0f;
        };
        float both = own(labels.first, labels.weight) + own(labels.second, labels.rest);
        float log_sum = logf(sum);
        if (class_weights != nullptr) log_sum *= total;
        *loss = log_sum - s.own * both - part(s.other, differences);
        *hit = where == labels.heavier ? 1.0f : 0.0f;
    }
    if (!gradient) return;
    // `put` may overwrite x: each lane its own elements, which the others have read before.
    __syncwarp();
    for (u32 i = lane; i < s.classes; i += 32) {
        float share = (i == labels.first ? labels.weight : 0.0f) + (i == labels.second ? labels.rest : 0.0f);
        float softmax = expf(to_float(x[i]) - largest) / sum, even = s.other;
        if (class_weights != nullptr) softmax *= total, even *= class_weights[i];
        float target = even + s.own * share;
        put(i, (softmax - target) / s.divisor);
    }
}

// Shared memory: rows · K floats. A null dlogits means no gradient. loss_scale is one float.
KERNEL void __launch_bounds__(256)
    softmax_cross_entropy(const T* logits, const u32* labels, const u32* second, const float* weight, const float* class_weights, float* losses,
                          float* correct, T* dlogits, const float* loss_scale, Loss s) {
    begin_kernel();
    extern __shared__ float cached[];
    __shared__ u32 own_labels[2][32];
    __shared__ float found[2][32];
    __shared__ float shared_scale, shared_weight;
    if (second == nullptr) second = labels;
    if (threadIdx.x == 0) shared_scale = *loss_scale, shared_weight = weight == nullptr ? 1.0f : *weight;
    if (s.rows == 0) {
        u32 n = blockIdx.x;
        __syncthreads();
        if (threadIdx.x >= 32) return;
        u64 start = (u64)n * s.classes;
        float scale = shared_scale;
        Labels both = labels_of(labels[n], second[n], shared_weight);
        row(logits + start, both, class_weights, losses + n, correct + n, s, dlogits != nullptr,
            [&](u32 i, float gradient) { dlogits[start + i] = from_float<T>(gradient * scale); });
        return;
    }
    u32 n_first = blockIdx.x * s.rows, rows = min(s.rows, s.batch - n_first);
    u64 start = (u64)n_first * s.classes;
    if (threadIdx.x < rows) {
        own_labels[0][threadIdx.x] = labels[n_first + threadIdx.x];
        if (second != labels) own_labels[1][threadIdx.x] = second[n_first + threadIdx.x];
    }
    for (u32 i = threadIdx.x; i < rows * s.classes; i += 256) cached[i] = to_float(logits[start + i]);
    __syncthreads();
    float scale = shared_scale;
    for (u32 r = threadIdx.x / 32; r < rows; r += 8) {
        float* x = cached + r * s.classes;
        u32 label = own_labels[0][r], other = second == labels ? label : own_labels[1][r];
        row(x, labels_of(label, other, shared_weight), class_weights, &found[0][r], &found[1][r], s, dlogits != nullptr,
            [&](u32 i, float gradient) { x[i] = gradient * scale; });
    }
    __syncthreads();
    if (threadIdx.x < rows) {
        losses[n_first + threadIdx.x] = found[0][threadIdx.x];
        correct[n_first + threadIdx.x] = found[1][threadIdx.x];
    }
    if (dlogits == nullptr) return;
    for (u32 i = threadIdx.x; i < rows * s.classes; i += 256) dlogits[start + i] = from_float<T>(cached[i]);
}
