//! A hub on this machine: the three paths of its API that a conversion asks, with every fault that a network has on request.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub const NAME: &str = "Open/tiny-chat";
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const PIECE_BYTES: usize = 16 << 10;

/// One request, as far as the tests look at it.
#[derive(Clone, Debug)]
pub struct Asked {
    pub path: String,
    /// `bytes=5-9` as it was sent.
    pub range: Option<String>,
    pub token: Option<String>,
    /// How many requests for this path came before, those for spots of it apart from those up to its end.
    pub n_before: usize,
}

impl Asked {
    /// The file that is asked for, if it is one.
    pub fn file(&self) -> Option<&str> {
        self.path.split_once("/resolve/").and_then(|(_, rest)| rest.split_once('/')).map(|(_, name)| name)
    }

    /// The model that is asked for, or about.
    pub fn model(&self) -> &str {
        let path = self.path.strip_prefix("/api/models").unwrap_or(&self.path).trim_start_matches('/');
        let end = path.match_indices('/').nth(1).map_or(path.len(), |(at, _)| at);
        &path[..end]
    }

    pub fn is_weights(&self) -> bool {
        self.file().is_some_and(|name| name.ends_with(".safetensors") || name.ends_with(".bin"))
    }

    /// Weights up to their end, which is what a download and a stream ask for.
    pub fn is_long(&self) -> bool {
        self.is_weights() && is_open(self.range.as_ref())
    }

    /// The first byte that is asked for, and the last one.
    pub fn start(&self) -> Option<(usize, Option<usize>)> {
        let (first, last) = self.range.as_ref()?.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()))
    }
}

fn is_open(range: Option<&String>) -> bool {
    range.is_none_or(|range| range.ends_with('-'))
}

/// What to do with a request.
#[derive(Clone, Debug)]
pub enum Act {
    Serve,
    /// So many bytes of the body, then the connection ends.
    Cut(usize),
    /// So many bytes of the body, then nothing for longer than anybody waits.
    Stall(usize),
    /// As it is, but slowly: a pause behind each piece.
    Slow(Duration),
    /// With this byte of the file turned over.
    Corrupt(usize),
    /// The whole file, whatever range was asked for.
    Whole,
    /// A status with the hub's code for it.
    Refuse(u16, &'static str),
    To(String),
    /// Nothing at all for so long.
    Pause(Duration),
    /// This instead of what would be said.
    Say(Vec<u8>),
}

type Policy = dyn Fn(&Asked) -> Act + Send + Sync;

pub struct Hub {
    pub address: String,
    shared: Arc<Shared>,
}

/// Files by name.
type Files = BTreeMap<String, Vec<u8>>;

struct Shared {
    /// By the models' names.
    models: BTreeMap<String, Files>,
    policy: Mutex<Box<Policy>>,
    asked: Mutex<Vec<Asked>>,
    n_sent: AtomicU64,
    is_over: AtomicBool,
}

impl Hub {
    /// Serves the files of `dir` as the model [`NAME`].
    pub fn of(dir: &Path) -> Hub {
        Hub::of_models(&[(NAME, dir)])
    }

    /// Serves the files of each directory as the model of that name.
    pub fn of_models(models: &[(&str, &Path)]) -> Hub {
        let files = |dir: &Path| -> Files {
            let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
            let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_string();
            let files = paths.filter(|path| path.is_file());
            files.map(|path| (name(&path), std::fs::read(path).unwrap())).collect()
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            models: models.iter().map(|(name, dir)| (name.to_string(), files(dir))).collect(),
            policy: Mutex::new(Box::new(|_| Act::Serve)),
            asked: Mutex::default(),
            n_sent: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        });
        let all = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                if all.is_over.load(Ordering::Relaxed) {
                    return;
                }
                let (stream, all) = (stream.unwrap(), all.clone());
                thread::spawn(move || drop(all.converse(&stream)));
            }
        });
        Hub { address, shared }
    }

    /// From now on.
    pub fn act(&self, policy: impl Fn(&Asked) -> Act + Send + Sync + 'static) {
        *self.shared.policy.lock().unwrap() = Box::new(policy);
        self.shared.asked.lock().unwrap().clear();
        self.shared.n_sent.store(0, Ordering::Relaxed);
    }

    /// Since the last call of `act`.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// Bytes of files that were sent since the last call of `act`.
    pub fn n_sent(&self) -> u64 {
        self.shared.n_sent.load(Ordering::Relaxed)
    }

    pub fn n_weight_bytes(&self) -> u64 {
        let is_weights = |name: &str| name.ends_with(".safetensors") || name.ends_with(".bin");
        self.shared
            .models
            .values()
            .flatten()
            .filter(|(name, _)| is_weights(name))
            .map(|(_, bytes)| bytes.len() as u64)
            .sum()
    }

    /// Writes the files of [`NAME`] there.
    pub fn write_to(&self, dir: &Path) {
        std::fs::create_dir_all(dir).unwrap();
        self.shared.models[NAME]
            .iter()
            .for_each(|(name, bytes)| std::fs::write(dir.join(name), bytes).unwrap());
    }

    /// What the hub says of the files of [`NAME`].
    pub fn tree(&self) -> Vec<Value> {
        tree(&self.shared.models[NAME])
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address.trim_start_matches("http://"));
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn git_sum(bytes: &[u8]) -> String {
    use sha1::Digest as _;
    hex(&sha1::Sha1::new_with_prefix(format!("blob {}\0", bytes.len())).chain_update(bytes).finalize())
}

