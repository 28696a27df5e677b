//! Vectors of the instruction sets, chosen at run time.
//!
//! An operator is written once over [`Simd`]; `dispatch!` compiles it for every level and calls the one the device was created
//! with. Within `#[target_feature]` the intrinsics inline, and plain loops are vectorised for that level too.

#[cfg(target_arch = "x86_64")]
pub mod amx;
#[cfg(target_arch = "x86_64")]
pub mod avx2;
#[cfg(target_arch = "x86_64")]
pub mod avx512;
pub mod bf16;
pub mod fp16;
#[cfg(target_arch = "aarch64")]
pub mod neon;
pub mod portable;

/// A set of vector instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// Plain Rust, as the compiler vectorises it.
    Portable,
    /// 128-bit vectors (aarch64).
    Neon,
    /// 256-bit vectors with fused multiply-add (x86-64).
    Avx2,
    /// 512-bit vectors (x86-64).
    Avx512,
    /// The same, and products of bf16 by AMX's tiles (Intel Xeons from Sapphire Rapids on, Linux).
    Amx,
}

impl Level {
    /// The levels this machine supports, slowest first.
    pub fn available() -> Vec<Level> {
        let all = [Level::Portable, Level::Neon, Level::Avx2, Level::Avx512, Level::Amx];
        all.into_iter().filter(|l| l.is_available()).collect()
    }

