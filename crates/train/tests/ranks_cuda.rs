//! `alexnet train --device cuda` on several ranks, each with a simulated GPU of its own: by NCCL (the stand-in), as graphs and
//! eagerly, and through the host, they have the bits of one process.
#![cfg(unix)]

mod command;

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use command::{Done, Place, done, tensors};
use sha2::{Digest as _, Sha256};

/// Two epochs of two steps, the last one with images for three of four shards.
const RUN: &str = "train --data sample --limit-train 11 --limit-test 1 --batch-size 8 --epochs 2 --arch modern --resize 32 \
                   --shards 4 --device cuda --threads 1";

/// How ranks exchange.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Engine {
    Nccl,
    Host,
}

/// A port after which one is free too.
fn port() -> u16 {
    loop {
        let first = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = first.local_addr().unwrap().port();
        if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return port;
        }
    }
}

/// The ranks of a job, as `torchrun` starts them: with variables, on a machine with as many GPUs.
fn ranks(place: &Place, size: usize, engine: Engine, arguments: &str) -> Vec<Command> {
    let library = std::env::current_exe().unwrap().with_file_name("libnccl_stand_in.so");
    let port = port().to_string();
    let rank = |rank: usize| {
        let mut command = place.cuda(arguments, "none");
        let (rank, size) = (rank.to_string(), size.to_string());
        for (name, value) in [
            ("TORCHELASTIC_RUN_ID", "none"),
            ("RANK", &rank),
            ("LOCAL_RANK", &rank),
            ("WORLD_SIZE", &size),
            ("LOCAL_WORLD_SIZE", &size),
            ("MASTER_ADDR", "127.0.0.1"),
            ("MASTER_PORT", &port),
            ("WARPCHECK_DEVICES", &size),
        ] {
            command.env(name, value);
        }
        match engine {
            Engine::Nccl => command.env("ALEXNET_NCCL", &library),
            Engine::Host => command.env("ALEXNET_NCCL", "off"),
        };
        command.env("WARPCHECK_REPORT", place.path(&format!("report-{rank}")));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    (0..size).map(rank).collect()
}

/// Runs a job that must succeed; what its first rank prints.
#[track_caller]
fn succeed(place: &Place, size: usize, engine: Engine, arguments: &str) -> String {
    let children: Vec<Child> =
        ranks(place, size, engine, arguments).into_iter().map(|mut command| command.spawn().unwrap()).collect();
    let all: Vec<Done> = children.into_iter().map(|child| done(child.wait_with_output().unwrap())).collect();
    assert!(all.iter().all(|done| done.code == 0), "{all:?}");
    assert!(all[1..].iter().all(|done| done.out.is_empty()), "{all:?}");
    all.into_iter().next().unwrap().out
}

/// SHA-256 of a run's last checkpoint.
fn hash(place: &Place, run: &str) -> String {
    let bytes = place.read(&format!("{run}/last.safetensors"));
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn alone(place: &Place, arguments: &str) {
    let done = done(place.cuda(arguments, "none").output().unwrap());
    assert_eq!(done.code, 0, "{done:?}");
}

#[test]
fn any_number_of_ranks_has_the_bits_of_one_process() {
    let place = Place::new();
    alone(&place, &format!("{RUN} --out one"));
    let expected = hash(&place, "one");
    for (size, engine, flags) in
        [(2, Engine::Nccl, ""), (4, Engine::Nccl, ""), (4, Engine::Nccl, "--no-graph"), (2, Engine::Host, "")]
    {
        let run = format!("{size}{engine:?}{flags}");
        let out = succeed(&place, size, engine, &format!("{RUN} {flags} --out {run}"));
        assert!(out.contains(&format!("\nranks    {size} on 1 machine, TCP; 1 thread here\n")), "{out}");
        let says = match engine {
            Engine::Nccl => "\nexchange NCCL 2.28.0\n",
            Engine::Host => "\nexchange TCP, through the host's memory, without NCCL\n",
        };
        assert!(out.contains(says) && out.contains("\ndevice   cuda:0 ("), "{out}");
        let last = |run: &str| place.path(run).join("last.safetensors");
        match flags {
            "" => assert_eq!(hash(&place, &run), expected, "{run}"),
            // The header has the settings.
            _ => assert!(tensors(&last(&run)) == tensors(&last("one")), "{run}"),
        }
    }
    // The first epoch on four ranks, the second on two.
    succeed(&place, 4, Engine::Nccl, &format!("{RUN} --epochs 1 --out resumed"));
    succeed(&place, 2, Engine::Nccl, "train --resume resumed --epochs 2");
    assert_eq!(hash(&place, "resumed"), expected);
}

/// The scale of the loss at the start is too large for one image's gradient: its rank finds that, and all leave the update out.
#[test]
fn an_update_is_left_out_on_all_ranks() {
    let place = Place::new();
    let run = format!("{RUN} --precision fp16 --epochs 1 --lr 0.1");
    alone(&place, &format!("{run} --out one"));
    let skipped = place.metrics("one")[0]["skipped_steps"].as_u64();
    assert!(skipped.is_some_and(|skipped| skipped > 0), "{:?}", place.metrics("one"));
    for (size, engine) in [(4, Engine::Nccl), (2, Engine::Host)] {
        let other = format!("{size}{engine:?}");
        succeed(&place, size, engine, &format!("{run} --out {other}"));
        assert_eq!(hash(&place, &other), hash(&place, "one"), "{other}");
    }
}

#[test]
fn a_rank_that_is_killed_ends_the_others() {
    let place = Place::new();
    let mut commands = ranks(&place, 2, Engine::Nccl, &format!("{RUN} --epochs 1000 --timeout 5 --out run"));
    let mut children: Vec<Child> = commands.iter_mut().map(|command| command.spawn().unwrap()).collect();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(children[0].stdout.take().unwrap()));
    assert!(lines.any(|line| line.unwrap().starts_with("Epoch 1")), "ended before it trained");
    children[1].kill().unwrap();
    children[1].wait().unwrap();
    lines.for_each(drop);
    let Done { code, error, .. } = done(children.swap_remove(0).wait_with_output().unwrap());
    assert_eq!(code, 1, "{error}");
    assert!(error.contains("rank 1 has ended") || error.contains("remote process exited"), "{error}");
    assert_eq!(error.matches("error: ").count(), 1, "{error}");
}
