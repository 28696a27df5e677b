use alexnet_core::device::Parameter;
use alexnet_core::device::cuda::{Buffer, Precision};
use alexnet_core::device::{Memory, Operators};
use alexnet_core::{Cuda, Sgd, reference};
use alexnet_kernels::Scaler;

use crate::support::{PRECISIONS, U, assert_close, floats, gpu, numbers, read, wide};

/// Around the kernel's chunk of 4096.
const LENGTHS: [usize; 6] = [1, 3, 4095, 4096, 4097, 10_001];

fn parameters(device: &Cuda, gradient_scale: f32) -> Vec<Parameter<Buffer>> {
    let parameter = |(i, &len): (usize, &usize)| {
        let i = i as u64;
        // Every other one is a bias.
        let shape = if i.is_multiple_of(2) { vec![1, len] } else { vec![len] };
        let mut value = device.weights(&shape).unwrap();
        device.write(&numbers(i, len, Precision::Fp32), &mut value).unwrap();
        let gradient = numbers(100 + i, len, Precision::Fp32).iter().map(|x| x * gradient_scale).collect::<Vec<_>>();
        Parameter {
            name: format!("p{i}"),
            shape,
            value,
            gradient: Some(floats(device, &gradient)),
            momentum: Some(floats(device, &numbers(200 + i, len, Precision::Fp32))),
            average: None,
            // Every third one has a rate of its own, as --lr-features gives.
            rate: if i.is_multiple_of(3) { 0.25 } else { 1.0 },
        }
    };
    // More than one launch takes.
    LENGTHS.iter().cycle().take(70).enumerate().map(parameter).collect()
}

/// The updates of a step.
fn update(device: &Cuda, optimizer: &Sgd, parameters: &mut [Parameter<Buffer>]) {
    let mut gradients = parameters.iter().filter_map(|parameter| parameter.gradient.as_ref());
    device.begin_update(&mut std::iter::empty(), &mut gradients).unwrap();
    device.sgd(optimizer, &mut parameters.iter_mut()).unwrap();
    device.end_update().unwrap();
}

#[test]
fn every_parameter_of_more_than_one_launch() {
    let gpu = gpu();
    for precision in PRECISIONS {
        for (nesterov, decay_all) in [(false, true), (true, true), (false, false)] {
            // So large a decay that a bias which wrongly has or lacks it shows.
            let optimizer = Sgd { learning_rate: 0.1, momentum: 0.9, weight_decay: 0.05, nesterov, decay_all };
            let scale = gpu.device(precision).scaler().unwrap().scale;
            let found = gpu.run("sgd", precision, |device| {
                device.set_scaler(&Scaler { scale, ..Scaler::default() }).unwrap();
                let mut parameters = parameters(device, scale);
                update(device, &optimizer, &mut parameters);
                parameters
                    .iter()
                    .flat_map(|p| [read(device, &p.value), read(device, p.momentum.as_ref().unwrap())])
                    .collect()
            });
            assert_eq!(found.len(), 140);
            for (i, &len) in LENGTHS.iter().cycle().take(70).enumerate() {
                let [w, g, v] = [0, 100, 200].map(|seed| wide(&numbers(seed + i as u64, len, Precision::Fp32)));
                let (mut new_w, mut new_v) = (w.clone(), v.clone());
                let optimizer =
                    if i % 2 == 0 || decay_all { optimizer } else { Sgd { weight_decay: 0.0, ..optimizer } };
                let rate = if i % 3 == 0 { 0.25 } else { 1.0 };
                let optimizer = Sgd { learning_rate: rate * optimizer.learning_rate, ..optimizer };
                reference::sgd(&optimizer, &mut new_w, &g, &mut new_v);
                // All terms of v; each is off by the rounding of its factor and of the operations it goes through.
                let all = |j: usize| g[j].abs() + 0.05 * w[j].abs() + 0.9 * v[j].abs();
                assert_close("v", &found[2 * i + 1], &new_v, |j| 6.0 * U * all(j));
                assert_close("w", &found[2 * i], &new_w, |j| {
                    U * new_w[j].abs() + 0.1 * 10.0 * U * (all(j) * 1.9 + g[j].abs())
                });
            }
        }
    }
}

#[test]
fn a_gradient_that_is_not_finite_leaves_the_step_out() {
    let gpu = gpu();
    let device = gpu.device(Precision::Fp16);
    let optimizer = Sgd { learning_rate: 0.1, momentum: 0.9, weight_decay: 0.0, nesterov: false, decay_all: true };
    for bad in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
        for at in [0, 2, 9_999, 10_000] {
            device.set_scaler(&Scaler { scale: 4.0, good_steps: 5, skipped: 1 }).unwrap();
            let mut parameters = parameters(device, 1.0);
            let last = parameters.iter_mut().rfind(|parameter| parameter.len() == 10_001).unwrap();
            let mut gradient = vec![1.0; last.len()];
            gradient[at] = bad;
            device.write(&gradient, last.gradient.as_mut().unwrap()).unwrap();
            update(device, &optimizer, &mut parameters);
            for (i, parameter) in parameters.iter().enumerate() {
                assert_eq!(read(device, &parameter.value), numbers(i as u64, parameter.len(), Precision::Fp32));
            }
            assert_eq!(device.scaler().unwrap(), Scaler { scale: 2.0, good_steps: 0, skipped: 2 });
        }
    }
    // Never below 1; ×2 after 2000 good steps.
    device.set_scaler(&Scaler { scale: 1.0, good_steps: 0, skipped: 0 }).unwrap();
    let mut bad = parameters(device, f32::INFINITY);
    update(device, &optimizer, &mut bad);
    assert_eq!(device.scaler().unwrap().scale, 1.0);
    device.set_scaler(&Scaler { scale: 8.0, good_steps: 1999, skipped: 0 }).unwrap();
    let mut good = parameters(device, 1.0);
    update(device, &optimizer, &mut good);
    assert_eq!(device.scaler().unwrap(), Scaler { scale: 16.0, good_steps: 0, skipped: 0 });
    device.set_scaler(&Scaler { scale: 65536.0, good_steps: 0, skipped: 0 }).unwrap();
    gpu.assert_clean("sgd");
}
