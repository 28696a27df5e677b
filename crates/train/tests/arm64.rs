//! The CPU's operators on arm64, where their vectors are NEON's: their tests and two training steps, built here and run in QEMU's
//! emulator of single programs. What they train to has the bits of this machine's own vectors.
//!
//! Run it with `cargo test --release --package alexnet-train --test python --test browser --test arm64 -- --ignored`.
//! It installs what is missing, once: Rust's library for arm64 by `rustup target add` (40 MB), and QEMU by `apt-get download` into
//! the user's cache folder (13 MB), which needs no root and installs nothing.

#[path = "../../../tests/support/fingerprint.rs"]
mod fingerprint;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use alexnet_core::device::cpu::Level;

/// Programs for it need no C library: with Rust's own linker nothing else is wanted.
const TARGET: &str = "aarch64-unknown-linux-musl";
/// Names of the emulator, and of Debian's and Ubuntu's packages with it, old and new.
const NAMES: [&str; 2] = ["qemu-aarch64-static", "qemu-aarch64"];
const PACKAGES: [&str; 2] = ["qemu-user-static", "qemu-user"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The output of a command that succeeds.
fn output(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("cannot run {command:?}: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(format!("{command:?}: {}\n{}{}", output.status, text(&output.stdout), text(&output.stderr))),
    }
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// The emulator: the one on the path, or else the one of apt's package. `None` where there is neither.
fn emulator() -> Result<Option<PathBuf>, String> {
    if let Some(found) = NAMES.into_iter().find_map(on_path) {
        return Ok(Some(found));
    }
    if on_path("apt-get").is_none() {
        return Ok(None);
    }
    let cache = dirs::cache_dir().ok_or("neither XDG_CACHE_HOME nor HOME is set: set one")?.join("alexnet");
    let failed = |error: std::io::Error| format!("cannot write {}: {error}", cache.display());
    let program = cache.join(NAMES[0]);
    fs::create_dir_all(&cache).map_err(failed)?;
    // One process downloads, others wait for it; the lock goes with the file's handle.
    let lock = File::create(cache.join("qemu.lock")).map_err(failed)?;
    lock.lock().map_err(failed)?;
    if !program.is_file() {
        let folder = tempfile::tempdir_in(&cache).map_err(failed)?;
        let help = |error| format!("{error}\nElsewhere install one of {PACKAGES:?} and run the test again.");
        let extracted = download(folder.path()).map_err(help)?;
        fs::rename(extracted, &program).map_err(failed)?;
    }
    Ok(Some(program))
}

/// Downloads apt's package, whose signatures apt checks, into a folder. The lists of packages are its own too: those of the system
/// may be missing, and only root may renew them.
fn download(folder: &Path) -> Result<PathBuf, String> {
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        for (name, value) in [("State", "state"), ("Cache", "cache")] {
            command.arg("-o").arg(format!("Dir::{name}={}", folder.join(value).display()));
        }
        command
            .args(["-o", "APT::Sandbox::User=root", "-o", "Acquire::Languages=none"])
            .args(["-o", "Acquire::Retries=3"]);
        output(command.args(arguments).current_dir(folder))
    };
    for partial in ["state/lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(folder.join(partial))
            .map_err(|error| format!("cannot write {}: {error}", folder.display()))?;
    }
    apt(&["update"])?;
    let [old, new] = PACKAGES;
    apt(&["download", old]).or_else(|_| apt(&["download", new]))?;
    let names = fs::read_dir(folder).map_err(|error| format!("cannot read {}: {error}", folder.display()))?;
    let package = names.flatten().map(|entry| entry.path()).find(|path| path.extension().is_some_and(|x| x == "deb"));
    let package = package.ok_or("apt-get download wrote no package")?;
    output(Command::new("dpkg-deb").arg("-x").arg(package).arg(folder))?;
    let program = NAMES.map(|name| folder.join("usr/bin").join(name)).into_iter().find(|file| file.is_file());
    program.ok_or_else(|| format!("apt's package has none of {NAMES:?}"))
}

/// Adds Rust's library for the target, if the compiler does not have it. An error says why there is none: a compiler that is not
/// rustup's, or no way to Rust's server, from which it comes instead of by pip, npm or apt.
fn library() -> Result<(), String> {
    let folder = output(Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]))?;
    if !Path::new(folder.trim()).is_dir() {
        output(Command::new("rustup").args(["target", "add", TARGET]))?;
    }
    Ok(())
}

/// The tests of the CPU's operators, which share a module, and that of a network's steps.
fn tests() -> Vec<String> {
    let files = fs::read_dir(root().join("tests")).unwrap().map(|entry| entry.unwrap().path());
    let text = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    let operators = files.filter(|path| text(path).contains("\nmod support;\n"));
    let names = operators.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with("cuda")).chain(["network".to_owned()]).collect();
    names.sort();
    assert!(["conv", "linear", "sgd"].iter().all(|&name| names.iter().any(|other| other == name)), "{names:?}");
    names
}

#[test]
#[ignore = "needs Rust's library for arm64 and QEMU, which it downloads"]
fn operators_and_steps_on_neon() {
    if cfg!(target_arch = "aarch64") {
        return println!("this machine has NEON: `cargo test --release --workspace` tests it");
    }
    let Some(emulator) = emulator().unwrap_or_else(|error| panic!("{error}")) else {
        return println!("skipped: neither {NAMES:?} nor apt-get is on the path");
    };
    if let Err(error) = library() {
        return println!("skipped: Rust's library for {TARGET} is not to be had\n{error}");
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root()).args(["test", "--release", "--package", "alexnet-kernels", "--target", TARGET]);
    for test in tests() {
        cargo.args(["--test", &test]);
    }
    let target = TARGET.to_uppercase().replace('-', "_");
    cargo.env(format!("CARGO_TARGET_{target}_LINKER"), "rust-lld");
    cargo.env(format!("CARGO_TARGET_{target}_RUNNER"), emulator);
    // Each case takes much longer in the emulator.
    cargo.env("PROPTEST_CASES", "20");
    // Built for the package's CUDA tests, which do not run here.
    cargo.args(["--config", "profile.release.package.warpcheck.opt-level=0"]);
    // A third of the size, and nobody debugs these.
    cargo.env("CARGO_PROFILE_RELEASE_DEBUG", "false");
    let out =
        output(cargo.args(["--", "--show-output"]).stderr(Stdio::inherit())).unwrap_or_else(|error| panic!("{error}"));
    let neon =
        out.lines().find_map(|line| line.strip_prefix("fingerprint neon ")).expect("the network's test prints it");
    assert!(Level::best() != Level::Portable, "this machine has no fused multiply-add: its bits are others");
    assert_eq!(neon, fingerprint::fingerprint(Level::best()));
}
