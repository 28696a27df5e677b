//! Each instruction form in hand-written PTX, over edge values in all lanes, against `warpcheck::arith`.
//!
//! A form is a line of PTX whose operands are named by class and place: `%r0 %r1 …` 32 bits, `%d0` 64, `%h0` 16, `%f0`
//! `.f32`, `%g0` `.f64`; the result is number 9 of its class, or the predicate `%p9`. Each runs with all lanes active, and
//! again under a predicate that holds in some: the others must keep what they had.

// Tables of names and functions are clearer without names for their types.
#![allow(clippy::type_complexity)]

#[path = "../support/mod.rs"]
#[macro_use]
mod support;

mod bits;
mod convert;
mod floats;
mod halves;
mod integers;

use support::{Gpu, Random};
use warpcheck::launch::LaunchOptions;

/// A form: its text, the classes of its inputs, its result's class, and what it computes.
pub struct Form {
    text: String,
    inputs: &'static str,
    output: char,
    expect: Box<dyn Fn(&[u64]) -> u64>,
}

/// A form.
pub fn form(text: &str, inputs: &'static str, output: char, expect: impl Fn(&[u64]) -> u64 + 'static) -> Form {
    Form { text: text.to_string(), inputs, output, expect: Box::new(expect) }
}

/// What an inactive lane keeps.
const KEPT: u64 = 0x1122_3344_5566_7788;

fn mask(class: char) -> u64 {
    match class {
        'h' => 0xffff,
        'r' | 'f' => 0xffff_ffff,
        'p' => 1,
        _ => u64::MAX,
    }
}

/// Interesting bits of a class.
fn edges(class: char) -> Vec<u64> {
    match class {
        'h' => {
            [0u64, 1, 2, 0x3ff, 0x400, 0x3555, 0x3c00, 0x3c01, 0x3f80, 0x4248, 0x7bff, 0x7c00, 0x7e00, 0x7f80, 0x7fff]
                .iter()
                .flat_map(|b| [*b, b | 0x8000])
                .collect()
        }
        'f' => {
            let bits = [0u64, 1, 0x7f_ffff, 0x80_0000, 0x3380_0000, 0x3e99_999a, 0x3f00_0000, 0x3f80_0000, 0x3f80_0001];
            let more = [
                0x4020_0000,
                0x4049_0fdb,
                0x4b00_0001,
                0x4f00_0000,
                0x5f80_0000,
                0x7f7f_ffff,
                0x7f80_0000,
                0x7fc0_0000,
            ];
            bits.iter().chain(&more).flat_map(|b| [*b, b | 0x8000_0000]).collect()
        }
        'g' => {
            let values = [
                0.0,
                5e-324,
                2.2e-308,
                1e-40,
                0.1,
                0.5,
                1.0,
                1.5,
                2.5,
                3.4e38,
                4e9,
                1e19,
                1e300,
                f64::MAX,
                f64::INFINITY,
            ];
            values.iter().chain(&[f64::NAN]).flat_map(|v| [v.to_bits(), v.to_bits() | 1 << 63]).collect()
        }
        'r' => {
            [0u64, 1, 2, 5, 7, 8, 16, 31, 32, 33, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x8080_7f01, 0x7fff_ffff]
                .iter()
                .flat_map(|b| [*b, !b & 0xffff_ffff])
                .collect()
        }
        _ => {
            [0u64, 1, 3, 7, 31, 63, 64, 0xff, 0x8000, 0x7fff_ffff, 0xffff_ffff, 1 << 32, 0x8080_7f01_8080_7f01, 1 << 63]
                .iter()
                .flat_map(|b| [*b, !b])
                .collect()
        }
    }
}

/// All combinations of edges, thinned out to a few thousand, and random bits.
fn cases(inputs: &str) -> Vec<u64> {
    let classes: Vec<char> = inputs.chars().collect();
    let lists: Vec<Vec<u64>> = classes.iter().map(|&c| edges(c)).collect();
    let total: usize = lists.iter().map(Vec::len).product();
    let step = total.div_ceil(2500) | 1;
    let mut all = Vec::new();
    for mut index in (0..total).step_by(step) {
        for list in &lists {
            all.push(list[index % list.len()]);
            index /= list.len();
        }
    }
    let mut random = Random(inputs.len() as u64);
    for _ in 0..500 {
        all.extend(classes.iter().map(|&c| random.draw() & mask(c)));
    }
    all
}

