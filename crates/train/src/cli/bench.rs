//! `alexnet bench`.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alexnet_core::architecture::Operation;
use alexnet_core::device::cuda::probe;
use alexnet_core::network::{MicroBatch, Network, Part};
use alexnet_core::random::Philox;
use alexnet_core::shape::LinearShape;
use alexnet_core::{Architecture, Device, Sgd};

use super::device::{self, Opened};
use crate::run::config::{self, Arch, Config, DeviceKind, Precision};
use crate::run::memory;
use crate::run::progress::{notice, say};

/// Time a training step layer by layer, next to the machine's peak
///
/// The peak is the rate of a large matrix product. GFLOP/s count the operations of direct convolution, so Winograd
/// convolutions may exceed the peak. The step and the inference are timed without the layers' timers. Images and labels
/// are synthetic.
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
    /// Number format on a GPU
    #[arg(long, value_enum, default_value_t = Precision::Fp32)]
    precision: Precision,
    /// CPU threads; 0: all cores
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
    /// Seconds for each of layers, step and inference
    ///
    /// At least five repetitions of each are measured.
    #[arg(long, value_name = "S", default_value_t = 3.0, value_parser = seconds)]
    seconds: f64,
    /// Print one JSON object
    ///
    /// Keys: device, arch, batch_size, peak_gflops, layers, loss_ms, step_ms, update_ms, images_per_second,
    /// inference_images_per_second.
    #[arg(long)]
    json: bool,
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
    const CLASSES: usize = 10;
    let model = config.model();
    let architecture = model.architecture(CLASSES).unwrap_or_else(|| unreachable!("a variant of this program"));
    let measured = match device::open_with(args.device, config.thread_count(), args.precision)? {
        Opened::Cpu(device) => on(device, architecture, args, LinearShape { batch: 1024, inputs: 1024, outputs: 1024 }),
        Opened::Cuda(device) => {
            if probe::is_warpcheck() {
                notice("note: the driver is warpcheck, a processor: these are its times, and say nothing of a GPU");
            }
            on(device, architecture, args, LinearShape { batch: 4096, inputs: 4096, outputs: 4096 })
        }
    }?;
    say(&if args.json { measured.json() } else { measured.table() });
    Ok(ExitCode::SUCCESS)
}

/// A layer's part.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    layer: String,
    operation: String,
    forward: f64,
    /// Seconds; none where nothing is done.
    backward: Option<f64>,
    /// FLOPs forward and backward.
    flops: [f64; 2],
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
    inference: f64,
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(0.0)
}

/// The median of [`times`].
fn repeat<E>(limit: f64, call: impl FnMut() -> Result<(), E>) -> Result<f64, E> {
    times(limit, call).map(median)
}

/// Calls until the time is over, five times at least, after two calls that nobody times.
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

