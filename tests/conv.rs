//! The convolution of the CPU against the definition in f64.

mod support;
mod winograd;

use alexnet_core::arguments::{ConvBackward, ConvBackwardData, ConvBackwardWeight, ConvForward};
use alexnet_core::device::{Memory, Operators};
use alexnet_core::shape::{ConvShape, Operation};
use alexnet_core::{Cpu, Precision, reference};
use proptest::prelude::*;
use support::*;
use winograd::{Results, winograd_magnitudes};

fn terms(s: &ConvShape) -> [usize; 4] {
    let area = s.kernel * s.kernel;
    let pixels = s.batch * s.output_height() * s.output_width();
    [area * s.channels / s.groups + 2, area * s.filters / s.groups + 1, pixels + 2, pixels + 2]
}

/// Random numbers in every precision.
fn check(s: &ConvShape, relu: bool, accumulate: bool, seed: u64) {
    let [x, w, dy] = [(0, s.input_len()), (1, s.weight_len()), (3, s.output_len())].map(|(i, n)| values(seed + i, n));
    check_operands(s, relu, accumulate, seed, [&x, &w, &dy], Precision::Fp32, true);
    check_operands(s, relu, accumulate, seed, [&x, &w, &dy], Precision::Bf16, false);
}

/// `exact` tells whether Winograd's transformations of x, w and dy are numbers of `precision`, but for their roundings in f32.
fn check_operands(
    s: &ConvShape,
    relu: bool,
    accumulate: bool,
    seed: u64,
    [x, w, dy]: [&[f32]; 3],
    precision: Precision,
    exact: bool,
) {
    let b = values(seed + 2, s.filters);
    let (dw0, db0) = (values(seed + 4, s.weight_len()), values(seed + 5, s.filters));
    let winograd = cpus()[0][0].uses_winograd(s);

    // f64, and the sums of magnitudes by the same code.
    let run = |x: &[f64], w: &[f64], b: &[f64], dy: &[f64], dw0: &[f64], db0: &[f64], relu: bool| -> Results {
        let (mut y, mut dx) = (vec![0.0; s.output_len()], vec![0.0; s.input_len()]);
        let (mut dw, mut db) = (dw0.to_vec(), db0.to_vec());
        reference::conv_forward(ConvForward { shape: s, x, w, b, relu, y: &mut y });
        reference::conv_backward_data(ConvBackwardData { shape: s, dy, w, mask: relu.then_some(x), dx: &mut dx });
        reference::conv_backward_weight(ConvBackwardWeight {
            shape: s,
            x,
            dy,
            accumulate,
            test: false,
            dw: &mut dw,
            db: &mut db,
        });
        [y, dx, dw, db]
    };
    let m = magnitudes;
    let both = |precision| {
        let [x, w, dy] = [x, w, dy].map(|v| rounded(v, precision));
        [
            run(&wide(&x), &wide(&w), &wide(&b), &wide(&dy), &wide(&dw0), &wide(&db0), relu),
            run(&m(&x), &m(&w), &m(&b), &m(&dy), &m(&dw0), &m(&db0), false),
        ]
    };
    // Where sums are direct, rounding their operands is part of the definition. db sums dy as it is.
    let [[y, dx, dw, _], [y_sums, dx_sums, dw_sums, _]] = both(if winograd { Precision::Fp32 } else { precision });
    let [[.., db], [.., db_sums]] = both(Precision::Fp32);
    let (expected, mut sums) = ([y, dx, dw, db], [y_sums, dx_sums, dw_sums, db_sums]);
    let mut terms = terms(s);
    if winograd {
        // The products' sums are as long as the channels, filters or tiles; the three transformations round at most
        // 24 times, and dx adds up to four tiles. An old gradient and the bias count once more.
        let tiles = s.batch * s.output_height().div_ceil(4) * s.output_width().div_ceil(4);
        let [y, dx, dw, _] = winograd_magnitudes(s, &m(x), &m(w), &m(&b), &m(dy));
        let old = if accumulate { m(&dw0) } else { vec![0.0; dw.len()] };
        let dw = dw.iter().zip(&old).map(|(a, b)| a + b).collect();
        sums = [y, dx, dw, sums[3].clone()];
        terms = [s.channels / s.groups + 24, s.filters / s.groups + 28, tiles + 25, terms[3]];
    }

    // Two operands are rounded to eight bits.
    let operands = if winograd && !exact { 2.0 / 256.0 + 1.0 / 65536.0 } else { 0.0 };

    let operators = |cpu: &Cpu| {
        let [x, w, b, dy] = [x, w, &b, dy].map(|v| array(cpu, v));
        let (mut y, mut dx) = (unwritten(cpu, s.output_len()), unwritten(cpu, s.input_len()));
        let (mut dw, mut db) = if accumulate {
            (array(cpu, &dw0), array(cpu, &db0))
        } else {
            (unwritten(cpu, s.weight_len()), unwritten(cpu, s.filters))
        };
        cpu.conv_forward(ConvForward { shape: s, x: &x, w: &w, b: &b, relu, y: &mut y }).unwrap();
        let mask = relu.then_some(&x);
        cpu.conv_backward_data(ConvBackwardData { shape: s, dy: &dy, w: &w, mask, dx: &mut dx }).unwrap();
        cpu.conv_backward_weight(ConvBackwardWeight {
            shape: s,
            x: &x,
            dy: &dy,
            accumulate,
            test: false,
            dw: &mut dw,
            db: &mut db,
        })
        .unwrap();
        // Both gradients in one go are the same bits.
        let both = if accumulate {
            [&dw0, &db0].map(|v| array(cpu, v))
        } else {
            [s.weight_len(), s.filters].map(|n| unwritten(cpu, n))
        };
        let ([mut dw_too, mut db_too], mut dx_too) = (both, unwritten(cpu, s.input_len()));
        cpu.conv_backward(ConvBackward {
            shape: s,
            x: &x,
            w: &w,
            dy: &dy,
            accumulate,
            test: false,
            masks: relu,
            dw: &mut dw_too,
            db: &mut db_too,
            dx: &mut dx_too,
        })
        .unwrap();
        for (name, one, other) in [("dx", &dx, &dx_too), ("dw", &dw, &dw_too), ("db", &db, &db_too)] {
            assert!(one.iter().zip(other.iter()).all(|(a, b)| a.to_bits() == b.to_bits()), "{name} of {s:?}");
        }
        [y, dx, dw, db].map(|v| v.to_vec()).into()
    };
    // Winograd's transformations do channels beyond whole vectors one by one, without a fused multiply-add.
    let whole = [s.channels, s.filters].iter().all(|n| (n / s.groups).is_multiple_of(16));
    let found = match whole || !winograd {
        true => on_all_fused_in(precision, operators),
        false => on_all_in(precision, operators),
    };
    for (level, found) in &found {
        for (i, name) in ["y", "dx", "dw", "db"].iter().enumerate() {
            let operands = if *name == "db" { 0.0 } else { operands };
            let factor = operands + terms[i] as f64 * U * (1.0 + operands);
            let bound: Vec<f64> = sums[i].iter().map(|sum| factor * sum).collect();
            assert_within(&format!("{level} {precision:?} {s:?} {name}"), &found[i], &expected[i], &bound);
        }
    }
}

