use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
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
    Model::new(Classifier::new(device, &checkpoint, architecture, 1).unwrap(), 1, checkpoint.metadata(), None)
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
    let server = Arc::new(Server::new(model(), Examples::default(), limits, Access::default()));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let answering = answer_all(listener, server.clone(), async move {
        let _ = stopped.await;
    });
    let thread = std::thread::spawn(move || runtime.block_on(answering));

    let held = server.lock();
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
