//! Numerical gradient checks in f64 of every layer, and of a small whole network.
//!
//! A layer stands between a convolution and a linear layer: the gradient of the convolution's weights
//! then passes through the layer's backward pass, and its own parameters, if any, are checked too.

use std::sync::Arc;

use alexnet_core::gradcheck::network::{Case, LAYERS, case, gradients};
use alexnet_core::gradcheck::{Report, Tolerance, check};
use alexnet_core::network::{Metrics, MicroBatch, Shards, Slot};
use alexnet_core::random::{Philox, uniform_f32};
use alexnet_core::shape::Mix;
use alexnet_core::{Architecture, LayerKind, LayerSpec, Network, Reference};
use alexnet_ranks::Single;

const BATCH: usize = 3;
const CLASSES: usize = 4;

type Net = Network<Reference<f64>>;

fn layers(kinds: &[LayerKind]) -> Vec<LayerSpec> {
    kinds.iter().enumerate().map(|(i, &kind)| LayerSpec { name: format!("layers.{i}"), kind }).collect()
}

fn network(kinds: &[LayerKind], image: usize) -> Net {
    let architecture =
        Architecture { name: "small".into(), image_size: image, channels: 3, classes: CLASSES, layers: layers(kinds) };
    let mut network = Network::new(Arc::new(Reference::new()), architecture, BATCH, true).unwrap();
    network.initialise(Philox::new(3)).unwrap();
    // Biases of zero would hide a wrong bias, and weights of 0.01 make gradients that are all noise.
    let philox = Philox::new(17);
    for (p, parameter) in network.device_and_parameters().1.iter_mut().enumerate() {
        for (i, value) in parameter.value.iter_mut().enumerate() {
            *value += f64::from(uniform_f32(philox.word(9, p as u32, i as u64))) * 0.4 - 0.2;
        }
    }
    network
}

fn images(image: usize, batch: usize) -> Vec<f64> {
    let philox = Philox::new(5);
    (0..batch * image * image * 3).map(|i| f64::from(uniform_f32(philox.word(8, 0, i as u64))) * 2.0 - 1.0).collect()
}

fn micro(smoothing: f64) -> MicroBatch {
    MicroBatch::whole(Philox::new(11), 5, BATCH, smoothing)
}

/// Checks up to 60 elements of each parameter, spread evenly.
fn check_network(kinds: &[LayerKind], image: usize, smoothing: f64) {
    check_mixed(kinds, image, smoothing, None);
}

/// The same with the batch mixed.
fn check_mixed(kinds: &[LayerKind], image: usize, smoothing: f64, mix: Option<Mix>) {
    let mut network = network(kinds, image);
    let (x, labels, micro) = (images(image, BATCH), [1, 0, 3], micro(smoothing));
    let train = |network: &mut Net| {
        network.load(&x, &labels)?;
        mix.map_or(Ok(()), |mix| network.mix(mix, &labels))?;
        network.set_metrics(Metrics::default())?;
        network.step(&micro, None)?;
        network.metrics()
    };
    train(&mut network).unwrap();
    for p in 0..network.parameters().len() {
        let parameter = &network.parameters()[p];
        let (name, mut values) = (parameter.name.clone(), parameter.value.clone());
        // A running statistic has none.
        let Some(analytic) = parameter.gradient.clone() else { continue };
        let indices = (0..values.len()).step_by(values.len().div_ceil(60));
        let report: Report = check(&mut values, &analytic, indices, Tolerance::default(), |values| {
            network.device_and_parameters().1[p].value.copy_from_slice(values);
            train(&mut network).map(|metrics| metrics.loss / BATCH as f64)
        })
        .unwrap();
        network.device_and_parameters().1[p].value.copy_from_slice(&values);
        assert!(report.passed(), "{kinds:?} {name}: {report}");
        assert!(analytic.iter().any(|g| g.abs() > 1e-3), "{kinds:?} {name}: a gradient that is nothing proves nothing");
    }
}

const fn conv(filters: usize, kernel: usize, stride: usize, padding: usize, groups: usize) -> LayerKind {
    LayerKind::Conv { filters, kernel, stride, padding, groups }
}

fn between(layer: LayerKind) -> [LayerKind; 4] {
    [conv(6, 3, 1, 1, 1), layer, LayerKind::Flatten, LayerKind::Linear { outputs: CLASSES }]
}

#[test]
fn conv_of_many_windows_strides_paddings_and_groups() {
    for layer in
        [conv(4, 3, 1, 1, 1), conv(5, 5, 2, 2, 1), conv(6, 2, 3, 0, 3), conv(4, 1, 1, 0, 2), conv(2, 4, 3, 3, 1)]
    {
        check_network(&between(layer), 7, 0.0);
    }
}

