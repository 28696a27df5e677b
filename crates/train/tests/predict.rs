//! `alexnet predict`: pictures of every kind, preprocessed as in evaluation; broken ones are told and passed over.

mod command;
#[cfg(target_os = "linux")]
mod cost;

#[cfg(feature = "cuda")]
#[path = "../../../examples/classify_picture.rs"]
#[allow(dead_code)]
mod classify_picture;

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use alexnet_train::data::{Dataset, Options};
use command::{Place, SHORT, done, set_tensors};
use image::ImageFormat;
use serde_json::Value;

/// Writes the embedded test images as PNG files, named so that their order stays; gives out their labels.
fn pictures(folder: &Path) -> Vec<u32> {
    std::fs::create_dir_all(folder.join("more")).unwrap();
    let test = Dataset::open("sample", &Options::default()).unwrap().test;
    let mut scratch = Vec::new();
    for index in 0..test.len() {
        let pixels = test.image(index, 32, &mut scratch).unwrap().to_vec();
        let picture = image::RgbImage::from_raw(32, 32, pixels).unwrap();
        let name = if index < 100 { format!("{index:03}.png") } else { format!("more/{index:03}.PNG") };
        picture.save_with_format(folder.join(name), ImageFormat::Png).unwrap();
    }
    test.labels().to_vec()
}

fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_folder_is_predicted_as_it_is_evaluated() {
    let place = Place::new();
    place.succeed(&format!("{SHORT} --epochs 1"));
    let labels = pictures(&place.path("pictures"));
    let evaluation: Value = serde_json::from_str(&place.succeed("eval runs/cifar-1 --json --device cpu")).unwrap();
    let out = place.succeed("predict runs/cifar-1 pictures --json --top 10 --batch-size 64 --device cpu");
    let found = objects(&out);
    assert_eq!(found.len(), labels.len());
    let (mut loss, mut correct) = (0.0, 0);
    for (object, &label) in found.iter().zip(&labels) {
        let predictions = object["predictions"].as_array().unwrap();
        let sum: f64 = predictions.iter().map(|p| p["probability"].as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-9, "{object}");
        let own = predictions.iter().find(|p| p["index"] == label).unwrap();
        assert_eq!(own["class"], evaluation["classes"][label as usize]);
        loss -= own["probability"].as_f64().unwrap().ln();
        correct += usize::from(predictions[0]["index"] == label);
    }
    assert_eq!(correct as f64 / labels.len() as f64, evaluation["accuracy"].as_f64().unwrap());
    let difference = loss / labels.len() as f64 - evaluation["loss"].as_f64().unwrap();
    assert!(difference.abs() < 1e-6, "{difference}");
    // Another batch size, another number of threads: the same bytes.
    assert_eq!(place.succeed("predict runs/cifar-1 pictures --json --top 10 --batch-size 7 --threads 1"), out);
}

#[test]
fn every_colour_type_and_size_is_read() {
    let place = Place::new();
    place.succeed(&format!("{SHORT} --epochs 0"));
    let grey: Vec<u8> = (0..48 * 40).map(|i| (i % 48 * 5) as u8).collect();
    let path = |name: &str| place.path(name);
    let grey8 = image::GrayImage::from_raw(48, 40, grey.clone()).unwrap();
    let dynamic = image::DynamicImage::from(grey8);
    dynamic.save(path("grey.png")).unwrap();
    dynamic.to_rgb8().save(path("rgb.png")).unwrap();
    dynamic.to_rgba8().save(path("alpha.png")).unwrap();
    dynamic.to_luma_alpha8().save(path("grey-alpha.png")).unwrap();
    dynamic.to_rgb16().save(path("rgb16.png")).unwrap();
    dynamic.to_luma16().save(path("grey16.png")).unwrap();
    // A palette of 256 greys that are not in order: the indices are no values.
    let file = std::fs::File::create(path("palette.png")).unwrap();
    let mut encoder = png::Encoder::new(file, 48, 40);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_palette((0..=255u8).flat_map(|i| [255 - i; 3]).collect::<Vec<u8>>());
    let indices: Vec<u8> = grey.iter().map(|&value| 255 - value).collect();
    encoder.write_header().unwrap().write_image_data(&indices).unwrap();
    let names = ["grey", "rgb", "alpha", "grey-alpha", "rgb16", "grey16", "palette"];
    let arguments = names.map(|name| format!("{name}.png")).join(" ");
    let found = objects(&place.succeed(&format!("predict runs/cifar-1 {arguments} --json --device cpu")));
    for (object, name) in found.iter().zip(names) {
        assert_eq!(object["image"], format!("{name}.png"));
        assert_eq!(object["predictions"], found[0]["predictions"], "{name}");
    }
    // JPEG loses a little; one pixel and a long strip are pictures too.
    dynamic.to_rgb8().save(path("colour.jpg")).unwrap();
    dynamic.save(path("grey.jpg")).unwrap();
    image::RgbImage::new(1, 1).save(path("one.png")).unwrap();
    image::RgbImage::new(3000, 2).save(path("strip.png")).unwrap();
    let out = place.succeed("predict runs/cifar-1/last.safetensors colour.jpg grey.jpg one.png strip.png -k 2");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 5, "{out}");
    assert!(lines[0].starts_with("picture") && lines[0].ends_with("2."), "{out}");
    assert!(lines[1].starts_with("colour.jpg  ") && lines[1].matches('%').count() == 2, "{out}");
}

