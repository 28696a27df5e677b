//! db\[k\] = Σ over the rows of dy (rows × K): the gradient of every bias.
//!
//! The rows are split into at most [`CHUNKS`] chunks, one task each; the chunks' sums are added in order.
//! Minimum memory traffic in bytes: 4·rows·K.

use super::Context;
use super::pool::SyncPtr;
use super::simd::dispatch;
use super::workspace::WorkspaceSize;
use crate::Result;

const CHUNKS: usize = 32;

fn chunks(rows: usize) -> usize {
    rows.div_ceil(64).clamp(1, CHUNKS)
}

/// Workspace of [`run`].
pub fn workspace_size(rows: usize, columns: usize) -> WorkspaceSize {
    WorkspaceSize { shared: chunks(rows) * columns, per_thread: 0 }
}

/// Sums the columns of `dy` into `db`, or adds the sums to it.
pub fn run(context: &Context, dy: &[f32], columns: usize, accumulate: bool, db: &mut [f32]) -> Result<()> {
    let rows = dy.len() / columns.max(1);
    let mut workspace = context.workspace();
    let (partial, _) = workspace.split(workspace_size(rows, columns))?;
    let (chunks, chunk) = (chunks(rows), rows.div_ceil(chunks(rows)));
    {
        let partial = SyncPtr(partial.as_mut_ptr());
        context.pool.run(chunks, |task, _| {
            // SAFETY: each task has its own sums.
            let sums = unsafe { partial.slice_mut(task * columns, columns) };
            let (from, end) = ((task * chunk).min(rows), rows.min((task + 1) * chunk));
            add_rows(context.level, &dy[from * columns..end * columns], sums);
        });
    }
    for (k, db) in db.iter_mut().enumerate() {
        let mut sum = partial[k];
        for chunk in 1..chunks {
            sum += partial[chunk * columns + k];
        }
        *db = if accumulate { *db + sum } else { sum };
    }
    Ok(())
}

dispatch! {
    fn add_rows(rows: &[f32], sums: &mut [f32]) = plain sum
}

#[inline(always)]
fn sum(rows: &[f32], sums: &mut [f32]) {
    sums.fill(0.0);
    for row in rows.chunks_exact(sums.len().max(1)) {
        for (sum, &x) in sums.iter_mut().zip(row) {
            *sum += x;
        }
    }
}
