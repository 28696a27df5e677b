//! Sums and moving averages of many arrays at once: the bits of the same on the host.

use alexnet_core::Cuda;
use alexnet_core::device::Operators;
use alexnet_core::device::cuda::Precision;

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
