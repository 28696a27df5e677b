//! Batch normalisation of the CPU against the definition in f64.

mod support;

use alexnet_core::arguments::{
    BatchNormBackward, BatchNormBackwardData, BatchNormBackwardWeight, BatchNormForward, BatchNormInference,
    BatchNormInferenceBackward, BatchNormMoments,
};
use alexnet_core::device::cpu::Buffer;
use alexnet_core::device::{Memory, Operators};
use alexnet_core::shape::BatchNormShape;
use alexnet_core::{Cpu, reference};
use proptest::prelude::*;
use support::*;

/// What a channel's bounds are made of.
struct Channel {
    /// σ².
    variance: f64,
    /// What the mean may be off by.
    mean: f64,
    /// What the variance may be off by.
    error: f64,
}

/// Moments of the channels of x (rows, C), with the errors of sums in f32 in any order.
fn channels(s: &BatchNormShape, x: &[f32]) -> Vec<Channel> {
    let rows = s.rows as f64;
    let channel = |c: usize| {
        let column: Vec<f64> = (0..s.rows).map(|row| f64::from(x[row * s.channels + c])).collect();
        let mean = column.iter().sum::<f64>() / rows;
        let variance = column.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / rows;
        // A sum of n numbers errs by n·u·Σ|x| in any order; a merge of two means has three roundings, and there is at
        // most one for eight rows.
        let roundings = rows + 3.0 * rows / 8.0 + 4.0;
        let error = roundings * U * column.iter().map(|x| x.abs()).sum::<f64>() / rows;
        // The squares' own sum; where means of blocks that err by `error` each are compared, δ² errs by 2·δ·2·error,
        // which with δ²·n₁·n₂/n ≤ n·σ² is 4·error·σ in the variance; and a mean that is off adds the error's square.
        let own = (roundings + 4.0) * U * variance;
        Channel { variance, mean: error, error: own + 4.0 * error * variance.sqrt() + 4.0 * error * error }
    };
    (0..s.channels).map(channel).collect()
}

/// √(σ²+ε) and the relative error of its inverse, if σ² is too small, but never below 0, or too large.
fn root(s: &BatchNormShape, Channel { variance, error, .. }: &Channel) -> (f64, f64) {
    let (sum, least) = (variance + s.epsilon, (variance - error).max(0.0) + s.epsilon);
    let (above, below) = ((sum / least).sqrt() - 1.0, 1.0 - (sum / (sum + error)).sqrt());
    (sum.sqrt(), above.max(below) + 4.0 * U)
}

struct Given {
    x: Vec<f32>,
    dy: Vec<f32>,
    w: Vec<f32>,
    b: Vec<f32>,
    mean: Vec<f32>,
    variance: Vec<f32>,
}

impl Given {
    /// Channels that lie `offset` from zero and spread over `spread`.
    fn new(s: &BatchNormShape, seed: u64, offset: f32, spread: f32) -> Self {
        let x = values(seed, s.len()).into_iter().enumerate();
        let x = x.map(|(i, x)| x * spread + offset * ((i % s.channels) as f32 - 1.0)).collect();
        let positive = |seed| values(seed, s.channels).into_iter().map(|v| v + 1.1).collect();
        Self {
            x,
            dy: values(seed + 1, s.len()),
            w: values(seed + 2, s.channels),
            b: values(seed + 3, s.channels),
            mean: values(seed + 4, s.channels),
            variance: positive(seed + 5),
        }
    }
}

fn forward(cpu: &Cpu, s: &BatchNormShape, given: &Given, relu: bool) -> [Buffer; 4] {
    let mut y = unwritten(cpu, s.len());
    let (mut mean, mut variance) = (array(cpu, &given.mean), array(cpu, &given.variance));
    let mut statistics = unwritten(cpu, 2 * s.channels);
    let (x, w, b) = (array(cpu, &given.x), array(cpu, &given.w), array(cpu, &given.b));
    cpu.batchnorm_forward(BatchNormForward {
        shape: s,
        x: &x,
        w: &w,
        b: &b,
        relu,
        running_mean: &mut mean,
        running_variance: &mut variance,
        statistics: &mut statistics,
        y: &mut y,
    })
    .unwrap();
    [y, mean, variance, statistics]
}

