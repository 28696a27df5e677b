//! Exponential moving average of the weights in one pass: e += (1 − d)·(w − e).
//!
//! 12 bytes per parameter (w and e read, e written): limited by memory bandwidth, hence long runs per task.

use super::Context;
use super::pool::SyncPtr;
use super::simd::dispatch;
use super::weights::Buffer;
use crate::device::Parameter;

/// Parameters per task.
const CHUNK: usize = 64 << 10;

/// See [`Operators::ema`](crate::device::Operators::ema).
pub fn run(context: &Context, decay: f64, parameters: &mut [Parameter<Buffer>]) {
    for parameter in parameters {
        if let Some(average) = &mut parameter.average {
            approach(context, (1.0 - decay) as f32, average.as_mut_slice(), &parameter.value);
        }
    }
}

/// See [`Operators::approach`](crate::device::Operators::approach), for one pair.
pub fn approach(context: &Context, rate: f32, average: &mut [f32], value: &[f32]) {
    let len = value.len().min(average.len());
    let average = SyncPtr(average.as_mut_ptr());
    context.pool.run(len.div_ceil(CHUNK), |task, _| {
        let start = task * CHUNK;
        let n = CHUNK.min(len - start);
        // SAFETY: each task has its own parameters.
        update(context.level, rate, unsafe { average.slice_mut(start, n) }, &value[start..start + n]);
    });
}

dispatch! {
    /// Updates the average of some parameters.
    pub fn update(rate: f32, average: &mut [f32], value: &[f32]) = plain body
}
#[inline(always)]
fn body(rate: f32, average: &mut [f32], value: &[f32]) {
    for (e, &w) in average.iter_mut().zip(value) {
        *e += rate * (w - *e);
    }
}
