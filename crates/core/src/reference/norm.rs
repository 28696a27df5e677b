//! Local response normalisation and batch normalisation.

use super::pointwise::clamp;
use crate::arguments::{
    BatchNormBackward, BatchNormBackwardData, BatchNormBackwardWeight, BatchNormForward, BatchNormInference,
    BatchNormInferenceBackward, BatchNormMoments, LrnBackward, LrnForward, Slices,
};
use crate::device::Element;
use crate::shape::{BatchNormShape, LrnShape};

/// s\[c\] = k + α/size · Σ x² over the window of c, for one pixel.
fn lrn_scale<T: Element>(s: &LrnShape, x: &[T], c: usize) -> T {
    let squares = x[s.window(c)].iter().fold(T::zero(), |sum, &x| sum + x * x);
    T::from_f64(s.k) + T::from_f64(s.alpha / s.size as f64) * squares
}

/// See [`LrnForward`].
pub fn lrn_forward<T: Element>(a: LrnForward<'_, Slices<T>>) {
    let LrnForward { shape: s, x, y } = a;
    for (x, y) in x.chunks_exact(s.channels).zip(y.chunks_exact_mut(s.channels)) {
        for c in 0..s.channels {
            y[c] = x[c] * lrn_scale(s, x, c).powf(T::from_f64(-s.beta));
        }
    }
}

/// See [`LrnBackward`].
pub fn lrn_backward<T: Element>(a: LrnBackward<'_, Slices<T>>) {
    let LrnBackward { shape: s, x, dy, dx } = a;
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

/// See [`BatchNormForward`]; Ioffe and Szegedy, 2015.
pub fn batchnorm_forward<T: Element>(a: BatchNormForward<'_, Slices<T>>) {
    let BatchNormForward { shape: s, x, w, b, relu, running_mean, running_variance, statistics, y } = a;
    let mut moments = vec![T::zero(); 2 * s.channels];
    batchnorm_moments(BatchNormMoments { shape: s, x, moments: &mut moments });
    let (mean, variance) = moments.split_at(s.channels);
    let (momentum, unbiased) = (T::from_f64(s.share()), T::from_f64(s.unbiased()));
    for c in 0..s.channels {
        statistics[c] = mean[c];
        statistics[s.channels + c] = (variance[c] + T::from_f64(s.epsilon)).sqrt().recip();
        if momentum == T::one() {
            // Without the rounding of a difference.
            (running_mean[c], running_variance[c]) = (mean[c], unbiased * variance[c]);
            continue;
        }
        running_mean[c] += momentum * (mean[c] - running_mean[c]);
        running_variance[c] += momentum * (unbiased * variance[c] - running_variance[c]);
    }
    batchnorm_inference(BatchNormInference { shape: s, x, w, b, mean, variance, relu, y });
}

/// See [`BatchNormMoments`].
pub fn batchnorm_moments<T: Element>(a: BatchNormMoments<'_, Slices<T>>) {
    let BatchNormMoments { shape: s, x, moments } = a;
    let (rows, (mean, variance)) = (T::from_f64(s.rows as f64), moments.split_at_mut(s.channels));
    for (mean, sum) in mean.iter_mut().zip(channel_sums(s, |i| x[i])) {
        *mean = sum / rows;
    }
    let square = |i: usize| (x[i] - mean[i % s.channels]) * (x[i] - mean[i % s.channels]);
    for (variance, sum) in variance.iter_mut().zip(channel_sums(s, square)) {
        *variance = sum / rows;
    }
}

/// See [`BatchNormBackward`].
///
/// With x̂ = (x − μ)/√(σ²+ε), of which μ and σ² are functions: dx = γ/√(σ²+ε) · (dy − mean(dy) − x̂·mean(dy·x̂)).
pub fn batchnorm_backward<T: Element>(a: BatchNormBackward<'_, Slices<T>>) {
    let BatchNormBackward { shape: s, x, dy, w, statistics, accumulate, dw, db, dx } = a;
    let (mut products, mut sums) = (vec![T::zero(); s.channels], vec![T::zero(); s.channels]);
    batchnorm_backward_weight(BatchNormBackwardWeight {
        shape: s,
        accumulate: false,
        x,
        dy,
        statistics,
        dw: &mut products,
        db: &mut sums,
    });
    let (rows, inverse) = (T::from_f64(s.rows as f64), &statistics[s.channels..]);
    let slopes = products.iter().zip(inverse).map(|(&product, &inverse)| product / rows * inverse);
    let factors: Vec<T> = sums.iter().map(|&sum| sum / rows).chain(slopes).collect();
    batchnorm_backward_data(BatchNormBackwardData { shape: s, x, dy, w, statistics, factors: &factors, dx });
    for c in 0..s.channels {
        dw[c] = products[c] + if accumulate { dw[c] } else { T::zero() };
        db[c] = sums[c] + if accumulate { db[c] } else { T::zero() };
    }
}

/// See [`BatchNormBackwardWeight`].
pub fn batchnorm_backward_weight<T: Element>(a: BatchNormBackwardWeight<'_, Slices<T>>) {
    let BatchNormBackwardWeight { shape: s, accumulate, x, dy, statistics, dw, db } = a;
    let (mean, inverse) = statistics.split_at(s.channels);
    let normalised = |i: usize| (x[i] - mean[i % s.channels]) * inverse[i % s.channels];
    let products = channel_sums(s, |i| dy[i] * normalised(i));
    let sums = channel_sums(s, |i| dy[i]);
    for c in 0..s.channels {
        dw[c] = products[c] + if accumulate { dw[c] } else { T::zero() };
        db[c] = sums[c] + if accumulate { db[c] } else { T::zero() };
    }
}

/// See [`BatchNormBackwardData`].
pub fn batchnorm_backward_data<T: Element>(a: BatchNormBackwardData<'_, Slices<T>>) {
    let BatchNormBackwardData { shape: s, x, dy, w, statistics, factors, dx } = a;
    let (mean, inverse) = statistics.split_at(s.channels);
    let (means, slopes) = factors.split_at(s.channels);
    for (i, dx) in dx.iter_mut().enumerate() {
        let c = i % s.channels;
        *dx = w[c] * inverse[c] * (dy[i] - means[c] - (x[i] - mean[c]) * slopes[c]);
    }
}

/// See [`BatchNormInference`].
pub fn batchnorm_inference<T: Element>(a: BatchNormInference<'_, Slices<T>>) {
    let BatchNormInference { shape: s, x, w, b, mean, variance, relu, y } = a;
    for (i, y) in y.iter_mut().enumerate() {
        let c = i % s.channels;
        *y = w[c] * (x[i] - mean[c]) / (variance[c] + T::from_f64(s.epsilon)).sqrt() + b[c];
    }
    if relu {
        clamp(y);
    }
}

/// See [`BatchNormInferenceBackward`].
pub fn batchnorm_inference_backward<T: Element>(a: BatchNormInferenceBackward<'_, Slices<T>>) {
    let BatchNormInferenceBackward { shape: s, dy, w, variance, dx } = a;
    for (i, dx) in dx.iter_mut().enumerate() {
        let c = i % s.channels;
        *dx = dy[i] * w[c] / (variance[c] + T::from_f64(s.epsilon)).sqrt();
    }
}
