//! MixUp and CutMix; one task per pair of images. Minimum memory traffic: each image, or CutMix's box, read and written once.

use super::Context;
use super::pool::SyncPtr;
use super::simd::dispatch;
use crate::shape::{Mix, MixShape};

/// See [`Mix`].
pub fn run(context: &Context, s: &MixShape, x: &mut [f32]) {
    let (image, x) = (s.image(), SyncPtr(x.as_mut_ptr()));
    context.pool.run(s.batch / 2, |n, _| {
        // SAFETY: each task has its own two images, which differ since n < N − 1 − n.
        let (a, b) = unsafe { (x.slice_mut(n * image, image), x.slice_mut((s.batch - 1 - n) * image, image)) };
        match s.mix {
            Mix::Blend { weight } => blend(context.level, a, b, weight),
            Mix::Paste { left, top, right, bottom } => {
                let [left, top, width, height] = s.pasted([left, top, right, bottom]);
                for row in top..top + height {
                    let from = (row * s.side + left) * s.channels;
                    let run = from..from + width * s.channels;
                    a[run.clone()].swap_with_slice(&mut b[run]);
                }
            }
        }
    });
}

dispatch! {
    fn blend(a: &mut [f32], b: &mut [f32], weight: f32) = plain blend_body
}
#[inline(always)]
fn blend_body(a: &mut [f32], b: &mut [f32], weight: f32) {
    let other = 1.0 - weight;
    for (a, b) in a.iter_mut().zip(b) {
        (*a, *b) = (weight * *a + other * *b, weight * *b + other * *a);
    }
}
