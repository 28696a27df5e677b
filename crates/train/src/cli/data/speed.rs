//! `alexnet data speed`.

use std::time::{Duration, Instant};

use crate::cli::augmentation::Augmentation;
use crate::cli::device;
use crate::data::{DataError, Dataset, Loader, LoaderOptions, Options, PixelValue};
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
    /// Make batches of bytes, as training on a GPU does
    ///
    /// The GPU transforms and normalises them. Copying them to where it reads them is timed too.
    #[arg(long)]
    bytes: bool,
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
    let batch_size = config.batch_size.min(split.len());
    let loader = LoaderOptions {
        batch_size: config.batch_size,
        image_size: size,
        shuffle: true,
        transforms: config.transforms(),
        seed: config.seed,
        threads: config.thread_count(),
        ..LoaderOptions::default()
    };
    let (memory, images, seconds, copy) = if args.bytes {
        memory::loads::<u8>(size, batch_size)?;
        // Not zeros, whose pages would come with the first copy.
        let mut copy = HostCopy { to: vec![1; batch_size * size * size * 3], ..HostCopy::default() };
        let memory = loader.memory::<u8>();
        let (images, seconds) = load(Loader::bytes(&split, loader)?, &mut |images| copy.copy(images))?;
        (memory, images, seconds, copy.line(images))
    } else {
        memory::loads::<f32>(size, batch_size)?;
        let memory = loader.memory::<f32>();
        let (images, seconds) = load(Loader::new(&split, loader)?, &mut |_| ())?;
        (memory, images, seconds, String::new())
    };
    if images == 0 {
        return Err(
            DataError::Setting { what: "number of training images", value: "0".into(), expected: "some" }.into()
        );
    }
    Ok(format!(
        "{} of {} training images as {size}x{size} in {seconds:.1} s: {:.0} images/s on {}\n\
         {copy}batches in flight take {} MiB at most, whatever the size of the data set\n",
        summary::grouped(images as u64),
        summary::grouped(split.len() as u64),
        images as f64 / seconds,
        summary::count(config.thread_count(), "thread"),
        memory.div_ceil(1 << 20),
    ))
}

/// Loads an epoch, or ten seconds of it. Returns how many images it had, and the seconds.
fn load<T: PixelValue>(loader: Loader<T>, seen: &mut dyn FnMut(&[T])) -> anyhow::Result<(usize, f64)> {
    let (start, mut images) = (Instant::now(), 0);
    for batch in loader {
        let batch = batch?;
        images += batch.count;
        seen(batch.images());
        if start.elapsed() > LONGEST {
            break;
        }
    }
    Ok((images, start.elapsed().as_secs_f64()))
}

/// The copy of batches to where a GPU reads them, by the thread that trains.
#[derive(Default)]
struct HostCopy {
    to: Vec<u8>,
    bytes: usize,
    spent: Duration,
}

impl HostCopy {
    fn copy(&mut self, images: &[u8]) {
        let start = Instant::now();
        self.to[..images.len()].copy_from_slice(std::hint::black_box(images));
        std::hint::black_box(&self.to);
        self.spent += start.elapsed();
        self.bytes += images.len();
    }

    fn line(&self, images: usize) -> String {
        let seconds = self.spent.as_secs_f64().max(1e-9);
        let (rate, images) = (self.bytes as f64 / seconds / 1e9, images as f64 / seconds);
        format!("one thread copies them at {rate:.1} GB/s: {images:.0} images/s\n")
    }
}
