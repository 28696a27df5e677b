//! Loads a trained network and classifies pictures with it, on the first NVIDIA GPU if there is one, else on the CPU:
//! `cargo run --release -p alexnet-train --example classify_picture -- runs/cifar-1 photo.jpg`

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use alexnet_core::{Cpu, Cuda, Precision};
use alexnet_train::data::decode;
use alexnet_train::run::checkpoint;
use alexnet_train::run::classifier::{Classifier, architecture_of, checkpoint_of, top};

/// The network of a run folder or a checkpoint file, for one picture at a time.
pub fn load(path: &Path) -> Result<Classifier, Box<dyn Error>> {
    // Of a run folder, best.safetensors.
    let path = checkpoint_of(path)?;
    // Reads the metadata; the weights are read, and checked, when the network is built.
    let checkpoint = checkpoint::open(&path)?;
    let architecture = architecture_of(checkpoint.metadata(), &path)?;
    println!("{}: {}, {}", path.display(), architecture.name, checkpoint.metadata().classes.join(", "));
    Ok(match Cuda::new(0, Precision::Fp32) {
        Ok(gpu) => Classifier::new(Arc::new(gpu), &checkpoint, architecture, 1)?,
        // 0: as many threads as there are cores.
        Err(_) => Classifier::new(Arc::new(Cpu::new(0)?), &checkpoint, architecture, 1)?,
    })
}

/// The three most probable classes of a picture.
pub fn classify(classifier: &mut Classifier, picture: &Path) -> Result<Vec<(String, f64)>, Box<dyn Error>> {
    // RGB bytes (side, side, 3): the shorter side resized, the middle cut out, as in evaluation.
    let fit = classifier.fit();
    let mut pixels = vec![0; fit.crop * fit.crop * 3];
    decode::decode_file(picture, classifier.exif, fit, &mut pixels)?;
    // An error of its own per picture, if the network's outputs are NaN or infinite.
    let probabilities = classifier.classify([pixels.as_slice()])?.remove(0)?;
    let best = top(&probabilities, 3);
    Ok(best.into_iter().map(|(class, probability)| (classifier.classes()[class].clone(), probability)).collect())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let run = arguments.next().ok_or("usage: classify_picture RUN_OR_CHECKPOINT PICTURE...")?;
    let mut classifier = load(Path::new(&run))?;
    for picture in arguments {
        for (class, probability) in classify(&mut classifier, Path::new(&picture))? {
            println!("{picture}: {class} {:.1} %", probability * 100.0);
        }
    }
    Ok(())
}
