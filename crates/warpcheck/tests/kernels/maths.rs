//! CUDA's mathematical functions as NVRTC compiles them, against `f64`; halves by assembly.

use crate::support::Random;
use crate::{ALL, AMPERE, ENDS, launch, prove};

/// Distance from the exact value in units of the last place of the `f32` nearest to it.
fn ulps(got: f32, exact: f64) -> f64 {
    let near = exact as f32;
    if got.is_nan() || near.is_nan() || near.is_infinite() || got.is_infinite() {
        return if got == near || got.is_nan() && near.is_nan() { 0.0 } else { f64::INFINITY };
    }
    let place = f64::from(near.abs().next_up()) - f64::from(near.abs());
    (f64::from(got) - exact).abs() / place
}

#[test]
fn single_precision_functions_within_their_documented_error() {
    // The largest errors of the CUDA C++ programming guide, in ulp.
    let functions: [(&str, fn(f64) -> f64, f64); 18] = [
        ("sinf", f64::sin, 2.0),
        ("cosf", f64::cos, 2.0),
        ("tanf", f64::tan, 4.0),
        ("expf", f64::exp, 2.0),
        ("exp2f", f64::exp2, 2.0),
        ("expm1f", f64::exp_m1, 1.0),
        ("logf", f64::ln, 1.0),
        ("log2f", f64::log2, 1.0),
        ("log10f", f64::log10, 2.0),
        ("log1pf", f64::ln_1p, 1.0),
        ("sqrtf", f64::sqrt, 0.5),
        ("rsqrtf", |x| 1.0 / x.sqrt(), 2.0),
        ("cbrtf", f64::cbrt, 1.0),
        ("atanf", f64::atan, 2.0),
        ("asinf", f64::asin, 2.0),
        ("tanhf", f64::tanh, 2.0),
        ("sinhf", f64::sinh, 3.0),
        ("coshf", f64::cosh, 2.0),
    ];
    let mut source = String::new();
    for (name, ..) in functions {
        source += &format!(
            "extern \"C\" __global__ void k_{name}(const float* x, float* y, int n) {{ int i = blockIdx.x * blockDim.x \
             + threadIdx.x; if (i < n) y[i] = {name}(x[i]); }}\n"
        );
    }
    let mut random = Random(16);
    let mut x =
        vec![0.0f32, -0.0, 1.0, -1.0, 0.5, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e-40, -1e-40, 88.5, 105_615.0];
    x.extend([
        1e10,
        -3e20,
        3.4e38,
        std::f32::consts::FRAC_PI_2,
        std::f32::consts::PI,
        0.70710677,
        -0.99999994,
        1.0000001,
        -104.0,
        127.9,
        150.0,
    ]);
    x.extend((0..2000).map(|_| random.unit() * 10.0));
    x.extend((0..1000).map(|_| f32::from_bits(random.draw() as u32)));
    let n = x.len();
    let got = prove(&source, ENDS, |gpu, module, o| {
        let dx = gpu.upload(&x);
        let mut all = Vec::new();
        for (name, ..) in functions {
            let y = gpu.allocate(4 * n);
            launch(gpu, module, &format!("k_{name}"), (n.div_ceil(128) as u32, 128), args![dx, y, n as i32], o);
            all.extend(gpu.download::<f32>(y, n));
        }
        all
    });
    for ((name, exact, bound), got) in functions.iter().zip(got.chunks(n)) {
        for (&x, &y) in x.iter().zip(got) {
            let exact = exact(x.into());
            assert!(ulps(y, exact) <= bound + 0.5, "{name}({x:e}) = {y:e}, not {exact:e}: {} ulp", ulps(y, exact));
        }
    }
}

