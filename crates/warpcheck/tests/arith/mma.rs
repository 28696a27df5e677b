//! Fragment layouts and products of `mma.sync`.

use super::Random;
use std::collections::HashSet;
use warpcheck::arith::mma::{self, Element, Form, Lanes, Operation, Shape, WideLanes, volta};

/// Every shape with the types that PTX allows it.
fn shapes() -> Vec<(Shape, Element)> {
    let shape = |m, n, k| Shape { m, n, k };
    let mut all = Vec::new();
    for half in [Element::F16, Element::Bf16] {
        all.extend([(shape(16, 8, 8), half), (shape(16, 8, 16), half)]);
    }
    all.extend([(shape(16, 8, 4), Element::Tf32), (shape(16, 8, 8), Element::Tf32)]);
    for byte in [Element::S8, Element::U8] {
        all.extend([(shape(8, 8, 16), byte), (shape(16, 8, 16), byte), (shape(16, 8, 32), byte)]);
    }
    for small in [Element::E4m3, Element::E5m2] {
        all.extend([(shape(16, 8, 16), small), (shape(16, 8, 32), small)]);
    }
    for nibble in [Element::S4, Element::U4] {
        all.extend([(shape(8, 8, 32), nibble), (shape(16, 8, 32), nibble), (shape(16, 8, 64), nibble)]);
    }
    all.extend([128, 256].map(|k| (shape(16, 8, k), Element::B1)));
    all.push((shape(8, 8, 128), Element::B1));
    all.push((shape(8, 8, 4), Element::F64));
    all.extend([4, 8, 16].map(|k| (shape(16, 8, k), Element::F64)));
    all
}

#[test]
fn each_element_has_one_place() {
    for (shape, element) in shapes() {
        let (mut a, mut b, mut c) = (HashSet::new(), HashSet::new(), HashSet::new());
        for lane in 0..32 {
            for r in 0..shape.a_registers(element) {
                a.extend((0..element.per_register()).map(|j| shape.a_position(element, lane, r, j)));
            }
            for r in 0..shape.b_registers(element) {
                b.extend((0..element.per_register()).map(|j| shape.b_position(element, lane, r, j)));
            }
            c.extend((0..shape.m * shape.n / 32).map(|i| shape.c_position(lane, i)));
        }
        let grid =
            |rows, columns| (0..rows).flat_map(move |r| (0..columns).map(move |c| (r, c))).collect::<HashSet<_>>();
        assert_eq!(a, grid(shape.m, shape.k), "A of {shape:?} {element:?}");
        assert_eq!(b, grid(shape.k, shape.n), "B of {shape:?} {element:?}");
        assert_eq!(c, grid(shape.m, shape.n), "C of {shape:?}");
    }
}

#[test]
fn m16n8k16_is_laid_out_as_measured() {
    let (shape, half) = (Shape { m: 16, n: 8, k: 16 }, Element::F16);
    for lane in 0..32 {
        let (g, t) = (lane / 4, lane % 4);
        for i in 0..8 {
            let row = if [0, 1, 4, 5].contains(&i) { g } else { g + 8 };
            let column = 2 * t + (i & 1) + if i >= 4 { 8 } else { 0 };
            assert_eq!(shape.a_position(half, lane, i / 2, i % 2), (row, column));
        }
        for i in 0..4 {
            let row = 2 * t + (i & 1) + if i >= 2 { 8 } else { 0 };
            assert_eq!(shape.b_position(half, lane, i / 2, i % 2), (row, g));
            assert_eq!(shape.c_position(lane, i), (g + if i >= 2 { 8 } else { 0 }, 2 * t + (i & 1)));
        }
    }
}

#[test]
fn the_manuals_layouts_of_the_other_shapes() {
    for lane in 0..32u32 {
        let (g, t) = (lane / 4, lane % 4);
        // m16n8k32 of bytes: row g for i in 0..4 and 8..12, else g + 8; column 4t + i % 4, + 16 from i = 8 on.
        let shape = Shape { m: 16, n: 8, k: 32 };
        for i in 0..16 {
            let row = if i % 8 < 4 { g } else { g + 8 };
            let column = 4 * t + i % 4 + if i >= 8 { 16 } else { 0 };
            assert_eq!(shape.a_position(Element::S8, lane, i / 4, i % 4), (row, column));
        }
        // m16n8k8 of tf32: row g or g + 8 for odd i; column t, + 4 from i = 2 on.
        let shape = Shape { m: 16, n: 8, k: 8 };
        for i in 0..4 {
            let position = (g + 8 * (i % 2), t + if i >= 2 { 4 } else { 0 });
            assert_eq!(shape.a_position(Element::Tf32, lane, i, 0), position);
        }
        assert_eq!(shape.b_position(Element::Tf32, lane, 1, 0), (t + 4, g));
        // m16n8k16 of f64: column 2i + t for even i, 2i − 2 + t for odd.
        let shape = Shape { m: 16, n: 8, k: 16 };
        for i in 0..8 {
            let column = if i % 2 == 0 { 2 * i + t } else { 2 * i - 2 + t };
            assert_eq!(shape.a_position(Element::F64, lane, i, 0), (g + 8 * (i % 2), column));
        }
    }
}

