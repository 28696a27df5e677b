//! Launchers of `flatten.cu`.

use alexnet_ops::arguments::{FlattenBackward, FlattenForward};
use alexnet_ops::shape::FlattenShape;

use crate::Kernels;
use crate::array::Array;
use crate::error::{Error, Result};
use crate::launch::{Grid, Value, count};

const THREADS: u32 = 256;
/// As in `flatten.cu`.
const CHANNELS: usize = 32;
/// Maximum elements of a block's tile: 32 KiB of floats.
const TILE: usize = 8 << 10;

/// `Flatten` of `flatten.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Argument {
    total: u32,
    channels: u32,
    pixels: u32,
    parts: u32,
    groups: u32,
}
// SAFETY: the same five words in the same order, without padding.
unsafe impl Value for Argument {}

impl Kernels {
    /// y (N, C·H·W) from x (N, H, W, C).
    ///
    /// # Errors
    /// An array of another type or too short; the driver's.
    pub fn flatten_forward(&self, a: FlattenForward<'_, Self>) -> Result<()> {
        let FlattenForward { shape, x, y } = a.view(self)?;
        self.flatten(FlattenForward::<Self>::NAME, shape, x, y)
    }
    /// dx (N, H, W, C) from dy (N, C·H·W).
    ///
    /// # Errors
    /// An array of another type or too short; the driver's.
    pub fn flatten_backward(&self, a: FlattenBackward<'_, Self>) -> Result<()> {
        let FlattenBackward { shape, dy, dx } = a.view(self)?;
        self.flatten(FlattenBackward::<Self>::NAME, shape, dy, dx)
    }

    fn flatten(&self, name: &'static str, s: &FlattenShape, from: &Array, to: &mut Array) -> Result<()> {
        let (len, total) = (s.len(), s.height * s.width);
        if len == 0 {
            return Ok(());
        }
        count(name, "x", len)?;
        let pixels = total.min(TILE / CHANNELS);
        let (parts, groups) = (total.div_ceil(pixels), s.channels.div_ceil(CHANNELS));
        let blocks = s.batch * parts * groups;
        if blocks > i32::MAX as usize {
            let reason = format!("takes {blocks} blocks, more than a grid has");
            return Err(Error::Argument { operator: name, argument: "shape", reason });
        }
        let argument = Argument {
            total: total as u32,
            channels: s.channels as u32,
            pixels: pixels as u32,
            parts: parts as u32,
            groups: groups as u32,
        };
        let grid = Grid::new([blocks as u32, 1, 1], THREADS);
        let grid = grid.shared((CHANNELS * pixels * self.storage().size()) as u32);
        // SAFETY: one block per tile, clipped to the image's pixels and channels; the shared memory holds a whole tile.
        unsafe { self.launch("flatten", name)?.array(from).array_mut(to).value(argument).run(grid) }
    }
}
