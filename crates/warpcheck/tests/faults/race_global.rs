//! Races in global memory.

use crate::A::{Int, Zeros};
use crate::{case, check};
use warpcheck::finding::FindingKind::{self, Race};

const KIND: &[FindingKind] = &[Race];
const XY: &[crate::A] = &[Zeros(1024), Zeros(1024)];

#[test]
fn between_blocks() {
    check(&[
        case(
            "one word written by two blocks",
            KIND,
            (2, 32),
            XY,
            "(int* x, int* y) {
            x[threadIdx.x «¦+ 32 * blockIdx.x»] = blockIdx.x; // FAULT
        }",
        ),
        case(
            "a sum without an atomic",
            KIND,
            (4, 32),
            XY,
            "(int* x, int* y) {
            if (threadIdx.x == 0)
                «x[0] += blockIdx.x¦atomicAdd(x, blockIdx.x)»; // FAULT
        }",
        ),
        case(
            "a histogram without atomics",
            KIND,
            (2, 32),
            XY,
            "(int* x, int* y) {
            if (threadIdx.x < 8)
                «x[threadIdx.x]++¦atomicAdd(&x[threadIdx.x], 1)»; // FAULT
        }",
        ),
        case(
            "another block's result in the same launch",
            KIND,
            (2, 32),
            XY,
            "(int* x, int* y) {
            int i = blockIdx.x * 32 + threadIdx.x;
            x[i] = i; // FAULT
            __syncthreads();
            y[i] = x[«63 - i¦blockIdx.x * 32 + 31 - threadIdx.x»]; // OTHER
        }",
        ),
        case(
            "a stencil in place",
            KIND,
            (2, 32),
            XY,
            "(int* x, int* y) {
            int i = blockIdx.x * 32 + threadIdx.x;
            int v = x[i + 1]; // OTHER
            __syncthreads();
            «x¦y»[i] = v; // FAULT
        }",
        ),
        case(
            "a word that another block has read, and its owner as well",
            KIND,
            (2, 32),
            XY,
            "(int* x, int* y) {
            int i = blockIdx.x * 32 + threadIdx.x;
            int v = x[i];
            if (blockIdx.x == 0) v += x[i + 32]; // OTHER
            __syncthreads();
            «x¦y»[i] = v; // FAULT
        }",
        ),
        case(
            "an atomic against a plain store",
            KIND,
            (3, 32),
            XY,
            "(int* x, int* y) {
            if (blockIdx.x == 1 && threadIdx.x == 0)
                «x[0] = 100¦atomicExch(x, 100)»; // FAULT
            else
                atomicMax(x, threadIdx.x); // OTHER
        }",
        ),
        case(
            "an atomic against a plain read",
            KIND,
            (3, 32),
            XY,
            "(int* x, int* y) {
            int v = atomicAdd(x, 1); // FAULT
            if (blockIdx.x == 1 && threadIdx.x == 0)
                y[v] = «x[0]¦atomicAdd(x, 0)»; // OTHER
        }",
        ),
        case(
            "grid-stride loops that overlap",
            KIND,
            (2, 32),
            XY,
            "(int* x, int* y) {
            for (int i = blockIdx.x * «16¦32» + threadIdx.x; i < 128; i += 64)
                x[i] = i + blockIdx.x; // FAULT
        }",
        ),
        case(
            "the last block's sum without waiting",
            KIND,
            (4, 32),
            XY,
            "(int* x, int* y) {
            if (threadIdx.x == 0) {
                x[blockIdx.x] = blockIdx.x; // FAULT
                «¦__threadfence();»
                bool last = «blockIdx.x == 3¦atomicAdd(&x[10], 1) == 3»;
                «¦__threadfence();»
                if (last)
                    for (int i = 0; i < 4; i++) y[0] += x[i]; // OTHER
            }
        }",
        ),
        case(
            "an output index that wraps too early",
            KIND,
            (4, 32),
            &[Zeros(1024), Int(128)],
            "(int* x, int n) {
            int i = (blockIdx.x * 32 + threadIdx.x) % («n / 2¦n»);
            x[i] = blockIdx.x * 32 + threadIdx.x; // FAULT
        }",
        ),
        case(
            "a vector over another block's words",
            KIND,
            (2, 32),
            XY,
            "(int* x, int* y) {
            if (blockIdx.x == 0) ((int4*)x)[threadIdx.x] = make_int4(1, 2, 3, 4); // FAULT
            else x[4 * threadIdx.x + 1 «¦+ 128»] = 9; // OTHER
        }",
        ),
        case(
            "a module's variable",
            KIND,
            (2, 32),
            XY,
            "
            __device__ int total;
            kernel k(int* x, int* y) {
                if (threadIdx.x == 0)
                    «total += 1¦atomicAdd(&total, 1)»; // FAULT
            }",
        ),
        case(
            "a flag without an atomic",
            KIND,
            (2, 32),
            XY,
            "(int* x, int* y) {
            if (threadIdx.x == 0) {
                if (blockIdx.x == 0) {
                    x[0] = 1; // FAULT
                } else {
                    y[0] = x[«0¦1»]; // OTHER
                }
            }
        }",
        ),
        case(
            "in a function that is not inlined",
            KIND,
            (2, 32),
            XY,
            "
            __noinline__ __device__ void put(int* x, int i, int v) {
                x[i] = v; // FAULT
            }
            kernel k(int* x, int* y) {
                put(x, threadIdx.x «¦+ 32 * blockIdx.x», blockIdx.x);
            }",
        ),
        case(
            "bytes written by two blocks",
            KIND,
            (2, 32),
            XY,
            "(unsigned char* x, int* y) {
            x[threadIdx.x «¦+ 32 * blockIdx.x»] = blockIdx.x; // FAULT
        }",
        ),
    ]);
}

