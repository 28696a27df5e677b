// exchange: the update of this rank's slice of every parameter, by the sum of its gradient over the ranks.
//
// Each rank has its own part of the gradient g, the sum over its images. It receives from the others what they have of its
// slice, and adds the N parts in a fixed order: the binary tree over the ranks' numbers, 0 + 1, 2 + 3, …, then (0 + 1) + (2 + 3).
// A rank without images in this step is left out. So the sum has the same bits whatever moved the bytes.
//
// A row of a table (table.cuh) is a slice of a parameter: w, g, v, copy as in sgd.cu, and the parts of the others one after
// another in the order of the ranks, each aligned to 16 bytes. Minimum memory traffic in bytes per weight of the slice: 4·N (the
// parts read), 16 (w, v read and written), and the copy. With loss scaling the sum is stored and tested (4 written), and sgd.cu
// updates by it (4 read).
#include "prelude.cuh"
#include "table.cuh"
#include "update.cuh"

// At most 2^LEVELS ranks; up to FEW have kernels of their own.
constexpr u32 LEVELS = 8, FEW = 8;

struct Ranks {
    u32 own, count;
    u32 present[(1 << LEVELS) / 32];  // a bit for each rank: whether it has images in this step
};

DEVICE bool is_present(const Ranks& ranks, u32 rank) {
    return rank < ranks.count && (ranks.present[rank / 32] >> (rank % 32) & 1);
}
DEVICE const float* part_of(const Entry& e, const Ranks& ranks, u32 rank) {
    size_t stride = (e.len + 3) / 4 * 4;
    return rank == ranks.own ? e.g : e.parts + (rank - (rank > ranks.own)) * stride;
}

// x += y, where both are there; `some` and `more` say it.
template <int V> DEVICE void join(Pack<V>& x, bool& some, const Pack<V>& y, bool more) {
    if (some && more) {
        for (int j = 0; j < V; j++) x.v[j] += y.v[j];
    } else if (more) {
        x = y;
        some = true;
    }
}

// The sum of V elements over few ranks: all loads at once, then the tree.
template <int V> DEVICE Pack<V> sum_of_few(const Entry& e, const Ranks& ranks, u32 i) {
    Pack<V> x[FEW];
    bool some[FEW];
#pragma unroll
    for (u32 rank = 0; rank < FEW; rank++) {
        some[rank] = is_present(ranks, rank);
        if (some[rank]) x[rank] = load<V>(part_of(e, ranks, rank) + i);
    }
#pragma unroll
    for (u32 half = 1; half < FEW; half *= 2) {
#pragma unroll
        for (u32 rank = 0; rank < FEW; rank += 2 * half) join(x[rank], some[rank], x[rank + half], some[rank + half]);
    }
    return x[0];
}

// The sums of the subtrees whose right half is not added yet, one per level. A structure in a structure, not an array, so that all
// of it is in registers.
template <int V, u32 LEVEL> struct Stack {
    Pack<V> left;
    bool some;  // whether a rank of that subtree is present
    Stack<V, LEVEL - 1> rest;

    // Adds x, the sum of the subtree with this number on its level: carries as number + 1 does.
    DEVICE void add(u32 number, Pack<V>& x, bool present) {
        if (number & 1) {
            join(left, some, x, present);
            x = left;
            rest.add(number >> 1, x, some);
        } else {
            left = x;
            some = present;
        }
    }
};
template <int V> struct Stack<V, 0> {
    DEVICE void add(u32, Pack<V>&, bool) {}
};

// The same over many ranks: that of the last rank's subtree, which is the whole.
template <int V> DEVICE Pack<V> sum_of_many(const Entry& e, const Ranks& ranks, u32 i) {
    Stack<V, LEVELS> stack;
    Pack<V> x = {};
    for (u32 rank = 0; rank < ranks.count; rank++) {
        bool present = is_present(ranks, rank);
        if (present) x = load<V>(part_of(e, ranks, rank) + i);
        stack.add(rank, x, present);
    }
    return x;
}

template <bool MANY, int V> DEVICE Pack<V> tree_sum(const Entry& e, const Ranks& ranks, u32 i) {
    if constexpr (MANY) return sum_of_many<V>(e, ranks, i);
    else return sum_of_few<V>(e, ranks, i);
}

template <bool MANY>
DEVICE void add_and_update(const Table<Entry>& table, u32 entries, const Ranks& ranks, const Optimizer* optimizer,
                           const Scaler* scaler) {
    Entry e = own_entry(table, entries);
    Sgd own(*optimizer, *scaler, e.decays, e.factor);
    for_chunk(e, [&](auto width, u32 i) {
        constexpr int V = width.value;
        update<V>(e, own, i, tree_sum<MANY, V>(e, ranks, i));
    });
}

// Adds and updates.
KERNEL void __launch_bounds__(256)
    exchange_update(const __grid_constant__ Table<Entry> table, u32 entries, const __grid_constant__ Ranks ranks,
                    const Optimizer* optimizer, const Scaler* scaler) {
    begin_kernel();
    add_and_update<false>(table, entries, ranks, optimizer, scaler);
}
KERNEL void __launch_bounds__(256)
    exchange_update_many(const __grid_constant__ Table<Entry> table, u32 entries, const __grid_constant__ Ranks ranks,
                         const Optimizer* optimizer, const Scaler* scaler) {
    begin_kernel();
    add_and_update<true>(table, entries, ranks, optimizer, scaler);
}

template <bool MANY>
DEVICE void add_and_test(const Table<Entry>& table, u32 entries, const Ranks& ranks, u32* found) {
    Entry e = own_entry(table, entries);
    bool finite = true;
    for_chunk(e, [&](auto width, u32 i) {
        constexpr int V = width.value;
        Pack<V> x = tree_sum<MANY, V>(e, ranks, i);
        for (int j = 0; j < V; j++) finite &= x.v[j] - x.v[j] == 0.0f;
        store<V>(e.g + i, x);
    });
    if (!finite) atomicOr(found, 1);
}

// Adds: the sum replaces this rank's part, for sgd in sgd.cu. *found = 1 if an element is infinite or NaN, as sgd_test in sgd.cu.
KERNEL void __launch_bounds__(256)
    exchange_sum(const __grid_constant__ Table<Entry> table, u32 entries, const __grid_constant__ Ranks ranks, u32* found) {
    begin_kernel();
    add_and_test<false>(table, entries, ranks, found);
}
KERNEL void __launch_bounds__(256)
    exchange_sum_many(const __grid_constant__ Table<Entry> table, u32 entries, const __grid_constant__ Ranks ranks,
                      u32* found) {
    begin_kernel();
    add_and_test<true>(table, entries, ranks, found);
}

// Whether any rank found such an element; the ranks' words are zero afterwards.
KERNEL void exchange_found(u32* found, u32 ranks, Scaler* scaler) {
    begin_kernel();
    u32 any = 0;
    for (u32 rank = 0; rank < ranks; rank++) {
        any |= found[rank];
        found[rank] = 0;
    }
    if (any) scaler->found = 1;
}

struct Copied {
    const float* w;
    T* copy;
    u32 len;
    u32 first_block;
};

// Renews the copies of weights that other ranks have updated.
KERNEL void __launch_bounds__(256) exchange_copy(const __grid_constant__ Table<Copied> table, u32 entries) {
    begin_kernel();
    Copied e = own_entry(table, entries);
    for_chunk(e, [&](auto width, u32 i) {
        constexpr int V = width.value;
        store<V>(e.copy + i, load<V>(e.w + i));
    });
}
