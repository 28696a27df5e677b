//! Embeds `kernels/*.cu` with their headers and a hash of each, which is part of the key of the compilation cache.
//! Needs no CUDA toolkit: the kernels are compiled at run time.

use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

use sha2::{Digest, Sha256};

/// What kernels may include.
const HEADERS: [&str; 5] = ["prelude.cuh", "table.cuh", "tile.cuh", "epilogue.cuh", "update.cuh"];

fn main() {
    let folder = Path::new(&env::var("CARGO_MANIFEST_DIR").expect("set by cargo")).join("kernels");
    println!("cargo:rerun-if-changed=kernels");
    let headers =
        HEADERS.map(|name| (name, fs::read_to_string(folder.join(name)).expect("a header of kernels/ is readable")));
    let mut units: Vec<_> = fs::read_dir(&folder)
        .expect("kernels/ is readable")
        .map(|entry| entry.expect("kernels/ is readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "cu"))
        .collect();
    units.sort();
    let mut code = format!("pub(crate) const HEADERS: [(&str, &str); {}] = {headers:?};\n", HEADERS.len());
    code += "/// Every `.cu` file, by name.\npub const UNITS: &[Unit] = &[\n";
    for path in units {
        let name = path.file_stem().and_then(|stem| stem.to_str()).expect("a file name in UTF-8").to_owned();
        let source = fs::read_to_string(&path).expect("a kernel's source is readable");
        let mut hash = Sha256::new();
        for (name, text) in headers.iter().filter(|(name, _)| source.contains(name)) {
            hash = hash.chain_update(name).chain_update([0]).chain_update(text).chain_update([0]);
        }
        let hash = hash.chain_update(&source).finalize();
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(code, "    Unit {{ name: {name:?}, source: include_str!({path:?}), hash: {hash:?} }},")
            .expect("a string takes any text");
    }
    code += "];\n";
    let out = Path::new(&env::var("OUT_DIR").expect("set by cargo")).join("units.rs");
    fs::write(out, code).expect("OUT_DIR is writable");
}
