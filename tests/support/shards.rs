//! Steps of several shards: by the network, and by their definition, out of networks that know no shards.
#![allow(dead_code)] // Each test file is a crate of its own and uses a part.

use std::sync::Arc;

use alexnet_core::device::{Device, Element};
use alexnet_core::network::{Metrics, MicroBatch, Piece, Shards, Slot};
use alexnet_core::random::{Philox, uniform_f32};
use alexnet_core::shape::Mix;
use alexnet_core::{Architecture, LayerKind, LayerSpec, Network, Sgd};
use alexnet_ranks::{Ranks, Single};

pub const SIDE: usize = 8;
pub const CLASSES: usize = 4;
pub const SGD: Sgd = Sgd { learning_rate: 0.05, momentum: 0.9, weight_decay: 5e-4, nesterov: true, decay_all: false };
const IMAGE: usize = SIDE * SIDE * 3;
const MOMENTUM: f64 = 0.1;

/// Batch norms, a shortcut, dropout and linear layers: all that depends on which images are computed together, or where they
/// are in a step.
pub fn architecture(momentum: f64) -> Architecture {
    let conv = |filters| LayerKind::Conv { filters, kernel: 3, stride: 1, padding: 1, groups: 1 };
    let norm = LayerKind::BatchNorm { epsilon: 1e-5, momentum };
    let kinds = [
        conv(8),
        norm,
        LayerKind::Relu,
        conv(8),
        norm,
        LayerKind::Add { from: 3 },
        LayerKind::Relu,
        LayerKind::MaxPool { kernel: 2, stride: 2, padding: 0 },
        LayerKind::Flatten,
        LayerKind::Dropout { rate: 0.5 },
        LayerKind::Linear { outputs: 19 },
        LayerKind::Relu,
        LayerKind::Linear { outputs: CLASSES },
    ];
    let layers = kinds.iter().enumerate().map(|(i, &kind)| LayerSpec { name: format!("layers.{i}"), kind }).collect();
    Architecture { name: "shards".into(), image_size: SIDE, channels: 3, classes: CLASSES, layers }
}

/// What training has come to: name and values of every array, and the sums.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    pub arrays: Vec<(String, Vec<f64>)>,
    pub metrics: Metrics,
}

pub fn state<D: Device>(network: &Network<D>) -> State {
    let mut arrays = Vec::new();
    for p in network.parameters() {
        for (kind, buffer) in
            [("", Some(&p.value)), (" momentum", p.momentum.as_ref()), (" average", p.average.as_ref())]
        {
            if let Some(buffer) = buffer {
                arrays.push((format!("{}{kind}", p.name), read(network.device(), buffer, p.len())));
            }
        }
    }
    State { arrays, metrics: network.metrics().unwrap() }
}

fn read<D: Device>(device: &D, buffer: &D::Buffer, len: usize) -> Vec<f64> {
    let mut values = vec![D::Element::from_f64(0.0); len];
    device.read(buffer, &mut values).unwrap();
    values.into_iter().map(Element::to_f64).collect()
}

fn write<D: Device>(device: &D, values: &[f64], to: &mut D::Buffer) {
    let values: Vec<_> = values.iter().map(|&x| D::Element::from_f64(x)).collect();
    device.write(&values, to).unwrap();
}

fn uniform(purpose: u32, step: u32, i: usize) -> f64 {
    f64::from(uniform_f32(Philox::new(23).word(purpose, step, i as u64))) * 2.0 - 1.0
}

/// A network with weights that make gradients which are more than noise.
pub fn network<D: Device>(device: Arc<D>, momentum: f64, batch: usize) -> Network<D> {
    let mut network = Network::new(device, architecture(momentum), batch, true).unwrap();
    network.initialise(Philox::new(3)).unwrap();
    let (device, parameters) = network.device_and_parameters();
    for (p, parameter) in parameters.iter_mut().enumerate().filter(|(_, p)| p.gradient.is_some() && p.shape.len() > 1) {
        let scale = (3.0 / (parameter.len() / parameter.shape[0]) as f64).sqrt();
        let values: Vec<_> =
            (0..parameter.len()).map(|i| f64::from((scale * uniform(100 + p as u32, 0, i)) as f32)).collect();
        write(device, &values, &mut parameter.value);
    }
    network
}

