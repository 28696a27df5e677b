//! What an instruction of PTX becomes in machine code: how many instructions are issued for it.
//!
//! PTX has one operation an instruction and computes addresses where they are used; the assembler does more. The rules here
//! are those of its output (NVRTC 12.9, sm_80 to sm_90) that a static look at the function can follow:
//!
//! - **Hoisted**: integer arithmetic in a loop whose operands do not change there is done before the loop.
//! - **Folded**: a constant offset into the address of an access; a shift or product into the addition after it (`LEA`,
//!   `IMAD`); a sum into the next sum (`IADD3`); a logic operation into the next one (`LOP3`); logic on predicates into the
//!   comparison.
//! - **Free**: moves between registers, conversions between 32 and 64 bits, parameters (operands in the constant bank), signs.
//! - **Merged**: scalar loads of neighbouring words of shared memory become one of 8 or 16 bytes.
//! - **Several**: 64-bit integers are pairs of registers; divisions and exact roots are short programs.

use std::collections::HashMap;
use std::ops::Range;

use super::allocate::{effects, successors};
use super::flatten::{Base, Body, Flat, Opnd, RegId};
use crate::program::Cost;
use crate::ptx::syntax::Ty;

/// The costs of a function's instructions.
pub(crate) fn of(body: &Body<'_>) -> Vec<Cost> {
    let flow = Flow::of(body);
    let mut costs: Vec<Cost> = body.flats.iter().map(alone).collect();
    let mut absorbed = vec![false; costs.len()];
    for k in 0..costs.len() {
        if flow.invariant[k] || costs[k].issue > 0 && folds(body, &flow, &mut absorbed, &mut costs, k) {
            costs[k].issue = 0;
        }
    }
    merge_loads(body, &flow, &mut costs);
    costs
}

fn ty(flat: &Flat<'_>) -> Option<Ty> {
    flat.instr.mods.iter().filter_map(|m| Ty::parse(m)).next_back()
}

fn has(flat: &Flat<'_>, modifier: &str) -> bool {
    flat.instr.mods.contains(&modifier)
}

/// An instruction by itself.
fn alone(flat: &Flat<'_>) -> Cost {
    let ty = ty(flat);
    let integer = ty.is_some_and(|ty| !matches!(ty, Ty::F16 | Ty::F16x2 | Ty::BF16 | Ty::BF16x2 | Ty::F32 | Ty::F64));
    let wide = integer && ty.is_some_and(|ty| ty.bytes() == 8);
    let exact = has(flat, "rn") || has(flat, "rz") || has(flat, "rm") || has(flat, "rp");
    let issue = match flat.instr.op {
        // A half's two parts are packed by one instruction, and unpacked by none.
        "mov" if matches!(flat.operands.get(1), Some(Opnd::Vector(_))) => 1,
        "mov" | "cvta" => u8::from(matches!(flat.operands.get(1), Some(Opnd::Special(_) | Opnd::Clock(_)))),
        // Sign extension is one shift, to zeros and to the low half none.
        "cvt" if integer && ["u64", "s64"].iter().any(|m| has(flat, m)) => u8::from(has(flat, "s32")),
        "neg" | "abs" if !integer => 0,
        "ld" if has(flat, "param") => 0,
        "and" | "or" | "xor" | "not" if ty == Some(Ty::Pred) => 0,
        "mul" | "mad" if has(flat, "wide") => 1,
        "mul" | "mad" if wide => 4,
        "div" | "rem" if wide => 60,
        "div" | "rem" if integer => 18,
        "div" if ty == Some(Ty::F64) => 20,
        "div" if exact => 9,
        "div" => 3,
        "sqrt" | "rcp" if exact => 7,
        // Small numbers are scaled before and after.
        "ex2" | "lg2" | "sqrt" if ty == Some(Ty::F32) && !has(flat, "ftz") => 4,
        "bfi" | "bfe" => 2,
        "ld" | "st" | "atom" | "red" | "cp" => 1,
        "min" | "max" if wide => 4,
        _ => 1 + u8::from(wide),
    };
    let uncached = ["cg", "cv", "volatile", "relaxed", "acquire", "mmio"].iter().any(|m| has(flat, m));
    Cost { issue, uncached, ..Cost::default() }
}

