mod corners;

use super::*;
use crate::{finding::FindingKind, launch::Fault, memory::Kind};

/// A machine with a few buffers, and what a launch on it needs.
struct Bench {
    engine: Engine,
    profile: Profile,
}

impl Bench {
    fn new() -> Bench {
        Bench { engine: Engine::new(), profile: Profile::by_name("h100").unwrap() }
    }

    fn buffer(&self, words: &[u32]) -> u64 {
        let a = self.raw(words.len() as u64 * 4);
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        self.engine.memory().write(a, &bytes).unwrap();
        a
    }

    fn raw(&self, bytes: u64) -> u64 {
        self.engine.memory().allocate(Kind::Device, 0, bytes, 256, "buffer").unwrap()
    }

    fn words(&self, address: u64, count: usize) -> Vec<u32> {
        let mut bytes = vec![0; count * 4];
        self.engine.memory().read(address, &mut bytes).unwrap();
        bytes.chunks(4).map(|c| u32::from_le_bytes(c.try_into().unwrap())).collect()
    }

    fn run(&self, body: &str, params: &[u64], grid: u32, block: u32, options: &LaunchOptions) -> Outcome {
        self.run_text(&kernel(body, params.len()), params, grid, block, options)
    }

    fn run_text(&self, text: &str, params: &[u64], grid: u32, block: u32, options: &LaunchOptions) -> Outcome {
        self.run_with_shared(text, params, [grid, block, 0], options)
    }

    fn run_with_shared(
        &self,
        text: &str,
        params: &[u64],
        [grid, block, dynamic_shared]: [u32; 3],
        options: &LaunchOptions,
    ) -> Outcome {
        let module = self.engine.load(0, &self.profile, text.as_bytes()).unwrap_or_else(|e| panic!("{e}"));
        let kernel = module.kernel("k").unwrap();
        let params: Vec<u8> = params.iter().flat_map(|p| p.to_le_bytes()).collect();
        self.engine.launch(
            &Launch {
                kernel: &kernel,
                device: 0,
                profile: &self.profile,
                grid: [grid, 1, 1],
                block: [block, 1, 1],
                dynamic_shared,
                params: &params,
            },
            options,
        )
    }
}

const HEAD: &str = ".version 8.8\n.target sm_80\n.address_size 64\n";

/// A kernel whose parameters are in %rd1, %rd2, … and %r1 the thread's number in the grid.
fn kernel(body: &str, params: usize) -> String {
    let list: Vec<String> = (0..params).map(|i| format!(".param .u64 p{i}")).collect();
    let loads: String = (0..params).map(|i| format!("ld.param.u64 %rd{}, [p{i}];\n", i + 1)).collect();
    format!(
        "{HEAD}.visible .entry k({})\n{{\n.reg .b32 %r<50>;\n.reg .b64 %rd<50>;\n.reg .f32 %f<50>;\n.reg .pred %p<20>;\n\
         {loads}mov.u32 %r2, %tid.x;\nmov.u32 %r3, %ctaid.x;\nmov.u32 %r4, %ntid.x;\nmad.lo.s32 %r1, %r3, %r4, %r2;\n\
         {body}\n}}\n",
        list.join(", ")
    )
}

fn kinds(o: &Outcome) -> Vec<FindingKind> {
    o.findings.iter().map(|f| f.kind).collect()
}

const INDEX: &str = "mul.wide.u32 %rd10, %r1, 4;\nadd.s64 %rd11, %rd1, %rd10;\n";

#[test]
fn every_thread_runs() {
    let b = Bench::new();
    let out = b.buffer(&[0; 100]);
    let body = format!(
        "setp.ge.u32 %p1, %r1, 100;\n@%p1 bra END;\n{INDEX}mul.lo.u32 %r5, %r1, %r1;\nst.global.u32 [%rd11], %r5;\nEND: ret;"
    );
    for options in [LaunchOptions::default(), LaunchOptions::checked()] {
        let o = b.run(&body, &[out], 3, 48, &options);
        assert_eq!((o.error, kinds(&o)), (None, vec![]));
        assert!(b.words(out, 100).iter().enumerate().all(|(i, &w)| w == (i * i) as u32));
    }
}

