use super::*;

const HEAD: &str = ".version 8.8\n.target sm_80\n.address_size 64\n";

#[test]
fn a_kernel_with_everything_parses() {
    let text = format!(
        "{HEAD}.file 1 \"k.cu\"\n.global .align 4 .u32 t[2] = {{1, -2}};\n\
         .const .align 8 .u64 p[1] = {{generic(t)+4}};\n\
         .visible .entry k(\n.param .u64 .ptr .global .align 4 k_param_0,\n.param .align 8 .b8 k_param_1[24]\n)\n\
         .maxntid 256, 1, 1\n{{\n.reg .pred %p<3>;\n.loc 1 7 3\n@!%p1 ld.global.v2.f32 {{%f1, _}}, [%rd1+-4];\n\
         shfl.sync.down.b32 %r1|%p1, %r2, 1, 31, -1;\nmov.u32 %r1, %tid.x;\nL:\n{{ .reg .b32 t; }}\n\
         call (r), f, (a, b);\n}}\n"
    );
    let unit = parse(&text).unwrap();
    assert_eq!((unit.version, unit.target), (88, 80));
    assert_eq!(unit.files[&1], "k.cu");
    assert_eq!(unit.variables[0].init, [Init::Int(1), Init::Int(2u64.wrapping_neg())]);
    assert_eq!(unit.variables[1].init, [Init::Address { symbol: "t", offset: 4 }]);
    let f = &unit.functions[0];
    assert_eq!((f.params.len(), f.params[1].bytes(), f.params[1].align), (2, 24, 8));
    assert_eq!(f.max_threads, Some([256, 1, 1]));
    let body = f.body.as_ref().unwrap();
    let instrs: Vec<_> = body
        .iter()
        .filter_map(|s| match s {
            Stmt::Instr(i) => Some(i),
            _ => None,
        })
        .collect();
    assert_eq!(instrs[0].guard, Some(("%p1", true)));
    assert_eq!(instrs[0].full(), "ld.global.v2.f32");
    assert_eq!(instrs[0].operands[1], Operand::Address(Some("%rd1"), -4));
    assert!(matches!(instrs[1].operands[0], Operand::Pair(..)));
    assert_eq!(instrs[2].operands[1], Operand::Name("%tid.x"));
    assert_eq!(instrs[3].operands.len(), 3);
}

#[test]
fn mistakes_name_their_line() {
    for (text, line) in [
        ("garbage", 1),
        (".version 8.8\n.target sm_80\n.visible .entry k(\n", 4),
        (".version 8.8\n.target sm_80\n.entry k()\n{\nadd.s32 %r1 %r2;\n}", 5),
        (".version 8.8\n.target sm_80\n\"x", 3),
        (".version 8.8\n.target sm_80\n.entry k() {\nmov.u32 %r1, 0f12;\n}", 4),
    ] {
        assert_eq!(parse(text).unwrap_err().line, line, "{text}");
    }
}

#[test]
fn numbers_of_every_kind() {
    let unit = format!("{HEAD}.entry k() {{ x 0x10, 010, 0b11, 7U, 1.5, 1e3, 0f3F800000, 0d3FF0000000000000, -1; }}");
    let unit = parse(&unit);
    // `1e3` has neither a dot nor a signed exponent: PTX wants a dot there.
    assert!(unit.is_err());
    let text = format!("{HEAD}.entry k() {{ x 0x10, 010, 0b11, 7U, 1.5, 1.0e3, 0f3F800000, 0d3FF0000000000000, -1; }}");
    let unit = parse(&text).unwrap();
    let Stmt::Instr(i) = &unit.functions[0].body.as_ref().unwrap()[0] else { panic!("not an instruction") };
    assert_eq!(
        i.operands,
        [
            Operand::Int(16),
            Operand::Int(8),
            Operand::Int(3),
            Operand::Int(7),
            Operand::F64(1.5f64.to_bits()),
            Operand::F64(1000f64.to_bits()),
            Operand::F32(0x3f80_0000),
            Operand::F64(1f64.to_bits()),
            Operand::Int(u64::MAX),
        ]
    );
}
