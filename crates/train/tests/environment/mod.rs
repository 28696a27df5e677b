//! Python environments that tests make for themselves.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

/// The interpreter of an environment that has the packages, made on first use by pip in the user's cache folder, where
/// it takes `size`; `ALEXNET_PYTHON` may name one that has them already. The error says what to do.
pub fn python(packages: &[&str], size: &str) -> Result<PathBuf, String> {
    match std::env::var_os("ALEXNET_PYTHON") {
        Some(given) => Ok(given.into()),
        None => made(packages, size),
    }
}

/// The same, whatever `ALEXNET_PYTHON` names.
pub fn made(packages: &[&str], size: &str) -> Result<PathBuf, String> {
    let cache = dirs::cache_dir().ok_or("neither XDG_CACHE_HOME nor HOME is set: set one, or set ALEXNET_PYTHON")?;
    let cache = cache.join("alexnet");
    let place = cache.join(format!("python-{}", packages[0].replace("==", "-")));
    let (interpreter, ready) = (place.join("bin/python"), place.join("ready"));
    let wanted = packages.join("\n");
    let is_ready = || fs::read_to_string(&ready).is_ok_and(|text| text == wanted);
    if is_ready() {
        return Ok(interpreter);
    }
    let failed = |error: std::io::Error| format!("cannot write {}: {error}", cache.display());
    fs::create_dir_all(&cache).map_err(failed)?;
    // One process installs, the others wait for it; the lock goes with the file's handle.
    let lock = File::create(cache.join("python.lock")).map_err(failed)?;
    lock.lock().map_err(failed)?;
    if is_ready() {
        return Ok(interpreter);
    }
    run(Command::new("python3").args(["-I", "-m", "venv", "--clear"]).arg(&place), packages, size)?;
    run(
        Command::new(&interpreter)
            .args(["-I", "-m", "pip", "install", "--quiet", "--no-cache-dir", "--no-compile"])
            .args(packages),
        packages,
        size,
    )?;
    fs::write(ready, wanted).map_err(failed)?;
    Ok(interpreter)
}

fn run(command: &mut Command, packages: &[&str], size: &str) -> Result<(), String> {
    let help = format!(
        "This test needs python3 with venv and pip, a network and {size} in the cache folder, once. Elsewhere install\n  \
         {}\nand set ALEXNET_PYTHON to the interpreter.",
        packages.join(" ")
    );
    let output = command.output().map_err(|error| format!("cannot run {command:?}: {error}\n{help}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {}\n{}{help}", output.status, String::from_utf8_lossy(&output.stderr))),
    }
}
