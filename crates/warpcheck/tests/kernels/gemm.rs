//! Matrix products in single and double precision.

use crate::support::Random;
use crate::support::gpu::assert_clean;
use crate::{ALL, ENDS, assert_bits, prove};

const TILED: &str = r#"
extern "C" __global__ void __launch_bounds__(256) gemm(const float* __restrict__ a, const float* __restrict__ b,
                                                       float* __restrict__ c, int m, int n, int k) {
    __shared__ float as[16][64 + 4], bs[16][64];
    int t = threadIdx.x, tx = t % 16, ty = t / 16;
    int row = blockIdx.y * 64, column = blockIdx.x * 64;
    float acc[4][4] = {};
    for (int k0 = 0; k0 < k; k0 += 16) {
        for (int i = t; i < 64 * 16; i += 256) {
            int r = i / 16, q = i % 16;
            as[q][r] = row + r < m && k0 + q < k ? a[(row + r) * k + k0 + q] : 0.0f;
            int p = i / 64, s = i % 64;
            bs[p][s] = k0 + p < k && column + s < n ? b[(k0 + p) * n + column + s] : 0.0f;
        }
        __syncthreads();
        #pragma unroll
        for (int q = 0; q < 16; q++) {
            float x[4], y[4];
            #pragma unroll
            for (int i = 0; i < 4; i++) { x[i] = as[q][ty * 4 + i]; y[i] = bs[q][tx * 4 + i]; }
            #pragma unroll
            for (int i = 0; i < 4; i++)
                #pragma unroll
                for (int j = 0; j < 4; j++) acc[i][j] = fmaf(x[i], y[j], acc[i][j]);
        }
        __syncthreads();
    }
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) {
            int r = row + ty * 4 + i, s = column + tx * 4 + j;
            if (r < m && s < n) c[r * n + s] = acc[i][j];
        }
}"#;

#[test]
fn tiles_of_64_by_64_in_shared_memory() {
    let (m, n, k) = (100usize, 75usize, 53usize);
    let mut random = Random(5);
    let a: Vec<f32> = (0..m * k).map(|_| random.unit()).collect();
    let b: Vec<f32> = (0..k * n).map(|_| random.unit()).collect();
    let got = prove(TILED, ALL, |gpu, module, o| {
        let (da, db, dc) = (gpu.upload(&a), gpu.upload(&b), gpu.allocate(4 * m * n));
        let args = args![da, db, dc, m as i32, n as i32, k as i32];
        assert_clean("gemm", &gpu.launch(module, "gemm", ([2, 2, 1], [256, 1, 1], 0), args, o));
        gpu.download::<f32>(dc, m * n)
    });
    // One fused multiply-add a step, k ascending; the padding adds ±0 at the end.
    let expected: Vec<f32> = (0..m * n)
        .map(|i| (0..k).fold(0.0f32, |c, q| a[i / n * k + q].mul_add(b[q * n + i % n], c)))
        .map(|c| c + 0.0)
        .collect();
    assert_bits(&got, &expected);
}

#[test]
fn the_naive_one_in_double_precision() {
    let source = r#"
extern "C" __global__ void gemm(const double* a, const double* b, double* c, int m, int n, int k) {
    int r = blockIdx.y * blockDim.y + threadIdx.y, s = blockIdx.x * blockDim.x + threadIdx.x;
    if (r >= m || s >= n) return;
    double sum = 0;
    for (int q = 0; q < k; q++) sum = fma(a[r * k + q], b[q * n + s], sum);
    c[r * n + s] = sum / (1.0 + sqrt(fabs(sum)));
}"#;
    let (m, n, k) = (21usize, 13usize, 40usize);
    let mut random = Random(6);
    let a: Vec<f64> = (0..m * k).map(|_| random.unit().into()).collect();
    let b: Vec<f64> = (0..k * n).map(|_| f64::from(random.unit()) / 3.0).collect();
    let got = prove(source, ENDS, |gpu, module, o| {
        let (da, db, dc) = (gpu.upload(&a), gpu.upload(&b), gpu.allocate(8 * m * n));
        let args = args![da, db, dc, m as i32, n as i32, k as i32];
        assert_clean("gemm", &gpu.launch(module, "gemm", ([2, 3, 1], [8, 8, 1], 0), args, o));
        gpu.download::<f64>(dc, m * n)
    });
    for (i, got) in got.iter().enumerate() {
        let sum = (0..k).fold(0.0f64, |c, q| a[i / n * k + q].mul_add(b[q * n + i % n], c));
        assert_eq!(*got, sum / (1.0 + sum.abs().sqrt()), "{i}");
    }
}
