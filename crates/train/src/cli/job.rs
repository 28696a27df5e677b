//! The processes of one training: those that a launcher started, or this one alone.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use alexnet_ranks::launcher::Kind;
use alexnet_ranks::tcp::Place;
use alexnet_ranks::{Launcher, Ranks, Single, TIMEOUT, Tcp, cores, host};

use crate::cli::hint;
use crate::print::{be_quiet, fail};
use crate::run::metrics::Record;
use crate::run::progress::Screen;
use crate::run::trainer::Step;
use crate::run::{Error, Observer, config, ranks};

/// While the ranks start, open their data and compile kernels, and in the first step, they may wait so long for each other.
const START: Duration = TIMEOUT;

/// The ranks, if there are several: an error of this process ends them all.
static STARTED: OnceLock<Arc<dyn Ranks>> = OnceLock::new();

/// The ranks of a training.
pub struct Job {
    /// How they reach each other.
    pub ranks: Arc<dyn Ranks>,
    #[cfg(unix)]
    mpi: Option<Arc<alexnet_ranks::Mpi>>,
    timeout: Duration,
    /// The last step that is done, for messages.
    step: Arc<Mutex<Option<Step>>>,
}

/// A time to wait: seconds, or a number with s, m or h.
///
/// # Errors
/// It is none, or zero.
pub fn time(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<u64>().map_or_else(|_| text.to_owned(), |seconds| format!("{seconds}s"));
    match seconds.parse() {
        Ok(config::CheckpointEvery::Time(time)) => Ok(time),
        _ => Err(format!("`{text}` is no time, such as 60, 90s or 5m")),
    }
}

impl Job {
    /// Starts the engine of the launcher that started this process, and shares the machine's cores among its ranks.
    ///
    /// # Errors
    /// There is no engine; the number of ranks is no power of two.
    pub fn start(timeout: Duration) -> anyhow::Result<Self> {
        let Some(launcher) = Launcher::of_process() else { return Ok(Self::alone(timeout)) };
        if launcher.rank > 0 {
            be_quiet();
        }
        if !launcher.size.is_power_of_two() {
            let below = 1 << launcher.size.ilog2();
            let message = format!("{} started {} processes, which is no power of two", launcher.kind, launcher.size);
            return Err(hint::usage(message, format!("start {below} or {} processes", 2 * below)));
        }
        let job = Self::of(&launcher, timeout)?;
        job.ranks.set_timeout(START.max(timeout));
        config::share_cores(cores(&*job.ranks).map_err(Error::from)?);
        let _ = STARTED.set(job.ranks.clone());
        Ok(job)
    }

    fn alone(timeout: Duration) -> Self {
        Self {
            ranks: Arc::new(Single),
            #[cfg(unix)]
            mpi: None,
            timeout,
            step: Arc::default(),
        }
    }

    fn of(launcher: &Launcher, timeout: Duration) -> Result<Self, Error> {
        if launcher.kind == Kind::Torchrun {
            return Self::by_tcp(launcher, timeout);
        }
        Self::by_mpi(launcher, timeout)
    }

    /// The ranks of `torchrun`, which has no engine of its own. Its agent listens at the port that it names: they meet at the next one.
    fn by_tcp(launcher: &Launcher, timeout: Duration) -> Result<Self, Error> {
        let meeting = launcher.rendezvous.as_ref().and_then(|(host, port)| Some((host.as_str(), port.checked_add(1)?)));
        let Launcher { kind, rank, size, local_rank, local_size, .. } = *launcher;
        let (Some(address), Some(local_rank), Some(local_size)) = (meeting, local_rank, local_size) else {
            return Err(alexnet_ranks::Error::NoEngine { launcher: kind.to_string() }.into());
        };
        let ranks = Tcp::connect(address, Place { rank, size, local_rank, local_size }, START)?;
        Ok(Self { ranks: Arc::new(ranks), ..Self::alone(timeout) })
    }

    #[cfg(unix)]
    fn by_mpi(launcher: &Launcher, timeout: Duration) -> Result<Self, Error> {
        let step: Arc<Mutex<Option<Step>>> = Arc::default();
        let (rank, at) = (launcher.rank, step.clone());
        let on_failure = move |error: &alexnet_ranks::Error| {
            wait_turn(rank);
            let at = match *at.lock().unwrap_or_else(PoisonError::into_inner) {
                Some(Step { epoch, done, .. }) => format!("after step {done} of epoch {epoch}"),
                None => "before the first step".into(),
            };
            let hint = hint::of_ranks(error).map_or_else(String::new, |hint| format!("\nhint: {hint}"));
            tell(rank, &format!("{error}, {at}{hint}"));
        };
        let mpi = Arc::new(alexnet_ranks::Mpi::start(launcher, Arc::new(on_failure))?);
        Ok(Self { ranks: mpi.clone(), mpi: Some(mpi), timeout, step })
    }

