//! Modelled time of an operation on the profile's device, in nanoseconds.
//!
//! A kernel's time is a fixed cost per launch plus what [`crate::clock`] makes of its counters. Counters are kept with
//! `WARPCHECK_COUNT=1`; without them the time is the fixed cost plus the time of the simulation.
//! Operations of different streams do not slow each other down; the nodes of a graph do.

use super::work::{Copy, End, Fill};
use crate::clock::{MEMORY_SHARE, Times};
use crate::count::Counters;
use crate::profile::Profile;
use std::time::Duration;

/// Fixed cost of a kernel in a stream. As the next one measured by gpu-benches (gpu-small-kernels), kernels of 64 kB one after
/// another: 2.1 to 2.7 µs on an A40, an A100 and an H200.
pub(super) const LAUNCH: f64 = 2_500.0;
/// Fixed cost of a kernel in a graph, from the end of one to the start of the next: 1.1 to 1.4 µs.
pub(super) const NODE: f64 = 1_300.0;
/// Fixed cost of a copy between host and device.
const HOST_COPY: f64 = 6_000.0;
/// Fixed cost of a copy or a fill on the device.
const DEVICE_COPY: f64 = 2_000.0;
/// Cost of a host function.
pub(super) const HOST_FUNCTION: f64 = 10_000.0;

/// What an operation costs.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cost {
    /// Its time in ns.
    pub time: f64,
    /// What its kernels take of the device's units, in ns.
    pub units: Times,
}

impl From<f64> for Cost {
    fn from(time: f64) -> Cost {
        Cost { time, units: Times::default() }
    }
}

/// The time of a copy.
pub(super) fn copy(profile: &Profile, copy: &Copy) -> f64 {
    let bytes = copy.bytes() as f64;
    match (&copy.to, &copy.from) {
        (End::Device(_), End::Device(_)) => DEVICE_COPY + 2.0 * bytes / (profile.bandwidth_gbps * MEMORY_SHARE),
        _ => HOST_COPY + bytes / profile.host_bandwidth_gbps,
    }
}

/// The time of a fill.
pub(super) fn fill(profile: &Profile, fill: &Fill) -> f64 {
    DEVICE_COPY + fill.bytes() as f64 / (profile.bandwidth_gbps * MEMORY_SHARE)
}

/// The cost of a kernel whose launch takes `fixed` ns.
pub(super) fn kernel(profile: &Profile, fixed: f64, counters: Option<&Counters>, host: Duration) -> Cost {
    let Some(counters) = counters else { return Cost::from(fixed + host.as_nanos() as f64) };
    let time = fixed + Times::of(profile, counters).total();
    Cost { time, units: Times::shared(profile, counters) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_costs_its_launch_and_the_time_of_its_units() {
        let profile = Profile::default();
        let counters = Counters { blocks: 10_800, flops_f32: 19_000_000_000, ..Counters::default() };
        let time = kernel(&profile, NODE, Some(&counters), Duration::ZERO).time;
        assert!((time - 1_001_300.0).abs() < 1.0, "the gap and a millisecond: {time}");
        let time = kernel(&profile, LAUNCH, None, Duration::from_millis(1)).time;
        assert_eq!(time, 1_002_500.0, "without counters: the launch and the simulation");
    }
}
