//! What a device does with the ranks of a job: each rank has the gradient of its shards, updates the elements that it owns by the
//! sum over all ranks, and gets those that the others have updated.
//!
//! The engine moves bytes, and the device adds: so the sums have the order of the [tree](crate::network::shards), whatever the
//! engine.

use std::cell::Cell;
use std::ops::Range;

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

/// The gradients of other ranks, and how they are added.
#[derive(Debug)]
pub struct Summands<'a, B> {
    /// The ranks that have a gradient.
    pub tree: Tree,
    /// This rank, whose gradient is that of the parameters.
    pub rank: usize,
    /// By rank: its gradients of the elements that this one owns, of one parameter after another, each [`padded`]. They are lost.
    pub inbox: &'a mut [B],
}

/// Moves arrays between ranks, and adds what they have.
pub trait Exchange: Memory {
    /// The elements of an array as it is stored, which a [`Division`] divides; padding counts.
    fn stored_len(&self, buffer: &Self::Buffer) -> usize;

    /// Sends every rank the elements of the gradients that it owns, and receives those that this one owns into its `inbox`, by
    /// rank, of one array after another, each [`padded`]. Only ranks that are `present` have gradients; all receive.
    ///
    /// # Errors
    /// An inbox that is too short; the ranks'; a device that exchanges nothing; its own.
    fn send_gradients<'a>(
        &self,
        ranks: &dyn Ranks,
        present: &dyn Fn(usize) -> bool,
        gradients: &mut dyn Iterator<Item = (&'a Self::Buffer, Division)>,
        inbox: &mut [Self::Buffer],
    ) -> Result<()>
    where
        Self::Buffer: 'a,
    {
        let _ = (ranks, present, gradients, inbox);
        Err(self.lacks("exchange between ranks"))
    }

    /// [`Operators::sgd`](super::Operators::sgd) of the elements that this rank owns, by the sum of the ranks' gradients. The gradients of the
    /// parameters are lost. In a step that is skipped, on all ranks if on one, no parameter changes.
    ///
    /// # Errors
    /// As [`Exchange::send_gradients`].
    fn update_own<'a>(
        &self,
        ranks: &dyn Ranks,
        optimizer: &Sgd,
        summands: Summands<'_, Self::Buffer>,
        parameters: &mut dyn Iterator<Item = (&'a mut Parameter<Self::Buffer>, Division)>,
    ) -> Result<()>
    where
        Self::Buffer: 'a,
    {
        let _ = (ranks, optimizer, summands, parameters);
        Err(self.lacks("exchange between ranks"))
    }

    /// Gives every rank all elements, each from its owner.
    ///
    /// # Errors
    /// The ranks'; a device that exchanges nothing; its own.
    fn gather<'a>(
        &self,
        ranks: &dyn Ranks,
        arrays: &mut dyn Iterator<Item = (&'a mut Self::Buffer, Division)>,
    ) -> Result<()>
    where
        Self::Buffer: 'a,
    {
        let _ = (ranks, arrays);
        Err(self.lacks("exchange between ranks"))
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
    ranks: &dyn Ranks,
    present: &dyn Fn(usize) -> bool,
    gradients: &mut dyn Iterator<Item = (&'a B, Division)>,
    inbox: &mut [B],
) -> Result<()> {
    let (rank, (sends, receives, mut lens)) = (ranks.rank(), LISTS.take());
    let (mut sends, mut receives): (Sends<'_>, Receives<'_>) = (emptied(sends), emptied(receives));
    lens.clear();
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
        let len = lens.iter().map(|&len| padded(len)).sum();
        let mut rest = alexnet_ops::front_mut("send_gradients", "inbox", inbox.as_mut(), len)?;
        for &len in lens.iter().filter(|&&len| len > 0) {
            let (own, others) = rest.split_at_mut(padded(len));
            receives.push((peer, cast_slice_mut(&mut own[..len])));
            rest = others;
        }
    }
    ranks.exchange(&sends, &mut receives)?;
    LISTS.set((emptied(sends), emptied(receives), lens));
    Ok(())
}

/// [`Exchange::gather`] for arrays on the host.
pub fn gather<'a, T: Pod, B: AsMut<[T]> + 'a>(
    ranks: &dyn Ranks,
    arrays: &mut dyn Iterator<Item = (&'a mut B, Division)>,
) -> Result<()> {
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
