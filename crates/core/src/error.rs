//! What can go wrong in a network or on a device.

/// A `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, to which operator or layer, and what was expected.
#[derive(Debug, thiserror::Error, Clone, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// A layer's window is larger than its padded input: the output would have no pixels.
    #[error(
        "layer {layer} has no output: a {window} window with padding {padding} does not fit its \
         {height}x{width} input (the image is {image}x{image}{})",
        smallest.map(|n| format!("; the smallest that works is {n}x{n}")).unwrap_or_default()
    )]
    NoOutput {
        /// Name of the layer, as in the checkpoint.
        layer: String,
        /// The window, such as `3x3`.
        window: String,
        /// Zero padding on each side.
        padding: usize,
        /// Height of the layer's input.
        height: usize,
        /// Width of the layer's input.
        width: usize,
        /// Side of the network's input image.
        image: usize,
        /// The smallest image side with which every layer has an output, if one below 1024 exists.
        smallest: Option<usize>,
    },
    /// A layer's parameters contradict each other or its input.
    #[error("layer {layer}: {reason}")]
    Layer {
        /// Name of the layer.
        layer: String,
        /// What does not fit.
        reason: String,
    },
    /// An array too short, a label that is not a class, or too little memory.
    #[error(transparent)]
    Operator(#[from] alexnet_ops::Error),
    /// The batch is empty or larger than the memory plan.
    #[error("a batch of {found} images does not fit a network planned for 1 to {planned}")]
    Batch {
        /// Images given.
        found: usize,
        /// Images the plan holds.
        planned: usize,
    },
    /// A number of shards that is no power of two, or of which some would have no image.
    #[error("{count} shards of a batch of {batch} images: the number must be a power of two, at most the batch")]
    Shards {
        /// Shards.
        count: usize,
        /// Images in a batch.
        batch: usize,
    },
    /// A step that is computed together, of several batches.
    #[error(
        "a step of {batches} batches cannot be normalised as a whole: a batch norm would need the batches that come later"
    )]
    Together {
        /// Batches whose gradients are accumulated.
        batches: usize,
    },
    /// The ranks of the job cannot go on.
    #[error(transparent)]
    Job(#[from] alexnet_ranks::Error),
    /// A number of processes among which the shards cannot be divided.
    #[error("{ranks} processes for {shards} shards: their number must be a power of two, at most that of the shards")]
    Ranks {
        /// Processes.
        ranks: usize,
        /// Shards.
        shards: usize,
    },
    /// A weight does not fit the half precision in which the device stores it.
    #[error("a weight is {value}, and fp16 ends at 65504")]
    Overflow {
        /// The weight.
        value: f32,
    },
    /// The device failed.
    #[error("{device}: {message}")]
    Device {
        /// Name of the device.
        device: String,
        /// What it said.
        message: String,
    },
}
