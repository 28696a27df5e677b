//! Fast path for loads without a finding: one pass over the lanes.
//!
//! `false` means: take the slow path, which reports. Shadow updates made so far are idempotent.

use std::sync::atomic::{
    Ordering::{Relaxed, SeqCst},
    fence,
};

use super::{
    overlap,
    race::{age, elsewhere, merge, tag},
    shadow::{Entry, TAGGED_CLOCKS},
};
use crate::exec::{
    ExecContext,
    lanes::{consecutive, lanes},
};

/// The bits from here up are the launch's number.
const LAUNCH: u32 = 60;

/// The lanes whose value differs from the next lane's, and the last lane; and whether the second half
/// of the lanes repeats the first.
#[inline(always)]
fn repeats<const LEVEL: usize>(at: &[u32; 32]) -> (u32, bool) {
    #[cfg(target_arch = "x86_64")]
    if LEVEL == 2 {
        use std::arch::x86_64::*;
        // SAFETY: only the handlers of this level, which the CPU has, ask for it.
        unsafe {
            let low = _mm512_loadu_si512(at.as_ptr().cast());
            let high = _mm512_loadu_si512(at.as_ptr().add(16).cast());
            let [next_low, next_high] = [_mm512_alignr_epi32::<1>(high, low), _mm512_alignr_epi32::<1>(high, high)];
            let last_low = _mm512_cmpneq_epi32_mask(low, next_low);
            let last_high = _mm512_cmpneq_epi32_mask(high, next_high) | 1 << 15;
            let mirrored = _mm512_cmpneq_epi32_mask(low, high) == 0;
            return (u32::from(last_low) | u32::from(last_high) << 16, mirrored);
        }
    }
    let mut last = 1 << 31;
    for l in 0..31 {
        last |= u32::from(at[l] != at[l + 1]) << l;
    }
    (last, (0..16).all(|l| at[l] == at[l + 16]))
}

/// Loads from shared memory at checked offsets.
#[inline(always)]
pub(crate) fn shared_load<const BYTES: u32, const LEVEL: usize>(
    cx: &mut ExecContext<'_>,
    place: u32,
    at: &[u32; 32],
    m: u32,
) -> bool {
    let options = cx.launch.options;
    let warp = cx.warp;
    if cx.checker.counting.is_some() || cx.checker.block.published.is_pending(warp) {
        return false;
    }
    let block = &mut cx.checker.block;
    // Lanes that read the same word are checked once, as the last of them: adjacent lanes, and if the
    // second half of the warp reads what the first does, both halves.
    let (mut last, mut joined) = (m, 0);
    if m == !0 {
        let (lanes, mirrored) = repeats::<LEVEL>(at);
        (last, joined) = (lanes, !lanes << 1);
        if mirrored {
            (last, joined) = (last & 0xffff_0000, !0);
        }
    }
    if options.init && block.unwritten > 0 {
        let written = block.written.as_slice();
        for l in lanes(last) {
            let marks = written.get(at[l] as usize..at[l] as usize + BYTES as usize);
            if marks.is_none_or(|marks| marks.contains(&0)) {
                return false;
            }
        }
    }
    if options.race {
        let clock = u64::from(block.clocks.now(warp));
        let floor = u64::from(block.clocks.floor(warp));
        let known = block.clocks.knowledge(warp);
        let old = Entry::least(floor);
        let first = Entry::new(clock, warp * 32, place, false, 15);
        let (shadow, clocks) = (block.shadow.as_mut_slice(), &block.clocks);
        let mut clean = true;
        for l in lanes(last) {
            let mut me = first.further(l as u32);
            if joined >> l & 1 != 0 {
                me = me.with_several();
            }
            let w = at[l] as usize / 4;
            let Some(words) = shadow.get_mut(w..w + BYTES as usize / 4) else { return false };
            for [writer, reader] in words {
                clean &= writer.0 < old;
                let seen = *reader;
                *reader = if seen.0 < old {
                    me
                } else if seen.clock() == clock && seen.thread() / 32 == warp && seen.bytes() == 15 && !seen.strong() {
                    // Another lane of this warp since its last barrier.
                    let me = if seen.thread() == me.thread() { me } else { me.with_several() };
                    me.with_readers_of(seen)
                } else if seen.thread() / 32 != warp
                    && u64::from(known[seen.thread() as usize / 32]) <= seen.clock()
                    && !seen.strong()
                {
                    me.with_foreign().with_readers_of(seen)
                } else {
                    merge(clocks, seen, me, seen.clock(), floor)
                };
            }
        }
        return clean;
    }
    true
}

/// Loads from global memory; all masked lanes are inside the allocation that the instruction has cached.
#[inline(always)]
pub(crate) fn global_load<const BYTES: u64>(cx: &mut ExecContext<'_>, place: u32, host: &[u64; 32], m: u32) -> bool {
    let options = cx.launch.options;
    if cx.checker.counting.is_some() || cx.checker.block.published.is_pending(cx.warp) {
        return false;
    }
    let cached = &cx.cache[place as usize];
    let Some(a) = &cached.allocation else { return false };
    let start = cached.host as u64;
    if options.init {
        let missing = if m == !0 && consecutive(BYTES, |l| host[l]) {
            a.unwritten(host[0] - start, 32 * BYTES).is_some()
        } else {
            lanes(m).any(|l| a.unwritten(host[l] - start, BYTES).is_some())
        };
        if missing {
            return false;
        }
    }
    if options.race {
        if !overlap::passed(cx, m) {
            return false;
        }
        let Some(shadow) = a.shadow(age(cx.launch.launch)) else { return false };
        let warp = cx.warp;
        let clocks = &cx.checker.block.clocks;
        let span = u64::from(TAGGED_CLOCKS);
        let (clock, floor) = (u64::from(clocks.now(warp)), u64::from(clocks.floor(warp)));
        // The slow path compares clocks that have wrapped.
        if clock >= span {
            return false;
        }
        let base = tag(cx);
        let (mine, old, end) = (Entry::least(base), Entry::least(base + floor), Entry::least(base + span));
        let first = Entry::new(base + clock, warp * 32, place, false, 15);
        for l in lanes(m) {
            let me = first.further(l as u32);
            let w = (host[l] - start) as usize / 4;
            let Some(words) = shadow.get(2 * w..2 * w + BYTES as usize / 2) else { return false };
            for pair in words.chunks_exact(2) {
                let seen = Entry(pair[1].load(Relaxed));
                // Clocks have not wrapped: they are what the entry says.
                let recent = (old..end).contains(&seen.0);
                let kept = if recent { merge(clocks, seen, me, seen.clock() - base, floor) } else { me };
                let kept = if elsewhere(seen, base) { kept.with_elsewhere() } else { kept };
                pair[1].store(kept.0, Relaxed);
            }
        }
        // Either a block on another host thread that writes these words sees this read, or its write is seen here.
        fence(SeqCst);
        for l in lanes(m) {
            let w = (host[l] - start) as usize / 4;
            let Some(words) = shadow.get(2 * w..2 * w + BYTES as usize / 2) else { return false };
            for pair in words.chunks_exact(2) {
                let writer = pair[0].load(Relaxed);
                // Nobody, another launch, or this block before a barrier.
                let fine = writer == 0 || writer >> LAUNCH != mine >> LAUNCH || (mine..old).contains(&writer);
                if !fine {
                    return false;
                }
            }
        }
    }
    true
}
