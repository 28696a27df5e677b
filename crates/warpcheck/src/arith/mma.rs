//! `mma.sync` and `ldmatrix`/`stmatrix`: fragment layouts, and the matrix product.
//!
//! # Layouts
//!
//! With g = lane / 4 and t = lane % 4, and `e` elements per 32-bit register (one for `.tf32` and `.f64`), register r's
//! element j of a lane is
//! - of A: row g + 8 (r & 1), column t·e + j + 4·e (r >> 1); with m8 there is one register per column group: row g,
//! - of B: row t·e + j + 4·e·r, column g,
//! - of C and D: row g + 8 (i >> 1), column 2t + (i & 1) for the i-th element; with m8, i < 2.
//!
//! `m8n8k4` of `.f16` (Volta) is four products at once, one per quad pair: [`volta`].
//!
//! # Sums
//!
//! PTX leaves the order and precision of the accumulation open. Here every element is
//! `d = c; for k in 0..K: d = d + a[k]·b[k]`, k ascending, each product and each sum rounded to nearest in `.f32`
//! (products of `.f16`, `.bf16`, `.tf32` and the 8-bit formats are exact unless they leave `.f32`'s range); `.f16`
//! accumulators are converted to `.f32` first and the sum is rounded to `.f16` once at the end; `.f64` is one fused
//! multiply-add per step; integers wrap, or with `.satfinite` are computed exactly and clamped.

use super::half::{self, Fp8};

/// An element type of `mma.sync`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Element {
    /// `.f16`
    F16,
    /// `.bf16`
    Bf16,
    /// `.tf32`: the low 13 bits of the register are ignored.
    Tf32,
    /// `.f32`, of accumulators.
    F32,
    /// `.f64`
    F64,
    /// `.e4m3`
    E4m3,
    /// `.e5m2`
    E5m2,
    /// `.s8`
    S8,
    /// `.u8`
    U8,
    /// `.s4`
    S4,
    /// `.u4`
    U4,
    /// `.b1`
    B1,
    /// `.s32`, of accumulators.
    S32,
}

impl Element {
    /// Width in bits.
    pub const fn width(self) -> u32 {
        match self {
            Element::F16 | Element::Bf16 => 16,
            Element::Tf32 | Element::F32 | Element::S32 => 32,
            Element::F64 => 64,
            Element::E4m3 | Element::E5m2 | Element::S8 | Element::U8 => 8,
            Element::S4 | Element::U4 => 4,
            Element::B1 => 1,
        }
    }

    /// Elements per register: a 64-bit register holds one `.f64`.
    pub const fn per_register(self) -> u32 {
        if self.width() >= 32 { 1 } else { 32 / self.width() }
    }

    /// Element `j` of a register as `.f32`; of the floating-point types but `.f64`.
    #[inline(always)]
    pub fn float(self, register: u32, j: u32) -> f32 {
        match self {
            Element::F16 => half::f16_to_f32((register >> (16 * j)) as u16),
            Element::Bf16 => half::bf16_to_f32((register >> (16 * j)) as u16),
            Element::Tf32 => half::tf32_operand(register),
            Element::E4m3 => Fp8::E4m3.to_f32((register >> (8 * j)) as u8),
            Element::E5m2 => Fp8::E5m2.to_f32((register >> (8 * j)) as u8),
            _ => f32::from_bits(register),
        }
    }

    /// Element `j` of a register as an integer; of the integer types.
    #[inline(always)]
    pub fn integer(self, register: u32, j: u32) -> i32 {
        match self {
            Element::S8 => i32::from((register >> (8 * j)) as i8),
            Element::U8 => i32::from((register >> (8 * j)) as u8),
            Element::S4 => (register << (28 - 4 * j)) as i32 >> 28,
            Element::U4 => (register >> (4 * j) & 0xf) as i32,
            Element::B1 => (register >> j & 1) as i32,
            _ => register as i32,
        }
    }
}

/// The sizes of a product: D (m × n) = A (m × k) · B (k × n) + C.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Rows of A and D: 8 or 16.
    pub m: u32,
    /// Columns of B and D: 8.
    pub n: u32,
    /// Columns of A, rows of B.
    pub k: u32,
}

