//! Whitening and identity initialisation, from Keller Jordan's "94% on CIFAR-10 in 3.29 Seconds on a Single GPU" (2024).

use alexnet_core::architecture::LayerKind;
use alexnet_core::{Device, Network};
use nalgebra::{DMatrix, DVector, SymmetricEigen};

use super::error::Result;
use crate::data::{Loader, LoaderOptions, Preprocess, Split};

/// Number of patches from which the covariance is estimated.
const WINDOWS: usize = 100_000;
/// Added to every variance, so that a direction with hardly any variance is not scaled up.
const EPSILON: f64 = 5e-4;

/// Initialises every convolution but the first as an identity: filter i passes channel i on, as far as there are both;
/// further filters keep their values. In a grouped convolution this holds per group.
///
/// # Errors
/// The device's.
pub fn identity<D: Device<Element = f32>>(network: &mut Network<D>) -> Result<()> {
    let groups: Vec<(String, usize)> = network
        .architecture()
        .layers
        .iter()
        .filter_map(|layer| match layer.kind {
            LayerKind::Conv { groups, .. } => Some((format!("{}.weight", layer.name), groups)),
            _ => None,
        })
        .skip(1)
        .collect();
    let (device, parameters) = network.device_and_parameters();
    for parameter in parameters {
        let Some((_, groups)) = groups.iter().find(|(name, _)| *name == parameter.name) else { continue };
        let mut values = vec![0.0; parameter.len()];
        device.read(&parameter.value, &mut values)?;
        let &[filters, channels, height, width] = &parameter.shape[..] else { continue };
        let window = height * width;
        for group in values.chunks_exact_mut(filters / groups * channels * window) {
            for (i, filter) in group.chunks_exact_mut(channels * window).take(channels).enumerate() {
                filter.fill(0.0);
                filter[i * window + height / 2 * width + width / 2] = 1.0;
            }
        }
        device.write(&values, &mut parameter.value)?;
    }
    Ok(())
}

/// Initialises the first convolution as a whitening of training patches: its filters are pairs f and −f, one pair per
/// principal component of the patches, largest variance first, scaled to an output variance of one. Filters beyond twice
/// the elements of a patch keep their values. `seed` gives the order of the images, `threads` decode them (0: all cores).
///
/// # Errors
/// An image cannot be read; the device's.
pub fn whiten<D: Device<Element = f32>>(
    network: &mut Network<D>,
    images: &Split,
    preprocess: Preprocess,
    seed: u64,
    threads: usize,
) -> Result<()> {
    let first = network.architecture().layers.iter().find_map(|layer| match layer.kind {
        LayerKind::Conv { filters, kernel, .. } => Some((format!("{}.weight", layer.name), filters, kernel)),
        _ => None,
    });
    let Some((name, filters, kernel)) = first else { return Ok(()) };
    let image_size = network.architecture().image_size;
    let options = LoaderOptions { image_size, preprocess, seed, threads, ..LoaderOptions::default() };
    let moments = moments(images, kernel, options)?;
    let rows = directions(moments);
    let (device, parameters) = network.device_and_parameters();
    let Some(parameter) = parameters.iter_mut().find(|parameter| parameter.name == name) else { return Ok(()) };
    let mut values = vec![0.0; parameter.len()];
    device.read(&parameter.value, &mut values)?;
    let pairs = values[..].chunks_exact_mut(2 * parameter.len() / filters);
    for (pair, row) in pairs.zip(&rows) {
        let (plus, minus) = pair.split_at_mut(row.len());
        for ((plus, minus), &value) in plus.iter_mut().zip(minus).zip(row.iter()) {
            *plus = value as f32;
            *minus = -*plus;
        }
    }
    device.write(&values, &mut parameter.value)?;
    Ok(())
}

/// E[p·pᵀ] of patches p of the normalised images, laid out (C, R, S) like the weights of a filter.
fn moments(images: &Split, kernel: usize, options: LoaderOptions) -> Result<DMatrix<f64>> {
    let image_size = options.image_size;
    let side = image_size / kernel;
    let needed = WINDOWS.div_ceil(side * side).min(images.len());
    let options = LoaderOptions { batch_size: 16, shuffle: true, ..options };
    let len = 3 * kernel * kernel;
    let mut sum = DMatrix::zeros(len, len);
    let mut seen = 0;
    for batch in Loader::new(images, options)?.take(needed.div_ceil(16)) {
        let batch = batch?;
        for image in batch.images().chunks_exact(image_size * image_size * 3) {
            let at = |y: usize, x: usize, c: usize| f64::from(image[(y * image_size + x) * 3 + c]);
            let windows = DMatrix::from_fn(len, side * side, |element, window| {
                let (c, r, s) = (element / (kernel * kernel), element / kernel % kernel, element % kernel);
                at(window / side * kernel + r, window % side * kernel + s, c)
            });
            sum.gemm(1.0, &windows, &windows.transpose(), 1.0);
            seen += side * side;
        }
    }
    Ok(sum / seen as f64)
}

