// sgd: one update of all parameters in one launch, as torch.optim.SGD.
//   d = g·unscale + decay·w;  v = momentum·v + d;  w = w − rate·(nesterov ? d + momentum·v : v);  copy = w in T
//
// A table in the kernel's arguments holds each parameter's addresses. Its elements are split into chunks of CHUNK, one block
// each; a block finds its parameter by the index of the parameter's first block. w (the master weights), g and v are float;
// the copy, which the tensor cores read, is T (null if T is float). The optimizer's settings are in memory, so that a captured
// step can be replayed with another learning rate. With loss scaling the gradients are tested first (sgd_test), and a step
// with a gradient that is not finite changes nothing. Minimum memory traffic in bytes per weight: 20 (w, g, v read; w, v
// written), and the copy.
#include "prelude.cuh"

#define ENTRIES 64
#define CHUNK 4096

struct Entry {
    float* w;
    const float* g;
    float* v;
    T* copy;
    u32 len;
    u32 first_block;
    u32 decays;  // 0: no weight decay, as for biases
    float rate;  // factor of the learning rate
};
struct Table {
    Entry entries[ENTRIES];
};
struct Optimizer {
    float rate, momentum, decay;
    u32 nesterov;
};
// State of dynamic loss scaling, as in torch.amp.GradScaler.
struct Scaler {
    float scale;
    u32 good_steps;  // since the scale last changed
    u32 found;       // 1 if a gradient of this step is not finite
    u32 skipped;     // number of skipped steps
};

DEVICE const Entry& find(const Table& table, u32 entries, u32 block) {
    u32 i = entries - 1;
    while (i > 0 && table.entries[i].first_block > block) i--;
    return table.entries[i];
}

DEVICE void update(float& w, float g, float& v, const Optimizer& optimizer, float unscale) {
    float d = g * unscale + optimizer.decay * w;
    v = optimizer.momentum * v + d;
    w -= optimizer.rate * (optimizer.nesterov ? d + optimizer.momentum * v : v);
}

KERNEL void __launch_bounds__(256) sgd(const __grid_constant__ Table table, u32 entries, const Optimizer* at, const Scaler* scaler) {
    if (scaler->found) return;
    Optimizer optimizer = *at;
    // The scale is a power of two: its reciprocal is exact.
    float unscale = 1.0f / scaler->scale;
    const Entry& e = find(table, entries, blockIdx.x);
    if (!e.decays) optimizer.decay = 0.0f;
    optimizer.rate *= e.rate;
    float *w = e.w, *v = e.v;
    const float* g = e.g;
    T* copy = e.copy;
    u32 start = (blockIdx.x - e.first_block) * CHUNK, len = e.len;
#pragma unroll
    for (u32 part = 0; part < CHUNK; part += 1024) {
        u32 i = start + part + threadIdx.x * 4;
        if (i + 4 <= len) {
            float4x weight = load4(w + i), gradient = load4(g + i), momentum = load4(v + i);
            for (int j = 0; j < 4; j++) update(weight.v[j], gradient.v[j], momentum.v[j], optimizer, unscale);
            store4(w + i, weight);
            store4(v + i, momentum);
            if (copy != nullptr) store4(copy + i, weight);
        } else {
            for (; i < len; i++) {
                update(w[i], g[i], v[i], optimizer, unscale);
                if (copy != nullptr) copy[i] = from_float<T>(w[i]);
            }
        }
    }
}

// found = 1 if a gradient is infinite or NaN. All threads write the same integer, so their order does not matter.
KERNEL void __launch_bounds__(256) sgd_test(const __grid_constant__ Table table, u32 entries, Scaler* scaler) {
    const Entry& e = find(table, entries, blockIdx.x);
    const float* g = e.g;
    u32 start = (blockIdx.x - e.first_block) * CHUNK, len = e.len;
    bool finite = true;
#pragma unroll
    for (u32 part = 0; part < CHUNK; part += 1024) {
        u32 i = start + part + threadIdx.x * 4;
        if (i + 4 <= len) {
            float4x gradient = load4(g + i);
            // x − x is NaN for an infinity or a NaN, otherwise 0.
            for (int j = 0; j < 4; j++) finite &= gradient.v[j] - gradient.v[j] == 0.0f;
        } else {
            for (; i < len; i++) finite &= g[i] - g[i] == 0.0f;
        }
    }
    if (!finite) atomicOr(&scaler->found, 1);
}

// Sets the scale for the next step: ×2 after `interval` good steps, ×½ after a bad one, at least 1.
KERNEL void sgd_rescale(Scaler* scaler, u32 interval) {
    if (scaler->found) {
        scaler->scale = fmaxf(scaler->scale * 0.5f, 1.0f);
        scaler->good_steps = 0;
        scaler->skipped++;
        scaler->found = 0;
    } else if (++scaler->good_steps == interval) {
        // Bounded, or repeated doubling would make it infinite.
        if (scaler->scale < 1e38f) scaler->scale *= 2.0f;
        scaler->good_steps = 0;
    }
}
