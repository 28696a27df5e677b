//! The values of a pickle, and the reasons to refuse one.

use std::rc::Rc;

use super::{DEEPEST, MOST_VALUES};

/// Why a pickle is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// It ends in the middle of an instruction.
    #[error("the pickle ends at byte {0}, in the middle of an instruction")]
    Truncated(usize),
    /// An opcode that no state dict has.
    #[error("the pickle has the opcode {name} at byte {at}, which no state dict needs; it is refused")]
    Opcode {
        /// Its name in Python's `pickletools`, or its number.
        name: String,
        /// Where.
        at: usize,
    },
    /// A function or class that no state dict needs.
    #[error("the pickle refers to `{0}`, which no state dict needs; it is refused and was not called")]
    Global(String),
    /// An opcode that does not fit the stack.
    #[error("the pickle is malformed at byte {at}: {reason}")]
    Malformed {
        /// Where.
        at: usize,
        /// What was expected.
        reason: &'static str,
    },
    /// More than any state dict needs.
    #[error("the pickle holds more than {MOST_VALUES} values or nests them deeper than {DEEPEST}")]
    TooLarge,
}

/// The type of a storage's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElementType {
    /// 32-bit float.
    Float,
    /// 64-bit float.
    Double,
    /// IEEE half.
    Half,
    /// bfloat16.
    BFloat16,
    /// Integers of this many bytes: counted, never read.
    Integer(usize),
}

impl ElementType {
    pub(super) fn of_storage(name: &str) -> Option<Self> {
        Some(match name {
            "FloatStorage" => Self::Float,
            "DoubleStorage" => Self::Double,
            "HalfStorage" => Self::Half,
            "BFloat16Storage" => Self::BFloat16,
            "LongStorage" => Self::Integer(8),
            "IntStorage" => Self::Integer(4),
            "ShortStorage" => Self::Integer(2),
            "CharStorage" | "ByteStorage" | "BoolStorage" => Self::Integer(1),
            _ => return None,
        })
    }

    /// Bytes per element.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Float => 4,
            Self::Double => 8,
            Self::Half | Self::BFloat16 => 2,
            Self::Integer(bytes) => bytes,
        }
    }
}

/// A run of elements in the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// Name of the record.
    pub key: String,
    /// Type of the elements.
    pub element: ElementType,
    /// Number of elements.
    pub len: usize,
}

/// A view of a storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Where the elements are.
    pub storage: Storage,
    /// The first element.
    pub offset: usize,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Strides in elements, one per dimension.
    pub strides: Vec<usize>,
}

/// A value on the stack.
#[derive(Clone, Debug)]
pub enum Value {
    /// None.
    None,
    /// True or False.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A long integer beyond 64 bits, or a float: not kept, since no tensor depends on it.
    Number,
    /// A string.
    String(Rc<str>),
    /// A tuple, with its depth.
    Tuple(Rc<Vec<Value>>, u8),
    /// A list, by its number in [`Pickle::lists`](super::Pickle::lists).
    List(usize),
    /// A dict or OrderedDict, by its number in [`Pickle::dicts`](super::Pickle::dicts): a dict may hold itself.
    Dict(usize),
    /// One of the known functions and classes.
    Global(Known),
    /// What a persistent id stands for.
    Storage(Rc<Storage>),
    /// A tensor.
    Tensor(Rc<Tensor>),
}

/// The functions and classes of a state dict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// `collections.OrderedDict`.
    OrderedDict,
    /// `torch._utils._rebuild_tensor_v2`.
    RebuildTensor,
    /// `torch._utils._rebuild_parameter`.
    RebuildParameter,
    /// `torch.FloatStorage` and its kin.
    Storage(ElementType),
}

impl Value {
    pub(super) fn depth(&self) -> u8 {
        if let Self::Tuple(_, depth) = self { *depth } else { 0 }
    }

    pub(super) fn int(&self) -> Option<usize> {
        if let Self::Int(value) = self { usize::try_from(*value).ok() } else { None }
    }

    pub(super) fn ints(&self) -> Option<Vec<usize>> {
        if let Self::Tuple(values, _) = self { values.iter().map(Self::int).collect() } else { None }
    }
}
