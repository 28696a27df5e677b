//! Who may use the server: the Host and Origin headers of requests.
//!
//! **Host.** A web page of a foreign domain can reach this server if its domain name is made to resolve to this machine
//! (DNS rebinding); the browser then sends that name as Host. So a name must be known: `localhost`, or one of
//! `--allow-host`. An IP address in the Host header is no name, nothing resolves it, and the page that sends it was
//! loaded from that very address; so addresses are accepted, also those that a container or a router translates. Ports
//! are compared only where the rule has one, since a forwarded port differs from the one that the server listens on.
//!
//! **Origin.** Browsers send it with requests of scripts. It must be the server's own, as the Host header names it, or
//! one of `--allow-origin`, which also gets the headers of CORS.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode};

use super::Refusal;

/// A host of `--allow-host`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedHost {
    /// `*`: no check.
    Any,
    /// A name in lower case, at one port or at all.
    Name(String, Option<u16>),
}

/// An origin of `--allow-origin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedOrigin {
    /// `*`: every page.
    Any,
    /// `null`: pages without an origin, such as files and sandboxed frames of any page.
    Null,
    /// `scheme://host`, at a port.
    Url(Origin),
}

/// Scheme, host and port of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    host: Host,
    port: u16,
}

/// The host of a URL or of a Host header.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    V4(Ipv4Addr),
    V6(Ipv6Addr),
    /// In lower case, without the root's dot.
    Name(String),
}

impl FromStr for AllowedHost {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        if text.contains("://") || text.contains('/') {
            return Err("expected a name alone, such as nas.local or nas.local:8080, without scheme and path".into());
        }
        if !text.is_ascii() {
            return Err("write the name as browsers send it, in ASCII (xn--…)".into());
        }
        match host_and_port(text) {
            Some((Host::Name(name), port)) => Ok(Self::Name(name, port)),
            Some(_) => Err("addresses are always accepted; give the names".into()),
            None => Err("expected NAME or NAME:PORT, such as nas.local".into()),
        }
    }
}

impl FromStr for AllowedOrigin {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "*" => Ok(Self::Any),
            "null" => Ok(Self::Null),
            _ => Origin::parse(text.strip_suffix('/').unwrap_or(text))
                .map(Self::Url)
                .ok_or_else(|| "expected scheme and host, such as https://app.example or http://localhost:3000".into()),
        }
    }
}

impl Origin {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let usual = default_port(&scheme);
        let valid = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
        let (host, port) = host_and_port(rest).filter(|_| valid)?;
        // Extensions' and apps' schemes have no port.
        Some(Self { scheme, host, port: port.or(usual).unwrap_or_default() })
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// `name`, `name:port`, `1.2.3.4:port`, `[::1]:port`.
fn host_and_port(text: &str) -> Option<(Host, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']')?;
            let port = if rest.is_empty() { "" } else { rest.strip_prefix(':')? };
            (Host::V6(address.parse().ok()?), port)
        }
        None => {
            let (name, port) = text.split_once(':').unwrap_or((text, ""));
            let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
            let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if name.is_empty() || !name.chars().all(allowed) {
                return None;
            }
            (name.parse().map_or(Host::Name(name), Host::V4), port)
        }
    };
    // A colon without a port means the default, as in URLs.
    let port = if port.is_empty() { None } else { Some(port.parse().ok()?) };
    Some((host, port))
}

/// Hosts and origins that requests may name.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Besides `localhost` and addresses.
    pub hosts: Vec<AllowedHost>,
    /// Besides the server's own pages.
    pub origins: Vec<AllowedOrigin>,
}

impl Access {
    /// Refuses a request by a name that is not known, or of a page of a foreign origin. Returns the origin that is let in
    /// by `--allow-origin`, if the page has one.
    pub(super) fn check<B>(&self, request: &Request<B>) -> Result<Option<HeaderValue>, Refusal> {
        let (host, port) = self.host(request)?;
        let Some(origin) = request.headers().get(header::ORIGIN) else { return Ok(None) };
        let text = origin.to_str().unwrap_or_default();
        let parsed = Origin::parse(text);
        let own =
            |origin: &Origin| origin.host == host && Some(origin.port) == port.or_else(|| default_port(&origin.scheme));
        // A page that a TLS proxy in front serves has the scheme https.
        if parsed.as_ref().is_some_and(|origin| default_port(&origin.scheme).is_some() && own(origin)) {
            return Ok(None);
        }
        let allowed = self.origins.iter().any(|allowed| match allowed {
            AllowedOrigin::Any => true,
            AllowedOrigin::Null => text == "null",
            AllowedOrigin::Url(url) => parsed.as_ref() == Some(url),
        });
        if allowed {
            return Ok(Some(origin.clone()));
        }
        let message = format!(
            "pages of other origins may not use this server; to let this one, start it with --allow-origin {text}"
        );
        Err(Refusal::new(StatusCode::FORBIDDEN, message))
    }

