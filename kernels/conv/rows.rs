//! x as the kernels read it: in place or, if its channels are not whole packs, copied to rows of windows (see conv.cu).

use alexnet_ops::shape::ConvShape;

use super::{Divisor, FilterLayout};
use crate::Kernels;
use crate::Number;
use crate::array::Array;
use crate::error::Result;
use crate::launch::{Grid, Value};

/// Maximum shared memory per block of `conv_rows`, in bytes.
const SHARED: usize = 48 << 10;
/// Approximate number of words that a block of `conv_rows` writes.
const BLOCK: usize = 2048;

/// x and the window as the GEMM kernels read them.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    /// Pixels per row: W, or Q.
    pub width: usize,
    /// C, or L.
    pub channels: usize,
    /// The window's width: R, or 1.
    pub kernel: usize,
    /// Along the width.
    pub stride: usize,
    /// Along the width.
    pub padding: usize,
    /// The order of the weights.
    pub filter: FilterLayout,
    /// Whether x is copied.
    copied: bool,
}

impl View {
    /// x in place.
    pub fn plain(conv: &ConvShape, number: Number) -> Self {
        let ConvShape { width, channels, kernel, stride, padding, .. } = *conv;
        Self { width, channels, kernel, stride, padding, filter: FilterLayout::of(conv, number), copied: false }
    }
    /// The copy, if filters are padded and a row of pixels fits a block's shared memory;
    /// otherwise x in place.
    pub fn rows(conv: &ConvShape, number: Number) -> Self {
        let plain = Self::plain(conv, number);
        let fits = conv.width * conv.channels * number.size() <= SHARED && conv.output_width() > 0;
        if conv.groups != 1 || !plain.filter.is_padded() || !fits {
            return plain;
        }
        let (width, channels) = (conv.output_width(), plain.filter.row());
        Self { width, channels, kernel: 1, stride: 1, padding: 0, copied: true, ..plain }
    }
    /// Floats of the copy of x.
    pub fn copy_floats(&self, conv: &ConvShape, number: Number) -> usize {
        if self.copied { conv.batch * conv.height * self.width * self.channels * number.size() / 4 } else { 0 }
    }
}

/// `Rows` of conv.cu.
#[repr(C)]
#[derive(Clone, Copy)]
struct Rows {
    rows: i32,
    block: i32,
    pixels: i32,
    length: i32,
    pitch: i32,
    windows: i32,
    step: i32,
    before: i32,
    by_row: Divisor,
    by_pitch: Divisor,
}
// SAFETY: the same fields in the same order as in conv.cu, all of four bytes: no padding.
unsafe impl Value for Rows {}

impl Kernels {
    /// The address of x for `view`: its own, or that of its copy in `workspace`, which begins after `used` floats. The caller
    /// has checked the arrays' lengths.
    pub(super) fn conv_rows(
        &self,
        conv: &ConvShape,
        view: &View,
        x: &Array,
        workspace: &mut Array,
        used: usize,
    ) -> Result<u64> {
        if !view.copied {
            return Ok(x.address());
        }
        let size = self.storage().size();
        let copy = workspace.address() + 4 * used as u64;
        let (rows, pixels) = (conv.batch * conv.height, conv.width * conv.channels);
        let words = view.width * view.channels * size / 4;
        let block = (BLOCK / words).min(SHARED / (pixels * size)).max(1);
        let int = |n: usize| n as i32;
        let argument = Rows {
            rows: int(rows),
            block: int(block),
            pixels: int(pixels),
            length: int(conv.kernel * conv.channels),
            pitch: int(view.channels),
            windows: int(view.width),
            step: int(conv.stride * conv.channels),
            before: int(conv.padding * conv.channels),
            by_row: Divisor::new(words),
            by_pitch: Divisor::new(view.channels * size / 4),
        };
        let launch = self.launch("conv", "conv_rows")?.array(x).value(copy).value(argument);
        let grid = Grid::new([rows.div_ceil(block) as u32, 1, 1], 256).shared((block * pixels * size) as u32);
        // SAFETY: the blocks cover all rows of x; the workspace holds their copy, by `copy_floats`; the shared memory
        // holds the rows of a block.
        unsafe { launch.run(grid)? };
        Ok(copy)
    }
}
