//! Folds batch norms into the convolutions and linear layers before them. With fixed statistics,
//! γ·(w∗x + b − μ)/√(σ²+ε) + β is the same layer with weights γ/√(σ²+ε)·w and bias γ/√(σ²+ε)·(b − μ) + β.

use std::borrow::Cow;

use alexnet_core::{Architecture, Error, LayerKind};

use super::{Model, Tensor};

/// The layers without batch norms, under their old names, and their parameters: computed in f64, rounded to f32 once.
///
/// # Errors
/// A batch norm that follows neither a convolution nor a linear layer.
pub fn fold<'a>(model: &Model<'a>) -> alexnet_core::Result<(Architecture, Vec<Tensor<'a>>)> {
    let mut architecture = model.architecture.clone();
    let mut parameters = model.parameters.clone();
    let is_norm = |kind: &LayerKind| matches!(kind, LayerKind::BatchNorm { .. });
    while let Some(index) = architecture.layers.iter().position(|layer| is_norm(&layer.kind)) {
        let norm = architecture.layers.remove(index);
        for layer in &mut architecture.layers {
            if let LayerKind::Add { from } = &mut layer.kind
                && *from > index
            {
                *from -= 1;
            }
        }
        let before = index.checked_sub(1).map(|before| &architecture.layers[before]);
        let weighted = |kind: &LayerKind| matches!(kind, LayerKind::Conv { .. } | LayerKind::Linear { .. });
        let (LayerKind::BatchNorm { epsilon, .. }, Some(layer)) =
            (norm.kind, before.filter(|layer| weighted(&layer.kind)))
        else {
            let reason = "a batch norm can be exported only right after a convolution or a linear layer".into();
            return Err(Error::Layer { layer: norm.name, reason });
        };
        let mut take = |name: &str| {
            let own = parameters.iter().position(|tensor| tensor.name == format!("{}.{name}", norm.name));
            own.map_or_else(Vec::new, |own| numbers(&parameters.remove(own).bytes))
        };
        let [gamma, beta, mean, variance] = ["weight", "bias", "running_mean", "running_var"].map(&mut take);
        let scales: Vec<f64> = gamma.iter().zip(&variance).map(|(gamma, v)| gamma / (v + epsilon).sqrt()).collect();
        for tensor in &mut parameters {
            let Some(own) = tensor.name.strip_prefix(layer.name.as_str()) else { continue };
            let mut values = numbers(&tensor.bytes);
            let row = values.len() / scales.len().max(1);
            for (i, value) in values.iter_mut().enumerate() {
                match own {
                    ".weight" => *value *= scales[i / row],
                    ".bias" => *value = (*value - mean[i]) * scales[i] + beta[i],
                    _ => {}
                }
            }
            if matches!(own, ".weight" | ".bias") {
                tensor.bytes = Cow::Owned(values.into_iter().flat_map(|x| (x as f32).to_le_bytes()).collect());
            }
        }
    }
    Ok((architecture, parameters))
}

fn numbers(bytes: &[u8]) -> Vec<f64> {
    bytes.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect()
}
