//! What a device does with the ranks of a job: each rank has the gradient of its shards, updates the elements that it owns by the
//! sum over all ranks, and gets those that the others have updated.
//!
//! The engine moves bytes, and the device adds: so the sums have the order of the [tree](crate::network::shards), whatever the
//! engine.

use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;

use alexnet_ranks::Ranks;
use bytemuck::{Pod, cast_slice, cast_slice_mut};

use super::{Memory, Parameter};
use crate::network::shards::Tree;
use crate::{Result, Sgd};

/// An array of fewer elements per rank has one owner: many small messages cost more than the work that they divide.
const LEAST: usize = 4096;
/// Slices begin at multiples of so many elements: whole vectors and cache lines.
const ALIGNED: usize = 64;

/// Which rank owns which elements of an array, in the order in which the device stores them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Division {
    len: usize,
    ranks: usize,
    /// The owner of all.
    owner: Option<usize>,
}

impl Division {
    /// Divides array number `index` of `len` elements among `ranks`: a slice each, or the whole to one of them if it is small.
    pub const fn of(len: usize, ranks: usize, index: usize) -> Self {
        let owner = if len < LEAST * ranks { Some(index % ranks) } else { None };
        Self { len, ranks, owner }
    }
    /// Gives all `len` elements to `owner`.
    pub const fn whole(len: usize, ranks: usize, owner: usize) -> Self {
        Self { len, ranks, owner: Some(owner) }
    }

    /// The elements of a rank.
    pub const fn range(&self, rank: usize) -> Range<usize> {
        match self.owner {
            Some(owner) if owner == rank => 0..self.len,
            Some(owner) if owner < rank => self.len..self.len,
            Some(_) => 0..0,
            None => self.start(rank)..self.start(rank + 1),
        }
    }
    const fn start(&self, rank: usize) -> usize {
        if rank == self.ranks { self.len } else { self.len / ALIGNED * rank / self.ranks * ALIGNED }
    }
}

/// Elements of an inbox that a slice of so many takes: the next one is aligned too.
pub const fn padded(len: usize) -> usize {
    len.next_multiple_of(ALIGNED)
}

/// What connects a device with those of the other ranks of a job.
pub trait Connection {
    /// What moves the bytes, such as `NCCL 2.28.3`.
    fn engine(&self) -> String;
    /// Elements of its memory for the gradients of other ranks.
    fn inbox_len(&self) -> usize;
    /// Whether an exchange can be captured in a graph, and is beside other work.
    fn overlaps(&self) -> bool;
}

/// Moves arrays between the devices of the ranks, and adds what they have. All ranks make the same calls in the same order.
pub trait Exchange: Memory {
    /// The other ranks, and the memory for what they send.
    type Peers: Connection + Send + Sync;

    /// The elements of an array as it is stored, which a [`Division`] divides; padding counts.
    fn stored_len(&self, buffer: &Self::Buffer) -> usize;

    /// Connects the devices of a job, whose gradients have these divisions.
    ///
    /// # Errors
    /// The ranks'; too little memory; the device's.
    fn connect(&self, ranks: Arc<dyn Ranks>, divisions: &mut dyn Iterator<Item = Division>) -> Result<Self::Peers> {
        let _ = (ranks, divisions);
        Err(self.lacks("exchange between ranks"))
    }

