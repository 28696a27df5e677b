//! What programs seldom do, and once went wrong.

use super::*;

#[test]
fn an_asynchronous_copy_reads_no_further_than_it_is_told() {
    let b = Bench::new();
    let (x, y) = (b.buffer(&[1, 2, 3, 4, 5]), b.buffer(&[9; 4]));
    // Of the 16 bytes at the fifth word there are four.
    let body = |bytes: u32, offset: u32| {
        format!(
            ".shared .align 16 .b8 s[16];\nmov.u32 %r6, s;\nmov.u32 %r5, {bytes};\n\
             cp.async.cg.shared.global [%r6], [%rd1+{offset}], 16, %r5;\ncp.async.wait_all;\n\
             ld.shared.v4.u32 {{%r10, %r11, %r12, %r13}}, [%r6];\nst.global.v4.u32 [%rd2], {{%r10, %r11, %r12, %r13}};\nret;"
        )
    };
    let o = b.run(&body(4, 16), &[x, y], 1, 1, &LaunchOptions::checked());
    assert_eq!((o.error, kinds(&o), b.words(y, 4)), (None, vec![], vec![5, 0, 0, 0]));
    let o = b.run(&body(8, 16), &[x, y], 1, 1, &LaunchOptions::checked());
    assert_eq!((o.error, kinds(&o)), (Some(Fault::IllegalAddress), vec![FindingKind::OutOfBounds]));
    // The alignment is that of 16 bytes.
    let o = b.run(&body(4, 4), &[x, y], 1, 1, &LaunchOptions::checked());
    assert_eq!((o.error, kinds(&o)), (Some(Fault::MisalignedAddress), vec![FindingKind::Misaligned]));
}

#[test]
fn a_kernel_calls_what_another_has_stored() {
    let b = Bench::new();
    let out = b.buffer(&[0; 32]);
    let text = format!(
        "{HEAD}.global .align 8 .u64 table;\n\
         .func (.param .b32 ret0) triple(.param .b32 p0)\n{{\n.reg .b32 %r<9>;\nld.param.u32 %r1, [p0];\n\
         mul.lo.u32 %r2, %r1, 3;\nst.param.b32 [ret0+0], %r2;\nret;\n}}\n\
         .visible .entry set()\n{{\n.reg .b64 %rd<9>;\nmov.u64 %rd1, triple;\nst.global.u64 [table], %rd1;\nret;\n}}\n\
         .visible .entry k(.param .u64 p)\n{{\n.reg .b32 %r<9>;\n.reg .b64 %rd<9>;\nld.param.u64 %rd1, [p];\n\
         mov.u32 %r1, %tid.x;\nld.global.u64 %rd2, [table];\n\
         {{ .param .b32 a0; st.param.b32 [a0+0], %r1; .param .b32 r0;\n\
         prototype_0 : .callprototype (.param .b32 _) _ (.param .b32 _);\ncall (r0), %rd2, (a0), prototype_0;\n\
         ld.param.b32 %r2, [r0+0]; }}\n\
         mul.wide.u32 %rd3, %r1, 4;\nadd.s64 %rd4, %rd1, %rd3;\nst.global.u32 [%rd4], %r2;\nret;\n}}\n"
    );
    let module = b.engine.load(0, &b.profile, text.as_bytes()).unwrap_or_else(|e| panic!("{e}"));
    let launch = |name: &str, params: &[u8]| {
        let kernel = module.kernel(name).unwrap();
        let block = [if name == "k" { 32 } else { 1 }, 1, 1];
        let launch =
            Launch { kernel: &kernel, device: 0, profile: &b.profile, grid: [1; 3], block, dynamic_shared: 0, params };
        let o = b.engine.launch(&launch, &LaunchOptions::checked());
        assert_eq!((o.error, kinds(&o)), (None, vec![]), "{name}");
    };
    launch("set", &[]);
    launch("k", &out.to_le_bytes());
    assert!(b.words(out, 32).into_iter().eq((0..32).map(|i| 3 * i)));
}

