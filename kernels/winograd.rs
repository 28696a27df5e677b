//! Launchers of `winograd.cu`, and the choice between it and `conv.cu`.

use alexnet_ops::arguments::{ConvBackwardData, ConvBackwardWeight, ConvForward};
use alexnet_ops::shape::ConvShape;

use crate::array::Array;
use crate::conv::{Divisor, FilterLayout};
use crate::error::Result;
use crate::gemm::{Split, Transpose};
use crate::launch::{Grid, Value};
use crate::plan::{Machine, Plan};
use crate::{Kernels, Number};

/// Positions of a transformed tile.
const POSITIONS: usize = 36;
/// Threads per block of the transformations.
const THREADS: u32 = 128;
/// Maximum number of floats of the transformed arrays, 1 GiB: each fits 31 bits, and leaves room for the network.
const MOST: usize = 1 << 28;

/// Where fp32 convolutions use Winograd's algorithm, which has a larger error bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Winograd {
    /// For the shapes that a cost model says it is faster for; those bits too depend on the shape only.
    #[default]
    ByShape,
    /// For no shape.
    Never,
    /// For every 3×3 convolution of stride 1 whose filters are not padded and whose transformed arrays have a moderate size: for
    /// tests.
    Always,
}

/// A direction of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Forward,
    BackwardData,
    BackwardWeight,
}

/// The sizes of a direction that uses Winograd's algorithm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    groups: usize,
    /// C/G and K/G.
    channels: usize,
    filters: usize,
    /// Tiles per image, down and across, and of all images.
    down: usize,
    across: usize,
    tiles: usize,
    /// The 36·G products C (M, N) = A·B, their M, N and K, and how they are split into blocks.
    transpose: Transpose,
    product: [usize; 3],
    plan: Plan,
    /// Floats of split sums, of U or dU, and of V and M, or V and Y: of x and y.
    partial: usize,
    windows: usize,
    x: usize,
    y: usize,
}

/// `Tiles` of winograd.cu.
#[repr(C)]
#[derive(Clone, Copy)]
struct Tiles {
    height: i32,
    width: i32,
    channels: i32,
    group_channels: i32,
    first: i32,
    len: i32,
    by_channels: Divisor,
    by_tiles: Divisor,
    by_image: Divisor,
    by_row: Divisor,
}
// SAFETY: the same fields in the same order as in winograd.cu, all of four bytes: no padding.
unsafe impl Value for Tiles {}

impl Sizes {
    /// Of a shape that the launchers of `conv.rs` have checked, or will.
    fn new(s: &ConvShape, direction: Direction, machine: &Machine) -> Self {
        let (groups, channels, filters) = (s.groups.max(1), s.group_channels(), s.group_filters());
        let [height, width] = match direction {
            Direction::BackwardData => [s.height, s.width],
            Direction::Forward | Direction::BackwardWeight => [s.output_height(), s.output_width()],
        };
        let [down, across] = [height, width].map(|side| side.div_ceil(4));
        let tiles = s.batch * down * across;
        let (transpose, product) = match direction {
            Direction::Forward => (Transpose::Nt, [tiles, filters, channels]),
            Direction::BackwardData => (Transpose::Nn, [tiles, channels, filters]),
            Direction::BackwardWeight => (Transpose::Tn, [filters, channels, tiles]),
        };
        let positions = POSITIONS * groups;
        let vectors = channels.is_multiple_of(4) && filters.is_multiple_of(4);
        let plan = Plan::new(product, positions, vectors, machine, transpose == Transpose::Tn);
        Self {
            groups,
            channels,
            filters,
            down,
            across,
            tiles,
            transpose,
            product,
            plan,
            partial: plan.workspace(),
            windows: positions * filters * channels,
            x: positions * tiles * channels,
            y: positions * tiles * filters,
        }
    }

    /// Floats of the transformed arrays.
    const fn transformed(&self) -> usize {
        self.windows + self.x + self.y
    }
    /// Floats of workspace; for gradients of weights also the sums that become db.
    const fn workspace(&self) -> usize {
        self.partial + self.transformed() + self.groups * self.filters
    }

    /// Whether it is faster than the direct algorithm, by a model of an A100 whatever the device: so the bits do not depend on
    /// it. The unit of time is a multiply-add, of which the A100 does 25 in the time in which it moves a float. Both
    /// algorithms multiply at the same rate and move x, y and w; this one also writes and reads the transformed arrays,
    /// and takes two more launches, of 2.5 µs.
    fn is_faster(&self, s: &ConvShape) -> bool {
        const PER_FLOAT: usize = 25;
        const LAUNCHES: usize = 50_000_000;
        let products = POSITIONS * self.groups * self.tiles * self.filters * self.channels;
        products + 2 * PER_FLOAT * self.transformed() + LAUNCHES < s.multiply_adds() as usize
    }

