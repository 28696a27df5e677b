//! What a command costs: its peak of memory and its time on the processor, by Linux' /proc.
#![allow(dead_code)]

use std::fs;
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::command::Place;

/// One command at a time: the times of all children are added up.
static TURN: Mutex<()> = Mutex::new(());

/// What a command took.
#[derive(Debug)]
pub struct Cost {
    pub code: i32,
    /// Peak of its memory in MiB.
    pub mib: u64,
    /// User time in seconds.
    pub seconds: f64,
    pub error: String,
}

/// User time of the children that have ended, in seconds.
fn children() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    // The fields after the name in parentheses begin with the third; cutime is the sixteenth, in hundredths.
    let fields = stat.rsplit_once(')').unwrap().1;
    fields.split_whitespace().nth(13).unwrap().parse::<f64>().unwrap() / 100.0
}

/// Runs a command and measures it.
pub fn cost(place: &Place, arguments: &str) -> Cost {
    let _turn: MutexGuard<'_, ()> = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (before, error) = (children(), place.path("stderr"));
    let mut command = place.command(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&error).unwrap());
    let mut child = command.spawn().unwrap();
    let (status, mut mib) = (format!("/proc/{}/status", child.id()), 0);
    let code = loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        if let Some(line) = text.lines().find(|line| line.starts_with("VmHWM:")) {
            mib = line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10;
        }
        if let Some(status) = child.try_wait().unwrap() {
            break status.code().unwrap_or(-1);
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let error = String::from_utf8_lossy(&fs::read(&error).unwrap()).into_owned();
    Cost { code, mib, seconds: children() - before, error }
}

/// A run without training, in `r`.
pub fn run(place: &Place) {
    place.succeed(
        "train --data sample --limit-train 32 --limit-test 20 --batch-size 16 --arch modern --device cpu --epochs 0 --out r",
    );
}