    #[cfg(not(unix))]
    fn by_mpi(launcher: &Launcher, _: Duration) -> Result<Self, Error> {
        Err(alexnet_ranks::Error::NoEngine { launcher: launcher.kind.to_string() }.into())
    }

    /// Whether there is one rank.
    pub fn is_alone(&self) -> bool {
        self.ranks.size() == 1
    }

    /// Whether this is the rank that prints and writes.
    pub fn leads(&self) -> bool {
        self.ranks.rank() == 0
    }

    /// Runs `open` on one rank of each machine first: what that downloads, the others find.
    ///
    /// # Errors
    /// That of `open`; a rank ended or did not answer.
    pub fn one_first<T>(&self, open: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        if self.ranks.local_rank() > 0 {
            self.ranks.barrier().map_err(Error::from)?;
            return open();
        }
        let opened = open()?;
        self.ranks.barrier().map_err(Error::from)?;
        Ok(opened)
    }

    /// Checks that `own`, lines such as `lr = 0.1`, is the same on all ranks; all of them call it, and get the same error. A rank
    /// that is alone does not compute it.
    ///
    /// # Errors
    /// That of `own`; the first line that differs, and on which rank.
    pub fn compare(&self, own: impl FnOnce() -> anyhow::Result<String>) -> anyhow::Result<()> {
        if self.is_alone() {
            return Ok(());
        }
        let own = format!("{}\n{}", host(), own()?);
        let all = ranks::gather(&*self.ranks, own.as_bytes()).map_err(Error::from)?;
        let texts: Vec<String> = all.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect();
        match difference(&texts) {
            None => Ok(()),
            Some(message) => {
                let hint = "start the same program with the same settings and data everywhere; with ALEXNET_MPI=none each process \
                    trains a run of its own";
                Err(hint::failure(message, hint))
            }
        }
    }

    /// What tells this program from others.
    pub fn program() -> String {
        format!("version = {}\nprogram = {:08x}\n", env!("CARGO_PKG_VERSION"), checksum().unwrap_or_default())
    }

    /// The line about the ranks.
    ///
    /// # Errors
    /// A rank ended or did not answer.
    pub fn line(&self, threads: usize) -> Result<String, Error> {
        let hosts = ranks::gather(&*self.ranks, host().as_bytes())?;
        let machines = hosts.iter().enumerate().filter(|(at, name)| !hosts[..*at].contains(name)).count();
        let machines = crate::run::summary::count(machines, "machine");
        let threads = crate::run::summary::count(threads, "thread");
        Ok(format!("{} on {machines}, {}; {threads} here", self.ranks.size(), self.ranks.name()))
    }

    /// Ends the job when this rank is done.
    ///
    /// # Errors
    /// A rank ended or did not answer.
    pub fn finish(&self) -> Result<(), Error> {
        // The first rank may still be writing.
        self.ranks.set_timeout(if self.leads() { self.timeout } else { self.timeout.max(START) });
        self.ranks.barrier()?;
        #[cfg(unix)]
        if let Some(mpi) = &self.mpi {
            mpi.finish()?;
        }
        Ok(())
    }

    /// Shows the progress of the run, on the first rank, and remembers it for messages.
    pub fn observer(&self) -> Watcher<'_> {
        Watcher { job: self, screen: self.leads().then(Screen::new) }
    }
}

/// CRC-32C of this program's file, read in pieces: it is larger than some networks.
fn checksum() -> std::io::Result<u32> {
    let mut file = std::fs::File::open(std::env::current_exe()?)?;
    let (mut piece, mut sum) = (vec![0; 1 << 16], 0);
    loop {
        match std::io::Read::read(&mut file, &mut piece)? {
            0 => return Ok(sum),
            len => sum = crc32c::crc32c_append(sum, &piece[..len]),
        }
    }
}