#[test]
fn of_two_faults_the_heavier_is_the_launchs() {
    let b = Bench::new();
    let x = b.buffer(&[0; 4]);
    // The first block's address is misaligned, the second's is beyond the end.
    let body =
        "setp.eq.u32 %p1, %r3, 0;\n@%p1 ld.global.u32 %r5, [%rd1+2];\n@!%p1 ld.global.u32 %r5, [%rd1+4096];\nret;";
    for threads in [1, 2] {
        let o = b.run(body, &[x], 2, 1, &LaunchOptions { threads, ..LaunchOptions::checked() });
        assert_eq!(o.error, Some(Fault::IllegalAddress), "{threads} threads");
    }
}

#[test]
fn an_atomic_without_a_result_and_one_of_a_byte() {
    let b = Bench::new();
    let x = b.buffer(&[0; 2]);
    let o = b.run("atom.global.add.u64 _, [%rd1], 1;\nret;", &[x], 1, 32, &LaunchOptions::checked());
    assert_eq!((o.error, kinds(&o), b.words(x, 2)), (None, vec![], vec![32, 0]));
    // PTX has none of eight bits.
    let text = kernel("atom.global.exch.b8 %r5, [%rd1], %r6;\nret;", 1);
    assert!(b.engine.load(0, &b.profile, text.as_bytes()).is_err());
}

#[test]
fn an_argument_list_that_wraps_around_ends_the_launch() {
    let b = Bench::new();
    let text = format!(
        "{HEAD}.extern .func (.param .b32 r) vprintf(.param .b64 a, .param .b64 b);\n\
         .global .align 1 .b8 fmt[4] = {{37, 100, 10, 0}};\n\
         .visible .entry k()\n{{\n.reg .b32 %r<9>;\n.reg .b64 %rd<9>;\nmov.u64 %rd2, -1;\n\
         mov.u64 %rd3, fmt;\ncvta.global.u64 %rd4, %rd3;\n\
         {{ .param .b64 p0; st.param.b64 [p0+0], %rd4; .param .b64 p1; st.param.b64 [p1+0], %rd2; .param .b32 r0; \
         call.uni (r0), vprintf, (p0, p1); ld.param.b32 %r2, [r0+0]; }}\nret;\n}}\n"
    );
    let o = b.run_text(&text, &[], 2, 1, &LaunchOptions { threads: 2, ..LaunchOptions::checked() });
    assert!(o.printed.ends_with('\n'), "{:?}", o.printed);
}

#[test]
fn saturation_that_is_not_known_is_refused() {
    let b = Bench::new();
    for form in ["f16x2.f32 %r5, %f1, %f2", "tf32.f32 %r5, %f1"] {
        let text = kernel(&format!("cvt.rn.satfinite.{form};\nret;"), 0);
        assert!(b.engine.load(0, &b.profile, text.as_bytes()).is_err(), "{form}");
    }
}

#[test]
fn every_thread_of_a_large_block_may_acquire() {
    let b = Bench::new();
    let (x, flag, y) = (b.buffer(&[0]), b.buffer(&[0]), b.buffer(&[0; 1024]));
    // Block 0 hands a word over; all 512 threads of block 1 wait for it, each by itself.
    let body = format!(
        "setp.ne.u32 %p1, %r3, 0;\n@%p1 bra WAIT;\nsetp.ne.u32 %p2, %r2, 0;\n@%p2 bra END;\n\
         mov.u32 %r5, 7;\nst.global.u32 [%rd2], %r5;\nmov.u32 %r5, 1;\nst.release.gpu.global.u32 [%rd3], %r5;\nbra END;\n\
         WAIT: ld.acquire.gpu.global.u32 %r6, [%rd3];\nsetp.eq.u32 %p3, %r6, 0;\n@%p3 bra WAIT;\n\
         ld.global.u32 %r7, [%rd2];\n{INDEX}st.global.u32 [%rd11], %r7;\nEND: ret;"
    );
    let o = b.run(&body, &[y, x, flag], 2, 512, &LaunchOptions::checked());
    assert_eq!((o.error, kinds(&o)), (None, vec![]));
    assert_eq!(b.words(y, 1024)[512..], [7; 512]);
}
