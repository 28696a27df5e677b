//! Atomics: histograms, every operation and type, locks, barriers of a grid, `mbarrier`.

use crate::support::Random;
use crate::{ALL, AMPERE, ENDS, launch, prove};

#[test]
fn histogram_by_atomics_in_shared_and_global_memory() {
    let source = r#"
extern "C" __global__ void histogram(const unsigned char* x, unsigned* y, int n) {
    __shared__ unsigned s[256];
    for (int i = threadIdx.x; i < 256; i += blockDim.x) s[i] = 0;
    __syncthreads();
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) atomicAdd(&s[x[i]], 1u);
    __syncthreads();
    for (int i = threadIdx.x; i < 256; i += blockDim.x) if (s[i]) atomicAdd(&y[i], s[i]);
}"#;
    let mut random = Random(11);
    let x: Vec<u8> = (0..20_000).map(|_| (random.draw() & random.draw() & 0xff) as u8).collect();
    let got = prove(source, ALL, |gpu, module, o| {
        let (dx, dy) = (gpu.upload(&x), gpu.zeros(1024));
        launch(gpu, module, "histogram", (7, 192), args![dx, dy, x.len() as i32], o);
        gpu.download::<u32>(dy, 256)
    });
    let mut expected = vec![0; 256];
    x.iter().for_each(|&x| expected[usize::from(x)] += 1);
    assert_eq!(got, expected);
}

#[test]
fn every_operation_whose_order_does_not_matter() {
    let source = r#"
extern "C" __global__ void all(const unsigned* x, int* i, unsigned* u, unsigned long long* w, float* f, double* d) {
    int t = blockIdx.x * blockDim.x + threadIdx.x;
    unsigned v = x[t];
    atomicAdd(i + 0, (int)v); atomicSub(i + 1, (int)v); atomicMin(i + 2, (int)v); atomicMax(i + 3, (int)v);
    atomicAnd(u + 0, v | 0xff); atomicOr(u + 1, v & 0xffff00); atomicXor(u + 2, v);
    atomicMin(u + 3, v); atomicMax(u + 4, v); atomicInc(u + 5, 99); atomicDec(u + 6, 99);
    atomicAdd(w + 0, (unsigned long long)v * v); atomicMin(w + 1, (unsigned long long)v * v);
    atomicMax(w + 2, (unsigned long long)v * v); atomicXor(w + 3, (unsigned long long)v << 20);
    atomicMin((long long*)w + 4, (long long)(int)v * 77); atomicMax((long long*)w + 5, (long long)(int)v * 77);
    atomicAnd(w + 6, ~((unsigned long long)v << 13)); atomicOr(w + 7, (unsigned long long)v << 29);
    atomicAdd(f, (float)(v & 7)); atomicAdd(d, (double)(v & 0xfff));
    atomicAdd_block(u + 7, 1u); atomicAdd_system(u + 8, 2u);
}"#;
    let mut random = Random(12);
    let n = 1024;
    let x: Vec<u32> = (0..n).map(|_| random.draw() as u32).collect();
    let got = prove(source, ALL, |gpu, module, o| {
        let dx = gpu.upload(&x);
        let i = gpu.upload(&[0i32, 0, i32::MAX, i32::MIN]);
        let u = gpu.upload(&[u32::MAX, 0, 0, u32::MAX, 0, 0, 0, 0, 0]);
        let w = gpu.upload(&[0u64, u64::MAX, 0, 0, i64::MAX as u64, i64::MIN as u64, u64::MAX, 0]);
        let (f, d) = (gpu.zeros(4), gpu.zeros(8));
        launch(gpu, module, "all", (8, 128), args![dx, i, u, w, f, d], o);
        let mut all = gpu.download::<u32>(i, 4);
        all.extend(gpu.download::<u32>(u, 9));
        all.extend(gpu.download::<u32>(w, 16));
        all.extend(gpu.download::<u32>(f, 1));
        all.extend(gpu.download::<u32>(d, 2));
        all
    });
    let s = || x.iter().map(|&v| v as i32);
    let sum = s().fold(0i32, |a, v| a.wrapping_add(v));
    let mut expected: Vec<u32> =
        vec![sum as u32, sum.wrapping_neg() as u32, s().min().unwrap() as u32, s().max().unwrap() as u32];
    let fold = |start, f: fn(u32, u32) -> u32| x.iter().fold(start, |a, &v| f(a, v));
    expected.push(fold(u32::MAX, |a, v| a & (v | 0xff)));
    expected.push(fold(0, |a, v| a | v & 0xffff00));
    expected.push(fold(0, |a, v| a ^ v));
    expected.push(fold(u32::MAX, u32::min));
    expected.push(fold(0, u32::max));
    expected.push(n % 100);
    expected.push((100 - n % 100) % 100);
    expected.push(n);
    expected.push(2 * n);
    let square = || x.iter().map(|&v| u64::from(v) * u64::from(v));
    let wide = [
        square().fold(0, u64::wrapping_add),
        square().min().unwrap(),
        square().max().unwrap(),
        x.iter().fold(0, |a, &v| a ^ u64::from(v) << 20),
        s().map(|v| i64::from(v) * 77).min().unwrap() as u64,
        s().map(|v| i64::from(v) * 77).max().unwrap() as u64,
        x.iter().fold(u64::MAX, |a, &v| a & !(u64::from(v) << 13)),
        x.iter().fold(0, |a, &v| a | u64::from(v) << 29),
    ];
    expected.extend(wide.iter().flat_map(|&w| [w as u32, (w >> 32) as u32]));
    expected.push((x.iter().map(|v| v & 7).sum::<u32>() as f32).to_bits());
    let d = f64::from(x.iter().map(|v| v & 0xfff).sum::<u32>()).to_bits();
    expected.extend([d as u32, (d >> 32) as u32]);
    assert_eq!(got, expected);
}

