//! A kernel and its callees, laid out as one program.

use std::collections::{HashMap, HashSet};

use super::{Base, Body, FunctionState, Home, LocalPlace, Lowering, Opnd, Result, Symbols, allocate, control::aligned};
use crate::program::{Entry, Program};
use crate::ptx::{
    Error,
    syntax::{Function, Unit, VarSpace},
};

/// Local memory of a thread whose functions call themselves.
const STACK: u32 = 1 << 16;
/// Local memory that a thread may declare.
const MOST_LOCAL: u64 = 512 << 10;

/// Lowers a kernel and the functions that it calls.
pub(crate) fn program<'a>(unit: &Unit<'a>, symbols: &Symbols<'a>, kernel: &Function<'a>, sm: u32) -> Result<Program> {
    let functions = reachable(unit, symbols, kernel)?;
    let mut d = Lowering::new(unit, symbols, sm);
    // Predicate 0 is always true; 1 is the sink of unread results.
    d.next_pred = 1;
    layout_shared(&mut d, unit, &functions)?;
    let (edges, indirect) = call_edges(symbols, &functions);
    d.recursion = recursion(&functions, &edges, &indirect);
    d.out.recursive = !d.recursion.is_empty();
    d.stack_slot = d.take_slots(1)?;
    d.out.stack_slot = d.stack_slot;
    // Registers and local memory of each function, a place of its own for each.
    let mut contexts = Vec::new();
    let mut local = 0u64;
    // The arguments of calls go through the start of local memory; how much they take is known only by their types.
    let abi = functions
        .iter()
        .map(|f| f.function)
        .chain(unit.functions.iter().filter(|f| f.body.is_none()))
        .map(|f| {
            let size =
                |v: &[crate::ptx::syntax::Variable<'_>]| v.iter().fold(0u64, |s, v| s.saturating_add(v.bytes() + 16));
            size(&f.params).max(size(&f.rets))
        })
        .max()
        .unwrap_or(0);
    let prototypes = 4096;
    if functions.len() > 1 || !indirect.is_empty() {
        local = abi.max(if indirect.is_empty() { 0 } else { prototypes }).next_multiple_of(16);
    }
    for f in &functions {
        let recursive = d.recursion.iter().any(|&(from, _)| from == f.number);
        contexts.push(context(&mut d, f.function, f.number, recursive, &mut local)?);
        if local > MOST_LOCAL {
            return Err(Error::new(f.function.line, format!("`{}` needs too much local memory", f.function.name)));
        }
    }
    // As ptxas does, lest the end of the dynamic part be cut off by what its beginning was moved up.
    let align = d.dynamic.iter().map(|&(_, align)| align).max().unwrap_or(1);
    d.out.static_shared = d.out.static_shared.next_multiple_of(align);
    let fixed = local as u32;
    d.out.stack = d.out.recursive.then_some(fixed);
    // Callees come first, so that their lanes run before the caller's go on.
    let order = callees_first(&functions, &edges);
    let mut starts = HashMap::new();
    let mut links = HashMap::new();
    for k in order {
        let f = &functions[k];
        starts.insert(f.number, d.out.code.len() as u32);
        links.insert(f.number, contexts[k].link);
        if f.function.entry {
            d.out.entry = d.out.code.len() as u32;
        }
        contexts[k].first_table = d.out.tables.len();
        prologue(&mut d, &contexts[k], f.function)?;
        d.body(&contexts[k], f.function.end)?;
    }
    for (call, n) in std::mem::take(&mut d.calls_to) {
        let op = &mut d.out.calls[call as usize];
        op.target = starts.get(&n).copied();
        op.link = links.get(&n).copied().unwrap_or(0);
        if op.target.is_none() {
            return Err(Error::new(kernel.line, "a call of a function without a body"));
        }
    }
    // Functions whose address is taken, by number.
    if !indirect.is_empty() {
        let most = symbols.functions.len();
        let nowhere = Entry { start: u32::MAX, link: 0 };
        d.out.entries = vec![nowhere; most];
        for (n, &start) in &starts {
            if let Some(e) = d.out.entries.get_mut(*n as usize) {
                *e = Entry { start, link: links[n] };
            }
        }
    }
    let abi_needed = d.abi;
    if u64::from(abi_needed) > local && abi_needed > 0 {
        return Err(Error::new(kernel.line, "a call passes more than its function takes"));
    }
    let stack = if d.out.recursive { STACK } else { 0 };
    d.out.local_bytes = (fixed + stack).next_multiple_of(16);
    Ok(d.finish())
}

struct Reached<'f, 'a> {
    function: &'f Function<'a>,
    number: u32,
}

/// The kernel, then the functions that it reaches: by name, or all whose address is taken when it calls indirectly.
fn reachable<'f, 'a>(
    unit: &'f Unit<'a>,
    symbols: &Symbols<'a>,
    kernel: &'f Function<'a>,
) -> Result<Vec<Reached<'f, 'a>>> {
    let bodies: HashMap<&str, &Function<'a>> =
        unit.functions.iter().filter(|f| f.body.is_some() && !f.entry).map(|f| (f.name, f)).collect();
    let mut out = vec![Reached { function: kernel, number: u32::MAX - 1 }];
    let mut seen = HashSet::new();
    let mut indirect = false;
    let mut k = 0;
    loop {
        while k < out.len() {
            for name in mentioned(out[k].function, &mut indirect) {
                if let Some(f) = bodies.get(name)
                    && seen.insert(name)
                    && let Some(&number) = symbols.functions.get(name)
                {
                    out.push(Reached { function: f, number });
                }
            }
            k += 1;
        }
        if !indirect {
            return Ok(out);
        }
        // Tables of functions in global memory, and what any kernel may have put there.
        indirect = false;
        let tables = unit.variables.iter().flat_map(|variable| &variable.init).filter_map(|init| match init {
            crate::ptx::syntax::Init::Address { symbol, .. } => Some(*symbol),
            _ => None,
        });
        for name in tables.chain(unit.functions.iter().flat_map(addressed)) {
            if let Some(f) = bodies.get(name)
                && seen.insert(name)
                && let Some(&number) = symbols.functions.get(name)
            {
                out.push(Reached { function: f, number });
            }
        }
    }
}

/// Names that a function's instructions mention; sets the flag at an indirect call.
fn mentioned<'a>(f: &Function<'a>, indirect: &mut bool) -> Vec<&'a str> {
    names_in(f, true, indirect)
}

