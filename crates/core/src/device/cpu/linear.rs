//! Fully connected layers: x (N, I), w (O, I) as in PyTorch, y (N, O).
//!
//! - forward: y = x·wᵀ; a task computes some outputs and reads its rows of w once.
//! - data gradient: dx = dy·w; a task computes some inputs and reads its columns of w once.
//! - weight gradient: dw = dyᵀ·x; a task computes some rows of dw. If the update is fused, a task computes some columns of its
//!   rows while the weights they update are prefetched, and applies them before they leave the cache.
//!
//! The left operand is packed first, once for all tasks; for the weight gradient both are. A network for inference
//! has its weights in panels, so that none is packed.
//!
//! Multiply-adds: N·I·O in each direction. Minimum memory traffic in bytes: 4·I·O for w or dw, 16·I·O for the fused update;
//! at small N this is the limit.

use super::gemm::few_rows::{self, gemm_few_rows};
use super::gemm::operand::{Operand, Products};
use super::gemm::tile::Prefetch;
use super::gemm::{self, MatMut, MatRef, gemm_prepacked, gemm_stream_b, gemm_stream_panels, pack, prepacked_body};
use super::pool::SyncPtr;
use super::simd::{Simd, dispatch};
use super::weights::Values;
use super::workspace::WorkspaceSize;
use super::{Context, column_sums, relu, sgd};
use crate::shape::LinearShape;
use crate::{Result, Sgd};
use alexnet_ops::Precision;

/// Rows of dw per task: whole micro-panels at any level.
const ROWS: usize = 48;
/// The same with a fused update.
fn rows_in_cache(products: Products) -> usize {
    if products.uses_tiles() { 32 } else { 24 }
}
/// Columns of dw that are computed and applied at once, with a fused update.
const COLUMNS_IN_CACHE: usize = 512;
/// Micro-panels of A, or groups of columns of B, that a task packs.
const PACKED: usize = 8;

/// Workspace for all directions that a network runs.
pub fn workspace_size(context: &Context, s: &LinearShape, training: bool) -> WorkspaceSize {
    let products = context.products();
    let forward = stream_workspace(products, s.batch, s.inputs);
    if training {
        let sums = column_sums::workspace_size(s.batch, s.outputs);
        forward.max(stream_workspace(products, s.batch, s.outputs)).max(prepacked_workspace(products, s)).max(sums)
    } else {
        forward
    }
}

/// For a product with w whose left operand is N×`k`.
fn stream_workspace(products: Products, batch: usize, k: usize) -> WorkspaceSize {
    WorkspaceSize { shared: pack::packed_a_len(batch, products.steps(k)), per_thread: gemm::stream_buffer(batch) }
}

fn prepacked_workspace(products: Products, s: &LinearShape) -> WorkspaceSize {
    let steps = products.steps(s.batch);
    WorkspaceSize {
        shared: pack::packed_a_len(s.outputs, steps) + pack::packed_b_len(steps, s.inputs),
        per_thread: rows_in_cache(products) * COLUMNS_IN_CACHE,
    }
}

/// Columns per task: whole micro-panels, at most 256; fewer, to get sixteen tasks, if there are enough micro-panels.
fn columns(n: usize) -> usize {
    n.div_ceil(16).next_multiple_of(gemm::COLUMNS).clamp(gemm::COLUMNS, gemm::STREAM_COLUMNS)
}

/// Packs A (M×K) on all threads.
fn pack_a(context: &Context, products: Products, a: MatRef, [m, k]: [usize; 2], to: SyncPtr<f32>) {
    // The number of micro-panels depends on the level; those past the end do nothing.
    context.pool.run(m.div_ceil(PACKED), |task, _| {
        // SAFETY: the caller's matrix; each task writes its own micro-panels.
        unsafe { pack::pack_a(products, a, [m, k], task * PACKED, PACKED, to.at(0)) }
    });
}

/// Calls `task(first column, number of columns, thread)` for the products of `n` columns, on all threads.
fn for_each_columns(context: &Context, n: usize, task: impl Fn(usize, usize, usize) + Sync) {
    let columns = columns(n);
    context.pool.run(n.div_ceil(columns), |i, thread| task(i * columns, columns.min(n - i * columns), thread));
}

