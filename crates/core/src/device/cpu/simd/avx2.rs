//! 256-bit vectors of x86-64 with fused multiply-add.

use super::{Simd, operations};
use std::arch::x86_64::*;

/// AVX2, FMA and F16C.
#[derive(Clone, Copy)]
pub struct Avx2;

// Each function relies on the trait's contract: the instructions exist, the pointers are valid.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Simd for Avx2 {
    type V = __m256;
    const LANES: usize = 8;
    const ROWS: usize = 6;

    operations! {
        splat(x: f32) -> __m256 = _mm256_set1_ps(x);
        load(p: *const f32) -> __m256 = _mm256_loadu_ps(p);
        store(p: *mut f32, v: __m256) = _mm256_storeu_ps(p, v);
        fma(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fmadd_ps(a, b, c);
        add(a: __m256, b: __m256) -> __m256 = _mm256_add_ps(a, b);
        sub(a: __m256, b: __m256) -> __m256 = _mm256_sub_ps(a, b);
        // The second operand is the result where one is NaN.
        max0(v: __m256) -> __m256 = _mm256_max_ps(_mm256_setzero_ps(), v);
        mul(a: __m256, b: __m256) -> __m256 = _mm256_mul_ps(a, b);
        prefetch(p: *const f32) = _mm_prefetch::<_MM_HINT_T1>(p.cast());
        load_fp16(p: *const u16) -> __m256 = _mm256_cvtph_ps(_mm_loadu_si128(p.cast()));
    }
    #[inline(always)]
    unsafe fn halves(v: __m256) -> [__m256; 2] {
        unsafe {
            let v = _mm256_castps_si256(v);
            let high = _mm256_and_si256(v, _mm256_set1_epi32(!0xffff));
            [_mm256_castsi256_ps(_mm256_slli_epi32::<16>(v)), _mm256_castsi256_ps(high)]
        }
    }
    #[inline(always)]
    unsafe fn transpose(from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
        unsafe {
            let mut r = [_mm256_setzero_ps(); 8];
            for (i, r) in r.iter_mut().enumerate() {
                *r = _mm256_loadu_ps(from.add(i * stride));
            }
            // t[4a + b] holds column b of each 4×4 block of rows 4a to 4a + 3.
            let mut t = [_mm256_setzero_ps(); 8];
            for a in 0..2 {
                let [r0, r1, r2, r3] = [r[4 * a], r[4 * a + 1], r[4 * a + 2], r[4 * a + 3]];
                let low01 = _mm256_castps_pd(_mm256_unpacklo_ps(r0, r1));
                let high01 = _mm256_castps_pd(_mm256_unpackhi_ps(r0, r1));
                let low23 = _mm256_castps_pd(_mm256_unpacklo_ps(r2, r3));
                let high23 = _mm256_castps_pd(_mm256_unpackhi_ps(r2, r3));
                t[4 * a] = _mm256_castpd_ps(_mm256_unpacklo_pd(low01, low23));
                t[4 * a + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(low01, low23));
                t[4 * a + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(high01, high23));
                t[4 * a + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(high01, high23));
            }
            for b in 0..4 {
                _mm256_storeu_ps(to.add(b * to_stride), _mm256_permute2f128_ps::<0x20>(t[b], t[4 + b]));
            }
            for b in 0..4 {
                _mm256_storeu_ps(to.add((4 + b) * to_stride), _mm256_permute2f128_ps::<0x31>(t[b], t[4 + b]));
            }
        }
    }
}
