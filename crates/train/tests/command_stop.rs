//! Ctrl-C, SIGTERM and SIGKILL on the running binary, and resuming afterwards.
#![cfg(unix)]

mod command;

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use command::{Place, tensors};

/// Six steps in two epochs.
const RUN: &str = "train --data sample --limit-train 48 --limit-test 20 --batch-size 16 --epochs 2";

/// A run that has started to train.
struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Running {
    fn start(place: &Place, arguments: &str) -> Self {
        let mut child = place.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.starts_with("run ") {
            line.clear();
            assert!(out.read_line(&mut line).unwrap() > 0, "ended before it trained");
        }
        Self { child, out }
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("/bin/kill").args([signal, &id]).status().unwrap().success());
    }

    /// Waits for the end; returns the exit code, unless a signal killed it, and the output.
    fn end(mut self) -> (Option<i32>, String) {
        // The rest of its output, so that it does not block on the pipe.
        let _ = std::io::copy(&mut self.out, &mut std::io::sink());
        let output = self.child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }
}

fn progress(place: &Place, run: &str) -> alexnet_train::run::checkpoint::Progress {
    let file = place.path(run).join("last.safetensors");
    alexnet_train::run::checkpoint::open(&file).unwrap().metadata().progress.clone()
}

#[test]
fn interrupted_terminated_and_resumed() {
    let place = Place::new();
    place.succeed(&format!("{RUN} --out whole"));
    for (run, signal) in [("int", "-INT"), ("term", "-TERM"), ("hup", "-HUP"), ("usr1", "-USR1"), ("xcpu", "-XCPU")] {
        let running = Running::start(&place, &format!("{RUN} --out {run}"));
        running.signal(signal);
        let (code, error) = running.end();
        assert_eq!(code, Some(130), "{error}");
        assert!(error.contains(&format!("resume it with: alexnet train --resume {run}")), "{error}");
        assert!(progress(&place, run).step < 6);
        if signal != "-INT" {
            continue;
        }
        place.succeed(&format!("train --resume {run} --threads 1"));
        assert!(tensors(&place.path(run).join("last.safetensors")) == tensors(&place.path("whole/last.safetensors")));
        assert_eq!(place.epochs(run), [1, 2]);
    }
}

/// The terminal goes: a run saves itself, however often it is told, unless `nohup` started it.
#[cfg(target_os = "linux")]
#[test]
fn a_closed_terminal_saves_unless_it_is_ignored() {
    let place = Place::new();
    let running = Running::start(&place, &format!("{RUN} --epochs 50 --out twice"));
    running.signal("-HUP");
    running.signal("-HUP");
    let (code, error) = running.end();
    assert_eq!(code, Some(130), "{error}");
    assert!(error.contains("the state is saved"), "{error}");

    let plain = place.command(&format!("{RUN} --epochs 1 --out ignored"));
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "trap '' HUP USR1; exec \"$0\" \"$@\""]).arg(plain.get_program()).args(plain.get_args());
    shell.current_dir(place.path("")).env("ALEXNET_DATA", place.path("cache"));
    let mut child = shell.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("run ") {
        line.clear();
        assert!(out.read_line(&mut line).unwrap() > 0, "ended before it trained");
    }
    let running = Running { child, out };
    running.signal("-HUP");
    running.signal("-USR1");
    assert_eq!(running.end().0, Some(0));
    assert_eq!(place.epochs("ignored"), [1]);
}

#[test]
fn the_second_ctrl_c_leaves_at_once() {
    let place = Place::new();
    // One long step of all images. If the first signal comes before the step, the run stops by itself before the second.
    let saved = [0, 200, 400, 800, 1600, 3200].into_iter().all(|milliseconds| {
        let run = format!("run{milliseconds}");
        let train = "train --data sample --batch-size 10 --accumulate 100 --epochs 1 --out";
        let running = Running::start(&place, &format!("{train} {run}"));
        std::thread::sleep(Duration::from_millis(milliseconds));
        running.signal("-INT");
        std::thread::sleep(Duration::from_millis(100));
        running.signal("-INT");
        let (code, error) = running.end();
        assert!(code == Some(130) || code == Some(0), "{error}");
        if code == Some(130) && !error.contains("saved") {
            assert_eq!(progress(&place, &run).step, 0);
            return false;
        }
        true
    });
    assert!(!saved, "the second signal never came while a step was under way, or it was waited for");
}

#[test]
fn killed_and_resumed() {
    let place = Place::new();
    let train = format!("{RUN} --checkpoint-every 0.01s --out");
    place.succeed(&format!("{train} whole"));
    for (run, milliseconds) in [("early", 0), ("later", 400), ("late", 1000)] {
        let running = Running::start(&place, &format!("{train} {run}"));
        std::thread::sleep(Duration::from_millis(milliseconds));
        running.signal("-KILL");
        running.end();
        place.succeed(&format!("train --resume {run}"));
        assert!(place.read(&format!("{run}/last.safetensors")) == place.read("whole/last.safetensors"));
        assert_eq!(place.epochs(run), [1, 2]);
        assert!(place.names(run).iter().all(|name| !name.contains("tmp")), "{:?}", place.names(run));
    }
}

#[test]
fn a_run_is_for_one_process() {
    let place = Place::new();
    let running = Running::start(&place, &format!("{RUN} --epochs 50 --out run"));
    place.fail("train --resume run", 1, &["another process is training in run", "hint: "]);
    running.signal("-INT");
    assert_eq!(running.end().0, Some(130));
}
