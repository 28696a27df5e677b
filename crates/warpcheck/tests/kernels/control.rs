//! Control flow: divergence, early returns, calls, switches, Philox.

use crate::{ALL, ENDS, launch, prove};

#[test]
fn loops_of_different_length_in_each_lane() {
    let source = r#"
extern "C" __global__ void collatz(const unsigned* x, unsigned* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    unsigned long long v = x[i];
    unsigned steps = 0, odd = 0;
    while (v != 1) {
        if (v & 1) { v = 3 * v + 1; odd++; } else v >>= 1;
        if (++steps > 300) break;
    }
    y[i] = steps << 16 | odd;
}"#;
    let n = 700usize;
    let x: Vec<u32> = (1..=n as u32).collect();
    let got = prove(source, ALL, |gpu, module, o| {
        let (dx, dy) = (gpu.upload(&x), gpu.allocate(4 * n));
        launch(gpu, module, "collatz", (6, 128), args![dx, dy, n as i32], o);
        gpu.download::<u32>(dy, n)
    });
    let expected = x.iter().map(|&x| {
        let (mut v, mut steps, mut odd) = (u64::from(x), 0, 0);
        while v != 1 {
            if v & 1 == 1 {
                v = 3 * v + 1;
                odd += 1;
            } else {
                v /= 2;
            }
            steps += 1;
            if steps > 300 {
                break;
            }
        }
        steps << 16 | odd
    });
    assert_eq!(got, expected.collect::<Vec<u32>>());
}

#[test]
fn functions_that_are_not_inlined() {
    let source = r#"
struct Result { float value; int steps; double sum; };
__noinline__ __device__ float half_way(float a, float b) { return (a + b) * 0.5f; }
__noinline__ __device__ Result bisect(float low, float high, float target) {
    Result r = {0, 0, 0};
    while (r.steps < 20) {
        r.value = half_way(low, high);
        r.sum += r.value;
        r.steps++;
        if (r.value * r.value == target) break;
        if (r.value * r.value < target) low = r.value; else high = r.value;
    }
    return r;
}
__noinline__ __device__ void store(float* v, int* s, double* d, const Result& r, int i) {
    if (r.steps & 1) { v[i] = -r.value; s[i] = r.steps; d[i] = r.sum; return; }
    v[i] = r.value; s[i] = r.steps; d[i] = r.sum;
}
extern "C" __global__ void roots(float* v, int* s, double* d) {
    int i = threadIdx.x;
    if (i % 3 == 2) { v[i] = 0; s[i] = 0; d[i] = 0; return; }
    Result r = bisect(0.0f, 16.0f, (float)i);
    store(v, s, d, r, i);
}"#;
    let got = prove(source, ALL, |gpu, module, o| {
        let (v, s, d) = (gpu.allocate(4 * 96), gpu.allocate(4 * 96), gpu.allocate(8 * 96));
        launch(gpu, module, "roots", (1, 96), args![v, s, d], o);
        let d = gpu.download::<u32>(d, 192);
        [gpu.download::<u32>(v, 96), gpu.download::<u32>(s, 96), d].concat()
    });
    for i in 0..96 {
        let (mut low, mut high, mut value, mut steps, mut sum) = (0f32, 16f32, 0f32, 0, 0f64);
        while steps < 20 && i % 3 != 2 {
            value = (low + high) * 0.5;
            sum += f64::from(value);
            steps += 1;
            if value * value == i as f32 {
                break;
            }
            if value * value < i as f32 {
                low = value;
            } else {
                high = value;
            }
        }
        let value = if steps & 1 == 1 { -value } else { value };
        assert_eq!((f32::from_bits(got[i]), got[96 + i]), (value, steps), "{i}");
        let bits = u64::from(got[193 + 2 * i]) << 32 | u64::from(got[192 + 2 * i]);
        assert_eq!(f64::from_bits(bits), sum, "{i}");
    }
}

