//! The page of `alexnet serve` and that of `alexnet report` in a headless Chromium: opened, pictures dropped and chosen,
//! the predictions read back, on the screens of a desktop and of a phone, light and dark.
//!
//! Run it with `cargo test --release --package alexnet-train --test python --test browser --test arm64 -- --ignored`. It
//! makes a Python environment with Playwright in the user's cache folder by pip; Chromium is the machine's own
//! (`ALEXNET_CHROMIUM`, or `chromium` on the path), or comes from Debian's packages where the test may install them.
//! The screenshots stay in the build's `tmp` folder.

mod command;
mod environment;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use command::{Place, SHORT};

const PACKAGES: [&str; 1] = ["playwright==1.65.2"];

/// A Chromium on this machine.
fn chromium() -> Result<PathBuf, String> {
    if let Some(given) = std::env::var_os("ALEXNET_CHROMIUM") {
        return Ok(given.into());
    }
    let find = || {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let places: Vec<PathBuf> = std::env::split_paths(&path).collect();
        let names = ["chromium", "chromium-browser", "google-chrome"];
        names.iter().flat_map(|name| places.iter().map(move |place| place.join(name))).find(|file| file.is_file())
    };
    if let Some(found) = find() {
        return Ok(found);
    }
    for arguments in [&["update"][..], &["install", "--yes", "--no-install-recommends", "chromium"]] {
        let _ = Command::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive").output();
    }
    find().ok_or_else(|| "no Chromium: install it (`apt-get install chromium`), or set ALEXNET_CHROMIUM to it".into())
}

#[test]
#[ignore = "needs Chromium and a Python environment with Playwright, which it installs"]
fn pages() {
    let browser = chromium().unwrap_or_else(|error| panic!("{error}"));
    let python = environment::python(&PACKAGES, "200 MB").unwrap_or_else(|error| panic!("{error}"));
    let place = Place::new();
    place.succeed(&format!("{SHORT} --epochs 2 --out run"));
    place.succeed(&format!("{SHORT} --epochs 1 --lr 0.02 --out other"));
    place.succeed("report run other -o report.html --device cpu");
    let picture = image::RgbImage::from_fn(50, 40, |x, y| image::Rgb([x as u8 * 5, y as u8 * 6, 90]));
    picture.save(place.path("picture.png")).unwrap();
    image::RgbImage::from_pixel(64, 48, image::Rgb([200, 30, 90])).save(place.path("other.png")).unwrap();
    std::fs::write(place.path("broken.png"), b"no picture").unwrap();
    let said = place.succeed("predict run picture.png --json --top 1 --device cpu");
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    let best = &said["predictions"][0];
    let share = best["probability"].as_f64().unwrap();

    let serve = place.command("serve run --port 0 --device cpu --max-size 1").stdout(Stdio::piped()).spawn();
    let mut serve = serve.unwrap();
    let mut line = String::new();
    BufReader::new(serve.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap_or_else(|| panic!("{line}"));
    let shots = Path::new(env!("CARGO_TARGET_TMPDIR")).join("browser");
    std::fs::create_dir_all(&shots).unwrap();
    let output = Command::new(&python)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/browser.py"))
        .args([&browser, &place.path(""), &shots])
        .args([address, best["class"].as_str().unwrap(), &format!("{:.1}%", share * 100.0)])
        .output();
    let _ = serve.kill();
    let _ = serve.wait();
    let output = output.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}
