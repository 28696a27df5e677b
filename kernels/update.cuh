// The update of a weight, as torch.optim.SGD: by a gradient in memory (sgd.cu), by the sum of those of several ranks (exchange.cu), or
// where a product computes it (gemm.cu).
//   d = g·unscale + decay·w;  v = momentum·v + d;  w = w − rate·(nesterov ? d + momentum·v : v);  copy = w in T
//
// w (the master weight), g and v are float; the copy, which the tensor cores read, is T (null if T is float).
#pragma once

// The optimizer's settings, in memory, so that a captured step can be replayed with another learning rate.
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

// The constants of one parameter's update.
struct Sgd {
    float rate, momentum, decay, unscale;
    u32 nesterov;

    Sgd() = default;
    // decays: 0 for no weight decay, as for biases; factor: of the learning rate.
    DEVICE Sgd(const Optimizer& optimizer, const Scaler& scaler, u32 decays, float factor)
        : rate(optimizer.rate * factor), momentum(optimizer.momentum), decay(decays ? optimizer.decay : 0.0f),
          unscale(1.0f / scaler.scale),  // The scale is a power of two: its reciprocal is exact.
          nesterov(optimizer.nesterov) {}
    DEVICE void update(float& w, float g, float& v) const {
        float d = g * unscale + decay * w;
        v = momentum * v + d;
        w -= rate * (nesterov ? d + momentum * v : v);
    }
};

// A row of a table (table.cuh): a parameter, or a slice of one, with its gradient.
struct Entry {
    float *w, *g, *v;
    T* copy;
    const float* parts;  // what other ranks have of the gradient, see exchange.cu
    u32 len;
    u32 first_block;
    u32 decays;
    float factor;
};

// Updates V elements from the i-th on by their gradient.
template <int V> DEVICE void update(const Entry& e, const Sgd& sgd, u32 i, const Pack<V>& g) {
    Pack<V> w = load<V>(e.w + i), v = load<V>(e.v + i);
    for (int j = 0; j < V; j++) sgd.update(w.v[j], g.v[j], v.v[j]);
    store<V>(e.w + i, w);
    store<V>(e.v + i, v);
    if (e.copy != nullptr) store<V>(e.copy + i, w);
}

// A parameter that a product updates by the gradient it computes.
struct Updated {
    float *w, *v;
    T* copy;
    u32 decays;
    float factor;
};
struct Update {
    const Optimizer* optimizer;  // null: gradients are stored
    const Scaler* scaler;
    Updated weight, bias;

    // Whether the step is skipped.
    DEVICE bool skips() const { return optimizer != nullptr && scaler->found; }
};
