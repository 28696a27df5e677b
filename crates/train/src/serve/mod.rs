//! A local page and a JSON API for a trained network.
//!
//! hyper speaks HTTP: it has the timeouts and the clean end that small servers lack. What may be asked is little:
//! `GET /` the page, `GET /model` the network, `POST /predict` with a picture as the body. Sizes, times and the
//! number of requests at once are limited; a request for another host than this one is refused, so that no web page
//! can reach the server by a name of its own that leads here.

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

pub use answer::Model;

const PAGE: &str = include_str!("page.html");

/// What a client may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a picture.
    pub body: usize,
    /// Time for a request's head, for its body, and for its answer, each.
    pub time: Duration,
    /// Requests that are worked on or wait for it; more are refused.
    pub requests: usize,
    /// Connections; more wait to be accepted.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { body: 20 << 20, time: Duration::from_secs(10), requests: 8, connections: 64 }
    }
}

/// A refusal: status and message.
type Refusal = (StatusCode, String);

struct Server {
    model: Mutex<Model>,
    /// Side of the network's images.
    side: usize,
    limits: Limits,
    /// Host headers that mean this server.
    hosts: Vec<String>,
    requests: Arc<Semaphore>,
}

impl Server {
    fn new(model: Model, limits: Limits, address: SocketAddr) -> Self {
        Self {
            side: model.side(),
            model: Mutex::new(model),
            limits,
            hosts: hosts(address),
            requests: Arc::new(Semaphore::new(limits.requests)),
        }
    }
}

/// Serves until `stop` says so, then lets the requests at work end.
///
/// # Errors
/// The listener cannot be used.
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

/// Answers what comes until `stop` says so.
async fn answer_all(listener: TcpListener, server: Arc<Server>, stop: impl Future<Output = ()>) {
    let limits = server.limits;
    let connections = Arc::new(Semaphore::new(limits.connections));
    let graceful = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = async {
            // Closed by nobody.
            let permit = connections.clone().acquire_owned().await.ok();
            (permit, listener.accept().await)
        };
        let (permit, stream) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut stop => break,
        };
        let Ok((stream, _)) = stream else {
            // Out of file descriptors, or a connection that went away: the next may do.
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
            // A client that breaks off is no error of ours.
            let _ = connection.await;
            drop(permit);
        });
    }
    drop(listener);
    // Requests at work have their own limits of time; idle connections end at once.
    let _ = tokio::time::timeout(limits.time * 3, graceful.shutdown()).await;
}

/// How a browser on this machine calls the server.
fn hosts(address: SocketAddr) -> Vec<String> {
    let port = address.port();
    let names = ["localhost", "127.0.0.1", "[::1]"];
    let mut hosts = vec![address.to_string()];
    hosts.extend(names.map(|name| format!("{name}:{port}")));
    if port == 80 {
        // HTTP's own, which is left out.
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
        return refuse(StatusCode::MISDIRECTED_REQUEST, "this server answers to localhost only");
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
        "/predict" => refuse(StatusCode::METHOD_NOT_ALLOWED, "use POST, with a PNG or JPEG file as the body"),
        _ => refuse(StatusCode::NOT_FOUND, "there is /, /model and /predict"),
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
            (key, _) => return Err((StatusCode::BAD_REQUEST, format!("there is top and layers, not {key}"))),
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
        Ok(Err(_)) => return Err((StatusCode::BAD_REQUEST, "the request broke off".into())),
        Err(_) => return Err((StatusCode::REQUEST_TIMEOUT, "the picture took too long to arrive".into())),
    };
    let server = server.clone();
    let task = work(move || {
        // Goes on when nobody waits for the answer any more, and counts for as long.
        let _permit = permit;
        // Decoded before the network is asked for, so that a large picture keeps nobody waiting.
        let picture =
            answer::Decoded::new(&body, server.side).map_err(|reason| (StatusCode::UNPROCESSABLE_ENTITY, reason))?;
        let answer = lock(&server).predict(&picture, top, layers);
        answer.map(|answer| json(&answer)).map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
    });
    match tokio::time::timeout(time, task).await {
        Ok(answer) => answer,
        Err(_) => Err((StatusCode::GATEWAY_TIMEOUT, "the answer took too long".into())),
    }
}

/// A panic while the network was held leaves it as a forward pass leaves it: whole.
fn lock(server: &Server) -> std::sync::MutexGuard<'_, Model> {
    server.model.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs what blocks outside the threads that speak HTTP.
async fn work<T: Send + 'static>(task: impl FnOnce() -> Result<T, Refusal> + Send + 'static) -> Result<T, Refusal> {
    let broken = |_| (StatusCode::INTERNAL_SERVER_ERROR, "the request could not be worked on".to_owned());
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
