//! What a network refuses, and what its step tells, on the CPU.

#[path = "support/fingerprint.rs"]
mod fingerprint;

use alexnet_core::device::cpu::{Array, Buffer, Level};
use alexnet_core::device::{Memory, Parameter};
use std::sync::Arc;

use alexnet_core::network::{Images, Metrics, MicroBatch, Phase};
use alexnet_core::random::Philox;
use alexnet_core::shape::{AugmentShape, Draw, Mix};
use alexnet_core::{Architecture, Cpu, Device, LayerKind, LayerSpec, Network, Reference, Sgd};
use fingerprint::fingerprint;

const SGD: Sgd = Sgd { learning_rate: 0.1, momentum: 0.9, weight_decay: 0.0, nesterov: false, decay_all: false };

fn network(training: bool) -> Network<Cpu> {
    network_on(Cpu::new(1).unwrap(), training)
}

fn network_on<D: Device>(device: D, training: bool) -> Network<D> {
    let kinds = [
        LayerKind::Conv { filters: 4, kernel: 3, stride: 1, padding: 1, groups: 1 },
        LayerKind::Relu,
        LayerKind::Flatten,
        LayerKind::Linear { outputs: 3 },
    ];
    let layers = kinds.into_iter().enumerate().map(|(i, kind)| LayerSpec { name: format!("layers.{i}"), kind });
    let layers = layers.collect();
    let architecture = Architecture { name: "small".into(), image_size: 4, channels: 3, classes: 3, layers };
    let mut network = Network::new(Arc::new(device), architecture, 2, training).unwrap();
    network.initialise(Philox::new(1)).unwrap();
    network
}

/// Images of the network's side, only divided by 255.
fn plain(batch: usize) -> AugmentShape {
    AugmentShape::plain(batch, 4, Philox::new(1))
}

fn micro(images: usize) -> MicroBatch {
    MicroBatch::whole(Philox::new(1), 0, images, 0.0)
}

#[test]
fn images_and_labels_that_do_not_fit_are_refused() {
    let mut network = network(true);
    let image = [0.5; 4 * 4 * 3];
    let messages = [
        network.load(&[], &[]),
        network.load(&[image; 3].concat(), &[0, 1, 2]),
        network.load(&image[1..], &[0]),
        network.load(&[&image[..], &[0.5]].concat(), &[0]),
        network.load(&image, &[0, 1]),
        network.load(&image, &[3]),
        network.predict(&image[..10]),
        network.infer(),
        network.step(&micro(1), None),
        network.mix(Mix::Blend { weight: 0.5 }, &[0]),
    ]
    .map(|result| result.unwrap_err().to_string());
    assert_eq!(
        messages,
        [
            "a batch of 0 images does not fit a network planned for 1 to 2",
            "a batch of 3 images does not fit a network planned for 1 to 2",
            "network: images has 47 elements, expected 48",
            "network: images has 49 elements, expected 96",
            "network: labels has 2 elements, expected 1",
            "label 3 of image 0 in the batch is not one of 3 classes",
            "network: images has 10 elements, expected 48",
            "a batch of 0 images does not fit a network planned for 1 to 2",
            "a batch of 0 images does not fit a network planned for 1 to 2",
            "a batch of 0 images does not fit a network planned for 1 to 2",
        ]
    );
    let bytes = network.device().bytes(8 * 8 * 3).unwrap();
    let shape = AugmentShape { side: 8, ..plain(1) };
    let fitting = plain(1);
    let mut load = |images: Images<'_, Array<u8>>, shape: &AugmentShape, draws: &[Draw]| {
        network.load_bytes(images, shape, draws, &[0]).unwrap_err().to_string()
    };
    let dataset = || Images::Dataset { images: &bytes, len: 4 };
    assert_eq!(load(dataset(), &shape, &[Draw::of(0)]), "network: shape.side has 8 elements, expected 4");
    assert_eq!(load(dataset(), &fitting, &[Draw::of(4)]), "network: images has 4 elements, expected 5");
    assert_eq!(load(dataset(), &fitting, &[]), "a batch of 0 images does not fit a network planned for 1 to 2");
    assert_eq!(load(Images::Batch(&[0; 47]), &fitting, &[Draw::of(9)]), "network: images has 47 elements, expected 48");
    let error = load(Images::Batch(&[0; 48]), &fitting, &[Draw::of(9)]);
    assert!(error.ends_with(": this device has no memory for images"), "{error}");
    // What was predicted has no labels to train by.
    network.load(&image, &[0]).unwrap();
    network.predict(&image).unwrap();
    network.step(&micro(1), None).unwrap_err();
}

#[test]
fn bytes_out_of_a_data_set_and_of_the_batch_alone() {
    let image = 4 * 4 * 3;
    let pixels: Vec<u8> = (0..5 * image).map(|i| (i * 37 % 256) as u8).collect();
    let mut network = network_on(Reference::<f32>::new(), false);
    let mut dataset = network.device().bytes(pixels.len()).unwrap();
    network.device().write_bytes(&pixels, &mut dataset).unwrap();
    let draws = [Draw::of(3), Draw { index: 1, repeat: 2 }];
    let batch: Vec<u8> =
        draws.iter().flat_map(|draw| &pixels[draw.index as usize * image..][..image]).copied().collect();
    // What the draws count besides: shifts and flips.
    let shape = AugmentShape { padding: 2, flip: true, ..plain(2) };
    let mut logits = |images| {
        network.load_bytes(images, &shape, &draws, &[0, 1]).unwrap();
        network.infer().unwrap();
        let mut logits = [0f32; 2 * 3];
        network.read_logits(&mut logits).unwrap();
        logits
    };
    let found = logits(Images::Dataset { images: &dataset, len: 5 });
    assert_eq!(logits(Images::Batch(&batch)), found);
    assert_ne!(found[..3], found[3..]);
}

