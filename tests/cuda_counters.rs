//! How gemm and conv use memory at the shapes of AlexNet, by softgpu's counters: hardware's rules, no time.

mod driver;

use alexnet_kernels::{Conv, Linear, Number, Precision};
use driver::{floats, numbers};
use serde_json::Value;

/// Counters of one kernel over its ideals: global sectors, shared wavefronts.
fn ratios(kernel: &Value) -> (f64, f64) {
    let counters = if kernel["counters"].is_object() { &kernel["counters"] } else { kernel };
    let ratio = |parts: [&str; 2], found: &str, ideal: &str| {
        let sum = |key: &str| parts.iter().map(|part| counters[part][key].as_u64().expect("a counter")).sum::<u64>();
        sum(found) as f64 / sum(ideal).max(1) as f64
    };
    (
        ratio(["global_load", "global_store"], "sectors", "ideal_sectors"),
        ratio(["shared_load", "shared_store"], "wavefronts", "ideal_wavefronts"),
    )
}

/// Prints a line a kernel, and collects those beyond the limits.
fn report(layer: &str, counters: &Value, beyond: &mut Vec<String>) {
    for kernel in counters.as_array().expect("an array of kernels") {
        let name = kernel["name"].as_str().expect("a name");
        let (sectors, wavefronts) = ratios(kernel);
        let line = format!("{layer:8} {name:28} sectors {sectors:.3} wavefronts {wavefronts:.3}");
        println!("{line}");
        if sectors > 1.05 || wavefronts > 1.02 {
            beyond.push(line);
        }
    }
}

#[test]
fn sectors_and_wavefronts() {
    let driver = driver::driver();
    let kernels = driver.kernels(Precision::Fp32);
    let mut beyond = Vec::new();
    let zeros = |len| kernels.zeros(Number::F32, len).unwrap();
    // Of a batch of 128 the ratios are the same: tiles of pixels repeat. The first layer, with 3 channels, loads number
    // by number and is not among them.
    for (name, side, channels, filters) in
        [("conv2", 8, 64, 192), ("conv3", 4, 192, 384), ("conv4", 4, 384, 256), ("conv5", 4, 256, 256)]
    {
        let (height, width) = (side, side);
        let conv = Conv { batch: 8, height, width, channels, filters, kernel: 3, stride: 1, padding: 1, groups: 1 };
        let (x, w) = (zeros(conv.input_len()), floats(kernels, &numbers(1, conv.weight_len(), Precision::Fp32)));
        let (mut packed, b) = (zeros(conv.weight_len()), zeros(filters));
        let (mut y, mut dx) = (zeros(conv.output_len()), zeros(conv.input_len()));
        let (mut dw, mut db) = (zeros(conv.weight_len()), zeros(filters));
        let spaces = [conv.forward_workspace(), conv.backward_data_workspace(), conv.backward_weight_workspace()];
        let mut work = zeros(spaces.into_iter().max().unwrap_or(0));
        let counters = driver.counters(|| {
            kernels.conv_pack_weights(&conv, &w, &mut packed).unwrap();
            kernels.conv_forward(&conv, &x, &packed, &b, true, &mut y, &mut work).unwrap();
            kernels.conv_backward_data(&conv, &y, &packed, &mut dx, &mut work).unwrap();
            kernels.conv_backward_weight(&conv, &x, &y, false, &mut dw, &mut db, &mut work).unwrap();
        });
        report(name, &counters, &mut beyond);
    }
    for (name, inputs, outputs) in [("fc", 512, 1024), ("logits", 1024, 10)] {
        let layer = Linear { batch: 128, inputs, outputs };
        let (x, w, b) = (zeros(128 * inputs), zeros(inputs * outputs), zeros(outputs));
        let (mut y, mut dx) = (zeros(128 * outputs), zeros(128 * inputs));
        let (mut dw, mut db) = (zeros(inputs * outputs), zeros(outputs));
        let mut work = zeros(layer.workspace());
        let counters = driver.counters(|| {
            kernels.linear_forward(&layer, &x, &w, &b, true, None, &mut y, &mut work).unwrap();
            kernels.linear_backward_data(&layer, &y, &w, &mut dx, &mut work).unwrap();
            kernels.linear_backward_weight(&layer, &x, &y, false, &mut dw, &mut db, &mut work).unwrap();
        });
        report(name, &counters, &mut beyond);
    }
    assert!(beyond.is_empty(), "beyond the limits:\n{}", beyond.join("\n"));
}
