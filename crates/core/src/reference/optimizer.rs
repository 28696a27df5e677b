//! The update of the weights and their moving average.

use crate::Sgd;
use crate::device::Element;

/// See [`Operators::sgd`](crate::device::Operators::sgd), for one parameter.
pub fn sgd<T: Element>(optimizer: &Sgd, weight: &mut [T], gradient: &[T], momentum: &mut [T]) {
    let [rate, mu, decay] = [optimizer.learning_rate, optimizer.momentum, optimizer.weight_decay].map(T::from_f64);
    for ((w, &g), v) in weight.iter_mut().zip(gradient).zip(momentum) {
        let d = g + decay * *w;
        *v = mu * *v + d;
        *w -= rate * if optimizer.nesterov { d + mu * *v } else { *v };
    }
}

/// See [`Operators::ema`](crate::device::Operators::ema), for one parameter.
pub fn ema<T: Element>(decay: f64, weight: &[T], average: &mut [T]) {
    approach(1.0 - decay, weight, average);
}

/// See [`Operators::approach`](crate::device::Operators::approach), for one pair.
pub fn approach<T: Element>(rate: f64, weight: &[T], average: &mut [T]) {
    let rate = T::from_f64(rate);
    for (e, &w) in average.iter_mut().zip(weight) {
        *e += rate * (w - *e);
    }
}
