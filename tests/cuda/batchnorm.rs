use alexnet_core::arguments::{
    BatchNormBackward, BatchNormBackwardData, BatchNormBackwardWeight, BatchNormForward, BatchNormInference,
    BatchNormInferenceBackward, BatchNormMoments,
};
use alexnet_core::device::{Memory, Operators};
use std::sync::Arc;

use alexnet_core::device::Device;
use alexnet_core::device::cuda::Precision;
use alexnet_core::network::MicroBatch;
use alexnet_core::random::Philox;
use alexnet_core::shape::BatchNormShape;
use alexnet_core::{Architecture, Cuda, LayerKind, LayerSpec, Network, Reference, Sgd, reference};

use crate::support::{PRECISIONS, U, activations, assert_close, floats, gpu, numbers, read, roundoff, wide};

/// One row; tails of rows and of channels; two tiles; more chunks than a block has warps, and AlexNet's.
const SHAPES: [(usize, usize); 7] = [(1, 1), (3, 7), (127, 33), (130, 64), (257, 5), (1300, 40), (288, 192)];

fn shape((rows, channels): (usize, usize)) -> BatchNormShape {
    BatchNormShape { rows, channels, epsilon: f64::from(1e-3f32), momentum: f64::from(0.25f32) }
}

/// Numbers of which the channels lie around different means.
fn inputs(s: &BatchNormShape, precision: Precision) -> Vec<f32> {
    let x = numbers(1, s.len(), precision).into_iter().enumerate();
    x.map(|(i, x)| crate::support::stored(x + (i % s.channels % 3) as f32, precision)).collect()
}

