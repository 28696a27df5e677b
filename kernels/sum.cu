// sum: y = y + x for many pairs of arrays in one launch: the gradients of two shards of a step.
//
// x and y are float in all precisions, a row of a table (table.cuh) for each pair. Minimum memory traffic in bytes per element:
// 12 (x, y read; y written).
#include "prelude.cuh"
#include "table.cuh"

struct Entry {
    float* y;
    const float* x;
    u32 len;
    u32 first_block;
};

KERNEL void __launch_bounds__(256) sum(const __grid_constant__ Table<Entry> table, u32 entries) {
    begin_kernel();
    Entry own = own_entry(table, entries);
    for_chunk(own, [&](auto width, u32 i) {
        constexpr int V = width.value;
        Pack<V> y = load<V>(own.y + i), x = load<V>(own.x + i);
        for (int j = 0; j < V; j++) y.v[j] += x.v[j];
        store<V>(own.y + i, y);
    });
}