    /// Sends every rank the elements of the gradients that it owns, and receives those that this one owns; then, or beside it, does
    /// `work`. Only ranks that are `present` have gradients; all receive. Those of a step may be sent in several calls: of the
    /// gradients before these, in the order of the connection, `before` are the divisions.
    ///
    /// # Errors
    /// Other gradients than those of the connection; the ranks'; that of `work`; the device's.
    fn send_gradients<'a>(
        &self,
        peers: &mut Self::Peers,
        present: &dyn Fn(usize) -> bool,
        before: &mut dyn Iterator<Item = Division>,
        gradients: &mut dyn Iterator<Item = (&'a Self::Buffer, Division)>,
        work: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()>
    where
        Self::Buffer: 'a,
    {
        let _ = (peers, present, before, gradients, work);
        Err(self.lacks("exchange between ranks"))
    }

    /// [`Operators::sgd`](super::Operators::sgd) of the elements that this rank owns, by the sum of the gradients of the ranks of
    /// `tree`, which were sent; they are lost. In a step that is skipped, on all ranks if on one, no parameter changes.
    ///
    /// # Errors
    /// As [`Exchange::send_gradients`].
    fn update_own<'a>(
        &self,
        peers: &mut Self::Peers,
        optimizer: &Sgd,
        tree: Tree,
        parameters: &mut dyn Iterator<Item = (&'a mut Parameter<Self::Buffer>, Division)>,
    ) -> Result<()>
    where
        Self::Buffer: 'a,
    {
        let _ = (peers, optimizer, tree, parameters);
        Err(self.lacks("exchange between ranks"))
    }

    /// Gives every rank all elements, each from its owner.
    ///
    /// # Errors
    /// The ranks'; the device's.
    fn gather<'a>(
        &self,
        peers: &mut Self::Peers,
        arrays: &mut dyn Iterator<Item = (&'a mut Self::Buffer, Division)>,
    ) -> Result<()>
    where
        Self::Buffer: 'a,
    {
        let _ = (peers, arrays);
        Err(self.lacks("exchange between ranks"))
    }

    /// Gives every rank the sums of all, each from its owner.
    ///
    /// # Errors
    /// The ranks'; the device's.
    fn gather_totals<'a>(
        &self,
        peers: &mut Self::Peers,
        totals: &mut dyn Iterator<Item = (&'a mut Self::Totals, Division)>,
    ) -> Result<()>
    where
        Self::Totals: 'a,
    {
        let _ = (peers, totals);
        Err(self.lacks("exchange between ranks"))
    }
}

/// [`Exchange::Peers`] of a device whose arrays are on the host.
#[derive(Debug)]
pub struct HostPeers<B> {
    ranks: Arc<dyn Ranks>,
    /// By rank its gradients of the elements that this one owns, of one parameter after another, each [`padded`].
    inbox: Vec<B>,
    inbox_len: usize,
}

impl<B> HostPeers<B> {
    /// Connects `device`, as [`Exchange::connect`].
    ///
    /// # Errors
    /// Too little memory.
    pub fn new(
        device: &impl Memory<Buffer = B>,
        ranks: Arc<dyn Ranks>,
        divisions: &mut dyn Iterator<Item = Division>,
    ) -> Result<Self> {
        let (rank, size) = (ranks.rank(), ranks.size());
        let own: usize = divisions.map(|division| padded(division.range(rank).len())).sum();
        let inbox = (0..size).map(|peer| device.zeros(if peer == rank { 0 } else { own })).collect::<Result<_>>()?;
        Ok(Self { ranks, inbox, inbox_len: own * (size - 1) })
    }

    /// The number of this rank.
    pub fn rank(&self) -> usize {
        self.ranks.rank()
    }
    /// What another rank has sent: its gradients of the elements that this one owns, of one parameter after another, each [`padded`].
    pub fn sent(&self, rank: usize) -> &B {
        &self.inbox[rank]
    }
}

impl<B> Connection for HostPeers<B> {
    fn engine(&self) -> String {
        self.ranks.name()
    }
    fn inbox_len(&self) -> usize {
        self.inbox_len
    }
    fn overlaps(&self) -> bool {
        false
    }
}

type Sends<'a> = Vec<(usize, &'a [u8])>;
type Receives<'a> = Vec<(usize, &'a mut [u8])>;

thread_local! {
    /// The memory of lists of messages, so that a step allocates none.
    static LISTS: Cell<(Sends<'static>, Receives<'static>, Vec<usize>)> = const { Cell::new((Vec::new(), Vec::new(), Vec::new())) };
}

/// An empty vector in the memory of another one. Collected in place, as the standard library does for elements of one layout; where
/// it did not, this would cost an allocation.
fn emptied<A, B>(mut from: Vec<A>) -> Vec<B> {
    from.clear();
    from.into_iter().map(|_| unreachable!("there is none")).collect()
}

