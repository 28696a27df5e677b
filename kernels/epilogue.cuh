// From the sums of a block's tile to stored elements, shared by gemm, conv and winograd: chunks of K are added, then the epilogue is
// applied. Needs tile.cuh.
#pragma once

// ---- Sums that are split along K ------------------------------------------------------------------------------------
//
// Where there are too few tiles to fill the device, the grid's z splits the sum into up to MOST_CHUNKS chunks. Of FAN_IN
// neighbours the block that arrives last adds their partial sums in order, then the last of FAN_IN such blocks, and so on:
// no floating-point atomics, always the same bits, no second launch. A thread writes its sums as packs of four, adjacent
// threads adjacent packs: partial (tiles, chunks, packs, threads, 4), arrivals (tiles, ARRIVALS), of which the first are of FAN_IN
// chunks each, the next of FAN_IN such groups. Cost: 8 bytes per partial sum.

constexpr int FAN_IN = 8, MOST_CHUNKS = 512;
constexpr int ARRIVALS = MOST_CHUNKS / FAN_IN + MOST_CHUNKS / (FAN_IN * FAN_IN) + 1;

struct Split {
    float* partial;
    u32* arrivals;  // zeros between launches
};

// Adds the sums c of all chunks of this block's tile. True in the one block that has the whole sums afterwards.
template <typename Tile, int N> DEVICE bool combine(float (&c)[N], const Split& split) {
    int chunks = gridDim.z;
    if (chunks == 1) return true;
    u32 tile = blockIdx.y * gridDim.x + blockIdx.x;
    constexpr int PACKS = Tile::SUMS / 4;
    u32 row = 4 * blockDim.x;  // Not as a constant: with that the compiler takes the packs apart.
    float* own = split.partial + (size_t)tile * chunks * PACKS * row + threadIdx.x * 4;
    for (int step = 1, chunk = blockIdx.z;; step *= FAN_IN) {
        float* to = own + (size_t)chunk * PACKS * row;
#pragma unroll
        for (int j = 0; j < N; j += 4) store4(to + j / 4 * row, {{c[j], c[j + 1], c[j + 2], c[j + 3]}});
        chunk -= chunk / step % FAN_IN * step;
        int members = min(FAN_IN, (chunks - chunk - 1) / step + 1);
        __syncthreads();
        bool last = false;
        if (threadIdx.x == 0) {
            // The fences and the barriers order all threads' stores before the loads of the last block.
            __threadfence();
            // After the counters of all smaller steps, a geometric sum. After the last block it is 0 again, for the next launch.
            u32* arrived = split.arrivals + tile * ARRIVALS + (MOST_CHUNKS - MOST_CHUNKS / step) / (FAN_IN - 1);
            last = atomicInc(arrived + chunk / (step * FAN_IN), members - 1) == members - 1;
            __threadfence();
        }
        if (!__syncthreads_or(last)) return false;
        constexpr int AT_ONCE = N < 64 ? N : 64;
        // No more than 64 at once, so that registers are left for what is loaded.
#pragma unroll
        for (int begin = 0; begin < N; begin += AT_ONCE) {
            const float* from = own + (size_t)chunk * PACKS * row;
#pragma unroll
            for (int j = 0; j < AT_ONCE; j++) c[begin + j] = 0.0f;
#pragma unroll 1
            for (int i = 0; i < members; i++, from += (size_t)step * PACKS * row) {
#pragma unroll
                for (int j = 0; j < AT_ONCE; j += 4) {
                    float4x next = load4(from + (begin + j) / 4 * row);
#pragma unroll
                    for (int l = 0; l < 4; l++) c[begin + j + l] += next.v[l];
                }
            }
        }
        if (step * FAN_IN >= chunks) return true;
    }
}

// ---- Epilogue -----------------------------------------------------------------------------------------------------

// Applied to a sum before it is stored: + bias, + old value, max(·, 0), dropout, 0 where the mask is ≤ 0, in this order.
struct Epilogue {
    enum : u32 { BIAS = 1, ACCUMULATE = 2, RELU = 4, DROPOUT = 8, MASK = 16 };
    u32 steps;
    u32 purpose;        // dropout's random stream, see random.rs
    float rate, scale;  // drop probability; 1/(1 − rate)
    const u32* step;    // in memory, so that a captured step can be replayed with the next one
    u64 seed, offset;   // element i of the output uses random number offset + i
    const T* mask;      // like the output: what a ReLU put out, whose backward pass this is

