//! Counting while a launch runs.

use std::collections::HashMap;

use super::{Counters, Global, Shared};
use crate::{
    arith::mma::Element,
    exec::memory::Resolved,
    finding::{Access, StateSpace},
    program::{Class, Kind, Program},
};

/// The counters of one host thread.
#[derive(Default)]
pub(crate) struct Counting {
    /// For each instruction: how often a warp ran it, and with how many lanes in all.
    runs: Vec<[u64; 2]>,
    total: Counters,
    /// Bytes of each allocation that were read before they were written, and written: a bit each, by its serial.
    touched: HashMap<u64, Touched>,
}

struct Touched {
    read: Vec<u64>,
    written: Vec<u64>,
}

impl Counting {
    pub(crate) fn new(instructions: usize) -> Counting {
        Counting { runs: vec![[0; 2]; instructions], ..Counting::default() }
    }

    #[inline(always)]
    pub(crate) fn instruction(&mut self, pc: u32, lanes: u32) {
        if let Some(r) = self.runs.get_mut(pc as usize) {
            r[0] += 1;
            r[1] += u64::from(lanes.count_ones());
        }
    }

    pub(crate) fn block(&mut self, warps: u32) {
        self.total.blocks += 1;
        self.total.warps += u64::from(warps);
    }

    /// A warp's access to memory.
    pub(crate) fn access(&mut self, r: &Resolved, bytes: u32, access: Access) {
        let global = lanes_in(r, StateSpace::Global);
        if global != 0 {
            self.global(r, global, bytes, access);
        }
        let shared = lanes_in(r, StateSpace::Shared);
        if shared == 0 {
            return;
        }
        if access == Access::Atomic {
            self.total.shared_atomics += u64::from(shared.count_ones());
            return;
        }
        let c = if access == Access::Read { &mut self.total.shared_load } else { &mut self.total.shared_store };
        c.requests += 1;
        c.bytes += u64::from(shared.count_ones() * bytes);
        let per_phase = match bytes {
            16.. => 8,
            8.. => 16,
            _ => 32,
        };
        for phase in 0..32 / per_phase {
            let lanes: Vec<usize> =
                (phase * per_phase..(phase + 1) * per_phase).filter(|l| shared >> l & 1 != 0).collect();
            if !lanes.is_empty() {
                c.ideal_wavefronts += 1;
                c.wavefronts += conflicts(&lanes, r, bytes);
            }
        }
    }

    /// The rows of `ldmatrix` or `stmatrix`: a phase a matrix.
    pub(crate) fn matrix(&mut self, r: &Resolved, access: Access) {
        let c = if access == Access::Read { &mut self.total.shared_load } else { &mut self.total.shared_store };
        c.requests += 1;
        for matrix in 0..4 {
            let lanes: Vec<usize> = (matrix * 8..matrix * 8 + 8).filter(|l| r.ok >> l & 1 != 0).collect();
            if !lanes.is_empty() {
                c.bytes += 16 * lanes.len() as u64;
                c.ideal_wavefronts += 1;
                c.wavefronts += conflicts(&lanes, r, 16);
            }
        }
    }

    fn global(&mut self, r: &Resolved, lanes: u32, bytes: u32, access: Access) {
        let c: &mut Global = match access {
            Access::Read | Access::None => &mut self.total.global_load,
            Access::Write => &mut self.total.global_store,
            Access::Atomic => &mut self.total.global_atomic,
        };
        let asked = u64::from(lanes.count_ones() * bytes);
        c.requests += 1;
        c.bytes += asked;
        c.ideal_sectors += asked.div_ceil(32);
        let mut sectors: Vec<u64> = crate::exec::lanes::lanes(lanes)
            .flat_map(|l| r.address[l] / 32..=(r.address[l] + u64::from(bytes) - 1) / 32)
            .collect();
        sectors.sort_unstable();
        sectors.dedup();
        c.sectors += sectors.len() as u64;
        if access == Access::Atomic {
            self.total.global_atomics += u64::from(lanes.count_ones());
        }
        for l in crate::exec::lanes::lanes(lanes) {
            // SAFETY: allocations are held by the launch.
            let Some(a) = (unsafe { r.allocation[l].as_ref() }) else { continue };
            let words = a.size.div_ceil(64) as usize;
            let t = self
                .touched
                .entry(a.serial)
                .or_insert_with(|| Touched { read: vec![0; words], written: vec![0; words] });
            let start = r.address[l] - a.base;
            for at in start..start + u64::from(bytes) {
                let (w, bit) = ((at / 64) as usize, 1u64 << (at % 64));
                if access != Access::Write && t.written[w] & bit == 0 {
                    t.read[w] |= bit;
                }
                if access != Access::Read {
                    t.written[w] |= bit;
                }
            }
        }
    }

