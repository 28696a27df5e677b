//! The program `warpcheck`, end to end: its clients are ignored tests of this binary, which run
//! cudarc as any program would, with nothing of this crate in their process but the library that
//! `warpcheck run` puts in place.

mod client;

use cudarc::driver::{CudaContext, LaunchConfig, PushKernelArg, sys};
use cudarc::nvrtc::Ptx;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

const WARPCHECK: &str = env!("CARGO_BIN_EXE_warpcheck");

/// `warpcheck run OPTIONS -- CLIENT`.
fn run_command(options: &[&str], client: &str) -> Command {
    let mut command = Command::new(WARPCHECK);
    command
        .arg("run")
        .arg("--library")
        .arg(client::library_path())
        .args(options)
        .arg("--")
        .arg(std::env::current_exe().unwrap())
        .args([client, "--exact", "--ignored", "--nocapture"]);
    command
}

fn run(options: &[&str], client: &str) -> Output {
    run_command(options, client).output().unwrap()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Adds on the device; `elements` more than there are make it faulty.
fn saxpy(more: usize) {
    let context = CudaContext::new(0).unwrap();
    let stream = context.default_stream();
    let module = context.load_module(Ptx::from_src(client::SAXPY)).unwrap();
    let saxpy = module.load_function("saxpy").unwrap();
    let x = stream.clone_htod(&vec![2.0f32; 1000]).unwrap();
    let mut y = stream.clone_htod(&vec![1.0f32; 1000]).unwrap();
    let (a, n) = (3.0f32, (1000 + more) as u32);
    let shape = LaunchConfig { grid_dim: (8, 1, 1), block_dim: (128, 1, 1), shared_mem_bytes: 0 };
    let mut launch = stream.launch_builder(&saxpy);
    launch.arg(&x).arg(&mut y).arg(&a).arg(&n);
    // SAFETY: the kernel takes these arguments; that `n` may be too great is what is tested.
    unsafe { launch.launch(shape) }.unwrap();
    // A faulty launch shows here or there; the client does not care.
    if let Ok(back) = stream.clone_dtoh(&y) {
        assert_eq!(back, vec![7.0; 1000]);
    }
}

#[test]
#[ignore = "a client: run by other tests"]
fn client_good() {
    saxpy(0);
}

#[test]
#[ignore = "a client: run by other tests"]
fn client_faulty() {
    saxpy(8);
}

#[test]
#[ignore = "a client: run by other tests"]
fn client_faulty_and_failing() {
    saxpy(8);
    std::process::exit(3);
}

#[test]
#[ignore = "a client: run by other tests"]
fn client_leaking() {
    let context = CudaContext::new(0).unwrap();
    let stream = context.default_stream();
    stream.alloc_zeros::<u8>(12345).unwrap().leak();
    // Freed, and so no leak.
    stream.alloc_zeros::<u8>(777).unwrap();
}

#[test]
#[ignore = "a client: run by other tests"]
fn client_without_driver() {}

#[test]
#[ignore = "a client: run by other tests"]
fn client_aborting() {
    let _context = CudaContext::new(0).unwrap();
    std::process::abort();
}

#[test]
#[ignore = "a client: run by other tests"]
fn client_waiting() {
    let _context = CudaContext::new(0).unwrap();
    println!("ready");
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
#[ignore = "a client: run by other tests"]
fn client_telling_its_device() {
    let mut count = 0;
    let context = CudaContext::new(0).unwrap();
    // SAFETY: a plain call of the driver.
    unsafe { sys::cuDeviceGetCount(&mut count) };
    println!("{count} of {}", context.name().unwrap());
}

#[test]
fn a_good_program_keeps_its_status_and_is_counted() {
    let output = run(&[], "client_good");
    let text = errors(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("warpcheck: 0 findings, 0 leaks in 1 kernel launch on NVIDIA A100"), "{text}");
    let row = text.lines().find(|line| line.starts_with("saxpy ")).unwrap_or_else(|| panic!("{text}"));
    // 1000 elements: read twice, written once; an FMA each.
    for cell in ["2.00k", "8.00kB", "4.00kB"] {
        assert!(row.contains(cell), "{row}");
    }
}

#[test]
fn a_finding_changes_the_status_and_stands_in_the_report() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.json");
    let output = run(&["--report", report.to_str().unwrap()], "client_faulty");
    let text = errors(&output);
    assert_eq!(output.status.code(), Some(99), "{text}");
    assert!(text.contains("error[mem]") && text.contains("kernel saxpy"), "{text}");
    assert!(text.contains("block (7,0,0) thread (104,0,0)"), "{text}");
    let report = json(&report);
    assert_eq!(report["processes"], 1);
    let finding = &report["findings"][0];
    assert_eq!(finding["kernel"], "saxpy");
    assert_eq!(finding["kind"], "out_of_bounds");
    assert_eq!(finding["check"], "mem");
    assert_eq!(finding["access"], "read");
    assert_eq!(finding["bytes"], 4);
    assert_eq!(finding["thread"], serde_json::json!([104, 0, 0]));
    assert_eq!(finding["allocation"]["size"], 4000);
}

#[test]
fn a_failing_program_keeps_its_own_status() {
    let output = run(&[], "client_faulty_and_failing");
    assert_eq!(output.status.code(), Some(3), "{}", errors(&output));
    assert!(errors(&output).contains("error[mem]"));
}

#[test]
fn the_status_for_findings_can_be_chosen_and_checks_left_out() {
    let output = run(&["--exit-code", "7"], "client_faulty");
    assert_eq!(output.status.code(), Some(7), "{}", errors(&output));
    // Without checks nothing is reported; the launch still fails, which this client ignores.
    let output = run(&["--check", "none", "--count", "0"], "client_faulty");
    let text = errors(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(!text.contains("error["), "{text}");
    assert!(!text.contains("warp instr"), "no table without counters: {text}");
}

#[test]
fn leaks_are_listed_and_fail_only_where_asked_for() {
    let output = run(&[], "client_leaking");
    let text = errors(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let leaks: Vec<&str> = text.lines().filter(|line| line.contains("leak: never freed")).collect();
    assert_eq!(leaks.len(), 1, "{text}");
    assert!(leaks[0].contains("12345 bytes"), "{text}");
    assert!(text.contains("1 leak in"), "{text}");
    let output = run(&["--fail-on-leak"], "client_leaking");
    assert_eq!(output.status.code(), Some(99), "{}", errors(&output));
}

#[test]
fn options_reach_the_driver_and_wrong_ones_are_refused() {
    let output = run(&["--profile", "t4", "--devices", "3"], "client_telling_its_device");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("3 of Tesla T4"), "{text}");
    for (options, part) in [
        (["--profile", "voodoo"], "no device profile \"voodoo\""),
        (["--check", "rice"], "no check \"rice\""),
        (["--budget", "0"], "budget=\"0\""),
    ] {
        let output = run(&options, "client_good");
        assert_eq!(output.status.code(), Some(125));
        assert!(errors(&output).contains(part), "{}", errors(&output));
    }
}

#[test]
fn a_program_that_never_opens_the_driver_is_warned_of() {
    let output = run(&[], "client_without_driver");
    assert_eq!(output.status.code(), Some(0));
    assert!(errors(&output).contains("never opened the CUDA driver"), "{}", errors(&output));
}

#[test]
fn a_program_that_dies_has_a_shells_status() {
    let output = run(&[], "client_aborting");
    let text = errors(&output);
    assert_eq!(output.status.code(), Some(128 + 6), "{text}");
    assert!(text.contains("ended abnormally"), "{text}");
}

#[test]
fn signals_are_passed_on() {
    use std::io::{BufRead, BufReader};
    let mut warpcheck =
        run_command(&[], "client_waiting").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(warpcheck.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("ready")));
    // SAFETY: the process is this test's own.
    assert_eq!(unsafe { libc::kill(warpcheck.id() as i32, libc::SIGTERM) }, 0);
    let status = warpcheck.wait().unwrap();
    assert_eq!(status.code(), Some(128 + libc::SIGTERM));
}

#[test]
fn a_signal_sent_the_moment_the_program_runs_is_passed_on() {
    // The program itself ends the one that started it, which may not have heard yet that it runs.
    for _ in 0..50 {
        let mut run = Command::new(WARPCHECK);
        run.args(["run", "--library"]).arg(client::library_path());
        let status = run.args(["--", "sh", "-c", "kill -TERM $PPID; sleep 20"]).status().unwrap();
        assert_eq!(status.code(), Some(128 + libc::SIGTERM));
    }
}

#[test]
fn a_program_that_is_not_there_is_said() {
    let output = Command::new(WARPCHECK)
        .args(["run", "--library"])
        .arg(client::library_path())
        .args(["--", "/no/such/program"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(errors(&output).contains("/no/such/program"), "{}", errors(&output));
    let output = Command::new(WARPCHECK).args(["run", "--library", "/no/such/library", "--", "true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(errors(&output).contains("hint: build it"), "{}", errors(&output));
}

fn install(folder: &Path, more: &[&str]) -> Output {
    Command::new(WARPCHECK)
        .arg("install")
        .arg(folder)
        .arg("--library")
        .arg(client::library_path())
        .args(more)
        .output()
        .unwrap()
}

#[test]
fn an_installed_driver_is_found_by_the_loader() {
    let folder = tempfile::tempdir().unwrap();
    let place: PathBuf = folder.path().join("new/folder");
    for _ in 0..2 {
        let output = install(&place, &[]);
        assert!(output.status.success(), "{}", errors(&output));
    }
    assert!(place.join("libcuda.so").is_file());
    assert_eq!(std::fs::read_link(place.join("libcuda.so.1")).unwrap(), Path::new("libcuda.so"));
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["client_faulty", "--exact", "--ignored", "--nocapture"])
        .env("LD_LIBRARY_PATH", &place)
        .output()
        .unwrap();
    let text = errors(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("error[mem]"), "all checks are on without any variable: {text}");
    assert!(text.contains("warpcheck: 3 findings"), "{text}");
}

#[test]
fn another_drivers_library_is_replaced_only_by_force() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("libcuda.so"), "NVIDIA's own").unwrap();
    let output = install(folder.path(), &[]);
    assert_eq!(output.status.code(), Some(125));
    assert!(errors(&output).contains("--force"), "{}", errors(&output));
    assert_eq!(std::fs::read(folder.path().join("libcuda.so")).unwrap(), b"NVIDIA's own");
    let output = install(folder.path(), &["--force"]);
    assert!(output.status.success(), "{}", errors(&output));
}

#[test]
fn profiles_are_listed() {
    let output = Command::new(WARPCHECK).arg("profiles").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for part in ["t4", "v100", "a100", "a6000", "rtx4090", "h100", "sm_90"] {
        assert!(text.contains(part), "{text}");
    }
}
