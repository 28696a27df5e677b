//! The training step: in every precision against the reference, replayed as a graph, left out when it overflows.

use alexnet_core::device::{Memory, Operators};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use alexnet_core::alexnet::{self, Options, Variant};
use alexnet_core::device::cuda::{Precision, Winograd};
use alexnet_core::device::{Device, Scaler};
use alexnet_core::gradcheck::network::gradients;
use alexnet_core::network::{Metrics, MicroBatch, Slot};
use alexnet_core::random::Philox;
use alexnet_core::{Architecture, Cuda, LayerKind, LayerSpec, Network, Reference, Sgd};

use crate::network::{BATCH, IMAGE, architecture, difference, values};
use crate::support::{U, gpu};

const RULE: Sgd = Sgd { learning_rate: 0.01, momentum: 0.9, weight_decay: 5e-4, nesterov: true, decay_all: true };
/// Of the loss in half precision: large enough to show that it is taken back, and too small to overflow.
const SCALE: f32 = 1024.0;

/// A network of weights that make gradients which are more than noise.
fn network<D: Device>(device: Arc<D>, from: impl Fn(f32) -> D::Element) -> Network<D> {
    let mut network = Network::new(device, architecture(), BATCH, true).unwrap();
    let (device, parameters) = network.device_and_parameters();
    for (p, parameter) in parameters.iter_mut().enumerate() {
        let len = parameter.len();
        let fan = (len / parameter.shape[0]).max(4) as f32;
        let value: Vec<_> = values(40 + p as u64, len, (3.0 / fan).sqrt()).into_iter().map(&from).collect();
        device.write(&value, &mut parameter.value).unwrap();
    }
    network
}

fn cuda(precision: Precision) -> Network<Cuda> {
    cuda_with(precision, Winograd::ByShape)
}

fn cuda_with(precision: Precision, winograd: Winograd) -> Network<Cuda> {
    let mut device = Cuda::new(0, precision).unwrap();
    device.set_winograd(winograd);
    device.set_scaling(&Scaler { scale: SCALE, ..Scaler::default() }).unwrap();
    network(Arc::new(device), |x| x)
}

/// `n` images that differ from step to step, and their labels.
fn batch(step: u32, n: usize) -> (Vec<f32>, Vec<u32>) {
    (values(5 + u64::from(step), n * IMAGE * IMAGE * 3, 1.0), (0..n as u32).map(|i| (i + step) % 4).collect())
}

fn micro(step: u32, n: usize) -> MicroBatch {
    MicroBatch::whole(Philox::new(11), step, n, 0.1)
}

/// Weights, momentum and sums, as bits.
fn state(network: &Network<Cuda>) -> Vec<u64> {
    let mut bits = Vec::new();
    for parameter in network.parameters() {
        for buffer in [&parameter.value, parameter.momentum.as_ref().unwrap()] {
            let mut host = vec![0.0; parameter.len()];
            network.device().read(buffer, &mut host).unwrap();
            bits.extend(host.into_iter().map(|x| u64::from(x.to_bits())));
        }
    }
    let Metrics { loss, correct } = network.metrics().unwrap();
    bits.extend([loss.to_bits(), correct]);
    bits
}

