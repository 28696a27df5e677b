//! How the images of a step are divided: into shards, whose gradients are added by a binary tree over their numbers, and the shards
//! among the processes of a job.
//!
//! Of the n images of a step, shard p of S has those from ⌊p·n/S⌋ to ⌊(p+1)·n/S⌋. They are computed in micro-batches of at most
//! ⌈batch/S⌉ images, whose gradients are added from left to right. The gradients of the shards are then added in pairs: 0 + 1,
//! 2 + 3, …, then (0 + 1) + (2 + 3), and so on. A shard without images is left out: adding +0 would change a −0. So the result
//! depends on S, but not on how many processes compute it, each a subtree: process r of N has the shards from r·S/N on.
//!
//! The sums lie on a stack of arrays: a shard's gradient goes to the first array that is free, and two sums that belong together
//! are the last two. A subtree of K shards needs log₂ K + 1 arrays, and its sum ends in the first, the gradient itself.

use std::ops::Range;

use crate::{Error, Result};

/// The division of every step of a run, as one process of the job sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shards {
    count: usize,
    batch: usize,
    accumulate: usize,
    rank: usize,
    ranks: usize,
    sync_batch_norm: bool,
}

/// Where the gradients of a micro-batch go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// Number of the micro-batch in the step: that of its shard times the micro-batches that a shard may have, plus its own in
    /// the shard.
    pub number: usize,
    /// Whether they are added to those of the shard's micro-batches before it, or replace what is there.
    pub accumulate: bool,
    /// The array that they go to: 0 is the gradient, the others are [`Network::shard`](super::Network::shard)'s.
    pub array: usize,
    /// How many sums follow it: of array k and the one before it, from `array` down.
    pub sums: usize,
    /// Whether it completes the gradients of this process, without a sum: parts of them may be sent while others are computed.
    pub complete: bool,
}

/// A micro-batch of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its images in the step.
    pub images: Range<usize>,
    /// Where its gradients go.
    pub slot: Slot,
}

impl Shards {
    /// `count` shards of steps of `batch`·`accumulate` images, all in one process.
    ///
    /// # Errors
    /// A count that is no power of two; fewer images in a batch than shards.
    pub fn new(count: usize, batch: usize, accumulate: usize) -> Result<Self> {
        if !count.is_power_of_two() || count > batch {
            return Err(Error::Shards { count, batch });
        }
        Ok(Self { count, batch, accumulate, rank: 0, ranks: 1, sync_batch_norm: false })
    }

    /// The same, where batch norms that are trained normalise by the statistics of the whole step, not of a shard. The micro-batches of
    /// a step are then computed together, layer by layer: each shard has one.
    ///
    /// # Errors
    /// Batches whose gradients are accumulated: those that come later would have to be computed first.
    pub fn with_sync_batch_norm(self) -> Result<Self> {
        match self.accumulate {
            1 => Ok(Self { sync_batch_norm: true, ..self }),
            batches => Err(Error::Together { batches }),
        }
    }

    /// The same in a job of `ranks` processes, for process number `rank`.
    ///
    /// # Errors
    /// A number of processes that is no power of two or larger than that of the shards; a rank that is not below it.
    pub fn among(self, rank: usize, ranks: usize) -> Result<Self> {
        if !ranks.is_power_of_two() || ranks > self.count || rank >= ranks {
            return Err(Error::Ranks { ranks, shards: self.count });
        }
        Ok(Self { rank, ranks, ..self })
    }

    /// S.
    pub const fn count(&self) -> usize {
        self.count
    }
    /// See [`Shards::with_sync_batch_norm`].
    pub const fn sync_batch_norm(&self) -> bool {
        self.sync_batch_norm
    }
    /// Whether the micro-batches of a step are computed together, layer by layer.
    pub const fn together(&self) -> bool {
        self.count > 1 && self.sync_batch_norm
    }
    /// Processes of the job.
    pub const fn ranks(&self) -> usize {
        self.ranks
    }
    /// The number of this process.
    pub const fn rank(&self) -> usize {
        self.rank
    }
    /// Images of the largest micro-batch: ⌈batch/S⌉.
    pub const fn max_batch(&self) -> usize {
        self.batch.div_ceil(self.count)
    }
    /// Images of a whole step.
    pub const fn step_images(&self) -> usize {
        self.batch * self.accumulate
    }
    /// Numbers of micro-batches in a step: each [`Slot::number`] is below. A shard has at most `accumulate` micro-batches, since
    /// ⌈batch·accumulate/S⌉ ≤ accumulate·⌈batch/S⌉.
    pub const fn slots(&self) -> usize {
        self.count * self.accumulate
    }
    /// Shards of each process.
    pub const fn own(&self) -> usize {
        self.count / self.ranks
    }
    /// The process that computes the micro-batch of this [`Slot::number`].
    pub const fn rank_of(&self, slot: usize) -> usize {
        slot / (self.accumulate * self.own())
    }
    /// Arrays as large as the gradients that a process needs besides them.
    pub const fn arrays(&self) -> usize {
        self.own().ilog2() as usize
    }

