//! Responses: the description of the network, and the classification of pictures.

use std::time::Instant;

use alexnet_core::{Architecture, LayerKind};
use hyper::StatusCode;
use serde_json::{Value, json};

use super::Refusal;
use super::inference::{Answers, Job};
use crate::data::decode::Exif;
use crate::data::{Fit, decode, resize};
use crate::picture::{self, Picture};
use crate::run::checkpoint::Metadata;
use crate::run::classifier::{Classifier, DIVERGED, NotFinite, top};
use crate::run::{Result, summary};

/// Most channels of a layer that are drawn.
const MOST_CHANNELS: usize = 256;

/// Most classes that the title names.
const MOST_NAMED: usize = 4;
/// Most characters of a class in the title.
const LONGEST_CLASS: usize = 24;

/// What a network is called on its page: `torchvision AlexNet, 3 classes: apfel, my pear, 橙子`.
pub fn title(metadata: &Metadata) -> String {
    let classes = &metadata.classes;
    let short = |name: &String| match name.char_indices().nth(LONGEST_CLASS) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.clone(),
    };
    let count = if classes.len() <= MOST_NAMED { classes.len() } else { MOST_NAMED - 1 };
    let named: Vec<String> = classes.iter().take(count).map(short).collect();
    let more = if count < classes.len() { ", …" } else { "" };
    let total = summary::classes(classes.len());
    format!("{} AlexNet, {total}: {}{more}", metadata.model.variant, named.join(", "))
}

/// The parameters of `POST /predict`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Parameters {
    /// Number of classes.
    pub top: usize,
    /// Whether the activations are wanted.
    pub layers: bool,
    /// The probability below which the class is unknown.
    pub threshold: Option<f64>,
    /// Whether the answer is a list also for one picture.
    pub results: bool,
}

impl Parameters {
    /// Reads a query.
    pub(super) fn parse(query: &str) -> Result<Self, Refusal> {
        let mut parameters = Self { top: 5, layers: false, threshold: None, results: false };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, "1"));
            let wrong = |what: &str| Err(Refusal::new(StatusCode::BAD_REQUEST, format!("{key} must be {what}")));
            match key {
                "top" => match value.parse() {
                    Ok(count) if count > 0 => parameters.top = count,
                    _ => return wrong("a number from 1"),
                },
                "threshold" => match value.parse() {
                    Ok(share) if (0.0..=1.0).contains(&share) => parameters.threshold = Some(share),
                    _ => return wrong("a probability from 0 to 1, such as 0.6"),
                },
                "layers" | "results" => {
                    let flag = match value {
                        "1" | "true" => true,
                        "0" | "false" => false,
                        _ => return wrong("0 or 1"),
                    };
                    *if key == "layers" { &mut parameters.layers } else { &mut parameters.results } = flag;
                }
                _ => {
                    let message = format!("unknown parameter {key}; known are top, threshold, layers and results");
                    return Err(Refusal::new(StatusCode::BAD_REQUEST, message));
                }
            }
        }
        Ok(parameters)
    }
}

/// The served network.
pub struct Model {
    classifier: Classifier,
    /// Most pictures per forward pass.
    batch: usize,
    /// See [`title`].
    name: String,
    /// The data that it was trained on.
    data: String,
    filters: Option<Picture>,
}

/// What the network says of a picture, and how long its forward pass took.
struct Classes {
    shares: Result<Vec<f64>, NotFinite>,
    milliseconds: f64,
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
    /// A network for batches of up to `batch` pictures, and a picture of its first-layer filters.
    pub fn new(classifier: Classifier, batch: usize, metadata: &Metadata, filters: Option<Picture>) -> Self {
        Self { classifier, batch, name: title(metadata), data: metadata.data.name.clone(), filters }
    }

    /// Side of the network's images.
    pub fn side(&self) -> usize {
        self.classifier.side()
    }

    /// What is done with the orientation of pictures.
    pub fn exif(&self) -> Exif {
        self.classifier.exif
    }

    /// Most pictures per forward pass.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// How pictures are resized and cropped for the network.
    pub fn fit(&self) -> Fit {
        self.classifier.fit()
    }

    /// The body of `GET /model`, without what the server adds.
    pub(super) fn describe(&self) -> Value {
        let architecture = self.classifier.network().architecture();
        json!({
            "name": self.name,
            "variant": architecture.name,
            "data": self.data,
            "side": architecture.image_size,
            "preprocess": self.classifier.preprocess().to_json(architecture.image_size),
            "device": self.classifier.network().device_name(),
            "classes": self.classifier.classes(),
            "filters": self.filters.as_ref().map(Picture::url),
        })
    }

