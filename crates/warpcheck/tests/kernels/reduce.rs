//! Reductions, scans, softmax.

use crate::support::{Arg, Random};
use crate::{ALL, ENDS, assert_bits, launch, prove};

fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let mut random = Random(seed);
    (0..n).map(|_| random.unit()).collect()
}

#[test]
fn tree_in_shared_memory() {
    let source = r#"
extern "C" __global__ void sum(const float* __restrict__ x, float* y, int n) {
    __shared__ float s[256];
    int t = threadIdx.x;
    float v = 0;
    for (int i = blockIdx.x * blockDim.x + t; i < n; i += gridDim.x * blockDim.x) v += x[i];
    s[t] = v;
    __syncthreads();
    for (int w = blockDim.x / 2; w > 0; w >>= 1) {
        if (t < w) s[t] += s[t + w];
        __syncthreads();
    }
    if (t == 0) y[blockIdx.x] = s[0];
}"#;
    let (n, grid, block) = (10_007usize, 5usize, 256usize);
    let x = numbers(n, 1);
    let got = prove(source, ALL, |gpu, module, o| {
        let (dx, dy) = (gpu.upload(&x), gpu.allocate(4 * grid));
        launch(gpu, module, "sum", (grid as u32, block as u32), args![dx, dy, n as i32], o);
        gpu.download::<f32>(dy, grid)
    });
    let expected: Vec<f32> = (0..grid)
        .map(|b| {
            let mut s: Vec<f32> = (0..block)
                .map(|t| x.iter().skip(b * block + t).step_by(grid * block).fold(0.0, |v, x| v + x))
                .collect();
            let mut w = block / 2;
            while w > 0 {
                for t in 0..w {
                    s[t] += s[t + w];
                }
                w /= 2;
            }
            s[0]
        })
        .collect();
    assert_bits(&got, &expected);
}

#[test]
fn shuffles_then_one_warp() {
    let source = r#"
__device__ __forceinline__ float warp_sum(float v) {
    for (int o = 16; o > 0; o >>= 1) v += __shfl_xor_sync(0xffffffffu, v, o);
    return v;
}
extern "C" __global__ void sum(const float* x, float* y, int n) {
    __shared__ float s[32];
    float v = 0;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) v += x[i];
    v = warp_sum(v);
    if ((threadIdx.x & 31) == 0) s[threadIdx.x >> 5] = v;
    __syncthreads();
    if (threadIdx.x < 32) {
        v = threadIdx.x < blockDim.x / 32 ? s[threadIdx.x] : 0.0f;
        v = warp_sum(v);
        if (threadIdx.x == 0) y[blockIdx.x] = v;
    }
}"#;
    let (n, grid, block) = (9_999usize, 3usize, 384usize);
    let x = numbers(n, 2);
    let got = prove(source, ALL, |gpu, module, o| {
        let (dx, dy) = (gpu.upload(&x), gpu.allocate(4 * grid));
        launch(gpu, module, "sum", (grid as u32, block as u32), args![dx, dy, n as i32], o);
        gpu.download::<f32>(dy, grid)
    });
    let butterfly = |mut v: Vec<f32>| {
        for o in [16, 8, 4, 2, 1] {
            v = (0..32).map(|i| v[i] + v[i ^ o]).collect();
        }
        v[0]
    };
    let expected: Vec<f32> = (0..grid)
        .map(|b| {
            let each: Vec<f32> = (0..block)
                .map(|t| x.iter().skip(b * block + t).step_by(grid * block).fold(0.0, |v, x| v + x))
                .collect();
            let mut warps: Vec<f32> = each.chunks(32).map(|w| butterfly(w.to_vec())).collect();
            warps.resize(32, 0.0);
            butterfly(warps)
        })
        .collect();
    assert_bits(&got, &expected);
}

#[test]
fn scan_of_a_block_and_of_a_grid() {
    let source = r#"
extern "C" __global__ void scan(const int* x, int* y, int* sums, int n) {
    __shared__ int s[2][128];
    int t = threadIdx.x, i = blockIdx.x * 128 + t, p = 0;
    s[0][t] = i < n ? x[i] : 0;
    __syncthreads();
    for (int o = 1; o < 128; o *= 2) {
        s[1 - p][t] = s[p][t] + (t >= o ? s[p][t - o] : 0);
        p = 1 - p;
        __syncthreads();
    }
    if (i < n) y[i] = s[p][t];
    if (t == 127) sums[blockIdx.x] = s[p][t];
}
extern "C" __global__ void add(int* y, const int* sums, int n) {
    int i = blockIdx.x * 128 + threadIdx.x;
    int base = 0;
    for (int b = 0; b < blockIdx.x; b++) base += sums[b];
    if (i < n) y[i] += base;
}
extern "C" __global__ void blelloch(const int* x, int* y) {
    __shared__ int s[512];
    int t = threadIdx.x, offset = 1;
    s[2 * t] = x[2 * t];
    s[2 * t + 1] = x[2 * t + 1];
    for (int d = 256; d > 0; d >>= 1) {
        __syncthreads();
        if (t < d) s[offset * (2 * t + 2) - 1] += s[offset * (2 * t + 1) - 1];
        offset *= 2;
    }
    if (t == 0) s[511] = 0;
    for (int d = 1; d < 512; d *= 2) {
        offset >>= 1;
        __syncthreads();
        if (t < d) {
            int a = offset * (2 * t + 1) - 1, b = offset * (2 * t + 2) - 1;
            int v = s[a];
            s[a] = s[b];
            s[b] += v;
        }
    }
    __syncthreads();
    y[2 * t] = s[2 * t];
    y[2 * t + 1] = s[2 * t + 1];
}"#;
    let n = 1000usize;
    let mut random = Random(3);
    let x: Vec<i32> = (0..n).map(|_| (random.draw() % 1000) as i32 - 500).collect();
    let got = prove(source, ALL, |gpu, module, o| {
        let (dx, dy, ds) = (gpu.upload(&x), gpu.allocate(4 * n), gpu.allocate(4 * 8));
        launch(gpu, module, "scan", (8, 128), args![dx, dy, ds, n as i32], o);
        launch(gpu, module, "add", (8, 128), args![dy, ds, n as i32], o);
        let z = gpu.allocate(4 * 512);
        launch(gpu, module, "blelloch", (1, 256), args![dx, z], o);
        [gpu.download::<i32>(dy, n), gpu.download::<i32>(z, 512)].concat()
    });
    let inclusive = x.iter().scan(0, |s, x| {
        *s += x;
        Some(*s)
    });
    let exclusive = x.iter().take(512).scan(0, |s, x| {
        *s += x;
        Some(*s - x)
    });
    assert_eq!(got, inclusive.chain(exclusive).collect::<Vec<i32>>());
}

