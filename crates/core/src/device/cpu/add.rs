//! y = y + x, then max(y, 0) if `relu`. 12 bytes per element: limited by memory bandwidth.

use super::Context;
use super::pool::SyncPtr;
use super::relu::{CHUNK, max0};
use super::simd::dispatch;

/// See [`Operators::add`](crate::device::Operators::add).
pub fn run(context: &Context, x: &[f32], relu: bool, y: &mut [f32]) {
    let (len, y) = (y.len(), SyncPtr(y.as_mut_ptr()));
    context.pool.run(len.div_ceil(CHUNK), |task, _| {
        let start = task * CHUNK;
        let chunk = CHUNK.min(len - start);
        // SAFETY: each task has its own chunk.
        add(context.level, &x[start..start + chunk], relu, unsafe { y.slice_mut(start, chunk) });
    });
}

dispatch! {
    fn add(x: &[f32], relu: bool, y: &mut [f32]) = plain body
}
#[inline(always)]
fn body(x: &[f32], relu: bool, y: &mut [f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        let sum = *y + x;
        *y = if relu { max0(sum) } else { sum };
    }
}
