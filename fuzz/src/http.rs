//! The web server, without sockets and without waiting: its clock is moved on whenever it has nothing to do.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use alexnet_core::random::Philox;
use alexnet_core::{Cpu, Network};
use alexnet_train::data::{Preprocess, cifar};
use alexnet_train::run::checkpoint::{self, Metadata, Progress, TrainedOn};
use alexnet_train::run::classifier::{Classifier, architecture_of};
use alexnet_train::run::model::Model as Kind;
use alexnet_train::serve::access::Access;
use alexnet_train::serve::{Examples, InProcess, Limits, Model};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Most bytes of a request's body.
const BODY: usize = 64 << 10;
/// Decoded pictures, and the activations of layers as pictures.
const BESIDES: usize = 64 << 20;

/// What a client sends on a connection. Each answer is HTTP, its JSON is JSON, and probabilities are finite.
pub fn http(input: &[u8]) -> usize {
    // Both servers are there before memory is counted.
    let _ = server(false);
    let output = exchange(input, true);
    let mut answers = Answers { rest: &output, statuses: Vec::new() };
    while !answers.rest.is_empty() {
        answers.next();
    }
    // The network has its own thread, for which a clock that is moved on does not wait.
    if answers.statuses.contains(&504) {
        let last = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let output = exchange(&[input, last].concat(), false);
        let mut answers = Answers { rest: &output, statuses: Vec::new() };
        while !answers.rest.is_empty() {
            answers.next();
        }
    }
    BESIDES
}

/// All that the server sends until it closes the connection.
fn exchange(input: &[u8], skips: bool) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(skips).build();
    let exchange = async {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let mut output = Vec::new();
        let talk = async {
            // A server that refuses a request need not read on.
            let _ = client.write_all(input).await;
            client.read_to_end(&mut output).await.expect("a pipe in memory")
        };
        let limit = Duration::from_secs(600);
        let done = tokio::time::timeout(limit, async { tokio::join!(self::server(skips).answer(server), talk) });
        done.await.expect("the server closes a connection that is idle");
        output
    };
    runtime.expect("a runtime without sockets").block_on(exchange)
}

/// The server, with the limits of one whose clock skips or not.
fn server(skips: bool) -> &'static InProcess {
    static SERVERS: [OnceLock<InProcess>; 2] = [OnceLock::new(), OnceLock::new()];
    SERVERS[usize::from(skips)].get_or_init(|| {
        let time = if skips { Limits::default().time } else { Duration::from_secs(1) };
        let limits = Limits { body: BODY, pictures: 3, time, ..Limits::default() };
        let examples = Examples::of_classes(&cifar::CLASSES.map(String::from)).expect("the embedded sample");
        let access = Access {
            hosts: vec!["nas.local".parse().expect("a name")],
            origins: vec!["https://app.example".parse().expect("an origin")],
        };
        InProcess::new(model(), examples, limits, access).expect("a thread for the network")
    })
}

/// A network with its initial weights.
fn model() -> Model {
    let metadata = Metadata {
        model: Kind { variant: "modern".into(), image_size: 32, groups: 1, batch_norm: true, ..Kind::default() },
        data: TrainedOn { name: "sample".into(), fingerprint: "0123456789abcdef".into() },
        classes: cifar::CLASSES.map(String::from).to_vec(),
        config: String::new(),
        seed: 1,
        progress: Progress::default(),
        preprocess: Preprocess::default(),
    };
    let path = "last.safetensors".as_ref();
    let architecture = architecture_of(&metadata, path).expect("a known variant");
    let device = Arc::new(Cpu::new(1).expect("a CPU"));
    let mut network = Network::new(device.clone(), architecture.clone(), 1, true).expect("a small network");
    network.initialise(Philox::new(1)).expect("a CPU");
    let checkpoint = checkpoint::in_memory(path, &network, &metadata).expect("finite weights");
    let classifier = Classifier::new(device, &checkpoint, architecture, 1).expect("its own weights");
    Model::new(classifier, 1, checkpoint.metadata(), None)
}

/// The answers on a connection.
struct Answers<'a> {
    rest: &'a [u8],
    statuses: Vec<u16>,
}

impl Answers<'_> {
    fn next(&mut self) {
        let shown = || String::from_utf8_lossy(&self.rest[..self.rest.len().min(400)]).into_owned();
        let end = self.rest.windows(4).position(|window| window == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("an answer without an end of its head: {}", shown()));
        let head = std::str::from_utf8(&self.rest[..end]).unwrap_or_else(|_| panic!("a head of bytes: {}", shown()));
        let mut lines = head.split("\r\n");
        let status: Vec<&str> = lines.next().unwrap_or_default().splitn(3, ' ').collect();
        let ["HTTP/1.1" | "HTTP/1.0", status, _] = status[..] else { panic!("no status line: {}", shown()) };
        let status: u16 = status.parse().unwrap_or_else(|_| panic!("no status: {}", shown()));
        assert!(matches!(status, 100 | 200 | 204 | 400..=431 | 500..=504), "{}", shown());
        let (mut length, mut kind) = (None, "");
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("no header `{line}`: {}", shown()));
            let token = |c: char| c.is_ascii_alphanumeric() || c == '-';
            assert!(!name.is_empty() && name.chars().all(token), "no header `{line}`");
            assert!(value.chars().all(|c| !c.is_control()), "a control character in `{line}`");
            match name.to_ascii_lowercase().as_str() {
                "content-length" => {
                    assert!(length.is_none(), "two lengths: {}", shown());
                    length = Some(value.parse::<usize>().unwrap_or_else(|_| panic!("no length: {}", shown())));
                }
                "content-type" => kind = value,
                "transfer-encoding" => panic!("answers have a length: {}", shown()),
                _ => {}
            }
        }
        self.statuses.push(status);
        let rest = &self.rest[end + 4..];
        // The answer to HEAD has the length of a body that does not follow.
        let follows = !rest.is_empty() && !rest.starts_with(b"HTTP/1.");
        let length = length.filter(|_| follows).unwrap_or(0);
        assert!(length <= rest.len(), "{} of {length} bytes: {}", rest.len(), shown());
        let (body, rest) = rest.split_at(length);
        if kind == "application/json" && follows {
            let value = serde_json::from_slice(body).unwrap_or_else(|error| panic!("{error}: {}", shown()));
            finite(&value);
        }
        self.rest = rest;
    }
}

/// Probabilities are numbers from 0 to 1: JSON has no NaN, it would be null.
fn finite(value: &serde_json::Value) {
    match value {
        serde_json::Value::Array(values) => values.iter().for_each(finite),
        serde_json::Value::Object(fields) => {
            if let Some(share) = fields.get("probability").filter(|share| !share.is_object()) {
                assert!(share.as_f64().is_some_and(|share| (0.0..=1.0).contains(&share)), "a probability of {share}");
            }
            fields.values().for_each(finite);
        }
        _ => {}
    }
}
