//! Responses: the description of the network, and the classification of a picture.

use std::time::Instant;

use alexnet_core::{Architecture, LayerKind};
use serde_json::{Value, json};

use crate::data::decode::Exif;
use crate::data::{Fit, decode, resize};
use crate::picture::{self, Picture};
use crate::run::Result;
use crate::run::classifier::{Classifier, top};

/// Most channels of a layer that are drawn.
const MOST_CHANNELS: usize = 256;

/// The served network.
pub struct Model {
    classifier: Classifier,
    /// Name of the checkpoint, for the page.
    name: String,
    filters: Option<Picture>,
}

/// A decoded picture: its size, and the pixels that the network sees.
pub struct Decoded {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Decoded {
    /// Decodes a picture.
    ///
    /// # Errors
    /// The reason, as text for the client.
    pub fn new(bytes: &[u8], exif: Exif, fit: Fit) -> Result<Self, String> {
        let (full, width, height) = decode::decode(bytes, exif)?;
        let mut pixels = vec![0; fit.crop * fit.crop * 3];
        resize::resize(&full, width, height, fit, &mut pixels)?;
        Ok(Self { width, height, pixels })
    }
}

impl Model {
    /// A network with the checkpoint's `name` and a picture of its first-layer filters.
    pub fn new(classifier: Classifier, name: String, filters: Option<Picture>) -> Self {
        Self { classifier, name, filters }
    }

    /// Side of the network's images.
    pub fn side(&self) -> usize {
        self.classifier.side()
    }

    /// What is done with the orientation of pictures.
    pub fn exif(&self) -> Exif {
        self.classifier.exif
    }

    /// How pictures are resized and cropped for the network.
    pub fn fit(&self) -> Fit {
        self.classifier.fit()
    }

    /// The body of `GET /model`.
    pub fn describe(&self) -> Value {
        let architecture = self.classifier.network().architecture();
        json!({
            "name": self.name,
            "variant": architecture.name,
            "side": architecture.image_size,
            "preprocess": self.classifier.preprocess().to_json(architecture.image_size),
            "device": self.classifier.network().device_name(),
            "classes": self.classifier.classes(),
            "filters": self.filters.as_ref().map(Picture::url),
        })
    }

    /// The body of `POST /predict`: the `count` most probable classes, and with `layers` the activations.
    ///
    /// # Errors
    /// The device failed.
    pub fn predict(&mut self, decoded: &Decoded, count: usize, layers: bool) -> Result<Value> {
        let start = Instant::now();
        let shares = self.classifier.classify([decoded.pixels.as_slice()])?;
        let milliseconds = start.elapsed().as_secs_f64() * 1000.0;
        let classes = self.classifier.classes();
        let predictions: Vec<Value> = shares
            .first()
            .map(|shares| top(shares, count))
            .unwrap_or_default()
            .into_iter()
            .map(|(index, probability)| json!({ "class": classes[index], "index": index, "probability": probability }))
            .collect();
        let mut answer = json!({
            "predictions": predictions,
            "width": decoded.width,
            "height": decoded.height,
            "milliseconds": milliseconds,
        });
        if layers {
            answer["input"] = Picture::from_rgb(self.side(), &decoded.pixels).url().into();
            // The last view of test-time augmentation need not be the picture itself.
            self.classifier.pass(&decoded.pixels)?;
            answer["layers"] = self.activations()?.into();
        }
        Ok(answer)
    }

    /// Each convolution's output after its ReLU, as pictures.
    fn activations(&self) -> Result<Vec<Value>> {
        let network = self.classifier.network();
        let trace = network.architecture().trace()?;
        let mut layers = Vec::new();
        for (conv, relu) in convolutions(network.architecture()) {
            let layer = &trace[conv];
            let mut values = vec![0.0; layer.output.len()];
            network.read_output(relu, &mut values)?;
            let (side, channels) = (layer.output.height, layer.output.channels);
            let shown = channels.min(MOST_CHANNELS);
            let values: Vec<f32> = values.chunks_exact(channels).flat_map(|pixel| &pixel[..shown]).copied().collect();
            layers.push(json!({
                "name": layer.spec.name,
                "operation": layer.spec.kind.to_string(),
                "channels": channels,
                "shown": shown,
                "side": side,
                "picture": picture::activations(&values, side, shown).url(),
            }));
        }
        Ok(layers)
    }
}

/// Indices of the convolutions, each with that of its ReLU; a batch norm and a shortcut may come between.
fn convolutions(architecture: &Architecture) -> Vec<(usize, usize)> {
    let layers = &architecture.layers;
    let indices = |wanted: fn(&LayerKind) -> bool| (0..layers.len()).filter(move |&at| wanted(&layers[at].kind));
    indices(|kind| matches!(kind, LayerKind::Conv { .. }))
        .filter_map(|conv| Some((conv, indices(|kind| matches!(kind, LayerKind::Relu)).find(|&relu| relu > conv)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use alexnet_core::alexnet::{Options, Variant, architecture};
    use alexnet_core::random::Philox;
    use alexnet_core::{Cpu, Network};

    use super::*;

    #[test]
    fn what_is_drawn_of_a_convolution_has_been_through_its_relu() {
        let plain = Options::new(32, 10);
        for (variant, options) in [
            (Variant::Cifar, plain),
            (Variant::Cifar, Options { batch_norm: true, ..plain }),
            (Variant::Modern, Options { batch_norm: true, ..plain }),
            (Variant::Modern, Options { batch_norm: true, residual: true, ..plain }),
        ] {
            let device = Arc::new(Cpu::new(1).unwrap());
            let mut network = Network::new(device, architecture(variant, options), 1, false).unwrap();
            network.initialise(Philox::new(3)).unwrap();
            let image: Vec<f32> = (0..32 * 32 * 3).map(|i| (i % 17) as f32 / 8.0 - 1.0).collect();
            network.predict(&image).unwrap();
            let convolutions = convolutions(network.architecture());
            assert_eq!(convolutions.len(), 5);
            let trace = network.architecture().trace().unwrap();
            for (conv, relu) in convolutions {
                assert_eq!(trace[conv].output, trace[relu].output);
                let mut values = vec![0.0; trace[conv].output.len()];
                network.read_output(relu, &mut values).unwrap();
                assert!(values.iter().all(|&value| value >= 0.0) && values.contains(&0.0), "{}", trace[conv].spec.name);
            }
        }
    }
}
