//! Launcher of `softmax_cross_entropy.cu`.

use alexnet_ops::arguments::SoftmaxCrossEntropy;

use crate::Kernels;
use crate::Number;
use crate::array::Array;
use crate::error::{Error, Result};
use crate::launch::{Grid, Value, count};

const THREADS: u32 = 256;
/// Maximum shared memory per block, in floats.
const CACHED: usize = 8 << 10;

/// `Loss` of `softmax_cross_entropy.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Argument {
    batch: u32,
    classes: u32,
    rows: u32,
    own: f32,
    other: f32,
    divisor: f32,
}
// SAFETY: the same six words in the same order, without padding.
unsafe impl Value for Argument {}

impl Kernels {
    /// Losses, correct predictions and, with `dlogits`, the gradient times the first element of `loss_scale`.
    ///
    /// Labels must be below K; others count as no class. With `second` labels and λ, the first element of an array, the target
    /// is λ times that of the labels plus 1 − λ times that of the second ones.
    ///
    /// # Errors
    /// An array of another type or too short; the driver's.
    pub fn softmax_cross_entropy(&self, a: SoftmaxCrossEntropy<'_, Self>, loss_scale: &Array) -> Result<()> {
        let SoftmaxCrossEntropy { shape: s, logits, labels, second, class_weights, losses, correct, dlogits } =
            a.view(self)?;
        const NAME: &str = SoftmaxCrossEntropy::<Kernels>::NAME;
        let len = s.batch * s.classes;
        loss_scale.expect(NAME, "loss_scale", Number::F32, 1)?;
        if s.batch == 0 || s.classes == 0 {
            return Err(Error::Argument { operator: NAME, argument: "shape", reason: format!("is empty: {s:?}") });
        }
        count(NAME, "logits", len)?;
        // A number of rows that keeps each block's rows aligned to 32 bytes, if as many fit.
        let rows = match CACHED / s.classes {
            fit @ 0..16 => fit,
            16..32 => 16,
            _ => 32,
        };
        let argument = Argument {
            batch: s.batch as u32,
            classes: s.classes as u32,
            rows: rows as u32,
            own: (1.0 - s.smoothing) as f32,
            other: (s.smoothing / s.classes as f64) as f32,
            divisor: s.divisor as f32,
        };
        let blocks = s.batch.div_ceil(rows.max(1));
        let grid = Grid::new([blocks as u32, 1, 1], THREADS).shared((rows * s.classes * 4) as u32);
        let launch = self.launch("softmax_cross_entropy", NAME)?.array(logits).array(labels);
        let launch = launch.optional(second.map(|(labels, _)| labels)).optional(second.map(|(_, weight)| weight));
        let launch = launch.optional(class_weights).array_mut(losses);
        let launch = launch.array_mut(correct).optional_mut(dlogits).array(loss_scale).value(argument);
        // SAFETY: the blocks cover all rows, clipped to the batch; the shared memory holds a block's rows.
        unsafe { launch.run(grid) }
    }
}
