use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
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
fn model(batch: usize) -> Model {
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
    let classifier = Classifier::new(device, &checkpoint, architecture, batch).unwrap();
    Model::new(classifier, batch, checkpoint.metadata(), None)
}

/// The status of a response, and all of it.
fn ask(address: SocketAddr, request: &str, body: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let length = body.len();
    let head =
        format!("{request} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split_whitespace().nth(1).unwrap_or_else(|| panic!("no answer: {answer}")).parse().unwrap();
    (status, answer)
}

fn png(side: u32) -> Vec<u8> {
    let mut file = std::io::Cursor::new(Vec::new());
    image::RgbImage::from_fn(side, side, |x, y| image::Rgb([x as u8, y as u8, 7]))
        .write_to(&mut file, image::ImageFormat::Png)
        .unwrap();
    file.into_inner()
}

/// A server, its network locked by `gate`, and the number of pictures that the network has seen at a time.
struct Running {
    address: SocketAddr,
    server: Arc<Server>,
    gate: Arc<Mutex<()>>,
    batches: Arc<Mutex<Vec<usize>>>,
    stop: tokio::sync::oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Running {
    fn start(limits: Limits, batch: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = Server::new(model(batch), Examples::default(), limits, Access::default()).unwrap();
        let (gate, batches) = (Arc::new(Mutex::new(())), Arc::new(Mutex::new(Vec::new())));
        let mut model = model(batch);
        server.queue = Queue::new(batch, {
            let (gate, batches) = (gate.clone(), batches.clone());
            move |jobs| {
                let _gate = gate.lock().unwrap();
                batches.lock().unwrap().push(jobs.iter().filter(|job| !job.is_abandoned()).count());
                model.work(jobs);
            }
        })
        .unwrap();
        let server = Arc::new(server);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let answering = answer_all(listener, server.clone(), async move {
            let _ = stopped.await;
        });
        let thread = std::thread::spawn(move || runtime.block_on(answering));
        Self { address, server, gate, batches, stop, thread }
    }

    fn stop(self) {
        self.stop.send(()).unwrap();
        self.thread.join().unwrap();
    }
}

#[test]
fn a_request_that_nobody_waits_for_counts_until_it_is_done() {
    let file = png(4);
    let limits = Limits { time: Duration::from_millis(200), requests: 1, ..Limits::default() };
    let running = Running::start(limits, 1);
    let address = running.address;
    let held = running.gate.lock().unwrap();
    assert_eq!(ask(address, "POST /predict", &file).0, 504, "the first waits for the network");
    let start = Instant::now();
    let (status, answer) = ask(address, "POST /predict", &file);
    assert!(status == 503 && answer.to_lowercase().contains("\nretry-after: 1"), "the first still waits: {answer}");
    // A busy network does not block other requests.
    assert_eq!(ask(address, "GET /", b"").0, 200);
    assert!(start.elapsed() < Duration::from_secs(30));
    drop(held);
    let deadline = Instant::now() + Duration::from_secs(60);
    while ask(address, "POST /predict", &file).0 != 200 {
        assert!(Instant::now() < deadline, "the first never ended");
        std::thread::sleep(Duration::from_millis(20));
    }
    running.stop();
}

#[test]
fn what_nobody_waits_for_is_not_begun() {
    let limits = Limits { time: Duration::from_secs(1), ..Limits::default() };
    let running = Running::start(limits, 1);
    let held = running.gate.lock().unwrap();
    // The first is at the network, the others wait behind it until their time is up.
    std::thread::scope(|scope| {
        let asked: Vec<_> = (0..5).map(|_| scope.spawn(|| ask(running.address, "POST /predict", &png(4)).0)).collect();
        assert!(asked.into_iter().all(|asked| asked.join().unwrap() == 504));
    });
    // A large picture whose turn to be decoded never comes.
    let decoding = running.server.decoding.try_acquire().unwrap();
    assert_eq!(ask(running.address, "POST /predict", &png(1100)).0, 504);
    drop(decoding);
    drop(held);
    assert_eq!(ask(running.address, "POST /predict", &png(4)).0, 200);
    let batches = running.batches.lock().unwrap().clone();
    assert_eq!(batches.iter().sum::<usize>(), 1, "only the last was computed: {batches:?}");
    assert_eq!(running.server.requests.available_permits(), limits.requests, "a place is lost");
    running.stop();
}

#[test]
fn requests_that_wait_share_a_batch_and_keep_their_bits() {
    let running = Running::start(Limits::default(), 4);
    let without_time = |(status, answer): (u16, String)| {
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        let mut body: serde_json::Value =
            serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"));
        assert!(status != 200 || body["milliseconds"].take().is_number());
        (status, body)
    };
    let files: Vec<Vec<u8>> =
        (20..40).map(|side| if side == 30 { b"no picture".to_vec() } else { png(side) }).collect();
    let path = "POST /predict?top=10";
    let alone: Vec<_> = files.iter().map(|file| without_time(ask(running.address, path, file))).collect();
    running.batches.lock().unwrap().clear();
    let held = running.gate.lock().unwrap();
    let crowd: Vec<_> = std::thread::scope(|scope| {
        let asked: Vec<_> =
            files.iter().map(|file| scope.spawn(|| without_time(ask(running.address, path, file)))).collect();
        std::thread::sleep(Duration::from_millis(500));
        drop(held);
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    assert_eq!(crowd, alone);
    assert!(alone.iter().filter(|(status, _)| *status == 200).count() == files.len() - 1);
    let batches = running.batches.lock().unwrap().clone();
    assert!(batches.iter().max() == Some(&4) && batches.len() < files.len(), "{batches:?}");
    running.stop();
}

#[test]
fn idle_connections_and_slow_uploads_give_way() {
    let running = Running::start(Limits { connections: 8, requests: 4, ..Limits::default() }, 1);
    let mut slow: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(running.address).unwrap()).collect();
    for stream in slow.iter_mut().skip(1).step_by(2) {
        // May be closed already.
        let _ = stream.write_all(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\nx");
    }
    let start = Instant::now();
    for _ in 0..20 {
        assert_eq!(ask(running.address, "POST /predict", &png(4)).0, 200);
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    running.stop();
}

#[test]
fn large_bodies_keep_up_or_leave() {
    let running = Running::start(Limits::default(), 1);
    let start = Instant::now();
    let upload = |sent: usize| {
        let mut stream = TcpStream::connect(running.address).unwrap();
        stream.write_all(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20000000\r\n\r\n").unwrap();
        stream.write_all(&vec![0; sent]).unwrap();
        stream
    };
    let mut slow: Vec<TcpStream> = [100_000, 1, 1, 1].map(upload).into();
    std::thread::sleep(Duration::from_millis(100));
    // A small one does not wait for them, a large one until the first has lost its share.
    assert_eq!(ask(running.address, "POST /predict", &png(4)).0, 200);
    assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());
    let mut large = png(64);
    large.resize(15 << 20, 0);
    assert_eq!(ask(running.address, "POST /predict", &large).0, 200);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let mut answer = String::new();
    slow[0].read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    running.stop();
}

#[test]
fn the_description_has_the_paths_and_methods_of_the_server() {
    let described: Vec<(String, String)> = routes::description()["paths"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(path, methods)| {
            let methods = methods.as_object().unwrap().keys().filter(|key| *key != "parameters");
            let methods = methods.map(|method| method.to_uppercase()).chain(["OPTIONS".into()]);
            (path.clone(), methods.collect::<Vec<_>>().join(", "))
        })
        .collect();
    let routes: Vec<_> = routes::ROUTES.iter().map(|route| (route.path.to_owned(), route.methods.to_owned())).collect();
    assert_eq!(described, routes);
}

#[test]
fn the_title_names_the_network_and_not_its_file() {
    let title = |variant: &str, classes: &[&str]| {
        title(&Metadata {
            model: Kind { variant: variant.into(), ..Kind::default() },
            data: TrainedOn { name: String::new(), fingerprint: String::new() },
            classes: classes.iter().map(|&class| class.to_owned()).collect(),
            config: String::new(),
            seed: 1,
            progress: Progress::default(),
            preprocess: Preprocess::default(),
        })
    };
    let long = "many words ".repeat(10);
    assert_eq!(
        title("torchvision", &["apfel", "my pear", "橙子"]),
        "torchvision AlexNet, 3 classes: apfel, my pear, 橙子"
    );
    assert_eq!(title("cifar", &CLASSES), "cifar AlexNet, 10 classes: airplane, automobile, bird, …");
    assert_eq!(title("cifar", &["a", "b", "c", "d"]), "cifar AlexNet, 4 classes: a, b, c, d");
    assert_eq!(title("modern", &[&long]), format!("modern AlexNet, 1 class: {}…", &long[..24]));
    assert!(title("original", &["x"; 1000]).contains("1,000 classes: x, x, x, …"));
}

#[test]
fn parameters_of_a_query() {
    use answer::Parameters;
    let usual = Parameters { top: 5, layers: false, threshold: None, results: false };
    for (query, parameters) in [
        ("", usual),
        ("top=2&layers", Parameters { top: 2, layers: true, ..usual }),
        ("&layers=0&&results=true&threshold=0.5", Parameters { results: true, threshold: Some(0.5), ..usual }),
        ("threshold=0", Parameters { threshold: Some(0.0), ..usual }),
    ] {
        assert_eq!(Parameters::parse(query).unwrap(), parameters, "{query}");
    }
    for (query, word) in [
        ("top=0", "a number from 1"),
        ("top=-1", "a number from 1"),
        ("threshold=1.5", "from 0 to 1"),
        ("threshold=NaN", "from 0 to 1"),
        ("threshold=x", "from 0 to 1"),
        ("layers=2", "0 or 1"),
        ("tip=1", "unknown parameter tip"),
    ] {
        let refusal = Parameters::parse(query).unwrap_err();
        assert!(refusal.status == 400 && refusal.message.contains(word), "{query}: {}", refusal.message);
    }
}
