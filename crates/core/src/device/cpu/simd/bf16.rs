//! bf16, the upper half of an f32, in plain Rust.

/// Rounds to the nearest, ties to even. A subnormal number becomes zero, as in `vcvtneps2bf16`.
#[inline(always)]
pub const fn round(x: f32) -> u32 {
    let bits = x.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    if magnitude > 0x7f80_0000 {
        (bits | 0x0040_0000) >> 16
    } else if magnitude < 0x0080_0000 {
        bits >> 31 << 15
    } else {
        (bits + 0x7fff + (bits >> 16 & 1)) >> 16
    }
}

/// An element whose lower half is `low` and whose upper half is `high`, both rounded.
#[inline(always)]
pub const fn pair(low: f32, high: f32) -> f32 {
    f32::from_bits(round(high) << 16 | round(low))
}
