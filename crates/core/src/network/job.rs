//! What the ranks of a job exchange at the end of a step: sums, moments of batch norms, gradients and weights; and the momentum
//! before a checkpoint.

use std::sync::Arc;

use alexnet_ranks::Ranks;
use bytemuck::{cast_slice, cast_slice_mut};

use super::Network;
use super::sharding::Sharding;
use super::shards::{Shards, Slot};
use crate::device::exchange::{Division, Summands, padded};
use crate::device::{Device, Parameter};
use crate::{Result, Sgd};

/// What a network needs for that.
pub(super) struct Job<D: Device> {
    ranks: Arc<dyn Ranks>,
    /// Who owns what of each parameter; none where it is not trained.
    divisions: Vec<Option<Division>>,
    /// By rank its gradients of what this one owns.
    inbox: Vec<D::Buffer>,
    /// The sums of each micro-batch of this rank: losses and correct predictions.
    totals: Vec<D::Totals>,
    /// The same on the host, and those of all ranks.
    own_totals: Vec<[f64; 2]>,
    all_totals: Vec<[f64; 2]>,
}

impl<D: Device> Job<D> {
    /// Allocates it.
    pub fn new(
        device: &D,
        parameters: &[Parameter<D::Buffer>],
        shards: &Shards,
        ranks: Arc<dyn Ranks>,
    ) -> Result<Self> {
        let (rank, size, own_slots) = (shards.rank(), shards.ranks(), shards.slots() / shards.ranks());
        let divide = |(index, parameter): (usize, &Parameter<D::Buffer>)| {
            let gradient = parameter.gradient.as_ref()?;
            Some(Division::of(device.stored_len(gradient), size, index))
        };
        let divisions: Vec<_> = parameters.iter().enumerate().map(divide).collect();
        let own = divisions.iter().flatten().map(|division| padded(division.range(rank).len())).sum();
        Ok(Self {
            ranks,
            divisions,
            inbox: (0..size).map(|peer| device.zeros(if peer == rank { 0 } else { own })).collect::<Result<_>>()?,
            totals: (0..own_slots).map(|_| device.totals()).collect::<Result<_>>()?,
            own_totals: vec![[0.0; 2]; own_slots],
            all_totals: vec![[0.0; 2]; shards.slots()],
        })
    }

    /// Elements of its large arrays.
    pub fn len(&self, device: &D) -> usize {
        self.inbox.iter().map(|buffer| device.stored_len(buffer)).sum()
    }

    /// Where the sums of a micro-batch of this rank go.
    fn totals(&mut self, slot: &Slot) -> &mut D::Totals {
        let own = slot.number % self.totals.len();
        &mut self.totals[own]
    }
}

impl<D: Device> Network<D> {
    fn job(&mut self) -> Option<&mut Job<D>> {
        self.sharding.as_mut().and_then(|sharding| sharding.job.as_mut())
    }

    /// Sets the sums of a micro-batch of its own, if there are ranks, to zero.
    pub(super) fn clear_totals(&mut self, slot: &Slot) -> Result<()> {
        let device = self.device.clone();
        self.job().map_or(Ok(()), |job| device.write_totals([0.0; 2], job.totals(slot)))
    }

    /// Adds losses and correct predictions of the micro-batch that was loaded: to the sums, or with ranks to its own.
    pub(super) fn add_totals(&mut self, slot: &Slot) -> Result<()> {
        let totals = match &mut self.sharding {
            Some(Sharding { job: Some(job), .. }) => job.totals(slot),
            _ => &mut self.sums,
        };
        self.device.add_totals(self.loaded, &self.losses, &self.correct, totals)
    }

    /// [`Network::update`] of a job.
    pub(super) fn update_among_ranks(&mut self, shards: &Shards, images: usize, optimizer: &Sgd) -> Result<()> {
        self.gather_totals(shards, images)?;
        self.gather_moments(shards)?;
        self.follow_moments(shards, images)?;
        if self.poll_metrics()?.is_some_and(|metrics| !metrics.loss.is_finite()) {
            return Ok(());
        }
        let (device, tree) = (self.device.clone(), shards.tree(images));
        let present = |rank| tree.clone().any(|leaf| leaf.number == rank);
        let Some(Sharding { job: Some(Job { ranks, divisions, inbox, .. }), .. }) = &mut self.sharding else {
            return Ok(());
        };
        let divided = self.parameters.iter().zip(&*divisions);
        let mut gradients =
            divided.filter_map(|(parameter, division)| Some((parameter.gradient.as_ref()?, (*division)?)));
        device.send_gradients(&**ranks, &present, &mut gradients, inbox)?;
        let summands = Summands { tree: tree.clone(), rank: shards.rank(), inbox };
        let divided = self.parameters.iter_mut().zip(&*divisions);
        let mut own = divided.filter_map(|(parameter, division)| Some((parameter, (*division)?)));
        device.update_own(&**ranks, optimizer, summands, &mut own)?;
        let divided = self.parameters.iter_mut().zip(&*divisions);
        let mut values = divided.filter_map(|(parameter, division)| Some((&mut parameter.value, (*division)?)));
        device.gather(&**ranks, &mut values)
    }

    /// Adds the sums of all micro-batches of a step to the network's, in their order.
    fn gather_totals(&mut self, shards: &Shards, images: usize) -> Result<()> {
        if !D::QUEUES {
            // As in one process, where a step's micro-batches are added up before they join the sums.
            let earlier = self.metrics()?;
            self.set_metrics(super::Metrics::default())?;
            self.earlier = earlier;
        }
        let Some(Sharding { job: Some(job), .. }) = &mut self.sharding else { return Ok(()) };
        let Job { ranks, totals, own_totals, all_totals, .. } = job;
        for (to, from) in own_totals.iter_mut().zip(&*totals) {
            *to = self.device.read_totals(from)?;
        }
        ranks.all_gather(cast_slice(own_totals), cast_slice_mut(all_totals))?;
        let mut sums = self.device.read_totals(&self.sums)?;
        for piece in shards.all_pieces(images) {
            sums.iter_mut().zip(all_totals[piece.slot.number]).for_each(|(sum, more)| *sum += more);
        }
        self.device.write_totals(sums, &mut self.sums)
    }

    /// Gives every rank the moments of all micro-batches.
    fn gather_moments(&mut self, shards: &Shards) -> Result<()> {
        let device = self.device.clone();
        let Some(Sharding { moments, job: Some(job), .. }) = &mut self.sharding else { return Ok(()) };
        let whole = |(number, layers)| {
            let layers: &mut Vec<[D::Buffer; 2]> = layers;
            let (device, owner, size) = (&*device, shards.rank_of(number), shards.ranks());
            layers.iter_mut().flatten().map(move |buffer| {
                let division = Division::whole(device.stored_len(buffer), size, owner);
                (buffer, division)
            })
        };
        device.gather(&*job.ranks, &mut moments.iter_mut().enumerate().flat_map(whole))
    }

    /// Gives every rank of a job the momentum of all parameters, as a checkpoint needs it. All ranks call it.
    ///
    /// # Errors
    /// The ranks'; the device's.
    pub fn gather_momentum(&mut self) -> Result<()> {
        let Some(Sharding { job: Some(job), .. }) = &self.sharding else { return Ok(()) };
        let divided = self.parameters.iter_mut().zip(&job.divisions);
        let mut momenta =
            divided.filter_map(|(parameter, division)| Some((parameter.momentum.as_mut()?, (*division)?)));
        self.device.gather(&*job.ranks, &mut momenta)
    }
}