#[test]
fn a_stray_access_fails_with_and_without_checks() {
    let b = Bench::new();
    let out = b.buffer(&[0; 40]);
    let body = format!("{INDEX}st.global.u32 [%rd11], %r1;\nret;");
    let o = b.run(&body, &[out], 1, 64, &LaunchOptions::default());
    assert_eq!((o.error, kinds(&o)), (Some(Fault::IllegalAddress), vec![]));
    let o = b.run(&body, &[out], 1, 64, &LaunchOptions::checked());
    assert_eq!((o.error, kinds(&o)), (Some(Fault::IllegalAddress), vec![FindingKind::OutOfBounds]));
    let f = &o.findings[0];
    assert_eq!((f.thread, f.count, f.address, f.bytes), ([40, 0, 0], 24, out + 160, 4));
    assert_eq!(f.allocation.as_ref().map(|a| (a.base, a.size)), Some((out, 160)));
    assert_eq!(f.location.as_ref().map(|l| l.ptx_line), Some(17));
}

#[test]
fn addresses_of_every_bad_kind_are_named() {
    let b = Bench::new();
    let out = b.buffer(&[0; 40]);
    let gone = b.buffer(&[0; 40]);
    b.engine.memory().free(gone).unwrap();
    for (address, kind) in [
        (out + 2, FindingKind::Misaligned),
        (gone, FindingKind::UseAfterFree),
        (8, FindingKind::Null),
        (0x7000_0000_0000_0000, FindingKind::WildAddress),
        (out - 4, FindingKind::OutOfBounds),
    ] {
        let o = b.run("ld.global.u32 %r5, [%rd1];\nret;", &[address], 1, 1, &LaunchOptions::checked());
        assert_eq!(kinds(&o), [kind]);
    }
}

#[test]
fn what_was_never_written_may_not_be_read() {
    let b = Bench::new();
    let a = b.raw(256);
    b.engine.memory().write(a, &[1; 64]).unwrap();
    let used = "add.u32 %r6, %r5, 1;\nret;";
    let body = format!("{INDEX}ld.global.u32 %r5, [%rd11];\n{used}");
    assert_eq!(kinds(&b.run(&body, &[a], 1, 16, &LaunchOptions::checked())), []);
    let o = b.run(&body, &[a], 1, 17, &LaunchOptions::checked());
    assert_eq!((o.error, kinds(&o)), (None, vec![FindingKind::Uninitialised]));
    // What nothing reads, such as a component of a vector, needs no contents.
    let unread = format!("{INDEX}ld.global.u32 %r5, [%rd11];\nret;");
    assert_eq!(kinds(&b.run(&unread, &[a], 1, 17, &LaunchOptions::checked())), []);
    let shared = ".shared .align 4 .b8 s[128];\nmov.u32 %r6, s;\nshl.b32 %r7, %r2, 2;\nadd.s32 %r6, %r6, %r7;\nld.shared.u32 %r5, [%r6];\n";
    let shared = format!("{shared}{used}");
    assert_eq!(kinds(&b.run(&shared, &[], 1, 32, &LaunchOptions::checked())), [FindingKind::Uninitialised]);
    let local = ".local .align 4 .b8 l[16];\nmov.u64 %rd6, l;\nst.local.u32 [%rd6], 1;\nld.local.u32 %r5, [%rd6+4];\n";
    let local = format!("{local}{used}");
    assert_eq!(kinds(&b.run(&local, &[], 1, 1, &LaunchOptions::checked())), [FindingKind::Uninitialised]);
}

#[test]
fn a_missing_barrier_is_a_race() {
    let b = Bench::new();
    let out = b.buffer(&[0; 64]);
    let text = |barrier: &str| {
        format!(
            ".shared .align 4 .b8 s[256];\nmov.u32 %r6, s;\nshl.b32 %r7, %r2, 2;\nadd.s32 %r8, %r6, %r7;\nst.shared.u32 [%r8], %r2;\n\
             {barrier}\nxor.b32 %r9, %r7, 252;\nadd.s32 %r9, %r6, %r9;\nld.shared.u32 %r5, [%r9];\n{INDEX}st.global.u32 [%rd11], %r5;\nret;"
        )
    };
    let o = b.run(&text("bar.sync 0;"), &[out], 1, 64, &LaunchOptions::checked());
    assert_eq!((o.error, kinds(&o)), (None, vec![]));
    assert!(b.words(out, 64).iter().enumerate().all(|(i, &w)| w == 63 - i as u32));
    let o = b.run(&text(""), &[out], 1, 64, &LaunchOptions { init: false, ..LaunchOptions::checked() });
    assert_eq!((o.error, kinds(&o)), (None, vec![FindingKind::Race]));
    let other = o.findings[0].other.as_ref().unwrap();
    assert!(other.instruction.starts_with("st.shared") || other.instruction.starts_with("ld.shared"));
}

