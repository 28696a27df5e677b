//! gemm, the column sums and the fully connected layer against their definition in f64.

mod driver;

use alexnet_core::arguments::{LinearBackwardData, LinearBackwardWeight, LinearForward};
use alexnet_core::random::Philox;
use alexnet_core::reference;
use alexnet_core::shape::{DropoutShape, LinearShape};
use alexnet_kernels::{Epilogue, Gemm, Number, Precision, Transpose};
use driver::{absolute, assert_close, bound, floats, numbers, pick, read, roundoff, stored_array, wide};

/// C and the sums of the products' absolute values.
fn product(gemm: &Gemm, a: &[f32], b: &[f32]) -> (Vec<f64>, Vec<f64>) {
    let Gemm { transpose, m, n, k } = *gemm;
    let (mut c, mut sum) = (vec![0.0; m * n], vec![0.0; m * n]);
    for i in 0..m {
        for j in 0..n {
            for l in 0..k {
                let a = f64::from(if transpose == Transpose::Tn { a[l * m + i] } else { a[i * k + l] });
                let b = f64::from(if transpose == Transpose::Nt { b[j * k + l] } else { b[l * n + j] });
                c[i * n + j] += a * b;
                sum[i * n + j] += (a * b).abs();
            }
        }
    }
    (c, sum)
}

fn check(gemm: Gemm, precision: Precision, seed: u64) {
    match gemm.transpose {
        Transpose::Tn => check_gradients(gemm, precision, seed),
        _ => check_epilogue(gemm, precision, seed),
    }
}

fn check_epilogue(gemm: Gemm, precision: Precision, seed: u64) {
    let driver = driver::driver();
    let Gemm { m, n, k, .. } = gemm;
    let [a, b] = [numbers(seed, m * k, precision), numbers(seed + 1, k * n, precision)];
    let (bias, old) = (numbers(seed + 2, n, Precision::Fp32), numbers(seed + 3, m * n, precision));
    let output = numbers(seed + 4, m * n, precision);
    let (product, sum) = product(&gemm, &a, &b);
    let philox = Philox::new(0x1234_5678_9abc_def0);
    let (purpose, step, offset) = (0x105, 7, 3);
    let drops = DropoutShape { len: m * n, rate: 0.4, philox, purpose, step, offset };
    for steps in ["", "bias relu", "accumulate", "bias relu dropout", "dropout mask"] {
        let [with_bias, accumulate, relu, drop, masks] =
            ["bias", "accumulate", "relu", "dropout", "mask"].map(|step| steps.contains(step));
        let what = format!("{gemm:?} {precision:?} {steps}");
        let found = driver.run(&what, precision, |kernels| {
            let [a, b, output] = [&a, &b, &output].map(|x| stored_array(kernels, x));
            let mut c = stored_array(kernels, &old);
            let (bias, mut workspace) =
                (floats(kernels, &bias), floats(kernels, &vec![0.0; kernels.gemm_workspace(&gemm)]));
            let mut step_array = kernels.zeros(Number::U32, 1).unwrap();
            kernels.write(&[step], &mut step_array).unwrap();
            let epilogue = Epilogue {
                bias: with_bias.then_some(&bias),
                accumulate,
                relu,
                dropout: drop.then_some((&drops, &step_array)),
                mask: masks.then_some(&output),
            };
            kernels.gemm(&gemm, &a, &b, &epilogue, &mut c, &mut workspace).unwrap();
            vec![read(kernels, &c)]
        });
        let mut expected = product.clone();
        let mut total = sum.clone();
        for (i, (x, total)) in expected.iter_mut().zip(&mut total).enumerate() {
            if with_bias {
                *x += f64::from(bias[i % n]);
                *total += f64::from(bias[i % n]).abs();
            }
            if accumulate {
                *x += f64::from(old[i]);
                *total += f64::from(old[i]).abs();
            }
            if relu {
                *x = x.max(0.0);
            }
            if drop {
                *x *= f64::from(drops.factor(i));
                *total *= f64::from(drops.scale());
            }
            if masks && output[i] <= 0.0 {
                (*x, *total) = (0.0, 0.0);
            }
        }
        assert_close(&what, &found[0], &expected, |i| {
            let error = bound(k, total[i], precision);
            error + roundoff(expected[i].abs() + error, precision.storage())
        });
    }
}

