//! Addresses that are no multiple of the access's size.

use crate::A::{Int, Or, Shift, Zeros};
use crate::{case, check};
use warpcheck::finding::FindingKind::{self, Misaligned};

const KIND: &[FindingKind] = &[Misaligned];

#[test]
fn of_every_size_and_space() {
    check(&[
        case(
            "a short at an odd address",
            KIND,
            (1, 16),
            &[Zeros(64)],
            "(char* x) {
            *(short*)(x + 2 * threadIdx.x «+ 1¦») = 1; // FAULT
        }",
        ),
        case(
            "a word at half a word",
            KIND,
            (1, 16),
            &[Zeros(80)],
            "(char* x) {
            *(int*)(x + 4 * threadIdx.x «+ 2¦») = 1; // FAULT
        }",
        ),
        case(
            "a word at an odd address, read",
            KIND,
            (1, 16),
            &[Zeros(80), Zeros(64)],
            "(const char* x, int* y) {
            y[threadIdx.x] = *(const int*)(x + 4 * threadIdx.x «+ 3¦»); // FAULT
        }",
        ),
        case(
            "eight bytes at four",
            KIND,
            (1, 16),
            &[Zeros(160)],
            "(char* x) {
            *(long long*)(x + 8 * threadIdx.x «+ 4¦») = 1; // FAULT
        }",
        ),
        case(
            "a double at two",
            KIND,
            (1, 16),
            &[Zeros(160), Zeros(128)],
            "(const char* x, double* y) {
            y[threadIdx.x] = *(const double*)(x + 8 * threadIdx.x «+ 2¦»); // FAULT
        }",
        ),
        case(
            "a pair of words at four",
            KIND,
            (1, 16),
            &[Zeros(160), Zeros(128)],
            "(const int* x, int2* y) {
            y[threadIdx.x] = *(const int2*)(x + 2 * threadIdx.x «+ 1¦»); // FAULT
        }",
        ),
        case(
            "sixteen bytes at eight",
            KIND,
            (1, 16),
            &[Zeros(320), Zeros(256)],
            "(const float* x, float4* y) {
            y[threadIdx.x] = *(const float4*)(x + 4 * threadIdx.x «+ 2¦»); // FAULT
        }",
        ),
        case(
            "sixteen bytes at four, written",
            KIND,
            (1, 16),
            &[Zeros(320)],
            "(float* x) {
            *(float4*)(x + 4 * threadIdx.x «+ 1¦») = make_float4(1, 2, 3, 4); // FAULT
        }",
        ),
        case(
            "rows of an odd number of words as vectors",
            KIND,
            (1, 4),
            &[Zeros(1024), Int(5)],
            "(float* x, int n) {
            *(float4*)(x + threadIdx.x * («n¦(n + 3) / 4 * 4»)) = make_float4(1, 2, 3, 4); // FAULT
        }",
        ),
        case(
            "an atomic at two",
            KIND,
            (1, 16),
            &[Zeros(80)],
            "(char* x) {
            atomicAdd((int*)(x + 4 * threadIdx.x «+ 2¦»), 1); // FAULT
        }",
        ),
        case(
            "a wide atomic at four",
            KIND,
            (1, 16),
            &[Zeros(160)],
            "(char* x) {
            atomicAdd((unsigned long long*)(x + 8 * threadIdx.x «+ 4¦»), 1ull); // FAULT
        }",
        ),
        case(
            "a pointer that the host shifted",
            KIND,
            (1, 16),
            &[Zeros(80), Or(&Shift(0, 2), &Shift(0, 4))],
            "(int* x, int* y) {
            y[threadIdx.x] = 3; // FAULT
        }",
        ),
        case(
            "shared memory, a word",
            KIND,
            (1, 16),
            &[Zeros(64)],
            "(int* y) {
            __shared__ __align__(8) char s[80];
            int t = threadIdx.x;
            *(int*)(s + 4 * t «+ 1¦») = t; // FAULT
            «¦__syncwarp(); y[t] = *(int*)(s + 60 - 4 * t);»
        }",
        ),
        case(
            "shared memory, sixteen bytes",
            KIND,
            (1, 16),
            &[Zeros(256)],
            "(float4* y) {
            __shared__ __align__(16) float s[80];
            int t = threadIdx.x;
            for (int i = t; i < 80; i += 16) s[i] = i;
            __syncthreads();
            y[t] = *(float4*)(s + 4 * t «+ 3¦»); // FAULT
        }",
        ),
        case(
            "dynamic shared memory after a byte",
            KIND,
            (1, 16),
            &[Zeros(128)],
            "(double* y) {
            extern __shared__ __align__(16) char s[];
            int t = threadIdx.x;
            double* d = (double*)(s + «4¦8»);
            d[t] = t; // FAULT
            «¦y[t] = d[t];»
        }",
        )
        .shared(256, 256),
        case(
            "local memory",
            KIND,
            (1, 16),
            &[Zeros(64), Int(1)],
            "(int* y, int n) {
            __align__(8) char a[32];
            for (int i = 0; i < 32; i++) a[i] = i * n;
            y[threadIdx.x] = *(int*)(a + threadIdx.x % 4 * 4 + «n¦4 * n»); // FAULT
        }",
        ),
        case(
            "rows of a matrix for tensor cores",
            KIND,
            (1, 32),
            &[Zeros(128)],
            r#"(int* y) {
            __shared__ __align__(16) unsigned short s[8][«12¦16»];
            int t = threadIdx.x;
            for (int i = t; i < 96; i += 32) ((unsigned short*)s)[i] = i;
            «¦for (int i = 96 + t; i < 128; i += 32) ((unsigned short*)s)[i] = i;»
            __syncwarp();
            unsigned a, from = (unsigned)__cvta_generic_to_shared(&s[t % 8][0]);
            asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(a) : "r"(from) : "memory"); // FAULT
            y[t] = a;
        }"#,
        ),
        case(
            "an asynchronous copy",
            KIND,
            (1, 32),
            &[Zeros(1024), Zeros(512)],
            r#"(const int* x, int4* y) {
            __shared__ int4 s[32];
            int t = threadIdx.x;
            unsigned to = (unsigned)__cvta_generic_to_shared(&s[t]);
            asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"(to), "l"(x + 4 * t «+ 1¦») : "memory"); // FAULT
            asm volatile("cp.async.wait_all;" ::: "memory");
            y[t] = s[t];
        }"#,
        ),
    ]);
}
