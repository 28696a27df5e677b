//! A local page and a JSON API for a trained network.
//!
//! Routes: `GET /` returns the page, `GET /model` describes the network, `POST /predict` classifies the picture in the
//! body. HTTP is hyper's, which has the timeouts and the graceful shutdown that small servers lack. Body size, time and
//! concurrent requests are limited. The Host header must name this machine: otherwise a web page could reach the server
//! through a domain of its own that resolves to 127.0.0.1 (DNS rebinding).

mod answer;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::data::Fit;
use crate::data::decode::Exif;
pub use answer::Model;

const PAGE: &str = include_str!("page.html");

/// Limits per client request and for all of them.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most bytes of a picture.
    pub body: usize,
    /// Time for a request's head, for its body, and for its inference, each.
    pub time: Duration,
    /// Most requests in progress or queued; further ones are refused.
    pub requests: usize,
    /// Most open connections; further ones wait to be accepted.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { body: 20 << 20, time: Duration::from_secs(10), requests: 8, connections: 64 }
    }
}

/// An error response: status and message.
type Refusal = (StatusCode, String);

struct Server {
    model: Mutex<Model>,
    /// How pictures are resized and cropped for the network.
    fit: Fit,
    exif: Exif,
    limits: Limits,
    /// Accepted Host headers.
    hosts: Vec<String>,
    requests: Arc<Semaphore>,
}

impl Server {
    fn new(model: Model, limits: Limits, address: SocketAddr) -> Self {
        Self {
            fit: model.fit(),
            exif: model.exif(),
            model: Mutex::new(model),
            limits,
            hosts: hosts(address),
            requests: Arc::new(Semaphore::new(limits.requests)),
        }
    }
}

/// Serves until `stop` completes, then finishes the requests in progress.
///
/// # Errors
/// The listener has no address.
pub async fn serve(
    listener: TcpListener,
    model: Model,
    limits: Limits,
    stop: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let address = listener.local_addr()?;
    answer_all(listener, Arc::new(Server::new(model, limits, address)), stop).await;
    Ok(())
}

/// Accepts connections until `stop` completes.
async fn answer_all(listener: TcpListener, server: Arc<Server>, stop: impl Future<Output = ()>) {
    let limits = server.limits;
    let connections = Arc::new(Semaphore::new(limits.connections));
    let graceful = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = async {
            // The semaphore is never closed.
            let permit = connections.clone().acquire_owned().await.ok();
            (permit, listener.accept().await)
        };
        let (permit, stream) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut stop => break,
        };
        let Ok((stream, _)) = stream else {
            // Out of file descriptors, or the client left: the next attempt may succeed.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let server = server.clone();
        let service = service_fn(move |request| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(respond(&server, request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.time)
            .max_buf_size(16 << 10)
            .serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // A client that disconnects is not an error.
            let _ = connection.await;
            drop(permit);
        });
    }
    drop(listener);
    // Requests in progress have their own time limits; idle connections are closed at once.
    let _ = tokio::time::timeout(limits.time * 3, graceful.shutdown()).await;
}

/// The Host headers by which a browser on this machine reaches the server.
fn hosts(address: SocketAddr) -> Vec<String> {
    let port = address.port();
    let names = ["localhost", "127.0.0.1", "[::1]"];
    let mut hosts = vec![address.to_string()];
    hosts.extend(names.map(|name| format!("{name}:{port}")));
    if port == 80 {
        // Browsers omit HTTP's default port.
        hosts.extend(names.map(String::from));
    }
    hosts
}

async fn respond(server: &Arc<Server>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let is_head = request.method() == Method::HEAD;
    let mut response = answer(server, request).await.unwrap_or_else(|(status, message)| {
        let mut response = json(&serde_json::json!({ "error": message }));
        *response.status_mut() = status;
        response
    });
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; connect-src 'self'",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if is_head {
        *response.body_mut() = Full::default();
    }
    response
}

