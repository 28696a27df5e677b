//! Integer arithmetic and intrinsics of CUDA C.

use crate::support::Random;
use crate::{ALL, ENDS, launch, prove};

#[test]
fn wide_arithmetic_division_and_remainders() {
    let source = r#"
extern "C" __global__ void wide(const unsigned long long* a, const unsigned long long* b, unsigned long long* y) {
    int t = threadIdx.x;
    unsigned long long x = a[t], z = b[t] | 1;
    y += 12 * t;
    y[0] = x * z; y[1] = x / z; y[2] = x % z;
    y[3] = (long long)x / (long long)z; y[4] = (long long)x % (long long)z;
    y[5] = __umul64hi(x, z); y[6] = __mul64hi(x, z);
    y[7] = (unsigned)x / (unsigned)z; y[8] = (int)x % (int)z;
    y[9] = (unsigned short)x / (unsigned short)z; y[10] = x / 1000000007ull + (int)x / 7 + (unsigned)z % 10u;
    y[11] = (x << (z & 63)) ^ (x >> (z & 31)) ^ ((long long)x >> (z & 15));
}"#;
    let mut random = Random(13);
    let n = 256usize;
    let a: Vec<u64> = (0..n).map(|i| random.draw() >> (i % 60)).collect();
    let b: Vec<u64> = (0..n).map(|i| random.draw() >> (i * 7 % 61)).collect();
    let got = prove(source, ALL, |gpu, module, o| {
        let (da, db, y) = (gpu.upload(&a), gpu.upload(&b), gpu.allocate(8 * 12 * n));
        launch(gpu, module, "wide", (1, n as u32), args![da, db, y], o);
        gpu.download::<u64>(y, 12 * n)
    });
    for (i, row) in got.chunks(12).enumerate() {
        let (x, z) = (a[i], b[i] | 1);
        let (sx, sz) = (x as i64, z as i64);
        let expected = [
            x.wrapping_mul(z),
            x / z,
            x % z,
            sx.wrapping_div(sz) as u64,
            sx.wrapping_rem(sz) as u64,
            ((u128::from(x) * u128::from(z)) >> 64) as u64,
            ((i128::from(sx) * i128::from(sz)) >> 64) as u64,
            u64::from(x as u32 / z as u32),
            i64::from((x as i32).wrapping_rem(z as i32)) as u64,
            u64::from(x as u16 / z as u16),
            (x / 1_000_000_007).wrapping_add((x as i32 / 7) as u64).wrapping_add(u64::from(z as u32 % 10)),
            (x << (z & 63)) ^ (x >> (z & 31)) ^ (sx >> (z & 15)) as u64,
        ];
        assert_eq!(row, expected, "{x:#x} {z:#x}");
    }
}

