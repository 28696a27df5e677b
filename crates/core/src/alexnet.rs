//! The variants of AlexNet as [`Architecture`]s.

use crate::architecture::{Architecture, LayerKind, LayerSpec};

/// A variant of AlexNet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// For 32×32 images: small first window, pools that do not overlap; 23,272,266 parameters for 10 classes.
    Cifar,
    /// The layers as printed in the tutorial, an 11×11 first window: needs images of at least 63×63, has
    /// 23,490,378 parameters for 10 classes at 95×95 to 126×126.
    PaperK11,
    /// `torchvision.models.alexnet`: 61,100,840 parameters for 1,000 classes.
    Torchvision,
    /// Krizhevsky, Sutskever and Hinton, 2012, for 227×227: 62,378,344 parameters for 1,000 classes.
    Original,
    /// AlexNet's five convolutions and three linear layers in a modern arrangement for 32×32 images: the first two
    /// convolutions keep the resolution, a batch norm precedes every ReLU, the last pool leaves one pixel, and the linear
    /// layers are narrow. 64, 64, 256, 384 and 512 filters on maps of 32, 32, 16, 8 and 4 pixels a side; 3,376,586
    /// parameters for 10 classes. It takes 1.3 times the multiply-adds of `cifar`, counting 3×3 convolutions of stride 1 as
    /// a quarter, which is what Winograd's algorithm leaves of them, and moves five times as many activations.
    Modern,
}

impl Variant {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Cifar, Self::PaperK11, Self::Torchvision, Self::Original, Self::Modern];

    /// Name on the command line and in checkpoints.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cifar => "cifar",
            Self::PaperK11 => "paper-k11",
            Self::Torchvision => "torchvision",
            Self::Original => "original",
            Self::Modern => "modern",
        }
    }

    /// The variant with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|variant| variant.name() == name)
    }

    /// Side in pixels of the images it is designed for.
    pub const fn image_size(self) -> usize {
        match self {
            Self::Cifar | Self::Modern => 32,
            Self::PaperK11 => 96,
            Self::Torchvision => 224,
            Self::Original => 227,
        }
    }
}

/// The options of a variant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Side of the square images in pixels.
    pub image_size: usize,
    /// Number of classes.
    pub classes: usize,
    /// Rate of both dropout layers.
    pub dropout: f64,
    /// Groups of the second, fourth and fifth convolution; 2 as in 2012, when two GPUs shared them.
    pub groups: usize,
    /// Whether a batch norm precedes every ReLU; `modern` always has them.
    pub batch_norm: bool,
    /// Whether an identity shortcut goes around every convolution that keeps the shape, added before the ReLU.
    pub residual: bool,
}

impl Options {
    /// The defaults.
    pub const fn new(image_size: usize, classes: usize) -> Self {
        Self { image_size, classes, dropout: 0.5, groups: 1, batch_norm: false, residual: false }
    }
}

/// As PyTorch's default.
const BATCH_NORM: LayerKind = LayerKind::BatchNorm { epsilon: 1e-5, momentum: 0.1 };

const fn conv(filters: usize, kernel: usize, stride: usize, padding: usize, groups: usize) -> LayerKind {
    LayerKind::Conv { filters, kernel, stride, padding, groups }
}

