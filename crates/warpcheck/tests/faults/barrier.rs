//! Barriers that not everybody reaches, or that are not the same for all.

use crate::A::{Int, Zeros};
use crate::{case, check};
use warpcheck::finding::FindingKind::{self, BarrierAfterExit, BarrierDivergence, BarrierMismatch, Deadlock, SyncMask};

/// Where the others have exited by then, that is what is told.
const DIVERGENT: &[FindingKind] = &[BarrierDivergence, BarrierAfterExit];
const EXITED: &[FindingKind] = &[BarrierAfterExit];
const MISMATCH: &[FindingKind] = &[BarrierMismatch];
const MASK: &[FindingKind] = &[SyncMask];
const Y: &[crate::A] = &[Zeros(512), Int(3)];

#[test]
fn in_divergent_code() {
    check(&[
        case(
            "half of a warp",
            DIVERGENT,
            (1, 32),
            Y,
            "(int* y, int n) {
            int t = threadIdx.x;
            «if (t < 16)¦»
                __syncthreads(); // FAULT
            y[t] = t;
        }",
        ),
        case(
            "every other lane of two warps",
            DIVERGENT,
            (1, 64),
            Y,
            "(int* y, int n) {
            int t = threadIdx.x;
            if (t % 2 «== 0¦>= 0») {
                y[t] = n;
                __syncthreads(); // FAULT
                y[t] += t;
            }
        }",
        ),
        case(
            "both sides of a branch",
            &[BarrierDivergence],
            (1, 32),
            Y,
            "(int* y, int n) {
            int t = threadIdx.x;
            if (t % «4 < n¦32 >= 0») {
                y[t] = 1;
                __syncthreads(); // FAULT
                y[t] += 5;
            } else {
                y[t] = 2;
                __syncthreads(); // FAULT
                y[t] *= 7;
            }
        }",
        ),
        case(
            "a loop of different length in each lane",
            DIVERGENT,
            (1, 32),
            Y,
            "(int* y, int n) {
            int t = threadIdx.x;
            for (int i = 0; i < «t % 4 + n¦n»; i++) {
                y[t] += i;
                __syncthreads(); // FAULT
            }
        }",
        ),
        case(
            "a lane that leaves the loop early",
            DIVERGENT,
            (1, 32),
            Y,
            "(int* y, int n) {
            int t = threadIdx.x;
            for (int i = 0; i < 2 * n; i++) {
                y[t] += i;
                if («y[t] > 4 && t == 7¦i > n») break;
                __syncthreads(); // FAULT
            }
            y[t] = 0;
        }",
        ),
        case(
            "a switch",
            DIVERGENT,
            (1, 32),
            Y,
            "(int* y, int n) {
            int t = threadIdx.x;
            switch («t % 3¦n») {
                case 0: y[t] = 8; break;
                case 3: y[t] = 4; __syncthreads(); break; // FAULT
                default: y[t] = 9; __syncthreads(); y[t]--; break; // FAULT
            }
        }",
        ),
        case(
            "in a function that is not inlined",
            DIVERGENT,
            (1, 32),
            Y,
            "
            __noinline__ __device__ void meet(int* y) {
                y[threadIdx.x] = 2;
                __syncthreads(); // FAULT
            }
            kernel k(int* y, int n) {
                if (threadIdx.x «> 20¦< 32»)
                    meet(y);
            }",
        ),
        case(
            "a barrier that counts",
            DIVERGENT,
            (1, 32),
            Y,
            "(int* y, int n) {
            int t = threadIdx.x;
            if («t != n¦n == 3»)
                y[t] = __syncthreads_count(t > n); // FAULT
        }",
        ),
    ]);
}