#[test]
fn relu() {
    // After a convolution it is computed with it; after a pool it stands alone.
    check_network(&between(LayerKind::Relu), 5, 0.0);
    let pool = LayerKind::MaxPool { kernel: 2, stride: 2, padding: 0 };
    let end = [LayerKind::Relu, LayerKind::Flatten, LayerKind::Linear { outputs: CLASSES }];
    check_network(&[&[conv(6, 3, 1, 1, 1), pool], &end[..]].concat(), 6, 0.0);
}

#[test]
fn maxpool_of_many_windows_strides_and_paddings() {
    for (kernel, stride, padding) in [(2, 2, 0), (3, 2, 0), (3, 2, 1), (2, 3, 1), (3, 1, 1)] {
        let pool = LayerKind::MaxPool { kernel, stride, padding };
        check_network(&between(pool), 7, 0.0);
        // The ReLU's gradient is taken after the pool.
        let end = [LayerKind::Flatten, LayerKind::Linear { outputs: CLASSES }];
        check_network(&[&[conv(6, 3, 1, 1, 1), LayerKind::Relu, pool], &end[..]].concat(), 7, 0.0);
    }
}

#[test]
fn adaptive_average_pool_down_same_and_up() {
    for side in [1, 3, 5, 7] {
        check_network(&between(LayerKind::AdaptiveAvgPool { side }), 5, 0.0);
    }
}

#[test]
fn lrn_of_odd_and_even_windows() {
    for size in [1, 2, 5, 9] {
        check_network(&between(LayerKind::Lrn { size, alpha: 0.5, beta: 0.75, k: 2.0 }), 4, 0.0);
    }
}

#[test]
fn batchnorm_before_a_relu_and_alone() {
    // After a ReLU: before it the convolution's bias would have a gradient of zero.
    let batchnorm = LayerKind::BatchNorm { epsilon: 1e-5, momentum: 0.1 };
    let end = [LayerKind::Flatten, LayerKind::Linear { outputs: CLASSES }];
    for middle in [&[LayerKind::Relu, batchnorm][..], &[LayerKind::Relu, batchnorm, LayerKind::Relu]] {
        check_network(&[&[conv(6, 3, 1, 1, 1)], middle, &end[..]].concat(), 4, 0.0);
    }
}

#[test]
fn the_loss_of_mixed_labels() {
    let layers = [LayerKind::Flatten, LayerKind::Linear { outputs: CLASSES }];
    for smoothing in [0.0, 0.1] {
        check_mixed(&layers, 3, smoothing, Some(Mix::Blend { weight: 0.3 }));
        check_mixed(&layers, 3, smoothing, Some(Mix::Paste { left: 1, top: 1, right: 3, bottom: 2 }));
    }
}

#[test]
fn shortcuts_around_one_layer_and_around_several() {
    let batchnorm = LayerKind::BatchNorm { epsilon: 1e-5, momentum: 0.1 };
    let (add, relu, same) = (|from| LayerKind::Add { from }, LayerKind::Relu, conv(6, 3, 1, 1, 1));
    let pool = LayerKind::MaxPool { kernel: 3, stride: 1, padding: 1 };
    let end = [LayerKind::Flatten, LayerKind::Linear { outputs: CLASSES }];
    for middle in [
        &[relu, same, add(2)][..],
        &[relu, pool, add(2)],
        &[relu, same, add(2), relu],
        &[relu, same, relu, same, add(2), relu],
        &[relu, same, add(2), relu, same, add(5)],
        &[relu, conv(6, 3, 1, 1, 2), add(2), relu, same, relu, batchnorm, add(5), relu],
    ] {
        check_network(&[&[conv(6, 3, 1, 1, 1)], middle, &end[..]].concat(), 4, 0.0);
    }
}

#[test]
fn shortcuts_that_cannot_be_are_errors() {
    let (add, relu, same) = (|from| LayerKind::Add { from }, LayerKind::Relu, conv(6, 3, 1, 1, 1));
    for (kinds, reason) in [
        (&[same, add(2), same][..], "which is not before it"),
        (&[same, add(0)], "adds 3×4×4 to 6×4×4"),
        (&[same, relu, same, relu, add(2)], "a shortcut around layers.3, which works in place"),
        (&[same, same, relu, same, add(2)], "a shortcut around layers.2, which works in place"),
        (&[same, same, add(1), same, add(1)], "around the end of another, layers.2"),
    ] {
        let architecture =
            Architecture { name: "small".into(), image_size: 4, channels: 3, classes: 96, layers: layers(kinds) };
        let error = architecture.trace().unwrap_err().to_string();
        assert!(error.contains(reason), "{kinds:?}: {error}");
    }
}

#[test]
fn dropout_under_a_fixed_seed() {
    for rate in [0.0, 0.3, 0.5] {
        check_network(&between(LayerKind::Dropout { rate }), 4, 0.0);
    }
}

#[test]
fn loss_with_label_smoothing() {
    for smoothing in [0.0, 0.1, 1.0] {
        check_network(&between(LayerKind::Relu), 3, smoothing);
    }
}

