//! `alexnet bench`.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alexnet_core::architecture::{Operation, TracedLayer};
use alexnet_core::arguments::LinearBackwardWeight;
#[cfg(feature = "cuda")]
use alexnet_core::device::cuda::{self, Cuda, probe};
use alexnet_core::network::{MicroBatch, Network, Phase};
use alexnet_core::random::Philox;
use alexnet_core::shape::LinearShape;
use alexnet_core::{Architecture, Cpu, Device, Sgd};

use super::device::{self, AnyDevice};
use super::output;
use crate::data::{Preprocess, Split};
#[cfg(feature = "cuda")]
use crate::print::notice;
use crate::run::batch_source::{BatchSource, DeviceDataset};
use crate::run::config::{self, Arch, Config, DeviceKind, Precision, WeightFormat};
use crate::run::memory::{self, Use};

mod ranks;

/// Time the training step layer by layer, next to the machine's peak
///
/// The step is the one that `train` runs, with its default transformations: on a GPU a CUDA graph, fed from a data set on
/// the GPU; on the CPU without the loader's threads. The layers are timed in a step that runs eagerly, on a GPU by its own
/// events, and in the inference of a network without memory for gradients; its GB/s count the parameters, read once. The peak is
/// the rate of a large matrix product. GFLOP/s count the operations of direct convolution, so Winograd
/// convolutions may exceed the peak. Images and labels are synthetic.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Variant of AlexNet
    #[arg(long, value_enum, default_value_t = Arch::Cifar)]
    arch: Arch,
    /// Side of the images in pixels [default: the variant's]
    #[arg(long, value_name = "N")]
    resize: Option<usize>,
    /// Add a batch norm before every ReLU
    #[arg(long)]
    batch_norm: bool,
    /// Add shortcuts around the convolutions that keep the shape
    #[arg(long)]
    residual: bool,
    /// Images per batch
    #[arg(long, value_name = "N", default_value_t = 128)]
    batch_size: usize,
    /// auto, cpu, cuda or cuda:N
    ///
    /// auto takes the first GPU if there is one, else the CPU.
    #[arg(long, default_value_t = DeviceKind::Auto)]
    device: DeviceKind,
    /// Number format: fp32, or tf32, fp16 (on a GPU), bf16
    #[arg(long, value_enum, default_value_t = Precision::Fp32)]
    precision: Precision,
    /// Compute every convolution directly, for comparisons
    ///
    /// The 3x3 convolutions of stride 1 use Winograd's algorithm where it is faster, on a GPU in fp32 only.
    #[arg(long)]
    no_winograd: bool,
    /// Weights for inference: fp32, or half (on the CPU)
    ///
    /// half times the inference of a second network, with weights in half precision (fp16) and products in fp32.
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "fp32")]
    weights: WeightFormat,
    /// CPU threads; 0: all cores
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
    /// Seconds for each of step, inference and their layers
    ///
    /// At least five repetitions of each are measured.
    #[arg(long, value_name = "S", default_value_t = 3.0, value_parser = seconds)]
    seconds: f64,
    /// Print one JSON object
    ///
    /// Keys: device, arch, batch_size, peak_gflops, layers, loss_ms, update_ms, step_ms, cuda_graph, images_per_second,
    /// inference_images_per_second, weights (of the inference: fp32 or half).
    #[arg(long)]
    json: bool,
    /// Started by mpirun: time messages, exchange and step of all ranks
    ///
    /// The step of `train` in as many shards as there are ranks; --batch-size is that of all of them.
    #[arg(long, conflicts_with = "json")]
    ranks: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(s) if (0.0..=3600.0).contains(&s) => Ok(s),
        _ => Err("expected seconds from 0 to 3600".into()),
    }
}