    /// Whether this machine supports it.
    pub fn is_available(self) -> bool {
        match self {
            Level::Portable => true,
            Level::Neon => cfg!(target_arch = "aarch64"),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => {
                is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => {
                Level::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(target_arch = "x86_64")]
            Level::Amx => Level::Avx512.is_available() && is_x86_feature_detected!("avx512bf16") && amx::is_available(),
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// Whether a product of pairs of bf16 is one instruction here. [`Level::Avx512`] has no other.
    pub fn multiplies_bf16(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return matches!(self, Level::Avx512 | Level::Amx) && is_x86_feature_detected!("avx512bf16");
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// Whether products of bf16 are faster than those of fp32 here: with AMX, or with AVX512-BF16, except on Intel's processors,
    /// which multiply fewer numbers with it than with fused multiply-adds in the same time.
    pub fn gains_by_bf16(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return self == Level::Amx || self.multiplies_bf16() && !made_by_intel();
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// The fastest level this machine supports.
    pub fn best() -> Level {
        Level::available().last().copied().unwrap_or(Level::Portable)
    }

    /// Name in messages and in `ALEXNET_SIMD`.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Portable => "portable",
            Level::Neon => "neon",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
            Level::Amx => "amx",
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn made_by_intel() -> bool {
    // Leaf 0 has the vendor's name in these three registers.
    let leaf = std::arch::x86_64::__cpuid(0);
    [leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes).concat() == b"GenuineIntel"
}

/// Vectors of f32.
///
/// # Safety
/// The machine has the level's instructions; `load`, `store` and `transpose` need valid pointers.
pub trait Simd: Copy {
    /// A vector.
    type V: Copy;
    /// Elements per vector.
    const LANES: usize;
    /// MR, the rows of the matrix product's tile: as many as the registers hold with two vectors per row.
    const ROWS: usize;

    /// All elements `x`.
    unsafe fn splat(x: f32) -> Self::V;
    /// Reads LANES elements; no alignment needed.
    unsafe fn load(p: *const f32) -> Self::V;
    /// Writes LANES elements; no alignment needed.
    unsafe fn store(p: *mut f32, v: Self::V);
    /// a·b + c.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// a + b.
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// a − b.
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    /// max(v, 0); a NaN stays NaN.
    unsafe fn max0(v: Self::V) -> Self::V;
    /// a·b.
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// Prefetches the cache line at `p`, which need not be valid.
    #[inline(always)]
    unsafe fn prefetch(_p: *const f32) {}
    /// to[i·to_stride + j] = from[j·stride + i] for i, j below LANES; writes the rows in order.
    unsafe fn transpose(from: *const f32, stride: usize, to: *mut f32, to_stride: usize);

    /// LANES fp16, widened; they are finite.
    #[inline(always)]
    unsafe fn load_fp16(p: *const u16) -> Self::V {
        // SAFETY: LANES is at most 16.
        unsafe {
            let mut values = [0.0f32; 16];
            for (i, value) in values.iter_mut().enumerate().take(Self::LANES) {
                *value = fp16::widen(*p.add(i));
            }
            Self::load(values.as_ptr())
        }
    }

    /// The bf16 in the lower and in the upper half of each element.
    unsafe fn halves(v: Self::V) -> [Self::V; 2];
    /// c + a·b of the two bf16 in each element: the upper halves' product is added first, then the lower ones', and each sum is
    /// rounded. So does the instruction `vdpbf16ps`, which also takes subnormal numbers for zero.
    #[inline(always)]
    unsafe fn dot(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // SAFETY: passed on to the caller.
        unsafe {
            let ([a0, a1], [b0, b1]) = (Self::halves(a), Self::halves(b));
            Self::fma(a0, b0, Self::fma(a1, b1, c))
        }
    }
    /// `low` and `high`, rounded to bf16, in the lower and upper half of each element.
    #[inline(always)]
    unsafe fn pair(low: Self::V, high: Self::V) -> Self::V {
        // SAFETY: LANES is at most 16.
        unsafe {
            let (mut pairs, mut highs) = ([0.0f32; 16], [0.0f32; 16]);
            Self::store(pairs.as_mut_ptr(), low);
            Self::store(highs.as_mut_ptr(), high);
            for (pair, &high) in pairs.iter_mut().zip(&highs) {
                *pair = bf16::pair(*pair, high);
            }
            Self::load(pairs.as_ptr())
        }
    }
    /// Writes LANES bf16, rounded from `v`. One alone at an even place, where a pair begins, makes the other of the pair zero.
    #[inline(always)]
    unsafe fn store_bf16(p: *mut u16, v: Self::V) {
        // SAFETY: LANES is at most 16; pairs begin at multiples of four bytes.
        unsafe {
            let mut values = [0.0f32; 16];
            Self::store(values.as_mut_ptr(), v);
            if Self::LANES == 1 && p.addr().is_multiple_of(4) {
                return p.cast::<f32>().write(bf16::pair(values[0], 0.0));
            }
            for (i, &value) in values.iter().enumerate().take(Self::LANES) {
                *p.add(i) = bf16::round(value) as u16;
            }
        }
    }
    /// Two rows of 2·LANES bf16 as pairs, `low` in the lower halves.
    #[inline(always)]
    unsafe fn interleave(low: *const u16, high: *const u16) -> [Self::V; 2] {
        // SAFETY: LANES is at most 16.
        unsafe {
            let mut pairs = [0.0f32; 32];
            for (i, pair) in pairs.iter_mut().enumerate().take(2 * Self::LANES) {
                *pair = f32::from_bits(u32::from(*high.add(i)) << 16 | u32::from(*low.add(i)));
            }
            [Self::load(pairs.as_ptr()), Self::load(pairs.as_ptr().add(Self::LANES))]
        }
    }
    /// 2·LANES adjacent floats, rounded to bf16 in their order.
    #[inline(always)]
    unsafe fn neighbours(p: *const f32) -> Self::V {
        // SAFETY: LANES is at most 16.
        unsafe {
            let mut pairs = [0.0f32; 16];
            for (i, pair) in pairs.iter_mut().enumerate().take(Self::LANES) {
                *pair = bf16::pair(*p.add(2 * i), *p.add(2 * i + 1));
            }
            Self::load(pairs.as_ptr())
        }
    }
}

/// Defines functions of [`Simd`], each by an expression, which relies on the trait's contract.
macro_rules! operations {
    ($($name:ident($($arg:ident: $ty:ty),*) $(-> $result:ty)? = $body:expr;)*) => {$(
        #[inline(always)]
        #[allow(unused_unsafe)]
        unsafe fn $name($($arg: $ty),*) $(-> $result)? {
            unsafe { $body }
        }
    )*};
}
use operations;

/// Defines `$name(level, …)`, which calls `$body::<S>` compiled for the level; with `plain`, `$body` is plain loops; with
/// `product`, `$name(products, …)` calls `$body::<S, O>` for the [`Operand`](crate::device::cpu::gemm::operand::Operand) too.
macro_rules! dispatch {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) = plain $body:ident) => {
        dispatch!(@ [$(#[$doc])* $vis] [] $name($($arg: $ty),*) "avx512f" [$body] [$body] [$body] [$body]);
    };
    ($(#[$doc:meta])* $vis:vis unsafe fn $name:ident($($arg:ident: $ty:ty),* $(,)?) = product $body:ident) => {
        $(#[$doc])*
        $vis unsafe fn $name(products: $crate::device::cpu::gemm::operand::Products, $($arg: $ty),*) {
            use $crate::device::cpu::gemm::operand::{Bf16, Fp32};
            dispatch!(@levels [] [unsafe] fp32($($arg: $ty),*) "avx512f" $body [, Fp32]);
            dispatch!(@levels [] [unsafe] bf16($($arg: $ty),*) "avx512bf16" $body [, Bf16]);
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
            #[allow(unused_unsafe, clippy::undocumented_unsafe_blocks)]
            unsafe fn amx($($arg: $ty),*) {
                use $crate::device::cpu::{gemm::tiles::Tiles, simd::{amx::Registers, avx512::Avx512}};
                unsafe {
                    let _registers = Registers::new();
                    $body::<Avx512, Tiles>($($arg),*)
                }
            }
            // SAFETY: passed on to the caller; a device is created with a level only if the machine supports it, for bf16 only
            // with one that multiplies it.
            unsafe {
                match (products.level, products.precision) {
                    #[cfg(target_arch = "x86_64")]
                    ($crate::device::cpu::simd::Level::Amx, alexnet_ops::Precision::Bf16) => amx($($arg),*),
                    (_, alexnet_ops::Precision::Bf16) => bf16(products.level, $($arg),*),
                    _ => fp32(products.level, $($arg),*),
                }
            }
        }
    };
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) = $body:ident) => {
        dispatch!(@levels [$(#[$doc])* $vis] [] $name($($arg: $ty),*) "avx512f" $body []);
    };
    ($(#[$doc:meta])* $vis:vis unsafe fn $name:ident($($arg:ident: $ty:ty),* $(,)?) = $body:ident) => {
        dispatch!(@levels [$(#[$doc])* $vis] [unsafe] $name($($arg: $ty),*) "avx512f" $body []);
    };
    (@levels $head:tt $unsafety:tt $name:ident($($arg:ident: $ty:ty),*) $more:literal $body:ident [$($operand:tt)*]) => {
        dispatch!(@ $head $unsafety $name($($arg: $ty),*) $more
            [$body::<$crate::device::cpu::simd::avx512::Avx512 $($operand)*>]
            [$body::<$crate::device::cpu::simd::avx2::Avx2 $($operand)*>]
            [$body::<$crate::device::cpu::simd::neon::Neon $($operand)*>]
            [$body::<$crate::device::cpu::simd::portable::Portable $($operand)*>]);
    };
    (
        @ [$($head:tt)*] [$($unsafety:tt)?] $name:ident($($arg:ident: $ty:ty),*) $more:literal
        [$($avx512:tt)*] [$($avx2:tt)*] [$($neon:tt)*] [$($portable:tt)*]
    ) => {
        $($head)* $($unsafety)? fn $name(level: $crate::device::cpu::simd::Level, $($arg: $ty),*) {
            use $crate::device::cpu::simd::Level;
            // Both blocks: the function's own features are those that the body needs; the rest is the caller's part.
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
            #[target_feature(enable = $more)]
            #[allow(unused_unsafe, clippy::undocumented_unsafe_blocks)]
            $($unsafety)? fn avx512($($arg: $ty),*) {
                unsafe { $($avx512)*($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            #[allow(unused_unsafe, clippy::undocumented_unsafe_blocks)]
            $($unsafety)? fn avx2($($arg: $ty),*) {
                unsafe { $($avx2)*($($arg),*) }
            }
            // SAFETY: a device is created with a level only if the machine supports it; the body's requirements on its
            // arguments are passed on to the caller.
            #[allow(unused_unsafe)]
            unsafe {
                match level {
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx512 | Level::Amx => avx512($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx2 => avx2($($arg),*),
                    #[cfg(target_arch = "aarch64")]
                    Level::Neon => $($neon)*($($arg),*),
                    _ => $($portable)*($($arg),*),
                }
            }
        }
    };
}
pub(crate) use dispatch;
