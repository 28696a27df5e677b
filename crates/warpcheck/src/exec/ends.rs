//! How the lanes of a warp came to their end: whether a lane left before a barrier, which is allowed, or went past it.
//!
//! `if (i >= n) return;` before a barrier and a barrier inside `if (i < n) { … }` at the end of a kernel are the same program.
//! A lane has gone past a barrier when it ran code that comes after it.

use super::lanes::lanes;
use crate::program::{Kind, Program};

/// Where each lane was last.
#[derive(Debug, Clone)]
pub(crate) struct Ends {
    /// The start of the straight code that it ran up to its exit, and the exit; or the branch by which it came there, twice.
    last: [(u32, u32); 32],
    /// The barrier at which it last met others.
    met: [u32; 32],
}

const NONE: u32 = u32::MAX;

impl Default for Ends {
    fn default() -> Ends {
        Ends { last: [(NONE, NONE); 32], met: [NONE; 32] }
    }
}

impl Ends {
    /// The branch at `pc` leads to an exit when it is taken (bit 0 of `leads`) or not taken (bit 1).
    #[cold]
    #[inline(never)]
    pub(crate) fn branch(&mut self, leads: u16, pc: u32, taken: u32, mask: u32) {
        let leaving = if leads & 1 != 0 { taken } else { 0 } | if leads & 2 != 0 { mask & !taken } else { 0 };
        lanes(leaving).for_each(|lane| self.last[lane] = (pc, pc));
    }

    /// Lanes come to the exit at `pc` from code that starts at `from`.
    #[cold]
    #[inline(never)]
    pub(crate) fn ran(&mut self, mask: u32, from: u32, pc: u32) {
        if from < pc {
            lanes(mask).for_each(|lane| self.last[lane] = (from, pc));
        }
    }

    /// Lanes have waited at the barrier at `pc`.
    pub(crate) fn met(&mut self, mask: u32, pc: u32) {
        lanes(mask).for_each(|lane| self.met[lane] = pc);
    }

    /// The lanes that went past the instruction at `pc`.
    #[cold]
    pub(crate) fn passed(&self, program: &Program, pc: u32, mask: u32) -> u32 {
        if mask == 0 {
            return 0;
        }
        let after = after(program, pc);
        let behind = |at: u32| after.get((at - pc) as usize).copied().unwrap_or(false);
        let went = |lane: &usize| {
            let (from, to) = self.last[*lane];
            if to == NONE || to <= pc {
                false
            } else if from == to {
                // Of a loop around the barrier the lane may have left the next round; compilers unroll loops.
                behind(to) && !same(program, self.met[*lane], pc)
            } else {
                (from.max(pc + 1)..to).any(behind)
            }
        };
        lanes(mask).filter(went).fold(0, |mask, lane| mask | 1 << lane)
    }
}

/// Whether two barriers are one in the source.
fn same(program: &Program, a: u32, b: u32) -> bool {
    let line = |pc: u32| program.lines.get(pc as usize).filter(|line| line.line > 0).map(|line| (line.file, line.line));
    a == b || line(a).is_some() && line(a) == line(b)
}

/// Which instructions from `pc` on can be reached from behind it without going back.
fn after(program: &Program, pc: u32) -> Vec<bool> {
    let code = &program.code[pc as usize..];
    let mut reached = vec![false; code.len() + 1];
    reached[1] = true;
    for k in 1..code.len() {
        if !reached[k] {
            continue;
        }
        let i = &code[k];
        let always = i.guard == 0;
        match i.kind {
            Kind::Branch => {
                if let Some(target) = i.e.checked_sub(pc).filter(|&target| target as usize > k) {
                    reached[target as usize] = true;
                }
                reached[k + 1] |= !always;
            }
            Kind::BranchIndex => {
                for target in program.tables[i.e as usize].iter().filter_map(|t| t.checked_sub(pc)) {
                    if target as usize > k {
                        reached[target as usize] = true;
                    }
                }
            }
            Kind::Exit | Kind::Return | Kind::Trap => reached[k + 1] |= !always,
            _ => reached[k + 1] = true,
        }
    }
    reached
}
