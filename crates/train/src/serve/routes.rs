//! The paths of the server, and its responses' headers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::OwnedSemaphorePermit;

use super::answer::{Decoded, Parameters};
use super::connections::Connection;
use super::inference::Job;
use super::upload::{self, Received, Uploads};
use super::{Refusal, Server, access};
use crate::run::classifier::DIVERGED;

pub(super) type Answer = Response<Full<Bytes>>;

#[derive(Clone, Copy)]
enum Endpoint {
    Page,
    Health,
    Model,
    Example,
    Description,
    Predict,
}

pub(super) struct Route {
    /// As in the OpenAPI document.
    pub path: &'static str,
    /// As in the Allow header.
    pub methods: &'static str,
    endpoint: Endpoint,
}

const READ: &str = "GET, HEAD, OPTIONS";

pub(super) const ROUTES: [Route; 6] = [
    Route { path: "/", methods: READ, endpoint: Endpoint::Page },
    Route { path: "/healthz", methods: READ, endpoint: Endpoint::Health },
    Route { path: "/model", methods: READ, endpoint: Endpoint::Model },
    Route { path: "/examples/{index}", methods: READ, endpoint: Endpoint::Example },
    Route { path: "/openapi.json", methods: READ, endpoint: Endpoint::Description },
    Route { path: "/predict", methods: "POST, OPTIONS", endpoint: Endpoint::Predict },
];

/// The route of a path, and what stands for the parameter.
fn route(path: &str) -> Option<(&'static Route, &str)> {
    ROUTES.iter().find_map(|route| match route.path.strip_suffix("{index}") {
        Some(start) => Some((route, path.strip_prefix(start)?)),
        None => (route.path == path).then_some((route, "")),
    })
}

/// The web page, and the policy under which it runs: nothing but its own script and style, by their hashes.
pub(super) struct Page {
    policy: HeaderValue,
}

impl Page {
    const HTML: &str = include_str!("page.html");

    pub(super) fn new() -> Self {
        let hash = |tag: &str| {
            let inside =
                Self::HTML.split_once(&format!("<{tag}>")).and_then(|(_, rest)| rest.split_once(&format!("</{tag}>")));
            BASE64_STANDARD.encode(Sha256::digest(inside.map_or("", |(text, _)| text)))
        };
        let policy = format!(
            "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src 'self' data: blob:; \
             connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
            hash("script"),
            hash("style")
        );
        Self { policy: HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'")) }
    }
}

/// Answers a request.
pub(super) async fn respond(server: &Arc<Server>, connection: &Connection, request: Request<Incoming>) -> Answer {
    let path = request.uri().path();
    let is_health = path == "/healthz";
    // A health check has the name that its network gives the machine, and learns nothing.
    let origin = if is_health { Ok(None) } else { server.access.check(&request) };
    let (origin, answer) = match origin {
        Ok(origin) => (origin, answer(server, connection, request).await),
        Err(refusal) => (None, Err(leave(server, request, refusal))),
    };
    let mut response = answer.unwrap_or_else(refused);
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(header::CONTENT_SECURITY_POLICY, server.page.policy.clone());
    server.access.share(headers, origin);
    response
}

fn refused(refusal: Refusal) -> Answer {
    let mut response = json(&json!({ "error": refusal.message }));
    *response.status_mut() = refusal.status;
    if let Some((name, value)) = refusal.header {
        response.headers_mut().insert(name, value);
    }
    response
}

async fn answer(server: &Arc<Server>, connection: &Connection, request: Request<Incoming>) -> Result<Answer, Refusal> {
    if request.method() == Method::OPTIONS && request.uri().path() == "*" {
        return Ok(options("GET, HEAD, POST, OPTIONS"));
    }
    let Some((route, rest)) = route(request.uri().path()) else {
        let paths = ROUTES.map(|route| route.path).join(", ");
        let refusal = Refusal::new(StatusCode::NOT_FOUND, format!("not found; the paths are {paths}"));
        return Err(leave(server, request, refusal));
    };
    if request.method() == Method::OPTIONS {
        let mut response = options(route.methods);
        if access::is_preflight(&request) {
            access::preflight(&request, route.methods, response.headers_mut());
        }
        return Ok(response);
    }
    if !route.methods.split(", ").any(|method| method == request.method().as_str()) {
        let message = match route.endpoint {
            Endpoint::Predict => "use POST, with pictures in the body: curl -F file=@photo.jpg",
            _ => "use GET",
        };
        let refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, message).with(header::ALLOW, route.methods);
        return Err(leave(server, request, refusal));
    }
    match route.endpoint {
        Endpoint::Page => Ok(content("text/html; charset=utf-8", Page::HTML)),
        Endpoint::Health => Ok(content("text/plain; charset=utf-8", "ok")),
        Endpoint::Description => Ok(json(&description())),
        Endpoint::Example => match rest.parse().ok().and_then(|index| server.examples.get(index)) {
            Some(example) => Ok(content(example.kind, example.bytes.clone())),
            None => Err(Refusal::new(StatusCode::NOT_FOUND, "there is no such example; /model lists them")),
        },
        Endpoint::Model => Ok(content("application/json", server.description.clone())),
        Endpoint::Predict => predict(server, connection, request).await,
    }
}

/// The answer to OPTIONS.
fn options(methods: &'static str) -> Answer {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    response
}