    /// The micro-batches of a step of `images` images that this process computes, in order.
    pub fn pieces(&self, images: usize) -> Pieces {
        self.pieces_of(self.rank, images)
    }
    /// The micro-batches of a step that process number `rank` computes.
    pub fn pieces_of(&self, rank: usize, images: usize) -> Pieces {
        let tree = Tree::new(rank * self.own()..(rank + 1) * self.own(), 1, self.count, images);
        Pieces { tree, shards: *self, at: None }
    }
    /// All micro-batches of a step, by whichever process.
    pub fn all_pieces(&self, images: usize) -> impl Iterator<Item = Piece> {
        let shards = *self;
        (0..self.ranks).flat_map(move |rank| shards.pieces_of(rank, images))
    }
    /// Whether a process has images in such a step.
    pub const fn computes(&self, rank: usize, images: usize) -> bool {
        let tree = Tree::new(0..self.ranks, self.own(), self.count, images);
        tree.has_images(rank, rank + 1)
    }
    /// How the sums of the processes that have images in such a step are added.
    pub fn tree(&self, images: usize) -> Tree {
        Tree::new(0..self.ranks, self.own(), self.count, images)
    }
}

/// A summand of a [`Tree`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Its number.
    pub number: usize,
    /// Summands and sums on the stack before it.
    pub depth: usize,
    /// How many sums of the last two follow it.
    pub sums: usize,
}

/// The order in which summands are added, without those that have no images: an iterator over the others.
#[derive(Clone, Debug)]
pub struct Tree {
    leaves: Range<usize>,
    first: usize,
    /// Shards of a leaf.
    width: usize,
    count: usize,
    images: usize,
    depth: usize,
}

impl Tree {
    const fn new(leaves: Range<usize>, width: usize, count: usize, images: usize) -> Self {
        Self { first: leaves.start, leaves, width, count, images, depth: 0 }
    }

    /// The image at which a leaf begins.
    const fn start(&self, leaf: usize) -> usize {
        // Counts of images are below 2³², counts of shards below a batch's images.
        (leaf as u128 * self.width as u128 * self.images as u128 / self.count as u128) as usize
    }
    const fn has_images(&self, from: usize, to: usize) -> bool {
        self.start(from) < self.start(to)
    }

    /// Sums that `leaf` completes, which may be without images.
    fn sums_at(&self, leaf: usize) -> usize {
        let own = leaf - self.first;
        let both = |level: &u32| {
            let begin = self.first + (own >> (level + 1) << (level + 1));
            let (middle, end) = (begin + (1 << level), begin + (2 << level));
            self.has_images(begin, middle) && self.has_images(middle, end)
        };
        (0..own.trailing_ones()).filter(both).count()
    }
}

impl Iterator for Tree {
    type Item = Leaf;

    fn next(&mut self) -> Option<Leaf> {
        let number = self.leaves.clone().find(|&leaf| self.has_images(leaf, leaf + 1))?;
        // The leaves without images that follow it may complete sums too.
        let next = (number + 1..self.leaves.end).find(|&leaf| self.has_images(leaf, leaf + 1));
        self.leaves.start = next.unwrap_or(self.leaves.end);
        let sums = (number..self.leaves.start).map(|leaf| self.sums_at(leaf)).sum();
        let depth = self.depth;
        self.depth = depth + 1 - sums;
        Some(Leaf { number, depth, sums })
    }
}

/// The micro-batches of a step that a process computes.
#[derive(Clone, Debug)]
pub struct Pieces {
    tree: Tree,
    shards: Shards,
    /// The shard at hand, its images that are left, and how many micro-batches it has had.
    at: Option<(Leaf, Range<usize>, usize)>,
}

