//! HTTP download of a large file with progress, resume and time-outs.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use super::error::{DataError, Result};
use super::report::{Event, Reporter};

/// Time-outs and retries of a download.
#[derive(Clone, Debug)]
pub struct Patience {
    /// Time-out for resolving the name, connecting, and the response.
    pub connect: Duration,
    /// How long the server may send less than `least_rate`.
    pub stall: Duration,
    /// A rate below this, in bytes per second, over the time of `stall` counts as a stall.
    pub least_rate: f64,
    /// Number of retries after attempts without progress; attempts with progress are not counted.
    pub retries: u32,
    /// Pause before the first retry; doubled each time.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            connect: Duration::from_secs(15),
            stall: Duration::from_secs(30),
            least_rate: 1000.0,
            retries: 2,
            pause: Duration::from_secs(1),
        }
    }
}

/// Upper limit of attempts, even with progress.
const MOST_ATTEMPTS: u32 = 50;

/// Downloads `url`, a file of `expected` bytes, to `partial`, starting where that file ends.
///
/// If the download fails, `partial` keeps what has arrived, and the next call resumes it.
///
/// # Errors
/// [`DataError::Source`] with the reason if the server fails, [`DataError::Io`] for the file.
pub fn download(url: &str, partial: &Path, expected: u64, patience: &Patience, report: &Reporter) -> Result<()> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_resolve(Some(patience.connect))
        .timeout_connect(Some(patience.connect))
        .timeout_recv_response(Some(patience.connect.max(patience.stall)))
        .timeout_per_read(Some(patience.stall))
        .user_agent(concat!("alexnet/", env!("CARGO_PKG_VERSION")))
        .build()
        .into();
    let mut file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(partial)
        .map_err(DataError::io("create", partial))?;
    let mut failures = 0;
    let mut pause = patience.pause;
    for _ in 0..MOST_ATTEMPTS {
        let before = file.seek(SeekFrom::End(0)).map_err(DataError::io("read", partial))?;
        if before == expected {
            return Ok(());
        }
        if before > expected {
            truncate(&mut file, partial)?;
        }
        let fault = match attempt(&agent, url, &mut file, partial, expected, patience, report) {
            Ok(()) => return Ok(()),
            Err(Fault::Fatal(error)) => return Err(error),
            Err(Fault::Passing(reason)) => reason,
        };
        let after = file.seek(SeekFrom::End(0)).map_err(DataError::io("read", partial))?;
        if after > before {
            (failures, pause) = (0, patience.pause);
        } else {
            failures += 1;
        }
        if failures > patience.retries {
            return Err(DataError::Source(fault));
        }
        report.note(format!("{url}: {fault}; trying again from {after} of {expected} bytes"));
        std::thread::sleep(pause);
        pause *= 2;
    }
    Err(DataError::Source(format!("the connection broke {MOST_ATTEMPTS} times")))
}

enum Fault {
    /// Trying again may help.
    Passing(String),
    /// Trying again does not help.
    Fatal(DataError),
}

fn fatal(reason: String) -> Fault {
    Fault::Fatal(DataError::Source(reason))
}

fn truncate(file: &mut File, path: &Path) -> Result<()> {
    file.set_len(0).and_then(|()| file.rewind()).map_err(DataError::io("write", path))
}

fn attempt(
    agent: &ureq::Agent,
    url: &str,
    file: &mut File,
    partial: &Path,
    expected: u64,
    patience: &Patience,
    report: &Reporter,
) -> Result<(), Fault> {
    let io = |action| move |error| Fault::Fatal(DataError::io(action, partial)(error));
    let mut have = file.seek(SeekFrom::End(0)).map_err(io("read"))?;
    let mut request = agent.get(url);
    if have > 0 {
        request = request.header("Range", format!("bytes={have}-"));
    }
    let response = request.call().map_err(|error| explain(&error, patience))?;
    match response.status().as_u16() {
        206 if have > 0 => {
            let range = response.headers().get("content-range").and_then(|value| value.to_str().ok()).unwrap_or("");
            if range != format!("bytes {have}-{}/{expected}", expected - 1) {
                // Another file, or a server without ranges: the partial file does not belong to it.
                truncate(file, partial).map_err(Fault::Fatal)?;
                return Err(Fault::Passing(format!("the server answered with the range `{range}`")));
            }
        }
        200 => {
            truncate(file, partial).map_err(Fault::Fatal)?;
            have = 0;
            let declared = response.headers().get("content-length").and_then(|value| value.to_str().ok()?.parse().ok());
            if declared.is_some_and(|declared: u64| declared != expected) {
                let declared = declared.unwrap_or(0);
                return Err(fatal(format!(
                    "the server offers {declared} bytes, expected {expected}: it is another file"
                )));
            }
        }
        416 => {
            truncate(file, partial).map_err(Fault::Fatal)?;
            return Err(Fault::Passing("the server could not resume".into()));
        }
        status @ (408 | 429 | 500..=599) => {
            return Err(Fault::Passing(format!("the server answered {status}")));
        }
        status => return Err(fatal(format!("the server answered {status}"))),
    }
    let mut body = response.into_body().into_reader();
    let mut buffer = vec![0; 1 << 16];
    let mut window = (Instant::now(), 0u64);
    let what = url.rsplit('/').next().unwrap_or(url);
    let mut rate = 0.0;
    while have < expected {
        let read = body.read(&mut buffer).map_err(|error| match error.get_ref().and_then(|e| e.downcast_ref()) {
            Some(error) => explain(error, patience),
            None => Fault::Passing(format!("the connection broke: {error}")),
        })?;
        if read == 0 {
            return Err(Fault::Passing(format!("the connection ended after {have} of {expected} bytes")));
        }
        if have + read as u64 > expected {
            truncate(file, partial).map_err(Fault::Fatal)?;
            return Err(fatal(format!("the server sent more than the expected {expected} bytes")));
        }
        file.write_all(&buffer[..read]).map_err(io("write"))?;
        have += read as u64;
        window.1 += read as u64;
        let seconds = window.0.elapsed();
        if seconds >= patience.stall {
            rate = window.1 as f64 / seconds.as_secs_f64();
            if rate < patience.least_rate {
                return Err(Fault::Passing(format!("the server stalled: {rate:.0} bytes per second")));
            }
            window = (Instant::now(), 0);
        } else if seconds >= Duration::from_secs(2) {
            rate = window.1 as f64 / seconds.as_secs_f64();
        }
        report.tell(Event::Progress { what: what.into(), done: have, total: expected, rate });
    }
    Ok(())
}

/// An HTTP error in words for the user.
fn explain(error: &ureq::Error, patience: &Patience) -> Fault {
    Fault::Passing(match error {
        ureq::Error::HostNotFound => "no such host, or no network".into(),
        ureq::Error::Timeout(ureq::Timeout::Resolve | ureq::Timeout::Connect) => {
            format!("no connection within {:?}", patience.connect)
        }
        ureq::Error::Timeout(_) => format!("the server stalled: nothing arrived for {:?}", patience.stall),
        ureq::Error::TooManyRedirects | ureq::Error::BadUri(_) | ureq::Error::Tls(_) => {
            return fatal(error.to_string());
        }
        ureq::Error::Io(error) => format!("no connection: {error}"),
        other => other.to_string(),
    })
}
