//! Files of weights, settings, metrics and lists that were written to cost much: each is read or refused within a second,
//! and within twice its size and 64 MiB. Names that steer the terminal are escaped.
#![cfg(target_os = "linux")]

mod command;
mod cost;

use std::fmt::Write as _;
use std::fs::{self, File};

use command::Place;
use cost::{Cost, cost};

fn safetensors(header: &str) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat()
}

/// A header of `count` entries with a comma between them.
fn header(count: usize, entry: impl Fn(usize) -> String) -> Vec<u8> {
    let mut text = "{".to_owned();
    for index in 0..count {
        let _ = write!(text, "{}{}", if index == 0 { "" } else { "," }, entry(index));
    }
    safetensors(&(text + "}"))
}

fn metadata(strings: &str) -> Vec<u8> {
    safetensors(&format!("{{\"__metadata__\":{{{strings}}}}}"))
}

/// Hostile headers and a part of the message that refuses each.
fn headers() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let empty = |name: String| format!("\"{name}\":{{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}");
    let byte = |name: &str, from: u64| {
        format!("\"{name}\":{{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[{from},{}]}}", from.wrapping_add(1))
    };
    let keys = |count: usize| (0..count).map(|key| format!("\"{key}\":\"\"")).collect::<Vec<_>>().join(",");
    let classes = format!("[{}]", vec!["\\\"a\\\""; 1_000_000].join(","));
    let known = |classes: &str| {
        metadata(&format!("\"format_version\":\"1\",\"checksum\":\"{}\",\"classes\":\"{classes}\"", "0".repeat(64)))
    };
    vec![
        ("tensors", header(500_000, |index| empty(format!("t{index}"))), "the limit is 8 MiB"),
        ("tensors-in-limit", header(65_536, |index| empty(format!("t{index}"))), "features.0.weight"),
        ("tensors-too-many", header(100_000, |index| empty(format!("t{index}"))), "more than 65536 names"),
        ("keys", metadata(&keys(300_000)), "more than 65536 names"),
        ("string", metadata(&format!("\"a\":\"{}\"", "x".repeat(64 << 20))), "the limit is 8 MiB"),
        ("classes", known(&classes), "error: "),
        (
            "nested",
            safetensors(&format!("{{\"a\":{{\"x\":{}", "[".repeat(7 << 20))),
            "is not a complete safetensors file",
        ),
        ("deep", safetensors(&format!("{{\"a\":{}", "[".repeat(64 << 20))), "the limit is 8 MiB"),
        ("name", header(1, |_| empty("features.0.".repeat(700_000))), "the limit is 1024"),
        (
            "shape",
            safetensors(&format!(
                "{{\"a\":{{\"dtype\":\"F32\",\"shape\":[0{}],\"data_offsets\":[0,0]}}}}",
                ",1".repeat(4_000_000)
            )),
            "4000001 dimensions",
        ),
        ("overlap", [header(2, |index| byte(&format!("t{index}"), 0)), vec![0]].concat(), "t1"),
        ("twice", [header(2, |index| byte("t", index as u64)), vec![0; 2]].concat(), "two tensors have the name t"),
        ("offsets", header(1, |_| byte("t", u64::MAX - 1)), "t"),
        ("beyond", u64::MAX.to_le_bytes().into_iter().chain(*b"{}      ").collect(), "of an unknown kind"),
    ]
}

fn cheap(what: &str, base: &Cost, len: usize, found: &Cost, words: &str) -> Result<(), String> {
    let (mib, seconds) = (found.mib.saturating_sub(base.mib), found.seconds - base.seconds);
    let most = 2 * (len as u64 >> 20) + 64;
    println!("{what}: {len} bytes, {mib} of {most} MiB, {seconds:.2} s, {}", found.error);
    let slow = seconds > 1.0 && !cfg!(debug_assertions);
    match mib > most || slow || found.code != 1 || !found.error.contains(words) || found.error.contains("panicked") {
        true => Err(format!("{what}: {mib} of {most} MiB, {seconds:.2} s, no `{words}` in {found:?}")),
        false => Ok(()),
    }
}