/// The layers of a variant.
pub fn architecture(variant: Variant, options: Options) -> Architecture {
    let Options { image_size, classes, dropout, groups, batch_norm, residual } = options;
    let batch_norm = (batch_norm || variant == Variant::Modern).then_some(BATCH_NORM);
    // A convolution or linear layer with what follows it.
    let unit = |layer| [layer].into_iter().chain(batch_norm).chain([LayerKind::Relu]);
    let features: Vec<LayerKind> = match variant {
        Variant::Modern => {
            let pool = |kernel| [LayerKind::MaxPool { kernel, stride: kernel, padding: 0 }];
            let mut features: Vec<_> = unit(conv(64, 3, 1, 1, 1)).collect();
            features.extend(unit(conv(64, 3, 1, 1, groups)).chain(pool(2)));
            features.extend(unit(conv(256, 3, 1, 1, 1)).chain(pool(2)));
            features.extend(unit(conv(384, 3, 1, 1, groups)).chain(pool(2)));
            features.extend(unit(conv(512, 3, 1, 1, groups)).chain(pool(4)));
            features
        }
        _ => {
            // First and second convolution, filters of the fourth, window of the pools.
            let (stem, second, fourth, window) = match variant {
                Variant::PaperK11 | Variant::Torchvision => (conv(64, 11, 4, 2, 1), conv(192, 5, 1, 2, groups), 256, 3),
                Variant::Original => (conv(96, 11, 4, 0, 1), conv(256, 5, 1, 2, groups), 384, 3),
                _ => (conv(64, 3, 2, 1, 1), conv(192, 3, 1, 1, groups), 256, 2),
            };
            let lrn = LayerKind::Lrn { size: 5, alpha: 1e-4, beta: 0.75, k: 2.0 };
            let lrn = (variant == Variant::Original).then_some(lrn);
            let pool = [LayerKind::MaxPool { kernel: window, stride: 2, padding: 0 }];
            let mut features: Vec<_> = unit(stem).chain(lrn).chain(pool).collect();
            features.extend(unit(second).chain(lrn).chain(pool));
            features.extend(unit(conv(384, 3, 1, 1, 1)));
            features.extend(unit(conv(fourth, 3, 1, 1, groups)));
            features.extend(unit(conv(256, 3, 1, 1, groups)).chain(pool));
            features
        }
    };
    let hidden = if variant == Variant::Modern { 512 } else { 4096 };
    let dropout = LayerKind::Dropout { rate: dropout };
    let linear = |outputs| LayerKind::Linear { outputs };
    let classifier: Vec<_> = [dropout]
        .into_iter()
        .chain(unit(linear(hidden)))
        .chain([dropout])
        .chain(unit(linear(hidden)))
        .chain([linear(classes)])
        .collect();
    let between = match variant {
        Variant::Torchvision => {
            vec![("avgpool", LayerKind::AdaptiveAvgPool { side: 6 }), ("flatten", LayerKind::Flatten)]
        }
        _ => vec![("flatten", LayerKind::Flatten)],
    };

    let numbered = |group: &str, kinds: &[LayerKind]| -> Vec<LayerSpec> {
        let named = |(i, &kind): (usize, &LayerKind)| LayerSpec { name: format!("{group}.{i}"), kind };
        kinds.iter().enumerate().map(named).collect()
    };
    let mut layers = numbered("features", &features);
    if residual {
        add_shortcuts(&mut layers, 3);
    }
    layers.extend(between.into_iter().map(|(name, kind)| LayerSpec { name: name.into(), kind }));
    layers.extend(numbered("classifier", &classifier));
    Architecture { name: variant.name().into(), image_size, channels: 3, classes, layers }
}

