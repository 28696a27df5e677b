//! Launchers of `gemm.cu`, and the plan that `gemm` and `conv` share: the tile, and the number of chunks of the sum.

use alexnet_ops::shape::DropoutShape;

use crate::Kernels;
use crate::Number;
use crate::array::Array;
use crate::error::{Error, Result};
use crate::launch::{Grid, Value};

/// Whether A or B is transposed in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transpose {
    /// A (M, K), B (K, N).
    Nn,
    /// A (M, K), B (N, K).
    Nt,
    /// A (K, M), B (K, N); C is float at every precision, like all gradients of parameters.
    Tn,
}

/// C (M, N) = op(A) · op(B).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Gemm {
    /// Layout of A and B.
    pub transpose: Transpose,
    /// Rows of C.
    pub m: usize,
    /// Columns of C.
    pub n: usize,
    /// Products per sum.
    pub k: usize,
}

/// Operations on a sum before it is stored, in this order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// Adds a float per column.
    pub bias: Option<&'a Array>,
    /// Adds the old value.
    pub accumulate: bool,
    /// max(·, 0).
    pub relu: bool,
    /// Dropout by the mask of the step given by the first word of the array.
    pub dropout: Option<(&'a DropoutShape, &'a Array)>,
}

/// `Epilogue` of tile.cuh.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct EpilogueArguments {
    steps: u32,
    purpose: u32,
    rate: f32,
    scale: f32,
    step: u64,
    seed: u64,
    offset: u64,
}
// SAFETY: the same fields in the same order as in tile.cuh, without padding.
unsafe impl Value for EpilogueArguments {}

impl Epilogue<'_> {
    pub(crate) fn arguments(&self) -> EpilogueArguments {
        let flag = |set: bool, bit: u32| if set { bit } else { 0 };
        let steps = flag(self.bias.is_some(), 1)
            | flag(self.accumulate, 2)
            | flag(self.relu, 4)
            | flag(self.dropout.is_some(), 8);
        let Some((mask, step)) = self.dropout else {
            return EpilogueArguments { steps, ..EpilogueArguments::default() };
        };
        EpilogueArguments {
            steps,
            purpose: mask.purpose,
            rate: mask.rate as f32,
            scale: mask.scale(),
            step: step.address(),
            seed: mask.philox.seed(),
            offset: mask.offset,
        }
    }
}

/// The tile that a block computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tile {
    /// 128 × 128 by 256 threads.
    Large,
    /// 64 × 64 by 64 threads.
    Small,
    /// 64 × 64 by 64 threads, loading element by element.
    Odd,
}

impl Tile {
    pub const fn side(self) -> usize {
        match self {
            Tile::Large => 128,
            Tile::Small | Tile::Odd => 64,
        }
    }
    pub const fn threads(self) -> u32 {
        match self {
            Tile::Large => 256,
            Tile::Small | Tile::Odd => 64,
        }
    }
    /// The kernel with this tile, of three.
    pub const fn of(self, kernels: [&'static str; 3]) -> &'static str {
        kernels[self as usize]
    }
}

/// How a product is split into blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub tile: Tile,
    /// Products per chunk, a multiple of [`SLICE`].
    pub chunk: usize,
    /// Number of chunks of a sum.
    pub chunks: usize,
}

/// Products per slice in the kernel with the deepest slices.
const SLICE: usize = 32;
/// Maximum number of chunks of a sum.
const MOST_CHUNKS: usize = 64;

impl Plan {
    /// The fastest plan by a cost model of an A100, whatever the device: so the order of the sums, and with it the bits, do not
    /// depend on the device.
    ///
    /// The model: one large tile or four small ones (8 warps) keep a multiprocessor busy; the unit of time is one product of a
    /// large tile, 128² multiply-adds on 64 lanes, 0.18 µs. Small tiles read global memory twice as often per multiply-add:
    /// 10 % slower. A block's first loads and last stores, which nothing hides, take 4 µs. Partial sums cost a launch and,
    /// written and read, 8 bytes each at 1.5 TB/s. Two-byte numbers are multiplied by tensor cores: eight products per unit
    /// of time (their peak of sixteen is out of reach for these tiles), so all other costs weigh eight times as much.
    pub fn new([m, n, k]: [usize; 3], groups: usize, vectors: bool, size: usize) -> Self {
        const MULTIPROCESSORS: usize = 108;
        let faster = if size == 2 && vectors { 8 } else { 1 };
        let launch = (16 * faster) as f64;
        let begin_and_end = 24 * faster;
        let partial_sum = 3e-5 * faster as f64;
        let tiles: &[(Tile, f64)] =
            if vectors { &[(Tile::Large, 1.0), (Tile::Small, 1.1)] } else { &[(Tile::Odd, 1.0)] };
        let mut best =
            (f64::INFINITY, Plan { tile: tiles[0].0, chunk: k.next_multiple_of(SLICE).max(SLICE), chunks: 1 });
        for &(tile, factor) in tiles {
            // Half of a large tile would be unused.
            if tile == Tile::Large && (m <= 64 || n <= 64) {
                continue;
            }
            let at_once = MULTIPROCESSORS * 256 / tile.threads() as usize;
            let blocks = m.div_ceil(tile.side()) * n.div_ceil(tile.side()) * groups;
            for wanted in 1..=MOST_CHUNKS {
                let chunk = k.div_ceil(wanted).next_multiple_of(SLICE).max(SLICE);
                let chunks = k.div_ceil(chunk).max(1);
                let waves = (blocks * chunks).div_ceil(at_once);
                let mut time = (waves * (chunk + begin_and_end)) as f64 * factor;
                if chunks > 1 {
                    time += launch + (chunks * m * n * groups) as f64 * partial_sum;
                }
                if time < best.0 {
                    best = (time, Plan { tile, chunk, chunks });
                }
            }
        }
        best.1
    }

