//! Launchers of `lrn.cu`.

use crate::Kernels;
use crate::array::Array;
use crate::error::{Error, Result};
use crate::launch::{Grid, Value};

const THREADS: u32 = 256;
/// As in `lrn.cu`.
const TILE: usize = 1024;
/// Bytes of shared memory that a block takes at most.
const SHARED: usize = 48 << 10;

/// Shape and constants, as in `torch.nn.LocalResponseNorm`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lrn {
    /// N·H·W.
    pub pixels: usize,
    /// C.
    pub channels: usize,
    /// Channels in the window.
    pub size: usize,
    /// α, which `size` divides.
    pub alpha: f64,
    /// β.
    pub beta: f64,
    /// k.
    pub k: f64,
}

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
    /// The structure's end, up to a multiple of 8.
    end: u32,
}
// SAFETY: the same fields in the same order; the end is written.
unsafe impl Value for Argument {}

impl Lrn {
    fn len(&self) -> usize {
        self.pixels * self.channels
    }

    fn argument(&self, operator: &'static str, reaches: usize) -> Result<(Argument, Grid)> {
        let fail = |reason: String| Error::Argument { operator, argument: "shape", reason };
        if self.size == 0 || self.channels == 0 || self.channels > 1 << 30 {
            return Err(fail(format!("is impossible: {self:?}")));
        }
        // A window never reaches beyond its pixel.
        let (before, after) = ((self.size / 2).min(self.channels - 1), ((self.size - 1) / 2).min(self.channels - 1));
        // Up to whole sectors, as `whole` of lrn.cu.
        let [whole_before, whole_after, reach] = [before, after, before + after].map(|n| n.next_multiple_of(16));
        let elements = match reaches {
            1 => TILE + whole_before + whole_after,
            _ => TILE + 2 * reach + 2 * (TILE + whole_before + whole_after),
        };
        let shared = elements * 4;
        if shared > SHARED {
            return Err(fail(format!("has a window of {} channels, too large for shared memory", self.size)));
        }
        let blocks = self.len().div_ceil(TILE);
        if blocks > i32::MAX as usize {
            return Err(fail(format!("has too many elements: {}", self.len())));
        }
        let argument = Argument {
            len: self.len() as u64,
            channels: self.channels as u32,
            before: before as u32,
            after: after as u32,
            alpha: (self.alpha / self.size as f64) as f32,
            beta: self.beta as f32,
            k: self.k as f32,
            factor: (2.0 * self.alpha * self.beta / self.size as f64) as f32,
            end: 0,
        };
        Ok((argument, Grid::new([blocks.max(1) as u32, 1, 1], THREADS).shared(shared as u32)))
    }
}

impl Kernels {
    /// y = x · (k + α/size · Σ x²)^−β.
    ///
    /// # Errors
    /// An array that does not fit; the driver's.
    pub fn lrn_forward(&self, s: &Lrn, x: &Array, y: &mut Array) -> Result<()> {
        const NAME: &str = "lrn_forward";
        x.expect(NAME, "x", self.storage(), s.len())?;
        y.expect(NAME, "y", self.storage(), s.len())?;
        let (argument, grid) = s.argument(NAME, 1)?;
        // SAFETY: a block a tile, with the shared memory its windows reach; the kernel stops at the arrays' end.
        unsafe { self.launch("lrn", NAME)?.array(x).array_mut(y).value(argument).run(grid) }
    }

    /// The gradient, see `lrn.cu`.
    ///
    /// # Errors
    /// An array that does not fit; the driver's.
    pub fn lrn_backward(&self, s: &Lrn, x: &Array, dy: &Array, dx: &mut Array) -> Result<()> {
        const NAME: &str = "lrn_backward";
        x.expect(NAME, "x", self.storage(), s.len())?;
        dy.expect(NAME, "dy", self.storage(), s.len())?;
        dx.expect(NAME, "dx", self.storage(), s.len())?;
        let (argument, grid) = s.argument(NAME, 2)?;
        // SAFETY: as in the forward pass.
        unsafe { self.launch("lrn", NAME)?.array(x).array(dy).array_mut(dx).value(argument).run(grid) }
    }
}
