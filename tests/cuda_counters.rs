//! How gemm and conv use memory at the shapes of AlexNet, by softgpu's counters: hardware's rules, no time.

mod driver;

use alexnet_kernels::{Conv, Linear, Precision};
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
        let line = format!("{layer:12} {name:28} sectors {sectors:.3} wavefronts {wavefronts:.3}");
        println!("{line}");
        // Rows of ten numbers of the logits' gradient begin anywhere in a sector; they are a tenth of what is read.
        let most = if layer.starts_with("logits") && name.ends_with("odd") { 1.15 } else { 1.05 };
        if sectors > most || wavefronts > 1.02 {
            beyond.push(line);
        }
    }
}

#[test]
fn sectors_and_wavefronts() {
    let driver = driver::driver();
    let mut beyond = Vec::new();
    for precision in Precision::ALL {
        let kernels = driver.kernels(precision);
        let floats = |len: usize| floats(kernels, &numbers(1, len, precision));
        let stored = |len: usize| kernels.zeros(kernels.storage(), len).unwrap();
        // Of a batch of 128 the ratios are the same: tiles of pixels repeat. The first layer, with 3 channels, loads
        // number by number and is not among them.
        for (name, side, channels, filters) in
            [("conv2", 8, 64, 192), ("conv3", 4, 192, 384), ("conv4", 4, 384, 256), ("conv5", 4, 256, 256)]
        {
            let (height, width) = (side, side);
            let conv = Conv { batch: 8, height, width, channels, filters, kernel: 3, stride: 1, padding: 1, groups: 1 };
            let (x, w, b) = (stored(conv.input_len()), floats(conv.weight_len()), floats(filters));
            let (mut packed, mut y) = (stored(conv.weight_len()), stored(conv.output_len()));
            let (mut dx, mut dw, mut db) = (stored(conv.input_len()), floats(conv.weight_len()), floats(filters));
            let spaces = [conv.forward_workspace(), conv.backward_data_workspace(), conv.backward_weight_workspace()];
            let mut work = floats(spaces.into_iter().max().unwrap_or(0));
            let counters = driver.counters(|| {
                kernels.conv_pack_weights(&conv, &w, &mut packed).unwrap();
                kernels.conv_forward(&conv, &x, &packed, &b, true, &mut y, &mut work).unwrap();
                kernels.conv_backward_data(&conv, &y, &packed, &mut dx, &mut work).unwrap();
                kernels.conv_backward_weight(&conv, &x, &y, false, &mut dw, &mut db, &mut work).unwrap();
            });
            report(&format!("{name} {precision:?}"), &counters, &mut beyond);
        }
        for (name, inputs, outputs) in [("fc", 512, 1024), ("logits", 1024, 10)] {
            let layer = Linear { batch: 128, inputs, outputs };
            let (x, w, b) = (stored(128 * inputs), stored(inputs * outputs), floats(outputs));
            let (mut y, mut dx) = (stored(128 * outputs), stored(128 * inputs));
            let (mut dw, mut db) = (floats(inputs * outputs), floats(outputs));
            let mut work = floats(layer.workspace());
            let counters = driver.counters(|| {
                kernels.linear_forward(&layer, &x, &w, &b, true, None, &mut y, &mut work).unwrap();
                kernels.linear_backward_data(&layer, &y, &w, &mut dx, &mut work).unwrap();
                kernels.linear_backward_weight(&layer, &x, &y, false, &mut dw, &mut db, &mut work).unwrap();
            });
            report(&format!("{name} {precision:?}"), &counters, &mut beyond);
        }
    }
    assert!(beyond.is_empty(), "beyond the limits:\n{}", beyond.join("\n"));
}
