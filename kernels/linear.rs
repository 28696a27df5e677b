//! The fully connected layer, made of `gemm.cu`.

use crate::array::Array;
use crate::error::Result;
use crate::{Dropout, Epilogue, Gemm, Kernels, Transpose};

/// x (N, I) with w (O, I) gives y (N, O) = x·wᵀ + b.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Linear {
    /// N.
    pub batch: usize,
    /// I.
    pub inputs: usize,
    /// O.
    pub outputs: usize,
}

impl Linear {
    fn forward(&self) -> Gemm {
        Gemm { transpose: Transpose::Nt, m: self.batch, n: self.outputs, k: self.inputs }
    }
    fn backward_data(&self) -> Gemm {
        Gemm { transpose: Transpose::Nn, m: self.batch, n: self.inputs, k: self.outputs }
    }
    fn backward_weight(&self) -> Gemm {
        Gemm { transpose: Transpose::Tn, m: self.outputs, n: self.inputs, k: self.batch }
    }
    /// Floats of scratch memory that any of the layer's operators needs.
    pub fn workspace(&self) -> usize {
        let products = [self.forward().workspace(true), self.backward_data().workspace(false)];
        let gradients =
            [self.backward_weight().workspace(false), Kernels::column_sum_workspace(self.batch, self.outputs)];
        products.into_iter().chain(gradients).max().unwrap_or(0)
    }
}

impl Kernels {
    /// y = x·wᵀ + b, then max(y, 0) if `relu`, then dropout. x, w, y are of the storage's number, b is float.
    ///
    /// # Errors
    /// An array that does not fit; the driver's.
    #[allow(clippy::too_many_arguments)]
    pub fn linear_forward(
        &self,
        shape: &Linear,
        x: &Array,
        w: &Array,
        b: &Array,
        relu: bool,
        dropout: Option<(&Dropout, &Array)>,
        y: &mut Array,
        workspace: &mut Array,
    ) -> Result<()> {
        let epilogue = Epilogue { bias: Some(b), accumulate: false, relu, dropout };
        self.gemm(&shape.forward(), x, w, &epilogue, y, workspace)
    }

    /// dx = dy·w; all of the storage's number.
    ///
    /// # Errors
    /// An array that does not fit; the driver's.
    pub fn linear_backward_data(
        &self,
        shape: &Linear,
        dy: &Array,
        w: &Array,
        dx: &mut Array,
        workspace: &mut Array,
    ) -> Result<()> {
        self.gemm(&shape.backward_data(), dy, w, &Epilogue::default(), dx, workspace)
    }

    /// dw = dyᵀ·x and db = Σ over n of dy, or adds them; dw and db are float.
    ///
    /// # Errors
    /// An array that does not fit; the driver's.
    #[allow(clippy::too_many_arguments)]
    pub fn linear_backward_weight(
        &self,
        shape: &Linear,
        x: &Array,
        dy: &Array,
        accumulate: bool,
        dw: &mut Array,
        db: &mut Array,
        workspace: &mut Array,
    ) -> Result<()> {
        let epilogue = Epilogue { accumulate, ..Epilogue::default() };
        self.gemm(&shape.backward_weight(), dy, x, &epilogue, dw, workspace)?;
        self.column_sum(shape.batch, shape.outputs, dy, accumulate, db, workspace)
    }
}
