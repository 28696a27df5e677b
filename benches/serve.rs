//! Load on `alexnet serve`: requests at a fixed rate, whether or not the server keeps up, so that a latency counts from the
//! moment at which its request was due (no coordinated omission).
//!
//!     cargo bench -p alexnet-train --bench serve -- [--rate 500] [--seconds 30] [--model RUN] [--serve "FLAGS"]
//!     cargo bench -p alexnet-train --bench serve -- --soak [--rate 300] [--seconds 3600]
//!
//! Serves a network of the variant `cifar` with initial weights unless --model names another, and sends it CIFAR-10's
//! pictures as PNGs. --soak mixes in requests of every other kind, good and bad, and watches the server's memory. The exit
//! code is 1 if a limit is missed: p99 50 ms and 150 MiB under load, an unexpected answer or growth in a soak.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use alexnet_train::data::{Dataset, Options};
use clap::Parser;
use image::{ImageFormat, Rgb, RgbImage};

/// Requests at a fixed rate.
#[derive(Parser)]
struct Args {
    /// Binary to measure
    #[arg(long, default_value = env!("CARGO_BIN_EXE_alexnet"))]
    binary: PathBuf,
    /// Run or checkpoint
    #[arg(long)]
    model: Option<PathBuf>,
    /// Flags of `alexnet serve`
    #[arg(long, default_value = "--device cpu", allow_hyphen_values = true)]
    serve: String,
    /// Requests per second [default: 500, or 300 with --soak]
    #[arg(long)]
    rate: Option<f64>,
    /// Duration [default: 30, or 3600 with --soak]
    #[arg(long)]
    seconds: Option<f64>,
    /// Open connections
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Mix of requests, and memory over time
    #[arg(long)]
    soak: bool,
    /// Set by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

/// A request, and the status expected of its answer; 0: the client leaves without waiting for one.
struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    status: u16,
}

fn encoded(picture: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut file = io::Cursor::new(Vec::new());
    picture.write_to(&mut file, format).expect("memory takes a picture");
    file.into_inner()
}

fn request(line: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = if line.starts_with("POST") { format!("Content-Length: {}\r\n", body.len()) } else { String::new() };
    [format!("{line} HTTP/1.1\r\nHost: localhost\r\n{length}{headers}\r\n").as_bytes(), body].concat()
}

fn good() -> Vec<Case> {
    let test = Dataset::open("sample", &Options::default()).expect("it is in the binary").test;
    let png = |index| {
        let pixels = test.image(index, 32, &mut Vec::new()).expect("it is in memory").to_vec();
        encoded(&RgbImage::from_raw(32, 32, pixels).expect("32 by 32"), ImageFormat::Png)
    };
    (0..test.len())
        .map(|at| Case { name: "picture", bytes: request("POST /predict", "", &png(at)), status: 200 })
        .collect()
}

/// One of each other kind.
fn others() -> Vec<Case> {
    let photo = RgbImage::from_fn(1200, 800, |x, y| Rgb([(x / 5) as u8, (y / 4) as u8, (x ^ y) as u8]));
    let (jpeg, png) = (encoded(&photo, ImageFormat::Jpeg), encoded(&photo, ImageFormat::Png));
    let small = encoded(&RgbImage::from_pixel(32, 32, Rgb([9, 8, 7])), ImageFormat::Png);
    let part = |name: &str, body: &[u8]| {
        let head = format!("--x\r\nContent-Disposition: form-data; name=\"f\"; filename=\"{name}\"\r\n\r\n");
        [head.as_bytes(), body, b"\r\n"].concat()
    };
    let form =
        [part("a.png", &small), part("b.png", &jpeg), part("c.png", b"no picture"), b"--x--\r\n".to_vec()].concat();
    let form_type = "Content-Type: multipart/form-data; boundary=x\r\n";
    let json = "Content-Type: application/json\r\n";
    let cases: [(&str, Vec<u8>, u16); 16] = [
        ("JPEG", request("POST /predict?top=3&threshold=0.5", "", &jpeg), 200),
        ("large PNG", request("POST /predict", "", &png), 200),
        ("form", request("POST /predict", form_type, &form), 200),
        ("layers", request("POST /predict?layers=1", "", &small), 200),
        ("page", request("GET /", "", b""), 200),
        ("model", request("GET /model", "", b""), 200),
        ("health", request("HEAD /healthz", "", b""), 200),
        ("no picture", request("POST /predict", "", b"no picture"), 422),
        ("cut PNG", request("POST /predict", "", &small[..small.len() / 2]), 422),
        ("bad JSON", request("POST /predict", json, b"{\"image\": "), 400),
        ("bad query", request("POST /predict?top=0", "", &small), 400),
        ("not found", request("GET /../../etc/passwd", "", b""), 404),
        ("method", request("PUT /predict", "Content-Length: 3\r\n", b"abc"), 405),
        ("too large", request("POST /predict", "", &vec![0; (20 << 20) + 1]), 413),
        ("no HTTP", b"\x16\x03\x01\x02\r\n\r\n".to_vec(), 400),
        ("half", request("POST /predict", "", &jpeg)[..2000].to_vec(), 0),
    ];
    cases.into_iter().map(|(name, bytes, status)| Case { name, bytes, status }).collect()
}