#[test]
fn blocks_race_in_global_memory_unless_a_fence_and_an_atomic_order_them() {
    let b = Bench::new();
    let body = |fence: &str| {
        // Block 1's thread waits for the ticket of block 0's, then reads what that one wrote.
        format!(
            "setp.ne.u32 %p1, %r3, 0;\n@%p1 bra SECOND;\nst.global.u32 [%rd1], 7;\n{fence}\natom.global.add.u32 %r5, [%rd2], 1;\nret;\n\
             SECOND:\natom.global.add.u32 %r5, [%rd2], 0;\nsetp.eq.u32 %p2, %r5, 0;\n@%p2 bra SECOND;\n{fence}\nld.global.u32 %r6, [%rd1];\nst.global.u32 [%rd3], %r6;\nret;"
        )
    };
    for threads in [1, 2] {
        let (x, t, y) = (b.buffer(&[0]), b.buffer(&[0]), b.buffer(&[0]));
        let options = LaunchOptions { threads, ..LaunchOptions::checked() };
        let o = b.run(&body("membar.gl;"), &[x, t, y], 2, 1, &options);
        assert_eq!(kinds(&o), []);
        assert_eq!(b.words(y, 1), [7]);
        let (x, t, y) = (b.buffer(&[0]), b.buffer(&[0]), b.buffer(&[0]));
        let o = b.run(&body(""), &[x, t, y], 2, 1, &options);
        assert_eq!(kinds(&o), [FindingKind::Race]);
    }
}

#[test]
fn blocks_that_write_the_same_bytes_race_on_any_number_of_host_threads() {
    let b = Bench::new();
    // Block 0 writes what is there already if it comes first, and is in a race all the same.
    let body = "cvt.u64.u32 %rd4, %r2;\nadd.u64 %rd4, %rd1, %rd4;\nst.global.u8 [%rd4], %r3;\nret;";
    for _ in 0..500 {
        let x = b.buffer(&[0; 8]);
        let o = b.run(body, &[x], 2, 32, &LaunchOptions { threads: 2, ..LaunchOptions::checked() });
        assert_eq!(kinds(&o), [FindingKind::Race]);
    }
}

#[test]
fn barriers_that_not_all_reach_are_found() {
    let b = Bench::new();
    let checked = LaunchOptions::checked();
    let early = "setp.gt.u32 %p1, %r2, 20;\n@%p1 bra END;\nbar.sync 0;\nEND: ret;";
    let strict = LaunchOptions { strict: true, ..checked.clone() };
    let o = b.run(early, &[], 1, 64, &strict);
    assert_eq!((o.error, kinds(&o)), (None, vec![FindingKind::BarrierAfterExit]));
    assert_eq!(kinds(&b.run(early, &[], 1, 64, &checked)), []);
    let past = "setp.gt.u32 %p1, %r2, 20;\n@%p1 bra END;\nbar.sync 0;\nEND: add.u32 %r2, %r2, 1;\nret;";
    assert_eq!(kinds(&b.run(past, &[], 1, 64, &checked)), [FindingKind::BarrierAfterExit]);
    let split = "setp.gt.u32 %p1, %r2, 20;\n@%p1 bra B;\nbar.sync 0;\nbra END;\nB: bar.sync 0;\nEND: ret;";
    assert_eq!(kinds(&b.run(split, &[], 1, 32, &checked)), [FindingKind::BarrierDivergence]);
    let warps = "setp.gt.u32 %p1, %r2, 31;\n@%p1 bra B;\nbar.sync 0;\nbra END;\nB: bar.sync 0;\nEND: ret;";
    assert_eq!(kinds(&b.run(warps, &[], 1, 64, &checked)), []);
    let counts = "setp.gt.u32 %p1, %r2, 31;\n@%p1 bra B;\nbar.sync 1, 96;\nbra END;\nB: bar.sync 1, 64;\nEND: ret;";
    assert_eq!(kinds(&b.run(counts, &[], 1, 96, &checked)), [FindingKind::BarrierMismatch]);
    let count = "bar.sync 1, 96;\nret;";
    let o = b.run(count, &[], 1, 64, &checked);
    assert_eq!((o.error, kinds(&o)), (Some(Fault::LaunchTimeout), vec![FindingKind::Deadlock]));
    let endless = "L: bra L;";
    let o = b.run(endless, &[], 1, 64, &LaunchOptions { budget: 100_000, seconds: 0, ..LaunchOptions::checked() });
    assert_eq!((o.error, kinds(&o)), (Some(Fault::LaunchTimeout), vec![FindingKind::Budget]));
    let o = b.run(endless, &[], 1, 64, &LaunchOptions { budget: 100_000, seconds: 0, ..LaunchOptions::default() });
    assert_eq!((o.error, kinds(&o)), (Some(Fault::LaunchTimeout), vec![]));
}

