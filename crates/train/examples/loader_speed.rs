//! Measures the loader alone: images per second for an epoch of crops and flips.
//!
//! `cargo run --release --example loader_speed -- [DATA] [SIZE] [THREADS]`; by default sample, 32, all cores.

use std::time::Instant;

use alexnet_train::data::{Augment, Dataset, Loader, LoaderOptions, Options};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let data = arguments.next().unwrap_or_else(|| "sample".into());
    let image_size = arguments.next().map_or(Ok(32), |size| size.parse())?;
    let threads = arguments.next().map_or(Ok(0), |threads| threads.parse())?;
    let start = Instant::now();
    let dataset = Dataset::open(&data, &Options { image_size, memory: 0, ..Options::from_env() })?;
    println!("{} opened in {:.2} s", dataset.source, start.elapsed().as_secs_f64());
    let mut rates = Vec::new();
    for epoch in 0..5 {
        let options = LoaderOptions {
            image_size,
            threads,
            shuffle: true,
            transforms: Augment::DEFAULT.at(image_size),
            epoch,
            ..LoaderOptions::default()
        };
        let start = Instant::now();
        let mut sum = 0.0;
        for batch in Loader::new(&dataset.train, options)? {
            sum += batch?.images()[0];
        }
        std::hint::black_box(sum);
        rates.push(dataset.train.len() as f64 / start.elapsed().as_secs_f64());
    }
    rates.sort_by(f64::total_cmp);
    println!("{image_size}×{image_size}: {:.0} images/s, median of {} epochs ({rates:.0?})", rates[2], rates.len());
    Ok(())
}
