//! The syntax tree: what the text says, before anything is resolved.

use std::collections::BTreeMap;

/// A fundamental type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub(crate) enum Ty {
    Pred,
    B8,
    B16,
    B32,
    B64,
    B128,
    U8,
    U16,
    U32,
    U64,
    S8,
    S16,
    S32,
    S64,
    F16,
    F16x2,
    BF16,
    BF16x2,
    TF32,
    F32,
    F64,
    U16x2,
    S16x2,
    E4M3x2,
    E5M2x2,
}

impl Ty {
    /// The type of this name, without its dot.
    pub(crate) fn parse(name: &str) -> Option<Ty> {
        Some(match name {
            "pred" => Ty::Pred,
            "b8" => Ty::B8,
            "b16" => Ty::B16,
            "b32" => Ty::B32,
            "b64" => Ty::B64,
            "b128" => Ty::B128,
            "u8" => Ty::U8,
            "u16" => Ty::U16,
            "u32" => Ty::U32,
            "u64" => Ty::U64,
            "s8" => Ty::S8,
            "s16" => Ty::S16,
            "s32" => Ty::S32,
            "s64" => Ty::S64,
            "f16" => Ty::F16,
            "f16x2" => Ty::F16x2,
            "bf16" => Ty::BF16,
            "bf16x2" => Ty::BF16x2,
            "tf32" => Ty::TF32,
            "f32" => Ty::F32,
            "f64" => Ty::F64,
            "u16x2" => Ty::U16x2,
            "s16x2" => Ty::S16x2,
            "e4m3x2" => Ty::E4M3x2,
            "e5m2x2" => Ty::E5M2x2,
            _ => return None,
        })
    }

    /// Its size in bytes; a predicate has none in memory, but counts as one.
    pub(crate) fn bytes(self) -> u32 {
        match self {
            Ty::Pred | Ty::B8 | Ty::U8 | Ty::S8 => 1,
            Ty::B16 | Ty::U16 | Ty::S16 | Ty::F16 | Ty::BF16 | Ty::E4M3x2 | Ty::E5M2x2 => 2,
            Ty::B32 | Ty::U32 | Ty::S32 | Ty::F16x2 | Ty::BF16x2 | Ty::TF32 | Ty::F32 | Ty::U16x2 | Ty::S16x2 => 4,
            Ty::B64 | Ty::U64 | Ty::S64 | Ty::F64 => 8,
            Ty::B128 => 16,
        }
    }

    pub(crate) fn signed(self) -> bool {
        matches!(self, Ty::S8 | Ty::S16 | Ty::S32 | Ty::S64)
    }
}

/// Where a variable lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub(crate) enum VarSpace {
    Global,
    Const,
    Shared,
    Local,
    Param,
}

/// One element of an initialiser.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Init<'a> {
    Int(u64),
    F32(u32),
    F64(u64),
    Address { symbol: &'a str, offset: i64 },
}

/// A variable or a parameter.
#[derive(Debug, Clone)]
pub(crate) struct Variable<'a> {
    pub(crate) line: u32,
    pub(crate) space: VarSpace,
    pub(crate) align: u32,
    pub(crate) ty: Ty,
    pub(crate) name: &'a str,
    /// Elements; `None` is an array without a length.
    pub(crate) count: Option<u64>,
    pub(crate) init: Vec<Init<'a>>,
    pub(crate) external: bool,
    /// A parameter declared by `.reg`.
    pub(crate) register: bool,
}

impl Variable<'_> {
    pub(crate) fn bytes(&self) -> u64 {
        self.count.unwrap_or(0).saturating_mul(u64::from(self.ty.bytes()))
    }

    pub(crate) fn alignment(&self) -> u32 {
        self.align.max(self.ty.bytes())
    }
}

/// An operand as written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Operand<'a> {
    /// A register, special register, symbol or label.
    Name(&'a str),
    /// `symbol + offset` outside brackets.
    Sum(&'a str, i64),
    Int(u64),
    F32(u32),
    F64(u64),
    /// `[base + offset]`; the base may be missing.
    Address(Option<&'a str>, i64),
    /// `{a, b}`.
    Vector(Vec<Operand<'a>>),
    /// `a|b`.
    Pair(Box<Operand<'a>>, Box<Operand<'a>>),
    /// `!p`.
    Not(&'a str),
    /// `_`.
    Sink,
    /// `(a, b)` of a call.
    List(Vec<Operand<'a>>),
}

/// An instruction as written.
#[derive(Debug, Clone)]
pub(crate) struct Instr<'a> {
    pub(crate) line: u32,
    /// The guard's predicate, and whether it is negated.
    pub(crate) guard: Option<(&'a str, bool)>,
    pub(crate) op: &'a str,
    pub(crate) mods: Vec<&'a str>,
    pub(crate) operands: Vec<Operand<'a>>,
}

impl Instr<'_> {
    /// The mnemonic with its modifiers.
    pub(crate) fn full(&self) -> String {
        let mut s = self.op.to_owned();
        for m in &self.mods {
            s.push('.');
            s.push_str(m);
        }
        s
    }
}

/// A statement of a body.
#[derive(Debug, Clone)]
pub(crate) enum Stmt<'a> {
    Label(&'a str, u32),
    Instr(Instr<'a>),
    /// `.reg .type name<count>`; no count is one register of just that name.
    Reg {
        line: u32,
        ty: Ty,
        name: &'a str,
        count: Option<u32>,
    },
    Var(Variable<'a>),
    Loc {
        file: u32,
        line: u32,
    },
    Block(Vec<Stmt<'a>>),
    /// The signature of an indirect call: the callee's own is what counts.
    Prototype,
    /// `label: .branchtargets a, b;`
    Targets {
        name: &'a str,
        labels: Vec<&'a str>,
    },
}

/// A kernel or a device function.
#[derive(Debug, Clone)]
pub(crate) struct Function<'a> {
    pub(crate) line: u32,
    pub(crate) entry: bool,
    pub(crate) name: &'a str,
    pub(crate) rets: Vec<Variable<'a>>,
    pub(crate) params: Vec<Variable<'a>>,
    pub(crate) max_threads: Option<[u32; 3]>,
    pub(crate) required_threads: Option<[u32; 3]>,
    /// `.minnctapersm` and `.maxnreg`.
    pub(crate) min_blocks: Option<u32>,
    pub(crate) max_registers: Option<u32>,
    pub(crate) body: Option<Vec<Stmt<'a>>>,
    /// The line of the closing brace.
    pub(crate) end: u32,
}

/// A whole text.
#[derive(Debug, Default)]
pub(crate) struct Unit<'a> {
    /// 88 for 8.8.
    pub(crate) version: u32,
    /// 80 for `sm_80`.
    pub(crate) target: u32,
    pub(crate) target_line: u32,
    pub(crate) files: BTreeMap<u32, &'a str>,
    pub(crate) variables: Vec<Variable<'a>>,
    pub(crate) functions: Vec<Function<'a>>,
}
