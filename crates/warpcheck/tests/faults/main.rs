//! Planted faults: small kernels with exactly one known fault each, and their repaired twins.
//!
//! A case is CUDA C in a `.cu` file in which `«bad¦good»` is the first alternative in the faulty kernel and the second in its twin. The
//! line with `// FAULT` is where the fault must be found; of a race `// OTHER` is the other side's. Every fault must be
//! found in every order of warps and blocks, be of the right kind, at the right line, with nothing else found beside
//! it; and nothing at all may be found in a twin. Kernels `a` and `b` of a case run before it, each a programmatic dependent of
//! the one before; nothing may be found in them.

#[path = "../support/mod.rs"]
#[macro_use]
mod support;

mod barrier;
mod bounds;
mod bounds_shared;
mod idioms;
mod init;
mod lifetime;
mod misaligned;
mod overlap;
mod race_global;
mod race_shared;
mod stuck;

use support::{Buffer, Gpu, compile};
use warpcheck::finding::FindingKind;
use warpcheck::launch::{Launch, LaunchOptions, Outcome};

/// An argument of a kernel.
#[derive(Debug, Clone, Copy)]
pub enum A {
    /// So many bytes of zeros.
    Zeros(usize),
    /// So many bytes that nobody wrote.
    Raw(usize),
    /// So many bytes of which the host wrote so many.
    Partly(usize, usize),
    /// So many bytes that have been freed.
    Freed(usize),
    /// An address.
    Address(u64),
    /// The address of the buffer that is the n-th argument, and an offset.
    Shift(usize, i64),
    /// A number.
    Int(i32),
    /// A buffer that holds the address of the buffer that is the n-th argument.
    Holds(usize),
    /// One in the faulty launch, the other in the twin's.
    Or(&'static A, &'static A),
}

/// A planted fault.
pub struct Case {
    name: &'static str,
    kinds: &'static [FindingKind],
    grid: u32,
    block: [u32; 3],
    shared: (u32, u32),
    args: &'static [A],
    target: u32,
    strict: bool,
}

/// A case: its name, what must be found, blocks and threads per block, arguments. Its source has that name in the `.cu` file.
pub fn case(name: &'static str, kinds: &'static [FindingKind], (grid, block): (u32, u32), args: &'static [A]) -> Case {
    Case { name, kinds, grid, block: [block, 1, 1], shared: (0, 0), args, target: 80, strict: false }
}

impl Case {
    /// For devices of compute capability 9.0.
    pub fn hopper(self) -> Case {
        Case { target: 90, ..self }
    }

    /// Found only if that is asked for: CUDA allows it.
    pub fn strict(self) -> Case {
        Case { strict: true, ..self }
    }

    /// With a block in two dimensions.
    pub fn block(self, x: u32, y: u32) -> Case {
        Case { block: [x, y, 1], ..self }
    }

    /// With dynamic shared memory: bytes in the faulty launch and in the twin's.
    pub fn shared(self, bad: u32, good: u32) -> Case {
        Case { shared: (bad, good), ..self }
    }
}

/// The source of a case: what follows its heading `// == name`.
fn source_of<'s>(sources: &'s str, name: &str) -> &'s str {
    let mut parts = sources.split("// == ").skip(1).filter_map(|part| part.split_once('\n'));
    parts.find(|(heading, _)| *heading == name).unwrap_or_else(|| panic!("no source for {name}")).1
}

/// What comes before the first case and is part of all, on lines that do not count.
fn prelude(sources: &str) -> String {
    let before = sources.split("// == ").next().unwrap_or_default();
    if before.contains("#define") { format!("{before}\n#line 1\n") } else { String::new() }
}

