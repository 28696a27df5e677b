//! Opens the device that `--device` names.

use std::path::Path;
use std::sync::{Arc, Once};

use alexnet_core::device::cpu::Cpu;
#[cfg(feature = "cuda")]
use alexnet_core::device::cuda::{self, Cuda, Winograd};

use alexnet_ranks::Ranks;

use crate::print::notice;
use crate::run::config::{self, DeviceKind, Precision, WeightFormat};
use crate::run::{Error, Result};

/// An open device of either kind.
pub enum AnyDevice {
    /// The processor.
    Cpu(Arc<Cpu>),
    /// A GPU.
    #[cfg(feature = "cuda")]
    Cuda(Arc<Cuda>),
}

impl AnyDevice {
    /// The CPU, if it is that.
    pub fn into_cpu(self) -> Option<Arc<Cpu>> {
        match self {
            Self::Cpu(device) => Some(device),
            #[cfg(feature = "cuda")]
            Self::Cuda(_) => None,
        }
    }
}

/// The threads that `--threads` asks for; says so if there are fewer cores.
pub fn cap_threads(wanted: usize) -> usize {
    static TOLD: Once = Once::new();
    let threads = config::threads(wanted);
    if threads < wanted {
        TOLD.call_once(|| notice(&format!("--threads {wanted}: this machine has {threads} cores, using {threads}")));
    }
    threads
}

/// As [`open`], on a rank of a job: each of a machine has a GPU of its own, from the named one on. They exchange by NCCL where it is
/// found.
///
/// # Errors
/// The machine has fewer GPUs than ranks; `ALEXNET_NCCL` names no NCCL; as [`open`].
pub fn open_of_rank(
    kind: DeviceKind,
    threads: usize,
    precision: Precision,
    winograd: bool,
    ranks: &dyn Ranks,
) -> Result<AnyDevice> {
    if ranks.size() == 1 {
        return open(kind, threads, precision, winograd);
    }
    let place = (ranks.local_rank(), ranks.local_size());
    let device = open(of_rank(kind, place, gpus(), own_gpu())?, threads, precision, winograd)?;
    #[cfg(feature = "cuda")]
    let device = with_nccl(device)?;
    Ok(device)
}

/// The device of a rank, by its number among those of its machine and theirs, of a machine with `count` GPUs; `chosen` tells
/// whether the launcher has chosen among them.
fn of_rank(kind: DeviceKind, (rank, ranks): (usize, usize), count: usize, chosen: bool) -> Result<DeviceKind> {
    let first = match kind {
        DeviceKind::Cpu => return Ok(kind),
        DeviceKind::Auto => 0,
        DeviceKind::Cuda(first) => first,
    };
    match () {
        () if ranks == 1 || (kind == DeviceKind::Auto && count == 0) => Ok(kind),
        () if first + rank < count => Ok(DeviceKind::Cuda(first + rank)),
        // A launcher that shows each rank its own GPU alone, as Slurm's.
        () if count == 1 && first == 0 && chosen => Ok(DeviceKind::Cuda(0)),
        () => Err(Error::TooFewGpus { ranks, gpus: count.saturating_sub(first) }),
    }
}

/// A GPU exchanges by NCCL from here on, if there is one.
#[cfg(feature = "cuda")]
fn with_nccl(mut device: AnyDevice) -> Result<AnyDevice> {
    if let AnyDevice::Cuda(cuda) = &mut device
        && let Some(cuda) = Arc::get_mut(cuda)
    {
        cuda.set_nccl(nccl()?);
    }
    Ok(device)
}

/// NCCL, if there is one.
#[cfg(feature = "cuda")]
fn nccl() -> Result<Option<&'static cuda::nccl::Nccl>> {
    match cuda::nccl::search() {
        Err(cuda::DriverError::NoNccl { .. }) => Ok(None),
        found => found.map_err(|error| {
            let (device, message) = ("NCCL".into(), error.to_string());
            alexnet_core::Error::Device { device, message }.into()
        }),
    }
}

