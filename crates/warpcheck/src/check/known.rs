//! What a thread knows of other threads' accesses: clocks of whole warps, and of single lanes beyond them.
//!
//! Barriers order whole warps, which [`super::shadow::Clocks`] keeps as one clock per pair of warps. A thread that releases
//! by an atomic or arrives at a barrier in memory speaks for itself alone, and a thread that acquires learns alone.

use std::collections::HashMap;

use crate::exec::lanes::lanes;

/// Clocks below which accesses are known.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Known {
    /// By warp, for all its lanes.
    pub(crate) warps: [u32; 32],
    /// For single lanes of some warps.
    lanes: Vec<(u32, [u32; 32])>,
}

impl Known {
    /// What warps have done before these clocks.
    pub(crate) fn of(warps: [u32; 32]) -> Known {
        Known { warps, lanes: Vec::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lanes.is_empty() && self.warps == [0; 32]
    }

    /// Adds what one lane has done before a clock.
    pub(crate) fn add(&mut self, warp: u32, lane: usize, clock: u32) {
        if self.warps[warp as usize] >= clock {
            return;
        }
        let row = match self.lanes.iter().position(|(w, _)| *w == warp) {
            Some(k) => &mut self.lanes[k].1,
            None => {
                self.lanes.push((warp, [0; 32]));
                &mut self.lanes.last_mut().expect("just pushed").1
            }
        };
        row[lane] = row[lane].max(clock);
    }

    /// Adds what these lanes have done before a clock; `live` lanes are all that the warp has left.
    pub(crate) fn add_all(&mut self, warp: u32, mask: u32, live: u32, clock: u32) {
        if mask & live == live {
            let known = &mut self.warps[warp as usize];
            *known = clock.max(*known);
        } else {
            lanes(mask).for_each(|lane| self.add(warp, lane, clock));
        }
    }

    pub(crate) fn join(&mut self, other: &Known) {
        self.join_warps(&other.warps);
        for (warp, row) in &other.lanes {
            for (lane, &clock) in row.iter().enumerate().filter(|(_, clock)| **clock > 0) {
                self.add(*warp, lane, clock);
            }
        }
    }

    pub(crate) fn join_warps(&mut self, other: &[u32; 32]) {
        for (mine, theirs) in self.warps.iter_mut().zip(other) {
            *mine = (*mine).max(*theirs);
        }
    }

    /// Whether an access of a thread at a clock is known.
    pub(crate) fn covers(&self, thread: u32, clock: u32) -> bool {
        self.any(thread, |known| known > clock)
    }

    /// Whether one of the clocks that are known of a thread passes a test.
    pub(crate) fn any(&self, thread: u32, test: impl Fn(u32) -> bool) -> bool {
        let (warp, lane) = ((thread / 32) & 31, thread as usize % 32);
        let row = self.lanes.iter().find(|(w, _)| *w == warp);
        test(self.warps[warp as usize]) || row.is_some_and(|(_, row)| test(row[lane]))
    }

    /// Whether knowing these warps' clocks tells all of it.
    pub(crate) fn is_within(&self, warps: &[u32; 32]) -> bool {
        self.warps.iter().zip(warps).all(|(mine, theirs)| mine <= theirs) && self.beyond(warps).is_empty()
    }

    /// The part that knowing these warps' clocks does not already tell.
    fn beyond(&self, warps: &[u32; 32]) -> Known {
        let further = |(w, row): &&(u32, [u32; 32])| row.iter().any(|&clock| clock > warps[*w as usize]);
        Known { warps: [0; 32], lanes: self.lanes.iter().filter(further).cloned().collect() }
    }
}

/// What the threads of a block have acquired since its last barrier, beyond the clocks of warps.
#[derive(Debug, Clone, Default)]
pub(crate) struct Acquired {
    any: bool,
    /// By warp, what all its threads have; only lanes.
    warps: Vec<Known>,
    threads: HashMap<u32, Known>,
}

impl Acquired {
    pub(crate) fn start(&mut self, warps: usize) {
        self.any = false;
        self.warps.clear();
        self.warps.resize(warps, Known::default());
        self.threads.clear();
    }

    /// Whether a thread has acquired what another did at a clock.
    #[inline(always)]
    pub(crate) fn covers(&self, thread: u32, other: u32, clock: u32) -> bool {
        self.any && self.look(thread, other, clock)
    }

    #[cold]
    fn look(&self, thread: u32, other: u32, clock: u32) -> bool {
        self.warps[thread as usize / 32].covers(other, clock)
            || self.threads.get(&thread).is_some_and(|known| known.covers(other, clock))
    }

    /// A warp of which `warps` is known learns more.
    pub(crate) fn warp_learns(&mut self, w: u32, known: &Known, warps: &[u32; 32]) {
        let beyond = known.beyond(warps);
        if !beyond.is_empty() {
            self.any = true;
            self.warps[w as usize].join(&beyond);
        }
    }

    pub(crate) fn thread_learns(&mut self, thread: u32, known: &Known) {
        self.any = true;
        self.threads.entry(thread).or_default().join(known);
    }

    /// What lanes of a warp have acquired, together.
    pub(crate) fn of(&self, w: u32, mask: u32) -> Known {
        let mut out = Known::default();
        if self.any {
            out.join(&self.warps[w as usize]);
            for known in lanes(mask).filter_map(|lane| self.threads.get(&(w * 32 + lane as u32))) {
                out.join(known);
            }
        }
        out
    }

    /// What a warp's threads had acquired is known to all of them.
    pub(crate) fn forget_threads(&mut self, w: u32) {
        if self.any {
            self.threads.retain(|thread, _| thread / 32 != w);
        }
    }

    /// What a warp has acquired is told by its clocks.
    pub(crate) fn forget(&mut self, w: u32) {
        if self.any {
            self.warps[w as usize] = Known::default();
            self.forget_threads(w);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_speaks_for_itself_and_all_lanes_for_the_warp() {
        let mut known = Known::default();
        known.add_all(2, 0b10, !0, 7);
        assert!(known.covers(65, 6) && !known.covers(65, 7) && !known.covers(64, 0) && !known.covers(1, 0));
        known.add_all(2, 0b11, 0b11, 9);
        assert!(known.covers(64, 8) && known.covers(95, 8) && !known.covers(64, 9));
        let mut other = Known::of([0; 32]);
        other.add(0, 3, 5);
        known.join(&other);
        assert!(known.covers(3, 4) && !known.covers(2, 4) && known.covers(65, 8));
        assert!(known.beyond(&[9; 32]).is_empty() && known.beyond(&[4; 32]).covers(3, 4));
    }

    #[test]
    fn what_a_thread_acquires_others_learn_by_a_meeting() {
        let mut acquired = Acquired::default();
        acquired.start(2);
        let mut known = Known::default();
        known.add(0, 3, 5);
        acquired.thread_learns(40, &known);
        assert!(acquired.covers(40, 3, 4) && !acquired.covers(41, 3, 4) && !acquired.covers(40, 3, 5));
        let together = acquired.of(1, 0b1_0000_0000);
        acquired.warp_learns(1, &together, &[0; 32]);
        acquired.forget_threads(1);
        assert!(acquired.covers(41, 3, 4));
        acquired.forget(1);
        assert!(!acquired.covers(40, 3, 4));
    }
}
