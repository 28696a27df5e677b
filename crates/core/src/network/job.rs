//! What the ranks of a job exchange at the end of a step: sums, moments of batch norms, gradients and weights; and the momentum
//! before a checkpoint.

use std::ops::Range;
use std::sync::Arc;

use alexnet_ranks::Ranks;

use super::Network;
use super::sharding::Sharding;
use super::shards::{Shards, Slot};
use crate::device::exchange::{Connection, Division};
use crate::device::{Device, Parameter};
use crate::{Result, Sgd};

/// What a network needs for that.
pub(super) struct Job<D: Device> {
    peers: D::Peers,
    /// Who owns what of each parameter; none where it is not trained.
    divisions: Vec<Option<Division>>,
    /// The sums of each micro-batch of a step: losses and correct predictions.
    totals: Vec<D::Totals>,
}

impl<D: Device> Job<D> {
    /// Connects it.
    pub fn new(
        device: &D,
        parameters: &[Parameter<D::Buffer>],
        shards: &Shards,
        ranks: Arc<dyn Ranks>,
    ) -> Result<Self> {
        let divide = |(index, parameter): (usize, &Parameter<D::Buffer>)| {
            let gradient = parameter.gradient.as_ref()?;
            Some(Division::of(device.stored_len(gradient), shards.ranks(), index))
        };
        let divisions: Vec<_> = parameters.iter().enumerate().map(divide).collect();
        let totals = (0..shards.slots()).map(|_| device.totals()).collect::<Result<_>>()?;
        let peers = device.connect(ranks, &mut divisions.iter().flatten().copied())?;
        Ok(Self { peers, divisions, totals })
    }

    /// Whether each rank sends the gradients of the [last parameters](Network::early_parameters) while it computes the others.
    pub fn sends_early(&self, shards: &Shards) -> bool {
        self.peers.overlaps() && shards.own() == 1 && !shards.together()
    }

    /// Sends the gradients of the `parameters` with these numbers, beside `work`.
    pub fn send(
        &mut self,
        device: &D,
        present: &dyn Fn(usize) -> bool,
        which: Range<usize>,
        parameters: &[Parameter<D::Buffer>],
        work: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let Self { peers, divisions, .. } = self;
        let mut before = divisions[..which.start].iter().flatten().copied();
        let divided = parameters.iter().zip(&divisions[which]);
        let mut gradients =
            divided.filter_map(|(parameter, division)| Some((parameter.gradient.as_ref()?, (*division)?)));
        device.send_gradients(peers, present, &mut before, &mut gradients, work)
    }

    /// What connects it with the other ranks.
    pub fn peers(&self) -> &D::Peers {
        &self.peers
    }
}

impl<D: Device> Network<D> {
    /// The number of the first parameter of the linear layers: most of all parameters, whose gradients a backward pass has first.
    pub(super) fn early_parameters(&self) -> usize {
        let linear = self.layers.iter().find(|planned| planned.layer.is_linear());
        linear.map_or(self.parameters.len(), |planned| planned.weight)
    }

    pub(super) fn job(&self) -> Option<&Job<D>> {
        self.sharding.as_ref()?.job.as_ref()
    }

    /// What moves the gradients of several ranks, such as `NCCL 2.28.3`; none in one process.
    pub fn engine(&self) -> Option<String> {
        Some(self.job()?.peers.engine())
    }

    /// Sets the sums of a micro-batch, if there are ranks, to zero.
    pub(super) fn clear_totals(&mut self, slot: &Slot) -> Result<()> {
        let Some(Sharding { job: Some(job), .. }) = &mut self.sharding else { return Ok(()) };
        self.device.write_totals([0.0; 2], &mut job.totals[slot.number])
    }

    /// Adds losses and correct predictions of the micro-batch that was loaded: to the sums, or with ranks to its own.
    pub(super) fn add_totals(&mut self, slot: &Slot) -> Result<()> {
        let totals = match &mut self.sharding {
            Some(Sharding { job: Some(job), .. }) => &mut job.totals[slot.number],
            _ => &mut self.sums,
        };
        self.device.add_totals(self.batch.loaded, &self.batch.losses, &self.batch.correct, totals)
    }