#[test]
fn broken_pictures_are_told_and_the_rest_goes_on() {
    let place = Place::new();
    place.succeed(&format!("{SHORT} --epochs 0"));
    image::RgbImage::new(9, 9).save(place.path("good.png")).unwrap();
    let whole = place.read("good.png");
    std::fs::write(place.path("cut.png"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(place.path("text.jpg"), "no picture").unwrap();
    let arguments = "predict runs/cifar-1 cut.png good.png text.jpg absent.png --device cpu";
    let all = place.run(arguments);
    assert_eq!(all.code, 1, "{all:?}");
    assert_eq!(all.out.lines().count(), 2, "{all:?}");
    for part in ["cut.png", "text.jpg: it is a text file", "absent.png", "3 of 4 pictures could not be read"] {
        assert!(all.error.contains(part), "no `{part}` in {}", all.error);
    }
    let json = place.run(&format!("{arguments} --json"));
    let found = objects(&json.out);
    assert_eq!((json.code, found.len()), (1, 4));
    assert!(found[0]["error"].as_str().unwrap().contains("cut.png") && found[1]["predictions"].is_array());
    // Only broken ones, too.
    assert_eq!(place.run("predict runs/cifar-1 cut.png --device cpu").code, 1);

    // From standard input, where a single picture's classes stand one below the other.
    let mut child = place.command("predict runs/cifar-1 - --top 4 --device cpu");
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&whole).unwrap();
    let done = done(child.wait_with_output().unwrap());
    assert_eq!((done.code, done.out.lines().count()), (0, 4), "{done:?}");

    std::fs::create_dir(place.path("empty")).unwrap();
    place.fail("predict runs/cifar-1 empty", 1, &["empty has no pictures", "hint: "]);
    place.fail("predict nowhere good.png", 1, &["nowhere"]);
    place.fail("predict runs/cifar-1 good.png --batch-size 0", 2, &["--batch-size is 0"]);
}

#[test]
fn outputs_that_are_not_finite_are_no_answer() {
    let place = Place::new();
    place.succeed(&format!("{SHORT} --epochs 0"));
    place.succeed("export runs/cifar-1 -o huge.safetensors");
    // Finite weights, whose products are not.
    set_tensors(&place.path("huge.safetensors"), "", usize::MAX, 1e30);
    image::RgbImage::from_pixel(40, 36, image::Rgb([250, 200, 9])).save(place.path("a.png")).unwrap();
    std::fs::write(place.path("text.png"), "no picture").unwrap();
    let message = "the network's outputs for a.png are not finite (";
    let hint = "hint: the weights have diverged or are too large: use an earlier checkpoint";
    let layer = ", from layer features.3 on)";
    let predict = "predict huge.safetensors a.png text.png --device cpu --threshold 0.5";

    let table = place.run(predict);
    assert_eq!((table.code, table.out.matches('%').count()), (1, 0), "{table:?}");
    for part in [message, layer, "1 of 2 pictures could not be read", "1 of 2 pictures could not be classified", hint] {
        assert!(table.error.contains(part), "no `{part}` in {}", table.error);
    }
    let json = place.run(&format!("{predict} --json"));
    let found = objects(&json.out);
    assert_eq!((json.code, found.len()), (1, 2), "{json:?}");
    assert!(found[0]["error"].as_str().unwrap().starts_with(message) && found[0].get("class").is_none(), "{json:?}");
    let csv = place.run(&format!("{predict} --csv --top 1"));
    assert_eq!(csv.code, 1, "{csv:?}");
    let row = csv.out.lines().nth(1).unwrap();
    assert!(row.starts_with("a.png,,,,") && row.contains(message), "{csv:?}");

    place.succeed("import huge.safetensors -o made.safetensors");
    for json in ["", "--json"] {
        let eval = format!("eval made.safetensors --data sample --limit-test 20 --device cpu {json}");
        assert_eq!(place.run(&eval).out, "");
        place.fail(&eval, 1, &["the network's outputs for image 0 are not finite (", layer, hint]);
    }
    place.fail(
        "export made.safetensors -o x.onnx",
        1,
        &["the network's outputs for a grey picture are not finite (", layer, hint],
    );
    assert!(!place.path("x.onnx").exists());
}

/// Rounds every weight with more than one dimension in a safetensors file to fp16.
fn round_weights(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let data = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..data]).unwrap();
    let tensors = header.as_object().unwrap().values();
    for tensor in tensors.filter(|tensor| tensor["shape"].as_array().is_some_and(|shape| shape.len() > 1)) {
        let at = |index: usize| data + tensor["data_offsets"][index].as_u64().unwrap() as usize;
        for to in bytes[at(0)..at(1)].as_chunks_mut().0 {
            *to = half::f16::from_f32(f32::from_le_bytes(*to)).to_f32().to_le_bytes();
        }
    }
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn half_weights_are_rounded_weights() {
    let place = Place::new();
    place.succeed(&format!("{SHORT} --epochs 1"));
    pictures(&place.path("pictures"));
    for name in ["net", "rounded", "huge"] {
        place.succeed(&format!("export runs/cifar-1 -o {name}.safetensors"));
    }
    round_weights(&place.path("rounded.safetensors"));
    set_tensors(&place.path("huge.safetensors"), "classifier.6.weight", 1, 70000.0);
    let predict = |rest: &str| place.succeed(&format!("predict {rest} --json --top 10 --device cpu"));
    let rounded = predict("rounded.safetensors pictures");
    assert_ne!(predict("net.safetensors pictures"), rounded);
    // Of one picture and of many, on one thread and on all.
    for rest in ["", "--batch-size 1", "--batch-size 7 --threads 1"] {
        assert_eq!(predict(&format!("net.safetensors pictures --weights half {rest}")), rounded, "{rest}");
    }
    let eval = |rest: &str| place.succeed(&format!("eval {rest} --data sample --json --device cpu"));
    assert_eq!(eval("net.safetensors --weights half"), eval("rounded.safetensors"));
    let refused = |arguments: &str, words: &[&str]| {
        let done = place.run(arguments);
        assert_eq!(done.code, 1, "{done:?}");
        words.iter().for_each(|word| assert!(done.error.contains(word), "no `{word}` in: {}", done.error));
    };
    let words = ["error: a weight is 70000, and fp16 ends at 65504", "hint: leave out --weights half"];
    refused("predict huge.safetensors pictures --weights half --device cpu", &words);
    refused("predict net.safetensors pictures --weights half --device cuda", &["it is for the CPU"]);
}