fn tree(files: &Files) -> Vec<Value> {
    let entry = |(name, bytes): (&String, &Vec<u8>)| {
        let mut entry = json!({"type": "file", "path": name, "size": bytes.len(), "oid": git_sum(bytes)});
        if !name.ends_with(".json") {
            entry["lfs"] =
                json!({"oid": hex(&Sha256::digest(bytes)), "size": bytes.len(), "pointerSize": 130});
        }
        entry
    };
    files.iter().map(entry).collect()
}

impl Shared {
    fn converse(&self, stream: &TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.set_nodelay(true)?;
        let mut lines = BufReader::new(stream).lines();
        loop {
            let Some(first) = lines.next().transpose()? else { return Ok(()) };
            let path = first.split(' ').nth(1).unwrap_or_default().to_string();
            let (mut range, mut token) = (None, None);
            for line in lines.by_ref() {
                let line = line?;
                let Some((name, value)) = line.split_once(": ") else { break };
                match name.to_ascii_lowercase().as_str() {
                    "range" => range = Some(value.to_string()),
                    "authorization" => token = Some(value.to_string()),
                    _ => {}
                }
            }
            let mut asked = self.asked.lock().unwrap();
            let is_alike = |known: &&Asked| {
                known.path == path && is_open(known.range.as_ref()) == is_open(range.as_ref())
            };
            let n_before = asked.iter().filter(is_alike).count();
            let this = Asked { path, range, token, n_before };
            asked.push(this.clone());
            drop(asked);
            let act = (self.policy.lock().unwrap())(&this);
            if !self.answer(stream, &this, act)? {
                return Ok(());
            }
        }
    }

    /// Whether the connection goes on.
    fn answer(&self, mut out: &TcpStream, asked: &Asked, act: Act) -> std::io::Result<bool> {
        match &act {
            Act::Refuse(status, code) => {
                let head =
                    format!("HTTP/1.1 {status} No\r\nX-Error-Code: {code}\r\nContent-Length: 0\r\n\r\n");
                out.write_all(head.as_bytes())?;
                return Ok(true);
            }
            Act::To(location) => {
                let head = format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
                out.write_all(head.as_bytes())?;
                return Ok(true);
            }
            Act::Pause(span) => {
                thread::sleep(*span);
                return Ok(false);
            }
            Act::Say(bytes) => {
                out.write_all(bytes)?;
                return Ok(false);
            }
            _ => {}
        }
        let Some(name) = asked.file() else { return self.answer_api(out, asked) };
        let Some(bytes) = self.models.get(asked.model()).and_then(|files| files.get(name)) else {
            return self.answer(out, asked, Act::Refuse(404, "EntryNotFound"));
        };
        let mut bytes = bytes.clone();
        if let Act::Corrupt(at) = act {
            bytes[at] ^= 1;
        }
        let (status, body) = match asked.start().filter(|_| !matches!(act, Act::Whole)) {
            Some((first, last)) => {
                let end = last.map_or(bytes.len(), |last| (last + 1).min(bytes.len()));
                let range = format!("Content-Range: bytes {first}-{}/{}\r\n", end - 1, bytes.len());
                (format!("206 Partial Content\r\n{range}"), &bytes[first..end])
            }
            None => ("200 OK\r\n".to_string(), &bytes[..]),
        };
        let head = format!("HTTP/1.1 {status}ETag: \"{name}\"\r\nContent-Length: {}\r\n\r\n", body.len());
        out.write_all(head.as_bytes())?;
        let n_sent = match act {
            Act::Cut(n) | Act::Stall(n) => n.min(body.len()),
            _ => body.len(),
        };
        for piece in body[..n_sent].chunks(PIECE_BYTES) {
            // before whoever reads it can go on
            self.n_sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
            out.write_all(piece)?;
            if let Act::Slow(pause) = act {
                thread::sleep(pause);
            }
        }
        if let Act::Stall(_) = act {
            thread::sleep(Duration::from_secs(4));
        }
        Ok(n_sent == body.len())
    }

    fn answer_api(&self, mut out: &TcpStream, asked: &Asked) -> std::io::Result<bool> {
        let name = asked.model();
        let Some(files) = self.models.get(name).filter(|_| asked.path.starts_with("/api/models/")) else {
            return self.answer(out, asked, Act::Refuse(404, "RepoNotFound"));
        };
        let tree = tree(files);
        let (first, second) = tree.split_at(tree.len() / 2);
        let tree_path = format!("/api/models/{name}/tree/{COMMIT}");
        let revision = |word: &str| format!("/api/models/{name}/revision/{word}");
        let mut link = String::new();
        let body = match &asked.path {
            path if *path == revision("main") || *path == revision(COMMIT) => {
                json!({"id": name, "sha": COMMIT, "gated": false, "cardData": {"license": "mit"}})
            }
            path if *path == tree_path => {
                link = format!("Link: <{tree_path}?cursor=2>; rel=\"next\"\r\n");
                json!(first)
            }
            path if *path == format!("{tree_path}?cursor=2") => json!(second),
            _ => return self.answer(out, asked, Act::Refuse(404, "RevisionNotFound")),
        };
        out.write_all(said(&body.to_string(), &link).as_slice())?;
        Ok(true)
    }
}

/// An answer that went well.
pub fn said(body: &str, headers: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}
