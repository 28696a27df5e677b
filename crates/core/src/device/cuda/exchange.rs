//! The exchange between ranks through page-locked memory of the host: what any engine can move.

use std::ops::Range;

use alexnet_kernels::{Array, Parameters, Staging, Sums, Tested};
use alexnet_ranks::Ranks;

use super::{Buffer, Cuda, group};
use crate::device::Parameter;
use crate::device::exchange::{Division, Exchange, Summands, padded};
use crate::network::shards::Tree;
use crate::{Result, Sgd};

/// What goes out and what comes in; none until the first exchange.
#[derive(Debug, Default)]
pub(super) struct Stagings {
    out: Option<Staging>,
    own: Option<Staging>,
}

/// Some elements of an array.
type Piece<'a> = (&'a Array, Range<usize>);
/// A parameter, the elements of it that this rank owns, and where the inboxes have their gradients.
type Own<'a> = (&'a mut Parameter<Buffer>, Range<usize>, usize);

fn bytes(array: &Array, elements: &Range<usize>) -> usize {
    elements.len() * array.number().size()
}

impl Cuda {
    /// Memory of at least `len` bytes.
    fn reserve<'a>(&self, staging: &'a mut Option<Staging>, len: usize) -> Result<&'a mut Staging> {
        if staging.as_ref().is_some_and(|staging| staging.len() < len) {
            // Nothing is being copied to it or from it.
            self.ok(self.kernels.synchronize())?;
            *staging = None;
        }
        match staging {
            Some(staging) => Ok(staging),
            none => Ok(none.insert(self.ok(self.kernels.staging(len))?)),
        }
    }

    /// Copies pieces to the host, one after another; returns their bytes when they are there.
    fn stage(&self, pieces: &[Piece<'_>]) -> Result<usize> {
        let mut scratch = self.scratch();
        let len = pieces.iter().map(|(array, elements)| bytes(array, elements)).sum();
        let out = self.reserve(&mut scratch.stagings.out, len)?;
        let mut at = 0;
        for (array, elements) in pieces {
            at = self.ok(self.kernels.fetch(array, elements.clone(), out, at))?;
        }
        // For the copies of what came in last, too.
        self.ok(self.kernels.synchronize())?;
        Ok(len)
    }

    /// Sends each rank a range of the bytes that were staged, and receives so many bytes of each; then `put` copies them, by
    /// rank, to the GPU.
    fn pass(
        &self,
        ranks: &dyn Ranks,
        staged: usize,
        sends: &[(usize, Range<usize>)],
        lens: &[usize],
        put: &mut dyn FnMut(&Staging) -> Result<()>,
    ) -> Result<()> {
        let mut scratch = self.scratch();
        let Stagings { out, own } = &mut scratch.stagings;
        let (out, own) = (self.reserve(out, staged)?, self.reserve(own, lens.iter().sum())?);
        let (bytes, mut rest) = (self.ok(out.bytes())?, self.ok(own.bytes_mut())?);
        let messages: Vec<_> = sends.iter().map(|(peer, range)| (*peer, &bytes[range.clone()])).collect();
        let mut expected = Vec::new();
        for (peer, &len) in lens.iter().enumerate() {
            let (of_peer, others) = rest.split_at_mut(len);
            rest = others;
            if len > 0 {
                expected.push((peer, of_peer));
            }
        }
        ranks.exchange(&messages, &mut expected)?;
        put(own)
    }

    /// Adds the gradients of the ranks as the tree says. The sum of the `own` elements is then in the inbox of the rank that this
    /// returns, or in their gradients if it is none: of two arrays it makes no difference to the bits which is added to the other.
    fn add_gradients(
        &self,
        tree: Tree,
        rank: usize,
        inbox: &mut [Buffer],
        own: &mut [Own<'_>],
        len: usize,
    ) -> Result<Option<usize>> {
        let mut stack: Vec<usize> = Vec::new();
        for leaf in tree {
            stack.push(leaf.number);
            for _ in 0..leaf.sums {
                let (Some(right), Some(left)) = (stack.pop(), stack.pop()) else { continue };
                let mut sums = Sums::default();
                match (left == rank, right == rank) {
                    (false, false) => {
                        if let Ok([to, from]) = inbox.get_disjoint_mut([left, right]) {
                            self.ok(sums.push(len, (&mut to.array, 0), (&from.array, 0)))?;
                        }
                    }
                    (is_left, _) => {
                        let from = &inbox[if is_left { right } else { left }].array;
                        for (parameter, range, start) in &mut *own {
                            if let Some(gradient) = &mut parameter.gradient {
                                let to = (&mut gradient.array, range.start);
                                self.ok(sums.push(range.len(), to, (from, *start)))?;
                            }
                        }
                    }
                }
                self.ok(self.kernels.sum(&sums))?;
                stack.push(if right == rank { rank } else { left });
            }
        }
        Ok(stack.pop().filter(|&holder| holder != rank))
    }
}

impl Exchange for Cuda {
    fn stored_len(&self, buffer: &Buffer) -> usize {
        buffer.array.len()
    }

    fn send_gradients<'a>(
        &self,
        ranks: &dyn Ranks,
        present: &dyn Fn(usize) -> bool,
        gradients: &mut dyn Iterator<Item = (&'a Buffer, Division)>,
        inbox: &mut [Buffer],
    ) -> Result<()>
    where
        Self::Buffer: 'a,
    {
        let (rank, size) = (ranks.rank(), ranks.size());
        let gradients: Vec<_> = gradients.collect();
        let (mut pieces, mut sends, mut start) = (Vec::new(), Vec::new(), 0);
        for peer in (0..size).filter(|&peer| peer != rank && present(rank)) {
            let of_peer = gradients.iter().map(|(gradient, division)| (&gradient.array, division.range(peer)));
            pieces.extend(of_peer.filter(|(_, elements)| !elements.is_empty()));
            let end = pieces.iter().map(|(array, elements)| bytes(array, elements)).sum();
            if end > start {
                sends.push((peer, start..end));
            }
            start = end;
        }
        let own: Vec<usize> = gradients.iter().map(|(_, division)| division.range(rank).len()).collect();
        let comes = |peer| if peer != rank && present(peer) { 4 * own.iter().sum::<usize>() } else { 0 };
        let lens: Vec<usize> = (0..size).map(comes).collect();
        let staged = self.stage(&pieces)?;
        self.pass(ranks, staged, &sends, &lens, &mut |staging| {
            let mut at = 0;
            for (inbox, _) in inbox.iter_mut().zip(&lens).filter(|(_, len)| **len > 0) {
                let mut before = 0;
                for &len in own.iter().filter(|&&len| len > 0) {
                    at = self.ok(self.kernels.put(staging, at, &mut inbox.array, before..before + len))?;
                    before += padded(len);
                }
            }
            Ok(())
        })
    }

    fn update_own<'a>(
        &self,
        ranks: &dyn Ranks,
        optimizer: &Sgd,
        summands: Summands<'_, Buffer>,
        parameters: &mut dyn Iterator<Item = (&'a mut Parameter<Buffer>, Division)>,
    ) -> Result<()>
    where
        Self::Buffer: 'a,
    {
        let Summands { tree, rank, inbox } = summands;
        let mut before = 0;
        let mut own: Vec<Own<'_>> = Vec::new();
        for (parameter, division) in parameters {
            let range = division.range(rank);
            let start = before;
            before += padded(range.len());
            if !range.is_empty() && parameter.gradient.is_some() {
                own.push((parameter, range, start));
            }
        }
        let holder = self.add_gradients(tree, rank, inbox, &mut own, before)?;
        let interval = self.interval;
        let mut scratch = self.scratch();
        if interval.is_some() {
            let mut tested = Tested::default();
            match holder {
                Some(peer) => self.ok(tested.push_slice(&inbox[peer].array, 0..before))?,
                None => {
                    for (parameter, range, _) in &own {
                        if let Some(gradient) = &parameter.gradient {
                            self.ok(tested.push_slice(&gradient.array, range.clone()))?;
                        }
                    }
                }
            }
            self.ok(self.kernels.sgd_test(&tested, &mut scratch.scaler))?;
            let mut found = vec![0; ranks.size()];
            ranks.all_gather(&[u8::from(self.ok(self.kernels.found(&scratch.scaler))?)], &mut found)?;
            if found.contains(&1) {
                self.ok(self.kernels.set_found(&mut scratch.scaler))?;
            }
        }
        self.write_optimizer(&mut scratch, optimizer)?;
        let mut table = Parameters::default();
        for (parameter, range, start) in &mut own {
            let group = group(optimizer, parameter);
            let Parameter { value, gradient: Some(gradient), momentum: Some(momentum), .. } = &mut **parameter else {
                continue;
            };
            let summed = holder.map_or((&gradient.array, range.start), |peer| (&inbox[peer].array, *start));
            let Buffer { array, copy, .. } = value;
            self.ok(table.push_slice(range.clone(), group, array, summed, &mut momentum.array, copy.as_mut()))?;
        }
        self.ok(self.kernels.sgd(&table, &scratch.optimizer, &scratch.scaler))?;
        let rescale = |interval| self.ok(self.kernels.sgd_rescale(&mut scratch.scaler, interval));
        interval.map_or(Ok(()), rescale)
    }

    fn gather<'a>(&self, ranks: &dyn Ranks, arrays: &mut dyn Iterator<Item = (&'a mut Buffer, Division)>) -> Result<()>
    where
        Self::Buffer: 'a,
    {
        let (rank, size) = (ranks.rank(), ranks.size());
        let mut divided: Vec<(&mut Array, Division)> = Vec::new();
        for (Buffer { array, copy, .. }, division) in arrays {
            divided.push((array, division));
            divided.extend(copy.iter_mut().map(|copy| (copy, division)));
        }
        let len_of = |peer| divided.iter().map(|(array, division)| bytes(array, &division.range(peer))).sum::<usize>();
        let lens: Vec<usize> = (0..size).map(|peer| if peer == rank { 0 } else { len_of(peer) }).collect();
        let sends = (0..size).filter(|&peer| peer != rank && len_of(rank) > 0).map(|peer| (peer, 0..len_of(rank)));
        let sends: Vec<_> = sends.collect();
        let own = divided.iter().map(|(array, division)| (&**array, division.range(rank)));
        let staged = self.stage(&own.filter(|(_, elements)| !elements.is_empty()).collect::<Vec<_>>())?;
        self.pass(ranks, staged, &sends, &lens, &mut |staging| {
            let mut at = 0;
            for peer in (0..size).filter(|&peer| peer != rank) {
                for (array, division) in &mut divided {
                    let elements = division.range(peer);
                    if !elements.is_empty() {
                        at = self.ok(self.kernels.put(staging, at, array, elements))?;
                    }
                }
            }
            Ok(())
        })
    }
}