/// Names whose address a function takes.
fn addressed<'a>(f: &Function<'a>) -> Vec<&'a str> {
    names_in(f, false, &mut false)
}

fn names_in<'a>(f: &Function<'a>, calls: bool, indirect: &mut bool) -> Vec<&'a str> {
    use crate::ptx::syntax::{Operand, Stmt};
    fn names<'a>(o: &Operand<'a>, out: &mut Vec<&'a str>) {
        match o {
            Operand::Name(n) | Operand::Sum(n, _) | Operand::Address(Some(n), _) => out.push(n),
            Operand::Vector(v) | Operand::List(v) => v.iter().for_each(|o| names(o, out)),
            Operand::Pair(a, b) => {
                names(a, out);
                names(b, out);
            }
            _ => {}
        }
    }
    fn walk<'a>(stmts: &[Stmt<'a>], calls: bool, out: &mut Vec<&'a str>, indirect: &mut bool) {
        for s in stmts {
            match s {
                Stmt::Instr(i) => {
                    if calls || i.op != "call" {
                        i.operands.iter().for_each(|o| names(o, out));
                    }
                    let target = i.operands.iter().find(|o| !matches!(o, Operand::List(_)));
                    if i.op == "call" && matches!(target, Some(Operand::Name(n)) if n.starts_with('%')) {
                        *indirect = true;
                    }
                }
                Stmt::Block(b) => walk(b, calls, out, indirect),
                _ => {}
            }
        }
    }
    let mut out = Vec::new();
    walk(f.body.as_deref().unwrap_or(&[]), calls, &mut out, indirect);
    out
}

type Edges = HashMap<u32, Vec<u32>>;

/// The call graph by name, and the functions that call indirectly.
fn call_edges(symbols: &Symbols<'_>, functions: &[Reached<'_, '_>]) -> (Edges, Vec<u32>) {
    let mut edges = Edges::new();
    let mut indirect = Vec::new();
    for f in functions {
        let mut flag = false;
        let to =
            mentioned(f.function, &mut flag).into_iter().filter_map(|n| symbols.functions.get(n).copied()).collect();
        edges.insert(f.number, to);
        if flag {
            indirect.push(f.number);
        }
    }
    // An indirect call may go to any function here.
    let all: Vec<u32> = functions.iter().filter(|f| !f.function.entry).map(|f| f.number).collect();
    for n in &indirect {
        edges.entry(*n).or_default().extend(&all);
    }
    (edges, indirect)
}