proptest! {
    #![proptest_config(cases(300))]
    #[test]
    fn any_shape(
        batch in 1usize..5, height in 1usize..12, width in 1usize..12, channels in 1usize..7, filters in 1usize..9,
        kernel in 1usize..6, stride in 1usize..5, padding in 0usize..4, groups in 1usize..4,
        relu: bool, accumulate: bool, seed: u32,
    ) {
        let s = ConvShape {
            batch, height, width, channels: channels * groups, filters: filters * groups, kernel, stride, padding, groups,
        };
        prop_assume!(s.output_height() > 0 && s.output_width() > 0);
        check(&s, relu, accumulate, seed.into());
    }
}

/// Shapes that Winograd's algorithm is used for.
fn winograd_shapes() -> impl Strategy<Value = ConvShape> {
    let sizes = (1usize..5, 2usize..14, 2usize..14, 4usize..40, 4usize..40, 0usize..3, 1usize..3);
    let shapes = sizes.prop_map(|(batch, height, width, channels, filters, padding, groups)| {
        let (channels, filters) = (channels * groups, filters * groups);
        ConvShape { batch, height, width, channels, filters, kernel: 3, stride: 1, padding, groups }
    });
    shapes.prop_filter("not for Winograd's algorithm", |s| cpus()[0][0].uses_winograd(s))
}

proptest! {
    #![proptest_config(cases(200))]
    #[test]
    fn winograd_of_any_shape(s in winograd_shapes(), relu: bool, accumulate: bool, seed: u32) {
        check(&s, relu, accumulate, seed.into());
    }
}