impl Shape {
    /// Registers a lane that hold A.
    pub const fn a_registers(self, element: Element) -> u32 {
        self.m * self.k / 32 / element.per_register()
    }

    /// Registers a lane that hold B.
    pub const fn b_registers(self, element: Element) -> u32 {
        self.k * self.n / 32 / element.per_register()
    }

    /// Registers a lane that hold C or D.
    pub const fn c_registers(self, element: Element) -> u32 {
        self.m * self.n / 32 / element.per_register()
    }

    /// Row and column of A that a lane's register `r` holds as its element `j`.
    #[inline(always)]
    pub const fn a_position(self, element: Element, lane: u32, r: u32, j: u32) -> (u32, u32) {
        let (g, t, e) = (lane / 4, lane % 4, element.per_register());
        let (down, across) = if self.m == 16 { (r & 1, r >> 1) } else { (0, r) };
        (g + 8 * down, t * e + j + 4 * e * across)
    }

    /// Row and column of B that a lane's register `r` holds as its element `j`.
    #[inline(always)]
    pub const fn b_position(self, element: Element, lane: u32, r: u32, j: u32) -> (u32, u32) {
        let (g, t, e) = (lane / 4, lane % 4, element.per_register());
        (t * e + j + 4 * e * r, g)
    }

    /// Row and column of C and D that is a lane's element `i` (element `i` % e of register `i` / e).
    #[inline(always)]
    pub const fn c_position(self, lane: u32, i: u32) -> (u32, u32) {
        (lane / 4 + 8 * (i >> 1), 2 * (lane % 4) + (i & 1))
    }
}

/// The operation on a pair of elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Operation {
    /// Multiply and add.
    #[default]
    Multiply,
    /// `.xor.popc` of `.b1`.
    XorPopc,
    /// `.and.popc` of `.b1`.
    AndPopc,
}

/// A form of `mma.sync.aligned` whose operands are 32-bit registers, `m8n8k4` of `.f16` apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Form {
    /// The sizes.
    pub shape: Shape,
    /// A's type.
    pub a: Element,
    /// B's type.
    pub b: Element,
    /// C's type.
    pub c: Element,
    /// D's type.
    pub d: Element,
    /// Multiplication, but for `.b1`.
    pub operation: Operation,
    /// `.satfinite` of integers.
    pub saturate: bool,
}

/// One register of all 32 lanes.
pub type Lanes = [u32; 32];
/// One 64-bit register of all 32 lanes.
pub type WideLanes = [u64; 32];

/// `mma.sync` of 32-bit registers: floating point.
#[inline(always)]
pub fn multiply_float(form: &Form, a: &[Lanes], b: &[Lanes], c: &[Lanes], d: &mut [Lanes]) {
    let Form { shape, .. } = *form;
    let mut left = [[0f32; 32]; 16];
    let mut right = [[0f32; 8]; 32];
    let mut sum = [[0f32; 8]; 16];
    for (r, lanes) in (0..).zip(&a[..shape.a_registers(form.a) as usize]) {
        for (lane, &register) in (0..).zip(lanes) {
            for j in 0..form.a.per_register() {
                let (row, column) = shape.a_position(form.a, lane, r, j);
                left[row as usize][column as usize] = form.a.float(register, j);
            }
        }
    }
    for (r, lanes) in (0..).zip(&b[..shape.b_registers(form.b) as usize]) {
        for (lane, &register) in (0..).zip(lanes) {
            for j in 0..form.b.per_register() {
                let (row, column) = shape.b_position(form.b, lane, r, j);
                right[row as usize][column as usize] = form.b.float(register, j);
            }
        }
    }
    let elements = shape.m * shape.n / 32;
    let e = form.c.per_register();
    for i in 0..elements {
        for lane in 0..32 {
            let (row, column) = shape.c_position(lane, i);
            sum[row as usize][column as usize] = form.c.float(c[(i / e) as usize][lane as usize], i % e);
        }
    }
    for (row, left) in sum.iter_mut().zip(&left).take(shape.m as usize) {
        for (&x, right) in left.iter().zip(&right).take(shape.k as usize) {
            for (sum, &y) in row.iter_mut().zip(right) {
                *sum += x * y;
            }
        }
    }
    for i in 0..elements {
        for lane in 0..32 {
            let (row, column) = shape.c_position(lane, i);
            let value = sum[row as usize][column as usize];
            let (register, shift) = match form.d {
                Element::F16 => (&mut d[(i / 2) as usize][lane as usize], 16 * (i & 1)),
                _ => (&mut d[i as usize][lane as usize], 0),
            };
            *register = match form.d {
                Element::F16 => *register & !(0xffff << shift) | u32::from(half::f16_from_f32(value)) << shift,
                _ => super::float::canonical_f32(value).to_bits(),
            };
        }
    }
}