/// Definitions, uses and loops of a function.
struct Flow {
    /// Where each register is defined and used.
    defs: Vec<Vec<usize>>,
    uses: Vec<Vec<usize>>,
    /// The basic block of each instruction, by its first one.
    block: Vec<usize>,
    /// Whether an instruction computes the same in each iteration of its innermost loop.
    invariant: Vec<bool>,
}

impl Flow {
    fn of(body: &Body<'_>) -> Flow {
        let n = body.flats.len();
        let (mut defs, mut uses) = (vec![Vec::new(); body.regs.len()], vec![Vec::new(); body.regs.len()]);
        let mut starts = vec![false; n + 1];
        let mut inside: Vec<Option<Range<usize>>> = vec![None; n];
        let (mut next, mut defined, mut used) = (Vec::new(), Vec::new(), Vec::new());
        for (k, flat) in body.flats.iter().enumerate() {
            effects(flat, &mut defined, &mut used);
            defined.iter().for_each(|&r| defs[r as usize].push(k));
            used.iter().for_each(|&r| uses[r as usize].push(k));
            successors(body, k, &mut next);
            if next.as_slice() == [k + 1] {
                continue;
            }
            starts[k + 1] = true;
            for &to in &next {
                starts[to.min(n)] = true;
                for place in inside.get_mut(to..=k).unwrap_or_default() {
                    // Loops end in the order of the code, so an inner one comes first.
                    if place.is_none() {
                        *place = Some(to..k + 1);
                    }
                }
            }
        }
        let mut block = vec![0; n];
        for k in 1..n {
            block[k] = if starts[k] { k } else { block[k - 1] };
        }
        let mut flow = Flow { defs, uses, block, invariant: vec![false; n] };
        for (k, flat) in body.flats.iter().enumerate() {
            let Some(range) = inside[k].clone().filter(|_| computes(flat)) else { continue };
            effects(flat, &mut defined, &mut used);
            let within =
                |r: RegId| flow.defs[r as usize].iter().copied().filter(|d| range.contains(d)).collect::<Vec<_>>();
            let stays = |r: &RegId| within(*r).iter().all(|&d| d < k && flow.invariant[d]);
            flow.invariant[k] = used.iter().all(stays) && defined.iter().all(|&r| within(r).len() == 1);
        }
        flow
    }

    /// The one use of an instruction's result, in the same block.
    fn only_use(&self, flat: &Flat<'_>, k: usize) -> Option<usize> {
        let r = destination(flat)?;
        match (self.defs[r as usize].as_slice(), self.uses[r as usize].as_slice()) {
            ([_], &[use_]) if self.block[use_] == self.block[k] => Some(use_),
            _ => None,
        }
    }
}

fn destination(flat: &Flat<'_>) -> Option<RegId> {
    match flat.operands.first() {
        Some(Opnd::Reg(r)) => Some(*r),
        _ => None,
    }
}

/// Integer arithmetic on registers and constants alone.
fn computes(flat: &Flat<'_>) -> bool {
    let op = matches!(
        flat.instr.op,
        "add"
            | "sub"
            | "mul"
            | "mad"
            | "and"
            | "or"
            | "xor"
            | "not"
            | "shl"
            | "shr"
            | "bfe"
            | "bfi"
            | "cvt"
            | "min"
            | "max"
    );
    let integer = ty(flat).is_some_and(|ty| {
        matches!(ty, Ty::B32 | Ty::B64 | Ty::U32 | Ty::U64 | Ty::S32 | Ty::S64)
            && !has(flat, "f32")
            && !has(flat, "f16")
    });
    op && integer && flat.guard == 0 && !flat.operands.iter().any(|o| matches!(o, Opnd::Pred(..)))
}

