//! What can go wrong between ranks.

/// A `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A call between ranks failed.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A buffer of this rank has the wrong length.
    #[error("{call}: the buffer has {found} bytes, expected {expected}")]
    Length {
        /// Name of the call.
        call: &'static str,
        /// Length found.
        found: usize,
        /// Length expected.
        expected: usize,
    },
    /// There is no such rank.
    #[error("{call}: no rank {rank} among {size}")]
    Rank {
        /// Name of the call.
        call: &'static str,
        /// The rank that was asked for.
        rank: usize,
        /// Number of ranks.
        size: usize,
    },
    /// Another rank sent a message of another length, or made another call.
    #[error("{call}: rank {peer} sent {found}, expected {expected} bytes")]
    Differs {
        /// Name of the call on this rank.
        call: &'static str,
        /// The other rank.
        peer: usize,
        /// What arrived.
        found: String,
        /// Bytes expected.
        expected: usize,
    },
    /// Another rank has ended.
    #[error("{call}: rank {peer} has ended")]
    Ended {
        /// Name of the call on this rank.
        call: &'static str,
        /// The other rank.
        peer: usize,
    },
}
