//! db\[k\] = Σ over the rows of dy (rows × K): the gradient of every bias.
//!
//! The rows are cut into at most [`CHUNKS`] chunks, a task each; the chunks' sums are added in order.
//! Bytes at least: 4·rows·K.

use super::Crew;
use super::pool::Shares;
use super::scratch::{Need, Scratch};
use super::simd::dispatch;
use crate::Result;

const CHUNKS: usize = 32;

fn chunks(rows: usize) -> usize {
    rows.div_ceil(64).clamp(1, CHUNKS)
}

/// Scratch memory of [`run`].
pub fn need(rows: usize, columns: usize) -> Need {
    Need { common: chunks(rows) * columns, local: 0 }
}

/// Sums the columns of `dy` into `db`, or adds the sums to it.
pub fn run(
    crew: &Crew,
    scratch: &mut Scratch,
    dy: &[f32],
    columns: usize,
    accumulate: bool,
    db: &mut [f32],
) -> Result<()> {
    let rows = dy.len() / columns.max(1);
    let need = need(rows, columns);
    scratch.reserve(need)?;
    let (partial, ..) = scratch.parts(need);
    let (chunks, chunk) = (chunks(rows), rows.div_ceil(chunks(rows)));
    {
        let partial = Shares(partial.as_mut_ptr());
        crew.pool.run(chunks, |task, _| {
            // SAFETY: each task has its own sums.
            let sums = unsafe { partial.part(task * columns, columns) };
            let (from, end) = ((task * chunk).min(rows), rows.min((task + 1) * chunk));
            add_rows(crew.level, &dy[from * columns..end * columns], sums);
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
