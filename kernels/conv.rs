//! Launchers of `conv.cu`.

use crate::Epilogue;
use alexnet_ops::arguments::{ConvBackwardData, ConvBackwardWeight, ConvForward};
use alexnet_ops::shape::ConvShape;

use crate::Kernels;
use crate::Number;
use crate::array::Array;
use crate::error::{Error, Result};
use crate::gemm::extent;
use crate::launch::Value;
use crate::plan::{Machine, Plan};
use crate::winograd::Direction;

mod filters;
mod rows;

pub use filters::FilterLayout;
use rows::View;

/// `Divisor` of tile.cuh: n / divisor = ⌊2n · multiplier / 2³²⁺ˢʰⁱᶠᵗ⌋ for 0 ≤ n < 2³¹.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Divisor {
    divisor: u32,
    multiplier: u32,
    shift: u32,
}

impl Divisor {
    /// With 2^s ≥ d, multiplier = ⌈2^(31+s) / d⌉ < 2³² exceeds the true quotient by less than n·d / (d·2^(31+s)) < 1/d:
    /// too little to reach the next integer (Granlund and Montgomery, "Division by invariant integers", 1994).
    pub(crate) fn new(divisor: usize) -> Self {
        let divisor = (divisor as u32).max(1);
        let ceil_log2 = divisor.next_power_of_two().trailing_zeros();
        let multiplier = (1u64 << (31 + ceil_log2)).div_ceil(divisor.into()) as u32;
        Self { divisor, multiplier, shift: ceil_log2 }
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
    kernel_x: i32,
    kernel: i32,
    row: i32,
    group_channels: i32,
    group_filters: i32,
    inputs: i32,
    outputs: i32,
    column_tiles: i32,
    by_image: Divisor,
    by_width: Divisor,
    by_out_image: Divisor,
    by_out_width: Divisor,
    by_row: Divisor,
    by_channels: Divisor,
    by_filters: Divisor,
    by_kernel: Divisor,
    by_stride: Divisor,
}
// SAFETY: the same fields in the same order as in conv.cu, all of four bytes: no padding.
unsafe impl Value for Shape {}

/// Plans for elements that are loaded in packs of 16 bytes if C/G and K/G are whole numbers of packs.
pub(crate) fn forward(s: &ConvShape, machine: &Machine) -> Plan {
    let view = View::rows(s, machine.number);
    let vectors = (view.channels / s.groups.max(1) * machine.number.size()).is_multiple_of(16);
    Plan::new([s.output_pixels(), s.group_filters(), view.filter.window()], s.groups, vectors, machine, false)
}
pub(crate) fn backward_data(s: &ConvShape, machine: &Machine) -> Plan {
    let [channels, filters] = [s.group_channels(), s.group_filters()];
    let vectors = [channels, filters].iter().all(|row| (row * machine.number.size()).is_multiple_of(16));
    let terms = s.kernel * s.kernel * filters;
    Plan::new([s.input_pixels(), channels, terms], s.groups, vectors, machine, false)
}
pub(crate) fn backward_weight(s: &ConvShape, machine: &Machine) -> Plan {
    let (filters, view) = (s.group_filters(), View::rows(s, machine.number));
    let rows = [view.channels / s.groups.max(1), filters];
    let vectors = rows.iter().all(|row| (row * machine.number.size()).is_multiple_of(16));
    Plan::new([filters, view.filter.window(), s.output_pixels()], s.groups, vectors, machine, true)
}
/// The kernels' shape argument, for a grid with `column_tiles` tiles per group.
fn shape(s: &ConvShape, operator: &'static str, view: &View, column_tiles: usize) -> Result<Shape> {
    let fail = |reason: String| Err(Error::Argument { operator, argument: "shape", reason });
    let ConvShape { height, width, channels, filters, kernel, stride, padding, groups, .. } = *s;
    if groups == 0 || channels % groups != 0 || filters % groups != 0 {
        return fail(format!("has {channels} channels and {filters} filters, no multiple of its {groups} groups"));
    }
    if kernel == 0 || stride == 0 {
        return fail(format!("has a window of side {kernel} and stride {stride}, expected at least 1"));
    }
    if height + 2 * padding < kernel || width + 2 * padding < kernel {
        return fail(format!("is {height}×{width} with padding {padding}, less than its window of side {kernel}"));
    }
    // Padded coordinates and lengths must fit.
    let copied = s.batch * height * view.width * view.channels;
    for len in [s.input_len(), s.output_len(), view.filter.len(), copied] {
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
        kernel_x: int(view.kernel),
        kernel: int(kernel),
        row: int(view.filter.row()),
        group_channels: int(group_channels),
        group_filters: int(group_filters),
        inputs: int(s.input_pixels()),
        outputs: int(s.output_pixels()),
        column_tiles: int(column_tiles),
        by_image: Divisor::new(height * view.width),
        by_width: Divisor::new(view.width),
        by_out_image: Divisor::new(out_height * out_width),
        by_out_width: Divisor::new(out_width),
        by_row: Divisor::new(view.filter.row()),
        by_channels: Divisor::new(group_channels),
        by_filters: Divisor::new(group_filters),
        by_kernel: Divisor::new(kernel),
        by_stride: Divisor::new(stride),
    })
}