    /// The host and port that a request is for.
    fn host<B>(&self, request: &Request<B>) -> Result<(Host, Option<u16>), Refusal> {
        let mut headers = request.headers().get_all(header::HOST).iter();
        let (first, second) = (headers.next(), headers.next());
        if second.is_some() || (first.is_none() && request.version() >= hyper::Version::HTTP_11) {
            return Err(Refusal::new(StatusCode::BAD_REQUEST, "a request has one Host header"));
        }
        // A URL in the request line overrides the header (RFC 9112, 3.2.2).
        let text = match request.uri().authority() {
            Some(authority) => authority.as_str(),
            None => first.and_then(|host| host.to_str().ok()).unwrap_or_default(),
        };
        let misdirected = |message: String| Err(Refusal::new(StatusCode::MISDIRECTED_REQUEST, message));
        let Some((host, port)) = host_and_port(text) else {
            return misdirected(format!("the Host header `{text}` names no host"));
        };
        let Host::Name(name) = &host else { return Ok((host, port)) };
        let known = name == "localhost"
            || self.hosts.iter().any(|rule| match rule {
                AllowedHost::Any => true,
                AllowedHost::Name(known, at) => {
                    // Which default port is left out depends on a proxy in front.
                    known == name && at.is_none_or(|at| port.map_or(at == 80 || at == 443, |port| port == at))
                }
            });
        if known {
            return Ok((host, port));
        }
        misdirected(format!(
            "this server does not know the name {name}: start it with --allow-host {name}, or use its address or localhost \
             (an unknown name may belong to a page that wants to reach this machine: DNS rebinding)"
        ))
    }

    /// Adds the headers by which a browser lets the page of `origin` read the response.
    pub(super) fn share(&self, headers: &mut HeaderMap, origin: Option<HeaderValue>) {
        if self.origins.is_empty() {
            return;
        }
        // A cache in front must not give one page the headers of another.
        headers.insert(header::VARY, HeaderValue::from_static("Origin"));
        if let Some(origin) = origin {
            let any = self.origins.contains(&AllowedOrigin::Any);
            let value = if any { HeaderValue::from_static("*") } else { origin };
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, value);
        }
    }
}

