//! Local response normalisation and batch normalisation.

use super::relu_forward;
use crate::device::Element;
use crate::shape::{BatchNormShape, LrnShape};

/// s\[c\] = k + α/size · Σ x² over the window of c, for one pixel.
fn lrn_scale<T: Element>(s: &LrnShape, x: &[T], c: usize) -> T {
    let squares = x[s.window(c)].iter().fold(T::zero(), |sum, &x| sum + x * x);
    T::from_f64(s.k) + T::from_f64(s.alpha / s.size as f64) * squares
}

/// See [`Device::lrn_forward`](crate::Device::lrn_forward).
pub fn lrn_forward<T: Element>(s: &LrnShape, x: &[T], y: &mut [T]) {
    for (x, y) in x.chunks_exact(s.channels).zip(y.chunks_exact_mut(s.channels)) {
        for c in 0..s.channels {
            y[c] = x[c] * lrn_scale(s, x, c).powf(T::from_f64(-s.beta));
        }
    }
}

/// See [`Device::lrn_backward`](crate::Device::lrn_backward).
pub fn lrn_backward<T: Element>(s: &LrnShape, x: &[T], dy: &[T], dx: &mut [T]) {
    let factor = T::from_f64(2.0 * s.alpha * s.beta / s.size as f64);
    let pixels = x.chunks_exact(s.channels).zip(dy.chunks_exact(s.channels));
    for ((x, dy), dx) in pixels.zip(dx.chunks_exact_mut(s.channels)) {
        for c in 0..s.channels {
            dx[c] = dy[c] * lrn_scale(s, x, c).powf(T::from_f64(-s.beta));
        }
        for c in 0..s.channels {
            let outer = dy[c] * x[c] * lrn_scale(s, x, c).powf(T::from_f64(-s.beta - 1.0));
            for i in s.window(c) {
                dx[i] -= factor * x[i] * outer;
            }
        }
    }
}

/// Σ of `term(row · C + c)` over the rows, for each channel c.
fn channel_sums<T: Element>(s: &BatchNormShape, term: impl Fn(usize) -> T) -> Vec<T> {
    let sum = |c| (0..s.rows).fold(T::zero(), |sum, row| sum + term(row * s.channels + c));
    (0..s.channels).map(sum).collect()
}

/// See [`Device::batchnorm_forward`](crate::Device::batchnorm_forward); Ioffe and Szegedy, 2015.
#[allow(clippy::too_many_arguments)]
pub fn batchnorm_forward<T: Element>(
    s: &BatchNormShape,
    x: &[T],
    w: &[T],
    b: &[T],
    relu: bool,
    running: [&mut [T]; 2],
    statistics: &mut [T],
    y: &mut [T],
) {
    let rows = T::from_f64(s.rows as f64);
    let mean: Vec<T> = channel_sums(s, |i| x[i]).into_iter().map(|sum| sum / rows).collect();
    let square = |i: usize| (x[i] - mean[i % s.channels]) * (x[i] - mean[i % s.channels]);
    let variance: Vec<T> = channel_sums(s, square).into_iter().map(|sum| sum / rows).collect();
    let [running_mean, running_variance] = running;
    let (momentum, unbiased) = (T::from_f64(s.share()), T::from_f64(s.unbiased()));
    for c in 0..s.channels {
        statistics[c] = mean[c];
        statistics[s.channels + c] = (variance[c] + T::from_f64(s.epsilon)).sqrt().recip();
        running_mean[c] += momentum * (mean[c] - running_mean[c]);
        running_variance[c] += momentum * (unbiased * variance[c] - running_variance[c]);
    }
    batchnorm_inference(s, x, w, b, &mean, &variance, relu, y);
}

/// See [`Device::batchnorm_backward`](crate::Device::batchnorm_backward).
///
/// With x̂ = (x − μ)/√(σ²+ε), of which μ and σ² are functions: dx = γ/√(σ²+ε) · (dy − mean(dy) − x̂·mean(dy·x̂)).
#[allow(clippy::too_many_arguments)]
pub fn batchnorm_backward<T: Element>(
    s: &BatchNormShape,
    x: &[T],
    dy: &[T],
    w: &[T],
    statistics: &[T],
    accumulate: bool,
    dw: &mut [T],
    db: &mut [T],
    dx: &mut [T],
) {
    let (mean, inverse) = statistics.split_at(s.channels);
    let normalised = |i: usize| (x[i] - mean[i % s.channels]) * inverse[i % s.channels];
    let sums = channel_sums(s, |i| dy[i]);
    let products = channel_sums(s, |i| dy[i] * normalised(i));
    let rows = T::from_f64(s.rows as f64);
    for (i, dx) in dx.iter_mut().enumerate() {
        let c = i % s.channels;
        *dx = w[c] * inverse[c] * (dy[i] - sums[c] / rows - normalised(i) * products[c] / rows);
    }
    for c in 0..s.channels {
        dw[c] = products[c] + if accumulate { dw[c] } else { T::zero() };
        db[c] = sums[c] + if accumulate { db[c] } else { T::zero() };
    }
}

/// See [`Device::batchnorm_inference`](crate::Device::batchnorm_inference).
#[allow(clippy::too_many_arguments)]
pub fn batchnorm_inference<T: Element>(
    s: &BatchNormShape,
    x: &[T],
    w: &[T],
    b: &[T],
    mean: &[T],
    variance: &[T],
    relu: bool,
    y: &mut [T],
) {
    for (i, y) in y.iter_mut().enumerate() {
        let c = i % s.channels;
        *y = w[c] * (x[i] - mean[c]) / (variance[c] + T::from_f64(s.epsilon)).sqrt() + b[c];
    }
    if relu {
        relu_forward(y);
    }
}

/// See [`Device::batchnorm_inference_backward`](crate::Device::batchnorm_inference_backward).
pub fn batchnorm_inference_backward<T: Element>(s: &BatchNormShape, dy: &[T], w: &[T], variance: &[T], dx: &mut [T]) {
    for (i, dx) in dx.iter_mut().enumerate() {
        let c = i % s.channels;
        *dx = dy[i] * w[c] / (variance[c] + T::from_f64(s.epsilon)).sqrt();
    }
}