#[test]
fn every_precision_is_the_reference_within_its_roundings() {
    let gpu = gpu();
    let (images, labels) = batch(0, BATCH);
    let mut reference = network(Arc::new(Reference::<f64>::new()), f64::from);
    let wide: Vec<f64> = images.iter().map(|&x| x.into()).collect();
    let expected = gradients(&mut reference, &wide, &labels, &micro(0, BATCH)).unwrap();
    for (precision, roundoff) in [
        (Precision::Fp32, 0.0),
        (Precision::Tf32, 2f64.powi(-11)),
        (Precision::Fp16, 2f64.powi(-11)),
        (Precision::Bf16, 2f64.powi(-8)),
    ] {
        let mut network = cuda(precision);
        network.load(&images, &labels).unwrap();
        // Without an update, all gradients are stored.
        network.step(&micro(0, BATCH), None).unwrap();
        let scale = network.device().scaling().unwrap().map_or(1.0, |scaler| scaler.scale);
        assert_eq!(scale, if precision == Precision::Fp16 { SCALE } else { 1.0 });
        // As in `network.rs` for sums of floats; and each of the eight layers with weights or rounded once on the way
        // forward rounds its weights and its output, and backward its weights and the gradient.
        let longest = (BATCH * 11 * 11) as f64;
        let bound = 2.0 * 18.0 * longest * longest.sqrt() * U + 8.0 * 4.0 * roundoff;
        assert!(bound < 0.2, "a bound that says something: {bound}");
        let Metrics { loss, correct } = network.metrics().unwrap();
        assert!((loss - expected.loss).abs() < bound * expected.loss, "{precision:?}: {loss} {}", expected.loss);
        if precision == Precision::Fp32 {
            assert_eq!(correct, expected.correct);
        }
        for (found, expected) in network.parameters().iter().zip(reference.parameters()) {
            let mut gradient = vec![0.0; found.len()];
            network.device().read(found.gradient.as_ref().unwrap(), &mut gradient).unwrap();
            let gradient: Vec<f64> = gradient.into_iter().map(|x| f64::from(x) / f64::from(scale)).collect();
            let error = difference(&gradient, expected.gradient.as_ref().unwrap());
            eprintln!("{precision:?} {}: {error:.2e} of {bound:.2e}", found.name);
            assert!(error < bound, "{precision:?} {}: {error:e} > {bound:e}", found.name);
            // Half precision is used: its roundings are seen.
            assert!(roundoff < 1e-3 || error > 1e-4, "{precision:?} {}: {error:e}", found.name);
        }
    }
    gpu.assert_clean("step");
}

/// A step updates a linear layer's weight where its gradient is computed.
#[test]
fn updates_have_the_bits_of_stored_gradients_and_one_update_of_all() {
    let gpu = gpu();
    for precision in Precision::ALL {
        let [mut at_once, mut stored] = [cuda(precision), cuda(precision)];
        let before = state(&stored);
        for step in 0..3 {
            let (x, labels) = batch(step, BATCH);
            at_once.load(&x, &labels).unwrap();
            at_once.step(&micro(step, BATCH), Some(&RULE)).unwrap();
            stored.load(&x, &labels).unwrap();
            stored.step(&micro(step, BATCH), None).unwrap();
            let (device, parameters) = stored.device_and_parameters();
            let mut gradients = parameters.iter().filter_map(|parameter| parameter.gradient.as_ref());
            device.begin_update(&mut std::iter::empty(), &mut gradients).unwrap();
            device.sgd(&RULE, &mut parameters.iter_mut()).unwrap();
            device.end_update().unwrap();
            assert!(state(&at_once) == state(&stored) && state(&stored) != before, "{precision:?}: other bits");
            let scaling = |network: &Network<Cuda>| network.device().scaling().unwrap();
            assert_eq!(scaling(&at_once), scaling(&stored));
        }
    }
    gpu.assert_clean("step");
}