#[test]
fn intrinsics_on_words() {
    let source = r#"
extern "C" __global__ void words(const unsigned* a, const unsigned* b, unsigned* y) {
    int t = threadIdx.x;
    unsigned x = a[t], z = b[t], c = x ^ (z << 3);
    y += 28 * t;
    y[0] = __popc(x); y[1] = __clz(x); y[2] = __ffs(x); y[3] = __brev(x);
    y[4] = __funnelshift_l(x, z, c); y[5] = __funnelshift_r(x, z, c);
    y[6] = __funnelshift_lc(x, z, c & 63); y[7] = __funnelshift_rc(x, z, c & 63);
    y[8] = __byte_perm(x, z, c); y[9] = __mul24(x, z); y[10] = __umul24(x, z);
    y[11] = __mulhi((int)x, (int)z); y[12] = __umulhi(x, z); y[13] = __sad(x, z, c); y[14] = __usad(x, z, c);
    y[15] = __dp4a((int)x, (int)z, (int)c); y[16] = __dp4a(x, z, c);
    y[17] = __dp2a_lo((int)x, (int)z, (int)c); y[18] = __dp2a_hi(x, z, c);
    y[19] = __hadd((int)x, (int)z); y[20] = __urhadd(x, z);
    y[21] = __popcll((unsigned long long)x << 32 | z) << 16 | __clzll((unsigned long long)(x & 1) << 32 | z);
    y[22] = (x & z) | (~x & c); y[23] = min((int)x, (int)z) + max(x, z) - abs((int)z);
    y[24] = (x >> 5 & 0x3f) + ((int)(z << 3) >> 20); y[25] = (unsigned char)x * (signed char)z + (short)c;
    y[26] = __ffsll((unsigned long long)z << 20); y[27] = x == 0 ? 7 : (z < c ? x + 1 : x - 1);
}"#;
    let mut random = Random(14);
    let n = 512usize;
    let mut a: Vec<u32> = (0..n).map(|i| (random.draw() >> (i % 32)) as u32).collect();
    let mut b: Vec<u32> = (0..n).map(|i| (random.draw() >> (i * 5 % 32)) as u32).collect();
    a[..4].copy_from_slice(&[0, u32::MAX, 1 << 31, 0]);
    b[..4].copy_from_slice(&[0, u32::MAX, 1 << 31, 1]);
    let got = prove(source, ALL, |gpu, module, o| {
        let (da, db, y) = (gpu.upload(&a), gpu.upload(&b), gpu.allocate(4 * 28 * n));
        launch(gpu, module, "words", (1, n as u32), args![da, db, y], o);
        gpu.download::<u32>(y, 28 * n)
    });
    for (i, row) in got.chunks(28).enumerate() {
        let (x, z) = (a[i], b[i]);
        let c = x ^ (z << 3);
        let (sx, sz) = (x as i32, z as i32);
        let both = u64::from(z) << 32 | u64::from(x);
        let m = c & 31;
        let n = (c & 63).min(32);
        let byte = |i: u32| (both >> (8 * (c >> (4 * i) & 7))) as u32 & 0xff;
        let s24 = |v: u32| i64::from((v << 8) as i32 >> 8);
        let bytes = |v: u32| v.to_le_bytes();
        let signed = |v: u32| v.to_le_bytes().map(|b| i32::from(b as i8));
        let dot = |x: [i32; 4], z: [i32; 4]| (0..4).map(|i| x[i] * z[i]).sum::<i32>();
        let unsigned = |v: u32| bytes(v).map(i32::from);
        let expected = [
            x.count_ones(),
            x.leading_zeros(),
            if x == 0 { 0 } else { x.trailing_zeros() + 1 },
            x.reverse_bits(),
            ((both << m) >> 32) as u32,
            (both >> m) as u32,
            ((both << n) >> 32) as u32,
            (both >> n) as u32,
            byte(0) | byte(1) << 8 | byte(2) << 16 | byte(3) << 24,
            (s24(x) * s24(z)) as u32,
            (u64::from(x & 0xff_ffff) * u64::from(z & 0xff_ffff)) as u32,
            ((i64::from(sx) * i64::from(sz)) >> 32) as u32,
            ((u64::from(x) * u64::from(z)) >> 32) as u32,
            sx.abs_diff(sz).wrapping_add(c),
            x.abs_diff(z).wrapping_add(c),
            (dot(signed(x), signed(z)) as u32).wrapping_add(c),
            (dot(unsigned(x), unsigned(z)) as u32).wrapping_add(c),
            ((i32::from(x as i16) * signed(z)[0]) as u32)
                .wrapping_add((i32::from((x >> 16) as i16) * signed(z)[1]) as u32)
                .wrapping_add(c),
            ((x & 0xffff) * u32::from(bytes(z)[2])).wrapping_add((x >> 16) * u32::from(bytes(z)[3])).wrapping_add(c),
            ((i64::from(sx) + i64::from(sz)) >> 1) as u32,
            ((u64::from(x) + u64::from(z) + 1) >> 1) as u32,
            both.count_ones() << 16 | (u64::from(x & 1) << 32 | u64::from(z)).leading_zeros(),
            x & z | !x & c,
            (sx.min(sz) as u32).wrapping_add(x.max(z)).wrapping_sub(sz.wrapping_abs() as u32),
            (x >> 5 & 0x3f).wrapping_add(((z << 3) as i32 >> 20) as u32),
            (i32::from(x as u8) * i32::from(z as i8) + i32::from(c as i16)) as u32,
            if u64::from(z) << 20 == 0 { 0 } else { (u64::from(z) << 20).trailing_zeros() + 1 },
            if x == 0 {
                7
            } else if z < c {
                x.wrapping_add(1)
            } else {
                x.wrapping_sub(1)
            },
        ];
        for (k, (got, expected)) in row.iter().zip(expected).enumerate() {
            assert_eq!(*got, expected, "y[{k}] of {x:#x} {z:#x} {c:#x}");
        }
    }
}