/// Adds an identity shortcut around every convolution whose output has its input's shape. Its end has no number of its own,
/// so that all other layers keep their names.
fn add_shortcuts(layers: &mut Vec<LayerSpec>, mut channels: usize) {
    let mut place = 0;
    while let Some(layer) = layers.get(place) {
        if let LayerKind::Conv { filters, kernel, stride, padding, .. } = layer.kind {
            let same = filters == channels && stride == 1 && 2 * padding + 1 == kernel;
            channels = filters;
            if same {
                let name = format!("{}.add", layer.name);
                let norm = matches!(layers.get(place + 1), Some(LayerSpec { kind: LayerKind::BatchNorm { .. }, .. }));
                layers.insert(place + 1 + usize::from(norm), LayerSpec { name, kind: LayerKind::Add { from: place } });
            }
        }
        place += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    fn count(variant: Variant, image: usize, classes: usize, groups: usize) -> usize {
        let options = Options { groups, ..Options::new(image, classes) };
        architecture(variant, options).parameter_count().unwrap()
    }

    #[test]
    fn parameter_counts() {
        assert_eq!(count(Variant::Cifar, 32, 10, 1), 23_272_266);
        for image in [95, 96, 126] {
            assert_eq!(count(Variant::PaperK11, image, 10, 1), 23_490_378);
        }
        assert_ne!(count(Variant::PaperK11, 94, 10, 1), 23_490_378);
        assert_ne!(count(Variant::PaperK11, 127, 10, 1), 23_490_378);
        assert_eq!(count(Variant::Torchvision, 224, 1000, 1), 61_100_840);
        assert_eq!(count(Variant::Original, 227, 1000, 1), 62_378_344);
        assert_eq!(count(Variant::Original, 227, 1000, 2), 60_965_224);
        assert_eq!(count(Variant::Modern, 32, 10, 1), 3_376_586);
    }

    #[test]
    fn multiply_adds_of_the_cifar_variant() {
        let options = Options::new(32, 10);
        let traced = architecture(Variant::Cifar, options).trace().unwrap();
        let total: u64 = traced.iter().map(|layer| layer.multiply_adds()).sum();
        assert_eq!(total, 62_742_528);
    }

    #[test]
    fn names_of_torchvision() {
        let options = Options::new(224, 1000);
        let parameters = architecture(Variant::Torchvision, options).parameters().unwrap();
        let weights: Vec<&str> = parameters.iter().step_by(2).map(|p| p.name.as_str()).collect();
        let expected = [0, 3, 6, 8, 10].map(|i| format!("features.{i}.weight"));
        let classifier = [1, 4, 6].map(|i| format!("classifier.{i}.weight"));
        assert_eq!(weights, expected.iter().chain(&classifier).map(String::as_str).collect::<Vec<_>>());
    }

    #[test]
    fn a_batch_norm_stands_before_every_relu() {
        let plain = architecture(Variant::Cifar, Options::new(32, 10));
        let normalised = architecture(Variant::Cifar, Options { batch_norm: true, ..Options::new(32, 10) });
        let kinds: Vec<_> = normalised.layers.iter().map(|layer| layer.kind).collect();
        for (i, layer) in normalised.layers.iter().enumerate() {
            assert_eq!(layer.kind == BATCH_NORM, kinds.get(i + 1) == Some(&LayerKind::Relu), "{}", layer.name);
            let weighted = |kind| matches!(kind, LayerKind::Conv { .. } | LayerKind::Linear { .. });
            assert!(layer.kind != BATCH_NORM || weighted(kinds[i - 1]));
        }
        // Numbered as in a torch.nn.Sequential of all of them.
        let names: Vec<_> = normalised.parameters().unwrap().into_iter().map(|p| p.name).take(8).collect();
        let own = ["0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "4.weight", "4.bias"];
        assert_eq!(names, own.map(|name| format!("features.{name}")));
        // Everything else is as without; the running statistics do not count.
        let without: Vec<_> = kinds.into_iter().filter(|kind| *kind != BATCH_NORM).collect();
        assert_eq!(without, plain.layers.iter().map(|layer| layer.kind).collect::<Vec<_>>());
        let outputs = 64 + 192 + 384 + 256 + 256 + 4096 + 4096;
        assert_eq!(normalised.parameter_count().unwrap(), plain.parameter_count().unwrap() + 2 * outputs);
    }

    #[test]
    fn modern_is_five_convolutions_and_three_linear_layers_of_little_more_work() {
        let traced = |variant| architecture(variant, Options::new(32, 10)).trace().unwrap();
        // Where the window is 3×3 and the stride 1, Winograd's algorithm leaves a quarter.
        let work = |variant| {
            let quarter = |layer: &crate::architecture::TracedLayer| match layer.spec.kind {
                LayerKind::Conv { kernel: 3, stride: 1, .. } if layer.input.channels > 3 => layer.multiply_adds() / 4,
                _ => layer.multiply_adds(),
            };
            traced(variant).iter().map(quarter).sum::<u64>()
        };
        assert!(work(Variant::Modern) * 10 <= work(Variant::Cifar) * 16, "{}", work(Variant::Modern));
        let layers = traced(Variant::Modern);
        let of = |is: fn(&LayerKind) -> bool| layers.iter().filter(|layer| is(&layer.spec.kind)).count();
        assert_eq!(of(|kind| matches!(kind, LayerKind::Conv { .. })), 5);
        assert_eq!(of(|kind| matches!(kind, LayerKind::BatchNorm { .. })), 7);
        assert_eq!(of(|kind| matches!(kind, LayerKind::Linear { .. })), 3);
        let flatten = layers.iter().find(|layer| layer.spec.kind == LayerKind::Flatten).unwrap();
        assert_eq!((flatten.input.height, flatten.input.width, flatten.input.channels), (1, 1, 512));
    }

    #[test]
    fn a_shortcut_goes_around_each_convolution_that_keeps_the_shape() {
        for (variant, image, ends) in [
            (Variant::Cifar, 32, &["features.10.add"][..]),
            (Variant::Modern, 32, &["features.3.add"]),
            (Variant::Torchvision, 224, &["features.10.add"]),
            (Variant::Original, 227, &["features.10.add"]),
        ] {
            let plain = architecture(variant, Options::new(image, 10));
            let residual = architecture(variant, Options { residual: true, ..Options::new(image, 10) });
            residual.trace().unwrap();
            let is_add = |layer: &&LayerSpec| matches!(layer.kind, LayerKind::Add { .. });
            let found: Vec<_> = residual.layers.iter().filter(is_add).map(|layer| layer.name.as_str()).collect();
            assert_eq!(found, ends, "{variant:?}");
            let others: Vec<_> = residual.layers.iter().filter(|layer| !is_add(layer)).cloned().collect();
            assert_eq!(others, plain.layers);
            for (i, layer) in residual.layers.iter().enumerate() {
                let LayerKind::Add { from } = layer.kind else { continue };
                assert_eq!(layer.name, format!("{}.add", residual.layers[from].name));
                assert_eq!(residual.layers[i + 1].kind, LayerKind::Relu);
            }
        }
    }

    #[test]
    fn two_layers_of_one_name_are_refused() {
        let mut network = architecture(Variant::Cifar, Options::new(32, 10));
        network.layers.last_mut().unwrap().name = "classifier.4".into();
        let error = network.trace().unwrap_err();
        assert_eq!(error.to_string(), "layer classifier.4: another layer has the same name");
        assert_eq!(network.parameters().unwrap_err(), error);
    }

    #[test]
    fn too_small_an_image_names_the_layer_and_the_smallest_that_works() {
        let options = Options::new(32, 10);
        let error = architecture(Variant::PaperK11, options).trace().unwrap_err();
        let Error::NoOutput { layer, smallest, .. } = &error else { panic!("{error}") };
        assert_eq!(layer, "features.12");
        let smallest = smallest.unwrap();
        let of = |image_size| architecture(Variant::PaperK11, Options { image_size, ..options });
        assert!(of(smallest).trace().is_ok());
        assert!(of(smallest - 1).trace().is_err());
        assert_eq!(smallest, 63);
    }
}