#[test]
fn functions_of_two_and_of_double_precision() {
    let source = r#"
extern "C" __global__ void two(const float* a, const float* b, float* y, double* z, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float p = a[i], q = b[i];
    double d = p, e = q;
    y += 6 * i; z += 10 * i;
    y[0] = powf(fabsf(p), q); y[1] = fmodf(p, q); y[2] = atan2f(p, q); y[3] = hypotf(p, q);
    y[4] = remainderf(p, q); y[5] = p / q;
    z[0] = exp(d); z[1] = log(fabs(d)); z[2] = sin(d); z[3] = cos(e); z[4] = pow(fabs(d), e); z[5] = tanh(d);
    z[6] = d / e; z[7] = sqrt(fabs(d)); z[8] = cbrt(e); z[9] = 1.0 / sqrt(fabs(d * e));
}"#;
    let mut random = Random(17);
    let n = 1500usize;
    let a: Vec<f32> = (0..n).map(|i| random.unit() * if i % 3 == 0 { 1000.0 } else { 8.0 }).collect();
    let b: Vec<f32> =
        (0..n).map(|i| if i % 7 == 0 { (i as f32).round() } else { random.unit() * 6.0 } + 0.01).collect();
    let got = prove(source, ENDS, |gpu, module, o| {
        let (da, db) = (gpu.upload(&a), gpu.upload(&b));
        let (y, z) = (gpu.allocate(24 * n), gpu.allocate(80 * n));
        launch(gpu, module, "two", (n.div_ceil(64) as u32, 64), args![da, db, y, z, n as i32], o);
        [gpu.download::<u32>(y, 6 * n), gpu.download::<u32>(z, 20 * n)].concat()
    });
    for i in 0..n {
        let (p, q) = (f64::from(a[i]), f64::from(b[i]));
        let y: Vec<f32> = got[6 * i..6 * i + 6].iter().map(|&b| f32::from_bits(b)).collect();
        let nearest = (p / q).round_ties_even();
        // Documented: powf 4, fmodf and remainderf exact, atan2f 3, hypotf 3; division rounds correctly.
        for (y, exact, bound) in [
            (y[0], p.abs().powf(q), 4.0),
            (y[1], p % q, 0.0),
            (y[2], p.atan2(q), 3.0),
            (y[3], p.hypot(q), 3.0),
            (y[4], (-nearest).mul_add(q, p), 0.0),
            (y[5], p / q, 0.0),
        ] {
            assert!(ulps(y, exact) <= bound + 0.5, "{p} {q}: {y:e}, not {exact:e}");
        }
        let z = &got[6 * n + 20 * i..6 * n + 20 * i + 20];
        let z: Vec<f64> = z.chunks(2).map(|w| f64::from_bits(u64::from(w[1]) << 32 | u64::from(w[0]))).collect();
        // Documented: 1 or 2 ulp; Rust's own library may be off by one as well.
        for (z, exact, ulp) in [
            (z[0], p.exp(), 2.0),
            (z[1], p.abs().ln(), 2.0),
            (z[2], p.sin(), 3.0),
            (z[3], q.cos(), 3.0),
            (z[4], p.abs().powf(q), 3.0),
            (z[5], p.tanh(), 3.0),
            (z[6], p / q, 0.0),
            (z[7], p.abs().sqrt(), 0.0),
            (z[8], q.cbrt(), 2.0),
            (z[9], 1.0 / (p * q).abs().sqrt(), 2.0),
        ] {
            let place = exact.abs().next_up() - exact.abs();
            assert!(z == exact || (z - exact).abs() <= ulp * place, "{p} {q}: {z:e}, not {exact:e}");
        }
    }
}

