//! The definition of every operator: naive loops over f32 or f64, to be read, and to be compared with.
//!
//! Nothing here is fast. Arrays have the layouts of [`Device`](crate::Device): activations NHWC,
//! parameters as in PyTorch. Slices must have the lengths of the shapes.

use crate::Sgd;
use crate::device::Element;
use crate::shape::{
    AvgPoolShape, BatchNormShape, ConvShape, DropoutShape, FlattenShape, LinearShape, LossShape, LrnShape,
    MaxPoolShape, Mix, MixShape,
};

pub use crate::device::reference::Reference;

/// Calls `visit(x index, w index, y index)` for every product x·w that belongs to an element of y.
fn for_each_product(s: &ConvShape, mut visit: impl FnMut(usize, usize, usize)) {
    let (p_end, q_end) = (s.output_height(), s.output_width());
    let (channels, filters) = (s.channels / s.groups, s.filters / s.groups);
    for n in 0..s.batch {
        for p in 0..p_end {
            for q in 0..q_end {
                for k in 0..s.filters {
                    let first_channel = k / filters * channels;
                    let y = ((n * p_end + p) * q_end + q) * s.filters + k;
                    for c in 0..channels {
                        for r in 0..s.kernel {
                            for t in 0..s.kernel {
                                let (h, w) = (p * s.stride + r, q * s.stride + t);
                                let inside = (s.padding..s.padding + s.height).contains(&h)
                                    && (s.padding..s.padding + s.width).contains(&w);
                                if inside {
                                    let (h, w) = (h - s.padding, w - s.padding);
                                    let x = ((n * s.height + h) * s.width + w) * s.channels + first_channel + c;
                                    visit(x, ((k * channels + c) * s.kernel + r) * s.kernel + t, y);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// See [`Device::conv_forward`](crate::Device::conv_forward).
pub fn conv_forward<T: Element>(s: &ConvShape, x: &[T], w: &[T], b: &[T], relu: bool, y: &mut [T]) {
    for (i, y) in y.iter_mut().enumerate() {
        *y = b[i % s.filters];
    }
    for_each_product(s, |xi, wi, yi| y[yi] += x[xi] * w[wi]);
    if relu {
        relu_forward(y);
    }
}

/// See [`Device::conv_backward_data`](crate::Device::conv_backward_data).
pub fn conv_backward_data<T: Element>(s: &ConvShape, dy: &[T], w: &[T], dx: &mut [T]) {
    dx.fill(T::zero());
    for_each_product(s, |xi, wi, yi| dx[xi] += dy[yi] * w[wi]);
}

/// See [`Device::conv_backward_weight`](crate::Device::conv_backward_weight).
pub fn conv_backward_weight<T: Element>(
    s: &ConvShape,
    x: &[T],
    dy: &[T],
    accumulate: bool,
    dw: &mut [T],
    db: &mut [T],
) {
    if !accumulate {
        dw.fill(T::zero());
        db.fill(T::zero());
    }
    for_each_product(s, |xi, wi, yi| dw[wi] += dy[yi] * x[xi]);
    for (i, &dy) in dy.iter().enumerate() {
        db[i % s.filters] += dy;
    }
}

/// See [`Device::relu_forward`](crate::Device::relu_forward). A NaN stays, as in PyTorch.
pub fn relu_forward<T: Element>(x: &mut [T]) {
    for x in x {
        if *x < T::zero() {
            *x = T::zero();
        }
    }
}

/// See [`Device::relu_backward`](crate::Device::relu_backward).
pub fn relu_backward<T: Element>(y: &[T], dy: &mut [T]) {
    for (dy, &y) in dy.iter_mut().zip(y) {
        if y <= T::zero() {
            *dy = T::zero();
        }
    }
}

/// See [`Device::add`](crate::Device::add).
pub fn add<T: Element>(x: &[T], relu: bool, y: &mut [T]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y += x;
    }
    if relu {
        relu_forward(y);
    }
}

/// Calls `visit(position in the window, x index)` for the pixels of the window at output (n, p, q, c).
fn for_each_in_window(s: &MaxPoolShape, n: usize, p: usize, q: usize, c: usize, mut visit: impl FnMut(u8, usize)) {
    for r in 0..s.kernel {
        for t in 0..s.kernel {
            let (h, w) = (p * s.stride + r, q * s.stride + t);
            if (s.padding..s.padding + s.height).contains(&h) && (s.padding..s.padding + s.width).contains(&w) {
                let x = ((n * s.height + h - s.padding) * s.width + w - s.padding) * s.channels + c;
                visit((r * s.kernel + t) as u8, x);
            }
        }
    }
}

/// Calls `visit(n, p, q, c, y index)` for every output.
fn for_each_output(s: &MaxPoolShape, mut visit: impl FnMut(usize, usize, usize, usize, usize)) {
    let mut y = 0;
    for n in 0..s.batch {
        for p in 0..s.output_height() {
            for q in 0..s.output_width() {
                for c in 0..s.channels {
                    visit(n, p, q, c, y);
                    y += 1;
                }
            }
        }
    }
}

/// See [`Device::maxpool_forward`](crate::Device::maxpool_forward).
pub fn maxpool_forward<T: Element>(s: &MaxPoolShape, x: &[T], y: &mut [T], argmax: &mut [u8]) {
    for_each_output(s, |n, p, q, c, yi| {
        let mut best: Option<(u8, T)> = None;
        for_each_in_window(s, n, p, q, c, |position, xi| {
            let value = x[xi];
            if best.is_none_or(|(_, largest)| value > largest || (value.is_nan() && !largest.is_nan())) {
                best = Some((position, value));
            }
        });
        // The padding is at most half the window, so that each window holds a pixel.
        let (position, value) = best.unwrap_or((0, T::neg_infinity()));
        y[yi] = value;
        argmax[yi] = position;
    });
}

/// See [`Device::maxpool_backward`](crate::Device::maxpool_backward).
pub fn maxpool_backward<T: Element>(s: &MaxPoolShape, dy: &[T], argmax: &[u8], dx: &mut [T]) {
    dx.fill(T::zero());
    for_each_output(s, |n, p, q, c, yi| {
        for_each_in_window(s, n, p, q, c, |position, xi| {
            if position == argmax[yi] {
                dx[xi] += dy[yi];
            }
        });
    });
}

/// Calls `visit(x index, y index, pixels in the window)` for every pixel of every window.
fn for_each_average<T: Element>(s: &AvgPoolShape, mut visit: impl FnMut(usize, usize, T)) {
    for n in 0..s.batch {
        for p in 0..s.output_height {
            for q in 0..s.output_width {
                let rows = AvgPoolShape::window(p, s.height, s.output_height);
                let columns = AvgPoolShape::window(q, s.width, s.output_width);
                let pixels = T::from_f64((rows.len() * columns.len()) as f64);
                for h in rows {
                    for w in columns.clone() {
                        for c in 0..s.channels {
                            let x = ((n * s.height + h) * s.width + w) * s.channels + c;
                            let y = ((n * s.output_height + p) * s.output_width + q) * s.channels + c;
                            visit(x, y, pixels);
                        }
                    }
                }
            }
        }
    }
}

/// See [`Device::avgpool_forward`](crate::Device::avgpool_forward).
pub fn avgpool_forward<T: Element>(s: &AvgPoolShape, x: &[T], y: &mut [T]) {
    y.fill(T::zero());
    for_each_average(s, |xi, yi, pixels: T| y[yi] += x[xi] / pixels);
}

/// See [`Device::avgpool_backward`](crate::Device::avgpool_backward).
pub fn avgpool_backward<T: Element>(s: &AvgPoolShape, dy: &[T], dx: &mut [T]) {
    dx.fill(T::zero());
    for_each_average(s, |xi, yi, pixels: T| dx[xi] += dy[yi] / pixels);
}

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

/// See [`Device::dropout`](crate::Device::dropout).
pub fn dropout<T: Element>(s: &DropoutShape, x: &mut [T]) {
    for (i, x) in x.iter_mut().enumerate() {
        *x *= T::from_f64(s.factor(i).into());
    }
}

/// Calls `visit(NHWC index, NCHW index)` for every element.
fn for_each_flattened(s: &FlattenShape, mut visit: impl FnMut(usize, usize)) {
    for n in 0..s.batch {
        for h in 0..s.height {
            for w in 0..s.width {
                for c in 0..s.channels {
                    let nhwc = ((n * s.height + h) * s.width + w) * s.channels + c;
                    visit(nhwc, ((n * s.channels + c) * s.height + h) * s.width + w);
                }
            }
        }
    }
}

/// See [`Device::flatten_forward`](crate::Device::flatten_forward).
pub fn flatten_forward<T: Element>(s: &FlattenShape, x: &[T], y: &mut [T]) {
    for_each_flattened(s, |xi, yi| y[yi] = x[xi]);
}

/// See [`Device::flatten_backward`](crate::Device::flatten_backward).
pub fn flatten_backward<T: Element>(s: &FlattenShape, dy: &[T], dx: &mut [T]) {
    for_each_flattened(s, |xi, yi| dx[xi] = dy[yi]);
}

/// See [`Device::linear_forward`](crate::Device::linear_forward).
pub fn linear_forward<T: Element>(s: &LinearShape, x: &[T], w: &[T], b: &[T], relu: bool, y: &mut [T]) {
    for n in 0..s.batch {
        for o in 0..s.outputs {
            let products = (0..s.inputs).map(|i| x[n * s.inputs + i] * w[o * s.inputs + i]);
            y[n * s.outputs + o] = products.fold(b[o], |sum, product| sum + product);
        }
    }
    if relu {
        relu_forward(y);
    }
}

/// See [`Device::linear_backward_data`](crate::Device::linear_backward_data).
pub fn linear_backward_data<T: Element>(s: &LinearShape, dy: &[T], w: &[T], dx: &mut [T]) {
    dx.fill(T::zero());
    for n in 0..s.batch {
        for o in 0..s.outputs {
            for i in 0..s.inputs {
                dx[n * s.inputs + i] += dy[n * s.outputs + o] * w[o * s.inputs + i];
            }
        }
    }
}

/// See [`Device::linear_backward_weight`](crate::Device::linear_backward_weight).
pub fn linear_backward_weight<T: Element>(
    s: &LinearShape,
    x: &[T],
    dy: &[T],
    accumulate: bool,
    dw: &mut [T],
    db: &mut [T],
) {
    if !accumulate {
        dw.fill(T::zero());
        db.fill(T::zero());
    }
    for n in 0..s.batch {
        for o in 0..s.outputs {
            let dy = dy[n * s.outputs + o];
            db[o] += dy;
            for i in 0..s.inputs {
                dw[o * s.inputs + i] += dy * x[n * s.inputs + i];
            }
        }
    }
}

/// See [`Mix`].
pub fn mix<T: Element>(s: &MixShape, x: &mut [T]) {
    for n in 0..s.batch / 2 {
        let (first, second) = x.split_at_mut((s.batch - 1 - n) * s.image());
        let first = &mut first[n * s.image()..];
        for (i, (a, b)) in first.iter_mut().zip(&mut second[..s.image()]).enumerate() {
            let (column, row) = (i / s.channels % s.side, i / s.channels / s.side);
            match s.mix {
                Mix::Blend { weight } => {
                    let [own, other] = [weight, 1.0 - weight].map(|w| T::from_f64(w.into()));
                    (*a, *b) = (own * *a + other * *b, own * *b + other * *a);
                }
                Mix::Paste { left, top, right, bottom } => {
                    if (left..right).contains(&column) && (top..bottom).contains(&row) {
                        std::mem::swap(a, b);
                    }
                }
            }
        }
    }
}

/// See [`Device::softmax_cross_entropy`](crate::Device::softmax_cross_entropy).
///
/// ln softmax is computed as x − max − ln Σ exp(x − max), so that no exponential overflows.
pub fn softmax_cross_entropy<T: Element>(
    s: &LossShape,
    logits: &[T],
    labels: &[u32],
    second: Option<(&[u32], T)>,
    losses: &mut [T],
    correct: &mut [T],
    mut dlogits: Option<&mut [T]>,
) {
    let other = T::from_f64(s.smoothing / s.classes as f64);
    let own = T::from_f64(1.0 - s.smoothing);
    for (n, logits) in logits.chunks_exact(s.classes).enumerate() {
        let label = labels[n] as usize;
        let (other_label, weight) = second.map_or((label, T::one()), |(labels, weight)| (labels[n] as usize, weight));
        let largest = logits.iter().enumerate().fold(0, |best, (i, &x)| if x > logits[best] { i } else { best });
        let sum = logits.iter().fold(T::zero(), |sum, &x| sum + (x - logits[largest]).exp());
        let share = |i: usize, of: usize, weight: T| if i == of { own * weight } else { T::zero() };
        let target = |i: usize| other + share(i, label, weight) + share(i, other_label, T::one() - weight);
        losses[n] = T::zero();
        for (i, &x) in logits.iter().enumerate() {
            losses[n] -= target(i) * (x - logits[largest] - sum.ln());
        }
        let heavier = if weight >= T::from_f64(0.5) { label } else { other_label };
        correct[n] = if largest == heavier { T::one() } else { T::zero() };
        if let Some(dlogits) = dlogits.as_deref_mut() {
            let divisor = T::from_f64(s.divisor as f64);
            for (i, &x) in logits.iter().enumerate() {
                dlogits[n * s.classes + i] = ((x - logits[largest]).exp() / sum - target(i)) / divisor;
            }
        }
    }
}

/// See [`Device::sgd`](crate::Device::sgd), for one parameter.
pub fn sgd<T: Element>(rule: &Sgd, weight: &mut [T], gradient: &[T], momentum: &mut [T]) {
    let [rate, mu, decay] = [rule.learning_rate, rule.momentum, rule.weight_decay].map(T::from_f64);
    for ((w, &g), v) in weight.iter_mut().zip(gradient).zip(momentum) {
        let d = g + decay * *w;
        *v = mu * *v + d;
        *w -= rate * if rule.nesterov { d + mu * *v } else { *v };
    }
}

/// See [`Device::ema`](crate::Device::ema), for one parameter.
pub fn ema<T: Element>(decay: f64, weight: &[T], average: &mut [T]) {
    let rate = T::from_f64(1.0 - decay);
    for (e, &w) in average.iter_mut().zip(weight) {
        *e += rate * (w - *e);
    }
}
