//! SGD by the sum of several gradients, in one pass: those of the ranks, added by a tree.
//!
//! 4 bytes read per gradient and parameter, and 16 for w and v. The sums of a block stay in the first-level cache.

use super::pool::SyncPtr;
use super::simd::dispatch;
use super::weights::Buffer;
use super::{Context, sgd};
use crate::Sgd;
use crate::device::Parameter;
use crate::device::exchange::{Division, HostPeers, padded};
use crate::network::shards::Tree;

/// Parameters per task, and those that are summed at a time.
const CHUNK: usize = 64 << 10;
const BLOCK: usize = 512;
/// Sums that may be on the stack: of 2¹⁵ ranks.
const DEPTH: usize = 16;

/// See [`Exchange::update_own`](crate::device::Exchange::update_own).
pub fn run(
    context: &Context,
    optimizer: &Sgd,
    peers: &HostPeers<Buffer>,
    tree: &Tree,
    parameters: &mut dyn Iterator<Item = (&mut Parameter<Buffer>, Division)>,
) {
    let (own_rank, mut before) = (peers.rank(), 0);
    for (parameter, division) in parameters {
        let optimizer = &parameter.sgd(optimizer);
        let (Some(gradient), Some(momentum)) = (&parameter.gradient, &mut parameter.momentum) else { continue };
        let own = division.range(own_rank);
        let of_rank = |rank: usize| match rank == own_rank {
            true => &gradient[own.clone()],
            false => &peers.sent(rank)[before..before + own.len()],
        };
        let value = SyncPtr(parameter.value.as_mut_slice()[own.clone()].as_mut_ptr());
        let momentum = SyncPtr(momentum.as_mut_slice()[own.clone()].as_mut_ptr());
        context.pool.run(own.len().div_ceil(CHUNK), |task, _| {
            let mut sums = [[0f32; BLOCK]; DEPTH];
            let end = own.len().min((task + 1) * CHUNK);
            for start in (task * CHUNK..end).step_by(BLOCK) {
                let n = BLOCK.min(end - start);
                for leaf in tree.clone() {
                    sums[leaf.depth][..n].copy_from_slice(&of_rank(leaf.number)[start..start + n]);
                    for right in (leaf.depth + 1 - leaf.sums..=leaf.depth).rev() {
                        let (left, right) = sums.split_at_mut(right);
                        if let (Some(left), Some(right)) = (left.last_mut(), right.first()) {
                            add(context.level, &mut left[..n], &right[..n]);
                        }
                    }
                }
                // SAFETY: each task has its own parameters.
                let (value, momentum) = unsafe { (value.slice_mut(start, n), momentum.slice_mut(start, n)) };
                sgd::update(context.level, optimizer, value, &sums[0][..n], momentum);
            }
        });
        before += padded(own.len());
    }
}

dispatch! {
    fn add(y: &mut [f32], x: &[f32]) = plain body
}
#[inline(always)]
fn body(y: &mut [f32], x: &[f32]) {
    y.iter_mut().zip(x).for_each(|(y, &x)| *y += x);
}