fn check_gradients(gemm: Gemm, precision: Precision, seed: u64) {
    let driver = driver::driver();
    let Gemm { m, n, k, .. } = gemm;
    let [a, b] = [numbers(seed, m * k, precision), numbers(seed + 1, k * n, precision)];
    let [old, old_sums] = [m * n, m].map(|len| numbers(seed + 2, len, Precision::Fp32));
    let (product, total) = product(&gemm, &a, &b);
    let column = |j: usize, f: fn(f64) -> f64| (0..k).map(|i| f(f64::from(a[i * m + j]))).sum::<f64>();
    for accumulate in [false, true] {
        let what = format!("{gemm:?} {precision:?} accumulate {accumulate}");
        let found = driver.run(&what, precision, |kernels| {
            let [a, b] = [&a, &b].map(|x| stored_array(kernels, x));
            let [mut c, mut sums] = [&old, &old_sums].map(|x| floats(kernels, x));
            let mut workspace = floats(kernels, &vec![0.0; kernels.gemm_workspace(&gemm)]);
            kernels.gemm_gradients(&gemm, [&a, &b], accumulate, &mut c, &mut sums, &mut workspace).unwrap();
            vec![read(kernels, &c), read(kernels, &sums)]
        });
        let before = |old: f32| if accumulate { f64::from(old) } else { 0.0 };
        let expected: Vec<f64> = product.iter().zip(&old).map(|(x, &old)| x + before(old)).collect();
        assert_close(&what, &found[0], &expected, |i| bound(k, total[i] + before(old[i]).abs(), precision));
        let expected: Vec<f64> = (0..m).map(|j| column(j, |x| x) + before(old_sums[j])).collect();
        let error = |j| bound(k, column(j, f64::abs) + before(old_sums[j]).abs(), Precision::Fp32);
        assert_close(&format!("sums of {what}"), &found[1], &expected, error);
    }
}

const TRANSPOSES: [Transpose; 3] = [Transpose::Nn, Transpose::Nt, Transpose::Tn];

#[test]
fn odd_shapes() {
    for (t, transpose) in TRANSPOSES.into_iter().enumerate() {
        for precision in Precision::ALL {
            for round in 0..3 {
                let seed = 100 * t as u64 + 10 * round;
                let [m, n, k] = [0, 1, 2].map(|i| pick(seed + precision as u64, i, 1, 90));
                check(Gemm { transpose, m, n, k }, precision, seed);
            }
            check(Gemm { transpose, m: 1, n: 1, k: 1 }, precision, 1);
        }
    }
}

#[test]
fn rows_of_whole_packs_in_small_and_large_tiles() {
    for (t, transpose) in TRANSPOSES.into_iter().enumerate() {
        for precision in Precision::ALL {
            for (m, n, k) in [(8, 16, 24), (40, 72, 136), (136, 152, 40), (72, 200, 328), (16, 24, 2008)] {
                check(Gemm { transpose, m, n, k }, precision, 1000 + t as u64);
            }
        }
    }
}

#[test]
fn each_tile_once() {
    for (t, transpose) in TRANSPOSES.into_iter().enumerate() {
        for precision in Precision::ALL {
            for (m, n, k) in [(136, 72, 104), (24, 40, 72), (19, 21, 23)] {
                check(Gemm { transpose, m, n, k }, precision, 2000 + t as u64);
            }
        }
    }
}

#[test]
fn devices_with_fewer_instructions() {
    driver::again_on(&["t4", "v100"], "each_tile_once");
}

#[test]
fn empty_sums_and_outputs() {
    for transpose in TRANSPOSES {
        check(Gemm { transpose, m: 5, n: 6, k: 0 }, Precision::Fp32, 3);
        check(Gemm { transpose, m: 0, n: 6, k: 5 }, Precision::Fp32, 3);
    }
}

/// Sums of many chunks, which are added in two steps, and in gradients those of the bias with them.
#[test]
fn sums_of_many_chunks() {
    for precision in [Precision::Fp32, Precision::Fp16] {
        for (m, n, k) in [(8, 16, 4000), (72, 8, 2100), (3, 5, 2100)] {
            for transpose in TRANSPOSES {
                check(Gemm { transpose, m, n, k }, precision, 7);
            }
        }
    }
}

/// Chunks for which two steps are too few.
#[test]
fn sums_of_more_than_64_chunks() {
    for (transpose, [m, n]) in [(Transpose::Nt, [8, 16]), (Transpose::Tn, [16, 8])] {
        let gemm = Gemm { transpose, m, n, k: 20_040 };
        let tiles = if transpose == Transpose::Tn { 2 } else { 1 };
        let floats = driver::driver().kernels(Precision::Fp16).gemm_workspace(&gemm);
        assert!(floats > 64 * tiles * 64 * 64, "{gemm:?}: {floats} floats of partial sums");
        check(gemm, Precision::Fp16, 7);
    }
}