#[test]
fn every_layer_of_the_command() {
    for Case { layers, side, smoothing, .. } in LAYERS.into_iter().filter_map(case).filter(|case| case.channels == 3) {
        check_network(&layers, side, smoothing);
    }
}

/// AlexNet's order of layers with every kind of layer, a few channels wide.
fn small_alexnet() -> Vec<LayerKind> {
    case("network").unwrap().layers
}

#[test]
fn the_whole_network_small() {
    check_network(&small_alexnet(), 21, 0.1);
}

#[test]
fn micro_batches_give_the_gradient_of_the_whole_batch() {
    let kinds = small_alexnet();
    let (x, labels) = (images(21, BATCH), [2u32, 1, 0]);
    let mut whole = network(&kinds, 21);
    let result = gradients(&mut whole, &x, &labels, &micro(0.1)).unwrap();
    let mut parts = network(&kinds, 21);
    let image = x.len() / BATCH;
    let mut loss = 0.0;
    for (first, n) in [(0, 2), (2, 1)] {
        let slot = Slot { number: first, accumulate: first > 0, ..Slot::default() };
        let micro = MicroBatch { first_image: first, slot, ..micro(0.1) };
        let images = &x[first * image..(first + n) * image];
        loss += gradients(&mut parts, images, &labels[first..first + n], &micro).unwrap().loss;
    }
    assert!((loss - result.loss).abs() < 1e-12);
    for (a, b) in whole.parameters().iter().zip(parts.parameters()) {
        for (a, b) in a.gradient.iter().flatten().zip(b.gradient.iter().flatten()) {
            assert!((a - b).abs() < 1e-12, "{a} {b}");
        }
    }
}

/// The loss of a step of seven images in four shards, whose batch norms see one or two images at a time.
#[test]
fn a_step_of_several_shards() {
    let kinds = case("batchnorm").unwrap().layers;
    let mut kinds =
        [&kinds[..kinds.len() - 1], &[LayerKind::Dropout { rate: 0.5 }], &kinds[kinds.len() - 1..]].concat();
    kinds.insert(1, LayerKind::MaxPool { kernel: 2, stride: 1, padding: 0 });
    let (n, side) = (7, 5);
    let shards = Shards::new(4, n, 1).unwrap();
    let mut network = network(&kinds, side);
    network.shard(shards, Arc::new(Single)).unwrap();
    let (x, image) = (images(side, n), side * side * 3);
    let labels: Vec<u32> = (0..n as u32).map(|i| (3 * i + 1) % CLASSES as u32).collect();
    let train = |network: &mut Net| {
        network.set_metrics(Metrics::default())?;
        for piece in shards.pieces(n) {
            let (first, end) = (piece.images.start, piece.images.end);
            network.load(&x[first * image..end * image], &labels[piece.images])?;
            let micro = MicroBatch::whole(Philox::new(11), 5, n, 0.1);
            network.step(&MicroBatch { first_image: first, slot: piece.slot, ..micro }, None)?;
        }
        network.metrics().map(|metrics| metrics.loss / n as f64)
    };
    train(&mut network).unwrap();
    for p in 0..network.parameters().len() {
        let Some(analytic) = network.parameters()[p].gradient.clone() else { continue };
        let mut values = network.parameters()[p].value.clone();
        let indices = (0..values.len()).step_by(values.len().div_ceil(60));
        let report = check(&mut values, &analytic, indices, Tolerance::default(), |values| {
            network.device_and_parameters().1[p].value.copy_from_slice(values);
            train(&mut network)
        })
        .unwrap();
        network.device_and_parameters().1[p].value.copy_from_slice(&values);
        assert!(report.passed(), "{}: {report}", network.parameters()[p].name);
        let size = analytic.iter().map(|x| x.abs()).fold(0.0, f64::max);
        assert!(size > 1e-3, "{}: a gradient of {size}", network.parameters()[p].name);
    }
}

#[test]
fn a_wrong_backward_pass_is_found() {
    // The check itself must be able to fail: the gradient for another dropout mask is wrong.
    let kinds = between(LayerKind::Dropout { rate: 0.5 });
    let mut network = network(&kinds, 4);
    let (x, labels) = (images(4, BATCH), [1, 0, 3]);
    gradients(&mut network, &x, &labels, &MicroBatch { step: 6, ..micro(0.0) }).unwrap();
    let (mut values, analytic) = {
        let weight = &network.parameters()[0];
        (weight.value.clone(), weight.gradient.clone().unwrap())
    };
    let len = values.len();
    let report: Report = check(&mut values, &analytic, 0..len, Tolerance::default(), |values| {
        network.device_and_parameters().1[0].value.copy_from_slice(values);
        gradients(&mut network, &x, &labels, &micro(0.0)).map(|metrics| metrics.loss / BATCH as f64)
    })
    .unwrap();
    assert!(report.failed > len / 2, "{report}");
}