/// The eigenvectors of a matrix of second moments, largest eigenvalue first, each divided by the square root of its
/// eigenvalue.
fn directions(moments: DMatrix<f64>) -> Vec<DVector<f64>> {
    let eigen = SymmetricEigen::new(moments);
    let mut order: Vec<usize> = (0..eigen.eigenvalues.len()).collect();
    order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
    let scaled = |i: usize| eigen.eigenvectors.column(i) / (eigen.eigenvalues[i].max(0.0) + EPSILON).sqrt();
    order.into_iter().map(scaled).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use alexnet_core::Cpu;
    use alexnet_core::alexnet::{Options, Variant, architecture};
    use alexnet_core::random::Philox;

    use super::*;
    use crate::data::Dataset;
    use alexnet_core::device::Memory;

    fn network(variant: Variant, options: Options) -> Network<Cpu> {
        let device = Arc::new(Cpu::new(1).unwrap());
        let mut network = Network::new(device, architecture(variant, options), 1, true).unwrap();
        network.initialise(Philox::new(3)).unwrap();
        network
    }

    /// Shape and values of every parameter.
    fn parameters(network: &Network<Cpu>) -> Vec<(String, Vec<usize>, Vec<f32>)> {
        let values = |parameter: &alexnet_core::device::Parameter<_>| {
            let mut values = vec![0.0; parameter.len()];
            network.device().read(&parameter.value, &mut values).unwrap();
            (parameter.name.clone(), parameter.shape.clone(), values)
        };
        network.parameters().iter().map(values).collect()
    }

    #[test]
    fn convolutions_begin_with_filters_that_give_one_channel_each() {
        for (options, groups) in [(Options::new(32, 10), 1), (Options { groups: 2, ..Options::new(32, 10) }, 2)] {
            let mut network = network(Variant::Modern, options);
            let before = parameters(&network);
            identity(&mut network).unwrap();
            let (mut identities, mut changed) = (0, Vec::new());
            for ((name, shape, after), (.., before)) in parameters(&network).into_iter().zip(&before) {
                if after == *before {
                    continue;
                }
                // The third is never in groups.
                let groups = if name == "features.7.weight" { 1 } else { groups };
                let len = shape[1] * 9;
                for (filter, (after, before)) in after.chunks(len).zip(before.chunks(len)).enumerate() {
                    let own = filter % (shape[0] / groups);
                    if own < shape[1] {
                        let expected: Vec<f32> = (0..len).map(|i| f32::from(u8::from(i == own * 9 + 4))).collect();
                        assert_eq!(after, expected, "{name} {filter}");
                        identities += 1;
                    } else {
                        assert_eq!(after, before, "{name} {filter}");
                    }
                }
                changed.push(name);
            }
            assert_eq!(changed, [3, 7, 11, 15].map(|i| format!("features.{i}.weight")));
            assert_eq!(identities, 64 + 64 + 256 + 384);
        }
    }

    /// W·E[p·pᵀ]·Wᵀ, of the filters that are not another's negative, is the identity.
    #[test]
    fn whitened_windows_do_not_correlate_and_vary_by_one() {
        let images = Dataset::open("sample", &crate::data::Options::default()).unwrap().train.limit(60);
        let mut network = network(Variant::Modern, Options::new(32, 10));
        let before = parameters(&network);
        whiten(&mut network, &images, Preprocess::default(), 5, 1).unwrap();
        let after = parameters(&network);
        assert_eq!(after[1..], before[1..]);

        let (_, shape, weights) = &after[0];
        assert_eq!(shape[..], [64, 3, 3, 3]);
        let filters: Vec<&[f32]> = weights.chunks(27).collect();
        let options = LoaderOptions { batch_size: 60, ..LoaderOptions::default() };
        let batch = Loader::new(&images, options).unwrap().next().unwrap().unwrap();
        let mut outputs = Vec::new();
        for image in batch.images().chunks(32 * 32 * 3) {
            for (y, x) in (0..100).map(|i| (i / 10 * 3, i % 10 * 3)) {
                let output = |filter: &&[f32]| -> f64 {
                    let at = |i: usize| image[((y + i / 3 % 3) * 32 + x + i % 3) * 3 + i / 9];
                    filter.iter().enumerate().map(|(i, &weight)| f64::from(weight * at(i))).sum()
                };
                outputs.push(filters[..54].iter().step_by(2).map(output).collect::<Vec<_>>());
            }
        }
        let moment = |a: usize, b: usize| outputs.iter().map(|out| out[a] * out[b]).sum::<f64>() / outputs.len() as f64;
        for a in 0..27 {
            assert!(filters[2 * a].iter().zip(filters[2 * a + 1]).all(|(plus, minus)| *plus == -minus));
            assert!((0..a).all(|b| moment(a, b).abs() < 1e-3), "{a} correlates");
            // EPSILON leaves below one what hardly varies.
            assert!(moment(a, a) < 1.001 && (a == 0 || moment(a, a) < moment(a - 1, a - 1) + 1e-3), "{a}");
        }
        assert!(moment(0, 0) > 0.999 && moment(12, 12) > 0.9 && moment(26, 26) > 0.3);
        assert_eq!(weights[54 * 27..], before[0].2[54 * 27..], "filters beyond the directions");
    }
}
