//! `alexnet serve` as a process, and requests to it.
#![allow(dead_code)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::command::{Place, SHORT};

pub struct Server {
    child: Child,
    pub address: String,
    pub place: Place,
}

impl Server {
    /// Of a run of the embedded sample, with these flags.
    pub fn start(flags: &str) -> Self {
        Self::of("", flags)
    }

    /// Of a run with these settings.
    pub fn of(settings: &str, flags: &str) -> Self {
        let place = Place::new();
        place.succeed(&format!("{SHORT} --epochs 0 --out run {settings}"));
        Self::at(place, flags)
    }

    /// Of the folder `run` in a place.
    pub fn at(place: Place, flags: &str) -> Self {
        let mut command = place.command(&format!("serve run --port 0 --device cpu {flags}"));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.strip_prefix("serving http://").and_then(|rest| rest.split_whitespace().next());
        let address = address.unwrap_or_else(|| panic!("{line}")).to_owned();
        assert!(flags.contains("--host") || address.starts_with("127.0.0.1:"), "{address}");
        Self { child, address, place }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// The head of a request that ends its connection.
    pub fn head(&self, request: &str, headers: &str) -> String {
        format!("{request} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{headers}\r\n", self.address)
    }

    pub fn raw(&self, bytes: &[u8]) -> String {
        String::from_utf8_lossy(&self.raw_bytes(bytes)).into_owned()
    }

    pub fn raw_bytes(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        // A server that refuses a body may close while it is still sent.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer
    }

    pub fn get(&self, path: &str) -> (u16, String) {
        parse(&self.raw(self.head(&format!("GET {path}"), "").as_bytes()))
    }

    pub fn post(&self, path: &str, headers: &str, body: &[u8]) -> (u16, Value) {
        let headers = format!("Content-Length: {}\r\n{headers}", body.len());
        let bytes = [self.head(&format!("POST {path}"), &headers).as_bytes(), body].concat();
        let (status, text) = parse(&self.raw(&bytes));
        (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
    }

    /// The answer's head and body to a request with these headers.
    pub fn ask(&self, request: &str, headers: &str, body: &[u8]) -> (String, String) {
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let answer = self.raw(&[self.head(request, &(length + headers)).as_bytes(), body].concat());
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer}"));
        (head.to_lowercase(), body.into())
    }

    /// Ctrl-C; how it ended, and what it said.
    pub fn stop(mut self) -> (i32, String) {
        let id = self.child.id().to_string();
        assert!(Command::new("/bin/kill").args(["-INT", &id]).status().unwrap().success());
        let status = self.child.wait().unwrap();
        let mut error = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
        (status.code().unwrap_or(-1), error)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn parse(answer: &str) -> (u16, String) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer}"));
    (head.split_whitespace().nth(1).unwrap().parse().unwrap(), body.into())
}

pub fn picture() -> Vec<u8> {
    let picture = image::RgbImage::from_fn(50, 40, |x, y| image::Rgb([x as u8 * 5, y as u8 * 6, 90]));
    let mut file = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut file, image::ImageFormat::Png).unwrap();
    file.into_inner()
}
