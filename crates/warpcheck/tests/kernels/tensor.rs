//! Tensor cores: `mma.sync` of every type, fed by `ldmatrix` and `cp.async`.

use crate::support::Random;
use crate::support::gpu::assert_clean;
use crate::{ALL, AMPERE, assert_bits, launch, prove};
use warpcheck::arith::half;

/// d = c; d = d + a·b for each k in turn, in `f32`: the order that the tensor cores here promise.
fn product(a: &[f32], b: &[f32], (m, n, k): (usize, usize, usize)) -> Vec<f32> {
    (0..m * n).map(|i| (0..k).fold(0.0f32, |d, q| d + a[i / n * k + q] * b[q * n + i % n])).collect()
}

fn halves(n: usize, seed: u64) -> (Vec<u16>, Vec<f32>) {
    let mut random = Random(seed);
    let bits: Vec<u16> = (0..n).map(|_| half::f16_from_f32(random.unit())).collect();
    let values = bits.iter().map(|&b| half::f16_to_f32(b)).collect();
    (bits, values)
}

#[test]
fn a_gemm_of_halves_with_ldmatrix_and_cp_async() {
    let source = r#"
typedef unsigned short half;
__device__ unsigned shared(const void* p) { return (unsigned)__cvta_generic_to_shared(p); }
extern "C" __global__ void gemm(const half* a, const half* b, float* c, int m, int n, int k) {
    // A block of 4 warps computes 32 x 32; a warp 16 x 16 as two 16 x 8.
    __shared__ __align__(16) half as[2][32][24], bs[2][16][40];
    int t = threadIdx.x, lane = t % 32, wm = t / 64, wn = t / 32 % 2;
    int row = blockIdx.y * 32, column = blockIdx.x * 32;
    float acc[2][4] = {};
    auto load = [&](int stage, int k0) {
        if (t < 64) {
            const half* p = a + (row + t / 2) * k + k0 + t % 2 * 8;
            asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"(shared(&as[stage][t / 2][t % 2 * 8])), "l"(p));
        } else {
            int q = t - 64;
            const half* p = b + (k0 + q / 4) * n + column + q % 4 * 8;
            asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"(shared(&bs[stage][q / 4][q % 4 * 8])), "l"(p));
        }
        asm volatile("cp.async.commit_group;");
    };
    load(0, 0);
    for (int k0 = 0, stage = 0; k0 < k; k0 += 16, stage ^= 1) {
        if (k0 + 16 < k) { load(stage ^ 1, k0 + 16); asm volatile("cp.async.wait_group 1;" ::: "memory"); }
        else asm volatile("cp.async.wait_group 0;" ::: "memory");
        __syncthreads();
        unsigned x[4], y[4];
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
            : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
            : "r"(shared(&as[stage][wm * 16 + lane % 16][lane / 16 * 8])) : "memory");
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
            : "=r"(y[0]), "=r"(y[1]), "=r"(y[2]), "=r"(y[3])
            : "r"(shared(&bs[stage][lane % 16][wn * 16 + lane / 16 * 8])) : "memory");
        for (int j = 0; j < 2; j++)
            asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                : "+f"(acc[j][0]), "+f"(acc[j][1]), "+f"(acc[j][2]), "+f"(acc[j][3])
                : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[2 * j]), "r"(y[2 * j + 1]));
        __syncthreads();
    }
    for (int j = 0; j < 2; j++)
        for (int i = 0; i < 4; i++) {
            int r = row + wm * 16 + lane / 4 + i / 2 * 8, s = column + wn * 16 + j * 8 + lane % 4 * 2 + i % 2;
            c[r * n + s] = acc[j][i];
        }
}"#;
    let (m, n, k) = (64, 96, 80);
    let ((a, va), (b, vb)) = (halves(m * k, 21), halves(k * n, 22));
    let got = prove(source, AMPERE, |gpu, module, o| {
        let (da, db, dc) = (gpu.upload(&a), gpu.upload(&b), gpu.allocate(4 * m * n));
        let args = args![da, db, dc, m as i32, n as i32, k as i32];
        assert_clean("gemm", &gpu.launch(module, "gemm", ([3, 2, 1], [128, 1, 1], 0), args, o));
        gpu.download::<f32>(dc, m * n)
    });
    assert_bits(&got, &product(&va, &vb, (m, n, k)));
}

