//! The pictures in the body of a request: a file as it is, a form with files, or JSON with base64.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http_body_util::{BodyDataStream, BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderMap};
use hyper::{Request, StatusCode};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::{Limits, Refusal, SMALL_BODY, Server};
use crate::data::decode;
use crate::file_kind::{FileKind, Group, START};

/// What to type.
const SEND: &str = "send the file itself: curl --data-binary @FILE, or curl -F file=@FILE";
/// Most parts of a form besides its files.
const MOST_EMPTY: usize = 64;
/// Longest name of a file that is repeated in the answer, in characters.
const LONGEST_NAME: usize = 255;

/// Pixels of a picture beyond which it is decoded alone.
const LARGE: u64 = 1 << 20;

/// A picture of a request.
pub(super) struct Upload {
    /// The file's name, if the form states it.
    pub name: Option<String>,
    /// The file, or why there is none.
    pub bytes: Result<Bytes, String>,
}

impl Upload {
    /// Whether decoding it takes much memory.
    pub fn is_large(&self) -> bool {
        let size = self.bytes.as_ref().ok().and_then(|bytes| decode::dimensions(bytes));
        size.is_some_and(|(width, height)| u64::from(width) * u64::from(height) > LARGE)
    }
}

/// The pictures of a request, at least one.
pub(super) struct Uploads {
    pub pictures: Vec<Upload>,
    /// Whether the answer is a list.
    pub several: bool,
    /// What the body takes of the memory for bodies.
    pub share: Option<OwnedSemaphorePermit>,
}

impl Uploads {
    fn one(bytes: Result<Bytes, String>) -> Self {
        Self { pictures: vec![Upload { name: None, bytes }], several: false, share: None }
    }
}

/// The length that a request states.
pub(super) fn stated_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn bad(message: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, message)
}

fn unsupported(message: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
}

/// The body of a request.
pub(super) struct Received {
    /// Its type, in lower case and without parameters.
    kind: String,
    /// Of a form.
    boundary: Option<String>,
    bytes: Bytes,
    share: Option<OwnedSemaphorePermit>,
}

/// Receives a request's body. A type that never has pictures is refused first.
pub(super) async fn receive(request: &mut Request<Incoming>, server: &Server) -> Result<Received, Refusal> {
    let headers = request.headers();
    let text = |name| headers.get(name).map_or("", |value| value.to_str().unwrap_or("?"));
    let coding = text(header::CONTENT_ENCODING).trim();
    if !coding.is_empty() && !coding.eq_ignore_ascii_case("identity") {
        let refusal = unsupported(format!("the body is compressed ({coding}); {SEND}"));
        return Err(refusal.with(header::ACCEPT_ENCODING, "identity"));
    }
    let kind = text(header::CONTENT_TYPE).to_owned();
    let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let boundary = match essence.as_str() {
        "multipart/form-data" => Some(multer::parse_boundary(&kind).map_err(|_| {
            bad("the form's Content-Type has no boundary; leave that header to the client's own form upload")
        })?),
        _ => None,
    };
    let (bytes, share) = body(request, server).await?;
    Ok(Received { kind: essence, boundary, bytes, share })
}

/// The pictures of a body; blocks for as long as it takes to read forms and JSON.
pub(super) fn parse(received: Received, limits: &Limits) -> Result<Uploads, Refusal> {
    let Received { kind, boundary, bytes: body, share } = received;
    let mut uploads = pictures(&kind, boundary, body, limits)?;
    uploads.share = share;
    Ok(uploads)
}