    /// The grid, for `columns` columns in each of `groups` groups.
    pub fn grid(&self, operator: &'static str, rows: usize, columns: usize, groups: usize) -> Result<Grid> {
        let side = self.tile.side();
        let blocks = [rows.div_ceil(side), columns.div_ceil(side) * groups, self.chunks];
        if blocks[1] > Grid::MAX_Y {
            let reason = format!("has {columns} columns in {groups} groups, more than a grid of blocks holds");
            return Err(Error::Argument { operator, argument: "shape", reason });
        }
        Ok(Grid::new(blocks.map(|n| n as u32), self.tile.threads()))
    }

    /// Floats of partial sums for a whole output of `rows` × `columns`.
    pub fn partial_sums(&self, rows: usize, columns: usize) -> usize {
        self.chunks * rows * columns.next_multiple_of(8)
    }
}

/// A size, which must fit 31 bits with room to round up to a tile.
pub(crate) fn extent(operator: &'static str, argument: &'static str, value: usize) -> Result<i32> {
    match i32::try_from(value) {
        Ok(n) if n < i32::MAX - (1 << 16) => Ok(n),
        _ => {
            let reason = format!("has {value} elements, more than 2^31 − 2^16");
            Err(Error::Argument { operator, argument, reason })
        }
    }
}

impl Gemm {
    /// Elements of A, B and C.
    pub const fn lens(&self) -> [usize; 3] {
        [self.m * self.k, self.k * self.n, self.m * self.n]
    }
    /// The plan for elements of `size` bytes, loaded in packs of 16 bytes, as cp.async copies them.
    fn plan(&self, size: usize) -> Plan {
        // Row lengths of A and B in memory.
        let rows = match self.transpose {
            Transpose::Nn => [self.k, self.n],
            Transpose::Nt => [self.k, self.k],
            Transpose::Tn => [self.m, self.n],
        };
        let vectors = rows.iter().all(|row| (row * size).is_multiple_of(16));
        Plan::new([self.m, self.n, self.k], 1, vectors, size)
    }
    /// Floats of workspace for [`Kernels::gemm`] at any precision, with or without `dropout`.
    pub fn workspace(&self, dropout: bool) -> usize {
        let plans = [2, 4].map(|size| self.plan(size));
        let sums = plans.map(|plan| if plan.chunks > 1 || dropout { plan.partial_sums(self.m, self.n) } else { 0 });
        sums[0].max(sums[1])
    }
}

impl Kernels {
    /// C = op(A) · op(B), then `epilogue`. A, B and C are of the storage type, C is float for [`Transpose::Tn`].
    /// `workspace` holds [`Gemm::workspace`] floats.
    ///
    /// # Errors
    /// An array of another type or too short; the driver's.
    pub fn gemm(
        &self,
        gemm: &Gemm,
        a: &Array,
        b: &Array,
        epilogue: &Epilogue<'_>,
        c: &mut Array,
        workspace: &mut Array,
    ) -> Result<()> {
        const NAME: &str = "gemm";
        let Gemm { transpose, m, n, k } = *gemm;
        let [a_len, b_len, c_len] = gemm.lens();
        let number = if transpose == Transpose::Tn { Number::F32 } else { self.storage() };
        a.expect(NAME, "a", self.storage(), a_len)?;
        b.expect(NAME, "b", self.storage(), b_len)?;
        c.expect(NAME, "c", number, c_len)?;
        if let Some(bias) = epilogue.bias {
            bias.expect(NAME, "bias", Number::F32, n)?;
        }
        if let Some((dropout, step)) = epilogue.dropout {
            step.expect(NAME, "step", Number::U32, 1)?;
            if dropout.len != c_len {
                let reason = format!("is a mask of {} elements, expected {c_len}", dropout.len);
                return Err(Error::Argument { operator: NAME, argument: "dropout", reason });
            }
        }
        for (argument, len) in [("a", a_len), ("b", b_len), ("c", m * n.next_multiple_of(8))] {
            extent(NAME, argument, len)?;
        }
        workspace.expect(NAME, "workspace", Number::F32, gemm.workspace(epilogue.dropout.is_some()))?;
        if c_len == 0 {
            return Ok(());
        }
        let plan = gemm.plan(self.storage().size());
        let split = plan.chunks > 1 || epilogue.dropout.is_some();
        let kernel = plan.tile.of(match transpose {
            Transpose::Nn => ["gemm_nn_128", "gemm_nn_64", "gemm_nn_odd"],
            Transpose::Nt => ["gemm_nt_128", "gemm_nt_64", "gemm_nt_odd"],
            Transpose::Tn => ["gemm_tn_128", "gemm_tn_64", "gemm_tn_odd"],
        });
        let launch = self
            .launch("gemm", kernel)?
            .array(a)
            .array(b)
            .value(epilogue.bias.map_or(0, Array::address))
            .array_mut(c)
            .value(if split { workspace.address() } else { 0 })
            .integers([m, n, k, plan.chunk])
            .value(if split { EpilogueArguments::default() } else { epilogue.arguments() });
        let grid = plan.grid(NAME, m, n, 1)?;
        // SAFETY: the lengths of a, b, c, bias and the workspace were checked above against what the kernel reads and
        // writes for m, n, k, which fit 31 bits; it clips tiles to them.
        unsafe { launch.run(grid)? };
        if split { self.reduce(NAME, workspace, epilogue, number, c, [m, n, plan.chunks]) } else { Ok(()) }
    }