    /// An array of pixels with `group_channels` channels per group, whose first tile begins at (first, first).
    fn of_pixels(&self, [height, width]: [usize; 2], group_channels: usize, first: i32) -> Tiles {
        let int = |n: usize| n as i32;
        Tiles {
            height: int(height),
            width: int(width),
            channels: int(self.groups * group_channels),
            group_channels: int(group_channels),
            first,
            len: int(self.groups * self.tiles * group_channels),
            by_channels: Divisor::new(group_channels),
            by_tiles: Divisor::new(self.tiles),
            by_image: Divisor::new(self.down * self.across),
            by_row: Divisor::new(self.across),
        }
    }
    fn blocks(&self, elements: usize) -> usize {
        (elements / POSITIONS).div_ceil(THREADS as usize)
    }
}

impl Kernels {
    /// Chooses where convolutions use Winograd's algorithm.
    pub fn set_winograd(&mut self, winograd: Winograd) {
        self.winograd = winograd;
    }

    /// The sizes, if this direction of a convolution uses Winograd's algorithm.
    pub(crate) fn winograd_sizes(&self, s: &ConvShape, direction: Direction) -> Option<Sizes> {
        // With a padding of up to 2 that of the gradient of x, 2 − padding, is one too.
        let suits = s.kernel == 3 && s.stride == 1 && s.padding <= 2 && !FilterLayout::of(s, Number::F32).is_padded();
        if !suits || self.storage() != Number::F32 || self.winograd == Winograd::Never {
            return None;
        }
        let sizes = Sizes::new(s, direction, &self.machine);
        let any = sizes.x.min(sizes.y).min(sizes.windows) > 0;
        let fits = any && sizes.transformed() <= MOST && sizes.plan.column_tiles(1) <= Grid::MAX_Y;
        (fits && (self.winograd == Winograd::Always || sizes.is_faster(s))).then_some(sizes)
    }
    /// Floats of workspace of this direction with Winograd's algorithm, if it uses that.
    pub(crate) fn winograd_workspace(&self, s: &ConvShape, direction: Direction) -> Option<usize> {
        self.winograd_sizes(s, direction).map(|sizes| sizes.workspace())
    }

    // The caller of these three has checked the shape and the lengths of all arrays but the workspace.

    pub(crate) fn winograd_forward(&self, z: &Sizes, a: ConvForward<'_, Self>, workspace: &mut Array) -> Result<()> {
        let ConvForward { shape: s, relu, x, w, b, y } = a;
        let from = z.of_pixels([s.height, s.width], z.channels, -(s.padding as i32));
        let to = z.of_pixels([s.output_height(), s.output_width()], z.filters, 0);
        let arrays = [x.address(), w.address(), y.address(), b.address(), 0];
        self.winograd_pass(ConvForward::<Self>::NAME, z, [from, to], arrays, relu, workspace)
    }

    /// dx\[h\] = Σ over r of dy\[h + padding − r\]·w\[r\] is a convolution of dy, from padding − 2 on, with the window turned.
    pub(crate) fn winograd_backward_data(
        &self,
        z: &Sizes,
        a: ConvBackwardData<'_, Self>,
        workspace: &mut Array,
    ) -> Result<()> {
        let ConvBackwardData { shape: s, dy, w, mask, dx } = a;
        let from = z.of_pixels([s.output_height(), s.output_width()], z.filters, s.padding as i32 - 2);
        let to = z.of_pixels([s.height, s.width], z.channels, 0);
        let arrays = [dy.address(), w.address(), dx.address(), 0, mask.map_or(0, Array::address)];
        self.winograd_pass(ConvBackwardData::<Self>::NAME, z, [from, to], arrays, false, workspace)
    }

    /// One pass through the network, forward or backward: from an array of pixels, w, to another one; bias and mask or 0.
    fn winograd_pass(
        &self,
        operator: &'static str,
        z: &Sizes,
        [from, to]: [Tiles; 2],
        [x, w, y, bias, mask]: [u64; 5],
        relu: bool,
        workspace: &mut Array,
    ) -> Result<()> {
        workspace.expect(operator, "workspace", Number::F32, z.workspace())?;
        let turn = self.turn();
        let turned = z.transpose == Transpose::Nn;
        let [x_len, y_len] = if turned { [z.y, z.x] } else { [z.x, z.y] };
        let u = workspace.address() + 4 * z.partial as u64;
        let v = u + 4 * z.windows as u64;
        let m = v + 4 * x_len as u64;
        let filter_blocks = z.blocks(z.windows);
        let windows = z.windows / POSITIONS;
        let launch = self.launch("winograd", "winograd_input")?.value(x).value(v).value(from).value(w).value(u);
        let launch = launch.integers([windows, z.channels, usize::from(turned), filter_blocks]);
        // SAFETY: the kernel reads x and w, whose lengths the caller has checked, and writes V and U, which the workspace
        // holds, by `Sizes::workspace`; all fit 31 bits, by `MOST`.
        unsafe { launch.run(Grid::new([(filter_blocks + z.blocks(x_len)) as u32, 1, 1], THREADS))? };
        // SAFETY: V, U and M are as long as the products need, as above; the split sums begin the workspace.
        unsafe { self.winograd_products(operator, z, [v, u, m, 0], self.split(workspace, &turn))? };
        let launch = self.launch("winograd", "winograd_output")?.value(m).value(bias).value(mask).value(y).value(to);
        // SAFETY: as above; the mask is as long as y.
        unsafe { launch.integers([usize::from(relu)]).run(Grid::new([z.blocks(y_len) as u32, 1, 1], THREADS)) }
    }