#[test]
fn rounding_conversion_and_fast_intrinsics() {
    let source = r#"
extern "C" __global__ void rounded(const float* a, float* y, int* z, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float x = a[i];
    y += 16 * i; z += 8 * i;
    y[0] = floorf(x); y[1] = ceilf(x); y[2] = truncf(x); y[3] = rintf(x); y[4] = roundf(x); y[5] = __saturatef(x);
    y[6] = __fadd_rz(x, 0.1f); y[7] = __fmul_ru(x, 3.3f); y[8] = __fdiv_rd(x, 7.0f); y[9] = __fmaf_rz(x, x, 0.3f);
    y[10] = __frcp_ru(x); y[11] = __fsqrt_rd(fabsf(x)); y[12] = fminf(x, 1.0f); y[13] = fmaxf(x, -0.0f);
    y[14] = copysignf(2.0f, x); y[15] = __fdividef(x, 3.0f);
    z[0] = __float2int_rn(x); z[1] = __float2int_rz(x); z[2] = __float2uint_ru(x); z[3] = (int)__float2ll_rd(x);
    z[4] = isnan(x) | isinf(x) << 1 | signbit(x) << 2; z[5] = __float_as_int(__int2float_rz(__float_as_int(x)));
    z[6] = ilogbf(x); z[7] = (int)(unsigned char)fminf(fabsf(x), 255.0f);
}"#;
    use warpcheck::arith::{Rounding, float};
    let mut random = Random(18);
    let mut x = vec![0.5f32, 1.5, 2.5, -0.5, -1.5, 0.0, -0.0, 1e10, -1e10, 3e9, 0.3, f32::NAN, f32::INFINITY, 1e-41];
    x.extend((0..500).map(|_| random.unit() * 300.0));
    let n = x.len();
    let got = prove(source, ENDS, |gpu, module, o| {
        let (dx, y, z) = (gpu.upload(&x), gpu.allocate(64 * n), gpu.allocate(32 * n));
        launch(gpu, module, "rounded", (n.div_ceil(64) as u32, 64), args![dx, y, z, n as i32], o);
        [gpu.download::<u32>(y, 16 * n), gpu.download::<u32>(z, 8 * n)].concat()
    });
    for (i, &x) in x.iter().enumerate() {
        let expected = [
            x.floor(),
            x.ceil(),
            x.trunc(),
            x.round_ties_even(),
            x.round(),
            float::saturate_f32(x),
            float::add_f32(x, 0.1, Rounding::Zero),
            float::mul_f32(x, 3.3, Rounding::Up),
            float::div_f32(x, 7.0, Rounding::Down),
            float::fma_f32(x, x, 0.3, Rounding::Zero),
            float::rcp_f32(x, Rounding::Up),
            float::sqrt_f32(x.abs(), Rounding::Down),
            x.min(1.0),
            x.max(-0.0),
            2f32.copysign(x),
        ];
        let row = &got[16 * i..16 * i + 16];
        for (k, (&bits, e)) in row.iter().zip(expected).enumerate() {
            let y = f32::from_bits(bits);
            // fmaxf(−0, +0) may be either; a zero's sign is not promised there.
            let equal = y.to_bits() == e.to_bits() || y.is_nan() && e.is_nan() || k == 13 && y == e;
            assert!(equal, "y[{k}] of {x:e}: {y:e}, not {e:e}");
        }
        assert!(ulps(f32::from_bits(row[15]), f64::from(x) / 3.0) <= 2.5, "{x:e}");
        let row = &got[16 * n + 8 * i..16 * n + 8 * i + 8];
        let special = u32::from(x.is_nan()) | u32::from(x.is_infinite()) << 1 | u32::from(x.is_sign_negative()) << 2;
        let bits = x.to_bits() as i32;
        let rz = warpcheck::arith::cvt::Modifiers { rounding: Rounding::Zero, ..Default::default() };
        use warpcheck::arith::cvt::Type;
        let as_float = warpcheck::arith::cvt::convert(Type::F32, Type::S32, u64::from(bits as u32), rz) as u32;
        let wide = if x.is_nan() { 0 } else { x.floor() as i64 as i32 };
        let expected =
            [x.round_ties_even() as i32 as u32, x as i32 as u32, x.ceil() as u32, wide as u32, special, as_float];
        assert_eq!(row[..6], expected, "{x:e}");
        assert_eq!(row[7], x.abs().min(255.0) as u32, "{x:e}");
        if x.is_normal() {
            assert_eq!(row[6] as i32, f64::from(x.abs()).log2().floor() as i32, "{x:e}");
        }
    }
}

