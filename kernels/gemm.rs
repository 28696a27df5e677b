//! Launchers of `gemm.cu`, and what `conv` shares with it: tiles and epilogues.

use alexnet_ops::shape::DropoutShape;

use crate::Kernels;
use crate::Number;
use crate::array::Array;
use crate::error::{Error, Result};
use crate::launch::Value;
use crate::plan::{ARRIVALS, Machine, Plan};
use crate::sgd::{Update, UpdateArguments};
use crate::turn::Turn;

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
    /// 0 where this array, like C, is ≤ 0: the backward pass of the ReLU that put it out.
    pub mask: Option<&'a Array>,
}

/// `Epilogue` of epilogue.cuh.
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
    mask: u64,
}
// SAFETY: the same fields in the same order as in epilogue.cuh, without padding.
unsafe impl Value for EpilogueArguments {}

impl Epilogue<'_> {
    pub(crate) fn arguments(&self) -> EpilogueArguments {
        let steps = [self.bias.is_some(), self.accumulate, self.relu, self.dropout.is_some(), self.mask.is_some()];
        let steps = (0..).zip(steps).map(|(bit, set)| u32::from(set) << bit).sum();
        let mask = self.mask.map_or(0, Array::address);
        let Some((dropout, step)) = self.dropout else {
            return EpilogueArguments { steps, mask, ..EpilogueArguments::default() };
        };
        EpilogueArguments {
            steps,
            purpose: dropout.purpose,
            rate: dropout.rate as f32,
            scale: dropout.scale(),
            step: step.address(),
            seed: dropout.philox.seed(),
            offset: dropout.offset,
            mask,
        }
    }
}

/// The tile that a block computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tile {
    /// 128 × 128 by 256 threads, or 128 on tensor cores.
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
    /// Threads per block, on tensor cores or not.
    pub const fn threads(self, tensor: bool) -> u32 {
        match self {
            Tile::Large if tensor => 128,
            Tile::Large => 256,
            Tile::Small | Tile::Odd => 64,
        }
    }
    /// The kernel with this tile, of three.
    pub const fn of(self, kernels: [&'static str; 3]) -> &'static str {
        kernels[self as usize]
    }
}

/// The addresses of partial sums and counters, `Split` of epilogue.cuh.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Split([u64; 2]);
// SAFETY: two pointers, as in epilogue.cuh.
unsafe impl Value for Split {}

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
    /// The plan for elements that are loaded in packs of 16 bytes, as cp.async copies them.
    pub(crate) fn plan(&self, machine: &Machine) -> Plan {
        // Row lengths of A and B in memory.
        let rows = match self.transpose {
            Transpose::Nn => [self.k, self.n],
            Transpose::Nt => [self.k, self.k],
            Transpose::Tn => [self.m, self.n],
        };
        let vectors = rows.iter().all(|row| (row * machine.number.size()).is_multiple_of(16));
        Plan::new([self.m, self.n, self.k], 1, vectors, machine, self.transpose == Transpose::Tn)
    }
}

impl Kernels {
    /// Floats of workspace for [`Kernels::gemm`] and [`Kernels::gemm_gradients`].
    pub fn gemm_workspace(&self, gemm: &Gemm) -> usize {
        gemm.plan(&self.machine).workspace()
    }

