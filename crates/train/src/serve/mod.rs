//! A web page and a JSON API for a trained network.
//!
//! `access` says whose requests are taken, `routes` which there are, `upload` reads the pictures out of a request,
//! `answer` classifies them. HTTP is hyper's, which has the timeouts and the graceful shutdown that small servers lack.
//! Body size, number of pictures, time, concurrent requests and connections are limited. There is neither a login nor
//! TLS: beyond the own machine both are a proxy's in front.

pub mod access;
mod answer;
mod examples;
mod routes;
#[cfg(test)]
mod tests;
mod upload;

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::data::Fit;
use crate::data::decode::Exif;
use access::Access;
pub use answer::{Model, title};
pub use examples::Examples;

/// Limits per client request and for all of them.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most bytes of a request's body.
    pub body: usize,
    /// Most pictures per request.
    pub pictures: usize,
    /// Time for a request's head, for its body, and for its inference, each.
    pub time: Duration,
    /// Most requests in progress or queued; further ones are refused.
    pub requests: usize,
    /// Most open connections; further ones wait to be accepted.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { body: 20 << 20, pictures: 32, time: Duration::from_secs(10), requests: 8, connections: 64 }
    }
}

/// An error response.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Refusal {
    status: StatusCode,
    message: Cow<'static, str>,
    /// What the status demands besides.
    header: Option<(HeaderName, HeaderValue)>,
}

impl Refusal {
    fn new(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, message: message.into(), header: None }
    }

    fn with(self, name: HeaderName, value: &'static str) -> Self {
        Self { header: Some((name, HeaderValue::from_static(value))), ..self }
    }

    fn busy() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "too many requests at once; try again")
            .with(header::RETRY_AFTER, "1")
    }
}

struct Server {
    model: Mutex<Model>,
    /// How pictures are resized and cropped for the network.
    fit: Fit,
    exif: Exif,
    examples: Examples,
    limits: Limits,
    access: Access,
    page: routes::Page,
    requests: Arc<Semaphore>,
}

impl Server {
    fn new(model: Model, examples: Examples, limits: Limits, access: Access) -> Self {
        Self {
            fit: model.fit(),
            exif: model.exif(),
            model: Mutex::new(model),
            examples,
            limits,
            access,
            page: routes::Page::new(),
            requests: Arc::new(Semaphore::new(limits.requests)),
        }
    }

    /// Ignores poisoning: a panic in a forward pass leaves the network's weights unchanged.
    fn lock(&self) -> std::sync::MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves until `stop` completes, then finishes the requests in progress.
pub async fn serve(
    listener: TcpListener,
    model: Model,
    examples: Examples,
    limits: Limits,
    access: Access,
    stop: impl Future<Output = ()>,
) {
    answer_all(listener, Arc::new(Server::new(model, examples, limits, access)), stop).await;
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
            async move { Ok::<_, Infallible>(routes::respond(&server, request).await) }
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
