//! Fuzz targets: what each does with an input, and what must hold.
//!
//! Whatever the bytes are, nothing panics, and the memory taken is at most twice the input and 64 MiB; what else must hold
//! stands at each target. The binaries in `fuzz_targets/` run a target under libFuzzer. `crates/train/tests/fuzz.rs`
//! includes this file and runs the corpora through the targets without libFuzzer.

mod cuda;
mod data;
mod http;
mod weights;
mod words;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a target does with an input. Returns bytes of memory that it may take besides.
type Target = fn(&[u8]) -> usize;

/// The targets by name, which is also that of the binary and of the folder in `corpus/`.
pub const TARGETS: [(&str, Target); 11] = [
    ("safetensors", weights::safetensors),
    ("pytorch", weights::pytorch),
    ("pickle", weights::pickle),
    ("dataset", data::dataset),
    ("picture", data::picture),
    ("settings", words::settings),
    ("metrics", words::metrics),
    ("http", http::http),
    ("ptx", cuda::ptx),
    ("module", cuda::module),
    ("nvrtc_cache", cuda::nvrtc_cache),
];

/// Runs a target on an input.
///
/// # Panics
/// The target found a fault, or took too much memory.
pub fn check(name: &str, input: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).expect("a name of TARGETS");
    // What a target keeps between inputs, such as a network, is made with the first.
    thread_local!(static READY: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) });
    READY.with_borrow_mut(|ready| {
        if !ready.iter().any(|known| known == name) {
            target(b"");
            ready.push(name.to_owned());
        }
    });
    let before = HELD.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let besides = target(input);
    let took = MOST.load(Ordering::Relaxed).saturating_sub(before);
    let most = 2 * input.len() + (64 << 20) + besides;
    assert!(took <= most, "{name} takes {took} bytes of memory for {} bytes, the limit is {most}", input.len());
}

/// What `work` takes does not count.
fn uncounted<T>(work: impl FnOnce() -> T) -> T {
    let most = MOST.load(Ordering::Relaxed);
    let result = work();
    MOST.store(most, Ordering::Relaxed);
    result
}

/// The system's allocator, with a count of bytes held and their maximum.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

fn take(bytes: usize) {
    let held = HELD.fetch_add(bytes, Ordering::Relaxed) + bytes;
    MOST.fetch_max(held, Ordering::Relaxed);
}

// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A folder for the files of a target.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder for temporary files"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file and gives its path.
    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().expect("the folder")).expect("a folder in the folder");
        std::fs::write(&path, bytes).expect("room for a file");
        path
    }
}

/// Gives `test` the path of a file with these bytes.
fn with_file<T>(bytes: &[u8], test: impl FnOnce(&Path) -> T) -> T {
    thread_local!(static FOLDER: Folder = Folder::new());
    FOLDER.with(|folder| test(&folder.write("file", bytes)))
}
