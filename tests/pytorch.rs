//! The same numbers as PyTorch, from the fixtures that `tests/fixtures/make.py` makes.

mod driver;

use alexnet_core::arguments::{
    AvgPoolBackward, AvgPoolForward, BatchNormBackward, BatchNormForward, BatchNormInference, LrnBackward, LrnForward,
    MaxPoolBackward, MaxPoolForward, SoftmaxCrossEntropy,
};
use alexnet_core::device::Operators;
use std::sync::Arc;

use alexnet_core::alexnet::{Options, Variant, architecture};
use alexnet_core::device::Parameter;
use alexnet_core::device::cuda::Precision;
use alexnet_core::gradcheck::network::gradients;
use alexnet_core::network::MicroBatch;
use alexnet_core::random::{Philox, uniform_f32};
use alexnet_core::shape::{AvgPoolShape, BatchNormShape, LossShape, LrnShape, MaxPoolShape};
use alexnet_core::{Cpu, Cuda, Device, Network, Reference, Sgd, reference};
use serde_json::Value;

/// Allowed error: of an element relative to the tensor's largest, of a norm or a projection relative
/// to the norm, of a loss relative to itself.
const RELATIVE: f64 = 1e-4;

fn fixture(name: &str) -> Value {
    // Where it is now, which for a copied test is not where it was built.
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").into());
    let path = std::path::Path::new(&root).join("tests/fixtures").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

fn integer(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

fn uniforms(purpose: u32, step: u32, len: usize) -> impl Iterator<Item = f64> {
    let philox = Philox::new(42);
    (0..len as u64).map(move |i| f64::from(uniform_f32(philox.word(purpose, step, i))))
}

fn compare(what: &str, tensor: &[f32], expected: &Value) {
    let norm = tensor.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    let allowed = RELATIVE * number(&expected["norm"]);
    assert!((norm - number(&expected["norm"])).abs() <= allowed, "{what}: norm {norm}, PyTorch {}", expected["norm"]);
    let projection: f64 =
        tensor.iter().zip(uniforms(6, 0, tensor.len())).map(|(&x, u)| f64::from(x) * (2.0 * u - 1.0)).sum();
    let torch = number(&expected["projection"]);
    assert!((projection - torch).abs() <= allowed, "{what}: projection {projection}, PyTorch {torch}");
    let allowed = RELATIVE * number(&expected["largest"]);
    for element in expected["elements"].as_array().unwrap() {
        let (index, torch) = (integer(&element[0]), number(&element[1]));
        let ours = f64::from(tensor[index]);
        assert!((ours - torch).abs() <= allowed, "{what}[{index}]: {ours}, PyTorch {torch}, allowed {allowed}");
    }
}

fn three_steps<D: Device<Element = f32>>(device: D, variant: Variant, name: &str) {
    let fixture = fixture(name);
    let (image, batch) = (integer(&fixture["image"]), integer(&fixture["batch"]));
    let options = Options::new(image, 10);
    let mut network = Network::new(Arc::new(device), architecture(variant, options), batch, true).unwrap();
    let philox = Philox::new(fixture["seed"].as_u64().unwrap());
    network.initialise(philox).unwrap();
    let images: Vec<f32> = uniforms(4, 0, batch * image * image * 3).map(|u| (u * 4.0 - 2.0) as f32).collect();
    let labels: Vec<u32> = (0..batch as u32).map(|i| (7 * i + 3) % 10).collect();
    let nesterov = fixture["nesterov"].as_bool().unwrap();
    let sgd = Sgd { learning_rate: 0.01, momentum: 0.9, weight_decay: 5e-4, nesterov, decay_all: true };
    let read = |network: &Network<D>, len: usize, buffer: &D::Buffer| {
        let mut values = vec![0.0; len];
        network.device().read(buffer, &mut values).unwrap();
        values
    };
    for (step, expected) in fixture["steps"].as_array().unwrap().iter().enumerate() {
        let micro = MicroBatch::whole(philox, step as u32, batch, number(&fixture["smoothing"]));
        let loss = gradients(&mut network, &images, &labels, &micro).unwrap().loss / batch as f64;
        let torch = number(&expected["loss"]);
        assert!((loss - torch).abs() <= RELATIVE * torch, "{name} step {step}: loss {loss}, PyTorch {torch}");
        for parameter in network.parameters() {
            let gradient = read(&network, parameter.len(), parameter.gradient.as_ref().unwrap());
            let what = format!("{name} step {step}: gradient of {}", parameter.name);
            compare(&what, &gradient, &expected["gradients"][&parameter.name]);
        }
        let (device, parameters) = network.device_and_parameters();
        device.sgd(&sgd, &mut parameters.iter_mut()).unwrap();
    }
    for parameter in network.parameters() {
        let value = read(&network, parameter.len(), &parameter.value);
        compare(&format!("{name}: {} after 3 steps", parameter.name), &value, &fixture["after"][&parameter.name]);
    }
}

#[test]
fn three_steps_of_cifar() {
    three_steps(Cpu::new(0).unwrap(), Variant::Cifar, "cifar.json");
}

#[test]
fn three_steps_of_paper_k11_at_96() {
    three_steps(Cpu::new(0).unwrap(), Variant::PaperK11, "paper-k11.json");
}

/// The same on the CUDA device. Races and reads of what was never written are looked for at smaller shapes.
fn three_steps_on_cuda(variant: Variant, name: &str) {
    let driver = driver::driver();
    driver.options("check=mem,sync");
    three_steps(Cuda::new(0, Precision::Fp32).unwrap(), variant, name);
    driver.options("check=all");
    driver.assert_clean(name);
}

#[test]
fn three_steps_of_cifar_on_cuda() {
    three_steps_on_cuda(Variant::Cifar, "cifar.json");
}

#[test]
fn three_steps_of_paper_k11_at_96_on_cuda() {
    three_steps_on_cuda(Variant::PaperK11, "paper-k11.json");
}

/// Runs a case of `operators.json` through the reference in f64: `forward` fills the output and
/// returns the input's gradient for the output's gradient.
fn operator(index: usize, case: &Value, run: impl Fn(&[f64], &[f64], &mut [f64], &mut [f64])) {
    let len: usize = case["shape"].as_array().unwrap().iter().map(integer).product();
    let list = |name: &str| case[name].as_array().unwrap().iter().map(number).collect::<Vec<f64>>();
    let (output, gradient) = (list("output"), list("gradient"));
    let x: Vec<f64> = uniforms(4, index as u32, len).map(|u| u * 4.0 - 2.0).collect();
    let dy: Vec<f64> = uniforms(5, index as u32, output.len()).map(|u| u * 2.0 - 1.0).collect();
    let (mut y, mut dx) = (vec![0.0; output.len()], vec![0.0; len]);
    run(&x, &dy, &mut y, &mut dx);
    for (ours, torch) in y.iter().zip(&output).chain(dx.iter().zip(&gradient)) {
        assert!((ours - torch).abs() <= 1e-12, "{case}: {ours} {torch}");
    }
}

#[test]
fn the_reference_defines_what_pytorch_computes() {
    let fixture = fixture("operators.json");
    for (i, (name, case)) in fixture.as_object().unwrap().iter().enumerate() {
        let dim = |i: usize| integer(&case["shape"][i]);
        let (batch, height, width, channels) = (dim(0), dim(1), dim(2), dim(3));
        let get = |key: &str| integer(&case[key]);
        match name.split('-').next().unwrap() {
            "lrn" => {
                let [alpha, beta, k] = ["alpha", "beta", "k"].map(|key| number(&case[key]));
                let shape = LrnShape { pixels: batch * height * width, channels, size: get("size"), alpha, beta, k };
                operator(i + 1, case, |x, dy, y, dx| {
                    reference::lrn_forward(LrnForward { shape: &shape, x, y });
                    reference::lrn_backward(LrnBackward { shape: &shape, x, dy, dx });
                });
            }
            "maxpool" => {
                let (kernel, stride, padding) = (get("kernel"), get("stride"), get("padding"));
                let shape = MaxPoolShape { batch, height, width, channels, kernel, stride, padding };
                operator(i + 1, case, |x, dy, y, dx| {
                    let mut argmax = vec![0; y.len()];
                    reference::maxpool_forward(MaxPoolForward { shape: &shape, x, y, argmax: &mut argmax });
                    reference::maxpool_backward(MaxPoolBackward { shape: &shape, dy, argmax: &argmax, mask: None, dx });
                });
            }
            "avgpool" => {
                let (output_height, output_width) = (get("output_height"), get("output_width"));
                let shape = AvgPoolShape { batch, height, width, channels, output_height, output_width };
                operator(i + 1, case, |x, dy, y, dx| {
                    reference::avgpool_forward(AvgPoolForward { shape: &shape, x, y });
                    reference::avgpool_backward(AvgPoolBackward { shape: &shape, dy, dx });
                });
            }
            "batchnorm" => {
                let (epsilon, momentum) = (number(&case["epsilon"]), number(&case["momentum"]));
                let shape = BatchNormShape { rows: batch * height * width, channels, epsilon, momentum };
                let start = |i: u32| uniforms(7, i, channels).map(|u| u + 0.5).collect::<Vec<f64>>();
                let same = |key: &str, ours: &[f64]| {
                    let torch = case[key].as_array().unwrap();
                    assert_eq!(ours.len(), torch.len());
                    for (ours, torch) in ours.iter().zip(torch) {
                        assert!((ours - number(torch)).abs() <= 1e-12, "{name} {key}: {ours} {torch}");
                    }
                };
                operator(i + 1, case, |x, dy, y, dx| {
                    let [w, b, mut mean, mut variance] = [0, 1, 2, 3].map(start);
                    let mut statistics = vec![0.0; 2 * channels];
                    reference::batchnorm_forward(BatchNormForward {
                        shape: &shape,
                        x,
                        w: &w,
                        b: &b,
                        relu: false,
                        running_mean: &mut mean,
                        running_variance: &mut variance,
                        statistics: &mut statistics,
                        y,
                    });
                    let (mut dw, mut db) = (vec![0.0; channels], vec![0.0; channels]);
                    reference::batchnorm_backward(BatchNormBackward {
                        shape: &shape,
                        x,
                        dy,
                        w: &w,
                        statistics: &statistics,
                        accumulate: false,
                        dw: &mut dw,
                        db: &mut db,
                        dx,
                    });
                    let mut evaluated = vec![0.0; x.len()];
                    reference::batchnorm_inference(BatchNormInference {
                        shape: &shape,
                        x,
                        w: &w,
                        b: &b,
                        mean: &mean,
                        variance: &variance,
                        relu: false,
                        y: &mut evaluated,
                    });
                    same("weight_gradient", &dw);
                    same("bias_gradient", &db);
                    same("running_mean", &mean);
                    same("running_var", &variance);
                    same("evaluated", &evaluated);
                });
            }
            other => panic!("no operator {other}"),
        }
    }
}

#[test]
fn decay_with_one_and_two_parameter_groups() {
    let fixture = fixture("sgd.json");
    let device = Reference::<f64>::default();
    for case in fixture.as_array().unwrap() {
        let flag = |name: &str| case[name].as_bool().unwrap();
        let (nesterov, decay_all) = (flag("nesterov"), flag("decay_all"));
        let optimizer = Sgd { learning_rate: 0.1, momentum: 0.9, weight_decay: 0.1, nesterov, decay_all };
        let list = |purpose, step| uniforms(purpose, step, 6).map(|u| u * 2.0 - 1.0).collect::<Vec<f64>>();
        let parameter = |(i, shape)| Parameter {
            name: ["weight", "bias"][i as usize].into(),
            shape,
            value: list(4, i),
            gradient: Some(Vec::new()),
            momentum: Some(vec![0.0; 6]),
            average: None,
            rate: 1.0,
        };
        let mut parameters = [(0, vec![2, 3]), (1, vec![6])].map(parameter);
        for step in 0..3 {
            for (i, parameter) in (0..).zip(&mut parameters) {
                parameter.gradient = Some(list(5, 2 * step + i));
            }
            device.sgd(&optimizer, &mut parameters.iter_mut()).unwrap();
        }
        for Parameter { name, value, .. } in &parameters {
            for (ours, torch) in value.iter().zip(case[name].as_array().unwrap()) {
                assert!((ours - number(torch)).abs() <= 1e-14, "{name} {optimizer:?}: {ours}, PyTorch {torch}");
            }
        }
    }
}

#[test]
fn the_reference_mixes_labels_as_pytorch_does() {
    let fixture = fixture("mixed_loss.json");
    let labels = [(7, 3), (3, 1)].map(|(a, b)| (0..6).map(|i| (a * i + b) % 10).collect::<Vec<u32>>());
    for (index, case) in fixture.as_array().unwrap().iter().enumerate() {
        let shape = LossShape { batch: 6, classes: 10, smoothing: number(&case["smoothing"]), divisor: 6 };
        let logits: Vec<f64> = uniforms(4, 100 + index as u32, 60).map(|u| u * 8.0 - 4.0).collect();
        let (mut losses, mut correct, mut gradient) = (vec![0.0; 6], vec![0.0; 6], vec![0.0; 60]);
        let weight = [number(&case["weight"])];
        let second = Some((&labels[1][..], &weight[..]));
        let to = Some(&mut gradient[..]);
        reference::softmax_cross_entropy(SoftmaxCrossEntropy {
            shape: &shape,
            logits: &logits,
            labels: &labels[0],
            second,
            class_weights: None,
            losses: &mut losses,
            correct: &mut correct,
            dlogits: to,
        });
        let expected = ["losses", "gradient"].into_iter().flat_map(|key| case[key].as_array().unwrap());
        for (ours, torch) in losses.iter().chain(&gradient).zip(expected) {
            assert!((ours - number(torch)).abs() <= 1e-12, "{case}: {ours} {torch}");
        }
    }
}

#[test]
fn the_reference_weighs_classes_as_pytorch_does() {
    let fixture = fixture("weighted_loss.json");
    let labels = [(7, 3), (3, 1)].map(|(a, b)| (0..6).map(|i| (a * i + b) % 10).collect::<Vec<u32>>());
    for (index, case) in fixture.as_array().unwrap().iter().enumerate() {
        let shape = LossShape { batch: 6, classes: 10, smoothing: number(&case["smoothing"]), divisor: 6 };
        let logits: Vec<f64> = uniforms(5, 100 + index as u32, 60).map(|u| u * 8.0 - 4.0).collect();
        let class_weights: Vec<f64> = uniforms(5, 200 + index as u32, 10).map(|u| u * 2.0).collect();
        let (mut losses, mut correct, mut gradient) = (vec![0.0; 6], vec![0.0; 6], vec![0.0; 60]);
        let share = case["share"].as_f64().map(|share| [share]);
        reference::softmax_cross_entropy(SoftmaxCrossEntropy {
            shape: &shape,
            logits: &logits,
            labels: &labels[0],
            second: share.as_ref().map(|share| (&labels[1][..], &share[..])),
            class_weights: Some(&class_weights),
            losses: &mut losses,
            correct: &mut correct,
            dlogits: Some(&mut gradient),
        });
        let expected = ["losses", "gradient"].into_iter().flat_map(|key| case[key].as_array().unwrap());
        for (ours, torch) in losses.iter().chain(&gradient).zip(expected) {
            assert!((ours - number(torch)).abs() <= 1e-12, "{case}: {ours} {torch}");
        }
    }
}
