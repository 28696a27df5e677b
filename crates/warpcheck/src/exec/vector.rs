//! Lane loops: one operation over 32 lanes, all of them or those of a mask.
//!
//! Each body is `#[inline(always)]` and becomes a handler for each CPU level by [`levels!`], so that the same source
//! is compiled to SSE2, AVX2 and AVX-512. Chunks of 16 lanes are read whole before they are written: destination and
//! source may be the same slot.

use super::ExecContext;

/// Lanes per chunk.
const CHUNK: usize = 16;

/// Makes handlers of bodies, one for each CPU level, which a body may ask for as `LEVEL`.
macro_rules! levels {
    ($($(#[$meta:meta])* $name:ident = |$cx:ident, $i:ident, $m:ident| $body:expr;)*) => {
        mod portable {
            #[allow(unused_imports)]
            use super::*;
            #[allow(dead_code)]
            const LEVEL: usize = 0;
            $(#[allow(non_snake_case, unused_unsafe)] pub(super) unsafe fn $name($cx: &mut ExecContext<'_>, $i: &Inst, $m: u32) {
                // SAFETY: slots of a lowered instruction lie inside the register file.
                unsafe { $body }
            })*
        }
        #[cfg(target_arch = "x86_64")]
        mod avx2 {
            #[allow(unused_imports)]
            use super::*;
            #[allow(dead_code)]
            const LEVEL: usize = 1;
            $(#[allow(non_snake_case, unused_unsafe)] #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt,f16c")]
            pub(super) unsafe fn $name($cx: &mut ExecContext<'_>, $i: &Inst, $m: u32) {
                // SAFETY: as for the portable one; the level is chosen by what the CPU has.
                unsafe { $body }
            })*
        }
        #[cfg(target_arch = "x86_64")]
        mod avx512 {
            #[allow(unused_imports)]
            use super::*;
            #[allow(dead_code)]
            const LEVEL: usize = 2;
            $(#[allow(non_snake_case, unused_unsafe)]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi1,bmi2,lzcnt,popcnt,f16c")]
            pub(super) unsafe fn $name($cx: &mut ExecContext<'_>, $i: &Inst, $m: u32) {
                // SAFETY: as for the portable one; the level is chosen by what the CPU has.
                unsafe { $body }
            })*
        }
        $(
            $(#[$meta])*
            #[cfg(target_arch = "x86_64")]
            pub(crate) const $name: crate::program::Levels = [portable::$name, avx2::$name, avx512::$name];
            $(#[$meta])*
            #[cfg(not(target_arch = "x86_64"))]
            pub(crate) const $name: crate::program::Levels = [portable::$name; 3];
        )*
    };
}
pub(crate) use levels;

/// The best level that this CPU has.
pub(crate) fn level() -> usize {
    #[cfg(target_arch = "x86_64")]
    {
        let avx2 = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("popcnt")
            && is_x86_feature_detected!("f16c");
        let avx512 = avx2
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        return match (avx2, avx512) {
            (_, true) => 2,
            (true, _) => 1,
            _ => 0,
        };
    }
    #[allow(unreachable_code)]
    0
}

/// The number itself. The compiler must not see that several of them lie side by side in an instruction: it would
/// load and scale them as one vector and then take that apart again, which delays every handler.
#[inline(always)]
fn apart(slot: u16) -> u16 {
    #[cfg(target_arch = "x86_64")]
    {
        let mut out = u32::from(slot);
        // SAFETY: no instruction at all.
        unsafe {
            std::arch::asm!("/* {0:e} */", inlateout(reg) out, options(pure, nomem, nostack, preserves_flags));
        }
        return out as u16;
    }
    #[allow(unreachable_code)]
    slot
}

impl ExecContext<'_> {
    /// Whether all lanes that still live are in the mask: results of dead lanes may be anything.
    #[inline(always)]
    pub(crate) fn full(&self, mask: u32) -> bool {
        mask | !self.live == u32::MAX
    }

    /// The lanes of a slot.
    #[inline(always)]
    pub(crate) fn slot<T>(&self, slot: u16) -> *mut T {
        let slot = apart(slot);
        // SAFETY: slots of a lowered program lie inside the file.
        unsafe { self.regs.add(usize::from(slot) * 32).cast() }
    }

    #[inline(always)]
    unsafe fn store<R: Copy>(&self, d: *mut R, chunk: usize, mask: u32, full: bool, values: [R; CHUNK]) {
        // SAFETY: the caller's slots lie inside the file.
        unsafe {
            let to = d.add(chunk * CHUNK).cast::<[R; CHUNK]>();
            if full {
                to.write(values);
            } else {
                let mut old = to.read();
                let part = mask >> (chunk * CHUNK);
                for i in 0..CHUNK {
                    if part >> i & 1 != 0 {
                        old[i] = values[i];
                    }
                }
                to.write(old);
            }
        }
    }

    /// d = f(a) in the masked lanes.
    ///
    /// # Safety
    /// The slots are those of an instruction of the lowered program, of the types' width.
    #[inline(always)]
    pub(crate) unsafe fn map1<T: Copy, R: Copy>(&self, m: u32, d: u16, a: u16, f: impl Fn(T) -> R + Copy) {
        let (d, a) = (self.slot::<R>(d), self.slot::<T>(a));
        let full = self.full(m);
        for chunk in 0..32 / CHUNK {
            // SAFETY: as for `store`.
            unsafe {
                let x = a.add(chunk * CHUNK).cast::<[T; CHUNK]>().read();
                self.store(d, chunk, m, full, std::array::from_fn(|i| f(x[i])));
            }
        }
    }

    /// d = f(a, b) in the masked lanes.
    ///
    /// # Safety
    /// As for `map1`.
    #[inline(always)]
    pub(crate) unsafe fn map2<T: Copy, U: Copy, R: Copy>(
        &self,
        m: u32,
        d: u16,
        a: u16,
        b: u16,
        f: impl Fn(T, U) -> R + Copy,
    ) {
        let (d, a, b) = (self.slot::<R>(d), self.slot::<T>(a), self.slot::<U>(b));
        let full = self.full(m);
        for chunk in 0..32 / CHUNK {
            // SAFETY: as for `store`.
            unsafe {
                let x = a.add(chunk * CHUNK).cast::<[T; CHUNK]>().read();
                let y = b.add(chunk * CHUNK).cast::<[U; CHUNK]>().read();
                self.store(d, chunk, m, full, std::array::from_fn(|i| f(x[i], y[i])));
            }
        }
    }

    /// d = f(a, b, c) in the masked lanes.
    ///
    /// # Safety
    /// As for `map1`.
    #[inline(always)]
    pub(crate) unsafe fn map3<T: Copy, U: Copy, V: Copy, R: Copy>(
        &self,
        m: u32,
        d: u16,
        a: u16,
        b: u16,
        c: u16,
        f: impl Fn(T, U, V) -> R + Copy,
    ) {
        let (d, a, b, c) = (self.slot::<R>(d), self.slot::<T>(a), self.slot::<U>(b), self.slot::<V>(c));
        let full = self.full(m);
        for chunk in 0..32 / CHUNK {
            // SAFETY: as for `store`.
            unsafe {
                let x = a.add(chunk * CHUNK).cast::<[T; CHUNK]>().read();
                let y = b.add(chunk * CHUNK).cast::<[U; CHUNK]>().read();
                let z = c.add(chunk * CHUNK).cast::<[V; CHUNK]>().read();
                self.store(d, chunk, m, full, std::array::from_fn(|i| f(x[i], y[i], z[i])));
            }
        }
    }

    /// The lanes for which a comparison holds, of all 32.
    ///
    /// # Safety
    /// As for `map1`.
    #[inline(always)]
    pub(crate) unsafe fn test2<T: Copy>(&self, a: u16, b: u16, f: impl Fn(T, T) -> bool + Copy) -> u32 {
        let (a, b) = (self.slot::<T>(a), self.slot::<T>(b));
        let mut out = 0;
        for chunk in 0..32 / CHUNK {
            // SAFETY: as for `store`.
            let (x, y) = unsafe {
                (a.add(chunk * CHUNK).cast::<[T; CHUNK]>().read(), b.add(chunk * CHUNK).cast::<[T; CHUNK]>().read())
            };
            let mut bits = 0u32;
            for i in 0..CHUNK {
                bits |= u32::from(f(x[i], y[i])) << i;
            }
            out |= bits << (chunk * CHUNK);
        }
        out
    }

    /// A predicate's lanes.
    #[inline(always)]
    pub(crate) fn pred(&self, number: u16) -> u32 {
        // SAFETY: predicate numbers of a lowered program lie inside the array.
        unsafe { *self.preds.add(usize::from(number)) }
    }

    /// Sets the masked lanes of a predicate.
    #[inline(always)]
    pub(crate) fn set_pred(&self, number: u16, m: u32, lanes: u32) {
        // SAFETY: as for `pred`.
        unsafe {
            let p = self.preds.add(usize::from(number));
            *p = *p & !m | lanes & m;
        }
    }

    /// Selects by a predicate's lanes.
    ///
    /// # Safety
    /// As for `map1`.
    #[inline(always)]
    pub(crate) unsafe fn select<T: Copy>(&self, m: u32, d: u16, a: u16, b: u16, p: u32) {
        let (d, a, b) = (self.slot::<T>(d), self.slot::<T>(a), self.slot::<T>(b));
        let full = self.full(m);
        for chunk in 0..32 / CHUNK {
            // SAFETY: as for `store`.
            unsafe {
                let x = a.add(chunk * CHUNK).cast::<[T; CHUNK]>().read();
                let mut y = b.add(chunk * CHUNK).cast::<[T; CHUNK]>().read();
                let part = p >> (chunk * CHUNK);
                for i in 0..CHUNK {
                    if part >> i & 1 != 0 {
                        y[i] = x[i];
                    }
                }
                self.store(d, chunk, m, full, y);
            }
        }
    }
}