#[test]
fn producers_and_consumers_meet_at_named_barriers() {
    let b = Bench::new();
    let out = b.buffer(&[0; 32]);
    let body = format!(
        ".shared .align 4 .b8 s[128];\nmov.u32 %r6, s;\nand.b32 %r7, %r2, 31;\nshl.b32 %r7, %r7, 2;\nadd.s32 %r6, %r6, %r7;\n\
         setp.ge.u32 %p1, %r2, 32;\n@%p1 bra CONSUMER;\nst.shared.u32 [%r6], %r2;\nbar.arrive 1, 64;\nret;\n\
         CONSUMER: bar.sync 1, 64;\nld.shared.u32 %r5, [%r6];\nsub.s32 %r1, %r1, 32;\n{INDEX}st.global.u32 [%rd11], %r5;\nret;"
    );
    let o = b.run(&body, &[out], 1, 64, &LaunchOptions::checked());
    assert_eq!((o.error, kinds(&o)), (None, vec![]));
    assert!(b.words(out, 32).iter().enumerate().all(|(i, &w)| w == i as u32));
}

#[test]
fn lanes_that_spin_for_each_other_make_progress() {
    // A lock taken by every lane in turn: the loser spins at a lower address than the winner's critical section.
    let b = Bench::new();
    let (lock, counter) = (b.buffer(&[0]), b.buffer(&[0]));
    let body = "SPIN: atom.global.cas.b32 %r5, [%rd1], 0, 1;\nsetp.ne.u32 %p1, %r5, 0;\n@%p1 bra SPIN;\n\
                ld.volatile.global.u32 %r6, [%rd2];\nadd.u32 %r6, %r6, 1;\nst.volatile.global.u32 [%rd2], %r6;\nmembar.gl;\n\
                atom.global.exch.b32 %r5, [%rd1], 0;\nret;";
    let o = b.run(
        body,
        &[lock, counter],
        3,
        64,
        &LaunchOptions { budget: 1 << 26, seconds: 0, ..LaunchOptions::default() },
    );
    assert_eq!(o.error, None);
    assert_eq!(b.words(counter, 1), [192]);
}

#[test]
fn blocks_that_wait_for_later_blocks_make_progress() {
    let b = Bench::new();
    let (flag, done) = (b.buffer(&[0]), b.buffer(&[0]));
    let body = "setp.eq.u32 %p1, %r3, 3;\n@%p1 bra LAST;\nW: ld.volatile.global.u32 %r5, [%rd1];\nsetp.eq.u32 %p2, %r5, 0;\n@%p2 bra W;\n\
                red.global.add.u32 [%rd2], 1;\nret;\nLAST: st.volatile.global.u32 [%rd1], 1;\nret;";
    for threads in [1, 2] {
        b.engine.memory().write(flag, &[0; 4]).unwrap();
        b.engine.memory().write(done, &[0; 4]).unwrap();
        let o = b.run(body, &[flag, done], 4, 1, &LaunchOptions { threads, ..LaunchOptions::default() });
        assert_eq!(o.error, None);
        assert_eq!(b.words(done, 1), [3]);
    }
}

