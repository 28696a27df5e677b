//! Under a control group's limit a command ends well or with a message: the kernel kills none. Needs the right to make a
//! control group, as in a container's root or a delegated slice, and says so where there is none.
#![cfg(target_os = "linux")]

mod command;

use std::path::{Path, PathBuf};
use std::process::Command;

use command::{Done, Place, done};

const MIB: u64 = 1 << 20;

/// A control group of this test, removed at the end.
struct Group {
    folder: PathBuf,
    limit: &'static str,
}

impl Group {
    /// Below this process's own group, of whichever generation limits memory here.
    fn new(name: &str) -> Option<Self> {
        let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        let path = |controllers: &str| {
            let mut lines = groups.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
            lines.find(|(names, _)| names.split(',').any(|name| name == controllers)).map(|(_, path)| path.to_owned())
        };
        let first = path("memory").map(|path| ("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes"));
        let unified = path("").map(|path| ("/sys/fs/cgroup", path, "memory.max"));
        [first, unified].into_iter().flatten().find_map(|(root, own, limit)| {
            let own = Path::new(root).join(own.trim_start_matches('/'));
            [own.as_path(), Path::new(root)].into_iter().find_map(|parent| {
                let folder = parent.join(format!("alexnet-test-{}-{name}", std::process::id()));
                std::fs::create_dir(&folder).ok()?;
                let group = Self { folder, limit };
                std::fs::write(group.folder.join(limit), (1 << 30).to_string()).ok()?;
                Some(group)
            })
        })
    }

    fn run(&self, place: &Place, arguments: &str, limit: u64) -> Done {
        std::fs::write(self.folder.join(self.limit), limit.to_string()).unwrap();
        let command = place.command(arguments);
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(self.folder.join("cgroup.procs"));
        shell.arg(command.get_program()).args(command.get_args()).current_dir(place.path(""));
        command.get_envs().for_each(|(name, value)| _ = shell.env(name, value.unwrap_or_default()));
        done(shell.output().unwrap())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.folder);
    }
}

/// Runs a command at limits from `most` downwards: at `most` it succeeds, at the least it is refused with a message. Returns
/// what it printed where it succeeded.
fn at_every_limit(place: &Place, group: &Group, arguments: &str, most: u64) -> String {
    let (mut codes, mut said) = (Vec::new(), String::new());
    for limit in (2..=8).rev().map(|eighths| most * eighths / 8).chain([24 * MIB]) {
        let words = arguments.replace("NEW", &format!("new-{}", limit / MIB));
        let Done { code, error, .. } = group.run(place, &words, limit);
        assert!(code == 0 || code == 1 && error.contains("error: "), "{words} in {limit} bytes: {code}, {error}");
        assert!(code == 0 || error.contains("free") && error.contains("hint: "), "{words} in {limit} bytes: {error}");
        codes.push(code);
        said += if code == 0 { &error } else { "" };
    }
    println!("{arguments}: from {} MiB down {codes:?}", most / MIB);
    assert_eq!((codes[0], codes[codes.len() - 1]), (0, 1), "{arguments}: {codes:?}");
    said
}

/// What training said it needs, in MiB.
fn planned(out: &str) -> u64 {
    let line = out.lines().find(|line| line.starts_with("memory ")).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!((words[1], words[3].trim_end_matches(',')), ("needs", "MiB"), "{line}");
    words[2].parse().unwrap()
}

#[test]
fn no_limit_ends_in_a_kill() {
    let Some(group) = Group::new("all") else {
        eprintln!("skipped: no control group can be made here");
        return;
    };
    let place = Place::new();
    let data = "--data sample --limit-train 20 --limit-test 12 --device cpu --threads 2";
    image::RgbImage::new(64, 48).save(place.path("a.png")).unwrap();
    for (arch, batch) in [("modern", 8), ("cifar", 8)] {
        let train = format!("train {data} --arch {arch} --batch-size {batch} --epochs 2");
        let out = place.succeed(&format!("{train} --out {arch}"));
        // A little beyond the plan is enough, and the plan is not far from it.
        let most = (planned(&out) + 32) * MIB;
        let said = at_every_limit(&place, &group, &format!("{train} --out NEW-{arch}"), most);
        // The copy for checkpoints is what the plan can do without.
        assert!(said.contains("training waits while a checkpoint is written"), "{said}");
        place.succeed(&format!("export {arch} -o {arch}.pth"));
        let file = std::fs::metadata(place.path(&format!("{arch}/last.safetensors"))).unwrap().len();
        let enough = 5 * file / 2 + 64 * MIB;
        for arguments in [
            format!("predict {arch} a.png --device cpu --threads 2 --batch-size 8"),
            format!("eval {arch} {data} --batch-size 8").replace("--limit-train 20 ", ""),
            format!("export {arch} -o {arch}-NEW.onnx"),
            format!("import {arch}.pth -o {arch}-NEW.safetensors"),
            format!("eval {arch}.pth {data} --batch-size 8").replace("--limit-train 20 ", ""),
        ] {
            at_every_limit(&place, &group, &arguments, enough);
        }
    }
}
