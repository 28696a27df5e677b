//! Shadow words: for each four bytes of memory its last writer and its last reader.
//!
//! Order within a block is kept by warp: `known[w][v]` is the clock of warp v up to which warp w has seen its accesses.
//! A barrier joins what its warps know and moves their clocks on; `bar.warp.sync` moves one warp's clock on. An access
//! of warp v at clock c is ordered before one of warp w when `known[w][v] > c`. What single threads tell each other by atomics
//! and barriers in memory comes on top ([`super::known`]).

use super::known::{Acquired, Known};

/// One access, packed into a word; zero is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry(pub(crate) u64);

/// Fields from the top: clock (29 bits; in global memory launch, block and the clock's lower bits), thread (10),
/// instruction (13), strong, several, foreign, elsewhere, then the bytes of all threads of the block at that clock (4)
/// and of this thread (4).
const CLOCK: u32 = 35;
const THREAD: u32 = 25;
const PLACE: u32 = 12;
const STRONG: u64 = 1 << 11;
const SEVERAL: u64 = 1 << 10;
const FOREIGN: u64 = 1 << 9;
const ELSEWHERE: u64 = 1 << 8;

/// The number of instructions that an entry can name.
pub(crate) const PLACES: u32 = 1 << (THREAD - PLACE);

impl Entry {
    #[inline(always)]
    pub(crate) fn new(clock: u64, thread: u32, place: u32, strong: bool, bytes: u32) -> Entry {
        Entry(
            clock << CLOCK
                | u64::from(thread) << THREAD
                | u64::from(place.min(PLACES - 1)) << PLACE
                | if strong { STRONG } else { 0 }
                | u64::from(bytes) << 4
                | u64::from(bytes),
        )
    }

    #[inline(always)]
    pub(crate) fn clock(self) -> u64 {
        self.0 >> CLOCK
    }

    #[inline(always)]
    pub(crate) fn thread(self) -> u32 {
        (self.0 >> THREAD) as u32 & 1023
    }

    #[inline(always)]
    pub(crate) fn place(self) -> u32 {
        (self.0 >> PLACE) as u32 & (PLACES - 1)
    }

    #[inline(always)]
    pub(crate) fn strong(self) -> bool {
        self.0 & STRONG != 0
    }

    /// Whether another lane of the warp read it too.
    #[inline(always)]
    pub(crate) fn several(self) -> bool {
        self.0 & SEVERAL != 0
    }

    /// Whether a thread of another warp read it too.
    #[inline(always)]
    pub(crate) fn foreign(self) -> bool {
        self.0 & FOREIGN != 0
    }

    /// Whether a thread of another block read all of it too, and not by a strong access.
    #[inline(always)]
    pub(crate) fn elsewhere(self) -> bool {
        self.0 & ELSEWHERE != 0
    }

    #[inline(always)]
    pub(crate) fn with_elsewhere(self) -> Entry {
        Entry(self.0 | ELSEWHERE)
    }

    /// Whether it is of all bytes, and not of a strong access.
    #[inline(always)]
    pub(crate) fn whole_and_weak(self) -> bool {
        self.bytes() == 15 && !self.strong()
    }

    /// The bytes of this thread.
    #[inline(always)]
    pub(crate) fn bytes(self) -> u32 {
        self.0 as u32 & 15
    }

    /// The bytes of all threads of the block at this clock.
    pub(crate) fn all_bytes(self) -> u32 {
        self.0 as u32 >> 4 & 15
    }

    #[inline(always)]
    pub(crate) fn with_several(self) -> Entry {
        Entry(self.0 | SEVERAL)
    }

    #[inline(always)]
    pub(crate) fn with_foreign(self) -> Entry {
        Entry(self.0 | FOREIGN)
    }

    /// Marked as `other` is for further readers.
    pub(crate) fn with_readers_of(self, other: Entry) -> Entry {
        Entry(self.0 | other.0 & (SEVERAL | FOREIGN))
    }

    pub(crate) fn with_bytes_of(self, other: Entry) -> Entry {
        Entry(self.0 | other.0 & 0xf0)
    }

    pub(crate) fn with_own_bytes_of(self, other: Entry) -> Entry {
        Entry(self.0 | other.0 & 0xff)
    }

    pub(crate) fn weak(self) -> Entry {
        Entry(self.0 & !STRONG)
    }

    /// A `cp.async` under way: its clock is beyond all others, so that nothing takes it for ordered.
    pub(crate) fn with_pending(self) -> Entry {
        Entry(self.0 | !0 << CLOCK)
    }

    pub(crate) fn pending(self) -> bool {
        self.clock() == !0 >> CLOCK
    }

