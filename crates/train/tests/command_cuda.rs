//! `alexnet train --device cuda`, the binary as users run it, on warpcheck.
#![cfg(unix)]

mod command;

use command::{Place, done, tensors};
use serde_json::Value;

/// Four steps.
const RUN: &str = "train --data sample --limit-train 64 --limit-test 4 --batch-size 16 --epochs 1 --device cuda";

/// Trains with all checks on; stops and resumes; evaluates on the CPU.
#[test]
fn trains_resumes_bit_equal_and_evaluates_on_the_cpu() {
    let place = Place::new();
    let out = place.succeed_on_cuda(&format!("{RUN} --out whole"), "all");
    assert!(out.contains("\ndevice   cuda:0 (") && out.contains("\nEpoch 1: Loss="), "{out}");

    // Interrupted as soon as it has begun, the step under way finished; the second run is not checked, only compared.
    let mut child = place
        .cuda(&format!("{RUN} --out half"), "none")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    assert!(lines.any(|line| line.unwrap().starts_with("run ")), "ended before it trained");
    let id = child.id().to_string();
    assert!(std::process::Command::new("/bin/kill").args(["-INT", &id]).status().unwrap().success());
    // Whatever is left of its output, so that it does not wait for a reader.
    lines.for_each(drop);
    let half = done(child.wait_with_output().unwrap());
    assert_eq!(half.code, 130, "{half:?}");
    let last = |run: &str| place.path(run).join("last.safetensors");
    let progress = alexnet_train::run::checkpoint::open(&last("half")).unwrap().metadata().progress.clone();
    assert!(progress.step < 4, "{progress:?}");
    place.succeed_on_cuda("train --resume half", "none");
    assert!(tensors(&last("half")) == tensors(&last("whole")));
    let (whole, half) = (&place.metrics("whole")[0], &place.metrics("half")[0]);
    for key in ["train_loss", "train_acc", "test_loss", "test_acc", "step"] {
        assert_eq!(whole[key], half[key], "{key}");
    }

    let json: Value = serde_json::from_str(&place.succeed("eval whole --limit-test 4 --json --device cpu")).unwrap();
    // The logits are sums of at most 4096 products of either device's order, four layers deep, so off by that many
    // roundings of 2⁻²⁴ of their size; they are below 1 after four steps, and the loss is off by no more than they.
    let bound = 4.0 * 2.0 * 4096.0 * 2f64.powi(-24);
    let (cpu, cuda) = (json["loss"].as_f64().unwrap(), whole["test_loss"].as_f64().unwrap());
    assert!((cpu - cuda).abs() < bound && cpu > 1.0, "{cpu} on the CPU, {cuda} on the GPU");
    assert_eq!(json["accuracy"], whole["test_acc"]);
}