/// Measures.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = Config {
        arch: args.arch,
        batch_norm: args.batch_norm,
        residual: args.residual,
        resize: args.resize,
        batch_size: args.batch_size,
        threads: args.threads,
        ..Config::default()
    };
    config.validate(&config::flag)?;
    if args.ranks {
        return ranks::run(&config, args.device, args.precision, args.seconds);
    }
    const CLASSES: usize = 10;
    let model = config.model();
    let architecture = model.architecture(CLASSES).unwrap_or_else(|| unreachable!("a variant of this program"));
    let (winograd, mut kind, mut half) = (!args.no_winograd, args.device, None);
    if args.weights == WeightFormat::Half {
        half = Some(device::open_for_inference(kind, config.threads, winograd, args.weights)?);
        kind = DeviceKind::Cpu;
    }
    let measured = match device::open(kind, config.threads, args.precision, winograd)? {
        AnyDevice::Cpu(device) => {
            on(device, half.and_then(AnyDevice::into_cpu), CPU_CLOCK, architecture, &config, args.seconds, 1024)
        }
        #[cfg(feature = "cuda")]
        AnyDevice::Cuda(device) => {
            if probe::is_warpcheck() {
                notice("note: the driver is warpcheck, which runs on the CPU: these times say nothing about a GPU");
            }
            on(device, None, CUDA_CLOCK, architecture, &config, args.seconds, 4096)
        }
    }?;
    output::line(&if args.json { measured.json() } else { measured.table() })?;
    Ok(ExitCode::SUCCESS)
}

/// A layer's times.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    layer: String,
    operation: String,
    forward: f64,
    /// Seconds; none where there is no backward pass.
    backward: Option<f64>,
    /// FLOPs forward and backward.
    flops: [f64; 2],
    /// Seconds in a forward pass of a network for inference; none where it has nothing to do.
    inference: Option<f64>,
    /// Bytes of the parameters there.
    parameters: usize,
}

/// Everything, in seconds.
#[derive(Clone, Debug, PartialEq)]
struct Measured {
    device: String,
    arch: String,
    batch: usize,
    /// GFLOP/s.
    peak: f64,
    rows: Vec<Row>,
    loss: f64,
    update: f64,
    step: f64,
    /// Whether the step was a CUDA graph.
    graph: bool,
    inference: f64,
    /// Of the inference.
    weights: WeightFormat,
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(0.0)
}

/// The median of [`times`].
fn repeat<E>(limit: f64, call: impl FnMut() -> Result<(), E>) -> Result<f64, E> {
    times(limit, call).map(median)
}

/// Seconds of each call: calls until the time is over, at least five times, after two calls that are not timed.
fn times<E>(limit: f64, mut call: impl FnMut() -> Result<(), E>) -> Result<Vec<f64>, E> {
    let mut times = Vec::new();
    let mut start = Instant::now();
    for i in 0.. {
        if i == 2 {
            start = Instant::now();
        }
        let begin = Instant::now();
        call()?;
        if i >= 2 {
            times.push(begin.elapsed().as_secs_f64());
        }
        if times.len() >= 5 && start.elapsed() >= Duration::from_secs_f64(limit) {
            break;
        }
    }
    Ok(times)
}

/// GFLOP/s of the fastest of many products of two matrices of n × n.
fn peak<D: Device<Element = f32>>(device: &D, n: usize, limit: f64) -> anyhow::Result<f64> {
    let product = LinearShape { batch: n, inputs: n, outputs: n };
    device.prepare(&[Operation::Linear(product)], true)?;
    let (x, dy) = (device.activations(product.input_len())?, device.activations(product.output_len())?);
    let (mut dw, mut db) = (device.zeros(product.weight_len())?, device.zeros(product.outputs)?);
    let times = times(limit, || {
        let (accumulate, dw, db) = (false, &mut dw, &mut db);
        device.linear_backward_weight(LinearBackwardWeight { shape: &product, x: &x, dy: &dy, accumulate, dw, db })?;
        // Waits for the product.
        device.read(db, &mut [0.0])
    })?;
    Ok(2.0 * product.multiply_adds() as f64 / times.into_iter().fold(f64::INFINITY, f64::min) / 1e9)
}

