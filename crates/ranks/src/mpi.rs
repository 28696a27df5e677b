//! Ranks that an MPI launcher started. The library is loaded at run time: one binary for Open MPI, MPICH and MPI 5's interface,
//! and none is needed to build it.
//!
//! Everything is made of messages between two ranks that do not block (`MPI_Isend`, `MPI_Irecv`, `MPI_Test`), so that a wait
//! has a deadline and knows whom it waits for.

use std::ffi::c_int;
use std::fmt;
use std::ptr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::launcher::Launcher;
use crate::timeout::Timeout;
use crate::{Ranks, TIMEOUT, expect_len, expect_rank};

mod abi;
mod search;
mod watch;

use abi::{Loaded, Request, Status};
pub use search::{Candidate, candidates, program};
pub use watch::OnFailure;
use watch::Watch;

/// Most bytes of a message: an `int` counts them, and one that arrives shows that its sender lives.
const PIECE: usize = 8 << 20;
/// How long a wait keeps its core: the library moves the bytes of long messages while it is asked.
const SPIN: Duration = Duration::from_millis(5);
/// Then it asks as often.
const PAUSE: Duration = Duration::from_micros(20);
/// How much longer than a wait for other ranks a call of the library may take.
const MARGIN: Duration = Duration::from_secs(10);

/// A message under way.
struct Pending {
    request: Request,
    peer: usize,
    /// Of a message that is received.
    expected: Option<usize>,
}

/// The ranks of an MPI job.
///
/// When a rank does not answer, or the library fails, messages are under way whose buffers belong to callers. So such a
/// failure does not return: the function given to [`start`](Mpi::start) is told of it, and the job is ended.
pub struct Mpi {
    library: Loaded,
    name: String,
    rank: usize,
    size: usize,
    local_rank: usize,
    local_size: usize,
    timeout: Timeout,
    on_failure: OnFailure,
    watch: Watch,
    /// Held during a call: the library takes one at a time.
    pending: Mutex<Vec<Pending>>,
}

impl fmt::Debug for Mpi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mpi").field("name", &self.name).field("rank", &self.rank).field("size", &self.size).finish()
    }
}

impl Mpi {
    /// Finds the launcher's library, among [`candidates`], and starts MPI. Once per process. `on_failure` prints why the job ends,
    /// which it does when that returns.
    ///
    /// # Errors
    /// [`Error::NoMpi`], [`Error::OtherLauncher`]; [`Error::Mpi`] if it does not start.
    pub fn start(launcher: &Launcher, on_failure: OnFailure) -> Result<Self> {
        let (path, library) = search::find(launcher.kind)?;
        let name = format!("{} ({})", library.version, path.file_name().unwrap_or(path.as_os_str()).to_string_lossy());
        let failed = |call: &str, message: String| Error::Mpi { library: name.clone(), call: call.into(), message };
        library.make_global(&path).map_err(|message| failed("dlopen", message))?;
        let watch = Watch::start(on_failure.clone());
        let mut level = 0;
        let serialized = library.serialized;
        // SAFETY: no arguments are passed, which MPI allows; the level is written.
        let status = watch.call("MPI_Init_thread", TIMEOUT, || unsafe {
            (library.init_thread)(ptr::null_mut(), ptr::null_mut(), serialized, &mut level)
        });
        if status != 0 {
            return Err(failed("MPI_Init_thread", format!("error {status}")));
        }
        let (mut rank, mut size) = (0, 0);
        // SAFETY: MPI has started; both integers are written.
        let status = unsafe {
            (library.set_errhandler)(library.world, library.errors_return)
                | (library.rank)(library.world, &mut rank)
                | (library.size)(library.world, &mut size)
        };
        if status != 0 {
            return Err(failed("MPI_Comm_rank", library.text_of(status)));
        }
        let (rank, found) = (rank as usize, size as usize);
        if (rank, found) != (launcher.rank, launcher.size) {
            let (launcher, started) = (launcher.kind.to_string(), launcher.size);
            return Err(Error::OtherLauncher { launcher, started, library: name, found });
        }
        if level < serialized {
            return Err(failed(
                "MPI_Init_thread",
                "calls from several threads, one at a time, are not supported".into(),
            ));
        }
        let (local_rank, local_size) = (launcher.local_rank.unwrap_or(0), launcher.local_size.unwrap_or(1));
        let (timeout, pending) = (Timeout::default(), Mutex::default());
        let mut mpi =
            Self { library, name, rank, size: found, local_rank, local_size, timeout, on_failure, watch, pending };
        if launcher.local_rank.is_none() || launcher.local_size.is_none() {
            (mpi.local_rank, mpi.local_size) = mpi.count_local()?;
        }
        Ok(mpi)
    }

