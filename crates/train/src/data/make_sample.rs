//! Makes `crates/train/src/data/sample.bin`, the images embedded in the binary, from the whole CIFAR-10.
//!
//! `cargo run --release --example make_sample -- [DATA] [FILE]`; DATA is what `--data` takes, `cifar10` by default.

use alexnet_train::data::sample::{TEST, TRAIN, choose};
use alexnet_train::data::{Dataset, Options};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let data = arguments.next().unwrap_or_else(|| "cifar10".into());
    let file = arguments.next().unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/src/data/sample.bin").into());
    let dataset = Dataset::open(&data, &Options::from_env())?;
    let mut records = choose(&dataset.train, TRAIN / 10);
    records.extend(choose(&dataset.test, TEST / 10));
    std::fs::write(&file, &records)?;
    println!("{} bytes in {file}", records.len());
    Ok(())
}
