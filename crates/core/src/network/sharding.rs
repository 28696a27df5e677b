//! Steps of several [shards](super::shards): the arrays that the sums of their gradients lie on, the moments of their batch norms,
//! and the update when all of them are computed, by this process or by the ranks of a job.

use std::ops::Range;
use std::sync::Arc;

use alexnet_ranks::Ranks;

use super::Network;
use super::job::Job;
use super::joint::Joint;
use super::pass::Handled;
use super::shards::{Shards, Slot};
use super::step::StepKey;
use crate::architecture::Operation;
use crate::device::exchange::Connection;
use crate::device::{Device, Parameter};
use crate::{Error, Result, Sgd};

/// What steps of several shards need.
pub(super) struct Sharding<D: Device> {
    pub shards: Shards,
    /// Of each further array of the stack the gradients of all parameters, in their order.
    sums: Vec<Vec<Option<D::Buffer>>>,
    /// Of each [`Slot::number`] the mean and the unbiased variance of every batch norm.
    pub moments: Vec<Vec<[D::Buffer; 2]>>,
    /// What several ranks need besides.
    pub job: Option<Job<D>>,
    /// What micro-batches that are computed together need.
    pub joint: Option<Joint<D>>,
}

impl<D: Device> Sharding<D> {
    /// Micro-batches whose activations are kept at a time.
    const fn batches(&self) -> u64 {
        if self.joint.is_some() { self.shards.own() as u64 } else { 1 }
    }
}

impl<D: Device> Network<D> {
    /// From here on a step has several shards, divided among the ranks of a job: [`Network::step`] with each of [`Shards::pieces`]
    /// of what this returns, then [`Network::update`]. Allocates the arrays for their sums. With one shard nothing changes. Call it
    /// on all ranks, after [`Network::freeze`].
    ///
    /// # Errors
    /// Ranks that [`Shards::among`] refuses; a network for smaller batches than [`Shards::max_batch`], or for inference; too little
    /// memory; the device's.
    pub fn shard(&mut self, shards: Shards, ranks: Arc<dyn Ranks>) -> Result<Shards> {
        let shards = shards.among(ranks.rank(), ranks.size())?;
        self.graphs.clear();
        self.drop_sharding();
        if shards.count() == 1 {
            return Ok(shards);
        }
        self.check_batch(shards.max_batch())?;
        self.check_trains()?;
        let device = &*self.device;
        let gradient = |parameter: &Parameter<D::Buffer>| {
            parameter.gradient.is_some().then(|| device.gradients(&parameter.shape)).transpose()
        };
        let all = |_| self.parameters.iter().map(gradient).collect::<Result<_>>();
        let sums = (0..shards.arrays()).map(all).collect::<Result<_>>()?;
        let channels = self.layers.iter().filter_map(|planned| match planned.layer.operation(1) {
            Operation::BatchNorm(shape) => Some(shape.channels),
            _ => None,
        });
        let moments = |_| {
            channels
                .clone()
                .map(|channels| Ok([device.zeros(channels)?, device.zeros(channels)?]))
                .collect::<Result<_>>()
        };
        let moments = (0..shards.slots()).map(moments).collect::<Result<_>>()?;
        let job = match shards.ranks() {
            1 => None,
            _ => Some(Job::new(device, &self.parameters, &shards, ranks.clone())?),
        };
        let joint = shards.together().then(|| self.joint(&shards, ranks)).transpose()?;
        let sharding = Sharding { shards, sums, moments, job, joint };
        self.plan.gradients += self.bytes_of(&sharding);
        self.plan.activations *= sharding.batches();
        self.sharding = Some(sharding);
        Ok(shards)
    }

    /// From here on a step has one shard.
    pub(super) fn drop_sharding(&mut self) {
        if let Some(sharding) = self.sharding.take() {
            self.plan.gradients -= self.bytes_of(&sharding);
            self.plan.activations /= sharding.batches();
        }
    }

    /// The bytes of its arrays of gradients.
    fn bytes_of(&self, sharding: &Sharding<D>) -> u64 {
        let Sharding { sums, job, .. } = sharding;
        let received = job.as_ref().map_or(0, |job| job.peers().inbox_len() * self.device.storage().gradient);
        sums.len() as u64 * self.plan.momentum + received as u64
    }

    /// The division of its steps, if they have several shards.
    pub fn shards(&self) -> Option<Shards> {
        self.sharding.as_ref().map(|sharding| sharding.shards)
    }

