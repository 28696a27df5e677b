//! The definition of every operator: naive loops over f32 or f64, to be read, and to compare with.
//!
//! Nothing here is fast. Arrays have the layouts of [`Device`](crate::Device): activations NHWC, parameters as in PyTorch.
//! Slices must have the lengths of the shapes.

mod batch;
mod conv;
mod linear;
mod loss;
mod norm;
mod optimizer;
mod pointwise;
mod pool;

pub use crate::device::reference::Reference;
pub use batch::{SampledTransform, augment, jitter_factors, mix, sample, transform};
pub use conv::{conv_backward_data, conv_backward_weight, conv_forward};
pub use linear::{linear_backward_data, linear_backward_weight, linear_forward};
pub use loss::softmax_cross_entropy;
pub use norm::{
    batchnorm_backward, batchnorm_forward, batchnorm_inference, batchnorm_inference_backward, lrn_backward, lrn_forward,
};
pub use optimizer::{ema, sgd};
pub use pointwise::{add, dropout, flatten_backward, flatten_forward, relu_backward, relu_forward};
pub use pool::{avgpool_backward, avgpool_forward, maxpool_backward, maxpool_forward};