#[test]
fn what_atomics_return() {
    // The old values of a counter are a permutation; exchanged tokens are neither lost nor doubled.
    let source = r#"
extern "C" __global__ void tickets(unsigned* counter, unsigned* token, unsigned* y, unsigned* z, int* flags) {
    int t = blockIdx.x * blockDim.x + threadIdx.x;
    y[atomicAdd(counter, 1u)] = 1;
    unsigned old = atomicExch(token, t + 1);
    atomicAdd(&z[old], 1u);
    if (atomicCAS(flags, 0, 1) == 0) atomicAdd(flags + 1, 1);
    unsigned short* h = (unsigned short*)(flags + 2);
    atomicCAS(h + 1, (unsigned short)0, (unsigned short)0x1234);
}"#;
    let n = 512usize;
    let got = prove(source, ALL, |gpu, module, o| {
        let (counter, token, y) = (gpu.zeros(4), gpu.zeros(4), gpu.zeros(4 * n));
        let (z, flags) = (gpu.zeros(4 * (n + 1)), gpu.zeros(12));
        launch(gpu, module, "tickets", (4, 128), args![counter, token, y, z, flags], o);
        let last = gpu.download::<u32>(token, 1)[0] as usize;
        let mut z = gpu.download::<u32>(z, n + 1);
        z[last] += 1;
        [gpu.download::<u32>(y, n), z, gpu.download::<u32>(flags, 3), gpu.download::<u32>(counter, 1)].concat()
    });
    assert!(got[..2 * n + 1].iter().all(|&x| x == 1));
    assert_eq!(got[2 * n + 1..], [1, 1, 0x1234_0000, n as u32]);
}

#[test]
fn pairs_of_halves_add_atomically() {
    let source = r#"
extern "C" __global__ void halves(unsigned* y, unsigned short* h) {
    unsigned pair = 0x40003c00u, old; // 2, 1
    asm volatile("atom.add.noftz.f16x2 %0, [%1], %2;" : "=r"(old) : "l"(y), "r"(pair) : "memory");
    asm volatile("red.add.noftz.f16x2 [%0], %1;" :: "l"(y + 1), "r"(pair) : "memory");
    unsigned short one = 0x3c00, before;
    asm volatile("atom.add.noftz.f16 %0, [%1], %2;" : "=h"(before) : "l"(h + 1), "h"(one) : "memory");
}"#;
    let got = prove(source, ALL, |gpu, module, o| {
        let (y, h) = (gpu.zeros(8), gpu.zeros(4));
        launch(gpu, module, "halves", (4, 64), args![y, h], o);
        [gpu.download::<u32>(y, 2), gpu.download::<u32>(h, 1)].concat()
    });
    // 512 and 256 in each.
    assert_eq!(got, [0x6000_5c00, 0x6000_5c00, 0x5c00_0000]);
}

