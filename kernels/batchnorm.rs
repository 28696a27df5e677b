//! Launchers of `batchnorm.cu`.

use alexnet_ops::arguments::{
    BatchNormBackward, BatchNormBackwardData, BatchNormBackwardWeight, BatchNormForward, BatchNormInference,
    BatchNormInferenceBackward, BatchNormMoments,
};
use alexnet_ops::shape::BatchNormShape;

use crate::Kernels;
use crate::Number;
use crate::array::Array;
use crate::error::{Error, Result};
use crate::launch::{Grid, Value};

const THREADS: u32 = 256;
/// Rows per tile, as in `batchnorm.cu`.
const TILE: usize = 128;
/// Maximum number of chunks of rows: with 64 channels twice the blocks that a large GPU runs at a time.
const CHUNKS: usize = 512;

/// `BatchNorm` of `batchnorm.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Argument {
    rows: u32,
    channels: u32,
    blocks: u32,
    chunk: u32,
    chunks: u32,
    epsilon: f32,
    momentum: f32,
    unbiased: f32,
}
// SAFETY: the same fields in the same order, all of four bytes: no padding.
unsafe impl Value for Argument {}

/// Rows per chunk, and number of chunks.
fn split_rows(s: &BatchNormShape) -> (usize, usize) {
    let chunk = s.rows.div_ceil(TILE).div_ceil(CHUNKS).max(1) * TILE;
    (chunk, s.rows.div_ceil(chunk))
}

/// Address of the two floats per channel in the workspace after those of the chunks.
fn after_chunks(s: &BatchNormShape, workspace: &Array) -> u64 {
    workspace.address() + (4 * 2 * s.channels * split_rows(s).1) as u64
}

/// The kernels' argument, and the grids over chunks, for combining the chunks, and over tiles.
fn argument(s: &BatchNormShape, operator: &'static str) -> Result<(Argument, [Grid; 3])> {
    let fail = |reason: String| Error::Argument { operator, argument: "shape", reason };
    let (chunk, chunks) = split_rows(s);
    let (blocks, tiles) = (s.channels.div_ceil(32), s.rows.div_ceil(TILE));
    let fits = s.rows < 1 << 31 && s.channels < 1 << 31 && blocks.saturating_mul(tiles) < 1 << 31;
    if s.rows == 0 || s.channels == 0 || !fits {
        return Err(fail(format!("is impossible: {s:?}")));
    }
    let argument = Argument {
        rows: s.rows as u32,
        channels: s.channels as u32,
        blocks: blocks as u32,
        chunk: chunk as u32,
        chunks: chunks as u32,
        epsilon: s.epsilon as f32,
        momentum: s.share() as f32,
        unbiased: s.unbiased() as f32,
    };
    Ok((argument, [chunks, 1, tiles].map(|n| Grid::new([(blocks * n) as u32, 1, 1], THREADS))))
}

impl Kernels {
    /// Floats of workspace for all directions.
    pub fn batchnorm_workspace(s: &BatchNormShape) -> usize {
        2 * s.channels * (split_rows(s).1 + 1)
    }

    /// y = w·(x − μ)/√(σ²+ε) + b, then max(y, 0) if `relu`; `statistics` (2, C) = μ and 1/√(σ²+ε); the
    /// running mean and variance move towards μ and the unbiased variance. x and y are of the storage type, the others float.
    ///
    /// # Errors
    /// An array of another type or too short; the driver's.
    pub fn batchnorm_forward(&self, a: BatchNormForward<'_, Self>, workspace: &mut Array) -> Result<()> {
        let BatchNormForward { shape: s, relu, x, w, b, running_mean, running_variance, statistics, y } =
            a.view(self)?;
        const NAME: &str = BatchNormForward::<Kernels>::NAME;
        workspace.expect(NAME, "workspace", Number::F32, Self::batchnorm_workspace(s))?;
        let (argument, [chunks, combined, tiles]) = argument(s, NAME)?;
        let launch = self.launch("batchnorm", "batchnorm_moments")?.array(x).array_mut(workspace);
        // SAFETY: one block per 32 channels and chunk; the kernel stops at the last row and channel, and the workspace
        // holds two floats per channel and chunk.
        unsafe { launch.value(argument).run(chunks)? };
        let launch = self.launch("batchnorm", "batchnorm_statistics")?.array(workspace);
        let launch = launch.array_mut(running_mean).array_mut(running_variance).array_mut(statistics);
        // SAFETY: one block per 32 channels; the arrays hold the channels, as checked above.
        unsafe { launch.value(argument).run(combined)? };
        let inverse = statistics.address() + 4 * s.channels as u64;
        let launch = self.launch("batchnorm", "batchnorm_normalise")?.array(x).array(w).array(b).array(statistics);
        let launch = launch.value(inverse).value(0u32).value(u32::from(relu)).array_mut(y);
        // SAFETY: one block per 32 channels and tile of rows; the inverse is the second half of the statistics.
        unsafe { launch.value(argument).run(tiles) }
    }

    /// `moments` (2, C) = mean and biased variance of each channel's rows.
    ///
    /// # Errors
    /// An array of another type or too short; the driver's.
    pub fn batchnorm_moments(&self, a: BatchNormMoments<'_, Self>, workspace: &mut Array) -> Result<()> {
        let BatchNormMoments { shape: s, x, moments } = a.view(self)?;
        const NAME: &str = BatchNormMoments::<Kernels>::NAME;
        workspace.expect(NAME, "workspace", Number::F32, Self::batchnorm_workspace(s))?;
        let (argument, [chunks, combined, _]) = argument(s, NAME)?;
        // Moved all the way towards the biased variance.
        let argument = Argument { momentum: 1.0, unbiased: 1.0, ..argument };
        let launch = self.launch("batchnorm", NAME)?.array(x).array_mut(workspace);
        // SAFETY: as in the forward pass.
        unsafe { launch.value(argument).run(chunks)? };
        let variance = moments.address() + 4 * s.channels as u64;
        let statistics = after_chunks(s, workspace);
        let launch = self.launch("batchnorm", "batchnorm_statistics")?.array(workspace).array_mut(moments);
        // SAFETY: one block per 32 channels; the variance is the second half of the moments, and the workspace holds the
        // statistics, which nobody reads, after the chunks.
        unsafe { launch.value(variance).value(statistics).value(argument).run(combined) }
    }

