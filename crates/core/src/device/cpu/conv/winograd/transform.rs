//! Winograd's transformations of one tile, for a vector of channels.
//!
//! The interpolation points 0, ±1, ±2, ∞ give (Lavin and Gray, 2016)
//! ```text
//!      ⎡4  0 −5  0  1  0⎤       ⎡ 1/4     0    0 ⎤
//!      ⎢0 −4 −4  1  1  0⎥       ⎢−1/6  −1/6  −1/6⎥        ⎡1  1  1  1  1  0⎤
//! Bᵀ = ⎢0  4 −4 −1  1  0⎥   G = ⎢−1/6   1/6  −1/6⎥   Aᵀ = ⎢0  1 −1  2 −2  0⎥
//!      ⎢0 −2 −1  2  1  0⎥       ⎢1/24  1/12   1/6⎥        ⎢0  1  1  4  4  0⎥
//!      ⎢0  2 −1 −2  1  0⎥       ⎢1/24 −1/12   1/6⎥        ⎣0  1 −1  8 −8  1⎦
//!      ⎣0  4  0 −5  0  1⎦       ⎣  0     0    1  ⎦
//! ```
//! and each type below applies one of them, or its transpose, in one dimension.

use crate::device::cpu::simd::Simd;

/// A transformation in one dimension. A trait, because closures cannot be `#[inline(always)]` and a call would pass the vectors
/// through memory.
pub trait Transform<S: Simd, const FROM: usize, const TO: usize> {
    /// The transformed vectors.
    ///
    /// # Safety
    /// The machine has the level's instructions.
    unsafe fn of(x: [S::V; FROM]) -> [S::V; TO];
}

/// Bᵀ·d for 6 pixels of the image.
pub struct Image;
impl<S: Simd> Transform<S, 6, 6> for Image {
    #[inline(always)]
    unsafe fn of(d: [S::V; 6]) -> [S::V; 6] {
        // SAFETY: the caller has the level's instructions.
        unsafe {
            let [four, five, two] = [S::splat(4.0), S::splat(5.0), S::splat(2.0)];
            let a = S::sub(d[4], S::mul(four, d[2]));
            let b = S::sub(d[3], S::mul(four, d[1]));
            let c = S::sub(d[4], d[2]);
            let e = S::mul(two, S::sub(d[3], d[1]));
            [
                S::fma(four, d[0], S::sub(d[4], S::mul(five, d[2]))),
                S::add(a, b),
                S::sub(a, b),
                S::add(c, e),
                S::sub(c, e),
                S::fma(four, d[1], S::sub(d[5], S::mul(five, d[3]))),
            ]
        }
    }
}

/// B·z: the transpose of [`Image`], for the image's gradient.
pub struct ImageGradient;
impl<S: Simd> Transform<S, 6, 6> for ImageGradient {
    #[inline(always)]
    unsafe fn of(z: [S::V; 6]) -> [S::V; 6] {
        // SAFETY: the caller has the level's instructions.
        unsafe {
            let [four, five, two] = [S::splat(4.0), S::splat(5.0), S::splat(2.0)];
            let (p, m) = (S::add(z[1], z[2]), S::sub(z[1], z[2]));
            let (q, n) = (S::add(z[3], z[4]), S::sub(z[3], z[4]));
            let n2 = S::mul(two, n);
            [
                S::mul(four, z[0]),
                S::sub(S::mul(four, S::sub(z[5], m)), n2),
                S::sub(S::splat(0.0), S::fma(five, z[0], S::fma(four, p, q))),
                S::sub(S::add(m, n2), S::mul(five, z[5])),
                S::add(z[0], S::add(p, q)),
                z[5],
            ]
        }
    }
}

/// Aᵀ·m for 4 output pixels.
pub struct Output;
impl<S: Simd> Transform<S, 6, 4> for Output {
    #[inline(always)]
    unsafe fn of(m: [S::V; 6]) -> [S::V; 4] {
        // SAFETY: the caller has the level's instructions.
        unsafe {
            let (p, d) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
            let (q, e) = (S::add(m[3], m[4]), S::sub(m[3], m[4]));
            [
                S::add(m[0], S::add(p, q)),
                S::fma(S::splat(2.0), e, d),
                S::fma(S::splat(4.0), q, p),
                S::add(S::fma(S::splat(8.0), e, d), m[5]),
            ]
        }
    }
}

/// A·d: the transpose of [`Output`], for the output's gradient.
pub struct OutputGradient;
impl<S: Simd> Transform<S, 4, 6> for OutputGradient {
    #[inline(always)]
    unsafe fn of(d: [S::V; 4]) -> [S::V; 6] {
        // SAFETY: the caller has the level's instructions.
        unsafe {
            let (e, f) = (S::add(d[0], d[2]), S::add(d[1], d[3]));
            let g = S::fma(S::splat(4.0), d[2], d[0]);
            let h = S::fma(S::splat(8.0), d[3], S::mul(S::splat(2.0), d[1]));
            [d[0], S::add(e, f), S::sub(e, f), S::add(g, h), S::sub(g, h), d[3]]
        }
    }
}

/// G·g for 3 weights.
pub struct Weight;
impl<S: Simd> Transform<S, 3, 6> for Weight {
    #[inline(always)]
    unsafe fn of(g: [S::V; 3]) -> [S::V; 6] {
        // SAFETY: the caller has the level's instructions.
        unsafe {
            let s = S::mul(S::splat(-1.0 / 6.0), S::add(g[0], g[2]));
            let t = S::mul(S::splat(1.0 / 6.0), g[1]);
            let a = S::fma(S::splat(1.0 / 24.0), g[0], S::mul(S::splat(1.0 / 6.0), g[2]));
            let b = S::mul(S::splat(1.0 / 12.0), g[1]);
            [S::mul(S::splat(0.25), g[0]), S::sub(s, t), S::add(s, t), S::add(a, b), S::sub(a, b), g[2]]
        }
    }
}

/// Gᵀ·u: the transpose of [`Weight`], for the weights' gradient.
pub struct WeightGradient;
impl<S: Simd> Transform<S, 6, 3> for WeightGradient {
    #[inline(always)]
    unsafe fn of(u: [S::V; 6]) -> [S::V; 3] {
        // SAFETY: the caller has the level's instructions.
        unsafe {
            let (p, m) = (S::add(u[1], u[2]), S::sub(u[1], u[2]));
            let (q, n) = (S::add(u[3], u[4]), S::sub(u[3], u[4]));
            let sixth = S::splat(1.0 / 6.0);
            [
                S::fma(S::splat(0.25), u[0], S::sub(S::mul(S::splat(1.0 / 24.0), q), S::mul(sixth, p))),
                S::sub(S::mul(S::splat(1.0 / 12.0), n), S::mul(sixth, m)),
                S::fma(sixth, S::sub(q, p), u[5]),
            ]
        }
    }
}

/// Row `i` of a transformed tile whose columns were transformed before.
///
/// # Safety
/// The machine has the level's instructions.
#[inline(always)]
pub unsafe fn row<S: Simd, T: Transform<S, FROM, TO>, const FROM: usize, const TO: usize>(
    columns: &[[S::V; TO]; FROM],
    i: usize,
) -> [S::V; TO] {
    // SAFETY: passed on to the caller.
    unsafe {
        let mut row = [S::splat(0.0); FROM];
        for (to, column) in row.iter_mut().zip(columns) {
            *to = column[i];
        }
        T::of(row)
    }
}