proptest! {
    #![proptest_config(cases(100))]
    /// In bf16, of numbers whose transformations are whole numbers of at most eight bits: so the bound is that of f32, which the
    /// roundings of a wrong operand would leave.
    #[test]
    fn winograd_in_bf16_of_exact_operands(s in winograd_shapes(), relu: bool, accumulate: bool, seed: u32) {
        // −1, 0 and 1, and for the weights 576 of these: G has denominators of 24.
        let signs = |i: u64, len, factor: f32| -> Vec<f32> {
            values(u64::from(seed) + i, len).iter().map(|x| (x * 1.5).round().clamp(-1.0, 1.0) * factor).collect()
        };
        let (x, w, dy) = (signs(0, s.input_len(), 1.0), signs(1, s.weight_len(), 576.0), signs(3, s.output_len(), 1.0));
        check_operands(&s, relu, accumulate, seed.into(), [&x, &w, &dy], Precision::Bf16, true);
    }
}

/// Its gradient is zero, though no tile of an output brings it.
#[test]
fn winograd_of_an_image_smaller_than_the_window() {
    let (height, width, channels, filters, kernel) = (2, 2, 4, 4, 3);
    let s = ConvShape { batch: 1, height, width, channels, filters, kernel, stride: 1, padding: 0, groups: 1 };
    check(&s, false, false, 0);
}

#[test]
fn winograd_of_whole_vectors() {
    for (channels, filters, groups) in [(16, 48, 1), (64, 32, 2)] {
        let s =
            ConvShape { batch: 3, height: 9, width: 7, channels, filters, kernel: 3, stride: 1, padding: 1, groups };
        assert!(cpus()[0][0].uses_winograd(&s));
        check(&s, true, false, 6);
    }
}

/// More tiles than are in flight at once, and maps that fill their tiles.
#[test]
fn winograd_in_several_runs() {
    let s = ConvShape {
        batch: 130,
        height: 8,
        width: 8,
        channels: 5,
        filters: 18,
        kernel: 3,
        stride: 1,
        padding: 1,
        groups: 1,
    };
    check(&s, true, true, 4);
    check(&ConvShape { batch: 3, height: 100, width: 96, channels: 4, filters: 4, ..s }, false, false, 5);
}

#[test]
fn winograd_can_be_switched_off() {
    let (height, width, channels, filters, kernel) = (7, 9, 8, 20, 3);
    let s = ConvShape { batch: 2, height, width, channels, filters, kernel, stride: 1, padding: 1, groups: 1 };
    let (x, w, b) = (values(1, s.input_len()), values(2, s.weight_len()), values(3, s.filters));
    let forward = |cpu: &Cpu| {
        let [x, w, b] = [&x, &w, &b].map(|v| array(cpu, v));
        let mut y = unwritten(cpu, s.output_len());
        cpu.prepare(&[Operation::Conv(s)], false).unwrap();
        cpu.conv_forward(ConvForward { shape: &s, x: &x, w: &w, b: &b, relu: false, y: &mut y }).unwrap();
        y.to_vec()
    };
    let mut cpu = Cpu::new(2).unwrap();
    assert!(cpu.uses_winograd(&s));
    let by_winograd = forward(&cpu);
    cpu.set_winograd(false);
    assert!(!cpu.uses_winograd(&s));
    let direct = forward(&cpu);
    assert_ne!(direct, by_winograd);
    // The bound of the direct sums, to which the other results are not held.
    let exact = |x: &[f64], w: &[f64], b: &[f64]| {
        let mut y = vec![0.0; s.output_len()];
        reference::conv_forward(ConvForward { shape: &s, x, w, b, relu: false, y: &mut y });
        y
    };
    let sums = exact(&magnitudes(&x), &magnitudes(&w), &magnitudes(&b));
    let bound: Vec<f64> = sums.iter().map(|sum| terms(&s)[0] as f64 * U * sum).collect();
    assert_within("y", &direct, &exact(&wide(&x), &wide(&w), &wide(&b)), &bound);
}

