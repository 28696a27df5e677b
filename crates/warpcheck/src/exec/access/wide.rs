//! Loads from shared memory in 512-bit vectors, with fast paths for the common patterns of matrix tiles.

use std::arch::x86_64::*;

use super::shared_is_clean;
use crate::{exec::ExecContext, program::Inst};

/// Loads four bytes per lane, with all lanes active; `false` if the slow path has to, with nothing done. `at` is
/// room for the offsets.
///
/// # Safety
/// The CPU has AVX-512 F; `i` is a load made by lowering, of a register of 32 bits.
#[inline(always)]
pub(super) unsafe fn load_shared<const LEVEL: usize>(cx: &mut ExecContext<'_>, i: &Inst, at: &mut [u32; 32]) -> bool {
    let Some(limit) = cx.shared_bytes.checked_sub(4) else { return false };
    // SAFETY: slots of the lowered program; every offset is compared with the limit before it is used.
    unsafe {
        let (low, high, beyond) = if i.wide {
            let base = cx.slot::<u64>(i.a);
            let offset = _mm512_set1_epi64(i.offset());
            let part = |k: usize| _mm512_add_epi64(_mm512_loadu_si512(base.add(8 * k).cast()), offset);
            let [a, b, c, d] = [part(0), part(1), part(2), part(3)];
            let all = _mm512_or_si512(_mm512_or_si512(a, b), _mm512_or_si512(c, d));
            let both = |a, b| {
                _mm512_inserti64x4::<1>(_mm512_castsi256_si512(_mm512_cvtepi64_epi32(a)), _mm512_cvtepi64_epi32(b))
            };
            let beyond = _mm512_test_epi64_mask(all, _mm512_set1_epi64(!0 << 32));
            (both(a, b), both(c, d), beyond)
        } else {
            let base = cx.slot::<u32>(i.a);
            let offset = _mm512_set1_epi32(i.offset() as i32);
            let part = |k: usize| _mm512_add_epi32(_mm512_loadu_si512(base.add(16 * k).cast()), offset);
            (part(0), part(1), 0)
        };
        let most = _mm512_max_epu32(low, high);
        let outside = _mm512_cmpgt_epu32_mask(most, _mm512_set1_epi32(limit as i32));
        let misaligned = _mm512_test_epi32_mask(_mm512_or_si512(low, high), _mm512_set1_epi32(3));
        if beyond != 0 || outside | misaligned != 0 {
            return false;
        }
        if cx.instrumented {
            _mm512_storeu_si512(at.as_mut_ptr().cast(), low);
            _mm512_storeu_si512(at.as_mut_ptr().add(16).cast(), high);
            if !shared_is_clean::<4, LEVEL>(cx, i, at, !0) {
                return false;
            }
        }
        let shared = cx.shared;
        let to = cx.slot::<u32>(i.d);
        let first = |v: __m512i| _mm512_broadcastd_epi32(_mm512_castsi512_si128(v));
        let read = |v: __m512i| shared.add(_mm_cvtsi128_si32(_mm512_castsi512_si128(v)) as u32 as usize).cast::<i32>();
        let (first_low, first_high) = (first(low), first(high));
        let (x, y);
        if _mm512_cmpneq_epi32_mask(low, first_low) | _mm512_cmpneq_epi32_mask(high, first_high) == 0 {
            // Each half of the warp reads one number.
            (x, y) = (_mm512_set1_epi32(read(low).read()), _mm512_set1_epi32(read(high).read()));
        } else {
            let lanes = _mm512_set_epi32(60, 56, 52, 48, 44, 40, 36, 32, 28, 24, 20, 16, 12, 8, 4, 0);
            let row = |v, first| _mm512_cmpneq_epi32_mask(v, _mm512_add_epi32(first, lanes)) == 0;
            // A half warp that reads consecutive words, or a gather. Offsets are below 2³¹.
            let half = |v, first| {
                if row(v, first) {
                    _mm512_loadu_si512(read(v).cast())
                } else {
                    _mm512_i32gather_epi32::<1>(v, shared.cast())
                }
            };
            x = half(low, first_low);
            y = if _mm512_cmpneq_epi32_mask(low, high) == 0 { x } else { half(high, first_high) };
        }
        _mm512_storeu_si512(to.cast(), x);
        _mm512_storeu_si512(to.add(16).cast(), y);
    }
    true
}
