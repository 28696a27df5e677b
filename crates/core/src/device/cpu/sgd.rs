//! SGD with momentum in one pass: d = g + wd·w; v = μ·v + d; w −= lr·v, or lr·(d + μ·v) with Nesterov.
//!
//! 20 bytes per parameter (w, g and v read, w and v written): limited by memory bandwidth, hence long runs per task.

use super::Context;
use super::pool::SyncPtr;
use super::simd::dispatch;
use super::weights::Buffer;
use crate::Sgd;
use crate::device::Parameter;

/// Parameters per task.
const CHUNK: usize = 64 << 10;

/// See [`Operators::sgd`](crate::device::Operators::sgd).
pub fn run(context: &Context, optimizer: &Sgd, parameters: &mut dyn Iterator<Item = &mut Parameter<Buffer>>) {
    for parameter in parameters {
        let optimizer = &parameter.sgd(optimizer);
        let (Some(gradient), Some(momentum)) = (&parameter.gradient, &mut parameter.momentum) else { continue };
        let len = parameter.value.len().min(gradient.len()).min(momentum.len());
        let value = SyncPtr(parameter.value.as_mut_slice().as_mut_ptr());
        let momentum = SyncPtr(momentum.as_mut_slice().as_mut_ptr());
        context.pool.run(len.div_ceil(CHUNK), |task, _| {
            let start = task * CHUNK;
            let n = CHUNK.min(len - start);
            // SAFETY: each task has its own parameters.
            let (value, momentum) = unsafe { (value.slice_mut(start, n), momentum.slice_mut(start, n)) };
            update(context.level, optimizer, value, &gradient[start..start + n], momentum);
        });
    }
}

dispatch! {
    /// Updates some parameters.
    pub fn update(optimizer: &Sgd, value: &mut [f32], gradient: &[f32], momentum: &mut [f32]) = plain update_body
}
#[inline(always)]
pub fn update_body(optimizer: &Sgd, value: &mut [f32], gradient: &[f32], momentum: &mut [f32]) {
    let [rate, mu, decay] = [optimizer.learning_rate, optimizer.momentum, optimizer.weight_decay].map(|x| x as f32);
    let parameters = value.iter_mut().zip(gradient).zip(momentum);
    if optimizer.nesterov {
        for ((w, &g), v) in parameters {
            let d = g + decay * *w;
            *v = mu * *v + d;
            *w -= rate * (d + mu * *v);
        }
    } else {
        for ((w, &g), v) in parameters {
            let d = g + decay * *w;
            *v = mu * *v + d;
            *w -= rate * *v;
        }
    }
}
