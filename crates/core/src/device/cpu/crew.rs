//! What every operator of the CPU is given.

use super::array::Array;
use super::pool::Pool;
use super::simd::Level;
use crate::Result;
use alexnet_ops::front;

/// Threads and the instructions they use.
pub struct Crew {
    pub pool: Pool,
    pub level: Level,
}

/// Weights, with the number of their contents.
#[derive(Clone, Copy)]
pub struct Weights<'a> {
    pub values: &'a [f32],
    pub contents: u64,
}

impl<'a> Weights<'a> {
    /// The first `len` numbers of `w`, of which the operator `name` needs so many.
    pub fn of(name: &'static str, w: &'a Array<f32>, len: usize) -> Result<Self> {
        Ok(Self { values: front(name, "w", w, len)?, contents: w.contents() })
    }
}
