//! Images on their way to the GPU while it works.

use alexnet_core::arguments::{Augment, ReluForward};
use alexnet_core::device::{Memory, Operators};
use alexnet_core::random::Philox;
use alexnet_core::reference;
use alexnet_core::shape::AugmentShape;

use crate::support::{PRECISIONS, gpu, read, stored};

/// The batches of uploads that are queued without waiting are those of the host, of every length that fits.
#[test]
fn every_batch_is_its_own() {
    let gpu = gpu();
    let (side, most) = (31, 7);
    let image = side * side * 3;
    let batches: Vec<(AugmentShape, Vec<u8>)> = [7, 1, 7, 3, 5, 2, 7, 4]
        .into_iter()
        .enumerate()
        .map(|(number, batch)| {
            let shape = AugmentShape {
                padding: 3,
                epoch: number as u32,
                flip: true,
                jitter: 0.3,
                mean: [0.5; 3],
                std: [0.25; 3],
                ..AugmentShape::plain(batch, side, Philox::new(1))
            };
            (shape, (0..batch * image).map(|i| (i * 31 + i / 7 * (number + 3)) as u8).collect())
        })
        .collect();
    let draws: Vec<u32> = (0..most as u32).flat_map(|n| [n, 0]).collect();
    for precision in PRECISIONS {
        let found = gpu.run("uploads", precision, |device| {
            let mut uploads = device.uploads(most * image).unwrap();
            let mut order = device.labels(draws.len()).unwrap();
            device.write_labels(&draws, &mut order).unwrap();
            let mut made = Vec::new();
            for (shape, pixels) in &batches {
                let mut out = device.activations(pixels.len()).unwrap();
                let images = device.upload(pixels, &mut uploads).unwrap();
                // The GPU is behind the host.
                for _ in 0..4 {
                    device.augment(Augment { shape, images, draws: &order, out: &mut out }).unwrap();
                }
                made.push(out);
            }
            // While the last copy may run.
            drop(uploads);
            made.iter().map(|out| read(device, out)).collect()
        });
        for ((shape, pixels), found) in batches.iter().zip(found) {
            let mut expected = vec![0f32; pixels.len()];
            reference::augment(Augment { shape, images: pixels, draws: &draws, out: &mut expected });
            assert!(expected.iter().zip(found).all(|(&x, found)| found == stored(x, precision)), "{shape:?}");
        }
    }
}

/// By warpcheck's clock: copies and kernels in turn take less time than one after the other.
#[test]
fn copies_run_beside_the_kernels() {
    const ROUNDS: usize = 8;
    let gpu = gpu();
    if !gpu.is_modelled() {
        return;
    }
    gpu.options("check=none count=1");
    let device = gpu.device(PRECISIONS[0]);
    let pixels = vec![7; 1 << 21];
    let (mut uploads, mut x) = (device.uploads(pixels.len()).unwrap(), device.activations(4).unwrap());
    let mut time = |copies: bool, kernels: usize| {
        let start = device.event().unwrap();
        for _ in 0..ROUNDS {
            if copies {
                device.upload(&pixels, &mut uploads).unwrap();
            }
            for _ in 0..kernels {
                device.relu_forward(ReluForward { len: 4, x: &mut x }).unwrap();
            }
        }
        device.elapsed(&start, &device.event().unwrap()).unwrap().as_secs_f64()
    };
    let copies = time(true, 0);
    // As many as take as long.
    let count = (20.0 * copies / time(false, 20)) as usize;
    let (kernels, both) = (time(false, count), time(true, count));
    gpu.options("check=all count=0");
    // In turn they would take the sum, beside each other half of that and a first copy.
    let sum = copies + kernels;
    assert!(both < sum * (0.5 + 1.0 / ROUNDS as f64), "{both} of {copies} and {kernels}");
}

#[test]
fn what_does_not_fit_is_refused() {
    let gpu = gpu();
    let device = gpu.device(PRECISIONS[0]);
    let mut uploads = device.uploads(5).unwrap();
    let error = device.upload(&[0; 6], &mut uploads).unwrap_err();
    assert_eq!(error.to_string(), "upload: to has 5 elements, expected 6");
    assert_eq!(device.upload(&[0; 5], &mut uploads).unwrap().len(), 5);
    // No machine has as much.
    let error = device.uploads(1 << 50).unwrap_err().to_string();
    let expected = "out of memory: 1125899906842624 bytes needed for page-locked memory of the host, for images on their way to \
                    cuda:0 (CUDA_ERROR_OUT_OF_MEMORY); a smaller batch needs less, ";
    assert!(error.starts_with(expected), "{error}");
    gpu.assert_clean("uploads that do not fit");
}