#[test]
fn a_network_for_inference_does_not_train() {
    let mut network = network(false);
    network.load(&[0.5; 4 * 4 * 3], &[0]).unwrap();
    network.infer().unwrap();
    let error = network.step(&micro(1), Some(&SGD)).unwrap_err();
    assert!(error.to_string().contains("made for inference"), "{error}");
}

#[test]
fn the_profiler_sees_every_phase_and_changes_nothing() {
    let images: Vec<f32> = (0..2 * 4 * 4 * 3).map(|i| (i as f32 * 0.3).sin()).collect();
    let [mut plain, mut profiled] = [(); 2].map(|()| network(true));
    let mut phases = Vec::new();
    for network in [&mut plain, &mut profiled] {
        network.load(&images, &[0, 2]).unwrap();
    }
    plain.step(&micro(2), Some(&SGD)).unwrap();
    let mut profiler = |phase| {
        phases.push(phase);
        Ok(())
    };
    profiled.step_with_profiler(&micro(2), Some(&SGD), &mut profiler).unwrap();
    use Phase::{Backward, Forward, Loss, Update};
    // The ReLU is computed with the convolution.
    assert_eq!(phases, [Forward(0), Forward(2), Forward(3), Loss, Backward(3), Backward(2), Backward(0), Update]);
    assert_eq!(plain.metrics().unwrap(), profiled.metrics().unwrap());
    for (a, b) in plain.parameters().iter().zip(profiled.parameters()) {
        assert_eq!(a.value[..], b.value[..], "{}", a.name);
    }
}

#[test]
fn sums_go_on_from_where_they_are_set() {
    let mut network = network(true);
    network.load(&[0.5; 2 * 4 * 4 * 3], &[0, 1]).unwrap();
    network.step(&micro(2), None).unwrap();
    let one = network.metrics().unwrap();
    network.step(&micro(2), None).unwrap();
    assert_eq!(network.metrics().unwrap(), Metrics { loss: one.loss + one.loss, correct: 2 * one.correct });
    network.set_metrics(Metrics { loss: 3.0, correct: 7 }).unwrap();
    network.step(&micro(2), None).unwrap();
    let expected = Metrics { loss: 3.0 + one.loss, correct: 7 + one.correct };
    assert_eq!(network.poll_metrics().unwrap(), Some(expected));
}

/// The variants have whole vectors of channels: a run on one machine has the bits of the run on another with other vectors, if both have a fused multiply-add.
/// The second test command compares what is printed here with what NEON gives.
#[test]
fn every_level_with_fused_multiply_add_trains_to_the_same_bits() {
    let levels = Level::available().into_iter().filter(|&level| level != Level::Portable);
    let runs: Vec<_> = levels.map(|level| (level.name(), fingerprint(level))).collect();
    runs.iter().for_each(|(level, run)| println!("fingerprint {level} {run}"));
    assert!(runs.windows(2).all(|pair| pair[0].1 == pair[1].1), "{runs:?}");
}

#[test]
fn the_layer_where_nan_begins_is_named() {
    let mut network = network(false);
    let images = [0.5; 2 * 4 * 4 * 3];
    network.predict(&images).unwrap();
    assert_eq!(network.first_not_finite(2).unwrap(), None);
    for (parameter, value, name) in [(2, f32::NAN, "layers.3"), (0, f32::INFINITY, "layers.0")] {
        let (device, parameters) = network.device_and_parameters();
        device.write_at(&[value], &mut parameters[parameter].value, 1).unwrap();
        network.predict(&images).unwrap();
        assert_eq!(network.first_not_finite(2).unwrap(), Some(name));
    }
    assert!(network.first_not_finite(3).is_err());
}

#[test]
fn a_snapshot_stays_while_training_goes_on() {
    let mut network = network(true);
    network.keep_average().unwrap();
    let values = |device: &Cpu, parameters: &[Parameter<Buffer>]| {
        let read = |buffer: &Buffer| {
            let mut values = vec![0.0; buffer.len()];
            device.read(buffer, &mut values).unwrap();
            values
        };
        let all = |p: &Parameter<Buffer>| {
            [Some(&p.value), p.momentum.as_ref(), p.average.as_ref()].map(|buffer| buffer.map(read))
        };
        parameters.iter().map(|p| (p.name.clone(), p.shape.clone(), all(p))).collect::<Vec<_>>()
    };
    let mut copy = Vec::new();
    for step in 0..3 {
        copy = network.snapshot(copy).unwrap();
        let before = values(network.device(), network.parameters());
        let at: Vec<_> = copy.iter().map(|parameter| parameter.value.as_ptr()).collect();
        network.load(&[0.5; 2 * 4 * 4 * 3], &[0, 1]).unwrap();
        network.step(&micro(2), Some(&SGD)).unwrap();
        network.ema(0.5).unwrap();
        assert!(values(network.device(), &copy) == before, "step {step}");
        assert!(values(network.device(), network.parameters()) != before, "step {step} changes nothing");
        // The next one takes the same memory.
        copy = network.snapshot(copy).unwrap();
        assert!(copy.iter().map(|parameter| parameter.value.as_ptr()).eq(at));
    }
    assert!(copy.iter().all(|parameter| parameter.gradient.is_none()));
}