#[test]
fn a_lock_that_blocks_take_in_turn() {
    let source = r#"
__device__ int lock = 0;
extern "C" __global__ void critical(volatile int* y) {
    if (threadIdx.x != 0) return;
    while (atomicCAS(&lock, 0, 1) != 0) { }
    __threadfence();
    int v = y[0];
    y[0] = v + 1;
    y[1] = v * 2;
    __threadfence();
    atomicExch(&lock, 0);
}"#;
    let got = prove(source, ENDS, |gpu, module, o| {
        let y = gpu.zeros(8);
        launch(gpu, module, "critical", (40, 64), args![y], o);
        gpu.download::<i32>(y, 2)
    });
    assert_eq!(got, [40, 78]);
}

#[test]
fn a_barrier_of_the_whole_grid() {
    // Every block waits for all: those that have not begun must get their turn.
    let source = r#"
extern "C" __global__ void rounds(int* x, unsigned* arrived, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, total = gridDim.x * blockDim.x;
    for (int r = 0; r < n; r++) {
        int v = __ldcg(&x[(r & 1) * total + (i + blockDim.x) % total]);
        __stcg(&x[(1 - (r & 1)) * total + i], v + i);
        __syncthreads();
        if (threadIdx.x == 0) {
            __threadfence();
            atomicAdd(arrived, 1u);
            while (atomicAdd(arrived, 0u) < (r + 1) * gridDim.x) { }
            __threadfence();
        }
        __syncthreads();
    }
}"#;
    let (grid, block, n) = (6usize, 32usize, 4usize);
    let total = grid * block;
    let got = prove(source, ENDS, |gpu, module, o| {
        let (x, arrived) = (gpu.zeros(8 * total), gpu.zeros(4));
        launch(gpu, module, "rounds", (grid as u32, block as u32), args![x, arrived, n as i32], o);
        gpu.download::<i32>(x, total)
    });
    let mut x = vec![0; total];
    for _ in 0..n {
        x = (0..total).map(|i| x[(i + block) % total] + i as i32).collect();
    }
    assert_eq!(got, x);
}

#[test]
fn an_mbarrier_in_shared_memory() {
    let source = r#"
__device__ unsigned address(void* p) { return (unsigned)__cvta_generic_to_shared(p); }
extern "C" __global__ void phases(const int* x, int* y, int rounds) {
    __shared__ __align__(8) unsigned long long bar;
    __shared__ int s[64];
    int t = threadIdx.x, sum = 0;
    if (t == 0) asm volatile("mbarrier.init.shared.b64 [%0], %1;" :: "r"(address(&bar)), "r"(64) : "memory");
    __syncthreads();
    for (int r = 0; r < rounds; r++) {
        s[t] = x[r * 64 + t];
        unsigned long long state;
        asm volatile("mbarrier.arrive.shared.b64 %0, [%1];" : "=l"(state) : "r"(address(&bar)) : "memory");
        unsigned done = 0;
        while (!done)
            asm volatile("{ .reg .pred p; mbarrier.test_wait.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
                         : "=r"(done) : "r"(address(&bar)), "l"(state) : "memory");
        sum = sum * 3 + s[63 - t];
        __syncthreads();
    }
    y[t] = sum;
}"#;
    let x: Vec<i32> = (0..256).map(|i| i * 13 % 101).collect();
    let got = prove(source, AMPERE, |gpu, module, o| {
        let (dx, y) = (gpu.upload(&x), gpu.allocate(4 * 64));
        launch(gpu, module, "phases", (1, 64), args![dx, y, 4i32], o);
        gpu.download::<i32>(y, 64)
    });
    let expected: Vec<i32> = (0..64).map(|t| (0..4).fold(0, |s, r| s * 3 + x[r * 64 + 63 - t])).collect();
    assert_eq!(got, expected);
}