/// Points of time on a device, behind all that was queued, and the seconds between two.
struct Clock<D, E> {
    now: fn(&D) -> alexnet_core::Result<E>,
    seconds: fn(&D, &E, &E) -> alexnet_core::Result<f64>,
}

const CPU_CLOCK: Clock<Cpu, Instant> =
    Clock { now: |_| Ok(Instant::now()), seconds: |_, from, to| Ok(to.duration_since(*from).as_secs_f64()) };
#[cfg(feature = "cuda")]
const CUDA_CLOCK: Clock<Cuda, cuda::Event> =
    Clock { now: Cuda::event, seconds: |device, from, to| Ok(device.elapsed(from, to)?.as_secs_f64()) };

/// Steps that are queued between two that are waited for, where steps are as short as on a GPU; as in `train`.
const QUEUED: u32 = 20;

/// With a device `half`, which has weights in half precision, inference is timed there.
fn on<D: Device<Element = f32>, E>(
    device: Arc<D>,
    half: Option<Arc<D>>,
    clock: Clock<D, E>,
    architecture: Architecture,
    config: &Config,
    seconds: f64,
    product: usize,
) -> anyhow::Result<Measured> {
    let (batch, size) = (config.batch_size, architecture.image_size);
    memory::fits(&*device, &architecture, batch, Use::Training { average: false, shards: 1, together: 1, sums: 0 })?;
    let peak = peak(&*device, product, seconds.min(1.0))?;
    let (layers, arch) = (architecture.trace()?, architecture.name.clone());
    let pixels = (0..batch * architecture.image_len()).map(|i| (i % 251) as u8).collect();
    let labels = (0..batch).map(|i| (i % architecture.classes) as u32).collect();
    let (split, preprocess) = (Split::in_memory(pixels, size, labels), Preprocess::default());
    let mut network = Network::new(device.clone(), architecture.clone(), batch, true)?;
    let philox = Philox::new(0);
    network.initialise(philox)?;
    network.use_cuda_graph(true);
    let dataset = DeviceDataset::new(&network, &split, config.transforms(), &preprocess)?;
    // As in `train`, by epochs of one batch. On the host the one that is ready stands for those of the loader's threads.
    let source = |network: &Network<D>, epoch| -> anyhow::Result<_> {
        let (dataset, shards) = (dataset.as_ref(), config.shards_of_steps()?);
        let mut source = BatchSource::train(network, config, preprocess, &split, dataset, shards, (epoch, 0))?;
        source.advance()?;
        Ok(source)
    };
    let (mut epoch, ready) = (0, source(&network, 0)?);
    let mut load = |network: &mut Network<D>| -> anyhow::Result<()> {
        epoch += 1;
        if dataset.is_some() {
            source(network, epoch)?.load(network)?
        } else {
            ready.load(network)?
        }
        Ok(())
    };
    // So small a rate that nothing grows without bound.
    let sgd = Sgd { learning_rate: 1e-6, momentum: 0.9, weight_decay: 5e-4, nesterov: false, decay_all: true };

    let mut phases = Phases::default();
    repeat(seconds, || -> anyhow::Result<()> {
        load(&mut network)?;
        let mut events = vec![(None, (clock.now)(&device)?)];
        network.step_with_profiler(&MicroBatch::whole(philox, 0, batch, 0.0), Some(&sgd), &mut |phase| {
            events.push((Some(phase), (clock.now)(&device)?));
            Ok(())
        })?;
        phases.push(&events, |from, to| (clock.seconds)(&device, from, to))
    })?;
    let mut number = 0;
    let mut steps = |count| -> anyhow::Result<()> {
        for _ in 0..count {
            load(&mut network)?;
            network.step(&MicroBatch::whole(philox, number, batch, 0.0), Some(&sgd))?;
            number += 1;
        }
        network.metrics()?;
        Ok(())
    };
    // The first is eager, the second is captured.
    steps(2)?;
    let start = Instant::now();
    steps(1)?;
    let queued = if start.elapsed() < Duration::from_millis(20) { QUEUED } else { 1 };
    let step = repeat(seconds, || steps(queued))? / f64::from(queued);
    let graph = network.captured_graphs() > 0;
    // As in `predict`: a network that keeps nothing for a backward pass.
    drop(network);
    let weights = if half.is_some() { WeightFormat::Half } else { WeightFormat::Fp32 };
    let (name, device) = (device.name(), half.unwrap_or(device));
    network = Network::new(device.clone(), architecture, batch, false)?;
    network.initialise(philox)?;
    let mut inferred = Phases::default();
    repeat(seconds, || -> anyhow::Result<()> {
        load(&mut network)?;
        let mut events = vec![(None, (clock.now)(&device)?)];
        network.infer_with_profiler(&mut |phase| {
            events.push((Some(phase), (clock.now)(&device)?));
            Ok(())
        })?;
        inferred.push(&events, |from, to| (clock.seconds)(&device, from, to))
    })?;
    network.use_cuda_graph(true);
    let inference = repeat(seconds, || -> anyhow::Result<()> {
        load(&mut network)?;
        network.infer()?;
        Ok(network.read_logits(&mut [0.0])?)
    })?;
    let [loss, update] = [Phase::Loss, Phase::Update].map(|phase| phases.time(phase).unwrap_or_default());
    let rows = rows(&layers, batch, &phases, &inferred, device.storage().parameter);
    Ok(Measured { device: name, arch, batch, peak, rows, loss, update, step, graph, inference, weights })
}

