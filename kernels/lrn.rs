//! Launchers of `lrn.cu`.

use alexnet_ops::arguments::{LrnBackward, LrnForward};
use alexnet_ops::shape::LrnShape;

use crate::Kernels;
use crate::error::{Error, Result};
use crate::launch::{Grid, Value};

const THREADS: u32 = 256;
/// As in `lrn.cu`.
const TILE: usize = 1024;
/// Maximum shared memory per block, in bytes.
const SHARED: usize = 48 << 10;

/// `Lrn` of `lrn.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Argument {
    len: u64,
    channels: u32,
    before: u32,
    after: u32,
    alpha: f32,
    beta: f32,
    k: f32,
    factor: f32,
    /// Padding to a multiple of 8 bytes.
    end: u32,
}
// SAFETY: the same fields in the same order; the padding is initialised.
unsafe impl Value for Argument {}

fn argument(s: &LrnShape, operator: &'static str, reaches: usize) -> Result<(Argument, Grid)> {
    let fail = |reason: String| Error::Argument { operator, argument: "shape", reason };
    if s.size == 0 || s.channels == 0 || s.channels > 1 << 30 {
        return Err(fail(format!("is impossible: {s:?}")));
    }
    // A window stays within its pixel.
    let (before, after) = ((s.size / 2).min(s.channels - 1), ((s.size - 1) / 2).min(s.channels - 1));
    // Rounded up to whole sectors, as `whole` in lrn.cu.
    let [whole_before, whole_after, reach] = [before, after, before + after].map(|n| n.next_multiple_of(16));
    let elements = match reaches {
        1 => TILE + whole_before + whole_after,
        _ => TILE + 2 * reach + 2 * (TILE + whole_before + whole_after),
    };
    let shared = elements * 4;
    if shared > SHARED {
        return Err(fail(format!("has a window of {} channels, too large for shared memory", s.size)));
    }
    let blocks = s.len().div_ceil(TILE);
    if blocks > i32::MAX as usize {
        return Err(fail(format!("has too many elements: {}", s.len())));
    }
    let argument = Argument {
        len: s.len() as u64,
        channels: s.channels as u32,
        before: before as u32,
        after: after as u32,
        alpha: (s.alpha / s.size as f64) as f32,
        beta: s.beta as f32,
        k: s.k as f32,
        factor: (2.0 * s.alpha * s.beta / s.size as f64) as f32,
        end: 0,
    };
    Ok((argument, Grid::new([blocks.max(1) as u32, 1, 1], THREADS).shared(shared as u32)))
}

impl Kernels {
    /// y = x · (k + α/size · Σ x²)^−β.
    ///
    /// # Errors
    /// An array of another type or too short; the driver's.
    pub fn lrn_forward(&self, a: LrnForward<'_, Self>) -> Result<()> {
        let LrnForward { shape: s, x, y } = a.view(self)?;
        const NAME: &str = LrnForward::<Kernels>::NAME;
        let (argument, grid) = argument(s, NAME, 1)?;
        // SAFETY: one block per tile, whose shared memory holds the tile and its halo; the kernel stops at the arrays' end.
        unsafe { self.launch("lrn", NAME)?.array(x).array_mut(y).value(argument).run(grid) }
    }

    /// The gradient, see `lrn.cu`.
    ///
    /// # Errors
    /// An array of another type or too short; the driver's.
    pub fn lrn_backward(&self, a: LrnBackward<'_, Self>) -> Result<()> {
        let LrnBackward { shape: s, x, dy, dx } = a.view(self)?;
        const NAME: &str = LrnBackward::<Kernels>::NAME;
        let (argument, grid) = argument(s, NAME, 2)?;
        // SAFETY: as in the forward pass.
        unsafe { self.launch("lrn", NAME)?.array(x).array(dy).array_mut(dx).value(argument).run(grid) }
    }
}