/// Loads a micro-batch of a step, mixed as its place says.
fn load<D: Device>(network: &mut Network<D>, step: u32, piece: &Piece) {
    let elements = piece.images.start * IMAGE..piece.images.end * IMAGE;
    let images: Vec<_> = elements.map(|i| D::Element::from_f64(uniform(8, step, i))).collect();
    let labels: Vec<u32> = piece.images.clone().map(|i| (i as u32 * 3 + step) % CLASSES as u32).collect();
    network.load(&images, &labels).unwrap();
    if step % 2 == 1 {
        network.mix(Mix::Blend { weight: 0.25 + 0.5 / (1.0 + piece.slot.number as f32) }, &labels).unwrap();
    }
}

fn micro(step: u32, piece: &Piece, step_images: usize, slot: Slot) -> MicroBatch {
    MicroBatch { first_image: piece.images.start, slot, ..MicroBatch::whole(Philox::new(11), step, step_images, 0.1) }
}

/// One micro-batch of a network without shards.
pub fn step<D: Device>(network: &mut Network<D>, number: u32, piece: &Piece, images: usize, updates: bool) {
    load(network, number, piece);
    network.step(&micro(number, piece, images, piece.slot), updates.then_some(&SGD)).unwrap();
    if updates {
        network.ema(0.9).unwrap();
    }
}

/// No other ranks.
pub fn single() -> Arc<dyn Ranks> {
    Arc::new(Single)
}

/// Shards whose batch norms look at the whole step.
pub fn synchronised(count: usize, batch: usize) -> Shards {
    Shards::new(count, batch, 1).unwrap().with_sync_batch_norm().unwrap()
}

/// Trains steps of these numbers of images in one process.
pub fn sharded<D: Device>(network: &mut Network<D>, shards: Shards, steps: &[usize]) -> State {
    sharded_among(network, shards, single(), steps)
}

/// The same on one of the ranks.
pub fn sharded_among<D: Device>(
    network: &mut Network<D>,
    shards: Shards,
    ranks: Arc<dyn Ranks>,
    steps: &[usize],
) -> State {
    let shards = network.shard(shards, ranks).unwrap();
    for (step, &images) in (0..).zip(steps) {
        sharded_step(network, shards, step, images);
    }
    network.gather_momentum().unwrap();
    state(network)
}

/// One of these steps.
pub fn sharded_step<D: Device>(network: &mut Network<D>, shards: Shards, step: u32, images: usize) {
    for piece in shards.pieces(images) {
        load(network, step, &piece);
        let updates = shards.count() == 1 && piece.images.end == images;
        network.step(&micro(step, &piece, images, piece.slot), updates.then_some(&SGD)).unwrap();
    }
    if shards.count() > 1 {
        network.update(step, images, &SGD).unwrap();
    }
    network.ema(0.9).unwrap();
}

/// The sum of the gradients of shards `from` to `to`, those without images left out: one array per parameter.
fn tree<D: Device>(shards: &[Option<Vec<Vec<f64>>>]) -> Option<Vec<Vec<f64>>> {
    if let [shard] = shards {
        return shard.clone();
    }
    let (left, right) = shards.split_at(shards.len() / 2);
    match (tree::<D>(left), tree::<D>(right)) {
        (Some(left), Some(right)) => {
            let add = |(a, b): (&f64, &f64)| (D::Element::from_f64(*a) + D::Element::from_f64(*b)).to_f64();
            Some(left.iter().zip(&right).map(|(a, b)| a.iter().zip(b).map(add).collect()).collect())
        }
        (left, right) => left.or(right),
    }
}