/// The seconds of each phase, in each step.
#[derive(Default)]
struct Phases(Vec<(Phase, Vec<f64>)>);

impl Phases {
    /// Adds the seconds between each event and the next, which ends a phase.
    fn push<E>(
        &mut self,
        events: &[(Option<Phase>, E)],
        seconds: impl Fn(&E, &E) -> alexnet_core::Result<f64>,
    ) -> anyhow::Result<()> {
        for pair in events.windows(2) {
            let [(_, from), (Some(phase), to)] = pair else { continue };
            let seconds = seconds(from, to)?;
            match self.0.iter_mut().find(|(known, _)| known == phase) {
                Some((_, times)) => times.push(seconds),
                None => self.0.push((*phase, vec![seconds])),
            }
        }
        Ok(())
    }

    fn time(&self, phase: Phase) -> Option<f64> {
        self.0.iter().find(|(known, _)| *known == phase).map(|(_, times)| median(times.clone()))
    }
}

/// The layers' times in a step and in inference, where a parameter has so many bytes.
fn rows(layers: &[TracedLayer], batch: usize, step: &Phases, inferred: &Phases, bytes: usize) -> Vec<Row> {
    let row = |(index, layer): (usize, &TracedLayer)| {
        // A ReLU or a dropout that is computed with the layer before it has no phase.
        let forward = step.time(Phase::Forward(index))?;
        let flops = 2.0 * (layer.multiply_adds() * batch as u64) as f64;
        // Gradients of the weights and of the input; nothing needs the first layer's.
        let backward = if index == 0 { flops } else { 2.0 * flops };
        let (name, operation) = (layer.spec.name.clone(), layer.spec.kind.to_string());
        let (time, inference) = (step.time(Phase::Backward(index)), inferred.time(Phase::Forward(index)));
        let parameters = layer.parameters().iter().map(|parameter| parameter.len()).sum::<usize>() * bytes;
        let flops = [flops, backward];
        Some(Row { layer: name, operation, forward, backward: time, flops, inference, parameters })
    };
    layers.iter().enumerate().filter_map(row).collect()
}

impl Measured {
    fn rate(&self, seconds: f64) -> f64 {
        self.batch as f64 / seconds
    }

