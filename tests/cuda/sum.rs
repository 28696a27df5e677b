//! Sums and moving averages of many arrays at once, and updates of slices: the bits of the same on the host.

use alexnet_core::device::Operators;
use alexnet_core::device::cuda::Precision;
use alexnet_core::{Cuda, Sgd};
use alexnet_kernels::{Array, Number, ParameterGroup, Parameters, Scaler, Sums, Tested};

use crate::support::{floats, gpu, numbers, read};

/// Lengths about a pack, a block and a chunk, and more arrays than a table holds.
const LENS: [usize; 8] = [1, 3, 4, 5, 1023, 4096, 4097, 9001];

fn arrays(device: &Cuda, seed: u64, count: usize) -> (Vec<Vec<f32>>, Vec<alexnet_core::device::cuda::Buffer>) {
    let host: Vec<_> = (0..count).map(|i| numbers(seed + i as u64, LENS[i % LENS.len()], Precision::Fp32)).collect();
    let buffers = host.iter().map(|x| floats(device, x)).collect();
    (host, buffers)
}

#[test]
fn pairs_of_arrays_are_added_and_approached() {
    let gpu = gpu();
    let count = 70;
    for precision in [Precision::Fp32, Precision::Fp16] {
        let found = gpu.run("sum", precision, |device| {
            let ((_, mut y), (_, x)) = (arrays(device, 1, count), arrays(device, 500, count));
            device.add_floats(&mut y.iter_mut().zip(&x)).unwrap();
            let sums: Vec<_> = y.iter().map(|y| read(device, y)).collect();
            device.approach(0.25, &mut y.iter_mut().zip(&x)).unwrap();
            sums.into_iter().chain(y.iter().map(|y| read(device, y))).collect()
        });
        for i in 0..count {
            let len = LENS[i % LENS.len()];
            let [y, x] = [1, 500].map(|seed| numbers(seed + i as u64, len, Precision::Fp32));
            for j in 0..len {
                let sum = y[j] + x[j];
                assert_eq!(found[i][j].to_bits(), sum.to_bits(), "sum {i} at {j}");
                // A quarter is exact, so that fusing the product with the sum changes nothing.
                let expected = sum + 0.25 * (x[j] - sum);
                assert_eq!(found[count + i][j].to_bits(), expected.to_bits(), "average {i} at {j}");
            }
        }
    }
}

#[test]
fn slices_are_added_tested_and_updated_alone() {
    let gpu = gpu();
    let (len, start, other, n) = (5000, 64, 128, 4321);
    let sgd = Sgd { learning_rate: 0.5, momentum: 0.5, weight_decay: 0.0, nesterov: false, decay_all: false };
    let found = gpu.run("slices", Precision::Fp32, |device| {
        let kernels = device.kernels();
        let array = |seed| {
            let mut array = kernels.zeros(Number::F32, len).unwrap();
            kernels.write(&numbers(seed, len, Precision::Fp32), &mut array).unwrap();
            array
        };
        let [mut y, x, mut w, mut v] = [1, 2, 3, 4].map(array);
        let mut sums = Sums::default();
        sums.push(n, (&mut y, start), (&x, other)).unwrap();
        kernels.sum(&sums).unwrap();
        let [mut optimizer, mut scaler] = [(); 2].map(|()| kernels.zeros(Number::F32, 4).unwrap());
        kernels.write_sgd(&sgd, &mut optimizer).unwrap();
        kernels.write_scaler(&Scaler::default(), &mut scaler).unwrap();
        let mut table = Parameters::default();
        let group = ParameterGroup { decays: false, rate: 1.0 };
        table.push_slice(start..start + n, group, &mut w, (&y, start), &mut v, None).unwrap();
        kernels.sgd(&table, &optimizer, &scaler).unwrap();
        let host = |array: &Array| {
            let mut values = vec![0.0; len];
            kernels.read(array, &mut values).unwrap();
            values
        };
        vec![host(&y), host(&w), host(&v)]
    });
    let [y, x, w, v] = [1, 2, 3, 4].map(|seed| numbers(seed, len, Precision::Fp32));
    for i in 0..len {
        let own = (start..start + n).contains(&i);
        let sum = if own { y[i] + x[i - start + other] } else { y[i] };
        assert_eq!(found[0][i].to_bits(), sum.to_bits(), "sum at {i}");
        // Halves are exact.
        let momentum = if own { 0.5 * v[i] + sum } else { v[i] };
        assert_eq!(found[2][i].to_bits(), momentum.to_bits(), "momentum at {i}");
        let weight = if own { w[i] - 0.5 * momentum } else { w[i] };
        assert_eq!(found[1][i].to_bits(), weight.to_bits(), "weight at {i}");
    }
}

#[test]
fn a_slice_is_tested_alone_and_another_process_may_have_found_one() {
    let gpu = gpu();
    let device = gpu.device(Precision::Fp32);
    let kernels = device.kernels();
    let (mut array, mut scaler) = (kernels.zeros(Number::F32, 300).unwrap(), kernels.zeros(Number::F32, 4).unwrap());
    kernels.write_at(&[f32::INFINITY], &mut array, 127).unwrap();
    for (elements, expected) in [(0..127, false), (128..300, false), (124..130, true), (64..128, true)] {
        kernels.write_scaler(&Scaler::default(), &mut scaler).unwrap();
        let mut tested = Tested::default();
        tested.push_slice(&array, elements.clone()).unwrap();
        kernels.sgd_test(&tested, &mut scaler).unwrap();
        assert_eq!(kernels.found(&scaler).unwrap(), expected, "{elements:?}");
    }
    kernels.write_scaler(&Scaler::default(), &mut scaler).unwrap();
    assert!(!kernels.found(&scaler).unwrap());
    kernels.set_found(&mut scaler).unwrap();
    assert!(kernels.found(&scaler).unwrap());
    let mut tested = Tested::default();
    let error = tested.push_slice(&array, 2..10).unwrap_err().to_string();
    assert!(error.contains("no multiple of 4"), "{error}");
    assert!(tested.push_slice(&array, 200..301).is_err());
    gpu.assert_clean("slices");
}
