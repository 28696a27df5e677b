//! `alexnet serve`: forms, JSON, hosts, origins, methods, and the description of the API.

mod command;
mod server;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use command::{Place, SHORT, set_tensors};
use serde_json::{Value, json};
use server::{Server, parse, picture};

/// A form as curl and browsers send it: fields with a file's name, or without.
fn form(parts: &[(&str, Option<&str>, &[u8])]) -> (String, Vec<u8>) {
    let mut body = Vec::new();
    for (field, file, bytes) in parts {
        body.extend(format!("--limit\r\nContent-Disposition: form-data; name=\"{field}\"").bytes());
        if let Some(file) = file {
            body.extend(format!("; filename=\"{file}\"\r\nContent-Type: application/octet-stream").bytes());
        }
        body.extend(b"\r\n\r\n");
        body.extend(*bytes);
        body.extend(b"\r\n");
    }
    body.extend(b"--limit--\r\n");
    ("Content-Type: multipart/form-data; boundary=limit\r\n".into(), body)
}

/// Asserts an error's status and words.
#[track_caller]
fn refused(answer: &(u16, Value), status: u16, word: &str) {
    assert_eq!(answer.0, status, "{answer:?}");
    assert!(answer.1["error"].as_str().unwrap().contains(word), "{answer:?}");
}

#[test]
fn outputs_that_are_not_finite_are_the_networks_fault() {
    let place = Place::new();
    place.succeed(&format!("{SHORT} --epochs 0 --out first"));
    place.succeed("export first -o huge.safetensors");
    set_tensors(&place.path("huge.safetensors"), "", usize::MAX, 1e30);
    std::fs::create_dir(place.path("run")).unwrap();
    place.succeed("import huge.safetensors -o run/last.safetensors");
    let server = Server::at(place, "");
    let file = picture();
    let message = "the network's outputs for the picture are not finite (";
    for path in ["/predict", "/predict?layers=1", "/predict?threshold=0.5"] {
        let answer = server.post(path, "", &file);
        refused(&answer, 500, message);
        refused(&answer, 500, "use an earlier checkpoint");
        assert!(answer.1.get("predictions").is_none() && answer.1.get("class").is_none(), "{answer:?}");
    }
    let (headers, body) = form(&[("a", Some("a.png"), &file), ("b", Some("b.png"), b"no picture")]);
    let answer = server.post("/predict", &headers, &body);
    refused(&answer, 500, "none of the pictures has a prediction (2)");
    let results = &answer.1["results"];
    assert!(results[0]["error"].as_str().unwrap().contains("outputs for a.png are not finite"), "{answer:?}");
    assert!(results[1]["error"].as_str().is_some_and(|error| !error.contains("finite")), "{answer:?}");
}

