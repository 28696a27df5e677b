use alexnet_core::Sgd;
use alexnet_core::architecture::LayerKind;
use alexnet_kernels::{Array, Number, ParameterGroup, Parameters, Result, Scaler};

use super::{Case, Net, floats, stored};

/// One parameter: w, its gradient and momentum, and the copy in half.
type Parameter = (Array, Array, Array, Option<Array>);

/// The lengths of the network's parameters.
pub fn parameters(net: &Net) -> Vec<usize> {
    net.layers
        .iter()
        .flat_map(|layer| match layer.spec.kind {
            LayerKind::Conv { filters, kernel, groups, .. } => {
                vec![filters * kernel * kernel * layer.input.channels / groups, filters]
            }
            LayerKind::Linear { outputs } => vec![outputs * layer.input.len(), outputs],
            _ => Vec::new(),
        })
        .collect()
}

pub fn cases(net: &Net) -> Vec<Case> {
    let lens = parameters(net);
    let total: usize = lens.iter().sum();
    let case = Case::new("sgd", format!("{} update", net.name), move |kernels| {
        let half = kernels.storage() != Number::F32;
        let parameters = lens.iter().map(|&len| {
            let copy = if half { Some(stored(kernels, len)?) } else { None };
            Ok((floats(kernels, len)?, floats(kernels, len)?, floats(kernels, len)?, copy))
        });
        let mut parameters: Vec<Parameter> = parameters.collect::<Result<_>>()?;
        let (mut optimizer, mut scaler) = (floats(kernels, 4)?, floats(kernels, 4)?);
        let sgd = Sgd { learning_rate: 0.01, momentum: 0.9, weight_decay: 5e-4, nesterov: false, decay_all: true };
        kernels.write_sgd(&sgd, &mut optimizer)?;
        kernels.write_scaler(&Scaler::default(), &mut scaler)?;
        Ok(Box::new(move || {
            let mut table = Parameters::default();
            for (w, g, v, copy) in &mut parameters {
                table.push(w.len(), ParameterGroup { decays: true, rate: 1.0 }, w, g, v, copy.as_mut())?;
            }
            kernels.sgd(&table, &optimizer, &scaler)
        }))
    });
    vec![case.moves(0, 20 * total)]
}

/// Momentum SGD on stored gradients; the linear layers' update is in `linear`.
pub mod cpu {
    use crate::support::*;
    use alexnet_core::device::Operators;
    use criterion::Criterion;

    pub fn bench(criterion: &mut Criterion) {
        for (name, len) in [("convolutions", 2_249_280), ("all", 23_272_266)] {
            let mut parameters = [parameter(len)];
            let group = format!("sgd/{name}");
            measure(criterion, &group, "update", Work::Numbers(5 * len), || {
                cpu().sgd(&RULE, &mut parameters.iter_mut())
            });
        }
    }
}