    // Dropout factors of four consecutive elements.
    DEVICE void drop(float4x& v, u64 element) const {
        element += offset;
        u32 first = element % 4;
        // One block of four random numbers, or two. Not unrolled, for the compiler's time: a tile has 32 calls of this.
#pragma unroll 1
        for (u32 begin = 0; begin < first + 4; begin += 4) {
            uint4 words = philox_block(seed, purpose, *step, (element + begin) / 4);
#pragma unroll
            for (int j = 0; j < 4; j++) {
                u32 i = first + j - begin;
                u32 low = i & 1 ? words.y : words.x, high = i & 1 ? words.w : words.z;
                if (i < 4) v.v[j] *= uniform(i & 2 ? high : low) < rate ? 0.0f : scale;
            }
        }
    }
};

// Destination of a tile: y (rows, ld) through the epilogue. The tile's columns count from `first`. DROPOUT: whether the
// epilogue may apply dropout; only for fully connected layers, to keep the other tiles' code small.
template <typename To, bool DROPOUT = false> struct Output {
    To* y;
    const float* bias;
    const Epilogue& epilogue;
    int rows, columns, first, ld;

    // The biases of four columns, for `store`.
    DEVICE float4x constants(int column) const {
        if (!(epilogue.steps & Epilogue::BIAS)) return {};
        return get(bias + first + column, columns - column);
    }
    // v = the sums at (row, column..column + 4).
    DEVICE void store(int row, int column, float4x v, const float4x& bias) const {
        if (row >= rows || column >= columns) return;
        int count = columns - column;
        size_t at = (size_t)row * ld + first + column;
        float4x old = {}, mask = {};
        if (epilogue.steps & Epilogue::ACCUMULATE) old = get(y + at, count);
        if (epilogue.steps & Epilogue::MASK) mask = get(epilogue.mask + at, count);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            if (epilogue.steps & Epilogue::BIAS) v.v[j] += bias.v[j];
            if (epilogue.steps & Epilogue::ACCUMULATE) v.v[j] += old.v[j];
            if (epilogue.steps & Epilogue::RELU) v.v[j] = v.v[j] < 0.0f ? 0.0f : v.v[j];
        }
        if (DROPOUT && epilogue.steps & Epilogue::DROPOUT) epilogue.drop(v, at);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            if (epilogue.steps & Epilogue::MASK) v.v[j] = mask.v[j] <= 0.0f ? 0.0f : v.v[j];
        }
        put(y + at, v, count);
    }

    // The first `count` of four adjacent elements: one access if there are four, aligned as a pack.
    template <typename P> DEVICE static float4x get(const P* p, int count) {
        float4x v = {};
        if (count >= 4 && (size_t)p % (4 * sizeof(P)) == 0) return load4(p);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            if (j < count) v.v[j] = to_float(p[j]);
        }
        return v;
    }
    template <typename P> DEVICE static void put(P* p, float4x v, int count) {
        if (count >= 4 && (size_t)p % (4 * sizeof(P)) == 0) {
            store4(p, v);
        } else {
#pragma unroll
            for (int j = 0; j < 4; j++) {
                if (j < count) p[j] = from_float<P>(v.v[j]);
            }
        }
    }
};

// ---- Gradient of a bias ---------------------------------------------------------------------------------------------
//
// The product that is a weight's gradient reads dy as A (K, M), summed over K. Blocks of the same launch, in one more column of
// the grid, sum dy alone: db (M) through the epilogue, chunk by chunk as the other blocks.

// A warp sums 16 or 32 adjacent columns of dy, four per lane, 8 or 4 rows at a time; a tree adds the rows of a warp.
template <typename Tile, int WIDTH, typename At, typename Output>
DEVICE void column_sums(const At& dy, int m0, int k0, int k_end, const Split& split, const Output& db) {
    constexpr int COLUMNS = Tile::M / (Tile::THREADS / 32), ACROSS = COLUMNS / 4, ROWS = 32 / ACROSS;
    int lane = threadIdx.x % 32, i = m0 + threadIdx.x / 32 * COLUMNS + lane % ACROSS * 4;
    float c[4] = {};
#pragma unroll 8
    for (int k = k0 + lane / ACROSS; k < k_end; k += ROWS) {
#pragma unroll
        for (int j = 0; j < 4; j += WIDTH) {
            float v[WIDTH];
            load_or_zero(v, dy(dy.row(i + j), dy.column(k)));
#pragma unroll
            for (int l = 0; l < WIDTH; l++) c[j + l] += v[l];
        }
    }
#pragma unroll
    for (int offset = ACROSS; offset < 32; offset *= 2) {
#pragma unroll
        for (int j = 0; j < 4; j++) c[j] += __shfl_xor_sync(0xffffffffu, c[j], offset);
    }
    if (combine<Tile>(c, split) && lane < ACROSS) db.store(0, i, {{c[0], c[1], c[2], c[3]}}, db.constants(i));
}