/// The calls, as (caller, callee), from which the caller can be reached again; an indirect one has `u32::MAX`.
fn recursion(functions: &[Reached<'_, '_>], edges: &Edges, indirect: &[u32]) -> HashSet<(u32, u32)> {
    let reaches = |from: u32, to: u32| {
        let mut seen = HashSet::new();
        let mut todo = vec![from];
        while let Some(n) = todo.pop() {
            if n == to {
                return true;
            }
            if seen.insert(n) {
                todo.extend(edges.get(&n).into_iter().flatten());
            }
        }
        false
    };
    let mut out = HashSet::new();
    for f in functions.iter().filter(|f| !f.function.entry) {
        for &to in edges.get(&f.number).into_iter().flatten() {
            if reaches(to, f.number) {
                out.insert((f.number, to));
                if indirect.contains(&f.number) {
                    out.insert((f.number, u32::MAX));
                }
            }
        }
    }
    out
}

/// Positions in `functions` so that callees come before callers, as far as recursion allows.
fn callees_first(functions: &[Reached<'_, '_>], edges: &Edges) -> Vec<usize> {
    let position: HashMap<u32, usize> = functions.iter().enumerate().map(|(k, f)| (f.number, k)).collect();
    let mut state = vec![0u8; functions.len()];
    let mut out = Vec::new();
    let mut stack: Vec<(usize, usize)> = Vec::new();
    for root in 0..functions.len() {
        if state[root] != 0 {
            continue;
        }
        stack.push((root, 0));
        state[root] = 1;
        while let Some((k, next)) = stack.pop() {
            let to = edges.get(&functions[k].number);
            match to.and_then(|t| t.get(next)) {
                Some(n) => {
                    stack.push((k, next + 1));
                    if let Some(&p) = position.get(n)
                        && state[p] == 0
                    {
                        state[p] = 1;
                        stack.push((p, 0));
                    }
                }
                None => out.push(k),
            }
        }
    }
    out
}

/// Gives shared variables of the module and of the functions their offsets.
fn layout_shared<'a>(d: &mut Lowering<'a, '_>, unit: &Unit<'a>, functions: &[Reached<'_, 'a>]) -> Result<()> {
    let mut used = HashSet::new();
    for f in functions {
        used.extend(mentioned(f.function, &mut false));
    }
    let mut at = 0u64;
    let mut dynamic = Vec::new();
    for v in unit.variables.iter().filter(|v| v.space == VarSpace::Shared && used.contains(v.name)) {
        if v.count.is_none() || v.external && v.bytes() == 0 {
            dynamic.push(v);
            continue;
        }
        at = at.next_multiple_of(u64::from(v.alignment()));
        d.shared.insert(v.name, at as u32);
        at = at.saturating_add(v.bytes());
        if at > 1 << 20 {
            return Err(Error::new(v.line, "more than 1 MiB of shared memory"));
        }
    }
    // The functions' own follow.
    d.out.static_shared = at as u32;
    d.dynamic = dynamic.iter().map(|v| (v.name, v.alignment().max(16))).collect();
    Ok(())
}

