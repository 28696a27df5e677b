//! The official files of CIFAR-10: names, sizes, SHA-256.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::cifar::{RECORD, check_labels};
use super::error::{DataError, Result};
use crate::hex::hex;

/// The folder of an unpacked official archive.
pub const OFFICIAL_FOLDER: &str = "cifar-10-batches-bin";

/// `path` or its [`OFFICIAL_FOLDER`], whichever holds official files.
pub fn official_folder(path: &Path, manifest: &Manifest) -> Option<PathBuf> {
    [path.to_path_buf(), path.join(OFFICIAL_FOLDER)].into_iter().find(|folder| manifest.any_in(folder))
}

/// A file of a [`Manifest`].
#[derive(Clone, Debug)]
pub struct FileSpec {
    /// The name in the folder, `data_batch_1.bin`.
    pub name: String,
    /// Number of records.
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

/// The files of the data set: the last one holds the test images, the others the training images.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Training files in order, then the test file.
    pub files: Vec<FileSpec>,
    /// Size of the official archive in bytes.
    pub archive_bytes: u64,
    /// SHA-256 of the official archive in hexadecimal; its MD5, as its page gives it, is c32a1d4ab5d03f1284b67883e8d87530.
    pub archive_sha256: String,
}

impl Manifest {
    /// The official CIFAR-10.
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
            archive_sha256: "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd".into(),
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

    /// Sixteen hexadecimal digits that differ when a file does.
    pub(super) fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        self.files.iter().for_each(|file| hash.update(&file.sha256));
        hex(&hash.finalize())[..16].to_string()
    }
}

/// Reads one file and checks its size, SHA-256 and labels.
///
/// # Errors
/// Any difference from `spec`; a label above 9 is reported rather than a wrong hash, since it says more.
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
    // One byte more than expected, to notice a file that grew in the meantime.
    file.take(spec.bytes() + 1).read_to_end(&mut bytes).map_err(DataError::io("read", &path))?;
    check(&path, &bytes, spec)?;
    Ok(bytes)
}

/// Checks the contents of a file that was read, unpacked or converted: size, labels, SHA-256.
///
/// # Errors
/// Any difference from `spec`.
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

#[cfg(test)]
mod tests {
    use super::*;

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