/// One warp, one `mma`: fragments are gathered from row-major matrices by the layouts written out in CUDA C.
fn one(form: &str, (m, k): (usize, usize), registers: (usize, usize, usize), float_c: bool, gather: &str) -> String {
    let list = |from: usize, n: usize| (from..from + n).map(|i| format!("%{i}")).collect::<Vec<_>>().join(", ");
    let (ra, rb, rc) = registers;
    let constraint = if float_c { "f" } else { "r" };
    let ctype = if float_c { "float" } else { "unsigned" };
    let names = |prefix: &str, c: &str, n: usize| {
        (0..n).map(|i| format!("\"{c}\"({prefix}[{i}])")).collect::<Vec<_>>().join(", ")
    };
    format!(
        r#"
extern "C" __global__ void one(const void* pa, const void* pb, {ctype}* pc) {{
    const int M = {m}, K = {k};
    int lane = threadIdx.x, g = lane / 4, t = lane % 4;
    unsigned a[{ra}], b[{rb}]; {ctype} c[{rc}];
    for (int i = 0; i < {rc}; i++) c[i] = pc[lane * {rc} + i];
    {gather}
    asm volatile("mma.sync.aligned.{form} {{{}}}, {{{}}}, {{{}}}, {{{}}};"
        : {} : {}, {});
    for (int i = 0; i < {rc}; i++) pc[lane * {rc} + i] = c[i];
}}"#,
        list(0, rc),
        list(rc, ra),
        list(rc + ra, rb),
        list(0, rc),
        names("c", &format!("+{constraint}"), rc),
        names("a", "r", ra),
        names("b", "r", rb),
    )
}

/// Loads of A (row-major, M × K) and B (row-major, K × 8) with `e` elements a register of type `ty`.
fn gather(e: usize, ty: &str, shift: usize) -> String {
    format!(
        r#"const {ty}* A = (const {ty}*)pa; const {ty}* B = (const {ty}*)pb;
    for (int r = 0; r < sizeof(a) / 4; r++) {{
        a[r] = 0;
        for (int j = 0; j < {e}; j++) {{
            int row = M == 16 ? g + 8 * (r & 1) : g, column = t * {e} + j + 4 * {e} * (M == 16 ? r >> 1 : r);
            a[r] |= (unsigned)A[row * K + column] << {shift} * j;
        }}
    }}
    for (int r = 0; r < sizeof(b) / 4; r++) {{
        b[r] = 0;
        for (int j = 0; j < {e}; j++) b[r] |= (unsigned)B[(t * {e} + j + 4 * {e} * r) * 8 + g] << {shift} * j;
    }}"#
    )
}

/// Runs [`one`] with accumulators of `f32` and compares with the product in ascending order.
fn check_float(source: &str, targets: &[u32], (m, k): (usize, usize), a: &[u8], b: &[u8], va: &[f32], vb: &[f32]) {
    let rc = m * 8 / 32;
    let start: Vec<f32> = (0..m * 8).map(|i| i as f32 * 0.25 - 7.0).collect();
    let got = prove(source, targets, |gpu, module, o| {
        let (da, db, dc) = (gpu.upload(a), gpu.upload(b), gpu.upload(&start));
        launch(gpu, module, "one", (1, 32), args![da, db, dc], o);
        gpu.download::<f32>(dc, m * 8)
    });
    let expected: Vec<f32> = (0..m * 8)
        .map(|p| {
            let (lane, i) = (p / rc, p % rc);
            let (row, column) = (lane / 4 + 8 * (i / 2), 2 * (lane % 4) + i % 2);
            (0..k).fold(start[p], |d, q| d + va[row * k + q] * vb[q * 8 + column])
        })
        .collect();
    assert_bits(&got, &expected);
}

fn bytes<T: bytemuck::Pod>(x: &[T]) -> &[u8] {
    bytemuck::cast_slice(x)
}

