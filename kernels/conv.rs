//! Launchers of `conv.cu`.

use crate::Epilogue;
use alexnet_ops::arguments::{ConvBackwardData, ConvBackwardWeight, ConvForward};
use alexnet_ops::shape::ConvShape;

use crate::Kernels;
use crate::Number;
use crate::array::Array;
use crate::error::{Error, Result};
use crate::gemm::{EpilogueArguments, Plan, extent};
use crate::launch::{Grid, Value};

mod rows;

use rows::View;

/// `Divisor` of tile.cuh: n / divisor = ⌊n · multiplier / 2³²⁺ˢʰⁱᶠᵗ⌋ for 0 ≤ n < 2³¹.
#[repr(C)]
#[derive(Clone, Copy)]
struct Divisor {
    divisor: u32,
    multiplier: u32,
    shift: u32,
}

impl Divisor {
    /// With 2^s ≥ d, multiplier = ⌈2^(31+s) / d⌉ < 2³² exceeds the true quotient by less than n·d / (d·2^(31+s)) < 1/d:
    /// too little to reach the next integer (Granlund and Montgomery, "Division by invariant integers", 1994).
    fn new(divisor: usize) -> Self {
        let divisor = (divisor as u32).max(1);
        let ceil_log2 = divisor.next_power_of_two().trailing_zeros();
        let multiplier = (1u64 << (31 + ceil_log2)).div_ceil(divisor.into()) as u32;
        // The kernel skips a division by 1, whose multiplier would be 2³¹ and whose shift −1.
        Self { divisor, multiplier, shift: ceil_log2.saturating_sub(1) }
    }
}

/// `Shape` of conv.cu.
#[repr(C)]
#[derive(Clone, Copy)]
struct Shape {
    height: i32,
    width: i32,
    channels: i32,
    filters: i32,
    stride: i32,
    padding: i32,
    out_height: i32,
    out_width: i32,
    stride_x: i32,
    padding_x: i32,
    group_channels: i32,
    group_filters: i32,
    inputs: i32,
    outputs: i32,
    taps: i32,
    column_tiles: i32,
    by_image: Divisor,
    by_width: Divisor,
    by_out_image: Divisor,
    by_out_width: Divisor,
    by_channels: Divisor,
    by_filters: Divisor,
    by_kernel: Divisor,
    by_stride: Divisor,
}
// SAFETY: the same fields in the same order as in conv.cu, all of four bytes: no padding.
unsafe impl Value for Shape {}

/// The maximum for elements of two and of four bytes.
fn largest(len: impl Fn(usize) -> usize) -> usize {
    len(2).max(len(4))
}

/// Floats of partial sums, if the sum is split.
fn split_sums(plan: &Plan, rows: usize, columns: usize) -> usize {
    if plan.chunks > 1 { plan.partial_sums(rows, columns) } else { 0 }
}

/// Maximum side of a window, so that one channel of it fits 48 KiB.
const LARGEST: usize = 110;

