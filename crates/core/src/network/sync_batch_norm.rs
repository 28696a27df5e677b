//! Batch norms over a whole step, whose images are divided among shards and ranks.
//!
//! Every shard computes the mean and the biased variance of its rows, and in the backward pass the sums Σ dy and Σ dy·x̂. All ranks
//! get the numbers of all shards, and merge them in f64 in the order of the shards: with δ the difference of two means,
//! μ = μ₁ + δ·n₂/n and M = M₁ + M₂ + δ²·n₁·n₂/n for the sums M of squared deviations (Chan, Golub and LeVeque). So the statistics
//! do not depend on how many ranks there are. The gradients of w and b are those of the shards, added by the tree as all others.

use std::ops::Range;
use std::sync::Arc;

use alexnet_ranks::Ranks;
use bytemuck::{cast_slice, cast_slice_mut};

use super::pass::{batchnorm_parameters, join_shortcut, two, unplanned};
use super::plan::{Auxiliary, PlannedLayer};
use super::sharding::Sharding;
use super::shards::Shards;
use super::{MicroBatch, Network};
use crate::Result;
use crate::architecture::Operation;
use crate::arguments::{
    BatchNormBackwardData, BatchNormBackwardWeight, BatchNormInference, BatchNormMoments, ReluBackward,
};
use crate::device::{Device, Element};
use crate::shape::BatchNormShape;

/// The arrays for the batch norm at hand; C is the most channels of any.
pub(super) struct SyncBatchNorm<D: Device> {
    ranks: Arc<dyn Ranks>,
    /// (2, C): the moments of a micro-batch, or the factors of the backward pass.
    pair: D::Buffer,
    /// Mean and biased variance of the step (C).
    mean: D::Buffer,
    variance: D::Buffer,
    /// (·, 2, C) on the host: two numbers per channel of each shard of this rank, and of all shards.
    own: Vec<D::Element>,
    all: Vec<D::Element>,
    /// (2, C): what those of all shards come to, and the same on its way to the device.
    total: Vec<f64>,
    host: Vec<D::Element>,
}

impl<D: Device> SyncBatchNorm<D> {
    /// Allocates them for batch norms of so many channels.
    pub fn new(device: &D, channels: &[usize], shards: &Shards, ranks: Arc<dyn Ranks>) -> Result<Self> {
        let most = channels.iter().copied().max().unwrap_or(0);
        let zeros = |pairs: usize| vec![D::Element::from_f64(0.0); 2 * most * pairs];
        Ok(Self {
            ranks,
            pair: device.zeros(2 * most)?,
            mean: device.zeros(most)?,
            variance: device.zeros(most)?,
            own: zeros(shards.own()),
            all: zeros(shards.count()),
            total: vec![0.0; 2 * most],
            host: zeros(1),
        })
    }

    /// Where the numbers of one of this rank's shards stand in `own`.
    const fn place(&self, shard: usize, shards: &Shards, channels: usize) -> Range<usize> {
        let at = shard % shards.own() * 2 * channels;
        at..at + 2 * channels
    }

    /// Gives every rank the numbers of all shards.
    fn gather(&mut self, shards: &Shards, channels: usize) -> Result<()> {
        let own = &self.own[..2 * channels * shards.own()];
        let all = &mut self.all[..2 * channels * shards.count()];
        Ok(self.ranks.all_gather(cast_slice(own), cast_slice_mut(all))?)
    }

    /// The mean and the biased variance of the step from those of its shards, of which each image has `area` rows.
    fn merge(&mut self, shards: &Shards, images: usize, channels: usize, area: usize) {
        let (means, squares) = self.total[..2 * channels].split_at_mut(channels);
        means.fill(0.0);
        squares.fill(0.0);
        let mut count = 0.0;
        for piece in shards.all_pieces(images) {
            let (mean, variance) = self.all[2 * channels * piece.slot.number..][..2 * channels].split_at(channels);
            let rows = (piece.images.len() * area) as f64;
            let share = rows / (count + rows);
            for ((to, squares), (mean, variance)) in means.iter_mut().zip(&mut *squares).zip(mean.iter().zip(variance))
            {
                let delta = mean.to_f64() - *to;
                *to += delta * share;
                *squares += variance.to_f64() * rows + delta * delta * (count * share);
            }
            count += rows;
        }
        squares.iter_mut().for_each(|squares| *squares /= count);
    }