#[test]
fn tables_for_programs_keep_every_name() {
    let place = Place::new();
    place.succeed(&format!("{SHORT} --epochs 0"));
    std::fs::create_dir(place.path("in")).unwrap();
    let names = ["a,b.png", "new\nline.png", "say \"hi\".png", "橙子.png"];
    for name in names {
        image::RgbImage::new(9, 9).save(place.path("in").join(name)).unwrap();
    }
    std::fs::write(place.path("in/broken, really.png"), "no picture").unwrap();
    let rows = |done: &command::Done| -> Vec<std::collections::HashMap<String, String>> {
        csv::Reader::from_reader(done.out.as_bytes()).deserialize().collect::<Result<_, _>>().unwrap()
    };
    let done = place.run("predict runs/cifar-1 in --csv --top 2 --device cpu");
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.error.contains("1 of 5 pictures could not be read"), "{done:?}");
    assert!(done.out.starts_with("file,class,probability,class_2,probability_2,error\n"), "{done:?}");
    let found = rows(&done);
    let files: Vec<_> = found.iter().map(|row| row["file"].strip_prefix("in/").unwrap().to_owned()).collect();
    assert_eq!(files, ["a,b.png", "broken, really.png", "new\nline.png", "say \"hi\".png", "橙子.png"]);
    for row in &found {
        let broken = row["file"].contains("broken");
        assert_eq!(row["error"].contains("broken, really.png"), broken, "{row:?}");
        assert!(row["class"].is_empty() == broken && row["probability_2"].is_empty() == broken, "{row:?}");
    }
    assert_eq!(place.run("predict runs/cifar-1 in --format csv --top 2 --device cpu").out, done.out);

    // No class of ten is certain in a network that has learnt nothing.
    let done = place.run("predict runs/cifar-1 in --csv --top 1 --threshold 90% --device cpu");
    let unsure = rows(&done);
    assert!(done.out.starts_with("file,class,probability,best_class,error\n"), "{done:?}");
    assert!(unsure.iter().filter(|row| row["error"].is_empty()).all(|row| row["class"] == "unknown"), "{unsure:?}");
    assert_eq!(unsure[0]["best_class"], found[0]["class"]);
    let json = place.run("predict runs/cifar-1 in --json --threshold 0.9 --device cpu");
    assert_eq!(place.run("predict runs/cifar-1 in --format jsonl --threshold 0.9 --device cpu").out, json.out);
    let first = &objects(&json.out)[0];
    assert_eq!(
        (&first["class"], &first["predictions"][0]["class"]),
        (&"unknown".into(), &found[0]["class"].as_str().into())
    );
    let table = place.run("predict runs/cifar-1 in --threshold 0.9 --device cpu");
    assert_eq!((table.code, table.out.matches("  unknown  ").count()), (1, 4), "{table:?}");
    let known = place.run("predict runs/cifar-1 in/橙子.png --threshold 0 --device cpu");
    assert!(known.code == 0 && !known.out.contains("unknown"), "{known:?}");

    place.fail("predict runs/cifar-1 in --csv --json", 2, &["cannot be used with", "tip: they are two formats"]);
    place.fail(
        "predict runs/cifar-1 in --threshold 60",
        2,
        &["expected a probability from 0 to 1, such as 0.6 or 60%"],
    );
    place.fail(
        "predict runs/cifar-1 in --format json",
        2,
        &["[possible values: table, csv, jsonl]", "tip: --format jsonl"],
    );
}

