//! What every operator of the CPU gets: threads, instruction set and workspace.

use super::gemm::operand::Products;
use super::pool::Pool;
use super::simd::Level;
use super::workspace::Workspace;
use crate::Result;
use alexnet_ops::Precision;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Threads, the instruction set they use, and the memory that operators share.
pub struct Context {
    pub pool: Pool,
    pub level: Level,
    /// Of the operands of products: fp32 or bf16.
    pub precision: Precision,
    /// Whether convolutions may use Winograd's algorithm.
    pub winograd: bool,
    /// Whether weights are stored in half precision.
    pub half: bool,
    workspace: Mutex<Workspace>,
}

impl Context {
    /// With an empty workspace.
    pub fn new(pool: Pool, level: Level) -> Result<Self> {
        let workspace = Mutex::new(Workspace::new(pool.threads())?);
        Ok(Self { pool, level, precision: Precision::Fp32, winograd: true, half: false, workspace })
    }

    /// How products of matrices are computed.
    pub fn products(&self) -> Products {
        Products { level: self.level, precision: self.precision }
    }

    /// Locks the workspace. An operator that holds it must not call another one that takes it.
    pub fn workspace(&self) -> MutexGuard<'_, Workspace> {
        // After a panic in an operator the workspace holds garbage, which no operator reads.
        self.workspace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the gradients of an operator's weights and biases go.
pub struct Gradients<'a> {
    pub dw: &'a mut [f32],
    pub db: &'a mut [f32],
    /// Whether they are added to what is there.
    pub accumulate: bool,
}
