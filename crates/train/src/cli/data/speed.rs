//! `alexnet data speed`.

use std::time::{Duration, Instant};

use crate::cli::augmentation::Augmentation;
use crate::cli::device;
use crate::data::{DataError, Dataset, Loader, LoaderOptions, Options};
use crate::run::{Config, config, memory, summary};

/// Longest measurement.
const LONGEST: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Side of the images in pixels
    #[arg(long, value_name = "N", default_value_t = 224)]
    resize: usize,
    /// Images per batch
    #[arg(long, value_name = "N", default_value_t = 128)]
    batch_size: usize,
    /// CPU threads; 0: all cores
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
    #[command(flatten)]
    augmentation: Augmentation,
}

/// Loads the batches of an epoch, or of ten seconds if that is less.
pub fn run(args: &Args, data: &str, options: Options) -> anyhow::Result<String> {
    let size = args.resize;
    let config = Config { resize: Some(size), batch_size: args.batch_size, threads: args.threads, ..Config::default() }
        .with(&args.augmentation)?;
    config.validate(&config::flag)?;
    device::cap_threads(config.threads);
    // memory: 0, since reading and decoding the files is part of the measurement.
    let split = Dataset::open(data, &Options { image_size: size, memory: 0, ..options })?.train;
    memory::loads::<f32>(size, config.batch_size.min(split.len()))?;
    let loader = LoaderOptions {
        batch_size: config.batch_size,
        image_size: size,
        shuffle: true,
        transforms: config.transforms(),
        seed: config.seed,
        threads: config.thread_count(),
        ..LoaderOptions::default()
    };
    let memory = loader.memory::<f32>();
    let (start, mut images) = (Instant::now(), 0);
    for batch in Loader::new(&split, loader)? {
        images += batch?.count;
        if start.elapsed() > LONGEST {
            break;
        }
    }
    if images == 0 {
        return Err(
            DataError::Setting { what: "number of training images", value: "0".into(), expected: "some" }.into()
        );
    }
    let seconds = start.elapsed().as_secs_f64();
    Ok(format!(
        "{} of {} training images as {size}x{size} in {seconds:.1} s: {:.0} images/s on {}\n\
         batches in flight take {} MiB at most, whatever the size of the data set\n",
        summary::grouped(images as u64),
        summary::grouped(split.len() as u64),
        images as f64 / seconds,
        summary::count(config.thread_count(), "thread"),
        memory.div_ceil(1 << 20),
    ))
}