#[test]
fn functions_call_and_call_themselves() {
    let b = Bench::new();
    let out = b.buffer(&[0; 12]);
    let text = format!(
        "{HEAD}.func (.param .b32 ret0) fib(.param .b32 p0)\n{{\n.reg .b32 %r<9>;\n.reg .pred %p<2>;\nld.param.u32 %r1, [p0];\n\
         setp.lt.s32 %p1, %r1, 2;\n@%p1 bra L;\nadd.s32 %r2, %r1, -1;\n\
         {{ .param .b32 a0; st.param.b32 [a0+0], %r2; .param .b32 r0; call.uni (r0), fib, (a0); ld.param.b32 %r3, [r0+0]; }}\n\
         add.s32 %r2, %r1, -2;\n\
         {{ .param .b32 a0; st.param.b32 [a0+0], %r2; .param .b32 r0; call.uni (r0), fib, (a0); ld.param.b32 %r4, [r0+0]; }}\n\
         add.s32 %r1, %r3, %r4;\nL: st.param.b32 [ret0+0], %r1;\nret;\n}}\n\
         .visible .entry k(.param .u64 p)\n{{\n.reg .b32 %r<9>;\n.reg .b64 %rd<9>;\nld.param.u64 %rd1, [p];\nmov.u32 %r1, %tid.x;\n\
         {{ .param .b32 a0; st.param.b32 [a0+0], %r1; .param .b32 r0; call.uni (r0), fib, (a0); ld.param.b32 %r2, [r0+0]; }}\n\
         mul.wide.u32 %rd2, %r1, 4;\nadd.s64 %rd3, %rd1, %rd2;\nst.global.u32 [%rd3], %r2;\nret;\n}}\n"
    );
    let o = b.run_text(&text, &[out], 1, 12, &LaunchOptions::checked());
    assert_eq!((o.error, kinds(&o)), (None, vec![]));
    assert_eq!(b.words(out, 12), [0, 1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89]);
}

#[test]
fn dynamic_shared_memory_is_whole_after_static_memory_of_any_size() {
    let b = Bench::new();
    // Four bytes of static memory, then 64 bytes that begin at the next multiple of 16.
    let text = format!(
        "{HEAD}.extern .shared .align 4 .b8 all[];\n.visible .entry k()\n{{\n.shared .align 4 .b8 own[4];\n.reg .b32 %r<9>;\n\
         mov.u32 %r1, %tid.x;\nst.shared.u32 [own], %r1;\nmov.u32 %r2, all;\nshl.b32 %r3, %r1, 2;\nadd.s32 %r2, %r2, %r3;\n\
         st.shared.u32 [%r2], %r1;\nret;\n}}\n"
    );
    let options = LaunchOptions { race: false, ..LaunchOptions::checked() };
    assert_eq!(b.run_with_shared(&text, &[], [1, 16, 64], &options).error, None);
    assert!(b.run_with_shared(&text, &[], [1, 17, 64], &options).error.is_some());
}

#[test]
fn float_atomics_do_not_depend_on_host_threads() {
    let b = Bench::new();
    let body = "cvt.rn.f32.u32 %f1, %r1;\nadd.f32 %f1, %f1, 0f3F000001;\nrcp.rn.f32 %f1, %f1;\nred.global.add.f32 [%rd1], %f1;\nret;";
    let mut sums = vec![];
    for threads in [1, 2, 4] {
        let a = b.buffer(&[0]);
        assert_eq!(b.run(body, &[a], 50, 64, &LaunchOptions { threads, ..LaunchOptions::default() }).error, None);
        sums.push(b.words(a, 1)[0]);
    }
    assert!(sums.iter().all(|&s| s == sums[0]), "{sums:?}");
}

#[test]
fn copies_that_are_not_waited_for_are_races() {
    let b = Bench::new();
    let input: Vec<u32> = (0..128).collect();
    let (x, y) = (b.buffer(&input), b.buffer(&[0; 32]));
    let body = |wait: &str| {
        format!(
            ".shared .align 16 .b8 s[512];\nmov.u32 %r6, s;\nshl.b32 %r7, %r2, 4;\nadd.s32 %r6, %r6, %r7;\nmul.wide.u32 %rd5, %r2, 16;\n\
             add.s64 %rd6, %rd2, %rd5;\ncp.async.cg.shared.global [%r6], [%rd6], 16;\ncp.async.commit_group;\n{wait}\n\
             ld.shared.u32 %r5, [%r6+8];\n{INDEX}st.global.u32 [%rd11], %r5;\nret;"
        )
    };
    let o = b.run(&body("cp.async.wait_group 0;"), &[y, x], 1, 32, &LaunchOptions::checked());
    assert_eq!((o.error, kinds(&o)), (None, vec![]));
    assert_eq!(b.words(y, 32)[5], 22);
    let o = b.run(&body(""), &[y, x], 1, 32, &LaunchOptions { init: false, ..LaunchOptions::checked() });
    assert_eq!(kinds(&o), [FindingKind::Race]);
}