/// y (N×n) = a (N×k) · b (k×n), where `multiply(packed a, first column, number of columns, y, buffer)` computes some columns.
fn product(
    context: &Context,
    products: Products,
    [batch, n, k]: [usize; 3],
    a: MatRef,
    y: SyncPtr<f32>,
    multiply: impl Fn(*const f32, usize, usize, MatMut, *mut f32) + Sync,
) -> Result<()> {
    let mut workspace = context.workspace();
    let (shared, local) = workspace.split(stream_workspace(products, batch, k))?;
    let packed = SyncPtr(shared.as_mut_ptr());
    pack_a(context, products, a, [batch, k], packed);
    for_each_columns(context, n, |from, width, thread| {
        // SAFETY: each thread has its own memory, each task its own columns of y.
        unsafe {
            let c = MatMut { start: y.at(from), stride: n, accumulate: false };
            multiply(packed.at(0), from, width, c, local.slice(thread).as_mut_ptr());
        }
    });
    Ok(())
}

/// See [`Operators::linear_forward`](crate::device::Operators::linear_forward).
pub fn forward(
    context: &Context,
    s: &LinearShape,
    x: &[f32],
    w: Values,
    b: &[f32],
    relu: bool,
    y: &mut [f32],
) -> Result<()> {
    let (level, products) = (context.level, context.products());
    let &LinearShape { batch, inputs, outputs } = s;
    let y = SyncPtr(y.as_mut_ptr());
    // SAFETY: each task has its own columns of y.
    let finish = |from: usize, width: usize| unsafe {
        for row in 0..batch {
            let y = y.slice_mut(row * outputs + from, width);
            relu::bias_relu(level, y, &b[from..from + width], relu);
        }
    };
    let w = match w {
        Values::Rows(w) => {
            let (x, size) = (MatRef::row_major(x, inputs), [batch, outputs, inputs]);
            return product(context, products, size, x, y, |x, from, width, c, buffer| {
                let w = MatRef::column_major(&w[from * inputs..], inputs);
                // SAFETY: the matrices have the stated sizes.
                unsafe { gemm_stream_b(products, [batch, width, inputs], x, w, c, buffer) }
                finish(from, width);
            });
        }
        Values::Panels(w) => w,
    };
    let products = Products { precision: Precision::Fp32, ..products };
    if !few_rows::suits(batch) {
        let (x, size) = (MatRef::row_major(x, inputs), [batch, outputs, inputs]);
        return product(context, products, size, x, y, |x, from, width, c, buffer| {
            // SAFETY: the matrices have the stated sizes.
            unsafe { gemm_stream_panels(level, [batch, width, inputs], x, w.rows_from(from), c, buffer) }
            finish(from, width);
        });
    }
    let mut workspace = context.workspace();
    let (columns, _) = workspace.split(stream_workspace(products, batch, inputs))?;
    for (i, x) in x.chunks_exact(inputs.max(1)).enumerate() {
        for (to, &x) in columns[i..].iter_mut().step_by(batch).zip(x) {
            *to = x;
        }
    }
    for_each_columns(context, outputs, |from, width, _| {
        // SAFETY: each task has its own columns of y; the matrices have the stated sizes.
        unsafe {
            let c = MatMut { start: y.at(from), stride: outputs, accumulate: false };
            gemm_few_rows(level, [batch, width, inputs], columns.as_ptr(), w.rows_from(from), c);
        }
        finish(from, width);
    });
    Ok(())
}

/// See [`Operators::linear_backward_data`](crate::device::Operators::linear_backward_data).
pub fn backward_data(context: &Context, s: &LinearShape, dy: &[f32], w: &[f32], dx: &mut [f32]) -> Result<()> {
    let (a, products, dx) = (MatRef::row_major(dy, s.outputs), context.products(), SyncPtr(dx.as_mut_ptr()));
    product(context, products, [s.batch, s.inputs, s.outputs], a, dx, |dy, from, width, c, buffer| {
        let w = MatRef::row_major(&w[from..], s.inputs);
        // SAFETY: the matrices have the stated sizes.
        unsafe { gemm_stream_b(products, [s.batch, width, s.outputs], dy, w, c, buffer) }
    })
}