#[test]
fn that_some_have_left_behind() {
    check(&[
        case(
            "a warp that returned early",
            EXITED,
            (1, 64),
            Y,
            "(int* y, int n) {
            int t = threadIdx.x;
            «if (t >= 32) return;¦»
            y[t] = t;
            __syncthreads(); // FAULT
            y[t] += n;
        }",
        ),
        case(
            "fewer rounds in the last warp",
            EXITED,
            (1, 96),
            Y,
            "(int* y, int n) {
            int t = threadIdx.x;
            for (int i = 0; i < n «+ (t < 64)¦»; i++) {
                y[t] += i;
                __syncthreads(); // FAULT
            }
        }",
        ),
        case(
            "a barrier for one warp only",
            EXITED,
            (1, 64),
            Y,
            "(int* y, int n) {
            int t = threadIdx.x;
            y[t] = t;
            if (t / 32 «== 0¦>= 0»)
                __syncthreads(); // FAULT
        }",
        ),
        case(
            "a tail that returns before the tile's barrier",
            EXITED,
            (2, 64),
            &[Zeros(512), Int(96)],
            "(int* y, int n) {
            __shared__ int s[64];
            int t = threadIdx.x, i = blockIdx.x * 64 + t;
            «if (i >= n) return;¦»
            s[t] = i;
            __syncthreads(); // FAULT
            if (i < n) y[i] = s[t ^ 1];
        }",
        ),
        case(
            "a named barrier that waits for too many",
            &[Deadlock, BarrierAfterExit],
            (1, 64),
            Y,
            r#"(int* y, int n) {
            y[threadIdx.x] = n;
            asm volatile("bar.sync 2, %0;" :: "r"(«96¦64») : "memory"); // FAULT
        }"#,
        ),
    ]);
}

#[test]
fn that_are_not_the_same() {
    check(&[
        case(
            "two names",
            MISMATCH,
            (1, 64),
            Y,
            r#"(int* y, int n) {
            int t = threadIdx.x;
            if (t < 32) asm volatile("bar.sync 1, 64;" ::: "memory"); // FAULT
            else asm volatile("bar.sync «2¦1», 64;" ::: "memory"); // FAULT
            y[t] = n;
        }"#,
        ),
        case(
            "two counts",
            MISMATCH,
            (1, 96),
            Y,
            r#"(int* y, int n) {
            int t = threadIdx.x;
            if (t < 32) asm volatile("bar.sync 1, 96;" ::: "memory"); // FAULT
            else asm volatile("bar.sync 1, «64¦96»;" ::: "memory"); // FAULT
            y[t] = n;
        }"#,
        ),
        case(
            "all threads against some",
            MISMATCH,
            (1, 96),
            Y,
            r#"(int* y, int n) {
            int t = threadIdx.x;
            y[t] = t;
            if (t < 32) asm volatile("«bar.sync 3, 64¦bar.sync 0»;" ::: "memory"); // FAULT
            else __syncthreads(); // FAULT
            y[t] += n;
        }"#,
        ),
    ]);
}

#[test]
fn of_a_warp_with_wrong_masks() {
    const LOCKED: &[FindingKind] = &[SyncMask, Deadlock];
    check(&[
        case(
            "a vote that leaves its caller out",
            MASK,
            (1, 32),
            Y,
            "(int* y, int n) {
            int t = threadIdx.x;
            if (t < 8)
                y[t] = __ballot_sync(«0x0f¦0xff», t > n); // FAULT
        }",
        ),
        case(
            "a shuffle with lanes that have left",
            MASK,
            (1, 32),
            Y,
            "(int* y, int n) {
            int t = threadIdx.x;
            «if (t > 20) return;¦»
            y[t] = __shfl_sync(0xffffffff, t * n, 1); // FAULT
        }",
        ),
        case(
            "a shuffle in one branch for all",
            LOCKED,
            (1, 32),
            Y,
            "(int* y, int n) {
            int t = threadIdx.x;
            if (t < 16)
                y[t] = __shfl_xor_sync(«0xffffffff¦0xffff», t * n, 1); // FAULT
        }",
        ),
        case(
            "a barrier of a warp whose lanes have left",
            MASK,
            (1, 32),
            Y,
            "(int* y, int n) {
            int t = threadIdx.x;
            «if (t == 31) return;¦»
            y[t] = t;
            __syncwarp(); // FAULT
            y[t] += n;
        }",
        ),
        case(
            "a barrier of a warp in one branch",
            LOCKED,
            (1, 32),
            Y,
            "(int* y, int n) {
            int t = threadIdx.x;
            y[t] = t;
            if (t % 2) {
                __syncwarp(«0xffffffff¦0xaaaaaaaa»); // FAULT
                y[t] = n;
            }
        }",
        ),
        case(
            "different masks at one vote",
            LOCKED,
            (1, 32),
            Y,
            "(int* y, int n) {
            int t = threadIdx.x;
            y[t] = __any_sync(«t < 16 ? 0xffffffffu : 0xffff0000u¦0xffffffffu», t == n); // FAULT
        }",
        ),
        case(
            "a match for lanes that never come",
            MASK,
            (1, 32),
            Y,
            "(int* y, int n) {
            int t = threadIdx.x;
            if (t >= 30 «¦|| true»)
                y[t] = __match_any_sync(0xffffffff, t / n); // FAULT
        }",
        ),
    ]);
}
