//! The modelled clock beside what others measured and published, with kernels of the same structure. The table is README's.
//!
//! A few blocks of a smaller problem are run and their counters multiplied: all blocks of these kernels do the same, and all
//! steps along K.

#[macro_use]
#[path = "../support/mod.rs"]
mod support;

use support::{Gpu, compile};
use warpcheck::clock::Times;
use warpcheck::count::Counters;
use warpcheck::engine::Module;
use warpcheck::launch::LaunchOptions;

/// Rows, columns and depth of the product that is run, and of the one that was measured.
const RUN: u32 = 512;
const MEASURED: u32 = 4096;

/// A kernel, the side of its tile, its block, and the GFLOP/s that github.com/siboehm/SGEMM_CUDA gives for an RTX A6000.
const KERNELS: [(&str, u32, [u32; 3], f64); 10] = [
    ("naive", 32, [32, 32, 1], 309.0),
    ("coalesced", 32, [1024, 1, 1], 1986.5),
    ("shared_tiles", 32, [1024, 1, 1], 2980.3),
    ("columns", 64, [512, 1, 1], 8474.7),
    ("squares", 128, [256, 1, 1], 15971.7),
    ("vectors", 128, [256, 1, 1], 18237.3),
    ("interleaved", 128, [256, 1, 1], 16213.4),
    ("padded", 128, [256, 1, 1], 16459.2),
    ("deeper", 128, [256, 1, 1], 19721.0),
    ("warp_tiles", 128, [128, 1, 1], 21779.3),
];

/// Numbers so small that sums are exact.
fn numbers(seed: u32) -> Vec<f32> {
    (0..RUN * RUN).map(|i| ((i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 24) % 7) as f32 - 3.0).collect()
}

/// The counters of two blocks, whose results are right.
fn count(gpu: &Gpu, module: &Module, (kernel, tile, block): (&str, u32, [u32; 3])) -> Counters {
    let (a, b, c) = (numbers(1), numbers(2), numbers(3));
    let [left, right, out] = [&a, &b, &c].map(|data| gpu.upload(data));
    let options = LaunchOptions { count: true, ..LaunchOptions::default() };
    let outcome =
        gpu.launch(module, kernel, ([1, 2, 1], block, 0), args![RUN, 2.0f32, left, right, 0.5f32, out], &options);
    support::gpu::assert_clean(kernel, &outcome);
    let result: Vec<f32> = gpu.download(out, c.len());
    let n = RUN as usize;
    for at in [0, tile as usize - 1, n + 1, (tile as usize - 1) * n + 3] {
        let (row, column) = (at / n, at % n);
        let sum: f32 = (0..n).map(|k| a[row * n + k] * b[k * n + column]).sum();
        assert_eq!(result[at], 2.0 * sum + 0.5 * c[at], "{kernel}: row {row}, column {column}");
    }
    [left, right, out].iter().for_each(|buffer| gpu.free(*buffer));
    outcome.counters.expect("counters were asked for")
}

/// Counters of so many times the work.
fn times(counters: &Counters, by: u64) -> Counters {
    fn multiply(value: &mut serde_json::Value, by: u64) {
        match value {
            serde_json::Value::Object(fields) => fields.values_mut().for_each(|field| multiply(field, by)),
            number => *number = (number.as_u64().expect("a counter") * by).into(),
        }
    }
    let mut json = serde_json::to_value(counters).expect("counters are numbers");
    multiply(&mut json, by);
    serde_json::from_value(json).expect("counters are numbers")
}

/// Prints a row of README's table; whether README has it, and the error.
fn row(kernel: &str, unit: &str, published: f64, modelled: f64, limit: &str) -> (bool, f64) {
    let error = modelled / published - 1.0;
    let row = format!("| `{kernel}` | {published:.0} {unit} | {modelled:.0} | {:+.0} % | {limit} |", 100.0 * error);
    println!("{row}");
    (include_str!("../../README.md").contains(&row), error.abs())
}

#[test]
fn products_take_about_as_long_as_measured_on_an_a6000() {
    let gpu = Gpu::of("a6000");
    let module = gpu.load(&compile(include_str!("sgemm.cu"), 86, &[]));
    let flops = 2.0 * f64::from(MEASURED).powi(3);
    let matrix = 4 * u64::from(MEASURED).pow(2);
    let rows = KERNELS.map(|(kernel, tile, block, published)| {
        let counters = count(&gpu, &module, (kernel, tile, block));
        let blocks = u64::from(MEASURED / tile).pow(2);
        let all = times(&counters, blocks / counters.blocks * u64::from(MEASURED / RUN));
        // The matrices, which all blocks share: A, B and C are read, C is written.
        let all = Counters { blocks, unique_bytes_read: 3 * matrix, unique_bytes_written: matrix, ..all };
        let times = Times::of(&gpu.profile, &all);
        row(kernel, "GFLOP/s", published, flops / times.total(), times.busiest().0)
    });
    let mut errors = rows.map(|(_, error)| error);
    errors.sort_by(f64::total_cmp);
    let median = (errors[4] + errors[5]) / 2.0;
    println!("median error {:.0} %, largest {:.0} %", 100.0 * median, 100.0 * errors[9]);
    assert!(median <= 0.2 && errors[9] <= 0.25, "{errors:?}");
    assert!(rows.iter().all(|(in_readme, _)| *in_readme), "README has another table than the one printed");
}

