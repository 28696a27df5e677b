//! Fast path for loads and stores of 4, 8 and 16 bytes with all lanes in one allocation or in shared memory.
//! Everything else falls back to [`super::memory`].

#[cfg(target_arch = "x86_64")]
mod wide;

use super::{
    AllocCache, ExecContext,
    lanes::{consecutive, lanes},
    memory::{addresses, load, store},
    vector::levels,
};
use crate::{check, memory::Kind, program::Inst};

/// The addresses, if all masked lanes lie inside the cached allocation and are aligned.
///
/// # Safety
/// As for a `Handler`.
#[inline(always)]
unsafe fn fast_global<const BYTES: u64>(cx: &ExecContext<'_>, i: &Inst, m: u32, write: bool) -> Option<[u64; 32]> {
    let cached = &cx.cache[i.e as usize];
    if cached.size < BYTES || write && (cx.instrumented || !cached.writable) {
        return None;
    }
    let limit = cached.size - BYTES;
    // SAFETY: a 64-bit slot of the lowered program.
    let base = unsafe { cx.slot::<[u64; 32]>(i.a).read() };
    let offset = i.offset();
    let address = base.map(|b| b.wrapping_add(offset as u64));
    let (mut largest, mut low) = (0, 0);
    for (l, &a) in address.iter().enumerate() {
        // Inactive lanes count as lanes at the base.
        let a = if m >> l & 1 != 0 { a } else { cached.base };
        largest = a.wrapping_sub(cached.base).max(largest);
        low |= a;
    }
    if largest > limit || low & (BYTES - 1) != 0 {
        return None;
    }
    let delta = (cached.host as u64).wrapping_sub(cached.base);
    Some(address.map(|a| a.wrapping_add(delta)))
}

/// Caches the allocation of the first lane.
#[cold]
unsafe fn remember(cx: &mut ExecContext<'_>, i: &Inst, m: u32) {
    let op = &cx.program.mem[i.e as usize];
    // SAFETY: as for `addresses`.
    let first = unsafe { addresses(cx, op) }[m.trailing_zeros() as usize];
    let table = cx.launch.table.clone();
    cx.cache[i.e as usize] = match table.find(first) {
        Some(a) => AllocCache {
            base: a.base,
            size: a.size,
            host: a.host,
            writable: a.kind != Kind::Const,
            allocation: Some(a.clone()),
        },
        None => AllocCache::NONE,
    };
}

/// A load of one element that fills its register.
#[inline(always)]
unsafe fn load_global<T: Copy, const BYTES: u64>(cx: &mut ExecContext<'_>, i: &Inst, m: u32) {
    // SAFETY: `fast_global` has bounded every masked address; slots are those of lowering.
    unsafe {
        let Some(host) = fast_global::<BYTES>(cx, i, m, false) else {
            remember(cx, i, m);
            return load(cx, i, m);
        };
        if cx.instrumented && !check::fast::global_load::<BYTES>(cx, i.e, &host, m) {
            return load(cx, i, m);
        }
        let d = cx.slot::<T>(i.d);
        if m == !0 {
            if consecutive(BYTES, |l| host[l]) {
                let p = host[0] as *const [T; 32];
                d.cast::<[T; 32]>().write(p.read_unaligned());
            } else {
                for (l, &p) in host.iter().enumerate() {
                    d.add(l).write((p as *const T).read_unaligned());
                }
            }
        } else {
            for l in lanes(m) {
                d.add(l).write((host[l] as *const T).read_unaligned());
            }
        }
    }
}

#[inline(always)]
unsafe fn store_global<T: Copy, const BYTES: u64>(cx: &mut ExecContext<'_>, i: &Inst, m: u32) {
    // SAFETY: as for `load_global`.
    unsafe {
        let Some(host) = fast_global::<BYTES>(cx, i, m, true) else {
            if !cx.instrumented {
                remember(cx, i, m);
            }
            return store(cx, i, m);
        };
        cx.moved = true;
        let d = cx.slot::<T>(i.d);
        if m == !0 && consecutive(BYTES, |l| host[l]) {
            (host[0] as *mut [T; 32]).write_unaligned(d.cast::<[T; 32]>().read());
        } else {
            for l in lanes(m) {
                (host[l] as *mut T).write_unaligned(d.add(l).read());
            }
        }
    }
}