/// In half precision a weight's update moves at least 18 bytes: w and its momentum are read and written, and the copy is
/// written. A gradient that is stored and read again moves 8 more; it is that of convolutions and biases only, which the product that
/// computes it tests.
#[test]
fn updates_move_few_bytes() {
    let gpu = gpu();
    let architecture = alexnet::architecture(Variant::Cifar, Options::new(32, 10));
    let (all, linear) = (23_272_266u64, 1024 * 4096 + 4096 * 4096 + 4096 * 10);
    assert_eq!(architecture.parameter_count().unwrap() as u64, all);
    let batch = 8;
    let mut network =
        Network::new(Arc::new(Cuda::new(0, Precision::Fp16).unwrap()), architecture, batch, true).unwrap();
    let labels: Vec<u32> = (0..batch as u32).collect();
    network.load(&values(5, batch * 32 * 32 * 3, 1.0), &labels).unwrap();
    let bytes = gpu.bytes(|| {
        network.step(&micro(0, batch), Some(&RULE)).unwrap();
        network.metrics().unwrap();
    });
    eprintln!("bytes by kernel: {bytes:?}");
    let of = |begin: &str| bytes.iter().filter(|(kernel, _)| kernel.starts_with(begin)).map(|(_, b)| b).sum::<u64>();
    // The products read x and dy besides, which the test reads too; batch·(inputs + outputs) halves.
    let operands = 2 * batch as u64 * (1024 + 3 * 4096 + 4096 + 10);
    let rest = 22 * (all - linear);
    let limits = [("gemm_tn", 18 * linear + operands), ("sgd_test", operands), ("sgd", operands + rest)];
    for (kernel, most) in limits {
        // Besides: padded filters, biases, constants.
        let found = of(kernel);
        assert!(found > 0 || !gpu.is_modelled());
        assert!(found <= most + most / 50, "{kernel}: {found} bytes, more than {most}: {bytes:#?}");
    }
}

/// Every launch costs a gap of a microsecond or two, in a graph too: at a small batch as much as the work itself.
#[test]
fn a_step_of_cifar_takes_few_launches() {
    const MOST: u64 = 39;
    // Three instead of one for each direction of four convolutions.
    const WITH_WINOGRAD: u64 = MOST + 4 * 3 * 2;
    let gpu = gpu();
    for (precision, batch, winograd, most) in [
        (Precision::Fp32, 2, Winograd::ByShape, MOST),
        (Precision::Fp32, 2, Winograd::Always, WITH_WINOGRAD),
        (Precision::Tf32, 2, Winograd::ByShape, MOST),
        (Precision::Fp16, 2, Winograd::Always, MOST),
        (Precision::Fp16, 32, Winograd::ByShape, MOST),
    ] {
        let architecture = alexnet::architecture(Variant::Cifar, Options::new(32, 10));
        let mut device = Cuda::new(0, precision).unwrap();
        device.set_winograd(winograd);
        let mut network = Network::new(Arc::new(device), architecture, batch, true).unwrap();
        let labels: Vec<u32> = (0..batch as u32).map(|i| i % 10).collect();
        network.load(&values(5, batch * 32 * 32 * 3, 1.0), &labels).unwrap();
        let launches = gpu.launches(|| {
            network.step(&micro(0, batch), Some(&RULE)).unwrap();
            network.metrics().unwrap();
        });
        let total: u64 = launches.values().sum();
        let what = format!("{precision:?}, batch {batch}, Winograd {winograd:?}");
        eprintln!("{what}: {total} launches: {launches:?}");
        assert!(total <= most, "{what}: {total} launches, more than {most}: {launches:#?}");
        assert_eq!(launches.contains_key("winograd_output"), most > MOST, "{what}");
    }
}

#[test]
fn a_smaller_batch_needs_no_more_workspace() {
    let gpu = gpu();
    let layers = alexnet::architecture(Variant::Cifar, Options::new(32, 10)).trace().unwrap();
    for precision in [Precision::Fp32, Precision::Fp16] {
        let device = gpu.device(precision);
        let workspace = |batch| {
            let operations: Vec<_> = layers.iter().map(|layer| layer.operation(batch)).collect();
            device.workspace(&operations, true)
        };
        for (smaller, batch) in [(80..=100, 128), (490..=511, 512)] {
            let most = workspace(batch);
            eprintln!("{precision:?} batch {batch}: {most} bytes");
            for smaller in smaller {
                assert!(workspace(smaller) <= most, "{precision:?}: {smaller} images need more than {batch}");
            }
        }
    }
}

