//! AMX of x86-64: eight registers of 16 rows of 64 bytes, and the product of two of them.
//!
//! The operating system gives a process this state on request. The instructions are written in assembly, because the compiler's
//! intrinsics for them are not stable.

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::sync::OnceLock;

/// Rows of a register.
pub const ROWS: usize = 16;
/// Words of 32 bits per row.
pub const WORDS: usize = 16;
/// Words of a register.
pub const TILE: usize = ROWS * WORDS;

/// Whether this machine multiplies tiles of bf16 and this process may.
pub fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| has_instructions() && is_permitted())
}

/// AMX-TILE and AMX-BF16, with registers of the size that this module uses.
fn has_instructions() -> bool {
    // From leaf 0x1d on the registers are described.
    if __cpuid(0).eax < 0x1d {
        return false;
    }
    let features = __cpuid_count(7, 0).edx;
    let palette = __cpuid_count(0x1d, 1);
    let [row, registers, rows] = [palette.ebx & 0xffff, palette.ebx >> 16, palette.ecx & 0xffff];
    features >> 22 & 1 == 1 && features >> 24 & 1 == 1 && row >= 64 && registers >= 8 && rows >= 16
}

/// Asks the kernel for the registers' state, for all threads of this process.
#[cfg(target_os = "linux")]
fn is_permitted() -> bool {
    use std::ffi::c_long;
    // SAFETY: declared as the C library does.
    unsafe extern "C" {
        /// From the C library that std links.
        fn syscall(number: c_long, ...) -> c_long;
    }
    const ARCH_PRCTL: c_long = 158;
    const REQUEST_PERMISSION: c_long = 0x1023;
    const TILE_DATA: c_long = 18;
    // SAFETY: the call takes two numbers and touches no memory of this process.
    unsafe { syscall(ARCH_PRCTL, REQUEST_PERMISSION, TILE_DATA) == 0 }
}
#[cfg(not(target_os = "linux"))]
fn is_permitted() -> bool {
    false
}

/// The registers of this thread, all of 16 rows of 64 bytes, until it is dropped.
pub struct Registers(());

/// What `ldtilecfg` reads: the palette, the bytes per row and the rows of each register.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}
const CONFIGURATION: Configuration = {
    let (mut row_bytes, mut rows) = ([0; 16], [0; 16]);
    let mut i = 0;
    while i < 8 {
        (row_bytes[i], rows[i]) = (64, 16);
        i += 1;
    }
    Configuration { palette: 1, start_row: 0, reserved: [0; 14], row_bytes, rows }
};

impl Registers {
    /// Configures the registers.
    ///
    /// # Safety
    /// [`is_available`].
    #[inline(always)]
    pub unsafe fn new() -> Self {
        static WHOLE: Configuration = CONFIGURATION;
        // SAFETY: the instruction exists and reads 64 bytes.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const WHOLE, options(nostack, preserves_flags, readonly)) };
        Registers(())
    }
}

impl Drop for Registers {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: as in `new`. Without state, the kernel has less to save when it switches threads.
        unsafe { asm!("tilerelease", options(nostack, preserves_flags, nomem)) };
    }
}

/// Register T = 0.
///
/// # Safety
/// There are [`Registers`].
#[inline(always)]
pub unsafe fn zero<const T: u8>() {
    // SAFETY: no other code uses these registers.
    unsafe { asm!("tilezero tmm{}", const T, options(nostack, preserves_flags, nomem)) };
}

/// Register T = 16 rows of 16 words, `stride` words from each other.
///
/// # Safety
/// There are [`Registers`], and the rows.
#[inline(always)]
pub unsafe fn load<const T: u8>(from: *const f32, stride: usize) {
    // SAFETY: passed on to the caller.
    unsafe {
        asm!("tileloadd tmm{t}, [{p} + {s}]", t = const T, p = in(reg) from, s = in(reg) 4 * stride,
            options(nostack, preserves_flags, readonly));
    }
}

/// The reverse of [`load`].
///
/// # Safety
/// There are [`Registers`], and the rows.
#[inline(always)]
pub unsafe fn store<const T: u8>(to: *mut f32, stride: usize) {
    // SAFETY: passed on to the caller.
    unsafe {
        asm!("tilestored [{p} + {s}], tmm{t}", t = const T, p = in(reg) to, s = in(reg) 4 * stride,
            options(nostack, preserves_flags));
    }
}

/// C += A·B: A has 16 rows of 32 bf16 along K, B has 16 steps along K, each of 16 columns of two bf16, C is f32.
///
/// An element of C becomes C + (Σ over even k + Σ over odd k), each sum from 0 on by fused multiply-adds in order; subnormal
/// numbers are taken for zero, in operands and results.
///
/// # Safety
/// There are [`Registers`].
#[inline(always)]
pub unsafe fn dot<const C: u8, const A: u8, const B: u8>() {
    // SAFETY: no other code uses these registers.
    unsafe {
        asm!("tdpbf16ps tmm{c}, tmm{a}, tmm{b}", c = const C, a = const A, b = const B,
            options(nostack, preserves_flags, nomem));
    }
}
