//! Good requests of all dialects, those of the published document, made wrong in many ways: each is answered or refused, on
//! connections that are used again and again.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use super::{Reply, Server, head};
use crate::models::{Kind, STORY};

const N_REQUESTS: usize = 10_000;
const N_THREADS: usize = 4;

/// Numbers in no order, the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n.max(1)
    }
}

/// A value that is hardly ever right.
fn extreme(dice: &mut Dice) -> Value {
    let values = [
        json!(-1),
        json!(0),
        json!(1e308),
        json!(-1e-308),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(1.5),
        json!(null),
        json!(true),
        json!(""),
        json!("\u{0}\u{fffd}\u{10ffff}"),
        json!("data:image/png;base64,"),
        json!("https://127.0.0.1/a.png"),
        json!("x".repeat(3000)),
        json!([]),
        json!({}),
        json!([[[[[[]]]]]]),
        json!({"type": "text", "text": "</s>"}),
        json!([null, 0, "", {}]),
    ];
    values[dice.below(values.len())].clone()
}

/// Changes something somewhere in `value`.
fn change(value: &mut Value, dice: &mut Dice) {
    let is_leaf = !value.is_object() && !value.is_array();
    if is_leaf || dice.below(6) == 0 {
        *value = match dice.below(4) {
            0 => Value::Array(vec![value.take()]),
            1 => json!({"type": value.take()}),
            _ => extreme(dice),
        };
        return;
    }
    match value {
        Value::Object(fields) => {
            let names: Vec<String> = fields.keys().cloned().collect();
            let name = &names[dice.below(names.len()).min(names.len().saturating_sub(1))..].first().cloned();
            match (name, dice.below(8)) {
                (Some(name), 0) => drop(fields.remove(name)),
                (Some(name), 1) => {
                    let held = fields.remove(name).unwrap();
                    fields.insert(format!("{name}_"), held);
                }
                (_, 2) | (None, _) => {
                    let known = [
                        "stream", "n", "stop", "tools", "format", "logprobs", "echo", "seed", "top_k",
                        "min_p",
                    ];
                    fields.insert(known[dice.below(known.len())].into(), extreme(dice));
                }
                (Some(name), _) => change(&mut fields[name.as_str()], dice),
            }
        }
        Value::Array(values) if values.is_empty() => values.push(extreme(dice)),
        Value::Array(values) => {
            let at = dice.below(values.len());
            match dice.below(5) {
                0 => drop(values.remove(at)),
                1 => values.extend(vec![values[at].clone(); 1 + dice.below(20)]),
                _ => change(&mut values[at], dice),
            }
        }
        _ => {}
    }
}

/// Changes bytes.
fn damage(body: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..=dice.below(3) {
        let at = dice.below(body.len());
        match dice.below(5) {
            0 => body[at] = dice.below(256) as u8,
            1 => drop(body.drain(at..(at + 1 + dice.below(9)).min(body.len()))),
            2 => body.truncate(at.max(1)),
            3 => *body = [&body[..at], &b"[".repeat(1 + dice.below(400))[..], &body[at..]].concat(),
            _ => *body = [&body[..at], &body[at / 2..at], &body[at..]].concat(),
        }
        if body.is_empty() {
            body.push(b'{');
        }
    }
}

/// A connection that is used as long as the server lets it.
struct Line(Option<BufReader<TcpStream>>);

impl Line {
    fn exchange(&mut self, server: &Server, bytes: &[u8]) -> Reply {
        for _ in 0..2 {
            let is_new = self.0.is_none();
            let stream = self.0.get_or_insert_with(|| BufReader::new(server.connect()));
            let reply = stream.get_mut().write_all(bytes).ok().and_then(|()| read(stream));
            let is_kept = reply
                .as_ref()
                .is_some_and(|reply| reply.headers.get("connection").is_none_or(|value| value != "close"));
            if !is_kept {
                self.0 = None;
            }
            // An old connection may just have been closed.
            if let Some(reply) = reply.or(is_new.then(Reply::default)) {
                return reply;
            }
        }
        panic!("the server closes new connections")
    }
}

