//! Whether a network fits: its memory plan is compared with the free memory before anything is allocated.

use std::io;
use std::path::Path;

use alexnet_core::architecture::MemoryPlan;
use alexnet_core::{Architecture, Device};

use super::bytes::gib;
use super::error::{Error, Result};
use crate::data::{LoaderOptions, PixelValue};

mod control_group;

/// What the process takes beside its plans, at most: stacks, buffers for files, the allocator's rest.
const PROCESS: u64 = 16 << 20;

/// Bytes that can be allocated without swapping, on Linux: the smaller of the kernel's `MemAvailable` and what the limits of
/// control groups leave.
pub fn available() -> Option<u64> {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| mem_available(&text));
    machine.into_iter().chain(control_group::left(Path::new("/"))).min()
}

/// Checks that `bytes` beside the process's own are free, before a file's contents are taken into memory.
///
/// # Errors
/// [`io::ErrorKind::OutOfMemory`] with both numbers.
pub fn claim(bytes: u64) -> io::Result<()> {
    let needed = bytes.saturating_add(PROCESS);
    match available() {
        Some(free) if needed > free => {
            let message = format!("it needs {} of memory, {} is free", gib(needed), gib(free));
            Err(io::Error::new(io::ErrorKind::OutOfMemory, message))
        }
        _ => Ok(()),
    }
}

/// The line `MemAvailable` of /proc/meminfo, in bytes.
fn mem_available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.saturating_mul(1024))
}

/// What a network is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Inference alone.
    Inference,
    /// Training.
    Training {
        /// Whether with a moving average of the weights.
        average: bool,
        /// How many parts a batch is divided into.
        shards: usize,
        /// Parts whose activations are kept at a time.
        together: usize,
        /// Arrays as large as the gradients, besides them, for the sums of the parts.
        sums: usize,
    },
}

/// Plans the memory for batches of `batch` images, with several shards divided among them, and checks that it is free: the
/// device's memory, or the machine's for a device without memory of its own. Returns the plan and the free bytes, where they are
/// known.
///
/// # Errors
/// [`Error::Memory`] with a batch that fits, the largest but for less workspace; a layer without output; the device's.
pub fn fits<D: Device>(
    device: &D,
    architecture: &Architecture,
    batch: usize,
    purpose: Use,
) -> Result<(MemoryPlan, Option<u64>)> {
    let (training, average, shards, together, sums) = match purpose {
        Use::Inference => (false, false, 1, 1, 0),
        Use::Training { average, shards, together, sums } => (true, average, shards, together as u64, sums as u64),
    };
    let own = device.memory()?;
    let free = own.map(|(free, _)| free).or_else(available);
    let layers = architecture.trace()?;
    let plan = |batch: usize| -> Result<MemoryPlan> {
        let batch = batch.div_ceil(shards);
        let mut plan = architecture.memory(batch, device.storage(), training)?;
        plan.gradients += sums * plan.momentum;
        plan.activations = plan.activations.saturating_mul(together);
        plan.average = if average { plan.parameters } else { 0 };
        // The loader's batches are in the same memory, and so is the rest of the process; a device with memory of its own
        // has the buffers through which they come.
        let (images, process) = match own {
            None => (loader::<f32>(architecture.image_size, batch), PROCESS),
            Some(_) => (uploads(architecture, batch), 0),
        };
        plan.activations = plan.activations.saturating_add(images);
        plan.workspace = process;
        Ok(plan)
    };
    let workspace = |batch: usize| {
        let operations: Vec<_> = layers.iter().map(|layer| layer.operation(batch.div_ceil(shards))).collect();
        device.workspace(&operations, training)
    };
    let mut plan = fits_in(batch, free, plan, workspace)?;
    // Without room for it training waits for each checkpoint.
    let copy = plan.momentum * if average { 3 } else { 2 };
    if free.is_none_or(|free| plan.total().saturating_add(copy) <= free) {
        plan.copy = copy;
    }
    Ok((plan, free))
}

/// Checks that a loader's batches of images of `size` pixels a side fit the machine's memory.
///
/// # Errors
/// [`Error::Memory`] with the largest batch that fits.
pub fn loads<T: PixelValue>(size: usize, batch: usize) -> Result<()> {
    let plan = |batch| Ok(MemoryPlan { activations: loader::<T>(size, batch), ..MemoryPlan::default() });
    fits_in(batch, available(), plan, |_| 0).map(drop)
}

/// Bytes of the batches that a loader prepares.
fn loader<T: PixelValue>(size: usize, batch: usize) -> u64 {
    LoaderOptions { batch_size: batch, image_size: size, ..LoaderOptions::default() }.memory::<T>()
}

/// Bytes of the device's memory through which batches of images reach a network that does not find them there.
pub fn uploads(architecture: &Architecture, batch: usize) -> u64 {
    (2 * architecture.image_len() as u64).saturating_mul(batch as u64)
}

