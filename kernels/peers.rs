//! The GPUs of the other ranks of a job, and what moves bytes between them and this one.
//!
//! NCCL does where every rank has it, in the order of a stream, so that it can be captured. Else the bytes go through page-locked
//! memory of the host and the ranks' own engine, for which the host waits. Neither computes anything.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use alexnet_ranks::Ranks;
use cudarc::driver::{CudaEvent, CudaStream, DriverError, PinnedHostSlice, result};

use crate::array::Array;
use crate::error::{Error, Result};
use crate::nccl::{self, Communicator, Nccl, Transfer, UniqueId};
use crate::watch::{Failure, Watch};
use crate::{Kernels, Number, lock};

/// Most ranks, as in `exchange.cu`.
pub const MAX_RANKS: usize = 256;

/// What [`Kernels`] exchange with the GPUs of other ranks. Every rank makes the same calls in the same order.
#[derive(Debug)]
pub struct Peers {
    rank: usize,
    size: usize,
    /// Of each parameter: the elements of each rank, and where the others' parts of this rank's begin.
    parameters: Vec<(Vec<Range<usize>>, usize)>,
    /// The others' parts.
    pub(crate) parts: Array,
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
        if let Transport::Nccl { communicator, failure, stream, .. } = &self.transport {
            match failure.check().is_ok() && stream.synchronize().is_ok() {
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
    /// Connects the GPUs of a job, by `nccl` where every rank has it. `slices` are the elements of each rank, of each parameter that
    /// is trained; each begins at a multiple of four. Of other parameters there are none. A connection that no
    /// other rank answers for longer than `timeout` is an error of the next call that waits for the GPU.
    ///
    /// # Errors
    /// More than [`MAX_RANKS`] ranks; NCCL of different versions, or on some ranks only; NCCL's errors, those of `ranks` and of the
    /// driver; too little memory.
    pub fn connect(
        &self,
        nccl: Option<&'static Nccl>,
        ranks: Arc<dyn Ranks>,
        slices: Vec<Vec<Range<usize>>>,
        timeout: Duration,
    ) -> Result<Peers> {
        let (rank, size) = (ranks.rank(), ranks.size());
        if size > MAX_RANKS {
            let reason = format!("has {size} ranks, at most {MAX_RANKS} GPUs can exchange gradients");
            return Err(Error::Argument { operator: "connect", argument: "job", reason });
        }
        let (mut parts, mut elements) = (0, 0);
        let mut parameters = Vec::with_capacity(slices.len());
        for slices in slices {
            let begins = slices.iter().all(|slice| slice.start.is_multiple_of(4) || slice.is_empty());
            if !slices.is_empty() && (slices.len() != size || !begins) {
                let reason = format!("are {slices:?}: not one per rank, each from a multiple of four on");
                return Err(Error::Argument { operator: "connect", argument: "slices", reason });
            }
            let (own, begin) = (slices.get(rank).map_or(0, ExactSizeIterator::len), parts);
            parts += own.next_multiple_of(4) * (size - 1);
            elements += slices.iter().map(ExactSizeIterator::len).sum::<usize>();
            parameters.push((slices, begin));
        }
        let transport = match agreed(nccl, &*ranks)? {
            Some(nccl) => {
                let id = shared_id(nccl, &*ranks)?;
                let communicator = Arc::new(Communicator::new(nccl, &self.context, id, rank, size, timeout)?);
                let watch = Watch::new(&self.context, communicator.clone(), self.failure.clone(), timeout)?;
                let watch = Arc::new(watch);
                *lock(&self.watch) = Arc::downgrade(&watch);
                let event = || self.context.new_event(None).map_err(fail);
                let (stream, failure) = (self.context.new_stream().map_err(fail)?, self.failure.clone());
                Transport::Nccl { communicator, failure, watch, stream, fork: event()?, join: event()? }
            }
            None => {
                // All gradients but the own slices go out, and all weights but those come in; moments of batch norms are smaller.
                let bytes = 4 * elements.max(size);
                Transport::Host { ranks, out: self.locked(bytes)?, into: self.locked(bytes.max(4 * parts))? }
            }
        };
        let (parts, found) = (self.zeros(Number::F32, parts)?, self.zeros(Number::U32, size)?);
        Ok(Peers { rank, size, parameters, parts, found, transport })
    }

    fn locked(&self, bytes: usize) -> Result<PinnedHostSlice<u8>> {
        // SAFETY: written below, before it is read.
        let locked = unsafe { self.context.alloc_pinned_with_flags(bytes.max(1), 0) };
        let mut host = locked.map_err(|error| {
            let purpose = format!(
                "page-locked memory of the host, for the exchange of cuda:{} with other ranks ({:?}); with NCCL none is needed",
                self.context.ordinal(),
                error.0
            );
            alexnet_ops::Error::OutOfMemory { needed: bytes as u64, purpose }
        })?;
        host.as_mut_slice().map_err(fail)?.fill(0);
        Ok(host)
    }
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
            Transport::Host { ranks, .. } => format!("{}, through the host's memory", ranks.name()),
        }
    }
    /// Floats of the memory for the others' parts.
    pub fn inbox_len(&self) -> usize {
        self.parts.len()
    }
    /// Whether an exchange can be captured in a graph.
    pub fn captures(&self) -> bool {
        matches!(self.transport, Transport::Nccl { .. })
    }
    /// Whether the exchange of [`Kernels::exchange_beside`] is beside the other work.
    pub fn overlaps(&self) -> bool {
        self.captures()
    }
    /// The elements of parameter number `index` that rank `rank` owns.
    pub fn slice(&self, index: usize, rank: usize) -> Range<usize> {
        self.slices(index).get(rank).cloned().unwrap_or_default()
    }
    /// Those of all ranks; none of a parameter that is not trained.
    fn slices(&self, index: usize) -> &[Range<usize>] {
        self.parameters.get(index).map_or(&[], |(slices, _)| slices)
    }
    /// Those of this rank, and the address of the first of the others' parts.
    pub(crate) fn own(&self, index: usize) -> (Range<usize>, u64) {
        (self.slice(index, self.rank), self.parts.address() + 4 * self.parameters[index].1 as u64)
    }
    fn others(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.size).filter(|&peer| peer != self.rank)
    }

    /// Checks that an array has the elements of parameter number `index`.
    pub(crate) fn expect(
        &self,
        operator: &'static str,
        argument: &'static str,
        index: usize,
        array: &Array,
    ) -> Result<()> {
        let len = self.slices(index).iter().map(|slice| slice.end).max().unwrap_or(0);
        if len == 0 || array.len() != len {
            let found = array.len();
            return Err(alexnet_ops::Error::Length { operator, argument, found, expected: len }.into());
        }
        array.expect(operator, argument, Number::F32, len).map(drop)
    }

    /// To each rank its slice of a gradient, from each its part of the own slice.
    fn scatter(&self, index: usize, gradient: &Array, to: &mut Vec<Transfer>) -> Result<()> {
        self.expect("exchange", "gradient", index, gradient)?;
        let (own, mut parts) = self.own(index);
        for peer in self.others() {
            let theirs = self.slice(index, peer);
            if !theirs.is_empty() {
                let address = gradient.address() + 4 * theirs.start as u64;
                to.push(Transfer::Send { peer, address, bytes: 4 * theirs.len() });
            }
            if !own.is_empty() {
                to.push(Transfer::Receive { peer, address: parts, bytes: 4 * own.len() });
                parts += 4 * own.len().next_multiple_of(4) as u64;
            }
        }
        Ok(())
    }

    /// Every rank's slice of an array of parameter number `index` to all ranks.
    fn gather(&self, index: usize, array: &Array, to: &mut Vec<Transfer>) -> Result<()> {
        self.expect("gather", "array", index, array)?;
        let slices = self.slices(index);
        let bytes = 4 * slices[0].len();
        if slices.iter().all(|slice| 4 * slice.len() == bytes) {
            to.push(Transfer::Gather { address: array.address(), rank: self.rank, bytes });
            return Ok(());
        }
        for (owner, slice) in slices.iter().enumerate() {
            self.copy_from(owner, array.address() + 4 * slice.start as u64, 4 * slice.len(), to);
        }
        Ok(())
    }

    /// The bytes of rank `owner` to all others.
    fn copy_from(&self, owner: usize, address: u64, bytes: usize, to: &mut Vec<Transfer>) {
        if bytes == 0 {
            return;
        }
        match owner == self.rank {
            true => to.extend(self.others().map(|peer| Transfer::Send { peer, address, bytes })),
            false => to.push(Transfer::Receive { peer: owner, address, bytes }),
        }
    }
}

