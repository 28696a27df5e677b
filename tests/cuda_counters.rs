//! How the kernels use memory at the shapes of AlexNet, by warpcheck's counters: hardware's rules, no time.
//! `cargo bench -p alexnet-kernels --bench cuda` prints the numbers themselves.

mod driver;
#[path = "../benches/operators/mod.rs"]
mod operators;
#[path = "../benches/support/mod.rs"]
mod support;

use std::time::Duration;

use alexnet_core::alexnet::Variant;
use alexnet_kernels::{Epilogue, Gemm, Number, Precision, Transpose};
use driver::counters::Counted;
use operators::{Case, Net};

/// Operators whose time is not that of the bytes they must move; all others do little with each number.
const NOT_BOUND_BY_MEMORY: [&str; 3] = ["conv", "linear", "total"];

/// Sectors over ideal, wavefronts over ideal, bytes over compulsory: what a kernel may reach.
fn limits(case: &Case, kernel: &str) -> [f64; 3] {
    let [sectors, wavefronts, traffic] = [1.05, 1.02, 1.1];
    // The first layer's weights are a few kilobytes, in rows of 27 or 363 numbers that begin anywhere in a sector, and
    // cross over in shared memory three channels at a time.
    if case.operator == "conv" && case.name.contains("features.0 ") && kernel.ends_with("weights") {
        return [1.3, 1.55, f64::INFINITY];
    }
    // Rows of ten numbers of the logits' gradient begin anywhere in a sector; they are a tenth of what is read.
    if kernel == "gemm_nn_odd" || kernel == "gemm_tn_odd" {
        return [1.12, wavefronts, f64::INFINITY];
    }
    let bound = !NOT_BOUND_BY_MEMORY.contains(&case.operator);
    [sectors, wavefronts, if bound { traffic } else { f64::INFINITY }]
}

/// Runs the cases of a net that are wanted, and fails if a kernel is beyond its limits.
fn check(precision: Precision, variant: Variant, batch: usize, wanted: impl Fn(&Case) -> bool) {
    let driver = driver::driver();
    let kernels = driver.kernels(precision);
    let mut beyond = Vec::new();
    let mut count = 0;
    for case in Net::new(variant, batch).cases().iter().filter(|case| wanted(case)) {
        let mut work = case.start(kernels).unwrap();
        let counters = driver.counters(|| work().unwrap());
        for Counted { kernel, sectors, wavefronts, traffic, .. } in Counted::all(&counters) {
            let [most_sectors, most_wavefronts, most_traffic] = limits(case, &kernel);
            count += 1;
            if sectors > most_sectors || wavefronts > most_wavefronts || traffic > most_traffic {
                let what = format!("{precision:?} {} {kernel}", case.name);
                beyond.push(format!("{what}: sectors {sectors:.3} wavefronts {wavefronts:.3} traffic {traffic:.3}"));
            }
        }
    }
    assert!(count > 0 || !driver.is_soft(), "nothing was counted");
    assert!(beyond.is_empty(), "beyond the limits:\n{}", beyond.join("\n"));
}

// Of a batch of 128 the ratios are the same: tiles of pixels repeat. The second fully connected layer is the first with
// more inputs.

#[test]
fn cifar_in_float() {
    check(Precision::Fp32, Variant::Cifar, 8, |case| case.operator != "linear" || !case.name.contains("classifier.4"));
}

/// A batch large enough for Winograd's algorithm: the others of cifar do not differ but in size.
#[test]
fn cifar_by_winograd() {
    let batch = 32;
    check(Precision::Fp32, Variant::Cifar, batch, |case| case.operator == "conv" && case.name.contains("features.3 "));
    let driver = driver::driver();
    let kernels = driver.kernels(Precision::Fp32);
    let net = Net::new(Variant::Cifar, batch);
    for case in net.cases().iter().filter(|case| case.operator == "conv" && case.name.contains("features.3 ")) {
        let mut work = case.start(kernels).unwrap();
        let counters = Counted::all(&driver.counters(|| work().unwrap()));
        let operations: u64 = counters.iter().map(|counted| counted.operations).sum();
        // A quarter of the multiplications; tiles of the products that are not full, and the transformations.
        let direct = 2 * 9 * 64 * 192 * 64 * batch as u64;
        assert!(operations < 2 * direct / 5 || !driver.is_soft(), "{}: {operations} of {direct}", case.name);
    }
}

