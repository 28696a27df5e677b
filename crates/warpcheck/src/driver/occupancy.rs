//! Occupancy: how many blocks of a kernel an SM holds, by NVIDIA's formula.

use super::ffi::{In, Out, api};
use super::function::{self, Function};
use super::result::{CuResult, DriverResult};
use super::state::Driver;
use super::structs::LaunchConfig;
use super::table::Handle;
use crate::profile::Profile;
use std::ffi::{c_int, c_uint};

/// Registers are allocated to this many warps at once: each scheduler has its own register file.
const WARP_GRANULARITY: u32 = 4;

fn round_up(value: u32, multiple: u32) -> u32 {
    value.div_ceil(multiple.max(1)) * multiple.max(1)
}

/// The resources of an SM that a block occupies.
#[derive(Debug, Clone, Copy)]
struct Block {
    threads: u32,
    /// Registers per thread.
    registers: u32,
    /// Static and dynamic shared memory in bytes.
    shared: u32,
}

impl Block {
    /// How many an SM holds at once.
    fn resident(self, profile: &Profile) -> u32 {
        let warps = self.threads.div_ceil(32).max(1);
        let by_warps = profile.warps_per_sm() / warps;

        let registers_a_warp = round_up(self.registers * 32, profile.register_granularity);
        let warps_by_registers = profile.registers_per_sm / registers_a_warp / WARP_GRANULARITY * WARP_GRANULARITY;
        // A block must fit with its warps spread evenly over the SM's four parts; residents are counted as they are.
        let spread = registers_a_warp * round_up(warps, WARP_GRANULARITY);
        let by_registers = if spread > profile.registers_per_block { 0 } else { warps_by_registers / warps };

        let shared = round_up(self.shared + profile.shared_reserved, profile.shared_granularity);
        let by_shared = profile.shared_per_sm.checked_div(shared).unwrap_or(u32::MAX);

        profile.blocks_per_sm.min(by_warps).min(by_registers).min(by_shared)
    }
}

/// Blocks of a kernel that an SM holds at once.
pub(super) fn blocks_per_sm(profile: &Profile, function: &Function, threads: u32, dynamic_shared: usize) -> u32 {
    let kernel = &function.kernel;
    let most = profile.shared_per_block_optin.saturating_sub(kernel.static_shared);
    let dynamic = u32::try_from(dynamic_shared).ok().filter(|dynamic| *dynamic <= most);
    match dynamic {
        Some(dynamic) if threads > 0 && threads <= function.max_threads() => {
            let shared = kernel.static_shared + dynamic;
            // A block that may be launched fits: the estimate of registers is cut to what it leaves room for.
            let warps = round_up(threads.div_ceil(32), WARP_GRANULARITY);
            let registers = function.registers().min(profile.registers_per_block / 32 / warps / 8 * 8);
            Block { threads, registers, shared }.resident(profile)
        }
        _ => 0,
    }
}

/// Dynamic shared memory that each of `blocks` blocks on an SM may have.
fn available_shared(profile: &Profile, function: &Function, blocks: u32, threads: u32) -> DriverResult<usize> {
    if blocks == 0 || blocks > blocks_per_sm(profile, function, threads, 0) {
        return Err(CuResult::INVALID_VALUE);
    }
    let share = profile.shared_per_sm / blocks / profile.shared_granularity.max(1) * profile.shared_granularity.max(1);
    let most = profile.shared_per_block_optin.saturating_sub(function.kernel.static_shared);
    let taken = function.kernel.static_shared + profile.shared_reserved;
    Ok(share.saturating_sub(taken).min(most) as usize)
}

/// The block size with the most resident threads, the largest of the best ones, and the grid that
/// fills the device with it.
fn best_block(profile: &Profile, function: &Function, shared: impl Fn(u32) -> usize, limit: c_int) -> (u32, u32) {
    let most = function.max_threads();
    let limit = u32::try_from(limit).ok().filter(|limit| *limit > 0).unwrap_or(most).min(most);
    let mut best = (0, 0, 0);
    let mut threads = round_up(limit, 32);
    while threads > 0 {
        let tried = threads.min(limit);
        let blocks = blocks_per_sm(profile, function, tried, shared(tried));
        if blocks * tried > best.0 {
            best = (blocks * tried, blocks, tried);
        }
        if best.0 == profile.threads_per_sm {
            break;
        }
        threads -= 32;
    }
    (best.1 * profile.sms, best.2)
}

fn active_blocks(
    driver: &Driver,
    out: Out<c_int>,
    function: Handle,
    threads: c_int,
    shared: usize,
    flags: c_uint,
) -> DriverResult {
    out.required()?;
    let function = function::named(driver, function)?;
    let threads = u32::try_from(threads).ok().filter(|threads| *threads > 0);
    let threads = threads.ok_or(CuResult::INVALID_VALUE)?;
    if flags > 1 {
        return Err(CuResult::INVALID_VALUE);
    }
    out.set(blocks_per_sm(driver.profile(function.device), &function, threads, shared) as c_int)
}

type SharedBySize = Option<unsafe extern "C" fn(c_int) -> usize>;

