//! Files of every format, mutated at random: no panic, and at most twice the file's size plus 64 MiB of memory. Known attacks
//! are refused by name.
//!
//! `ALEXNET_MUTATIONS` sets the number of mutations per format, 10,000 by default.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Cursor, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use alexnet_train::data::decode::Exif;
use alexnet_train::data::{Dataset, Fit, Options, cifar, decode, resize};
use alexnet_train::import;
use alexnet_train::import::recognise::{Known, recognise};
use alexnet_train::run::checkpoint;
use alexnet_train::run::config::{Config, flag};

/// The system's allocator, with a count of bytes held and their maximum.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

fn took(bytes: usize) {
    let held = HELD.fetch_add(bytes, Ordering::Relaxed) + bytes;
    MOST.fetch_max(held, Ordering::Relaxed);
}

// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One test at a time: memory is counted for the whole process.
static TURN: Mutex<()> = Mutex::new(());

/// xorshift64*: the same mutations every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, most: usize) -> usize {
        (self.next() >> 11) as usize % most.max(1)
    }
}

/// One to four changes: a bit, a byte, a number of 2 to 8 bytes at its limits, a cut, a run of bytes doubled,
/// removed or overwritten.
fn mutate(random: &mut Random, original: &[u8]) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for _ in 0..=random.below(4) {
        if bytes.is_empty() {
            break;
        }
        // Half of the changes hit the front, where the structure is.
        let most = if random.below(2) == 0 { bytes.len().min(256) } else { bytes.len() };
        let at = random.below(most);
        let run = (1 + random.below(24)).min(bytes.len() - at);
        match random.below(8) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.next() as u8,
            2 => bytes.truncate(at),
            3 => {
                let copy = bytes[at..at + run].to_vec();
                bytes.splice(at..at, copy);
            }
            4 => drop(bytes.drain(at..at + run)),
            5 => {
                let from = random.below(bytes.len() - run + 1);
                bytes.copy_within(from..from + run, at);
            }
            6 => {
                let numbers = [u64::MAX, i64::MAX as u64, 1 << 40, u64::from(u32::MAX), 0x7fff_ffff, 0, 0xffff];
                let number = numbers[random.below(numbers.len())];
                let width = [2, 4, 8][random.below(3)].min(bytes.len() - at);
                let swapped =
                    if random.below(2) == 0 { number.to_le_bytes() } else { number.rotate_left(32).to_be_bytes() };
                bytes[at..at + width].copy_from_slice(&swapped[..width]);
            }
            // A digit of a length in text.
            _ => bytes[at] = b'0' + random.below(10) as u8,
        }
    }
    bytes
}

