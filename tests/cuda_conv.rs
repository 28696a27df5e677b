//! conv in its three directions against its definition in f64.

mod driver;
mod winograd;

use alexnet_core::arguments::{ConvBackwardData, ConvBackwardWeight, ConvForward};
use alexnet_core::reference;
use alexnet_core::shape::ConvShape;
use alexnet_kernels::{FilterLayout, Kernels, Number, Precision, Scaler, Winograd};
use driver::{absolute, assert_close, bound, floats, numbers, pick, read, roundoff, stored_array, wide};
use winograd::{turned_magnitudes, winograd_magnitudes};

fn check(s: ConvShape, precision: Precision, relu: bool, accumulate: bool) {
    check_with(s, precision, relu, accumulate, false);
}

/// In fp32 by Winograd's algorithm, or in any precision directly.
fn check_with(s: ConvShape, precision: Precision, relu: bool, accumulate: bool, by_winograd: bool) {
    let driver = driver::driver();
    let what = format!("{s:?} {precision:?} relu {relu} accumulate {accumulate} winograd {by_winograd}");
    let kernels = if by_winograd { driver.winograd() } else { driver.kernels(precision) };
    let ConvShape { channels, filters, kernel, groups, .. } = s;
    let [x, w] = [numbers(1, s.input_len(), precision), numbers(2, s.weight_len(), precision)];
    let [dy, b] = [numbers(3, s.output_len(), precision), numbers(4, filters, Precision::Fp32)];
    let [old_w, old_b] = [numbers(5, s.weight_len(), Precision::Fp32), numbers(6, filters, Precision::Fp32)];
    let found = driver.run_on(kernels, &what, |kernels| {
        let [x, dy] = [&x, &dy].map(|x| stored_array(kernels, x));
        let layout = FilterLayout::of(&s, kernels.storage());
        let reordered = |w: &[f32]| {
            let mut filters = vec![0.0; layout.len()];
            w.iter().enumerate().for_each(|(i, &w)| filters[layout.position(i)] = w);
            filters
        };
        let w = stored_array(kernels, &reordered(&w));
        let [b, mut dw, mut db] = [&b, &reordered(&old_w), &old_b].map(|x| floats(kernels, x));
        let stored = |len| kernels.zeros(kernels.storage(), len).unwrap();
        let [mut y, mut dx] = [s.output_len(), s.input_len()].map(stored);
        // Exactly as long as each needs: too short a one would be an error, or found out of bounds.
        let work = |len| kernels.zeros(Number::F32, len).unwrap();
        kernels
            .conv_forward(
                ConvForward { shape: &s, x: &x, w: &w, b: &b, relu, y: &mut y },
                &mut work(kernels.conv_forward_workspace(&s)),
            )
            .unwrap();
        let space = &mut work(kernels.conv_backward_data_workspace(&s));
        let mask = relu.then_some(&x);
        kernels.conv_backward_data(ConvBackwardData { shape: &s, dy: &dy, w: &w, mask, dx: &mut dx }, space).unwrap();
        let space = &mut work(kernels.conv_backward_weight_workspace(&s));
        kernels
            .conv_backward_weight(
                ConvBackwardWeight { shape: &s, x: &x, dy: &dy, accumulate, test: false, dw: &mut dw, db: &mut db },
                None,
                space,
            )
            .unwrap();
        let dw = read(kernels, &dw);
        let dw: Vec<f32> = (0..s.weight_len()).map(|i| dw[layout.position(i)]).collect();
        vec![read(kernels, &y), read(kernels, &dx), dw, read(kernels, &db)]
    });
    // The same on absolute values gives the sums that bound the errors.
    let expected = |f: fn(&[f64]) -> Vec<f64>| {
        let [x, w, b, dy, mut dw, mut db] = [&x, &w, &b, &dy, &old_w, &old_b].map(|x| f(&wide(x)));
        let (mut y, mut dx) = (vec![0.0; s.output_len()], vec![0.0; s.input_len()]);
        reference::conv_forward(ConvForward { shape: &s, x: &x, w: &w, b: &b, relu, y: &mut y });
        let mask = relu.then_some(x.as_slice());
        reference::conv_backward_data(ConvBackwardData { shape: &s, dy: &dy, w: &w, mask, dx: &mut dx });
        reference::conv_backward_weight(ConvBackwardWeight {
            shape: &s,
            x: &x,
            dy: &dy,
            accumulate,
            test: false,
            dw: &mut dw,
            db: &mut db,
        });
        [y, dx, dw, db]
    };
    let (exact, mut sums) = (expected(<[f64]>::to_vec), expected(absolute));
    let pixels = s.batch * s.output_height() * s.output_width();
    let window = kernel * kernel;
    let mut terms = [window * channels / groups, window * filters / groups, pixels, pixels];
    if by_winograd {
        // As on the CPU: the products' sums are as long as the channels, filters or tiles, and the three transformations
        // round at most 24 times.
        let [x, w, b, dy, old] = [&x, &w, &b, &dy, &old_w].map(|x| absolute(&wide(x)));
        let [y, _, mut dw, _] = winograd_magnitudes(&s, &x, &w, &b, &dy);
        dw.iter_mut().zip(&old).for_each(|(dw, old)| *dw += if accumulate { *old } else { 0.0 });
        let tiles = s.batch * s.output_height().div_ceil(4) * s.output_width().div_ceil(4);
        sums = [y, turned_magnitudes(&s, &w, &dy), dw, sums[3].clone()];
        terms = [channels / groups + 24, filters / groups + 24, tiles + 25, pixels];
    }
    for (i, name) in ["y", "dx", "dw", "db"].into_iter().enumerate() {
        let number = if i < 2 { precision.storage() } else { Number::F32 };
        assert_close(&format!("{what} {name}"), &found[i], &exact[i], |j| {
            let error = bound(terms[i], sums[i][j], precision);
            error + roundoff(exact[i][j].abs() + error, number)
        });
    }
}