/// Sends a request and reads its answer; the connection stays for the next one unless the server closes it.
fn ask(kept: &mut Option<BufReader<TcpStream>>, address: &str, case: &Case) -> io::Result<u16> {
    let mut stream = match kept.take() {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(Duration::from_secs(60)))?;
            BufReader::new(stream)
        }
    };
    let sent = stream.get_mut().write_all(&case.bytes);
    if case.status == 0 {
        return Ok(0);
    }
    let (mut line, mut status, mut length, mut closes) = (String::new(), 0, 0, false);
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            sent?;
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let text = line.trim_end().to_ascii_lowercase();
        if let Some(rest) = text.strip_prefix("http/1.1 ") {
            status = rest[..3].parse().unwrap_or(0);
        } else if let Some(value) = text.strip_prefix("content-length: ") {
            length = value.parse().unwrap_or(0);
        } else if text.is_empty() {
            break;
        }
        closes |= text == "connection: close";
    }
    if !case.bytes.starts_with(b"HEAD") {
        io::copy(&mut stream.by_ref().take(length), &mut io::sink())?;
    }
    if !closes {
        *kept = Some(stream);
    }
    Ok(status)
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    /// A line of its /proc/PID/status, in KiB.
    fn status(&self, key: &str) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or(0)
    }

    fn files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.0.id())).map_or(0, Iterator::count)
    }

    /// Seconds of processor time.
    fn seconds(&self) -> f64 {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap_or_default();
        let fields: Vec<i64> = text.rsplit(')').next().unwrap_or_default().split(' ').flat_map(str::parse).collect();
        // Ticks in user and system mode: the 14th and 15th field; those before the state are cut off, the state is no number.
        fields.get(10..12).map_or(0.0, |ticks| ticks.iter().sum::<i64>() as f64 / 100.0)
    }
}

/// What came of the requests of one kind.
#[derive(Default)]
struct Counts {
    requests: u64,
    statuses: BTreeMap<String, u64>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let rate = args.rate.unwrap_or(if args.soak { 300.0 } else { 500.0 });
    let seconds = args.seconds.unwrap_or(if args.soak { 3600.0 } else { 30.0 });
    let folder = tempfile::tempdir().expect("a temporary folder");
    let model = args.model.unwrap_or_else(|| {
        let run = folder.path().join("run");
        let flags =
            "train --data sample --limit-train 16 --limit-test 10 --batch-size 16 --epochs 0 --device cpu --out";
        let trained = Command::new(&args.binary).args(flags.split(' ')).arg(&run).stdout(Stdio::null()).status();
        assert!(trained.is_ok_and(|status| status.success()), "cannot make a network");
        run
    });
    let mut command = Command::new(&args.binary);
    command.arg("serve").arg(model).args(["--port", "0"]).args(args.serve.split_whitespace());
    let mut server = Server(command.stdout(Stdio::piped()).spawn().expect("the binary runs"));
    let mut line = String::new();
    let _ = BufReader::new(server.0.stdout.take().expect("piped")).read_line(&mut line);
    let address =
        line.split_whitespace().nth(1).and_then(|url| url.strip_prefix("http://")).expect("an address").to_owned();
    println!("{} {}, {rate} requests/s for {seconds} s, {} connections", line.trim(), server.0.id(), args.connections);

