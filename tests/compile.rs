//! Every kernel compiles to machine code for every architecture and precision, without warnings and without register spills.
//! Needs no GPU and no driver; downloads NVRTC if it is not installed.
//!
//! What CI has no time for, and other compilers:
//!
//! ```sh
//! cargo test --release --package alexnet-kernels --test compile -- --ignored --nocapture
//! pip download --no-deps nvidia-cuda-nvrtc==13.0.88 && unzip nvidia_cuda_nvrtc-13.0.88-*.whl -d nvrtc
//! ALEXNET_NVRTC=nvrtc/nvidia/cu13/lib ALEXNET_UNIT=conv cargo test --release --package alexnet-kernels --test compile -- --ignored
//! ```

use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use alexnet_kernels::nvrtc::{self, Code, Compiled, Nvrtc, Target};
use alexnet_kernels::{Precision, UNITS, Unit, cache, defines};

const ARCHITECTURES: [u32; 8] = [70, 75, 80, 86, 89, 90, 100, 120];

/// Of those, architectures whose source is different: the others differ from one of these in no comparison of `__CUDA_ARCH__` that
/// matters in the precision, only in ptxas's schedule.
fn different_sources(precision: Precision) -> &'static [u32] {
    match precision {
        // winograd.cu tells sm_86 from sm_80.
        Precision::Fp32 => &[70, 75, 80, 86, 90, 120],
        Precision::Fp16 => &[70, 75, 80, 90, 120],
        // As fp32 before sm_80.
        Precision::Tf32 => &[80, 90, 120],
        // As fp16 from sm_80 on; before, in fp32.
        Precision::Bf16 => &[75, 80, 90],
    }
}

/// The version that [`nvrtc::fetch`] downloads, or the one that ALEXNET_NVRTC names.
fn compiler() -> &'static Nvrtc {
    static COMPILER: OnceLock<Nvrtc> = OnceLock::new();
    if std::env::var_os("ALEXNET_NVRTC").is_some() {
        return Nvrtc::find().unwrap_or_else(|e| panic!("{e}"));
    }
    COMPILER.get_or_init(|| {
        let folder = nvrtc::fetch().unwrap_or_else(|e| panic!("{e}"));
        Nvrtc::load(&folder.join("libnvrtc.so.12")).unwrap_or_else(|e| panic!("{e}"))
    })
}

/// Spills and warnings in the log of ptxas.
fn faults(log: &str) -> Vec<String> {
    let mut kernel = "";
    let mut faults = Vec::new();
    for line in log.lines() {
        if let Some(name) = line.split("Compiling entry function '").nth(1) {
            kernel = name.split('\'').next().unwrap_or(name);
        } else if line.contains("bytes stack frame") {
            if !line.contains(" 0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads") {
                faults.push(format!("{kernel}: {}", line.trim()));
            }
        } else if !line.is_empty() && !line.starts_with("ptxas info") && !line.contains("are deprecated") {
            // NVRTC 12.9 warns that sm_70 is deprecated, which is not a fault of the kernel.
            faults.push(line.trim().to_owned());
        }
    }
    if kernel.is_empty() {
        faults.push(format!("no kernel in the log: {log}"));
    }
    faults
}

/// Puts the code into the cache, PTX too: the tests on warpcheck want it, and compile one file at a time.
fn keep(unit: &Unit, target: Target, precision: Precision, compiled: &Compiled) {
    if UNITS.contains(unit) {
        for (code, image) in [(Code::Cubin, &compiled.image), (Code::Ptx, &compiled.ptx)] {
            let target = Target { code, ..target };
            let options = Nvrtc::options(target, &defines(precision));
            let stored = cache::entry(compiler(), unit, target, &options).and_then(|entry| cache::write(&entry, image));
            stored.unwrap_or_else(|e| panic!("{e}"));
        }
    }
}

fn compile(unit: &Unit, sm: u32, precision: Precision) -> Vec<String> {
    let target = Target { code: Code::Cubin, sm };
    let mut options = Nvrtc::options(target, &defines(precision));
    options.push("-Xptxas=-v".into());
    let faults = match compiler().compile(unit, target, &options) {
        Ok(compiled) => {
            keep(unit, target, precision, &compiled);
            faults(&compiled.log)
        }
        Err(e) => vec![e.to_string()],
    };
    faults.into_iter().map(|fault| format!("{}.cu {precision:?} {target}: {fault}", unit.name)).collect()
}