#[test]
fn halves_and_brain_floats() {
    for (k, ra, rb, targets) in [(8, 2, 1, &ALL[1..]), (16, 4, 2, AMPERE)] {
        let ((a, va), (b, vb)) = (halves(16 * k, 23), halves(8 * k, 24));
        let form = format!("m16n8k{k}.row.col.f32.f16.f16.f32");
        let source = one(&form, (16, k), (ra, rb, 4), true, &gather(2, "unsigned short", 16));
        check_float(&source, targets, (16, k), bytes(&a), bytes(&b), &va, &vb);
        let brain = |v: &[f32]| v.iter().map(|&x| half::bf16_from_f32(x)).collect::<Vec<u16>>();
        let widen = |v: &[u16]| v.iter().map(|&x| half::bf16_to_f32(x)).collect::<Vec<f32>>();
        let (a, b) = (brain(&va), brain(&vb));
        let form = format!("m16n8k{k}.row.col.f32.bf16.bf16.f32");
        let source = one(&form, (16, k), (ra, rb, 4), true, &gather(2, "unsigned short", 16));
        check_float(&source, AMPERE, (16, k), bytes(&a), bytes(&b), &widen(&a), &widen(&b));
    }
}

#[test]
fn tf32_ignores_the_low_bits() {
    for (k, ra, rb) in [(4, 2, 1), (8, 4, 2)] {
        let mut random = Random(25);
        let a: Vec<f32> = (0..16 * k).map(|_| random.unit()).collect();
        let b: Vec<f32> = (0..8 * k).map(|_| random.unit()).collect();
        let cut = |v: &[f32]| v.iter().map(|x| f32::from_bits(x.to_bits() & !0x1fff)).collect::<Vec<f32>>();
        let form = format!("m16n8k{k}.row.col.f32.tf32.tf32.f32");
        let source = one(&form, (16, k), (ra, rb, 4), true, &gather(1, "unsigned", 0));
        check_float(&source, AMPERE, (16, k), bytes(&a), bytes(&b), &cut(&a), &cut(&b));
    }
}

#[test]
fn half_accumulators_round_once() {
    let (k, rc) = (16, 2);
    let ((a, va), (b, vb)) = (halves(16 * k, 26), halves(8 * k, 27));
    let source = one("m16n8k16.row.col.f16.f16.f16.f16", (16, k), (4, 2, rc), false, &gather(2, "unsigned short", 16));
    let (start, values) = halves(128, 28);
    let got = prove(&source, AMPERE, |gpu, module, o| {
        let (da, db, dc) = (gpu.upload(&a), gpu.upload(&b), gpu.upload(&start));
        launch(gpu, module, "one", (1, 32), args![da, db, dc], o);
        gpu.download::<u16>(dc, 128)
    });
    for (p, got) in got.iter().enumerate() {
        let (lane, i) = (p / 4, p % 4);
        let (row, column) = (lane / 4 + 8 * (i / 2), 2 * (lane % 4) + i % 2);
        let sum = (0..k).fold(values[p], |d, q| d + va[row * k + q] * vb[q * 8 + column]);
        assert_eq!(*got, half::f16_from_f32(sum), "{row} {column}");
    }
}

