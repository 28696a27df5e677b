//! Which block runs when.
//!
//! Blocks start in order (or permuted by a seed) on all host threads. If the result of
//! atomics depends on their order, blocks take turns: the first such access of a block waits until all blocks before it
//! have ended their slice, so that the result is that of one thread running them one after another.

use std::{
    collections::VecDeque,
    sync::{
        Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use super::block::Block;

/// The next task of a worker.
pub(crate) struct Task {
    /// Its place in the order of slices.
    pub(crate) sequence: u64,
    pub(crate) what: What,
}

pub(crate) enum What {
    /// The block with this number starts.
    Start(u64),
    /// A suspended block continues.
    Resume(Box<Block>),
}

#[derive(Default)]
struct State {
    started: u64,
    suspended: VecDeque<Box<Block>>,
    running: usize,
    sequence: u64,
}

/// Hands out blocks.
pub(crate) struct Scheduler {
    total: u64,
    resident: usize,
    step: u64,
    offset: u64,
    ordered: bool,
    state: Mutex<State>,
    /// Slices that have ended, in order.
    ended: AtomicU64,
    stop: AtomicBool,
    /// What runs ends, and nothing else starts.
    closed: AtomicBool,
    changed: Condvar,
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// A good mixing of 64 bits.
pub(crate) fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

impl Scheduler {
    pub(crate) fn new(total: u64, resident: usize, seed: Option<u64>, ordered: bool) -> Scheduler {
        let (mut step, mut offset) = (1, 0);
        if let Some(seed) = seed
            && total > 1
        {
            offset = mix(seed) % total;
            step = mix(seed ^ 0x5bf0_3635) % total;
            while gcd(step, total) != 1 {
                step = (step + 1) % total;
            }
        }
        Scheduler {
            total,
            resident: resident.max(1),
            step,
            offset,
            ordered,
            state: Mutex::new(State::default()),
            ended: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The block that starts as the `k`-th.
    fn number(&self, k: u64) -> u64 {
        ((u128::from(k) * u128::from(self.step) + u128::from(self.offset)) % u128::from(self.total)) as u64
    }

    /// The next slice, or `None` when there is none and will be none.
    pub(crate) fn take(&self) -> Option<Task> {
        let mut state = self.lock();
        loop {
            if self.stopped() || self.closed.load(Ordering::Acquire) {
                return None;
            }
            let room = state.suspended.len() + state.running < self.resident;
            let what = if state.started < self.total && (room || state.suspended.is_empty() && state.running == 0) {
                state.started += 1;
                Some(What::Start(self.number(state.started - 1)))
            } else {
                state.suspended.pop_front().map(What::Resume)
            };
            if let Some(what) = what {
                state.running += 1;
                state.sequence += 1;
                return Some(Task { sequence: state.sequence - 1, what });
            }
            if state.running == 0 && state.started >= self.total {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(|e| e.into_inner());
        }
    }

    /// Ends a slice; an unfinished block is queued again.
    pub(crate) fn give_back(&self, sequence: u64, block: Option<Box<Block>>) {
        if self.ordered {
            self.wait_for_turn(sequence);
        }
        let mut state = self.lock();
        state.running -= 1;
        if let Some(block) = block {
            state.suspended.push_back(block);
        }
        self.ended.fetch_add(1, Ordering::AcqRel);
        drop(state);
        self.changed.notify_all();
    }

    /// Blocks until all slices before this one have ended.
    pub(crate) fn wait_for_turn(&self, sequence: u64) {
        if !self.ordered || self.ended.load(Ordering::Acquire) >= sequence {
            return;
        }
        for _ in 0..64 {
            if self.ended.load(Ordering::Acquire) >= sequence {
                return;
            }
            std::hint::spin_loop();
        }
        let mut state = self.lock();
        while self.ended.load(Ordering::Acquire) < sequence && !self.stopped() {
            state = self.changed.wait(state).unwrap_or_else(|e| e.into_inner());
        }
    }

    /// No block starts or goes on after this.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let _state = self.lock();
        self.changed.notify_all();
    }

    /// Ends the launch.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        let _state = self.lock();
        self.changed.notify_all();
    }

    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_permutes_and_loses_no_block() {
        for total in [1u64, 2, 6, 30, 97, 1000] {
            let s = Scheduler::new(total, 8, Some(total * 77), false);
            let mut seen: Vec<u64> = (0..total).map(|k| s.number(k)).collect();
            seen.sort_unstable();
            assert!(seen.iter().copied().eq(0..total));
        }
    }

    #[test]
    fn blocks_are_handed_out_in_order_until_none_is_left() {
        let s = Scheduler::new(3, 8, None, true);
        for k in 0..3 {
            let task = s.take().unwrap();
            assert!(matches!(task.what, What::Start(n) if n == k));
            s.give_back(task.sequence, None);
        }
        assert!(s.take().is_none());
    }
}
