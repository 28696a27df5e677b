//! Shuffles, votes, matches, reductions of a warp.

use crate::{ALL, AMPERE, ENDS, launch, prove};

#[test]
fn shuffles_of_every_kind_and_width() {
    let source = r#"
extern "C" __global__ void shuffle(const int* x, int* y, double* z) {
    int t = threadIdx.x, v = x[t];
    y += 12 * t;
    y[0] = __shfl_sync(0xffffffffu, v, 5); y[1] = __shfl_sync(0xffffffffu, v, t + 3, 8);
    y[2] = __shfl_up_sync(0xffffffffu, v, 1); y[3] = __shfl_up_sync(0xffffffffu, v, 3, 16);
    y[4] = __shfl_down_sync(0xffffffffu, v, 2); y[5] = __shfl_down_sync(0xffffffffu, v, 5, 8);
    y[6] = __shfl_xor_sync(0xffffffffu, v, 9); y[7] = __shfl_xor_sync(0xffffffffu, v, 12, 8);
    y[8] = __shfl_sync(0xffffffffu, v, (t * 7) % 32); y[9] = -1;
    if (t % 2) y[9] = __shfl_sync(0xaaaaaaaau, v, (t + 2) % 32);
    int p, q;
    asm volatile("{ .reg .pred p; shfl.sync.up.b32 %0|p, %2, 4, 0, -1; selp.s32 %1, 1, 0, p; }" : "=r"(p), "=r"(q) : "r"(v));
    y[10] = p; y[11] = q;
    z[t] = __shfl_down_sync(0xffffffffu, v * 1.5, 1) + __shfl_xor_sync(0xffffffffu, (long long)v << 33, 3);
}"#;
    let x: Vec<i32> = (0..64).map(|i| i * i + 1).collect();
    let got = prove(source, ALL, |gpu, module, o| {
        let (dx, y, z) = (gpu.upload(&x), gpu.allocate(4 * 12 * 64), gpu.allocate(8 * 64));
        launch(gpu, module, "shuffle", (1, 64), args![dx, y, z], o);
        [gpu.download::<i32>(y, 12 * 64), gpu.download::<i32>(z, 128)].concat()
    });
    for t in 0..64usize {
        let (warp, l) = (t & 32, t & 31);
        let at = |lane: usize| x[warp + lane];
        let section = |w: usize| l & !(w - 1);
        let expected = [
            at(5),
            at(section(8) + (t + 3) % 8),
            if l >= 1 { at(l - 1) } else { at(l) },
            if l % 16 >= 3 { at(l - 3) } else { at(l) },
            if l + 2 < 32 { at(l + 2) } else { at(l) },
            if l % 8 + 5 < 8 { at(l + 5) } else { at(l) },
            at(l ^ 9),
            // Beyond the section of 8 a lane keeps its own: lower sections may be read, higher ones not.
            if (l ^ 12) <= section(8) + 7 { at(l ^ 12) } else { at(l) },
            at(t * 7 % 32),
            if t % 2 == 1 { at((t + 2) % 32) } else { -1 },
            if l >= 4 { at(l - 4) } else { at(l) },
            i32::from(l >= 4),
        ];
        assert_eq!(got[12 * t..12 * t + 12], expected, "thread {t}");
        let z = f64::from(if l + 1 < 32 { at(l + 1) } else { at(l) }) * 1.5 + (i64::from(at(l ^ 3)) << 33) as f64;
        let bits = (got[768 + 2 * t + 1] as u32 as u64) << 32 | u64::from(got[768 + 2 * t] as u32);
        assert_eq!(f64::from_bits(bits), z, "thread {t}");
    }
}

#[test]
fn votes_and_matches() {
    let source = r#"
extern "C" __global__ void vote(const int* x, unsigned* y) {
    int t = threadIdx.x, v = x[t];
    y += 8 * t;
    y[0] = __ballot_sync(0xffffffffu, v > 3); y[1] = __all_sync(0xffffffffu, v < 100);
    y[2] = __any_sync(0xffffffffu, v == 2); y[3] = __match_any_sync(0xffffffffu, v);
    int all; y[4] = __match_all_sync(0xffffffffu, v / 100, &all); y[5] = all;
    y[6] = 0; y[7] = 0;
    if (v & 1) { y[6] = __ballot_sync(__activemask(), v > 4); __syncwarp(__activemask()); y[7] = __activemask(); }
}"#;
    let x: Vec<i32> = (0..64).map(|i| if i < 32 { i * 5 % 7 } else { 200 + i % 2 }).collect();
    let got = prove(source, ALL, |gpu, module, o| {
        let (dx, y) = (gpu.upload(&x), gpu.allocate(4 * 8 * 64));
        launch(gpu, module, "vote", (1, 64), args![dx, y], o);
        gpu.download::<u32>(y, 8 * 64)
    });
    for t in 0..64usize {
        let warp = &x[t & 32..][..32];
        let mask = |f: &dyn Fn(i32) -> bool| (0..32).fold(0u32, |m, i| m | u32::from(f(warp[i])) << i);
        let v = x[t];
        let odd = mask(&|x| x & 1 == 1);
        let same = warp.iter().all(|&x| x / 100 == v / 100);
        let expected = [
            mask(&|x| x > 3),
            u32::from(mask(&|x| x < 100) == u32::MAX),
            u32::from(mask(&|x| x == 2) != 0),
            mask(&|x| x == v),
            if same { u32::MAX } else { 0 },
            u32::from(same),
            if v & 1 == 1 { mask(&|x| x & 1 == 1 && x > 4) } else { 0 },
            if v & 1 == 1 { odd } else { 0 },
        ];
        let row = &got[8 * t..8 * t + 8];
        let truth = [
            row[0],
            u32::from(row[1] != 0),
            u32::from(row[2] != 0),
            row[3],
            row[4],
            u32::from(row[5] != 0),
            row[6],
            row[7],
        ];
        assert_eq!(truth, expected, "thread {t}");
    }
}

