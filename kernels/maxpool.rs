//! Launchers of `maxpool.cu`.

use crate::Kernels;
use crate::array::{Array, Number};
use crate::error::{Error, Result};
use crate::launch::{Grid, Value, count};

const THREADS: u32 = 256;
/// Bytes of shared memory for a tile: what needs no asking, so that two or more blocks fit a multiprocessor of 96 KiB.
const SHARED: usize = 48 << 10;

/// Shape: N images of H×W pixels and C channels, NHWC; windows of R×R.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPool {
    /// N.
    pub batch: usize,
    /// H.
    pub height: usize,
    /// W.
    pub width: usize,
    /// C.
    pub channels: usize,
    /// R, from 1 to 16.
    pub kernel: usize,
    /// Pixels between windows.
    pub stride: usize,
    /// Padding on each side, at most half the window.
    pub padding: usize,
    /// P; no window may begin beyond the image.
    pub out_height: usize,
    /// Q.
    pub out_width: usize,
}

/// `MaxPool` of `maxpool.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Argument {
    work: u32,
    height: u32,
    width: u32,
    channels: u32,
    kernel: u32,
    stride: u32,
    padding: u32,
    out_height: u32,
    out_width: u32,
    tile_rows: u32,
    tile_columns: u32,
}
// SAFETY: the same eleven words in the same order, no padding.
unsafe impl Value for Argument {}

impl MaxPool {
    fn input_len(&self) -> usize {
        self.batch * self.height * self.width * self.channels
    }
    fn output_len(&self) -> usize {
        self.batch * self.out_height * self.out_width * self.channels
    }

    fn argument(&self, operator: &'static str, work: usize) -> Result<Argument> {
        let fits =
            |out: usize, side: usize| out > 0 && (out - 1) * self.stride + self.kernel <= side + 2 * self.padding;
        let possible = (1..=16).contains(&self.kernel)
            && self.stride > 0
            && self.padding * 2 <= self.kernel
            && fits(self.out_height, self.height)
            && fits(self.out_width, self.width);
        if !possible {
            let reason = format!("is impossible: {self:?}");
            return Err(Error::Argument { operator, argument: "shape", reason });
        }
        count(operator, "x", self.input_len())?;
        count(operator, "y", self.output_len())?;
        Ok(Argument {
            work: count(operator, "shape", work)?,
            height: self.height as u32,
            width: self.width as u32,
            channels: self.channels as u32,
            kernel: self.kernel as u32,
            stride: self.stride as u32,
            padding: self.padding as u32,
            out_height: self.out_height as u32,
            out_width: self.out_width as u32,
            tile_rows: 0,
            tile_columns: 0,
        })
    }

    /// Whether blocks take tiles: windows overlap, and packs of channels and the grid allow it.
    fn tiled(&self) -> bool {
        self.kernel > self.stride
            && self.channels.is_multiple_of(4)
            && self.batch <= Grid::MOST_Y
            && self.channels <= Grid::MOST_Y
    }

    /// Cuts `rows` × `columns` outputs or cells into as few equal tiles as shared memory allows, where a side of n of
    /// them reads `side(n)` positions of `bytes` bytes. Returns the tile and the grid.
    fn tiles(&self, [rows, columns]: [usize; 2], side: impl Fn(usize) -> usize, bytes: usize) -> ([u32; 2], Grid) {
        let mut cuts = 1;
        let shared = |cuts: usize| side(rows.div_ceil(cuts)) * side(columns.div_ceil(cuts)) * bytes;
        while shared(cuts) > SHARED && cuts < rows.max(columns) {
            cuts += 1;
        }
        let tile = [rows.div_ceil(cuts), columns.div_ceil(cuts)];
        let count = rows.div_ceil(tile[0]) * columns.div_ceil(tile[1]);
        let blocks = [count, self.channels.div_ceil(32), self.batch].map(|n| n as u32);
        (tile.map(|n| n as u32), Grid::new(blocks, THREADS).shared(shared(cuts) as u32))
    }
}

