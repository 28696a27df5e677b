//! Which loads wait for another thread: what they read decides whether a loop goes on.

use super::{
    allocate::successors,
    flatten::{Base, Body, Flat, Opnd},
};

/// A register, or a predicate by its number.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Value {
    Register(u32),
    Predicate(u16),
}

fn collect(o: &Opnd<'_>, out: &mut Vec<Value>) {
    match o {
        Opnd::Reg(r) | Opnd::Address(Base::Reg(r), _) | Opnd::Symbol(Base::Reg(r), _) => out.push(Value::Register(*r)),
        Opnd::Pred(p, _) => out.push(Value::Predicate(*p)),
        Opnd::Vector(list) | Opnd::List(list) => list.iter().for_each(|o| collect(o, out)),
        Opnd::Pair(a, b) => {
            collect(a, out);
            collect(b, out);
        }
        _ => {}
    }
}

/// Whether a load is part of a loop without a barrier that is left, or not, by what it reads.
pub(super) fn is_wait(body: &Body<'_>, load: &Flat<'_>) -> bool {
    let Some(at) = body.flats.iter().position(|flat| std::ptr::eq(flat, load)) else { return false };
    let mut next = Vec::new();
    // The smallest loop around it: a jump back from behind it to before it.
    let around = (at..body.flats.len()).find_map(|end| {
        successors(body, end, &mut next);
        next.iter().copied().filter(|&start| start <= at).max().map(|start| start..end + 1)
    });
    let Some(around) = around else { return false };
    let barrier = |flat: &Flat<'_>| matches!(flat.instr.op, "bar" | "barrier") && !flat.instr.mods.contains(&"warp");
    if body.flats[around.clone()].iter().any(barrier) {
        return false;
    }
    let mut read = Vec::new();
    if let Some(destination) = load.operands.first() {
        collect(destination, &mut read);
    }
    // What depends on it, within the loop.
    for flat in &body.flats[at + 1..around.end] {
        let depends = |o: &Opnd<'_>| {
            let mut values = Vec::new();
            collect(o, &mut values);
            values.iter().any(|value| read.contains(value))
        };
        let guarded = flat.guard != 0 && read.contains(&Value::Predicate(flat.guard >> 1));
        if matches!(flat.instr.op, "bra" | "ret" | "exit") {
            if guarded {
                return true;
            }
        } else if (guarded || flat.operands.iter().skip(1).any(depends))
            && let Some(destination) = flat.operands.first()
        {
            collect(destination, &mut read);
        }
    }
    false
}