    /// C = op(A) · op(B), then `epilogue`; not for [`Transpose::Tn`]. All arrays are of the storage type but for the bias,
    /// which is float. `workspace` holds [`Kernels::gemm_workspace`] floats.
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
        if gemm.transpose == Transpose::Tn {
            let reason = "is that of gradients, see gemm_gradients".into();
            return Err(Error::Argument { operator: NAME, argument: "transpose", reason });
        }
        let c_len = gemm.m * gemm.n;
        c.expect(NAME, "c", self.storage(), c_len)?;
        if let Some(bias) = epilogue.bias {
            bias.expect(NAME, "bias", Number::F32, gemm.n)?;
        }
        if let Some(mask) = epilogue.mask {
            mask.expect(NAME, "mask", self.storage(), c_len)?;
        }
        if let Some((dropout, step)) = epilogue.dropout {
            step.expect(NAME, "step", Number::U32, 1)?;
            if dropout.len != c_len {
                let reason = format!("is a mask of {} elements, expected {c_len}", dropout.len);
                return Err(Error::Argument { operator: NAME, argument: "dropout", reason });
            }
        }
        let bias = epilogue.bias.map_or(0, Array::address);
        self.product(gemm, [a, b], epilogue, [bias, c.address()], UpdateArguments::default(), workspace)
    }

    /// C = Aᵀ · B and `sums` (M) = Σ over k of A, or adds them; both are float. With A = dy and B = x the gradients of a weight
    /// and its bias.
    ///
    /// # Errors
    /// As [`Kernels::gemm`].
    pub fn gemm_gradients(
        &self,
        gemm: &Gemm,
        [a, b]: [&Array; 2],
        accumulate: bool,
        c: &mut Array,
        sums: &mut Array,
        workspace: &mut Array,
    ) -> Result<()> {
        const NAME: &str = "gemm_gradients";
        let gemm = Gemm { transpose: Transpose::Tn, ..*gemm };
        c.expect(NAME, "c", Number::F32, gemm.m * gemm.n)?;
        sums.expect(NAME, "sums", Number::F32, gemm.m)?;
        let epilogue = Epilogue { accumulate, ..Epilogue::default() };
        let to = [sums.address(), c.address()];
        self.product(&gemm, [a, b], &epilogue, to, UpdateArguments::default(), workspace)
    }

    /// [`Kernels::gemm_gradients`] whose results are not stored, but update a weight (M, N) and a bias (M). Nothing changes in a
    /// step that is skipped.
    ///
    /// # Errors
    /// As [`Kernels::gemm`].
    pub fn gemm_update(
        &self,
        gemm: &Gemm,
        [a, b]: [&Array; 2],
        update: Update<'_>,
        workspace: &mut Array,
    ) -> Result<()> {
        let gemm = Gemm { transpose: Transpose::Tn, ..*gemm };
        let update = update.arguments("gemm_update", [gemm.m * gemm.n, gemm.m], self.storage())?;
        self.product(&gemm, [a, b], &Epilogue::default(), [0; 2], update, workspace)
    }

    /// The caller has checked C, the epilogue and the update; `to` are the addresses of the bias, for Tn the sums, and of C.
    fn product(
        &self,
        gemm: &Gemm,
        [a, b]: [&Array; 2],
        epilogue: &Epilogue<'_>,
        [bias, c]: [u64; 2],
        update: UpdateArguments,
        workspace: &mut Array,
    ) -> Result<()> {
        let (operator, kernels) = match gemm.transpose {
            Transpose::Nn => ("gemm", ["gemm_nn_128", "gemm_nn_64", "gemm_nn_odd"]),
            Transpose::Nt => ("gemm", ["gemm_nt_128", "gemm_nt_64", "gemm_nt_odd"]),
            Transpose::Tn => ("gemm_gradients", ["gemm_tn_128", "gemm_tn_64", "gemm_tn_odd"]),
        };
        let Gemm { m, n, k, .. } = *gemm;
        let [a_len, b_len, c_len] = gemm.lens();
        a.expect(operator, "a", self.storage(), a_len)?;
        b.expect(operator, "b", self.storage(), b_len)?;
        for (argument, len) in [("a", a_len), ("b", b_len), ("c", c_len)] {
            extent(operator, argument, len)?;
        }
        let (plan, turn) = (gemm.plan(&self.machine), self.turn());
        workspace.expect(operator, "workspace", Number::F32, plan.workspace())?;
        if m == 0 || c_len == 0 && gemm.transpose != Transpose::Tn {
            return Ok(());
        }
        let launch = self
            .launch("gemm", plan.tile.of(kernels))?
            .array(a)
            .array(b)
            .value(bias)
            .value(c)
            .value(self.split(workspace, &turn))
            .integers([m, n, k, plan.chunk])
            .value(epilogue.arguments());
        let launch = if gemm.transpose == Transpose::Tn { launch.value(update) } else { launch };
        let grid = plan.grid(operator, self.machine.tensor())?;
        // SAFETY: the lengths of all arrays were checked against what the kernel reads and writes for m, n, k, which fit
        // 31 bits; it clips tiles to them.
        unsafe { launch.run(grid) }
    }

    /// Where split sums meet; the caller has checked the workspace. Holds the turn until the launch: another thread may be
    /// [side by side](Kernels::side_by_side) with itself.
    pub(crate) fn split(&self, workspace: &mut Array, _turn: &Turn<'_>) -> Split {
        let counters = (self.side() * ARRIVALS * size_of::<u32>()) as u64;
        Split([workspace.address(), self.arrivals.as_ref().map_or(0, Array::address) + counters])
    }
}
