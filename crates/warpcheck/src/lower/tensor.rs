//! Matrices: `ldmatrix`, `stmatrix`, `mma.sync`.

use super::{Class, Kind, Lowering, Now, Opnd, Reg, Result, Ty};
use crate::{
    arith::mma::{Element, Form, Operation, Shape},
    exec::tensor,
    finding::StateSpace,
    program::Extra,
};

impl<'a> Lowering<'a, '_> {
    pub(super) fn tensor(&mut self, now: &Now<'_, 'a>) -> Result<()> {
        match now.flat.instr.op {
            "ldmatrix" | "stmatrix" => self.matrix(now),
            "movmatrix" => {
                now.needs(75, self.sm)?;
                let (d, a) = (self.dest_of(now, 0, Ty::B32)?, self.src(now, 1, Ty::B32)?);
                let mut i = self.inst([tensor::move_matrix; 3], Kind::Plain, Class::Move);
                (i.d, i.a) = (d, a);
                self.emit(i).map(|_| ())
            }
            _ => self.mma(now),
        }
    }

    fn registers(&mut self, now: &Now<'_, 'a>, o: &Opnd<'a>, ty: Ty) -> Result<Vec<Option<Reg>>> {
        let list = match o {
            Opnd::Vector(v) => v.as_slice(),
            o => std::slice::from_ref(o),
        };
        let mut out = Vec::new();
        for o in list {
            out.push(Some(self.source(now, o, ty)?));
        }
        Ok(out)
    }

    fn matrix(&mut self, now: &Now<'_, 'a>) -> Result<()> {
        let load = now.flat.instr.op == "ldmatrix";
        now.needs(if load { 75 } else { 90 }, self.sm)?;
        let count = [("x1", 1), ("x2", 2), ("x4", 4)].iter().find(|(n, _)| now.has(n)).map(|(_, k)| *k);
        let (Some(count), true, Ty::B16) = (count, now.has("m8n8"), now.ty()?) else {
            return Err(now.unsupported());
        };
        let space = if now.flat.instr.mods.iter().any(|m| m.starts_with("shared")) {
            StateSpace::Shared
        } else {
            StateSpace::Generic
        };
        let (registers, address) = if load { (0, 1) } else { (1, 0) };
        let mut op = self.mem_operand(now, address, space, Ty::B16)?;
        op.bytes = 16;
        let o = now.op(registers)?;
        op.regs = self.registers(now, o, Ty::B32)?;
        if op.regs.len() != count {
            return Err(now.error(format!("{count} registers are expected")));
        }
        let handler = if load { tensor::load_matrix } else { tensor::store_matrix };
        let mut i = self.inst([handler; 3], Kind::Event, if load { Class::Load } else { Class::Store });
        i.a = count as u16;
        i.b = u16::from(now.has("trans"));
        i.e = self.add_mem(op);
        self.emit(i).map(|_| ())
    }

    fn mma(&mut self, now: &Now<'_, 'a>) -> Result<()> {
        let mods = &now.flat.instr.mods;
        let shape = mods.iter().find_map(|m| {
            let (row, rest) = m.strip_prefix('m')?.split_once('n')?;
            let (column, depth) = rest.split_once('k')?;
            Some(Shape { m: row.parse().ok()?, n: column.parse().ok()?, k: depth.parse().ok()? })
        });
        let Some(shape) = shape else {
            return Err(now.unsupported());
        };
        if now.has("sp") || now.has("sp::ordered_metadata") || now.has("block_scale") {
            return Err(now.lacking("sparse and block-scaled forms are not supported"));
        }
        let elements: Vec<Element> = mods
            .iter()
            .filter_map(|m| {
                Some(match *m {
                    "f16" => Element::F16,
                    "bf16" => Element::Bf16,
                    "tf32" => Element::Tf32,
                    "f32" => Element::F32,
                    "f64" => Element::F64,
                    "e4m3" => Element::E4m3,
                    "e5m2" => Element::E5m2,
                    "s8" => Element::S8,
                    "u8" => Element::U8,
                    "s4" => Element::S4,
                    "u4" => Element::U4,
                    "b1" => Element::B1,
                    "s32" => Element::S32,
                    _ => return None,
                })
            })
            .collect();
        let &[d, a, b, c] = elements.as_slice() else {
            return Err(now.error("four types are expected"));
        };
        let volta = (shape.m, shape.n, shape.k) == (8, 8, 4) && a == Element::F16;
        let fits = volta || valid(shape, a, b, c, d);
        if !fits {
            return Err(now.unsupported());
        }
        let needs = match (a, shape.m, shape.n, shape.k) {
            _ if volta => 70,
            (Element::F16, 16, 8, 8) | (Element::S8 | Element::U8, 8, 8, 16) => 75,
            (Element::S4 | Element::U4, 8, 8, 32) | (Element::B1, 8, 8, 128) => 75,
            (Element::E4m3 | Element::E5m2, ..) => 89,
            (Element::F64, 16, ..) => 90,
            _ => 80,
        };
        now.needs(needs, self.sm)?;
        let operation = match (a == Element::B1, now.has("and")) {
            (false, _) => Operation::Multiply,
            (true, false) => Operation::XorPopc,
            (true, true) => Operation::AndPopc,
        };
        let form = Form { shape, a, b, c, d, operation, saturate: now.has("satfinite") };
        let ty = if a == Element::F64 { Ty::F64 } else { Ty::B32 };
        let expected = if volta {
            let n = |e: Element| if e == Element::F16 { 4 } else { 8 };
            [n(d), 2, 2, n(c)]
        } else {
            [shape.c_registers(d), shape.a_registers(a), shape.b_registers(b), shape.c_registers(c)]
        };
        let mut extra = Extra { mma: Some(form), ..Extra::default() };
        for (k, &n) in expected.iter().enumerate() {
            let o = now.op(k)?;
            let list = match (o, ty) {
                // `.f32` registers of accumulators are 32 bits all the same.
                (Opnd::Vector(v), _) if k == 0 && v.iter().any(|o| !matches!(o, Opnd::Reg(_))) => {
                    return Err(now.error("a destination is no register"));
                }
                (o, ty) => self.registers(now, o, ty)?,
            };
            if list.len() != n as usize {
                return Err(now.error(format!("operand {} wants {n} registers", k + 1)));
            }
            extra.numbers.push(u64::from(n));
            extra.regs.extend(list);
        }
        let layout = |k: usize| mods.iter().filter(|m| matches!(**m, "row" | "col")).nth(k) == Some(&"col");
        extra.numbers.push(if volta { 1 | u64::from(layout(0)) << 1 | u64::from(layout(1)) << 2 } else { 0 });
        if !volta && (layout(0) || !layout(1)) {
            return Err(now.error("A has to be `.row`, B `.col`"));
        }
        let mut i = self.inst(tensor::MMA, Kind::Plain, Class::Tensor);
        i.e = self.out.extra.len() as u32;
        self.out.extra.push(extra);
        self.emit(i).map(|_| ())
    }
}

