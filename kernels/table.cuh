// Tables of arrays in a kernel's arguments, as table.rs fills them: one launch for up to ENTRIES arrays, one block of 256 threads
// per CHUNK elements.
#pragma once

constexpr u32 ENTRIES = 64, CHUNK = 4096;

// `Entry` has the fields len and first_block: the array's elements, and the index of its first block.
template <typename Entry> struct Table { Entry entries[ENTRIES]; };

// The row of this block's array.
template <typename Entry> DEVICE const Entry& own_entry(const Table<Entry>& table, u32 entries) {
    u32 i = entries - 1;
    while (i > 0 && table.entries[i].first_block > blockIdx.x) i--;
    return table.entries[i];
}

// Calls f as for_pack does, for all elements of this block's chunk.
template <typename Entry, typename F> DEVICE void for_chunk(const Entry& e, F f) {
    u32 start = (blockIdx.x - e.first_block) * CHUNK + threadIdx.x * 4, len = e.len;
#pragma unroll
    for (u32 part = 0; part < CHUNK; part += 1024) for_pack(start + part, len, f);
}
