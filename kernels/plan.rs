//! How a product is split into blocks: the tile, and the number of chunks of the sum. `gemm` and `conv` share it.

use alexnet_ops::Number;

use crate::error::{Error, Result};
use crate::gemm::Tile;
use crate::launch::Grid;

/// What plans depend on besides the product. In fp32 nothing but the product matters, so that the order of the sums, and with it
/// the bits, are the same on every device. Tensor cores of two generations add in different orders anyway: there a plan fits
/// the device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    pub multiprocessors: usize,
    /// Ten times the compute capability.
    pub sm: u32,
    /// Shared memory per multiprocessor, in bytes.
    pub shared: usize,
    /// What the operands are.
    pub number: Number,
}

/// How a product is split into blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub tile: Tile,
    /// Tiles along the rows, and along the columns of all groups.
    tiles: [usize; 2],
    /// Products per chunk, a multiple of [`SLICE`].
    pub chunk: usize,
    /// Number of chunks of a sum.
    chunks: usize,
}

/// Products per slice in the kernel with the deepest slices.
const SLICE: usize = 32;
/// Maximum number of chunks of a sum, as in `epilogue.cuh`.
const MOST_CHUNKS: usize = 512;
/// The same in fp32.
const MOST_CHUNKS_FP32: usize = 64;
/// Maximum number of tiles whose sums are split: as many blocks fill any device without that.
const MOST_TILES: usize = 4096;
/// Counters in device memory by which the blocks of split sums tell who is the last, as in `epilogue.cuh`: of eight chunks, of eight
/// such groups, and of all.
pub(crate) const ARRIVALS: usize = MOST_TILES * (MOST_CHUNKS / 8 + MOST_CHUNKS / 64 + 1);

/// A block's first loads and last stores, which nothing hides: 4 µs in units of 0.18 µs, see [`Cost`].
const BEGIN_AND_END: f64 = 24.0;
/// From the last partial sum's store until all are added: 3 µs.
const COMBINING: f64 = 16.0;

/// What a tile costs on a multiprocessor. The unit of time is one product of a large tile, 128² multiply-adds, on a full
/// multiprocessor: 0.18 µs on the 64 lanes of an A100's.
struct Cost {
    tile: Tile,
    /// Blocks per multiprocessor.
    resident: usize,
    /// One product of a tile on a full multiprocessor.
    full: f64,
    /// One product of a block that is alone there, or has too few beside it.
    alone: f64,
    /// Of all its time, for what both leave out.
    factor: f64,
}

impl Machine {
    /// Whether tensor cores multiply the operands, as TENSOR in `tile.cuh` says.
    pub(crate) fn tensor(&self) -> bool {
        match self.number {
            Number::F16 => self.sm >= 75,
            Number::Bf16 | Number::Tf32 => self.sm >= 80,
            _ => false,
        }
    }

    /// Blocks of a tensor core's tile that a multiprocessor holds: what BOUNDS in `tile.cuh` has registers for, and three
    /// slices (two before Ampere) of 64 bytes per row of A and column of B, with 1 KiB of the driver's, have shared memory for.
    fn resident(&self, tile: Tile) -> usize {
        let two = (80..if self.number == Number::Tf32 { 100 } else { 120 }).contains(&self.sm);
        let most = match tile {
            Tile::Large => 2,
            Tile::Small => 4 + 2 * usize::from(two),
            Tile::Odd => 4,
        };
        let slices = if self.sm >= 80 { 3 } else { 2 };
        most.min(self.shared / (slices * 64 * 2 * tile.side() + 1024)).max(1)
    }

    /// The tiles to choose from. Small tiles load twice the bytes per multiply-add: 10 % slower on lanes, and half as slow again on
    /// tensor cores. On those a block alone reaches about 60 % of a full multiprocessor's rate: nothing hides its addresses'
    /// computation.
    fn costs(&self, vectors: bool) -> Vec<Cost> {
        let cost = |tile, resident, full, alone, factor| Cost { tile, resident, full, alone, factor };
        if !vectors {
            return vec![cost(Tile::Odd, 4, 0.25, 1.0, 1.0)];
        }
        if !self.tensor() {
            return vec![cost(Tile::Large, 1, 1.0, 1.0, 1.0), cost(Tile::Small, 4, 0.25, 1.0, 1.1)];
        }
        let [large, small] = [Tile::Large, Tile::Small].map(|tile| self.resident(tile));
        vec![cost(Tile::Large, large, 1.0, 1.6, 1.0), cost(Tile::Small, small, 0.375, 0.7, 1.0)]
    }

