//! CIFAR-10 in its official binary layout.
//!
//! Six files of 10,000 records; a record is a label and then 1024 red, 1024 green and 1024 blue bytes,
//! row after row. In memory images are NHWC.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::dataset::{Dataset, Split};
use super::error::{DataError, Result};

/// Height and width of an image.
pub const SIZE: usize = 32;
/// Bytes of an image.
pub const IMAGE: usize = SIZE * SIZE * 3;
/// Bytes of a record: label and image.
pub const RECORD: usize = 1 + IMAGE;

/// The classes in the order of their labels.
pub const CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// A file of a [`Manifest`].
#[derive(Clone, Debug)]
pub struct FileSpec {
    /// The name in the folder, `data_batch_1.bin`.
    pub name: String,
    /// How many records it has.
    pub records: usize,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
}

impl FileSpec {
    /// The size that the file must have.
    pub fn bytes(&self) -> u64 {
        (self.records * RECORD) as u64
    }
}

/// The files that make up the data set: the last one holds the test images, the others the training images.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Training files in order, then the test file.
    pub files: Vec<FileSpec>,
    /// Size of the official archive in bytes.
    pub archive_bytes: u64,
    /// MD5 of the official archive in hexadecimal, as its page gives it.
    pub archive_md5: String,
}

impl Manifest {
    /// The real CIFAR-10.
    pub fn official() -> Self {
        let files = [
            ("data_batch_1.bin", "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"),
            ("data_batch_2.bin", "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"),
            ("data_batch_3.bin", "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"),
            ("data_batch_4.bin", "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"),
            ("data_batch_5.bin", "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"),
            ("test_batch.bin", "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"),
        ];
        Manifest {
            files: files
                .into_iter()
                .map(|(name, sha256)| FileSpec { name: name.into(), records: 10_000, sha256: sha256.into() })
                .collect(),
            archive_bytes: 170_052_171,
            archive_md5: "c32a1d4ab5d03f1284b67883e8d87530".into(),
        }
    }

    /// The specification of the file `name`.
    pub fn file(&self, name: &str) -> Option<&FileSpec> {
        self.files.iter().find(|file| file.name == name)
    }

    /// Whether `folder` holds at least one of the files.
    pub fn any_in(&self, folder: &Path) -> bool {
        self.files.iter().any(|file| folder.join(&file.name).exists())
    }

    /// Whether `folder` holds all files at their sizes. Their contents are checked when they are read.
    pub fn complete_in(&self, folder: &Path) -> bool {
        self.files.iter().all(|file| {
            std::fs::metadata(folder.join(&file.name)).is_ok_and(|meta| meta.is_file() && meta.len() == file.bytes())
        })
    }

    fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        self.files.iter().for_each(|file| hash.update(&file.sha256));
        hex(&hash.finalize())[..16].to_string()
    }
}

/// Reads one file and checks its size, its SHA-256 and its labels.
///
/// # Errors
/// Whatever differs from `spec`; a label above 9 is named before a hash, since it says more.
pub fn read_file(folder: &Path, spec: &FileSpec) -> Result<Vec<u8>> {
    let path = folder.join(&spec.name);
    let file = File::open(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => DataError::Missing { path: path.clone() },
        _ => DataError::io("read", &path)(error),
    })?;
    let actual = file.metadata().map_err(DataError::io("read", &path))?.len();
    if actual != spec.bytes() {
        return Err(DataError::WrongSize { path, actual, expected: spec.bytes() });
    }
    let mut bytes = Vec::with_capacity(spec.records * RECORD);
    // One more byte than expected, so that a file that grows meanwhile is noticed.
    file.take(spec.bytes() + 1).read_to_end(&mut bytes).map_err(DataError::io("read", &path))?;
    check(&path, &bytes, spec)?;
    Ok(bytes)
}

/// Checks the contents of a file that was read, unpacked or converted: size, labels, SHA-256.
///
/// # Errors
/// Whatever differs from `spec`.
pub fn check(path: &Path, bytes: &[u8], spec: &FileSpec) -> Result<()> {
    if bytes.len() as u64 != spec.bytes() {
        return Err(DataError::WrongSize { path: path.into(), actual: bytes.len() as u64, expected: spec.bytes() });
    }
    let actual = hex(&Sha256::digest(bytes));
    if actual != spec.sha256 {
        check_labels(path, bytes)?;
        return Err(DataError::WrongHash { path: path.into(), actual, expected: spec.sha256.clone() });
    }
    Ok(())
}

fn check_labels(path: &Path, bytes: &[u8]) -> Result<()> {
    for (record, bytes) in bytes.chunks_exact(RECORD).enumerate() {
        if usize::from(bytes[0]) >= CLASSES.len() {
            return Err(DataError::Label {
                path: path.into(),
                record,
                label: bytes[0].into(),
                max: CLASSES.len() as u32 - 1,
            });
        }
    }
    Ok(())
}

