//! The fully connected layer, by the kernels of `gemm.cu`.

use alexnet_ops::arguments::{LinearBackwardData, LinearBackwardWeight, LinearForward};
use alexnet_ops::shape::LinearShape;

use crate::array::Array;
use crate::error::Result;
use crate::{Epilogue, Gemm, Kernels, Transpose, Update};

pub(crate) fn forward(s: &LinearShape) -> Gemm {
    Gemm { transpose: Transpose::Nt, m: s.batch, n: s.outputs, k: s.inputs }
}
pub(crate) fn backward_data(s: &LinearShape) -> Gemm {
    Gemm { transpose: Transpose::Nn, m: s.batch, n: s.inputs, k: s.outputs }
}
pub(crate) fn backward_weight(s: &LinearShape) -> Gemm {
    Gemm { transpose: Transpose::Tn, m: s.outputs, n: s.inputs, k: s.batch }
}

impl Kernels {
    /// Floats of workspace for all directions.
    pub fn linear_workspace(&self, s: &LinearShape) -> usize {
        let products = [forward(s), backward_data(s), backward_weight(s)];
        products.iter().map(|gemm| self.gemm_workspace(gemm)).max().unwrap_or(0)
    }

    /// y = x·wᵀ + b, then max(y, 0) if `relu`, then dropout by the mask of the step given by the first word of `step`. x, w, y
    /// are of the storage type, b is float.
    ///
    /// # Errors
    /// An array of another type or too short; the driver's.
    pub fn linear_forward(&self, a: LinearForward<'_, Self>, step: &Array, workspace: &mut Array) -> Result<()> {
        let LinearForward { shape, relu, dropout, x, w, b, y } = a.view(self)?;
        let dropout = dropout.map(|dropout| (dropout, step));
        let epilogue = Epilogue { bias: Some(b), relu, dropout, ..Epilogue::default() };
        self.gemm(&forward(shape), x, w, &epilogue, y, workspace)
    }

    /// dx = dy·w, then dropout by the mask of the step, then 0 where `mask` is ≤ 0; all of the storage type.
    ///
    /// # Errors
    /// An array of another type or too short; the driver's.
    pub fn linear_backward_data(
        &self,
        a: LinearBackwardData<'_, Self>,
        step: &Array,
        workspace: &mut Array,
    ) -> Result<()> {
        let LinearBackwardData { shape, dropout, dy, w, mask, dx } = a.view(self)?;
        let dropout = dropout.map(|dropout| (dropout, step));
        let epilogue = Epilogue { dropout, mask, ..Epilogue::default() };
        self.gemm(&backward_data(shape), dy, w, &epilogue, dx, workspace)
    }

    /// dw = dyᵀ·x and db = Σ over n of dy, or adds them; dw and db are float.
    ///
    /// # Errors
    /// An array of another type or too short; the driver's.
    pub fn linear_backward_weight(&self, a: LinearBackwardWeight<'_, Self>, workspace: &mut Array) -> Result<()> {
        let LinearBackwardWeight { shape, accumulate, x, dy, dw, db } = a.view(self)?;
        self.gemm_gradients(&backward_weight(shape), [dy, x], accumulate, dw, db, workspace)
    }

    /// The update of w by dw = dyᵀ·x and of b by db = Σ over n of dy, which are not stored. Nothing changes in a step that is
    /// skipped.
    ///
    /// # Errors
    /// An array of another type or too short; the driver's.
    pub fn linear_backward_update(
        &self,
        s: &LinearShape,
        [x, dy]: [&Array; 2],
        update: Update<'_>,
        workspace: &mut Array,
    ) -> Result<()> {
        self.gemm_update(&backward_weight(s), [dy, x], update, workspace)
    }
}
