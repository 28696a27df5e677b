//! The CUDA kernels at the shapes of AlexNet: on a GPU their time, by its events and with the second-level cache
//! overwritten in between; without one, under warpcheck, their counters, which no clock enters.
//!
//! `cargo bench -p alexnet-kernels --bench cuda` prints the table of docs/kernels.md, with `-- conv` only what has "conv" in its
//! name; `-- --json` adds a JSON object per time, and `-- --list` prints the operators.

#[path = "../tests/driver/mod.rs"]
mod driver;
mod operators;
#[path = "support/peaks.rs"]
mod peaks;
mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use alexnet_core::alexnet::Variant;
use alexnet_kernels::{Kernels, Number, Precision, Result, Winograd, device_count};
use criterion::Criterion;
use driver::Driver;
use driver::counters::Counted;
use libloading::Library;
use operators::{Case, Net};

fn main() {
    // The words that Cargo and criterion know begin with "--".
    let filter = std::env::args().skip(1).find(|word| !word.starts_with("--")).unwrap_or_default();
    let flag = |flag: &str| std::env::args().any(|word| word == flag);
    if flag("--list") {
        let mut operators: Vec<_> = wanted(&timed_nets(), "").iter().map(|case| case.operator).collect();
        operators.sort_unstable();
        operators.dedup();
        operators.iter().for_each(|operator| println!("{operator}: benchmark"));
    }
    if flag("--test") || flag("--list") {
        return;
    }
    // Under warpcheck the times are asked for only to test what reads them.
    let asked = std::env::var("ALEXNET_TEST_DRIVER").is_ok_and(|value| value == "cuda");
    let real = asked || !is_soft() && device_count().is_ok();
    if real {
        // SAFETY: no other thread runs yet.
        unsafe { std::env::set_var("ALEXNET_TEST_DRIVER", "cuda") };
    }
    let driver = driver::driver();
    if real { timed(&driver, &filter, flag("--json")) } else { counted(&driver, &filter) }
}

/// Whether warpcheck is installed as this machine's driver: its clock is a model, and no time to report.
fn is_soft() -> bool {
    ["libcuda.so", "libcuda.so.1"].into_iter().any(|name| {
        // SAFETY: the driver's initialisers are NVIDIA's or warpcheck's; the symbol is only looked for.
        unsafe { Library::new(name).is_ok_and(|library| library.get::<fn()>(b"warpcheck_reset").is_ok()) }
    })
}

/// Cases by network, those that `filter` is part of.
fn wanted(nets: &[Net], filter: &str) -> Vec<Case> {
    let cases = nets.iter().flat_map(Net::cases);
    cases.filter(|case| format!("{} {}", case.operator, case.name).contains(filter)).collect()
}

// ---- On a GPU ---------------------------------------------------------------------------------------------------------

fn timed_nets() -> [Net; 2] {
    [Net::new(Variant::Cifar, 128), Net::new(Variant::Torchvision, 128)]
}

fn timed(driver: &Driver, filter: &str, json: bool) {
    let cases = wanted(&timed_nets(), filter);
    let (warm_up, measurement) = (Duration::from_millis(100), Duration::from_millis(300));
    let criterion = Criterion::default().sample_size(10).without_plots();
    let mut criterion = criterion.warm_up_time(warm_up).measurement_time(measurement);
    for precision in Precision::ALL {
        let kernels = driver.kernels(precision);
        for case in &cases {
            if let Err(error) = time(&mut criterion, kernels, precision, case, json) {
                println!("{precision:?} {} {}: {error}", case.operator, case.name);
            }
        }
    }
}

