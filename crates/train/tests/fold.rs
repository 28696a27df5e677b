//! A network whose batch norms are folded into the layers before them computes what it computed.

use std::sync::Arc;

use alexnet_core::{Architecture, Error, LayerKind, LayerSpec, Network, Reference};
use alexnet_train::data::Preprocess;
use alexnet_train::export::fold::fold;
use alexnet_train::export::{Model, Tensor};

const CONV: LayerKind = LayerKind::Conv { filters: 4, kernel: 3, stride: 1, padding: 1, groups: 2 };
const NORM: LayerKind = LayerKind::BatchNorm { epsilon: 1e-3, momentum: 0.1 };

fn architecture(kinds: &[LayerKind]) -> Architecture {
    let layer = |(i, &kind)| LayerSpec { name: format!("features.{i}"), kind };
    let layers = kinds.iter().enumerate().map(layer).collect();
    Architecture { name: "small".into(), image_size: 4, channels: 2, classes: 3, layers }
}

/// Values of the parameters that are not their start, as a checkpoint has them.
fn values(architecture: &Architecture) -> Vec<Vec<u8>> {
    let number = |seed: usize, i: usize| ((seed * 31 + i) as f32 * 0.7).sin() * 0.5 + 1.0;
    let parameters = architecture.parameters().unwrap();
    let bytes = |(seed, len)| (0..len).flat_map(|i| number(seed, i).to_le_bytes()).collect();
    parameters.iter().map(|spec| spec.len()).enumerate().map(bytes).collect()
}

fn logits(architecture: &Architecture, tensors: &[Tensor<'_>]) -> Vec<f64> {
    let mut network = Network::new(Arc::new(Reference::<f64>::new()), architecture.clone(), 2, false).unwrap();
    assert_eq!(network.parameters().len(), tensors.len());
    for (parameter, tensor) in network.device_and_parameters().1.iter_mut().zip(tensors) {
        assert_eq!((&parameter.name, &parameter.shape), (&tensor.name, &tensor.shape));
        let numbers = tensor.bytes.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b)));
        parameter.value = numbers.collect();
    }
    let images: Vec<f64> = (0..2 * 4 * 4 * 2).map(|i| f64::from(i).cos()).collect();
    network.predict(&images).unwrap();
    let mut logits = vec![0.0; 6];
    network.read_logits(&mut logits).unwrap();
    logits
}

#[test]
fn the_folded_network_is_the_same() {
    let relu = LayerKind::Relu;
    let end = [LayerKind::Flatten, LayerKind::Linear { outputs: 5 }, NORM, relu, LayerKind::Linear { outputs: 3 }];
    let shortcut = LayerKind::Add { from: 5 };
    let kinds = [&[CONV, NORM, relu, CONV, relu, CONV, NORM, shortcut, relu][..], &end].concat();
    let architecture = architecture(&kinds);
    let values = values(&architecture);
    let specs = architecture.parameters().unwrap().into_iter().zip(&values);
    let parameters =
        specs.map(|(spec, bytes)| Tensor { name: spec.name, shape: spec.shape, bytes: bytes.into() }).collect();
    let model = Model { architecture: &architecture, classes: &[], preprocess: Preprocess::default(), parameters };
    let before = logits(&architecture, &model.parameters);
    let (folded, parameters) = fold(&model).unwrap();
    let names: Vec<&str> = folded.layers.iter().map(|layer| layer.name.rsplit_once('.').unwrap().1).collect();
    assert_eq!(names, ["0", "2", "3", "4", "5", "7", "8", "9", "10", "12", "13"]);
    assert_eq!(folded.layers[5].kind, LayerKind::Add { from: 4 });
    let after = logits(&folded, &parameters);
    // Weights are rounded to float once; four layers of sums of positive and negative numbers.
    let largest = before.iter().fold(0.0f64, |most, x| most.max(x.abs()));
    for (a, b) in before.iter().zip(&after) {
        assert!((a - b).abs() <= 1e-6 * largest, "{before:?} {after:?}");
    }
    assert!(before.iter().zip(&after).any(|(a, b)| a != b));
}

#[test]
fn a_batch_norm_without_weights_before_it_is_an_error() {
    for kinds in [&[NORM, LayerKind::Flatten][..], &[CONV, LayerKind::Relu, NORM]] {
        let architecture = architecture(kinds);
        let model = Model {
            architecture: &architecture,
            classes: &[],
            preprocess: Preprocess::default(),
            parameters: Vec::new(),
        };
        let Err(Error::Layer { layer, reason }) = fold(&model) else { panic!("{kinds:?} is folded") };
        assert_eq!(layer, format!("features.{}", kinds.iter().position(|kind| *kind == NORM).unwrap()));
        assert!(reason.contains("right after a convolution or a linear layer"), "{reason}");
    }
}