fn pictures(kind: &str, boundary: Option<String>, body: Bytes, limits: &Limits) -> Result<Uploads, Refusal> {
    match kind {
        "multipart/form-data" => {
            // The form is here as a whole: of a stream, the parser searches what it has again with each chunk. It waits
            // for nothing, and is not trusted with that.
            let form = tokio::time::timeout(limits.time, form(body, boundary.unwrap_or_default(), limits.pictures));
            let form = tokio::runtime::Handle::current().block_on(form);
            form.unwrap_or_else(|_| Err(bad("the form is damaged")))
        }
        "application/json" => json(&body, limits.pictures),
        // The type that curl states for --data-binary and -d alike; the latter removes line ends and zeros.
        "application/x-www-form-urlencoded" if !body.is_empty() && !body.contains(&0) => {
            Err(unsupported(format!("the body is a form's text or was sent by curl -d, which changes a file; {SEND}")))
        }
        "" | "application/octet-stream" | "binary/octet-stream" | "application/x-www-form-urlencoded" => {
            Ok(Uploads::one(Ok(body)))
        }
        image if image.starts_with("image/") => Ok(Uploads::one(Ok(body))),
        other => match FileKind::of(&body[..body.len().min(START)]) {
            // A client that states a wrong type for a right file.
            kind if kind.group() == Group::Picture => Ok(Uploads::one(Ok(body))),
            kind => Err(unsupported(format!("the body is {kind} of type {other}, not a picture; {SEND}"))),
        },
    }
}

/// The whole body, and what it takes of the memory for bodies.
async fn body(
    request: &mut Request<Incoming>,
    server: &Server,
) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Refusal> {
    let Limits { body: most, time, .. } = server.limits;
    let too_large = || {
        let message = format!("the request has more than {most} bytes; the server's --max-size allows more");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    };
    let stated = stated_length(request.headers());
    if stated.is_some_and(|length| length > most as u64) {
        return Err(too_large());
    }
    let length = stated.map_or(most, |length| length as usize);
    let start = Instant::now();
    let mut bytes = Vec::with_capacity(length.min(SMALL_BODY));
    let mut share = None;
    let body = request.body_mut();
    loop {
        // Of large bodies, those that will miss the limit at their rate make room for others.
        let (spent, done) = (start.elapsed().div_duration_f64(time), bytes.len() as f64 / length.max(1) as f64);
        let behind = spent > done + 0.1 && share.is_some() && server.bodies.is_wanted();
        if behind || spent >= 1.0 {
            return Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "the upload took too long"));
        }
        let Ok(frame) = tokio::time::timeout(Duration::from_millis(100), body.frame()).await else { continue };
        let Some(frame) = frame else { return Ok((bytes.into(), share)) };
        // Trailers are not data.
        let data = frame.map_err(|_| bad("the request ended early"))?.into_data().unwrap_or_default();
        if bytes.len() + data.len() > most {
            return Err(too_large());
        }
        // Asked for by those alone that have sent something.
        if bytes.len() + data.len() > SMALL_BODY && share.is_none() {
            share = Some(server.bodies.take(length, time).await.ok_or_else(Refusal::busy)?);
            bytes.reserve_exact(length - bytes.len());
        }
        bytes.extend_from_slice(&data);
    }
}

/// The memory that large bodies share.
pub(super) struct Bodies {
    /// In KiB.
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Bodies {
    /// Of so many bytes.
    pub fn new(bytes: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(bytes.div_ceil(1024))), waiting: AtomicUsize::new(0) }
    }

    /// Whether a body waits for memory.
    fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Waits up to `time` for `length` bytes.
    async fn take(&self, length: usize, time: Duration) -> Option<OwnedSemaphorePermit> {
        struct Waiting<'a>(&'a AtomicUsize);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        let share = self.free.clone().acquire_many_owned(length.div_ceil(1024) as u32);
        tokio::time::timeout(time, share).await.ok()?.ok()
    }
}

fn too_many(most: usize) -> Refusal {
    let message = format!("the request has more than {most} pictures; send several requests, or raise --max-pictures");
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, message)
}

