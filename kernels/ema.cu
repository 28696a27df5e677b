// ema: exponential moving average of all weights in one launch, after an update.
//   e += rate·(w − e), which is decay·e + (1 − decay)·w for rate = 1 − decay;  copy = e in T
//
// In this form an e equal to w does not change, although the rounded decay and 1 − decay may not add up to 1. w (the master
// weights) and e are float, a row of a table (table.cuh) for each parameter; the copy, which the tensor cores read when the
// average is evaluated, is T (null if T is float). Minimum memory traffic in bytes per weight: 12 (w, e read; e written), and
// the copy.
#include "prelude.cuh"
#include "table.cuh"

struct Entry {
    float* e;
    const float* w;
    T* copy;
    u32 len;
    u32 first_block;
};

KERNEL void __launch_bounds__(256) ema(const __grid_constant__ Table<Entry> table, u32 entries, float rate) {
    begin_kernel();
    Entry own = own_entry(table, entries);
    for_chunk(own, [&](auto width, u32 i) {
        constexpr int V = width.value;
        Pack<V> e = load<V>(own.e + i), w = load<V>(own.w + i);
        for (int j = 0; j < V; j++) e.v[j] += rate * (w.v[j] - e.v[j]);
        store<V>(own.e + i, e);
        if (own.copy != nullptr) store<V>(own.copy + i, e);
    });
}