    /// All products of a direction: the addresses of A, B, C and, for Tn, the sums of A (K) of position 0.
    ///
    /// # Safety
    /// The arrays and the workspace of `split` are as long as `z` says.
    unsafe fn winograd_products(
        &self,
        operator: &'static str,
        z: &Sizes,
        [a, b, c, sums]: [u64; 4],
        split: Split,
    ) -> Result<()> {
        let kernels = match z.transpose {
            Transpose::Nt => ["winograd_product_nt_128", "winograd_product_nt_64", "winograd_product_nt_odd"],
            Transpose::Nn => ["winograd_product_nn_128", "winograd_product_nn_64", "winograd_product_nn_odd"],
            Transpose::Tn => ["winograd_product_tn_128", "winograd_product_tn_64", "winograd_product_tn_odd"],
        };
        let ([m, n, k], plan) = (z.product, &z.plan);
        let launch =
            self.launch("winograd", plan.tile.of(kernels))?.value(a).value(b).value(c).value(sums).value(split);
        let launch = launch.integers([m, n, k, plan.chunk, plan.column_tiles(POSITIONS * z.groups), z.groups]);
        let grid = plan.grid(operator, false)?;
        // SAFETY: the kernel stays inside what the caller promises for m, n, k; it clips tiles to them.
        unsafe { launch.run(grid) }
    }

    pub(crate) fn winograd_backward_weight(
        &self,
        z: &Sizes,
        a: ConvBackwardWeight<'_, Self>,
        workspace: &mut Array,
    ) -> Result<()> {
        let ConvBackwardWeight { shape: s, accumulate, x, dy, dw, db, .. } = a;
        workspace.expect(ConvBackwardWeight::<Self>::NAME, "workspace", Number::F32, z.workspace())?;
        let turn = self.turn();
        let xs = z.of_pixels([s.height, s.width], z.channels, -(s.padding as i32));
        let ys = z.of_pixels([s.output_height(), s.output_width()], z.filters, 0);
        let du = workspace.address() + 4 * z.partial as u64;
        let v = du + 4 * z.windows as u64;
        let y = v + 4 * z.x as u64;
        let sums = y + 4 * z.y as u64;
        let gradient_blocks = z.blocks(z.y);
        let launch = self.launch("winograd", "winograd_gradient_input")?.array(x).value(v).value(xs).array(dy).value(y);
        // SAFETY: as in the forward pass.
        unsafe {
            let grid = Grid::new([(gradient_blocks + z.blocks(z.x)) as u32, 1, 1], THREADS);
            launch.value(ys).integers([gradient_blocks]).run(grid)?;
            let (name, split) = (ConvBackwardWeight::<Self>::NAME, self.split(workspace, &turn));
            self.winograd_products(name, z, [y, v, du, sums], split)?;
        }
        let (windows, filters) = (z.windows / POSITIONS, z.groups * z.filters);
        let launch =
            self.launch("winograd", "winograd_filter_gradient")?.value(du).value(sums).array_mut(dw).array_mut(db);
        let launch = launch.integers([windows, z.channels, filters, usize::from(accumulate)]);
        // SAFETY: as in the forward pass; there are at least as many windows as filters.
        unsafe { launch.run(Grid::linear(windows, THREADS)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The model's verdict on AlexNet's layers; if it changes, so do the bits of runs in fp32.
    #[test]
    fn layers_that_are_faster() {
        let machine = Machine { multiprocessors: 132, sm: 90, shared: 228 << 10, number: Number::F32 };
        let faster = |batch, side, channels, filters| {
            let (height, width, kernel, stride, padding, groups) = (side, side, 3, 1, 1, 1);
            let s = ConvShape { batch, height, width, channels, filters, kernel, stride, padding, groups };
            let all = [Direction::Forward, Direction::BackwardData, Direction::BackwardWeight]
                .map(|direction| Sizes::new(&s, direction, &machine).is_faster(&s));
            assert!(all == [all[0]; 3]);
            all[0]
        };
        for (batch, expected) in [(8, false), (16, false), (32, true), (128, true), (512, true)] {
            let layers = [(8, 64, 192), (4, 192, 384), (4, 384, 256), (4, 256, 256)];
            let found = layers.map(|(side, channels, filters)| faster(batch, side, channels, filters));
            assert_eq!(found, [expected; 4], "batch {batch}");
        }
        // torchvision's, and too few channels.
        assert!(faster(16, 13, 192, 384) && faster(16, 13, 256, 256));
        assert!(!faster(16, 56, 4, 4) && !faster(1024, 32, 3, 64));
    }
}