/// The work of one process: NVRTC compiles one file at a time in a process.
fn compile_part(part: &str) {
    let (name, numbers) = part.split_once(' ').unwrap();
    let (precision, architectures) = numbers.split_once(' ').unwrap();
    let unit = UNITS.iter().find(|unit| unit.name == name).unwrap();
    let precision = Precision::ALL.into_iter().find(|known| format!("{known:?}") == precision).unwrap();
    let architectures = architectures.split(',').map(|sm| sm.parse().unwrap());
    let faults: Vec<String> = architectures.flat_map(|sm| compile(unit, sm, precision)).collect();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// Compiles every file in every precision for these architectures, those that the compiler knows, in as many processes at once as
/// there are cores: `test` again with its part of the work.
fn compile_all(test: &str, architectures: fn(Precision) -> &'static [u32]) {
    if let Ok(part) = std::env::var("COMPILE_PART") {
        return compile_part(&part);
    }
    let only = std::env::var("ALEXNET_UNIT").ok();
    let mut units: Vec<&Unit> =
        UNITS.iter().filter(|unit| only.as_deref().is_none_or(|only| unit.name == only)).collect();
    // Those that take longest first.
    units.sort_by_key(|unit| std::cmp::Reverse((unit.source.contains("tile.cuh"), unit.source.len())));
    let known = compiler().architectures();
    let mut parts = Vec::new();
    for unit in units {
        for precision in Precision::ALL {
            let targets = architectures(precision).iter().filter(|sm| known.contains(sm));
            let targets: Vec<String> = targets.map(u32::to_string).collect();
            assert!(targets.len() > 2, "the compiler knows {known:?} only");
            parts.push((targets.len(), format!("{} {precision:?} {}", unit.name, targets.join(","))));
        }
    }
    assert!(!parts.is_empty());
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some((_, part)) = parts.get(next.fetch_add(1, Ordering::Relaxed)) {
            let begun = Instant::now();
            let mut process = Command::new(std::env::current_exe().unwrap());
            process.args([test, "--exact", "--nocapture", "--include-ignored"]).env("COMPILE_PART", part);
            let output = process.output().unwrap();
            let text =
                [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
            assert!(output.status.success() && text.contains("1 passed"), "{}: {text}", output.status);
            println!("{part}: {:.1} s", begun.elapsed().as_secs_f64());
        }
    };
    thread::scope(|scope| {
        let threads = (0..thread::available_parallelism().map_or(1, usize::from)).map(|_| scope.spawn(work));
        threads.collect::<Vec<_>>().into_iter().for_each(|thread| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
    });
    let (major, minor) = compiler().version();
    let compiled: usize = parts.iter().map(|(targets, _)| targets).sum();
    println!("NVRTC {major}.{minor}: {compiled} files compiled");
}

#[test]
fn all_kernels_without_spills_or_warnings() {
    compile_all("all_kernels_without_spills_or_warnings", different_sources);
}

#[test]
#[ignore = "takes twice as long as the test for one architecture of each source"]
fn all_kernels_for_all_architectures_without_spills_or_warnings() {
    compile_all("all_kernels_for_all_architectures_without_spills_or_warnings", |_| &ARCHITECTURES);
}

#[test]
fn a_spill_and_a_warning_are_seen() {
    let source = "KERNEL void spills(float* x, int i) { float y[300]; for (int j = 0; j < 300; j++) y[j] = x[j]; \
                  int unused; x[0] = y[i]; }";
    let source: &'static str = Box::leak(format!("#include \"prelude.cuh\"\n{source}").into_boxed_str());
    let faults = compile(&Unit { name: "spills", source, hash: "" }, 80, Precision::Fp32);
    assert!(faults.iter().any(|fault| fault.contains("bytes stack frame")), "{faults:?}");
    assert!(faults.iter().any(|fault| fault.contains("warning")), "{faults:?}");
}

/// A kernel that touched memory or returned before it would do so before the kernels ahead of it have ended.
#[test]
fn every_kernel_begins_by_waiting_for_those_ahead() {
    let mut kernels = 0;
    for unit in UNITS {
        // A line that a macro continues ends with a backslash.
        let source = unit.source.replace("\\\n", "\n");
        for kernel in source.split("KERNEL void").skip(1) {
            let body = kernel.split_once(") {").map(|(_, body)| body.trim_start());
            let first = body.is_some_and(|body| body.starts_with("begin_kernel();"));
            assert!(first, "{}.cu: a kernel does not begin with begin_kernel():{}", unit.name, &kernel[..80]);
            kernels += 1;
        }
        assert_eq!(unit.source.matches("__global__").count(), 0, "{}.cu: kernels are declared with KERNEL", unit.name);
    }
    assert!(kernels > 40);
}

#[test]
fn machine_code_is_made_from_the_ptx_of_its_architecture() {
    let unit = UNITS.iter().find(|unit| unit.name == "relu").unwrap();
    let [cubin, ptx] = [Code::Cubin, Code::Ptx].map(|code| {
        let target = Target { code, sm: 80 };
        compiler().compile(unit, target, &Nvrtc::options(target, &defines(Precision::Fp16))).unwrap()
    });
    assert!(cubin.ptx.ends_with(b"\0") && cubin.ptx == ptx.image && ptx.ptx.is_empty());
    assert_ne!(cubin.image, cubin.ptx);
}

#[test]
fn an_error_shows_file_and_line() {
    let unit =
        Unit { name: "broken", source: "#include \"prelude.cuh\"\nKERNEL void k(T* x) {\n  x[0] = y;\n}", hash: "" };
    let target = Target { code: Code::Ptx, sm: 80 };
    let error = compiler().compile(&unit, target, &Nvrtc::options(target, &[])).unwrap_err().to_string();
    assert!(error.contains("kernels/broken.cu(3): error: identifier \"y\" is undefined"), "{error}");
    assert!(error.lines().count() > 2, "{error}");
}

#[test]
fn an_unknown_architecture_becomes_ptx_for_the_newest_known() {
    let nvrtc = compiler();
    assert_eq!(nvrtc.target(Code::Cubin, 80), Target { code: Code::Cubin, sm: 80 });
    let newest = *nvrtc.architectures().iter().max().unwrap();
    assert_eq!(nvrtc.target(Code::Cubin, 990), Target { code: Code::Ptx, sm: newest });
    assert_eq!(nvrtc.target(Code::Cubin, 81), Target { code: Code::Ptx, sm: 80 });
}