/// Pixels per window.
const fn taps(s: &ConvShape) -> usize {
    s.kernel * s.kernel
}
// Plans for elements of `size` bytes, loaded in packs of 16 bytes if C/G and K/G are whole numbers of packs.
fn forward(s: &ConvShape, size: usize, view: &View) -> Plan {
    let vectors = (view.channels / s.groups.max(1) * size).is_multiple_of(16);
    Plan::new([s.output_pixels(), s.group_filters(), view.window(s.groups)], s.groups, vectors, size)
}
fn backward_data(s: &ConvShape, size: usize) -> Plan {
    let [channels, filters] = [s.group_channels(), s.group_filters()];
    let vectors = (channels * size).is_multiple_of(16) && (filters * size).is_multiple_of(16);
    Plan::new([s.input_pixels(), channels, taps(s) * filters], s.groups, vectors, size)
}
fn backward_weight(s: &ConvShape, size: usize, view: &View) -> Plan {
    let filters = s.group_filters();
    let channels = view.channels / s.groups.max(1);
    let vectors = (channels * size).is_multiple_of(16) && (filters * size).is_multiple_of(16);
    Plan::new([filters, view.window(s.groups), s.output_pixels()], s.groups, vectors, size)
}
/// The kernels' shape argument, for a grid whose groups have `columns` columns.
fn shape(s: &ConvShape, operator: &'static str, view: &View, plan: &Plan, columns: usize) -> Result<Shape> {
    let fail = |reason: String| Err(Error::Argument { operator, argument: "shape", reason });
    let ConvShape { height, width, channels, filters, kernel, stride, padding, groups, .. } = *s;
    if groups == 0 || channels % groups != 0 || filters % groups != 0 {
        return fail(format!("has {channels} channels and {filters} filters, no multiple of its {groups} groups"));
    }
    if kernel == 0 || stride == 0 {
        return fail(format!("has a window of side {kernel} and stride {stride}, expected at least 1"));
    }
    if kernel > LARGEST {
        return fail(format!("has a window of side {kernel}, expected at most {LARGEST}"));
    }
    if height + 2 * padding < kernel || width + 2 * padding < kernel {
        return fail(format!("is {height}×{width} with padding {padding}, less than its window of side {kernel}"));
    }
    // Padded coordinates and lengths must fit.
    let weights = s.filters * view.window(groups).next_multiple_of(8);
    let longest = [s.input_len(), s.output_len(), weights, s.batch * height * view.width * view.channels];
    for len in longest.into_iter().chain([s.input_pixels() * channels.next_multiple_of(8)]) {
        extent(operator, "shape", len)?;
    }
    extent(operator, "padded image", (height + 2 * padding) * (width + 2 * padding))?;
    let (group_channels, group_filters) = (view.channels / groups, s.group_filters());
    let (out_height, out_width) = (s.output_height(), s.output_width());
    let int = |n: usize| n as i32;
    Ok(Shape {
        height: int(height),
        width: int(view.width),
        channels: int(view.channels),
        filters: int(filters),
        stride: int(stride),
        padding: int(padding),
        out_height: int(out_height),
        out_width: int(out_width),
        stride_x: int(view.stride),
        padding_x: int(view.padding),
        group_channels: int(group_channels),
        group_filters: int(group_filters),
        inputs: int(s.input_pixels()),
        outputs: int(s.output_pixels()),
        taps: int(view.taps),
        column_tiles: int(columns.div_ceil(plan.tile.side())),
        by_image: Divisor::new(height * view.width),
        by_width: Divisor::new(view.width),
        by_out_image: Divisor::new(out_height * out_width),
        by_out_width: Divisor::new(out_width),
        by_channels: Divisor::new(group_channels),
        by_filters: Divisor::new(group_filters),
        by_kernel: Divisor::new(view.kernel),
        by_stride: Divisor::new(stride),
    })
}

/// Filters and channels per block of `conv_pack_weights`, and the grid.
fn packing(s: &ConvShape) -> ([usize; 2], Grid) {
    /// Floats of shared memory per block, if one channel of one filter fits.
    const BLOCK: usize = 4096;
    let (channels, taps) = (s.group_channels(), taps(s));
    let by = (BLOCK / taps / 8 * 8).clamp(1, channels.max(1));
    let filters = if by == channels { (BLOCK / (channels * taps)).clamp(1, s.filters.max(1)) } else { 1 };
    let blocks = [s.filters.div_ceil(filters) as u32, channels.div_ceil(by) as u32, 1];
    let shared = (filters * by * taps * 4) as u32;
    ([filters, by], Grid::new(blocks, 256).shared(shared))
}