/// Offsets into shared memory, and whether all masked lanes are inside and aligned. Base and offset come from the
/// instruction alone.
#[inline(always)]
unsafe fn fast_shared<const BYTES: u32>(cx: &ExecContext<'_>, i: &Inst, m: u32, at: &mut [u32; 32]) -> bool {
    if cx.shared_bytes < BYTES {
        return false;
    }
    let limit = cx.shared_bytes - BYTES;
    let offset = i.offset();
    let (mut largest, mut low);
    // SAFETY: a slot of the lowered program.
    unsafe {
        if i.wide {
            let base = cx.slot::<[u64; 32]>(i.a).read();
            let mut wide = (0, 0);
            for l in 0..32 {
                let a = if m >> l & 1 != 0 { base[l].wrapping_add(offset as u64) } else { 0 };
                wide = (a.max(wide.0), wide.1 | a);
                at[l] = a as u32;
            }
            (largest, low) = (u32::try_from(wide.0).unwrap_or(u32::MAX), wide.1 as u32);
        } else {
            let base = cx.slot::<[u32; 32]>(i.a).read();
            (largest, low) = (0, 0);
            for l in 0..32 {
                let a = if m >> l & 1 != 0 { base[l].wrapping_add(offset as u32) } else { 0 };
                (largest, low) = (a.max(largest), low | a);
                at[l] = a;
            }
        }
    }
    largest <= limit && low & (BYTES - 1) == 0
}

/// Whether a load from shared memory at these offsets is without findings; the checks record it.
#[inline(always)]
fn shared_is_clean<const BYTES: u32, const LEVEL: usize>(
    cx: &mut ExecContext<'_>,
    i: &Inst,
    at: &[u32; 32],
    m: u32,
) -> bool {
    !cx.instrumented || check::fast::shared_load::<BYTES, LEVEL>(cx, i.e, at, m)
}

#[inline(always)]
unsafe fn load_shared<T: Copy, const BYTES: u32, const LEVEL: usize>(cx: &mut ExecContext<'_>, i: &Inst, m: u32) {
    // SAFETY: `fast_shared` has bounded every masked offset.
    unsafe {
        let mut at = [0; 32];
        #[cfg(target_arch = "x86_64")]
        if LEVEL == 2 && BYTES == 4 && m == !0 && wide::load_shared::<LEVEL>(cx, i, &mut at) {
            return;
        }
        if !fast_shared::<BYTES>(cx, i, m, &mut at) {
            return load(cx, i, m);
        }
        if !shared_is_clean::<BYTES, LEVEL>(cx, i, &at, m) {
            return load(cx, i, m);
        }
        let d = cx.slot::<T>(i.d);
        if m == !0 {
            let shared = cx.shared;
            if consecutive(BYTES.into(), |l| u64::from(at[l])) {
                d.cast::<[T; 32]>().write(shared.add(at[0] as usize).cast::<[T; 32]>().read_unaligned());
                return;
            }
            for (l, &o) in at.iter().enumerate() {
                d.add(l).write(shared.add(o as usize).cast::<T>().read());
            }
        } else {
            for l in lanes(m) {
                d.add(l).write(cx.shared.add(at[l] as usize).cast::<T>().read());
            }
        }
    }
}

#[inline(always)]
unsafe fn store_shared<T: Copy, const BYTES: u32>(cx: &mut ExecContext<'_>, i: &Inst, m: u32) {
    // SAFETY: as for `load_shared`.
    unsafe {
        if cx.instrumented {
            return store(cx, i, m);
        }
        let mut at = [0; 32];
        if !fast_shared::<BYTES>(cx, i, m, &mut at) {
            return store(cx, i, m);
        }
        cx.moved = true;
        let d = cx.slot::<T>(i.d);
        for l in lanes(m) {
            cx.shared.add(at[l] as usize).cast::<T>().write(d.add(l).read());
        }
    }
}

