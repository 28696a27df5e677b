//! Ranks that are connected by TCP; here they are threads of one process.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use alexnet_ranks::tcp::Place;
use alexnet_ranks::{Error, Ranks, Result, Tcp};

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

fn connect(port: u16, rank: usize, size: usize, timeout: f64) -> Result<Tcp> {
    let place = Place { rank, size, local_rank: rank, local_size: size };
    Tcp::connect(("127.0.0.1", port), place, Duration::from_secs_f64(timeout))
}

/// Runs `body` on every rank and returns its results in their order.
fn on_all<T: Send>(size: usize, timeout: f64, body: impl Fn(Tcp) -> T + Sync) -> Vec<T> {
    let port = free_port();
    thread::scope(|scope| {
        let body = &body;
        let run = |rank| scope.spawn(move || body(connect(port, rank, size, timeout).unwrap()));
        let threads: Vec<_> = (0..size).rev().map(run).collect();
        let mut results: Vec<T> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        results.reverse();
        results
    })
}

#[test]
fn every_call_does_what_it_says() {
    for size in [1, 2, 5] {
        on_all(size, 20.0, |ranks| {
            let own = ranks.rank() as u8;
            assert_eq!((ranks.size(), ranks.local_rank(), ranks.name().as_str()), (size, ranks.rank(), "TCP"));
            let mut all = vec![0; 2 * size];
            ranks.all_gather(&[own, 7], &mut all).unwrap();
            assert_eq!(all, (0..size as u8).flat_map(|rank| [rank, 7]).collect::<Vec<_>>());
            // More than sockets hold, both ways at once, and to itself.
            let large: Vec<Vec<u8>> = (0..size).map(|peer| vec![own ^ peer as u8 ^ 0x55; 3 << 20]).collect();
            let mut found: Vec<[Vec<u8>; 2]> = (0..size).map(|_| [vec![0; 3 << 20], vec![0; 1]]).collect();
            let sends: Vec<(usize, &[u8])> =
                large.iter().enumerate().flat_map(|(peer, x)| [(peer, &x[..]), (peer, &x[..1])]).collect();
            let mut receives: Vec<(usize, &mut [u8])> = Vec::new();
            for (peer, [one, other]) in found.iter_mut().enumerate() {
                receives.extend([(peer, &mut one[..]), (peer, &mut other[..])]);
            }
            ranks.exchange(&sends, &mut receives).unwrap();
            for (peer, [one, other]) in found.iter().enumerate() {
                assert!(one.iter().chain(other).all(|&x| x == own ^ peer as u8 ^ 0x55));
            }
            let mut word = [own; 3];
            ranks.broadcast(size - 1, &mut word).unwrap();
            assert_eq!(word, [size as u8 - 1; 3]);
            ranks.barrier().unwrap();
        });
    }
}

#[test]
fn a_rank_that_ends_or_hangs_is_named() {
    let results = on_all(3, 0.5, |ranks| match ranks.rank() {
        1 => Ok(()),
        _ => {
            let ended = ranks.barrier();
            assert_eq!(ended, Err(Error::Ended { call: "barrier", peer: 1 }));
            ended
        }
    });
    assert!(results[1].is_ok() && results[0].is_err());
    on_all(2, 0.5, |ranks| match ranks.rank() {
        0 => {
            let error = ranks.barrier().unwrap_err();
            assert_eq!(error, Error::Timeout { call: "barrier", peers: vec![1], seconds: 0 });
        }
        _ => thread::sleep(Duration::from_secs(2)),
    });
}

#[test]
fn calls_that_differ_are_seen() {
    on_all(2, 20.0, |ranks| {
        let error = match ranks.rank() {
            0 => ranks.barrier().unwrap_err(),
            _ => ranks.broadcast(0, &mut [0; 4]).unwrap_err(),
        };
        // Rank 0 has sent to both, and waits for rank 1, which ends.
        match ranks.rank() {
            0 => assert_eq!(error, Error::Ended { call: "barrier", peer: 1 }),
            _ => assert_eq!(error.to_string(), "broadcast: rank 0 sent a message of barrier, expected 4 bytes"),
        }
    });
}

#[test]
fn ranks_that_do_not_come() {
    let port = free_port();
    let begun = Instant::now();
    let error = connect(port, 0, 3, 0.3).unwrap_err().to_string();
    assert_eq!(error, format!("cannot meet the other ranks at 127.0.0.1:{port}: ranks 1, 2 did not connect"));
    let error = connect(port, 1, 3, 0.3).unwrap_err().to_string();
    assert!(error.contains("rank 0 cannot be reached"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(connect(port, 3, 3, 0.3).unwrap_err(), Error::Rank { call: "connect", rank: 3, size: 3 });
}

#[test]
fn strangers_at_the_port_do_not_disturb() {
    let port = free_port();
    thread::scope(|scope| {
        let ranks = [0, 1].map(|rank| scope.spawn(move || connect(port, rank, 2, 20.0).unwrap().barrier().unwrap()));
        for _ in 0..3 {
            // Rank 0 may not listen yet, or no more.
            if let Ok(mut stranger) = TcpStream::connect(("127.0.0.1", port)) {
                let _ = stranger.write_all(b"GET / HTTP/1.1\r\nHost: somewhere\r\n\r\n");
            }
        }
        ranks.into_iter().for_each(|rank| rank.join().unwrap());
    });
}
