// dropout, inverted: x[i] = x[i] · (u(i) < rate ? 0 : 1/(1 − rate)), in place; the backward pass is the same on dy.
//
// u(i) is the uniform random number of element e = offset + i of the stream (seed, purpose, step): word e mod 4 of Philox
// block ⌊e/4⌋. The mask is a pure function of these, so it is not stored, and all devices compute the same one. A thread
// processes four consecutive elements; their words are one block if offset is a multiple of 4, otherwise parts of two.
// `step` is in memory, so that a captured step can be replayed with the next one. Minimum memory traffic in bytes:
// 2·len·sizeof(T).
#include "prelude.cuh"

KERNEL void __launch_bounds__(256)
    dropout(T* x, u32 len, float rate, float scale, u64 seed, u32 purpose, const u32* step, u64 offset) {
    begin_kernel();
    u32 first = (blockIdx.x * 256 + threadIdx.x) * 4;
    if (first >= len) return;
    u64 block = (offset + first) / 4;
    u32 shift = (u32)(offset % 4);
    uint4 low = philox_block(seed, purpose, *step, block);
    u32 words[4] = {low.x, low.y, low.z, low.w};
    if (shift != 0) {
        uint4 high = philox_block(seed, purpose, *step, block + 1);
        words[0] = shift == 1 ? low.y : shift == 2 ? low.z : low.w;
        words[1] = shift == 1 ? low.z : shift == 2 ? low.w : high.x;
        words[2] = shift == 1 ? low.w : shift == 2 ? high.x : high.y;
        words[3] = shift == 1 ? high.x : shift == 2 ? high.y : high.z;
    }
    map4(x, len, [&](float& value, u32 i) {
        // Selects between registers: an indexed array would be in local memory.
        u32 j = i - first, word = j == 0 ? words[0] : j == 1 ? words[1] : j == 2 ? words[2] : words[3];
        value *= uniform(word) < rate ? 0.0f : scale;
    });
}