#[test]
fn softmax_of_rows() {
    let source = r#"
extern "C" __global__ void softmax(const float* x, float* y, int columns) {
    __shared__ float s[64];
    const float* row = x + blockIdx.x * columns;
    float m = -3.402823466e38f;
    for (int i = threadIdx.x; i < columns; i += 64) m = fmaxf(m, row[i]);
    s[threadIdx.x] = m;
    __syncthreads();
    for (int w = 32; w > 0; w >>= 1) {
        if (threadIdx.x < w) s[threadIdx.x] = fmaxf(s[threadIdx.x], s[threadIdx.x + w]);
        __syncthreads();
    }
    m = s[0];
    __syncthreads();
    float sum = 0;
    for (int i = threadIdx.x; i < columns; i += 64) sum += expf(row[i] - m);
    s[threadIdx.x] = sum;
    __syncthreads();
    for (int w = 32; w > 0; w >>= 1) {
        if (threadIdx.x < w) s[threadIdx.x] += s[threadIdx.x + w];
        __syncthreads();
    }
    for (int i = threadIdx.x; i < columns; i += 64) y[blockIdx.x * columns + i] = expf(row[i] - m) / s[0];
}"#;
    let (rows, columns) = (7usize, 201usize);
    let x: Vec<f32> = numbers(rows * columns, 4).iter().map(|x| 10.0 * x).collect();
    let got = prove(source, ENDS, |gpu, module, o| {
        let (dx, dy) = (gpu.upload(&x), gpu.allocate(4 * x.len()));
        launch(gpu, module, "softmax", (rows as u32, 64), args![dx, dy, columns as i32], o);
        gpu.download::<f32>(dy, x.len())
    });
    for (row, got) in x.chunks(columns).zip(got.chunks(columns)) {
        let m = row.iter().fold(f64::MIN, |m, &x| m.max(x.into()));
        let sum: f64 = row.iter().map(|&x| (f64::from(x) - m).exp()).sum();
        for (&x, &y) in row.iter().zip(got) {
            let exact = (f64::from(x) - m).exp() / sum;
            // expf: 2 ulp and the rounding of its argument (|x − m| ≤ 20: 2⁻²⁰ at most), twice; the sum of four numbers a
            // thread and a tree of six levels: 10 roundings; the division: half an ulp.
            let bound = exact * (2.0 * (4.0 * 2f64.powi(-24) + 20.0 * 2f64.powi(-24)) + 11.0 * 2f64.powi(-24));
            assert!((f64::from(y) - exact).abs() <= bound, "{x}: {y}, not {exact}");
        }
    }
}

#[test]
fn last_block_finishes_the_sum() {
    let source = r#"
__device__ unsigned int done = 0;
extern "C" __global__ void sum(const int* x, volatile int* part, int* y, int n) {
    __shared__ int s[128];
    __shared__ bool last;
    int t = threadIdx.x, v = 0;
    for (int i = blockIdx.x * 128 + t; i < n; i += gridDim.x * 128) v += x[i];
    s[t] = v;
    __syncthreads();
    for (int w = 64; w > 0; w >>= 1) {
        if (t < w) s[t] += s[t + w];
        __syncthreads();
    }
    if (t == 0) {
        part[blockIdx.x] = s[0];
        __threadfence();
        last = atomicInc(&done, gridDim.x - 1) == gridDim.x - 1;
    }
    __syncthreads();
    if (last && t == 0) {
        __threadfence();
        int total = 0;
        for (int b = 0; b < gridDim.x; b++) total += part[b];
        *y = total;
    }
}"#;
    let n = 5000;
    let x: Vec<i32> = (0..n).map(|i| i * i % 1013).collect();
    let got = prove(source, ALL, |gpu, module, o| {
        let (dx, part, dy) = (gpu.upload(&x), gpu.allocate(4 * 16), gpu.allocate(4));
        // Twice: atomicInc wraps the counter back to zero.
        for _ in 0..2 {
            let args: &[Arg] = args![dx, part, dy, n];
            launch(gpu, module, "sum", (16, 128), args, o);
        }
        gpu.download::<i32>(dy, 1)
    });
    assert_eq!(got, [x.iter().sum::<i32>()]);
}