#[test]
fn a_gradient_that_is_not_finite_is_noted_where_it_is_stored() {
    let driver = driver::driver();
    let kernels = driver.kernels(Precision::Fp16);
    let (height, width, kernel, padding, groups) = (9, 8, 3, 1, 1);
    let rows = ConvShape { batch: 2, height, width, channels: 3, filters: 9, kernel, stride: 2, padding, groups };
    let large = ConvShape { batch: 40, channels: 8, filters: 72, stride: 1, ..rows };
    for s in [odd(8, 1), odd(24, 8), rows, large] {
        let values = [numbers(1, s.input_len(), Precision::Fp16), numbers(2, s.output_len(), Precision::Fp16)];
        let layout = FilterLayout::of(&s, kernels.storage());
        let mut work = kernels.zeros(Number::F32, kernels.conv_backward_weight_workspace(&s)).unwrap();
        let [mut dw, mut db] = [layout.len(), s.filters].map(|len| kernels.zeros(Number::F32, len).unwrap());
        let mut scaler = kernels.zeros(Number::F32, 4).unwrap();
        let mut noted = 0;
        for bad in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 65504.0] {
            for (array, last) in [(0, false), (0, true), (1, false), (1, true)] {
                let mut values = values.clone();
                let at = if last { values[array].len() - 1 } else { 0 };
                values[array][at] = bad;
                let [x, dy] = values.each_ref().map(|values| stored_array(kernels, values));
                kernels.write_scaler(&Scaler { scale: 4.0, good_steps: 5, skipped: 1 }, &mut scaler).unwrap();
                let (test, accumulate) = (true, false);
                let (dw, db) = (&mut dw, &mut db);
                let a = ConvBackwardWeight { shape: &s, accumulate, test, x: &x, dy: &dy, dw, db };
                kernels.conv_backward_weight(a, Some(&mut scaler), &mut work).unwrap();
                kernels.sgd_rescale(&mut scaler, 2000).unwrap();
                // A pixel that no window covers is in no gradient.
                let [x, dy] = values.each_ref().map(|values| wide(values));
                let (mut dw, mut db) = (vec![0.0f64; s.weight_len()], vec![0.0f64; s.filters]);
                let (x, dy, dw, db) = (&x[..], &dy[..], &mut dw[..], &mut db[..]);
                reference::conv_backward_weight(ConvBackwardWeight {
                    shape: &s,
                    accumulate,
                    test,
                    x,
                    dy,
                    dw: &mut *dw,
                    db: &mut *db,
                });
                let found = !dw.iter().chain(&*db).all(|gradient| gradient.is_finite());
                let expected = match found {
                    true => Scaler { scale: 2.0, good_steps: 0, skipped: 2 },
                    false => Scaler { scale: 4.0, good_steps: 6, skipped: 1 },
                };
                let what = format!("{s:?}: {bad} in operand {array} at {at}");
                assert_eq!(kernels.read_scaler(&scaler).unwrap(), expected, "{what}");
                assert!(!found || !bad.is_finite(), "{what}");
                noted += usize::from(found);
            }
        }
        assert!(noted >= 6, "{s:?}: {noted}");
    }
    let kernels = driver.kernels(Precision::Fp32);
    let array = |len| kernels.zeros(Number::F32, len).unwrap();
    let (x, dy, mut dw, mut db) = (array(large.input_len()), array(large.output_len()), array(576 * 9), array(72));
    let (accumulate, test) = (false, true);
    let a = ConvBackwardWeight { shape: &large, accumulate, test, x: &x, dy: &dy, dw: &mut dw, db: &mut db };
    let mut work = array(kernels.conv_backward_weight_workspace(&large));
    let error = kernels.conv_backward_weight(a, Some(&mut array(4)), &mut work).unwrap_err().to_string();
    assert!(error.contains("scaler"), "{error}");
    driver.assert_clean("conv_backward_weight");
}

