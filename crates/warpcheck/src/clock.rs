//! Modelled time of a kernel on a profile's device, from its counters.
//!
//! Each unit of the device has a time: what it has to do, over the rate at which it does so. Most rates are measured ones,
//! published for the device or one with the same chip (`src/profile/`).
//!
//! | unit | work | rate |
//! |---|---|---|
//! | issue | estimated instructions of machine code | 1 per scheduler and cycle |
//! | fp32, fp64, fp16 | FLOPs outside the tensor cores | fp32 as sustained, the others at peak |
//! | tensor | FLOPs of `mma` | peak of the inputs' type × what `mma.sync` reaches of it |
//! | load/store | requests and passes over shared memory and first-level cache | one pass per cycle, a request in 32 / units |
//! | port | bytes to and from L2 | 64 per SM and cycle |
//! | L2 | the same bytes | of the whole cache |
//! | memory | distinct bytes read that L2 does not hold from earlier launches, and written | 85 % of the peak |
//!
//! The first six belong to the SMs. Blocks are spread evenly, so that the busiest SM has ⌈blocks / SMs⌉ of them, and its time
//! counts: blocks that are resident together share an SM's units, hence a wave that is not full costs what its fullest SM does.
//! Units overlap, but not perfectly: their times combine as the 4-norm, which lies within 11 % of the measured passage from
//! memory-bound to compute-bound kernels (gpu-benches' roofline on an A40, an A100 and an H200).
//!
//! It ignores latency: a kernel with too few warps to keep its units busy takes longer.

use crate::count::Counters;
use crate::profile::Profile;

/// Share of the memory's peak bandwidth that kernels reach.
pub(crate) const MEMORY_SHARE: f64 = 0.85;
/// Bytes per cycle between an SM and the second-level cache.
const PORT: f64 = 64.0;

/// The time of each unit, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Times {
    /// Issue of instructions.
    pub issue: f64,
    /// Single-precision arithmetic.
    pub fp32: f64,
    /// Double-precision arithmetic.
    pub fp64: f64,
    /// Half-precision arithmetic outside the tensor cores.
    pub fp16: f64,
    /// Tensor cores.
    pub tensor: f64,
    /// Loads and stores: shared memory and first-level cache.
    pub load_store: f64,
    /// Between the SMs and the second-level cache.
    pub port: f64,
    /// The second-level cache.
    pub l2: f64,
    /// Device memory.
    pub memory: f64,
}

impl Times {
    /// The times of a launch with these counters.
    pub fn of(profile: &Profile, counters: &Counters) -> Times {
        let (sms, blocks) = (f64::from(profile.sms), counters.blocks.max(1) as f64);
        // How much longer the busiest SM works than if all had the same.
        Times::uneven(profile, counters, (blocks / sms).ceil() * sms / blocks)
    }

    /// The times if other launches fill the SMs that this one leaves idle.
    pub(crate) fn shared(profile: &Profile, counters: &Counters) -> Times {
        Times::uneven(profile, counters, 1.0)
    }

    /// The times if the busiest SM works so many times as long as the mean.
    fn uneven(profile: &Profile, counters: &Counters, uneven: f64) -> Times {
        let clock = f64::from(profile.clock_khz) / 1e6; // GHz: cycles a nanosecond
        let sms = f64::from(profile.sms);
        let per_sm = |cycles: f64| cycles * uneven / (sms * clock);
        // 10^12 operations per second are 1000 per nanosecond.
        let flops = |flops: u64, tflops: f64| if flops == 0 { 0.0 } else { flops as f64 * uneven / (tflops * 1e3) };
        let globals = [&counters.global_load, &counters.global_store, &counters.global_atomic];
        let l2_bytes = globals.map(|global| global.l2_sectors).iter().sum::<u64>() as f64 * 32.0;
        let from_memory = counters.unique_bytes_read - counters.resident_bytes_read + counters.unique_bytes_written;
        let tf32 = counters.flops_tf32;
        Times {
            issue: per_sm(counters.issued as f64 / f64::from(profile.schedulers_per_sm)),
            fp32: flops(counters.flops_f32, profile.fp32_sustained_tflops),
            fp64: flops(counters.flops_f64, profile.fp64_tflops),
            fp16: flops(counters.flops_f16, 2.0 * profile.fp32_tflops),
            tensor: flops(tf32, profile.tf32_tflops * profile.mma_share)
                + flops(counters.flops_tensor - tf32, profile.tensor_tflops * profile.mma_share),
            load_store: per_sm(load_store(profile, counters)),
            port: per_sm(l2_bytes / PORT),
            l2: l2_bytes / profile.l2_gbps,
            memory: from_memory as f64 / (profile.bandwidth_gbps * MEMORY_SHARE),
        }
    }