    // From here on VmHWM is that of serving; the checkpoint took more.
    let loading = server.status("VmHWM:");
    let _ = fs::write(format!("/proc/{}/clear_refs", server.0.id()), "5");
    let (good, others) = (good(), if args.soak { others() } else { Vec::new() });
    let total = (rate * seconds) as u64;
    let (next, wrong) = (AtomicU64::new(0), AtomicU64::new(0));
    let counts: Mutex<BTreeMap<&str, Counts>> = Mutex::default();
    let latencies: Mutex<Vec<f32>> = Mutex::new(Vec::with_capacity(total as usize));
    let start = Instant::now() + Duration::from_millis(200);
    let samples = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..args.connections)
            .map(|_| {
                scope.spawn(|| {
                    let mut connection = None;
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= total {
                            break;
                        }
                        // One request in 20 is of another kind, and of those one in 16 of each.
                        let other =
                            (number % 20 == 19).then(|| others.get((number / 20) as usize % others.len().max(1)));
                        let case = other.flatten().unwrap_or(&good[number as usize % good.len()]);
                        let due = start + Duration::from_secs_f64(number as f64 / rate);
                        std::thread::sleep(due.saturating_duration_since(Instant::now()));
                        let mut answer = ask(&mut connection, &address, case);
                        if answer.is_err() {
                            // The server may close an idle connection at any time: once more on a new one.
                            connection = None;
                            answer = ask(&mut connection, &address, case);
                        }
                        let taken = due.elapsed().as_secs_f32() * 1000.0;
                        if case.name == "picture" {
                            latencies.lock().expect("no panic").push(taken);
                        }
                        let expected = answer.as_ref().is_ok_and(|&status| status == case.status);
                        wrong.fetch_add(u64::from(!expected), Ordering::Relaxed);
                        let answer = answer.map_or_else(|error| error.to_string(), |status| status.to_string());
                        let mut counts = counts.lock().expect("no panic");
                        let counts = counts.entry(case.name).or_default();
                        counts.requests += 1;
                        *counts.statuses.entry(answer).or_default() += 1;
                    }
                })
            })
            .collect();
        let mut samples = vec![];
        let every = Duration::from_secs_f64((seconds / 360.0).max(0.5));
        while !clients.iter().all(|client| client.is_finished()) {
            std::thread::sleep(every);
            let sample =
                (start.elapsed().as_secs_f64(), server.status("VmRSS:"), server.files(), next.load(Ordering::Relaxed));
            if args.soak && samples.len() % 30 == 0 {
                println!(
                    "{:6.0} s  {:8} requests  {:7} KiB  {:4} files",
                    sample.0,
                    sample.3.min(total),
                    sample.1,
                    sample.2
                );
            }
            samples.push(sample);
        }
        samples
    });
    let wall = start.elapsed().as_secs_f64();
    let mut latencies = latencies.into_inner().expect("no panic");
    latencies.sort_by(f32::total_cmp);
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    println!("{:<12} {:>9}  answers", "kind", "requests");
    for (name, counts) in &counts.into_inner().expect("no panic") {
        println!("{name:<12} {:>9}  {:?}", counts.requests, counts.statuses);
    }
    println!(
        "{:.0} requests/s; ms: p50 {:.2}, p90 {:.2}, p99 {:.2}, p99.9 {:.2}, most {:.2}",
        total as f64 / wall,
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        at(1.0)
    );
    let (most, cpu) = (server.status("VmHWM:"), server.seconds());
    let mib = |kib: u64| kib as f64 / 1024.0;
    let per_request = cpu * 1000.0 / total as f64;
    println!(
        "server: {:.0} MiB to load, {:.0} MiB to serve, {per_request:.2} ms of processor time per request",
        mib(loading),
        mib(most)
    );
    let wrong = wrong.into_inner();
    let failed = if args.soak {
        // Of the second and the last quarter.
        let quarter = samples.len() / 4;
        let median = |part: &[(f64, u64, usize, u64)]| {
            let mut sizes: Vec<u64> = part.iter().map(|sample| sample.1).collect();
            sizes.sort_unstable();
            sizes.get(sizes.len() / 2).copied().unwrap_or(0)
        };
        let (early, late) = (median(&samples[quarter..2 * quarter]), median(&samples[3 * quarter..]));
        let grown = late.saturating_sub(early);
        println!(
            "memory: {early} KiB in the second quarter, {late} KiB in the last: {grown} KiB more; {wrong} wrong answers"
        );
        grown > early / 50 || wrong > 0
    } else {
        at(0.99) >= 50.0 || most >= 150 << 10 || wrong > 0
    };
    println!("verdict: {}", if failed { "FAILED" } else { "passed" });
    ExitCode::from(u8::from(failed))
}