/// Two epochs of two full batches of two micro-batches each, and a last one that is short.
pub fn train(precision: Precision, winograd: Winograd, graph: bool) -> (Vec<u64>, usize, u64) {
    let mut network = cuda_with(precision, winograd);
    // A layer in two learns at half the rate, whatever the schedule.
    network.set_rates(|layer| if layer.len().is_multiple_of(2) { 0.5 } else { 1.0 });
    network.set_class_weights(&[0.5, 1.5, 1.0, 1.0]).unwrap();
    network.use_cuda_graph(graph);
    let mut allocations = 0;
    for step in 0..6 {
        let optimizer = Sgd { learning_rate: 0.01 / f64::from(step + 1), ..RULE };
        let sizes: &[usize] = if step % 3 < 2 { &[BATCH, BATCH] } else { &[BATCH, 1] };
        let images = sizes.iter().sum();
        let mut first = 0;
        for &n in sizes {
            let (x, labels) = batch(2 * step + first as u32, n);
            network.load(&x, &labels).unwrap();
            let slot = Slot { number: usize::from(first > 0), accumulate: first > 0, ..Slot::default() };
            let micro = MicroBatch { first_image: first, slot, ..micro(step, images) };
            first += n;
            network.step(&micro, (first == images).then_some(&optimizer)).unwrap();
        }
        if step == 2 {
            allocations = network.device().kernels().allocations();
        }
    }
    let allocated = network.device().kernels().allocations() - allocations;
    (state(&network), network.captured_graphs(), allocated)
}

#[test]
fn a_replayed_step_has_the_bits_of_an_eager_one() {
    let gpu = gpu();
    let cases = Precision::ALL.map(|precision| (precision, Winograd::ByShape));
    for (precision, winograd) in [&cases[..], &[(Precision::Fp32, Winograd::Always)]].concat() {
        let (eager, none, allocated) = train(precision, winograd, false);
        assert_eq!((none, allocated), (0, 0));
        for schedule in ["", "1", "2"] {
            gpu.options(&format!("schedule={schedule}"));
            let (replayed, captured, allocated) = train(precision, winograd, true);
            // First and second micro-batch of a full step and of a short one.
            assert_eq!((captured, allocated), (4, 0), "{precision:?}");
            assert!(eager == replayed, "{precision:?} schedule {schedule}: other bits");
        }
        gpu.options("schedule=");
        gpu.assert_clean("step");
    }
}

/// Gradients of weights and of activations are computed on two streams. Whatever a captured step lets run in any order has the
/// same bits in every order: each of its steps in turn runs as late as it may.
#[test]
fn a_replayed_step_has_the_same_bits_in_every_order_that_it_allows() {
    let gpu = gpu();
    for precision in [Precision::Fp32, Precision::Fp16] {
        let mut networks = [cuda(precision), cuda(precision)];
        networks[1].use_cuda_graph(true);
        let mut run = |step, schedule: &str| {
            let (x, labels) = batch(step, BATCH);
            for (network, schedule) in networks.iter_mut().zip(["", schedule]) {
                network.load(&x, &labels).unwrap();
                gpu.options(&format!("schedule={schedule}"));
                network.step(&micro(step, BATCH), Some(&RULE)).unwrap();
                gpu.options("schedule=");
            }
            networks.each_ref().map(state)
        };
        run(0, "");
        run(1, "");
        let count = gpu.launches(|| drop(run(2, ""))).values().sum::<u64>() / 2;
        gpu.options("check=none");
        for node in 0..count {
            let [eager, replayed] = run(3 + node as u32, &node.to_string());
            assert!(eager == replayed, "{precision:?}: other bits with step {node} of {count} late");
        }
        gpu.options("check=all");
    }
}

#[test]
fn a_captured_step_decays_what_its_optimizer_says() {
    let gpu = gpu();
    let run = |graph| {
        let mut network = cuda(Precision::Fp32);
        network.use_cuda_graph(graph);
        for step in 0..6 {
            let (x, labels) = batch(step, BATCH);
            network.load(&x, &labels).unwrap();
            let optimizer = Sgd { decay_all: step < 3, weight_decay: 0.5, ..RULE };
            network.step(&micro(step, BATCH), Some(&optimizer)).unwrap();
        }
        (state(&network), network.captured_graphs())
    };
    let ((eager, none), (replayed, captured)) = (run(false), run(true));
    assert_eq!((none, captured), (0, 2));
    assert!(eager == replayed, "other bits");
    gpu.assert_clean("step");
}