/// The kernel of a form, plain or predicated.
fn kernel(index: usize, form: &Form, predicated: bool) -> String {
    let mut text = format!(
        ".visible .entry k{index}_{}(.param .u64 x, .param .u64 y, .param .u32 n) {{\n.reg .pred %p<12>; .reg .b16 %h<12>; \
         .reg .b32 %r<12>, %i<8>; .reg .b64 %d<12>, %a<12>; .reg .f32 %f<12>; .reg .f64 %g<12>;\n\
         mov.u32 %i0, %ctaid.x; mov.u32 %i1, %ntid.x; mov.u32 %i2, %tid.x; mad.lo.u32 %i3, %i0, %i1, %i2;\n\
         ld.param.u32 %i4, [n]; setp.ge.u32 %p10, %i3, %i4; @%p10 bra DONE{index}{};\n\
         ld.param.u64 %a0, [x]; ld.param.u64 %a1, [y]; mad.wide.u32 %a2, %i3, {}, %a0; mad.wide.u32 %a3, %i3, 8, %a1;\n",
        u8::from(predicated),
        u8::from(predicated),
        8 * form.inputs.len()
    );
    for (place, class) in form.inputs.chars().enumerate() {
        let ld = match class {
            'h' => "ld.global.u16",
            'r' => "ld.global.u32",
            'f' => "ld.global.f32",
            'g' => "ld.global.f64",
            _ => "ld.global.u64",
        };
        text += &format!("{ld} %{class}{place}, [%a2+{}];\n", 8 * place);
    }
    let out = form.output;
    let (first, st) = match out {
        'h' => (format!("mov.b16 %h9, {};", KEPT & 0xffff), "st.global.u16 [%a3], %h9;"),
        'r' => (format!("mov.b32 %r9, {};", KEPT & 0xffff_ffff), "st.global.u32 [%a3], %r9;"),
        'f' => (format!("mov.b32 %f9, 0f{:08X};", KEPT & 0xffff_ffff), "st.global.f32 [%a3], %f9;"),
        'g' => (format!("mov.b64 %g9, 0d{KEPT:016X};"), "st.global.f64 [%a3], %g9;"),
        'p' => ("setp.ne.u32 %p9, 0, 0;".into(), "selp.u32 %r10, 1, 0, %p9; st.global.u32 [%a3], %r10;"),
        _ => (format!("mov.b64 %d9, {KEPT};"), "st.global.u64 [%a3], %d9;"),
    };
    text += &first;
    if predicated {
        text += "and.b32 %i5, %i3, 5; setp.eq.u32 %p8, %i5, 1;\n@%p8 ";
    } else {
        text += "\n";
    }
    text + &format!("{}\n{st}\nDONE{index}{}: ret;\n}}\n", form.text, u8::from(predicated))
}

fn is_nan(class: char, bits: u64) -> bool {
    match class {
        'f' => f32::from_bits(bits as u32).is_nan(),
        'g' => f64::from_bits(bits).is_nan(),
        _ => false,
    }
}

/// Runs all forms for a target and says everything that is wrong.
pub fn check(target: u32, forms: &[Form]) {
    let mut failures = Vec::new();
    let gpu = Gpu::new();
    for (index, form) in forms.iter().enumerate() {
        let single = form.text.matches(';').count() == 1;
        let mut ptx = format!(".version 8.8\n.target sm_{target}\n.address_size 64\n{}", kernel(index, form, false));
        if single {
            ptx += &kernel(index, form, true);
        }
        let module = match gpu.engine.load(0, &gpu.profile, ptx.as_bytes()) {
            Ok(module) => module,
            Err(e) => {
                failures.push(format!("{}: {e}", form.text));
                continue;
            }
        };
        let inputs = cases(form.inputs);
        let arity = form.inputs.len();
        let n = inputs.len() / arity;
        let x = gpu.upload(&inputs);
        for predicated in [false, true] {
            if predicated && !single {
                continue;
            }
            for options in [LaunchOptions::checked(), LaunchOptions::default()] {
                let y = gpu.upload(&vec![0u64; n]);
                let name = format!("k{index}_{}", u8::from(predicated));
                let shape = ([n.div_ceil(96) as u32, 1, 1], [96, 1, 1], 0);
                let outcome = gpu.launch(&module, &name, shape, args![x, y, n as u32], &options);
                let got = gpu.download::<u64>(y, n);
                gpu.free(y);
                if outcome.error.is_some() || !outcome.findings.is_empty() {
                    let found: Vec<_> = outcome.findings.iter().map(|f| &f.message).collect();
                    failures.push(format!("{}: {:?} {found:?}", form.text, outcome.error));
                    break;
                }
                let wrong = got.iter().enumerate().find_map(|(i, &got)| {
                    let input = &inputs[arity * i..arity * (i + 1)];
                    let kept = if form.output == 'p' { 0 } else { KEPT & mask(form.output) };
                    let computed = (form.expect)(input) & mask(form.output);
                    let expected = if predicated && i & 5 != 1 { kept } else { computed };
                    let equal = got == expected || is_nan(form.output, got) && is_nan(form.output, expected);
                    (!equal).then(|| {
                        format!("{}, predicated {predicated}: {input:x?} gave {got:#x}, not {expected:#x}", form.text)
                    })
                });
                if let Some(wrong) = wrong {
                    failures.push(wrong);
                    break;
                }
            }
        }
        gpu.free(x);
    }
    assert!(failures.is_empty(), "{} of {} forms:\n{}", failures.len(), forms.len(), failures.join("\n"));
}

/// An input as `f32`.
pub fn f(bits: u64) -> f32 {
    f32::from_bits(bits as u32)
}

/// An input as `f64`.
pub fn g(bits: u64) -> f64 {
    f64::from_bits(bits)
}

/// The bits of an `f32` result.
pub fn fb(x: f32) -> u64 {
    x.to_bits().into()
}