/// A small number's bits in an element type, and the number.
fn small(random: &mut Random, element: Element) -> (u64, i64) {
    let n = (random.draw() % 7) as i64 - 3;
    let f = n as f32;
    match element {
        Element::F16 => (::half::f16::from_f32(f).to_bits().into(), n),
        Element::Bf16 => (::half::bf16::from_f32(f).to_bits().into(), n),
        Element::Tf32 | Element::F32 => (f.to_bits().into(), n),
        Element::F64 => ((n as f64).to_bits(), n),
        Element::E4m3 => (warpcheck::arith::half::Fp8::E4m3.from_f32(f).into(), n),
        Element::E5m2 => (warpcheck::arith::half::Fp8::E5m2.from_f32(f).into(), n),
        Element::S8 => (u64::from(n as u8), n),
        Element::S4 => (n as u64 & 15, n),
        Element::S32 => (u64::from(n as u32), n),
        Element::U8 | Element::U4 => (n.unsigned_abs(), n.abs()),
        Element::B1 => (n as u64 & 1, n & 1),
    }
}

/// A matrix of small numbers, and its fragment.
fn fragment(
    random: &mut Random,
    (rows, columns): (u32, u32),
    element: Element,
    registers: u32,
    position: impl Fn(u32, u32, u32) -> (u32, u32),
) -> (Vec<Vec<i64>>, Vec<WideLanes>) {
    let mut matrix = vec![vec![0; columns as usize]; rows as usize];
    let mut lanes = vec![[0u64; 32]; registers as usize];
    for lane in 0..32 {
        for r in 0..registers {
            for j in 0..element.per_register() {
                let (row, column) = position(lane, r, j);
                let (bits, n) = small(random, element);
                matrix[row as usize][column as usize] = n;
                lanes[r as usize][lane as usize] |= bits << (j * element.width() % 64);
            }
        }
    }
    (matrix, lanes)
}

fn narrow(lanes: &[WideLanes]) -> Vec<Lanes> {
    lanes.iter().map(|register| register.map(|x| x as u32)).collect()
}

#[test]
fn products_of_whole_numbers_are_exact() {
    let mut random = Random(8);
    for (shape, element) in shapes() {
        let accumulators: &[Element] = match element {
            Element::F16 => &[Element::F16, Element::F32],
            Element::F64 => &[Element::F64],
            Element::Bf16 | Element::Tf32 | Element::E4m3 | Element::E5m2 => &[Element::F32],
            _ => &[Element::S32],
        };
        let operations: &[Operation] =
            if element == Element::B1 { &[Operation::XorPopc, Operation::AndPopc] } else { &[Operation::Multiply] };
        for (&accumulator, &operation) in accumulators.iter().flat_map(|a| operations.iter().map(move |o| (a, o))) {
            let place_a = |lane, r, j| shape.a_position(element, lane, r, j);
            let place_b = |lane, r, j| shape.b_position(element, lane, r, j);
            let place_c = |lane, r, j| shape.c_position(lane, r * accumulator.per_register() + j);
            let (a, la) = fragment(&mut random, (shape.m, shape.k), element, shape.a_registers(element), place_a);
            let (b, lb) = fragment(&mut random, (shape.k, shape.n), element, shape.b_registers(element), place_b);
            let registers = shape.c_registers(accumulator);
            let (c, lc) = fragment(&mut random, (shape.m, shape.n), accumulator, registers, place_c);
            let form =
                Form { shape, a: element, b: element, c: accumulator, d: accumulator, operation, saturate: false };
            let mut wide = vec![[0u64; 32]; registers as usize];
            let mut d = vec![[0u32; 32]; registers as usize];
            match accumulator {
                Element::F64 => mma::multiply_f64(shape, &la, &lb, &lc, &mut wide),
                Element::S32 => mma::multiply_integer(&form, &narrow(&la), &narrow(&lb), &narrow(&lc), &mut d),
                _ => mma::multiply_float(&form, &narrow(&la), &narrow(&lb), &narrow(&lc), &mut d),
            }
            for lane in 0..32 {
                for i in 0..shape.m * shape.n / 32 {
                    let (row, column) = shape.c_position(lane, i);
                    let (row, column) = (row as usize, column as usize);
                    let sum: i64 = (0..shape.k as usize)
                        .map(|k| match operation {
                            Operation::Multiply => a[row][k] * b[k][column],
                            Operation::XorPopc => a[row][k] ^ b[k][column],
                            Operation::AndPopc => a[row][k] & b[k][column],
                        })
                        .sum();
                    let e = accumulator.per_register();
                    let got = match accumulator {
                        Element::F64 => f64::from_bits(wide[i as usize][lane as usize]) as i64,
                        Element::S32 => i64::from(d[i as usize][lane as usize] as i32),
                        _ => accumulator.float(d[(i / e) as usize][lane as usize], i % e) as i64,
                    };
                    assert_eq!(got, c[row][column] + sum, "{form:?} at {row},{column}");
                }
            }
        }
    }
}