async fn answer(server: &Arc<Server>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Refusal> {
    let refuse = |status, message: &str| Err((status, message.to_owned()));
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let known = |name: &str| server.hosts.iter().any(|host| host.eq_ignore_ascii_case(name));
    if !known(host) {
        return refuse(StatusCode::MISDIRECTED_REQUEST, "this server accepts requests to localhost only");
    }
    if let Some(origin) = request.headers().get(header::ORIGIN) {
        let own = origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://")).is_some_and(known);
        if !own {
            return refuse(StatusCode::FORBIDDEN, "pages of other origins may not use this server");
        }
    }
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    match request.uri().path() {
        "/" if reads => Ok(page()),
        "/model" if reads => {
            let server = server.clone();
            work(move || Ok(json(&lock(&server).describe()))).await
        }
        "/predict" if request.method() == Method::POST => predict(server, request).await,
        "/" | "/model" => refuse(StatusCode::METHOD_NOT_ALLOWED, "use GET"),
        "/predict" => refuse(StatusCode::METHOD_NOT_ALLOWED, "use POST, with a picture as the body"),
        _ => refuse(StatusCode::NOT_FOUND, "not found; the paths are /, /model and /predict"),
    }
}

async fn predict(server: &Arc<Server>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Refusal> {
    let Limits { body: most, time, .. } = server.limits;
    let (mut top, mut layers) = (5, false);
    for pair in request.uri().query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=').unwrap_or((pair, "1")) {
            ("top", count) => match count.parse::<usize>() {
                Ok(count) if count > 0 => top = count,
                _ => return Err((StatusCode::BAD_REQUEST, "top must be a number from 1".into())),
            },
            ("layers", flag) => layers = flag != "0",
            (key, _) => {
                return Err((StatusCode::BAD_REQUEST, format!("unknown parameter {key}; known are top and layers")));
            }
        }
    }
    let Ok(permit) = server.requests.clone().try_acquire_owned() else {
        return Err((StatusCode::SERVICE_UNAVAILABLE, "too many requests at once; try again".into()));
    };
    let too_large = || (StatusCode::PAYLOAD_TOO_LARGE, format!("the picture has more than {most} bytes"));
    let stated = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if stated.is_some_and(|length: u64| length > most as u64) {
        return Err(too_large());
    }
    let body = match tokio::time::timeout(time, Limited::new(request.into_body(), most).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(too_large()),
        Ok(Err(_)) => return Err((StatusCode::BAD_REQUEST, "the request ended early".into())),
        Err(_) => return Err((StatusCode::REQUEST_TIMEOUT, "the upload took too long".into())),
    };
    let server = server.clone();
    let task = work(move || {
        // Runs on after a timeout, and occupies its slot until it is done.
        let _permit = permit;
        // Decoded before the lock is taken, so that a large picture delays no other request.
        let picture = answer::Decoded::new(&body, server.exif, server.fit)
            .map_err(|reason| (StatusCode::UNPROCESSABLE_ENTITY, reason))?;
        let answer = lock(&server).predict(&picture, top, layers);
        answer.map(|answer| json(&answer)).map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
    });
    match tokio::time::timeout(time, task).await {
        Ok(answer) => answer,
        Err(_) => Err((StatusCode::GATEWAY_TIMEOUT, "the inference took too long".into())),
    }
}

/// Ignores poisoning: a panic in a forward pass leaves the network's weights unchanged.
fn lock(server: &Server) -> std::sync::MutexGuard<'_, Model> {
    server.model.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs blocking work outside the threads that serve HTTP.
async fn work<T: Send + 'static>(task: impl FnOnce() -> Result<T, Refusal> + Send + 'static) -> Result<T, Refusal> {
    let broken = |_| (StatusCode::INTERNAL_SERVER_ERROR, "the request failed".to_owned());
    tokio::task::spawn_blocking(task).await.map_err(broken)?
}

fn page() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(PAGE));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

fn json(value: &serde_json::Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(value.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