    /// The least entry with this clock: those below it are older.
    #[inline(always)]
    pub(crate) fn least(clock: u64) -> u64 {
        clock << CLOCK
    }

    /// What the same access by the thread `n` lanes further is.
    #[inline(always)]
    pub(crate) fn further(self, n: u32) -> Entry {
        Entry(self.0 + (u64::from(n) << THREAD))
    }
}

/// For each pair of lanes the clock up to which the one's accesses are ordered before the other's.
type Pairs = [[u32; 32]; 32];

/// What the warps of a block know of each other.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clocks {
    known: Vec<[u32; 32]>,
    /// For each warp the clock below which all accesses are known.
    floor: Vec<u32>,
    /// For each warp the clock up to which all its lanes are in order.
    full: Vec<u32>,
    /// The same for lanes that a warp barrier of some lanes ordered.
    pairs: Vec<Option<Box<Pairs>>>,
    warps: usize,
    /// Whether some threads have met without the others since the last barrier of all: their order is not that of the clocks
    /// alone.
    partial: bool,
    acquired: Acquired,
}

/// Clocks beyond this would not fit an entry of global memory.
pub(crate) const TAGGED_CLOCKS: u32 = 1 << 10;

impl Clocks {
    pub(crate) fn start(&mut self, warps: usize) {
        self.warps = warps;
        self.partial = false;
        self.acquired.start(warps);
        self.known.clear();
        for w in 0..warps {
            let mut k = [0; 32];
            k[w] = 1;
            self.known.push(k);
        }
        self.floor.clear();
        self.floor.resize(warps, 0);
        self.full.clear();
        self.full.resize(warps, 0);
        self.pairs.clear();
        self.pairs.resize(warps, None);
        (0..warps).for_each(|w| self.refloor(w));
    }

    pub(crate) fn now(&self, warp: u32) -> u32 {
        self.known[warp as usize][warp as usize]
    }

    #[inline(always)]
    pub(crate) fn knowledge(&self, warp: u32) -> [u32; 32] {
        self.known[warp as usize]
    }

    pub(crate) fn floor(&self, warp: u32) -> u32 {
        self.floor[warp as usize]
    }

    /// Whether a foreign reader that an entry tells of may be taken for unordered: after a meeting of some warps only,
    /// it may be one of those.
    #[inline(always)]
    pub(crate) fn lockstep(&self) -> bool {
        !self.partial
    }

    /// Whether an access of thread `other` at `clock` comes before what `thread` does now.
    pub(crate) fn ordered(&self, thread: u32, other: u32, clock: u32) -> bool {
        let (w, v) = ((thread / 32) as usize, (other / 32) as usize & 31);
        if w != v {
            return self.known[w][v] > clock || self.acquired.covers(thread, other, clock);
        }
        let (a, b) = ((thread % 32) as usize, (other % 32) as usize);
        a == b
            || self.full[w] >= clock
            || self.pairs[w].as_ref().is_some_and(|p| p[a][b] >= clock)
            || self.acquired.covers(thread, other, clock)
    }

    /// What lanes of a warp know of others, and of each other.
    pub(crate) fn of(&self, w: u32, mask: u32) -> Known {
        let mut known = self.acquired.of(w, mask);
        known.join_warps(&self.others(w));
        if let Some(pairs) = &self.pairs[w as usize] {
            for (lane, row) in pairs.iter().enumerate().filter(|(lane, _)| mask >> lane & 1 != 0) {
                let _ = lane;
                row.iter().enumerate().filter(|(_, c)| **c > 0).for_each(|(b, c)| known.add(w, b, c + 1));
            }
        }
        known
    }

    /// The clocks below which each lane of a warp knows the accesses of all warps, its own among them.
    pub(crate) fn others(&self, w: u32) -> [u32; 32] {
        let mut warps = self.known[w as usize];
        warps[w as usize] = self.full[w as usize] + 1;
        warps
    }

    /// Lanes of a warp learn what others have published; `live` are all that it has left.
    pub(crate) fn learn(&mut self, w: u32, mask: u32, live: u32, known: &Known) {
        if mask & live != live {
            if known.is_within(&self.others(w)) {
                return;
            }
            self.partial = true;
            for lane in 0..32 {
                if mask >> lane & 1 != 0 {
                    self.acquired.thread_learns(w * 32 + lane, known);
                }
            }
            return;
        }
        self.join(w, &known.warps);
        self.full[w as usize] = self.full[w as usize].max(known.warps[w as usize].saturating_sub(1));
        self.refloor(w as usize);
        let warps = self.others(w);
        self.acquired.warp_learns(w, known, &warps);
    }

