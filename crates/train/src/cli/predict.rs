//! `alexnet predict`.

use std::fmt::Write as _;
use std::io::{Cursor, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rayon::prelude::*;

use super::hint;
use super::model::{Opening, Place};
use crate::data::{DataError, folder, resize};
use crate::run::classifier::{Classifier, top};
use crate::run::progress::{notice, say};
use crate::run::{Error, Tta};

/// The largest image that is read from standard input.
const LARGEST_INPUT: u64 = 256 << 20;

/// Classify pictures: the most probable classes of each
///
/// Pictures are PNG or JPEG of any size and colour type. They are preprocessed as in evaluation: the shorter side
/// resized to the network's, the middle cut out, colours normalised. A picture that cannot be read is reported, the
/// others are classified; the exit code is then 1.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run folder (its best.safetensors) or checkpoint file
    #[arg(value_name = "RUN_OR_CHECKPOINT")]
    model: PathBuf,
    /// Pictures, folders of pictures, or - for standard input
    ///
    /// Folders are searched recursively.
    #[arg(value_name = "IMAGE|DIR|-", required = true)]
    images: Vec<PathBuf>,
    /// Show the N most probable classes
    #[arg(long, short = 'k', value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    top: u16,
    /// Print one JSON object per picture and line
    ///
    /// Keys: image, predictions (class, index, probability); or image, error.
    #[arg(long)]
    json: bool,
    /// Average the logits of several views of each image [default: the run's]
    ///
    /// Test-time augmentation; costs one forward pass per view. Plain --tta means --tta=mirror.
    #[arg(long, value_name = "VIEWS", num_args = 0..=1, require_equals = true, default_missing_value = "mirror")]
    tta: Option<Tta>,
    /// Pictures per batch; the results do not depend on it
    #[arg(long, value_name = "N", default_value_t = 128)]
    batch_size: usize,
    #[command(flatten)]
    place: Place,
}

/// Predicts.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let opening = Opening::new(&args.model)?;
    let images = images(&args.images)?;
    let batch = args.batch_size.min(images.len().max(1));
    let mut classifier = opening.classifier(&args.place, batch)?;
    classifier.tta = args.tta.unwrap_or(classifier.tta);
    let style = Style::new(args, &images, classifier.classes());
    if let Some(head) = style.head() {
        say(&head);
    }
    let bar = progress(images.len(), batch);
    let mut broken = 0;
    for images in images.chunks(batch) {
        let side = classifier.side();
        let decoded: Vec<Result<Vec<u8>, DataError>> = images.par_iter().map(|image| decode(image, side)).collect();
        let mut results = predict(&mut classifier, &decoded)?.into_iter();
        for (image, decoded) in images.iter().zip(decoded) {
            let line = match decoded {
                Ok(_) => Ok(style.line(image, &results.next().unwrap_or_default(), classifier.classes())),
                Err(error) => {
                    broken += 1;
                    style.broken(image, &error)
                }
            };
            // A bar that is not drawn runs the closure all the same.
            bar.suspend(|| match line {
                Ok(line) => say(&line),
                Err(line) => notice(&line),
            });
        }
        bar.inc(images.len() as u64);
    }
    bar.finish_and_clear();
    if broken == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    notice(&format!("{broken} of {} could not be read", crate::run::summary::count(images.len(), "picture")));
    Ok(ExitCode::FAILURE)
}

/// The probabilities of the images that were decoded.
fn predict(classifier: &mut Classifier, decoded: &[Result<Vec<u8>, DataError>]) -> Result<Vec<Vec<f64>>, Error> {
    if decoded.iter().all(Result::is_err) {
        return Ok(Vec::new());
    }
    classifier.classify(decoded.iter().flatten().map(Vec::as_slice))
}