/// One alternative of a source.
fn choose(source: &str, bad: bool) -> String {
    let mut text = String::new();
    let mut rest = source;
    while let Some(start) = rest.find('«') {
        let end = rest.find('»').expect("a closed alternative");
        let (first, second) = rest[start + 2..end].split_once('¦').expect("two alternatives");
        text += &rest[..start];
        text += if bad { first } else { second };
        rest = &rest[end + 2..];
    }
    text += rest;
    let text = text.replace("await_grids()", "asm volatile(\"griddepcontrol.wait;\" ::: \"memory\")");
    let text = text.replace("start_dependents()", "asm volatile(\"griddepcontrol.launch_dependents;\" ::: \"memory\")");
    ["a(", "b(", "k("].iter().fold(text, |text, name| {
        text.replace(&format!("kernel {name}"), &format!("extern \"C\" __global__ void {name}"))
    })
}

fn lines(source: &str, mark: &str) -> Vec<u32> {
    (1..).zip(source.lines()).filter(|(_, line)| line.contains(mark)).map(|(number, _)| number).collect()
}

fn pass(gpu: &Gpu, arg: A, bad: bool, buffers: &[Buffer]) -> (Buffer, Vec<u8>) {
    let buffer = match arg {
        A::Zeros(bytes) => gpu.zeros(bytes),
        A::Raw(bytes) => gpu.allocate(bytes),
        A::Partly(bytes, written) => {
            let buffer = gpu.allocate(bytes);
            gpu.engine.memory().write(buffer.0, &vec![0; written]).expect("inside");
            buffer
        }
        A::Freed(bytes) => {
            let buffer = gpu.zeros(bytes);
            gpu.free(buffer);
            buffer
        }
        A::Address(address) => Buffer(address),
        A::Shift(n, offset) => Buffer(buffers[n].0.wrapping_add_signed(offset)),
        A::Holds(n) => gpu.upload(&[buffers[n].0]),
        A::Int(value) => return (Buffer(0), value.to_le_bytes().to_vec()),
        A::Or(first, second) => return pass(gpu, if bad { *first } else { *second }, bad, buffers),
    };
    (buffer, buffer.0.to_le_bytes().to_vec())
}

fn run(case: &Case, ptx: &str, bad: bool, options: &LaunchOptions) -> Result<Outcome, String> {
    let gpu = Gpu::new();
    let module = gpu.engine.load(0, &gpu.profile, ptx.as_bytes()).map_err(|e| e.to_string())?;
    let kernel = module.kernel("k").ok_or("no kernel k")?;
    let mut buffers = Vec::new();
    let mut params = vec![0; kernel.param_bytes];
    assert_eq!(kernel.params.len(), case.args.len(), "{}", case.name);
    for (param, &arg) in kernel.params.iter().zip(case.args) {
        let (buffer, bytes) = pass(&gpu, arg, bad, &buffers);
        buffers.push(buffer);
        assert_eq!(param.size, bytes.len(), "{}", case.name);
        params[param.offset..][..param.size].copy_from_slice(&bytes);
    }
    let launch = Launch {
        kernel: &kernel,
        device: 0,
        profile: &gpu.profile,
        grid: [case.grid, 1, 1],
        block: case.block,
        dynamic_shared: if bad { case.shared.0 } else { case.shared.1 },
        params: &params,
    };
    let mut before = None;
    for kernel in ["a", "b"].iter().filter_map(|name| module.kernel(name)) {
        let outcome = gpu.engine.launch_dependent(&Launch { kernel: &kernel, ..launch }, options, before.as_slice());
        if let Some(finding) = outcome.findings.first() {
            return Err(format!("found before: {}", finding.message));
        }
        before = outcome.grid;
    }
    Ok(gpu.engine.launch_dependent(&launch, options, before.as_slice()))
}