#[test]
fn forms_and_json() {
    let server = Server::start("--max-pictures 20 --batch-size 3");
    let file = picture();
    let plain = server.post("/predict", "", &file).1["predictions"].take();
    let send = |path: &str, parts: &[(&str, Option<&str>, &[u8])]| {
        let (headers, body) = form(parts);
        server.post(path, &headers, &body)
    };

    let (status, answer) = send("/predict", &[("anything", Some("橙子 photo.png"), &file)]);
    assert_eq!((status, &answer["predictions"], answer["name"].as_str()), (200, &plain, Some("橙子 photo.png")));
    let (status, answer) = send("/predict?results=1&top=1", &[("file", Some("a.png"), &file)]);
    assert_eq!((status, answer["results"].as_array().unwrap().len()), (200, 1));
    assert_eq!(answer["results"][0]["predictions"][0], plain[0]);
    // Without a file's name it is one by its contents; an empty field of a browser's form is none.
    let (status, answer) = send("/predict", &[("photo", None, &file), ("more", Some(""), b"")]);
    assert_eq!((status, &answer["predictions"], answer["name"].as_str()), (200, &plain, Some("photo")));

    // More than two batches, each picture with the answer that it has alone, and one that cannot be read.
    let pictures: Vec<Vec<u8>> = (0..8)
        .map(|shade| {
            let picture =
                image::RgbImage::from_fn(40 + shade, 30, |x, y| image::Rgb([(x * shade) as u8, y as u8 * 8, 40]));
            let mut file = std::io::Cursor::new(Vec::new());
            picture.write_to(&mut file, image::ImageFormat::Png).unwrap();
            file.into_inner()
        })
        .collect();
    let names: Vec<String> = (0..8).map(|index| format!("{index}.png")).collect();
    let mut parts: Vec<_> =
        names.iter().zip(&pictures).map(|(name, file)| ("f", Some(name.as_str()), file.as_slice())).collect();
    parts.insert(3, ("f", Some("cut.png"), &file[..file.len() / 2]));
    let (status, answer) = send("/predict", &parts);
    let results = answer["results"].as_array().unwrap();
    assert_eq!((status, results.len(), answer.get("error")), (200, 9, None));
    assert_eq!(results[3]["name"], "cut.png");
    assert!(!results[3]["error"].as_str().unwrap().is_empty() && results[3].get("predictions").is_none());
    for (index, file) in pictures.iter().enumerate() {
        let result = &results[index + usize::from(index >= 3)];
        let alone = server.post("/predict", "", file).1;
        assert_eq!(result["predictions"], alone["predictions"], "picture {index}");
        assert_eq!((&result["name"], &result["width"]), (&json!(names[index]), &json!(40 + index)));
    }
    let (status, answer) = send("/predict", &[("a", Some("a"), b"x"), ("b", Some("b"), b"y")]);
    assert!(status == 422 && answer["results"].as_array().unwrap().len() == 2, "{answer}");
    refused(&(status, answer), 422, "none of the pictures");

    refused(&send("/predict", &[("file", Some("a.png"), b"no picture")]), 422, "");
    refused(&send("/predict", &[("file", None, b"a.png")]), 400, "-F file=@");
    refused(&send("/predict", &[("top", None, b"3"), ("f", Some("a"), &file)]), 400, "/predict?top=3");
    refused(&send("/predict", &[]), 400, "no file");
    refused(&send("/predict", &vec![("more", Some(""), b"".as_slice()); 100]), 413, "more than 20");
    let (_, answer) = send("/predict", &[("file", Some("a %22b%22.png"), &file)]);
    assert_eq!(answer["name"], "a \"b\".png");
    refused(&send("/predict?layers=1", &[("a", Some("a"), &file), ("b", Some("b"), &file)]), 400, "one picture");
    refused(&send("/predict", &vec![("a", Some("a"), file.as_slice()); 21]), 413, "more than 20 pictures");
    let (headers, body) = form(&[("a", Some("a"), &file)]);
    refused(&server.post("/predict", &headers, &body[..body.len() - 20]), 400, "damaged");
    refused(&server.post("/predict", "Content-Type: multipart/form-data\r\n", &body), 400, "no boundary");

    let json_of =
        |value: &Value| server.post("/predict", "Content-Type: application/json\r\n", value.to_string().as_bytes());
    let base64 = BASE64_STANDARD.encode(&file);
    let (status, answer) = json_of(&json!({ "image": base64 }));
    assert_eq!((status, &answer["predictions"], answer.get("name")), (200, &plain, None));
    let (status, answer) =
        json_of(&json!({ "images": [format!("data:image/png;base64,{base64}"), "no base64!", base64] }));
    assert_eq!(
        (status, &answer["results"][0]["predictions"], &answer["results"][2]["predictions"]),
        (200, &plain, &plain)
    );
    assert!(answer["results"][1]["error"].as_str().unwrap().contains("base64"));
    refused(&json_of(&json!({ "image": "photo.jpg" })), 422, "base64");
    refused(&json_of(&json!({ "picture": base64 })), 400, "{\"image\": \"BASE64\"}");
    refused(&json_of(&json!({ "image": base64, "images": [] })), 400, "BASE64");
    refused(&json_of(&json!({ "images": [] })), 400, "no images");
    refused(&json_of(&json!({ "images": vec![&base64; 21] })), 413, "more than 20");
    refused(&json_of(&json!(["x"])), 400, "expected an object");
    refused(
        &server.post("/predict", "Content-Type: application/json; charset=utf-8\r\n", b"{\"image\": "),
        400,
        "JSON",
    );

    // Bodies that are no picture, by their types.
    let of_type = |kind: &str, body: &[u8]| server.post("/predict", &format!("Content-Type: {kind}\r\n"), body);
    for kind in
        ["image/png", "image/jpeg", "application/octet-stream", "text/plain", "application/x-www-form-urlencoded"]
    {
        assert_eq!(of_type(kind, &file).1["predictions"], plain, "{kind}");
    }
    // As `curl -d @FILE` changes it.
    let changed: Vec<u8> = file.iter().copied().filter(|byte| !b"\0\r\n".contains(byte)).collect();
    refused(&of_type("application/x-www-form-urlencoded", &changed), 415, "--data-binary @FILE, or curl -F file=@FILE");
    refused(&of_type("text/plain", b"hello"), 415, "--data-binary @FILE");
    // A picture of a kind that is not read is named, whatever the type.
    let heic = b"\0\0\0\x18ftypheic\0\0\0\0heicmif1 and so on";
    for kind in ["text/plain", "image/heic", "application/octet-stream"] {
        assert_eq!(of_type(kind, heic).0, 422, "{kind}");
    }
    refused(&of_type("multipart/mixed; boundary=limit", &body), 415, "multipart/mixed");
    let (head, _) = server.ask("POST /predict", "Content-Encoding: gzip\r\n", &file);
    assert!(head.starts_with("http/1.1 415 ") && head.contains("\naccept-encoding: identity"), "{head}");

    let (_, answer) = server.post("/predict?threshold=1", "", &file);
    assert_eq!((answer["class"].as_str(), &answer["predictions"]), (Some("unknown"), &plain));
    assert_eq!(server.post("/predict?threshold=0.0", "", &file).1["class"], plain[0]["class"]);
    refused(&server.post("/predict?threshold=60", "", &file), 400, "from 0 to 1");
}

