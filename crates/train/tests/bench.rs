//! `alexnet bench` from the command line.

mod command;

use command::Place;

#[test]
fn a_row_a_layer_and_the_whole_step() {
    let place = Place::new();
    let out = place.succeed("bench --device cpu --batch-size 4 --seconds 0");
    assert!(out.starts_with("cifar at batch 4 on cpu ("), "{out}");
    let rows: Vec<&str> =
        out.lines().filter(|line| line.starts_with("features.") || line.starts_with("classifier.")).collect();
    // Five convolutions, three pools, one dropout, three linear layers; ReLU and the second dropout are part of other layers.
    assert_eq!(rows.len(), 12, "{out}");
    assert!(rows.iter().filter(|row| row.ends_with('%')).count() == 8, "{out}");
    assert!(out.contains("img/s") && out.contains("\ninference "), "{out}");
}

#[test]
fn as_json_the_parts_add_up_to_the_step() {
    let place = Place::new();
    let out = place.succeed("bench --device cpu --batch-size 16 --threads 1 --seconds 0.2 --json");
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    let number = |value: &serde_json::Value| value.as_f64().unwrap_or(0.0);
    let layers = json["layers"].as_array().unwrap();
    let flops: f64 = layers.iter().map(|layer| number(&layer["forward_gflop"])).sum();
    // 2 · 16 images of the multiply-adds that the table of layers shows.
    assert!((flops - 32.0 * 0.055_576_576).abs() / flops < 0.5, "{flops}");
    let sum: f64 = layers.iter().map(|layer| number(&layer["forward_ms"]) + number(&layer["backward_ms"])).sum();
    let sum = sum + number(&json["loss_ms"]) + number(&json["update_ms"]);
    let step = number(&json["step_ms"]);
    // A machine that is busy elsewhere makes these differ.
    assert!(sum > step / 3.0 && sum < step * 3.0, "{sum} {step}");
    assert!((number(&json["images_per_second"]) - 16e3 / step).abs() < 1e-6 * 16e3 / step);
}

#[test]
fn inference_with_half_weights() {
    let place = Place::new();
    let out = place.succeed("bench --device cpu --batch-size 1 --seconds 0 --weights half");
    assert!(out.contains("\ninference with half weights "), "{out}");
    let out = place.succeed("bench --device cpu --batch-size 2 --seconds 0 --weights half --json");
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["weights"], "half");
    assert!(json["inference_images_per_second"].as_f64().unwrap() > 0.0);
    place.fail("bench --device cuda --weights half", 1, &["it is for the CPU"]);
}

#[test]
fn what_cannot_be_measured() {
    let place = Place::new();
    place.fail("bench --batch-size 0", 2, &["--batch-size"]);
    place.fail("bench --seconds x", 2, &["--seconds"]);
    place.fail("bench --device cpu --arch cifar --resize 4", 1, &["error: "]);
}
