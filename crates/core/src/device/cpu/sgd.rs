//! SGD with momentum in one pass: d = g + wd·w; v = μ·v + d; w −= lr·v, or lr·(d + μ·v) with Nesterov.
//!
//! 20 bytes a parameter (w, g, v read, w, v written): bound by memory, so that a task does a long run.

use super::Crew;
use super::array::Array;
use super::pool::Shares;
use super::simd::dispatch;
use crate::Sgd;
use crate::device::Parameter;

/// Parameters a task does.
const CHUNK: usize = 64 << 10;

/// See [`Device::sgd`](crate::Device::sgd).
pub fn run(crew: &Crew, rule: &Sgd, parameters: &mut [Parameter<Array<f32>>]) {
    for parameter in parameters {
        let (Some(gradient), Some(momentum)) = (&parameter.gradient, &mut parameter.momentum) else { continue };
        let rule = &rule.of(&parameter.shape);
        let len = parameter.value.len().min(gradient.len()).min(momentum.len());
        let value = Shares(parameter.value.as_mut_slice().as_mut_ptr());
        let momentum = Shares(momentum.as_mut_slice().as_mut_ptr());
        crew.pool.run(len.div_ceil(CHUNK), |task, _| {
            let start = task * CHUNK;
            let n = CHUNK.min(len - start);
            // SAFETY: each task has its own parameters.
            let (value, momentum) = unsafe { (value.part(start, n), momentum.part(start, n)) };
            update(crew.level, rule, value, &gradient[start..start + n], momentum);
        });
    }
}

dispatch! {
    /// One update of some parameters.
    fn update(rule: &Sgd, value: &mut [f32], gradient: &[f32], momentum: &mut [f32]) = plain update_body
}
#[inline(always)]
pub fn update_body(rule: &Sgd, value: &mut [f32], gradient: &[f32], momentum: &mut [f32]) {
    let [rate, mu, decay] = [rule.learning_rate, rule.momentum, rule.weight_decay].map(|x| x as f32);
    let parameters = value.iter_mut().zip(gradient).zip(momentum);
    if rule.nesterov {
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