fn mutations() -> usize {
    std::env::var("ALEXNET_MUTATIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(10_000)
}

/// Reads mutations of `originals`; `read` says whether it took the file.
fn survive(originals: &[Vec<u8>], mut read: impl FnMut(&[u8]) -> bool) {
    let turn = TURN.lock();
    for original in originals {
        assert!(read(original), "the file as it is must be taken");
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut refused = 0;
    for number in 0..mutations() {
        let bytes = mutate(&mut random, &originals[number % originals.len()]);
        let before = HELD.load(Ordering::Relaxed);
        MOST.store(before, Ordering::Relaxed);
        let outcome = catch_unwind(AssertUnwindSafe(|| read(&bytes)));
        let took = MOST.load(Ordering::Relaxed).saturating_sub(before);
        let keep = || std::env::temp_dir().join(format!("alexnet-mutation-{number}"));
        let Ok(taken) = outcome else {
            std::fs::write(keep(), &bytes).unwrap();
            panic!("mutation {number} panics; it is kept in {}", keep().display());
        };
        if took > 2 * bytes.len() + (64 << 20) {
            std::fs::write(keep(), &bytes).unwrap();
            panic!("mutation {number}, {} bytes, took {took} bytes; it is kept in {}", bytes.len(), keep().display());
        }
        refused += usize::from(!taken);
    }
    assert!(refused > mutations() / 10, "the mutations hardly hurt: only {refused} were refused");
    drop(turn);
}

/// A file whose path stays, in memory if the system has such a place: 10,000 of them are written.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        let memory = Path::new("/dev/shm");
        Self(if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap())
    }

    fn write(&self, bytes: &[u8]) -> std::path::PathBuf {
        let path = self.0.path().join("file");
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

/// Some tensors with an AlexNet's names.
fn tensors() -> Vec<(String, Vec<usize>, Vec<u8>)> {
    ["features.0.weight", "features.0.bias", "classifier.6.weight"]
        .into_iter()
        .zip([vec![2, 3, 3, 3], vec![2], vec![4, 5]])
        .map(|(name, shape)| {
            let len: usize = shape.iter().product();
            (name.to_owned(), shape, (0..len).flat_map(|i| (i as f32 * 0.3).to_le_bytes()).collect())
        })
        .collect()
}

fn safetensors_file() -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    header.insert("__metadata__".into(), serde_json::json!({ "architecture": "{}", "classes": "[\"a\"]" }));
    for (name, shape, bytes) in tensors() {
        let offsets = [data.len(), data.len() + bytes.len()];
        header.insert(name, serde_json::json!({ "dtype": "F32", "shape": shape, "data_offsets": offsets }));
        data.extend(bytes);
    }
    let header = serde_json::Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

fn pytorch_file() -> Vec<u8> {
    use alexnet_core::{Architecture, LayerKind, LayerSpec};
    use alexnet_train::data::Preprocess;
    use alexnet_train::export::{Model, Tensor, pytorch};
    let layers = vec![LayerSpec { name: "features.0".into(), kind: LayerKind::Relu }];
    let architecture = Architecture { name: "small".into(), image_size: 3, channels: 3, classes: 2, layers };
    let tensors = tensors();
    let parameters = tensors
        .iter()
        .map(|(name, shape, bytes)| Tensor { name: name.clone(), shape: shape.clone(), bytes: bytes.into() })
        .collect();
    pytorch::to_bytes(&Model {
        architecture: &architecture,
        classes: &[],
        preprocess: Preprocess::default(),
        parameters,
    })
    .unwrap()
}

/// PyTorch's format before zip: magic number, version, system, state dict, keys, then each storage.
fn legacy_file() -> Vec<u8> {
    let mut file = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.".to_vec();
    let mut state = alexnet_train::export::pickle::Pickle::new();
    let mut keys = b"\x80\x02](".to_vec();
    let mut data = Vec::new();
    state.empty_dict().mark();
    for (key, (name, shape, bytes)) in tensors().iter().enumerate() {
        state.string(name).tensor(&key.to_string(), shape);
        keys.extend([b'X', 1, 0, 0, 0, b'0' + key as u8]);
        data.extend(((bytes.len() / 4) as u64).to_le_bytes());
        data.extend(bytes);
    }
    state.set_items();
    file.extend(state.finish());
    file.extend(keys);
    file.extend(b"e.");
    file.extend(data);
    file
}

/// Everything that `import` does with a file.
fn import(path: &Path) -> bool {
    let Ok(mut weights) = import::open(path, None) else { return false };
    let _ = recognise(&weights, Known::default());
    let _ = (weights.note("architecture"), weights.note("classes"));
    let names: Vec<String> = weights.shapes().into_iter().map(|(name, _)| name).collect();
    names.len() == 3 && names.iter().all(|name| weights.read(name).is_ok())
}

#[test]
fn safetensors_files() {
    let scratch = Scratch::new();
    survive(&[safetensors_file()], |bytes| {
        let path = scratch.write(bytes);
        let _ = checkpoint::open(&path).and_then(|checkpoint| checkpoint.verify());
        import(&path)
    });
}

#[test]
fn pytorch_files() {
    let scratch = Scratch::new();
    survive(&[pytorch_file(), legacy_file()], |bytes| import(&scratch.write(bytes)));
}

#[test]
fn pickles() {
    let archive = pytorch_file();
    let mut zip = zip::ZipArchive::new(Cursor::new(archive)).unwrap();
    let mut pickle = Vec::new();
    std::io::copy(&mut zip.by_name("alexnet/data.pkl").unwrap(), &mut pickle).unwrap();
    // What scripts put beside the weights, by Python 2 and 3.
    let beside = [
        &b"\x80\x02}q\x00(U\x01acnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(U\x02f8K\x00K\x01tRU\x08\0\0\0\0\0\0\xf0?tR"[..],
        b"U\x01bcargparse\nNamespace\nq\x01)\x81}U\x02lrK\x01sbU\x01cc__builtin__\nset\n](K\x01K\x02e\x85R",
        b"U\x01dccollections\ndefaultdict\nc__builtin__\nlist\n\x85RU\x01eccollections\nOrderedDict\n](](U\x01xK\x01ee\x85Ru.",
    ]
    .concat();
    let text = b"(dp0\nVa\np1\n(lp2\nI1\naI2\nasS'c'\np4\n(iargparse\nNamespace\np5\ns.".to_vec();
    survive(&[pickle, beside, text], |bytes| alexnet_train::import::pickle::read(bytes).is_ok());
}

fn picture(format: image::ImageFormat) -> Vec<u8> {
    let picture = image::RgbImage::from_fn(24, 17, |x, y| image::Rgb([x as u8 * 9, y as u8 * 11, (x * y) as u8]));
    let mut file = Cursor::new(Vec::new());
    picture.write_to(&mut file, format).unwrap();
    file.into_inner()
}

fn decode(bytes: &[u8]) -> bool {
    let Ok((pixels, width, height)) = decode::decode(bytes, Exif::Apply) else { return false };
    let mut out = vec![0; 32 * 32 * 3];
    let cropped = resize::resize(&pixels, width, height, Fit { short: 36, crop: 32 }, &mut out);
    let fitted = resize::resize(&pixels, width, height, 32, &mut out);
    assert_eq!(cropped.is_ok(), fitted.is_ok());
    fitted.is_ok()
}

#[test]
fn png_files() {
    survive(&[picture(image::ImageFormat::Png)], decode);
}

#[test]
fn jpeg_files() {
    survive(&[picture(image::ImageFormat::Jpeg)], decode);
}

/// As [`survive`], of a picture in this format.
fn survive_as(format: image::ImageFormat) {
    survive(&[picture(format)], decode);
}

/// A WebP file in the extended format.
fn extended_webp() -> Vec<u8> {
    let plain = picture(image::ImageFormat::WebP);
    let mut extended = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x08\0\0\0\x17\0\0\x10\0\0".to_vec();
    extended.extend(&plain[12..]);
    extended.extend(b"EXIF\x08\0\0\0II*\0\x08\0\0\0");
    let size = (extended.len() as u32 - 8).to_le_bytes();
    extended[4..8].copy_from_slice(&size);
    extended
}

#[test]
fn webp_files() {
    survive(&[picture(image::ImageFormat::WebP), extended_webp()], decode);
}

fn gif() -> Vec<u8> {
    let mut file = Vec::new();
    let picture = image::RgbImage::from_fn(24, 17, |x, y| image::Rgb([x as u8 * 9, y as u8 * 11, (x * y) as u8]));
    let mut encoder = image::codecs::gif::GifEncoder::new(&mut file);
    encoder.encode(picture.as_raw(), 24, 17, image::ExtendedColorType::Rgb8).unwrap();
    drop(encoder);
    file
}

#[test]
fn gif_files() {
    survive(&[gif()], decode);
}

/// Sizes that other parts of the file contradict.
#[test]
fn frames_beyond_their_picture_take_no_memory() {
    let hostile = |mut file: Vec<u8>, at: usize, size: &[u8]| {
        file[at..at + size.len()].copy_from_slice(size);
        let turn = TURN.lock();
        let before = HELD.load(Ordering::Relaxed);
        MOST.store(before, Ordering::Relaxed);
        let refused = decode::decode(&file, Exif::Apply).is_err();
        let took = MOST.load(Ordering::Relaxed).saturating_sub(before);
        drop(turn);
        assert!(refused && took < 64 << 20, "{took} bytes");
    };
    let gif = gif();
    let frame = 13 + if gif[10] & 0x80 == 0 { 0 } else { 3 << ((gif[10] & 7) + 1) };
    let frame = (frame..gif.len()).find(|&at| gif[at] == 0x2c).unwrap();
    hostile(gif, frame + 5, &[0xff, 0xff, 0xff, 0xff]);
    // The frame's own size behind that of the canvas.
    let webp = extended_webp();
    let chunk = webp.windows(4).position(|name| name == b"VP8L").unwrap();
    hostile(webp, chunk + 9, &[0xff, 0xff, 0xff, 0x0f]);
}

#[test]
fn bmp_files() {
    survive_as(image::ImageFormat::Bmp);
}

#[test]
fn tiff_files() {
    survive_as(image::ImageFormat::Tiff);
}

#[test]
fn progressive_jpeg_files() {
    let picture = image::RgbImage::from_fn(24, 17, |x, y| image::Rgb([x as u8 * 9, y as u8 * 11, (x * y) as u8]));
    let mut file = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut file, 90);
    encoder.set_progressive(true);
    encoder.set_restart_interval(2);
    encoder.encode(picture.as_raw(), 24, 17, jpeg_encoder::ColorType::Rgb).unwrap();
    survive(&[file], decode);
}

#[test]
fn idx_files() {
    // MNIST's four files; the images are mutated.
    let scratch = Scratch::new();
    let folder = scratch.0.path();
    let idx = |sides: &[u32], bytes: &[u8]| {
        let head = [0, 0, 8, sides.len() as u8];
        [&head[..], &sides.iter().flat_map(|side| side.to_be_bytes()).collect::<Vec<u8>>(), bytes].concat()
    };
    for name in ["train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"] {
        std::fs::write(folder.join(name), idx(&[2], &[3, 9])).unwrap();
    }
    let images = idx(&[2, 28, 28], &[7; 2 * 28 * 28]);
    std::fs::write(folder.join("t10k-images-idx3-ubyte"), &images).unwrap();
    survive(&[images], |bytes| {
        std::fs::write(folder.join("train-images-idx3-ubyte"), bytes).unwrap();
        Dataset::open_folder(folder, &Options::default()).is_ok_and(|dataset| dataset.train.len() == 2)
    });
}

#[test]
fn configurations() {
    let text = Config::default().to_toml().unwrap();
    survive(&[text.into_bytes()], |bytes| {
        let text = String::from_utf8_lossy(bytes);
        Config::parse(&text, Path::new("x")).is_ok_and(|config| config.validate(&flag).is_ok())
    });
}

#[test]
fn cifar_files() {
    // A file of three images, which a manifest describes; a mutation has another hash or another size.
    let mut file = Vec::new();
    (0..3).for_each(|label| cifar::push_record(&mut file, label, &[label * 40; 32 * 32 * 3]));
    survive(&[file], |bytes| cifar::split(&[bytes], &["x.bin"]).is_ok_and(|split| split.len() == 3));
}

fn refused(bytes: &[u8]) -> String {
    let scratch = Scratch::new();
    let turn = TURN.lock();
    let before = HELD.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let path = scratch.write(bytes);
    let error = match import::open(&path, None) {
        Err(error) => error.to_string(),
        Ok(mut weights) => {
            let names: Vec<String> = weights.shapes().into_iter().map(|(name, _)| name).collect();
            names.iter().find_map(|name| weights.read(name).err()).expect("it is taken").to_string()
        }
    };
    let took = MOST.load(Ordering::Relaxed).saturating_sub(before);
    assert!(took < 2 * bytes.len() + (64 << 20), "{took} bytes: {error}");
    drop(turn);
    error
}

/// An archive with these records.
fn archive(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in records {
        let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        zip.start_file(*name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

#[test]
fn the_known_tricks_are_refused_by_name() {
    let pickled = |pickle: &[u8]| refused(&archive(&[("x/data.pkl", pickle)]));
    assert!(pickled(b"\x80\x02cos\nsystem\nX\x02\0\0\0ls\x85R.").contains("`os.system`"));
    assert!(pickled(b"\x80\x02cbuiltins\nexec\nX\x02\0\0\0ls\x85R.").contains("`builtins.exec`"));
    assert!(pickled(b"\x80\x04\x8c\x05posix\x8c\x06system\x93.").contains("`posix.system`"));
    assert!(pickled(b"(S'ls'\nios\nsystem\n.").contains("refused"));
    for name in ["../data.pkl", "/x/data.pkl", "x/../../data.pkl"] {
        let error = refused(&archive(&[(name, b".")]));
        assert!(error.contains("leads out of the archive"), "{name}: {error}");
    }
    // A zip bomb has to be compressed, which PyTorch's records never are.
    let mut bomb = archive(&[("x/data.pkl", &[b'.'; 1 << 16])]);
    for (start, method) in [(b"PK\x03\x04", 8), (b"PK\x01\x02", 10)] {
        let at = bomb.windows(4).position(|window| window == start).unwrap();
        bomb[at + method] = 8;
    }
    let error = refused(&bomb);
    assert!(error.to_lowercase().contains("compress"), "{error}");
    let mut tera = alexnet_train::export::pickle::Pickle::new();
    tera.empty_dict().mark().string("features.0.weight").tensor("0", &[1 << 20, 1 << 20]).set_items();
    let error = refused(&archive(&[("x/data.pkl", &tera.finish()), ("x/data/0", &[0; 64])]));
    assert!(error.contains("features.0.weight") && error.contains("storage"), "{error}");

    // safetensors: a header, a tensor of terabytes.
    let header = [&(1u64 << 42).to_le_bytes()[..], b"{}"].concat();
    assert!(refused(&header).contains("is not a complete safetensors file"));
    let text = br#"{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}"#;
    let file = [&(text.len() as u64).to_le_bytes()[..], text].concat();
    assert!(refused(&file).contains("is not a complete safetensors file"));
    // A picture of 65,535 × 65,535 in a few bytes.
    let mut png = picture(image::ImageFormat::Png);
    png[16..24].copy_from_slice(&[0, 0, 0x7f, 0xff, 0, 0, 0x7f, 0xff]);
    let reason = decode::decode(&png, Exif::Apply).unwrap_err();
    assert!(!reason.is_empty());
}
