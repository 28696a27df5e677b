//! The fully connected layer of the CPU against the definition in f64.

mod support;

use alexnet_core::arguments::{LinearBackwardData, LinearBackwardWeight, LinearForward};
use alexnet_core::device::Parameter;
use alexnet_core::device::{LinearBackwardUpdate, Memory, Operators};
use alexnet_core::random::Philox;
use alexnet_core::shape::{DropoutShape, LinearShape};
use alexnet_core::{Precision, Sgd, reference};
use proptest::prelude::*;
use support::*;

/// The bounds are those of the sums: rounding to bf16 is part of the definition, and the products of two bf16 are exact.
fn check(precision: Precision, s: &LinearShape, relu: bool, accumulate: bool, seed: u64) {
    let x = values(seed, s.input_len());
    let w = values(seed + 1, s.weight_len());
    let b = values(seed + 2, s.outputs);
    let dy = values(seed + 3, s.output_len());
    let (dw0, db0) = (values(seed + 4, s.weight_len()), values(seed + 5, s.outputs));

    let mask = |len| DropoutShape { len, rate: 0.3, philox: Philox::new(seed), purpose: 1, step: 2, offset: 5 };
    let (drop_y, drop_dx) = (mask(s.output_len()), mask(s.input_len()));
    let [drop_y, drop_dx] = [&drop_y, &drop_dx].map(|mask| seed.is_multiple_of(2).then_some(mask));

    // f64, and the sums of magnitudes by the same code.
    let run = |x: &[f64], w: &[f64], b: &[f64], dy: &[f64], dw0: &[f64], db0: &[f64], relu: bool| {
        let (mut y, mut dx) = (vec![0.0; s.output_len()], vec![0.0; s.input_len()]);
        let (mut dw, mut db) = (dw0.to_vec(), db0.to_vec());
        reference::linear_forward(LinearForward { shape: s, relu, dropout: drop_y, x, w, b, y: &mut y });
        let mask = relu.then_some(x);
        reference::linear_backward_data(LinearBackwardData { shape: s, dropout: drop_dx, dy, w, mask, dx: &mut dx });
        reference::linear_backward_weight(LinearBackwardWeight {
            shape: s,
            x,
            dy,
            accumulate,
            dw: &mut dw,
            db: &mut db,
        });
        [y, dx, dw, db]
    };
    let both = |precision| {
        let [x, w, dy] = [&x, &w, &dy].map(|v| rounded(v, precision));
        let m = magnitudes;
        [
            run(&wide(&x), &wide(&w), &wide(&b), &wide(&dy), &wide(&dw0), &wide(&db0), relu),
            run(&m(&x), &m(&w), &m(&b), &m(&dy), &m(&dw0), &m(&db0), false),
        ]
    };
    // db is no product: it sums dy as it is.
    let [[y, dx, dw, _], [y_sums, dx_sums, dw_sums, _]] = both(precision);
    let [[.., db], [.., db_sums]] = both(Precision::Fp32);
    let (expected, sums) = ([y, dx, dw, db], [y_sums, dx_sums, dw_sums, db_sums]);
    // Each product is rounded once at most, and each addition once: k products and a bias, k + 1 roundings. Dropout's factor
    // is one more.
    let terms = [s.inputs + 3, s.outputs + 2, s.batch + 2, s.batch + 2];

    let found = on_all_fused_in(precision, |cpu| {
        let [x, w, b, dy] = [&x, &w, &b, &dy].map(|v| array(cpu, v));
        let (mut y, mut dx) = (unwritten(cpu, s.output_len()), unwritten(cpu, s.input_len()));
        let (mut dw, mut db) = if accumulate {
            (array(cpu, &dw0), array(cpu, &db0))
        } else {
            (unwritten(cpu, s.weight_len()), unwritten(cpu, s.outputs))
        };
        cpu.linear_forward(LinearForward { shape: s, relu, dropout: drop_y, x: &x, w: &w, b: &b, y: &mut y }).unwrap();
        let mask = relu.then_some(&x);
        cpu.linear_backward_data(LinearBackwardData { shape: s, dropout: drop_dx, dy: &dy, w: &w, mask, dx: &mut dx })
            .unwrap();
        cpu.linear_backward_weight(LinearBackwardWeight {
            shape: s,
            x: &x,
            dy: &dy,
            accumulate,
            dw: &mut dw,
            db: &mut db,
        })
        .unwrap();
        [y, dx, dw, db].map(|v| v.to_vec()).into()
    });
    for (level, found) in &found {
        for (i, name) in ["y", "dx", "dw", "db"].iter().enumerate() {
            let bound: Vec<f64> = sums[i].iter().map(|sum| terms[i] as f64 * U * sum).collect();
            assert_within(&format!("{level} {precision:?} {s:?} {name}"), &found[i], &expected[i], &bound);
        }
    }
}

proptest! {
    #![proptest_config(cases(200))]
    #[test]
    fn any_shape(
        batch in 1usize..40, inputs in 1usize..90, outputs in 1usize..90, relu: bool, accumulate: bool, seed: u32,
    ) {
        for precision in PRECISIONS {
            check(precision, &LinearShape { batch, inputs, outputs }, relu, accumulate, seed.into());
        }
    }
}

