//! The weights of networks for inference on the CPU: in fp32 the bits of other networks; in half precision those of fp32 with rounded
//! weights, and the definition in f64 within a derived bound.

mod support;
mod winograd;

use alexnet_core::architecture::Operation;
use alexnet_core::arguments::{ConvForward, LinearForward};
use alexnet_core::device::cpu::{Buffer, Level};
use alexnet_core::device::{Memory, Operators};
use alexnet_core::shape::{ConvShape, LinearShape};
use alexnet_core::{Cpu, Error, Precision, reference};
use proptest::prelude::*;
use support::*;
use winograd::winograd_magnitudes;

fn rounded_to_half(w: &[f32]) -> Vec<f32> {
    w.iter().map(|&w| half::f16::from_f32(w).to_f32()).collect()
}

/// How far rounding can move a weight: half the distance of two numbers with eleven bits, or of two subnormal ones.
fn moved(w: &[f32]) -> Vec<f64> {
    w.iter().map(|&w| (f64::from(w).abs() / 2048.0).max((-25f64).exp2())).collect()
}

/// The bits of `run` with weights in half precision, which are those of rounded weights in fp32, as they are in networks for
/// training and for inference, at every level and number of threads. `run` gets the device and the weights.
fn same_bits(shape: &[usize], w: &[f32], run: impl Fn(&Cpu, &Buffer) -> Vec<f32>) -> Vec<Vec<f32>> {
    let w_rounded = rounded_to_half(w);
    let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    // In pieces, as from a file.
    let stored = |cpu: &Cpu, w: &[f32], piece: usize| {
        let mut stored = cpu.inference_weights(shape).unwrap();
        for start in (0..w.len()).step_by(piece) {
            cpu.write_at(&w[start..w.len().min(start + piece)], &mut stored, start).unwrap();
        }
        let mut read = vec![0.0; w.len()];
        cpu.read(&stored, &mut read).unwrap();
        assert_eq!(bits(&read), bits(&w_rounded));
        stored
    };
    let check = |level, full: &[Cpu]| {
        let expected = run(&full[0], &array(&full[0], &w_rounded));
        for (threads, full) in (1..).zip(full) {
            let mut half = Cpu::with(threads, level).unwrap();
            half.set_half_weights(true);
            for (cpu, w) in [(full, &w_rounded[..]), (&half, w)] {
                let found = run(cpu, &stored(cpu, w, if threads == 1 { w.len() } else { 37 }));
                assert!(bits(&found) == bits(&expected), "{} {shape:?}", cpu.name());
            }
        }
        expected
    };
    Level::available().into_iter().zip(cpus()).map(|(level, full)| check(level, full)).collect()
}

fn check_linear(s: &LinearShape, relu: bool, seed: u64) {
    let [x, w, b] = [(0, s.input_len()), (1, s.weight_len()), (2, s.outputs)].map(|(i, len)| values(seed + i, len));
    let found = same_bits(&[s.outputs, s.inputs], &w, |cpu, w| {
        let [x, b] = [&x, &b].map(|v| array(cpu, v));
        let mut y = unwritten(cpu, s.output_len());
        cpu.linear_forward(LinearForward { shape: s, relu, dropout: None, x: &x, w, b: &b, y: &mut y }).unwrap();
        y.to_vec()
    });
    let exact = |x: &[f64], w: &[f64], b: &[f64], relu| {
        let mut y = vec![0.0; s.output_len()];
        reference::linear_forward(LinearForward { shape: s, relu, dropout: None, x, w, b, y: &mut y });
        y
    };
    let m = magnitudes;
    let sums = exact(&m(&x), &m(&rounded_to_half(&w)), &m(&b), false);
    let weights = exact(&m(&x), &moved(&w), &vec![0.0; s.outputs], false);
    let bound: Vec<f64> =
        sums.iter().zip(&weights).map(|(sum, moved)| (s.inputs + 3) as f64 * U * sum + moved).collect();
    for found in found {
        assert_within(&format!("{s:?}"), &found, &exact(&wide(&x), &wide(&w), &wide(&b), relu), &bound);
    }
}

