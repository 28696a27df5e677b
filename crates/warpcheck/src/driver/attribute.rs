//! Device attributes: every `CU_DEVICE_ATTRIBUTE_*` of CUDA 12.9, computed from the profile.

use super::result::{CuResult, DriverResult};
use crate::profile::Profile;

/// Limits of textures and surfaces, which are not supported here: those of every device since Volta.
const TEXTURES: [(u32, i32); 45] = [
    (14, 512),
    (21, 131_072),
    (22, 131_072),
    (23, 65_536),
    (24, 16_384),
    (25, 16_384),
    (26, 16_384),
    (27, 32_768),
    (28, 32_768),
    (29, 2048),
    (30, 512),
    (42, 32_768),
    (43, 2048),
    (44, 1),
    (45, 32_768),
    (46, 32_768),
    (47, 8192),
    (48, 8192),
    (49, 32_768),
    (51, 32),
    (52, 32_768),
    (53, 32_768),
    (54, 2046),
    (55, 32_768),
    (56, 131_072),
    (57, 65_536),
    (58, 16_384),
    (59, 16_384),
    (60, 16_384),
    (61, 32_768),
    (62, 2048),
    (63, 32_768),
    (64, 32_768),
    (65, 2048),
    (66, 32_768),
    (67, 32_768),
    (68, 2046),
    (69, 268_435_456),
    (70, 131_072),
    (71, 65_000),
    (72, 2_097_120),
    (73, 32_768),
    (74, 32_768),
    (77, 32_768),
    (112, 0),
];

/// The value of an attribute; an unknown number is an invalid value.
pub(super) fn of(profile: &Profile, ordinal: u32, attribute: u32) -> DriverResult<i32> {
    if let Some((_, value)) = TEXTURES.iter().find(|(number, _)| *number == attribute) {
        return Ok(*value);
    }
    let value = match attribute {
        1 => Profile::MAX_THREADS_PER_BLOCK,
        2 => Profile::MAX_BLOCK[0],
        3 => Profile::MAX_BLOCK[1],
        4 => Profile::MAX_BLOCK[2],
        5 => Profile::MAX_GRID[0],
        6 => Profile::MAX_GRID[1],
        7 => Profile::MAX_GRID[2],
        8 => profile.shared_per_block,
        9 => Profile::CONSTANT_BYTES,
        10 => 32,
        11 => i32::MAX as u32,
        12 => profile.registers_per_block,
        13 => profile.clock_khz,
        // Two copy engines, which overlap with kernels; concurrent kernels.
        15 | 31 => 1,
        40 => 2,
        16 => profile.sms,
        // No time limit on kernels (an instruction budget instead), default compute mode, no ECC.
        17 | 20 | 32 | 35 => 0,
        18 => u32::from(profile.integrated),
        19 => 1,
        33 => ordinal + 1,
        34 | 50 => 0,
        36 => profile.memory_clock_khz,
        37 => profile.memory_bus_bits,
        38 => profile.l2_bytes,
        39 => profile.threads_per_sm,
        // Unified addressing.
        41 => 1,
        75 => profile.major,
        76 => profile.minor,
        // Stream priorities, caching of globals and locals.
        78..=80 => 1,
        81 => profile.shared_per_sm,
        82 => profile.registers_per_sm,
        // Managed memory, which both sides may touch at once; preemption.
        83 | 89 | 90 => 1,
        84 => 0,
        85 => ordinal,
        86 => 0,
        87 => (profile.fp32_tflops / profile.fp64_tflops).round() as u32,
        // The device does not see memory that is neither registered nor managed.
        88 | 100 | 101 => 0,
        // Registered memory has the same address on both sides.
        91 => 1,
        // No operations of streams on memory words, no cooperative launches.
        92..=96 | 122 | 123 => 0,
        97 => profile.shared_per_block_optin,
        98 => 0,
        99 => 1,
        // No virtual memory management, no shareable handles.
        102..=105 => 0,
        106 => profile.blocks_per_sm,
        107 => 0,
        // No persisting lines in the cache, no windows.
        108 | 109 => 0,
        110 => 0,
        111 => profile.shared_reserved,
        113 | 114 => 0,
        // Memory pools.
        115 => 1,
        116..=121 => 0,
        124 | 125 => 0,
        126 => {
            if profile.major >= 9 {
                4
            } else {
                1
            }
        }
        127..=129 => 0,
        // No NUMA: configuration none, nodes unknown.
        130 => 0,
        131 | 134 => return Ok(-1),
        132 | 133 | 135..=143 => 0,
        _ => return Err(CuResult::INVALID_VALUE),
    };
    Ok(value as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attribute_of_the_header_has_a_value_and_no_other_number_has() {
        let profile = Profile::default();
        for attribute in 1..=143 {
            assert!(of(&profile, 0, attribute).is_ok(), "attribute {attribute}");
        }
        for attribute in [0, 144, 10_000] {
            assert_eq!(of(&profile, 0, attribute), Err(CuResult::INVALID_VALUE));
        }
    }

    #[test]
    fn the_ratio_of_double_precision_is_the_devices_own() {
        let of_profile = |name| of(&Profile::by_name(name).unwrap(), 0, 87).unwrap();
        assert_eq!(of_profile("a100"), 2);
        assert_eq!(of_profile("t4"), 32);
        assert_eq!(of_profile("rtx4090"), 64);
    }
}
