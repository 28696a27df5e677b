//! Accesses beyond allocations, shared and local memory.

use crate::A::{Int, Or, Shift, Zeros};
use crate::{case, check};
use warpcheck::finding::FindingKind::{self, OutOfBounds, WildAddress};

const OUT: &[FindingKind] = &[OutOfBounds];
/// Far from everything, an address is simply wild.
const FAR: &[FindingKind] = &[OutOfBounds, WildAddress];

#[test]
fn of_global_memory() {
    const XY: &[crate::A] = &[Zeros(256), Zeros(256)];
    check(&[
        case(
            "read above",
            OUT,
            (1, 64),
            XY,
            "(const int* x, int* y) {
            int t = threadIdx.x;
            y[t] = x[«t + 1¦t»]; // FAULT
        }",
        ),
        case(
            "write above",
            OUT,
            (1, 64),
            XY,
            "(const int* x, int* y) {
            int t = threadIdx.x;
            y[«t + 1¦t»] = t; // FAULT
        }",
        ),
        case(
            "read below",
            OUT,
            (1, 64),
            XY,
            "(const int* x, int* y) {
            int t = threadIdx.x;
            y[t] = x[«t - 1¦63 - t»]; // FAULT
        }",
        ),
        case(
            "write below",
            OUT,
            (1, 64),
            XY,
            "(const int* x, int* y) {
            int t = threadIdx.x;
            y[«t - 3¦63 - t»] = t; // FAULT
        }",
        ),
        case(
            "far above",
            FAR,
            (1, 64),
            XY,
            "(const int* x, int* y) {
            int t = threadIdx.x;
            y[t] = x[t + «100000000¦0»]; // FAULT
        }",
        ),
        case(
            "far below",
            FAR,
            (1, 64),
            XY,
            "(const int* x, int* y) {
            int t = threadIdx.x;
            y[t - «90000000¦0»] = t; // FAULT
        }",
        ),
        case(
            "far beyond 32 bits",
            FAR,
            (1, 64),
            XY,
            "(const int* x, int* y) {
            long long t = threadIdx.x;
            y[t] = x[t + «(t << 40)¦0»]; // FAULT
        }",
        ),
        case(
            "one turn too many",
            OUT,
            (1, 1),
            &[Zeros(256), Zeros(256), Int(64)],
            "(const int* x, int* y, int n) {
            int sum = 0;
            for (int i = 0; i «<=¦<» n; i++)
                sum += x[i]; // FAULT
            y[0] = sum;
        }",
        ),
        case(
            "unguarded tail of the grid",
            OUT,
            (3, 32),
            &[Zeros(320), Int(80)],
            "(int* x, int n) {
            int i = blockIdx.x * 32 + threadIdx.x;
            «¦if (i < n)»
            x[i] = i; // FAULT
        }",
        ),
        case(
            "guard with the wrong sign",
            OUT,
            (3, 32),
            &[Zeros(320), Int(80)],
            "(int* x, int n) {
            int i = blockIdx.x * 32 + threadIdx.x;
            if (i «<=¦<» n)
                x[i] = i; // FAULT
        }",
        ),
        case(
            "rows for columns",
            OUT,
            (1, 32),
            &[Zeros(4 * 8 * 20)],
            "(int* x) {
            int r = threadIdx.x % 8;
            for (int c = 0; c < 20; c++)
                if (threadIdx.x < 8)
                    x[«c * 20 + r¦r * 20 + c»] = c; // FAULT
        }",
        ),
        case(
            "a vector over the end",
            OUT,
            (1, 16),
            &[Zeros(16 * 16 - 4), Zeros(16 * 16)],
            "(const float4* x, float4* y) {
            int t = threadIdx.x;
            «¦if (t < 15)»
            y[t] = x[t]; // FAULT
        }",
        ),
        case(
            "a double over the end",
            OUT,
            (1, 16),
            &[Zeros(8 * 16 - 4)],
            "(double* x) {
            int t = threadIdx.x;
            «¦if (t < 15)»
            x[t] = 1.0; // FAULT
        }",
        ),
        case(
            "a byte over the end",
            OUT,
            (1, 32),
            &[Zeros(61)],
            "(unsigned char* x) {
            int t = threadIdx.x;
            x[t] = 0;
            x[t + «30¦29»] = 1; // FAULT
        }",
        ),
        case(
            "a short over the end",
            OUT,
            (1, 32),
            &[Zeros(62), Zeros(64)],
            "(const short* x, short* y) {
            int t = threadIdx.x;
            «¦if (t < 31)»
            y[t] = x[t]; // FAULT
        }",
        ),
        case(
            "an atomic over the end",
            OUT,
            (1, 32),
            &[Zeros(40)],
            "(int* x) {
            atomicAdd(&x[threadIdx.x % «11¦10»], 1); // FAULT
        }",
        ),
        case(
            "a compare-and-swap below",
            OUT,
            (1, 32),
            &[Zeros(128)],
            "(int* x) {
            int t = threadIdx.x;
            atomicCAS(&x[«t - 1¦t»], 0, 7); // FAULT
        }",
        ),
        case(
            "a negative index by overflow",
            FAR,
            (1, 32),
            &[Zeros(128), Int(50_000)],
            "(int* x, int n) {
            int i = n * «n¦0» + threadIdx.x;
            x[i] = 1; // FAULT
        }",
        ),
        case(
            "an unsigned index below zero",
            FAR,
            (1, 32),
            &[Zeros(128)],
            "(int* x) {
            unsigned i = threadIdx.x «- 1u¦»;
            x[i] = 1; // FAULT
        }",
        ),
        case(
            "a member of a structure",
            OUT,
            (1, 10),
            &[Zeros(12 * 10 - 4), Zeros(40)],
            "
            struct P { int a, b, c; };
            kernel k(const P* p, int* y) {
                int t = threadIdx.x;
                y[t] = p[t].«c¦b»; // FAULT
            }",
        ),
        case(
            "through a pointer in memory",
            OUT,
            (1, 32),
            &[Zeros(128), crate::A::Holds(0)],
            "(int* x, int** p) {
            int* q = *p;
            q[threadIdx.x «* 2¦»] = 5; // FAULT
        }",
        ),
        case(
            "a stencil without its edge",
            OUT,
            (2, 32),
            XY,
            "(const int* x, int* y) {
            int i = blockIdx.x * 32 + threadIdx.x;
            int right = «x[i + 1]¦i < 63 ? x[i + 1] : 0»; // FAULT
            y[i] = x[i] + right;
        }",
        ),
        case(
            "in a function that is not inlined",
            OUT,
            (1, 64),
            XY,
            "
            __noinline__ __device__ int fetch(const int* x, int i) {
                return x[i]; // FAULT
            }
            kernel k(const int* x, int* y) {
                y[threadIdx.x] = fetch(x, threadIdx.x «+ 8¦»);
            }",
        ),
        case(
            "one thread of the last block",
            OUT,
            (4, 16),
            XY,
            "(const int* x, int* y) {
            int i = blockIdx.x * 16 + threadIdx.x;
            if (i == 63)
                y[i «+ 1¦»] = 2; // FAULT
            else
                y[i] = x[i];
        }",
        ),
        case(
            "in a divergent branch",
            OUT,
            (1, 32),
            XY,
            "(const int* x, int* y) {
            int t = threadIdx.x;
            if (t % 3 == 1)
                y[t] = x[t + «60¦30»]; // FAULT
            else
                y[t] = 0;
        }",
        ),
        case(
            "a module's array",
            OUT,
            (1, 32),
            &[Zeros(128)],
            "
            __device__ int table[16];
            kernel k(int* y) {
                y[threadIdx.x] = table[threadIdx.x % «17¦16»]; // FAULT
            }",
        ),
        case(
            "a constant array",
            OUT,
            (1, 32),
            &[Zeros(128), Int(8)],
            "
            __constant__ int table[8] = {1, 2, 3, 4, 5, 6, 7, 8};
            kernel k(int* y, int n) {
                y[threadIdx.x] = table[threadIdx.x % (n «+ 1¦»)]; // FAULT
            }",
        ),
        case(
            "a pointer that starts inside",
            OUT,
            (1, 32),
            &[Zeros(256), Shift(0, 132)],
            "(int* x, int* y) {
            int t = threadIdx.x;
            y[t «¦- 1»] = x[0]; // FAULT
        }",
        ),
        case(
            "a buffer that is too small",
            OUT,
            (1, 64),
            &[Or(&Zeros(252), &Zeros(256))],
            "(int* x) {
            x[threadIdx.x] = 1; // FAULT
        }",
        ),
        case(
            "an asynchronous copy's source",
            OUT,
            (1, 32),
            &[Zeros(512), Zeros(512)],
            r#"(const int4* x, int4* y) {
            __shared__ int4 s[32];
            int t = threadIdx.x;
            unsigned to = (unsigned)__cvta_generic_to_shared(&s[t]);
            asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"(to), "l"(x + t «+ 1¦») : "memory"); // FAULT
            asm volatile("cp.async.wait_all;" ::: "memory");
            y[t] = s[t];
        }"#,
        ),
    ]);
}
