//! `owlet serve` over real sockets, as clients meet it: the program in a process of its own, HTTP by hand.

mod abuse;
mod completions;
mod dialects;
mod entry;
mod formats;
mod logprobs;
mod many;
mod model;
mod mutations;
mod openai;
mod page;
mod slots;
mod tls;
mod transcript;
mod urls;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use crate::models::{Kind, path};
use crate::program::command;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server on a free port; killed when this is dropped.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// On a model, with more flags; ready.
    pub fn start(kind: Kind, flags: &[&str]) -> Server {
        let server = Server::start_on(&path(kind), flags);
        while server.get("/readyz", &[]).status != 200 {
            std::thread::sleep(Duration::from_millis(5));
        }
        server
    }

    /// On the model in a file; it may not be ready yet.
    pub fn start_on(model: &Path, flags: &[&str]) -> Server {
        let args = [&["serve", "-m", model.to_str().unwrap(), "--port", "0", "-t", "1"], flags].concat();
        let mut child = command(&args).stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(Vec::new()));
        let address = loop {
            let line = lines.next().expect("a line that says the address").unwrap();
            if let Some((_, address)) = line.split_once(" answers at http") {
                let address = address.trim_start_matches('s').trim_start_matches("://");
                break address.trim_end_matches("/v1").parse().unwrap();
            }
            log.lock().unwrap().push(line);
        };
        let kept = Arc::clone(&log);
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| kept.lock().unwrap().push(line))
        });
        Server { child, address, log }
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What stands in the log so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// What /metrics says once `line` is among it, or after half a minute.
    pub fn metrics_with(&self, line: &str) -> String {
        let begun = Instant::now();
        loop {
            let metrics = self.get("/metrics", &[]).body;
            if metrics.lines().any(|found| found == line) || begun.elapsed() > Duration::from_secs(30) {
                return metrics;
            }
        }
    }

    pub fn connect(&self) -> TcpStream {
        connect(self.address)
    }

    /// Sends `bytes`, reads all that comes.
    pub fn exchange(&self, bytes: &[u8]) -> Reply {
        exchange(self.address, bytes)
    }

    pub fn get(&self, path: &str, headers: &[&str]) -> Reply {
        self.exchange(&head("GET", path, headers, None))
    }

    pub fn post(&self, path: &str, body: &Value) -> Reply {
        self.exchange(&post(path, &body.to_string(), &[]))
    }

    /// Asks for a chat completion, which must be there.
    pub fn chat(&self, body: &Value) -> Value {
        let reply = self.post("/v1/chat/completions", body);
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()
    }

    /// Begins a stream; yields its lines.
    pub fn stream(&self, body: &Value) -> impl Iterator<Item = String> + use<> {
        let mut stream = self.connect();
        stream.write_all(&post("/v1/chat/completions", &body.to_string(), &[])).unwrap();
        BufReader::new(stream).lines().map_while(Result::ok)
    }

    /// Files and sockets that the program has open.
    #[cfg(target_os = "linux")]
    pub fn n_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    #[cfg(unix)]
    pub fn terminate(&self) {
        self.signal("-TERM");
    }

    #[cfg(unix)]
    pub fn signal(&self, signal: &str) {
        let status = std::process::Command::new("kill").args([signal, &self.id().to_string()]).status();
        assert!(status.unwrap().success());
    }

    /// Without a warning.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for the program to end.
    pub fn ended(&mut self) -> Option<i32> {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("still running: {}", self.log());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends `bytes` to whoever listens at `address`, reads all that comes.
pub fn exchange(address: SocketAddr, bytes: &[u8]) -> Reply {
    let mut stream = connect(address);
    // A server that has refused the head does not read the rest.
    let _ = stream.write_all(bytes);
    Reply::read(&mut stream)
}

#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// 0 where the server closed without a word.
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub body: String,
}

impl Reply {
    /// All that comes until the server closes.
    pub fn read(stream: &mut TcpStream) -> Reply {
        let mut bytes = Vec::new();
        // A server that closes on unread bytes resets; what it said before counts.
        let _ = stream.read_to_end(&mut bytes);
        let _ = stream.shutdown(Shutdown::Both);
        Reply::of(&bytes)
    }

    pub fn of(bytes: &[u8]) -> Reply {
        let text = String::from_utf8_lossy(bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { return Reply::default() };
        let mut lines = head.lines();
        let status =
            lines.next().and_then(|line| line.split(' ').nth(1)).map_or(0, |word| word.parse().unwrap());
        let headers: HashMap<_, _> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_string()))
            .collect();
        let is_chunked = headers.get("transfer-encoding").is_some_and(|value| value == "chunked");
        let body = if is_chunked { joined(body) } else { body.to_string() };
        Reply { status, headers, body }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Status, and the message of the error.
    pub fn refusal(&self) -> (u16, String) {
        (self.status, self.json()["error"]["message"].as_str().unwrap_or_default().to_string())
    }

    /// The events of a stream, without the last one, and its comments.
    pub fn events(&self) -> (Vec<Value>, Vec<String>) {
        assert!(self.body.ends_with("data: [DONE]\n\n"), "{self:?}");
        let (mut events, mut comments) = (Vec::new(), Vec::new());
        for line in self.body.split("\n\n").filter(|line| !line.is_empty() && *line != "data: [DONE]") {
            match line.strip_prefix("data: ") {
                Some(event) => events.push(serde_json::from_str(event).unwrap()),
                None => comments.push(line.strip_prefix(": ").unwrap().to_string()),
            }
        }
        (events, comments)
    }
}

/// The pieces of a chunked body; what is broken ends it.
fn joined(mut chunks: &str) -> String {
    let mut body = String::new();
    while let Some((size, rest)) = chunks.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap_or(0);
        let Some(piece) = rest.get(..size).filter(|piece| !piece.is_empty()) else { break };
        body += piece;
        chunks = rest.get(size + 2..).unwrap_or_default();
    }
    body
}

/// A request's head, as a client of this machine would write it; with a body of `n_bytes` to follow.
pub fn head(method: &str, path: &str, headers: &[&str], n_bytes: Option<usize>) -> Vec<u8> {
    let mut lines = vec![format!("{method} {path} HTTP/1.1")];
    if !headers.iter().any(|header| header.to_ascii_lowercase().starts_with("host:")) {
        lines.push("Host: localhost".into());
    }
    lines.extend(headers.iter().map(|header| header.to_string()));
    lines.push("Connection: close".into());
    lines.extend(n_bytes.map(|n| format!("Content-Type: application/json\r\nContent-Length: {n}")));
    format!("{}\r\n\r\n", lines.join("\r\n")).into_bytes()
}

pub fn post(path: &str, body: &str, headers: &[&str]) -> Vec<u8> {
    [head("POST", path, headers, Some(body.len())), body.into()].concat()
}

/// `body` with the fields of `more`.
pub fn with(body: &Value, more: Value) -> Value {
    let mut body = body.clone();
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

/// The usual alphabet, padded.
pub fn base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

/// A picture of one colour as a data URI.
pub fn data_uri(width: u32, height: u32, shade: u8) -> String {
    let name = format!("serve-{width}x{height}-{shade}.png");
    let path = crate::program::picture(&name, width, height, [shade, 255 - shade, 7, 255]);
    format!("data:image/png;base64,{}", base64(&std::fs::read(path).unwrap()))
}