/// The plan for `batch` with the operators' workspace, if it fits `free` bytes. Neither needs less for a larger batch.
fn fits_in(
    batch: usize,
    free: Option<u64>,
    plan: impl Fn(usize) -> Result<MemoryPlan>,
    workspace: impl Fn(usize) -> u64,
) -> Result<MemoryPlan> {
    let mut wanted = plan(batch)?;
    let Some(free) = free else { return Ok(wanted) };
    // Only for a plan that fits: the shapes of a huge batch would overflow.
    if wanted.total() <= free {
        wanted.workspace += workspace(batch);
        if wanted.total() <= free {
            return Ok(wanted);
        }
    }
    let largest_in = |bytes: u64| -> Result<usize> {
        let (mut fits, mut too_large) = (0, batch);
        while too_large - fits > 1 {
            let middle = fits + (too_large - fits) / 2;
            if plan(middle)?.total() <= bytes { fits = middle } else { too_large = middle }
        }
        Ok(fits)
    };
    // A device looks at every smaller batch for a workspace, which takes seconds: once is enough.
    let without_workspace = largest_in(free)?;
    let largest = match without_workspace {
        0 => 0,
        batch => largest_in(free.saturating_sub(workspace(batch)))?,
    };
    Err(Error::Memory { batch, needs: wanted.total(), free, largest: (largest > 0).then_some(largest) })
}

/// One line: bytes needed, free, and by what.
pub fn line(plan: &MemoryPlan, free: Option<u64>) -> String {
    let free = free.map_or_else(String::new, |free| format!(", {} free", gib(free)));
    let mut parts = vec![format!("weights {}", gib(plan.parameters))];
    if plan.gradients > 0 {
        parts.push(format!("gradients and momentum {}", gib(plan.gradients + plan.momentum)));
    }
    if plan.average > 0 {
        parts.push(format!("average {}", gib(plan.average)));
    }
    parts.push(format!("activations {}", gib(plan.activations)));
    parts.push(format!("workspace {}", gib(plan.workspace)));
    if plan.copy > 0 {
        parts.push(format!("copy for checkpoints {}", gib(plan.copy)));
    }
    format!("needs {}{free} ({})", gib(plan.total()), parts.join(", "))
}

#[cfg(test)]
mod tests {
    use alexnet_core::alexnet::{Options, Variant, architecture};
    use alexnet_core::device::Storage;

    use super::*;

    #[test]
    fn meminfo() {
        assert_eq!(mem_available("MemTotal: 9 kB\nMemAvailable:   24000 kB\nX: 1 kB\n"), Some(24_576_000));
        assert_eq!(mem_available("MemTotal: 9 kB\n"), None);
    }

    #[test]
    fn the_largest_batch_that_fits_fits() {
        let options = Options::new(32, 10);
        let network = architecture(Variant::Cifar, options);
        let free = 500 << 20;
        let plan = |batch| Ok(network.memory(batch, Storage::uniform(4), true)?);
        let fits = |batch, free| fits_in(batch, free, plan, |_| 0);
        let Err(Error::Memory { largest: Some(largest), needs, .. }) = fits(100_000, Some(free)) else {
            panic!("100,000 images in 500 MiB");
        };
        assert!(needs > free);
        assert!(fits(largest, Some(free)).is_ok());
        assert!(fits(largest + 1, Some(free)).is_err());
        assert!(matches!(fits(1, Some(1 << 20)), Err(Error::Memory { largest: None, .. })));
        assert!(fits(100_000, None).is_ok());
        // No overflow on the way to the message.
        assert!(fits(usize::MAX / 2, Some(free)).is_err());
        // What is named fits with its workspace, which is asked for once.
        let asked = std::cell::Cell::new(0);
        let workspace = |batch| {
            asked.set(asked.get() + 1);
            1000 * batch as u64
        };
        let Err(Error::Memory { largest: Some(less), .. }) = fits_in(100_000, Some(free), plan, workspace) else {
            panic!("100,000 images in 500 MiB");
        };
        assert!(asked.get() == 1 && less < largest && less > largest * 99 / 100, "{asked:?} {less} {largest}");
        assert!(fits_in(less, Some(free), plan, workspace).is_ok());
    }

    #[test]
    fn the_cpu_shares_its_memory_with_the_loader() {
        let network = architecture(Variant::Torchvision, Options::new(224, 10));
        let device = alexnet_core::Cpu::new(1).unwrap();
        let (plan, _) =
            fits(&device, &network, 2, Use::Training { average: false, shards: 1, together: 1, sums: 0 }).unwrap();
        let layers = network.memory(2, Storage::uniform(4), true).unwrap().activations;
        // Five batches of two images, as floats, their labels, and which they are.
        assert_eq!(plan.activations - layers, 5 * 2 * (224 * 224 * 3 * 4 + 4 + 8));
    }
}
