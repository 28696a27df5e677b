//! Register allocation: registers that are never live at once share a slot.
//!
//! Each lane of a slot belongs to one thread, so liveness in one thread's control flow is enough.

use super::flatten::{Base, Body, Opnd, RegId};

/// Instructions whose first operand is no destination.
fn no_destination(op: &str) -> bool {
    matches!(
        op,
        "st" | "red"
            | "bra"
            | "brx"
            | "bar"
            | "barrier"
            | "membar"
            | "fence"
            | "cp"
            | "ret"
            | "exit"
            | "trap"
            | "prefetch"
            | "prefetchu"
            | "stmatrix"
            | "nanosleep"
            | "brkpt"
            | "discard"
            | "call"
            | "pmevent"
            | "applypriority"
            | "griddepcontrol"
            | "setmaxnreg"
    )
}

fn collect(o: &Opnd<'_>, out: &mut Vec<RegId>) {
    match o {
        Opnd::Reg(r) => out.push(*r),
        Opnd::Address(Base::Reg(r), _) | Opnd::Symbol(Base::Reg(r), _) => out.push(*r),
        Opnd::Vector(v) | Opnd::List(v) => v.iter().for_each(|o| collect(o, out)),
        Opnd::Pair(a, b) => {
            collect(a, out);
            collect(b, out);
        }
        _ => {}
    }
}

/// What an instruction defines and uses.
pub(crate) fn effects(flat: &super::flatten::Flat<'_>, defs: &mut Vec<RegId>, uses: &mut Vec<RegId>) {
    defs.clear();
    uses.clear();
    let op = flat.instr.op;
    let reduces = matches!(op, "bar" | "barrier") && flat.instr.mods.contains(&"red");
    let writes = !no_destination(op) || reduces;
    for (k, o) in flat.operands.iter().enumerate() {
        // An address in the first place (`mbarrier.init [a], n`) is read.
        if k == 0 && writes && !matches!(o, Opnd::Address(..)) {
            collect(o, defs);
        } else {
            collect(o, uses);
        }
    }
    // A guarded definition keeps the old value where the guard is false.
    if flat.guard != 0 {
        uses.extend_from_slice(defs);
    }
}

/// Where control goes after an instruction.
pub(crate) fn successors(body: &Body<'_>, k: usize, out: &mut Vec<usize>) {
    out.clear();
    let flat = &body.flats[k];
    let i = flat.instr;
    match i.op {
        "bra" => {
            if let Some(Opnd::Symbol(Base::Name(name), _)) = flat.operands.first()
                && let Some(t) = body.label(name, flat.scope)
            {
                out.push(t as usize);
            }
        }
        "brx" => {
            if let Some(Opnd::Symbol(Base::Name(name), _)) = flat.operands.get(1)
                && let Some(labels) = body.targets(name, flat.scope)
            {
                out.extend(labels.iter().filter_map(|l| body.label(l, flat.scope)).map(|t| t as usize));
            }
        }
        "ret" | "exit" | "trap" => {}
        _ => {
            out.push(k + 1);
            return;
        }
    }
    if flat.guard != 0 || i.op == "trap" {
        out.push(k + 1);
    }
}

/// Slots of a function's registers, counted from `first`; returns them and the first free slot after them. With `share`,
/// registers that are never live at once share slots (linear scan over live intervals).
pub(crate) fn allocate(body: &Body<'_>, first: u32, share: bool) -> (Vec<u32>, u32) {
    let shared = || {
        let blocks = Blocks::of(body);
        // Beyond this the analysis costs more than it saves.
        if blocks.starts.len().saturating_mul(body.regs.len().div_ceil(64)) > 1 << 22 {
            return None;
        }
        let live = liveness(body, &blocks)?;
        scan(body, first, &intervals(body, &blocks, &live))
    };
    share.then(shared).flatten().unwrap_or_else(|| apart(body, first))
}

/// The most 32-bit registers that are live at once; `None` if that takes too long to find.
pub(crate) fn pressure(body: &Body<'_>) -> Option<u32> {
    let blocks = Blocks::of(body);
    if blocks.starts.len().saturating_mul(body.regs.len().div_ceil(64)) > 1 << 22 {
        return None;
    }
    let live = liveness(body, &blocks)?;
    let weight = |r: usize| if body.regs[r].pred == 0 { unit(body, r) } else { 0 };
    let (mut defs, mut uses) = (Vec::new(), Vec::new());
    let mut most = 0;
    for b in 0..blocks.starts.len() {
        let mut now = live.end[b * live.words..(b + 1) * live.words].to_vec();
        let mut sum: u32 = (0..body.regs.len()).filter(|r| now[r / 64] >> (r % 64) & 1 != 0).map(weight).sum();
        most = most.max(sum);
        for k in blocks.range(b).rev() {
            effects(&body.flats[k], &mut defs, &mut uses);
            for (list, alive) in [(&defs, false), (&uses, true)] {
                for r in list.iter().map(|&r| r as usize) {
                    let bit = 1 << (r % 64);
                    if (now[r / 64] & bit != 0) != alive {
                        now[r / 64] ^= bit;
                        sum = if alive { sum + weight(r) } else { sum - weight(r) };
                    }
                }
            }
            most = most.max(sum);
        }
    }
    Some(most)
}

/// Slots of a register: two for 64 bits.
fn unit(body: &Body<'_>, r: usize) -> u32 {
    if body.regs[r].wide() { 2 } else { 1 }
}

/// Slots of its own for each register.
fn apart(body: &Body<'_>, first: u32) -> (Vec<u32>, u32) {
    let mut at = first;
    let slots = (0..body.regs.len())
        .map(|r| {
            let slot = at;
            if body.regs[r].pred == 0 {
                at += unit(body, r);
            }
            slot
        })
        .collect();
    (slots, at)
}