/// Shapes and types that go together.
fn valid(s: Shape, a: Element, b: Element, c: Element, d: Element) -> bool {
    use Element::*;
    let dims = (s.m, s.n, s.k);
    match (a, b) {
        (F16, F16) => matches!(dims, (16, 8, 8) | (16, 8, 16)) && matches!((c, d), (F16 | F32, F16 | F32)),
        (Bf16, Bf16) => matches!(dims, (16, 8, 8) | (16, 8, 16)) && (c, d) == (F32, F32),
        (Tf32, Tf32) => matches!(dims, (16, 8, 4) | (16, 8, 8)) && (c, d) == (F32, F32),
        (F64, F64) => matches!(dims, (8, 8, 4) | (16, 8, 4) | (16, 8, 8) | (16, 8, 16)) && (c, d) == (F64, F64),
        (S8 | U8, S8 | U8) => matches!(dims, (8, 8, 16) | (16, 8, 16) | (16, 8, 32)) && (c, d) == (S32, S32),
        (S4 | U4, S4 | U4) => matches!(dims, (8, 8, 32) | (16, 8, 32) | (16, 8, 64)) && (c, d) == (S32, S32),
        (B1, B1) => matches!(dims, (8, 8, 128) | (16, 8, 128) | (16, 8, 256)) && (c, d) == (S32, S32),
        (E4m3 | E5m2, E4m3 | E5m2) => {
            matches!(dims, (16, 8, 16) | (16, 8, 32)) && matches!((c, d), (F16 | F32, F16 | F32))
        }
        _ => false,
    }
}
