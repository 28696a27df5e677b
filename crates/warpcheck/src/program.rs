//! The flat program that a warp runs: slots instead of names, resolved targets, a line table.

use std::fmt;

use crate::exec::ExecContext;
use crate::finding::{Location, StateSpace};
use crate::ptx::syntax::Ty;

/// Runs one instruction for the lanes of a non-empty mask.
///
/// # Safety
/// The instruction is one of the lowered program that the context runs, under the handler that lowering chose for it: its
/// slots, predicates and operand numbers then lie inside the context's arrays and the program's tables, with the widths that
/// the handler reads. All functions of this signature in `exec` have this contract; what an address points to they check
/// themselves (`resolve`).
pub(crate) type Handler = unsafe fn(&mut ExecContext<'_>, &Inst, u32);

/// A handler for each CPU level: portable, AVX2 with FMA, AVX-512.
pub(crate) type Levels = [Handler; 3];

/// How the loop treats an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// The handler runs, the next instruction follows.
    Plain,
    /// The handler may raise an event.
    Event,
    /// Lanes wait for the members of a mask (operand `c`) before the handler runs.
    Sync,
    Branch,
    /// A branch through a table by an index.
    BranchIndex,
    Call,
    CallIndirect,
    Return,
    Exit,
    Barrier,
    /// `bar.warp.sync`.
    SyncWarp,
    Trap,
}

/// One lowered instruction.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Inst {
    pub(crate) handler: Handler,
    /// Destination and sources: slots, or predicate numbers where the operation says so.
    pub(crate) d: u16,
    pub(crate) a: u16,
    pub(crate) b: u16,
    pub(crate) c: u16,
    /// A branch target, an index into a side table, or an immediate.
    pub(crate) e: u32,
    /// Predicate number × 2, plus 1 when negated; predicate 0 is always true.
    pub(crate) guard: u16,
    pub(crate) kind: Kind,
    pub(crate) class: Class,
    /// For memory: whether the base is 64 bits wide.
    pub(crate) wide: bool,
}

impl Inst {
    /// The offset of an access whose base and offset are in the instruction.
    #[inline(always)]
    pub(crate) fn offset(&self) -> i64 {
        i64::from((u32::from(self.b) | u32::from(self.c) << 16) as i32)
    }
}

impl fmt::Debug for Inst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} d{} a{} b{} c{} e{} guard{}", self.kind, self.d, self.a, self.b, self.c, self.e, self.guard)
    }
}

/// What an instruction costs in machine code, estimated by `lower/cost.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cost {
    /// Instructions issued.
    pub(crate) issue: u8,
    /// Scalar loads from shared memory that this one does at once; 0 for those which an earlier one does.
    pub(crate) elements: u8,
    /// Bytes from the lowest of their addresses to this one's.
    pub(crate) back: u8,
    /// Whether a load passes by the first-level cache.
    pub(crate) uncached: bool,
}

impl Default for Cost {
    /// One instruction for one.
    fn default() -> Self {
        Cost { issue: 1, elements: 1, back: 0, uncached: false }
    }
}

/// The class that an instruction counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub(crate) enum Class {
    Integer,
    F32,
    F64,
    F16,
    Special,
    Conversion,
    Tensor,
    Move,
    Load,
    Store,
    Atomic,
    Control,
    Sync,
}

/// A memory operand and what moves through it.
#[derive(Debug, Clone)]
pub(crate) struct MemOp {
    pub(crate) space: StateSpace,
    /// Slot of the base address.
    pub(crate) base: u16,
    /// Whether the base is 64 bits wide.
    pub(crate) wide: bool,
    pub(crate) offset: i64,
    pub(crate) ty: Ty,
    /// Bytes of one element.
    pub(crate) bytes: u32,
    /// Registers that move; `None` is the sink `_`.
    pub(crate) regs: Vec<Option<Reg>>,
    /// `.volatile`, `.relaxed`, `.acquire`, `.release`, `.mmio`: no race with its like.
    pub(crate) strong: bool,
    pub(crate) acquire: bool,
    pub(crate) release: bool,
    pub(crate) scope: Scope,
    /// A `.volatile` load that is no wait: nothing leaves a loop by what it reads.
    pub(crate) glance: bool,
    /// Per byte of a load whether nothing reads the register that it goes to.
    pub(crate) unread: u32,
}

/// The threads among which an access is atomic and ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Block,
    Device,
}

impl MemOp {
    /// Bytes that one lane touches.
    pub(crate) fn total(&self) -> u32 {
        self.bytes * self.regs.len() as u32
    }
}

/// A register in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Reg {
    pub(crate) slot: u16,
    pub(crate) wide: bool,
}

/// A value that is the same for all lanes, put into the file before the warp starts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Constant {
    pub(crate) slot: u16,
    pub(crate) wide: bool,
    pub(crate) value: u64,
}

/// A special register that is fixed while a warp runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub(crate) enum Special {
    Tid(u8),
    Ntid(u8),
    Ctaid(u8),
    Nctaid(u8),
    Laneid,
    Warpid,
    Nwarpid,
    Smid,
    Nsmid,
    Gridid,
    LaneEq,
    LaneLt,
    LaneLe,
    LaneGt,
    LaneGe,
    DynamicShared,
    TotalShared,
    /// An offset in the shared memory that is reserved for CUDA's libraries, which lies behind the block's own.
    ReservedShared(u16),
    Zero,
    One,
}

/// Bytes of shared memory of a block that are reserved for CUDA's libraries.
pub(crate) const RESERVED_SHARED: u32 = 1024;

/// Applies a scalar function lane by lane: for the many rare forms.
pub(crate) type ScalarFn = Box<dyn Fn(u64, u64, u64, u64) -> u64 + Send + Sync>;

