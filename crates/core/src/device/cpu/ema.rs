//! Exponential moving average of the weights in one pass: e += (1 − d)·(w − e).
//!
//! 12 bytes a parameter (w, e read, e written): bound by memory, so that a task does a long run.

use super::Crew;
use super::array::Array;
use super::pool::Shares;
use super::simd::dispatch;
use crate::device::Parameter;

/// Parameters a task does.
const CHUNK: usize = 64 << 10;

/// See [`Device::ema`](crate::Device::ema).
pub fn run(crew: &Crew, decay: f64, parameters: &mut [Parameter<Array<f32>>]) {
    let rate = (1.0 - decay) as f32;
    for parameter in parameters {
        let Some(average) = &mut parameter.average else { continue };
        let len = parameter.value.len().min(average.len());
        let average = Shares(average.as_mut_slice().as_mut_ptr());
        let value = &parameter.value;
        crew.pool.run(len.div_ceil(CHUNK), |task, _| {
            let start = task * CHUNK;
            let n = CHUNK.min(len - start);
            // SAFETY: each task has its own parameters.
            update(crew.level, rate, unsafe { average.part(start, n) }, &value[start..start + n]);
        });
    }
}

dispatch! {
    /// The average of some parameters.
    pub fn update(rate: f32, average: &mut [f32], value: &[f32]) = plain body
}
#[inline(always)]
fn body(rate: f32, average: &mut [f32], value: &[f32]) {
    for (e, &w) in average.iter_mut().zip(value) {
        *e += rate * (w - *e);
    }
}