/// `mma.sync` of integers and of single bits.
#[inline(always)]
pub fn multiply_integer(form: &Form, a: &[Lanes], b: &[Lanes], c: &[Lanes], d: &mut [Lanes]) {
    let Form { shape, .. } = *form;
    let mut left = [[0i32; 256]; 16];
    let mut right = [[0i32; 8]; 256];
    for (r, lanes) in (0..).zip(&a[..shape.a_registers(form.a) as usize]) {
        for (lane, &register) in (0..).zip(lanes) {
            for j in 0..form.a.per_register() {
                let (row, column) = shape.a_position(form.a, lane, r, j);
                left[row as usize][column as usize] = form.a.integer(register, j);
            }
        }
    }
    for (r, lanes) in (0..).zip(&b[..shape.b_registers(form.b) as usize]) {
        for (lane, &register) in (0..).zip(lanes) {
            for j in 0..form.b.per_register() {
                let (row, column) = shape.b_position(form.b, lane, r, j);
                right[row as usize][column as usize] = form.b.integer(register, j);
            }
        }
    }
    for i in 0..shape.m * shape.n / 32 {
        for lane in 0..32 {
            let (row, column) = shape.c_position(lane, i);
            let pairs = left[row as usize].iter().zip(&right).take(shape.k as usize);
            // At most 256 products below 2¹⁶ each.
            let sum: i32 = pairs
                .map(|(&x, y)| match form.operation {
                    Operation::Multiply => x * y[column as usize],
                    Operation::XorPopc => x ^ y[column as usize],
                    Operation::AndPopc => x & y[column as usize],
                })
                .sum();
            let start = c[i as usize][lane as usize] as i32;
            let sum = if form.saturate { start.saturating_add(sum) } else { start.wrapping_add(sum) };
            d[i as usize][lane as usize] = sum as u32;
        }
    }
}

/// `mma.sync` of `.f64`: m8n8k4, and of sm_90 m16n8k4, m16n8k8, m16n8k16.
#[inline(always)]
pub fn multiply_f64(shape: Shape, a: &[WideLanes], b: &[WideLanes], c: &[WideLanes], d: &mut [WideLanes]) {
    let mut left = [[0f64; 16]; 16];
    let mut right = [[0f64; 8]; 16];
    for (r, lanes) in (0..).zip(&a[..shape.a_registers(Element::F64) as usize]) {
        for (lane, &register) in (0..).zip(lanes) {
            let (row, column) = shape.a_position(Element::F64, lane, r, 0);
            left[row as usize][column as usize] = f64::from_bits(register);
        }
    }
    for (r, lanes) in (0..).zip(&b[..shape.b_registers(Element::F64) as usize]) {
        for (lane, &register) in (0..).zip(lanes) {
            let (row, column) = shape.b_position(Element::F64, lane, r, 0);
            right[row as usize][column as usize] = f64::from_bits(register);
        }
    }
    for i in 0..shape.m * shape.n / 32 {
        for lane in 0..32 {
            let (row, column) = shape.c_position(lane, i);
            let pairs = left[row as usize].iter().zip(&right).take(shape.k as usize);
            let start = f64::from_bits(c[i as usize][lane as usize]);
            let sum = pairs.fold(start, |sum, (&x, y)| x.mul_add(y[column as usize], sum));
            d[i as usize][lane as usize] = sum.to_bits();
        }
    }
}