#[test]
fn a_header_costs_no_more_than_its_file() {
    let place = Place::new();
    cost::run(&place);
    image::RgbImage::new(16, 16).save(place.path("a.png")).unwrap();
    let base = cost(&place, "predict r a.png --device cpu");
    fs::create_dir(place.path("x")).unwrap();
    for name in ["config.toml", "metrics.jsonl"] {
        let _ = fs::copy(place.path("r").join(name), place.path("x").join(name));
    }
    let mut faults = Vec::new();
    for (name, file, words) in headers() {
        fs::write(place.path("x/last.safetensors"), &file).unwrap();
        fs::write(place.path("x/best.safetensors"), &file).unwrap();
        for command in [
            "predict x a.png",
            "eval x --data sample",
            "export x/last.safetensors -o o.onnx",
            "import x/last.safetensors -o o.safetensors",
            "serve x --port 0",
            "report x -o o.html",
            "train --resume x",
            "train --init x/last.safetensors --data sample --limit-train 32 --arch modern --epochs 1",
        ] {
            let found = cost(&place, command);
            // A file without a run's metadata is resumed by no command.
            let words = if command.contains("--resume") || command.contains("report") { "error: " } else { words };
            faults.extend(cheap(&format!("{name}, {command}"), &base, file.len(), &found, words).err());
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn settings_metrics_and_lists_have_limits() {
    let place = Place::new();
    cost::run(&place);
    image::RgbImage::new(16, 16).save(place.path("a.png")).unwrap();
    let base = cost(&place, "predict r a.png --device cpu");
    let long = |name: &str, len: u64| File::create(place.path(name)).unwrap().set_len(len).unwrap();
    long("big.toml", 64 << 20);
    fs::create_dir_all(place.path("d/train")).unwrap();
    long("d/train/1.png", 0);
    long("d/labels.csv", 1 << 30);
    fs::create_dir_all(place.path("y")).unwrap();
    for name in ["config.toml", "last.safetensors"] {
        fs::copy(place.path("r").join(name), place.path("y").join(name)).unwrap();
    }
    long("y/metrics.jsonl", 1 << 30);
    let mut zip = zip::ZipWriter::new(File::create(place.path("many.pth")).unwrap());
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    (0..200_000).for_each(|index| zip.start_file(format!("a/{index}"), stored).unwrap());
    zip.finish().unwrap();
    let mut faults = Vec::new();
    for (command, len, words) in [
        ("train --config big.toml --data sample", 64 << 20, "it has 64 MiB, the limit is 1 MiB"),
        ("import r/last.safetensors --classes big.toml -o o.safetensors", 64 << 20, "the limit is 4 MiB"),
        ("data show --data d", 0, "more than the 268435456"),
        ("report y -o o.html", 0, "metrics.jsonl: it has 1024 MiB, the limit is 256 MiB"),
        // It builds the network before.
        ("train --resume y --epochs 1", 64 << 20, "metrics.jsonl: it has 1024 MiB, the limit is 256 MiB"),
        ("import many.pth -o o.safetensors", 0, "200000 records"),
        ("predict many.pth a.png", 0, "200000 records"),
    ] {
        faults.extend(cheap(command, &base, len, &cost(&place, command), words).err());
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn names_are_escaped_for_people_and_kept_for_tools() {
    let place = Place::new();
    cost::run(&place);
    let hostile = "\u{1b}[31mred\u{202e}";
    let names: String = (0..10).map(|class| format!("{hostile}{class}\n")).collect();
    fs::write(place.path("names"), names).unwrap();
    place.succeed("import r/last.safetensors --classes names -o w.safetensors");
    let (picture, broken) = ("a\n\u{9b}2J.png", "b\nerror: c.png");
    image::RgbImage::new(16, 16).save(place.path(picture)).unwrap();
    fs::write(place.path(broken), "no picture").unwrap();
    let predict = |format: &str| {
        let mut command = place.command(&format!("predict w.safetensors --device cpu --format {format}"));
        command::done(command.args([picture, broken]).output().unwrap())
    };
    let table = predict("table");
    assert_eq!(table.code, 1);
    assert!(table.out.contains(r"\u{1b}[31mred\u{202e}") && table.out.contains(r"a\n\u{9b}2J.png"), "{table:?}");
    assert_eq!(table.out.lines().count(), 2, "{table:?}");
    assert!(table.error.starts_with(r"error: cannot decode b\nerror: c.png"), "{table:?}");
    for text in [&table.out, &table.error] {
        assert!(!text.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{text:?}");
    }
    assert!(!table.error.lines().any(|line| line.starts_with("error: c.png")), "{table:?}");
    // What tools read has the names as they are, in the manner of the format.
    let json = predict("jsonl").out;
    let first: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!(first["image"], picture);
    assert!(first["class"].as_str().unwrap().starts_with(hostile));
    let csv = predict("csv").out;
    let row = csv::Reader::from_reader(csv.as_bytes()).records().next().unwrap().unwrap();
    assert_eq!(&row[0], picture);
    assert!(row[1].starts_with(hostile));
    // A name of any length is no panic.
    fs::write(place.path("names"), format!("{}\n{}", "x".repeat(70_000), "y\n".repeat(9))).unwrap();
    place.fail(
        "import r/last.safetensors --classes names -o v.safetensors",
        1,
        &["the name of a class has 70000 bytes, the limit is 1024"],
    );
    // A folder's classes.
    let class = place.path(&format!("d/train/{hostile}"));
    fs::create_dir_all(&class).unwrap();
    fs::copy(place.path(picture), class.join("1.png")).unwrap();
    let shown = place.succeed("data show --data d");
    assert!(shown.contains(r"\u{1b}[31mred") && !shown.contains('\u{1b}'), "{shown:?}");
}