    /// `bar.warp.sync` of the lanes of a mask; `all` when no lane that lives is missing.
    pub(crate) fn warp_sync(&mut self, w: u32, mask: u32, all: bool) {
        let w = w as usize;
        let clock = self.known[w][w];
        if all {
            self.full[w] = clock;
        } else {
            let pairs = self.pairs[w].get_or_insert_with(|| Box::new([[0; 32]; 32]));
            for (a, row) in pairs.iter_mut().enumerate().filter(|(a, _)| mask >> a & 1 != 0) {
                let _ = a;
                for (b, p) in row.iter_mut().enumerate() {
                    if mask >> b & 1 != 0 {
                        *p = clock;
                    }
                }
            }
        }
        self.known[w][w] += 1;
        self.refloor(w);
        let together = self.acquired.of(w as u32, mask);
        if !together.is_empty() {
            self.learn(w as u32, mask, if all { mask } else { !0 }, &together);
            if all {
                self.acquired.forget_threads(w as u32);
            }
        }
    }

    /// What others know is known to this warp too.
    fn join(&mut self, w: u32, other: &[u32; 32]) {
        let w = w as usize;
        for (v, (m, o)) in self.known[w].iter_mut().zip(other).enumerate() {
            if v != w && o > m {
                *m = *o;
                self.partial = true;
            }
        }
        self.refloor(w);
    }

    /// The warp lets others know all it has done so far; its clock moves on.
    pub(crate) fn publish(&mut self, w: u32) -> [u32; 32] {
        let w = w as usize;
        self.known[w][w] += 1;
        self.refloor(w);
        self.known[w]
    }

    /// A barrier of these warps, which also know what `joined` says; their clocks go on together.
    pub(crate) fn barrier(&mut self, members: &[usize], joined: &[u32; 32]) {
        self.partial = members.len() < self.warps;
        let mut together = Known::of(*joined);
        for &w in members {
            together.join(&self.acquired.of(w as u32, !0));
            together.join_warps(&self.known[w]);
        }
        let mut all = together.warps;
        let next = members.iter().map(|&w| self.known[w][w]).max().unwrap_or(0) + 1;
        for &w in members {
            all[w] = next;
        }
        for &w in members {
            self.full[w] = next - 1;
            self.known[w] = all;
            self.refloor(w);
            self.acquired.forget(w as u32);
            if self.partial {
                self.acquired.warp_learns(w as u32, &together, &all);
            }
        }
    }

    fn refloor(&mut self, w: usize) {
        let others = (0..self.warps).filter(|&v| v != w).map(|v| self.known[w][v]).min();
        // Clocks start at 1: no entry at all, which is zero, is below every floor.
        self.floor[w] = others.unwrap_or(u32::MAX).min(self.full[w] + 1).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back() {
        let e = Entry::new(0x1eff_ffff, 1023, 77, true, 0b1010).with_several();
        assert_eq!((e.clock(), e.thread(), e.place(), e.bytes()), (0x1eff_ffff, 1023, 77, 0b1010));
        assert!(!e.elsewhere() && e.with_elsewhere().elsewhere() && e.with_elsewhere().bytes() == 0b1010);
        assert!(e.strong() && e.several() && !e.foreign() && !e.pending() && e.with_pending().pending());
        assert!(Entry::new(0, 0, u32::MAX, false, 0).place() == PLACES - 1);
        let f = Entry::new(0, 0, 0, false, 1).with_bytes_of(e);
        assert_eq!((f.bytes(), f.all_bytes()), (1, 0b1011));
    }

    #[test]
    fn a_barrier_orders_what_came_before_it() {
        let mut c = Clocks::default();
        c.start(2);
        let at = c.now(0);
        assert!(!c.ordered(32, 0, at) && !c.ordered(1, 0, at) && c.ordered(0, 0, at));
        c.barrier(&[0, 1], &[0; 32]);
        assert!(c.ordered(32, 0, at) && c.ordered(1, 0, at));
        assert!(!c.ordered(32, 0, c.now(0)));
        assert_eq!((c.floor(0), c.floor(1)), (2, 2));
    }

    #[test]
    fn a_warp_barrier_orders_the_lanes_of_its_mask() {
        let mut c = Clocks::default();
        c.start(1);
        let at = c.now(0);
        c.warp_sync(0, 0xffff, false);
        c.warp_sync(0, 0xffff_0000, false);
        assert!(c.ordered(1, 0, at) && c.ordered(17, 16, at) && !c.ordered(16, 0, at));
        c.warp_sync(0, !0, true);
        assert!(c.ordered(16, 0, at));
    }
}
