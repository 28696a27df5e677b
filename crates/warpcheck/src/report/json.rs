//! The report as a document for tools.

use super::LaunchFacts;
use crate::count::Counters;
use crate::finding::Finding;
use crate::memory::AllocationInfo;
use serde::{Deserialize, Serialize};

/// The whole report of a process. Fields are added, never changed, while `version` is 1.
#[derive(Debug, Clone, Serialize)]
pub struct Document {
    /// The version of the format.
    pub version: u32,
    /// The process id.
    pub process: u32,
    /// Whether the process has come to its end; until then the counters are those of the last write.
    pub complete: bool,
    /// The command line.
    pub command: Vec<String>,
    /// The name of the device that was simulated.
    pub device: String,
    /// Kernel launches.
    pub launches: u64,
    /// The findings of the checks.
    pub findings: Vec<Reported>,
    /// Totals by kernel.
    pub kernels: Vec<KernelTotals>,
    /// Allocations that were not freed.
    pub leaks: Vec<AllocationInfo>,
    /// Notes on wrong calls.
    pub notes: Vec<String>,
    /// Unsupported functions that were called.
    pub unsupported: Vec<String>,
}

/// A finding with the launch that showed it first.
#[derive(Debug, Clone, Serialize)]
pub struct Reported {
    /// The number of the launch, from 1.
    pub launch: u64,
    /// How many launches showed it.
    pub launches: u64,
    /// The device's ordinal.
    pub device: u32,
    /// Blocks of the launch.
    pub grid: [u32; 3],
    /// Threads of its blocks.
    pub block_size: [u32; 3],
    /// The finding.
    #[serde(flatten)]
    pub finding: Finding,
    /// As it was printed, without colour.
    pub text: String,
}

/// Totals over the launches of a kernel.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct KernelTotals {
    /// The kernel.
    pub name: String,
    /// Its launches.
    pub launches: u64,
    /// Those that may overlap the kernel before them (programmatic stream serialization).
    #[serde(default)]
    pub programmatic: u64,
    /// Threads in all of them.
    pub threads: u64,
    /// Modelled time in ns.
    pub time_ns: f64,
    /// Registers per thread.
    pub registers: u32,
    /// Shared memory that it declares, in bytes.
    pub static_shared: u32,
    /// Counters, if enabled.
    pub counters: Option<Counters>,
}

impl KernelTotals {
    /// Adds a launch.
    pub fn add(&mut self, facts: &LaunchFacts, counters: Option<&Counters>) {
        let product = |size: [u32; 3]| size.iter().map(|n| u64::from(*n)).product::<u64>();
        self.launches += 1;
        self.programmatic += u64::from(facts.programmatic);
        self.threads += product(facts.grid) * product(facts.block);
        self.time_ns += facts.time_ns;
        self.registers = facts.kernel.registers;
        self.static_shared = facts.kernel.static_shared;
        self.add_counters(counters);
    }

    /// Adds the totals of another process.
    pub fn merge(&mut self, other: &KernelTotals) {
        self.launches += other.launches;
        self.programmatic += other.programmatic;
        self.threads += other.threads;
        self.time_ns += other.time_ns;
        self.registers = self.registers.max(other.registers);
        self.static_shared = self.static_shared.max(other.static_shared);
        self.add_counters(other.counters.as_ref());
    }

    fn add_counters(&mut self, counters: Option<&Counters>) {
        if let Some(counters) = counters {
            self.counters.get_or_insert_default().add(counters);
        }
    }
}
