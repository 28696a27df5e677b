//! Finding the shared library that this program belongs to.

use crate::Failure;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

const NAME: &str = "libwarpcheck.so";

/// The library: the one named, else the newest of those beside this program. `cargo test` leaves
/// it in `deps`, `cargo build` beside the program, an installation in `lib`.
pub fn find(named: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(path) = named {
        return path.canonicalize().map_err(|_| Failure::NoLibrary(vec![path.to_owned()]));
    }
    let program =
        std::env::current_exe().map_err(Failure::file("find this program at", Path::new("/proc/self/exe")))?;
    let folder = program.parent().unwrap_or(Path::new("."));
    let places = [folder.join(NAME), folder.join("deps").join(NAME), folder.join("../lib").join(NAME)];
    let age = |path: &PathBuf| -> Option<SystemTime> { path.metadata().ok()?.modified().ok() };
    let newest = places.iter().filter_map(|path| Some((age(path)?, path))).max();
    let (_, path) = newest.ok_or_else(|| Failure::NoLibrary(places.to_vec()))?;
    path.canonicalize().map_err(Failure::file("open", path))
}