#[test]
fn bytes_signed_and_unsigned() {
    let forms = [(8, 16, 1, 1, 2), (16, 16, 2, 1, 4), (16, 32, 4, 2, 4)];
    for (m, k, ra, rb, rc) in forms {
        for (types, signed) in
            [("s8.s8", (true, true)), ("u8.u8", (false, false)), ("s8.u8", (true, false)), ("u8.s8", (false, true))]
        {
            let mut random = Random(29);
            let a: Vec<u8> = (0..m * k).map(|_| random.draw() as u8).collect();
            let b: Vec<u8> = (0..8 * k).map(|_| random.draw() as u8).collect();
            let value = |x: u8, signed: bool| if signed { i32::from(x as i8) } else { i32::from(x) };
            for (saturate, start) in [("", 1000i32), (".satfinite", i32::MAX - 100)] {
                let form = format!("m{m}n8k{k}.row.col{saturate}.s32.{types}.s32");
                let source = one(&form, (m, k), (ra, rb, rc), false, &gather(4, "unsigned char", 8));
                let targets = if m == 8 { &ALL[1..] } else { AMPERE };
                let got = prove(&source, targets, |gpu, module, o| {
                    let (da, db, dc) = (gpu.upload(&a), gpu.upload(&b), gpu.upload(&vec![start; m * 8]));
                    launch(gpu, module, "one", (1, 32), args![da, db, dc], o);
                    gpu.download::<i32>(dc, m * 8)
                });
                for (p, got) in got.iter().enumerate() {
                    let (lane, i) = (p / rc, p % rc);
                    let (row, column) = (lane / 4 + 8 * (i / 2), 2 * (lane % 4) + i % 2);
                    let sum: i32 =
                        (0..k).map(|q| value(a[row * k + q], signed.0) * value(b[q * 8 + column], signed.1)).sum();
                    let expected =
                        if saturate.is_empty() { start.wrapping_add(sum) } else { start.saturating_add(sum) };
                    assert_eq!(*got, expected, "{form} {row} {column}");
                }
            }
        }
    }
}

#[test]
fn doubles() {
    let source = r#"
extern "C" __global__ void one(const double* a, const double* b, double* c) {
    int lane = threadIdx.x, g = lane / 4, t = lane % 4;
    double x = c[g * 8 + 2 * t], y = c[g * 8 + 2 * t + 1];
    for (int k = 0; k < 12; k += 4)
        asm volatile("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0, %1}, {%2}, {%3}, {%0, %1};"
            : "+d"(x), "+d"(y) : "d"(a[g * 12 + k + t]), "d"(b[(k + t) * 8 + g]));
    c[g * 8 + 2 * t] = x; c[g * 8 + 2 * t + 1] = y;
}"#;
    let mut random = Random(30);
    let a: Vec<f64> = (0..96).map(|_| f64::from(random.unit()) / 3.0).collect();
    let b: Vec<f64> = (0..96).map(|_| f64::from(random.unit()) / 7.0).collect();
    let c: Vec<f64> = (0..64).map(f64::from).collect();
    let got = prove(source, AMPERE, |gpu, module, o| {
        let (da, db, dc) = (gpu.upload(&a), gpu.upload(&b), gpu.upload(&c));
        launch(gpu, module, "one", (1, 32), args![da, db, dc], o);
        gpu.download::<f64>(dc, 64)
    });
    for (i, got) in got.iter().enumerate() {
        let expected = (0..12).fold(c[i], |d, k| a[i / 8 * 12 + k].mul_add(b[k * 8 + i % 8], d));
        assert_eq!(*got, expected, "{i}");
    }
}

#[test]
fn voltas_quad_pairs() {
    // Four independent 8 x 8 x 4 products; A row-major, B column-major, f32 accumulators.
    let source = r#"
extern "C" __global__ void one(const unsigned* a, const unsigned* b, float* c) {
    int lane = threadIdx.x, q = lane % 16 / 4, row = lane % 4 + (lane < 16 ? 0 : 4);
    unsigned x[2], y[2];
    for (int i = 0; i < 2; i++) { x[i] = a[(q * 8 + row) * 2 + i]; y[i] = b[(q * 8 + row) * 2 + i]; }
    float d[8] = {};
    asm volatile("mma.sync.aligned.m8n8k4.row.col.f32.f16.f16.f32 {%0,%1,%2,%3,%4,%5,%6,%7}, {%8,%9}, {%10,%11}, {%0,%1,%2,%3,%4,%5,%6,%7};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7])
        : "r"(x[0]), "r"(x[1]), "r"(y[0]), "r"(y[1]));
    for (int i = 0; i < 8; i++) {
        int r = (lane & 1) + (i & 2) + (lane < 16 ? 0 : 4), s = (i & 4) + (lane & 2) + (i & 1);
        c[(q * 8 + r) * 8 + s] = d[i];
    }
}"#;
    let ((a, va), (b, vb)) = (halves(128, 31), halves(128, 32));
    let got = prove(source, &[70], |gpu, module, o| {
        let (da, db, dc) = (gpu.upload(&a), gpu.upload(&b), gpu.allocate(4 * 256));
        launch(gpu, module, "one", (1, 32), args![da, db, dc], o);
        gpu.download::<f32>(dc, 256)
    });
    let expected: Vec<f32> = (0..256)
        .map(|i| {
            let (q, r, s) = (i / 64, i / 8 % 8, i % 8);
            (0..4).fold(0.0, |d, k| d + va[(q * 8 + r) * 4 + k] * vb[(q * 8 + s) * 4 + k])
        })
        .collect();
    assert_bits(&got, &expected);
}