#[test]
fn cifar_in_half() {
    check(Precision::Fp16, Variant::Cifar, 8, |case| case.operator != "linear" || !case.name.contains("classifier.4"));
}

#[test]
fn products_in_tf32_and_bf16() {
    for precision in [Precision::Tf32, Precision::Bf16] {
        check(precision, Variant::Cifar, 8, |case| {
            case.operator == "conv" && case.name.contains("features.3") || case.name.contains("classifier.6")
        });
    }
}

#[test]
fn large_images() {
    for precision in [Precision::Fp32, Precision::Fp16] {
        // The first layer's windows of 11×11 and the second's of 5×5; all that is bound by memory but the 61 million
        // weights' update, whose kernel is the same as cifar's.
        check(precision, Variant::Torchvision, 1, |case| match case.operator {
            "conv" => ["features.0 ", "features.3 "].iter().any(|layer| case.name.contains(layer)),
            operator => !NOT_BOUND_BY_MEMORY.contains(&operator) && !["sgd", "ema"].contains(&operator),
        });
        check(precision, Variant::Original, 1, |case| ["lrn", "augment"].contains(&case.operator));
    }
}

/// An A100's tensor cores do 2,048 operations in half precision in the time of a shared memory wavefront: with fewer per wavefront
/// they would wait for their operands.
#[test]
fn shared_memory_feeds_the_tensor_cores_from_large_tiles() {
    let driver = driver::driver();
    let kernels = driver.kernels(Precision::Fp16);
    for (transpose, kernel) in [(Transpose::Nt, "gemm_nt_128"), (Transpose::Tn, "gemm_tn_128")] {
        // Enough to fill a device with large tiles.
        let gemm = Gemm { transpose, m: 1536, n: 1536, k: 320 };
        let zeros = |number, len| kernels.zeros(number, len).unwrap();
        let [a, b, mut c] = gemm.lens().map(|len| zeros(kernels.storage(), len));
        let (mut gradient, mut sums) = (zeros(Number::F32, c.len()), zeros(Number::F32, gemm.m));
        let mut workspace = zeros(Number::F32, kernels.gemm_workspace(&gemm));
        let counters = driver.counters(|| match transpose {
            Transpose::Tn => {
                kernels.gemm_gradients(&gemm, [&a, &b], false, &mut gradient, &mut sums, &mut workspace).unwrap();
            }
            _ => kernels.gemm(&gemm, &a, &b, &Epilogue::default(), &mut c, &mut workspace).unwrap(),
        });
        for Counted { kernel: found, tensor_per_wavefront, .. } in Counted::all(&counters) {
            assert_eq!(found, kernel);
            assert!(tensor_per_wavefront >= 2048.0, "{kernel}: {tensor_per_wavefront:.0} operations per wavefront");
        }
    }
}

#[test]
fn events_measure_what_the_gpu_takes() {
    let driver = driver::driver();
    let kernels = driver.kernels(Precision::Fp32);
    let mut flush = kernels.zeros(Number::U8, 1 << 16).unwrap();
    let net = Net::new(Variant::Cifar, 1);
    let case = net.cases().into_iter().find(|case| case.operator == "relu").unwrap();
    let mut work = case.start(kernels).unwrap();
    let once = kernels.time(&mut flush, &mut work).unwrap();
    assert!(once > Duration::ZERO);
    let often = kernels.time(&mut flush, || (0..50).try_for_each(|_| work())).unwrap();
    assert!(often > once, "{often:?} for 50 times what took {once:?}");
}
