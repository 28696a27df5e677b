//! The GPUs of the other ranks of a job, and what moves bytes between them and this one.
//!
//! NCCL does where every rank has it, in the order of a stream, so that it can be captured. Else the bytes go through page-locked
//! memory of the host and the ranks' own engine, for which the host waits. Neither computes anything.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use alexnet_ranks::Ranks;
use cudarc::driver::{CudaEvent, CudaStream, DriverError, PinnedHostSlice, result};

use crate::array::Array;
use crate::error::{Error, Result};
use crate::nccl::{self, Communicator, GRACE, Nccl, Transfer, UniqueId};
use crate::watch::{Failure, Watch};
use crate::{Kernels, Number, lock};

/// Most ranks, as in `exchange.cu`.
pub const MAX_RANKS: usize = 256;

/// What [`Kernels`] exchange with the GPUs of other ranks. Every rank makes the same calls in the same order.
#[derive(Debug)]
pub struct Peers {
    rank: usize,
    size: usize,
    /// What others have of the gradients of this rank's slices: of one slice after another, by rank, each from a multiple of four on.
    parts: Array,
    /// A word per rank, see `exchange_found`.
    pub(crate) found: Array,
    transport: Transport,
}

#[derive(Debug)]
enum Transport {
    Nccl {
        communicator: Arc<Communicator>,
        failure: Arc<Failure>,
        watch: Arc<Watch>,
        /// The stream of exchanges beside other work; where it leaves the first stream, and where it joins it again.
        stream: Arc<CudaStream>,
        fork: CudaEvent,
        join: CudaEvent,
    },
    Host {
        ranks: Arc<dyn Ranks>,
        out: PinnedHostSlice<u8>,
        into: PinnedHostSlice<u8>,
    },
}

impl Drop for Peers {
    fn drop(&mut self) {
        if let Transport::Nccl { communicator, failure, watch, .. } = &self.transport {
            match failure.check().is_ok() && watch.is_idle(GRACE) {
                true => communicator.end(),
                false => communicator.abort(),
            }
        }
    }
}

fn fail(error: DriverError) -> Error {
    Error::driver("memory for the exchange with other ranks", error)
}

impl Kernels {
    /// Connects the GPUs of a job, by `nccl` where every rank has it. `slices` are the elements of each rank, of every gradient that is
    /// exchanged. Work of the GPU that waits for another rank for longer than the timeout of `ranks` is an error of the next call that
    /// waits for the GPU.
    ///
    /// # Errors
    /// More than [`MAX_RANKS`] ranks; slices as in [`Kernels::exchange`]; NCCL of different versions, or on some ranks only; NCCL's
    /// errors, those of `ranks` and of the driver; too little memory.
    pub fn connect(
        &self,
        nccl: Option<&'static Nccl>,
        ranks: Arc<dyn Ranks>,
        slices: impl IntoIterator<Item = Vec<Range<usize>>>,
    ) -> Result<Peers> {
        let (rank, size) = (ranks.rank(), ranks.size());
        if size > MAX_RANKS {
            let reason = format!("has {size} ranks, at most {MAX_RANKS} GPUs can exchange gradients");
            return Err(Error::Argument { operator: "connect", argument: "job", reason });
        }
        let (mut parts, mut elements) = (0, 0);
        for slices in slices {
            parts += parts_len(size, own("connect", &slices, rank, size)?.len());
            elements += slices.last().map_or(0, |last| last.end);
        }
        let (parts, found) = (self.zeros(Number::F32, parts)?, self.zeros(Number::U32, size)?);
        let transport = match agreed(nccl, &*ranks)? {
            Some(nccl) => {
                let id = shared_id(nccl, &*ranks)?;
                let communicator = Communicator::new(nccl, &self.context, id, rank, size, ranks.timeout())?;
                let communicator = Arc::new(communicator);
                let watch = Watch::new(&self.context, communicator.clone(), self.failure.clone(), ranks)?;
                let watch = Arc::new(watch);
                *lock(&self.watch) = Arc::downgrade(&watch);
                let event = || self.context.new_event(None).map_err(fail);
                let (stream, failure) = (self.context.new_stream().map_err(fail)?, self.failure.clone());
                Transport::Nccl { communicator, failure, watch, stream, fork: event()?, join: event()? }
            }
            None => {
                // All gradients but the own slices go out, and all weights but those come in.
                let [out, into] = [self.locked(4 * elements)?, self.locked(4 * elements)?];
                Transport::Host { ranks, out, into }
            }
        };
        Ok(Peers { rank, size, parts, found, transport })
    }

