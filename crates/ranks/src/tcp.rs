//! Ranks that are connected by TCP, for launchers without MPI such as `torchrun`.
//!
//! Rank 0 listens at an address that all know. The others listen at a port of their own and tell it to rank 0, which sends each
//! the addresses of all; then every rank connects to those below it. A thread per connection receives, so that no send waits for
//! its receiver. Anyone who reaches the port can join: as `torchrun`'s own, it belongs in a network that is trusted.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::expect_rank;
use crate::messages::{Messages, late, take};
use crate::timeout::Timeout;

/// What calls are, by the byte that stands for them in a message's head.
const CALLS: [&str; 4] = ["all_gather", "exchange", "broadcast", "barrier"];
/// Begins every connection.
const GREETING: [u8; 8] = *b"alexnet\x01";
/// How long a stranger may take to say who it is.
const PATIENCE: Duration = Duration::from_secs(5);

/// A call's index in [`CALLS`], and the bytes.
type Message = (u8, Vec<u8>);

/// A rank of a job whose processes are connected by TCP.
pub struct Tcp {
    place: Place,
    timeout: Timeout,
    /// To each other rank; the own place is empty.
    to: Vec<Option<Mutex<TcpStream>>>,
    /// The same connections, to end them.
    ends: Vec<TcpStream>,
    to_self: Sender<Message>,
    /// Held by one thread at a time: the calls of a rank have an order.
    from: Mutex<Vec<Receiver<Message>>>,
}

impl fmt::Debug for Tcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tcp").field("place", &self.place).finish()
    }
}

impl Drop for Tcp {
    fn drop(&mut self) {
        self.end();
    }
}

/// This rank's place in the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Number of this rank, and of all.
    pub rank: usize,
    /// Number of ranks.
    pub size: usize,
    /// Number of this rank among those of its machine.
    pub local_rank: usize,
    /// Number of ranks on this machine.
    pub local_size: usize,
}

impl Tcp {
    /// Connects all ranks, which do the same with the same `address`, a host and a port that is free on rank 0's. A rank that does
    /// not come, or later does not answer, for `timeout` is an error.
    ///
    /// # Errors
    /// [`Error::Rank`] if the rank is not below the size; [`Error::Tcp`].
    pub fn connect(address: (&str, u16), place: Place, timeout: Duration) -> Result<Self> {
        let Place { rank, size, .. } = place;
        expect_rank("connect", rank, size)?;
        let meeting =
            Meeting { name: format!("{}:{}", address.0, address.1), rank, size, deadline: Instant::now() + timeout };
        let streams = match rank {
            _ if size == 1 => vec![None],
            0 => meeting.lead(address)?,
            _ => meeting.follow(address)?,
        };
        let (to_self, mut own) = channel();
        let (mut to, mut from, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        for stream in streams {
            let Some(stream) = stream else {
                // The own place is the only empty one.
                from.push(std::mem::replace(&mut own, channel().1));
                to.push(None);
                continue;
            };
            let (sender, receiver) = channel();
            let set = stream.set_nodelay(true).and_then(|()| stream.set_read_timeout(None));
            let [reader, end] = [(); 2].map(|()| stream.try_clone().map_err(meeting.failed()));
            set.map_err(meeting.failed())?;
            let reader = reader?;
            let receive = move || receive(reader, &sender);
            let started = thread::Builder::new().name("ranks".into()).spawn(receive);
            started.map_err(|error| meeting.fail(&error.to_string()))?;
            from.push(receiver);
            ends.push(end?);
            to.push(Some(Mutex::new(stream)));
        }
        Ok(Self { place, timeout: Timeout::new(timeout), to, ends, to_self, from: Mutex::new(from) })
    }

    /// Sends no more. What was sent arrives, then the others see that this rank has ended.
    pub fn end(&self) {
        // The threads that receive end when the others do the same. An error is that of a connection that has ended.
        self.ends.iter().for_each(|stream| drop(stream.shutdown(Shutdown::Write)));
    }

    /// Ends all connections at once: calls that wait, here and at other ranks, fail.
    pub fn close(&self) {
        self.ends.iter().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
    }
}

/// Passes messages on until the connection ends.
fn receive(mut stream: TcpStream, to: &Sender<Message>) {
    let mut head = [0; 9];
    while stream.read_exact(&mut head).is_ok() {
        let [call, length @ ..] = head;
        let length = u64::from_le_bytes(length);
        let mut bytes = Vec::new();
        // Grows with what arrives.
        match (&mut stream).take(length).read_to_end(&mut bytes) {
            Ok(read) if read as u64 == length && to.send((call, bytes)).is_ok() => {}
            _ => return,
        }
    }
}

/// Ranks that find each other.
struct Meeting {
    name: String,
    rank: usize,
    size: usize,
    deadline: Instant,
}

impl Meeting {
    fn fail(&self, message: &str) -> Error {
        Error::Tcp { address: self.name.clone(), message: message.into() }
    }
    fn failed(&self) -> impl Fn(io::Error) -> Error + '_ {
        |error| self.fail(&error.to_string())
    }

