//! Training AlexNet, and the command line of the binary `alexnet`.
//!
//! - [`data`]: CIFAR-10, folders of pictures and the embedded sample; augmentation; the loader.
//! - [`run`]: settings, the training loop, checkpoints, evaluation, and [`run::classifier::Classifier`] for inference.
//! - [`import`] and [`export`]: weights of other programs; ONNX, TorchScript, PyTorch and safetensors files.
//! - [`serve`] and [`report`]: the web page that classifies pictures, and the page about runs.
//! - [`file_kind`]: what kind of file some bytes are, for messages.
//! - [`cli`]: one file per subcommand.
//!
//! The layers and the devices are those of [`alexnet_core`]. `examples/classify_picture.rs` in the source tree loads a
//! checkpoint and classifies pictures with it. A batch of augmented training images, normalised and in NHWC order:
//!
//! ```
//! use alexnet_train::data::{Augment, Dataset, Loader, LoaderOptions, Options};
//!
//! let dataset = Dataset::open("sample", &Options::default())?;
//! assert_eq!((dataset.train.len(), dataset.test.len(), dataset.classes.len()), (1000, 250, 10));
//! let transforms = Augment::DEFAULT.at(32);
//! let options = LoaderOptions { batch_size: 64, shuffle: true, seed: 1, transforms, ..LoaderOptions::default() };
//! let batch = Loader::new(&dataset.train, options)?.next().expect("a batch")?;
//! assert_eq!((batch.count, batch.images().len()), (64, 64 * 32 * 32 * 3));
//! # Ok::<(), alexnet_train::data::DataError>(())
//! ```

mod atomic_file;
pub mod cli;
pub mod data;
pub mod export;
mod file_error;
pub mod file_kind;
mod hex;
pub mod import;
pub mod picture;
pub mod print;
pub mod protobuf;
mod regular_file;
pub mod report;
pub mod run;
pub mod serve;
mod signals;

pub use file_error::FileError;