/// The files of a form, whatever its fields are called.
async fn form(body: Bytes, boundary: String, most: usize) -> Result<Uploads, Refusal> {
    let broken = |error: multer::Error| bad(format!("the form is damaged: {error}"));
    let mut form = multer::Multipart::new(BodyDataStream::new(Full::new(body)), boundary);
    let (mut pictures, mut parts) = (Vec::new(), 0);
    while let Some(mut part) = form.next_field().await.map_err(broken)? {
        parts += 1;
        if parts > most + MOST_EMPTY {
            return Err(too_many(most));
        }
        let field = part.name().unwrap_or_default().to_owned();
        let file = part.file_name().map(str::to_owned);
        let is_image = part.content_type().is_some_and(|kind| kind.type_() == "image");
        let mut bytes = Bytes::new();
        while let Some(chunk) = part.chunk().await.map_err(broken)? {
            bytes = if bytes.is_empty() { chunk } else { [bytes, chunk].concat().into() };
        }
        match file {
            // A form's file field that was left empty.
            Some(name) if name.is_empty() && bytes.is_empty() => continue,
            None if !is_image && let Ok(text) = std::str::from_utf8(&bytes) => return Err(no_file(&field, text)),
            name => {
                // Browsers escape a quote.
                let name = name.filter(|name| !name.is_empty()).unwrap_or(field).replace("%22", "\"");
                pictures.push(Upload { name: Some(name.chars().take(LONGEST_NAME).collect()), bytes: Ok(bytes) });
            }
        }
        if pictures.len() > most {
            return Err(too_many(most));
        }
    }
    if pictures.is_empty() {
        return Err(bad("the form has no file; with curl: -F file=@FILE"));
    }
    Ok(Uploads { several: pictures.len() > 1, pictures, share: None })
}

/// For a field of a form that is text.
fn no_file(field: &str, text: &str) -> Refusal {
    let short: String = text.chars().take(40).collect();
    bad(match field {
        "top" | "layers" | "threshold" | "results" => {
            format!("parameters belong in the address: /predict?{field}={short}")
        }
        _ => format!("the field `{field}` is the text `{short}`, not a file; with curl a file has an @: -F file=@FILE"),
    })
}

/// The body of a JSON request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct Pictures<'a> {
    #[serde(borrow)]
    image: Option<Text<'a>>,
    #[serde(borrow)]
    images: Option<Vec<Text<'a>>>,
}

/// Text that is copied only if it has escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

fn json(body: &[u8], most: usize) -> Result<Uploads, Refusal> {
    const FORM: &str = "expected {\"image\": \"BASE64\"} or {\"images\": [\"BASE64\", …]}";
    let request: Pictures<'_> =
        serde_json::from_slice(body).map_err(|error| bad(format!("the JSON cannot be used: {error}; {FORM}")))?;
    match (request.image, request.images) {
        (Some(image), None) => Ok(Uploads::one(from_base64(&image.0))),
        (None, Some(images)) if images.is_empty() => Err(bad(format!("there are no images; {FORM}"))),
        (None, Some(images)) if images.len() > most => Err(too_many(most)),
        (None, Some(images)) => Ok(Uploads {
            pictures: images
                .iter()
                .enumerate()
                .map(|(index, image)| Upload { name: Some(format!("images[{index}]")), bytes: from_base64(&image.0) })
                .collect(),
            several: true,
            share: None,
        }),
        (Some(_), Some(_)) | (None, None) => Err(bad(FORM)),
    }
}

/// A picture in base64, of either alphabet, or a data URL.
fn from_base64(text: &str) -> Result<Bytes, String> {
    let text = match text.strip_prefix("data:") {
        Some(url) => url.split_once(";base64,").ok_or("the data URL has no ;base64,")?.1,
        None => text,
    };
    // The command `base64` breaks lines.
    let text: Cow<'_, str> = match text.contains(|c: char| c.is_ascii_whitespace()) {
        true => text.split_ascii_whitespace().collect::<String>().into(),
        false => text.into(),
    };
    let alphabet = if text.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
    let padding = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let decoded = GeneralPurpose::new(alphabet, padding).decode(text.as_bytes());
    decoded.map(Bytes::from).map_err(|error| format!("it is not base64: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_any_alphabet_and_width() {
        let bytes: Vec<u8> = (0..=255).collect();
        let plain = base64::prelude::BASE64_STANDARD.encode(&bytes);
        let lines: Vec<&str> = plain.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect();
        for text in [
            plain.clone(),
            lines.join("\n"),
            lines.join("\r\n") + "\n",
            plain.trim_end_matches('=').into(),
            base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(&bytes),
            format!("data:image/png;base64,{plain}"),
        ] {
            assert_eq!(from_base64(&text).unwrap(), bytes, "{text}");
        }
        assert!(from_base64("data:image/png,x").unwrap_err().contains(";base64,"));
        assert!(from_base64("photo.jpg").unwrap_err().contains("not base64"));
        assert_eq!(from_base64("").unwrap(), Bytes::new());
    }
}
