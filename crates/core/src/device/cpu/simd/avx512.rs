//! 512-bit vectors of x86-64.

use super::{Simd, operations};
use std::arch::x86_64::*;
use std::mem::transmute;

/// Words i and `apart` + i, for each i below 16.
const fn interleaved(apart: usize) -> [u16; 32] {
    let mut index = [0; 32];
    let mut i = 0;
    while i < 32 {
        index[i] = (i / 2 + i % 2 * apart) as u16;
        i += 1;
    }
    index
}
/// Of the halves of a vector, and of two vectors.
const HALVES: [u16; 32] = interleaved(16);
const PAIRS: [u16; 32] = interleaved(32);

/// AVX-512 F, BW, DQ and VL; the functions of bf16 need AVX512-BF16.
#[derive(Clone, Copy)]
pub struct Avx512;

// Each function relies on the trait's contract: the instructions exist, the pointers are valid.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Simd for Avx512 {
    type V = __m512;
    const LANES: usize = 16;
    const ROWS: usize = 12;

    operations! {
        splat(x: f32) -> __m512 = _mm512_set1_ps(x);
        load(p: *const f32) -> __m512 = _mm512_loadu_ps(p);
        store(p: *mut f32, v: __m512) = _mm512_storeu_ps(p, v);
        fma(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
        add(a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
        sub(a: __m512, b: __m512) -> __m512 = _mm512_sub_ps(a, b);
        // The second operand is the result where one is NaN.
        max0(v: __m512) -> __m512 = _mm512_max_ps(_mm512_setzero_ps(), v);
        mul(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
        prefetch(p: *const f32) = _mm_prefetch::<_MM_HINT_T1>(p.cast());
        load_fp16(p: *const u16) -> __m512 = _mm512_cvtph_ps(_mm256_loadu_si256(p.cast()));
        halves(v: __m512) -> [__m512; 2] = {
            let v = _mm512_castps_si512(v);
            let high = _mm512_and_si512(v, _mm512_set1_epi32(!0xffff));
            [_mm512_castsi512_ps(_mm512_slli_epi32::<16>(v)), _mm512_castsi512_ps(high)]
        };
        dot(a: __m512, b: __m512, c: __m512) -> __m512 = {
            _mm512_dpbf16_ps(c, transmute::<__m512, __m512bh>(a), transmute::<__m512, __m512bh>(b))
        };
        pair(low: __m512, high: __m512) -> __m512 = {
            let index = _mm512_loadu_si512(HALVES.as_ptr().cast());
            let apart = transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
            _mm512_castsi512_ps(_mm512_permutexvar_epi16(index, apart))
        };
        store_bf16(p: *mut u16, v: __m512) = {
            _mm256_storeu_si256(p.cast(), transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(v)));
        };
        interleave(low: *const u16, high: *const u16) -> [__m512; 2] = {
            let (low, high) = (_mm512_loadu_si512(low.cast()), _mm512_loadu_si512(high.cast()));
            let first = _mm512_loadu_si512(PAIRS.as_ptr().cast());
            let second = _mm512_add_epi16(first, _mm512_set1_epi16(16));
            [
                _mm512_castsi512_ps(_mm512_permutex2var_epi16(low, first, high)),
                _mm512_castsi512_ps(_mm512_permutex2var_epi16(low, second, high)),
            ]
        };
        neighbours(p: *const f32) -> __m512 = {
            transmute::<__m512bh, __m512>(_mm512_cvtne2ps_pbh(_mm512_loadu_ps(p.add(16)), _mm512_loadu_ps(p)))
        };
    }
    #[inline(always)]
    unsafe fn transpose(from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
        unsafe {
            let mut r = [_mm512_setzero_ps(); 16];
            for (i, r) in r.iter_mut().enumerate() {
                *r = _mm512_loadu_ps(from.add(i * stride));
            }
            // Pairs of rows, then fours: t[4a + b] holds column b of each 4×4 block of rows 4a to 4a + 3.
            let mut t = [_mm512_setzero_ps(); 16];
            for a in 0..4 {
                let [r0, r1, r2, r3] = [r[4 * a], r[4 * a + 1], r[4 * a + 2], r[4 * a + 3]];
                let low01 = _mm512_castps_pd(_mm512_unpacklo_ps(r0, r1));
                let high01 = _mm512_castps_pd(_mm512_unpackhi_ps(r0, r1));
                let low23 = _mm512_castps_pd(_mm512_unpacklo_ps(r2, r3));
                let high23 = _mm512_castps_pd(_mm512_unpackhi_ps(r2, r3));
                t[4 * a] = _mm512_castpd_ps(_mm512_unpacklo_pd(low01, low23));
                t[4 * a + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low01, low23));
                t[4 * a + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high01, high23));
                t[4 * a + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high01, high23));
            }
            // Then the 4×4 matrix of 128-bit blocks, for each b.
            let mut out = [_mm512_setzero_ps(); 16];
            for b in 0..4 {
                let (x0, x1) = (t[b], t[4 + b]);
                let (x2, x3) = (t[8 + b], t[12 + b]);
                let low01 = _mm512_shuffle_f32x4::<0b10_00_10_00>(x0, x1);
                let high01 = _mm512_shuffle_f32x4::<0b11_01_11_01>(x0, x1);
                let low23 = _mm512_shuffle_f32x4::<0b10_00_10_00>(x2, x3);
                let high23 = _mm512_shuffle_f32x4::<0b11_01_11_01>(x2, x3);
                out[b] = _mm512_shuffle_f32x4::<0b10_00_10_00>(low01, low23);
                out[4 + b] = _mm512_shuffle_f32x4::<0b10_00_10_00>(high01, high23);
                out[8 + b] = _mm512_shuffle_f32x4::<0b11_01_11_01>(low01, low23);
                out[12 + b] = _mm512_shuffle_f32x4::<0b11_01_11_01>(high01, high23);
            }
            for (i, &v) in out.iter().enumerate() {
                _mm512_storeu_ps(to.add(i * to_stride), v);
            }
        }
    }
}
