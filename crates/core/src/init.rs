//! Initial weights.

use rayon::prelude::*;

use crate::architecture::{Initial, ParameterSpec};
use crate::random::{Philox, normal_pair, purpose};

/// The initial values of parameter number `index` of the network, in PyTorch's order of elements.
///
/// Element i is number i mod 4 of Philox block ⌊i/4⌋: words 0 and 1 give the first two by the Box–Muller transform, words 2
/// and 3 the others.
pub fn initial_values(philox: Philox, index: usize, parameter: &ParameterSpec) -> Vec<f64> {
    let len = parameter.len();
    match parameter.initial {
        Initial::Zero => vec![0.0; len],
        Initial::One => vec![1.0; len],
        Initial::Normal { deviation } => {
            let mut values = vec![0.0; len];
            values.par_chunks_mut(4).enumerate().for_each(|(block, values)| {
                let w = philox.block(purpose::INIT, index as u32, block as u64);
                let normals = normal_pair(w[0], w[1]).into_iter().chain(normal_pair(w[2], w[3]));
                for (value, normal) in values.iter_mut().zip(normals) {
                    *value = normal * deviation;
                }
            });
            values
        }
    }
}
