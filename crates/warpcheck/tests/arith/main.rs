//! The scalar definitions of `warpcheck::arith` against independent ones: the `half` crate, exact integers, `f64`, the
//! CPU's own directed rounding, and the loops in PTX's manual.

mod approx;
mod bits;
mod cvt;
mod float;
mod half;
mod integer;
mod mma;

/// Every interesting `f32`: zeros, subnormals, powers of two and their neighbours, the limits, infinities, NaN.
pub fn edges_f32() -> Vec<f32> {
    let mut bits =
        vec![0u32, 1, 2, 0x7f_ffff, 0x80_0000, 0x80_0001, 0x7f7f_ffff, 0x7f80_0000, 0x7f80_0001, 0x7fc0_0000];
    bits.extend([0x7fff_ffff, 0x3fff_ffff, 0x4b00_0000, 0x4b7f_ffff, 0x4b80_0000, 0x3eaa_aaab, 0x4049_0fdb]);
    for exponent in
        [1u32, 2, 24, 63, 100, 103, 112, 113, 126, 127, 128, 134, 141, 142, 150, 158, 159, 190, 191, 253, 254]
    {
        let power = exponent << 23;
        bits.extend([power - 1, power, power + 1, power | 0x55_5555, power | 0x40_0000, power | 0x00_1000]);
    }
    bits.iter().flat_map(|b| [*b, b | 0x8000_0000]).map(f32::from_bits).collect()
}

/// Every interesting `f64`, those of `f32` among them.
pub fn edges_f64() -> Vec<f64> {
    let mut bits = vec![1u64, 2, 0xf_ffff_ffff_ffff, 0x10_0000_0000_0000, 0x7fef_ffff_ffff_ffff, 0x7ff0_0000_0000_0001];
    for exponent in [1u64, 2, 60, 500, 971, 1000, 1022, 1023, 1024, 1075, 1086, 1087, 1100, 1500, 2045, 2046] {
        let power = exponent << 52;
        bits.extend([power - 1, power, power + 1, power | 0x5_5555_5555_5555, power | 0x8_0000_0000_0000]);
    }
    let wide = edges_f32().into_iter().map(f64::from);
    bits.iter().flat_map(|b| [*b, b | 1 << 63]).map(f64::from_bits).chain(wide).collect()
}

/// A sweep of all `f32` in steps of a prime, about 280,000 of them.
pub fn sweep_f32() -> impl Iterator<Item = f32> {
    (0..=u32::MAX).step_by(15_331).map(f32::from_bits)
}

/// SplitMix64: numbers for the tests, the same at every run.
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}

/// Equal bits, or both NaN.
pub fn same_f32(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
}

/// Equal bits, or both NaN.
pub fn same_f64(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
}