    /// The sums of the step from those of its shards.
    fn add(&mut self, shards: &Shards, images: usize, channels: usize) {
        let total = &mut self.total[..2 * channels];
        total.fill(0.0);
        for piece in shards.all_pieces(images) {
            let sums = &self.all[2 * channels * piece.slot.number..];
            total.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum.to_f64());
        }
    }
}

/// The shape of a batch norm for `images` images, and the place of its statistics.
fn shape_of(planned: &PlannedLayer, images: usize) -> (BatchNormShape, usize) {
    match (planned.layer.operation(images), planned.auxiliary) {
        (Operation::BatchNorm(shape), Auxiliary::Statistics(place)) => (shape, place),
        _ => unplanned(),
    }
}

/// Rounds numbers to the device's and writes them, by way of `host`.
fn write<D: Device>(
    device: &D,
    host: &mut Vec<D::Element>,
    values: impl Iterator<Item = f64>,
    to: &mut D::Buffer,
) -> Result<()> {
    host.clear();
    host.extend(values.map(D::Element::from_f64));
    device.write(host, to)
}

impl<D: Device> Network<D> {
    /// The arrays for batch norms, and the moments of shard 0, of all batch norms.
    fn sync(sharding: &mut Option<Sharding<D>>) -> (&mut SyncBatchNorm<D>, &mut [[D::Buffer; 2]]) {
        match sharding {
            Some(Sharding { joint: Some(joint), moments, .. }) => (&mut joint.sync, &mut moments[0]),
            _ => unreachable!("called in a step that is computed together"),
        }
    }

    /// The forward pass of the batch norm at this position, for all micro-batches of the step.
    pub(super) fn forward_synchronised(&mut self, position: usize, shards: &Shards, images: usize) -> Result<()> {
        self.for_each_batch(&|network, micro| network.moments_of(position, micro, shards))?;
        let (whole, place) = shape_of(&self.layers[position], images);
        let channels = whole.channels;
        let (device, (sync, running)) = (&*self.device, Self::sync(&mut self.sharding));
        sync.gather(shards, channels)?;
        sync.merge(shards, images, channels, whole.rows / images);
        let SyncBatchNorm { mean, variance, total, host, .. } = sync;
        let (means, variances) = total[..2 * channels].split_at(channels);
        write(device, host, means.iter().copied(), mean)?;
        write(device, host, variances.iter().copied(), variance)?;
        let inverses = variances.iter().map(|variance| (variance + whole.epsilon).sqrt().recip());
        write(device, host, means.iter().copied().chain(inverses), &mut self.statistics[place])?;
        // For the running statistics.
        let [mean, variance] = &mut running[place];
        write(device, host, means.iter().copied(), mean)?;
        write(device, host, variances.iter().map(|variance| variance * whole.unbiased()), variance)?;
        self.for_each_batch(&|network, _| network.normalise(position))
    }

    /// Reads the moments of a micro-batch.
    fn moments_of(&mut self, position: usize, micro: &MicroBatch, shards: &Shards) -> Result<()> {
        let planned = &self.layers[position];
        let (shape, _) = shape_of(planned, self.batch.loaded);
        let (device, (sync, _)) = (&*self.device, Self::sync(&mut self.sharding));
        let x = &self.batch.activations[planned.input];
        device.batchnorm_moments(BatchNormMoments { shape: &shape, x, moments: &mut sync.pair })?;
        let at = sync.place(micro.slot.number, shards, shape.channels);
        device.read(&sync.pair, &mut sync.own[at])
    }

