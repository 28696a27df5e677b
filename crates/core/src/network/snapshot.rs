//! A copy of what training changes, which stays as it is while training goes on.

use super::Network;
use crate::Result;
use crate::device::{Device, Parameter};

impl<D: Device> Network<D> {
    /// A copy of the parameters with momentum and average, on the device, in the memory of an `earlier` one unless that is empty.
    /// Another thread may [read](crate::device::Memory::read_at) it while this one trains.
    ///
    /// # Errors
    /// Too little memory; the device's.
    pub fn snapshot(&self, earlier: Vec<Parameter<D::Buffer>>) -> Result<Vec<Parameter<D::Buffer>>> {
        let mut earlier = earlier.into_iter();
        let copy = |parameter: &Parameter<D::Buffer>| {
            let Parameter { name, shape, momentum, average, rate, .. } = parameter;
            let (to, to_momentum, to_average) = match earlier.next() {
                Some(earlier) => (Some(earlier.value), earlier.momentum, earlier.average),
                None => (None, None, None),
            };
            let kept =
                |from: &Option<D::Buffer>, to| from.as_ref().map(|from| self.device.snapshot(from, to)).transpose();
            Ok(Parameter {
                name: name.clone(),
                shape: shape.clone(),
                value: self.device.snapshot(&parameter.value, to)?,
                gradient: None,
                momentum: kept(momentum, to_momentum)?,
                average: kept(average, to_average)?,
                rate: *rate,
            })
        };
        self.parameters.iter().map(copy).collect()
    }
}
