// sgd: one update of all parameters in one launch, see update.cuh for the formula.
//
// w, g and v are float, a row of a table (table.cuh) for each parameter. With loss scaling the gradients, or the operands of the
// products that compute them, are tested first (sgd_test), and a step with a gradient that is not finite changes nothing.
// Minimum memory traffic in bytes per weight: 20 (w, g, v read; w, v written), and the copy.
#include "prelude.cuh"
#include "table.cuh"
#include "update.cuh"

KERNEL void __launch_bounds__(256)
    sgd(const __grid_constant__ Table<Entry> table, u32 entries, const Optimizer* optimizer, const Scaler* scaler) {
    begin_kernel();
    if (scaler->found) return;
    Entry e = own_entry(table, entries);
    Sgd own(*optimizer, *scaler, e.decays, e.factor);
    for_chunk(e, [&](auto width, u32 i) {
        constexpr int V = width.value;
        update<V>(e, own, i, load<V>(e.g + i));
    });
}

// What is tested: a gradient, or an operand of the product that computes it.
struct Tested {
    const void* p;
    u32 len;
    u32 first_block;
    u64 stored;  // 1: of T, 0: of float
};

template <typename From> DEVICE bool finite(const Tested& e, const From* p) {
    bool finite = true;
    for_chunk(e, [&](auto width, u32 i) {
        constexpr int V = width.value;
        Pack<V> x = load<V>(p + i);
        // x − x is NaN for an infinity or a NaN, otherwise 0.
        for (int j = 0; j < V; j++) finite &= x.v[j] - x.v[j] == 0.0f;
    });
    return finite;
}

// found = 1 if an element is infinite or NaN. All threads write the same integer, so their order does not matter.
//
// A weight's gradient dyᵀ·x in half precision is finite exactly if dy and x are: a sum of fewer than 2³¹ products, each of at most
// 65504² < 2³², is less than 2⁶³; and an infinity or a NaN in dy or x is a factor of some product, which is not finite either (0·∞
// is NaN), and so is each sum with it.
KERNEL void __launch_bounds__(256) sgd_test(const __grid_constant__ Table<Tested> table, u32 entries, Scaler* scaler) {
    begin_kernel();
    Tested e = own_entry(table, entries);
    if (!(e.stored ? finite(e, (const T*)e.p) : finite(e, (const float*)e.p))) atomicOr(&scaler->found, 1);
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