#[test]
fn switches_dense_and_sparse_with_fall_through() {
    let source = r#"
extern "C" __global__ void pick(const int* x, int* y) {
    int i = threadIdx.x, v = x[i], r = 0;
    switch (v) {
        case 0: r = 5; break;
        case 1: r = v * 3; break;
        case 2: r += 100;
        case 3: r += 10; break;
        case 4: { for (int k = 0; k < i; k++) r += k; break; }
        case 5: y[i] = -1; return;
        case 6: r = x[(i + 1) % 128]; break;
        case 7: r = 7 << v; break;
        case 1000: r = 1; break;
        case -50000: r = 2; break;
        default: r = v / 3;
    }
    y[i] = r + 1;
}"#;
    let x: Vec<i32> = (0..128)
        .map(|i| {
            if i % 11 == 10 {
                1000
            } else if i % 13 == 12 {
                -50000
            } else {
                i % 9
            }
        })
        .collect();
    let got = prove(source, ALL, |gpu, module, o| {
        let (dx, dy) = (gpu.upload(&x), gpu.allocate(4 * 128));
        launch(gpu, module, "pick", (1, 128), args![dx, dy], o);
        gpu.download::<i32>(dy, 128)
    });
    let expected = (0..128).map(|i| {
        let v = x[i];
        match v {
            0 => 6,
            1 => 4,
            2 => 111,
            3 => 11,
            4 => (i * i.saturating_sub(1) / 2) as i32 + 1,
            5 => -1,
            6 => x[(i + 1) % 128] + 1,
            7 => (7 << 7) + 1,
            1000 => 2,
            -50000 => 3,
            v => v / 3 + 1,
        }
    });
    assert_eq!(got, expected.collect::<Vec<i32>>());
}

#[test]
fn barriers_in_loops_after_early_work() {
    // Each thread walks a ring in shared memory; threads beyond the ring only keep the barriers company.
    let source = r#"
extern "C" __global__ void ring(int* y, int n, int rounds) {
    __shared__ int s[96];
    int t = threadIdx.x;
    if (t < n) s[t] = t;
    __syncthreads();
    for (int r = 0; r < rounds; r++) {
        int v = 0;
        if (t < n) {
            v = s[(t + 1) % n];
            if (v & 1) v = 3 * v + r; else v = v / 2;
        }
        __syncthreads();
        if (t < n) s[t] = v;
        __syncthreads();
    }
    if (t < n) y[t] = s[t];
}"#;
    let got = prove(source, ALL, |gpu, module, o| {
        let y = gpu.allocate(4 * 90);
        launch(gpu, module, "ring", (1, 128), args![y, 90i32, 17i32], o);
        gpu.download::<i32>(y, 90)
    });
    let mut s: Vec<i32> = (0..90).collect();
    for r in 0..17 {
        s = (0..90)
            .map(|t| s[(t + 1) % 90])
            .map(|v| if v & 1 == 1 { v.wrapping_mul(3).wrapping_add(r) } else { v / 2 })
            .collect();
    }
    assert_eq!(got, s);
}

#[test]
fn named_barriers_between_halves_of_a_block() {
    // Producers and consumers meet at barriers 1 and 2, arriving and waiting.
    let source = r#"
extern "C" __global__ void hand_over(const int* x, int* y, int rounds) {
    __shared__ int s[64];
    int t = threadIdx.x;
    if (t < 64) {
        for (int r = 0; r < rounds; r++) {
            if (r) asm volatile("bar.sync 2, 128;" ::: "memory");
            s[t] = x[r * 64 + t] * 2;
            asm volatile("bar.arrive 1, 128;" ::: "memory");
        }
    } else {
        t -= 64;
        int sum = 0;
        for (int r = 0; r < rounds; r++) {
            asm volatile("bar.sync 1, 128;" ::: "memory");
            sum += s[63 - t];
            if (r + 1 < rounds) asm volatile("bar.arrive 2, 128;" ::: "memory");
        }
        y[t] = sum;
    }
}"#;
    let x: Vec<i32> = (0..320).map(|i| i * 7 % 61).collect();
    let got = prove(source, ALL, |gpu, module, o| {
        let (dx, dy) = (gpu.upload(&x), gpu.allocate(4 * 64));
        launch(gpu, module, "hand_over", (1, 128), args![dx, dy, 5i32], o);
        gpu.download::<i32>(dy, 64)
    });
    let expected: Vec<i32> = (0..64).map(|t| (0..5).map(|r| 2 * x[r * 64 + 63 - t]).sum()).collect();
    assert_eq!(got, expected);
}