/// `m8n8k4` of `.f16`, Volta's form: lanes 4q to 4q + 3 and 4q + 16 to 4q + 19 compute one 8 × 8 × 4 product, q < 4.
pub mod volta {
    use super::{Element, Lanes, half};

    /// Row and column of A that is a lane's element `i` < 4 (half `i` % 2 of register `i` / 2).
    pub const fn a_position(lane: u32, i: u32, column_major: bool) -> (u32, u32) {
        let upper = if lane < 16 { 0 } else { 4 };
        if column_major { (i + upper, lane % 4) } else { (lane % 4 + upper, i) }
    }

    /// Row and column of B that is a lane's element `i` < 4.
    pub const fn b_position(lane: u32, i: u32, column_major: bool) -> (u32, u32) {
        let upper = if lane < 16 { 0 } else { 4 };
        if column_major { (i, lane % 4 + upper) } else { (lane % 4, i + upper) }
    }

    /// Row and column of C and D that is a lane's element `i` < 8.
    pub const fn c_position(lane: u32, i: u32, element: Element) -> (u32, u32) {
        let upper = if lane < 16 { 0 } else { 4 };
        match element {
            Element::F16 => (lane % 4 + upper, i),
            _ => ((lane & 1) + (i & 2) + upper, (i & 4) + (lane & 2) + (i & 1)),
        }
    }

    /// `mma.sync.aligned.m8n8k4.alayout.blayout.dtype.f16.f16.ctype`.
    pub fn multiply(
        layouts: (bool, bool),
        types: (Element, Element),
        a: &[Lanes],
        b: &[Lanes],
        c: &[Lanes],
        d: &mut [Lanes],
    ) {
        let (a_column_major, b_column_major) = layouts;
        let (c_type, d_type) = types;
        for quad in 0..4 {
            let lanes = || (4 * quad..4 * quad + 4).chain(4 * quad + 16..4 * quad + 20);
            let (mut left, mut right, mut sum) = ([[0f32; 4]; 8], [[0f32; 8]; 4], [[0f32; 8]; 8]);
            for lane in lanes() {
                for i in 0..4 {
                    let (row, column) = a_position(lane, i, a_column_major);
                    left[row as usize][column as usize] = Element::F16.float(a[i as usize / 2][lane as usize], i % 2);
                    let (row, column) = b_position(lane, i, b_column_major);
                    right[row as usize][column as usize] = Element::F16.float(b[i as usize / 2][lane as usize], i % 2);
                }
                for i in 0..8 {
                    let (row, column) = c_position(lane, i, c_type);
                    let e = c_type.per_register();
                    sum[row as usize][column as usize] = c_type.float(c[(i / e) as usize][lane as usize], i % e);
                }
            }
            for (row, left) in sum.iter_mut().zip(&left) {
                for (&x, right) in left.iter().zip(&right) {
                    for (sum, &y) in row.iter_mut().zip(right) {
                        *sum += x * y;
                    }
                }
            }
            for lane in lanes() {
                for i in 0..8 {
                    let (row, column) = c_position(lane, i, d_type);
                    let value = sum[row as usize][column as usize];
                    if d_type == Element::F16 {
                        let (register, shift) = (&mut d[i as usize / 2][lane as usize], 16 * (i % 2));
                        *register = *register & !(0xffff << shift) | u32::from(half::f16_from_f32(value)) << shift;
                    } else {
                        d[i as usize][lane as usize] = super::super::float::canonical_f32(value).to_bits();
                    }
                }
            }
        }
    }
}

/// `ldmatrix`, `stmatrix` of 8 × 8 matrices of 16 bits: the lane whose address is the start of `row` of matrix `matrix`.
pub const fn matrix_row_lane(matrix: u32, row: u32) -> u32 {
    8 * matrix + row
}

/// Row and column that is half `j` of a lane's register; swapped by `.trans`.
pub const fn matrix_position(lane: u32, j: u32, transposed: bool) -> (u32, u32) {
    let (row, column) = (lane / 4, 2 * (lane % 4) + j);
    if transposed { (column, row) } else { (row, column) }
}