    /// [`Network::update`] of a job, or of micro-batches that are computed together.
    pub(super) fn update_among_ranks(&mut self, shards: &Shards, images: usize, optimizer: &Sgd) -> Result<()> {
        let early = self.early_parameters()..self.parameters.len();
        let sent = match self.job() {
            Some(job) if job.sends_early(shards) => early,
            _ => early.end..early.end,
        };
        // Ranks with images have begun with them in their backward pass.
        if !shards.computes(shards.rank(), images) {
            self.send(shards, images, sent.clone())?;
        }
        self.gather_totals(shards, images)?;
        self.gather_moments(shards)?;
        self.follow_moments(shards, images)?;
        if self.poll_metrics()?.is_some_and(|metrics| !metrics.loss.is_finite()) {
            return Ok(());
        }
        if shards.together() {
            self.backward_together(shards, images)?;
        }
        if shards.ranks() == 1 {
            return self.update_parameters(0, optimizer);
        }
        self.send(shards, images, 0..sent.start)?;
        let device = self.device.clone();
        let Some(Sharding { job: Some(job), .. }) = &mut self.sharding else { return Ok(()) };
        let Job { peers, divisions, .. } = job;
        let divided = self.parameters.iter_mut().zip(&*divisions);
        let mut own = divided.filter_map(|(parameter, division)| Some((parameter, (*division)?)));
        device.update_own(peers, optimizer, shards.tree(images), &mut own)?;
        let divided = self.parameters.iter_mut().zip(&*divisions);
        let mut values = divided.filter_map(|(parameter, division)| Some((&mut parameter.value, (*division)?)));
        device.gather(peers, &mut values)
    }

    /// Sends the gradients of some parameters.
    fn send(&mut self, shards: &Shards, images: usize, which: Range<usize>) -> Result<()> {
        match &mut self.sharding {
            Some(Sharding { job: Some(job), .. }) if !which.is_empty() => {
                let present = |rank| shards.computes(rank, images);
                job.send(&self.device, &present, which.clone(), &self.parameters[which], &mut || Ok(()))
            }
            _ => Ok(()),
        }
    }

    /// Adds the sums of all micro-batches of a step to the network's, in their order.
    fn gather_totals(&mut self, shards: &Shards, images: usize) -> Result<()> {
        if shards.ranks() == 1 {
            return Ok(());
        }
        if !D::QUEUES {
            // As in one process, where a step's micro-batches are added up before they join the sums.
            let earlier = self.metrics()?;
            self.set_metrics(super::Metrics::default())?;
            self.earlier = earlier;
        }
        let Some(Sharding { job: Some(job), .. }) = &mut self.sharding else { return Ok(()) };
        let Job { peers, totals, .. } = job;
        let owned = |(slot, totals)| (totals, Division::whole(2, shards.ranks(), shards.rank_of(slot)));
        self.device.gather_totals(peers, &mut totals.iter_mut().enumerate().map(owned))?;
        let mut computed = shards.all_pieces(images).map(|piece| &totals[piece.slot.number]);
        self.device.sum_totals(&mut computed, &mut self.sums)
    }

    /// Gives every rank the moments of all micro-batches.
    fn gather_moments(&mut self, shards: &Shards) -> Result<()> {
        let device = self.device.clone();
        if shards.sync_batch_norm() {
            return Ok(());
        }
        let Some(Sharding { moments, job: Some(job), .. }) = &mut self.sharding else { return Ok(()) };
        let whole = |(number, layers)| {
            let layers: &mut Vec<[D::Buffer; 2]> = layers;
            let (device, owner, size) = (&*device, shards.rank_of(number), shards.ranks());
            layers.iter_mut().flatten().map(move |buffer| {
                let division = Division::whole(device.stored_len(buffer), size, owner);
                (buffer, division)
            })
        };
        device.gather(&mut job.peers, &mut moments.iter_mut().enumerate().flat_map(whole))
    }

    /// Gives every rank of a job the momentum of all parameters, as a checkpoint needs it. All ranks call it.
    ///
    /// # Errors
    /// The ranks'; the device's.
    pub fn gather_momentum(&mut self) -> Result<()> {
        let Some(Sharding { job: Some(job), .. }) = &mut self.sharding else { return Ok(()) };
        let divided = self.parameters.iter_mut().zip(&job.divisions);
        let mut momenta =
            divided.filter_map(|(parameter, division)| Some((parameter.momentum.as_mut()?, (*division)?)));
        self.device.gather(&mut job.peers, &mut momenta)
    }
}
