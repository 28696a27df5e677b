//! Reads of memory that nobody wrote.

use crate::A::{Int, Or, Partly, Raw, Zeros};
use crate::{case, check};
use warpcheck::finding::FindingKind::{self, Uninitialised};

const KIND: &[FindingKind] = &[Uninitialised];

#[test]
fn global_memory() {
    const X: crate::A = Or(&Raw(256), &Zeros(256));
    check(&[
        case(
            "a whole buffer",
            KIND,
            (1, 64),
            &[X, Zeros(256)],
            "(const int* x, int* y) {
            y[threadIdx.x] = x[threadIdx.x] + 1; // FAULT
        }",
        ),
        case(
            "the second half",
            KIND,
            (1, 64),
            &[Or(&Partly(256, 128), &Zeros(256)), Zeros(256)],
            "(const int* x, int* y) {
            y[threadIdx.x] = x[threadIdx.x] * 3; // FAULT
        }",
        ),
        case(
            "the last byte",
            KIND,
            (1, 64),
            &[Or(&Partly(64, 63), &Zeros(64)), Zeros(64)],
            "(const char* x, char* y) {
            y[threadIdx.x] = x[threadIdx.x] + 1; // FAULT
        }",
        ),
        case(
            "the last bytes of a vector",
            KIND,
            (1, 16),
            &[Or(&Partly(256, 248), &Zeros(256)), Zeros(64)],
            "(const float4* x, float* y) {
            float4 v = x[threadIdx.x]; // FAULT
            y[threadIdx.x] = v.x + v.y + v.z + v.w;
        }",
        ),
        case(
            "half of a double",
            KIND,
            (1, 1),
            &[Or(&Partly(8, 4), &Zeros(8)), Zeros(8)],
            "(const double* x, double* y) {
            *y = *x + 1.0; // FAULT
        }",
        ),
        case(
            "an accumulator",
            KIND,
            (1, 64),
            &[X],
            "(float* x) {
            x[threadIdx.x] += 1.0f; // FAULT
        }",
        ),
        case(
            "bins of a histogram",
            KIND,
            (2, 32),
            &[X],
            "(int* x) {
            atomicAdd(&x[threadIdx.x % 8], 1); // FAULT
        }",
        ),
        case(
            "what only even threads wrote",
            KIND,
            (1, 64),
            &[Raw(256), Zeros(256)],
            "(int* x, int* y) {
            int t = threadIdx.x;
            if (t % 2 == 0 «¦|| true»)
                x[t] = t;
            __syncthreads();
            y[t] = x[63 - t] + 1; // FAULT
        }",
        ),
        case(
            "a count before it is set",
            KIND,
            (1, 32),
            &[X, Zeros(128)],
            "(const int* x, int* y) {
            int n = x[0]; // FAULT
            for (int i = 0; i < n % 8; i++) y[threadIdx.x] += i;
        }",
        ),
        case(
            "what the last thread should have written",
            KIND,
            (1, 32),
            &[Raw(256), Zeros(128), Int(31)],
            "(int* x, int* y, int n) {
            int t = threadIdx.x;
            if (t < n «¦+ 1»)
                x[t] = t;
            __syncthreads();
            y[t] = x[t] * 2; // FAULT
        }",
        ),
        case(
            "in a function that is not inlined",
            KIND,
            (1, 32),
            &[X, Zeros(128)],
            "
            __noinline__ __device__ float scale(const float* x, int i) {
                return x[i] * 0.5f; // FAULT
            }
            kernel k(const float* x, float* y) {
                y[threadIdx.x] = scale(x, threadIdx.x);
            }",
        ),
        case(
            "the operand of a branch",
            KIND,
            (1, 32),
            &[X, Zeros(128)],
            "(const int* x, int* y) {
            if (x[threadIdx.x] > 0) // FAULT
                y[threadIdx.x] = 1;
            else
                y[threadIdx.x] = 2;
        }",
        ),
    ]);
}