/// A bar for more than one batch, if standard error is a terminal.
fn progress(images: usize, batch: usize) -> ProgressBar {
    if images <= batch || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} pictures, {per_sec}, {eta} left");
    ProgressBar::with_draw_target(Some(images as u64), ProgressDrawTarget::stderr())
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// The files that the arguments mean, in order; `-` stays.
fn images(arguments: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut images = Vec::new();
    for argument in arguments {
        if !argument.is_dir() {
            images.push(argument.clone());
            continue;
        }
        let before = images.len();
        walk(argument, &mut images)?;
        if images.len() == before {
            let message = format!("{} has no pictures", argument.display());
            return Err(hint::failure(message, "give a folder with .png, .jpg or .jpeg files"));
        }
    }
    Ok(images)
}

/// The pictures in a folder, then those in its folders. Links to folders are not followed: they may lead back.
fn walk(folder: &Path, images: &mut Vec<PathBuf>) -> Result<(), DataError> {
    let entries = folder::entries(folder)?;
    images.extend(entries.iter().filter(|path| folder::is_image(path)).cloned());
    for path in entries {
        if path.is_dir() && !path.is_symlink() {
            walk(&path, images)?;
        }
    }
    Ok(())
}

fn decode(path: &Path, side: usize) -> Result<Vec<u8>, DataError> {
    let mut pixels = vec![0; side * side * 3];
    if path.as_os_str() != "-" {
        resize::decode_file(path, side, &mut pixels)?;
        return Ok(pixels);
    }
    let fail = |reason| DataError::Decode { path: "standard input".into(), reason };
    let mut bytes = Vec::new();
    let stdin = std::io::stdin().lock();
    stdin.take(LARGEST_INPUT).read_to_end(&mut bytes).map_err(DataError::io("read", Path::new("standard input")))?;
    let (full, width, height) = resize::decode(Cursor::new(&bytes), bytes.len() as u64).map_err(fail)?;
    resize::resize(&full, width, height, side, &mut pixels).map_err(fail)?;
    Ok(pixels)
}

/// How results are written.
struct Style {
    json: bool,
    top: usize,
    /// Of the column of paths; none for a single picture, whose classes stand one below the other.
    path: Option<usize>,
    class: usize,
}

impl Style {
    /// Longer paths push their line to the right.
    const WIDEST: usize = 48;

    fn new(args: &Args, images: &[PathBuf], classes: &[String]) -> Self {
        let width = |text: &str| text.chars().count();
        let path = images.iter().map(|path| width(&path.to_string_lossy())).max().unwrap_or(0).min(Self::WIDEST);
        let class = classes.iter().map(|class| width(class)).max().unwrap_or(0);
        let top = usize::from(args.top).min(classes.len());
        Self { json: args.json, top, path: (images.len() > 1).then_some(path), class }
    }

    fn head(&self) -> Option<String> {
        let path = self.path.filter(|_| !self.json)?;
        let mut head = format!("{:path$}", "picture");
        for place in 1..=self.top {
            let _ = write!(head, "  {:width$}", format!("{place}."), width = self.class + 8);
        }
        Some(head.trim_end().into())
    }

    fn line(&self, image: &Path, probabilities: &[f64], classes: &[String]) -> String {
        let best = top(probabilities, self.top);
        if self.json {
            let predictions: Vec<_> = best
                .iter()
                .map(|&(index, probability)| {
                    serde_json::json!({ "class": classes[index], "index": index, "probability": probability })
                })
                .collect();
            return serde_json::json!({ "image": image.to_string_lossy(), "predictions": predictions }).to_string();
        }
        let width = self.class;
        match self.path {
            Some(path) => best.iter().fold(format!("{:path$}", image.to_string_lossy()), |line, &(index, share)| {
                format!("{line}  {:width$} {:6.2}%", classes[index], share * 100.0)
            }),
            None => best
                .iter()
                .map(|&(index, share)| format!("{:width$} {:6.2}%", classes[index], share * 100.0))
                .collect::<Vec<_>>()
                .join("\n"),
        }
    }

    /// The line for a picture that cannot be read: on standard output for tools, else on standard error.
    fn broken(&self, image: &Path, error: &DataError) -> Result<String, String> {
        match self.json {
            true => Ok(serde_json::json!({ "image": image.to_string_lossy(), "error": error.to_string() }).to_string()),
            false => Err(format!("error: {error}")),
        }
    }
}