/// [`Exchange::send_gradients`] for arrays on the host.
pub fn send_gradients<'a, T: Pod, B: AsRef<[T]> + AsMut<[T]> + 'a>(
    peers: &mut HostPeers<B>,
    present: &dyn Fn(usize) -> bool,
    before: &mut dyn Iterator<Item = Division>,
    gradients: &mut dyn Iterator<Item = (&'a B, Division)>,
    work: &mut dyn FnMut() -> Result<()>,
) -> Result<()> {
    let HostPeers { ranks, inbox, .. } = peers;
    let (rank, (sends, receives, mut lens)) = (ranks.rank(), LISTS.take());
    let (mut sends, mut receives): (Sends<'_>, Receives<'_>) = (emptied(sends), emptied(receives));
    lens.clear();
    let before: usize = before.map(|division| padded(division.range(rank).len())).sum();
    for (gradient, division) in gradients {
        lens.push(division.range(rank).len());
        for peer in (0..ranks.size()).filter(|&peer| peer != rank && present(rank)) {
            let range = division.range(peer);
            if !range.is_empty() {
                sends.push((peer, cast_slice(&gradient.as_ref()[range])));
            }
        }
    }
    for (peer, inbox) in inbox.iter_mut().enumerate().filter(|&(peer, _)| peer != rank && present(peer)) {
        let len = before + lens.iter().map(|&len| padded(len)).sum::<usize>();
        let mut rest = &mut alexnet_ops::front_mut("send_gradients", "inbox", inbox.as_mut(), len)?[before..];
        for &len in lens.iter().filter(|&&len| len > 0) {
            let (own, others) = rest.split_at_mut(padded(len));
            receives.push((peer, cast_slice_mut(&mut own[..len])));
            rest = others;
        }
    }
    ranks.exchange(&sends, &mut receives)?;
    LISTS.set((emptied(sends), emptied(receives), lens));
    work()
}

/// [`Exchange::gather`] and [`Exchange::gather_totals`] for arrays on the host.
pub fn gather<'a, T: Pod, B, A: AsMut<[T]> + 'a>(
    peers: &mut HostPeers<B>,
    arrays: &mut dyn Iterator<Item = (&'a mut A, Division)>,
) -> Result<()> {
    let ranks = &*peers.ranks;
    let (rank, (sends, receives, lens)) = (ranks.rank(), LISTS.take());
    let (mut sends, mut receives): (Sends<'_>, Receives<'_>) = (emptied(sends), emptied(receives));
    for (array, division) in arrays {
        let mut rest = array.as_mut();
        let mut before = 0;
        for owner in 0..ranks.size() {
            let range = division.range(owner);
            if range.is_empty() {
                continue;
            }
            let (own, others) = rest.split_at_mut(range.end - before);
            (rest, before) = (others, range.end);
            match owner == rank {
                true => {
                    let own: &[u8] = cast_slice(own);
                    sends.extend((0..ranks.size()).filter(|&peer| peer != rank).map(|peer| (peer, own)));
                }
                false => receives.push((owner, cast_slice_mut(own))),
            }
        }
    }
    ranks.exchange(&sends, &mut receives)?;
    LISTS.set((emptied(sends), emptied(receives), lens));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_has_one_owner() {
        for ranks in [1, 2, 4, 8] {
            for len in [0, 1, 63, 4096 * ranks - 1, 4096 * ranks, 1_000_003] {
                for division in [Division::of(len, ranks, 5), Division::whole(len, ranks, ranks - 1)] {
                    let mut next = 0;
                    for rank in 0..ranks {
                        let range = division.range(rank);
                        assert!(range.start == next || range.is_empty(), "{division:?}: {range:?}");
                        assert!(range.is_empty() || range.start.is_multiple_of(ALIGNED));
                        next = next.max(range.end);
                    }
                    assert_eq!(next, len);
                    let lens: Vec<_> = (0..ranks).map(|rank| division.range(rank).len()).collect();
                    assert_eq!(lens.iter().sum::<usize>(), len);
                    assert!(
                        division.owner.is_some() || lens.iter().all(|&own| own.abs_diff(len / ranks) <= 2 * ALIGNED)
                    );
                }
            }
        }
    }

    #[test]
    fn lists_keep_their_memory() {
        let list: Vec<(usize, &[u8])> = Vec::with_capacity(7);
        let at = list.as_ptr().addr();
        let list: Sends<'_> = emptied(list);
        assert_eq!((list.as_ptr().addr(), list.capacity()), (at, 7));
    }
}
