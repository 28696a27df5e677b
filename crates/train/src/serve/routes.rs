//! The paths of the server, and its responses' headers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::answer::{Decoded, Parameters};
use super::{Refusal, Server, access, upload};
use crate::run::classifier::DIVERGED;

type Answer = Response<Full<Bytes>>;

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
pub(super) async fn respond(server: &Arc<Server>, request: Request<Incoming>) -> Answer {
    let path = request.uri().path();
    let is_health = path == "/healthz";
    // A health check has the name that its network gives the machine, and learns nothing.
    let origin = if is_health { Ok(None) } else { server.access.check(&request) };
    let (origin, answer) = match origin {
        Ok(origin) => (origin, answer(server, request).await),
        Err(refusal) => (None, Err(leave(server, request, refusal).await)),
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

async fn answer(server: &Arc<Server>, request: Request<Incoming>) -> Result<Answer, Refusal> {
    if request.method() == Method::OPTIONS && request.uri().path() == "*" {
        return Ok(options("GET, HEAD, POST, OPTIONS"));
    }
    let Some((route, rest)) = route(request.uri().path()) else {
        let paths = ROUTES.map(|route| route.path).join(", ");
        let refusal = Refusal::new(StatusCode::NOT_FOUND, format!("not found; the paths are {paths}"));
        return Err(leave(server, request, refusal).await);
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
        return Err(leave(server, request, refusal).await);
    }
    match route.endpoint {
        Endpoint::Page => Ok(content("text/html; charset=utf-8", Page::HTML)),
        Endpoint::Health => Ok(content("text/plain; charset=utf-8", "ok")),
        Endpoint::Description => Ok(json(&description())),
        Endpoint::Example => match rest.parse().ok().and_then(|index| server.examples.get(index)) {
            Some(example) => Ok(content(example.kind, example.bytes.clone())),
            None => Err(Refusal::new(StatusCode::NOT_FOUND, "there is no such example; /model lists them")),
        },
        Endpoint::Model => {
            let server = server.clone();
            let describe = move || {
                let mut model = server.lock().describe();
                model["examples"] = server.examples.describe();
                model["limits"] = json!({ "bytes": server.limits.body, "pictures": server.limits.pictures });
                Ok(json(&model))
            };
            work(describe).await
        }
        Endpoint::Predict => predict(server, request).await,
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

async fn predict(server: &Arc<Server>, mut request: Request<Incoming>) -> Result<Answer, Refusal> {
    let limits = server.limits;
    let parameters = Parameters::parse(request.uri().query().unwrap_or_default());
    let permit = server.requests.clone().try_acquire_owned();
    let ready = parameters.and_then(|parameters| Ok((parameters, permit.map_err(|_| Refusal::busy())?)));
    let (parameters, permit) = match ready {
        Ok(ready) => ready,
        Err(refusal) => return Err(leave(server, request, refusal).await),
    };
    let received = match upload::receive(&mut request, &limits).await {
        Ok(received) => received,
        Err(refusal) => return Err(leave(server, request, refusal).await),
    };
    let abandoned = Abandoned(Arc::default());
    let (stop, server) = (abandoned.0.clone(), server.clone());
    let task = work(move || {
        // Runs on after a timeout, up to the next picture or batch, and occupies its slot until it is done.
        let _permit = permit;
        let stop = || stop.load(Ordering::Relaxed);
        let upload = upload::parse(received, &limits)?;
        if parameters.layers && upload.pictures.len() > 1 {
            return Err(Refusal::new(StatusCode::BAD_REQUEST, "layers=1 shows one picture per request"));
        }
        let mut decoded = Vec::with_capacity(upload.pictures.len());
        // Decoded before the lock is taken, so that a large picture delays no other request; one at a time, so that a
        // request needs the memory of one.
        for picture in upload.pictures {
            if stop() {
                return Err(too_long());
            }
            decoded.push((picture.name, picture.bytes.and_then(|bytes| Decoded::new(&bytes, server.exif, server.fit))));
        }
        let several = upload.several || parameters.results;
        let answers = server.lock().predict(decoded, &parameters, &stop);
        let failed = |error: crate::run::Error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
        let (answers, diverged) = answers.map_err(failed)?.ok_or_else(too_long)?;
        finish(answers, several, diverged)
    });
    let answer = tokio::time::timeout(limits.time, task).await;
    answer.unwrap_or_else(|_| Err(too_long()))
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

/// Reads the rest of a refused body, within the limits, and drops it: a client that sends all before it reads would
/// otherwise find the connection reset instead of the reason.
async fn leave(server: &Server, request: Request<Incoming>, refusal: Refusal) -> Refusal {
    let most = server.limits.body.saturating_mul(2);
    let waits = request.headers().contains_key(header::EXPECT);
    let hopeless = upload::stated_length(request.headers()).is_some_and(|length| length > most as u64);
    if !waits && !hopeless && refusal.status != StatusCode::REQUEST_TIMEOUT {
        let mut body = Limited::new(request.into_body(), most);
        let rest = async { while body.frame().await.is_some_and(|frame| frame.is_ok()) {} };
        let _ = tokio::time::timeout(server.limits.time, rest).await;
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