/// What is wrong with what was found in the faulty kernel.
fn judge(case: &Case, source: &str, outcome: &Outcome) -> Result<(), String> {
    let told: Vec<_> = outcome.findings.iter().map(|f| (f.kind, f.location.as_ref().map(|l| l.line))).collect();
    let (faults, others) = (lines(source, "FAULT"), lines(source, "OTHER"));
    if outcome.findings.is_empty() {
        return Err(format!("nothing found, error {:?}", outcome.error));
    }
    let mut complete = false;
    for finding in &outcome.findings {
        // A read that comes before the write that it races with finds nothing written.
        let early = finding.kind == FindingKind::Uninitialised && case.kinds.contains(&FindingKind::Race);
        if !case.kinds.contains(&finding.kind) && !early {
            return Err(format!("wrong kind: {told:?}: {}", finding.message));
        }
        let line = finding.location.as_ref().map_or(0, |l| l.line);
        let other = finding.other.as_ref().and_then(|o| o.location.as_ref()).map_or(0, |l| l.line);
        let known = |line: &u32| faults.contains(line) || others.contains(line);
        // Of a reader in another block no more may be known than that there was one.
        let told_other = finding.kind == FindingKind::Race && finding.other.is_some();
        if !known(&line) || told_other && !known(&other) {
            return Err(format!("wrong line: {line} and {other}, not {faults:?} and {others:?}: {}", finding.message));
        }
        complete |= match (finding.kind, others.is_empty()) {
            (FindingKind::Race, false) if told_other => {
                faults.contains(&line) && others.contains(&other) || faults.contains(&other) && others.contains(&line)
            }
            _ => faults.contains(&line) && !early,
        };
        if finding.kernel != "k" || finding.count == 0 || finding.message.is_empty() {
            return Err(format!("incomplete: {finding:?}"));
        }
    }
    if complete {
        Ok(())
    } else {
        Err(format!("the marked lines {faults:?} and {others:?} are not both named: {told:?}"))
    }
}

/// Checks all cases of a chapter, and says everything that is wrong.
pub fn check(sources: &str, cases: &[Case]) {
    let mut failures = Vec::new();
    let ways = [(None, 1), (Some(1), 2), (Some(2), 1), (Some(3), 2)];
    for case in cases {
        let source = source_of(sources, case.name);
        let (bad, good) = (choose(source, true), choose(source, false));
        let strict = case.strict;
        let options = |(schedule, threads)| LaunchOptions {
            schedule,
            threads,
            strict,
            budget: 300_000,
            seconds: 0,
            ..LaunchOptions::checked()
        };
        let ptx = compile(&(prelude(sources) + &bad), case.target, &[]);
        for way in ways {
            let judged = run(case, &ptx, true, &options(way)).and_then(|outcome| judge(case, &bad, &outcome));
            if let Err(fault) = judged {
                failures.push(format!("{} {way:?}: {fault}", case.name));
                break;
            }
        }
        if strict {
            let options = LaunchOptions { strict: false, ..options((None, 1)) };
            match run(case, &ptx, true, &options)
                .map(|outcome| outcome.findings.into_iter().map(|f| f.message).collect())
            {
                Ok(found) if Vec::<String>::is_empty(&found) => {}
                found => failures.push(format!("{}, not strict: {found:?}", case.name)),
            }
        }
        // Unchecked, the launch may fail or not; it must end and report nothing.
        let unchecked = LaunchOptions { budget: 300_000, seconds: 0, ..LaunchOptions::default() };
        match run(case, &ptx, true, &unchecked) {
            Ok(outcome) if !outcome.findings.is_empty() && outcome.error.is_none() => {
                failures.push(format!("{} unchecked: {:?}", case.name, outcome.findings[0].message));
            }
            Ok(_) => {}
            Err(fault) => failures.push(format!("{} unchecked: {fault}", case.name)),
        }
        let ptx = compile(&(prelude(sources) + &good), case.target, &[]);
        for way in ways {
            match run(case, &ptx, false, &options(way)) {
                Ok(outcome) if outcome.findings.is_empty() && outcome.error.is_none() => {}
                Ok(outcome) => {
                    let found: Vec<_> = outcome.findings.iter().map(|f| &f.message).collect();
                    failures.push(format!("{}, twin, {way:?}: {:?} {found:?}", case.name, outcome.error));
                    break;
                }
                Err(fault) => failures.push(format!("{}, twin: {fault}", case.name)),
            }
        }
    }
    assert!(failures.is_empty(), "{} of {} cases:\n{}", failures.len(), cases.len(), failures.join("\n"));
}
