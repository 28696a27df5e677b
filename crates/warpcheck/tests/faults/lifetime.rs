//! Freed, null, read-only and wild addresses.

use crate::A::{Address, Freed, Holds, Or, Zeros};
use crate::{case, check};
use warpcheck::finding::FindingKind::{self, Null, OutOfBounds, ReadOnly, UseAfterFree, WildAddress};

const FREED: &[FindingKind] = &[UseAfterFree];
const NULL: &[FindingKind] = &[Null];

#[test]
fn freed_memory() {
    const X: crate::A = Or(&Freed(256), &Zeros(256));
    check(&[
        case(
            "read",
            FREED,
            (1, 64),
            &[X, Zeros(256)],
            "(const int* x, int* y) {
            y[threadIdx.x] = x[threadIdx.x]; // FAULT
        }",
        ),
        case(
            "written",
            FREED,
            (1, 64),
            &[X],
            "(int* x) {
            x[threadIdx.x] = 1; // FAULT
        }",
        ),
        case(
            "added to",
            FREED,
            (1, 64),
            &[X],
            "(int* x) {
            atomicAdd(x, 1); // FAULT
        }",
        ),
        case(
            "one of two buffers",
            FREED,
            (2, 32),
            &[Zeros(256), X, Zeros(256)],
            "(const int* a, const int* b, int* y) {
            int i = blockIdx.x * 32 + threadIdx.x;
            int v = a[i];
            v += b[i]; // FAULT
            y[i] = v;
        }",
        ),
        case(
            "through a pointer in memory",
            FREED,
            (1, 32),
            &[X, Holds(0)],
            "(int* x, int** p) {
            int* q = *p;
            q[threadIdx.x] = 7; // FAULT
        }",
        ),
        case(
            "as vectors",
            FREED,
            (1, 16),
            &[X, Zeros(256)],
            "(const float4* x, float4* y) {
            y[threadIdx.x] = x[threadIdx.x]; // FAULT
        }",
        ),
        case(
            "by one lane only",
            FREED,
            (1, 64),
            &[X, Zeros(256)],
            "(const int* x, int* y) {
            int t = threadIdx.x;
            if (t == 40)
                y[t] = x[t]; // FAULT
            else
                y[t] = t;
        }",
        ),
    ]);
}

#[test]
fn null_pointers() {
    const P: crate::A = Or(&Address(0), &Zeros(256));
    check(&[
        case(
            "read",
            NULL,
            (1, 32),
            &[P, Zeros(128)],
            "(const int* x, int* y) {
            y[threadIdx.x] = x[threadIdx.x]; // FAULT
        }",
        ),
        case(
            "written",
            NULL,
            (1, 32),
            &[P],
            "(int* x) {
            x[threadIdx.x] = 1; // FAULT
        }",
        ),
        case(
            "a member",
            NULL,
            (1, 1),
            &[P, Zeros(8)],
            "
            struct Node { long long value; int pad[5]; int next; };
            kernel k(const Node* n, int* y) {
                *y = n->next; // FAULT
            }",
        ),
        case(
            "an atomic",
            NULL,
            (1, 32),
            &[P],
            "(unsigned* x) {
            atomicMax(x + 3, threadIdx.x); // FAULT
        }",
        ),
        case(
            "at the end of a list",
            NULL,
            (1, 1),
            &[Zeros(16), Holds(0), Zeros(4)],
            "
            struct Node { Node* next; };
            kernel k(Node* last, Node* first, int* y) {
                int n = 0;
                while («n < 3¦first && n < 3») {
                    first = first->next; // FAULT
                    n++;
                }
                *y = n + (first != nullptr);
            }",
        ),
        case(
            "behind a check that is the wrong way round",
            NULL,
            (1, 32),
            &[P, Zeros(128)],
            "(const int* x, int* y) {
            if (x «==¦!=» nullptr)
                y[threadIdx.x] = x[threadIdx.x]; // FAULT
            else
                y[threadIdx.x] = 1;
        }",
        ),
    ]);
}

#[test]
fn read_only_memory() {
    check(&[
        case(
            "a constant",
            &[ReadOnly],
            (1, 8),
            &[Zeros(64)],
            r#"
            __constant__ int table[8] = {1, 2, 3, 4, 5, 6, 7, 8};
            kernel k(int* y) {
                const int* p = table;
                y[threadIdx.x] = table[threadIdx.x];
                int* q = «(int*)p¦y + 8»;
                asm volatile("st.b32 [%0], %1;" :: "l"(q + threadIdx.x), "r"(5) : "memory"); // FAULT
            }"#,
        ),
        case(
            "an atomic on a constant",
            &[ReadOnly],
            (1, 8),
            &[Zeros(64)],
            r#"
            __constant__ int table[8] = {1, 2, 3, 4, 5, 6, 7, 8};
            kernel k(int* y) {
                const int* p = table;
                y[threadIdx.x] = table[threadIdx.x];
                int* q = «(int*)p¦y + 8»;
                asm volatile("red.add.s32 [%0], %1;" :: "l"(q + threadIdx.x), "r"(5) : "memory"); // FAULT
            }"#,
        ),
    ]);
}

#[test]
fn wild_pointers() {
    const WILD: &[FindingKind] = &[WildAddress, OutOfBounds];
    check(&[
        case(
            "a small integer",
            &[Null, WildAddress],
            (1, 1),
            &[Or(&Address(0x1234), &Zeros(4))],
            "(int* x) {
            *x = 1; // FAULT
        }",
        ),
        case(
            "an address of nothing",
            WILD,
            (1, 1),
            &[Or(&Address(0xdead_beef_0000), &Zeros(4))],
            "(int* x) {
            *x = 1; // FAULT
        }",
        ),
        case(
            "not even canonical",
            WILD,
            (1, 1),
            &[Or(&Address(0xabcd_ef01_2345_6780), &Zeros(4)), Zeros(4)],
            "(const int* x, int* y) {
            *y = *x; // FAULT
        }",
        ),
        case(
            "data taken for a pointer",
            WILD,
            (1, 32),
            &[Zeros(256), Zeros(128)],
            "(long long* x, int* y) {
            int t = threadIdx.x;
            x[t] = 0x7f7f7f7f00000000 + 4 * t;
            int* p = «(int*)x[t]¦y + t»;
            *p = 4; // FAULT
        }",
        ),
    ]);
}
