//! The engines within one process.

use std::thread;
use std::time::Duration;

use alexnet_ranks::{Error, Ranks, Single, local, on_all};

#[test]
fn a_single_rank_copies_to_itself() {
    let mut all = [0; 3];
    Single.all_gather(&[1, 2, 3], &mut all).unwrap();
    assert_eq!(all, [1, 2, 3]);
    let (mut first, mut second) = ([0; 2], [0; 1]);
    Single.exchange(&[(0, &[4, 5]), (0, &[6])], &mut [(0, &mut first), (0, &mut second)]).unwrap();
    assert_eq!((first, second), ([4, 5], [6]));
    Single.broadcast(0, &mut all).unwrap();
    Single.barrier().unwrap();
    assert_eq!((Single.rank(), Single.size(), Single.local_rank(), Single.local_size()), (0, 1, 0, 1));

    let wrong = Single.all_gather(&[1], &mut all);
    assert_eq!(wrong, Err(Error::Length { call: "all_gather", found: 3, expected: 1 }));
    let wrong = Single.exchange(&[(1, &[4])], &mut []);
    assert_eq!(wrong, Err(Error::Rank { call: "exchange", rank: 1, size: 1 }));
    let wrong = Single.exchange(&[(0, &[4])], &mut [(0, &mut first)]);
    assert_eq!(wrong.unwrap_err().to_string(), "exchange: rank 0 sent 1 bytes, expected 2 bytes");
    let wrong = Single.exchange(&[(0, &[4])], &mut []);
    assert_eq!(wrong, Err(Error::Length { call: "exchange", found: 0, expected: 1 }));
    assert_eq!(Single.broadcast(2, &mut all), Err(Error::Rank { call: "broadcast", rank: 2, size: 1 }));
}

#[test]
fn all_ranks_gather_the_same() {
    for size in [1, 2, 3, 8] {
        let gathered = on_all(size, |ranks| {
            let own = [ranks.rank() as u8, 100];
            let mut all = vec![0; 2 * size];
            ranks.all_gather(&own, &mut all).unwrap();
            ranks.all_gather(&[], &mut []).unwrap();
            all
        });
        let expected: Vec<u8> = (0..size as u8).flat_map(|rank| [rank, 100]).collect();
        assert!(gathered.iter().all(|all| *all == expected), "{gathered:?}");
    }
}

#[test]
fn messages_arrive_in_their_order_and_at_their_rank() {
    for size in [1, 2, 4] {
        on_all(size, |ranks| {
            let own = ranks.rank() as u8;
            // Two messages to every rank, itself included: of one byte, then of two.
            let messages: Vec<_> = (0..size as u8).map(|peer| ([10 * own + peer], [own, peer])).collect();
            let sends: Vec<(usize, &[u8])> =
                messages.iter().enumerate().flat_map(|(peer, m)| [(peer, &m.0[..]), (peer, &m.1[..])]).collect();
            let mut received = vec![([0; 1], [0; 2]); size];
            // The order between peers is free.
            let mut receives: Vec<(usize, &mut [u8])> = received
                .iter_mut()
                .enumerate()
                .rev()
                .flat_map(|(peer, m)| [(peer, &mut m.0[..]), (peer, &mut m.1[..])])
                .collect();
            ranks.exchange(&sends, &mut receives).unwrap();
            let expected: Vec<_> = (0..size as u8).map(|peer| ([10 * peer + own], [peer, own])).collect();
            assert_eq!(received, expected);
        });
    }
}

#[test]
fn every_rank_can_broadcast() {
    let received = on_all(4, |ranks| {
        [0, 3].map(|from| {
            let mut bytes = [ranks.rank() as u8; 2];
            ranks.broadcast(from, &mut bytes).unwrap();
            ranks.barrier().unwrap();
            bytes
        })
    });
    assert_eq!(received, [[[0; 2], [3; 2]]; 4]);
}

#[test]
fn lengths_and_calls_that_differ_are_errors() {
    let results = on_all(2, |ranks| {
        let mut all = vec![0; 2 * (1 + ranks.rank())];
        ranks.all_gather(&vec![0; 1 + ranks.rank()], &mut all)
    });
    let found = "2 bytes".to_string();
    assert_eq!(results[0], Err(Error::Differs { call: "all_gather", peer: 1, found, expected: 1 }));
    assert!(results[1].is_err());

    let results = on_all(2, |ranks| match ranks.rank() {
        0 => ranks.barrier(),
        _ => ranks.exchange(&[(0, &[])], &mut [(0, &mut [])]),
    });
    let found = "a message of exchange".to_string();
    assert_eq!(results[0], Err(Error::Differs { call: "barrier", peer: 1, found, expected: 0 }));

    let results = on_all(2, |ranks| ranks.exchange(&[(2, &[])], &mut []));
    assert_eq!(results, vec![Err(Error::Rank { call: "exchange", rank: 2, size: 2 }); 2]);
    let results = on_all(2, |ranks| ranks.all_gather(&[0], &mut [0; 3]));
    assert_eq!(results, vec![Err(Error::Length { call: "all_gather", found: 3, expected: 2 }); 2]);
}

#[test]
fn a_rank_that_ended_is_named() {
    let mut ranks = local(3);
    ranks.pop();
    thread::scope(|scope| {
        let threads: Vec<_> =
            ranks.into_iter().map(|ranks| scope.spawn(move || ranks.broadcast(2, &mut [0]))).collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), Err(Error::Ended { call: "broadcast", peer: 2 }));
        }
    });
}

#[test]
fn a_rank_that_hangs_is_named() {
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    let receiver = std::sync::Mutex::new(receiver);
    on_all(2, |ranks| {
        ranks.set_timeout(Duration::from_millis(50));
        assert_eq!(ranks.timeout(), Duration::from_millis(50));
        match ranks.rank() {
            0 => {
                let error = ranks.barrier();
                assert_eq!(error, Err(Error::Timeout { call: "barrier", peers: vec![1], seconds: 0 }));
                sender.send(()).unwrap();
            }
            _ => receiver.lock().unwrap().recv().unwrap(),
        }
    });
}