/// Where the gradient of the weights goes.
pub enum Gradient<'a> {
    /// Into `dw`, or added to it.
    Store { dw: &'a mut [f32], accumulate: bool },
    /// Into an update of the weights and their momentum.
    Update { optimizer: &'a Sgd, value: &'a mut [f32], momentum: &'a mut [f32] },
}

/// The gradients of weights and biases; db accumulates if dw does.
pub fn backward_weight(
    context: &Context,
    s: &LinearShape,
    x: &[f32],
    dy: &[f32],
    gradient: Gradient,
    db: &mut [f32],
) -> Result<()> {
    let accumulate = matches!(gradient, Gradient::Store { accumulate: true, .. });
    column_sums::run(context, dy, s.outputs, accumulate, db)?;
    let mut workspace = context.workspace();
    let products = context.products();
    let (shared, local) = workspace.split(prepacked_workspace(products, s))?;
    let (a, b) = shared.split_at_mut(pack::packed_a_len(s.outputs, products.steps(s.batch)));
    let (a, b) = (SyncPtr(a.as_mut_ptr()), SyncPtr(b.as_mut_ptr()));
    pack_a(context, products, MatRef::column_major(dy, s.outputs), [s.outputs, s.batch], a);
    let width = PACKED * gemm::COLUMNS;
    let x = MatRef::row_major(x, s.inputs);
    context.pool.run(s.inputs.div_ceil(width), |task, _| {
        let from = task * width;
        // SAFETY: x has the stated size; each task writes its own micro-panels.
        unsafe { pack::pack_b(products, x, s.batch, from, width.min(s.inputs - from), b.at(0)) }
    });
    match gradient {
        Gradient::Store { dw, accumulate } => {
            let dw = SyncPtr(dw.as_mut_ptr());
            context.pool.run(s.outputs.div_ceil(ROWS), |task, _| {
                let row = task * ROWS;
                let rows = row..s.outputs.min(row + ROWS);
                // SAFETY: the matrices have the stated sizes; each task has its own rows of dw.
                unsafe {
                    let c = MatMut { start: dw.at(row * s.inputs), stride: s.inputs, accumulate };
                    let size = [s.inputs, s.batch];
                    gemm_prepacked(products, rows, size, a.at(0), b.at(0), c, &Prefetch::NONE);
                }
            });
        }
        Gradient::Update { optimizer, value, momentum } => {
            let (value, momentum) = (SyncPtr(value.as_mut_ptr()), SyncPtr(momentum.as_mut_ptr()));
            let rows_in_cache = rows_in_cache(products);
            context.pool.run(s.outputs.div_ceil(rows_in_cache), |task, thread| {
                let row = task * rows_in_cache;
                let rows = rows_in_cache.min(s.outputs - row);
                let (start, len) = (row * s.inputs, rows * s.inputs);
                // SAFETY: each thread has its own memory, each task its own rows of w and its momentum.
                unsafe {
                    let (value, momentum) = (value.slice_mut(start, len), momentum.slice_mut(start, len));
                    let rows = UpdatedRows { first: row, value, momentum };
                    update_rows(products, s, optimizer, a.at(0), b.at(0), local.slice(thread), rows);
                }
            });
        }
    }
    Ok(())
}

/// Some rows of w, from row `first` on, and their momentum.
struct UpdatedRows<'a> {
    first: usize,
    value: &'a mut [f32],
    momentum: &'a mut [f32],
}

dispatch! {
    /// Updates `rows` with the gradient dyᵀ·x from dy packed as `a` and x packed as `b`. A group of columns of the gradient is
    /// computed in `dw` while the weights it updates are prefetched.
    ///
    /// # Safety
    /// The matrices have the stated sizes.
    unsafe fn update_rows(s: &LinearShape, optimizer: &Sgd, a: *const f32, b: *const f32, dw: &mut [f32], rows: UpdatedRows) = product update_rows_body
}
#[inline(always)]
unsafe fn update_rows_body<S: Simd, O: Operand>(
    s: &LinearShape,
    optimizer: &Sgd,
    a: *const f32,
    b: *const f32,
    dw: &mut [f32],
    UpdatedRows { first, value, momentum }: UpdatedRows,
) {
    let steps = O::steps(s.batch);
    for j in (0..s.inputs).step_by(COLUMNS_IN_CACHE) {
        let (rows, columns) = (value.len() / s.inputs, COLUMNS_IN_CACHE.min(s.inputs - j));
        // Each tile prefetches the lines of one row; there are at least as many tiles as rows.
        let second = (momentum.as_ptr().addr().wrapping_sub(value.as_ptr().addr())) / size_of::<f32>();
        let step = columns.div_ceil(steps.max(1)).min(16);
        let prefetch = Prefetch { start: &value[j], tiles: rows, tile_stride: s.inputs, step, jump: 0, second };
        // SAFETY: micro-panels of `columns` columns from column j on; `dw` has room for the rows' part of them.
        unsafe {
            let c = MatMut { start: dw.as_mut_ptr(), stride: columns, accumulate: false };
            let b = b.add(j * steps);
            prepacked_body::<S, O>(first..first + rows, [columns, s.batch], a, b, c, &prefetch);
        }
        for (i, dw) in dw.chunks_exact(columns).take(rows).enumerate() {
            let here = i * s.inputs + j..i * s.inputs + j + columns;
            sgd::update_body(optimizer, &mut value[here.clone()], dw, &mut momentum[here]);
        }
    }
}
