//! Merges the reports of all processes of a run.

use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use warpcheck::memory::AllocationInfo;
use warpcheck::report::{KernelTotals, Style, counter_table, leak_text, plural};

/// What this program reads of a process's report.
#[derive(Debug, Deserialize)]
struct Process {
    process: u32,
    complete: bool,
    device: String,
    launches: u64,
    findings: Vec<Value>,
    kernels: Vec<KernelTotals>,
    leaks: Vec<AllocationInfo>,
    notes: Vec<String>,
    unsupported: Vec<String>,
}

/// The whole run.
#[derive(Debug, Default)]
pub struct Whole {
    pub processes: usize,
    pub launches: u64,
    pub findings: Vec<Value>,
    pub leaks: Vec<AllocationInfo>,
    device: String,
    kernels: BTreeMap<String, KernelTotals>,
    notes: Vec<String>,
    unsupported: Vec<String>,
    /// Processes that ended abnormally.
    broken: Vec<u32>,
}

impl Whole {
    /// Reads every report in a folder; prints an error for one that cannot be read.
    pub fn read(folder: &Path) -> Whole {
        let mut whole = Whole::default();
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        paths.sort();
        for path in paths {
            let text = std::fs::read_to_string(&path).map_err(|error| error.to_string());
            let parsed = text.and_then(|text| serde_json::from_str(&text).map_err(|error| error.to_string()));
            match parsed {
                Ok(process) => whole.add(process),
                Err(error) => eprintln!("warpcheck: cannot read {}: {error}", path.display()),
            }
        }
        whole
    }

    fn add(&mut self, process: Process) {
        self.processes += 1;
        self.launches += process.launches;
        self.device = process.device;
        for mut finding in process.findings {
            finding["process"] = json!(process.process);
            self.findings.push(finding);
        }
        for kernel in process.kernels {
            match self.kernels.get_mut(&kernel.name) {
                Some(known) => known.merge(&kernel),
                None => {
                    self.kernels.insert(kernel.name.clone(), kernel);
                }
            }
        }
        self.leaks.extend(process.leaks);
        for (all, new) in [(&mut self.notes, process.notes), (&mut self.unsupported, process.unsupported)] {
            for text in new {
                if !all.contains(&text) {
                    all.push(text);
                }
            }
        }
        if !process.complete {
            self.broken.push(process.process);
        }
    }

    /// Prints everything to stderr: findings again, since the program's own output may have hidden them.
    pub fn print(&self) {
        eprintln!();
        if self.processes == 0 {
            eprintln!("warpcheck: warning: the program never opened the CUDA driver; nothing was checked");
            return;
        }
        for finding in &self.findings {
            eprintln!("{}\n", finding["text"].as_str().unwrap_or_default());
        }
        for leak in &self.leaks {
            eprintln!("{}", leak_text(leak, Style::of_stderr()));
        }
        let kernels: Vec<&KernelTotals> = self.kernels.values().collect();
        if kernels.iter().any(|kernel| kernel.counters.is_some()) {
            eprintln!("{}\n", counter_table(&kernels));
        }
        for process in &self.broken {
            eprintln!("warpcheck: warning: process {process} ended abnormally; its counters are missing");
        }
        eprintln!(
            "warpcheck: {}, {} in {} on {}",
            plural(self.findings.len(), "finding"),
            plural(self.leaks.len(), "leak"),
            plural(self.launches as usize, "kernel launch").replace("launchs", "launches"),
            self.device,
        );
    }

    /// The run as one document: a process's report, with the process in each finding.
    pub fn document(&self) -> Value {
        json!({
            "version": 1,
            "processes": self.processes,
            "device": self.device,
            "launches": self.launches,
            "findings": self.findings,
            "kernels": self.kernels.values().collect::<Vec<_>>(),
            "leaks": self.leaks,
            "notes": self.notes,
            "unsupported": self.unsupported,
        })
    }
}
