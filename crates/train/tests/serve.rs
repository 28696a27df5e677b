//! `alexnet serve`: the page, the API, and what is refused.

mod command;
mod server;

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use serde_json::Value;
use server::{Server, parse, picture};

#[test]
fn the_page_the_model_and_predictions() {
    let server = Server::start("");
    let (status, page) = server.get("/");
    assert!(
        status == 200 && page.contains("Drop pictures here") && !page.contains("http:") && !page.contains("https:")
    );
    let (status, model) = server.get("/model");
    let model: Value = serde_json::from_str(&model).unwrap();
    assert_eq!((status, model["side"].as_u64(), model["classes"][3].as_str()), (200, Some(32), Some("cat")));
    assert!(model["filters"].as_str().unwrap().starts_with("data:image/png;base64,"));

    // As `predict` says it.
    let file = picture();
    std::fs::write(server.place.path("picture.png"), &file).unwrap();
    let said = server.place.succeed("predict run picture.png --json --top 10 --device cpu");
    let said: Value = serde_json::from_str(&said).unwrap();
    let (status, answer) = server.post("/predict?top=10", "", &file);
    assert_eq!((status, &answer["predictions"]), (200, &said["predictions"]));
    assert_eq!((answer["width"].as_u64(), answer["height"].as_u64()), (Some(50), Some(40)));
    assert!(answer.get("layers").is_none());
    assert_eq!(server.post("/predict", "", &file).1["predictions"].as_array().unwrap().len(), 5);

    let (_, answer) = server.post("/predict?layers=1", "", &file);
    let layers = answer["layers"].as_array().unwrap();
    let names: Vec<&str> = layers.iter().map(|layer| layer["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["features.0", "features.3", "features.6", "features.8", "features.10"]);
    assert_eq!((layers[2]["channels"].as_u64(), layers[2]["shown"].as_u64()), (Some(384), Some(256)));
    assert!(layers.iter().all(|layer| layer["picture"].as_str().unwrap().starts_with("data:image/png;base64,")));

    // Two requests on one connection, and eight at once.
    let mut stream = server.connect();
    for last in [false, true] {
        let mut head = server.head("POST /predict", &format!("Content-Length: {}\r\n", file.len()));
        if !last {
            head = head.replace("Connection: close\r\n", "");
        }
        stream.write_all(&[head.as_bytes(), &file].concat()).unwrap();
    }
    let mut both = String::new();
    stream.read_to_string(&mut both).unwrap();
    assert_eq!(both.matches("HTTP/1.1 200 OK").count(), 2, "{both}");
    std::thread::scope(|scope| {
        let asked: Vec<_> = (0..8).map(|_| scope.spawn(|| server.post("/predict?top=10", "", &file))).collect();
        for asked in asked {
            let (status, answer) = asked.join().unwrap();
            assert_eq!((status, &answer["predictions"]), (200, &said["predictions"]));
        }
    });

    let (code, error) = server.stop();
    assert_eq!((code, error.trim()), (0, "stopped"));
}

#[test]
fn layers_are_those_of_the_picture_whatever_it_is_classified_by() {
    let layers = |settings: &str| {
        let (status, mut answer) = Server::of(settings, "").post("/predict?layers=1", "", &picture());
        assert_eq!(status, 200, "{answer}");
        answer["layers"].take()
    };
    assert_eq!(layers("--tta=shifts"), layers("--tta=none"));
}

#[test]
fn what_is_refused() {
    let server = Server::start("--max-size 1 --timeout 1 --max-requests 1");
    let file = picture();
    let refused = |answer: (u16, Value), status: u16, word: &str| {
        assert_eq!(answer.0, status, "{answer:?}");
        assert!(answer.1["error"].as_str().unwrap().contains(word), "{answer:?}");
    };
    refused(server.post("/predict", "", b"no picture"), 422, "a text file, expected PNG, JPEG");
    refused(server.post("/predict", "", b""), 422, "empty");
    refused(server.post("/predict", "", &file[..file.len() / 2]), 422, "");
    refused(server.post("/predict?top=0", "", &file), 400, "top must be a number");
    refused(server.post("/predict?tip=1", "", &file), 400, "unknown parameter tip");
    refused(server.post("/predict", "Origin: http://evil.example\r\n", &file), 403, "other origins");
    assert_eq!(server.post("/predict", &format!("Origin: http://{}\r\n", server.address), &file).0, 200);
    let port = server.address.rsplit(':').next().unwrap();
    let rebound = server.head("GET /model", "").replace(&server.address, &format!("evil.example:{port}"));
    assert_eq!(parse(&server.raw(rebound.as_bytes())).0, 421);
    assert_eq!(server.get("/etc/passwd").0, 404);
    assert_eq!(server.get("/../../etc/passwd").0, 404);
    assert_eq!(server.get("/predict").0, 405);
    assert_eq!(server.post("/", "", b"").0, 405);
    assert_eq!(parse(&server.raw(b"\x16\x03\x01\x02\r\n\r\n")).0, 400);

    // Too large: as declared, and as it comes.
    refused(server.post("/predict", "", &vec![0; (1 << 20) + 1]), 413, "1048576 bytes");
    let declared = server.head("POST /predict", "Content-Length: 9999999999999\r\n");
    assert_eq!(parse(&server.raw(declared.as_bytes())).0, 413);
    let mut chunked = server.head("POST /predict", "Transfer-Encoding: chunked\r\n").into_bytes();
    for _ in 0..33 {
        chunked.extend(b"8000\r\n");
        chunked.extend(vec![0; 0x8000]);
        chunked.extend(b"\r\n");
    }
    assert_eq!(parse(&server.raw(&chunked)).0, 413);
    let many = "X: y\r\n".repeat(10_000);
    let answer = server.raw(server.head("GET /", &many).as_bytes());
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");

    // A picture that does not arrive is given up, and takes no place until then.
    let mut slow = server.connect();
    slow.write_all(server.head("POST /predict", "Content-Length: 500\r\n").as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(server.post("/predict", "", &file).0, 200);
    let start = Instant::now();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert_eq!(parse(&answer).0, 408);
    assert!(start.elapsed() < Duration::from_secs(20));
    // A head that does not end is given up, too.
    let mut slow = server.connect();
    slow.write_all(b"GET / HTTP/1.1\r\nHost: ").unwrap();
    let mut answer = Vec::new();
    let _ = slow.read_to_end(&mut answer);
    assert!(start.elapsed() < Duration::from_secs(40));
    // After all that it still works, and an idle connection does not hold it up at the end.
    assert_eq!(server.post("/predict", "", &file).0, 200);
    let _idle = server.connect();
    let place_port = server.address.rsplit(':').next().unwrap().to_owned();
    server.place.fail(
        &format!("serve run --port {place_port} --device cpu"),
        1,
        &["cannot serve on 127.0.0.1", "--port 0"],
    );
    assert_eq!(server.stop().0, 0);
}