fn check_conv(s: &ConvShape, relu: bool, seed: u64) {
    let [x, w, b] = [(0, s.input_len()), (1, s.weight_len()), (2, s.filters)].map(|(i, len)| values(seed + i, len));
    let found = same_bits(&[s.filters, s.channels / s.groups, s.kernel, s.kernel], &w, |cpu, w| {
        let [x, b] = [&x, &b].map(|v| array(cpu, v));
        let mut y = unwritten(cpu, s.output_len());
        cpu.conv_forward(ConvForward { shape: s, relu, x: &x, w, b: &b, y: &mut y }).unwrap();
        y.to_vec()
    });
    let exact = |x: &[f64], w: &[f64], b: &[f64], relu| {
        let mut y = vec![0.0; s.output_len()];
        reference::conv_forward(ConvForward { shape: s, relu, x, w, b, y: &mut y });
        y
    };
    let (m, w_rounded) = (magnitudes, rounded_to_half(&w));
    // Rounded weights are another convolution, whose products and sums err as in fp32.
    let area = s.kernel * s.kernel * s.channels / s.groups;
    let (terms, sums) = match cpus()[0][0].uses_winograd(s) {
        true => {
            let no_dy = vec![0.0; s.output_len()];
            let [y, ..] = winograd_magnitudes(s, &m(&x), &m(&w_rounded), &m(&b), &no_dy);
            (s.channels / s.groups + 24, y)
        }
        false => (area + 2, exact(&m(&x), &m(&w_rounded), &m(&b), false)),
    };
    let weights = exact(&m(&x), &moved(&w), &vec![0.0; s.filters], false);
    let bound: Vec<f64> = sums.iter().zip(&weights).map(|(sum, moved)| terms as f64 * U * sum + moved).collect();
    for found in found {
        assert_within(&format!("{s:?}"), &found, &exact(&wide(&x), &wide(&w), &wide(&b), relu), &bound);
    }
}

proptest! {
    #![proptest_config(cases(100))]
    #[test]
    fn any_linear(batch in 1usize..20, inputs in 1usize..90, outputs in 1usize..90, relu: bool, seed: u32) {
        check_linear(&LinearShape { batch, inputs, outputs }, relu, seed.into());
    }
    #[test]
    fn any_conv(
        batch in 1usize..8, height in 3usize..10, width in 3usize..10, channels in 1usize..24, filters in 1usize..40,
        kernel in 1usize..4, stride in 1usize..3, padding in 0usize..2, groups in 1usize..3, relu: bool, seed: u32,
    ) {
        let (channels, filters) = (channels * groups, filters * groups);
        let s = ConvShape { batch, height, width, channels, filters, kernel, stride, padding, groups };
        check_conv(&s, relu, seed.into());
    }
}

#[test]
fn sizes_beyond_a_block() {
    for (batch, inputs, outputs) in [(1, 600, 10), (3, 1100, 300), (8, 530, 515), (40, 1100, 75)] {
        check_linear(&LinearShape { batch, inputs, outputs }, true, 7);
    }
    // With few tiles, and with U.
    for (batch, groups) in [(1, 1), (6, 1), (4, 2)] {
        let (height, width, channels, filters) = (4, 4, 96 * groups, 80 * groups);
        let (kernel, stride, padding) = (3, 1, 1);
        let s = ConvShape { batch, height, width, channels, filters, kernel, stride, padding, groups };
        assert!(cpus()[0][0].uses_winograd(&s));
        check_conv(&s, true, 9);
    }
}

#[test]
fn what_half_precision_cannot_do_is_refused() {
    let mut cpu = Cpu::new(1).unwrap();
    cpu.set_half_weights(true);
    let mut w = cpu.inference_weights(&[2, 3]).unwrap();
    for (x, fits) in
        [(65504.0, true), (-65519.99, true), (65520.0, false), (f32::NAN, false), (f32::NEG_INFINITY, false)]
    {
        let written = cpu.write_at(&[1.0, x], &mut w, 2);
        assert!(
            if fits { written.is_ok() } else { matches!(written, Err(Error::Overflow { .. })) },
            "{x}: {written:?}"
        );
    }
    assert!(cpu.write_at(&[0.0; 2], &mut w, 5).is_err());
    assert!(cpu.read_at(&w, 5, &mut [0.0; 2]).is_err());
    assert!(cpu.snapshot(&w, None).is_err());
    assert!(w.is_half());
    // Biases stay as they are.
    assert!(!cpu.inference_weights(&[4]).unwrap().is_half());

    let s = LinearShape { batch: 1, inputs: 3, outputs: 2 };
    assert!(cpu.prepare(&[Operation::Linear(s)], true).is_err());
    assert!(cpu.prepare(&[Operation::Linear(s)], false).is_ok());
    let (x, b, mut y) = (array(&cpu, &[1.0; 3]), array(&cpu, &[0.0; 2]), array(&cpu, &[0.0; 2]));
    // Of another shape.
    let other = LinearShape { batch: 1, inputs: 2, outputs: 2 };
    let wrong = LinearForward { shape: &other, relu: false, dropout: None, x: &x, w: &w, b: &b, y: &mut y };
    assert!(cpu.linear_forward(wrong).is_err());
    cpu.set_precision(Precision::Bf16).unwrap();
    assert!(cpu.prepare(&[Operation::Linear(s)], false).is_err());
}