/// The OpenAPI document.
pub(super) fn description() -> Value {
    let mut document: Value = serde_json::from_str(include_str!("openapi.json")).unwrap_or_default();
    document["info"]["version"] = env!("CARGO_PKG_VERSION").into();
    document
}

/// Sets its flag when the client is gone or the time is up, so that the work ends early.
struct Abandoned(Arc<AtomicBool>);

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

async fn predict(
    server: &Arc<Server>,
    connection: &Connection,
    mut request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let received = match Parameters::parse(request.uri().query().unwrap_or_default()) {
        Ok(parameters) => upload::receive(&mut request, server).await.map(|received| (parameters, received)),
        Err(refusal) => Err(refusal),
    };
    let (parameters, received) = match received {
        Ok(received) => received,
        Err(refusal) => return Err(leave(server, request, refusal)),
    };
    let _busy = connection.busy();
    // Work that has begun keeps the place beyond the time limit, up to the next picture or batch.
    let place = Arc::new(server.requests.clone().try_acquire_owned().map_err(|_| Refusal::busy())?);
    let abandoned = Abandoned(Arc::default());
    let task = classify(server, parameters, received, place, abandoned.0.clone());
    tokio::time::timeout(server.limits.time, task).await.unwrap_or_else(|_| Err(too_long()))
}

/// Decodes the pictures and asks the network.
async fn classify(
    server: &Arc<Server>,
    parameters: Parameters,
    received: Received,
    place: Arc<OwnedSemaphorePermit>,
    abandoned: Arc<AtomicBool>,
) -> Result<Answer, Refusal> {
    let limits = server.limits;
    let held = place.clone();
    let (mut uploads, several, mut share) = work(move || {
        let _held = held;
        let Uploads { pictures, several, share } = upload::parse(received, &limits)?;
        Ok((VecDeque::from(pictures), several, share))
    })
    .await?;
    if parameters.layers && uploads.len() > 1 {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "layers=1 shows one picture per request"));
    }
    let mut pictures = Vec::with_capacity(uploads.len());
    let mut alone = None;
    while !uploads.is_empty() {
        let (held, stop) = (place.clone(), abandoned.clone());
        let (exif, fit) = (server.exif, server.fit);
        // One at a time, so that a request needs the memory of one; the file goes with its picture.
        (uploads, pictures, share) = work(move || {
            let _held = held;
            while let Some(upload) = uploads.pop_front() {
                if stop.load(Ordering::Relaxed) {
                    return Err(too_long());
                }
                if alone.is_none() && upload.is_large() {
                    uploads.push_front(upload);
                    break;
                }
                let decode = |bytes: Bytes| Decoded::new(&bytes, exif, fit);
                pictures.push((upload.name, upload.bytes.and_then(decode)));
                alone = None;
            }
            Ok((uploads, pictures, share))
        })
        .await?;
        // Dropped with the closure above.
        alone = if uploads.is_empty() { None } else { server.decoding.clone().acquire_owned().await.ok() };
    }
    drop(share);
    let (answer, answered) = tokio::sync::oneshot::channel();
    server.queue.send(Job { pictures, parameters, abandoned, answer, held: Box::new(place) });
    // Dropped unanswered: the thread panicked.
    let answered = answered.await.unwrap_or_else(|_| Err("the request failed".into()));
    let failed = |message| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, message);
    let (answers, diverged) = answered.map_err(failed)?;
    finish(answers, several || parameters.results, diverged)
}

fn too_long() -> Refusal {
    Refusal::new(StatusCode::GATEWAY_TIMEOUT, "the inference took too long")
}

/// The response of one picture, or of a list of them; `diverged` if outputs of the network were not finite.
fn finish(mut answers: Vec<Value>, several: bool, diverged: bool) -> Result<Answer, Refusal> {
    let is_error = |answer: &Value| answer.get("error").is_some();
    let none = answers.iter().all(is_error);
    let body = if several {
        let count = answers.len();
        let mut body = json!({ "results": answers });
        if none && diverged {
            body["error"] = format!("none of the pictures has a prediction ({count}): {DIVERGED}").into();
        } else if none {
            body["error"] = format!("none of the pictures can be read ({count})").into();
        }
        body
    } else {
        answers.pop().unwrap_or_default()
    };
    let mut response = json(&body);
    if none {
        // Not the pictures' fault.
        let status = if diverged { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::UNPROCESSABLE_ENTITY };
        *response.status_mut() = status;
    }
    Ok(response)
}

/// Goes on reading a refused body, up to the time limit, and drops it: a client that sends all before it reads would
/// otherwise find the connection reset instead of the reason.
fn leave(server: &Server, request: Request<Incoming>, refusal: Refusal) -> Refusal {
    let waits = request.headers().contains_key(header::EXPECT);
    if !waits && refusal.status != StatusCode::REQUEST_TIMEOUT {
        let mut body = request.into_body();
        let rest = async move { while body.frame().await.is_some_and(|frame| frame.is_ok()) {} };
        tokio::spawn(tokio::time::timeout(server.limits.time, rest));
    }
    refusal
}

/// Runs blocking work outside the threads that serve HTTP.
async fn work<T: Send + 'static>(task: impl FnOnce() -> Result<T, Refusal> + Send + 'static) -> Result<T, Refusal> {
    let broken = |_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the request failed");
    tokio::task::spawn_blocking(task).await.map_err(broken)?
}

fn content(kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::from(body.into()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn json(value: &Value) -> Answer {
    content("application/json", value.to_string())
}