#[test]
fn halves_by_assembly() {
    let source = r#"
typedef unsigned short half;
extern "C" __global__ void halves(const half* a, const half* b, half* y, unsigned* z, float* f, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    half x = a[i], w = b[i], r;
    y += 8 * i; z += 4 * i; f += 2 * i;
    asm("add.f16 %0, %1, %2;" : "=h"(r) : "h"(x), "h"(w)); y[0] = r;
    asm("sub.f16 %0, %1, %2;" : "=h"(r) : "h"(x), "h"(w)); y[1] = r;
    asm("mul.f16 %0, %1, %2;" : "=h"(r) : "h"(x), "h"(w)); y[2] = r;
    asm("fma.rn.f16 %0, %1, %2, %3;" : "=h"(r) : "h"(x), "h"(w), "h"(x)); y[3] = r;
    asm("neg.f16 %0, %1;" : "=h"(r) : "h"(x)); y[4] = r;
    asm("add.sat.f16 %0, %1, %2;" : "=h"(r) : "h"(x), "h"(w)); y[5] = r;
    asm("fma.rn.ftz.f16 %0, %1, %2, %3;" : "=h"(r) : "h"(x), "h"(w), "h"(w)); y[6] = r;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(r) : "f"((float)i * 0.37f)); y[7] = r;
    unsigned p = (unsigned)x << 16 | w, q = (unsigned)w << 16 | x, s;
    asm("add.f16x2 %0, %1, %2;" : "=r"(s) : "r"(p), "r"(q)); z[0] = s;
    asm("fma.rn.f16x2 %0, %1, %2, %1;" : "=r"(s) : "r"(p), "r"(q)); z[1] = s;
    asm("mul.ftz.f16x2 %0, %1, %2;" : "=r"(s) : "r"(p), "r"(q)); z[2] = s;
    asm("{ .reg .pred p; setp.lt.f16 p, %1, %2; selp.u32 %0, 1, 0, p; }" : "=r"(s) : "h"(x), "h"(w)); z[3] = s;
    float v;
    asm("cvt.f32.f16 %0, %1;" : "=f"(v) : "h"(x)); f[0] = v;
    asm("cvt.f32.f16 %0, %1;" : "=f"(v) : "h"(w)); f[1] = v * 0.5f;
}"#;
    use warpcheck::arith::half;
    let mut random = Random(19);
    let n = 2000usize;
    let mut a: Vec<u16> = (0..n).map(|_| random.draw() as u16).collect();
    let mut b: Vec<u16> =
        (0..n).map(|i| if i % 2 == 0 { random.draw() as u16 } else { a[i] ^ random.draw() as u16 & 0x87f }).collect();
    a[..6].copy_from_slice(&[0, 0x8000, 0x7c00, 1, 0x3ff, 0x7e00]);
    b[..6].copy_from_slice(&[0x8000, 0x8000, 0xfc00, 0x3c00, 0x3800, 0x3c00]);
    let got = prove(source, ALL, |gpu, module, o| {
        let (da, db) = (gpu.upload(&a), gpu.upload(&b));
        let (y, z, f) = (gpu.allocate(16 * n), gpu.allocate(16 * n), gpu.allocate(8 * n));
        launch(gpu, module, "halves", (n.div_ceil(128) as u32, 128), args![da, db, y, z, f, n as i32], o);
        [gpu.download::<u16>(y, 8 * n), gpu.download::<u16>(z, 8 * n), gpu.download::<u16>(f, 4 * n)].concat()
    });
    let flush = half::flush_f16;
    for i in 0..n {
        let (x, w) = (a[i], b[i]);
        let expected = [
            half::add_f16(x, w),
            half::sub_f16(x, w),
            half::mul_f16(x, w),
            half::fma_f16(x, w, x),
            x ^ 0x8000,
            half::saturate_f16(half::add_f16(x, w)),
            flush(half::fma_f16(flush(x), flush(w), flush(w))),
            half::f16_from_f32(i as f32 * 0.37),
        ];
        let same = |g: u16, e: u16| g == e || g & 0x7fff > 0x7c00 && e & 0x7fff > 0x7c00;
        for (k, (&g, e)) in got[8 * i..].iter().zip(expected).enumerate() {
            assert!(same(g, e), "y[{k}] of {x:#x} {w:#x}: {g:#x}, not {e:#x}");
        }
        let z = &got[8 * (n + i)..];
        let product = flush(half::mul_f16(flush(x), flush(w)));
        let sum = half::add_f16(x, w);
        // p is (x, w), q is (w, x), the upper half first.
        let expected = [sum, sum, half::fma_f16(w, x, w), half::fma_f16(x, w, x), product, product];
        for (k, (&g, e)) in z.iter().zip(expected).enumerate() {
            assert!(same(g, e), "z[{k}] of {x:#x} {w:#x}: {g:#x}, not {e:#x}");
        }
        let less = half::f16_to_f32(x) < half::f16_to_f32(w);
        assert_eq!(z[6], u16::from(less), "{x:#x} < {w:#x}");
        let f: &[f32] = &[half::f16_to_f32(x), half::f16_to_f32(w) * 0.5];
        for (k, f) in f.iter().enumerate() {
            let bits = &got[16 * n + 4 * i + 2 * k..];
            let g = f32::from_bits(u32::from(bits[1]) << 16 | u32::from(bits[0]));
            assert!(g.to_bits() == f.to_bits() || g.is_nan() && f.is_nan(), "{x:#x} {w:#x}");
        }
    }
}

