//! `warpcheck run`: a program with this driver in place of the real one.

use crate::merge::Whole;
use crate::{Failure, library, signals};
use clap::Args;
use std::ffi::OsString;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};
use warpcheck::options::Options;

/// The exit status when warpcheck itself fails.
pub const OWN_FAILURE: u8 = 125;

#[derive(Debug, Args)]
pub struct Run {
    /// Checks: mem, init, race, sync, or all or none [default: WARPCHECK_CHECK, else all]
    #[arg(long, value_name = "LIST")]
    check: Option<String>,
    /// Report also barriers and member masks of threads that have exited
    #[arg(long)]
    strict: bool,
    /// Count what kernels do, 1 or 0 [default: WARPCHECK_COUNT, else 1]
    #[arg(long, value_name = "0|1")]
    count: Option<String>,
    /// The device: t4, v100, a100, a6000, rtx4090 or h100 [default: WARPCHECK_PROFILE, else a100]
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// How many devices
    #[arg(long, value_name = "N")]
    devices: Option<String>,
    /// Permute the order of warps and blocks by a seed
    #[arg(long, value_name = "SEED")]
    schedule: Option<String>,
    /// Host threads for kernels, 0 for all cores
    #[arg(long, value_name = "N")]
    threads: Option<String>,
    /// Instructions per warp after which a launch is aborted [default: 2^24, and 5 s]
    #[arg(long, value_name = "N")]
    budget: Option<String>,
    /// After a launch that fails: stop (its context is broken, as on a GPU) or continue
    #[arg(long, value_name = "stop|continue")]
    on_fault: Option<String>,
    /// Write the report of all processes here as JSON [default: WARPCHECK_REPORT]
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// The exit status when there are findings and the program itself succeeded
    #[arg(long, value_name = "STATUS", default_value_t = 99)]
    exit_code: u8,
    /// Memory that is never freed counts as a finding
    #[arg(long)]
    fail_on_leak: bool,
    /// The library to load, instead of the one beside this program
    #[arg(long, value_name = "FILE")]
    library: Option<PathBuf>,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

impl Run {
    pub fn execute(&self) -> Result<ExitCode, Failure> {
        let library = library::find(self.library.as_deref())?;
        let folder = PrivateFolder::new()?;
        for name in ["libcuda.so", "libcuda.so.1"] {
            let link = folder.0.join(name);
            symlink(&library, &link).map_err(Failure::file("write", &link))?;
        }
        let reports = folder.0.join("reports");
        std::fs::create_dir(&reports).map_err(Failure::file("make", &reports))?;
        let environment = self.environment()?;
        let status = self.spawn(&folder.0, &reports, environment)?;
        let whole = Whole::read(&reports);
        whole.print();
        let report = self.report.clone();
        if let Some(path) = report.or_else(|| std::env::var_os("WARPCHECK_REPORT").map(PathBuf::from)) {
            let text = format!("{:#}\n", whole.document());
            std::fs::write(&path, text).map_err(Failure::file("write the report", &path))?;
        }
        Ok(self.status(status, &whole))
    }

    /// The options as environment variables, checked here so that a wrong one is reported at once.
    fn environment(&self) -> Result<Vec<(&'static str, String)>, Failure> {
        let given = [
            ("WARPCHECK_CHECK", "check", &self.check, Some("all")),
            ("WARPCHECK_COUNT", "count", &self.count, Some("1")),
            ("WARPCHECK_PROFILE", "profile", &self.profile, None),
            ("WARPCHECK_DEVICES", "devices", &self.devices, None),
            ("WARPCHECK_SCHEDULE", "schedule", &self.schedule, None),
            ("WARPCHECK_THREADS", "threads", &self.threads, None),
            ("WARPCHECK_BUDGET", "budget", &self.budget, None),
            ("WARPCHECK_ON_FAULT", "on_fault", &self.on_fault, None),
        ];
        let mut environment = Vec::new();
        let mut options = Options::from_environment()?;
        if self.strict {
            environment.push(("WARPCHECK_STRICT", "1".to_owned()));
        }
        for (variable, key, value, default) in given {
            let default = default.filter(|_| std::env::var_os(variable).is_none());
            if let Some(value) = value.as_deref().or(default) {
                options.set_all(&format!("{key}={value}"))?;
                environment.push((variable, value.to_owned()));
            }
        }
        Ok(environment)
    }

    fn spawn(
        &self,
        folder: &Path,
        reports: &Path,
        environment: Vec<(&'static str, String)>,
    ) -> Result<ExitStatus, Failure> {
        let mut path = folder.as_os_str().to_owned();
        if let Some(old) = std::env::var_os("LD_LIBRARY_PATH").filter(|old| !old.is_empty()) {
            path.push(":");
            path.push(old);
        }
        let program = &self.command[0];
        signals::hold();
        let mut child = Command::new(program)
            .args(&self.command[1..])
            .envs(environment)
            .env("LD_LIBRARY_PATH", path)
            .env("WARPCHECK_REPORT", reports.join("%p.json"))
            .env("WARPCHECK_SUMMARY", "0")
            .spawn()
            .map_err(|error| Failure::Start { program: program.to_string_lossy().into_owned(), error })?;
        signals::forward_to(child.id());
        let status = child.wait().map_err(Failure::file("wait for", Path::new(program)))?;
        signals::stop();
        Ok(status)
    }

    /// The program's own status, unless it succeeded in spite of findings.
    fn status(&self, status: ExitStatus, whole: &Whole) -> ExitCode {
        let own = match (status.code(), status.signal()) {
            (Some(code), _) => code as u8,
            // As a shell has it.
            (None, Some(signal)) => 128u8.wrapping_add(signal as u8),
            (None, None) => OWN_FAILURE,
        };
        let faulty = !whole.findings.is_empty() || (self.fail_on_leak && !whole.leaks.is_empty());
        if own == 0 && faulty {
            return ExitCode::from(self.exit_code);
        }
        ExitCode::from(own)
    }
}

/// A temporary folder of this run, deleted at its end.
struct PrivateFolder(PathBuf);

impl PrivateFolder {
    fn new() -> Result<PrivateFolder, Failure> {
        let base = std::env::temp_dir();
        let mut template = base.join("warpcheck-XXXXXX").into_os_string().into_encoded_bytes();
        template.push(0);
        // SAFETY: the template ends with NUL and is written in place.
        let made = unsafe { libc::mkdtemp(template.as_mut_ptr().cast()) };
        if made.is_null() {
            return Err(Failure::file("make a folder in", &base)(std::io::Error::last_os_error()));
        }
        template.pop();
        // SAFETY: the bytes are those of an `OsString` with letters replaced by letters.
        let path = unsafe { OsString::from_encoded_bytes_unchecked(template) };
        Ok(PrivateFolder(PathBuf::from(path)))
    }
}

impl Drop for PrivateFolder {
    fn drop(&mut self) {
        // Leftovers in the temporary folder are harmless.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