    fn locked(&self, bytes: usize) -> Result<PinnedHostSlice<u8>> {
        self.allocations.fetch_add(1, Ordering::Relaxed);
        // SAFETY: written below, before it is read.
        let locked = unsafe { self.context.alloc_pinned_with_flags(bytes.max(1), 0) };
        let mut host = locked.map_err(|error| {
            let purpose = format!(
                "page-locked memory of the host, for the exchange of cuda:{} with other ranks ({:?}); with NCCL none is needed; else \
                 raise the memory limit of the container or job",
                self.context.ordinal(),
                error.0
            );
            alexnet_ops::Error::OutOfMemory { needed: bytes as u64, purpose }
        })?;
        host.as_mut_slice().map_err(fail)?.fill(0);
        Ok(host)
    }
}

/// The elements of `rank` among those of all.
fn own(operator: &'static str, slices: &[Range<usize>], rank: usize, size: usize) -> Result<Range<usize>> {
    let begin = slices.iter().all(|slice| slice.start.is_multiple_of(4) || slice.is_empty());
    match slices.get(rank) {
        Some(own) if slices.len() == size && begin => Ok(own.clone()),
        _ => {
            let reason = format!("are {slices:?}: not one per rank, each from a multiple of four on");
            Err(Error::Argument { operator, argument: "slices", reason })
        }
    }
}

/// Floats of the others' parts of a slice of `len`; as in `exchange.cu`.
fn parts_len(size: usize, len: usize) -> usize {
    len.next_multiple_of(4) * (size - 1)
}