/// How `texts` differ, of which each has the machine's name in its first line.
fn difference(texts: &[String]) -> Option<String> {
    let first: Vec<&str> = texts.first()?.lines().skip(1).collect();
    texts.iter().enumerate().skip(1).find_map(|(rank, text)| {
        let lines: Vec<&str> = text.lines().skip(1).collect();
        let has = |found: Option<&&str>| found.map_or_else(|| "nothing".into(), |line| format!("`{line}`"));
        let at = (0..first.len().max(lines.len())).find(|&at| first.get(at) != lines.get(at))?;
        let (own, found) = (has(first.get(at)), has(lines.get(at)));
        let host = text.lines().next().unwrap_or_default();
        Some(format!("rank {rank} on {host} has {found}, but rank 0 has {own}"))
    })
}

/// After how many turns nobody else speaks.
const OTHERS: usize = 16;

/// The first rank speaks for all of them and ends the job; the others do only if it does not.
fn wait_turn(rank: usize) {
    thread::sleep(Duration::from_secs(2) * rank.min(OTHERS) as u32);
}

/// Whether this process tells of its errors while the ranks do not reach each other: one per machine does.
pub fn speaks() -> bool {
    Launcher::of_process().is_none_or(|launcher| launcher.local_rank.unwrap_or(launcher.rank) == 0)
}

/// A launcher has passed a message on by then; what is still on its way when the job ends is lost.
const PASSED_ON: Duration = Duration::from_millis(500);

/// Gives a launcher time to pass on the message of the process that [`speaks`]: the first one that ends takes the others with it.
pub fn let_pass() {
    if Launcher::of_process().is_some() {
        thread::sleep(if speaks() { PASSED_ON } else { 4 * PASSED_ON });
    }
}

/// Prints an error of a rank, before the job is ended.
fn tell(rank: usize, message: &str) {
    let who = if rank == 0 { String::new() } else { format!("rank {rank} on {}: ", host()) };
    fail(&format!("error: {who}{message}"));
    thread::sleep(PASSED_ON);
}

/// Prints an error; of several ranks in its turn, and then ends them all.
/// `other` says that it is about another rank's error, which is the one to print.
pub fn report(message: &str, code: u8, other: bool) {
    let Some(ranks) = STARTED.get() else {
        if speaks() {
            fail(message);
        }
        return let_pass();
    };
    wait_turn(if other { OTHERS } else { ranks.rank() });
    tell(ranks.rank(), message.strip_prefix("error: ").unwrap_or(message));
    ranks.abort(code.into());
}

/// Watches a run.
pub struct Watcher<'a> {
    job: &'a Job,
    screen: Option<Screen>,
}

impl Watcher<'_> {
    /// Removes the bar.
    pub fn clear(&self) {
        self.screen.iter().for_each(Screen::clear);
    }
}

impl Observer for Watcher<'_> {
    fn step(&mut self, step: &Step) {
        // Everything that takes its time at first is done.
        self.job.ranks.set_timeout(self.job.timeout);
        *self.job.step.lock().unwrap_or_else(PoisonError::into_inner) = Some(*step);
        self.screen.iter_mut().for_each(|screen| screen.step(step));
    }
    fn test(&mut self, done: usize, images: usize) {
        self.screen.iter_mut().for_each(|screen| screen.test(done, images));
    }
    fn note(&mut self, line: &str) {
        self.screen.iter_mut().for_each(|screen| screen.note(line));
    }
    fn epoch(&mut self, record: &Record, best: bool) {
        self.screen.iter_mut().for_each(|screen| screen.epoch(record, best));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, seconds) in [("60", 60), ("90s", 90), ("5m", 300), ("1h", 3600)] {
            assert_eq!(time(text), Ok(Duration::from_secs(seconds)));
        }
        for text in ["0", "", "-1", "x", "5 epochs"] {
            assert!(time(text).unwrap_err().contains("is no time"), "{text}");
        }
    }

    #[test]
    fn the_first_difference_is_named() {
        let texts = |all: &[&str]| difference(&all.iter().map(|text| (*text).into()).collect::<Vec<String>>());
        assert_eq!(texts(&["a\nlr = 1\nx = 2", "b\nlr = 1\nx = 2"]), None);
        let found = texts(&["a\nlr = 1\nx = 2", "b\nlr = 1\nx = 2", "c\nlr = 1\nx = 3"]);
        assert_eq!(found.unwrap(), "rank 2 on c has `x = 3`, but rank 0 has `x = 2`");
        let found = texts(&["a\nlr = 1", "b"]);
        assert_eq!(found.unwrap(), "rank 1 on b has nothing, but rank 0 has `lr = 1`");
    }
}