/// The next response, if there is a whole one.
fn read(stream: &mut BufReader<TcpStream>) -> Option<Reply> {
    let mut line = || {
        let mut line = String::new();
        stream.read_line(&mut line).ok().filter(|n| *n > 0)?;
        Some(line.trim_end().to_string())
    };
    let status = line()?.split(' ').nth(1)?.parse().ok()?;
    let mut headers = std::collections::HashMap::new();
    loop {
        let line = line()?;
        let Some((name, value)) = line.split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_string());
    }
    let mut body = Vec::new();
    let mut take = |stream: &mut BufReader<TcpStream>, n: usize| {
        let before = body.len();
        body.resize(before + n, 0);
        stream.read_exact(&mut body[before..]).ok()
    };
    if let Some(n) = headers.get("content-length") {
        take(stream, n.parse().ok()?)?;
    } else {
        loop {
            let mut size = String::new();
            stream.read_line(&mut size).ok()?;
            let n = usize::from_str_radix(size.trim_end(), 16).ok()?;
            take(stream, n)?;
            stream.read_exact(&mut [0; 2]).ok()?;
            if n == 0 {
                break;
            }
        }
    }
    Some(Reply { status, headers, body: String::from_utf8_lossy(&body).into_owned() })
}

fn check(what: &str, reply: &Reply) {
    assert!(reply.status < 500, "{what}: {reply:?}");
    // A stream that has begun tells faults in it.
    assert!(
        !reply.body.contains("internal error") && !reply.body.contains("server_error"),
        "{what}: {reply:?}"
    );
    let is_json = reply.headers.get("content-type").is_some_and(|kind| kind == "application/json");
    if reply.status >= 400 && is_json {
        let error = &reply.json()["error"];
        let message = error.as_str().or(error["message"].as_str()).unwrap_or_default();
        assert!(!message.is_empty() && message.len() < 2000, "{what}: {reply:?}");
    }
}

#[test]
fn ten_thousand_wrong_requests_are_answered_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let flags = ["--max-pixels", "100000", "--max-body", "1MB", "--peer-timeout", "1", "--max-tokens", "40"];
    let flags = [&flags[..], &["--slot-dir", dir.path().to_str().unwrap()]].concat();
    let server = Arc::new(Server::start(Kind::Story, &flags));
    let document = server.get("/openapi.json", &[]).json();
    let mut good: Vec<(String, Value)> = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let examples = &methods["post"]["requestBody"]["content"]["application/json"]["examples"];
        let examples = examples.as_object().into_iter().flatten();
        let path = path.replace("{id}", "0?action=save");
        good.extend(examples.map(|(_, example)| (path.clone(), example["value"].clone())));
    }
    assert!(good.len() >= 15, "{}", good.len());
    let good = Arc::new(good);
    let started = Instant::now();
    let asking: Vec<_> = (0..N_THREADS)
        .map(|thread| {
            let (server, good) = (Arc::clone(&server), Arc::clone(&good));
            std::thread::spawn(move || {
                let (mut dice, mut line) = (Dice(20 + thread as u64), Line(None));
                let mut seen: BTreeMap<(String, u16), usize> = BTreeMap::new();
                for n in 0..N_REQUESTS / N_THREADS {
                    let (path, body) = &good[dice.below(good.len())];
                    let mut body = body.clone();
                    let is_broken = dice.below(4) == 0;
                    for _ in 0..usize::from(!is_broken) * (1 + dice.below(3)) {
                        change(&mut body, &mut dice);
                    }
                    let mut body = body.to_string().into_bytes();
                    if is_broken {
                        damage(&mut body, &mut dice);
                    }
                    let mut head = head("POST", path, &[], Some(body.len()));
                    let is_closed = dice.below(50) == 0;
                    if is_closed {
                        let at = dice.below(head.len());
                        head[at] = dice.below(256) as u8;
                    } else {
                        head = String::from_utf8(head)
                            .unwrap()
                            .replace("Connection: close\r\n", "")
                            .into_bytes();
                    }
                    let bytes = [head, body.clone()].concat();
                    let what =
                        format!("thread {thread}, request {n}: {path} {}", String::from_utf8_lossy(&body));
                    let reply =
                        if is_closed { server.exchange(&bytes) } else { line.exchange(&server, &bytes) };
                    check(&what, &reply);
                    *seen.entry((path.clone(), reply.status)).or_default() += 1;
                }
                seen
            })
        })
        .collect();
    let mut seen: BTreeMap<(String, u16), usize> = BTreeMap::new();
    for asking in asking {
        for (what, n) in asking.join().unwrap() {
            *seen.entry(what).or_default() += n;
        }
    }
    println!("{:?}: {seen:?}", started.elapsed());
    for (path, _) in good.iter() {
        let n_with = |status: u16| seen.get(&(path.clone(), status)).copied().unwrap_or(0);
        assert!(n_with(200) > 5 && n_with(400) > 50, "{path}: {seen:?}");
    }
    let log = server.log();
    assert!(!log.contains("panicked"), "{log}");
    let body = json!({"messages": [{"role": "user", "content": "Q?"}]});
    assert_eq!(server.chat(&body)["choices"][0]["message"]["content"], STORY);
}
