//! The engine on MPICH and Open MPI. Without arguments this program starts itself under their launchers; with one it is a
//! rank and does what that names.

#[cfg(not(unix))]
fn main() {}

#[cfg(unix)]
fn main() {
    match std::env::args().nth(1).and_then(|role| role.strip_prefix("rank:").map(str::to_owned)) {
        Some(role) => unix::rank(&role),
        None => unix::tests(),
    }
}

#[cfg(unix)]
#[path = "engines/mod.rs"]
mod engines;

#[cfg(unix)]
mod unix {
    use std::process::{Command, Output};
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use alexnet_ranks::{Error, Launcher, Mpi, Ranks, mpi};

    use super::engines::{self, Engine};

    /// What a rank prints when its job fails, and all errors. The job ends right after, and the launcher drops what it has not passed
    /// on by then.
    fn print(error: &Error) {
        eprintln!("FAILED {error}");
        std::thread::sleep(Duration::from_millis(500));
    }

    /// Bytes that depend on both ends and on the place.
    fn bytes(from: usize, to: usize, len: usize) -> Vec<u8> {
        (0..len).map(|at| (from * 31 + to * 7 + at % 251) as u8).collect()
    }

    pub fn rank(role: &str) {
        let launcher = Launcher::of_process().expect("a launcher");
        let ranks = match Mpi::start(&launcher, Arc::new(print)) {
            Ok(ranks) => ranks,
            Err(error) => {
                print(&error);
                std::process::exit(1);
            }
        };
        ranks.set_timeout(Duration::from_secs(2));
        match role {
            "calls" => calls(&ranks),
            "silent" if ranks.rank() == 1 => std::thread::sleep(Duration::from_secs(60)),
            "differs" => {
                let len = if ranks.rank() == 0 { 5 } else { 6 };
                let peer = 1 - ranks.rank();
                let _ = ranks.exchange(&[(peer, &vec![1; len])], &mut [(peer, &mut [0; 6])]);
            }
            "abort" if ranks.rank() == 1 => ranks.abort(7),
            "ended" if ranks.rank() == 1 => std::process::exit(3),
            _ => ranks.barrier().unwrap(),
        }
        ranks.set_timeout(Duration::from_secs(10));
        ranks.barrier().unwrap();
        ranks.finish().unwrap();
    }

    fn calls(ranks: &Mpi) {
        let (rank, size) = (ranks.rank(), ranks.size());
        assert_eq!((ranks.local_rank(), ranks.local_size()), (rank, size));
        // Nothing, little, and more than one message takes.
        for len in [0, 1, 1000, (9 << 20) + 3] {
            let mut all = vec![0; size * len];
            ranks.all_gather(&bytes(rank, 0, len), &mut all).unwrap();
            let expected: Vec<u8> = (0..size).flat_map(|from| bytes(from, 0, len)).collect();
            assert!(all == expected, "all_gather of {len}");

            // To each rank, itself included, a long one and a short one; received from the last rank on.
            let out: Vec<[Vec<u8>; 2]> = (0..size).map(|to| [bytes(rank, to, len), bytes(rank + 1, to, 2)]).collect();
            let sends: Vec<(usize, &[u8])> =
                out.iter().enumerate().flat_map(|(to, both)| both.iter().map(move |one| (to, &one[..]))).collect();
            let mut into: Vec<[Vec<u8>; 2]> = vec![[vec![0; len], vec![0; 2]]; size];
            let mut receives: Vec<(usize, &mut [u8])> = into
                .iter_mut()
                .enumerate()
                .rev()
                .flat_map(|(from, both)| both.iter_mut().map(move |one| (from, &mut one[..])))
                .collect();
            ranks.exchange(&sends, &mut receives).unwrap();
            for (from, both) in into.iter().enumerate() {
                assert!(*both == [bytes(from, rank, len), bytes(from + 1, rank, 2)], "exchange of {len} with {from}");
            }

            for from in [0, size - 1] {
                let mut message = bytes(rank, 1, len);
                ranks.broadcast(from, &mut message).unwrap();
                assert!(message == bytes(from, 1, len), "broadcast of {len} from {from}");
            }
        }
        ranks.barrier().unwrap();
        let wrong = ranks.exchange(&[(size, &[])], &mut []);
        assert_eq!(wrong, Err(Error::Rank { call: "exchange", rank: size, size }));
        assert!(ranks.all_gather(&[0], &mut []).is_err() && ranks.broadcast(size, &mut []).is_err());
        println!("rank {rank} of {size} on {}", ranks.name());
    }

