//! A web page and a JSON API for a trained network.
//!
//! `access` says whose requests are taken, `routes` which there are, `upload` reads the pictures out of a request,
//! `inference` collects those that wait for the network, `answer` classifies them. HTTP is hyper's, which has the timeouts
//! and the graceful shutdown that small servers lack. There is neither a login nor TLS: beyond the own machine both are a
//! proxy's in front.
//!
//! What a client can hold is limited. A request takes one of `requests` places when its body is complete, so that slow
//! uploads take none. Bodies beyond `SMALL_BODY` share `BODIES` bytes; while others wait for some, they must arrive at
//! the rate that their time limit asks for. Large pictures are decoded one at a time. A connection that waits for its
//! client gives way when there are too many. Work that nobody waits for is not begun.

pub mod access;
mod answer;
mod connections;
mod examples;
mod inference;
mod routes;
#[cfg(test)]
mod tests;
mod upload;

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper::{Request, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::data::Fit;
use crate::data::decode::Exif;
use access::Access;
pub use answer::{Model, title};
use connections::{Connection, Connections};
pub use examples::Examples;
use inference::Queue;
use upload::Bodies;

/// Limits per client request and for all of them.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most bytes of a request's body.
    pub body: usize,
    /// Most pictures per request.
    pub pictures: usize,
    /// Time for a request's head, for its body, and for its inference, each.
    pub time: Duration,
    /// Most requests that are complete and not yet answered; further ones are refused.
    pub requests: usize,
    /// Most open connections; of more, one that waits for its client is closed.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { body: 20 << 20, pictures: 32, time: Duration::from_secs(10), requests: 256, connections: 512 }
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

/// Bodies up to this many bytes, such as small pictures, do not wait for others.
const SMALL_BODY: usize = 64 << 10;
/// Bytes that larger bodies share, unless a single one may have more.
const BODIES: usize = 32 << 20;

struct Server {
    /// The body of `GET /model`.
    description: Bytes,
    queue: Queue,
    /// How pictures are resized and cropped for the network.
    fit: Fit,
    exif: Exif,
    examples: Examples,
    limits: Limits,
    access: Access,
    page: routes::Page,
    requests: Arc<Semaphore>,
    /// Memory of larger bodies.
    bodies: Bodies,
    /// Of large pictures.
    decoding: Arc<Semaphore>,
    connections: Connections,
}

impl Server {
    fn new(mut model: Model, examples: Examples, limits: Limits, access: Access) -> std::io::Result<Self> {
        let mut description = model.describe();
        description["examples"] = examples.describe();
        description["limits"] = json!({ "bytes": limits.body, "pictures": limits.pictures });
        Ok(Self {
            description: description.to_string().into(),
            fit: model.fit(),
            exif: model.exif(),
            queue: Queue::new(model.batch(), move |jobs| model.work(jobs))?,
            examples,
            limits,
            access,
            page: routes::Page::new(),
            requests: Arc::new(Semaphore::new(limits.requests)),
            bodies: Bodies::new(limits.body.max(BODIES)),
            decoding: Arc::new(Semaphore::new(1)),
            connections: Connections::default(),
        })
    }
}

/// Serves until `stop` completes, then finishes the requests in progress.
///
/// # Errors
/// The thread for the network cannot be started.
pub async fn serve(
    listener: TcpListener,
    model: Model,
    examples: Examples,
    limits: Limits,
    access: Access,
    stop: impl Future<Output = ()>,
) -> std::io::Result<()> {
    answer_all(listener, Arc::new(Server::new(model, examples, limits, access)?), stop).await;
    Ok(())
}

/// HTTP with the limits that it knows.
fn protocol(limits: &Limits) -> http1::Builder {
    let mut protocol = http1::Builder::new();
    protocol.timer(TokioTimer::new()).header_read_timeout(limits.time).max_buf_size(16 << 10);
    protocol
}

/// The answers to the requests of a connection.
fn service(
    server: Arc<Server>,
    this: Arc<Connection>,
) -> impl Service<Request<Incoming>, Response = routes::Answer, Error = Infallible, Future: Send> {
    service_fn(move |request| {
        let (server, this) = (server.clone(), this.clone());
        async move { Ok(routes::respond(&server, &this, request).await) }
    })
}

/// A server whose connections are given to it, for tests without sockets.
#[doc(hidden)]
pub struct InProcess(Arc<Server>);

#[doc(hidden)]
impl InProcess {
    pub fn new(model: Model, examples: Examples, limits: Limits, access: Access) -> std::io::Result<Self> {
        Ok(Self(Arc::new(Server::new(model, examples, limits, access)?)))
    }

    /// Answers the requests of one connection until it is closed.
    pub async fn answer(&self, stream: impl AsyncRead + AsyncWrite + Unpin + 'static) {
        let this = self.0.connections.add([127, 0, 0, 1].into(), self.0.limits.connections);
        let service = service(self.0.clone(), this.clone());
        // A client that disconnects is not an error.
        let _ = protocol(&self.0.limits).serve_connection(TokioIo::new(stream), service).await;
        self.0.connections.remove(&this);
    }
}

/// Accepts connections until `stop` completes.
async fn answer_all(listener: TcpListener, server: Arc<Server>, stop: impl Future<Output = ()>) {
    let limits = server.limits;
    let graceful = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let Ok((stream, peer)) = accepted else {
            // Out of file descriptors, or the client left: the next attempt may succeed.
            server.connections.give_way();
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        // An answer is one small write.
        let _ = stream.set_nodelay(true);
        let this = server.connections.add(peer.ip(), limits.connections);
        let service = service(server.clone(), this.clone());
        let connection = graceful.watch(protocol(&limits).serve_connection(TokioIo::new(stream), service));
        let server = server.clone();
        tokio::spawn(async move {
            tokio::select! {
                // A client that disconnects is not an error.
                _ = connection => {}
                () = this.gives_way.notified() => {}
            }
            server.connections.remove(&this);
        });
    }
    drop(listener);
    // Requests in progress have their own time limits; idle connections are closed at once.
    let _ = tokio::time::timeout(limits.time * 3, graceful.shutdown()).await;
}
