//! Findings of the checks.

use serde::Serialize;

use crate::memory::AllocationInfo;

/// The check that made a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// Bounds, alignment, lifetime and rights.
    Mem,
    /// Reads of bytes that were never written.
    Init,
    /// Conflicting accesses without order.
    Race,
    /// Barriers, deadlock, endless loops.
    Sync,
}

/// The problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// An access over the end or before the start of an allocation, or of the block's shared or local memory.
    OutOfBounds,
    /// An address that is no multiple of the access's size.
    Misaligned,
    /// An access to memory that has been freed.
    UseAfterFree,
    /// An access at or near address zero.
    Null,
    /// A write to constant memory or parameters.
    ReadOnly,
    /// An access to no memory at all.
    WildAddress,
    /// A read of bytes that were never written.
    Uninitialised,
    /// Two unordered accesses, one of them a write.
    Race,
    /// A barrier that only some threads of a warp reach together.
    BarrierDivergence,
    /// Threads that wait at different barriers, or with different counts.
    BarrierMismatch,
    /// A barrier that waits for threads that have exited.
    BarrierAfterExit,
    /// A `.sync` instruction whose mask leaves out the thread that runs it, or names threads that never come.
    SyncMask,
    /// All threads wait: a deadlock.
    Deadlock,
    /// More instructions than the budget allows.
    Budget,
    /// A failed `assert`.
    Assert,
    /// A `trap`, a call of nothing, or an instruction with operands that it does not take.
    Trap,
}

/// How an instruction accesses memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Nothing.
    None,
    /// It reads.
    Read,
    /// It writes.
    Write,
    /// It reads and writes at once.
    Atomic,
}

/// The state spaces of PTX.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StateSpace {
    /// A generic address: its value determines the space.
    Generic,
    /// Global memory.
    Global,
    /// A block's shared memory.
    Shared,
    /// A thread's own memory.
    Local,
    /// Constant memory.
    Const,
    /// Parameters.
    Param,
}

/// A place in the source.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Location {
    /// The CUDA source file, as `.file` names it; empty when there is no line information.
    pub file: String,
    /// Its line, from 1; 0 when there is no line information.
    pub line: u32,
    /// The line of the PTX text, from 1.
    pub ptx_line: u32,
}

/// The other side of a race.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Other {
    /// Its kernel, if that is of an earlier launch.
    pub kernel: Option<String>,
    /// Where it is in the source.
    pub location: Option<Location>,
    /// Its instruction.
    pub instruction: String,
    /// Its block.
    pub block: [u32; 3],
    /// Its thread.
    pub thread: [u32; 3],
    /// How it accesses memory.
    pub access: Access,
}

/// One finding; equal ones (kind, instruction, other instruction) are counted, the first is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check that found it.
    pub check: Check,
    /// The problem.
    pub kind: FindingKind,
    /// The kernel's name.
    pub kernel: String,
    /// The instruction as PTX writes it.
    pub instruction: String,
    /// Where it is in the source.
    pub location: Option<Location>,
    /// The block, as `blockIdx`.
    pub block: [u32; 3],
    /// The thread, as `threadIdx`.
    pub thread: [u32; 3],
    /// How the instruction accesses memory.
    pub access: Access,
    /// The state space of the access.
    pub space: StateSpace,
    /// The address; for shared and local memory the offset in the block's or thread's part.
    pub address: u64,
    /// Bytes per thread.
    pub bytes: u32,
    /// The allocation that the address is in, or next to.
    pub allocation: Option<AllocationInfo>,
    /// The other side of a race.
    pub other: Option<Other>,
    /// Number of occurrences.
    pub count: u64,
    /// The whole finding in a sentence.
    pub message: String,
}