#[test]
fn within_a_block() {
    check(&[
        case(
            "warps without a barrier",
            KIND,
            (1, 64),
            XY,
            "(int* x, int* y) {
            int t = threadIdx.x;
            x[t] = t; // FAULT
            «__threadfence()¦__syncthreads()»;
            y[t] = x[63 - t]; // OTHER
        }",
        ),
        case(
            "lanes without __syncwarp",
            KIND,
            (1, 32),
            XY,
            "(int* x, int* y) {
            int t = threadIdx.x;
            x[t] = t; // FAULT
            «¦__syncwarp();»
            y[t] = x[31 - t]; // OTHER
        }",
        ),
        case(
            "one word written by all",
            KIND,
            (1, 64),
            XY,
            "(int* x, int* y) {
            «¦if (threadIdx.x == 63)»
            x[0] = threadIdx.x; // FAULT
        }",
        ),
        case(
            "a scatter with a collision",
            KIND,
            (1, 64),
            &[Zeros(1024), Int(61)],
            "(int* x, int n) {
            int t = threadIdx.x;
            «¦if (t < n)»
            x[t * 7 % n] = t; // FAULT
        }",
        ),
        case(
            "an accumulator of the block",
            KIND,
            (1, 96),
            XY,
            "(int* x, int* y) {
            if (threadIdx.x % 32 == 0)
                «x[0] += threadIdx.x¦atomicAdd(x, threadIdx.x)»; // FAULT
        }",
        ),
        case(
            "a compaction with a plain counter",
            KIND,
            (1, 64),
            XY,
            "(int* x, int* y) {
            if (threadIdx.x % 32 == 5) {
                int at = «x[0]; x[0] = at + 1¦atomicAdd(x, 1)»; // FAULT
                y[«threadIdx.x¦at»] = threadIdx.x;
            }
        }",
        ),
        case(
            "a buffer reused in a loop",
            KIND,
            (1, 64),
            XY,
            "(int* x, int* y) {
            int t = threadIdx.x, v = t;
            for (int i = 0; i < 3; i++) {
                x[t] = v; // FAULT
                __syncthreads();
                v += x[(t + 33) % 64]; // OTHER
                «¦__syncthreads();»
            }
            y[t] = v;
        }",
        ),
        case(
            "an atomic and then a plain read",
            KIND,
            (1, 64),
            XY,
            "(int* x, int* y) {
            atomicAdd(x, 1); // FAULT
            «¦__syncthreads();»
            if (threadIdx.x == 0) y[0] = x[0]; // OTHER
        }",
        ),
    ]);
}
