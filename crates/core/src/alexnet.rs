//! The four variants of AlexNet.

use crate::architecture::{Architecture, LayerKind, LayerSpec};

/// Which AlexNet.
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
}

impl Variant {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Cifar, Self::PaperK11, Self::Torchvision, Self::Original];

    /// Name on the command line and in checkpoints.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cifar => "cifar",
            Self::PaperK11 => "paper-k11",
            Self::Torchvision => "torchvision",
            Self::Original => "original",
        }
    }

    /// The variant with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|variant| variant.name() == name)
    }

    /// Side of the images it is made for.
    pub const fn image(self) -> usize {
        match self {
            Self::Cifar => 32,
            Self::PaperK11 => 96,
            Self::Torchvision => 224,
            Self::Original => 227,
        }
    }
}

/// What may be chosen about a variant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Side of the square image.
    pub image: usize,
    /// Number of classes.
    pub classes: usize,
    /// Rate of both dropout layers.
    pub dropout: f64,
    /// Groups of the second, fourth and fifth convolution: 2 is how two GPUs shared them in 2012.
    pub groups: usize,
}

/// The layers of a variant.
pub fn architecture(variant: Variant, options: Options) -> Architecture {
    let Options { image, classes, dropout, groups } = options;
    let conv = |filters, kernel, stride, padding, groups| LayerKind::Conv { filters, kernel, stride, padding, groups };
    let pool = |kernel| LayerKind::MaxPool { kernel, stride: 2, padding: 0 };
    let lrn = LayerKind::Lrn { size: 5, alpha: 1e-4, beta: 0.75, k: 2.0 };
    // First and second convolution, filters of the fourth, window of the pools.
    let (stem, second, fourth, window) = match variant {
        Variant::Cifar => (conv(64, 3, 2, 1, 1), conv(192, 3, 1, 1, groups), 256, 2),
        Variant::PaperK11 | Variant::Torchvision => (conv(64, 11, 4, 2, 1), conv(192, 5, 1, 2, groups), 256, 3),
        Variant::Original => (conv(96, 11, 4, 0, 1), conv(256, 5, 1, 2, groups), 384, 3),
    };
    let normalise = matches!(variant, Variant::Original).then_some(lrn);
    let mut features = vec![stem, LayerKind::Relu];
    features.extend(normalise);
    features.extend([pool(window), second, LayerKind::Relu]);
    features.extend(normalise);
    features.push(pool(window));
    for conv in [conv(384, 3, 1, 1, 1), conv(fourth, 3, 1, 1, groups), conv(256, 3, 1, 1, groups)] {
        features.extend([conv, LayerKind::Relu]);
    }
    features.push(pool(window));
    let dropout = LayerKind::Dropout { rate: dropout };
    let linear = |outputs| LayerKind::Linear { outputs };
    let classifier = [dropout, linear(4096), LayerKind::Relu, dropout, linear(4096), LayerKind::Relu, linear(classes)];
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
    layers.extend(between.into_iter().map(|(name, kind)| LayerSpec { name: name.into(), kind }));
    layers.extend(numbered("classifier", &classifier));
    Architecture { name: variant.name().into(), image, channels: 3, classes, layers }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    fn count(variant: Variant, image: usize, classes: usize, groups: usize) -> usize {
        let options = Options { image, classes, dropout: 0.5, groups };
        architecture(variant, options).parameters().unwrap().iter().map(|p| p.len()).sum()
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
    }

    #[test]
    fn multiply_adds_of_the_cifar_variant() {
        let options = Options { image: 32, classes: 10, dropout: 0.5, groups: 1 };
        let traced = architecture(Variant::Cifar, options).trace().unwrap();
        let total: u64 = traced.iter().map(|layer| layer.multiply_adds()).sum();
        assert_eq!(total, 62_742_528);
    }

    #[test]
    fn names_of_torchvision() {
        let options = Options { image: 224, classes: 1000, dropout: 0.5, groups: 1 };
        let parameters = architecture(Variant::Torchvision, options).parameters().unwrap();
        let weights: Vec<&str> = parameters.iter().step_by(2).map(|p| p.name.as_str()).collect();
        let expected = [0, 3, 6, 8, 10].map(|i| format!("features.{i}.weight"));
        let classifier = [1, 4, 6].map(|i| format!("classifier.{i}.weight"));
        assert_eq!(weights, expected.iter().chain(&classifier).map(String::as_str).collect::<Vec<_>>());
    }

    #[test]
    fn too_small_an_image_names_the_layer_and_the_smallest_that_works() {
        let options = Options { image: 32, classes: 10, dropout: 0.5, groups: 1 };
        let error = architecture(Variant::PaperK11, options).trace().unwrap_err();
        let Error::NoOutput { layer, smallest, .. } = &error else { panic!("{error}") };
        assert_eq!(layer, "features.12");
        let smallest = smallest.unwrap();
        let of = |image| architecture(Variant::PaperK11, Options { image, ..options });
        assert!(of(smallest).trace().is_ok());
        assert!(of(smallest - 1).trace().is_err());
        assert_eq!(smallest, 63);
    }
}
