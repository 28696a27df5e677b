use alexnet_kernels::{Array, Averages, Number, Result};

use super::{Case, Net, floats, stored};

/// One parameter: its average, the average's copy in half, and w.
type Parameter = (Array, Option<Array>, Array);

pub fn cases(net: &Net) -> Vec<Case> {
    let lens = super::sgd::parameters(net);
    let total: usize = lens.iter().sum();
    let case = Case::new("ema", format!("{} average", net.name), move |kernels| {
        let half = kernels.storage() != Number::F32;
        let parameters = lens.iter().map(|&len| {
            let copy = if half { Some(stored(kernels, len)?) } else { None };
            Ok((floats(kernels, len)?, copy, floats(kernels, len)?))
        });
        let mut parameters: Vec<Parameter> = parameters.collect::<Result<_>>()?;
        Ok(Box::new(move || {
            let mut table = Averages::default();
            for (e, copy, w) in &mut parameters {
                table.push(w.len(), e, copy.as_mut(), w)?;
            }
            kernels.ema(&table, 0.001)
        }))
    });
    vec![case.moves(0, 12 * total)]
}

/// The moving average of the weights.
pub mod cpu {
    use crate::support::*;
    use alexnet_core::device::Operators;
    use criterion::Criterion;

    pub fn bench(criterion: &mut Criterion) {
        let mut parameters = [parameter(23_272_266)];
        let numbers = 3 * 23_272_266;
        measure(criterion, "ema/all", "update", Work::Numbers(numbers), || cpu().ema(0.999, &mut parameters));
    }
}