    pub(crate) fn merge(&mut self, other: Counting) {
        for (a, b) in self.runs.iter_mut().zip(other.runs) {
            a[0] += b[0];
            a[1] += b[1];
        }
        let (t, o) = (&mut self.total, other.total);
        for (a, b) in [
            (&mut t.global_load, o.global_load),
            (&mut t.global_store, o.global_store),
            (&mut t.global_atomic, o.global_atomic),
        ] {
            a.requests += b.requests;
            a.sectors += b.sectors;
            a.ideal_sectors += b.ideal_sectors;
            a.bytes += b.bytes;
        }
        for (a, b) in [(&mut t.shared_load, o.shared_load), (&mut t.shared_store, o.shared_store)] {
            let a: &mut Shared = a;
            a.requests += b.requests;
            a.wavefronts += b.wavefronts;
            a.ideal_wavefronts += b.ideal_wavefronts;
            a.bytes += b.bytes;
        }
        t.shared_atomics += o.shared_atomics;
        t.global_atomics += o.global_atomics;
        t.blocks += o.blocks;
        t.warps += o.warps;
        for (serial, theirs) in other.touched {
            match self.touched.entry(serial) {
                std::collections::hash_map::Entry::Vacant(v) => {
                    v.insert(theirs);
                }
                std::collections::hash_map::Entry::Occupied(mut o) => {
                    let mine = o.get_mut();
                    mine.read.iter_mut().zip(theirs.read).for_each(|(a, b)| *a |= b);
                    mine.written.iter_mut().zip(theirs.written).for_each(|(a, b)| *a |= b);
                }
            }
        }
    }

    /// The counters, including those derived from instruction counts.
    pub(crate) fn finish(self, program: &Program) -> Counters {
        let mut c = self.total;
        for (pc, &[runs, lanes]) in self.runs.iter().enumerate() {
            let Some(i) = program.code.get(pc).filter(|_| runs > 0) else { continue };
            c.warp_instructions += runs;
            c.lane_instructions += lanes;
            let k = &mut c.classes;
            let class = match i.class {
                Class::Integer => &mut k.integer,
                Class::F32 => &mut k.f32,
                Class::F64 => &mut k.f64,
                Class::F16 => &mut k.f16,
                Class::Special => &mut k.special,
                Class::Conversion => &mut k.conversion,
                Class::Tensor => &mut k.tensor,
                Class::Move => &mut k.data_movement,
                Class::Load => &mut k.load,
                Class::Store => &mut k.store,
                Class::Atomic => &mut k.atomic,
                Class::Control => &mut k.control,
                Class::Sync => &mut k.synchronisation,
            };
            *class += runs;
            if i.kind == Kind::Barrier {
                c.barriers += runs;
            }
            if i.class == Class::Tensor {
                if let Some(form) = &program.extra[i.e as usize].mma {
                    let s = form.shape;
                    // Volta's form is four products at once.
                    let products = if (s.m, s.n, s.k) == (8, 8, 4) && form.a.width() == 16 { 4 } else { 1 };
                    let flops = runs * products * 2 * u64::from(s.m * s.n * s.k);
                    c.flops_tensor += flops;
                    c.flops_tf32 += if form.a == Element::Tf32 { flops } else { 0 };
                }
                continue;
            }
            let text = program.text(pc as u32);
            let flops = lanes * operations(text);
            let last = text.rsplit('.').next().unwrap_or("");
            match last {
                "f32" => c.flops_f32 += flops,
                "f64" => c.flops_f64 += flops,
                "f16" | "f16x2" | "bf16" | "bf16x2" => c.flops_f16 += flops,
                _ => {}
            }
        }
        let ones =
            |f: fn(&Touched) -> &Vec<u64>| self.touched.values().flat_map(f).map(|w| u64::from(w.count_ones())).sum();
        c.unique_bytes_read = ones(|t| &t.read);
        c.unique_bytes_written = ones(|t| &t.written);
        c
    }
}

/// Floating-point operations of a lane; sign, comparison, conversion and moves are none.
fn operations(text: &str) -> u64 {
    let each = match text.split('.').next() {
        Some("fma" | "mad") => 2,
        Some("add" | "sub" | "mul" | "div" | "rcp" | "sqrt" | "rsqrt" | "ex2" | "lg2" | "sin" | "cos" | "tanh") => 1,
        _ => 0,
    };
    if text.ends_with("x2") { 2 * each } else { each }
}

fn lanes_in(r: &Resolved, space: StateSpace) -> u32 {
    r.lanes().filter(|&l| r.space[l] == space).fold(0, |m, l| m | 1 << l)
}

/// Passes over the 32 banks: the most distinct words in one of them.
fn conflicts(lanes: &[usize], r: &Resolved, bytes: u32) -> u64 {
    let mut words: Vec<u64> =
        lanes.iter().flat_map(|&l| r.address[l] / 4..=(r.address[l] + u64::from(bytes) - 1) / 4).collect();
    words.sort_unstable();
    words.dedup();
    let mut banks = [0u64; 32];
    for w in words {
        banks[(w % 32) as usize] += 1;
    }
    banks.into_iter().max().unwrap_or(0)
}