/// A kernel, the side of its tile, whether B is column-major, and the TFLOP/s that spatters.ca/mma-matmul gives for an RTX 4090.
const TENSOR: [(&str, u32, bool, f64); 6] = [
    ("mma_naive", 32, false, 29.4),
    ("mma_tiled", 64, false, 57.3),
    ("mma_permuted", 64, true, 127.3),
    ("mma_reused", 64, true, 133.4),
    ("mma_pipelined", 64, true, 137.4),
    ("mma_large_tiles", 128, true, 153.6),
];

/// -3 to 3 as halves.
const HALVES: [u16; 7] = [0xc200, 0xc000, 0xbc00, 0, 0x3c00, 0x4000, 0x4200];

#[test]
fn products_on_tensor_cores_take_about_as_long_as_measured_on_an_rtx_4090() {
    let gpu = Gpu::of("rtx4090");
    let module = gpu.load(&compile(include_str!("tensor.cu"), 89, &[]));
    let n = MEASURED as usize;
    let value = |seed: u32, i: usize| (i as u32).wrapping_mul(2_654_435_761).wrapping_add(seed) >> 24;
    let halves = |seed| (0..n * n).map(|i| HALVES[value(seed, i) as usize % 7]).collect::<Vec<u16>>();
    let number = |half: u16| HALVES.iter().position(|&other| other == half).expect("one of them") as f32 - 3.0;
    let (a, b) = (halves(1), halves(2));
    let [left, right] = [&a, &b].map(|data| gpu.upload(data));
    let rows = TENSOR.map(|(kernel, tile, column_major, published)| {
        let out = gpu.zeros(4 * n * n);
        let options = LaunchOptions { count: true, ..LaunchOptions::default() };
        let outcome =
            gpu.launch(&module, kernel, ([2, 1, 1], [256, 1, 1], 0), args![MEASURED, left, right, out], &options);
        support::gpu::assert_clean(kernel, &outcome);
        let tile = tile as usize;
        let result: Vec<f32> = gpu.download(out, tile * n);
        gpu.free(out);
        for (row, column) in [(0, 0), (0, tile - 1), (1, tile + 1), (tile - 1, 2 * tile - 1), (tile / 2 + 3, 13)] {
            let product = |k| {
                let other = if column_major { column * n + k } else { k * n + column };
                number(a[row * n + k]) * number(b[other])
            };
            let sum: f32 = (0..n).map(product).sum();
            assert_eq!(result[row * n + column], sum, "{kernel}: row {row}, column {column}");
        }
        let counters = outcome.counters.expect("counters were asked for");
        let blocks = (n / tile).pow(2) as u64;
        let matrix = (n * n) as u64;
        let all = times(&counters, blocks / counters.blocks);
        // The matrices, which all blocks share, and of which the other kernels left nothing in L2.
        let [unique_bytes_read, unique_bytes_written] = [4 * matrix; 2];
        let all = Counters { blocks, unique_bytes_read, unique_bytes_written, resident_bytes_read: 0, ..all };
        let times = Times::of(&gpu.profile, &all);
        // TFLOP/s, of operations per nanosecond.
        row(kernel, "TFLOP/s", published, 2.0 * (n as f64).powi(3) / times.total() / 1e3, times.busiest().0)
    });
    let mut errors = rows.map(|(_, error)| error);
    errors.sort_by(f64::total_cmp);
    let median = (errors[2] + errors[3]) / 2.0;
    println!("median error {:.0} %, largest {:.0} %", 100.0 * median, 100.0 * errors[5]);
    assert!(median <= 0.2, "{errors:?}");
    assert!(rows.iter().all(|(in_readme, _)| *in_readme), "README has another table than the one printed");
}

#[test]
fn streams_take_about_as_long_as_measured() {
    const BLOCKS: u32 = 4;
    let source = include_str!("stream.cu");
    let data: Vec<f32> = (0..BLOCKS * 4096).map(|i| (i % 64) as f32).collect();
    // Measured by gpu-benches (github.com/te42kyfo/gpu-benches), the sum by github.com/pranjalssh/fast.cu.
    let kernels = [("a100", 80, "scale", 1381.0), ("a100", 80, "triad", 1360.0), ("h100", 90, "sum", 3240.0)];
    let rows = kernels.map(|(profile, target, kernel, published)| {
        let gpu = Gpu::of(profile);
        let module = gpu.load(&compile(source, target, &[]));
        let [out, b, c] = [&data; 3].map(|data| gpu.upload(data));
        let options = LaunchOptions { count: true, ..LaunchOptions::default() };
        let shape = ([BLOCKS, 1, 1], [1024, 1, 1], 0);
        let outcome = gpu.launch(&module, kernel, shape, args![out, b, c], &options);
        support::gpu::assert_clean(kernel, &outcome);
        let first = gpu.download::<f32>(out, data.len())[5];
        assert_eq!(
            first,
            match kernel {
                "scale" => 15.0,
                "triad" => 20.0,
                _ => 5.0,
            },
            "{kernel}"
        );
        let all = times(&outcome.counters.expect("counters were asked for"), 1 << 14);
        let bytes = (all.unique_bytes_read + all.unique_bytes_written) as f64;
        let times = Times::of(&gpu.profile, &all);
        row(kernel, "GB/s", published, bytes / times.total(), times.busiest().0)
    });
    assert!(rows.iter().all(|(_, error)| *error <= 0.2), "{rows:?}");
    assert!(rows.iter().all(|(in_readme, _)| *in_readme), "README has another table than the one printed");
}
