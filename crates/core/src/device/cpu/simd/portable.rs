//! Vectors for any machine: arrays of eight floats, which the compiler maps to the machine's vectors.

use super::Simd;

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

    #[inline(always)]
    unsafe fn splat(x: f32) -> Eight {
        Eight([x; 8])
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Eight {
        Eight(unsafe { p.cast::<[f32; 8]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Eight) {
        unsafe { p.cast::<[f32; 8]>().write_unaligned(v.0) }
    }
    #[inline(always)]
    unsafe fn fma(a: Eight, b: Eight, c: Eight) -> Eight {
        Eight(std::array::from_fn(|i| a.0[i] * b.0[i] + c.0[i]))
    }
    #[inline(always)]
    unsafe fn add(a: Eight, b: Eight) -> Eight {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(a: Eight, b: Eight) -> Eight {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn max0(v: Eight) -> Eight {
        Eight(v.0.map(|x| if x < 0.0 { 0.0 } else { x }))
    }
    #[inline(always)]
    unsafe fn mul(a: Eight, b: Eight) -> Eight {
        zip(a, b, |a, b| a * b)
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

    #[inline(always)]
    unsafe fn splat(x: f32) -> f32 {
        x
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> f32 {
        unsafe { *p }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: f32) {
        unsafe { *p = v }
    }
    #[inline(always)]
    unsafe fn fma(a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }
    #[inline(always)]
    unsafe fn add(a: f32, b: f32) -> f32 {
        a + b
    }
    #[inline(always)]
    unsafe fn sub(a: f32, b: f32) -> f32 {
        a - b
    }
    #[inline(always)]
    unsafe fn max0(v: f32) -> f32 {
        if v < 0.0 { 0.0 } else { v }
    }
    #[inline(always)]
    unsafe fn mul(a: f32, b: f32) -> f32 {
        a * b
    }
    #[inline(always)]
    unsafe fn transpose(from: *const f32, _: usize, to: *mut f32, _: usize) {
        unsafe { *to = *from }
    }
}