/// A shape that is none of the round ones: stride ≠ kernel, tails everywhere.
fn odd(seed: u64, packs: usize) -> ConvShape {
    let pick = |index, first, last| pick(seed, index, first, last);
    let kernel = pick(0, 1, 5);
    let groups = pick(1, 1, 3);
    ConvShape {
        batch: pick(2, 1, 3),
        height: kernel + pick(3, 0, 6),
        width: kernel + pick(4, 0, 6),
        channels: groups * packs * pick(5, 1, 5),
        filters: groups * packs * pick(6, 1, 7),
        kernel,
        stride: pick(7, 1, 4),
        padding: pick(8, 0, 3),
        groups,
    }
}

#[test]
fn odd_shapes() {
    for seed in 0..8 {
        check(odd(seed, 1), Precision::Fp32, seed % 2 == 0, seed % 3 == 0);
    }
    for precision in [Precision::Tf32, Precision::Fp16, Precision::Bf16] {
        for seed in 8..11 {
            check(odd(seed, 1), precision, seed % 2 == 0, seed % 3 == 0);
        }
    }
}

#[test]
fn rows_of_whole_packs() {
    for seed in 20..24 {
        check(odd(seed, 4), Precision::Fp32, seed % 2 == 0, seed % 3 == 0);
    }
    for precision in [Precision::Tf32, Precision::Fp16, Precision::Bf16] {
        for seed in 24..27 {
            check(odd(seed, 8), precision, seed % 2 == 0, seed % 3 == 0);
        }
    }
}

#[test]
fn each_tile_once() {
    for precision in Precision::ALL {
        let small = ConvShape { groups: 2, ..odd(30, 8) };
        check(ConvShape { channels: 16, filters: 32, ..small }, precision, true, false);
        // 128 rows and columns.
        let large = ConvShape { batch: 1, height: 12, width: 11, channels: 72, filters: 72, kernel: 1, ..small };
        check(ConvShape { groups: 1, padding: 0, stride: 1, ..large }, precision, false, true);
        check(ConvShape { channels: 3, filters: 16, groups: 1, ..small }, precision, true, false);
    }
}

#[test]
fn devices_with_fewer_instructions() {
    driver::again_on(&["t4", "v100"], "each_tile_once");
}

#[test]
fn one_of_everything() {
    let one = ConvShape {
        batch: 1,
        height: 1,
        width: 1,
        channels: 1,
        filters: 1,
        kernel: 1,
        stride: 1,
        padding: 0,
        groups: 1,
    };
    check(one, Precision::Fp32, false, false);
    check(ConvShape { kernel: 11, stride: 4, padding: 5, channels: 3, ..one }, Precision::Fp32, false, false);
}

#[test]
fn layers_of_alexnet_in_small() {
    let cifar = ConvShape {
        batch: 2,
        height: 32,
        width: 32,
        channels: 3,
        filters: 64,
        kernel: 3,
        stride: 2,
        padding: 1,
        groups: 1,
    };
    check(cifar, Precision::Fp32, true, false);
    // Large tiles, and sums in chunks.
    let second = ConvShape { height: 8, width: 8, channels: 64, filters: 192, stride: 1, ..cifar };
    for precision in Precision::ALL {
        check(second, precision, true, true);
    }
    let first = ConvShape { height: 63, width: 63, kernel: 11, stride: 4, padding: 2, ..cifar };
    check(ConvShape { batch: 1, filters: 20, ..first }, Precision::Fp32, true, false);
}

