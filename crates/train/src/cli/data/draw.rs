//! `alexnet data augment`.

use std::path::PathBuf;

use alexnet_core::arguments::MixPairs;
use alexnet_core::random::Philox;
use alexnet_core::reference;
use alexnet_core::shape::MixShape;

use crate::cli::augmentation::Augmentation;
use crate::cli::output;
use crate::data::augment::{MEAN, STD};
use crate::data::{Dataset, Loader, LoaderOptions, Options, TransformConfig};
use crate::picture::Picture;
use crate::run::{Config, config};

/// Columns: images.
const COLUMNS: usize = 8;
/// Rows below the images themselves: epochs.
const EPOCHS: u32 = 7;
/// Least side of an enlarged image in pixels; the factor is a whole number.
const LEAST: usize = 96;
/// Pixels between images.
const GAP: usize = 4;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// PNG to write
    ///
    /// The top row has the images, each row below what one of 7 epochs makes of them.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Overwrite FILE if it exists
    #[arg(long)]
    force: bool,
    /// Side of the images in pixels
    #[arg(long, value_name = "N", default_value_t = 32)]
    resize: usize,
    /// Seed of the augmentation
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    augmentation: Augmentation,
}

/// Draws the picture and writes it.
pub fn run(args: &Args, data: &str, options: Options) -> anyhow::Result<String> {
    let size = args.resize;
    let config = Config { resize: Some(size), seed: args.seed, ..Config::default() }.with(&args.augmentation)?;
    config.validate(&config::flag)?;
    output::check_free(&args.output, args.force)?;
    let split = Dataset::open(data, &Options { image_size: size, memory: 0, ..options })?.train.limit(COLUMNS);
    let scale = LEAST.div_ceil(size);
    let cell = size * scale + GAP;
    let mut picture = Picture::new(cell * COLUMNS - GAP, cell * (EPOCHS as usize + 1) - GAP);
    for row in 0..=EPOCHS {
        let transforms = if row == 0 { TransformConfig::NONE } else { config.transforms() };
        let epoch = row.saturating_sub(1);
        let loader = LoaderOptions {
            batch_size: COLUMNS,
            image_size: size,
            transforms,
            seed: args.seed,
            epoch,
            ..LoaderOptions::default()
        };
        for batch in Loader::new(&split, loader)? {
            let batch = batch?;
            let mut images = batch.images().to_vec();
            let mix = config.mix_config().draw(&Philox::new(args.seed), epoch, batch.index as u32, size);
            if let (Some(mix), true) = (mix, row > 0) {
                let shape = MixShape { batch: batch.count, side: size, channels: 3, mix };
                reference::mix(MixPairs { shape: &shape, x: &mut images });
            }
            for (column, image) in images.chunks_exact(size * size * 3).enumerate() {
                let pixel = |i: usize| {
                    let byte = |c: usize| ((image[i * 3 + c] * STD[c] + MEAN[c]) * 255.0).round() as u8;
                    [byte(0), byte(1), byte(2), 255]
                };
                for i in 0..size * size {
                    let (x, y) = (column * cell + i % size * scale, row as usize * cell + i / size * scale);
                    picture.square(x, y, scale, pixel(i));
                }
            }
        }
    }
    output::write(&args.output, &picture.png(), args.force)?;
    Ok(format!("wrote {}\n", args.output.display()))
}
