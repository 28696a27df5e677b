//! fp16, IEEE 754's binary16, in plain Rust.

/// Rounds to the nearest, ties to even; for numbers below 65520, which rounds to infinity. Below 2⁻¹⁴ the results are multiples of 2⁻²⁴.
#[inline(always)]
pub const fn round(x: f32) -> u16 {
    let bits = x.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    let rounded = if magnitude < 0x3880_0000 {
        // The last bit of a number in [0.5, 1) is 2⁻²⁴.
        (f32::from_bits(magnitude) + 0.5).to_bits() - 0.5f32.to_bits()
    } else {
        (magnitude.wrapping_sub(112 << 23) + 0xfff + (magnitude >> 13 & 1)) >> 13
    };
    (bits >> 16 & 0x8000 | rounded) as u16
}

/// The same number as an f32; of a finite number.
#[inline(always)]
pub const fn widen(x: u16) -> f32 {
    let magnitude = f32::from_bits((x as u32 & 0x7fff) << 13) * f32::from_bits((127 + 112) << 23);
    f32::from_bits(magnitude.to_bits() | (x as u32 & 0x8000) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_and_its_neighbours() {
        for bits in (0..0x7c00).flat_map(|bits| [bits, bits | 0x8000]) {
            let x = half::f16::from_bits(bits);
            assert_eq!(widen(bits).to_bits(), x.to_f32().to_bits());
            assert_eq!(round(x.to_f32()), bits);
            // Ties, and what is next to them.
            let next = if bits & 0x7fff == 0x7bff { 65536.0 } else { half::f16::from_bits(bits + 1).to_f32() };
            let middle = (x.to_f32() + next.copysign(x.to_f32())) / 2.0;
            for between in [-1, 0, 1].map(|i| f32::from_bits(middle.to_bits().wrapping_add_signed(i))) {
                if between.abs() < 65520.0 {
                    assert_eq!(round(between), half::f16::from_f32(between).to_bits(), "{between}");
                }
            }
        }
    }
}