#[test]
fn brain_floats_by_assembly() {
    let source = r#"
extern "C" __global__ void brain(const unsigned short* a, const unsigned short* b, unsigned* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    unsigned p = (unsigned)a[i] << 16 | b[i], q = (unsigned)b[i] << 16 | a[i], s;
    y += 6 * i;
    asm("fma.rn.bf16x2 %0, %1, %2, %1;" : "=r"(s) : "r"(p), "r"(q)); y[0] = s;
    asm("fma.rn.relu.bf16x2 %0, %1, %2, %2;" : "=r"(s) : "r"(p), "r"(q)); y[1] = s;
    asm("max.bf16x2 %0, %1, %2;" : "=r"(s) : "r"(p), "r"(q)); y[2] = s;
    float x = __uint_as_float((unsigned)a[i] << 16), w = __uint_as_float((unsigned)b[i] << 16 | 0x8001);
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(s) : "f"(x), "f"(w)); y[3] = s;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(s) : "f"(w)); y[4] = s;
    asm("cvt.rz.relu.f16x2.f32 %0, %1, %2;" : "=r"(s) : "f"(x), "f"(w)); y[5] = s;
}"#;
    use warpcheck::arith::half::{self, MinMax};
    use warpcheck::arith::{Rounding, cvt};
    let mut random = Random(20);
    let n = 2000usize;
    // Exponents near the middle, so that results are numbers.
    let a: Vec<u16> = (0..n).map(|_| random.draw() as u16 & 0x87ff | 0x3800).collect();
    let b: Vec<u16> = (0..n)
        .map(|i| if i % 9 == 0 { random.draw() as u16 } else { random.draw() as u16 & 0x87ff | 0x3800 })
        .collect();
    let got = prove(source, AMPERE, |gpu, module, o| {
        let (da, db, y) = (gpu.upload(&a), gpu.upload(&b), gpu.allocate(24 * n));
        launch(gpu, module, "brain", (n.div_ceil(128) as u32, 128), args![da, db, y, n as i32], o);
        gpu.download::<u32>(y, 6 * n)
    });
    for (i, row) in got.chunks(6).enumerate() {
        let (p, q) = (u32::from(a[i]) << 16 | u32::from(b[i]), u32::from(b[i]) << 16 | u32::from(a[i]));
        let (x, w) = (f32::from_bits(u32::from(a[i]) << 16), f32::from_bits(u32::from(b[i]) << 16 | 0x8001));
        let expected = [
            half::both3(p, q, p, half::fma_bf16),
            half::both3(p, q, q, |a, b, c| half::relu_bf16(half::fma_bf16(a, b, c))),
            half::both(p, q, |a, b| half::min_max_bf16(a, b, MinMax { larger: true, ..Default::default() })),
            cvt::bf16x2_from_f32(x, w, Rounding::Nearest, false),
            half::tf32_from_f32(w, Rounding::NearestAway),
            cvt::f16x2_from_f32(x, w, Rounding::Zero, true),
        ];
        assert_eq!(row, expected, "{:#x} {:#x}", a[i], b[i]);
    }
}