#[test]
fn fully_connected_layer() {
    let driver = driver::driver();
    for (batch, inputs, outputs) in [(3, 5, 10), (20, 64, 12), (70, 36, 130)] {
        for precision in [Precision::Fp32, Precision::Fp16] {
            let shape = LinearShape { batch, inputs, outputs };
            let what = format!("{shape:?} {precision:?}");
            let (x, w) = (numbers(1, batch * inputs, precision), numbers(2, inputs * outputs, precision));
            let (b, dy) = (numbers(3, outputs, Precision::Fp32), numbers(4, batch * outputs, precision));
            let found = driver.run(&what, precision, |kernels| {
                let [x, w, dy] = [&x, &w, &dy].map(|x| stored_array(kernels, x));
                let zeros = |number, len| kernels.zeros(number, len).unwrap();
                let (mut y, mut dx) = (
                    stored_array(kernels, &vec![0.0; batch * outputs]),
                    stored_array(kernels, &vec![0.0; batch * inputs]),
                );
                let (mut dw, mut db) = (zeros(Number::F32, inputs * outputs), zeros(Number::F32, outputs));
                let (b, mut work) = (floats(kernels, &b), zeros(Number::F32, kernels.linear_workspace(&shape)));
                let step = zeros(Number::U32, 1);
                let forward =
                    LinearForward { shape: &shape, relu: true, dropout: None, x: &x, w: &w, b: &b, y: &mut y };
                kernels.linear_forward(forward, &step, &mut work).unwrap();
                let data =
                    LinearBackwardData { shape: &shape, dropout: None, dy: &dy, w: &w, mask: Some(&x), dx: &mut dx };
                kernels.linear_backward_data(data, &step, &mut work).unwrap();
                kernels
                    .linear_backward_weight(
                        LinearBackwardWeight {
                            shape: &shape,
                            x: &x,
                            dy: &dy,
                            accumulate: false,
                            dw: &mut dw,
                            db: &mut db,
                        },
                        &mut work,
                    )
                    .unwrap();
                [&y, &dx, &dw, &db].map(|x| read(kernels, x)).to_vec()
            });
            // The same on absolute values gives the sums that bound the errors.
            let expected = |f: fn(&[f64]) -> Vec<f64>| {
                let [x, w, b, dy] = [&x, &w, &b, &dy].map(|x| f(&wide(x)));
                let (mut y, mut dx) = (vec![0.0; batch * outputs], vec![0.0; batch * inputs]);
                let (mut dw, mut db) = (vec![0.0; inputs * outputs], vec![0.0; outputs]);
                reference::linear_forward(LinearForward {
                    shape: &shape,
                    relu: true,
                    dropout: None,
                    x: &x,
                    w: &w,
                    b: &b,
                    y: &mut y,
                });
                reference::linear_backward_data(LinearBackwardData {
                    shape: &shape,
                    dropout: None,
                    dy: &dy,
                    w: &w,
                    mask: Some(&x),
                    dx: &mut dx,
                });
                reference::linear_backward_weight(LinearBackwardWeight {
                    shape: &shape,
                    x: &x,
                    dy: &dy,
                    accumulate: false,
                    dw: &mut dw,
                    db: &mut db,
                });
                [y, dx, dw, db]
            };
            let (exact, sums) = (expected(<[f64]>::to_vec), expected(absolute));
            let terms = [inputs, outputs, batch, batch];
            for (i, name) in ["y", "dx", "dw", "db"].into_iter().enumerate() {
                let number = if i < 2 { precision.storage() } else { Number::F32 };
                assert_close(&format!("{what} {name}"), &found[i], &exact[i], |j| {
                    let error = bound(terms[i], sums[i][j], precision);
                    error + roundoff(exact[i][j].abs() + error, number)
                });
            }
        }
    }
}

#[test]
fn arguments_that_do_not_fit() {
    let driver = driver::driver();
    let kernels = driver.kernels(Precision::Fp32);
    let gemm = Gemm { transpose: Transpose::Nn, m: 4, n: 4, k: 4 };
    let (a, short) = (floats(kernels, &[0.0; 16]), floats(kernels, &[0.0; 15]));
    let mut work = floats(kernels, &[0.0; 64]);
    let mut c = floats(kernels, &[0.0; 16]);
    let error = kernels.gemm(&gemm, &a, &short, &Epilogue::default(), &mut c, &mut work).unwrap_err();
    assert_eq!(error.to_string(), "gemm: b has 15 elements, expected 16");
    let epilogue = Epilogue { bias: Some(&short), ..Epilogue::default() };
    assert!(kernels.gemm(&Gemm { n: 16, k: 1, m: 1, ..gemm }, &a, &a, &epilogue, &mut c, &mut work).is_err());
}