/// Four 32-bit elements at once.
#[inline(always)]
unsafe fn load_four<const LEVEL: usize>(cx: &mut ExecContext<'_>, i: &Inst, m: u32, shared: bool) {
    let op = &cx.program.mem[i.e as usize];
    // SAFETY: as for the single-element ones; lowering gives four 32-bit registers.
    unsafe {
        let host: [u64; 32] = if shared {
            let mut at = [0; 32];
            if !fast_shared::<16>(cx, i, m, &mut at) {
                return load(cx, i, m);
            }
            if !shared_is_clean::<16, LEVEL>(cx, i, &at, m) {
                return load(cx, i, m);
            }
            at.map(|o| cx.shared as u64 + u64::from(o))
        } else {
            let Some(host) = fast_global::<16>(cx, i, m, false) else {
                remember(cx, i, m);
                return load(cx, i, m);
            };
            if cx.instrumented && !check::fast::global_load::<16>(cx, i.e, &host, m) {
                return load(cx, i, m);
            }
            host
        };
        let regs: [*mut u32; 4] = std::array::from_fn(|k| cx.slot::<u32>(op.regs[k].unwrap_or_default().slot));
        for l in lanes(m) {
            let v = (host[l] as *const [u32; 4]).read_unaligned();
            for k in 0..4 {
                regs[k].add(l).write(v[k]);
            }
        }
    }
}

#[inline(always)]
unsafe fn store_four(cx: &mut ExecContext<'_>, i: &Inst, m: u32, shared: bool) {
    let op = &cx.program.mem[i.e as usize];
    // SAFETY: as for `load_four`.
    unsafe {
        let host: [u64; 32] = if shared {
            if cx.instrumented {
                return store(cx, i, m);
            }
            let mut at = [0; 32];
            if !fast_shared::<16>(cx, i, m, &mut at) {
                return store(cx, i, m);
            }
            at.map(|o| cx.shared as u64 + u64::from(o))
        } else {
            let Some(host) = fast_global::<16>(cx, i, m, true) else {
                if !cx.instrumented {
                    remember(cx, i, m);
                }
                return store(cx, i, m);
            };
            host
        };
        cx.moved = true;
        let regs: [*mut u32; 4] = std::array::from_fn(|k| cx.slot::<u32>(op.regs[k].unwrap_or_default().slot));
        for l in lanes(m) {
            let v: [u32; 4] = std::array::from_fn(|k| regs[k].add(l).read());
            (host[l] as *mut [u32; 4]).write_unaligned(v);
        }
    }
}

levels! {
    LDG32 = |cx, i, m| load_global::<u32, 4>(cx, i, m);
    LDG64 = |cx, i, m| load_global::<u64, 8>(cx, i, m);
    LDG128 = |cx, i, m| load_four::<LEVEL>(cx, i, m, false);
    STG32 = |cx, i, m| store_global::<u32, 4>(cx, i, m);
    STG64 = |cx, i, m| store_global::<u64, 8>(cx, i, m);
    STG128 = |cx, i, m| store_four(cx, i, m, false);
    LDS32 = |cx, i, m| load_shared::<u32, 4, LEVEL>(cx, i, m);
    LDS64 = |cx, i, m| load_shared::<u64, 8, LEVEL>(cx, i, m);
    LDS128 = |cx, i, m| load_four::<LEVEL>(cx, i, m, true);
    STS32 = |cx, i, m| store_shared::<u32, 4>(cx, i, m);
    STS64 = |cx, i, m| store_shared::<u64, 8>(cx, i, m);
    STS128 = |cx, i, m| store_four(cx, i, m, true);
}