    fn run(command: &mut Command, role: &str) -> (Option<i32>, String) {
        let start = Instant::now();
        let Output { status, stdout, stderr } =
            command.arg(std::env::current_exe().unwrap()).arg(format!("rank:{role}")).output().unwrap();
        let text = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert!(start.elapsed() < Duration::from_secs(20), "{role}: {:?}\n{text}", start.elapsed());
        (status.code(), text)
    }

    fn test(name: &str, body: impl FnOnce()) {
        let start = Instant::now();
        body();
        println!("test {name} ... ok ({:.1} s)", start.elapsed().as_secs_f64());
    }

    pub fn tests() {
        let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
        // Cargo asks for the names.
        if std::env::args().any(|argument| argument == "--list") {
            return;
        }
        let engines = [engines::mpich(), engines::open_mpi()];
        let abi = engines[0].library.with_file_name("libmpi_abi.so.1");
        let all: [(&str, &dyn Fn()); 6] = [
            ("every_call_on_every_engine", &|| {
                for engine in &engines {
                    for size in [2, 4] {
                        every_call(engine, &mut engine.launcher(size), size);
                    }
                }
                let engine = &engines[0];
                every_call(engine, engine.launcher(3).env("ALEXNET_MPI", &abi), 3);
            }),
            ("a_silent_rank_is_named", &|| {
                for engine in &engines {
                    let (code, text) = run(&mut engine.launcher(3), "silent");
                    assert!(code != Some(0), "{text}");
                    assert!(text.contains("FAILED rank 1 did not answer for 2 s (barrier)"), "{}: {text}", engine.name);
                }
            }),
            ("lengths_that_differ_are_found", &|| {
                for engine in &engines {
                    let (code, text) = run(&mut engine.launcher(2), "differs");
                    assert!(code != Some(0), "{text}");
                    assert!(text.contains("FAILED exchange: rank 0 sent 5 bytes, expected 6 bytes"), "{text}");
                }
            }),
            ("the_end_of_one_rank_is_the_end_of_all", &|| {
                for engine in &engines {
                    let (code, text) = run(&mut engine.launcher(3), "abort");
                    assert_eq!(code, Some(7), "{}: {text}", engine.name);
                    // MPICH's launcher may say the code of the ranks that it killed.
                    let (code, text) = run(&mut engine.launcher(3), "ended");
                    assert!(code != Some(0), "{}: {text}", engine.name);
                }
            }),
            ("the_library_of_another_launcher_is_refused", &|| {
                let [mpich, open_mpi] = &engines;
                for (engine, other, own) in [(mpich, open_mpi, "MPICH"), (open_mpi, mpich, "Open MPI")] {
                    let (code, text) = run(engine.launcher(2).env("ALEXNET_MPI", &other.library), "calls");
                    assert_eq!(code, Some(1), "{text}");
                    let says = format!("started this process, but its {own} library was not found; ");
                    assert!(text.contains(&says) && text.contains("(ALEXNET_MPI names it)"), "{text}");
                    assert!(text.contains(&format!("it is {} ", other.name)), "{text}");
                }
                // Slurm that was not asked to connect its tasks.
                let mut alone = Command::new("env");
                let step = ["SLURM_STEP_NUM_TASKS=2", "SLURM_PROCID=0", "SLURM_LOCALID=0"];
                alone.args(step).env("ALEXNET_MPI", &mpich.library);
                let (code, text) = run(&mut alone, "calls");
                assert_eq!(code, Some(1), "{text}");
                let says = "srun of Slurm started 2 processes, but MPICH 5.0.2 (libmpi.so.12) sees 1";
                assert!(text.contains(says), "{text}");
                let torchrun = ["TORCHELASTIC_RUN_ID=x", "RANK=0", "WORLD_SIZE=2"];
                let (code, text) = run(Command::new("env").args(torchrun), "calls");
                assert_eq!(code, Some(1), "{text}");
                assert!(text.contains("torchrun started this process"), "{text}");
            }),
            ("libraries_are_found_and_said", &|| {
                let found = mpi::candidates();
                assert!(found.iter().all(|one| one.path.is_absolute() || one.version.is_ok()), "{found:?}");
            }),
        ];
        for (name, body) in all {
            if name.contains(&filter) {
                test(name, body);
            }
        }
    }

    fn every_call(engine: &Engine, command: &mut Command, size: usize) {
        let (code, text) = run(command, "calls");
        assert_eq!(code, Some(0), "{} {size}: {text}", engine.name);
        for rank in 0..size {
            let says = format!("rank {rank} of {size} on {} ", engine.name);
            assert!(text.contains(&says), "{says}: {text}");
        }
    }
}
