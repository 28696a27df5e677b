//! y = y + x, then max(y, 0) if asked for. 12 bytes a number: bound by memory.

use super::Crew;
use super::pool::Shares;
use super::relu::{CHUNK, max0};
use super::simd::dispatch;

/// See [`Device::add`](crate::Device::add).
pub fn run(crew: &Crew, x: &[f32], relu: bool, y: &mut [f32]) {
    let (len, y) = (y.len(), Shares(y.as_mut_ptr()));
    crew.pool.run(len.div_ceil(CHUNK), |task, _| {
        let start = task * CHUNK;
        let chunk = CHUNK.min(len - start);
        // SAFETY: each task has its own chunk.
        add(crew.level, &x[start..start + chunk], relu, unsafe { y.part(start, chunk) });
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