fn on<D: Device<Element = f32>>(
    device: Arc<D>,
    architecture: Architecture,
    args: &Args,
    product: LinearShape,
) -> anyhow::Result<Measured> {
    let batch = args.batch_size;
    memory::fits(&*device, &architecture, batch, true)?;
    // Whoever reads a number waits for everything before it.
    let one = device.zeros(1)?;
    let wait = || device.read(&one, &mut [0.0]);
    let peak = {
        device.prepare(&[Operation::Linear(product)], true)?;
        let (x, dy) = (device.activations(product.input_len())?, device.activations(product.output_len())?);
        let (mut dw, mut db) = (device.zeros(product.weight_len())?, device.zeros(product.outputs)?);
        let times = times(args.seconds.min(1.0), || {
            device.linear_backward_weight(&product, &x, &dy, false, &mut dw, &mut db)?;
            wait()
        })?;
        2.0 * product.multiply_adds() as f64 / times.into_iter().fold(f64::INFINITY, f64::min) / 1e9
    };

    let layers = architecture.trace()?;
    let arch = architecture.name.clone();
    let image = architecture.image * architecture.image * architecture.channels;
    let images: Vec<f32> = (0..batch * image).map(|i| (i % 251) as f32 / 125.0 - 1.0).collect();
    let labels: Vec<u32> = (0..batch).map(|i| (i % architecture.classes) as u32).collect();
    let mut network = Network::new(device.clone(), architecture, batch, true)?;
    let philox = Philox::new(0);
    network.initialise(philox)?;
    let micro = MicroBatch::whole(philox, 0, batch, 0.0);
    // So small a rate that nothing grows without bound.
    let rule = Sgd { learning_rate: 1e-6, momentum: 0.9, weight_decay: 5e-4, nesterov: false, decay_all: true };

    let mut parts: Vec<(Part, Vec<f64>)> = Vec::new();
    let mut failed = Ok(());
    repeat(args.seconds, || {
        let mut begin = Instant::now();
        network.train_observed(&images, &labels, &micro, |part| {
            failed = std::mem::replace(&mut failed, Ok(())).and(wait());
            let seconds = begin.elapsed().as_secs_f64();
            match parts.iter_mut().find(|(known, _)| *known == part) {
                Some((_, times)) => times.push(seconds),
                None => parts.push((part, vec![seconds])),
            }
            begin = Instant::now();
        })?;
        network.update(&rule)
    })?;
    failed?;
    let update = repeat(args.seconds.min(1.0), || network.update(&rule).and_then(|()| wait()))?;
    let step = repeat(args.seconds, || {
        network.load(&images, &labels)?;
        network.train_loaded(&micro, Some(&rule), |_| ())?;
        wait()
    })?;
    let inference = repeat(args.seconds, || network.predict(&images).and_then(|()| wait()))?;

    let time = |part: Part| parts.iter().find(|(known, _)| *known == part).map(|(_, times)| median(times.clone()));
    let rows = layers.iter().enumerate().filter_map(|(index, layer)| {
        // A ReLU that is computed with the layer before it has no part.
        let forward = time(Part::Forward(index))?;
        let flops = 2.0 * (layer.multiply_adds() * batch as u64) as f64;
        // Gradients of the weights and of the input, which nobody needs of the first layer.
        let backward = if index == 0 { flops } else { 2.0 * flops };
        Some(Row {
            layer: layer.spec.name.clone(),
            operation: layer.spec.kind.to_string(),
            forward,
            backward: time(Part::Backward(index)),
            flops: [flops, backward],
        })
    });
    let rows = rows.collect();
    let loss = time(Part::Loss).unwrap_or(0.0);
    Ok(Measured { device: device.name(), arch, batch, peak, rows, loss, update, step, inference })
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
            ["layer", "operation", "forward ms", "GFLOP/s", "backward ms", "GFLOP/s", "of peak"]
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
                share,
            ]);
        }
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..7).map(width).collect();
        let mut out =
            format!("{} at batch {} on {}; peak {:.1} GFLOP/s\n\n", self.arch, self.batch, self.device, self.peak);
        // Writing to a String does not fail.
        for row in &rows {
            let mut line = format!("{:1$}  {2:3$}", row[0], widths[0], row[1], widths[1]);
            for column in 2..7 {
                let _ = write!(line, "  {:>1$}", row[column], widths[column]);
            }
            let _ = writeln!(out, "{}", line.trim_end());
        }
        let flops: f64 = self.rows.iter().map(|row| row.flops[0] + row.flops[1]).sum();
        let share = 100.0 * flops / self.step / 1e9 / self.peak;
        let _ = write!(
            out,
            "\nloss {:.2} ms, update {:.2} ms\nstep {:.2} ms, {:.0} img/s, {share:.0} % of peak\ninference {:.2} ms, {:.0} img/s",
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
            "images_per_second": self.rate(self.step),
            "inference_images_per_second": self.rate(self.inference),
        })
        .to_string()
    }
}