/// An operation given by a scalar function.
pub(crate) struct Scalar {
    pub(crate) f: ScalarFn,
    pub(crate) d: Place,
    /// A second result from the upper 32 bits: a predicate.
    pub(crate) d2: Option<u16>,
    pub(crate) sources: Vec<Place>,
}

/// Where a scalar operand lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Reg(Reg),
    /// A predicate; `true` is negated.
    Pred(u16, bool),
    None,
}

/// Copies between two places of local memory: the arguments of calls.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LocalCopy {
    pub(crate) to: LocalPlace,
    pub(crate) from: LocalPlace,
    pub(crate) bytes: u32,
}

/// An offset in a thread's local memory, counted from its start or from its stack pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LocalPlace {
    pub(crate) offset: u32,
    pub(crate) stack: Option<u16>,
}

/// A call of a device function.
#[derive(Debug, Clone)]
pub(crate) struct CallOp {
    /// First instruction of the function; `None` for an indirect call.
    pub(crate) target: Option<u32>,
    /// Where the callee keeps the return address; for indirect calls each function's own is used.
    pub(crate) link: u16,
    /// Slots that a recursive call saves.
    pub(crate) save: Option<Frame>,
}

/// The frame of a recursive function: what it saves, and its stack.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) regs: Vec<Reg>,
    /// Predicates from the first number up to the second.
    pub(crate) preds: (u16, u16),
    /// The slot of the stack pointer, and what it moves by.
    pub(crate) stack: u16,
    pub(crate) local: u32,
}

/// A device function that may be called indirectly.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) start: u32,
    pub(crate) link: u16,
}

/// A barrier instruction.
#[derive(Debug, Clone)]
pub(crate) struct BarOp {
    pub(crate) id: u16,
    /// Slot of the number of threads; `None` is all of the block.
    pub(crate) count: Option<u16>,
    pub(crate) arrive: bool,
    pub(crate) aligned: bool,
    pub(crate) reduce: Option<BarReduce>,
}

/// The operation of `barrier.red`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BarReduce {
    pub(crate) op: Reduce,
    pub(crate) source: (u16, bool),
    /// A predicate for and/or, a 32-bit slot for popc.
    pub(crate) d: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub(crate) enum Reduce {
    And,
    Or,
    Popc,
}

/// The program of one kernel, with the functions that it calls.
pub(crate) struct Program {
    pub(crate) code: Vec<Inst>,
    /// The cost of each instruction.
    pub(crate) costs: Vec<Cost>,
    pub(crate) entry: u32,
    /// Units of 32 lanes × 32 bits in the register file.
    pub(crate) slots: u32,
    /// The most 32-bit registers that are live at once in one of the functions.
    pub(crate) registers: u32,
    pub(crate) preds: u32,
    pub(crate) constants: Vec<Constant>,
    pub(crate) specials: Vec<(Special, u16)>,
    pub(crate) mem: Vec<MemOp>,
    /// The instruction of each memory operand.
    pub(crate) mem_pc: Vec<u32>,
    pub(crate) scalars: Vec<Scalar>,
    pub(crate) copies: Vec<LocalCopy>,
    pub(crate) calls: Vec<CallOp>,
    pub(crate) bars: Vec<BarOp>,
    pub(crate) tables: Vec<Vec<u32>>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) extra: Vec<Extra>,
    /// Source position and text of each instruction.
    pub(crate) lines: Vec<SourceLine>,
    pub(crate) texts: Vec<String>,
    pub(crate) files: Vec<(u32, String)>,
    pub(crate) static_shared: u32,
    pub(crate) local_bytes: u32,
    /// Whether a thread's stack pointer is used; it starts at this offset.
    pub(crate) stack: Option<u32>,
    pub(crate) stack_slot: u16,
    /// Whether blocks have to take turns at atomics for the result not to depend on their timing.
    pub(crate) ordered: bool,
    pub(crate) recursive: bool,
    pub(crate) param_bytes: u32,
}

/// Operands of instructions that have more than fit.
#[derive(Debug, Clone, Default)]
pub(crate) struct Extra {
    pub(crate) regs: Vec<Option<Reg>>,
    pub(crate) preds: Vec<(u16, bool)>,
    pub(crate) numbers: Vec<u64>,
    pub(crate) mma: Option<crate::arith::mma::Form>,
}

/// The source position of an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SourceLine {
    pub(crate) file: u32,
    pub(crate) line: u32,
    pub(crate) ptx: u32,
}

impl Program {
    /// Bytes at the end of a block's shared memory that CUDA's libraries use; they are zero at its start.
    pub(crate) fn reserved_shared(&self) -> u32 {
        let reserved = self.specials.iter().any(|(special, _)| matches!(special, Special::ReservedShared(_)));
        if reserved { RESERVED_SHARED } else { 0 }
    }

    /// Bytes of a block's shared memory with this much of its own.
    pub(crate) fn shared_bytes(&self, own: u64) -> u64 {
        match self.reserved_shared() {
            0 => own,
            reserved => own.next_multiple_of(16) + u64::from(reserved),
        }
    }

    /// The position of an instruction in the source.
    pub(crate) fn location(&self, pc: u32) -> Option<Location> {
        let line = self.lines.get(pc as usize)?;
        let file = self.files.iter().find(|(n, _)| *n == line.file);
        Some(Location {
            file: file.map_or_else(String::new, |(_, name)| name.clone()),
            line: if file.is_some() { line.line } else { 0 },
            ptx_line: line.ptx,
        })
    }

    /// An instruction as PTX writes it.
    pub(crate) fn text(&self, pc: u32) -> &str {
        self.texts.get(pc as usize).map_or("", |t| t.as_str())
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("instructions", &self.code.len())
            .field("slots", &self.slots)
            .finish_non_exhaustive()
    }
}