/// Whether the instruction becomes part of those that use its result.
fn folds(body: &Body<'_>, flow: &Flow, absorbed: &mut [bool], costs: &mut [Cost], k: usize) -> bool {
    let flat = &body.flats[k];
    let (Some(r), true) = (destination(flat), computes(flat)) else { return false };
    let op = flat.instr.op;
    let constant = flat.operands.iter().any(|o| matches!(o, Opnd::Int(_)));
    let is_base =
        |&u: &usize| body.flats[u].operands.iter().any(|o| matches!(o, Opnd::Address(Base::Reg(b), _) if *b == r));
    let uses = &flow.uses[r as usize];
    if op == "add" && constant && uses.iter().all(is_base) {
        return true;
    }
    let is_sum = |at: usize| matches!(body.flats[at].instr.op, "add" | "sub") && computes(&body.flats[at]);
    if op == "mul" && has(flat, "wide") && !uses.is_empty() && uses.iter().all(|&at| is_sum(at)) {
        // Each 64-bit sum becomes one instruction with the product in it.
        uses.iter().for_each(|&at| costs[at].issue = 1);
        return true;
    }
    let Some(at) = flow.only_use(flat, k).filter(|&at| !absorbed[at] && computes(&body.flats[at])) else {
        return false;
    };
    let to = body.flats[at].instr.op;
    let logic = |op: &str| matches!(op, "and" | "or" | "xor" | "not");
    let fits = match op {
        "cvt" => is_sum(at) || to == "shl",
        "shl" | "mul" => is_sum(at),
        // What has three inputs already is computed.
        "add" | "sub" => !absorbed[k] && is_sum(at) && costs[at].issue == 1,
        _ => !absorbed[k] && logic(op) && logic(to),
    };
    absorbed[at] |= fits && op != "cvt";
    fits
}