/// The same by the definition: each shard's gradient by itself, added here; moments of batch norms by one with a momentum of 1.
/// `approach` is e + rate·(x − e) as the device rounds it.
pub fn by_definition<D: Device>(
    device: Arc<D>,
    [count, batch, accumulate]: [usize; 3],
    steps: &[usize],
    approach: impl Fn(f64, f64, f64) -> f64,
) -> State {
    let micro_batch = batch.div_ceil(count);
    let mut part = network(device.clone(), 1.0, micro_batch);
    let mut whole = network(device.clone(), MOMENTUM, 1);
    whole.keep_average().unwrap();
    let mut total = Metrics::default();
    for (step, &images) in (0..).zip(steps) {
        for p in 0..whole.parameters().len() {
            let parameter = &whole.parameters()[p];
            let values = read(&*device, &parameter.value, parameter.len());
            write(&*device, &values, &mut part.device_and_parameters().1[p].value);
        }
        let (mut gradients, mut moments, mut sums) = (Vec::new(), Vec::new(), Metrics::default());
        for shard in 0..count {
            let (start, end) = (shard * images / count, (shard + 1) * images / count);
            for (m, first) in (start..end).step_by(micro_batch).enumerate() {
                let slot = Slot { number: shard * accumulate + m, accumulate: m > 0, ..Slot::default() };
                let piece = Piece { images: first..end.min(first + micro_batch), slot };
                part.set_metrics(Metrics::default()).unwrap();
                load(&mut part, step, &piece);
                part.step(&micro(step, &piece, images, slot), None).unwrap();
                let found = part.metrics().unwrap();
                let to = if D::QUEUES { &mut total } else { &mut sums };
                *to = Metrics { loss: to.loss + found.loss, correct: to.correct + found.correct };
                let running = part.parameters().iter().filter(|p| p.gradient.is_none());
                moments.push(running.map(|p| read(&*device, &p.value, p.len())).collect::<Vec<_>>());
            }
            let trained = part.parameters().iter().filter_map(|p| Some((p.gradient.as_ref()?, p.len())));
            gradients.push((start < end).then(|| trained.map(|(g, len)| read(&*device, g, len)).collect::<Vec<_>>()));
        }
        total = Metrics { loss: total.loss + sums.loss, correct: total.correct + sums.correct };
        let sum = tree::<D>(&gradients).unwrap();
        let (device, parameters) = whole.device_and_parameters();
        let gradients = parameters.iter_mut().filter_map(|p| p.gradient.as_mut());
        gradients.zip(&sum).for_each(|(gradient, sum)| write(device, sum, gradient));
        for of_batch in &moments {
            for (running, x) in parameters.iter_mut().filter(|p| p.gradient.is_none()).zip(of_batch) {
                let mut values = read(device, &running.value, x.len());
                let momentum = D::Element::from_f64(MOMENTUM).to_f64();
                values.iter_mut().zip(x).for_each(|(e, &x)| *e = approach(momentum, x, *e));
                write(device, &values, &mut running.value);
            }
        }
        device.begin_step(step, Some(&SGD)).unwrap();
        let mut gradients = parameters.iter().filter_map(|p| p.gradient.as_ref());
        device.begin_update(&mut std::iter::empty(), &mut gradients).unwrap();
        device.sgd(&SGD, &mut parameters.iter_mut()).unwrap();
        device.end_update().unwrap();
        whole.ema(0.9).unwrap();
    }
    whole.set_metrics(total).unwrap();
    state(&whole)
}

/// Divisions, and the images of their steps: uneven ones, an epoch's last, fewer images than shards.
pub const DIVISIONS: [([usize; 3], [usize; 4]); 5] = [
    ([2, 5, 1], [5, 5, 3, 1]),
    ([4, 8, 1], [8, 8, 5, 2]),
    ([4, 9, 2], [18, 18, 11, 3]),
    ([8, 8, 1], [8, 8, 7, 3]),
    ([2, 4, 3], [12, 12, 7, 2]),
];