#[test]
fn reductions_in_one_instruction() {
    let source = r#"
extern "C" __global__ void redux(const int* x, int* y) {
    int t = threadIdx.x, v = x[t];
    y += 8 * t;
    y[0] = __reduce_add_sync(0xffffffffu, v); y[1] = __reduce_min_sync(0xffffffffu, v);
    y[2] = __reduce_max_sync(0xffffffffu, v); y[3] = __reduce_and_sync(0xffffffffu, (unsigned)v);
    y[4] = __reduce_or_sync(0xffffffffu, (unsigned)v); y[5] = __reduce_xor_sync(0xffffffffu, (unsigned)v);
    y[6] = __reduce_max_sync(0xffffffffu, (unsigned)v); y[7] = 0;
    if (t % 4 == 1) y[7] = __reduce_add_sync(0x22222222u, v);
}"#;
    let x: Vec<i32> = (0..96).map(|i: i32| (i * 7919).wrapping_mul(104_729) ^ i << 27).collect();
    let got = prove(source, AMPERE, |gpu, module, o| {
        let (dx, y) = (gpu.upload(&x), gpu.allocate(4 * 8 * 96));
        launch(gpu, module, "redux", (1, 96), args![dx, y], o);
        gpu.download::<i32>(y, 8 * 96)
    });
    for t in 0..96usize {
        let w = &x[t / 32 * 32..][..32];
        let fold = |f: fn(i32, i32) -> i32| w.iter().copied().reduce(f).unwrap();
        let expected = [
            fold(i32::wrapping_add),
            fold(i32::min),
            fold(i32::max),
            fold(|a, b| a & b),
            fold(|a, b| a | b),
            fold(|a, b| a ^ b),
            fold(|a, b| (a as u32).max(b as u32) as i32),
            if t % 4 == 1 { w.iter().skip(1).step_by(4).fold(0, |s, &v| s.wrapping_add(v)) } else { 0 },
        ];
        assert_eq!(got[8 * t..8 * t + 8], expected, "thread {t}");
    }
}

#[test]
fn lanes_diverge_and_meet_again() {
    // Warp-level hand-over through shared memory, ordered by __syncwarp alone.
    let source = r#"
extern "C" __global__ void pass(const int* x, int* y) {
    __shared__ int s[64];
    int t = threadIdx.x, l = t & 31, w = t & ~31, v = x[t];
    s[t] = v;
    __syncwarp();
    if (l < 16) v += s[w + 31 - l]; else v -= s[w + 31 - l];
    __syncwarp();
    s[t] = v;
    __syncwarp();
    for (int i = 0; i < l % 5; i++) v += s[w + (l + i) % 32];
    __syncwarp();
    y[t] = v;
}"#;
    let x: Vec<i32> = (0..64).map(|i| i * 37 % 101).collect();
    let got = prove(source, ENDS, |gpu, module, o| {
        let (dx, y) = (gpu.upload(&x), gpu.allocate(4 * 64));
        launch(gpu, module, "pass", (1, 64), args![dx, y], o);
        gpu.download::<i32>(y, 64)
    });
    let first: Vec<i32> = (0..64usize)
        .map(|t| {
            let other = x[(t & 32) + 31 - (t & 31)];
            if t & 31 < 16 { x[t] + other } else { x[t] - other }
        })
        .collect();
    let expected: Vec<i32> = (0..64usize)
        .map(|t| first[t] + (0..(t & 31) % 5).map(|i| first[(t & 32) + ((t & 31) + i) % 32]).sum::<i32>())
        .collect();
    assert_eq!(got, expected);
}

#[test]
fn part_of_a_warp_shuffles_in_a_divergent_branch() {
    let source = r#"
extern "C" __global__ void part(int* y) {
    int t = threadIdx.x;
    int v = t * t;
    if (t < 12) { for (int o = 4; o; o >>= 1) v += __shfl_down_sync(0xfffu, v, o, 16); }
    else if (t < 20) v = __shfl_xor_sync(0xff000u, v, 4);
    else v = -v;
    y[t] = v;
}"#;
    let got = prove(source, ALL, |gpu, module, o| {
        let y = gpu.allocate(4 * 30);
        launch(gpu, module, "part", (1, 30), args![y], o);
        gpu.download::<i32>(y, 30)
    });
    // Of the first twelve only the lanes whose sources are among them are defined.
    let square = |t: i32| t * t;
    assert_eq!(got[0], (0..8).map(square).sum::<i32>());
    for t in 12..16 {
        assert_eq!((got[t as usize], got[t as usize + 4]), (square(t ^ 4), square((t + 4) ^ 4)));
    }
    for t in 20..30 {
        assert_eq!(got[t as usize], -square(t));
    }
}
