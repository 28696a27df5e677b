//! The fully connected layer, by the kernels of `gemm.cu`.

use alexnet_ops::arguments::{LinearBackwardData, LinearBackwardWeight, LinearForward};
use alexnet_ops::shape::{DropoutShape, LinearShape};

use crate::array::Array;
use crate::error::Result;
use crate::{Epilogue, Gemm, Kernels, Transpose};

fn forward(s: &LinearShape) -> Gemm {
    Gemm { transpose: Transpose::Nt, m: s.batch, n: s.outputs, k: s.inputs }
}
fn backward_data(s: &LinearShape) -> Gemm {
    Gemm { transpose: Transpose::Nn, m: s.batch, n: s.inputs, k: s.outputs }
}
fn backward_weight(s: &LinearShape) -> Gemm {
    Gemm { transpose: Transpose::Tn, m: s.outputs, n: s.inputs, k: s.batch }
}

impl Kernels {
    /// Floats of workspace for all directions.
    pub fn linear_workspace(s: &LinearShape) -> usize {
        let products = [forward(s).workspace(true), backward_data(s).workspace(false)];
        let gradients = [backward_weight(s).workspace(false), Self::column_sum_workspace(s.batch, s.outputs)];
        products.into_iter().chain(gradients).max().unwrap_or(0)
    }

    /// y = x·wᵀ + b, then max(y, 0) if `relu`, then dropout. x, w, y are of the storage type, b is float.
    ///
    /// # Errors
    /// An array of another type or too short; the driver's.
    pub fn linear_forward(
        &self,
        a: LinearForward<'_, Self>,
        dropout: Option<(&DropoutShape, &Array)>,
        workspace: &mut Array,
    ) -> Result<()> {
        let LinearForward { shape, relu, x, w, b, y } = a.view(self)?;
        let epilogue = Epilogue { bias: Some(b), accumulate: false, relu, dropout };
        self.gemm(&forward(shape), x, w, &epilogue, y, workspace)
    }

    /// dx = dy·w; all of the storage type.
    ///
    /// # Errors
    /// An array of another type or too short; the driver's.
    pub fn linear_backward_data(&self, a: LinearBackwardData<'_, Self>, workspace: &mut Array) -> Result<()> {
        let LinearBackwardData { shape, dy, w, dx } = a.view(self)?;
        self.gemm(&backward_data(shape), dy, w, &Epilogue::default(), dx, workspace)
    }

    /// dw = dyᵀ·x and db = Σ over n of dy, or adds them; dw and db are float.
    ///
    /// # Errors
    /// An array of another type or too short; the driver's.
    pub fn linear_backward_weight(&self, a: LinearBackwardWeight<'_, Self>, workspace: &mut Array) -> Result<()> {
        let LinearBackwardWeight { shape, accumulate, x, dy, dw, db } = a.view(self)?;
        let epilogue = Epilogue { accumulate, ..Epilogue::default() };
        self.gemm(&backward_weight(shape), dy, x, &epilogue, dw, workspace)?;
        self.column_sum(shape.batch, shape.outputs, dy, accumulate, db, workspace)
    }
}
