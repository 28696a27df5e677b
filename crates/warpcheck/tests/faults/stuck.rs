//! Launches that never end, and those that stop themselves.

use crate::A::{Int, Zeros};
use crate::{case, check};
use warpcheck::finding::FindingKind::{self, Assert, BarrierMismatch, Budget, Deadlock, Trap};

const ENDLESS: &[FindingKind] = &[Budget];
const Y: &[crate::A] = &[Zeros(512), Int(3)];

#[test]
fn endless_loops() {
    check(&[
        case(
            "a loop without an end",
            ENDLESS,
            (1, 32),
            Y,
            "(int* y, int n) {
            volatile int* v = y;
            while («true¦v[0] < n») { // FAULT
                v[threadIdx.x] = v[threadIdx.x] + 1; // FAULT
            } // FAULT
        }",
        ),
        case(
            "a flag that nobody sets",
            ENDLESS,
            (1, 32),
            Y,
            "(int* y, int n) {
            volatile int* flag = y + 64;
            if (threadIdx.x == 0)
                while (*flag == «0¦1») { } // FAULT
            y[threadIdx.x] = n;
        }",
        ),
        case(
            "an index that stands still",
            ENDLESS,
            (1, 32),
            Y,
            "(int* y, int n) {
            for (int i = 0; i < 100; i += «n / 4¦n / 3») { // FAULT
                y[threadIdx.x] += 1; // FAULT
            } // FAULT
        }",
        ),
        case(
            "a loop in one lane",
            ENDLESS,
            (2, 64),
            Y,
            "(int* y, int n) {
            int t = threadIdx.x, i = t;
            while (i != «40¦t») { // FAULT
                i = t == 45 ? i + 2 : 40; // FAULT
                atomicAdd(&y[t], i); // FAULT
            } // FAULT
        }",
        ),
        case(
            "a wait for a block that never comes",
            ENDLESS,
            (2, 32),
            Y,
            "(int* y, int n) {
            if (threadIdx.x == 0) {
                atomicAdd(y, 1);
                while (atomicAdd(y, 0) < «n¦2») { } // FAULT
            }
        }",
        ),
        case(
            "a lock that is never released",
            ENDLESS,
            (3, 32),
            Y,
            "(int* y, int n) {
            if (threadIdx.x == 0) {
                while (atomicCAS(y, 0, 1) != 0) { } // FAULT
                atomicAdd(y + 1, n);
                __threadfence();
                «¦atomicExch(y, 0);»
            }
        }",
        ),
        case(
            "a ping without a pong",
            ENDLESS,
            (1, 64),
            Y,
            "(int* y, int n) {
            __shared__ int s;
            int t = threadIdx.x;
            if (t == 0) s = 0;
            __syncthreads();
            if (t == 0) atomicExch(&s, «2¦1»);
            if (t == 32) {
                while (atomicAdd(&s, 0) != 1) { } // FAULT
                y[0] = n;
            }
        }",
        ),
        case(
            "a memory barrier that waits for too many",
            ENDLESS,
            (1, 32),
            Y,
            r#"(int* y, int n) {
            __shared__ __align__(8) unsigned long long bar;
            unsigned at = (unsigned)__cvta_generic_to_shared(&bar), done = 0;
            if (threadIdx.x == 0) asm volatile("mbarrier.init.shared.b64 [%0], %1;" :: "r"(at), "r"(«33¦32») : "memory");
            __syncthreads();
            unsigned long long state;
            asm volatile("mbarrier.arrive.shared.b64 %0, [%1];" : "=l"(state) : "r"(at) : "memory");
            while (!done) // FAULT
                asm volatile("{ .reg .pred p; mbarrier.test_wait.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }" // FAULT
                             : "=r"(done) : "r"(at), "l"(state) : "memory"); // FAULT
            y[threadIdx.x] = n;
        }"#,
        ),
        case(
            "a loop without an end around a barrier",
            ENDLESS,
            (1, 64),
            Y,
            "(int* y, int n) {
            int t = threadIdx.x, i = 0;
            do {
                y[t] += i; // FAULT
                i = i * 3 % (n + 4); // FAULT
                __syncthreads(); // FAULT
            } while (i != «7¦0»); // FAULT
        }",
        ),
    ]);
}

#[test]
fn waiting_in_a_circle() {
    const CIRCLE: &[FindingKind] = &[Deadlock, BarrierMismatch];
    check(&[
        case(
            "two barriers in opposite order",
            CIRCLE,
            (1, 64),
            Y,
            r#"(int* y, int n) {
            int t = threadIdx.x;
            if (t < 32) {
                asm volatile("bar.sync 1, 64;" ::: "memory"); // FAULT
                asm volatile("bar.sync 2, 64;" ::: "memory");
            } else {
                asm volatile("bar.sync «2¦1», 64;" ::: "memory"); // FAULT
                asm volatile("bar.sync «1¦2», 64;" ::: "memory");
            }
            y[t] = n;
        }"#,
        ),
        case(
            "halves of a warp at two barriers",
            &[Deadlock, FindingKind::SyncMask],
            (1, 32),
            Y,
            "(int* y, int n) {
            int t = threadIdx.x;
            if (t < 16) {
                y[t] = n;
                __syncwarp(«0xffffffff¦0xffff»); // FAULT
                y[t] = 1;
            } else {
                y[t] = __shfl_sync(«0xffffffff¦0xffff0000», t, 20); // FAULT
            }
        }",
        ),
    ]);
}

#[test]
fn assertions_and_traps() {
    check(&[
        case(
            "an assertion",
            &[Assert],
            (2, 32),
            Y,
            r#"
            extern "C" __device__ void __assertfail(const char*, const char*, unsigned, const char*, size_t);
            kernel k(int* y, int n) {
                if (n * blockIdx.x + threadIdx.x > «30¦34») __assertfail("in range", "model.cu", 9, "k", 1); // FAULT
                y[threadIdx.x] = 1;
            }"#,
        ),
        case(
            "a trap",
            &[Trap],
            (1, 64),
            Y,
            "(int* y, int n) {
            if (threadIdx.x == 41 && n == «3¦4»)
                __trap(); // FAULT
            y[threadIdx.x] = 2;
        }",
        ),
    ]);
}