fn check_forward(s: &BatchNormShape, given: &Given, relu: bool) {
    let (mut y, mut statistics) = (vec![0.0; s.len()], vec![0.0; 2 * s.channels]);
    let (mut mean, mut variance) = (wide(&given.mean), wide(&given.variance));
    let (x, w, b) = (wide(&given.x), wide(&given.w), wide(&given.b));
    reference::batchnorm_forward(BatchNormForward {
        shape: s,
        x: &x,
        w: &w,
        b: &b,
        relu,
        running_mean: &mut mean,
        running_variance: &mut variance,
        statistics: &mut statistics,
        y: &mut y,
    });
    let channels = channels(s, &given.x);
    let bound_of = |y: &[f64], i: usize| {
        let c = i % s.channels;
        let (root, relative) = root(s, &channels[c]);
        let centred = (x[i] - statistics[c]).abs();
        let scaled = w[c].abs() / root;
        // x − μ, times w/√(σ²+ε), plus b.
        scaled * (channels[c].mean + U * centred + centred * (relative + 2.0 * U)) + U * (y[i].abs() + b[c].abs())
    };
    let y_bound: Vec<f64> = (0..s.len()).map(|i| bound_of(&y, i)).collect();
    let momentum = s.momentum;
    let mean_bound: Vec<f64> = (0..s.channels)
        .map(|c| momentum * channels[c].mean + 4.0 * U * (f64::from(given.mean[c]).abs() + statistics[c].abs()))
        .collect();
    let variance_bound: Vec<f64> = (0..s.channels)
        .map(|c| {
            let unbiased = s.unbiased() * channels[c].variance;
            momentum * s.unbiased() * channels[c].error + 5.0 * U * (f64::from(given.variance[c]) + unbiased)
        })
        .collect();
    let statistics_bound: Vec<f64> = (0..2 * s.channels)
        .map(|i| match i.checked_sub(s.channels) {
            None => channels[i].mean,
            Some(c) => root(s, &channels[c]).1 * statistics[i],
        })
        .collect();
    for (level, found) in on_all_alike(|cpu| forward(cpu, s, given, relu).map(|array| array.to_vec()).into()) {
        assert_within(&format!("{level} {s:?} y"), &found[0], &y, &y_bound);
        assert_within(&format!("{level} {s:?} running mean"), &found[1], &mean, &mean_bound);
        assert_within(&format!("{level} {s:?} running variance"), &found[2], &variance, &variance_bound);
        assert_within(&format!("{level} {s:?} statistics"), &found[3], &statistics, &statistics_bound);
    }
}

