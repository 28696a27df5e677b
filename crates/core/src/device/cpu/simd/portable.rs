//! Vectors for any machine: arrays of eight floats, which the compiler maps to the machine's vectors.

use super::{Simd, operations};

/// Plain Rust; [`Simd::fma`] rounds the product and the sum.
#[derive(Clone, Copy)]
pub struct Portable;

/// Eight floats.
#[derive(Clone, Copy)]
#[repr(align(32))]
pub struct Eight([f32; 8]);

fn zip(a: Eight, b: Eight, f: impl Fn(f32, f32) -> f32) -> Eight {
    Eight(std::array::from_fn(|i| f(a.0[i], b.0[i])))
}

// Each function relies on the trait's contract: the pointers are valid.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Simd for Portable {
    type V = Eight;
    const LANES: usize = 8;
    const ROWS: usize = 2;

    operations! {
        splat(x: f32) -> Eight = Eight([x; 8]);
        load(p: *const f32) -> Eight = Eight(p.cast::<[f32; 8]>().read_unaligned());
        store(p: *mut f32, v: Eight) = p.cast::<[f32; 8]>().write_unaligned(v.0);
        fma(a: Eight, b: Eight, c: Eight) -> Eight = Eight(std::array::from_fn(|i| a.0[i] * b.0[i] + c.0[i]));
        add(a: Eight, b: Eight) -> Eight = zip(a, b, |a, b| a + b);
        sub(a: Eight, b: Eight) -> Eight = zip(a, b, |a, b| a - b);
        max0(v: Eight) -> Eight = Eight(v.0.map(|x| if x < 0.0 { 0.0 } else { x }));
        mul(a: Eight, b: Eight) -> Eight = zip(a, b, |a, b| a * b);
        halves(v: Eight) -> [Eight; 2] = {
            [Eight(v.0.map(|x| f32::from_bits(x.to_bits() << 16))), Eight(v.0.map(|x| f32::from_bits(x.to_bits() & !0xffff)))]
        };
    }
    #[inline(always)]
    unsafe fn transpose(from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
        for i in 0..8 {
            for j in 0..8 {
                unsafe { *to.add(i * to_stride + j) = *from.add(j * stride + i) };
            }
        }
    }
}

/// One float: for the channels that do not fill a vector.
#[derive(Clone, Copy)]
pub struct Scalar;

// Each function relies on the trait's contract: the pointers are valid.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Simd for Scalar {
    type V = f32;
    const LANES: usize = 1;
    const ROWS: usize = 1;

    operations! {
        splat(x: f32) -> f32 = x;
        load(p: *const f32) -> f32 = *p;
        store(p: *mut f32, v: f32) = *p = v;
        fma(a: f32, b: f32, c: f32) -> f32 = a * b + c;
        add(a: f32, b: f32) -> f32 = a + b;
        sub(a: f32, b: f32) -> f32 = a - b;
        max0(v: f32) -> f32 = if v < 0.0 { 0.0 } else { v };
        mul(a: f32, b: f32) -> f32 = a * b;
        halves(v: f32) -> [f32; 2] = [f32::from_bits(v.to_bits() << 16), f32::from_bits(v.to_bits() & !0xffff)];
        transpose(from: *const f32, _stride: usize, to: *mut f32, _to_stride: usize) = *to = *from;
    }
}
