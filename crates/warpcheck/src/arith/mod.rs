//! The results of PTX instructions, as pure functions on scalars.
//!
//! These are the definitions: no lanes, no registers, no memory. The executor calls them or is tested against them: what
//! `exec/integer.rs` computes for 32 lanes at once is defined here lane by lane (shifts, `mul.hi`, `mul.wide`), and so are
//! matrix fragments (`mma::matrix_position`) and some conversions; only the tests call those.
//! Floating-point types narrower than `f32` travel as their bits (`u16` for `.f16` and `.bf16`, `u32` for `.tf32`).
//!
//! The modifiers compose: `.ftz` is [`float::flush_f32`] on every input and on the result, `.sat` is
//! [`float::saturate_f32`] on the result, after rounding.
//!
//! NaN: PTX gives the canonical NaN (`0x7fffffff`, `0x7fff`) for `.f32`, `.f16` and `.bf16` results; for speed the
//! `.f32` functions that are one CPU instruction return whatever NaN the CPU gives, and say so.

pub mod approx;
pub mod bits;
pub mod cvt;
pub mod float;
pub mod half;
pub mod integer;
pub mod mma;
pub mod soft;

/// A rounding modifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Rounding {
    /// `.rn`, `.rni`: to the nearest, ties to even.
    #[default]
    Nearest,
    /// `.rna`: to the nearest, ties away from zero (`cvt.rna.tf32.f32` alone).
    NearestAway,
    /// `.rz`, `.rzi`: towards zero.
    Zero,
    /// `.rm`, `.rmi`: towards negative infinity.
    Down,
    /// `.rp`, `.rpi`: towards positive infinity.
    Up,
}