#[test]
fn sums_run_upwards_in_single_precision() {
    // 2²⁴ + 1 − 2²⁴: in this order the one is lost; any other order, or a wider sum, keeps it.
    let shape = Shape { m: 16, n: 8, k: 16 };
    let (element, accumulator) = (Element::F16, Element::F32);
    let form = Form {
        shape,
        a: element,
        b: element,
        c: accumulator,
        d: accumulator,
        operation: Operation::Multiply,
        saturate: false,
    };
    let (mut a, mut b) = (vec![[0u32; 32]; 4], vec![[0u32; 32]; 2]);
    let half = |x: f32| u32::from(::half::f16::from_f32(x).to_bits());
    for lane in 0..32 {
        for (k, x, y) in [(0, 4096.0, 4096.0), (1, 1.0, 1.0), (2, -4096.0, 4096.0)] {
            for r in 0..4 {
                for j in 0..2 {
                    if shape.a_position(element, lane, r, j).1 == k {
                        a[r as usize][lane as usize] |= half(x) << (16 * j);
                    }
                    if r < 2 && shape.b_position(element, lane, r, j).0 == k {
                        b[r as usize][lane as usize] |= half(y) << (16 * j);
                    }
                }
            }
        }
    }
    let mut d = vec![[1u32; 32]; 4];
    mma::multiply_float(&form, &a, &b, &[[0; 32]; 4], &mut d);
    assert_eq!(d, vec![[0u32; 32]; 4]);
}

#[test]
fn integers_saturate_only_when_asked() {
    let shape = Shape { m: 8, n: 8, k: 16 };
    let form = |saturate| Form {
        shape,
        a: Element::U8,
        b: Element::U8,
        c: Element::S32,
        d: Element::S32,
        operation: Operation::Multiply,
        saturate,
    };
    let (a, b, c) = ([[u32::MAX; 32]], [[u32::MAX; 32]], [[i32::MAX as u32 - 5; 32]; 2]);
    let mut d = [[0u32; 32]; 2];
    mma::multiply_integer(&form(true), &a, &b, &c, &mut d);
    assert_eq!(d, [[i32::MAX as u32; 32]; 2]);
    mma::multiply_integer(&form(false), &a, &b, &c, &mut d);
    assert_eq!(d, [[(i32::MAX as u32 - 5).wrapping_add(16 * 255 * 255); 32]; 2]);
}

#[test]
fn volta_multiplies_four_times_at_once() {
    let mut random = Random(9);
    for layouts in [(false, false), (false, true), (true, false), (true, true)] {
        for types in [(Element::F16, Element::F16), (Element::F16, Element::F32), (Element::F32, Element::F32)] {
            // Matrices of the four quad pairs, stacked.
            let quad = |lane: u32| lane % 16 / 4;
            let (a, la) = fragment(&mut random, (32, 4), Element::F16, 2, |lane, r, j| {
                let (row, column) = volta::a_position(lane, 2 * r + j, layouts.0);
                (8 * quad(lane) + row, column)
            });
            let (b, lb) = fragment(&mut random, (16, 8), Element::F16, 2, |lane, r, j| {
                let (row, column) = volta::b_position(lane, 2 * r + j, layouts.1);
                (4 * quad(lane) + row, column)
            });
            let e = types.0.per_register();
            let (c, lc) = fragment(&mut random, (32, 8), types.0, 8 / e, |lane, r, j| {
                let (row, column) = volta::c_position(lane, e * r + j, types.0);
                (8 * quad(lane) + row, column)
            });
            let e = types.1.per_register();
            let mut d = vec![[0u32; 32]; 8 / e as usize];
            volta::multiply(layouts, types, &narrow(&la), &narrow(&lb), &narrow(&lc), &mut d);
            let mut seen = HashSet::new();
            for lane in 0..32 {
                for i in 0..8 {
                    let (row, column) = volta::c_position(lane, i, types.1);
                    let (q, row, column) = (quad(lane) as usize, row as usize, column as usize);
                    seen.insert((q, row, column));
                    let sum: i64 = (0..4).map(|k| a[8 * q + row][k] * b[4 * q + k][column]).sum();
                    let got = types.1.float(d[(i / e) as usize][lane as usize], i % e) as i64;
                    assert_eq!(got, c[8 * q + row][column] + sum, "{layouts:?} {types:?}");
                }
            }
            assert_eq!(seen.len(), 256);
        }
    }
}

#[test]
fn matrices_of_eight_by_eight() {
    let mut places = HashSet::new();
    for lane in 0..32 {
        for j in 0..2 {
            let (row, column) = mma::matrix_position(lane, j, false);
            assert_eq!((row, column), (lane / 4, lane % 4 * 2 + j));
            assert_eq!(mma::matrix_position(lane, j, true), (column, row));
            places.insert((row, column));
        }
    }
    assert_eq!(places.len(), 64);
    assert_eq!(mma::matrix_row_lane(3, 7), 31);
}
