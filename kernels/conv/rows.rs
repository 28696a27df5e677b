//! x as the kernels read it: in place or, if its channels are not whole packs, copied to rows of windows (see conv.cu).

use alexnet_ops::shape::ConvShape;

use super::Divisor;
use crate::Kernels;
use crate::array::Array;
use crate::error::Result;
use crate::launch::{Grid, Value};

/// Bytes per memory sector.
const SECTOR: usize = 32;
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
    /// R·R, or R.
    pub taps: usize,
    /// Along the width.
    pub stride: usize,
    /// Along the width.
    pub padding: usize,
    /// Whether x is copied.
    rows: bool,
}

impl View {
    /// x in place.
    pub fn plain(conv: &ConvShape) -> Self {
        let ConvShape { width, channels, kernel, stride, padding, .. } = *conv;
        Self { width, channels, kernel, taps: kernel * kernel, stride, padding, rows: false }
    }
    /// Elements per filter.
    pub fn window(&self, groups: usize) -> usize {
        self.taps * (self.channels / groups.max(1))
    }
    /// Floats of the copy of x.
    pub fn copy_floats(&self, conv: &ConvShape, size: usize) -> usize {
        if self.rows { conv.batch * conv.height * self.width * self.channels * size / 4 } else { 0 }
    }
    /// Floats of the copy of the weights.
    pub fn weight_floats(&self, conv: &ConvShape, size: usize) -> usize {
        if self.rows { conv.filters * self.window(1) * size / 4 } else { 0 }
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

impl View {
    /// The copy for elements of `size` bytes, if channels are not whole packs, padding does not double the products, and a row
    /// of pixels fits a block's shared memory.
    fn rows(s: &ConvShape, size: usize) -> Option<Self> {
        let length = s.kernel * s.channels;
        let pitch = length.next_multiple_of(SECTOR / size);
        let whole = (s.channels * size).is_multiple_of(16);
        let fits = s.width * s.channels * size <= SHARED && s.output_width() > 0;
        if s.groups != 1 || whole || pitch > 2 * length || !fits {
            return None;
        }
        let (width, taps) = (s.output_width(), s.kernel);
        Some(Self { width, channels: pitch, kernel: 1, taps, stride: 1, padding: 0, rows: true })
    }
    /// For the forward pass.
    pub(super) fn forward(s: &ConvShape, size: usize) -> Self {
        Self::rows(s, size).unwrap_or_else(|| Self::plain(s))
    }
    /// For the weight gradient, which reads dy in packs too.
    pub(super) fn weight(s: &ConvShape, size: usize) -> Self {
        let whole = (s.filters * size).is_multiple_of(16);
        Self::rows(s, size).filter(|_| whole).unwrap_or_else(|| Self::plain(s))
    }
}

impl Kernels {
    /// The addresses of x and of the weights for `view`: their own, or those of copies in `workspace`, which begin after `used`
    /// floats. The caller has checked the arrays' lengths.
    pub(super) fn conv_rows(
        &self,
        conv: &ConvShape,
        view: &View,
        x: &Array,
        packed: Option<&Array>,
        workspace: &mut Array,
        used: usize,
    ) -> Result<[u64; 2]> {
        if !view.rows {
            return Ok([x.address(), packed.map_or(0, Array::address)]);
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
        let Some(packed) = packed else { return Ok([copy, 0]) };
        let weights = copy + 4 * view.copy_floats(conv, size) as u64;
        let (count, length) = (conv.filters * conv.kernel, conv.kernel * conv.channels);
        let launch = self.launch("conv", "conv_pad_weights")?.array(packed).value(weights);
        let launch = launch.integers([count, length, view.channels]);
        // SAFETY: one thread per element of the copy, which the workspace holds by `weight_floats`.
        unsafe { launch.run(Grid::linear(count * view.channels, 256))? };
        Ok([copy, weights])
    }
}