    /// Adds another launch's.
    pub(crate) fn add(&mut self, other: &Times) {
        self.issue += other.issue;
        self.fp32 += other.fp32;
        self.fp64 += other.fp64;
        self.fp16 += other.fp16;
        self.tensor += other.tensor;
        self.load_store += other.load_store;
        self.port += other.port;
        self.l2 += other.l2;
        self.memory += other.memory;
    }

    fn all(&self) -> [(&'static str, f64); 9] {
        let Times { issue, fp32, fp64, fp16, tensor, load_store, port, l2, memory } = *self;
        [
            ("issue", issue),
            ("fp32", fp32),
            ("fp64", fp64),
            ("fp16", fp16),
            ("tensor", tensor),
            ("load/store", load_store),
            ("port", port),
            ("L2", l2),
            ("memory", memory),
        ]
    }

    /// The time of all together.
    pub fn total(&self) -> f64 {
        let longest = self.busiest().1;
        if longest == 0.0 {
            return 0.0;
        }
        longest * self.all().map(|(_, time)| (time / longest).powi(4)).iter().sum::<f64>().powf(0.25)
    }

    /// The unit with the longest time, and that time.
    pub fn busiest(&self) -> (&'static str, f64) {
        self.all().into_iter().fold(("nothing", 0.0), |most, unit| if unit.1 > most.1 { unit } else { most })
    }
}

/// Cycles of all load/store units. Where a request of 32 threads needs two cycles, so does one that a single pass would serve;
/// the first-level cache then delivers 64 bytes per cycle, not 128.
fn load_store(profile: &Profile, counters: &Counters) -> f64 {
    let slow = f64::from(32 / profile.load_store_units.clamp(1, 32)) - 1.0;
    let shared = [&counters.shared_load, &counters.shared_store];
    let shared = shared.map(|s| s.wavefronts as f64 + slow * s.single as f64);
    let global = [&counters.global_load, &counters.global_store, &counters.global_atomic];
    let bytes_per_cycle = 4.0 * f64::from(profile.load_store_units);
    let global = global.map(|g| (g.lines as f64 + slow * g.single as f64).max(g.bytes as f64 / bytes_per_cycle));
    shared.iter().chain(&global).sum::<f64>() + counters.shared_atomics as f64 / 32.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::count::{Global, Shared};

    /// Blocks enough for all SMs of any profile to have the same number, nearly.
    const MANY: u64 = 1 << 30;

    fn profile(name: &str) -> Profile {
        Profile::by_name(name).unwrap()
    }

    #[track_caller]
    fn near(time: f64, expected: f64) {
        assert!((time / expected - 1.0).abs() < 1e-5, "{time} ns, {expected} expected");
    }

    #[test]
    fn arithmetic_takes_its_own_rates() {
        let counters = Counters {
            blocks: MANY,
            flops_f32: 19_000_000_000,
            flops_f64: 9_700_000_000,
            flops_f16: 39_000_000_000,
            ..Counters::default()
        };
        let times = Times::of(&profile("a100"), &counters);
        near(times.fp32, 1e6);
        near(times.fp64, 1e6);
        near(times.fp16, 1e6);
    }

    #[test]
    fn mma_has_the_rate_of_its_inputs_and_of_the_instruction() {
        let of = |name: &str, flops_tensor, flops_tf32| {
            Times::of(&profile(name), &Counters { blocks: MANY, flops_tensor, flops_tf32, ..Counters::default() })
                .tensor
        };
        near(of("a100", 312_000_000_000, 0), 1e6);
        near(of("a100", 312_000_000_000, 312_000_000_000), 2e6);
        near(of("a100", 312_000_000_000, 156_000_000_000), 1.5e6);
        near(of("h100", 989_000_000_000, 0), 1e6 / 0.62);
        near(of("h100", 494_000_000_000, 494_000_000_000), 1e6 / 0.62);
        assert_eq!(of("v100", 0, 0), 0.0, "no tf32, no division by zero");
    }

    #[test]
    fn the_busiest_multiprocessor_counts() {
        let of = |blocks| {
            Times::of(&profile("a100"), &Counters { blocks, issued: blocks * 5640, ..Counters::default() }).issue
        };
        // 5640 instructions of a block: 1410 cycles on four schedulers, a microsecond.
        near(of(1), 1e3);
        near(of(108), 1e3);
        near(of(109), 2e3);
        near(of(216), 2e3);
        near(of(1080), 1e4);
        near(of(1081), 1.1e4);
    }

    #[test]
    fn l2_has_a_rate_of_its_own_and_so_has_each_port() {
        let counters = |blocks| Counters {
            blocks,
            global_load: Global { l2_sectors: 2_250_000, ..Global::default() },
            global_store: Global { l2_sectors: 2_250_000, ..Global::default() },
            ..Counters::default()
        };
        let times = Times::of(&profile("a100"), &counters(MANY));
        // 144 MB at 4.5 TB/s; all ports together deliver 9.7 TB/s.
        near(times.l2, 32e3);
        near(times.port, 144e6 / (108.0 * 64.0 * 1.41));
        // One SM gets 90 GB/s.
        near(Times::of(&profile("a100"), &counters(1)).port, 144e6 / (64.0 * 1.41));
        near(Times::of(&profile("h100"), &counters(MANY)).l2, 144e3 / 5.7);
    }

    #[test]
    fn memory_reaches_85_percent_of_its_peak() {
        let counters =
            Counters { unique_bytes_read: 1_000_000_000, unique_bytes_written: 555_000_000, ..Counters::default() };
        near(Times::of(&profile("a100"), &counters).memory, 1e6 / 0.85);
        let cached = Counters { resident_bytes_read: 1_000_000_000, ..counters };
        near(Times::of(&profile("a100"), &cached).memory, 0.555e9 / 1555.0 / 0.85);
    }

    #[test]
    fn sixteen_load_store_units_need_two_cycles_for_a_request() {
        let shared = |wavefronts, single| Counters {
            blocks: MANY,
            shared_load: Shared { requests: 1_000_000, wavefronts, single, ..Shared::default() },
            ..Counters::default()
        };
        let cycles = |name: &str, counters: &Counters| {
            let profile = profile(name);
            Times::of(&profile, counters).load_store * f64::from(profile.sms) * f64::from(profile.clock_khz) / 1e6
        };
        near(cycles("a100", &shared(1_000_000, 1_000_000)), 1e6);
        near(cycles("a6000", &shared(1_000_000, 1_000_000)), 2e6);
        near(cycles("a6000", &shared(4_000_000, 0)), 4e6);
        // Coalesced loads of 16 bytes: 4 lines, 512 bytes.
        let vectors = Counters {
            blocks: MANY,
            global_load: Global { requests: 1, lines: 4_000_000, bytes: 512_000_000, ..Global::default() },
            ..Counters::default()
        };
        near(cycles("a100", &vectors), 4e6);
        near(cycles("a6000", &vectors), 8e6);
    }

    #[test]
    fn launches_side_by_side_share_the_device() {
        let counters = Counters { blocks: 27, issued: 27 * 5640, ..Counters::default() };
        let profile = profile("a100");
        near(Times::of(&profile, &counters).issue, 1e3);
        // A quarter of the SMs: three more such launches have room beside it.
        near(Times::shared(&profile, &counters).issue, 250.0);
        let mut sum = Times { memory: 5.0, ..Times::default() };
        (0..4).for_each(|_| sum.add(&Times::shared(&profile, &counters)));
        near(sum.issue, 1e3);
        assert_eq!(sum.memory, 5.0);
    }

    #[test]
    fn units_overlap_but_not_perfectly() {
        let one = Times { memory: 100.0, ..Times::default() };
        near(one.total(), 100.0);
        near(Times { fp32: 100.0, ..one }.total(), 100.0 * 2f64.powf(0.25));
        near(Times { fp32: 50.0, ..one }.total(), 100.0 * 1.0625f64.powf(0.25));
        assert_eq!(Times { fp32: 50.0, ..one }.busiest(), ("memory", 100.0));
        assert_eq!(Times::default().total(), 0.0);
    }
}