impl Kernels {
    /// Floats of workspace for [`Kernels::conv_forward`].
    pub fn conv_forward_workspace(&self, s: &ConvShape) -> usize {
        let direct = || forward(s, &self.machine).workspace() + self.rows_floats(s);
        self.winograd_workspace(s, Direction::Forward).unwrap_or_else(direct)
    }
    /// Floats of workspace for [`Kernels::conv_backward_data`].
    pub fn conv_backward_data_workspace(&self, s: &ConvShape) -> usize {
        let direct = || backward_data(s, &self.machine).workspace();
        self.winograd_workspace(s, Direction::BackwardData).unwrap_or_else(direct)
    }
    /// Floats of workspace for [`Kernels::conv_backward_weight`].
    pub fn conv_backward_weight_workspace(&self, s: &ConvShape) -> usize {
        let direct = || backward_weight(s, &self.machine).workspace() + self.rows_floats(s);
        self.winograd_workspace(s, Direction::BackwardWeight).unwrap_or_else(direct)
    }
    /// Floats of the copy of x, where it is read as rows.
    fn rows_floats(&self, s: &ConvShape) -> usize {
        View::rows(s, self.storage()).copy_floats(s, self.storage())
    }

    /// y = x ⋆ w + b, then max(y, 0) if `relu`. w is in the order of [`FilterLayout`], b is float.
    ///
    /// # Errors
    /// A shape without an output, an array that does not fit; the driver's.
    pub fn conv_forward(&self, a: ConvForward<'_, Self>, workspace: &mut Array) -> Result<()> {
        let ConvForward { shape: conv, relu, x, w, b, y } = a.view(self)?;
        const NAME: &str = ConvForward::<Kernels>::NAME;
        let (view, plan) = (View::rows(conv, self.storage()), forward(conv, &self.machine));
        let argument = shape(conv, NAME, &view, plan.column_tiles(conv.groups))?;
        w.expect(NAME, "w", self.storage(), view.filter.len())?;
        if let Some(sizes) = self.winograd_sizes(conv, Direction::Forward) {
            let arguments = ConvForward { shape: conv, relu, x, w, b, y };
            return self.winograd_forward(&sizes, arguments, workspace);
        }
        let floats = plan.workspace() + view.copy_floats(conv, self.storage());
        workspace.expect(NAME, "workspace", Number::F32, floats)?;
        if conv.output_len() == 0 {
            return Ok(());
        }
        let x = self.conv_rows(conv, &view, x, workspace, plan.workspace())?;
        let epilogue = Epilogue { bias: Some(b), relu, ..Epilogue::default() };
        let turn = self.turn();
        let kernel = plan.tile.of(["conv_forward_128", "conv_forward_64", "conv_forward_odd"]);
        let launch =
            self.launch("conv", kernel)?.value(x).array(w).array(b).array_mut(y).value(self.split(workspace, &turn));
        let launch = launch.value(argument).integers([plan.chunk]).value(epilogue.arguments());
        // SAFETY: the lengths of all arrays were checked above against the shape, whose sizes fit 31 bits; the kernel
        // clips tiles and windows to them.
        unsafe { launch.run(plan.grid(NAME, self.machine.tensor())?) }
    }