#[test]
fn every_micro_batch_of_a_long_step_is_captured() {
    const MICRO_BATCHES: usize = 17;
    let gpu = gpu();
    let mut network = cuda(Precision::Fp32);
    network.use_cuda_graph(true);
    for step in 0..2 {
        for first_image in 0..MICRO_BATCHES {
            let (x, labels) = batch(step, 1);
            network.load(&x, &labels).unwrap();
            let slot = Slot { number: first_image, accumulate: first_image > 0, ..Slot::default() };
            let micro = MicroBatch { first_image, slot, ..micro(step, MICRO_BATCHES) };
            network.step(&micro, (first_image + 1 == MICRO_BATCHES).then_some(&RULE)).unwrap();
        }
    }
    assert_eq!(network.captured_graphs(), MICRO_BATCHES);
    gpu.assert_clean("step");
}

#[test]
fn a_graph_ends_where_its_arrays_may_have_moved() {
    let gpu = gpu();
    let mut network = cuda(Precision::Fp32);
    network.use_cuda_graph(true);
    let run = |network: &mut Network<Cuda>, step| {
        let (x, labels) = batch(step, BATCH);
        network.load(&x, &labels).unwrap();
        network.step(&micro(step, BATCH), Some(&RULE)).unwrap();
    };
    run(&mut network, 0);
    run(&mut network, 1);
    assert_eq!(network.captured_graphs(), 1);
    // Another network that needs more scratch moves it; the step is captured again.
    let architecture = alexnet_core::Architecture { image_size: 63, ..architecture() };
    drop(Network::new(network.shared_device(), architecture, 2 * BATCH, true).unwrap());
    run(&mut network, 2);
    assert_eq!(network.captured_graphs(), 1);
    network.device_and_parameters();
    assert_eq!(network.captured_graphs(), 0);
    run(&mut network, 3);
    let mut other = cuda(Precision::Fp32);
    (0..4).for_each(|step| run(&mut other, step));
    assert!(state(&network) == state(&other));
    gpu.assert_clean("step");
}

#[test]
fn frozen_layers_stay_as_they_are_in_a_captured_step() {
    let gpu = gpu();
    let run = |graph| {
        let mut network = cuda(Precision::Fp16);
        network.freeze(|layer| layer == "layers.0" || layer == "layers.12");
        network.use_cuda_graph(graph);
        for step in 0..4 {
            let (x, labels) = batch(step, BATCH);
            network.load(&x, &labels).unwrap();
            network.step(&micro(step, BATCH), Some(&RULE)).unwrap();
        }
        assert_eq!(network.captured_graphs(), usize::from(graph));
        let read = |p: &alexnet_core::device::Parameter<_>| {
            let mut host = vec![0.0; p.len()];
            network.device().read(&p.value, &mut host).unwrap();
            host
        };
        network.parameters().iter().map(|p| (p.name.clone(), read(p))).collect::<Vec<_>>()
    };
    let (eager, replayed) = (run(false), run(true));
    assert!(eager == replayed);
    let start = cuda(Precision::Fp16);
    for ((name, now), parameter) in replayed.iter().zip(start.parameters()) {
        let mut before = vec![0.0; parameter.len()];
        start.device().read(&parameter.value, &mut before).unwrap();
        let frozen = name.starts_with("layers.0.") || name.starts_with("layers.12.");
        assert_eq!(*now == before, frozen, "{name}");
    }
    gpu.assert_clean("step");
}