impl Kernels {
    /// Floats of workspace for [`Kernels::conv_forward`] at any precision.
    pub fn conv_forward_workspace(s: &ConvShape) -> usize {
        largest(|size| {
            let view = View::forward(s, size);
            let sums = split_sums(&forward(s, size, &view), s.output_pixels(), s.filters);
            sums + view.copy_floats(s, size) + view.weight_floats(s, size)
        })
    }
    /// Floats of workspace for [`Kernels::conv_backward_data`] at any precision.
    pub fn conv_backward_data_workspace(s: &ConvShape) -> usize {
        largest(|size| split_sums(&backward_data(s, size), s.input_pixels(), s.channels))
    }
    /// Floats of workspace for [`Kernels::conv_backward_weight`] at any precision.
    pub fn conv_backward_weight_workspace(s: &ConvShape) -> usize {
        let bias = Kernels::column_sum_workspace(s.output_pixels(), s.filters);
        let weights = largest(|size| {
            let view = View::weight(s, size);
            let sums = backward_weight(s, size, &view).partial_sums(s.filters, view.window(s.groups));
            sums + view.copy_floats(s, size)
        });
        weights.max(bias)
    }

    /// Reorders w (K, C/groups, R, R), float, to `packed` (K, R, R, C/groups), storage type, which the other operators read.
    /// To be called whenever w changes.
    ///
    /// # Errors
    /// An array of another type or too short; the driver's.
    pub fn conv_pack_weights(&self, conv: &ConvShape, w: &Array, packed: &mut Array) -> Result<()> {
        const NAME: &str = "conv_pack_weights";
        let view = View::plain(conv);
        shape(conv, NAME, &view, &forward(conv, 4, &view), 1)?;
        w.expect(NAME, "w", Number::F32, conv.weight_len())?;
        packed.expect(NAME, "packed", self.storage(), conv.weight_len())?;
        if conv.weight_len() == 0 {
            return Ok(());
        }
        let ([filters, channels], grid) = packing(conv);
        let launch = self.launch("conv", NAME)?.array(w).array_mut(packed).integers([
            conv.filters,
            conv.group_channels(),
            taps(conv),
            filters,
            channels,
        ]);
        // SAFETY: both arrays hold one window per filter and channel; the shared memory fits a block's filters and channels.
        unsafe { launch.run(grid) }
    }

    /// y = x ⋆ w + b, then max(y, 0) if `relu`. `packed` is from [`Kernels::conv_pack_weights`], b is float.
    ///
    /// # Errors
    /// A shape without an output, an array that does not fit; the driver's.
    pub fn conv_forward(&self, a: ConvForward<'_, Self>, workspace: &mut Array) -> Result<()> {
        let ConvForward { shape: conv, relu, x, w: packed, b, y } = a.view(self)?;
        const NAME: &str = ConvForward::<Kernels>::NAME;
        let size = self.storage().size();
        let view = View::forward(conv, size);
        let plan = forward(conv, size, &view);
        let columns = conv.group_filters();
        let argument = shape(conv, NAME, &view, &plan, columns)?;
        workspace.expect(NAME, "workspace", Number::F32, Self::conv_forward_workspace(conv))?;
        if conv.output_len() == 0 {
            return Ok(());
        }
        let epilogue = Epilogue { bias: Some(b), relu, ..Epilogue::default() };
        let split = plan.chunks > 1;
        let sums = split_sums(&plan, conv.output_pixels(), conv.filters);
        let [x, packed] = self.conv_rows(conv, &view, x, Some(packed), workspace, sums)?;
        let kernel = plan.tile.of(["conv_forward_128", "conv_forward_64", "conv_forward_odd"]);
        let launch = self
            .launch("conv", kernel)?
            .value(x)
            .value(packed)
            .array(b)
            .array_mut(y)
            .value(if split { workspace.address() } else { 0 })
            .value(argument)
            .integers([plan.chunk])
            .value(if split { EpilogueArguments::default() } else { epilogue.arguments() });
        let grid = plan.grid(NAME, conv.output_pixels(), columns, conv.groups)?;
        // SAFETY: the lengths of all arrays were checked above against the shape, whose sizes fit 31 bits; the kernel
        // clips tiles and windows to them.
        unsafe { launch.run(grid)? };
        if !split {
            return Ok(());
        }
        self.reduce(NAME, workspace, &epilogue, self.storage(), y, [conv.output_pixels(), conv.filters, plan.chunks])
    }