#[test]
fn sizes_beyond_a_block() {
    for (batch, inputs, outputs) in [(1, 600, 10), (205, 260, 33), (33, 530, 515), (300, 40, 300)] {
        for precision in PRECISIONS {
            check(precision, &LinearShape { batch, inputs, outputs }, true, true, 7);
        }
    }
}

#[test]
fn nan_reaches_the_output_through_relu() {
    let s = LinearShape { batch: 3, inputs: 20, outputs: 19 };
    let mut x = values(1, s.input_len());
    x[25] = f32::NAN;
    for (level, found) in PRECISIONS.into_iter().flat_map(|precision| {
        on_all_fused_in(precision, |cpu| {
            let mut y = unwritten(cpu, s.output_len());
            let (w, b) = (array(cpu, &values(2, s.weight_len())), array(cpu, &values(3, s.outputs)));
            let x = array(cpu, &x);
            cpu.linear_forward(LinearForward { shape: &s, relu: true, dropout: None, x: &x, w: &w, b: &b, y: &mut y })
                .unwrap();
            vec![y.to_vec()]
        })
    }) {
        for (i, y) in found[0].iter().enumerate() {
            assert_eq!(y.is_nan(), i / s.outputs == 1, "{level} y[{i}] = {y}");
        }
    }
}

/// The first images of a batch get the same bits whatever follows them.
#[test]
fn neighbours_do_not_matter() {
    // Of one run of K, and of several.
    for inputs in [300, 1100] {
        let all = LinearShape { batch: 29, inputs, outputs: 70 };
        let (x, w, b) = (values(1, all.input_len()), values(2, all.weight_len()), values(3, all.outputs));
        let run = |precision, s: LinearShape| {
            on_all_fused_in(precision, |cpu| {
                let mut y = unwritten(cpu, s.output_len());
                cpu.linear_forward(LinearForward {
                    shape: &s,
                    x: &array(cpu, &x),
                    w: &array(cpu, &w),
                    b: &array(cpu, &b),
                    relu: false,
                    dropout: None,
                    y: &mut y,
                })
                .unwrap();
                vec![y.to_vec()]
            })
        };
        for precision in PRECISIONS {
            let whole = run(precision, all);
            for batch in [1, 2, 3, 4, 6, 7, 8, 12, 13] {
                for (some, all) in run(precision, LinearShape { batch, ..all }).iter().zip(&whole) {
                    assert_eq!(some.1[0][..], all.1[0][..some.1[0].len()], "{} {precision:?} batch {batch}", some.0);
                }
            }
        }
    }
}

#[test]
fn an_update_at_once_has_the_bits_of_gradient_then_update() {
    for (batch, inputs, outputs) in [(1, 33, 10), (5, 64, 50), (130, 70, 97)] {
        for (nesterov, decay_all, precision) in
            [(false, true, Precision::Fp32), (true, false, Precision::Fp32), (true, false, Precision::Bf16)]
        {
            let s = LinearShape { batch, inputs, outputs };
            let optimizer = Sgd { learning_rate: 0.1, momentum: 0.9, weight_decay: 0.01, nesterov, decay_all };
            let (x, dy) = (values(1, s.input_len()), values(2, s.output_len()));
            let (w, v) = (values(3, s.weight_len()), values(4, s.weight_len()));
            let found = on_all_fused_in(precision, |cpu| {
                let [x, dy] = [&x, &dy].map(|values| array(cpu, values));
                let parameter = |name: &str, shape: &[usize], values: [&[f32]; 2]| Parameter {
                    name: name.into(),
                    shape: shape.to_vec(),
                    value: array(cpu, values[0]),
                    gradient: Some(unwritten(cpu, shape.iter().product())),
                    momentum: Some(array(cpu, values[1])),
                    average: None,
                    rate: 1.0,
                };
                let parameters = || {
                    let weight = parameter("w", &[outputs, inputs], [&w, &v]);
                    [weight, parameter("b", &[outputs], [&w[..outputs], &v[..outputs]])]
                };
                let ([mut once, mut bias], mut twice) = (parameters(), parameters());
                cpu.linear_backward_update(LinearBackwardUpdate {
                    shape: &s,
                    x: &x,
                    dy: &dy,
                    sgd: &optimizer,
                    weight: &mut once,
                    bias: &mut bias,
                })
                .unwrap();
                let [dw, db] = twice.each_mut().map(|parameter| parameter.gradient.as_mut().unwrap());
                cpu.linear_backward_weight(LinearBackwardWeight {
                    shape: &s,
                    x: &x,
                    dy: &dy,
                    accumulate: false,
                    dw,
                    db,
                })
                .unwrap();
                cpu.sgd(&optimizer, &mut twice.iter_mut()).unwrap();
                let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                for (a, b) in [(&once, &twice[0]), (&bias, &twice[1])] {
                    assert_eq!(bits(&a.value), bits(&b.value), "{s:?} {optimizer:?} {}", cpu.name());
                    assert_eq!(bits(a.momentum.as_ref().unwrap()), bits(b.momentum.as_ref().unwrap()));
                }
                vec![once.value.to_vec()]
            });
            assert!(found.iter().all(|(_, found)| found[0] != w));
        }
    }
}
