// sgd: one update of all parameters in one launch, as torch.optim.SGD.
//   d = g·unscale + decay·w;  v = momentum·v + d;  w = w − rate·(nesterov ? d + momentum·v : v);  copy = w in T
//
// w (the master weights), g and v are float, a row of a table (table.cuh) for each parameter; the copy, which the tensor cores
// read, is T (null if T is float). The optimizer's settings are in memory, so that a captured step can be replayed with another
// learning rate. With loss scaling the gradients are tested first (sgd_test), and a step with a gradient that is not finite
// changes nothing. Minimum memory traffic in bytes per weight: 20 (w, g, v read; w, v written), and the copy.
#include "prelude.cuh"
#include "table.cuh"

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

DEVICE void update(float& w, float g, float& v, const Optimizer& optimizer, float unscale) {
    float d = g * unscale + optimizer.decay * w;
    v = optimizer.momentum * v + d;
    w -= optimizer.rate * (optimizer.nesterov ? d + optimizer.momentum * v : v);
}

KERNEL void __launch_bounds__(256)
    sgd(const __grid_constant__ Table<Entry> table, u32 entries, const Optimizer* at, const Scaler* scaler) {
    begin_kernel();
    if (scaler->found) return;
    Optimizer optimizer = *at;
    // The scale is a power of two: its reciprocal is exact.
    float unscale = 1.0f / scaler->scale;
    Entry e = own_entry(table, entries);
    if (!e.decays) optimizer.decay = 0.0f;
    optimizer.rate *= e.rate;
    for_chunk(e, [&](auto width, u32 i) {
        constexpr int V = width.value;
        Pack<V> w = load<V>(e.w + i), g = load<V>(e.g + i), v = load<V>(e.v + i);
        for (int j = 0; j < V; j++) update(w.v[j], g.v[j], v.v[j], optimizer, unscale);
        store<V>(e.w + i, w);
        store<V>(e.v + i, v);
        if (e.copy != nullptr) store<V>(e.copy + i, w);
    });
}

// found = 1 if a gradient is infinite or NaN. All threads write the same integer, so their order does not matter.
KERNEL void __launch_bounds__(256) sgd_test(const __grid_constant__ Table<Entry> table, u32 entries, Scaler* scaler) {
    begin_kernel();
    Entry e = own_entry(table, entries);
    bool finite = true;
    for_chunk(e, [&](auto width, u32 i) {
        constexpr int V = width.value;
        Pack<V> g = load<V>(e.g + i);
        // x − x is NaN for an infinity or a NaN, otherwise 0.
        for (int j = 0; j < V; j++) finite &= g.v[j] - g.v[j] == 0.0f;
    });
    if (!finite) atomicOr(&scaler->found, 1);
}

// Sets the scale for the next step: ×2 after `interval` good steps, ×½ after a bad one, at least 1.
KERNEL void sgd_rescale(Scaler* scaler, u32 interval) {
    begin_kernel();
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
