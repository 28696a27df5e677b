//! Shadow words: for each four bytes of memory its last writer and its last reader.
//!
//! Order within a block is kept by warp: `known[w][v]` is the clock of warp v up to which warp w has seen its accesses.
//! A barrier joins what its warps know and moves their clocks on; `bar.warp.sync` moves one warp's clock on. An access
//! of warp v at clock c is ordered before one of warp w when `known[w][v] > c`.

/// One access, packed into a word; zero is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry(pub(crate) u64);

/// Fields from the top: tag (22 bits, of the launch and block; zero in shared memory), clock (12, or 34 without a tag),
/// thread (10), instruction (13), then asynchronous, several, strong, and the bytes (4).
const CLOCK: u32 = 30;
const THREAD: u32 = 20;
const PLACE: u32 = 7;
const ASYNC: u64 = 1 << 6;
const SEVERAL: u64 = 1 << 5;
const STRONG: u64 = 1 << 4;

/// The number of instructions that an entry can name.
pub(crate) const PLACES: u32 = 1 << (THREAD - PLACE);

impl Entry {
    pub(crate) fn new(clock: u64, thread: u32, place: u32, strong: bool, bytes: u32) -> Entry {
        Entry(
            clock << CLOCK
                | u64::from(thread) << THREAD
                | u64::from(place.min(PLACES - 1)) << PLACE
                | if strong { STRONG } else { 0 }
                | u64::from(bytes),
        )
    }

    pub(crate) fn clock(self) -> u64 {
        self.0 >> CLOCK
    }

    pub(crate) fn thread(self) -> u32 {
        (self.0 >> THREAD) as u32 & 1023
    }

    pub(crate) fn place(self) -> u32 {
        (self.0 >> PLACE) as u32 & (PLACES - 1)
    }

    pub(crate) fn strong(self) -> bool {
        self.0 & STRONG != 0
    }

    pub(crate) fn several(self) -> bool {
        self.0 & SEVERAL != 0
    }

    pub(crate) fn pending(self) -> bool {
        self.0 & ASYNC != 0
    }

    pub(crate) fn bytes(self) -> u32 {
        self.0 as u32 & 15
    }

    pub(crate) fn with_several(self) -> Entry {
        Entry(self.0 | SEVERAL)
    }

    pub(crate) fn weak(self) -> Entry {
        Entry(self.0 & !STRONG)
    }

    /// A `cp.async` under way: its clock is beyond all others, so that nothing takes it for ordered.
    pub(crate) fn with_pending(self) -> Entry {
        Entry(self.0 | ASYNC | !0 << CLOCK)
    }

    /// The least entry with this clock: those below it are older.
    pub(crate) fn least(clock: u64) -> u64 {
        clock << CLOCK
    }

    /// What the same access by the thread `n` lanes further is.
    pub(crate) fn further(self, n: u32) -> Entry {
        Entry(self.0 + (u64::from(n) << THREAD))
    }
}

/// What the warps of a block know of each other.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clocks {
    known: Vec<[u32; 32]>,
    /// For each warp the clock below which all accesses are known.
    floor: Vec<u32>,
    warps: usize,
}

/// Clocks beyond this would not fit a tagged entry.
pub(crate) const TAGGED_CLOCKS: u32 = 1 << 12;

impl Clocks {
    pub(crate) fn start(&mut self, warps: usize) {
        self.warps = warps;
        self.known.clear();
        for w in 0..warps {
            let mut k = [0; 32];
            k[w] = 1;
            self.known.push(k);
        }
        self.floor.clear();
        self.floor.resize(warps, 0);
        if warps == 1 {
            self.floor[0] = 1;
        }
    }

    pub(crate) fn now(&self, warp: u32) -> u32 {
        self.known[warp as usize][warp as usize]
    }

    pub(crate) fn knowledge(&self, warp: u32) -> [u32; 32] {
        self.known[warp as usize]
    }

    pub(crate) fn floor(&self, warp: u32) -> u32 {
        self.floor[warp as usize]
    }

    /// Whether an access of warp `v` at `clock` comes before what warp `w` does now.
    pub(crate) fn ordered(&self, w: u32, v: u32, clock: u32) -> bool {
        self.known[w as usize][(v & 31) as usize] > clock
    }

    /// `bar.warp.sync`.
    pub(crate) fn warp_sync(&mut self, w: u32) {
        let w = w as usize;
        self.known[w][w] += 1;
        self.refloor(w);
    }

    /// What others know is known to this warp too.
    pub(crate) fn join(&mut self, w: u32, other: &[u32; 32]) {
        let mine = &mut self.known[w as usize];
        for (m, o) in mine.iter_mut().zip(other) {
            *m = (*m).max(*o);
        }
        self.refloor(w as usize);
    }

    /// The warp lets others know all it has done so far; its clock moves on.
    pub(crate) fn publish(&mut self, w: u32) -> [u32; 32] {
        let w = w as usize;
        self.known[w][w] += 1;
        self.refloor(w);
        self.known[w]
    }

    fn refloor(&mut self, w: usize) {
        self.floor[w] = self.known[w][..self.warps].iter().copied().min().unwrap_or(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back() {
        let e = Entry::new(0x3_ffff_ffff, 1023, 77, true, 0b1010).with_several();
        assert_eq!((e.clock(), e.thread(), e.place(), e.bytes()), (0x3_ffff_ffff, 1023, 77, 0b1010));
        assert!(e.strong() && e.several() && !e.pending());
        assert!(Entry::new(0, 0, u32::MAX, false, 0).place() == PLACES - 1);
    }

    #[test]
    fn a_barrier_orders_what_came_before_it() {
        let mut c = Clocks::default();
        c.start(2);
        let at = c.now(0);
        assert!(!c.ordered(1, 0, at));
        let (a, b) = (c.publish(0), c.publish(1));
        for w in 0..2 {
            c.join(w, &a);
            c.join(w, &b);
        }
        assert!(c.ordered(1, 0, at) && c.ordered(0, 0, at));
        assert!(!c.ordered(1, 0, c.now(0)));
        assert_eq!(c.floor(0), 2);
    }
}
