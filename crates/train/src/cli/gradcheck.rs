//! `alexnet gradcheck`.

use std::process::ExitCode;
use std::sync::Arc;

use alexnet_core::Device;
use alexnet_core::gradcheck::network::{Case, Checked, LAYERS, case, check_device};
use alexnet_core::gradcheck::{Compared, Tolerance};

use super::device::{self, Opened};
use crate::run::config::DeviceKind;
use crate::run::progress::say;
use crate::run::{Error, Result};

/// Check a device's gradients against numerical ones: central differences of the definition in f64
///
/// Every layer's backward pass is checked through the gradients of the parameters around it. An element passes if it is
/// within atol + rtol·|numeric| of its numeric value; an element at a kink (ReLU at 0, two equal
/// largest elements in a pool) has no derivative and is skipped. Exit code 1 if any fails.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Whose gradients: auto, cpu, cuda, cuda:N
    #[arg(long, default_value_t = DeviceKind::Auto)]
    device: DeviceKind,
    /// One layer, or `network`, a small AlexNet [default: all]
    #[arg(long, value_name = "LAYER", value_parser = clap::builder::PossibleValuesParser::new(LAYERS))]
    layer: Option<String>,
    /// The images that go in: how many, their side, their channels [default: each layer's own, such as 3x7x3]
    #[arg(long, value_name = "NxSxC", value_parser = shape)]
    shape: Option<[usize; 3]>,
    /// Elements of each parameter that are compared, spread evenly; 0 for all
    #[arg(long, value_name = "N", default_value_t = 60)]
    elements: usize,
    /// Tolerated difference as a share of the numeric value; PyTorch's by default
    #[arg(long, value_name = "SHARE", default_value_t = Tolerance::default().relative)]
    rtol: f64,
    /// Tolerated absolute difference, added to that
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

/// Checks.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(match device::open(args.device, threads)? {
        Opened::Cpu(device) => on(&device, args),
        Opened::Cuda(device) => on(&device, args),
    }?)
}

fn on<D: Device>(device: &Arc<D>, args: &Args) -> Result<ExitCode> {
    let tolerance = Tolerance { relative: args.rtol, absolute: args.atol, ..Tolerance::default() };
    say(&format!("device {}; numeric: the definition in f64, step {:e}", device.name(), tolerance.epsilon));
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
        say(&format!("{layer}: {0} images of {1}x{1}x{2}", case.batch, case.side, case.channels));
        for Checked { name, report } in &checked {
            failed += usize::from(!report.passed());
            count += 1;
            let worst = report.worst.map_or_else(String::new, |Compared { index, numeric, analytic, share }| {
                format!("worst [{index}] numeric {numeric:+.9e} analytic {analytic:+.9e}, {share:.2e} of the tolerance")
            });
            let verdict = if report.passed() { "ok    " } else { "FAILED" };
            let skipped = if report.kinks > 0 { format!(", {} at kinks", report.kinks) } else { String::new() };
            say(&format!(
                "  {verdict} {name:<24} {} of {}{skipped}; {worst}",
                report.compared - report.failed,
                report.compared
            ));
        }
    }
    if failed > 0 {
        return Err(Error::Gradients { failed, count, device: device.name() });
    }
    say(&format!("all {count} gradients are within the tolerance"));
    Ok(ExitCode::SUCCESS)
}
