//! The exchange between ranks: by NCCL, or through page-locked memory of the host.

use std::ops::Range;
use std::sync::Arc;

use alexnet_kernels::{Array, Copies, Peers, Slices, Updated};
use alexnet_ranks::Ranks;

use super::{Buffer, Cuda, group};
use crate::device::Parameter;
use crate::device::exchange::{Connection, Division, Exchange};
use crate::network::shards::Tree;
use crate::{Result, Sgd};

impl Connection for Peers {
    fn engine(&self) -> String {
        Self::engine(self)
    }
    fn inbox_len(&self) -> usize {
        Self::inbox_len(self)
    }
    fn overlaps(&self) -> bool {
        self.captures()
    }
}

/// The elements of each of `size` ranks.
fn slices(division: &Division, size: usize) -> Vec<Range<usize>> {
    (0..size).map(|rank| division.range(rank)).collect()
}

impl Exchange for Cuda {
    type Peers = Peers;

    fn stored_len(&self, buffer: &Buffer) -> usize {
        buffer.array.len()
    }

    fn connect(&self, ranks: Arc<dyn Ranks>, divisions: &mut dyn Iterator<Item = Division>) -> Result<Peers> {
        let size = ranks.size();
        self.ok(self.kernels.connect(self.nccl, ranks, divisions.map(|division| slices(&division, size))))
    }

    fn send_gradients<'a>(
        &self,
        peers: &mut Peers,
        present: &dyn Fn(usize) -> bool,
        before: &mut dyn Iterator<Item = Division>,
        gradients: &mut dyn Iterator<Item = (&'a Buffer, Division)>,
        work: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()>
    where
        Self::Buffer: 'a,
    {
        let size = peers.size();
        let present: Vec<bool> = (0..size).map(present).collect();
        let before: Vec<_> = before.map(|division| slices(&division, size)).collect();
        let before = self.ok(peers.parts_len(before.iter().map(|slices| &slices[..])))?;
        let gradients = gradients.map(|(gradient, division)| (&gradient.array, slices(&division, size)));
        let mut worked = Ok(());
        let sent = self.kernels.exchange(peers, &present, before, gradients, || worked = work());
        worked.and_then(|()| self.ok(sent))
    }

    fn update_own<'a>(
        &self,
        peers: &mut Peers,
        optimizer: &Sgd,
        tree: Tree,
        parameters: &mut dyn Iterator<Item = (&'a mut Parameter<Buffer>, Division)>,
    ) -> Result<()>
    where
        Self::Buffer: 'a,
    {
        let size = peers.size();
        let mut present = vec![false; size];
        tree.for_each(|leaf| present[leaf.number] = true);
        let mut own = Slices::default();
        for (parameter, division) in parameters {
            let group = group(optimizer, parameter);
            let Parameter { value, gradient: Some(gradient), momentum: Some(momentum), .. } = parameter else {
                continue;
            };
            let Buffer { array: w, copy, .. } = value;
            let updated = Updated { group, w, v: &mut momentum.array, copy: copy.as_mut() };
            self.ok(own.push(peers, &slices(&division, size), &mut gradient.array, updated))?;
        }
        let mut scratch = self.scratch();
        self.write_optimizer(&mut scratch, optimizer)?;
        let super::Scratch { optimizer, scaler, .. } = &mut *scratch;
        let tests = self.interval.is_some();
        self.ok(self.kernels.exchange_update(peers, &own, &present, optimizer, scaler, tests))?;
        let rescale = |interval| self.ok(self.kernels.sgd_rescale(scaler, interval));
        self.interval.map_or(Ok(()), rescale)
    }

    fn gather<'a>(&self, peers: &mut Peers, arrays: &mut dyn Iterator<Item = (&'a mut Buffer, Division)>) -> Result<()>
    where
        Self::Buffer: 'a,
    {
        let size = peers.size();
        let mut all: Vec<_> = arrays.map(|(buffer, division)| (buffer, slices(&division, size))).collect();
        let floats = all.iter_mut().map(|(buffer, slices)| (&mut buffer.array, slices.clone()));
        self.ok(self.kernels.gather(peers, floats))?;
        let mut copies = Copies::default();
        for (buffer, slices) in all {
            if let Buffer { array, copy: Some(copy), .. } = buffer {
                self.ok(copies.push(peers, &slices, array, copy))?;
            }
        }
        self.ok(self.kernels.exchange_copy(&copies))
    }

    fn gather_totals<'a>(
        &self,
        peers: &mut Peers,
        totals: &mut dyn Iterator<Item = (&'a mut Array, Division)>,
    ) -> Result<()>
    where
        Self::Totals: 'a,
    {
        let size = peers.size();
        self.ok(self.kernels.gather(peers, totals.map(|(array, division)| (array, slices(&division, size)))))
    }
}