/// Merges scalar loads from shared memory at neighbouring offsets from one base in a block: the first of them becomes the
/// load of all, the others cost nothing.
fn merge_loads(body: &Body<'_>, flow: &Flow, costs: &mut [Cost]) {
    // By block, base and version of the base: the instructions with their offsets.
    let mut groups: HashMap<(usize, RegId, usize), Vec<(i64, usize)>> = HashMap::new();
    let mut version = 0;
    for (k, flat) in body.flats.iter().enumerate() {
        let i = flat.instr;
        // What others may have written is loaded again.
        version += usize::from(matches!(i.op, "st" | "bar" | "barrier" | "atom" | "red"));
        let scalar = i.op == "ld" && i.mods.first() == Some(&"shared") && i.mods.len() == 2 && flat.guard == 0;
        let words = ty(flat).is_some_and(|ty| ty.bytes() == 4);
        if let (true, Some(Opnd::Address(Base::Reg(base), offset))) = (scalar && words, flat.operands.get(1)) {
            let redefined = flow.defs[*base as usize].iter().filter(|&&d| d < k).count();
            groups.entry((flow.block[k], *base, version << 16 | redefined)).or_default().push((*offset, k));
        }
    }
    for mut loads in groups.into_values() {
        loads.sort_unstable();
        loads.dedup_by_key(|(offset, _)| *offset);
        let mut rest = loads.as_slice();
        while let Some(&(first, _)) = rest.first() {
            let run = rest.iter().zip(0..4).take_while(|((offset, _), n)| *offset == first.wrapping_add(4 * n)).count();
            let (now, later) = rest.split_at(if run == 3 { 2 } else { run });
            for &(_, k) in now {
                costs[k] = Cost { issue: 0, elements: 0, ..costs[k] };
            }
            if let Some(&(offset, leader)) = now.iter().min_by_key(|(_, k)| k) {
                let (elements, back) = (now.len() as u8, (offset - first) as u8);
                costs[leader] = Cost { issue: 1, elements, back, ..costs[leader] };
            }
            rest = later;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is issued for each instruction of a body.
    fn costs(body: &str) -> Vec<Cost> {
        let text = format!(
            ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 p)\n{{\n\
             .reg .pred %p<9>;\n.reg .f32 %f<99>;\n.reg .b32 %r<99>;\n.reg .b64 %rd<99>;\n{body}\n}}\n"
        );
        let unit = crate::ptx::parser::parse(&text).unwrap();
        of(&Body::new(&unit.functions[0], &mut 0).unwrap())
    }

    #[track_caller]
    fn issues(body: &str, expected: &[u8]) {
        let issued: Vec<u8> = costs(body).iter().map(|cost| cost.issue).collect();
        assert_eq!(issued, expected, "{body}");
    }

    #[test]
    fn moves_parameters_and_extensions_are_free_and_pairs_of_registers_cost_two() {
        issues(
            "ld.param.u64 %rd1, [p]; cvta.to.global.u64 %rd2, %rd1; mov.u32 %r1, 7; mov.u32 %r2, %tid.x; ret;",
            &[0, 0, 0, 1, 1],
        );
        issues(
            "cvt.u64.u32 %rd1, %r1; cvt.u32.u64 %r2, %rd1; cvt.s64.s32 %rd3, %r1; cvt.rn.f32.s32 %f1, %r1;",
            &[0, 0, 1, 1],
        );
        issues(
            "add.s64 %rd1, %rd2, %rd3; mul.lo.s64 %rd4, %rd2, %rd3; and.b64 %rd5, %rd2, %rd3; neg.f32 %f1, %f2;",
            &[2, 4, 2, 0],
        );
        issues("div.s32 %r1, %r2, %r3; div.rn.f32 %f1, %f2, %f3; rcp.approx.f32 %f4, %f5;", &[18, 9, 1]);
        issues(
            "setp.lt.s32 %p1, %r1, 5; setp.gt.s32 %p2, %r1, 1; and.pred %p3, %p1, %p2; @%p3 bra L; L: ret;",
            &[1, 1, 0, 1, 1],
        );
    }

    #[test]
    fn addresses_fold_into_accesses_and_products_into_sums() {
        issues("add.s32 %r2, %r1, 64; ld.shared.f32 %f1, [%r2];", &[0, 1]);
        issues("add.s32 %r2, %r1, %r3; ld.shared.f32 %f1, [%r2];", &[1, 1]);
        issues("add.s32 %r2, %r1, 64; ld.shared.f32 %f1, [%r2]; st.shared.u32 [%r1], %r2;", &[1, 1, 1]);
        issues("mul.wide.s32 %rd1, %r1, 4; add.s64 %rd2, %rd3, %rd1; ld.global.f32 %f1, [%rd2];", &[0, 1, 1]);
        issues(
            "mul.lo.s32 %r1, %r2, %r3; add.s32 %r4, %r1, %r5; shl.b32 %r6, %r7, 2; add.s32 %r8, %r6, %r9;",
            &[0, 1, 0, 1],
        );
        // Three inputs each: of four sums in a row, two instructions; of three logic operations, two.
        issues(
            "add.s32 %r1, %r2, %r3; add.s32 %r4, %r1, %r5; add.s32 %r6, %r4, %r7; add.s32 %r8, %r6, %r9;",
            &[0, 1, 0, 1],
        );
        issues("and.b32 %r1, %r2, %r3; xor.b32 %r4, %r1, %r5; or.b32 %r6, %r4, %r7;", &[0, 1, 1]);
        // A value that is used twice is computed.
        issues("shl.b32 %r1, %r2, 2; add.s32 %r3, %r1, %r4; add.s32 %r5, %r1, %r6;", &[1, 1, 1]);
    }

    #[test]
    fn what_a_loop_does_not_change_is_computed_before_it() {
        issues(
            "shr.u32 %r9, %r8, 1;
             L: shr.u32 %r1, %r8, 5; and.b32 %r2, %r1, 7; add.s32 %r3, %r2, %r4; ld.shared.f32 %f1, [%r3];
             add.s32 %r4, %r4, 1; setp.lt.s32 %p1, %r4, 9; @%p1 bra L; ret;",
            &[1, 0, 0, 1, 1, 1, 1, 1, 1],
        );
    }

    #[test]
    fn neighbouring_words_of_shared_memory_are_loaded_together() {
        let of = |body: &str| costs(body).iter().map(|c| (c.issue, c.elements, c.back)).collect::<Vec<_>>();
        let loads =
            |offsets: &[i32]| offsets.iter().map(|o| format!("ld.shared.f32 %f1, [%r1+{o}];")).collect::<String>();
        assert_eq!(of(&loads(&[0, 4, 8, 12, 16])), [(1, 4, 0), (0, 0, 0), (0, 0, 0), (0, 0, 0), (1, 1, 0)]);
        assert_eq!(of(&loads(&[4, 64, 0, 68])), [(1, 2, 4), (1, 2, 0), (0, 0, 0), (0, 0, 0)], "in any order");
        assert_eq!(of(&loads(&[0, 4, 8])), [(1, 2, 0), (0, 0, 0), (1, 1, 0)], "there is no load of 12 bytes");
        assert_eq!(of(&loads(&[0, 8, 32])), [(1, 1, 0); 3]);
        let between = |what: &str| of(&format!("{}{what}{}", loads(&[0]), loads(&[4])));
        assert_eq!(between("bar.sync 0;"), [(1, 1, 0); 3]);
        assert_eq!(between("st.shared.f32 [%r2], %f2;"), [(1, 1, 0); 3]);
        assert_eq!(between("add.s32 %r1, %r1, 4;")[2], (1, 1, 0), "from another base");
    }
}