#[test]
fn forward_statistics_and_inference() {
    let gpu = gpu();
    for precision in PRECISIONS {
        for (s, relu) in SHAPES.map(shape).into_iter().zip([false, true].into_iter().cycle()) {
            let x = inputs(&s, precision);
            let [w, b, mean, variance] = [2, 3, 4, 5].map(|seed| numbers(seed, s.channels, Precision::Fp32));
            let variance: Vec<f32> = variance.into_iter().map(|v| v + 1.5).collect();
            let found = gpu.run(&format!("{s:?}"), precision, |device| {
                let x = activations(device, &x);
                let [w, b] = [&w, &b].map(|x| floats(device, x));
                let [mut mean, mut variance] = [&mean, &variance].map(|x| floats(device, x));
                let mut statistics = device.zeros(2 * s.channels).unwrap();
                let [mut y, mut inference] = [0; 2].map(|_| device.activations(s.len()).unwrap());
                device
                    .batchnorm_inference(BatchNormInference {
                        shape: &s,
                        x: &x,
                        w: &w,
                        b: &b,
                        mean: &mean,
                        variance: &variance,
                        relu,
                        y: &mut inference,
                    })
                    .unwrap();
                device
                    .batchnorm_forward(BatchNormForward {
                        shape: &s,
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
                [&y, &inference, &mean, &variance, &statistics].map(|x| read(device, x)).into()
            });
            let (mut y, mut inference, mut statistics) =
                (vec![0.0; s.len()], vec![0.0; s.len()], vec![0.0; 2 * s.channels]);
            let (x, w, b) = (wide(&x), wide(&w), wide(&b));
            let (mut mean, mut variance) = (wide(&mean), wide(&variance));
            reference::batchnorm_inference(BatchNormInference {
                shape: &s,
                x: &x,
                w: &w,
                b: &b,
                mean: &mean,
                variance: &variance,
                relu,
                y: &mut inference,
            });
            // w/√(σ²+ε) has four roundings, a difference, a product and a sum follow.
            assert_close(&format!("{s:?} inference"), &found[1], &inference, |i| {
                let c = i % s.channels;
                let scaled = w[c].abs() / (variance[c] + s.epsilon).sqrt() * (x[i] - mean[c]).abs();
                7.0 * U * (scaled + b[c].abs()) + roundoff(inference[i], precision)
            });
            let before = (mean.clone(), variance.clone());
            reference::batchnorm_forward(BatchNormForward {
                shape: &s,
                x: &x,
                w: &w,
                b: &b,
                relu,
                running_mean: &mut mean,
                running_variance: &mut variance,
                statistics: &mut statistics,
                y: &mut y,
            });
            // A channel's mean is a sum of n terms below 3, and three roundings a merge: at most one for a thread's row.
            // Its squares are a sum likewise; a comparison of two means that err adds four errors times the deviation.
            let n = s.rows as f64;
            let batch = |c: usize| (statistics[s.channels + c].powi(-2) - s.epsilon).max(0.0);
            let mean_error = 4.0 * (n + 4.0) * U * 3.0;
            let error =
                |c: usize| 4.0 * ((n + 8.0) * U * batch(c) + mean_error * batch(c).sqrt() + mean_error * mean_error);
            // Of the inverse root, relatively, if σ² is too small, but never below 0, or too large.
            let inverse_error = |c: usize| {
                let (sum, least) = (batch(c) + s.epsilon, (batch(c) - error(c)).max(0.0) + s.epsilon);
                let (above, below) = ((sum / least).sqrt() - 1.0, 1.0 - (sum / (sum + error(c))).sqrt());
                above.max(below) + 5.0 * U
            };
            let what = |name: &str| format!("{precision:?} {s:?} {name}");
            assert_close(&what("statistics"), &found[4], &statistics, |i| match i.checked_sub(s.channels) {
                None => mean_error,
                Some(c) => inverse_error(c) * statistics[i],
            });
            let momentum = s.momentum;
            assert_close(&what("running mean"), &found[2], &mean, |c| {
                momentum * mean_error + 4.0 * U * (before.0[c].abs() + 3.0)
            });
            assert_close(&what("running variance"), &found[3], &variance, |c| {
                let unbiased = s.unbiased() * batch(c);
                momentum * s.unbiased() * error(c) + 6.0 * U * (before.1[c] + unbiased)
            });
            assert_close(&what("y"), &found[0], &y, |i| {
                let c = i % s.channels;
                let (centred, scaled) = ((x[i] - statistics[c]).abs(), w[c].abs() * statistics[s.channels + c]);
                let error = scaled * (mean_error + centred * (inverse_error(c) + 4.0 * U));
                error + U * (y[i].abs() + b[c].abs()) + roundoff(y[i], precision)
            });
        }
    }
}

#[test]
fn backward() {
    let gpu = gpu();
    for precision in PRECISIONS {
        for (s, accumulate) in SHAPES.map(shape).into_iter().zip([true, false].into_iter().cycle()) {
            let (x, dy) = (inputs(&s, precision), numbers(2, s.len(), precision));
            let [w, dw, db] = [3, 4, 5].map(|seed| numbers(seed, s.channels, Precision::Fp32));
            let statistics: Vec<f32> =
                numbers(6, 2 * s.channels, Precision::Fp32).into_iter().map(|v| v + 1.5).collect();
            let found = gpu.run(&format!("{s:?}"), precision, |device| {
                let (x, dy) = (activations(device, &x), activations(device, &dy));
                let [w, statistics] = [&w, &statistics].map(|x| floats(device, x));
                let [mut dw, mut db] = [&dw, &db].map(|x| floats(device, x));
                let [mut dx, mut frozen] = [0; 2].map(|_| device.activations(s.len()).unwrap());
                device
                    .batchnorm_backward(BatchNormBackward {
                        shape: &s,
                        x: &x,
                        dy: &dy,
                        w: &w,
                        statistics: &statistics,
                        accumulate,
                        dw: &mut dw,
                        db: &mut db,
                        dx: &mut dx,
                    })
                    .unwrap();
                device
                    .batchnorm_inference_backward(BatchNormInferenceBackward {
                        shape: &s,
                        dy: &dy,
                        w: &w,
                        variance: &statistics,
                        dx: &mut frozen,
                    })
                    .unwrap();
                [&dw, &db, &dx, &frozen].map(|x| read(device, x)).into()
            });
            let (x, dy, w, statistics) = (wide(&x), wide(&dy), wide(&w), wide(&statistics));
            let (mut dw, mut db) = (wide(&dw), wide(&db));
            let (mut dx, mut frozen) = (vec![0.0; s.len()], vec![0.0; s.len()]);
            reference::batchnorm_backward(BatchNormBackward {
                shape: &s,
                x: &x,
                dy: &dy,
                w: &w,
                statistics: &statistics,
                accumulate,
                dw: &mut dw,
                db: &mut db,
                dx: &mut dx,
            });
            reference::batchnorm_inference_backward(BatchNormInferenceBackward {
                shape: &s,
                dy: &dy,
                w: &w,
                variance: &statistics,
                dx: &mut frozen,
            });
            let normalised = |i: usize| (x[i] - statistics[i % s.channels]) * statistics[s.channels + i % s.channels];
            let mut sums = vec![[0.0; 2]; s.channels];
            for i in 0..s.len() {
                sums[i % s.channels][0] += dy[i].abs();
                sums[i % s.channels][1] += (dy[i] * normalised(i)).abs();
            }
            // A sum of n terms errs by n·u of the sum of their sizes, a term by three roundings of its own.
            let (n, relative) = (s.rows as f64, (s.rows as f64 + 4.0) * U);
            let what = |name: &str| format!("{precision:?} {s:?} {name}");
            assert_close(&what("dw"), &found[0], &dw, |c| relative * (sums[c][1] + dw[c].abs() + 1.0));
            assert_close(&what("db"), &found[1], &db, |c| relative * (sums[c][0] + db[c].abs() + 1.0));
            assert_close(&what("dx"), &found[2], &dx, |i| {
                let c = i % s.channels;
                let size = dy[i].abs() + sums[c][0] / n + normalised(i).abs() * sums[c][1] / n;
                let scale = (w[c] * statistics[s.channels + c]).abs();
                scale * (relative + 7.0 * U) * size + roundoff(dx[i], precision)
            });
            assert_close(&what("frozen"), &found[3], &frozen, |i| {
                6.0 * U * frozen[i].abs() + roundoff(frozen[i], precision)
            });
        }
    }
}

/// What a batch norm over several parts is made of, for a batch that is one part: the bits of the whole.
#[test]
fn one_part_is_the_whole() {
    let gpu = gpu();
    for precision in PRECISIONS {
        for s in SHAPES.map(|shape_of| BatchNormShape { momentum: 1.0, ..shape(shape_of) }) {
            let (x, dy) = (inputs(&s, precision), numbers(2, s.len(), precision));
            let [w, b] = [3, 4].map(|seed| numbers(seed, s.channels, Precision::Fp32));
            gpu.run(&format!("{s:?} in parts"), precision, |device| {
                let (x, dy) = (activations(device, &x), activations(device, &dy));
                let [w, b] = [&w, &b].map(|x| floats(device, x));
                let [mut moments, mut statistics] = [0; 2].map(|_| device.zeros(2 * s.channels).unwrap());
                let [mut mean, mut variance, mut dw, mut db, mut part_dw, mut part_db] =
                    [0; 6].map(|_| device.zeros(s.channels).unwrap());
                let [mut y, mut dx, mut part_dx] = [0; 3].map(|_| device.activations(s.len()).unwrap());
                device
                    .batchnorm_forward(BatchNormForward {
                        shape: &s,
                        x: &x,
                        w: &w,
                        b: &b,
                        relu: false,
                        running_mean: &mut mean,
                        running_variance: &mut variance,
                        statistics: &mut statistics,
                        y: &mut y,
                    })
                    .unwrap();
                device.batchnorm_moments(BatchNormMoments { shape: &s, x: &x, moments: &mut moments }).unwrap();
                let [moments, mean, variance] = [&moments, &mean, &variance].map(|x| read(device, x));
                if s.rows > 1 {
                    let unbiased = s.unbiased() as f32;
                    assert_eq!(moments[..s.channels], mean[..], "{s:?}");
                    let alike = |(m, v): (&f32, &f32)| unbiased * m == *v;
                    assert!(moments[s.channels..].iter().zip(&variance).all(alike), "{s:?}");
                }
                device
                    .batchnorm_backward(BatchNormBackward {
                        shape: &s,
                        x: &x,
                        dy: &dy,
                        w: &w,
                        statistics: &statistics,
                        accumulate: false,
                        dw: &mut dw,
                        db: &mut db,
                        dx: &mut dx,
                    })
                    .unwrap();
                device
                    .batchnorm_backward_weight(BatchNormBackwardWeight {
                        shape: &s,
                        accumulate: false,
                        x: &x,
                        dy: &dy,
                        statistics: &statistics,
                        dw: &mut part_dw,
                        db: &mut part_db,
                    })
                    .unwrap();
                let [dw, db, part_dw, part_db, host] =
                    [&dw, &db, &part_dw, &part_db, &statistics].map(|x| read(device, x));
                assert_eq!((&part_dw, &part_db), (&dw, &db), "{s:?}");
                let n = s.rows as f32;
                let slopes = dw.iter().zip(&host[s.channels..]).map(|(&product, &inverse)| inverse * (product / n));
                let factors: Vec<f32> = db.iter().map(|&sum| sum / n).chain(slopes).collect();
                device
                    .batchnorm_backward_data(BatchNormBackwardData {
                        shape: &s,
                        x: &x,
                        dy: &dy,
                        w: &w,
                        statistics: &statistics,
                        factors: &floats(device, &factors),
                        dx: &mut part_dx,
                    })
                    .unwrap();
                assert_eq!(read(device, &part_dx), read(device, &dx), "{s:?}");
                vec![moments]
            });
        }
    }
}

#[test]
fn a_shape_without_rows_is_an_error() {
    let gpu = gpu();
    let device = gpu.device(Precision::Fp32);
    let [x, w] = [0, 4].map(|len| device.zeros(len).unwrap());
    let mut y = device.zeros(0).unwrap();
    let error = device
        .batchnorm_inference(BatchNormInference {
            shape: &shape((0, 4)),
            x: &x,
            w: &w,
            b: &w,
            mean: &w,
            variance: &w,
            relu: false,
            y: &mut y,
        })
        .unwrap_err();
    assert!(error.to_string().contains("batchnorm_inference: shape is impossible"), "{error}");
}

const BATCH: usize = 5;
const SIDE: usize = 6;

/// Parameters after five steps of convolution, batch norm, ReLU and a linear layer, and how many steps were recorded.
fn steps<D: Device>(device: Arc<D>, graph: bool, from: impl Fn(f32) -> D::Element) -> (Vec<Vec<D::Element>>, usize) {
    let kinds = [
        LayerKind::Conv { filters: 40, kernel: 3, stride: 1, padding: 1, groups: 1 },
        LayerKind::BatchNorm { epsilon: 1e-5, momentum: 0.1 },
        LayerKind::Relu,
        LayerKind::Flatten,
        LayerKind::Linear { outputs: 4 },
    ];
    let layers =
        kinds.into_iter().enumerate().map(|(i, kind)| LayerSpec { name: format!("layers.{i}"), kind }).collect();
    let architecture = Architecture { name: "normalised".into(), image_size: SIDE, channels: 3, classes: 4, layers };
    let mut network = Network::new(device, architecture, BATCH, true).unwrap();
    network.initialise(Philox::new(3)).unwrap();
    network.use_cuda_graph(graph);
    let optimizer = Sgd { learning_rate: 0.05, momentum: 0.9, weight_decay: 5e-4, nesterov: false, decay_all: true };
    for step in 0..5 {
        let images: Vec<_> = numbers(step, BATCH * SIDE * SIDE * 3, Precision::Fp32).into_iter().map(&from).collect();
        network.load(&images, &[0, 3, 1, 2, 1]).unwrap();
        network.step(&MicroBatch::whole(Philox::new(3), step as u32, BATCH, 0.0), Some(&optimizer)).unwrap();
    }
    let read = |p: &alexnet_core::device::Parameter<D::Buffer>| {
        let mut host = vec![from(0.0); p.len()];
        network.device().read(&p.value, &mut host).unwrap();
        host
    };
    (network.parameters().iter().map(read).collect(), network.captured_graphs())
}

#[test]
fn running_statistics_move_once_a_step_in_a_recorded_one_too() {
    let gpu = gpu();
    let (reference, _) = steps(Arc::new(Reference::<f64>::new()), false, f64::from);
    for precision in PRECISIONS {
        let run = |graph| steps(Arc::new(Cuda::new(0, precision).unwrap()), graph, |x| x);
        let (eager, replayed) = (run(false), run(true));
        assert_eq!((eager.1, replayed.1), (0, 1));
        assert!(eager.0 == replayed.0, "{precision:?}: other bits");
        // A step forgotten or done twice would move them by a tenth; five steps leave 41 % of their start otherwise.
        let largest = |x: &[f64]| x.iter().fold(0.0f64, |most, x| most.max(x.abs()));
        for statistic in [4, 5] {
            let most = largest(&reference[statistic]);
            for (found, expected) in eager.0[statistic].iter().zip(&reference[statistic]) {
                assert!((f64::from(*found) - expected).abs() < 0.02 * most, "{precision:?}: {found} {expected}");
            }
        }
    }
    gpu.assert_clean("batchnorm");
}
