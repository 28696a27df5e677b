//! `alexnet bench --ranks`: what the ranks of a job tell each other, and their step.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alexnet_core::network::{MicroBatch, Network};
use alexnet_core::random::Philox;
use alexnet_core::{Device, Sgd};
use alexnet_ranks::Ranks;

use crate::cli::device::{self, AnyDevice};
use crate::cli::hint;
use crate::cli::job::Job;
use crate::data::{Preprocess, Split};
use crate::print::say;
use crate::run::batch_source::BatchSource;
use crate::run::config::{self, Config, DeviceKind, Precision};
use crate::run::{Error, ranks, summary};

/// How long a rank may take to answer.
const TIMEOUT: Duration = Duration::from_secs(600);

/// Measures.
pub fn run(config: &Config, kind: DeviceKind, precision: Precision, seconds: f64) -> anyhow::Result<ExitCode> {
    let job = Job::start(TIMEOUT)?;
    if job.is_alone() {
        let hint = "start it as `mpirun -n 2 alexnet bench --ranks`";
        return Err(hint::usage("--ranks measures several processes, and no launcher started this one", hint));
    }
    let config = Config { shards: job.ranks.size(), ..config.clone() };
    config.validate(&config::flag)?;
    job.compare(|| Ok(format!("{}{}", Job::program(), config.to_toml()?)))?;
    match device::open_of_rank(kind, config.threads, precision, true, &*job.ranks)? {
        AnyDevice::Cpu(device) => on(device, &config, &job, seconds),
        #[cfg(feature = "cuda")]
        AnyDevice::Cuda(device) => on(device, &config, &job, seconds),
    }?;
    job.finish()?;
    Ok(ExitCode::SUCCESS)
}

/// The median seconds of a call that all ranks make at once; as often on each. The first call is not timed.
fn repeat(ranks: &dyn Ranks, seconds: f64, mut call: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    call()?;
    let start = Instant::now();
    call()?;
    let count = (seconds / start.elapsed().as_secs_f64().max(1e-6)).clamp(5.0, 10_000.0) as u64;
    let count = ranks::share(ranks, count.to_le_bytes().to_vec()).map_err(Error::from)?;
    let count = count.try_into().map_or(5, u64::from_le_bytes);
    let mut times = Vec::new();
    for _ in 0..count {
        ranks.barrier().map_err(Error::from)?;
        let start = Instant::now();
        call()?;
        times.push(start.elapsed().as_secs_f64());
    }
    Ok(super::median(times))
}

fn on<D: Device<Element = f32>>(device: Arc<D>, config: &Config, job: &Job, seconds: f64) -> anyhow::Result<()> {
    let ranks = job.ranks.clone();
    let (rank, size, batch) = (ranks.rank(), ranks.size(), config.batch_size);
    let shards = config.shards_of_steps()?.among(rank, size).map_err(Error::from)?;
    let architecture = config.model().architecture(10).unwrap_or_else(|| unreachable!("a variant of this program"));
    let pixels = (0..batch * architecture.image_len()).map(|i| (i % 251) as u8).collect();
    let labels = (0..batch).map(|i| (i % architecture.classes) as u32).collect();
    let split = Split::in_memory(pixels, architecture.image_size, labels);
    let mut network = Network::new(device.clone(), architecture, shards.max_batch(), true)?;
    network.shard(shards, ranks.clone())?;
    network.initialise(Philox::new(0))?;
    say(&format!("ranks     {}", job.line(config.thread_count())?));
    say(&format!("device    {}", device.name()));
    if let Some(engine) = network.engine().filter(|engine| *engine != ranks.name()) {
        say(&format!("exchange  {engine}"));
    }
    let parameters: usize = network.parameters().iter().map(|parameter| parameter.len()).sum();
    let name = &network.architecture().name;
    let (count, each) = (summary::grouped(parameters as u64), shards.max_batch());
    say(&format!("network   {name}, {count} parameters, {batch} images per step, {each} per rank"));

    let barrier = repeat(&*ranks, seconds / 3.0, || Ok(ranks.barrier().map_err(Error::from)?))?;
    say(&format!("barrier   {:.0} µs", barrier * 1e6));
    // A slice for each rank, as bytes.
    let slice = (parameters * size_of::<f32>()).div_ceil(size);
    let (own, mut all) = (vec![1; slice * size], vec![0; slice * size]);
    let moved = (slice * (size - 1)) as f64;
    let line = |name: &str, what: &str, time: f64| {
        let (megabytes, rate) = (moved / 1e6, moved / time / 1e9);
        say(&format!("{name:<10}{:.1} ms, {megabytes:.0} MB to and from each rank, {rate:.2} GB/s: {what}", time * 1e3))
    };
    let scatter = repeat(&*ranks, seconds / 3.0, || {
        let others = (0..size).filter(|peer| *peer != rank);
        let sends: Vec<(usize, &[u8])> = others.map(|peer| (peer, &own[peer * slice..][..slice])).collect();
        let receives = all.chunks_exact_mut(slice).enumerate().filter(|(peer, _)| *peer != rank);
        Ok(ranks.exchange(&sends, &mut receives.collect::<Vec<_>>()).map_err(Error::from)?)
    })?;
    line("scatter", "gradients to the owners of their slices", scatter);
    let gather =
        repeat(&*ranks, seconds / 3.0, || Ok(ranks.all_gather(&own[..slice], &mut all).map_err(Error::from)?))?;
    line("gather", "weights to all", gather);

    let sgd = Sgd { learning_rate: 1e-6, momentum: 0.9, weight_decay: 5e-4, nesterov: false, decay_all: true };
    // The one that is ready stands for those of the loader's threads.
    let mut ready = BatchSource::train(&network, config, Preprocess::default(), &split, None, shards, (0, 0))?;
    ready.advance()?;
    let (mut number, mut computing) = (0, Vec::new());
    let step = repeat(&*ranks, seconds, || {
        let start = Instant::now();
        // One shard per rank.
        for piece in shards.pieces(batch) {
            ready.load(&mut network)?;
            let (first_image, slot) = (piece.images.start, piece.slot);
            let whole = MicroBatch::whole(Philox::new(0), number, batch, 0.0);
            network.step(&MicroBatch { first_image, slot, ..whole }, None)?;
        }
        network.metrics()?;
        computing.push(start.elapsed().as_secs_f64());
        network.update(number, batch, &sgd)?;
        network.metrics()?;
        number += 1;
        Ok(())
    })?;
    let compute = super::median(computing);
    say(&format!(
        "step      {:.1} ms, of which {:.1} ms are computed before the exchange: {:.0} images per second",
        step * 1e3,
        compute * 1e3,
        batch as f64 / step
    ));
    Ok(())
}