/// NCCL, if every rank has it.
fn agreed(own: Option<&'static Nccl>, ranks: &dyn Ranks) -> Result<Option<&'static Nccl>> {
    let code = own.map_or(0, Nccl::code);
    let mut codes = vec![0; 4 * ranks.size()];
    ranks.all_gather(&code.to_le_bytes(), &mut codes)?;
    let codes: Vec<i32> =
        codes.chunks_exact(4).map(|code| i32::from_le_bytes([code[0], code[1], code[2], code[3]])).collect();
    match codes.iter().position(|&other| other != codes[0]) {
        None => Ok(own),
        Some(rank) => {
            let text = |code: i32| if code == 0 { "none".to_owned() } else { nccl::dotted(code) };
            let message = format!(
                "rank 0 has {}, rank {rank} has {}; all ranks need the same version, or none (ALEXNET_NCCL=off)",
                text(codes[0]),
                text(codes[rank])
            );
            Err(Error::Communication { engine: "NCCL".into(), call: "ncclGetVersion", message })
        }
    }
}

/// Rank 0's name for the communicator.
fn shared_id(nccl: &Nccl, ranks: &dyn Ranks) -> Result<UniqueId> {
    // A word that tells whether there is one: where rank 0 fails, the others do too.
    let mut message = [0; 129];
    let made = if ranks.rank() == 0 { nccl.unique_id().map(Some) } else { Ok(None) };
    if let Ok(Some(id)) = &made {
        message[0] = 1;
        message[1..].copy_from_slice(id);
    }
    ranks.broadcast(0, &mut message)?;
    made?;
    let mut id = [0; 128];
    id.copy_from_slice(&message[1..]);
    match message[0] {
        1 => Ok(id),
        _ => {
            let message = "rank 0 could not begin a communicator".into();
            Err(Error::Communication { engine: format!("NCCL {}", nccl.version()), call: "ncclGetUniqueId", message })
        }
    }
}

impl Peers {
    /// Number of this rank.
    pub fn rank(&self) -> usize {
        self.rank
    }
    /// Number of ranks.
    pub fn size(&self) -> usize {
        self.size
    }
    /// What moves the bytes, such as `NCCL 2.28.3`.
    pub fn engine(&self) -> String {
        match &self.transport {
            Transport::Nccl { communicator, .. } => format!("NCCL {}", communicator.nccl().version()),
            Transport::Host { ranks, .. } => format!("{}, through the host's memory, without NCCL", ranks.name()),
        }
    }
    /// Floats of the memory for the others' parts.
    pub fn inbox_len(&self) -> usize {
        self.parts.len()
    }
    /// Whether an exchange can be captured in a graph, and is beside other work.
    pub fn captures(&self) -> bool {
        matches!(self.transport, Transport::Nccl { .. })
    }
    fn others(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.size).filter(|&peer| peer != self.rank)
    }

    /// This rank's elements.
    pub(crate) fn own(&self, operator: &'static str, slices: &[Range<usize>]) -> Result<Range<usize>> {
        own(operator, slices, self.rank, self.size)
    }

    /// Floats of the others' parts of gradients with these slices: where those of the next gradient begin, for [`Kernels::exchange`].
    ///
    /// # Errors
    /// As [`Kernels::exchange`].
    pub fn parts_len<'a>(&self, slices: impl IntoIterator<Item = &'a [Range<usize>]>) -> Result<usize> {
        slices.into_iter().map(|slices| Ok(parts_len(self.size, self.own("exchange", slices)?.len()))).sum()
    }

    /// The address of the others' parts of a slice of `len` elements, if those of the slices before it take `before` floats, which
    /// it is added to.
    pub(crate) fn next_parts(&self, len: usize, before: &mut usize) -> Result<u64> {
        let address = self.parts.address() + 4 * *before as u64;
        *before += parts_len(self.size, len);
        alexnet_ops::expect_len("exchange", "inbox", self.parts.len(), *before)?;
        Ok(address)
    }

    /// To each rank its slice of a gradient, from each its part of the own slice; of those that are present.
    fn scatter(
        &self,
        present: &[bool],
        (gradient, slices): (&Array, &[Range<usize>]),
        before: &mut usize,
        to: &mut Vec<Transfer>,
    ) -> Result<()> {
        let own = self.own("exchange", slices)?;
        let end = slices.iter().map(|slice| slice.end).max().unwrap_or(0);
        gradient.expect("exchange", "gradient", Number::F32, end)?;
        let mut parts = self.next_parts(own.len(), before)?;
        for peer in self.others() {
            let theirs = &slices[peer];
            if !theirs.is_empty() && present[self.rank] {
                let address = gradient.address() + 4 * theirs.start as u64;
                to.push(Transfer::Send { peer, address, bytes: 4 * theirs.len() });
            }
            if !own.is_empty() && present[peer] {
                to.push(Transfer::Receive { peer, address: parts, bytes: 4 * own.len() });
            }
            parts += 4 * own.len().next_multiple_of(4) as u64;
        }
        Ok(())
    }

    /// Every rank's slice of an array to all ranks.
    fn gather(&self, array: &Array, slices: &[Range<usize>], to: &mut Vec<Transfer>) -> Result<()> {
        self.own("gather", slices)?;
        let end = slices.iter().map(|slice| slice.end).max().unwrap_or(0);
        array.expect("gather", "array", array.number(), end)?;
        let (size, len) = (array.number().size(), slices[0].len());
        if slices.iter().enumerate().all(|(rank, slice)| *slice == (rank * len..(rank + 1) * len)) {
            let (address, rank, bytes) = (array.address(), self.rank, size * len);
            to.extend((bytes > 0).then_some(Transfer::Gather { address, rank, bytes }));
            return Ok(());
        }
        for (owner, slice) in slices.iter().enumerate().filter(|(_, slice)| !slice.is_empty()) {
            let (address, bytes) = (array.address() + (size * slice.start) as u64, size * slice.len());
            match owner == self.rank {
                true => to.extend(self.others().map(|peer| Transfer::Send { peer, address, bytes })),
                false => to.push(Transfer::Receive { peer: owner, address, bytes }),
            }
        }
        Ok(())
    }
}