/// Reads and verifies all files of a folder.
///
/// # Errors
/// The first file, in the manifest's order, that is not as it must be.
pub fn open(folder: &Path, manifest: &Manifest, source: String) -> Result<Dataset> {
    let files: Vec<Result<Vec<u8>>> = manifest.files.par_iter().map(|spec| read_file(folder, spec)).collect();
    let files = files.into_iter().collect::<Result<Vec<_>>>()?;
    let paths: Vec<PathBuf> = manifest.files.iter().map(|spec| folder.join(&spec.name)).collect();
    let (test, train) = (files.len() - 1, 0..files.len() - 1);
    Ok(Dataset {
        name: "cifar10".into(),
        source,
        path: Some(folder.into()),
        classes: CLASSES.map(String::from).to_vec(),
        train: split(&files[train.clone()], &paths[train])?,
        test: split(&files[test..], &paths[test..])?,
        val: None,
        warning: None,
        fingerprint: manifest.fingerprint(),
    })
}

/// Turns files of records into a split in memory.
///
/// # Errors
/// A file that is no whole number of records, or a label above 9.
pub fn split<B: AsRef<[u8]>, P: AsRef<Path>>(files: &[B], paths: &[P]) -> Result<Split> {
    let records: usize = files.iter().map(|file| file.as_ref().len() / RECORD).sum();
    let mut pixels = vec![0; records * IMAGE];
    let mut labels = Vec::with_capacity(records);
    let mut images = pixels.chunks_exact_mut(IMAGE);
    for (file, path) in files.iter().zip(paths) {
        let (file, path) = (file.as_ref(), path.as_ref());
        if !file.len().is_multiple_of(RECORD) {
            return Err(DataError::WrongSize {
                path: path.into(),
                actual: file.len() as u64,
                expected: (file.len().div_ceil(RECORD) * RECORD) as u64,
            });
        }
        check_labels(path, file)?;
        for (record, image) in file.chunks_exact(RECORD).zip(&mut images) {
            labels.push(u32::from(record[0]));
            planes_to_pixels(&record[1..], image);
        }
    }
    Ok(Split::in_memory(pixels, SIZE, labels))
}

/// CHW to HWC.
fn planes_to_pixels(planes: &[u8], pixels: &mut [u8]) {
    let area = pixels.len() / 3;
    let (red, rest) = planes.split_at(area);
    let (green, blue) = rest.split_at(area);
    for (pixel, ((r, g), b)) in pixels.chunks_exact_mut(3).zip(red.iter().zip(green).zip(blue)) {
        pixel.copy_from_slice(&[*r, *g, *b]);
    }
}

/// Writes a record in the official layout from an image whose pixels follow one another (HWC).
///
/// # Panics
/// If `pixels` are not [`IMAGE`] bytes.
pub fn push_record(records: &mut Vec<u8>, label: u8, pixels: &[u8]) {
    assert_eq!(pixels.len(), IMAGE);
    records.push(label);
    for channel in 0..3 {
        records.extend(pixels.chunks_exact(3).map(|pixel| pixel[channel]));
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_round_trip_between_layouts() {
        let pixels: Vec<u8> = (0..IMAGE).map(|i| (i * 7 % 251) as u8).collect();
        let mut record = Vec::new();
        push_record(&mut record, 3, &pixels);
        assert_eq!(record.len(), RECORD);
        // The second pixel of the first row: planes are 1024 apart.
        assert_eq!([record[2], record[2 + 1024], record[2 + 2048]], pixels[3..6]);
        let split = split(&[&record], &["one"]).unwrap();
        assert_eq!(split.labels(), [3]);
        assert_eq!(split.pixels().unwrap(), pixels);
    }

    #[test]
    fn half_a_record_is_an_error() {
        let error = split(&[vec![0; RECORD + 5]], &["x.bin"]).unwrap_err();
        assert!(matches!(error, DataError::WrongSize { actual: 3078, expected: 6146, .. }), "{error}");
    }

    #[test]
    fn a_label_above_nine_names_file_and_record() {
        let mut bytes = vec![0; 2 * RECORD];
        bytes[RECORD] = 10;
        let spec = FileSpec { name: "x.bin".into(), records: 2, sha256: "0".repeat(64) };
        let error = check(Path::new("x.bin"), &bytes, &spec).unwrap_err();
        assert_eq!(error.to_string(), "x.bin: record 1 has label 10, expected at most 9");
        bytes[RECORD] = 9;
        assert!(matches!(check(Path::new("x.bin"), &bytes, &spec), Err(DataError::WrongHash { .. })));
    }
}