#[test]
fn matrices_loaded_and_stored() {
    let source = r#"
__device__ unsigned shared(const void* p) { return (unsigned)__cvta_generic_to_shared(p); }
extern "C" __global__ void move(const unsigned short* x, unsigned* y, unsigned short* z) {
    __shared__ __align__(16) unsigned short s[4][8][8], u[4][8][8];
    int t = threadIdx.x;
    for (int i = t; i < 256; i += 32) { ((unsigned short*)s)[i] = x[i]; ((unsigned short*)u)[i] = 0; }
    __syncwarp();
    unsigned a, b, c, d;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
        : "=r"(a), "=r"(b), "=r"(c), "=r"(d) : "r"(shared(&s[t / 8][t % 8][0])) : "memory");
    y[t] = a; y[32 + t] = b; y[64 + t] = c; y[96 + t] = d;
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
        : "=r"(a), "=r"(b) : "r"(shared(&s[t / 8 % 2][t % 8][0])) : "memory");
    y[128 + t] = a; y[160 + t] = b;
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];"
        : "=r"(a) : "r"(shared(&s[3][t % 8][0])) : "memory");
    y[192 + t] = a;
#if __CUDA_ARCH__ >= 900
    asm volatile("stmatrix.sync.aligned.m8n8.x2.shared.b16 [%0], {%1,%2};"
        :: "r"(shared(&u[t / 8 % 2][t % 8][0])), "r"(c), "r"(d) : "memory");
    asm volatile("stmatrix.sync.aligned.m8n8.x1.trans.shared.b16 [%0], {%1};"
        :: "r"(shared(&u[2][t % 8][0])), "r"(c) : "memory");
#else
    for (int j = 0; j < 2; j++) {
        u[0][t / 4][t % 4 * 2 + j] = c >> (16 * j); u[1][t / 4][t % 4 * 2 + j] = d >> (16 * j);
        u[2][t % 4 * 2 + j][t / 4] = c >> (16 * j);
    }
#endif
    __syncwarp();
    for (int i = t; i < 192; i += 32) z[i] = ((unsigned short*)u)[i];
}"#;
    let x: Vec<u16> = (0..256).map(|i| i * 251).collect();
    let got = prove(source, &ALL[1..], |gpu, module, o| {
        let (dx, y, z) = (gpu.upload(&x), gpu.allocate(4 * 224), gpu.allocate(2 * 192));
        launch(gpu, module, "move", (1, 32), args![dx, y, z], o);
        [gpu.download::<u16>(y, 448), gpu.download::<u16>(z, 192)].concat()
    });
    let at = |matrix: usize, row: usize, column: usize| x[64 * matrix + 8 * row + column];
    for lane in 0..32 {
        for j in 0..2 {
            let (row, column) = (lane / 4, lane % 4 * 2 + j);
            for matrix in 0..4 {
                assert_eq!(got[2 * (32 * matrix + lane) + j], at(matrix, row, column));
            }
            for matrix in 0..2 {
                assert_eq!(got[2 * (128 + 32 * matrix + lane) + j], at(matrix, column, row));
            }
            assert_eq!(got[2 * (192 + lane) + j], at(3, row, column));
        }
    }
    for i in 0..64 {
        assert_eq!(got[448 + i], x[128 + i]);
        assert_eq!(got[512 + i], x[192 + i]);
        assert_eq!(got[576 + i], at(2, i % 8, i / 8));
    }
}
