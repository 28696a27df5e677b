//! Runs the binary in a temporary folder, without a network.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use alexnet_kernels::nvrtc::{Device, Nvrtc, fetch, search};
use tempfile::TempDir;

/// A folder to run in.
pub struct Place(TempDir);

/// Exit code and output of a command.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub out: String,
    pub error: String,
}

impl Place {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The binary with these arguments: no cache, no npm, a proxy that does not answer.
    pub fn command(&self, arguments: &str) -> Command {
        // Set for a test that was copied to another machine.
        let binary = std::env::var_os("ALEXNET_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_alexnet").into());
        let mut command = Command::new(binary);
        command
            .args(arguments.split_whitespace())
            .current_dir(self.0.path())
            .env("ALEXNET_DATA", self.path("cache"))
            .env("PATH", "")
            .env("https_proxy", "http://127.0.0.1:9");
        command
    }

    pub fn run(&self, arguments: &str) -> Done {
        done(self.command(arguments).output().unwrap())
    }

    /// Runs a command that must succeed.
    #[track_caller]
    pub fn succeed(&self, arguments: &str) -> String {
        let done = self.run(arguments);
        assert_eq!(done.code, 0, "{done:?}");
        done.out
    }

    /// Runs a command that must fail with this exit code and these words in its message.
    #[track_caller]
    pub fn fail(&self, arguments: &str, code: i32, words: &[&str]) {
        let done = self.run(arguments);
        assert_eq!(done.code, code, "{arguments}: {done:?}");
        assert!(done.error.starts_with("error: ") && !done.error.contains("panicked"), "{arguments}: {}", done.error);
        for word in words {
            assert!(done.error.contains(word), "{arguments}: no `{word}` in: {}", done.error);
        }
    }

    /// The names in a folder, sorted.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(folder)).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    /// The records of a run's metrics.
    pub fn metrics(&self, run: &str) -> Vec<serde_json::Value> {
        let text = String::from_utf8(self.read(&format!("{run}/metrics.jsonl"))).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub fn epochs(&self, run: &str) -> Vec<u64> {
        self.metrics(run).iter().map(|record| record["epoch"].as_u64().unwrap()).collect()
    }
}

pub fn done(Output { status, stdout, stderr }: Output) -> Done {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Done { code: status.code().unwrap_or(-1), out: text(stdout), error: text(stderr) }
}

/// The tensors of a safetensors file, without its header.
pub fn tensors(path: &Path) -> Vec<u8> {
    let bytes = std::fs::read(path).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[8 + header..].to_vec()
}

/// Sets the first `most` values of every tensor of a safetensors file in f32 whose name ends so.
pub fn set_tensors(path: &Path, end: &str, most: usize, value: f32) {
    let mut bytes = std::fs::read(path).unwrap();
    let data = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..data]).unwrap();
    let mut found = 0;
    for (_, tensor) in header.as_object().unwrap().iter().filter(|(name, _)| name.ends_with(end)) {
        let Some(offsets) = tensor.get("data_offsets") else { continue };
        let at = |index: usize| data + offsets[index].as_u64().unwrap() as usize;
        bytes[at(0)..at(1)].chunks_exact_mut(4).take(most).for_each(|to| to.copy_from_slice(&value.to_le_bytes()));
        found += 1;
    }
    assert!(found > 0, "no tensor `{end}`");
    std::fs::write(path, bytes).unwrap();
}

/// A short run of the `cifar` variant on a few embedded images.
pub const SHORT: &str = "train --data sample --limit-train 32 --limit-test 20 --batch-size 16 --device cpu";

impl Place {
    /// The binary with warpcheck as its driver, or with the real one if `ALEXNET_TEST_DRIVER` is `cuda`. `checks` selects
    /// warpcheck's checks; its findings go to the file `report`.
    pub fn cuda(&self, arguments: &str, checks: &str) -> Command {
        nvrtc();
        let mut command = self.command(arguments);
        if !real_driver() {
            let folder = self.path("driver");
            if !folder.exists() {
                // Cargo puts the library of a dependency beside the tests.
                let tests = std::env::current_exe().unwrap();
                let library = tests.parent().unwrap().join("libwarpcheck.so");
                std::fs::create_dir(&folder).unwrap();
                std::os::unix::fs::symlink(&library, folder.join("libcuda.so")).unwrap();
            }
            command.env("LD_LIBRARY_PATH", folder).env("WARPCHECK_CHECK", checks).env("WARPCHECK_SUMMARY", "0");
            command.env("WARPCHECK_REPORT", self.path("report"));
        }
        command
    }

    /// Runs a command on the GPU that must succeed without a finding of warpcheck.
    #[track_caller]
    pub fn succeed_on_cuda(&self, arguments: &str, checks: &str) -> String {
        let done = done(self.cuda(arguments, checks).output().unwrap());
        assert_eq!(done.code, 0, "{done:?}");
        self.assert_no_findings();
        done.out
    }

    /// Asserts that warpcheck was the driver of the last command and found nothing.
    #[track_caller]
    pub fn assert_no_findings(&self) {
        if real_driver() {
            return;
        }
        let report: serde_json::Value = serde_json::from_slice(&self.read("report")).unwrap();
        assert_eq!(report["findings"].as_array().unwrap().len(), 0, "{:#}", report["findings"]);
        assert!(report["complete"] == true && report["launches"].as_u64().unwrap() > 0);
    }
}

pub fn real_driver() -> bool {
    std::env::var("ALEXNET_TEST_DRIVER").is_ok_and(|value| value == "cuda")
}

/// An NVRTC for the driver that is tested on; fetched if there is none.
pub fn nvrtc() -> &'static Nvrtc {
    let device = (!real_driver()).then_some(Device { sm: 70, driver: 12_090 });
    let found = search(device).or_else(|_| fetch().and_then(|_| search(device)));
    found.unwrap_or_else(|e| panic!("{e}")).nvrtc
}
