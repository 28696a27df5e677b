//! A folder too large for memory is decoded batch by batch, within the stated memory.

use std::time::Instant;

use alexnet_train::data::{Augment, Dataset, Loader, LoaderOptions, Options};

const IMAGES: usize = 2000;
const SIDE: usize = 224;

/// A photograph's size, smooth with some texture: about 40 kB as JPEG.
fn jpeg(seed: u32) -> Vec<u8> {
    let picture = image::RgbImage::from_fn(500, 375, |x, y| {
        let wave = |a: u32, b: u32| (f64::from(x * a + y * b + seed * 50) / 40.0).sin() * 90.0 + 128.0;
        let noise = (x.wrapping_mul(7919) ^ y.wrapping_mul(104_729) ^ seed).wrapping_mul(2_654_435_761) >> 28;
        image::Rgb([wave(1, 2), wave(3, 1), wave(2, 5)].map(|value| value as u8 + noise as u8))
    });
    let mut file = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut file, image::ImageFormat::Jpeg).unwrap();
    file.into_inner()
}

/// Peak memory of this process in bytes; `None` where the system does not report it.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? << 10)
}

// The only test of this file, so that no other one allocates at the same time.
#[test]
fn two_thousand_photographs() {
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<Vec<u8>> = (0..4).map(jpeg).collect();
    for (split, count) in [("train", IMAGES), ("val", 4)] {
        for class in 0..4 {
            std::fs::create_dir_all(folder.path().join(format!("{split}/{class}"))).unwrap();
        }
        for i in 0..count {
            let class = i % 4;
            std::fs::write(folder.path().join(format!("{split}/{class}/{i:04}.jpg")), &files[class]).unwrap();
        }
    }
    let options = Options { image_size: SIDE, memory: 100 << 20, ..Options::default() };
    let split = Dataset::open_folder(folder.path(), &options).unwrap().train;
    assert_eq!((split.len(), split.pixels()), (IMAGES, None), "301 MB of pixels do not fit 100 MiB");
    let transforms = Augment::DEFAULT.at(SIDE);
    let options =
        LoaderOptions { batch_size: 32, image_size: SIDE, shuffle: true, transforms, ..LoaderOptions::default() };
    let stated = options.memory::<f32>();
    let (before, start) = (peak(), Instant::now());
    let mut counts = [0; 4];
    for batch in Loader::new(&split, options).unwrap() {
        let batch = batch.unwrap();
        batch.labels().iter().for_each(|&label| counts[label as usize] += 1);
        assert!(batch.images().iter().all(|value| value.is_finite()));
    }
    assert_eq!(counts, [IMAGES / 4; 4]);
    println!("{:.0} images/s", IMAGES as f64 / start.elapsed().as_secs_f64());
    if let (Some(before), Some(after)) = (before, peak()) {
        // What a thread decodes and resizes, 500·375·3 bytes a few times over, and stacks.
        let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        let bound = stated + threads * (8 << 20) + (16 << 20);
        assert!(after - before < bound, "{} bytes more than before, at most {bound}", after - before);
    }
}