#[test]
fn intrinsics_on_bytes_of_words() {
    let source = r#"
extern "C" __global__ void bytes(const unsigned* a, const unsigned* b, unsigned* y) {
    int t = threadIdx.x;
    unsigned x = a[t], z = b[t];
    y += 12 * t;
    y[0] = __vadd4(x, z); y[1] = __vsub4(x, z); y[2] = __vabsdiffu4(x, z); y[3] = __vmaxs4(x, z);
    y[4] = __vminu4(x, z); y[5] = __vcmpgtu4(x, z); y[6] = __vsadu4(x, z); y[7] = __vadd2(x, z);
    y[8] = __vmaxu2(x, z); y[9] = __vavgu4(x, z); y[10] = __vaddus4(x, z); y[11] = __vsetles4(x, z);
}"#;
    let mut random = Random(15);
    let a: Vec<u32> = (0..256).map(|_| random.draw() as u32).collect();
    let b: Vec<u32> = (0..256).map(|i| if i % 5 == 0 { a[i] } else { random.draw() as u32 }).collect();
    let got = prove(source, ENDS, |gpu, module, o| {
        let (da, db, y) = (gpu.upload(&a), gpu.upload(&b), gpu.allocate(4 * 12 * 256));
        launch(gpu, module, "bytes", (1, 256), args![da, db, y], o);
        gpu.download::<u32>(y, 12 * 256)
    });
    let map = |x: u32, z: u32, f: &dyn Fn(u8, u8) -> u8| {
        let (x, z) = (x.to_le_bytes(), z.to_le_bytes());
        u32::from_le_bytes([0, 1, 2, 3].map(|i| f(x[i], z[i])))
    };
    let map2 = |x: u32, z: u32, f: &dyn Fn(u16, u16) -> u16| {
        u32::from(f(x as u16, z as u16)) | u32::from(f((x >> 16) as u16, (z >> 16) as u16)) << 16
    };
    for (i, row) in got.chunks(12).enumerate() {
        let (x, z) = (a[i], b[i]);
        let expected = [
            map(x, z, &u8::wrapping_add),
            map(x, z, &u8::wrapping_sub),
            map(x, z, &|x, z| x.abs_diff(z)),
            map(x, z, &|x, z| (x as i8).max(z as i8) as u8),
            map(x, z, &u8::min),
            map(x, z, &|x, z| if x > z { 0xff } else { 0 }),
            x.to_le_bytes().iter().zip(z.to_le_bytes()).map(|(x, z)| u32::from(x.abs_diff(z))).sum(),
            map2(x, z, &u16::wrapping_add),
            map2(x, z, &u16::max),
            map(x, z, &|x, z| (u16::from(x) + u16::from(z)).div_ceil(2) as u8),
            map(x, z, &u8::saturating_add),
            map(x, z, &|x, z| u8::from(x as i8 <= z as i8)),
        ];
        assert_eq!(row, expected, "{x:#x} {z:#x}");
    }
}
