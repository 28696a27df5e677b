//! The update of a linear layer's weight where its gradient is computed.

use alexnet_core::arguments::{LinearBackwardWeight, LinearForward};
use alexnet_core::device::cuda::{Buffer, Precision};
use alexnet_core::device::{LinearBackwardUpdate, Memory, Operators, Parameter};
use alexnet_core::shape::LinearShape;
use alexnet_core::{Cuda, Sgd};
use alexnet_kernels::Scaler;

use crate::support::{PRECISIONS, activations, floats, gpu, numbers, read};

const OPTIMIZER: Sgd = Sgd { learning_rate: 0.1, momentum: 0.9, weight_decay: 0.05, nesterov: true, decay_all: true };

/// Weight and bias.
fn parameters(device: &Cuda, s: &LinearShape) -> [Parameter<Buffer>; 2] {
    [(3, vec![s.outputs, s.inputs], 0.25), (5, vec![s.outputs], 0.5)].map(|(seed, shape, rate)| {
        let len = shape.iter().product();
        let mut value = device.weights(&shape).unwrap();
        device.write(&numbers(seed, len, Precision::Fp32), &mut value).unwrap();
        let gradient = Some(device.gradients(&shape).unwrap());
        let momentum = Some(floats(device, &numbers(seed + 1, len, Precision::Fp32)));
        Parameter { name: "p".into(), shape, value, gradient, momentum, average: None, rate }
    })
}

/// The parameters, their momentum, and what a forward pass makes of them: it reads the weight's copy.
fn results(device: &Cuda, s: &LinearShape, parameters: &[Parameter<Buffer>; 2], x: &Buffer) -> Vec<Vec<f32>> {
    let [w, b] = parameters.each_ref().map(|parameter| &parameter.value);
    let mut y = activations(device, &vec![0.0; s.output_len()]);
    device.linear_forward(LinearForward { shape: s, relu: false, dropout: None, x, w, b, y: &mut y }).unwrap();
    let momentum = parameters.iter().map(|parameter| parameter.momentum.as_ref().unwrap());
    [w, b, &y].into_iter().chain(momentum).map(|buffer| read(device, buffer)).collect()
}

#[test]
fn an_update_at_once_has_the_bits_of_gradient_then_update() {
    let gpu = gpu();
    // Rows that are whole packs and that are not; small, odd and large tiles; sums that are split.
    for [batch, inputs, outputs] in [[4, 64, 72], [5, 33, 10], [130, 136, 200], [64, 160, 9], [2000, 64, 72]] {
        let s = LinearShape { batch, inputs, outputs };
        for precision in PRECISIONS {
            for nesterov in [false, true] {
                let optimizer = Sgd { nesterov, decay_all: nesterov, ..OPTIMIZER };
                let found = gpu.run("linear_backward_update", precision, |device| {
                    let scale = if precision == Precision::Fp16 { 1024.0 } else { 1.0 };
                    device.set_scaler(&Scaler { scale, ..Scaler::default() }).unwrap();
                    let x = activations(device, &numbers(1, s.input_len(), precision));
                    let dy = activations(device, &numbers(2, s.output_len(), precision));
                    let [mut once, mut twice] = [(); 2].map(|()| parameters(device, &s));
                    let (sgd, shape, [weight, bias]) = (&optimizer, &s, &mut once);
                    let update = LinearBackwardUpdate { shape, x: &x, dy: &dy, sgd, weight, bias };
                    device.linear_backward_update(update).unwrap();
                    let [dw, db] = twice.each_mut().map(|parameter| parameter.gradient.as_mut().unwrap());
                    let gradient = LinearBackwardWeight { shape, x: &x, dy: &dy, accumulate: false, dw, db };
                    device.linear_backward_weight(gradient).unwrap();
                    device.sgd(sgd, &mut twice.iter_mut()).unwrap();
                    [once, twice].map(|parameters| results(device, shape, &parameters, &x)).concat()
                });
                assert!(found[0] != numbers(3, s.weight_len(), Precision::Fp32), "no update");
                assert!(found[1] != numbers(5, outputs, Precision::Fp32), "no update");
                let [once, twice] =
                    [&found[..5], &found[5..]].map(|all| all.iter().flatten().map(|x| x.to_bits()).collect::<Vec<_>>());
                assert!(once == twice, "{s:?} {precision:?} {optimizer:?}: other bits");
            }
        }
    }
}

#[test]
fn an_operand_that_is_not_finite_leaves_the_step_out() {
    let gpu = gpu();
    let device = gpu.device(Precision::Fp16);
    let s = LinearShape { batch: 3, inputs: 40, outputs: 24 };
    let numbers = |seed, len| numbers(seed, len, Precision::Fp16);
    // The arrays are longer than the batch is.
    let lens = [s.input_len(), s.output_len()];
    for bad in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
        for (operand, at, left_out) in
            [(0, 0, true), (0, lens[0] - 1, true), (1, 5, true), (1, lens[1] - 1, true), (0, lens[0], false)]
        {
            device.set_scaler(&Scaler { scale: 4.0, good_steps: 5, skipped: 1 }).unwrap();
            let [mut x, mut dy] = [(1, lens[0]), (2, lens[1])].map(|(seed, len)| numbers(seed, len + 7));
            [&mut x, &mut dy][operand][at] = bad;
            let [x, dy] = [x, dy].map(|values| activations(device, &values));
            let mut parameters = parameters(device, &s);
            let finite = activations(device, &numbers(1, lens[0]));
            let before = results(device, &s, &parameters, &finite);
            device.begin_update(&mut [(&x, lens[0]), (&dy, lens[1])].into_iter(), &mut std::iter::empty()).unwrap();
            let (sgd, [weight, bias]) = (&OPTIMIZER, &mut parameters);
            let update = LinearBackwardUpdate { shape: &s, x: &x, dy: &dy, sgd, weight, bias };
            device.linear_backward_update(update).unwrap();
            device.end_update().unwrap();
            let expected = match left_out {
                true => Scaler { scale: 2.0, good_steps: 0, skipped: 2 },
                false => Scaler { scale: 4.0, good_steps: 6, skipped: 1 },
            };
            assert_eq!(device.scaler().unwrap(), expected, "{bad} in operand {operand} at {at}");
            assert_eq!(results(device, &s, &parameters, &finite) == before, left_out);
        }
    }
    device.set_scaler(&Scaler { scale: 65536.0, good_steps: 0, skipped: 0 }).unwrap();
    gpu.assert_clean("linear_backward_update");
}