#[test]
fn methods_and_heads() {
    let server = Server::start("--max-size 1");
    for (path, allowed) in [
        ("/", "get, head, options"),
        ("/model", "get, head, options"),
        ("/healthz", "get, head, options"),
        ("/openapi.json", "get, head, options"),
        ("/examples/0", "get, head, options"),
        ("/predict", "post, options"),
    ] {
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "TRACE"] {
            let (head, body) = server.ask(&format!("{method} {path}"), "", b"");
            let status: u16 = head.split_whitespace().nth(1).unwrap().parse().unwrap();
            let is_allowed = allowed.split(", ").any(|name| name == method.to_lowercase());
            assert_eq!(status == 405, !is_allowed, "{method} {path}: {head}");
            if status == 405 {
                assert!(head.contains(&format!("\nallow: {allowed}")), "{method} {path}: {head}");
            }
            assert!(method != "HEAD" || body.is_empty(), "{path}: {body}");
        }
        let (head, _) = server.ask(&format!("OPTIONS {path}"), "", b"");
        assert!(head.starts_with("http/1.1 204 ") && head.contains(&format!("\nallow: {allowed}")), "{path}: {head}");
        assert!(!head.contains("access-control"), "{head}");
    }
    let (head, _) = server.ask("OPTIONS *", "", b"");
    assert!(head.starts_with("http/1.1 204 ") && head.contains("\nallow: get, head, post, options"), "{head}");
    // The head of HEAD is that of GET.
    let without_date =
        |head: String| head.lines().filter(|line| !line.starts_with("date:")).map(String::from).collect::<Vec<_>>();
    for path in ["/", "/model", "/healthz", "/examples/0", "/nothing"] {
        let heads = ["GET", "HEAD"].map(|method| without_date(server.ask(&format!("{method} {path}"), "", b"").0));
        assert_eq!(heads[0], heads[1], "{path}");
    }
    let (head, page) = server.ask("GET /", "", b"");
    for part in
        ["frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'", "script-src 'sha256-", "style-src 'sha256-"]
    {
        assert!(head.contains(part), "{head}");
    }
    assert!(!head.contains("unsafe") && page.contains("capture=\"environment\"") && page.contains("multiple accept="));
    assert_eq!(server.get("/healthz"), (200, "ok".into()));
    let port = server.address.rsplit(':').next().unwrap();
    server.place.succeed(&format!("serve --ping --port {port}"));
    server.place.fail("serve --ping --port 1", 1, &["no server at 127.0.0.1, port 1"]);
    server.place.fail("serve", 2, &["RUN_OR_CHECKPOINT"]);
    for path in ["/examples/10", "/examples/", "/examples/-1", "/examples/x", "/examples/99999999999999999999"] {
        assert_eq!(server.get(path).0, 404, "{path}");
    }
    // The reason reaches a client that writes a whole file, too large, before it reads.
    let answer = server.post("/predict", "", &vec![0; (1 << 20) + 300_000]);
    refused(&answer, 413, "--max-size");
}

