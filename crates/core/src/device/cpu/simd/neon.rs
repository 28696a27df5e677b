//! 128-bit vectors of aarch64.

use super::{Simd, operations};
use std::arch::aarch64::*;

/// NEON, part of every aarch64.
#[derive(Clone, Copy)]
pub struct Neon;

// Each function relies on the trait's contract: the pointers are valid.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Simd for Neon {
    type V = float32x4_t;
    const LANES: usize = 4;
    const ROWS: usize = 8;

    operations! {
        splat(x: f32) -> float32x4_t = vdupq_n_f32(x);
        load(p: *const f32) -> float32x4_t = vld1q_f32(p);
        store(p: *mut f32, v: float32x4_t) = vst1q_f32(p, v);
        fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t = vfmaq_f32(c, a, b);
        add(a: float32x4_t, b: float32x4_t) -> float32x4_t = vaddq_f32(a, b);
        sub(a: float32x4_t, b: float32x4_t) -> float32x4_t = vsubq_f32(a, b);
        max0(v: float32x4_t) -> float32x4_t = vmaxq_f32(v, vdupq_n_f32(0.0));
        mul(a: float32x4_t, b: float32x4_t) -> float32x4_t = vmulq_f32(a, b);
        // The intrinsic of this instruction came after the oldest Rust that builds this.
        load_fp16(p: *const u16) -> float32x4_t = {
            let (halves, widened): (uint16x4_t, float32x4_t);
            halves = vld1_u16(p);
            std::arch::asm!("fcvtl {0:v}.4s, {1:v}.4h", out(vreg) widened, in(vreg) halves, options(pure, nomem, nostack));
            widened
        };
        halves(v: float32x4_t) -> [float32x4_t; 2] = {
            let v = vreinterpretq_u32_f32(v);
            [vshlq_n_u32::<16>(v), vandq_u32(v, vdupq_n_u32(!0xffff))].map(|half| vreinterpretq_f32_u32(half))
        };
    }
    #[inline(always)]
    unsafe fn transpose(from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
        unsafe {
            let r: [float32x4_t; 4] = std::array::from_fn(|i| vld1q_f32(from.add(i * stride)));
            let (a, b) = (vtrnq_f32(r[0], r[1]), vtrnq_f32(r[2], r[3]));
            vst1q_f32(to, vcombine_f32(vget_low_f32(a.0), vget_low_f32(b.0)));
            vst1q_f32(to.add(to_stride), vcombine_f32(vget_low_f32(a.1), vget_low_f32(b.1)));
            vst1q_f32(to.add(2 * to_stride), vcombine_f32(vget_high_f32(a.0), vget_high_f32(b.0)));
            vst1q_f32(to.add(3 * to_stride), vcombine_f32(vget_high_f32(a.1), vget_high_f32(b.1)));
        }
    }
}
