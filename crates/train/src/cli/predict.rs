//! `alexnet predict`.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rayon::prelude::*;

mod output;

use output::{Format, Output};

use super::hint;
use super::model::{DeviceArgs, ExifArgs, LoadedCheckpoint};
use crate::cli::output::line;
use crate::data::decode::{self, Exif};
use crate::data::passed_over::PassedOver;
use crate::data::{DataError, Fit, folder, resize};
use crate::print::{notice, terminal};
use crate::run::classifier::{Classifier, DIVERGED, NotFinite};
use crate::run::{Error, Tta};

/// Most bytes of an image that are read from standard input.
const LARGEST_INPUT: u64 = 256 << 20;

/// Classify pictures: the most probable classes of each
///
/// Pictures are PNG, JPEG, WebP, GIF, BMP or TIFF of any size and colour type. They are preprocessed as in evaluation: the
/// shorter side resized to the network's, the middle cut out, colours normalised. A picture that cannot be read,
/// or for which the network's outputs are not finite, is reported (in CSV and JSON lines in a row of its own), the others
/// are classified; the exit code is then 1.
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
    /// Call a picture `unknown` whose best class is below P, such as 0.6
    ///
    /// P is a probability: 0.6 or 60%. The class names stay in columns and keys of their own.
    #[arg(long, value_name = "P", value_parser = output::probability)]
    threshold: Option<f64>,
    /// Format of the output
    ///
    /// csv: file, class, probability, then class_2, probability_2 and so on up to --top, and error; with --threshold also
    /// best_class. jsonl: keys image, class, probability, predictions (class, index, probability); or image, error.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// The same as --format csv
    #[arg(long, conflicts_with_all = ["json", "format"])]
    csv: bool,
    /// The same as --format jsonl
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Average the logits of several views of each image [default: the run's]
    ///
    /// Test-time augmentation; costs one forward pass per view. Plain --tta means --tta=mirror.
    #[arg(long, value_name = "VIEWS", num_args = 0..=1, require_equals = true, default_missing_value = "mirror")]
    tta: Option<Tta>,
    #[command(flatten)]
    exif: ExifArgs,
    /// Pictures per batch; the results do not depend on it
    #[arg(long, value_name = "N", default_value_t = 128)]
    batch_size: usize,
    #[command(flatten)]
    device: DeviceArgs,
}

impl Args {
    fn format(&self) -> Format {
        match (self.csv, self.json) {
            (true, _) => Format::Csv,
            (_, true) => Format::Jsonl,
            _ => self.format,
        }
    }
}

/// Predicts.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let loaded = LoadedCheckpoint::new(&args.model)?;
    let images = images(&args.images)?;
    let batch = args.batch_size.min(images.len().max(1));
    let mut classifier = loaded.classifier(&args.device, batch)?;
    classifier.tta = args.tta.unwrap_or(classifier.tta);
    let exif = args.exif.of(loaded.metadata());
    let classes = classifier.classes().to_vec();
    let output = Output::new(args.format(), args.top.into(), args.threshold, &images, &classes, terminal());
    if let Some(head) = output.head() {
        line(&head)?;
    }
    let bar = progress(images.len(), batch);
    let (mut broken, mut diverged) = (0, 0);
    for images in images.chunks(batch) {
        let fit = classifier.fit();
        let decoded: Vec<Result<Vec<u8>, DataError>> =
            images.par_iter().map(|image| decode(image, exif, fit)).collect();
        let mut results = predict(&mut classifier, &decoded)?.into_iter();
        for (image, decoded) in images.iter().zip(decoded) {
            let text = match decoded.map(|_| results.next().unwrap_or_else(|| Ok(Vec::new()))) {
                Ok(Ok(probabilities)) => Ok(output.line(image, &probabilities)),
                Ok(Err(not_finite)) => {
                    diverged += 1;
                    output.broken(image, &not_finite.of(name(image)))
                }
                Err(error) => {
                    broken += 1;
                    output.broken(image, &error)
                }
            };
            // A hidden bar runs the closure, too.
            bar.suspend(|| match text {
                // Names in the table are escaped, those for tools as they are.
                Ok(text) => line(&text),
                Err(text) => {
                    notice(&text);
                    Ok(())
                }
            })?;
        }
        bar.inc(images.len() as u64);
    }
    bar.finish_and_clear();
    let count = crate::run::summary::count(images.len(), "picture");
    if broken > 0 {
        notice(&format!("{broken} of {count} could not be read"));
    }
    if diverged > 0 {
        notice(&format!("{diverged} of {count} could not be classified\nhint: {DIVERGED}"));
    }
    Ok(if broken + diverged == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A picture in a message.
fn name(image: &Path) -> String {
    if image.as_os_str() == "-" { "standard input".into() } else { image.display().to_string() }
}

/// Probabilities of the images that could be decoded.
fn predict(
    classifier: &mut Classifier,
    decoded: &[Result<Vec<u8>, DataError>],
) -> Result<Vec<Result<Vec<f64>, NotFinite>>, Error> {
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

/// The files that the arguments name, in order; `-` stays.
fn images(arguments: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut images = Vec::new();
    for argument in arguments {
        if !argument.is_dir() {
            images.push(argument.clone());
            continue;
        }
        let mut passed = PassedOver::default();
        let names = folder::pictures(argument, &mut passed)?;
        if names.is_empty() {
            let others = if passed.is_empty() { String::new() } else { format!(", but {passed}") };
            let message = format!("{} has no pictures{others}", argument.display());
            return Err(hint::failure(message, "give a folder with PNG, JPEG, WebP, GIF, BMP or TIFF files"));
        }
        if !passed.is_empty() {
            notice(&format!("{}: passed over {passed}", argument.display()));
        }
        images.extend(names.iter().map(|name| argument.join(&**name)));
    }
    Ok(images)
}

fn decode(path: &Path, exif: Exif, fit: Fit) -> Result<Vec<u8>, DataError> {
    let mut pixels = vec![0; fit.crop * fit.crop * 3];
    if path.as_os_str() != "-" {
        decode::decode_file(path, exif, fit, &mut pixels)?;
        return Ok(pixels);
    }
    let fail = |reason| DataError::Decode { path: "standard input".into(), reason };
    let mut bytes = Vec::new();
    let stdin = std::io::stdin().lock();
    stdin.take(LARGEST_INPUT).read_to_end(&mut bytes).map_err(DataError::io("read", Path::new("standard input")))?;
    let (full, width, height) = decode::decode(&bytes, exif).map_err(fail)?;
    resize::resize(&full, width, height, fit, &mut pixels).map_err(fail)?;
    Ok(pixels)
}