#[test]
fn other_hosts_and_origins() {
    let server =
        Server::start("--host 0.0.0.0 --allow-host nas.local --allow-host web:80 --allow-origin https://app.example/");
    let port = server.address.rsplit(':').next().unwrap().to_owned();
    let file = picture();
    let by = |host: &str, request: &str, headers: &str| {
        let head = server.head(request, headers).replace(&server.address, host);
        parse(&server.raw(head.as_bytes()))
    };
    // As Docker forwards a port, by this machine's addresses, and by the names that are allowed.
    for host in ["localhost:9000", "192.168.1.5:8080", "[::1]:8080", "nas.local:8080", "NAS.local", "web"] {
        assert_eq!(by(host, "GET /model", "").0, 200, "{host}");
    }
    let (status, error) = by("evil.example:8080", "GET /model", "");
    assert!(
        status == 421 && error.contains("--allow-host evil.example,") && error.contains("DNS rebinding"),
        "{error}"
    );
    assert_eq!(by("evil.example", "GET /healthz", ""), (200, "ok".into()));
    assert_eq!(by("web:81", "GET /", "").0, 421);
    let twice = server.head("GET /model", "Host: localhost\r\n");
    assert_eq!(parse(&server.raw(twice.as_bytes())).0, 400);

    let origin = "Origin: https://app.example\r\n";
    let (head, body) = server.ask("POST /predict", origin, &file);
    assert!(head.starts_with("http/1.1 200 ") && body.contains("predictions"), "{head}");
    assert!(
        head.contains("\naccess-control-allow-origin: https://app.example") && head.contains("\nvary: origin"),
        "{head}"
    );
    // The page may read why it was refused, too.
    let (head, _) = server.ask("POST /predict", origin, b"no picture");
    assert!(
        head.starts_with("http/1.1 422 ") && head.contains("\naccess-control-allow-origin: https://app.example"),
        "{head}"
    );
    let wish = "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type\r\n";
    let (head, body) = server.ask("OPTIONS /predict", &format!("{origin}{wish}"), b"");
    assert!(head.starts_with("http/1.1 204 ") && body.is_empty(), "{head}");
    for line in ["origin: https://app.example", "methods: post, options", "headers: content-type"] {
        assert!(head.contains(&format!("\naccess-control-allow-{line}")), "{head}");
    }
    for origin in ["https://other.example", "http://app.example", "null"] {
        let (head, body) = server.ask("OPTIONS /predict", &format!("Origin: {origin}\r\n{wish}"), b"");
        assert!(head.starts_with("http/1.1 403 ") && !head.contains("access-control"), "{head}");
        assert!(body.contains(&format!("--allow-origin {origin}")), "{body}");
    }
    let (head, _) = server.ask("GET /model", &format!("Origin: http://{}\r\n", server.address), b"");
    assert!(head.starts_with("http/1.1 200 ") && !head.contains("access-control"), "{head}");
    let (code, said) = server.stop();
    assert!(code == 0 && said.contains("no login and no encryption") && said.contains("--allow-host NAME"), "{said}");
    assert!(said.contains(&format!("http://localhost:{port}")), "{said}");

    let server = Server::start("--host localhost --allow-origin *");
    let (head, _) = server.ask("GET /model", "Origin: https://any.example\r\n", b"");
    assert!(head.contains("\naccess-control-allow-origin: *"), "{head}");
    let (_, said) = server.stop();
    assert!(said.contains("every web page") && !said.contains("no login"), "{said}");

    let place = Place::new();
    place.succeed(&format!("{SHORT} --epochs 0 --out run"));
    place.fail(
        "serve run --device cpu --port 0 --host 192.0.2.77",
        1,
        &["cannot serve on 192.0.2.77", "0.0.0.0 for all"],
    );
    place.fail("serve run --device cpu --host 127.0.0.1:9000", 2, &["--host 127.0.0.1:9000", "--port"]);
    place.fail("serve run --device cpu --allow-host http://nas.local", 2, &["expected a name alone"]);
    place.fail("serve run --device cpu --allow-origin nas.local", 2, &["such as https://app.example"]);
    place.fail("serve run --device cpu --examples run", 1, &["run has no pictures, but"]);
    place.fail(
        "serve run --device cpu --examples none",
        1,
        &["no such folder: none", "hint: give --examples a folder"],
    );
}