proptest! {
    #![proptest_config(cases(150))]
    #[test]
    fn forward_of_any_shape(
        rows in prop_oneof![1usize..150, 2000usize..2300], channels in 1usize..70, relu: bool,
        offset in prop_oneof![Just(0.0f32), -30.0..30.0f32], spread in prop_oneof![Just(0.0f32), 0.01..4.0f32],
        seed: u32,
    ) {
        let s = BatchNormShape { rows, channels, epsilon: f64::from(1e-5f32), momentum: f64::from(0.1f32) };
        check_forward(&s, &Given::new(&s, seed.into(), offset, spread), relu);
    }

    #[test]
    fn backward_and_inference_of_any_shape(
        rows in prop_oneof![1usize..150, 2000usize..2300], channels in 1usize..70, relu: bool, accumulate: bool,
        seed: u32,
    ) {
        let s = BatchNormShape { rows, channels, epsilon: f64::from(1e-5f32), momentum: f64::from(0.1f32) };
        let given = Given::new(&s, seed.into(), 0.3, 1.0);
        let statistics: Vec<f32> = given.mean.iter().chain(&given.variance).copied().collect();
        let (x, dy, w, b) = (wide(&given.x), wide(&given.dy), wide(&given.w), wide(&given.b));
        let (mut dw, mut db) = (w.clone(), b.clone());
        let mut dx = vec![0.0; s.len()];
        reference::batchnorm_backward(BatchNormBackward { shape: &s, x: &x, dy: &dy, w: &w, statistics: &wide(&statistics), accumulate, dw: &mut dw, db: &mut db, dx: &mut dx });
        let (mean, variance) = (wide(&given.mean), wide(&given.variance));
        let (mut y, mut dx_inference) = (vec![0.0; s.len()], vec![0.0; s.len()]);
        reference::batchnorm_inference(BatchNormInference { shape: &s, x: &x, w: &w, b: &b, mean: &mean, variance: &variance, relu, y: &mut y });
        reference::batchnorm_inference_backward(BatchNormInferenceBackward { shape: &s, dy: &dy, w: &w, variance: &variance, dx: &mut dx_inference });

        // Σ|dy| and Σ|dy·x̂|; a sum of n terms errs by n·u of it, a term by three roundings of its own.
        let normalised = |i: usize| (x[i] - mean[i % channels]) * variance[i % channels];
        let mut sums = vec![[0.0; 2]; channels];
        for i in 0..s.len() {
            sums[i % channels][0] += dy[i].abs();
            sums[i % channels][1] += (dy[i] * normalised(i)).abs();
        }
        let relative = (rows as f64 + 4.0) * U;
        let db_bound: Vec<f64> = (0..channels).map(|c| relative * (sums[c][0] + db[c].abs())).collect();
        let dw_bound: Vec<f64> = (0..channels).map(|c| relative * (sums[c][1] + dw[c].abs())).collect();
        let n = rows as f64;
        let dx_bound: Vec<f64> = (0..s.len()).map(|i| {
            let c = i % channels;
            let size = dy[i].abs() + sums[c][0] / n + normalised(i).abs() * sums[c][1] / n;
            (w[c] * variance[c]).abs() * (relative + 6.0 * U) * size
        }).collect();
        // w/√(σ²+ε) has four roundings; x − μ, the product and the sum one each.
        let scale = |c: usize| w[c].abs() / (variance[c] + s.epsilon).sqrt();
        let y_bound: Vec<f64> = (0..s.len()).map(|i| {
            let c = i % channels;
            6.0 * U * scale(c) * (x[i] - mean[c]).abs() + U * (y[i].abs() + b[c].abs())
        }).collect();
        let dx_inference_bound: Vec<f64> = dx_inference.iter().map(|dx| 5.0 * U * dx.abs()).collect();
        for (level, found) in on_all_alike(|cpu| {
            let [mut y, mut dx, mut dx_inference] = [0; 3].map(|_| unwritten(cpu, s.len()));
            let (x, dy, w, b) = (array(cpu, &given.x), array(cpu, &given.dy), array(cpu, &given.w), array(cpu, &given.b));
            let (mean, variance) = (array(cpu, &given.mean), array(cpu, &given.variance));
            let (mut dw, mut db) = (array(cpu, &given.w), array(cpu, &given.b));
            let statistics = array(cpu, &statistics);
            cpu.batchnorm_backward(BatchNormBackward { shape: &s, x: &x, dy: &dy, w: &w, statistics: &statistics, accumulate, dw: &mut dw, db: &mut db, dx: &mut dx }).unwrap();
            cpu.batchnorm_inference(BatchNormInference { shape: &s, x: &x, w: &w, b: &b, mean: &mean, variance: &variance, relu, y: &mut y }).unwrap();
            cpu.batchnorm_inference_backward(BatchNormInferenceBackward { shape: &s, dy: &dy, w: &w, variance: &variance, dx: &mut dx_inference }).unwrap();
            [dw, db, dx, y, dx_inference].map(|array| array.to_vec()).into()
        }) {
            assert_within(&format!("{level} {s:?} dw"), &found[0], &dw, &dw_bound);
            assert_within(&format!("{level} {s:?} db"), &found[1], &db, &db_bound);
            assert_within(&format!("{level} {s:?} dx"), &found[2], &dx, &dx_bound);
            assert_within(&format!("{level} {s:?} inference"), &found[3], &y, &y_bound);
            assert_within(&format!("{level} {s:?} inference dx"), &found[4], &dx_inference, &dx_inference_bound);
        }
    }
}