#[test]
fn barriers_that_reduce() {
    let source = r#"
extern "C" __global__ void votes(int* y, int n) {
    int t = threadIdx.x;
    y[3 * t] = __syncthreads_count(t % 3 == 0);
    y[3 * t + 1] = __syncthreads_and(t < n);
    y[3 * t + 2] = __syncthreads_or(t == n);
}"#;
    let got = prove(source, ENDS, |gpu, module, o| {
        let y = gpu.allocate(4 * 3 * 100);
        launch(gpu, module, "votes", (1, 100), args![y, 99i32], o);
        gpu.download::<i32>(y, 300)
    });
    for row in got.chunks(3) {
        assert_eq!((row[0], row[1] != 0, row[2] != 0), (34, false, true));
    }
}

#[test]
fn philox_4x32_10() {
    let source = r#"
extern "C" __global__ void philox(uint4* y, unsigned k0, unsigned k1, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    uint4 c = make_uint4(i, 0, 3, 0xdeadbeef);
    for (int r = 0; r < 10; r++) {
        unsigned h0 = __umulhi(0xD2511F53u, c.x), l0 = 0xD2511F53u * c.x;
        unsigned h1 = __umulhi(0xCD9E8D57u, c.z), l1 = 0xCD9E8D57u * c.z;
        c = make_uint4(h1 ^ c.y ^ k0, l1, h0 ^ c.w ^ k1, l0);
        k0 += 0x9E3779B9u; k1 += 0xBB67AE85u;
    }
    y[i] = c;
}"#;
    let n = 300usize;
    let got = prove(source, ALL, |gpu, module, o| {
        let y = gpu.allocate(16 * n);
        launch(gpu, module, "philox", (3, 128), args![y, 0x1234_5678u32, 0x9abc_def0u32, n as i32], o);
        gpu.download::<u32>(y, 4 * n)
    });
    let expected = (0..n as u32).flat_map(|i| {
        let (mut c, mut k) = ([i, 0, 3, 0xdead_beefu32], [0x1234_5678u32, 0x9abc_def0]);
        for _ in 0..10 {
            let (p, q) = (u64::from(c[0]) * 0xd251_1f53, u64::from(c[2]) * 0xcd9e_8d57);
            c = [(q >> 32) as u32 ^ c[1] ^ k[0], q as u32, (p >> 32) as u32 ^ c[3] ^ k[1], p as u32];
            k = [k[0].wrapping_add(0x9e37_79b9), k[1].wrapping_add(0xbb67_ae85)];
        }
        c
    });
    assert_eq!(got, expected.collect::<Vec<u32>>());
}

#[test]
fn calls_through_a_table_of_functions() {
    let source = r#"
__device__ int add(int a, int b) { return a + b; }
__device__ int sub(int a, int b) { return a - b; }
__device__ int mul(int a, int b) { return a * b; }
typedef int (*Op)(int, int);
__device__ Op table[3] = {add, sub, mul};
extern "C" __global__ void apply(const int* which, int* y) {
    int i = threadIdx.x;
    y[i] = table[which[i]](i, 7);
}"#;
    let which: Vec<i32> = (0..64).map(|i| i * 5 % 3).collect();
    let got = prove(source, ENDS, |gpu, module, o| {
        let (dx, dy) = (gpu.upload(&which), gpu.allocate(4 * 64));
        launch(gpu, module, "apply", (1, 64), args![dx, dy], o);
        gpu.download::<i32>(dy, 64)
    });
    let expected = (0..64).map(|i| match which[i as usize] {
        0 => i + 7,
        1 => i - 7,
        _ => i * 7,
    });
    assert_eq!(got, expected.collect::<Vec<i32>>());
}