    /// dx\[n,h,w,c\] = Σ over k, r, s of dy\[n,p,q,k\] · w\[k,c,r,s\] over the windows that contain (h, w), then 0 where
    /// `mask` is ≤ 0. w is in the order of [`FilterLayout`].
    ///
    /// # Errors
    /// As [`Kernels::conv_forward`].
    pub fn conv_backward_data(&self, a: ConvBackwardData<'_, Self>, workspace: &mut Array) -> Result<()> {
        let ConvBackwardData { shape: conv, dy, w, mask, dx } = a.view(self)?;
        const NAME: &str = ConvBackwardData::<Kernels>::NAME;
        let (view, plan) = (View::plain(conv, self.storage()), backward_data(conv, &self.machine));
        let argument = shape(conv, NAME, &view, plan.column_tiles(conv.groups))?;
        w.expect(NAME, "w", self.storage(), view.filter.len())?;
        if let Some(sizes) = self.winograd_sizes(conv, Direction::BackwardData) {
            let arguments = ConvBackwardData { shape: conv, dy, w, mask, dx };
            return self.winograd_backward_data(&sizes, arguments, workspace);
        }
        workspace.expect(NAME, "workspace", Number::F32, plan.workspace())?;
        if conv.input_len() == 0 {
            return Ok(());
        }
        let epilogue = Epilogue { mask, ..Epilogue::default() };
        let turn = self.turn();
        let kernel = plan.tile.of(["conv_backward_data_128", "conv_backward_data_64", "conv_backward_data_odd"]);
        let launch = self.launch("conv", kernel)?.array(dy).array(w).array_mut(dx).value(self.split(workspace, &turn));
        let launch = launch.value(argument).integers([plan.chunk]).value(epilogue.arguments());
        // SAFETY: as in the forward pass.
        unsafe { launch.run(plan.grid(NAME, self.machine.tensor())?) }
    }

    /// dw\[k,c,r,s\] = Σ over n, p, q of dy\[n,p,q,k\] · x\[n, p·stride + r − padding, …, c\] and db\[k\] = Σ dy\[n,p,q,k\],
    /// or adds them; dw, in the order of [`FilterLayout`], and db are float. Of those that are not finite it notes so in the scaler's
    /// state, if there is one, as [`Kernels::sgd_test`] does; not where they are added.
    ///
    /// # Errors
    /// As [`Kernels::conv_forward`]; a scaler for gradients in fp32.
    pub fn conv_backward_weight(
        &self,
        a: ConvBackwardWeight<'_, Self>,
        scaler: Option<&mut Array>,
        workspace: &mut Array,
    ) -> Result<()> {
        let ConvBackwardWeight { shape: conv, accumulate, test, x, dy, dw, db } = a.view(self)?;
        const NAME: &str = ConvBackwardWeight::<Kernels>::NAME;
        let (view, plan) = (View::rows(conv, self.storage()), backward_weight(conv, &self.machine));
        let argument = shape(conv, NAME, &view, plan.column_tiles(conv.groups))?;
        dw.expect(NAME, "dw", Number::F32, view.filter.len())?;
        if let Some(scaler) = &scaler {
            scaler.expect(NAME, "scaler", Number::F32, 4)?;
            if accumulate || self.storage() == Number::F32 {
                let reason = "is for gradients of half precision that replace others".into();
                return Err(Error::Argument { operator: NAME, argument: "scaler", reason });
            }
        }
        if let Some(sizes) = self.winograd_sizes(conv, Direction::BackwardWeight) {
            let arguments = ConvBackwardWeight { shape: conv, accumulate, test, x, dy, dw, db };
            return self.winograd_backward_weight(&sizes, arguments, workspace);
        }
        let floats = plan.workspace() + view.copy_floats(conv, self.storage());
        workspace.expect(NAME, "workspace", Number::F32, floats)?;
        if conv.filters == 0 {
            return Ok(());
        }
        let x = self.conv_rows(conv, &view, x, workspace, plan.workspace())?;
        let epilogue = Epilogue { accumulate, ..Epilogue::default() };
        let turn = self.turn();
        let kernel = plan.tile.of(["conv_backward_weight_128", "conv_backward_weight_64", "conv_backward_weight_odd"]);
        let launch = self.launch("conv", kernel)?.value(x).array(dy).array_mut(dw).array_mut(db);
        let launch = launch.value(self.split(workspace, &turn)).value(argument).integers([plan.chunk]);
        let launch = launch.value(epilogue.arguments()).value(scaler.map_or(0, |scaler| scaler.address()));
        // SAFETY: as in the forward pass.
        unsafe { launch.run(plan.grid(NAME, self.machine.tensor())?) }
    }
}
