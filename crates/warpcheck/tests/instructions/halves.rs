//! `.f16` and `.bf16` arithmetic, alone and in pairs.

use crate::{Form, check, form};
use warpcheck::arith::approx;
use warpcheck::arith::half::{self, MinMax};

fn same(op: impl Fn(u16, u16, u16) -> u16 + Copy + 'static) -> (impl Fn(&[u64]) -> u64, impl Fn(&[u64]) -> u64) {
    let at = |x: &[u64], i: usize| *x.get(i).unwrap_or(&0);
    (
        move |x: &[u64]| op(at(x, 0) as u16, at(x, 1) as u16, at(x, 2) as u16).into(),
        move |x: &[u64]| half::both3(at(x, 0) as u32, at(x, 1) as u32, at(x, 2) as u32, op).into(),
    )
}

#[test]
fn halves_and_pairs() {
    let mut all: Vec<Form> = Vec::new();
    let fl = half::flush_f16;
    let mut push =
        |name: &str, ty: &str, n: usize, op: &dyn Fn() -> (Box<dyn Fn(&[u64]) -> u64>, Box<dyn Fn(&[u64]) -> u64>)| {
            let (one, two) = op();
            let list = |c: &str| (0..n).map(|i| format!(", %{c}{i}")).collect::<String>();
            all.push(Form {
                text: format!("{name}.{ty} %h9{};", list("h")),
                inputs: ["h", "hh", "hhh"][n - 1],
                output: 'h',
                expect: one,
            });
            all.push(Form {
                text: format!("{name}.{ty}x2 %r9{};", list("r")),
                inputs: ["r", "rr", "rrr"][n - 1],
                output: 'r',
                expect: two,
            });
        };
    macro_rules! op {
        ($name:literal $ty:literal $n:literal, $op:expr) => {
            push($name, $ty, $n, &|| {
                let (one, two) = same($op);
                (Box::new(one), Box::new(two))
            });
        };
    }
    op!("add" "f16" 2, |a, b, _| half::add_f16(a, b));
    op!("add.sat" "f16" 2, |a, b, _| half::saturate_f16(half::add_f16(a, b)));
    op!("add.ftz" "f16" 2, move |a, b, _| fl(half::add_f16(fl(a), fl(b))));
    op!("sub" "f16" 2, |a, b, _| half::sub_f16(a, b));
    op!("mul" "f16" 2, |a, b, _| half::mul_f16(a, b));
    op!("mul.ftz.sat" "f16" 2, move |a, b, _| half::saturate_f16(fl(half::mul_f16(fl(a), fl(b)))));
    op!("fma.rn" "f16" 3, half::fma_f16);
    op!("fma.rn.ftz" "f16" 3, move |a, b, c| fl(half::fma_f16(fl(a), fl(b), fl(c))));
    op!("fma.rn.sat" "f16" 3, |a, b, c| half::saturate_f16(half::fma_f16(a, b, c)));
    op!("fma.rn.relu" "f16" 3, |a, b, c| half::relu_f16(half::fma_f16(a, b, c)));
    op!("min" "f16" 2, |a, b, _| half::min_max_f16(a, b, MinMax::default()));
    op!("max" "f16" 2, |a, b, _| half::min_max_f16(a, b, MinMax { larger: true, ..Default::default() }));
    op!("max.NaN" "f16" 2, |a, b, _| half::min_max_f16(a, b, MinMax { larger: true, nan: true, ..Default::default() }));
    op!("neg" "f16" 1, |a, _, _| half::neg(a));
    op!("abs" "f16" 1, |a, _, _| half::abs(a));
    op!("ex2.approx" "f16" 1, |a, _, _| approx::ex2_f16(a));
    op!("tanh.approx" "f16" 1, |a, _, _| approx::tanh_f16(a));
    op!("fma.rn" "bf16" 3, half::fma_bf16);
    op!("fma.rn.relu" "bf16" 3, |a, b, c| half::relu_bf16(half::fma_bf16(a, b, c)));
    op!("min" "bf16" 2, |a, b, _| half::min_max_bf16(a, b, MinMax::default()));
    op!("max.NaN" "bf16" 2, |a, b, _| half::min_max_bf16(a, b, MinMax { larger: true, nan: true, ..Default::default() }));
    op!("neg" "bf16" 1, |a, _, _| half::neg(a));
    op!("abs" "bf16" 1, |a, _, _| half::abs(a));
    op!("add" "bf16" 2, |a, b, _| half::add_bf16(a, b));
    op!("sub" "bf16" 2, |a, b, _| half::sub_bf16(a, b));
    op!("mul" "bf16" 2, |a, b, _| half::mul_bf16(a, b));
    let value = |x: u64| half::f16_to_f32(x as u16);
    all.push(form("setp.lt.f16 %p9, %h0, %h1;", "hh", 'p', move |x| (value(x[0]) < value(x[1])).into()));
    all.push(form("setp.neu.f16 %p9, %h0, %h1;", "hh", 'p', move |x| (value(x[0]) != value(x[1])).into()));
    check(90, &all);
}
