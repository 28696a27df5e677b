//! Output for the user: findings as they happen, totals at the end of the process, and everything as JSON.

mod json;
mod table;
mod text;

pub use json::{Document, KernelTotals, Reported};
pub use table::counter_table;
pub use text::{Style, leak_text};

use crate::finding::Finding;
use crate::launch::{Kernel, Outcome};
use crate::memory::AllocationInfo;
use crate::options::Options;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Maximum number of findings printed; the JSON has all.
const MOST_PRINTED: usize = 200;

/// A launch that is over.
#[derive(Debug)]
pub struct LaunchFacts<'a> {
    /// Sequence number of the launch in the process, from 1.
    pub number: u64,
    /// The kernel.
    pub kernel: &'a Kernel,
    /// Blocks in x, y, z.
    pub grid: [u32; 3],
    /// Threads per block in x, y, z.
    pub block: [u32; 3],
    /// The device's ordinal.
    pub device: u32,
    /// Modelled time in ns.
    pub time_ns: f64,
    /// Whether it may overlap the kernel before it.
    pub programmatic: bool,
}

/// Collects what happens in the process.
#[derive(Debug)]
pub struct Report {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    style: Style,
    path: Option<PathBuf>,
    summary: bool,
    device: String,
    findings: Vec<Reported>,
    known: HashMap<String, usize>,
    kernels: BTreeMap<String, KernelTotals>,
    leaks: Vec<AllocationInfo>,
    notes: Vec<String>,
    said: HashSet<String>,
    unsupported: Vec<String>,
    launches: u64,
    complete: bool,
}

impl Report {
    /// An empty report.
    pub fn new(options: &Options) -> Report {
        let report = Report {
            state: Mutex::new(State {
                style: Style::of_stderr(),
                path: None,
                summary: true,
                device: String::new(),
                findings: Vec::new(),
                known: HashMap::new(),
                kernels: BTreeMap::new(),
                leaks: Vec::new(),
                notes: Vec::new(),
                said: HashSet::new(),
                unsupported: Vec::new(),
                launches: 0,
                complete: false,
            }),
        };
        report.set_options(options);
        // Written at once, so that a reader of the file knows that the driver was loaded.
        report.state().write();
        report
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the options of the report.
    pub fn set_options(&self, options: &Options) {
        let mut state = self.state();
        state.path = options.report.as_deref().map(for_process);
        state.summary = options.summary;
        state.device = options.profile.name.clone();
    }

    /// Adds the outcome of a launch and prints its new findings.
    pub fn launched(&self, facts: &LaunchFacts, outcome: Outcome) {
        if !outcome.printed.is_empty() {
            // The device's printf goes where the program's own does; a closed pipe is its problem.
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(outcome.printed.as_bytes()).and_then(|()| out.flush());
        }
        let mut state = self.state();
        state.launches += 1;
        let totals = state
            .kernels
            .entry(facts.kernel.name.clone())
            .or_insert_with(|| KernelTotals { name: facts.kernel.name.clone(), ..KernelTotals::default() });
        totals.add(facts, outcome.counters.as_ref());
        let mut new = false;
        for finding in outcome.findings {
            new |= state.found(facts, finding);
        }
        if new {
            state.write();
        }
    }

    /// A note on a wrong call, printed once.
    pub fn note(&self, text: &str) {
        let mut state = self.state();
        if state.said.insert(text.to_owned()) {
            say(&format!("warpcheck: {text}"));
            state.notes.push(text.to_owned());
        }
    }

    /// A call of an unsupported function, printed once.
    pub fn unsupported(&self, name: &str) {
        let mut state = self.state();
        if !state.unsupported.iter().any(|known| known == name) {
            say(&format!("warpcheck: {name} is not supported; it answers CUDA_ERROR_NOT_SUPPORTED"));
            state.unsupported.push(name.to_owned());
        }
    }

    /// An allocation that was alive when its context was destroyed.
    pub fn leaked(&self, info: AllocationInfo) {
        self.state().leaks.push(info);
    }

    /// Number of findings since the last reset.
    pub fn count(&self) -> u64 {
        self.state().findings.len() as u64
    }

    /// Clears findings, counters, leaks and notes.
    pub fn reset(&self) {
        let mut state = self.state();
        state.findings.clear();
        state.known.clear();
        state.kernels.clear();
        state.leaks.clear();
        state.notes.clear();
        state.said.clear();
        state.launches = 0;
    }

    /// The whole report, with these live allocations as leaks.
    pub fn document(&self, live: &[AllocationInfo]) -> Document {
        self.state().document(live)
    }

    /// The process ends: prints the summary, writes the file.
    pub fn finish(&self, leaks: Vec<AllocationInfo>) {
        let mut state = self.state();
        state.leaks.extend(leaks);
        if state.summary {
            state.print_summary();
        }
        state.complete = true;
        state.write();
    }
}

impl State {
    /// Enters a finding; whether it is new.
    fn found(&mut self, facts: &LaunchFacts, finding: Finding) -> bool {
        let place = |location: &Option<crate::finding::Location>| {
            location.as_ref().map(|l| (l.file.clone(), l.line, l.ptx_line))
        };
        let other = finding.other.as_ref().map(|other| place(&other.location));
        let key = format!(
            "{} {:?} {} {:?} {other:?}",
            finding.kernel,
            finding.kind,
            finding.instruction,
            place(&finding.location)
        );
        if let Some(index) = self.known.get(&key) {
            self.findings[*index].finding.count += finding.count;
            self.findings[*index].launches += 1;
            return false;
        }
        let text = text::finding_text(&finding, facts, Style::plain());
        if self.findings.len() < MOST_PRINTED {
            say(&text::finding_text(&finding, facts, self.style));
        } else if self.findings.len() == MOST_PRINTED {
            eprintln!("warpcheck: more findings are not printed; they are in the report (WARPCHECK_REPORT)");
        }
        self.known.insert(key, self.findings.len());
        self.findings.push(Reported {
            launch: facts.number,
            launches: 1,
            device: facts.device,
            grid: facts.grid,
            block_size: facts.block,
            finding,
            text,
        });
        true
    }