fn time(criterion: &mut Criterion, kernels: &Kernels, precision: Precision, case: &Case, json: bool) -> Result<()> {
    let mut work = case.start(kernels)?;
    // Larger than any second-level cache.
    let mut flush = kernels.zeros(Number::U8, 256 << 20)?;
    // Compiles and loads, and shows whether it runs.
    work()?;
    kernels.synchronize()?;
    let mut all = Vec::new();
    let name = format!("{precision:?} {} {}", case.operator, case.name);
    criterion.bench_function(&name, |bencher| {
        bencher.iter_custom(|times| {
            // Overwriting the cache takes longer than most of the work, and criterion does not know of it: of the
            // thousands of times that it asks for, ten are measured and stand for the others.
            let runs = times.min(10);
            let one = |_| kernels.time(&mut flush, &mut work).expect("it ran before");
            let measured: Vec<Duration> = (0..runs).map(one).collect();
            let sum: Duration = measured.iter().sum();
            all.extend(measured);
            sum.mul_f64(times as f64 / runs as f64)
        });
    });
    all.sort_unstable();
    let Some(median) = all.get(all.len() / 2) else { return Ok(()) };
    let seconds = median.as_secs_f64();
    let (rate, bandwidth) = (case.operations as f64 / seconds / 1e12, case.least_bytes(kernels) as f64 / seconds / 1e9);
    let shares = peaks::peaks(kernels.name()).map(|peaks| {
        let peak = match precision {
            Precision::Fp32 => peaks.fp32,
            Precision::Tf32 => peaks.tf32,
            Precision::Fp16 | Precision::Bf16 => peaks.half,
        };
        [rate / peak, bandwidth / peaks.memory]
    });
    let text = shares.map_or("peak unknown".to_owned(), |[arithmetic, memory]| {
        format!("{:.0} % of arithmetic, {:.0} % of memory", 100.0 * arithmetic, 100.0 * memory)
    });
    println!("{name}: {:.1} µs, {rate:.2} TFLOP/s, {bandwidth:.0} GB/s; {text} ({})", seconds * 1e6, kernels.name());
    if json {
        let row = serde_json::json!({
            "name": name.to_lowercase(), "us": seconds * 1e6, "tflops": rate, "gb_per_s": bandwidth,
            "of_arithmetic": shares.map(|shares| shares[0]), "of_memory": shares.map(|shares| shares[1]),
        });
        println!("{row}");
    }
    Ok(())
}

// ---- Under warpcheck ----------------------------------------------------------------------------------------------------

/// The worst of a kernel over its layers, by precision.
type Worst = [Option<[f64; 4]>; 2];

fn counted(driver: &Driver, filter: &str) {
    // The ratios are those of any batch: tiles repeat.
    let nets = [Net::new(Variant::Cifar, 8), Net::new(Variant::Torchvision, 1), Net::new(Variant::Original, 1)];
    // The update of 61 million weights is cifar's with more blocks, and so are the products with them.
    let large = |case: &Case| !case.name.starts_with("cifar") && (case.operator == "sgd" || case.operator == "linear");
    let cases: Vec<Case> = wanted(&nets, filter).into_iter().filter(|case| !large(case)).collect();
    let mut table: BTreeMap<(&str, String, bool), Worst> = BTreeMap::new();
    // In fp32 convolutions are counted with both algorithms.
    let mut direct = Kernels::new(0, Precision::Fp32).expect("warpcheck has a device");
    direct.set_winograd(Winograd::Never);
    let devices = [(0, &direct), (0, driver.winograd()), (1, driver.kernels(Precision::Fp16))];
    for (index, (column, kernels)) in devices.into_iter().enumerate() {
        for case in cases.iter().filter(|case| index != 1 || case.operator == "conv") {
            let mut work = case.start(kernels).unwrap_or_else(|e| panic!("{}: {e}", case.name));
            let counters = driver.counters(|| work().unwrap_or_else(|e| panic!("{}: {e}", case.name)));
            for counted in Counted::all(&counters) {
                let first = case.operator == "conv" && case.name.contains("features.0 ");
                let worst = &mut table.entry((case.operator, counted.kernel.clone(), first)).or_default()[column];
                let all = counted.operations + counted.tensor_operations;
                let tensor = counted.tensor_operations as f64 / all.max(1) as f64;
                let now = [counted.sectors, counted.wavefronts, counted.traffic, tensor];
                *worst = Some(worst.map_or(now, |worst| std::array::from_fn(|i| worst[i].max(now[i]))));
            }
        }
    }
    println!("Worst over the layers of cifar, torchvision and original; float / half, on warpcheck's {}:\n", {
        driver.kernels(Precision::Fp32).name()
    });
    println!(
        "| operator | kernel | sectors / ideal | wavefronts / ideal | bytes / compulsory | operations on tensor cores |"
    );
    println!("|---|---|---|---|---|---|");
    for ((operator, kernel, first), worst) in &table {
        let cell = |index: usize, percent: bool| {
            let texts = worst.map(|values| match values.map(|values| values[index]) {
                None => "–".to_owned(),
                Some(value) if percent => format!("{:.0} %", 100.0 * value),
                Some(0.0) => "–".to_owned(),
                Some(value) => format!("{value:.2}"),
            });
            if texts[0] == texts[1] { texts[0].clone() } else { texts.join(" / ") }
        };
        let layer = if *first { ", first layer" } else { "" };
        let cells = [cell(0, false), cell(1, false), cell(2, false), cell(3, true)];
        println!("| {operator}{layer} | `{kernel}` | {} |", cells.join(" | "));
    }
}