impl Kernels {
    /// y = the largest x of each window, `argmax` its position in the window.
    ///
    /// # Errors
    /// An array that does not fit; the driver's.
    pub fn maxpool_forward(&self, s: &MaxPool, x: &Array, y: &mut Array, argmax: &mut Array) -> Result<()> {
        const NAME: &str = "maxpool_forward";
        x.expect(NAME, "x", self.storage(), s.input_len())?;
        y.expect(NAME, "y", self.storage(), s.output_len())?;
        argmax.expect(NAME, "argmax", Number::U8, s.output_len())?;
        if s.tiled() && s.output_len() > 0 {
            let mut argument = s.argument(NAME, s.output_len())?;
            let side = |outputs: usize| (outputs - 1) * s.stride + s.kernel;
            let ([rows, columns], grid) = s.tiles([s.out_height, s.out_width], side, 128);
            (argument.tile_rows, argument.tile_columns) = (rows, columns);
            let launch = self.launch("maxpool", "maxpool_forward_tile")?.array(x).array_mut(y).array_mut(argmax);
            // SAFETY: the blocks' tiles cover the outputs, whose windows lie inside x; the shared memory holds the
            // pixels under the windows of one.
            return unsafe { launch.value(argument).run(grid) };
        }
        let (kernel, pack) = if s.channels.is_multiple_of(4) { (NAME, 4) } else { ("maxpool_forward_odd", 1) };
        let work = s.output_len() / pack;
        let launch = self.launch("maxpool", kernel)?.array(x).array_mut(y).array_mut(argmax);
        // SAFETY: a thread a pack of outputs; the windows lie inside x, checked above.
        unsafe { launch.value(s.argument(NAME, work)?).run(Grid::linear(work, THREADS)) }
    }

    /// dx = Σ of the dy whose window's largest element x was.
    ///
    /// # Errors
    /// An array that does not fit; the driver's.
    pub fn maxpool_backward(&self, s: &MaxPool, dy: &Array, argmax: &Array, dx: &mut Array) -> Result<()> {
        const NAME: &str = "maxpool_backward";
        dy.expect(NAME, "dy", self.storage(), s.output_len())?;
        argmax.expect(NAME, "argmax", Number::U8, s.output_len())?;
        dx.expect(NAME, "dx", self.storage(), s.input_len())?;
        let cells_of = |cell: usize| [s.height, s.width].map(|side| (side + s.padding).div_ceil(cell));
        if s.tiled() && s.input_len() > 0 {
            let mut argument = s.argument(NAME, s.input_len())?;
            let (kernel, cell) =
                if s.stride == 2 { ("maxpool_backward_tile", 2) } else { ("maxpool_backward_tile_1", 1) };
            let side = |cells: usize| (cells * cell + s.kernel - 2) / s.stride + 1;
            let ([rows, columns], grid) = s.tiles(cells_of(cell), side, 160);
            (argument.tile_rows, argument.tile_columns) = (rows, columns);
            let launch = self.launch("maxpool", kernel)?.array(dy).array(argmax).array_mut(dx);
            // SAFETY: the blocks' tiles cover the padded image, and pixels outside the image are skipped; the shared
            // memory holds the windows that reach into one.
            return unsafe { launch.value(argument).run(grid) };
        }
        let packed = s.channels.is_multiple_of(4) && s.stride == 2;
        let (kernel, pack, cell) = if packed { (NAME, 4, 2) } else { ("maxpool_backward_odd", 1, 1) };
        let work = s.batch * cells_of(cell).iter().product::<usize>() * (s.channels / pack);
        let launch = self.launch("maxpool", kernel)?.array(dy).array(argmax).array_mut(dx);
        // SAFETY: a thread a pack of channels of a cell; pixels outside the image and windows that are none are skipped.
        unsafe { launch.value(s.argument(NAME, work)?).run(Grid::linear(work, THREADS)) }
    }
}
