//! The values of a pickle, and the reasons to refuse one.

use std::borrow::Cow;
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
    /// A function that could do harm, if something called it.
    #[error("the pickle refers to `{0}`, which can run code or reach files; it is refused and was not called")]
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
    /// Integers and others of this many bytes: counted, never read.
    Other(usize),
}

impl ElementType {
    pub(super) fn of_storage(name: &str) -> Option<Self> {
        Some(match name {
            "FloatStorage" => Self::Float,
            "DoubleStorage" => Self::Double,
            "HalfStorage" => Self::Half,
            "BFloat16Storage" => Self::BFloat16,
            "ComplexDoubleStorage" => Self::Other(16),
            "LongStorage" | "ComplexFloatStorage" => Self::Other(8),
            "IntStorage" | "QInt32Storage" => Self::Other(4),
            "ShortStorage" => Self::Other(2),
            "CharStorage" | "ByteStorage" | "BoolStorage" | "UntypedStorage" | "QInt8Storage" | "QUInt8Storage"
            | "QUInt4x2Storage" | "QUInt2x4Storage" => Self::Other(1),
            _ => return None,
        })
    }

    /// Bytes per element.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Float => 4,
            Self::Double => 8,
            Self::Half | Self::BFloat16 => 2,
            Self::Other(bytes) => bytes,
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
    /// Number of elements of the record.
    pub len: usize,
    /// The part of the record that this storage is, in elements: all of it, but for views of PyTorch's old format.
    pub part: std::ops::Range<usize>,
}

/// A view of a storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Where the elements are.
    pub storage: Storage,
    /// The first element, counted from the start of the storage's part.
    pub offset: usize,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Strides in elements, one per dimension.
    pub strides: Vec<usize>,
    /// Whether its elements are the storage's with the other sign: PyTorch's negative bit.
    pub negative: bool,
}

/// What an unknown class or function would make, if it were called: nothing was.
#[derive(Clone, Debug)]
pub struct Object {
    /// The class or function, as `module.name`.
    pub global: Rc<str>,
    /// What it would be called with.
    pub arguments: Value,
    /// What its `__setstate__` would be called with, last.
    pub state: Value,
    /// Elements appended, keys and values set.
    pub items: Vec<Value>,
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
    /// Bytes, or a string of Python 2, which may be either.
    Bytes(Rc<[u8]>),
    /// A tuple, with its depth.
    Tuple(Rc<Vec<Value>>, u8),
    /// A list or a set, by its number in [`Pickle::lists`](super::Pickle::lists).
    List(usize),
    /// A dict or one of its kin, by its number in [`Pickle::dicts`](super::Pickle::dicts): a dict may hold itself.
    Dict(usize),
    /// A function or class.
    Global(Known),
    /// What a persistent id stands for.
    Storage(Rc<Storage>),
    /// A tensor.
    Tensor(Rc<Tensor>),
    /// An object of an unknown class, by its number in [`Pickle::objects`](super::Pickle::objects).
    Object(usize),
}

/// The functions and classes of a state dict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// `collections.OrderedDict`.
    OrderedDict,
    /// `collections.defaultdict`.
    DefaultDict,
    /// `_codecs.encode`: bytes in a pickle of protocol 2.
    Encode,
    /// `torch._utils._rebuild_tensor` and its successor.
    RebuildTensor,
    /// `torch._utils._rebuild_parameter` and its kin: what is given first.
    RebuildParameter,
    /// `torch._tensor._rebuild_from_type_v2`: a tensor with attributes.
    RebuildFromType,
    /// `torch.FloatStorage` and its kin.
    Storage(ElementType),
    /// Any other, as `module.name`.
    Other(Rc<str>),
}

impl Known {
    /// As `module.name`.
    pub fn name(&self) -> &str {
        match self {
            Self::OrderedDict => "collections.OrderedDict",
            Self::DefaultDict => "collections.defaultdict",
            Self::Encode => "_codecs.encode",
            Self::RebuildTensor => "torch._utils._rebuild_tensor_v2",
            Self::RebuildParameter => "torch._utils._rebuild_parameter",
            Self::RebuildFromType => "torch._tensor._rebuild_from_type_v2",
            Self::Storage(_) => "torch storage",
            Self::Other(name) => name,
        }
    }
}

impl Value {
    pub(super) fn depth(&self) -> u8 {
        if let Self::Tuple(_, depth) = self { *depth } else { 0 }
    }

    /// A number of elements.
    pub(super) fn int(&self) -> Option<usize> {
        if let Self::Int(value) = self { usize::try_from(*value).ok() } else { None }
    }

    pub(super) fn ints(&self) -> Option<Vec<usize>> {
        if let Self::Tuple(values, _) = self { values.iter().map(Self::int).collect() } else { None }
    }

    /// A string; of Python 2's, the one that its bytes are in UTF-8, else in Latin-1.
    pub fn text(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::String(text) => Some(Cow::Borrowed(text)),
            Self::Bytes(bytes) => Some(match std::str::from_utf8(bytes) {
                Ok(text) => Cow::Borrowed(text),
                Err(_) => bytes.iter().map(|&byte| char::from(byte)).collect(),
            }),
            _ => None,
        }
    }
}
