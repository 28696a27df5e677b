//! `alexnet gradcheck`.

use std::process::ExitCode;
use std::sync::Arc;

use alexnet_core::Device;
use alexnet_core::gradcheck::network::{Case, Checked, LAYERS, case, check_device};
use alexnet_core::gradcheck::{Compared, Tolerance};

use super::device::{self, AnyDevice};
use super::output;
use crate::run::config::{DeviceKind, Precision};
use crate::run::{Error, Result};

/// Check a device's gradients against numerical ones
///
/// Each backward pass is checked through the gradients of the parameters around it, against central differences of the
/// f64 reference. An element passes if it is within atol + rtol·|numeric| of the numeric value. An element at a kink
/// (ReLU at 0, a tie in a max pool) has no derivative and is skipped; a parameter with more than one skipped element in
/// ten fails. Exit code 1 if any fails.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// auto, cpu, cuda or cuda:N
    ///
    /// auto takes the first GPU if there is one, else the CPU.
    #[arg(long, default_value_t = DeviceKind::Auto)]
    device: DeviceKind,
    /// Compute every convolution directly
    ///
    /// In fp32 the 3x3 convolutions of stride 1 use Winograd's algorithm where it is faster.
    #[arg(long)]
    no_winograd: bool,
    /// One layer, or `network`, a small AlexNet [default: all]
    #[arg(long, value_name = "LAYER", value_parser = clap::builder::PossibleValuesParser::new(LAYERS))]
    layer: Option<String>,
    /// Images, side and channels of the input [default: the layer's own]
    ///
    /// For instance 3x7x3.
    #[arg(long, value_name = "NxSxC", value_parser = shape)]
    shape: Option<[usize; 3]>,
    /// Elements compared per parameter, spread evenly; 0: all
    #[arg(long, value_name = "N", default_value_t = 60)]
    elements: usize,
    /// Relative tolerance
    ///
    /// PyTorch's by default.
    #[arg(long, value_name = "SHARE", default_value_t = Tolerance::default().relative)]
    rtol: f64,
    /// Absolute tolerance, added to the relative one
    ///
    /// PyTorch's by default.
    #[arg(long, value_name = "X", default_value_t = Tolerance::default().absolute)]
    atol: f64,
}

fn shape(text: &str) -> Result<[usize; 3], String> {
    let numbers: Option<Vec<usize>> = text.split('x').map(|number| number.parse().ok()).collect();
    match numbers.as_deref() {
        Some(&[n, side, channels]) if [n, side, channels].iter().all(|&x| (1..=1024).contains(&x)) => {
            Ok([n, side, channels])
        }
        _ => Err("expected three numbers from 1 to 1024, as in 3x7x3".into()),
    }
}

/// Runs the checks.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(match device::open(args.device, threads, Precision::Fp32, !args.no_winograd)? {
        AnyDevice::Cpu(device) => on(&device, args),
        #[cfg(feature = "cuda")]
        AnyDevice::Cuda(device) => on(&device, args),
    }?)
}

fn on<D: Device>(device: &Arc<D>, args: &Args) -> Result<ExitCode> {
    let tolerance = Tolerance { relative: args.rtol, absolute: args.atol, ..Tolerance::default() };
    output::line(&format!("device {}; numeric: the definition in f64, step {:e}", device.name(), tolerance.epsilon))?;
    let layers: Vec<&str> =
        LAYERS.into_iter().filter(|&l| args.layer.as_deref().is_none_or(|only| only == l)).collect();
    let (mut failed, mut count) = (0, 0);
    for layer in layers {
        let Some(mut case) = case(layer) else { continue };
        if let Some([batch, side, channels]) = args.shape {
            case = Case { batch, side, channels, ..case };
        }
        let elements = if args.elements == 0 { usize::MAX } else { args.elements };
        let checked = check_device(device.clone(), &case, elements, tolerance)?;
        output::line(&format!("{layer}: {0} images of {1}x{1}x{2}", case.batch, case.side, case.channels))?;
        for Checked { name, report } in &checked {
            failed += usize::from(!report.passed());
            count += 1;
            let worst = report.worst.map_or_else(String::new, |Compared { index, numeric, analytic, share }| {
                format!(
                    "; worst [{index}] numeric {numeric:+.9e} analytic {analytic:+.9e}, {share:.2e} of the tolerance"
                )
            });
            let verdict = if report.passed() { "ok    " } else { "FAILED" };
            let skipped = if report.kinks > 0 { format!(", {} at kinks", report.kinks) } else { String::new() };
            output::line(&format!(
                "  {verdict} {name:<24} {} of {}{skipped}{worst}",
                report.compared - report.failed,
                report.compared
            ))?;
        }
    }
    if failed > 0 {
        return Err(Error::Gradients { failed, count, device: device.name() });
    }
    output::line(&format!("all {count} gradients are within the tolerance"))?;
    Ok(ExitCode::SUCCESS)
}
