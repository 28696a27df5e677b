//! Registers to slots: two registers share a slot when no instruction needs both.
//!
//! Each lane of a slot belongs to one thread, so what is right for one thread's control flow is right for the warp.

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

/// Slots of a function's registers, counted from `first`; returns them and the first free slot after them.
pub(crate) fn allocate(body: &Body<'_>, first: u32, share: bool) -> (Vec<u32>, u32) {
    let count = body.regs.len();
    let unit = |r: usize| if body.regs[r].wide() { 2 } else { 1 };
    let apart = || {
        let mut at = first;
        let slots = (0..count)
            .map(|r| {
                let slot = at;
                if body.regs[r].pred == 0 {
                    at += unit(r);
                }
                slot
            })
            .collect();
        (slots, at)
    };
    // Blocks: leaders are labels' targets and what follows a jump.
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
    let blocks = starts.len();
    let words = count.div_ceil(64);
    // Beyond this the analysis costs more than it saves.
    if !share || blocks.saturating_mul(words) > 1 << 22 {
        return apart();
    }
    let mut block_of = vec![0u32; n + 1];
    for (b, &s) in starts.iter().enumerate() {
        let end = starts.get(b + 1).copied().unwrap_or(n);
        block_of[s..end].fill(b as u32);
    }
    let mut generated = vec![0u64; blocks * words];
    let mut killed = vec![0u64; blocks * words];
    let (mut defs, mut uses) = (Vec::new(), Vec::new());
    for b in 0..blocks {
        let end = starts.get(b + 1).copied().unwrap_or(n);
        for k in starts[b]..end {
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
    let mut live_in = generated.clone();
    let mut live_out = vec![0u64; blocks * words];
    let mut changed = true;
    let mut rounds = 0;
    while changed {
        changed = false;
        rounds += 1;
        if rounds > 200 {
            return apart();
        }
        for b in (0..blocks).rev() {
            let end = starts.get(b + 1).copied().unwrap_or(n);
            successors(body, end - 1, &mut next);
            for &t in &next {
                if t >= n {
                    continue;
                }
                let s = block_of[t] as usize;
                for w in 0..words {
                    live_out[b * words + w] |= live_in[s * words + w];
                }
            }
            for w in 0..words {
                let new = generated[b * words + w] | live_out[b * words + w] & !killed[b * words + w];
                if new != live_in[b * words + w] {
                    live_in[b * words + w] = new;
                    changed = true;
                }
            }
        }
    }
    // Intervals that cover all places where a register is live.
    let mut from = vec![usize::MAX; count];
    let mut to = vec![0usize; count];
    let mut touch = |r: usize, k: usize| {
        from[r] = from[r].min(k);
        to[r] = to[r].max(k);
    };
    for b in 0..blocks {
        let end = starts.get(b + 1).copied().unwrap_or(n);
        for w in 0..words {
            let mut each = |mut bits: u64, k: usize| {
                while bits != 0 {
                    touch(w * 64 + bits.trailing_zeros() as usize, k);
                    bits &= bits - 1;
                }
            };
            each(live_in[b * words + w], starts[b]);
            each(live_out[b * words + w], end);
        }
        for k in starts[b]..end {
            effects(&body.flats[k], &mut defs, &mut uses);
            for &r in defs.iter().chain(&uses) {
                touch(r as usize, k);
            }
        }
    }
    let mut order: Vec<usize> = (0..count).filter(|&r| body.regs[r].pred == 0 && from[r] != usize::MAX).collect();
    order.sort_by_key(|&r| (from[r], r));
    // A pool for each width: the lanes of a wide register lie elsewhere in its units than those of narrow ones, so a unit
    // of both would let one lane write what another, at a different place of the program, still needs.
    let mut pools = [Vec::<usize>::new(), Vec::new()]; // The instruction from which a place is free.
    let mut place = vec![0usize; count];
    for &r in &order {
        let pool = &mut pools[usize::from(unit(r) == 2)];
        // An instruction's destination never shares with its sources.
        let at = pool.iter().position(|&f| f < from[r]).unwrap_or(pool.len());
        // More than the file can number: the caller says so.
        if at > usize::from(u16::MAX) {
            return apart();
        }
        if at == pool.len() {
            pool.push(0);
        }
        pool[at] = to[r];
        place[r] = at;
    }
    let narrow = pools[0].len() as u32;
    let mut slots = vec![first; count];
    for &r in &order {
        slots[r] = first + if unit(r) == 2 { narrow + 2 * place[r] as u32 } else { place[r] as u32 };
    }
    (slots, first + narrow + 2 * pools[1].len() as u32)
}