/// Few channels and one group: x and the weights are copied as rows of windows, in whole packs.
#[test]
fn rows_of_windows() {
    let shape = |width, channels, kernel, stride, padding| ConvShape {
        batch: 3,
        height: 9,
        width,
        channels,
        filters: 24,
        kernel,
        stride,
        padding,
        groups: 1,
    };
    for precision in Precision::ALL {
        check(shape(32, 3, 3, 2, 1), precision, true, true);
        check(shape(13, 3, 7, 4, 2), precision, false, false);
        // Strides that leave pixels out, windows wider than the image, more than half of a row empty.
        check(shape(11, 5, 3, 5, 0), precision, false, true);
        check(shape(2, 3, 5, 1, 2), precision, true, false);
        check(shape(10, 1, 2, 1, 0), precision, true, false);
    }
}

/// A 3×3 window of stride 1, with tails of tiles, and groups.
fn winograd_shape(seed: u64, packs: usize) -> ConvShape {
    let pick = |index, first, last| pick(seed, index, first, last);
    let (groups, padding) = (pick(1, 1, 2), pick(8, 0, 2));
    ConvShape {
        batch: pick(2, 1, 3),
        height: pick(3, 3, 11),
        width: pick(4, 3, 11),
        channels: groups * packs * pick(5, 1, 5),
        filters: groups * packs * pick(6, 1, 7),
        kernel: 3,
        stride: 1,
        padding,
        groups,
    }
}

#[test]
fn winograd_of_odd_shapes() {
    for seed in 40..48 {
        for packs in [1, 4] {
            check_with(winograd_shape(seed, packs), Precision::Fp32, seed % 2 == 0, seed % 3 == 0, true);
        }
    }
    // Smaller than the window; one of everything.
    let small = ConvShape { batch: 2, height: 2, width: 1, padding: 1, ..winograd_shape(40, 4) };
    check_with(small, Precision::Fp32, false, false, true);
    check_with(ConvShape { batch: 1, channels: 1, filters: 1, groups: 1, ..small }, Precision::Fp32, true, true, true);
}

/// Whole tiles, large tiles of the products, and sums in chunks.
#[test]
fn winograd_of_layers_of_alexnet() {
    let layer = ConvShape { batch: 5, height: 8, width: 8, channels: 72, filters: 132, ..winograd_shape(40, 4) };
    check_with(ConvShape { padding: 1, groups: 1, ..layer }, Precision::Fp32, true, true, true);
    let many_tiles = ConvShape { batch: 40, height: 9, width: 10, channels: 8, filters: 4, padding: 1, ..layer };
    check_with(ConvShape { groups: 1, ..many_tiles }, Precision::Fp32, true, false, true);
}

/// Where it is used: only for windows that it is made for, and only if it is to be.
#[test]
fn winograd_is_chosen_by_shape() {
    let driver = driver::driver();
    let layer = ConvShape { batch: 128, height: 4, width: 4, channels: 192, filters: 384, ..winograd_shape(40, 4) };
    let layer = ConvShape { padding: 1, groups: 1, ..layer };
    let mut never = Kernels::new(0, Precision::Fp32).unwrap();
    never.set_winograd(Winograd::Never);
    let workspaces = |kernels: &Kernels, s: &ConvShape| {
        [
            kernels.conv_forward_workspace(s),
            kernels.conv_backward_data_workspace(s),
            kernels.conv_backward_weight_workspace(s),
        ]
    };
    // With the algorithm each direction needs room for the transformed arrays.
    let uses = |kernels: &Kernels, s: &ConvShape| {
        let transformed = 36 * (s.batch * (s.channels + s.filters) + s.weight_len() / 9);
        let uses = workspaces(kernels, s).map(|floats| floats >= transformed);
        assert!(uses == [true; 3] || workspaces(kernels, s) == workspaces(&never, s), "{s:?}: {uses:?}");
        uses[0]
    };
    let [float, always] = [driver.kernels(Precision::Fp32), driver.winograd()];
    assert!(uses(float, &layer) && uses(always, &layer) && !uses(&never, &layer));
    let few = ConvShape { batch: 2, ..layer };
    assert!(!uses(float, &few) && uses(always, &few));
    for other in [
        ConvShape { kernel: 5, ..layer },
        ConvShape { stride: 2, ..layer },
        ConvShape { padding: 3, ..layer },
        ConvShape { batch: 0, ..layer },
        // Transformed arrays of more than 1 GiB.
        ConvShape { batch: 1 << 14, ..layer },
    ] {
        assert_eq!(workspaces(always, &other), workspaces(&never, &other), "{other:?}");
    }
    let mut half = Kernels::new(0, Precision::Fp16).unwrap();
    half.set_winograd(Winograd::Always);
    assert_eq!(workspaces(&half, &layer), workspaces(driver.kernels(Precision::Fp16), &layer));
}