/// The GPUs that the driver shows.
#[cfg(feature = "cuda")]
fn gpus() -> usize {
    cuda::probe::driver().map_or(0, |(_, devices)| devices.len())
}

#[cfg(not(feature = "cuda"))]
const fn gpus() -> usize {
    0
}

/// Whether the launcher has chosen the GPU of this process.
fn own_gpu() -> bool {
    std::env::var_os("CUDA_VISIBLE_DEVICES").is_some()
}

/// Opens the device, and sets the size of rayon's global thread pool. With fp32 and bf16, [`DeviceKind::Auto`] takes the CPU if
/// no GPU can be used, and prints the reason unless the machine has no NVIDIA driver. `threads` is as in `--threads`; `winograd`
/// tells whether convolutions may use Winograd's algorithm.
///
/// # Errors
/// The threads cannot be started; the GPU named is missing, or its driver or NVRTC is.
pub fn open(kind: DeviceKind, threads: usize, precision: Precision, winograd: bool) -> Result<AnyDevice> {
    let threads = cap_threads(threads);
    // Fails only if the pool exists already.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    let cpu = || {
        let mut cpu = Cpu::new(threads)?;
        cpu.set_winograd(winograd);
        cpu.set_precision(of_core(precision))?;
        if !cpu.gains() {
            notice(
                "note: bf16 is slower than fp32 on this CPU; AMX, or AVX512-BF16 on a processor of AMD's, makes it faster",
            );
        }
        Ok(AnyDevice::Cpu(Arc::new(cpu)))
    };
    let gpu = |ordinal| gpu(ordinal, precision, winograd);
    match kind {
        DeviceKind::Cpu => cpu(),
        DeviceKind::Cuda(ordinal) => gpu(ordinal),
        DeviceKind::Auto if !precision.is_for_cpu() => gpu(0),
        DeviceKind::Auto => gpu(0).or_else(|reason| {
            if !no_driver() || Path::new("/dev/nvidia0").exists() {
                notice(&format!("using the CPU: {reason}"));
            }
            cpu()
        }),
    }
}

/// As [`open`] in fp32, for inference with weights in this format. [`DeviceKind::Auto`] takes the CPU for those in half precision.
///
/// # Errors
/// As [`open`]; weights in half precision on a GPU.
pub fn open_for_inference(
    kind: DeviceKind,
    threads: usize,
    winograd: bool,
    weights: WeightFormat,
) -> Result<AnyDevice> {
    match (weights, kind) {
        (WeightFormat::Fp32, kind) => open(kind, threads, Precision::Fp32, winograd),
        (WeightFormat::Half, DeviceKind::Cuda(_)) => {
            let message = "it is for the CPU: leave it out, or use --device cpu".into();
            Err(alexnet_core::Error::Device { device: "--weights half".into(), message }.into())
        }
        (WeightFormat::Half, DeviceKind::Cpu | DeviceKind::Auto) => {
            let threads = cap_threads(threads);
            // Fails only if the pool exists already.
            let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
            let mut cpu = Cpu::new(threads)?;
            cpu.set_winograd(winograd);
            cpu.set_half_weights(true);
            Ok(AnyDevice::Cpu(Arc::new(cpu)))
        }
    }
}

fn of_core(precision: Precision) -> alexnet_core::Precision {
    match precision {
        Precision::Fp32 => alexnet_core::Precision::Fp32,
        Precision::Tf32 => alexnet_core::Precision::Tf32,
        Precision::Fp16 => alexnet_core::Precision::Fp16,
        Precision::Bf16 => alexnet_core::Precision::Bf16,
    }
}

#[cfg(feature = "cuda")]
fn gpu(ordinal: usize, precision: Precision, winograd: bool) -> Result<AnyDevice> {
    let mut cuda = Cuda::new(ordinal, of_core(precision))?;
    cuda.set_winograd(if winograd { Winograd::ByShape } else { Winograd::Never });
    Ok(AnyDevice::Cuda(Arc::new(cuda)))
}