    /// dx\[n,h,w,c\] = Σ over k, r, s of dy\[n,p,q,k\] · w\[k,c,r,s\] over the windows that contain (h, w).
    ///
    /// # Errors
    /// As [`Kernels::conv_forward`].
    pub fn conv_backward_data(&self, a: ConvBackwardData<'_, Self>, workspace: &mut Array) -> Result<()> {
        let ConvBackwardData { shape: conv, dy, w: packed, dx } = a.view(self)?;
        const NAME: &str = ConvBackwardData::<Kernels>::NAME;
        let plan = backward_data(conv, self.storage().size());
        let columns = conv.group_channels();
        let argument = shape(conv, NAME, &View::plain(conv), &plan, columns)?;
        workspace.expect(NAME, "workspace", Number::F32, Self::conv_backward_data_workspace(conv))?;
        if conv.input_len() == 0 {
            return Ok(());
        }
        let split = plan.chunks > 1;
        let kernel = plan.tile.of(["conv_backward_data_128", "conv_backward_data_64", "conv_backward_data_odd"]);
        let launch = self
            .launch("conv", kernel)?
            .array(dy)
            .array(packed)
            .array_mut(dx)
            .value(if split { workspace.address() } else { 0 })
            .value(argument)
            .integers([plan.chunk])
            .value(EpilogueArguments::default());
        let grid = plan.grid(NAME, conv.input_pixels(), columns, conv.groups)?;
        // SAFETY: as in the forward pass.
        unsafe { launch.run(grid)? };
        if !split {
            return Ok(());
        }
        let epilogue = Epilogue::default();
        self.reduce(NAME, workspace, &epilogue, self.storage(), dx, [conv.input_pixels(), conv.channels, plan.chunks])
    }

    /// dw\[k,c,r,s\] = Σ over n, p, q of dy\[n,p,q,k\] · x\[n, p·stride + r − padding, …, c\] and db\[k\] = Σ dy\[n,p,q,k\],
    /// or adds them; dw, in w's order, and db are float.
    ///
    /// # Errors
    /// As [`Kernels::conv_forward`].
    pub fn conv_backward_weight(&self, a: ConvBackwardWeight<'_, Self>, workspace: &mut Array) -> Result<()> {
        let ConvBackwardWeight { shape: conv, accumulate, x, dy, dw, db } = a.view(self)?;
        const NAME: &str = ConvBackwardWeight::<Kernels>::NAME;
        let size = self.storage().size();
        let view = View::weight(conv, size);
        let plan = backward_weight(conv, size, &view);
        let columns = view.window(conv.groups.max(1));
        let argument = shape(conv, NAME, &view, &plan, columns)?;
        workspace.expect(NAME, "workspace", Number::F32, Self::conv_backward_weight_workspace(conv))?;
        if conv.weight_len() > 0 {
            let kernels = ["conv_backward_weight_128", "conv_backward_weight_64", "conv_backward_weight_odd"];
            let sums = plan.partial_sums(conv.filters, columns);
            let [x, _] = self.conv_rows(conv, &view, x, None, workspace, sums)?;
            let launch = self
                .launch("conv", plan.tile.of(kernels))?
                .value(x)
                .array(dy)
                .array_mut(workspace)
                .value(argument)
                .integers([plan.chunk])
                .value(EpilogueArguments::default());
            let grid = plan.grid(NAME, conv.group_filters(), columns, conv.groups)?;
            // SAFETY: as in the forward pass; the workspace holds the partial sums of all chunks.
            unsafe { launch.run(grid)? };
            let ([filters, channels], grid) = packing(conv);
            let launch = self
                .launch("conv", "conv_reduce_weights")?
                .array(workspace)
                .array_mut(dw)
                .integers([conv.filters, conv.group_channels(), taps(conv), filters, channels, plan.chunks])
                .integers([conv.kernel, columns / conv.kernel])
                .value(i32::from(accumulate));
            // SAFETY: as for packing; the previous launch wrote the partial sums.
            unsafe { launch.run(grid)? };
        }
        self.column_sum(conv.output_pixels(), conv.filters, dy, accumulate, db, workspace)
    }
}