    fn document(&self, live: &[AllocationInfo]) -> Document {
        Document {
            version: 1,
            process: std::process::id(),
            complete: self.complete,
            command: std::env::args().collect(),
            device: self.device.clone(),
            launches: self.launches,
            findings: self.findings.clone(),
            kernels: self.kernels.values().cloned().collect(),
            leaks: self.leaks.iter().chain(live).cloned().collect(),
            notes: self.notes.clone(),
            unsupported: self.unsupported.clone(),
        }
    }

    fn print_summary(&self) {
        let mut err = std::io::stderr().lock();
        let mut say = |line: &str| {
            // A process that closed its stderr wants no summary.
            let _ = writeln!(err, "{line}");
        };
        for leak in &self.leaks {
            say(&leak_text(leak, self.style));
        }
        let counted: Vec<&KernelTotals> = self.kernels.values().filter(|kernel| kernel.counters.is_some()).collect();
        if !counted.is_empty() {
            say(&counter_table(&counted));
        }
        if !self.findings.is_empty() {
            let times: u64 = self.findings.iter().map(|found| found.finding.count).sum();
            say(&format!(
                "warpcheck: {} in {} kernel launches, {times} times in all",
                plural(self.findings.len(), "finding"),
                self.launches
            ));
        }
    }

    /// Writes the JSON to its file, atomically.
    fn write(&self) {
        let Some(path) = &self.path else { return };
        if let Err(error) = write_whole(path, &self.document(&[])) {
            eprintln!("warpcheck: cannot write the report {}: {error}", path.display());
        }
    }
}

fn write_whole(path: &Path, document: &Document) -> std::io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = PathBuf::from(name);
    let mut text = serde_json::to_vec_pretty(document)?;
    text.push(b'\n');
    std::fs::write(&part, text)?;
    std::fs::rename(&part, path)
}

/// The path with `%p` replaced by the process id.
fn for_process(path: &Path) -> PathBuf {
    match path.to_str() {
        Some(text) => PathBuf::from(text.replace("%p", &std::process::id().to_string())),
        None => path.to_owned(),
    }
}

/// Prints a line to stderr in one piece, so that other threads' lines do not split it.
fn say(text: &str) {
    // A process that closed its stderr wants no messages.
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}

/// `1 finding`, `2 findings`.
pub fn plural(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
