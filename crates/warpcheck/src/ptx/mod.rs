//! PTX: from text to a syntax tree.

mod lexer;
pub(crate) mod parser;
pub(crate) mod syntax;

use thiserror::Error;

/// PTX that cannot be loaded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("PTX line {line}: {message}")]
pub struct Error {
    /// Line of the text, from 1.
    pub line: u32,
    /// The problem.
    pub message: String,
    /// Whether the PTX is for a newer target or version than the device has.
    pub unsupported_target: bool,
    /// Whether the PTX may be right, and it is this driver that cannot run it.
    pub unsupported: bool,
}

impl Error {
    pub(crate) fn new(line: u32, message: impl Into<String>) -> Error {
        Error { line, message: message.into(), unsupported_target: false, unsupported: false }
    }

    /// Of what CUDA has and this driver has not.
    pub(crate) fn unsupported(line: u32, message: impl Into<String>) -> Error {
        Error { unsupported: true, ..Error::new(line, message) }
    }
}