#[test]
fn shared_memory() {
    check(&[
        case(
            "never written",
            KIND,
            (1, 32),
            &[Zeros(128)],
            "(int* y) {
            __shared__ int s[32];
            int t = threadIdx.x;
            «¦s[t] = t; __syncwarp();»
            y[t] = s[31 - t] + 1; // FAULT
            if (y[t] == 77777) s[t] = 1;
        }",
        ),
        case(
            "written by the first warp only",
            KIND,
            (1, 64),
            &[Zeros(256)],
            "(int* y) {
            __shared__ int s[64];
            int t = threadIdx.x;
            if (t < «32¦64») s[t] = t;
            __syncthreads();
            y[t] = s[t] + 1; // FAULT
        }",
        ),
        case(
            "a reduction of more than was stored",
            KIND,
            (1, 48),
            &[Zeros(4)],
            "(int* y) {
            __shared__ int s[64];
            int t = threadIdx.x;
            s[t] = t;
            «¦if (t < 16) s[48 + t] = 0;»
            __syncthreads();
            for (int w = 32; w > 0; w >>= 1) {
                if (t < w) s[t] += s[t + w]; // FAULT
                __syncthreads();
            }
            if (t == 0) *y = s[0];
        }",
        ),
        case(
            "a tile's edge that the guard left out",
            KIND,
            (1, 64),
            &[Zeros(256), Zeros(256), Int(60)],
            "(const float* x, float* y, int n) {
            __shared__ float s[64];
            int t = threadIdx.x;
            if (t < n) s[t] = x[t];
            «¦else s[t] = 0;»
            __syncthreads();
            y[t] = s[t] + 1.0f; // FAULT
        }",
        ),
        case(
            "the other stage of a double buffer",
            KIND,
            (1, 32),
            &[Zeros(128)],
            "(int* y) {
            __shared__ int s[2][32];
            int t = threadIdx.x, sum = 0;
            s[0][t] = t;
            for (int i = 0; i < 2; i++) {
                __syncwarp();
                sum += s[«1 - (i & 1)¦i & 1»][31 - t]; // FAULT
                __syncwarp();
                s[1 - (i & 1)][t] = i;
            }
            y[t] = sum;
        }",
        ),
        case(
            "dynamic memory",
            KIND,
            (1, 32),
            &[Zeros(128)],
            "(float* y) {
            extern __shared__ float s[];
            int t = threadIdx.x;
            s[t] = 1;
            «¦s[32 + t] = 2;»
            __syncwarp();
            y[t] = s[t] + s[63 - t]; // FAULT
        }",
        )
        .shared(256, 256),
        case(
            "a counter",
            KIND,
            (1, 64),
            &[Zeros(4)],
            "(int* y) {
            __shared__ int n;
            «¦if (threadIdx.x == 0) n = 0;»
            __syncthreads();
            atomicAdd(&n, 1); // FAULT
            __syncthreads();
            if (threadIdx.x == 0) *y = n;
        }",
        ),
        case(
            "bytes between shorts",
            KIND,
            (1, 32),
            &[Zeros(128)],
            "(int* y) {
            __shared__ __align__(4) unsigned short s[64];
            int t = threadIdx.x;
            s[2 * t] = t;
            «¦s[2 * t + 1] = t;»
            __syncwarp();
            y[t] = ((int*)s)[31 - t] + 1; // FAULT
        }",
        ),
        case(
            "rows of a matrix for tensor cores",
            KIND,
            (1, 32),
            &[Zeros(128)],
            r#"(int* y) {
            __shared__ __align__(16) unsigned short s[8][8];
            int t = threadIdx.x;
            if (t < «28¦32») { s[t / 4][2 * (t % 4)] = t; s[t / 4][2 * (t % 4) + 1] = t; }
            __syncwarp();
            unsigned a, from = (unsigned)__cvta_generic_to_shared(&s[t % 8][0]);
            asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(a) : "r"(from) : "memory"); // FAULT
            y[t] = a + 1;
        }"#,
        ),
    ]);
}

#[test]
fn local_memory() {
    check(&[
        case(
            "an array's end",
            KIND,
            (1, 32),
            &[Zeros(128), Int(12)],
            "(int* y, int n) {
            int a[16];
            for (int i = 0; i < «n¦n + 4»; i++) a[i] = i * threadIdx.x;
            y[threadIdx.x] = a[(threadIdx.x * 3) % 16] + 1; // FAULT
        }",
        ),
        case(
            "an element that only some threads set",
            KIND,
            (1, 32),
            &[Zeros(128), Int(4)],
            "(int* y, int n) {
            int a[8];
            for (int i = 0; i < 8; i++)
                if (i % n != 3 || threadIdx.x < «20¦32») a[(i + n) % 8] = i;
            int sum = 0;
            for (int i = 0; i < 2 * n; i++) sum += a[(i * n + i) % 8]; // FAULT
            y[threadIdx.x] = sum;
        }",
        ),
        case(
            "a result that a function did not fill in",
            KIND,
            (1, 32),
            &[Zeros(128), Int(3)],
            "
            __noinline__ __device__ void parts(int v, int n, int* out) {
                for (int i = 0; i < n; i++) out[i] = v >> i;
            }
            kernel k(int* y, int n) {
                int a[4];
                parts(threadIdx.x, «n¦n + 1», a);
                y[threadIdx.x] = a[0] + a[n] * 2; // FAULT
            }",
        ),
    ]);
}