impl Kernels {
    /// Sends each rank its slice of gradients, and receives the others' parts of the own slice, beside what `work` launches. `slices`
    /// are the elements of each rank, each from a multiple of four on. Only ranks that are `present` have gradients; all receive.
    /// Those of one step may be sent in several calls: `before` are the [floats](Peers::parts_len) of what comes before these, in the
    /// order of [`Slices`]. Without NCCL the host waits for the gradients before it begins with `work`.
    ///
    /// # Errors
    /// Other slices; not one element of `present` per rank; a gradient of another type or too short; more than was
    /// [connected](Kernels::connect) for; NCCL's, the ranks', the driver's.
    ///
    /// [`Slices`]: crate::Slices
    pub fn exchange<'a>(
        &self,
        peers: &mut Peers,
        present: &[bool],
        mut before: usize,
        gradients: impl IntoIterator<Item = (&'a Array, Vec<Range<usize>>)>,
        work: impl FnOnce(),
    ) -> Result<()> {
        alexnet_ops::expect_len("exchange", "present", present.len(), peers.size)?;
        let mut transfers = Vec::new();
        for (gradient, slices) in gradients {
            peers.scatter(present, (gradient, &slices), &mut before, &mut transfers)?;
        }
        let _turn = self.turn();
        let Transport::Nccl { communicator, watch, stream, fork, join, .. } = &peers.transport else {
            self.transfer(peers, &transfers)?;
            work();
            return Ok(());
        };
        self.failure.check()?;
        let fail = |error| Error::driver_later("order of two streams", error, self.sync);
        fork.record(&self.stream).and_then(|()| stream.wait(fork)).map_err(fail)?;
        // SAFETY: the gradients are borrowed until the streams have joined.
        let sent = unsafe { communicator.run(&transfers, stream) };
        work();
        // Also after an error: a capture ends with one stream.
        join.record(stream).and_then(|()| self.stream.wait(join)).map_err(fail)?;
        // Other ranks are ahead of this one by what failed here.
        sent.and_then(|()| self.expect(watch)).inspect_err(|error| self.failure.set(error.clone()))
    }

    /// Copies every rank's slices of these arrays, of any type, to all ranks.
    ///
    /// # Errors
    /// An array that is too short; as [`Kernels::exchange`].
    pub fn gather<'a>(
        &self,
        peers: &mut Peers,
        arrays: impl IntoIterator<Item = (&'a mut Array, Vec<Range<usize>>)>,
    ) -> Result<()> {
        let mut transfers = Vec::new();
        arrays.into_iter().try_for_each(|(array, slices)| peers.gather(array, &slices, &mut transfers))?;
        self.transfer(peers, &transfers)
    }

    /// Every rank's word of [`Peers::found`] to all ranks.
    pub(crate) fn gather_found(&self, peers: &mut Peers) -> Result<()> {
        let address = peers.found.address();
        self.transfer(peers, &[Transfer::Gather { address, rank: peers.rank, bytes: 4 }])
    }

    /// In the order of the kernels' stream. The arrays are borrowed by the callers, and freed in the stream's order.
    fn transfer(&self, peers: &mut Peers, transfers: &[Transfer]) -> Result<()> {
        if transfers.is_empty() || peers.size == 1 {
            return Ok(());
        }
        self.failure.check()?;
        let _turn = self.turn();
        let moved = match &mut peers.transport {
            Transport::Nccl { communicator, watch, .. } => {
                // SAFETY: as above.
                unsafe { communicator.run(transfers, &self.stream) }.and_then(|()| self.expect(watch))
            }
            Transport::Host { ranks, out, into } => self.through_host(&**ranks, transfers, peers.size, [out, into]),
        };
        // Other ranks are ahead of this one by what failed here.
        moved.inspect_err(|error| self.failure.set(error.clone()))
    }

