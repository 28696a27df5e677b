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
    /// The launcher's MPI library was not found, or cannot be used.
    #[error("{launcher} started this process, but its {family} library was not found{passed_over}")]
    NoMpi {
        /// The launcher.
        launcher: String,
        /// `Open MPI`, `MPICH`, or `MPI` where any would do.
        family: &'static str,
        /// The libraries that were found and not taken, with the reasons.
        passed_over: String,
    },
    /// An MPI library works, but not with this launcher: it sees other processes.
    #[error(
        "{launcher} started {started} processes, but {library} sees {found}: it is the library of another launcher"
    )]
    OtherLauncher {
        /// The launcher.
        launcher: String,
        /// Processes that it started.
        started: usize,
        /// The library.
        library: String,
        /// Processes that the library sees.
        found: usize,
    },
    /// Nothing tells how to reach the other ranks.
    #[error("{launcher} started this process, but nothing says where the others are")]
    NoEngine {
        /// The launcher.
        launcher: String,
    },
    /// MPI failed.
    #[error("{library}: {call}: {message}")]
    Mpi {
        /// The library.
        library: String,
        /// The function.
        call: String,
        /// What the library says.
        message: String,
    },
    /// Other ranks sent or took nothing for too long.
    #[error("{} for {seconds} s ({call})", silent(peers))]
    Timeout {
        /// Name of the call on this rank.
        call: &'static str,
        /// The ranks that are waited for.
        peers: Vec<usize>,
        /// Seconds without an answer.
        seconds: u64,
    },
    /// A call of the MPI library does not return.
    #[error("{call} did not return for {seconds} s")]
    Stuck {
        /// The call.
        call: &'static str,
        /// Seconds since it began.
        seconds: u64,
    },
    /// Ranks cannot be connected by TCP.
    #[error("cannot meet the other ranks at {address}: {message}")]
    Tcp {
        /// Where they meet.
        address: String,
        /// What happened.
        message: String,
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

/// `rank 3 did not answer`, `ranks 1, 2 did not answer`.
fn silent(peers: &[usize]) -> String {
    let names: Vec<String> = peers.iter().take(8).map(ToString::to_string).collect();
    let more = if peers.len() > names.len() { ", …" } else { "" };
    format!("rank{} {}{more} did not answer", if peers.len() == 1 { "" } else { "s" }, names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silent_ranks_are_named() {
        let error = |peers: Vec<usize>| Error::Timeout { call: "exchange", peers, seconds: 60 }.to_string();
        assert_eq!(error(vec![3]), "rank 3 did not answer for 60 s (exchange)");
        assert_eq!(error(vec![1, 2]), "ranks 1, 2 did not answer for 60 s (exchange)");
        assert!(error((0..20).collect()).starts_with("ranks 0, 1, 2, 3, 4, 5, 6, 7, … did not answer"));
    }
}