#[test]
fn ipv6() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        // A machine, or a container, without IPv6.
        return;
    }
    for host in ["::1", "[::1]"] {
        let server = Server::start(&format!("--host {host}"));
        assert!(server.address.starts_with("[::1]:"), "{}", server.address);
        assert_eq!(server.get("/model").0, 200);
        let origin = format!("Origin: http://{}\r\n", server.address);
        assert_eq!(server.post("/predict", &origin, &picture()).0, 200);
    }
}

/// Whether a value is as a schema of the OpenAPI document says; only keywords that the document uses are known.
fn check(value: &Value, schema: &Value, document: &Value) -> Result<(), String> {
    let fail = |what: &str| Err(format!("{what}: {value} against {schema}"));
    for (keyword, rule) in schema.as_object().unwrap() {
        let number = || rule.as_f64().unwrap();
        let good = match keyword.as_str() {
            "description" | "contentEncoding" | "default" => true,
            "$ref" => {
                let target = document.pointer(rule.as_str().unwrap().strip_prefix('#').unwrap());
                check(value, target.ok_or(format!("no {rule}"))?, document)?;
                true
            }
            "type" => match rule.as_str().unwrap() {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "number" => value.is_number(),
                "integer" => value.is_u64() || value.is_i64(),
                "null" => value.is_null(),
                other => panic!("{other}"),
            },
            "const" => value == rule,
            "anyOf" => {
                let all: Vec<_> = rule.as_array().unwrap().iter().map(|one| check(value, one, document)).collect();
                if all.iter().all(Result::is_err) {
                    return fail(&format!("none of {all:?}"));
                }
                true
            }
            "required" => rule.as_array().unwrap().iter().all(|key| value.get(key.as_str().unwrap()).is_some()),
            "properties" => {
                for (key, schema) in rule.as_object().unwrap() {
                    value.get(key).map_or(Ok(()), |value| check(value, schema, document))?;
                }
                true
            }
            "additionalProperties" => {
                assert_eq!(rule, false);
                value.as_object().unwrap().keys().all(|key| schema["properties"].get(key).is_some())
            }
            "minProperties" => value.as_object().unwrap().len() as f64 >= number(),
            "maxProperties" => value.as_object().unwrap().len() as f64 <= number(),
            "items" => {
                value.as_array().unwrap().iter().try_for_each(|item| check(item, rule, document))?;
                true
            }
            "minItems" => value.as_array().unwrap().len() as f64 >= number(),
            "minimum" => value.as_f64().unwrap() >= number(),
            "maximum" => value.as_f64().unwrap() <= number(),
            "pattern" => value.as_str().unwrap().starts_with(rule.as_str().unwrap().strip_prefix('^').unwrap()),
            other => panic!("unknown keyword {other}"),
        };
        if !good {
            return fail(keyword);
        }
    }
    Ok(())
}

