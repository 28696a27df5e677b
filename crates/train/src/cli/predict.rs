//! `alexnet predict`.

use std::fmt::Write as _;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rayon::prelude::*;

use super::hint;
use super::model::{DeviceArgs, LoadedCheckpoint};
use crate::data::decode::{self, Exif};
use crate::data::passed_over::PassedOver;
use crate::data::{DataError, Fit, folder, resize};
use crate::print::{cut, cut_start, notice, pad, say, terminal, widest};
use crate::run::classifier::{Classifier, top};
use crate::run::{Error, Tta};

/// Most bytes of an image that are read from standard input.
const LARGEST_INPUT: u64 = 256 << 20;

/// Classify pictures: the most probable classes of each
///
/// Pictures are PNG, JPEG, WebP, GIF, BMP or TIFF of any size and colour type. They are preprocessed as in evaluation: the shorter side
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
    /// apply or ignore the EXIF orientation of pictures [default: the run's]
    ///
    /// Phones store how a picture is to be turned beside its pixels. apply turns it upright, as viewers show it; ignore
    /// takes the pixels as they are stored.
    #[arg(long, value_name = "MODE")]
    exif: Option<Exif>,
    /// Pictures per batch; the results do not depend on it
    #[arg(long, value_name = "N", default_value_t = 128)]
    batch_size: usize,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Predicts.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let loaded = LoadedCheckpoint::new(&args.model)?;
    let images = images(&args.images)?;
    let batch = args.batch_size.min(images.len().max(1));
    let mut classifier = loaded.classifier(&args.device, batch)?;
    classifier.tta = args.tta.unwrap_or(classifier.tta);
    let exif = args.exif.unwrap_or(classifier.exif);
    let style = Style::new(args, &images, classifier.classes(), terminal());
    if let Some(head) = style.head() {
        say(&head);
    }
    let bar = progress(images.len(), batch);
    let mut broken = 0;
    for images in images.chunks(batch) {
        let fit = classifier.fit();
        let decoded: Vec<Result<Vec<u8>, DataError>> =
            images.par_iter().map(|image| decode(image, exif, fit)).collect();
        let mut results = predict(&mut classifier, &decoded)?.into_iter();
        for (image, decoded) in images.iter().zip(decoded) {
            let line = match decoded {
                Ok(_) => Ok(style.line(image, &results.next().unwrap_or_default(), classifier.classes())),
                Err(error) => {
                    broken += 1;
                    style.broken(image, &error)
                }
            };
            // A hidden bar runs the closure, too.
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

/// Probabilities of the images that could be decoded.
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

/// How results are written.
struct Style {
    json: bool,
    top: usize,
    /// Columns for a path; none for a single picture, whose classes stand one below the other.
    path: Option<usize>,
    /// Columns for a class.
    class: usize,
    /// Whether longer paths are cut: on a terminal; elsewhere they push their line to the right.
    cut: bool,
}

impl Style {
    /// The widest column of paths.
    const PATH: usize = 48;
    /// The least that is left of a path, and of a class, when the terminal is narrow.
    const LEAST: usize = 12;

    fn new(args: &Args, images: &[PathBuf], classes: &[String], terminal: Option<usize>) -> Self {
        let top = usize::from(args.top).min(classes.len());
        let paths: Vec<_> = images.iter().map(|path| path.to_string_lossy()).collect();
        let mut path = widest(paths.iter().map(AsRef::as_ref)).min(Self::PATH);
        let mut class = widest(classes.iter().map(String::as_str));
        let several = images.len() > 1;
        if let Some(width) = terminal {
            // After a class come its probability and blanks before and after.
            let (columns, before) = if several { (top.max(1), path.min(Self::LEAST)) } else { (1, 0) };
            class = class.min((width.saturating_sub(before) / columns).saturating_sub(10).max(Self::LEAST));
            path = path.min(width.saturating_sub(columns * (class + 10)).max(Self::LEAST));
        }
        Self { json: args.json, top, path: several.then_some(path), class, cut: terminal.is_some() }
    }

    fn head(&self) -> Option<String> {
        let path = self.path.filter(|_| !self.json)?;
        let mut head = format!("{:path$}", "picture");
        for rank in 1..=self.top {
            let _ = write!(head, "  {:width$}", format!("{rank}."), width = self.class + 8);
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
        let row = |&(index, share): &(usize, f64)| {
            format!("{} {:6.2}%", pad(&cut(&classes[index], self.class), self.class), share * 100.0)
        };
        let rows: Vec<String> = best.iter().map(row).collect();
        let Some(width) = self.path else { return rows.join("\n") };
        let name = image.to_string_lossy();
        let name = if self.cut { cut_start(&name, width) } else { name.into_owned() };
        format!("{}  {}", pad(&name, width), rows.join("  "))
    }

    /// The line for a picture that cannot be read: on standard output for tools, else on standard error.
    fn broken(&self, image: &Path, error: &DataError) -> Result<String, String> {
        match self.json {
            true => Ok(serde_json::json!({ "image": image.to_string_lossy(), "error": error.to_string() }).to_string()),
            false => Err(format!("error: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::print::columns;

    #[derive(clap::Parser)]
    struct Alone {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn the_table_lines_up_and_fits_the_terminal() {
        let args = Alone::parse_from(["predict", "run", "x"]).args;
        let classes = ["apfel", "my pear", "橙子", "a class with a very long name"].map(String::from);
        let images = ["a.png", "橙子/b.png", "photos/of/a/long/walk/through/the/mountains/c.png"].map(PathBuf::from);
        for terminal in [None, Some(40), Some(80), Some(120)] {
            let style = Style::new(&args, &images, &classes, terminal);
            let lines = images.each_ref().map(|image| style.line(image, &[0.2, 0.1, 0.6, 0.1], &classes));
            let short: Vec<_> = lines[..2].iter().map(|line| columns(line)).collect();
            assert_eq!(short[0], short[1], "{lines:?}");
            if let Some(width) = terminal.filter(|&width| width >= 80) {
                assert!(lines.iter().all(|line| columns(line) <= width), "{width}: {lines:#?}");
                assert!(columns(&style.head().unwrap()) <= width);
            }
            assert_eq!(lines[2].contains("photos/of"), terminal.is_none(), "{lines:#?}");
            assert!(lines[2].contains("c.png"));
        }
    }
}
