//! The corpora of `fuzz/`, every input through its target, without libFuzzer.

#[path = "../../../fuzz/src/lib.rs"]
mod targets;

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// For one input, on a busy machine.
const LONGEST: Duration = Duration::from_secs(20);

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// One test, since memory is counted for the whole process.
#[test]
fn every_input_of_the_corpora() {
    let mut failed = Vec::new();
    for (name, _) in targets::TARGETS {
        let folder = fuzz().join("corpus").join(name);
        let inputs = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut paths: Vec<PathBuf> = inputs.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        assert!(paths.len() >= 5, "{} has {} inputs", folder.display(), paths.len());
        for path in paths {
            let input = std::fs::read(&path).unwrap();
            let start = Instant::now();
            let held = catch_unwind(|| targets::check(name, &input)).is_ok();
            if !held || start.elapsed() > LONGEST {
                failed.push(format!("{} after {:?}", path.display(), start.elapsed()));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
#[ignore = "builds the fuzz targets for libFuzzer and runs each for a minute, in 8 minutes"]
fn a_minute_of_fuzzing() {
    let status = std::process::Command::new(fuzz().join("run"))
        .args("--minutes 1 --within 8 --seed 1".split(' '))
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}