#[test]
fn the_answers_are_as_the_openapi_document_says() {
    let server = Server::start("--max-size 1 --allow-origin https://app.example");
    let (status, text) = server.get("/openapi.json");
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, document["openapi"].as_str()), (200, Some("3.1.0")));
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(server.get("/nothing").0, 404);

    let file = picture();
    let base64 = BASE64_STANDARD.encode(&file);
    let (form_type, two) = form(&[("a", Some("a.png"), &file), ("b", Some("b.png"), b"no picture")]);
    let (_, none) = form(&[("a", Some("a.png"), b"x"), ("b", Some("b.png"), b"y")]);
    let (_, one_broken) = form(&[("a", Some("a.png"), b"x")]);
    let json_type = "Content-Type: application/json\r\n";
    let images = json!({ "images": [base64] });
    let bodies: [(&str, &str, &[u8]); 17] = [
        ("GET /", "", b""),
        ("GET /healthz", "", b""),
        ("GET /model", "", b""),
        ("GET /examples/3", "", b""),
        ("GET /examples/77", "", b""),
        ("GET /openapi.json", "", b""),
        ("POST /predict", "", &file),
        ("POST /predict?layers=1&top=2&threshold=0.5", "", &file),
        ("POST /predict?results=1", "", &file),
        ("POST /predict", &form_type, &two),
        ("POST /predict", &form_type, &none),
        ("POST /predict", &form_type, &one_broken),
        ("POST /predict", json_type, images.to_string().leak().as_bytes()),
        ("POST /predict", json_type, b"{}"),
        ("POST /predict?tip=1", "", &file),
        ("POST /predict", "Content-Type: text/plain\r\n", b"hello"),
        ("POST /predict", "Origin: https://evil.example\r\n", &file),
    ];
    let mut kinds = std::collections::BTreeSet::new();
    for (request, headers, body) in bodies {
        let (head, answer) = server.ask(request, headers, body);
        let (method, path) = request.split_once(' ').unwrap();
        let path = path.split('?').next().unwrap();
        let path = if path.starts_with("/examples/") { "/examples/{index}" } else { path };
        let status = head.split_whitespace().nth(1).unwrap();
        let responses = &document["paths"][path][method.to_lowercase()]["responses"];
        let response = responses.get(status).or_else(|| responses.get("default").filter(|_| status >= "400"));
        let mut response = response.unwrap_or_else(|| panic!("{request}: {status} is not described"));
        if let Some(target) = response["$ref"].as_str() {
            response = document.pointer(&target[1..]).unwrap();
        }
        let kind = head.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap();
        let content = response["content"].get(kind.split(';').next().unwrap());
        let content = content.unwrap_or_else(|| panic!("{request}: {status} {kind} is not described"));
        kinds.insert((path.to_owned(), status.to_owned()));
        if let Some(schema) = content.get("schema") {
            let value = if kind == "application/json" { serde_json::from_str(&answer).unwrap() } else { json!(answer) };
            check(&value, schema, &document).unwrap_or_else(|error| panic!("{request}: {error}"));
        }
    }
    assert_eq!(kinds.len(), 11, "{kinds:?}");
    // The check itself tells wrong from right, and the body of a request is as described.
    let schema = &document["components"]["schemas"];
    let pictures = &schema["Pictures"];
    assert!(check(&images, pictures, &document).is_ok() && check(&json!({}), pictures, &document).is_err());
    for wrong in [json!({}), json!({ "error": 1 }), json!({ "error": "x", "more": 1 }), json!("x")] {
        assert!(check(&wrong, &schema["Error"], &document).is_err(), "{wrong}");
    }
}

#[test]
fn examples_of_a_folder() {
    let place = Place::new();
    place.succeed(&format!("{SHORT} --epochs 0 --out run"));
    std::fs::create_dir(place.path("examples")).unwrap();
    std::fs::write(place.path("examples/small.png"), picture()).unwrap();
    let large = image::RgbImage::from_fn(1200, 300, |x, y| image::Rgb([x as u8, y as u8, 0]));
    large.save(place.path("examples/large <b>.png")).unwrap();
    std::fs::write(place.path("examples/notes.txt"), b"no picture").unwrap();
    let server = Server::at(place, "--examples examples");
    let model: Value = serde_json::from_str(&server.get("/model").1).unwrap();
    let names: Vec<&str> =
        model["examples"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["large <b>", "small"]);
    let answer = server.raw_bytes(server.head("GET /examples/0", "").as_bytes());
    let start = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    let shrunk = image::load_from_memory(&answer[start..]).unwrap();
    assert_eq!((shrunk.width(), shrunk.height()), (512, 128));
    assert_eq!(server.get("/examples/2").0, 404);
    std::fs::write(server.place.path("examples/broken.png"), b"no picture").unwrap();
    server.place.fail("serve run --port 0 --device cpu --examples examples", 1, &["broken.png"]);
}
