//! `alexnet export`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::ValueEnum;

use super::hint;
use super::model::{DeviceArgs, LoadedCheckpoint};
use super::output;
use crate::export::{self, Wrapping, onnx, pt2, pytorch, torchscript};
use crate::run::Error;
use crate::run::bytes::gib;
use crate::run::classifier::architecture_of;
use crate::run::config::{DeviceKind, WeightFormat};
use crate::run::memory;

/// Write a network as ONNX, .pt2, TorchScript, .pth or safetensors
///
/// ONNX, .pt2 and TorchScript take float images (N, 3, side, side), normalised as in training, and return logits (N,
/// classes), for any N. In ONNX they are named `input` and `output`. The class names and the preprocessing are in the
/// ONNX file's metadata, and in the extra files classes.json and preprocess.json of .pt2 and TorchScript.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run folder (its best.safetensors) or checkpoint file
    #[arg(value_name = "RUN_OR_CHECKPOINT")]
    model: PathBuf,
    /// Format [default: by FILE's extension]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// File to write: .onnx, .pt2, .pt, .pth or .safetensors
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Output probabilities, not logits (ONNX, .pt2 and TorchScript)
    #[arg(long)]
    softmax: bool,
    /// Take uint8 images and normalise them (ONNX, .pt2 and TorchScript)
    ///
    /// The input is then (N, side, side, 3).
    #[arg(long)]
    with_preprocess: bool,
    /// Weights in fp16, half the size (ONNX, .pth and safetensors)
    ///
    /// The layers of an ONNX file compute in fp16 too; its input and output stay as they are. The logits differ by less than
    /// 1e-2 of the largest.
    #[arg(long)]
    half: bool,
    /// Overwrite FILE if it exists
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For onnxruntime, browsers and most others
    Onnx,
    /// For `torch.export.load`
    Pt2,
    /// For `torch.jit.load`, in Python and C++
    Torchscript,
    /// For `torch.load(weights_only=True)` and `load_state_dict`; torchvision's names
    Pytorch,
    /// Weights without momentum; torchvision's names
    Safetensors,
}

impl Format {
    fn of(path: &Path) -> Option<Self> {
        Some(match path.extension()?.to_str()? {
            "onnx" => Self::Onnx,
            "pt2" => Self::Pt2,
            "pt" => Self::Torchscript,
            "pth" => Self::Pytorch,
            "safetensors" => Self::Safetensors,
            _ => return None,
        })
    }
}

/// Exports.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Some(format) = args.format.or_else(|| Format::of(&args.output)) else {
        let message = format!("{} has no extension that names a format", args.output.display());
        return Err(hint::usage(message, "add --format onnx, pt2, torchscript, pytorch or safetensors"));
    };
    let wrapping = Wrapping { preprocess: args.with_preprocess, softmax: args.softmax, half: args.half };
    if matches!(format, Format::Pytorch | Format::Safetensors) && (args.softmax || args.with_preprocess) {
        let message = "--softmax and --with-preprocess need --format onnx, pt2 or torchscript";
        return Err(hint::usage(message, "leave them out, or choose one of these"));
    }
    if matches!(format, Format::Pt2 | Format::Torchscript) && args.half {
        let message = "--half needs --format onnx, pytorch or safetensors";
        return Err(hint::usage(
            message,
            "export in fp32 and call .half() on the loaded module, or choose one of these",
        ));
    }
    output::check_free(&args.output, args.force)?;
    let loaded = LoadedCheckpoint::new(&args.model)?;
    let architecture = architecture_of(loaded.metadata(), &loaded.path)?;
    finite(&loaded)?;
    let mut parameters = Vec::new();
    let specs = architecture.parameters()?;
    let values = loaded.checkpoint.parameters(&specs).map_err(Error::from)?;
    for (spec, values) in specs.into_iter().zip(&values) {
        let bytes = bytemuck::cast_slice(values).into();
        let tensor = export::Tensor { name: spec.name, shape: spec.shape, bytes };
        tensor.check().with_context(|| format!("cannot export {}", loaded.path.display()))?;
        parameters.push(tensor);
    }
    let (classes, preprocess) = (&loaded.metadata().classes[..], loaded.metadata().preprocess);
    let mut model = export::Model { architecture: &architecture, classes, preprocess, parameters };
    if args.half && matches!(format, Format::Pytorch | Format::Safetensors) {
        model.parameters = export::half::round(model.parameters)?;
    }
    let weights: u64 = model.parameters.iter().map(|tensor| tensor.bytes.len() as u64).sum();
    // The file, and the parts that it is made of.
    memory::claim(3 * weights).map_err(Error::io("export", &loaded.path))?;
    let bytes = match format {
        Format::Onnx => onnx::to_bytes(&model, wrapping)?,
        Format::Pt2 => pt2::to_bytes(&model, wrapping)?,
        Format::Torchscript => torchscript::to_bytes(&model, wrapping)?,
        Format::Pytorch => pytorch::to_bytes(&model).context("cannot make the archive")?,
        Format::Safetensors => export::safetensors::to_bytes(&model, &loaded.metadata().model),
    };
    output::write(&args.output, &bytes, args.force)?;
    let half = if args.half { " of fp16" } else { "" };
    let input = match (format, args.with_preprocess, architecture.image_size) {
        (Format::Pytorch | Format::Safetensors, ..) => format!("{} tensors{half}", model.parameters.len()),
        (_, true, side) => format!("input uint8 (N, {side}, {side}, 3)"),
        (_, false, side) => format!("input float (N, 3, {side}, {side}), normalised"),
    };
    let output = match (format, args.softmax) {
        (Format::Pytorch | Format::Safetensors, _) => String::new(),
        (_, true) => format!(", output probabilities (N, {})", architecture.classes),
        (_, false) => format!(", output logits (N, {})", architecture.classes),
    };
    let layers = if args.half && format == Format::Onnx { ", layers fp16" } else { "" };
    let size = gib(bytes.len() as u64);
    output::line(&format!("wrote {}: {}, {size}, {input}{output}{layers}", args.output.display(), architecture.name))?;
    let inside = if args.with_preprocess { "input: bytes, normalised inside as" } else { "input:" };
    output::line(&format!("{inside} {}", preprocess.describe(architecture.image_size)))?;
    Ok(ExitCode::SUCCESS)
}

/// Refuses a network whose weights are finite but whose outputs are not.
fn finite(loaded: &LoadedCheckpoint) -> Result<(), Error> {
    let (device, weights) = (DeviceKind::Cpu, WeightFormat::Fp32);
    let mut classifier = loaded.classifier(&DeviceArgs { device, threads: 0, no_winograd: false, weights }, 1)?;
    let grey = vec![128; classifier.side() * classifier.side() * 3];
    match classifier.classify([&grey[..]])?.pop() {
        Some(Err(error)) => Err(error.of("a grey picture")),
        _ => Ok(()),
    }
}