    /// Rank 0: waits for all others, then sends their addresses.
    fn lead(&self, address: (&str, u16)) -> Result<Vec<Option<TcpStream>>> {
        // All of the machine's addresses: the name may be that of one that others see.
        let listener = TcpListener::bind(("0.0.0.0", address.1)).or_else(|_| TcpListener::bind(address));
        let mut streams = self.accept(&listener.map_err(self.failed())?, 1)?;
        let mut table = Vec::new();
        for (stream, port) in streams.iter().flatten() {
            let ip = stream.peer_addr().map_err(self.failed())?.ip();
            table.extend(format!("{ip} {port}\n").into_bytes());
        }
        let length = (table.len() as u32).to_le_bytes();
        for (stream, _) in streams.iter_mut().flatten() {
            stream.write_all(&length).and_then(|()| stream.write_all(&table)).map_err(self.failed())?;
        }
        Ok(streams.into_iter().map(|stream| stream.map(|(stream, _)| stream)).collect())
    }

    /// The others: each connects to those below it and waits for those above it.
    fn follow(&self, address: (&str, u16)) -> Result<Vec<Option<TcpStream>>> {
        let mut leader = self.reach(|| address.to_socket_addrs())?;
        let local = leader.local_addr().map_err(self.failed())?.ip();
        let listener = TcpListener::bind((local, 0)).map_err(self.failed())?;
        let port = listener.local_addr().map_err(self.failed())?.port();
        self.greet(&mut leader, port).map_err(self.failed())?;
        let table = self.table(&mut leader).map_err(|error| {
            self.fail(&format!("rank 0 did not answer: {error}; it may wait for another rank, or be of another job"))
        })?;
        let mut streams: Vec<Option<TcpStream>> = (0..self.size).map(|_| None).collect();
        streams[0] = Some(leader);
        for peer in 1..self.rank {
            let mut stream = self.reach(|| Ok([table[peer - 1]].into_iter()))?;
            self.greet(&mut stream, 0).map_err(self.failed())?;
            streams[peer] = Some(stream);
        }
        for (place, stream) in streams.iter_mut().zip(self.accept(&listener, self.rank + 1)?) {
            if let Some((stream, _)) = stream {
                *place = Some(stream);
            }
        }
        Ok(streams)
    }

