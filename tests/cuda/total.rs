use alexnet_core::device::cuda::Precision;
use alexnet_kernels::Number;

use crate::support::{gpu, numbers};

#[test]
fn totals_add_up_over_batches() {
    let gpu = gpu();
    let kernels = gpu.device(Precision::Fp32).kernels();
    let mut totals = kernels.zeros(Number::F64, 2).unwrap();
    let mut expected = [0.0, 0.0];
    for len in [1, 7, 256, 1000] {
        let losses = numbers(len as u64, len, Precision::Fp32);
        let correct: Vec<f32> = (0..len).map(|i| (i % 3 == 0) as u8 as f32).collect();
        let [mut a, mut b] = [(); 2].map(|()| kernels.zeros(Number::F32, len).unwrap());
        kernels.write(&losses, &mut a).unwrap();
        kernels.write(&correct, &mut b).unwrap();
        kernels.total_add(len, &a, &b, &mut totals).unwrap();
        expected[0] += losses.iter().map(|&x| f64::from(x)).sum::<f64>();
        expected[1] += correct.iter().map(|&x| f64::from(x)).sum::<f64>();
    }
    let mut found = [0f64; 2];
    kernels.read(&totals, &mut found).unwrap();
    // Fewer than 2000 additions in double, each of less than 2000.
    assert!((found[0] - expected[0]).abs() < 2000.0 * 2000.0 * f64::EPSILON, "{found:?} {expected:?}");
    assert_eq!(found[1], expected[1]);
    gpu.assert_clean("total");
}