#[cfg(feature = "cuda")]
#[test]
fn the_example_classifies_as_the_command_does() {
    let place = Place::new();
    place.succeed(&format!("{SHORT} --epochs 0"));
    let (run, picture) = (place.path("runs/cifar-1"), place.path("gradient.png"));
    image::RgbImage::from_fn(60, 40, |x, y| image::Rgb([x as u8 * 4, y as u8 * 6, 99])).save(&picture).unwrap();
    let mut classifier = classify_picture::load(&run).unwrap();
    let found = classify_picture::classify(&mut classifier, &picture).unwrap();
    let expected = &objects(&place.succeed("predict runs/cifar-1 gradient.png --json"))[0]["predictions"];
    assert_eq!(found.len(), 3);
    for (n, (class, probability)) in found.iter().enumerate() {
        assert_eq!(
            (&expected[n]["class"], &expected[n]["probability"]),
            (&class.as_str().into(), &(*probability).into())
        );
    }
}

#[test]
fn momentum_is_neither_read_nor_judged() {
    let place = Place::new();
    place.succeed(&format!("{SHORT} --epochs 0 --out run"));
    image::RgbImage::from_fn(40, 30, |x, y| image::Rgb([x as u8 * 6, y as u8 * 8, 90]))
        .save(place.path("a.png"))
        .unwrap();
    let predict = "predict run/last.safetensors a.png --json --device cpu --threads 2";
    let before = place.succeed(predict);
    // Weights come first, and momentum is as large.
    let path = place.path("run/last.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 4;
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(place.succeed(predict), before);
    std::fs::remove_file(place.path("run/best.safetensors")).unwrap_or_default();
    place.fail("train --resume run --epochs 1", 1, &["run/last.safetensors is damaged"]);
    // Weights and their transforms, which are 130 MiB; the file has 178.
    #[cfg(target_os = "linux")]
    {
        let cost = cost::cost(&place, predict);
        assert!(cost.code == 0 && cost.mib <= 150, "{cost:?}");
    }
    bytes[last / 2 - (1 << 20)] ^= 4;
    std::fs::write(&path, &bytes).unwrap();
    place.fail(predict, 1, &["run/last.safetensors is damaged"]);
}