fn potential(
    driver: &Driver,
    (grid, block): (Out<c_int>, Out<c_int>),
    function: Handle,
    by_size: SharedBySize,
    shared: usize,
    limit: c_int,
    flags: c_uint,
) -> DriverResult {
    grid.required()?;
    block.required()?;
    if flags > 1 || limit < 0 {
        return Err(CuResult::INVALID_VALUE);
    }
    let function = function::named(driver, function)?;
    let shared = |threads: u32| match by_size {
        // SAFETY: the client gave the function to be asked for each size of a block.
        Some(by_size) => unsafe { by_size(threads as c_int) },
        None => shared,
    };
    let (blocks, threads) = best_block(driver.profile(function.device), &function, shared, limit);
    grid.set(blocks as c_int)?;
    block.set(threads as c_int)
}

api! {
    /// Blocks of a kernel that an SM holds at once.
    fn cuOccupancyMaxActiveBlocksPerMultiprocessor[driver, _context](
        out: Out<c_int>, function: Handle, threads: c_int, shared: usize,
    ) {
        active_blocks(driver, out, function, threads, shared, 0)
    }

    /// Blocks of a kernel that an SM holds at once; the caching flag has no effect.
    fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags[driver, _context](
        out: Out<c_int>, function: Handle, threads: c_int, shared: usize, flags: c_uint,
    ) {
        active_blocks(driver, out, function, threads, shared, flags)
    }

    /// Dynamic shared memory that each of some blocks on an SM may have.
    fn cuOccupancyAvailableDynamicSMemPerBlock[driver, _context](
        out: Out<usize>, function: Handle, blocks: c_int, threads: c_int,
    ) {
        out.required()?;
        let function = function::named(driver, function)?;
        let positive = |value: c_int| {
            u32::try_from(value).ok().filter(|value| *value > 0).ok_or(CuResult::INVALID_VALUE)
        };
        let (blocks, threads) = (positive(blocks)?, positive(threads)?);
        let profile = driver.profile(function.device);
        out.set(available_shared(profile, &function, blocks, threads)?)
    }

    /// The block size with the highest occupancy.
    fn cuOccupancyMaxPotentialBlockSize[driver, _context](
        grid: Out<c_int>, block: Out<c_int>, function: Handle,
        by_size: SharedBySize, shared: usize, limit: c_int,
    ) {
        potential(driver, (grid, block), function, by_size, shared, limit, 0)
    }

    /// The block size with the highest occupancy; the caching flag has no effect.
    fn cuOccupancyMaxPotentialBlockSizeWithFlags[driver, _context](
        grid: Out<c_int>, block: Out<c_int>, function: Handle,
        by_size: SharedBySize, shared: usize, limit: c_int, flags: c_uint,
    ) {
        potential(driver, (grid, block), function, by_size, shared, limit, flags)
    }

    /// Clusters that a device holds at once: none, they are not supported.
    fn cuOccupancyMaxActiveClusters[driver, _context](
        _out: Out<c_int>, function: Handle, _config: In<LaunchConfig>,
    ) {
        function::named(driver, function)?;
        Err(CuResult::NOT_SUPPORTED)
    }

    /// The greatest cluster: they are not supported.
    fn cuOccupancyMaxPotentialClusterSize[driver, _context](
        _out: Out<c_int>, function: Handle, _config: In<LaunchConfig>,
    ) {
        function::named(driver, function)?;
        Err(CuResult::NOT_SUPPORTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_formula_gives_what_nvidias_calculator_gives() {
        let of = |name: &str, threads, registers, shared| {
            Block { threads, registers, shared }.resident(&Profile::by_name(name).unwrap())
        };
        // Limited by warps, by blocks, by registers and by shared memory in turn.
        assert_eq!(of("a100", 256, 32, 0), 8);
        assert_eq!(of("a100", 32, 32, 0), 32);
        assert_eq!(of("t4", 32, 32, 0), 16);
        assert_eq!(of("a100", 256, 64, 0), 4);
        // 65 registers take 72 a thread: 2304 a warp, 28 warps, 3 blocks of 8.
        assert_eq!(of("a100", 256, 65, 0), 3);
        assert_eq!(of("a100", 1024, 64, 0), 1);
        assert_eq!(of("a100", 1024, 32, 0), 2);
        assert_eq!(of("rtx4090", 1024, 32, 0), 1);
        // 48 KiB and the system's kilobyte: three times in 164 KiB, once in a T4's 64 KiB.
        assert_eq!(of("a100", 128, 32, 49152), 3);
        assert_eq!(of("t4", 128, 32, 49152), 1);
        assert_eq!(of("h100", 128, 32, 227 << 10), 1);
        // A warp that is not full takes the place of one that is.
        assert_eq!(of("v100", 33, 32, 0), 32);
        assert_eq!(of("v100", 96, 32, 0), 21);
        // 12 warps of 168 registers fit; a launch of 9 warps is checked as if it had 12.
        assert_eq!(of("a100", 128, 168, 0), 3);
        assert_eq!(of("a100", 160, 255, 0), 1);
        assert_eq!(of("a100", 288, 200, 0), 0);
    }
}