    /// Answers jobs together, in as few forward passes as possible. The layers are those of a job's last picture.
    pub(super) fn work(&mut self, jobs: Vec<Job>) {
        match self.predict(&jobs) {
            Ok(shares) => {
                let mut shares = shares.into_iter();
                for job in jobs {
                    if let Some(answers) = self.answers(job.pictures, &mut shares, &job.parameters).transpose() {
                        drop(job.held);
                        // A client that is gone wants no answer.
                        let _ = job.answer.send(answers.map_err(|error| error.to_string()));
                    }
                }
            }
            Err(error) => {
                let error = error.to_string();
                for job in jobs {
                    drop(job.held);
                    let _ = job.answer.send(Err(error.clone()));
                }
            }
        }
    }

    /// Classes of all decoded pictures, in order; `None` for those of jobs that were abandoned before their turn.
    ///
    /// # Errors
    /// The device failed.
    fn predict(&mut self, jobs: &[Job]) -> Result<Vec<Option<Classes>>> {
        let decoded = |job: &Job| job.pictures.iter().filter(|(_, decoded)| decoded.is_ok()).count();
        let mut classes = Vec::with_capacity(jobs.iter().map(decoded).sum());
        let pictures = jobs.iter().flat_map(|job| job.pictures.iter().map(move |(_, decoded)| (job, decoded)));
        let mut pictures = pictures.filter_map(|(job, decoded)| Some((job, decoded.as_ref().ok()?))).peekable();
        while pictures.peek().is_some() {
            let mut batch = Vec::new();
            let mut places = Vec::new();
            while batch.len() < self.batch.max(1)
                && let Some((job, decoded)) = pictures.next()
            {
                let wanted = !job.is_abandoned();
                places.push(wanted);
                if wanted {
                    batch.push(decoded.pixels.as_slice());
                }
            }
            let start = Instant::now();
            let shares = if batch.is_empty() { Vec::new() } else { self.classifier.classify(batch)? };
            let milliseconds = start.elapsed().as_secs_f64() * 1000.0;
            let mut shares = shares.into_iter();
            classes.extend(places.into_iter().map(|wanted| {
                let shares = if wanted { shares.next() } else { None };
                shares.map(|shares| Classes { shares, milliseconds })
            }));
        }
        Ok(classes)
    }

    /// The answers to one job's pictures; `None` if it was abandoned.
    fn answers(
        &mut self,
        pictures: Vec<(Option<String>, Result<Decoded, String>)>,
        classes: &mut impl Iterator<Item = Option<Classes>>,
        parameters: &Parameters,
    ) -> Result<Option<Answers>> {
        let count = pictures.iter().filter(|(_, decoded)| decoded.is_ok()).count();
        let classes: Vec<_> = classes.take(count).collect();
        let Some(classes) = classes.into_iter().collect::<Option<Vec<_>>>() else { return Ok(None) };
        let mut classes = classes.into_iter();
        let mut diverged = false;
        let mut answers = Vec::with_capacity(pictures.len());
        for (name, decoded) in pictures {
            let mut answer = match decoded {
                Err(reason) => json!({ "error": reason }),
                Ok(decoded) => match classes.next().map(|classes| (classes.shares, classes.milliseconds)) {
                    Some((Ok(shares), milliseconds)) => self.answer(&decoded, &shares, milliseconds, parameters)?,
                    Some((Err(not_finite), _)) => {
                        diverged = true;
                        let error = not_finite.of(name.as_deref().unwrap_or("the picture"));
                        json!({ "error": format!("{error}: {DIVERGED}") })
                    }
                    None => Value::default(),
                },
            };
            if let Some(name) = name {
                answer["name"] = name.into();
            }
            answers.push(answer);
        }
        Ok(Some((answers, diverged)))
    }

    fn answer(
        &mut self,
        decoded: &Decoded,
        shares: &[f64],
        milliseconds: f64,
        parameters: &Parameters,
    ) -> Result<Value> {
        let classes = self.classifier.classes();
        let best = top(shares, parameters.top);
        let prediction = |&(index, probability): &(usize, f64)| {
            let class = &classes[index];
            json!({ "class": class, "index": index, "probability": probability })
        };
        let mut answer = json!({
            "predictions": best.iter().map(prediction).collect::<Vec<Value>>(),
            "width": decoded.width,
            "height": decoded.height,
            "milliseconds": milliseconds,
        });
        if let Some(threshold) = parameters.threshold {
            let sure = best.first().filter(|(_, probability)| *probability >= threshold);
            answer["class"] = sure.map_or("unknown", |&(index, _)| classes[index].as_str()).into();
        }
        if parameters.layers {
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