/// Whether the machine has no NVIDIA driver: then the line "device cpu" says enough.
#[cfg(feature = "cuda")]
fn no_driver() -> bool {
    matches!(cuda::probe::driver(), Err(cuda::DriverError::NoDriver))
}

#[cfg(not(feature = "cuda"))]
fn gpu(ordinal: usize, _: Precision, _: bool) -> Result<AnyDevice> {
    Err(without_cuda(&format!("cuda:{ordinal}")).into())
}

#[cfg(not(feature = "cuda"))]
const fn no_driver() -> bool {
    true
}

/// The error of a build without the feature `cuda`.
#[cfg(not(feature = "cuda"))]
pub fn without_cuda(device: &str) -> alexnet_core::Error {
    let message = "this build has no CUDA: build it with the feature `cuda`, or use --device cpu".into();
    alexnet_core::Error::Device { device: device.into(), message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alexnet_core::device::Memory;
    use alexnet_core::shape::ConvShape;

    #[test]
    fn every_rank_of_a_machine_has_a_gpu_of_its_own() {
        let all = |kind, ranks, count, chosen| -> Vec<std::result::Result<DeviceKind, String>> {
            (0..ranks).map(|rank| of_rank(kind, (rank, ranks), count, chosen).map_err(|e| e.to_string())).collect()
        };
        use DeviceKind::{Auto, Cpu, Cuda};
        assert_eq!(all(Cpu, 2, 2, false), [Ok(Cpu), Ok(Cpu)]);
        for kind in [Auto, Cuda(0)] {
            assert_eq!(all(kind, 4, 4, false), [Ok(Cuda(0)), Ok(Cuda(1)), Ok(Cuda(2)), Ok(Cuda(3))]);
            // Each sees its own one alone.
            assert_eq!(all(kind, 2, 1, true), [Ok(Cuda(0)), Ok(Cuda(0))]);
            let too_few = all(kind, 2, 1, false);
            assert_eq!(too_few[0], Ok(Cuda(0)));
            assert!(too_few[1].as_ref().is_err_and(|error| error.contains("1 GPUs")), "{too_few:?}");
        }
        assert_eq!(all(Cuda(2), 2, 4, false), [Ok(Cuda(2)), Ok(Cuda(3))]);
        assert!(all(Cuda(3), 2, 4, false)[1].is_err());
        assert_eq!(all(Auto, 2, 0, false), [Ok(Auto), Ok(Auto)]);
        assert_eq!(all(Cuda(1), 1, 2, false), [Ok(Cuda(1))]);
    }

    #[test]
    fn half_weights_are_for_the_cpu() {
        let open = |kind| open_for_inference(kind, 1, true, WeightFormat::Half);
        for kind in [DeviceKind::Cpu, DeviceKind::Auto] {
            let Ok(AnyDevice::Cpu(cpu)) = open(kind) else { panic!("every machine has a CPU") };
            assert!(cpu.inference_weights(&[2, 2]).unwrap().is_half());
        }
        assert!(open(DeviceKind::Cuda(0)).is_err_and(|error| error.to_string().contains("--device cpu")));
    }

    #[test]
    fn winograd_is_used_unless_it_is_not_to_be() {
        let (height, width, channels, filters, kernel) = (8, 8, 16, 16, 3);
        let s = ConvShape { batch: 1, height, width, channels, filters, kernel, stride: 1, padding: 1, groups: 1 };
        for winograd in [true, false] {
            let Ok(AnyDevice::Cpu(cpu)) = open(DeviceKind::Cpu, 1, Precision::Fp32, winograd) else {
                panic!("every machine has a CPU");
            };
            assert_eq!(cpu.uses_winograd(&s), winograd);
        }
    }
}