/// The basic blocks of a function: leaders are targets of jumps and what follows a jump.
struct Blocks {
    /// The first instruction of each block.
    starts: Vec<usize>,
    /// The block of each instruction.
    of: Vec<u32>,
}

impl Blocks {
    fn of(body: &Body<'_>) -> Blocks {
        let n = body.flats.len();
        let mut leader = vec![false; n + 1];
        leader[0] = true;
        let mut next = Vec::new();
        for k in 0..n {
            successors(body, k, &mut next);
            if next.as_slice() != [k + 1] {
                leader[k + 1] = true;
                for &t in &next {
                    leader[t.min(n)] = true;
                }
            }
        }
        let starts: Vec<usize> = (0..n).filter(|&k| leader[k]).collect();
        let mut blocks = Blocks { of: vec![0u32; n + 1], starts };
        for b in 0..blocks.starts.len() {
            let range = blocks.range(b);
            blocks.of[range].fill(b as u32);
        }
        blocks
    }

    /// The instructions of a block.
    fn range(&self, b: usize) -> std::ops::Range<usize> {
        self.starts[b]..self.starts.get(b + 1).copied().unwrap_or(self.of.len() - 1)
    }
}

/// Bit sets of the registers that are live at the start and at the end of each block.
struct Live {
    words: usize,
    start: Vec<u64>,
    end: Vec<u64>,
}

/// Live registers by iteration to a fixed point; `None` if that takes too long.
fn liveness(body: &Body<'_>, blocks: &Blocks) -> Option<Live> {
    let (n, count) = (body.flats.len(), blocks.starts.len());
    let words = body.regs.len().div_ceil(64);
    let mut generated = vec![0u64; count * words];
    let mut killed = vec![0u64; count * words];
    let (mut defs, mut uses) = (Vec::new(), Vec::new());
    for b in 0..count {
        for k in blocks.range(b) {
            effects(&body.flats[k], &mut defs, &mut uses);
            for &r in &uses {
                let (w, bit) = (b * words + r as usize / 64, 1u64 << (r % 64));
                if killed[w] & bit == 0 {
                    generated[w] |= bit;
                }
            }
            for &r in &defs {
                killed[b * words + r as usize / 64] |= 1 << (r % 64);
            }
        }
    }
    let mut live = Live { words, start: generated.clone(), end: vec![0u64; count * words] };
    let mut next = Vec::new();
    for _ in 0..200 {
        let mut changed = false;
        for b in (0..count).rev() {
            successors(body, blocks.range(b).end - 1, &mut next);
            for &t in next.iter().filter(|&&t| t < n) {
                let s = blocks.of[t] as usize;
                for w in 0..words {
                    live.end[b * words + w] |= live.start[s * words + w];
                }
            }
            for w in b * words..(b + 1) * words {
                let new = generated[w] | live.end[w] & !killed[w];
                changed |= new != live.start[w];
                live.start[w] = new;
            }
        }
        if !changed {
            return Some(live);
        }
    }
    None
}

/// For each register the first and last instruction between which it is live; `usize::MAX` for one that never is.
fn intervals(body: &Body<'_>, blocks: &Blocks, live: &Live) -> Vec<(usize, usize)> {
    let mut of = vec![(usize::MAX, 0usize); body.regs.len()];
    let mut touch = |r: usize, k: usize| of[r] = (of[r].0.min(k), of[r].1.max(k));
    let (mut defs, mut uses) = (Vec::new(), Vec::new());
    for b in 0..blocks.starts.len() {
        let range = blocks.range(b);
        for w in 0..live.words {
            let mut each = |mut bits: u64, k: usize| {
                while bits != 0 {
                    touch(w * 64 + bits.trailing_zeros() as usize, k);
                    bits &= bits - 1;
                }
            };
            each(live.start[b * live.words + w], range.start);
            each(live.end[b * live.words + w], range.end);
        }
        for k in range {
            effects(&body.flats[k], &mut defs, &mut uses);
            for &r in defs.iter().chain(&uses) {
                touch(r as usize, k);
            }
        }
    }
    of
}

/// Gives each interval the first slot that is free; `None` if that needs more than the file can number.
fn scan(body: &Body<'_>, first: u32, live: &[(usize, usize)]) -> Option<(Vec<u32>, u32)> {
    let count = body.regs.len();
    let mut order: Vec<usize> = (0..count).filter(|&r| body.regs[r].pred == 0 && live[r].0 != usize::MAX).collect();
    order.sort_by_key(|&r| (live[r].0, r));
    // A pool for each width: the lanes of a wide register lie elsewhere in its units than those of narrow ones, so a unit
    // of both would let one lane write what another, at a different place of the program, still needs.
    let mut pools = [Vec::<usize>::new(), Vec::new()]; // The instruction from which a place is free.
    let mut place = vec![0usize; count];
    for &r in &order {
        let pool = &mut pools[usize::from(unit(body, r) == 2)];
        // An instruction's destination never shares with its sources.
        let at = pool.iter().position(|&f| f < live[r].0).unwrap_or(pool.len());
        if at > usize::from(u16::MAX) {
            return None;
        }
        if at == pool.len() {
            pool.push(0);
        }
        pool[at] = live[r].1;
        place[r] = at;
    }
    let narrow = pools[0].len() as u32;
    let mut slots = vec![first; count];
    for &r in &order {
        slots[r] = first + if unit(body, r) == 2 { narrow + 2 * place[r] as u32 } else { place[r] as u32 };
    }
    Some((slots, first + narrow + 2 * pools[1].len() as u32))
}
