//! Steps whose micro-batches are computed together: all of them reach a layer that looks at the whole step before any goes on.
//!
//! A rank keeps the activations of all its micro-batches. Between two such layers it computes one after another, each as it would
//! be computed by itself; the gradients of these layers' parameters are then added as [`super::shards`] says.

use std::ops::Range;
use std::sync::Arc;

use alexnet_ranks::Ranks;

use super::batch::BatchState;
use super::plan::Plan;
use super::sharding::Sharding;
use super::shards::Shards;
use super::sync_batch_norm::SyncBatchNorm;
use super::{MicroBatch, Network};
use crate::architecture::Operation;
use crate::device::{Device, Updates};
use crate::{Error, Result, Sgd};

/// The micro-batches of a step.
pub(super) struct Joint<D: Device> {
    /// Those that are loaded, in their order.
    waiting: Vec<MicroBatch>,
    /// The arrays of the first ones, and how many these are; those of the last one are the network's.
    held: Vec<BatchState<D>>,
    moved: usize,
    pub sync: SyncBatchNorm<D>,
}

fn joined<D: Device>(sharding: &mut Option<Sharding<D>>) -> Option<&mut Joint<D>> {
    sharding.as_mut().and_then(|sharding| sharding.joint.as_mut())
}

impl<D: Device> Network<D> {
    /// Allocates what steps that are computed together need.
    pub(super) fn joint(&self, shards: &Shards, ranks: Arc<dyn Ranks>) -> Result<Joint<D>> {
        let (device, keeps) = (&*self.device, D::UPDATES == Updates::AfterPass);
        let plan = Plan::new(self.architecture.trace()?, self.architecture.image_len(), true, keeps);
        let batch = |_| BatchState::new(device, &plan, self.max_batch);
        Ok(Joint {
            waiting: Vec::with_capacity(shards.own()),
            held: (1..shards.own()).map(batch).collect::<Result<_>>()?,
            moved: 0,
            sync: SyncBatchNorm::new(device, &plan.statistics, shards, ranks)?,
        })
    }

    fn joined(&mut self) -> Option<&mut Joint<D>> {
        joined(&mut self.sharding)
    }

    /// Whether a step waits until all its micro-batches are loaded.
    pub(super) fn waits(&self) -> bool {
        self.sharding.as_ref().is_some_and(|sharding| sharding.joint.is_some())
    }

    /// Takes a micro-batch that is loaded into the step.
    pub(super) fn wait(&mut self, micro: &MicroBatch, optimizer: Option<&Sgd>) -> Result<()> {
        self.check_micro(micro, optimizer)?;
        let device = self.device.clone();
        let Some(Joint { waiting, moved, .. }) = self.joined() else { return Ok(()) };
        if waiting.len() > *moved || waiting.last().is_some_and(|last| last.slot.number >= micro.slot.number) {
            let message = format!("{:?} is not the next one of a step that is computed together", micro.slot);
            return Err(Error::Device { device: device.name(), message });
        }
        waiting.push(*micro);
        Ok(())
    }

    /// Puts the micro-batch that waits in the network's arrays aside, if there is one.
    pub(super) fn make_room(&mut self) -> Result<()> {
        let Some(Joint { waiting, held, moved, .. }) = joined(&mut self.sharding) else { return Ok(()) };
        if waiting.len() > *moved {
            let Some(held) = held.get_mut(*moved) else {
                let message = "all micro-batches of the step are loaded: `Network::update` comes next".into();
                return Err(Error::Device { device: self.device.name(), message });
            };
            std::mem::swap(&mut self.batch, held);
            *moved += 1;
        }
        Ok(())
    }

    /// Exchanges the network's arrays with those of micro-batch number `k`, unless it is there.
    fn swap_batch(&mut self, k: usize) {
        if let Some(Joint { held, moved, .. }) = joined(&mut self.sharding)
            && k < *moved
        {
            std::mem::swap(&mut self.batch, &mut held[k]);
        }
    }

    /// Does `work` for every micro-batch, which is in the network's arrays meanwhile.
    pub(super) fn for_each_batch(&mut self, work: &dyn Fn(&mut Self, &MicroBatch) -> Result<()>) -> Result<()> {
        for k in 0.. {
            let Some(micro) = self.joined().and_then(|joint| joint.waiting.get(k).copied()) else { break };
            self.swap_batch(k);
            let done = work(self, &micro);
            self.swap_batch(k);
            done?;
        }
        Ok(())
    }

    /// Whether the layer at this position is a batch norm that looks at the whole step.
    fn is_synchronised(&self, position: usize) -> bool {
        let planned = &self.layers[position];
        matches!(planned.layer.operation(1), Operation::BatchNorm(_))
            && self.parameters[planned.weight].gradient.is_some()
            && self.shards().is_some_and(|shards| shards.sync_batch_norm())
    }

    /// The forward pass of a step of `images` images, and its loss.
    pub(super) fn forward_together(&mut self, shards: &Shards, images: usize) -> Result<()> {
        let waiting = self.joined().map_or(0, |joint| joint.waiting.len());
        if waiting != shards.pieces(images).count() {
            let message = format!("{waiting} micro-batches are loaded, a step of {images} images has others");
            return Err(Error::Device { device: self.device.name(), message });
        }
        self.for_each_batch(&|network, micro| network.begin_metrics(micro))?;
        let mut from = 0;
        for position in 0..=self.layers.len() {
            let ends = position == self.layers.len();
            if !ends && !self.is_synchronised(position) {
                continue;
            }
            self.for_each_batch(&|network, micro| {
                network.forward_layers(from..position, network.batch.loaded, Some(micro), &mut |_| Ok(()))
            })?;
            if !ends {
                self.forward_synchronised(position, shards, images)?;
            }
            from = position + 1;
        }
        self.for_each_batch(&|network, micro| network.loss(micro))
    }

    /// The backward pass; leaves the sums of the gradients of this rank's micro-batches.
    pub(super) fn backward_together(&mut self, shards: &Shards, images: usize) -> Result<()> {
        let Some(lowest) = self.lowest_trained() else { return Ok(()) };
        let mut end = self.layers.len();
        for position in (lowest..self.layers.len()).rev() {
            let synchronised = self.is_synchronised(position);
            if !synchronised && position > lowest {
                continue;
            }
            let from = if synchronised { position + 1 } else { position };
            self.for_each_batch(&|network, micro| network.backward_of(from..end, micro))?;
            if synchronised {
                self.backward_synchronised(position, position == lowest, shards, images)?;
            }
            end = position;
        }
        Ok(())
    }

    /// The backward pass of a micro-batch through some layers, with the sums that it completes.
    fn backward_of(&mut self, positions: Range<usize>, micro: &MicroBatch) -> Result<()> {
        let (Some(first), Some(last)) = (self.layers.get(positions.start), self.layers[..positions.end].last()) else {
            return Ok(());
        };
        let parameters = first.weight..last.weight + last.parameters;
        if positions.is_empty() {
            return Ok(());
        }
        self.swap_gradients(micro.slot.array);
        let computed = self.backward_layers(positions, self.batch.loaded, micro);
        self.swap_gradients(micro.slot.array);
        computed?;
        self.add_sums(&micro.slot, parameters)
    }

    /// Forgets the micro-batches of the step.
    pub(super) fn end_together(&mut self) {
        if let Some(joint) = self.joined() {
            joint.waiting.clear();
            joint.moved = 0;
        }
    }
}