    /// dw = Σ dy·x̂ and db = Σ dy, or adds them; dx = w/√(σ²+ε) · (dy − mean(dy) − x̂·mean(dy·x̂)).
    ///
    /// # Errors
    /// An array of another type or too short; the driver's.
    pub fn batchnorm_backward(&self, a: BatchNormBackward<'_, Self>, workspace: &mut Array) -> Result<()> {
        let BatchNormBackward { shape, accumulate, x, dy, w, statistics, dw, db, dx } = a.view(self)?;
        let sums = BatchNormBackwardWeight { shape, accumulate, x, dy, statistics, dw, db };
        self.batchnorm_backward_weight(sums, workspace)?;
        self.batchnorm_dx(shape, [x, dy, w, statistics], after_chunks(shape, workspace), dx)
    }

    /// dw = Σ dy·x̂ and db = Σ dy, or adds them.
    ///
    /// # Errors
    /// An array of another type or too short; the driver's.
    pub fn batchnorm_backward_weight(&self, a: BatchNormBackwardWeight<'_, Self>, workspace: &mut Array) -> Result<()> {
        let BatchNormBackwardWeight { shape: s, accumulate, x, dy, statistics, dw, db } = a.view(self)?;
        const NAME: &str = BatchNormBackwardWeight::<Kernels>::NAME;
        workspace.expect(NAME, "workspace", Number::F32, Self::batchnorm_workspace(s))?;
        let (argument, [chunks, combined, _]) = argument(s, NAME)?;
        let launch = self.launch("batchnorm", "batchnorm_sums")?.array(x).array(dy).array(statistics);
        // SAFETY: as for the moments of the forward pass.
        unsafe { launch.array_mut(workspace).value(argument).run(chunks)? };
        let factors = after_chunks(s, workspace);
        let launch = self.launch("batchnorm", "batchnorm_gradients")?.array(workspace).array(statistics);
        let launch = launch.value(u32::from(accumulate)).array_mut(dw).array_mut(db).value(factors);
        // SAFETY: one block per 32 channels; the factors are in the workspace after the chunks' sums.
        unsafe { launch.value(argument).run(combined) }
    }

    /// dx = w/√(σ²+ε) · (dy − m − (x − μ)·s), with the `factors` (2, C) m and s.
    ///
    /// # Errors
    /// An array of another type or too short; the driver's.
    pub fn batchnorm_backward_data(&self, a: BatchNormBackwardData<'_, Self>) -> Result<()> {
        let BatchNormBackwardData { shape, x, dy, w, statistics, factors, dx } = a.view(self)?;
        self.batchnorm_dx(shape, [x, dy, w, statistics], factors.address(), dx)
    }

    /// dx of the backward pass; `factors` is the address of 2·C floats.
    fn batchnorm_dx(
        &self,
        s: &BatchNormShape,
        [x, dy, w, statistics]: [&Array; 4],
        factors: u64,
        dx: &mut Array,
    ) -> Result<()> {
        const NAME: &str = BatchNormBackward::<Kernels>::NAME;
        let (argument, [.., tiles]) = argument(s, NAME)?;
        let launch = self.launch("batchnorm", NAME)?.array(x).array(dy).array(w).array(statistics).value(factors);
        // SAFETY: one block per 32 channels and tile of rows; the callers have checked the arrays.
        unsafe { launch.array_mut(dx).value(argument).run(tiles) }
    }

    /// y = w·(x − mean)/√(variance+ε) + b, then max(y, 0) if `relu`.
    ///
    /// # Errors
    /// An array of another type or too short; the driver's.
    pub fn batchnorm_inference(&self, a: BatchNormInference<'_, Self>) -> Result<()> {
        let BatchNormInference { shape: s, relu, x, w, b, mean, variance, y } = a.view(self)?;
        const NAME: &str = BatchNormInference::<Kernels>::NAME;
        let (argument, [.., tiles]) = argument(s, NAME)?;
        let launch = self.launch("batchnorm", "batchnorm_normalise")?.array(x).array(w).array(b).array(mean);
        let launch = launch.array(variance).value(1u32).value(u32::from(relu)).array_mut(y);
        // SAFETY: one block per 32 channels and tile of rows; the kernel stops at the last row and channel.
        unsafe { launch.value(argument).run(tiles) }
    }

    /// dx = dy·w/√(variance+ε).
    ///
    /// # Errors
    /// An array of another type or too short; the driver's.
    pub fn batchnorm_inference_backward(&self, a: BatchNormInferenceBackward<'_, Self>) -> Result<()> {
        let BatchNormInferenceBackward { shape: s, dy, w, variance, dx } = a.view(self)?;
        const NAME: &str = BatchNormInferenceBackward::<Kernels>::NAME;
        let (argument, [.., tiles]) = argument(s, NAME)?;
        let launch = self.launch("batchnorm", NAME)?.array(dy).array(w).array(variance).array_mut(dx);
        // SAFETY: as in the forward pass.
        unsafe { launch.value(argument).run(tiles) }
    }
}
