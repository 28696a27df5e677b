//! The exponential moving average of the weights, kept beside them and swapped with them for evaluation.

use super::Network;
use crate::Result;
use crate::device::{CHUNK, Device, Element};

impl<D: Device> Network<D> {
    /// Keeps an average of every parameter that is trained, beginning with its present value. Parameters without a gradient
    /// have none: they are evaluated with their present value.
    ///
    /// # Errors
    /// Too little memory; the device's.
    pub fn keep_average(&mut self) -> Result<()> {
        let bytes = self.device.storage().parameter as u64;
        let mut values = Vec::new();
        for parameter in self.parameters.iter_mut().filter(|parameter| parameter.gradient.is_some()) {
            let len = parameter.len();
            let average = match &mut parameter.average {
                Some(average) => average,
                none => {
                    self.plan.average += len as u64 * bytes;
                    none.insert(self.device.weights(&parameter.shape)?)
                }
            };
            for start in (0..len).step_by(CHUNK) {
                values.resize(CHUNK.min(len - start), D::Element::from_f64(0.0));
                self.device.read_at(&parameter.value, start, &mut values)?;
                self.device.write_at(&values, average, start)?;
            }
        }
        Ok(())
    }

    /// Moves the average by one update, e = d·e + (1 − d)·w, if one is kept.
    ///
    /// # Errors
    /// The device's.
    pub fn ema(&mut self, decay: f64) -> Result<()> {
        self.device.ema(decay, &mut self.parameters)
    }

    /// Runs `work` with the averages in the place of the weights, where they are kept. `work` must not train.
    pub fn averaged<R>(&mut self, work: impl FnOnce(&mut Self) -> R) -> R {
        self.swap_average();
        let result = work(self);
        self.swap_average();
        result
    }

    fn swap_average(&mut self) {
        self.averaged = !self.averaged;
        for parameter in &mut self.parameters {
            if let Some(average) = &mut parameter.average {
                std::mem::swap(average, &mut parameter.value);
            }
        }
    }
}
