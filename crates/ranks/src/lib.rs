//! The ranks of a job, and how bytes move between them.
//!
//! This crate knows nothing of networks and adds no numbers: an engine moves bytes, and its callers compute. So results
//! cannot depend on the engine, on its algorithms, or on the order in which messages arrive.
//!
//! ```
//! use alexnet_ranks::{Ranks, local};
//!
//! std::thread::scope(|scope| {
//!     for ranks in local(2) {
//!         scope.spawn(move || {
//!             let mut all = [0; 2];
//!             ranks.all_gather(&[10 + ranks.rank() as u8], &mut all).unwrap();
//!             assert_eq!(all, [10, 11]);
//!         });
//!     }
//! });
//! ```

use std::fmt::Debug;
use std::time::Duration;

mod cores;
mod error;
pub mod launcher;
mod local;
mod messages;
#[cfg(unix)]
pub mod mpi;
mod single;
pub mod tcp;
mod timeout;

pub use cores::cores;
pub use error::{Error, Result};
pub use launcher::Launcher;
pub use local::{Local, local, on_all};
#[cfg(unix)]
pub use mpi::Mpi;
pub use single::Single;
pub use tcp::Tcp;

/// The processes of one job, and how bytes move between them.
///
/// Every rank calls the same functions in the same order, with lengths that agree. A call returns when the caller's own
/// buffers can be used again. After an error the job cannot go on: other ranks may wait for this one.
pub trait Ranks: Send + Sync + Debug {
    /// Number of this rank, from 0.
    fn rank(&self) -> usize;

    /// Number of ranks, at least 1.
    fn size(&self) -> usize;

    /// Number of this rank among those of its machine, from 0.
    fn local_rank(&self) -> usize;

    /// Number of ranks on this machine.
    fn local_size(&self) -> usize;

    /// The engine, such as `Open MPI 4.1.4 (libmpi.so.40)`.
    fn name(&self) -> String;

    /// Copies `own` of every rank, in their order, into `all`: `size · own.len()` bytes. `own` has the same length on all ranks.
    ///
    /// # Errors
    /// [`Error::Length`] if `all` has another length, [`Error::Differs`] if a rank's `own` has; a rank ended or did not answer.
    fn all_gather(&self, own: &[u8], all: &mut [u8]) -> Result<()>;

    /// Sends and receives at once; each entry is (peer, bytes). Several messages between two ranks arrive in their order.
    /// A rank may send to itself.
    ///
    /// # Errors
    /// [`Error::Rank`] if there is no such peer, [`Error::Differs`] if a peer sent another length than is received here; a
    /// rank ended or did not answer.
    fn exchange(&self, sends: &[(usize, &[u8])], receives: &mut [(usize, &mut [u8])]) -> Result<()>;

    /// Copies `bytes` of rank `from` to all ranks.
    ///
    /// # Errors
    /// [`Error::Rank`] if there is no rank `from`, [`Error::Differs`] if the length there is another; a rank ended or did not
    /// answer.
    fn broadcast(&self, from: usize, bytes: &mut [u8]) -> Result<()>;

    /// Waits until all ranks are here.
    ///
    /// # Errors
    /// A rank ended or did not answer.
    fn barrier(&self) -> Result<()>;

    /// Sets how long a call may wait for another rank without a sign of life; [`TIMEOUT`] until then.
    fn set_timeout(&self, timeout: Duration);

    /// How long a call may wait.
    fn timeout(&self) -> Duration;

    /// Ends all ranks; this process with exit code `code`.
    fn abort(&self, code: i32) -> !;
}

/// How long ranks wait for each other if nothing else is said: they may be starting, downloading or compiling.
pub const TIMEOUT: Duration = Duration::from_secs(600);

/// The name of this machine; empty where it has none.
pub fn host() -> String {
    #[cfg(unix)]
    return rustix::system::uname().nodename().to_string_lossy().into_owned();
    #[cfg(not(unix))]
    return std::env::var("COMPUTERNAME").unwrap_or_default();
}

/// Checks a length.
fn expect_len(call: &'static str, found: usize, expected: usize) -> Result<()> {
    if found == expected { Ok(()) } else { Err(Error::Length { call, found, expected }) }
}

/// Checks that there is such a rank.
fn expect_rank(call: &'static str, rank: usize, size: usize) -> Result<()> {
    if rank < size { Ok(()) } else { Err(Error::Rank { call, rank, size }) }
}