impl Iterator for Pieces {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        let (leaf, left, done) = match self.at.take() {
            Some(at) => at,
            None => {
                let leaf = self.tree.next()?;
                (leaf, self.tree.start(leaf.number)..self.tree.start(leaf.number + 1), 0)
            }
        };
        let end = left.end.min(left.start + self.shards.max_batch());
        let last = end == left.end;
        let number = leaf.number * self.shards.accumulate + done;
        let (accumulate, array, sums) = (done > 0, leaf.depth, if last { leaf.sums } else { 0 });
        // The only shard of a process is its whole subtree.
        let complete = last && self.shards.own() == 1;
        let slot = Slot { number, accumulate, array, sums, complete };
        if !last {
            self.at = Some((leaf, end..left.end, done + 1));
        }
        Some(Piece { images: left.start..end, slot })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sum of the shards as text, by the definition.
    fn defined(from: usize, to: usize, count: usize, images: usize) -> Option<String> {
        if to - from == 1 {
            return (from * images / count < to * images / count).then(|| from.to_string());
        }
        let middle = from.midpoint(to);
        match (defined(from, middle, count, images), defined(middle, to, count, images)) {
            (Some(left), Some(right)) => Some(format!("({left}+{right})")),
            (left, right) => left.or(right),
        }
    }

    /// The same by the stack of each process, and that of the processes' sums.
    fn found(shards: Shards, images: usize) -> Option<String> {
        let mut sums: Vec<Option<String>> = Vec::new();
        let (mut next, mut numbers) = (0, Vec::new());
        for rank in 0..shards.ranks {
            let mut stack: Vec<String> = Vec::new();
            for Piece { images, slot } in shards.pieces_of(rank, images) {
                assert_eq!(images.start, next);
                assert!(!images.is_empty() && images.len() <= shards.max_batch());
                assert_eq!(shards.rank_of(slot.number), rank);
                next = images.end;
                numbers.push(slot.number);
                assert!(slot.array <= shards.arrays(), "{slot:?} of {shards:?}");
                let shard = (slot.number / shards.accumulate).to_string();
                if slot.accumulate {
                    assert_eq!((stack.len(), stack.last()), (slot.array + 1, Some(&shard)));
                } else {
                    assert_eq!(stack.len(), slot.array);
                    stack.push(shard);
                }
                for _ in 0..slot.sums {
                    let right = stack.pop().unwrap();
                    let left = stack.pop().unwrap();
                    stack.push(format!("({left}+{right})"));
                }
            }
            assert!(stack.len() <= 1);
            sums.push(stack.pop());
        }
        assert_eq!(next, images);
        assert!(numbers.is_sorted_by(|a, b| a < b) && numbers.iter().all(|&number| number < shards.slots()));
        let mut stack: Vec<String> = Vec::new();
        let mut empty = (0..shards.ranks).filter(|&rank| sums[rank].is_none()).count();
        for leaf in shards.tree(images) {
            assert_eq!(stack.len(), leaf.depth);
            empty += 1;
            stack.push(sums[leaf.number].clone().unwrap());
            for _ in 0..leaf.sums {
                let right = stack.pop().unwrap();
                let left = stack.pop().unwrap();
                stack.push(format!("({left}+{right})"));
            }
        }
        assert_eq!(empty, shards.ranks);
        assert!(stack.len() <= 1);
        stack.pop()
    }

    #[test]
    fn every_division_adds_the_same_tree() {
        for count in [1, 2, 4, 8, 16] {
            for batch in [count, count + 1, 2 * count - 1, 3 * count + 2] {
                for accumulate in [1, 2, 3] {
                    let shards = Shards::new(count, batch, accumulate).unwrap();
                    for images in 1..=shards.step_images() {
                        let expected = defined(0, count, count, images);
                        for ranks in [1, 2, 4, 8, 16].into_iter().filter(|&ranks| ranks <= count) {
                            let shards = shards.among(0, ranks).unwrap();
                            assert_eq!(found(shards, images), expected, "{images} images, {shards:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn one_shard_is_the_batches_in_order() {
        let shards = Shards::new(1, 4, 3).unwrap();
        let pieces: Vec<_> =
            shards.pieces(9).map(|piece| (piece.images, piece.slot.number, piece.slot.accumulate)).collect();
        assert_eq!(pieces, [(0..4, 0, false), (4..8, 1, true), (8..9, 2, true)]);
        assert_eq!(shards.arrays(), 0);
    }

    #[test]
    fn what_is_refused() {
        for (count, batch) in [(0, 8), (3, 8), (16, 8)] {
            assert_eq!(Shards::new(count, batch, 1), Err(Error::Shards { count, batch }));
        }
        let shards = Shards::new(4, 8, 1).unwrap();
        for (rank, ranks) in [(0, 3), (0, 8), (2, 2), (0, 0)] {
            assert_eq!(shards.among(rank, ranks), Err(Error::Ranks { ranks, shards: 4 }));
        }
    }
}
