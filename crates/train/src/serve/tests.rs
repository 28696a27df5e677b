use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use alexnet_core::random::Philox;
use alexnet_core::{Cpu, Network};

use super::*;
use crate::data::Preprocess;
use crate::data::cifar::CLASSES;
use crate::run::checkpoint::{self, Metadata, Progress, TrainedOn};
use crate::run::classifier::{Classifier, architecture_of};
use crate::run::model::Model as Kind;

/// A network with its initial weights.
fn model() -> Model {
    let metadata = Metadata {
        model: Kind { variant: "modern".into(), image_size: 32, groups: 1, batch_norm: true, ..Kind::default() },
        data: TrainedOn { name: "sample".into(), fingerprint: "0123456789abcdef".into() },
        classes: CLASSES.map(String::from).to_vec(),
        config: String::new(),
        seed: 1,
        progress: Progress::default(),
        preprocess: Preprocess::default(),
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.safetensors");
    let architecture = architecture_of(&metadata, &path).unwrap();
    let device = Arc::new(Cpu::new(1).unwrap());
    let mut network = Network::new(device.clone(), architecture.clone(), 1, true).unwrap();
    network.initialise(Philox::new(1)).unwrap();
    checkpoint::save(&path, &network, &metadata).unwrap();
    let checkpoint = checkpoint::open(&path).unwrap();
    Model::new(Classifier::new(device, &checkpoint, architecture, 1).unwrap(), "last".into(), None)
}

/// The status of a response.
fn ask(address: SocketAddr, request: &str, body: &[u8]) -> u16 {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let length = body.len();
    let head =
        format!("{request} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_whitespace().nth(1).unwrap_or_else(|| panic!("no answer: {answer}")).parse().unwrap()
}

#[test]
fn a_request_that_nobody_waits_for_counts_until_it_is_done() {
    let mut file = std::io::Cursor::new(Vec::new());
    image::RgbImage::new(4, 4).write_to(&mut file, image::ImageFormat::Png).unwrap();
    let file = file.into_inner();
    let limits = Limits { time: Duration::from_millis(200), requests: 1, ..Limits::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let server = Arc::new(Server::new(model(), limits, address));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let answering = answer_all(listener, server.clone(), async move {
        let _ = stopped.await;
    });
    let thread = std::thread::spawn(move || runtime.block_on(answering));

    let held = lock(&server);
    assert_eq!(ask(address, "POST /predict", &file), 504, "the first waits for the network");
    let start = Instant::now();
    assert_eq!(ask(address, "POST /predict", &file), 503, "the first still waits");
    // A busy network does not block other requests.
    assert_eq!(ask(address, "GET /", b""), 200);
    assert!(start.elapsed() < Duration::from_secs(30));
    drop(held);
    let deadline = Instant::now() + Duration::from_secs(60);
    while ask(address, "POST /predict", &file) != 200 {
        assert!(Instant::now() < deadline, "the first never ended");
        std::thread::sleep(Duration::from_millis(20));
    }
    stop.send(()).unwrap();
    thread.join().unwrap();
}

#[test]
fn the_port_of_http_is_left_out_of_names() {
    let named = |address: &str| hosts(address.parse().unwrap());
    assert!(named("127.0.0.1:80").contains(&"localhost".into()) && named("127.0.0.1:80").contains(&"[::1]:80".into()));
    assert!(!named("127.0.0.1:8017").contains(&"localhost".into()));
}