#[test]
fn counters_follow_the_hardware() {
    let b = Bench::new();
    let a = b.buffer(&[1; 64 * 33]);
    let options = LaunchOptions { count: true, ..LaunchOptions::default() };
    let body = format!("{INDEX}ld.global.u32 %r5, [%rd11];\nadd.u32 %r5, %r5, 1;\nst.global.u32 [%rd11], %r5;\nret;");
    let c = b.run(&body, &[a], 1, 64, &options).counters.unwrap();
    assert_eq!((c.global_load.requests, c.global_load.sectors, c.global_load.ideal_sectors), (2, 8, 8));
    assert_eq!((c.unique_bytes_read, c.unique_bytes_written, c.warps, c.blocks), (256, 256, 2, 1));
    let strided = "mul.wide.u32 %rd10, %r1, 128;\nadd.s64 %rd11, %rd1, %rd10;\nld.global.u32 %r5, [%rd11];\nret;";
    let c = b.run(strided, &[a], 1, 32, &options).counters.unwrap();
    assert_eq!((c.global_load.sectors, c.global_load.ideal_sectors), (32, 4));
    for (step, wavefronts) in [(4, 1), (8, 2), (128, 32), (0, 1), (132, 1)] {
        let shared = format!(
            ".shared .align 4 .b8 s[8192];\nmov.u32 %r6, s;\nmul.lo.u32 %r7, %r2, {step};\nadd.s32 %r6, %r6, %r7;\nst.shared.u32 [%r6], %r2;\nret;"
        );
        let c = b.run(&shared, &[], 1, 32, &options).counters.unwrap();
        assert_eq!((c.shared_store.wavefronts, c.shared_store.ideal_wavefronts), (wavefronts, 1), "{step}");
    }
}

#[test]
fn printed_text_comes_in_the_order_of_blocks() {
    let b = Bench::new();
    let text = format!(
        "{HEAD}.extern .func (.param .b32 r) vprintf(.param .b64 a, .param .b64 b);\n\
         .global .align 1 .b8 fmt[10] = {{37, 100, 32, 37, 46, 49, 102, 10, 0, 0}};\n\
         .visible .entry k()\n{{\n.local .align 8 .b8 buf[16];\n.reg .b32 %r<9>;\n.reg .b64 %rd<9>;\n.reg .f64 %fd<2>;\n\
         mov.u64 %rd1, buf;\ncvta.local.u64 %rd2, %rd1;\nmov.u32 %r1, %ctaid.x;\nst.local.u32 [%rd1], %r1;\nmov.f64 %fd1, 0d3FF8000000000000;\n\
         st.local.f64 [%rd1+8], %fd1;\nmov.u64 %rd3, fmt;\ncvta.global.u64 %rd4, %rd3;\n\
         {{ .param .b64 p0; st.param.b64 [p0+0], %rd4; .param .b64 p1; st.param.b64 [p1+0], %rd2; .param .b32 r0; call.uni (r0), vprintf, (p0, p1); ld.param.b32 %r2, [r0+0]; }}\nret;\n}}\n"
    );
    let o = b.run_text(&text, &[], 3, 1, &LaunchOptions::checked());
    assert_eq!((o.printed.as_str(), kinds(&o)), ("0 1.5\n1 1.5\n2 1.5\n", vec![]));
}

