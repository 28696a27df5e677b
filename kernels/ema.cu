// ema: exponential moving average of all weights in one launch, after an update.
//   e += rate·(w − e), which is decay·e + (1 − decay)·w for rate = 1 − decay;  copy = e in T
//
// In this form an e equal to w does not change, although the rounded decay and 1 − decay may not add up to 1. A table in the
// kernel's arguments holds each parameter's addresses, as in sgd.cu: chunks of CHUNK elements, one block each. w (the master
// weights) and e are float; the copy, which the tensor cores read when the average is evaluated, is T (null if T is float).
// Minimum memory traffic in bytes per weight: 12 (w, e read; e written), and the copy.
#include "prelude.cuh"

#define ENTRIES 64
#define CHUNK 4096

struct Entry {
    float* e;
    const float* w;
    T* copy;
    u32 len;
    u32 first_block;
};
struct Table {
    Entry entries[ENTRIES];
};

KERNEL void __launch_bounds__(256) ema(const __grid_constant__ Table table, u32 entries, float rate) {
    u32 entry = entries - 1;
    while (entry > 0 && table.entries[entry].first_block > blockIdx.x) entry--;
    float* e = table.entries[entry].e;
    const float* w = table.entries[entry].w;
    T* copy = table.entries[entry].copy;
    u32 start = (blockIdx.x - table.entries[entry].first_block) * CHUNK, len = table.entries[entry].len;
#pragma unroll
    for (u32 part = 0; part < CHUNK; part += 1024) {
        u32 i = start + part + threadIdx.x * 4;
        if (i + 4 <= len) {
            float4x average = load4(e + i), weight = load4(w + i);
            for (int j = 0; j < 4; j++) average.v[j] += rate * (weight.v[j] - average.v[j]);
            store4(e + i, average);
            if (copy != nullptr) store4(copy + i, average);
        } else {
            for (; i < len; i++) {
                e[i] += rate * (w[i] - e[i]);
                if (copy != nullptr) copy[i] = from_float<T>(e[i]);
            }
        }
    }
}