/// What a batch norm over several parts is made of, for a batch that is one part: the bits of the whole.
#[test]
fn one_part_is_the_whole() {
    for (rows, channels) in [(1, 1), (3, 7), (64, 33), (65, 64), (150, 5), (2100, 40)] {
        let s = BatchNormShape { rows, channels, epsilon: f64::from(1e-5f32), momentum: 1.0 };
        let given = Given::new(&s, 9, 0.7, 1.5);
        on_all_alike(|cpu| {
            let [_, mean, variance, statistics] = forward(cpu, &s, &given, false);
            let (x, dy, w) = (array(cpu, &given.x), array(cpu, &given.dy), array(cpu, &given.w));
            let mut moments = unwritten(cpu, 2 * channels);
            cpu.batchnorm_moments(BatchNormMoments { shape: &s, x: &x, moments: &mut moments }).unwrap();
            if rows > 1 {
                let unbiased = s.unbiased() as f32;
                assert_eq!(moments[..channels], mean[..]);
                assert!(moments[channels..].iter().zip(&variance[..]).all(|(&m, &v)| unbiased * m == v), "{s:?}");
            }
            for accumulate in [false, true] {
                let [mut dw, mut db, mut part_dw, mut part_db] =
                    [2, 3, 2, 3].map(|seed| array(cpu, &values(seed, channels)));
                let [mut dx, mut part_dx] = [0; 2].map(|_| unwritten(cpu, s.len()));
                cpu.batchnorm_backward(BatchNormBackward {
                    shape: &s,
                    accumulate,
                    x: &x,
                    dy: &dy,
                    w: &w,
                    statistics: &statistics,
                    dw: &mut dw,
                    db: &mut db,
                    dx: &mut dx,
                })
                .unwrap();
                cpu.batchnorm_backward_weight(BatchNormBackwardWeight {
                    shape: &s,
                    accumulate,
                    x: &x,
                    dy: &dy,
                    statistics: &statistics,
                    dw: &mut part_dw,
                    db: &mut part_db,
                })
                .unwrap();
                assert_eq!((&part_dw[..], &part_db[..]), (&dw[..], &db[..]), "{s:?}");
                if accumulate {
                    continue;
                }
                let n = rows as f32;
                let slopes = dw.iter().zip(&statistics[channels..]).map(|(&product, &inverse)| inverse * (product / n));
                let factors: Vec<f32> = db.iter().map(|&sum| sum / n).chain(slopes).collect();
                cpu.batchnorm_backward_data(BatchNormBackwardData {
                    shape: &s,
                    x: &x,
                    dy: &dy,
                    w: &w,
                    statistics: &statistics,
                    factors: &array(cpu, &factors),
                    dx: &mut part_dx,
                })
                .unwrap();
                assert_eq!(part_dx[..], dx[..], "{s:?}");
            }
            vec![moments.to_vec()]
        });
    }
}

#[test]
fn a_variance_far_from_zero_is_not_lost() {
    // E(x²) − E(x)² in float would be all rounding: the squares are 1e8, and their spacing is 8.
    let s = BatchNormShape { rows: 4096, channels: 3, epsilon: 1e-5, momentum: 1.0 };
    let given = Given::new(&s, 5, 1e4, 0.5);
    for cpus in cpus() {
        let [_, _, variance, _] = forward(&cpus[0], &s, &given, false);
        for c in [0, 2] {
            // Numbers of 1e4 are a multiple of 2⁻¹⁰ each, which is 1/600 of their deviation.
            assert!((variance[c] - 1.0 / 12.0).abs() < 0.005, "{}: {}", cpus[0].name(), variance[c]);
        }
    }
}

/// It has no variance: moving towards 0 would make the network blow up what it is tested with.
#[test]
fn a_batch_of_one_row_leaves_the_running_statistics() {
    let s = BatchNormShape { rows: 1, channels: 3, epsilon: 1e-5, momentum: 0.1 };
    let given = Given::new(&s, 5, 1.0, 0.5);
    for cpus in cpus() {
        let [_, mean, variance, _] = forward(&cpus[0], &s, &given, false);
        assert_eq!((&mean[..], &variance[..]), (&given.mean[..], &given.variance[..]));
    }
}

#[test]
fn an_array_too_short_is_an_error() {
    let s = BatchNormShape { rows: 2, channels: 3, epsilon: 1e-5, momentum: 0.1 };
    let cpu = &cpus()[0][0];
    let [x, w] = [6, 3].map(|len| cpu.zeros(len).unwrap());
    let [mut mean, mut variance, mut statistics, mut y] = [3, 3, 5, 6].map(|len| cpu.zeros(len).unwrap());
    let error = cpu
        .batchnorm_forward(BatchNormForward {
            shape: &s,
            x: &x,
            w: &w,
            b: &w,
            relu: false,
            running_mean: &mut mean,
            running_variance: &mut variance,
            statistics: &mut statistics,
            y: &mut y,
        })
        .unwrap_err();
    assert_eq!(error.to_string(), "batchnorm_forward: statistics has 5 elements, expected 6");
}