/// Places a function's variables and registers.
fn context<'f, 'a>(
    d: &mut Lowering<'a, '_>,
    f: &'f Function<'a>,
    number: u32,
    recursive: bool,
    local: &mut u64,
) -> Result<FunctionState<'f>>
where
    'a: 'f,
{
    let first_pred = d.next_pred + 1;
    let body = Body::new(f, &mut d.next_pred)?;
    d.next_pred += 2;
    let carry = d.next_pred - 1;
    let carry = u16::try_from(carry + 1)
        .ok()
        .filter(|&c| c < 1 << 15)
        .map(|c| c - 1)
        .ok_or_else(|| Error::new(f.line, "too many predicates"))?;
    let preds = (first_pred as u16, carry + 2);
    let (slots, end) = allocate::allocate(&body, d.next_slot(), !recursive);
    d.out.registers = d.out.registers.max(allocate::pressure(&body).unwrap_or(end - d.next_slot()));
    let units = end - d.next_slot();
    if end > u32::from(u16::MAX) {
        return Err(Error::new(f.line, format!("`{}` has too many registers", f.name)));
    }
    d.take_slots(units)?;
    let link = d.take_slots(1)?;
    let mut homes = Vec::new();
    let mut param_at = 0u32;
    // A recursive function's variables are counted from the stack pointer.
    let mut frame = 0u64;
    let (mut params, mut rets) = (Vec::new(), Vec::new());
    for (k, v) in body.vars.iter().enumerate() {
        let formal = k < f.params.len() + f.rets.len();
        if v.bytes() > 1 << 20 {
            return Err(Error::new(v.line, format!("`{}` is too large", v.name)));
        }
        let align = u64::from(v.alignment()).max(1);
        let home = match v.space {
            VarSpace::Param if f.entry && formal => {
                param_at = param_at.next_multiple_of(align as u32);
                let at = param_at;
                param_at += v.bytes() as u32;
                Home::KernelParam(at)
            }
            VarSpace::Param | VarSpace::Local => {
                let place = if recursive {
                    frame = frame.next_multiple_of(align.min(16));
                    let at = frame;
                    frame += v.bytes();
                    LocalPlace { offset: at as u32, stack: Some(d.stack_slot) }
                } else {
                    *local = local.next_multiple_of(align);
                    let at = *local;
                    *local = local.saturating_add(v.bytes());
                    LocalPlace { offset: at as u32, stack: None }
                };
                if formal {
                    if k < f.params.len() { &mut params } else { &mut rets }.push((place, v.bytes() as u32));
                }
                Home::Local(place)
            }
            VarSpace::Shared => {
                if v.count.is_none() {
                    return Err(Error::new(v.line, format!("`{}` has no length", v.name)));
                }
                let at = u64::from(d.out.static_shared).next_multiple_of(align);
                let end = at + v.bytes();
                if end > 1 << 20 {
                    return Err(Error::new(v.line, "more than 1 MiB of shared memory"));
                }
                d.out.static_shared = end as u32;
                Home::Shared(at as u32)
            }
            VarSpace::Global | VarSpace::Const => match d.symbols.addresses.get(v.name) {
                Some(&a) => Home::Global(a),
                None => {
                    return Err(Error::unsupported(v.line, format!("`{}` inside a function is not supported", v.name)));
                }
            },
        };
        if *local > u64::from(u32::MAX) || frame > u64::from(STACK) {
            return Err(Error::new(v.line, format!("`{}` is too large", v.name)));
        }
        homes.push(home);
    }
    if f.entry {
        d.out.param_bytes = param_at;
    }
    let mut used = vec![false; body.regs.len()];
    let (mut defs, mut uses) = (Vec::new(), Vec::new());
    for flat in &body.flats {
        allocate::effects(flat, &mut defs, &mut uses);
        let guarded = flat.guard != 0;
        for &r in &uses {
            // A guarded definition counts as a use only for liveness.
            if !guarded || !defs.contains(&r) || reads(flat, r) {
                used[r as usize] = true;
            }
        }
    }
    Ok(FunctionState {
        body,
        slots,
        homes,
        link,
        entry: f.entry,
        number,
        carry,
        rets,
        params,
        preds,
        local: frame.next_multiple_of(16) as u32,
        first_table: 0,
        used,
    })
}

/// Whether an operand after the first mentions a register.
fn reads(flat: &super::flatten::Flat<'_>, r: u32) -> bool {
    fn inside(o: &Opnd<'_>, r: u32) -> bool {
        match o {
            Opnd::Reg(x) => *x == r,
            Opnd::Address(Base::Reg(x), _) => *x == r,
            Opnd::Vector(v) | Opnd::List(v) => v.iter().any(|o| inside(o, r)),
            Opnd::Pair(a, b) => inside(a, r) || inside(b, r),
            _ => false,
        }
    }
    flat.operands.iter().skip(1).any(|o| inside(o, r))
}

/// The start of a function: loads the arguments from where the caller stored them.
fn prologue<'a>(d: &mut Lowering<'a, '_>, c: &FunctionState<'a>, f: &Function<'a>) -> Result<()> {
    if f.entry {
        return Ok(());
    }
    d.begin(f.line);
    let mut at = 0;
    for &(place, bytes) in &c.params {
        at = aligned(at, bytes);
        d.local_copy(place, LocalPlace { offset: at, stack: None }, bytes)?;
        at += bytes;
    }
    d.abi = d.abi.max(at);
    Ok(())
}