    /// Lets the thread that watches expect what was launched so far; what is captured runs later.
    pub(crate) fn expect(&self, watch: &Watch) -> Result<()> {
        if self.capturing.load(Ordering::Relaxed) {
            return Ok(());
        }
        watch.expect(&self.stream).map_err(|error| Error::driver("cuEventRecord", error))
    }

    /// Makes page-locked memory at least so large.
    fn reserve(&self, host: &mut PinnedHostSlice<u8>, bytes: usize) -> Result<()> {
        if host.len() < bytes {
            // Until then something may be copied to it or from it.
            self.stream.synchronize().map_err(fail)?;
            *host = self.locked(bytes)?;
        }
        Ok(())
    }

    /// GPU, page-locked memory, ranks, page-locked memory, GPU.
    fn through_host(
        &self,
        ranks: &dyn Ranks,
        transfers: &[Transfer],
        size: usize,
        [out, into]: [&mut PinnedHostSlice<u8>; 2],
    ) -> Result<()> {
        let fail = |error| Error::driver_later("copy for the exchange with other ranks", error, self.sync);
        self.context.bind_to_thread().map_err(fail)?;
        // Gathers are messages here: of each, the own part to all others and theirs to this rank.
        let (mut sends, mut receives) = (Vec::new(), Vec::new());
        for &transfer in transfers {
            match transfer {
                Transfer::Send { peer, address, bytes } => sends.push((peer, address, bytes)),
                Transfer::Receive { peer, address, bytes } => receives.push((peer, address, bytes)),
                Transfer::Gather { address, rank, bytes } => {
                    for peer in (0..size).filter(|&peer| peer != rank) {
                        sends.push((peer, address + (rank * bytes) as u64, bytes));
                        receives.push((peer, address + (peer * bytes) as u64, bytes));
                    }
                }
            }
        }
        // What goes to several ranks is copied once.
        let mut copied: Vec<(u64, usize)> = sends.iter().map(|&(_, address, bytes)| (address, bytes)).collect();
        copied.sort_unstable();
        copied.dedup();
        self.reserve(out, copied.iter().map(|(_, bytes)| bytes).sum())?;
        self.reserve(into, receives.iter().map(|receive| receive.2).sum())?;
        let mut places = Vec::with_capacity(copied.len());
        let out = out.as_mut_slice().map_err(fail)?;
        let mut begin = 0;
        for &(address, bytes) in &copied {
            // SAFETY: the array exists; the page-locked memory is written before it is read below, after the wait.
            unsafe { result::memcpy_dtoh_async(&mut out[begin..begin + bytes], address, self.stream.cu_stream()) }
                .map_err(fail)?;
            places.push(begin..begin + bytes);
            begin += bytes;
        }
        // Also for what the last call copies from the other page-locked memory.
        self.stream.synchronize().map_err(fail)?;
        let place =
            |address, bytes| copied.binary_search(&(address, bytes)).map(|at| places[at].clone()).unwrap_or_default();
        let sends: Vec<(usize, &[u8])> =
            sends.iter().map(|&(peer, address, bytes)| (peer, &out[place(address, bytes)])).collect();
        let into = into.as_mut_slice().map_err(fail)?;
        let mut rest = &mut *into;
        let mut buffers: Vec<(usize, &mut [u8])> = Vec::with_capacity(receives.len());
        for &(peer, _, bytes) in &receives {
            let (own, after) = std::mem::take(&mut rest).split_at_mut(bytes);
            buffers.push((peer, own));
            rest = after;
        }
        ranks.exchange(&sends, &mut buffers)?;
        for ((_, address, _), (_, bytes)) in receives.iter().zip(&buffers) {
            // SAFETY: the array exists; the page-locked memory is next written after a wait for this copy.
            unsafe { result::memcpy_htod_async(*address, bytes, self.stream.cu_stream()) }.map_err(fail)?;
        }
        Ok(())
    }
}
