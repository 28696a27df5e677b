//! The arrays of one micro-batch.

use super::plan::Plan;
use crate::Result;
use crate::device::Device;

/// What is loaded, and what the passes compute of it.
pub(super) struct BatchState<D: Device> {
    /// The input image, then the output of every layer that does not work in place.
    pub activations: Vec<D::Buffer>,
    pub argmax: Vec<D::Bytes>,
    /// The gradients of activations, see [`Plan::gradients`]; empty in a network for inference.
    pub gradients: Vec<D::Buffer>,
    pub labels: D::Labels,
    pub losses: D::Buffer,
    pub correct: D::Buffer,
    /// The second labels and λ of batches that are mixed; none until one is.
    pub second: Option<(D::Labels, D::Buffer)>,
    /// Whether what is loaded is mixed.
    pub mixed: bool,
    /// Images that are loaded.
    pub loaded: usize,
}

impl<D: Device> BatchState<D> {
    /// Allocates the arrays for up to `max_batch` images.
    ///
    /// # Errors
    /// Too little memory.
    pub fn new(device: &D, plan: &Plan, max_batch: usize) -> Result<Self> {
        let arrays = |lens: &[usize]| lens.iter().map(|len| device.activations(max_batch * len)).collect::<Result<_>>();
        Ok(Self {
            activations: arrays(&plan.activations)?,
            argmax: plan.argmax.iter().map(|len| device.bytes(max_batch * len)).collect::<Result<_>>()?,
            gradients: arrays(&plan.gradients)?,
            labels: device.labels(max_batch)?,
            losses: device.zeros(max_batch)?,
            correct: device.zeros(max_batch)?,
            second: None,
            mixed: false,
            loaded: 0,
        })
    }
}
