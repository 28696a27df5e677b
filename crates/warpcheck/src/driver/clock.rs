//! Modelled time of an operation on the profile's device, in nanoseconds.
//!
//! A kernel's time is a roofline: a fixed cost per launch plus the time of the busiest unit, from the
//! counters and the profile's peak rates. It ignores latency, so it is
//! a lower bound, for comparing kernels, not a prediction. Counters are kept with
//! `WARPCHECK_COUNT=1`; without them the time is the fixed cost plus the time of the simulation.
//! Operations of different streams do not slow each other down.

use super::work::{Copy, End, Fill};
use crate::count::Counters;
use crate::profile::Profile;
use std::time::Duration;

/// Fixed cost of a kernel in a stream.
const LAUNCH: f64 = 3_000.0;
/// Fixed cost of a kernel in a graph, which is launched with the others.
const NODE: f64 = 1_000.0;
/// Fixed cost of a copy between host and device.
const HOST_COPY: f64 = 6_000.0;
/// Fixed cost of a copy or a fill on the device.
const DEVICE_COPY: f64 = 2_000.0;
/// Cost of a host function.
pub(super) const HOST_FUNCTION: f64 = 10_000.0;

/// The time of a copy.
pub(super) fn copy(profile: &Profile, copy: &Copy) -> f64 {
    let bytes = copy.bytes() as f64;
    match (&copy.to, &copy.from) {
        (End::Device(_), End::Device(_)) => DEVICE_COPY + 2.0 * bytes / profile.bandwidth_gbps,
        _ => HOST_COPY + bytes / profile.host_bandwidth_gbps,
    }
}

/// The time of a fill.
pub(super) fn fill(profile: &Profile, fill: &Fill) -> f64 {
    DEVICE_COPY + fill.bytes() as f64 / profile.bandwidth_gbps
}

/// The time of a kernel.
pub(super) fn kernel(profile: &Profile, counters: Option<&Counters>, host: Duration) -> f64 {
    LAUNCH + counters.map_or(host.as_nanos() as f64, |counters| busy(profile, counters))
}

/// The time of an operation as a node of a graph, by the node's kind.
pub(super) fn in_graph(kind: u32, alone: f64) -> f64 {
    const KERNEL: u32 = 0;
    if kind == KERNEL { alone - LAUNCH + NODE } else { alone }
}

/// Time of the busiest unit.
pub(crate) fn busy(profile: &Profile, counters: &Counters) -> f64 {
    let clock = f64::from(profile.clock_khz) / 1e6; // GHz: cycles a nanosecond
    let sms = f64::from(profile.sms.min(counters.blocks.max(1) as u32));
    let whole = f64::from(profile.sms) / sms;
    let sectors = [&counters.global_load, &counters.global_store, &counters.global_atomic].map(|g| g.sectors);
    let unique = counters.unique_bytes_read + counters.unique_bytes_written;
    let shared = counters.shared_load.wavefronts + counters.shared_store.wavefronts;
    // 10^12 operations per second are 1000 per nanosecond.
    [
        // Each scheduler issues one warp instruction per cycle.
        counters.warp_instructions as f64 / (sms * f64::from(profile.schedulers_per_sm) * clock),
        counters.flops_f32 as f64 * whole / (profile.fp32_tflops * 1e3),
        counters.flops_f64 as f64 * whole / (profile.fp64_tflops * 1e3),
        counters.flops_f16 as f64 * whole / (2.0 * profile.fp32_tflops * 1e3),
        tensor(profile, counters) * whole,
        // Each SM reads 64 bytes per cycle from L2.
        sectors.iter().sum::<u64>() as f64 * 32.0 / (sms * 64.0 * clock),
        // Compulsory traffic of device memory.
        unique as f64 / profile.bandwidth_gbps,
        // One wavefront per cycle.
        shared as f64 / (sms * clock),
    ]
    .into_iter()
    .fold(0.0, f64::max)
}

/// Time of all tensor cores: those products whose inputs are tf32 have a peak of their own.
fn tensor(profile: &Profile, counters: &Counters) -> f64 {
    let time = |flops: u64, tflops: f64| if flops == 0 { 0.0 } else { flops as f64 / (tflops * 1e3) };
    let tf32 = counters.flops_tf32;
    time(tf32, profile.tf32_tflops) + time(counters.flops_tensor - tf32, profile.tensor_tflops)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_as_slow_as_its_busiest_part() {
        let profile = Profile::default();
        let mut counters = Counters { blocks: 10_000, ..Counters::default() };
        counters.unique_bytes_read = 1_555_000_000;
        let memory = kernel(&profile, Some(&counters), Duration::ZERO);
        assert!((memory - LAUNCH - 1e6).abs() < 1.0, "a GB and a half take a millisecond: {memory}");
        counters.flops_f32 = 195_000_000_000;
        let compute = kernel(&profile, Some(&counters), Duration::ZERO);
        assert!((compute - LAUNCH - 1e7).abs() < 1.0, "ten milliseconds of FMA: {compute}");
    }

    #[test]
    fn tf32_has_its_own_peak() {
        let profile = Profile::default();
        let of = |flops_tf32| {
            let counters =
                Counters { blocks: 10_000, flops_tensor: 312_000_000_000, flops_tf32, ..Counters::default() };
            busy(&profile, &counters)
        };
        assert!((of(0) - 1e6).abs() < 1.0, "a millisecond of half precision: {}", of(0));
        assert!((of(312_000_000_000) - 2e6).abs() < 1.0, "two of tf32: {}", of(312_000_000_000));
        assert!((of(156_000_000_000) - 1.5e6).abs() < 1.0, "one of each: {}", of(156_000_000_000));
    }

    #[test]
    fn a_single_block_has_one_multiprocessor() {
        let profile = Profile::default();
        let of = |blocks| {
            let counters = Counters { blocks, flops_f32: 1 << 30, ..Counters::default() };
            kernel(&profile, Some(&counters), Duration::ZERO) - LAUNCH
        };
        let ratio = of(1) / of(1000);
        assert!((ratio - 108.0).abs() < 1e-6, "{ratio}");
    }
}