    /// Rank among those of this machine and their number, by the names of the machines.
    fn count_local(&self) -> Result<(usize, usize)> {
        let mut own = [0; 256];
        let name = crate::host();
        own.iter_mut().zip(name.bytes()).for_each(|(to, byte)| *to = byte);
        let mut all = vec![0; own.len() * self.size];
        self.all_gather(&own, &mut all)?;
        let same = |range: std::ops::Range<usize>| range.filter(|rank| all[rank * 256..][..256] == own).count();
        Ok((same(0..self.rank), same(0..self.size)))
    }

    /// Ends MPI, when all ranks have met; the launcher takes processes that leave it out for crashed ones. No call may follow.
    ///
    /// # Errors
    /// [`Error::Mpi`].
    pub fn finish(&self) -> Result<()> {
        // SAFETY: no message is under way, and no call follows.
        match self.watch.call("MPI_Finalize", TIMEOUT, || unsafe { (self.library.finalize)() }) {
            0 => Ok(()),
            status => Err(self.error("MPI_Finalize", status)),
        }
    }

    fn error(&self, call: &str, status: c_int) -> Error {
        Error::Mpi { library: self.name.clone(), call: call.into(), message: self.library.text_of(status) }
    }

    /// Tells of a failure and ends the job.
    fn fail(&self, error: &Error) -> ! {
        (self.on_failure)(error);
        self.abort(1)
    }

    /// All messages of a call; returns when they are done. `tag` tells calls apart.
    fn transfer<'a>(
        &self,
        call: &'static str,
        tag: c_int,
        sends: impl Iterator<Item = (usize, &'a [u8])>,
        receives: impl Iterator<Item = (usize, &'a mut [u8])>,
    ) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.clear();
        let timeout = self.timeout();
        self.watch.call(call, timeout + MARGIN, || {
            self.begin(&mut pending, tag, sends, receives);
            self.wait(call, &mut pending, timeout);
        });
    }

    /// Begins to send and to receive.
    fn begin<'a>(
        &self,
        pending: &mut Vec<Pending>,
        tag: c_int,
        sends: impl Iterator<Item = (usize, &'a [u8])>,
        receives: impl Iterator<Item = (usize, &'a mut [u8])>,
    ) {
        let Loaded { byte, world, .. } = self.library;
        let done = |name, status| {
            if status != 0 {
                self.fail(&self.error(name, status))
            }
        };
        // Receives first: what arrives then has its place.
        for (peer, bytes) in receives {
            for piece in pieces_mut(bytes) {
                let (mut request, len) = (0, piece.len());
                // SAFETY: the piece stays borrowed until `transfer` returns, which is after its message has arrived; it does
                // not return otherwise.
                done("MPI_Irecv", unsafe {
                    let to = piece.as_mut_ptr().cast();
                    (self.library.irecv)(to, len as c_int, byte, peer as c_int, tag, world, &mut request)
                });
                pending.push(Pending { request, peer, expected: Some(len) });
            }
        }
        for (peer, bytes) in sends {
            for piece in pieces(bytes) {
                let mut request = 0;
                // SAFETY: as above.
                done("MPI_Isend", unsafe {
                    let (from, len) = (piece.as_ptr().cast(), piece.len() as c_int);
                    (self.library.isend)(from, len, byte, peer as c_int, tag, world, &mut request)
                });
                pending.push(Pending { request, peer, expected: None });
            }
        }
    }

    /// Waits until all messages are done.
    fn wait(&self, call: &'static str, pending: &mut Vec<Pending>, timeout: Duration) {
        let mut since = Instant::now();
        while !pending.is_empty() {
            let before = pending.len();
            pending.retain_mut(|one| !self.is_done(call, one));
            if pending.len() < before {
                since = Instant::now();
                self.watch.renew();
            } else if since.elapsed() > timeout {
                let mut peers: Vec<usize> = pending.iter().map(|one| one.peer).collect();
                peers.sort_unstable();
                peers.dedup();
                self.fail(&Error::Timeout { call, peers, seconds: timeout.as_secs() });
            } else if since.elapsed() < SPIN {
                std::thread::yield_now();
            } else {
                // A rank that is waited for may need this core.
                std::thread::sleep(PAUSE);
            }
        }
    }

    /// Whether a message has been sent or has arrived.
    fn is_done(&self, call: &'static str, one: &mut Pending) -> bool {
        let (mut flag, mut status): (c_int, Status) = (0, [0; 8]);
        // SAFETY: the request is under way; a status has room for that of any library.
        let code = unsafe { (self.library.test)(&mut one.request, &mut flag, &mut status) };
        if code != 0 {
            self.fail(&self.error(&format!("{call}, with rank {}", one.peer), code));
        }
        if let Some(expected) = one.expected.filter(|_| flag != 0) {
            let mut count = 0;
            // SAFETY: the status is that of a message received.
            let code = unsafe { (self.library.get_count)(&status, self.library.byte, &mut count) };
            if code != 0 || count as usize != expected {
                let found = format!("{count} bytes");
                self.fail(&Error::Differs { call, peer: one.peer, found, expected });
            }
        }
        flag != 0
    }

    /// The other ranks, the next one first: not all send to the same one at the same time.
    fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let (rank, size) = (self.rank, self.size);
        (1..size).map(move |step| (rank + step) % size)
    }
}