    /// Normalises a micro-batch by the statistics of the step.
    fn normalise(&mut self, position: usize) -> Result<()> {
        let planned = &self.layers[position];
        let (shape, _) = shape_of(planned, self.batch.loaded);
        let (device, (SyncBatchNorm { mean, variance, .. }, _)) = (&*self.device, Self::sync(&mut self.sharding));
        let [w, b, ..] = batchnorm_parameters(&mut self.parameters[planned.weight..]);
        let (inputs, outputs) = self.batch.activations.split_at_mut(planned.input + 1);
        device.batchnorm_inference(BatchNormInference {
            shape: &shape,
            relu: planned.relu,
            x: &inputs[planned.input],
            w: &w.value,
            b: &b.value,
            mean,
            variance,
            y: &mut outputs[0],
        })
    }

    /// The backward pass of the batch norm at this position, for all micro-batches of the step.
    pub(super) fn backward_synchronised(
        &mut self,
        position: usize,
        last: bool,
        shards: &Shards,
        images: usize,
    ) -> Result<()> {
        self.for_each_batch(&|network, micro| network.sums_of(position, micro, shards))?;
        if last {
            // Nobody needs dx.
            return Ok(());
        }
        let (whole, place) = shape_of(&self.layers[position], images);
        let channels = whole.channels;
        let (device, (sync, _)) = (&*self.device, Self::sync(&mut self.sharding));
        sync.gather(shards, channels)?;
        sync.add(shards, images, channels);
        let SyncBatchNorm { pair, total, host, own, .. } = sync;
        // Those of the shards are with all ranks by now.
        let statistics = &mut own[..2 * channels];
        device.read(&self.statistics[place], statistics)?;
        let rows = whole.rows as f64;
        let (sums, products) = total[..2 * channels].split_at(channels);
        let slopes = products.iter().zip(&statistics[channels..]).map(|(sum, inverse)| sum / rows * inverse.to_f64());
        write(device, host, sums.iter().map(|sum| sum / rows).chain(slopes), pair)?;
        self.for_each_batch(&|network, _| network.backward_data_of(position))
    }

    /// Leaves the gradients of a micro-batch for w and b, and reads its sums, which these are.
    fn sums_of(&mut self, position: usize, micro: &MicroBatch, shards: &Shards) -> Result<()> {
        self.swap_gradients(micro.slot.array);
        let planned = &self.layers[position];
        let (shape, place) = shape_of(planned, self.batch.loaded);
        let parameters = planned.weight..planned.weight + planned.parameters;
        let (device, (sync, _)) = (&*self.device, Self::sync(&mut self.sharding));
        let (x, y) = (&self.batch.activations[planned.input], &self.batch.activations[planned.input + 1]);
        let dy = &mut self.batch.gradients[planned.dy];
        if planned.masks {
            device.relu_backward(ReluBackward { len: shape.len(), y, dy })?;
        }
        let [w, b, ..] = batchnorm_parameters(&mut self.parameters[planned.weight..]);
        let (Some(dw), Some(db)) = (&mut w.gradient, &mut b.gradient) else { unplanned() };
        let statistics = &self.statistics[place];
        device.batchnorm_backward_weight(BatchNormBackwardWeight {
            shape: &shape,
            accumulate: false,
            x,
            dy,
            statistics,
            dw,
            db,
        })?;
        let at = sync.place(micro.slot.number, shards, shape.channels);
        let (sums, products) = sync.own[at].split_at_mut(shape.channels);
        device.read(db, sums)?;
        device.read(dw, products)?;
        self.swap_gradients(micro.slot.array);
        self.add_sums(&micro.slot, parameters)
    }

    /// dx of a micro-batch by the sums of the step.
    fn backward_data_of(&mut self, position: usize) -> Result<()> {
        let planned = &self.layers[position];
        let (shape, place) = shape_of(planned, self.batch.loaded);
        let (device, (sync, _)) = (&*self.device, Self::sync(&mut self.sharding));
        let [dy, dx] = two(&mut self.batch.gradients, [planned.dy, planned.dx]);
        device.batchnorm_backward_data(BatchNormBackwardData {
            shape: &shape,
            x: &self.batch.activations[planned.input],
            dy,
            w: &self.parameters[planned.weight].value,
            statistics: &self.statistics[place],
            factors: &sync.pair,
            dx,
        })?;
        join_shortcut(device, planned, self.batch.loaded, &mut self.batch.gradients)
    }
}
