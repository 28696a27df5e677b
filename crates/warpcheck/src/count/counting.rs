//! Counting while a launch runs.

use std::collections::{HashMap, HashSet};

use super::{Counters, Global, L2, Shared, l2::PAGE};
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
    /// The instruction that runs.
    pc: u32,
    /// Sectors that the block has loaded through the first-level cache.
    loaded: HashSet<u64>,
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
        self.pc = pc;
        if let Some(r) = self.runs.get_mut(pc as usize) {
            r[0] += 1;
            r[1] += u64::from(lanes.count_ones());
        }
    }

    pub(crate) fn block(&mut self, warps: u32) {
        self.total.blocks += 1;
        self.total.warps += u64::from(warps);
        self.loaded.clear();
    }

    /// A warp's access to memory.
    pub(crate) fn access(&mut self, program: &Program, r: &Resolved, bytes: u32, access: Access) {
        let cost = program.costs.get(self.pc as usize).copied().unwrap_or_default();
        let global = lanes_in(r, StateSpace::Global);
        if global != 0 {
            self.global(r, global, bytes, access, cost.uncached);
        }
        let shared = lanes_in(r, StateSpace::Shared);
        if shared == 0 {
            return;
        }
        if access == Access::Atomic {
            self.total.shared_atomics += u64::from(shared.count_ones());
            return;
        }
        if access != Access::Read {
            return self.total.shared_store.request(r, shared, bytes, 0);
        }
        // A load that others are merged into counts for them, where the address allows it.
        let load = &mut self.total.shared_load;
        let (back, whole) = (u64::from(cost.back), bytes * u32::from(cost.elements));
        if crate::exec::lanes::lanes(shared)
            .all(|l| (r.address[l].wrapping_sub(back)).is_multiple_of(u64::from(whole.max(1))))
        {
            if cost.elements > 0 {
                load.request(r, shared, whole, back.wrapping_neg());
            }
        } else {
            (0..u64::from(cost.elements))
                .for_each(|n| load.request(r, shared, bytes, (n * u64::from(bytes)).wrapping_sub(back)));
        }
    }

    /// The rows of `ldmatrix` or `stmatrix`: a phase a matrix.
    pub(crate) fn matrix(&mut self, r: &Resolved, access: Access) {
        let c = if access == Access::Read { &mut self.total.shared_load } else { &mut self.total.shared_store };
        c.request(r, r.ok, 16, 0);
    }

    fn global(&mut self, r: &Resolved, lanes: u32, bytes: u32, access: Access, uncached: bool) {
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
        let lines = sectors.chunk_by(|a, b| a / 4 == b / 4).count() as u64;
        c.lines += lines;
        c.single += u64::from(lines == 1);
        c.l2_sectors += match access {
            Access::Read if !uncached => sectors.into_iter().filter(|s| self.loaded.insert(*s)).count(),
            _ => sectors.len(),
        } as u64;
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
        self.total.add(&other.total);
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

    /// The counters, including those derived from instruction counts. `l2` is the device's second-level cache, of `l2_bytes`.
    pub(crate) fn finish(mut self, program: &Program, l2: &mut L2, l2_bytes: u32) -> Counters {
        let mut c = std::mem::take(&mut self.total);
        for (pc, &[runs, lanes]) in self.runs.iter().enumerate() {
            let Some(i) = program.code.get(pc).filter(|_| runs > 0) else { continue };
            c.warp_instructions += runs;
            c.issued += runs * u64::from(program.costs.get(pc).copied().unwrap_or_default().issue);
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
        c.resident_bytes_read = self.resident(l2, l2_bytes);
        c.unique_bytes_read = ones(|t| &t.read);
        c.unique_bytes_written = ones(|t| &t.written);
        c
    }

    /// Bytes that the launch read from pages which the cache held before; then it holds those that the launch touched.
    fn resident(&self, l2: &mut L2, l2_bytes: u32) -> u64 {
        let mut serials: Vec<&u64> = self.touched.keys().collect();
        serials.sort_unstable();
        let pages = |of: fn(&Touched) -> &Vec<u64>| {
            serials.iter().flat_map(move |&&serial| {
                let bits = of(&self.touched[&serial]).chunks(PAGE / 64).enumerate();
                bits.map(move |(page, bits)| {
                    ((serial, page), bits.iter().map(|w| u64::from(w.count_ones())).sum::<u64>())
                })
            })
        };
        let read = pages(|t| &t.read).filter(|(page, _)| l2.holds(*page)).map(|(_, bytes)| bytes).sum();
        for ((page, read), (_, written)) in pages(|t| &t.read).zip(pages(|t| &t.written)) {
            if read + written > 0 {
                l2.touch(page, l2_bytes);
            }
        }
        read
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

impl Shared {
    /// Counts a request whose lanes access `bytes` each, `offset` from their addresses.
    fn request(&mut self, r: &Resolved, lanes: u32, bytes: u32, offset: u64) {
        self.requests += 1;
        self.bytes += u64::from(lanes.count_ones() * bytes);
        let per_phase = match bytes {
            16.. => 8,
            8.. => 16,
            _ => 32,
        };
        let mut passes = 0;
        for phase in 0..32 / per_phase {
            let lanes: Vec<usize> =
                (phase * per_phase..(phase + 1) * per_phase).filter(|l| lanes >> l & 1 != 0).collect();
            if !lanes.is_empty() {
                self.ideal_wavefronts += 1;
                passes += conflicts(lanes.into_iter().map(|l| r.address[l].wrapping_add(offset)), bytes);
            }
        }
        self.wavefronts += passes;
        self.single += u64::from(passes == 1);
    }
}

/// Passes over the 32 banks: the most distinct words in one of them.
fn conflicts(addresses: impl Iterator<Item = u64>, bytes: u32) -> u64 {
    let mut words: Vec<u64> = addresses.flat_map(|at| at / 4..=at.wrapping_add(u64::from(bytes) - 1) / 4).collect();
    words.sort_unstable();
    words.dedup();
    let mut banks = [0u64; 32];
    for w in words {
        banks[(w % 32) as usize] += 1;
    }
    banks.into_iter().max().unwrap_or(0)
}