    /// A connection, as soon as someone listens.
    fn reach<A: Iterator<Item = SocketAddr>>(&self, addresses: impl Fn() -> io::Result<A>) -> Result<TcpStream> {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let mut last = "the name has no address".to_owned();
            match addresses() {
                Ok(addresses) => {
                    for address in addresses {
                        match TcpStream::connect_timeout(&address, left.max(Duration::from_millis(1))) {
                            Ok(stream) => return Ok(stream),
                            Err(error) => last = error.to_string(),
                        }
                    }
                }
                Err(error) => last = error.to_string(),
            }
            if left.is_zero() {
                return Err(self.fail(&format!("rank 0 cannot be reached: {last}")));
            }
            thread::sleep(Duration::from_millis(50).min(left));
        }
    }

    fn greet(&self, stream: &mut TcpStream, port: u16) -> io::Result<()> {
        let mut greeting = GREETING.to_vec();
        greeting.extend((self.rank as u32).to_le_bytes());
        greeting.extend((self.size as u32).to_le_bytes());
        greeting.extend(port.to_le_bytes());
        stream.write_all(&greeting)
    }

    /// Rank and port of one that says so; none of a stranger.
    fn greeted(&self, stream: &mut TcpStream) -> Option<(usize, u16)> {
        let mut greeting = [0; 18];
        stream.set_nonblocking(false).and_then(|()| stream.set_read_timeout(Some(PATIENCE))).ok()?;
        stream.read_exact(&mut greeting).ok()?;
        let (own, rest) = greeting.split_at(8);
        let word = |at: usize| u32::from_le_bytes([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]]) as usize;
        (own == GREETING && word(4) == self.size).then(|| (word(0), u16::from_le_bytes([rest[8], rest[9]])))
    }

    /// Waits for the ranks from `first` on.
    fn accept(&self, listener: &TcpListener, first: usize) -> Result<Vec<Option<(TcpStream, u16)>>> {
        listener.set_nonblocking(true).map_err(self.failed())?;
        let mut streams: Vec<Option<(TcpStream, u16)>> = (0..self.size).map(|_| None).collect();
        while streams[first.min(self.size)..].iter().any(Option::is_none) {
            match listener.accept() {
                Ok((mut stream, _)) => {
                    let Some((rank, port)) = self.greeted(&mut stream) else { continue };
                    if !(first..self.size).contains(&rank) || streams[rank].is_some() {
                        return Err(self.fail(&format!("a second rank {rank} connects: two jobs have this address")));
                    }
                    streams[rank] = Some((stream, port));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if Instant::now() > self.deadline {
                        let missing = (first..self.size).filter(|&rank| streams[rank].is_none());
                        let missing: Vec<String> = missing.map(|rank| rank.to_string()).collect();
                        let ranks = if missing.len() == 1 { "rank" } else { "ranks" };
                        return Err(self.fail(&format!("{ranks} {} did not connect", missing.join(", "))));
                    }
                    thread::sleep(Duration::from_millis(5));
                }
                Err(error) => return Err(self.fail(&error.to_string())),
            }
        }
        Ok(streams)
    }

    /// The addresses of ranks 1, 2, … .
    fn table(&self, leader: &mut TcpStream) -> io::Result<Vec<SocketAddr>> {
        let left = self.deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        leader.set_read_timeout(Some(left))?;
        let mut length = [0; 4];
        leader.read_exact(&mut length)?;
        let mut table = String::new();
        leader.take(u32::from_le_bytes(length).into()).read_to_string(&mut table)?;
        let address = |line: &str| {
            let (ip, port) = line.split_once(' ')?;
            Some(SocketAddr::new(ip.parse::<IpAddr>().ok()?, port.parse().ok()?))
        };
        let table: Option<Vec<SocketAddr>> = table.lines().map(address).collect();
        table.filter(|table| table.len() == self.size - 1).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

impl Messages for Tcp {
    const NAME: &'static str = "TCP";

    fn place(&self) -> Place {
        self.place
    }
    fn longest(&self) -> &Timeout {
        &self.timeout
    }

    fn call(&self, call: &'static str, sends: &[(usize, &[u8])], receives: &mut [(usize, &mut [u8])]) -> Result<()> {
        let from = self.from.lock().unwrap_or_else(PoisonError::into_inner);
        let code = CALLS.iter().position(|name| *name == call).unwrap_or(CALLS.len()) as u8;
        let timeout = self.timeout.get();
        for &(peer, bytes) in sends {
            expect_rank(call, peer, self.to.len())?;
            let Some(stream) = &self.to[peer] else {
                self.to_self.send((code, bytes.to_vec())).map_err(|_| Error::Ended { call, peer })?;
                continue;
            };
            let mut stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
            let mut head = [code; 9];
            head[1..].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
            let set = stream.set_write_timeout(Some(timeout));
            let sent = set.and_then(|()| stream.write_all(&head)).and_then(|()| stream.write_all(bytes));
            sent.map_err(|error| match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                    late(RecvTimeoutError::Timeout, call, peer, timeout)
                }
                _ => Error::Ended { call, peer },
            })?;
        }
        for (peer, to) in receives {
            let peer = *peer;
            expect_rank(call, peer, self.to.len())?;
            let (sent, bytes) = from[peer].recv_timeout(timeout).map_err(|error| late(error, call, peer, timeout))?;
            take(call, peer, (CALLS.get(usize::from(sent)).copied().unwrap_or("another program"), &bytes), to)?;
        }
        Ok(())
    }
}