    /// The update at the end of a step of several shards, by the sum of the gradients of all its `images`; the running statistics
    /// of batch norms follow the micro-batches in their order. On a device that does not queue a step whose loss is not finite
    /// updates no parameter that is trained. All ranks of a job call it, and have the same parameters and [`Network::metrics`]
    /// afterwards; the momentum of what a rank does not own is that of an earlier step until [`Network::gather_momentum`].
    ///
    /// # Errors
    /// A network without [`Network::shard`]; the ranks'; the device's.
    pub fn update(&mut self, step: u32, images: usize, optimizer: &Sgd) -> Result<()> {
        let Some(shards) = self.shards() else {
            let message = "a network without shards is updated by its step".into();
            return Err(Error::Device { device: self.device.name(), message });
        };
        let key = StepKey::Update { images, decay_all: optimizer.decay_all };
        let device = self.device.clone();
        device.exclusive(&mut || {
            self.device.begin_step(step, Some(optimizer))?;
            if shards.together() {
                let forward = self.forward_together(&shards, images);
                let updated = forward.and_then(|()| self.update_among_ranks(&shards, images, optimizer));
                self.end_together();
                return updated;
            }
            if shards.ranks() > 1 {
                let update = |network: &mut Self| network.update_among_ranks(&shards, images, optimizer);
                let captures = self.job().is_some_and(|job| job.peers().overlaps());
                return if captures { self.run(key, &update) } else { update(self) };
            }
            self.run(key, &|network| {
                network.follow_moments(&shards, images)?;
                if network.poll_metrics()?.is_some_and(|metrics| !metrics.loss.is_finite()) {
                    return Ok(());
                }
                network.handled.fill(Handled::Stored);
                network.update_parameters(0, optimizer)
            })
        })
    }

    /// Whether a slot is one of the network's.
    pub(super) fn check_slot(&self, slot: &Slot, updates: bool) -> Result<()> {
        let (arrays, slots) = match &self.sharding {
            Some(Sharding { sums, moments, .. }) => (sums.len(), moments.len()),
            None => (0, usize::MAX),
        };
        let message = match () {
            () if slot.array > arrays || slot.sums > slot.array || slot.number >= slots => {
                format!("{slot:?} is not one of a network with {} arrays of gradients and {slots} slots", arrays + 1)
            }
            () if updates && self.sharding.is_some() => {
                "a step of several shards is updated by `Network::update`, not with a micro-batch".into()
            }
            () => return Ok(()),
        };
        Err(Error::Device { device: self.device.name(), message })
    }

    /// Exchanges the arrays of the gradients with those of this number; 0 are the gradients themselves.
    pub(super) fn swap_gradients(&mut self, array: usize) {
        if let (Some(sharding), Some(array)) = (&mut self.sharding, array.checked_sub(1)) {
            for (parameter, sum) in self.parameters.iter_mut().zip(&mut sharding.sums[array]) {
                std::mem::swap(&mut parameter.gradient, sum);
            }
        }
    }

    /// Adds the last arrays in pairs, each to the one before it, of some of the parameters.
    pub(super) fn add_sums(&mut self, slot: &Slot, parameters: Range<usize>) -> Result<()> {
        let Some(Sharding { sums, .. }) = &mut self.sharding else { return Ok(()) };
        for array in (slot.array - slot.sums + 1..=slot.array).rev() {
            let (before, own) = sums.split_at_mut(array - 1);
            let from = own[0][parameters.clone()].iter().flatten();
            match before.last_mut() {
                Some(to) => self.device.add_floats(&mut to[parameters.clone()].iter_mut().flatten().zip(from))?,
                None => {
                    let own = self.parameters[parameters.clone()].iter_mut();
                    let gradients = own.filter_map(|parameter| parameter.gradient.as_mut());
                    self.device.add_floats(&mut gradients.zip(from))?;
                }
            }
        }
        Ok(())
    }

    /// Moves the running statistics of the batch norms that are trained towards the moments of the step's micro-batches, or of the step.
    pub(super) fn follow_moments(&mut self, shards: &Shards, images: usize) -> Result<()> {
        let Some(Sharding { moments, .. }) = &self.sharding else { return Ok(()) };
        let layers = self.layers.iter().filter_map(|planned| match planned.layer.operation(1) {
            Operation::BatchNorm(_) => Some((planned.weight, &planned.layer)),
            _ => None,
        });
        let of_shards = shards.all_pieces(images).map(|piece| (piece.slot.number, piece.images.len()));
        // Moments of the whole step stand in the first place.
        let of_step = shards.sync_batch_norm().then_some((0, images));
        let of_shards = of_shards.filter(|_| of_step.is_none());
        for (number, images) in of_step.into_iter().chain(of_shards) {
            for ((weight, layer), moments) in layers.clone().zip(&moments[number]) {
                let Operation::BatchNorm(shape) = layer.operation(images) else { continue };
                let [own, _, mean, variance] = &mut self.parameters[weight..][..4] else { continue };
                if own.gradient.is_some() {
                    let running = [&mut mean.value, &mut variance.value];
                    self.device.approach(shape.share(), &mut running.into_iter().zip(moments))?;
                }
            }
        }
        Ok(())
    }
}