    /// How much shorter the unit of time is on tensor cores: half of their peak, since more is out of reach for these tiles. All
    /// that does not depend on them weighs as much more.
    fn faster(&self, vectors: bool) -> f64 {
        match self.number {
            Number::Tf32 if vectors && self.tensor() => 4.0,
            _ if vectors && self.tensor() => 8.0,
            _ => 1.0,
        }
    }
}

impl Plan {
    /// The fastest plan by a model of the machine; in fp32 of an A100, whatever the machine. With `bias` the columns of each
    /// group have one more tile, for the gradient of the bias.
    ///
    /// The model: blocks run in waves of as many as all multiprocessors hold. A partial sum is written and read, 8 bytes: at the
    /// 1.5 TB/s of an A100's memory in fp32, and at the 4 TB/s of its second-level cache where the plan fits the machine.
    pub fn new([m, n, k]: [usize; 3], groups: usize, vectors: bool, machine: &Machine, bias: bool) -> Self {
        let fixed = machine.number == Number::F32;
        let (multiprocessors, most_chunks, partial_sum) = match fixed {
            true => (108, MOST_CHUNKS_FP32, 3e-5),
            false => (machine.multiprocessors.max(1), MOST_CHUNKS, 1.1e-5),
        };
        let faster = machine.faster(vectors);
        let mut best: Option<(f64, Plan)> = None;
        for cost in machine.costs(vectors) {
            let tile = cost.tile;
            // Half of a large tile would be unused.
            if tile == Tile::Large && (m <= 64 || n <= 64) {
                continue;
            }
            let [rows, columns] = [m, n].map(|side| side.div_ceil(tile.side()));
            let tiles = [rows, (columns + usize::from(bias)) * groups];
            let mut last = 0;
            for wanted in 1..=most_chunks.min(k.div_ceil(SLICE).max(1)) {
                let chunk = k.div_ceil(wanted).next_multiple_of(SLICE).max(SLICE);
                let chunks = k.div_ceil(chunk).max(1);
                if chunks > 1 && tiles[0] * tiles[1] > MOST_TILES {
                    break;
                }
                if std::mem::replace(&mut last, chunks) == chunks {
                    continue;
                }
                let blocks = rows * columns * groups * chunks;
                let at_once = multiprocessors * cost.resident;
                let wave =
                    |beside: usize| chunk as f64 * (beside as f64 * cost.full).max(cost.alone) + BEGIN_AND_END * faster;
                let mut time = (blocks / at_once) as f64 * wave(cost.resident);
                if !blocks.is_multiple_of(at_once) {
                    time += wave((blocks % at_once).div_ceil(multiprocessors));
                }
                time *= cost.factor;
                if chunks > 1 {
                    let sums = if fixed { chunks * m * n * groups } else { blocks * tile.side() * tile.side() };
                    time += (COMBINING + sums as f64 * partial_sum) * faster;
                }
                if best.is_none_or(|(least, _)| time < least) {
                    best = Some((time, Plan { tile, tiles, chunk, chunks }));
                }
            }
        }
        best.map_or_else(|| unreachable!("small and odd tiles take any shape"), |(_, plan)| plan)
    }

    /// Tiles along the columns of one of `groups` groups.
    pub fn column_tiles(&self, groups: usize) -> usize {
        self.tiles[1] / groups.max(1)
    }

    /// The grid: tiles along the rows, tiles along the columns, chunks; for products on tensor cores or not.
    pub fn grid(&self, operator: &'static str, tensor: bool) -> Result<Grid> {
        let [rows, columns] = self.tiles;
        if columns > Grid::MAX_Y {
            let reason = format!("has {columns} tiles of columns, more than a grid of blocks holds");
            return Err(Error::Argument { operator, argument: "shape", reason });
        }
        Ok(Grid::new([rows, columns, self.chunks].map(|n| n as u32), self.tile.threads(tensor)))
    }

    /// Floats of workspace: the partial sums of all tiles.
    pub fn workspace(&self) -> usize {
        let [rows, columns] = self.tiles;
        if self.chunks > 1 { rows * columns * self.chunks * self.tile.side() * self.tile.side() } else { 0 }
    }
}

#[cfg(test)]
mod tests;
