//! Looks at the files of shared libraries before and after they are loaded.

use std::error::Error as _;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use libloading::Library;
use sha2::{Digest, Sha256};

use crate::cache::hex;

/// Length of an ELF file's header and of an entry of its program header table, in bytes.
const HEADER: usize = 64;
const ENTRY: usize = 56;

/// Loads a library, for good: the pointers to its functions have no lifetime.
pub(crate) fn open(path: &Path) -> Result<&'static Library, String> {
    // SAFETY: runs the initialisers of NVIDIA's library, or of the file that the user named. Its symbols are local: several
    // versions of NVRTC do not disturb each other.
    let library = unsafe { Library::new(path) }.map_err(|e| reason(&e))?;
    Ok(Box::leak(Box::new(library)))
}

/// The loader's own words, which libloading's message leaves out.
pub(crate) fn reason(error: &libloading::Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

/// Checks that a file is a 64-bit ELF file that holds all of its segments: loading one that was cut off, by a full disk or a
/// stopped copy, would kill the process with SIGBUS.
///
/// # Errors
/// The reason.
pub(crate) fn check(path: &Path) -> Result<(), String> {
    let at = |e: io::Error| e.to_string();
    let length = match fs::metadata(path).map_err(at)? {
        file if file.is_file() => file.len(),
        _ => return Err("not a file".into()),
    };
    let unknown = || "not a shared library for this machine (64-bit ELF)".to_owned();
    let cut = || format!("damaged: cut off at {length} bytes");
    let mut file = File::open(path).map_err(at)?;
    let mut header = [0; HEADER];
    file.read_exact(&mut header).map_err(|_| unknown())?;
    let number = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let half = |at: usize| usize::from(u16::from_le_bytes([header[at], header[at + 1]]));
    if !header.starts_with(b"\x7fELF\x02\x01") || half(54) != ENTRY {
        return Err(unknown());
    }
    let mut table = vec![0; ENTRY * half(56)];
    file.seek(SeekFrom::Start(number(&header, 32))).map_err(|_| cut())?;
    file.read_exact(&mut table).map_err(|_| cut())?;
    // Offset and length of each segment.
    let ends = table.chunks_exact(ENTRY).map(|entry| number(entry, 8).saturating_add(number(entry, 32)));
    if ends.max().is_some_and(|end| end > length) { Err(cut()) } else { Ok(()) }
}

/// Identifies the build of a library: its length and the SHA-256 of its first `bytes` bytes. The first page holds the lengths
/// of all segments and, if there is one, the linker's build ID.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn build(path: &Path, bytes: u64) -> io::Result<String> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut hash = Sha256::new();
    io::copy(&mut file.take(bytes), &mut hash)?;
    Ok(format!("{length} {}", hex(hash.finalize())))
}

/// The file that the code at `address` was loaded from.
pub(crate) fn mapped(address: usize) -> Option<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        range.is_some_and(|(first, end)| {
            let [first, end] = [first, end].map(|number| usize::from_str_radix(number, 16).unwrap_or(0));
            (first..end).contains(&address)
        })
    })?;
    line.find('/').map(|start| line[start..].into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_cut_off_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let whole = fs::read(std::env::current_exe().unwrap()).unwrap();
        let path = folder.path().join("library.so");
        let check_bytes = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            check(&path)
        };
        assert_eq!(check_bytes(&whole), Ok(()));
        for (length, reason) in [
            (0, "not a shared library"),
            (63, "not a shared library"),
            (64, "damaged: cut off at 64 bytes"),
            (4096, "damaged: cut off at 4096 bytes"),
        ] {
            let error = check_bytes(&whole[..length]).unwrap_err();
            assert!(error.starts_with(reason), "{length}: {error}");
        }
        // Numbers that overflow.
        let mut header = whole[..4096].to_vec();
        header[32..40].fill(0xff);
        assert!(check_bytes(&header).unwrap_err().starts_with("damaged"));
        header[32..40].copy_from_slice(&64u64.to_le_bytes());
        header[72..80].fill(0xff);
        assert!(check_bytes(&header).unwrap_err().starts_with("damaged"));
        assert_eq!(check(folder.path()).unwrap_err(), "not a file");
        assert!(check(&folder.path().join("missing")).unwrap_err().starts_with("No such file"));
    }

    #[test]
    fn code_is_traced_to_its_file() {
        let here = mapped(code_is_traced_to_its_file as *const () as usize);
        assert_eq!(here.unwrap(), std::env::current_exe().unwrap().canonicalize().unwrap());
        assert_eq!(mapped(1), None);
    }

    #[test]
    fn builds_differ_by_length_and_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("library.so");
        let mut builds: Vec<String> = [&b"abcd"[..], b"abce", b"abcde", b"bbcd"]
            .iter()
            .map(|bytes| {
                fs::write(&path, bytes).unwrap();
                build(&path, 3).unwrap()
            })
            .collect();
        assert_eq!(builds.len(), 4);
        assert_eq!(builds[0], builds[1], "alike in length and in the first three bytes");
        builds.dedup();
        assert_eq!(builds.len(), 3);
    }
}