#[test]
fn a_step_that_overflows_is_left_out() {
    let gpu = gpu();
    let mut network = cuda(Precision::Fp16);
    network.use_cuda_graph(true);
    let (x, labels) = batch(0, BATCH);
    let before = state(&network);
    // dL/dlogits alone, which is up to 1/3, is beyond the largest half.
    network.device().set_scaling(&Scaler { scale: 2f32.powi(20), good_steps: 7, skipped: 3 }).unwrap();
    for (step, left_out) in [(0, 4), (1, 5)] {
        network.load(&x, &labels).unwrap();
        network.step(&micro(step, BATCH), Some(&RULE)).unwrap();
        let scale = 2f32.powi(19 - step as i32);
        let expected = Scaler { scale, good_steps: 0, skipped: left_out };
        assert_eq!(network.device().scaling().unwrap(), Some(expected));
        assert!(state(&network)[..before.len() - 2] == before[..before.len() - 2], "weights or momentum changed");
    }
    network.device().set_scaling(&Scaler { scale: SCALE, good_steps: 7, skipped: 5 }).unwrap();
    network.load(&x, &labels).unwrap();
    network.step(&micro(2, BATCH), Some(&RULE)).unwrap();
    let expected = Scaler { scale: SCALE, good_steps: 8, skipped: 5 };
    assert_eq!(network.device().scaling().unwrap(), Some(expected));
    assert!(state(&network)[..before.len() - 2] != before[..before.len() - 2]);
    gpu.assert_clean("step");
}

/// The gradient of the first convolution alone is not finite: a pixel is infinite, the weights that meet it are negative, so that ReLU
/// puts out 0 there, and 0 times the pixel is in the gradient. The product that computes the gradient tests it.
#[test]
fn a_gradient_of_a_convolution_that_is_not_finite_leaves_the_step_out_and_no_other_step() {
    let gpu = gpu();
    for graph in [false, true] {
        let mut network = cuda(Precision::Fp16);
        network.use_cuda_graph(graph);
        let (device, parameters) = network.device_and_parameters();
        let first = &mut parameters[0];
        let mut weight = vec![0.0; first.len()];
        device.read(&first.value, &mut weight).unwrap();
        weight.iter_mut().for_each(|w| *w = -w.abs() - 1e-3);
        device.write(&weight, &mut first.value).unwrap();
        let (good, labels) = batch(0, BATCH);
        let mut bad = good.clone();
        bad[0] = f32::INFINITY;
        let scaling = |network: &Network<Cuda>| network.device().scaling().unwrap().unwrap();
        for step in 0..3 {
            let before = (state(&network), scaling(&network));
            // Without an update nothing is left out, in this step or the next.
            for (images, optimizer, skipped) in [(&bad, None, 0), (&good, Some(&RULE), 0), (&bad, Some(&RULE), 1)] {
                network.set_metrics(Metrics::default()).unwrap();
                network.load(images, &labels).unwrap();
                network.step(&micro(step, BATCH), optimizer).unwrap();
                assert!(network.metrics().unwrap().loss.is_finite(), "the infinite pixel goes beyond the convolution");
                assert_eq!(scaling(&network).skipped, before.1.skipped + skipped, "graph {graph}, step {step}");
                if optimizer.is_none() {
                    let infinite = network.parameters().iter().map(|parameter| {
                        let mut gradient = vec![0.0; parameter.len()];
                        network.device().read(parameter.gradient.as_ref().unwrap(), &mut gradient).unwrap();
                        !gradient.iter().all(|x| x.is_finite())
                    });
                    let alone = infinite.collect::<Vec<_>>();
                    assert!(alone[0] && !alone[1..].contains(&true), "{alone:?}");
                }
            }
            assert!(state(&network)[..] != before.0[..], "no step is done");
        }
    }
    gpu.assert_clean("step");
}