impl Kernels {
    /// Sends each rank its slice of these gradients (number of the parameter, array), and receives the others' parts of the own
    /// slice.
    ///
    /// # Errors
    /// An array that is not the parameter's; NCCL's, the ranks', the driver's.
    pub fn exchange<'a>(&self, peers: &mut Peers, gradients: impl Iterator<Item = (usize, &'a Array)>) -> Result<()> {
        let mut transfers = Vec::new();
        gradients.into_iter().try_for_each(|(index, gradient)| peers.scatter(index, gradient, &mut transfers))?;
        self.transfer(peers, &transfers)
    }

    /// The same beside what `work` launches. Without NCCL only `work` is done, see [`Peers::overlaps`].
    ///
    /// # Errors
    /// As [`Kernels::exchange`].
    pub fn exchange_beside<'a>(
        &self,
        peers: &mut Peers,
        gradients: impl Iterator<Item = (usize, &'a Array)>,
        work: impl FnOnce(),
    ) -> Result<()> {
        let _turn = self.turn();
        let Transport::Nccl { communicator, stream, fork, join, .. } = &peers.transport else {
            work();
            return Ok(());
        };
        self.failure.check()?;
        let fail = |error| Error::driver_later("order of two streams", error, self.sync);
        let mut transfers = Vec::new();
        gradients.into_iter().try_for_each(|(index, gradient)| peers.scatter(index, gradient, &mut transfers))?;
        fork.record(&self.stream).and_then(|()| stream.wait(fork)).map_err(fail)?;
        // SAFETY: the gradients are borrowed until the streams have joined.
        let sent = unsafe { communicator.run(&transfers, stream) };
        work();
        // Also after an error: a capture ends with one stream.
        join.record(stream).and_then(|()| self.stream.wait(join)).map_err(fail)?;
        sent.inspect_err(|error| self.failure.set(error.clone()))
    }

    /// Copies every rank's slices of these arrays (number of the parameter, array) to all ranks.
    ///
    /// # Errors
    /// As [`Kernels::exchange`].
    pub fn gather<'a>(&self, peers: &mut Peers, arrays: impl Iterator<Item = (usize, &'a mut Array)>) -> Result<()> {
        let mut transfers = Vec::new();
        arrays.into_iter().try_for_each(|(index, array)| peers.gather(index, array, &mut transfers))?;
        self.transfer(peers, &transfers)
    }

    /// Copies arrays from the rank that is named with each to all others.
    ///
    /// # Errors
    /// No such rank; as [`Kernels::exchange`].
    pub fn share<'a>(&self, peers: &mut Peers, arrays: impl Iterator<Item = (usize, &'a mut Array)>) -> Result<()> {
        let mut transfers = Vec::new();
        for (owner, array) in arrays {
            if owner >= peers.size {
                let reason = format!("is {owner} among {}", peers.size);
                return Err(Error::Argument { operator: "share", argument: "owner", reason });
            }
            peers.copy_from(owner, array.address(), array.len() * array.number().size(), &mut transfers);
        }
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
        let mut places = Vec::with_capacity(copied.len());
        let out = out.as_mut_slice().map_err(fail)?;
        let mut begin = 0;
        for &(address, bytes) in &copied {
            alexnet_ops::expect_len("exchange", "page-locked memory", out.len(), begin + bytes)?;
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
        alexnet_ops::expect_len("exchange", "page-locked memory", into.len(), receives.iter().map(|r| r.2).sum())?;
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