    fn table(&self) -> String {
        let milliseconds = |seconds: Option<f64>| seconds.map_or_else(|| "-".into(), |s| format!("{:.2}", s * 1e3));
        let rate = |flops: f64, seconds: f64| {
            if flops > 0.0 { format!("{:.1}", flops / seconds / 1e9) } else { "-".into() }
        };
        let mut rows = vec![
            [
                "layer",
                "operation",
                "forward ms",
                "GFLOP/s",
                "backward ms",
                "GFLOP/s",
                "inference ms",
                "GB/s",
                "of peak",
            ]
            .map(String::from)
            .to_vec(),
        ];
        for row in &self.rows {
            let total = row.forward + row.backward.unwrap_or(0.0);
            let flops = row.flops[0] + row.flops[1];
            let share =
                if flops > 0.0 { format!("{:.0} %", 100.0 * flops / total / 1e9 / self.peak) } else { "-".into() };
            rows.push(vec![
                row.layer.clone(),
                row.operation.clone(),
                milliseconds(Some(row.forward)),
                rate(row.flops[0], row.forward),
                milliseconds(row.backward),
                row.backward.map_or_else(|| "-".into(), |s| rate(row.flops[1], s)),
                milliseconds(row.inference),
                row.inference.map_or_else(|| "-".into(), |s| rate(row.parameters as f64, s)),
                share,
            ]);
        }
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..9).map(width).collect();
        let mut out =
            format!("{} at batch {} on {}; peak {:.1} GFLOP/s\n\n", self.arch, self.batch, self.device, self.peak);
        // Writing to a String does not fail.
        for row in &rows {
            let mut line = format!("{:1$}  {2:3$}", row[0], widths[0], row[1], widths[1]);
            for column in 2..9 {
                let _ = write!(line, "  {:>1$}", row[column], widths[column]);
            }
            let _ = writeln!(out, "{}", line.trim_end());
        }
        let flops: f64 = self.rows.iter().map(|row| row.flops[0] + row.flops[1]).sum();
        let graph = if self.graph { ", as a CUDA graph (the layers above: eagerly)" } else { "" };
        let weights = if self.weights == WeightFormat::Half { " with half weights" } else { "" };
        let share = 100.0 * flops / self.step / 1e9 / self.peak;
        let _ = write!(
            out,
            "\nloss {:.2} ms, update {:.2} ms\nstep {:.2} ms, {:.0} img/s, {share:.0} % of peak{graph}\ninference{weights} {:.2} ms, {:.0} img/s",
            self.loss * 1e3,
            self.update * 1e3,
            self.step * 1e3,
            self.rate(self.step),
            self.inference * 1e3,
            self.rate(self.inference),
        );
        out
    }

    fn json(&self) -> String {
        let layers: Vec<_> = self
            .rows
            .iter()
            .map(|row| {
                serde_json::json!({
                    "layer": row.layer,
                    "operation": row.operation,
                    "forward_ms": row.forward * 1e3,
                    "backward_ms": row.backward.map(|s| s * 1e3),
                    "forward_gflop": row.flops[0] / 1e9,
                    "backward_gflop": row.flops[1] / 1e9,
                    "inference_ms": row.inference.map(|s| s * 1e3),
                    "parameter_bytes": row.parameters,
                })
            })
            .collect();
        serde_json::json!({
            "device": self.device,
            "arch": self.arch,
            "batch_size": self.batch,
            "peak_gflops": self.peak,
            "layers": layers,
            "loss_ms": self.loss * 1e3,
            "update_ms": self.update * 1e3,
            "step_ms": self.step * 1e3,
            "cuda_graph": self.graph,
            "images_per_second": self.rate(self.step),
            "inference_images_per_second": self.rate(self.inference),
            "weights": if self.weights == WeightFormat::Half { "half" } else { "fp32" },
        })
        .to_string()
    }
}