#[test]
fn a_seed_changes_the_order_and_not_the_result() {
    let b = Bench::new();
    let a = b.buffer(&[0; 64]);
    // The ticket tells the order in which blocks ran.
    let body = format!("atom.global.add.u32 %r5, [%rd2], 1;\n{INDEX}st.global.u32 [%rd11], %r5;\nret;");
    let mut orders = vec![];
    for schedule in [None, Some(1), Some(2)] {
        let t = b.buffer(&[0]);
        let o = b.run(&body, &[a, t], 64, 1, &LaunchOptions { schedule, ..LaunchOptions::checked() });
        assert_eq!((o.error, kinds(&o)), (None, vec![]));
        orders.push(b.words(a, 64));
        let mut sorted = b.words(a, 64);
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..64));
    }
    assert!(orders[0].iter().copied().eq(0..64));
    assert!(orders[0] != orders[1] && orders[1] != orders[2]);
}

#[test]
fn newer_instructions_are_refused_with_their_line() {
    let b = Bench::new();
    let text = kernel("elect.sync _|%p1, -1;\nret;", 0);
    let e = b.engine.load(0, &b.profile, text.as_bytes()).unwrap_err();
    assert!(e.unsupported_target && e.line == 14 && e.message.contains("elect.sync"), "{e}");
}

#[test]
fn lanes_that_wait_keep_their_registers() {
    // %r5 is dead at the loop's start and alive in lanes that have left it; the loop's wide registers must not take it.
    let b = Bench::new();
    let out = b.buffer(&[0; 32]);
    let body = format!(
        "mov.u32 %r6, 0;\nbra TEST;\nLOOP: cvt.u64.u32 %rd20, %r6;\nmul.lo.s64 %rd21, %rd20, 3;\nadd.s64 %rd22, %rd21, 7;\n\
         sub.s64 %rd23, %rd22, %rd21;\ncvt.u32.u64 %r8, %rd23;\nsub.u32 %r8, %r8, 6;\nadd.u32 %r6, %r6, %r8;\n\
         TEST: mov.u32 %r5, %r6;\nsetp.eq.u32 %p1, %r6, %r2;\n@%p1 bra DONE;\nmov.u32 %r5, 99;\nsetp.gt.u32 %p2, %r6, 50;\n\
         @%p2 bra DONE;\nbra LOOP;\nDONE: {INDEX}st.global.u32 [%rd11], %r5;\nret;"
    );
    assert_eq!(b.run(&body, &[out], 1, 32, &LaunchOptions::default()).error, None);
    assert!(b.words(out, 32).into_iter().eq(0..32));
}

#[test]
fn a_warp_barrier_is_enough_within_a_warp() {
    let b = Bench::new();
    let out = b.buffer(&[0; 64]);
    let body = format!(
        ".shared .align 4 .b8 s[256];\nmov.u32 %r6, s;\nshl.b32 %r7, %r2, 2;\nadd.s32 %r8, %r6, %r7;\nst.shared.u32 [%r8], %r2;\n\
         bar.warp.sync -1;\nxor.b32 %r9, %r7, 124;\nadd.s32 %r9, %r6, %r9;\nld.shared.u32 %r5, [%r9];\nbar.warp.sync -1;\n\
         st.shared.u32 [%r8], %r5;\nbar.warp.sync -1;\nld.shared.u32 %r5, [%r9];\n{INDEX}st.global.u32 [%rd11], %r5;\nret;"
    );
    let o = b.run(&body, &[out], 1, 64, &LaunchOptions::checked());
    assert_eq!((o.error, kinds(&o)), (None, vec![]));
    assert!(b.words(out, 64).into_iter().eq(0..64));
}

#[test]
fn two_warps_of_three_take_turns_at_a_named_barrier() {
    // Both read the same words between barriers, then the first writes them: the third warp has nothing to do with it.
    let b = Bench::new();
    let body = "setp.ge.u32 %p1, %r2, 64;\n@%p1 bra END;\n.shared .align 4 .b8 s[128];\nmov.u32 %r6, s;\nand.b32 %r7, %r2, 31;\n\
         shl.b32 %r7, %r7, 2;\nadd.s32 %r6, %r6, %r7;\nsetp.ge.u32 %p2, %r2, 32;\n@%p2 bra R;\nst.shared.u32 [%r6], %r2;\n\
         R: bar.sync 1, 64;\nld.shared.u32 %r5, [%r6];\nbar.sync 1, 64;\n@%p2 bra END;\nst.shared.u32 [%r6], %r5;\nEND: ret;";
    assert_eq!(kinds(&b.run(body, &[], 1, 96, &LaunchOptions::checked())), []);
}