/// The first images of a batch get the same bits whatever follows them: with few tiles U is not stored.
#[test]
fn neighbours_do_not_matter() {
    for (side, channels, filters, groups) in [(4, 32, 64, 1), (4, 37, 41, 1), (8, 40, 76, 2), (7, 20, 16, 1)] {
        let all = ConvShape {
            batch: 9,
            height: side,
            width: side,
            channels,
            filters,
            kernel: 3,
            stride: 1,
            padding: 1,
            groups,
        };
        assert!(cpus()[0][0].uses_winograd(&all));
        let (x, w, b) = (values(1, all.input_len()), values(2, all.weight_len()), values(3, filters));
        for precision in PRECISIONS {
            let run = |s: ConvShape| {
                on_all_in(precision, |cpu| {
                    let mut y = unwritten(cpu, s.output_len());
                    let [x, w, b] = [&x, &w, &b].map(|v| array(cpu, v));
                    cpu.conv_forward(ConvForward { shape: &s, x: &x, w: &w, b: &b, relu: false, y: &mut y }).unwrap();
                    vec![y.to_vec()]
                })
            };
            let whole = run(all);
            for batch in [1, 2, 4, 5] {
                for (some, all) in run(ConvShape { batch, ..all }).iter().zip(&whole) {
                    assert_eq!(some.1[0][..], all.1[0][..some.1[0].len()], "{} {precision:?} batch {batch}", some.0);
                }
            }
        }
    }
}

/// U is kept by the contents of the weights: a change of them must show.
#[test]
fn new_weights_are_seen() {
    let s = ConvShape {
        batch: 9,
        height: 4,
        width: 4,
        channels: 4,
        filters: 4,
        kernel: 3,
        stride: 1,
        padding: 1,
        groups: 1,
    };
    for cpus in cpus() {
        let cpu = &cpus[1];
        assert!(cpu.uses_winograd(&s));
        let (x, b) = (array(cpu, &values(1, s.input_len())), array(cpu, &[0.0; 4]));
        let (mut y, mut w) = (unwritten(cpu, s.output_len()), array(cpu, &values(2, s.weight_len())));
        cpu.conv_forward(ConvForward { shape: &s, x: &x, w: &w, b: &b, relu: false, y: &mut y }).unwrap();
        let first = y.to_vec();
        cpu.write(&values(3, s.weight_len()), &mut w).unwrap();
        cpu.conv_forward(ConvForward { shape: &s, x: &x, w: &w, b: &b, relu: false, y: &mut y }).unwrap();
        assert_ne!(first[..], y[..]);
        let fresh = array(cpu, &values(3, s.weight_len()));
        let mut again = unwritten(cpu, s.output_len());
        cpu.conv_forward(ConvForward { shape: &s, x: &x, w: &fresh, b: &b, relu: false, y: &mut again }).unwrap();
        assert_eq!(again[..], y[..]);
    }
}

#[test]
fn nan_reaches_the_output_through_relu() {
    for (channels, padding) in [(4, 1), (3, 1)] {
        let s = ConvShape {
            batch: 2,
            height: 8,
            width: 8,
            channels,
            filters: 20,
            kernel: 3,
            stride: 1,
            padding,
            groups: 1,
        };
        let mut x = values(1, s.input_len());
        x[9 * s.channels + 1] = f32::NAN; // (1, 1) of the first image: windows 0..=2 in both directions see it.
        let (w, b) = (values(2, s.weight_len()), values(3, s.filters));
        for (level, found) in PRECISIONS.into_iter().flat_map(|precision| {
            on_all_in(precision, |cpu| {
                let mut y = array(cpu, &vec![0.0; s.output_len()]);
                cpu.conv_forward(ConvForward {
                    shape: &s,
                    x: &array(cpu, &x),
                    w: &array(cpu, &w),
                    b: &array(cpu, &b),
                    relu: true,
                    y: &mut y,
                })
                .unwrap();
                vec![y.to_vec()]
            })
        }) {
            let image = s.output_len() / 2;
            for (i, y) in found[0].iter().enumerate() {
                let (n, p, q) = (i / image, i % image / s.filters / 8, i / s.filters % 8);
                if n == 0 && p <= 2 && q <= 2 {
                    assert!(y.is_nan(), "{level} {s:?} y[{n}, {p}, {q}] = {y}");
                }
                assert!(n == 0 || !y.is_nan(), "{level} {s:?}: the NaN is in the other image");
            }
        }
    }
}

#[test]
fn the_networks_own_windows() {
    let s = ConvShape {
        batch: 2,
        height: 9,
        width: 9,
        channels: 3,
        filters: 20,
        kernel: 3,
        stride: 2,
        padding: 1,
        groups: 1,
    };
    check(&s, true, false, 1);
    check(&ConvShape { height: 31, width: 23, kernel: 11, stride: 4, padding: 2, ..s }, true, false, 2);
    check(&ConvShape { channels: 36, filters: 34, kernel: 5, stride: 1, padding: 2, groups: 2, ..s }, false, true, 3);
}
