//! Launchers of `maxpool.cu`.

use alexnet_ops::arguments::{MaxPoolBackward, MaxPoolForward};
use alexnet_ops::shape::MaxPoolShape;

use crate::Kernels;
use crate::error::{Error, Result};
use crate::launch::{Grid, Value, count};

const THREADS: u32 = 256;
/// Bytes of shared memory per tile: available without opting in, and two or more blocks fit a multiprocessor with 96 KiB.
const SHARED: usize = 48 << 10;

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
// SAFETY: the same eleven words in the same order, without padding.
unsafe impl Value for Argument {}

fn argument(s: &MaxPoolShape, operator: &'static str, work: usize) -> Result<Argument> {
    let fits = |out: usize, side: usize| out > 0 && (out - 1) * s.stride + s.kernel <= side + 2 * s.padding;
    let possible = (1..=16).contains(&s.kernel)
        && s.stride > 0
        && s.padding * 2 <= s.kernel
        && fits(s.output_height(), s.height)
        && fits(s.output_width(), s.width);
    if !possible {
        let reason = format!("is impossible: {s:?}");
        return Err(Error::Argument { operator, argument: "shape", reason });
    }
    count(operator, "x", s.input_len())?;
    count(operator, "y", s.output_len())?;
    Ok(Argument {
        work: count(operator, "shape", work)?,
        height: s.height as u32,
        width: s.width as u32,
        channels: s.channels as u32,
        kernel: s.kernel as u32,
        stride: s.stride as u32,
        padding: s.padding as u32,
        out_height: s.output_height() as u32,
        out_width: s.output_width() as u32,
        tile_rows: 0,
        tile_columns: 0,
    })
}

/// Whether blocks process tiles: windows overlap, channels are whole packs, and the grid's limits allow it.
fn tiled(s: &MaxPoolShape) -> bool {
    s.kernel > s.stride && s.channels.is_multiple_of(4) && s.batch <= Grid::MAX_Y && s.channels <= Grid::MAX_Y
}

/// Splits `rows` × `columns` outputs or cells into as few equal tiles as shared memory allows, where a side of n of them reads
/// `side(n)` positions of `bytes` bytes. Returns the tile and the grid.
fn tiles(
    s: &MaxPoolShape,
    [rows, columns]: [usize; 2],
    side: impl Fn(usize) -> usize,
    bytes: usize,
) -> ([u32; 2], Grid) {
    let mut cuts = 1;
    let shared = |cuts: usize| side(rows.div_ceil(cuts)) * side(columns.div_ceil(cuts)) * bytes;
    while shared(cuts) > SHARED && cuts < rows.max(columns) {
        cuts += 1;
    }
    let tile = [rows.div_ceil(cuts), columns.div_ceil(cuts)];
    let count = rows.div_ceil(tile[0]) * columns.div_ceil(tile[1]);
    let blocks = [count, s.channels.div_ceil(32), s.batch].map(|n| n as u32);
    (tile.map(|n| n as u32), Grid::new(blocks, THREADS).shared(shared(cuts) as u32))
}

impl Kernels {
    /// y = maximum of x in each window, `argmax` its position in the window.
    ///
    /// # Errors
    /// An array of another type or too short; the driver's.
    pub fn maxpool_forward(&self, a: MaxPoolForward<'_, Self>) -> Result<()> {
        let MaxPoolForward { shape: s, x, y, argmax } = a.view(self)?;
        const NAME: &str = MaxPoolForward::<Kernels>::NAME;
        if tiled(s) && s.output_len() > 0 {
            let mut argument = argument(s, NAME, s.output_len())?;
            let side = |outputs: usize| (outputs - 1) * s.stride + s.kernel;
            let ([rows, columns], grid) = tiles(s, [s.output_height(), s.output_width()], side, 128);
            (argument.tile_rows, argument.tile_columns) = (rows, columns);
            let launch = self.launch("maxpool", "maxpool_forward_tile")?.array(x).array_mut(y).array_mut(argmax);
            // SAFETY: the blocks' tiles cover the outputs, whose windows are inside x; the shared memory holds the pixels
            // under a tile's windows.
            return unsafe { launch.value(argument).run(grid) };
        }
        let (kernel, pack) = if s.channels.is_multiple_of(4) { (NAME, 4) } else { ("maxpool_forward_odd", 1) };
        let work = s.output_len() / pack;
        let launch = self.launch("maxpool", kernel)?.array(x).array_mut(y).array_mut(argmax);
        // SAFETY: one thread per pack of outputs; the windows are inside x, as checked above.
        unsafe { launch.value(argument(s, NAME, work)?).run(Grid::linear(work, THREADS)) }
    }

    /// dx = Σ of dy over the windows whose maximum is x; dy counts as 0 where `mask` is ≤ 0.
    ///
    /// # Errors
    /// An array of another type or too short; the driver's.
    pub fn maxpool_backward(&self, a: MaxPoolBackward<'_, Self>) -> Result<()> {
        let MaxPoolBackward { shape: s, dy, argmax, mask, dx } = a.view(self)?;
        const NAME: &str = MaxPoolBackward::<Kernels>::NAME;
        let cells_of = |cell: usize| [s.height, s.width].map(|side| (side + s.padding).div_ceil(cell));
        if tiled(s) && s.input_len() > 0 {
            let mut argument = argument(s, NAME, s.input_len())?;
            let (kernel, cell) =
                if s.stride == 2 { ("maxpool_backward_tile", 2) } else { ("maxpool_backward_tile_1", 1) };
            let side = |cells: usize| (cells * cell + s.kernel - 2) / s.stride + 1;
            let ([rows, columns], grid) = tiles(s, cells_of(cell), side, 160);
            (argument.tile_rows, argument.tile_columns) = (rows, columns);
            let launch = self.launch("maxpool", kernel)?.array(dy).array(argmax).optional(mask).array_mut(dx);
            // SAFETY: the blocks' tiles cover the padded image, and pixels outside the image are skipped; the shared
            // memory holds the windows that overlap a tile.
            return unsafe { launch.value(argument).run(grid) };
        }
        let packed = s.channels.is_multiple_of(4) && s.stride == 2;
        let (kernel, pack, cell) = if packed { (NAME, 4, 2) } else { ("maxpool_backward_odd", 1, 1) };
        let work = s.batch * cells_of(cell).iter().product::<usize>() * (s.channels / pack);
        let launch = self.launch("maxpool", kernel)?.array(dy).array(argmax).optional(mask).array_mut(dx);
        // SAFETY: one thread per pack of channels of a cell; pixels and windows outside the image are skipped.
        unsafe { launch.value(argument(s, NAME, work)?).run(Grid::linear(work, THREADS)) }
    }
}