/// Steps of one network while another thread's steps of another are captured and replayed on the same GPU.
#[test]
fn two_networks_train_on_one_gpu_from_two_threads() {
    let gpu = gpu();
    let device = Arc::new(Cuda::new(0, Precision::Fp32).unwrap());
    let images = |network: &Network<Cuda>| vec![0.5; 4 * network.architecture().image_size.pow(2)];
    let linear = |depth: usize| {
        let mut kinds = vec![LayerKind::Flatten, LayerKind::Dropout { rate: 0.5 }];
        kinds.extend(vec![LayerKind::Linear { outputs: 16 }; depth]);
        kinds.push(LayerKind::Linear { outputs: 3 });
        let layers = kinds.into_iter().enumerate().map(|(i, kind)| LayerSpec { name: format!("layers.{i}"), kind });
        let name = "linear".to_owned();
        let architecture = Architecture { name, image_size: 4, channels: 1, classes: 3, layers: layers.collect() };
        let mut network = Network::new(device.clone(), architecture, 4, true).unwrap();
        network.initialise(Philox::new(0)).unwrap();
        network.load(&images(&network), &[0, 1, 2, 0]).unwrap();
        network
    };
    let step = |network: &mut Network<Cuda>, step| {
        let optimizer = Sgd { learning_rate: 0.01 / f64::from(step + 1), ..RULE };
        network.step(&micro(step, 4), Some(&optimizer)).unwrap();
    };
    let alone = |depth| {
        let mut network = linear(depth);
        (0..3).for_each(|number| step(&mut network, number));
        state(&network)
    };
    // More arrays than one launch of sgd takes.
    let expected = alone(33);
    for _ in 0..3 {
        let (mut one, mut other) = (linear(33), linear(1));
        one.use_cuda_graph(true);
        step(&mut one, 0);
        let (stop, steps) = (AtomicBool::new(false), AtomicU32::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    step(&mut other, 7 + steps.fetch_add(1, Ordering::Relaxed));
                }
            });
            while steps.load(Ordering::Relaxed) < 3 {
                std::hint::spin_loop();
            }
            // Captured, and replayed.
            step(&mut one, 1);
            stop.store(true, Ordering::Relaxed);
        });
        assert_eq!(one.captured_graphs(), 1);
        // Its arrays are freed: nothing of it may have become part of the other's graph.
        drop(other);
        step(&mut one, 2);
        assert!(state(&one) == expected, "the other network's steps change the result");
    }
    gpu.assert_clean("two networks");
}

/// A snapshot is taken behind queued steps, and read by another thread while graphs of later steps are captured and replayed.
#[test]
fn a_snapshot_is_read_beside_other_steps() {
    let gpu = gpu();
    for precision in Precision::ALL {
        let (mut network, mut other) = (cuda(precision), cuda(precision));
        network.use_cuda_graph(true);
        let step = |network: &mut Network<Cuda>, step| {
            let (x, labels) = batch(step, BATCH);
            network.load(&x, &labels).unwrap();
            network.step(&micro(step, BATCH), Some(&RULE)).unwrap();
        };
        let mut copy = Vec::new();
        for (seed, first) in [("", 0), ("1", 2), ("2", 4)] {
            step(&mut other, first);
            let expected = state(&other);
            step(&mut other, first + 1);
            gpu.options(&format!("schedule={seed}"));
            step(&mut network, first);
            copy = network.snapshot(copy).unwrap();
            let device = network.shared_device();
            let found = std::thread::scope(|scope| {
                let read = scope.spawn(|| {
                    let mut bits = Vec::new();
                    for parameter in &copy {
                        for buffer in [&parameter.value, parameter.momentum.as_ref().unwrap()] {
                            let mut host = vec![0.0; parameter.len()];
                            device.read(buffer, &mut host).unwrap();
                            bits.extend(host.into_iter().map(|x| u64::from(x.to_bits())));
                        }
                    }
                    bits
                });
                step(&mut network, first + 1);
                read.join().unwrap()
            });
            // Without the sums of the metrics.
            assert!(found == expected[..found.len()], "{precision:?} schedule {seed}: other bits");
        }
        gpu.options("schedule=");
    }
    gpu.assert_clean("snapshot");
}
