//! The exponential moving average of the weights, kept beside them and put in their place to be evaluated.

use super::Network;
use crate::Result;
use crate::device::{Device, Element};

impl<D: Device> Network<D> {
    /// Keeps an average of every parameter that is trained, which begins with what it is now. Parameters without
    /// gradient have none: their present value is the one to evaluate with.
    ///
    /// # Errors
    /// Too little memory; the device's.
    pub fn keep_average(&mut self) -> Result<()> {
        let bytes = self.device.storage().parameter as u64;
        let mut values = Vec::new();
        for parameter in self.parameters.iter_mut().filter(|parameter| parameter.gradient.is_some()) {
            let len = parameter.shape.iter().product();
            let average = match &mut parameter.average {
                Some(average) => average,
                none => {
                    self.plan.average += len as u64 * bytes;
                    none.insert(self.device.weights(len)?)
                }
            };
            values.resize(len, D::Element::from_f64(0.0));
            self.device.read(&parameter.value, &mut values)?;
            self.device.write(&values, average)?;
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

    /// Does `work` with the average in the place of the weights, where one is kept; no training may be part of it.
    pub fn averaged<R>(&mut self, work: impl FnOnce(&mut Self) -> R) -> R {
        self.swap_average();
        let result = work(self);
        self.swap_average();
        result
    }

    fn swap_average(&mut self) {
        for parameter in &mut self.parameters {
            if let Some(average) = &mut parameter.average {
                std::mem::swap(average, &mut parameter.value);
            }
        }
    }
}