/// Parts of a message; one, if it is empty.
fn pieces(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let empty = bytes.is_empty().then_some(&[][..]);
    bytes.chunks(PIECE).chain(empty)
}

fn pieces_mut(bytes: &mut [u8]) -> impl Iterator<Item = &mut [u8]> {
    let empty = bytes.is_empty().then_some(&mut [][..]);
    bytes.chunks_mut(PIECE).chain(empty)
}

impl Ranks for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }
    fn size(&self) -> usize {
        self.size
    }
    fn local_rank(&self) -> usize {
        self.local_rank
    }
    fn local_size(&self) -> usize {
        self.local_size
    }
    fn name(&self) -> String {
        self.name.clone()
    }

    fn all_gather(&self, own: &[u8], all: &mut [u8]) -> Result<()> {
        expect_len("all_gather", all.len(), self.size * own.len())?;
        if own.is_empty() {
            return self.barrier();
        }
        all[self.rank * own.len()..][..own.len()].copy_from_slice(own);
        let sends = self.others().map(|peer| (peer, own));
        let receives = all.chunks_exact_mut(own.len()).enumerate().filter(|(peer, _)| *peer != self.rank);
        self.transfer("all_gather", 1, sends, receives);
        Ok(())
    }

    fn exchange(&self, sends: &[(usize, &[u8])], receives: &mut [(usize, &mut [u8])]) -> Result<()> {
        let peers = sends.iter().map(|send| send.0).chain(receives.iter().map(|receive| receive.0));
        peers.into_iter().try_for_each(|peer| expect_rank("exchange", peer, self.size))?;
        let receives = receives.iter_mut().map(|(peer, bytes)| (*peer, &mut **bytes));
        self.transfer("exchange", 2, sends.iter().copied(), receives);
        Ok(())
    }

    fn broadcast(&self, from: usize, bytes: &mut [u8]) -> Result<()> {
        expect_rank("broadcast", from, self.size)?;
        if self.rank == from {
            self.transfer("broadcast", 3, self.others().map(|peer| (peer, &*bytes)), [].into_iter());
        } else {
            self.transfer("broadcast", 3, [].into_iter(), [(from, bytes)].into_iter());
        }
        Ok(())
    }

    fn barrier(&self) -> Result<()> {
        let receives = self.others().map(|peer| (peer, &mut [][..]));
        self.transfer("barrier", 4, self.others().map(|peer| (peer, &[][..])), receives);
        Ok(())
    }

    fn set_timeout(&self, timeout: Duration) {
        self.timeout.set(timeout);
    }
    fn timeout(&self) -> Duration {
        self.timeout.get()
    }

    fn abort(&self, code: i32) -> ! {
        // SAFETY: does not return, or fails; the process ends either way.
        self.watch
            .call("MPI_Abort", Duration::from_secs(5), || unsafe { (self.library.abort)(self.library.world, code) });
        watch::end(code)
    }
}
