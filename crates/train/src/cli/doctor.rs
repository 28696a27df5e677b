//! `alexnet doctor`.

use alexnet_core::device::Memory;
use std::process::ExitCode;

use alexnet_core::Cpu;
#[cfg(feature = "cuda")]
use alexnet_core::device::cuda::{Cuda, Precision, nvrtc, probe};
#[cfg(feature = "cuda")]
use anyhow::Context;

use super::output;
use crate::run::Result;
#[cfg(feature = "cuda")]
use crate::run::bytes::gib;
use crate::run::config::DeviceKind;

/// Check GPU support (driver, devices, NVRTC, cache), suggest fixes
///
/// Exit code 0 whatever is missing, unless --device cuda or --fetch-nvrtc asks for it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Install NVRTC, the kernels' compiler, into the cache folder by pip
    ///
    /// Does nothing if it is there already.
    #[arg(long)]
    fetch_nvrtc: bool,
    /// Fail unless this works: auto, cpu, cuda or cuda:N
    ///
    /// With cuda or cuda:N, every kernel is compiled and loaded.
    #[arg(long, default_value_t = DeviceKind::Auto)]
    device: DeviceKind,
}

/// One line per part.
fn line(part: &str, text: &str) -> Result<()> {
    output::line(&format!("{part:<9}{text}"))
}

/// A missing part; the error names the remedy.
fn missing(part: &str, error: &dyn std::fmt::Display) -> Result<()> {
    line(part, &format!("missing: {error}"))
}

/// Checks.
#[cfg(not(feature = "cuda"))]
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let error = super::device::without_cuda("cuda");
    missing("cuda", &error)?;
    line("cpu", &Cpu::new(0)?.name())?;
    if args.fetch_nvrtc || matches!(args.device, DeviceKind::Cuda(_)) {
        Err(error.into())
    } else {
        Ok(ExitCode::SUCCESS)
    }
}

/// Checks.
#[cfg(feature = "cuda")]
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.fetch_nvrtc {
        nvrtc::fetch().context("cannot fetch NVRTC")?;
    }
    let mut ready = true;
    match probe::driver() {
        Ok((version, devices)) => {
            line("driver", &format!("supports CUDA {}.{}", version / 1000, version % 1000 / 10))?;
            for (ordinal, device) in devices.iter().enumerate() {
                match device {
                    Ok(d) => {
                        let (free, total) = (gib(d.free), gib(d.total));
                        let capability = format!("compute capability {}.{}", d.sm / 10, d.sm % 10);
                        line("device", &format!("cuda:{ordinal} {}, {capability}, {free} of {total} free", d.name))?;
                    }
                    Err(error) => missing("device", &format!("cuda:{ordinal} cannot be used: {error}"))?,
                }
            }
            ready &= devices.iter().any(Result::is_ok);
        }
        Err(error) => {
            missing("driver", &error)?;
            ready = false;
        }
    }
    match nvrtc::Nvrtc::find() {
        Ok(nvrtc) => {
            let (major, minor) = nvrtc.version();
            let (path, architectures) = (nvrtc.path().display(), nvrtc.architectures());
            let range = architectures.first().zip(architectures.last());
            let range = range.map_or_else(String::new, |(first, last)| format!(", for sm_{first} to sm_{last}"));
            line("nvrtc", &format!("{major}.{minor}, {path}{range}"))?;
        }
        Err(error) => {
            missing("nvrtc", &format!("{error}; fetch it with `alexnet doctor --fetch-nvrtc`"))?;
            ready = false;
        }
    }
    match probe::kernel_cache() {
        Ok((folder, files, bytes)) => {
            line("cache", &format!("{}: {files} compiled kernels, {}", folder.display(), gib(bytes)))?;
        }
        Err(error) => missing("cache", &error)?,
    }
    line("cpu", &Cpu::new(0)?.name())?;

    let ordinal = match args.device {
        DeviceKind::Cpu => return Ok(ExitCode::SUCCESS),
        DeviceKind::Auto if !ready => {
            line("verdict", "--device auto takes the CPU")?;
            return Ok(ExitCode::SUCCESS);
        }
        DeviceKind::Auto => 0,
        DeviceKind::Cuda(ordinal) => ordinal,
    };
    // The whole check: open the device, compile and load every kernel.
    let opened = Cuda::new(ordinal, Precision::Fp32).and_then(|cuda| cuda.prepare(&[], true).map(|_| cuda.name()));
    match (opened, args.device) {
        (Ok(name), _) => line("verdict", &format!("{name}: every kernel compiles and loads"))?,
        (Err(error), DeviceKind::Auto) => line("verdict", &format!("--device auto takes the CPU: {error}"))?,
        (Err(error), _) => return Err(error.into()),
    }
    Ok(ExitCode::SUCCESS)
}
