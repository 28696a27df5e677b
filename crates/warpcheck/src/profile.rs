//! Device profiles: the properties that a program can query.
//!
//! A profile is a TOML file in `src/profile/`, built into the library. Nothing in the engine
//! depends on a device's name; the limits of kernels (threads, registers, shared memory,
//! compute capability) and the modelled time of a launch come from here.

use serde::{Deserialize, Serialize};

/// The built-in profiles: name (for `WARPCHECK_PROFILE`) and file.
const BUILT_IN: [(&str, &str); 6] = [
    ("t4", include_str!("profile/t4.toml")),
    ("v100", include_str!("profile/v100.toml")),
    ("a100", include_str!("profile/a100.toml")),
    ("a6000", include_str!("profile/a6000.toml")),
    ("rtx4090", include_str!("profile/rtx4090.toml")),
    ("h100", include_str!("profile/h100.toml")),
];

/// One device: limits, clocks and peak rates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The result of `cuDeviceGetName`.
    pub name: String,
    /// Compute capability, major.
    pub major: u32,
    /// Compute capability, minor.
    pub minor: u32,
    /// Streaming multiprocessors.
    pub sms: u32,
    /// Device memory in bytes.
    pub memory_bytes: u64,
    /// Second-level cache in bytes.
    pub l2_bytes: u32,
    /// Width of the memory bus in bits.
    pub memory_bus_bits: u32,
    /// Memory clock in kHz.
    pub memory_clock_khz: u32,
    /// Boost clock of the SMs in kHz.
    pub clock_khz: u32,
    /// Memory bandwidth in GB/s (10^9).
    pub bandwidth_gbps: f64,
    /// Bandwidth between host and device in GB/s (10^9), of a large pinned copy.
    pub host_bandwidth_gbps: f64,
    /// Peak of single-precision FMA in TFLOP/s.
    pub fp32_tflops: f64,
    /// Peak of double-precision FMA in TFLOP/s.
    pub fp64_tflops: f64,
    /// Peak of the tensor cores, half inputs, in TFLOP/s.
    pub tensor_tflops: f64,
    /// Peak of the tensor cores, tf32 inputs, in TFLOP/s; 0 where there is no tf32.
    pub tf32_tflops: f64,
    /// Bandwidth of the second-level cache in GB/s (10^9), as measured.
    pub l2_gbps: f64,
    /// Rate of single-precision FMA that is sustained, as measured, in TFLOP/s.
    pub fp32_sustained_tflops: f64,
    /// Share of the tensor cores' peak that `mma.sync` reaches: less than 1 where the peak needs `wgmma`.
    pub mma_share: f64,
    /// Threads per cycle whose loads and stores an SM accepts.
    pub load_store_units: u32,
    /// Shared memory that a block may use without opting in, in bytes.
    pub shared_per_block: u32,
    /// Shared memory that a block may use after opting in, in bytes.
    pub shared_per_block_optin: u32,
    /// Shared memory of an SM in bytes.
    pub shared_per_sm: u32,
    /// Shared memory that the system reserves per block, in bytes.
    pub shared_reserved: u32,
    /// Allocation granularity of shared memory in bytes.
    pub shared_granularity: u32,
    /// Registers (32 bits) that a block may use.
    pub registers_per_block: u32,
    /// Registers (32 bits) of an SM.
    pub registers_per_sm: u32,
    /// Allocation granularity of a warp's registers.
    pub register_granularity: u32,
    /// Threads resident on an SM.
    pub threads_per_sm: u32,
    /// Blocks resident on an SM.
    pub blocks_per_sm: u32,
    /// Warp schedulers per SM: each issues one instruction per cycle.
    pub schedulers_per_sm: u32,
    /// Integrated into the host's memory system.
    pub integrated: bool,
}

/// A profile that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no device profile {0:?}; choose one of {list}", list = Profile::names().join(", "))]
pub struct UnknownProfile(pub String);

impl Profile {
    /// Threads of a block, on every device.
    pub const MAX_THREADS_PER_BLOCK: u32 = 1024;
    /// A block's extent in x, y and z, on every device.
    pub const MAX_BLOCK: [u32; 3] = [1024, 1024, 64];
    /// A grid's extent in x, y and z, on every device.
    pub const MAX_GRID: [u32; 3] = [0x7fff_ffff, 65535, 65535];
    /// Constant memory of a module in bytes, on every device.
    pub const CONSTANT_BYTES: u32 = 65536;
    /// Registers of a thread, on every device.
    pub const MAX_REGISTERS_PER_THREAD: u32 = 255;

    /// The names of the profiles built in.
    pub fn names() -> [&'static str; 6] {
        BUILT_IN.map(|(name, _)| name)
    }

    /// The profile of this name (`a100`, `T4`, …; case does not matter).
    pub fn by_name(name: &str) -> Result<Profile, UnknownProfile> {
        BUILT_IN
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name.trim()))
            .and_then(|(_, text)| toml::from_str(text).ok())
            .ok_or_else(|| UnknownProfile(name.to_owned()))
    }

    /// The compute capability as one number: 80 for 8.0.
    pub fn sm(&self) -> u32 {
        self.major * 10 + self.minor
    }

    /// Warps resident on an SM.
    pub fn warps_per_sm(&self) -> u32 {
        self.threads_per_sm / 32
    }
}

impl Default for Profile {
    /// The default profile: an A100 with 40 GB.
    fn default() -> Self {
        Profile::by_name("a100").expect("the default profile is built in and tested")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_parses_and_agrees_with_itself() {
        for name in Profile::names() {
            let (_, text) = BUILT_IN.iter().find(|(known, _)| *known == name).unwrap();
            let profile: Profile = toml::from_str(text).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!((70..=90).contains(&profile.sm()), "{name}");
            assert_eq!(profile.threads_per_sm % 32, 0, "{name}");
            assert!(profile.shared_per_block <= profile.shared_per_block_optin, "{name}");
            assert!(profile.shared_per_block_optin + profile.shared_reserved <= profile.shared_per_sm, "{name}");
            assert!(profile.fp32_sustained_tflops <= profile.fp32_tflops && profile.mma_share <= 1.0, "{name}");
            assert!(profile.l2_gbps > profile.bandwidth_gbps, "{name}");
            assert!([16, 32].contains(&profile.load_store_units), "{name}");
            // Two transfers per clock for every memory here: the bandwidth follows from clock and bus.
            let bandwidth =
                2.0 * f64::from(profile.memory_clock_khz) * 1e3 * f64::from(profile.memory_bus_bits) / 8.0 / 1e9;
            let ratio = bandwidth / profile.bandwidth_gbps;
            assert!((0.98..1.02).contains(&ratio), "{name}: {bandwidth} GB/s by clock and bus");
        }
    }

    #[test]
    fn names_are_found_in_any_case_and_strangers_are_refused() {
        assert_eq!(Profile::by_name("H100").unwrap().sm(), 90);
        assert_eq!(Profile::default().sms, 108);
        let error = Profile::by_name("voodoo2").unwrap_err().to_string();
        assert!(error.contains("voodoo2") && error.contains("rtx4090"), "{error}");
    }
}