    /// C (m, n) = Σ over the chunks of `partial`, then `epilogue`. The caller has checked the lengths.
    pub(crate) fn reduce(
        &self,
        operator: &'static str,
        partial: &Array,
        epilogue: &Epilogue<'_>,
        number: Number,
        c: &mut Array,
        [m, n, chunks]: [usize; 3],
    ) -> Result<()> {
        c.expect(operator, "output", number, m * n)?;
        let kernel = if number == self.storage() { "gemm_reduce" } else { "gemm_reduce_float" };
        let launch = self
            .launch("gemm", kernel)?
            .array(partial)
            .value(epilogue.bias.map_or(0, Array::address))
            .array_mut(c)
            .integers([m, n, chunks])
            .value(epilogue.arguments());
        // SAFETY: one thread per four columns of a padded row of partial, which the caller allocated for m, n and chunks.
        unsafe { launch.run(Grid::linear(m * n.next_multiple_of(8) / 4, 256)) }
    }

    /// Floats of workspace for [`Kernels::column_sum`].
    pub fn column_sum_workspace(rows: usize, columns: usize) -> usize {
        if rows > SUMMED_ROWS { rows.div_ceil(SUMMED_ROWS) * columns } else { 0 }
    }

    /// y\[j\] = Σ over i of x\[i, j\], or adds it: the gradient of a bias.
    ///
    /// # Errors
    /// An array of another type or too short; the driver's.
    pub fn column_sum(
        &self,
        rows: usize,
        columns: usize,
        x: &Array,
        accumulate: bool,
        y: &mut Array,
        workspace: &mut Array,
    ) -> Result<()> {
        const NAME: &str = "column_sum";
        x.expect(NAME, "x", self.storage(), rows * columns)?;
        y.expect(NAME, "y", Number::F32, columns)?;
        workspace.expect(NAME, "workspace", Number::F32, Self::column_sum_workspace(rows, columns))?;
        extent(NAME, "x", rows * columns)?;
        if columns == 0 {
            return Ok(());
        }
        let chunks = rows.div_ceil(SUMMED_ROWS).max(1);
        let whole = chunks == 1;
        let target = if whole { y.address() } else { workspace.address() };
        if columns > 32 * Grid::MAX_Y {
            let reason = format!("has {columns} columns, more than a grid of blocks holds");
            return Err(Error::Argument { operator: NAME, argument: "x", reason });
        }
        let blocks = columns.div_ceil(32) as u32;
        let launch = self.launch("gemm", NAME)?.array(x).value(target);
        let launch = launch.integers([rows, columns, SUMMED_ROWS, usize::from(accumulate && whole)]);
        // SAFETY: one block per 32 columns and chunk of rows; x, y and the workspace hold them, as checked above.
        unsafe { launch.run(Grid::new([chunks as u32, blocks, 1], 256).shared(narrow(columns)))? };
        if whole {
            return Ok(());
        }
        let launch = self.launch("gemm", "column_sum_float")?.array(workspace).array_mut(y);
        let launch = launch.integers([chunks, columns, chunks, usize::from(accumulate)]);
        // SAFETY: one chunk of `chunks` rows, which the previous launch wrote.
        unsafe { launch.run(Grid::new([1, blocks, 1], 256).shared(narrow(columns))) }
    }
}

/// Rows per block of `column_sum`.
const SUMMED_ROWS: usize = 256;

/// Bytes of shared memory per block of `column_sum`, for narrow rows, 256 at a time.
const fn narrow(columns: usize) -> u32 {
    if columns < 32 { (columns * 256 * 4) as u32 } else { 0 }
}