/// Whether a browser asks if a page may send a request.
pub(super) fn is_preflight<B>(request: &Request<B>) -> bool {
    request.method() == Method::OPTIONS && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The headers of the answer to [`is_preflight`]; `methods` as in Allow.
pub(super) fn preflight<B>(request: &Request<B>, methods: &'static str, headers: &mut HeaderMap) {
    const PRIVATE: HeaderName = HeaderName::from_static("access-control-request-private-network");
    const ALLOW_PRIVATE: HeaderName = HeaderName::from_static("access-control-allow-private-network");
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("Content-Type"));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    // Chromium asks before a public page reaches an address of the local network.
    if request.headers().contains_key(PRIVATE) {
        headers.insert(ALLOW_PRIVATE, HeaderValue::from_static("true"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(hosts: &[&str], origins: &[&str]) -> Access {
        Access {
            hosts: hosts.iter().map(|text| text.parse().unwrap()).collect(),
            origins: origins.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    fn request(host: &str, origin: Option<&str>) -> Request<()> {
        let mut request = Request::get("/model").header(header::HOST, host);
        if let Some(origin) = origin {
            request = request.header(header::ORIGIN, origin);
        }
        request.body(()).unwrap()
    }

    #[test]
    fn names_are_known_and_addresses_need_not_be() {
        let (none, some) = (access(&[], &[]), access(&["nas.local", "Model:8080", "web:443"], &[]));
        for (host, without, with) in [
            ("localhost:8017", true, true),
            ("LOCALHOST", true, true),
            ("localhost.:9", true, true),
            ("127.0.0.1:8017", true, true),
            ("192.168.1.5:9000", true, true),
            ("[::1]:8017", true, true),
            ("[fe80::1]", true, true),
            ("nas.local:8017", false, true),
            ("NAS.local", false, true),
            ("nas.local.:80", false, true),
            ("model:8080", false, true),
            ("model:8081", false, false),
            ("model", false, false),
            ("web", false, true),
            ("web:8017", false, false),
            ("evil.example:8017", false, false),
            ("nas.local.evil.example", false, false),
            ("localhost.evil.example:8017", false, false),
            ("evil.localhost", false, false),
            ("1.2.3.4.evil.example", false, false),
            ("1.2.3", false, false),
            ("", false, false),
            ("user@localhost", false, false),
            ("localhost:x", false, false),
            ("localhost:99999", false, false),
            ("[::1", false, false),
            ("[::1]x", false, false),
            ("::1", false, false),
        ] {
            let status =
                |access: &Access| access.check(&request(host, None)).map_err(|refusal| refusal.status.as_u16());
            let expected = |allowed| if allowed { Ok(None) } else { Err(421) };
            assert_eq!(status(&none), expected(without), "{host}");
            assert_eq!(status(&some), expected(with), "{host}");
            assert_eq!(status(&access(&["*"], &[])).is_ok(), host_and_port(host).is_some(), "{host}");
        }
        let refusal = none.check(&request("nas.local:8080", None)).unwrap_err();
        assert!(refusal.message.contains("--allow-host nas.local,"), "{}", refusal.message);
    }

    #[test]
    fn the_host_is_given_once_and_the_request_line_overrides_it() {
        let none = access(&[], &[]);
        let status = |request: Request<()>| none.check(&request).map_err(|refusal| refusal.status.as_u16());
        assert_eq!(status(Request::get("/").body(()).unwrap()), Err(400));
        let twice = Request::get("/").header(header::HOST, "localhost").header(header::HOST, "evil.example");
        assert_eq!(status(twice.body(()).unwrap()), Err(400));
        let absolute = |url: &str| Request::get(url).header(header::HOST, "localhost").body(()).unwrap();
        assert_eq!(status(absolute("http://evil.example/")), Err(421));
        assert_eq!(status(absolute("http://localhost:8017/")), Ok(None));
    }

    #[test]
    fn origins_are_the_servers_own_or_listed() {
        let (none, some) = (access(&[], &[]), access(&[], &["https://app.example", "http://localhost:3000/", "null"]));
        for (host, origin, without, with) in [
            ("localhost:8017", "http://localhost:8017", true, true),
            ("LOCALHOST:8017", "http://localhost:8017", true, true),
            ("localhost", "http://localhost", true, true),
            ("localhost", "https://localhost", true, true),
            ("localhost:80", "http://localhost", true, true),
            ("[::1]:8017", "http://[::1]:8017", true, true),
            ("localhost:8017", "http://localhost", false, false),
            ("localhost:8017", "http://127.0.0.1:8017", false, false),
            ("localhost:8017", "http://localhost:3000", false, true),
            ("localhost:8017", "https://app.example", false, true),
            ("localhost:8017", "https://app.example:443", false, true),
            ("localhost:8017", "http://app.example", false, false),
            ("localhost:8017", "https://app.example.evil.example", false, false),
            ("localhost:8017", "https://evil.example", false, false),
            ("localhost:8017", "null", false, true),
            ("localhost:8017", "", false, false),
            ("localhost:8017", "ftp://localhost:8017", false, false),
        ] {
            for (access, allowed) in [(&none, without), (&some, with)] {
                let answer = access.check(&request(host, Some(origin)));
                assert_eq!(answer.is_ok(), allowed, "{host} {origin}");
                let listed = with && !without;
                assert_eq!(answer.ok().flatten().is_some(), allowed && listed, "{host} {origin}");
            }
            assert!(access(&[], &["*"]).check(&request(host, Some(origin))).is_ok());
        }
    }

    #[test]
    fn what_is_no_host_or_origin_is_named() {
        for (text, word) in [
            ("http://nas.local", "without scheme"),
            ("nas.local/x", "without scheme"),
            ("bücher.local", "xn--"),
            ("192.168.1.5", "always accepted"),
            ("", "NAME"),
            ("a b", "NAME"),
        ] {
            let error = text.parse::<AllowedHost>().unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
        for text in ["app.example", "https://", "https://app.example/path", "https://a b", "localhost:3000", ""] {
            assert!(text.parse::<AllowedOrigin>().unwrap_err().contains("such as https://app.example"), "{text}");
        }
    }
}
