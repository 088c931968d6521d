//! Who may come in, and what is told of what goes on.

use std::fs;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use serde_json::json;

use super::{PATIENCE, Server, head, post};
use crate::models::{Kind, path};
use crate::program::owlet;

#[test]
fn others_may_not_ask_without_a_key() {
    let model = path(Kind::Story);
    let model = model.to_str().unwrap();
    for (host, who) in [
        ("0.0.0.0", "every machine that reaches this one"),
        ("192.0.2.1", "every machine that reaches 192.0.2.1"),
    ] {
        let ran = owlet(&["serve", "-m", model, "--host", host]);
        let text =
            format!("{who} could ask without a key; --api-keys FILE says who may, --insecure lets everybody");
        assert_eq!(ran.code, Some(2));
        assert!(ran.err.contains(&text), "{}", ran.err);
    }
    // With a file of keys, or knowingly, one may.
    let server = Server::start(Kind::Story, &["--host", "0.0.0.0", "--insecure"]);
    assert!(server.address.ip().is_unspecified());
}

#[test]
fn keys() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys");
    fs::write(&file, "# phone\nphone-0123456789\nlaptop-0123456789\n").unwrap();
    let server = Server::start(Kind::Story, &["--api-keys", file.to_str().unwrap(), "--host", "0.0.0.0"]);
    let status = |path: &str, headers: &[&str]| server.get(path, headers).status;
    for headers in [
        &[][..],
        &["Authorization: Bearer phone-012345678"],
        &["Authorization: Basic phone-0123456789"],
        &["x-api-key: "],
    ] {
        for path in ["/v1/models", "/metrics", "/nothing"] {
            assert_eq!(status(path, headers), 401, "{path} {headers:?}");
        }
    }
    for header in [
        "Authorization: Bearer phone-0123456789",
        "authorization: bearer laptop-0123456789",
        "x-api-key: phone-0123456789",
    ] {
        assert_eq!(status("/v1/models", &[header]), 200, "{header}");
    }
    assert_eq!((status("/livez", &[]), status("/readyz", &[])), (200, 200));
    let refused = server.get("/v1/models", &[]);
    assert_eq!(refused.headers["www-authenticate"], "Bearer");
    assert_eq!(refused.json()["error"]["code"], "invalid_api_key");

    fs::write(&file, "short\n").unwrap();
    let model = path(Kind::Story);
    let ran = owlet(&["serve", "-m", model.to_str().unwrap(), "--api-keys", file.to_str().unwrap()]);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.err.ends_with("line 1: expected a key of at least 16 characters without spaces\n"),
        "{}",
        ran.err
    );
}

/// Who fills the places of one key is sent away, and nobody else is.
#[test]
fn a_key_has_so_many_requests_under_way() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys");
    fs::write(&file, "phone-0123456789\nlaptop-0123456789\n").unwrap();
    let server = Server::start(Kind::Slow, &["--api-keys", file.to_str().unwrap(), "--max-per-key", "1"]);
    let [phone, laptop] = ["x-api-key: phone-0123456789", "x-api-key: laptop-0123456789"];
    let sing = |n: u32, streams: bool, key: &str| {
        let messages = json!([{"role": "user", "content": "Sing!"}]);
        let body = json!({"messages": messages, "max_tokens": n, "stream": streams});
        post("/v1/chat/completions", &body.to_string(), &[key])
    };
    let mut stream = server.connect();
    stream.write_all(&sing(1500, true, phone)).unwrap();
    stream.read_exact(&mut [0; 300]).unwrap();
    let ask = |key: &str| server.exchange(&sing(3, false, key));
    let text = "this key has as many requests under way as it may; try again later";
    assert_eq!(ask(phone).refusal(), (429, text.into()));
    assert_eq!(ask(laptop).status, 200);
    drop(stream);
    let begun = Instant::now();
    while ask(phone).status != 200 {
        assert!(begun.elapsed() < PATIENCE, "who left still counts");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn pages_of_others_are_refused() {
    let server = Server::start(Kind::Story, &["--allow-host", "owlet.example.org"]);
    let status = |headers: &[&str]| server.get("/v1/models", headers).status;
    for host in ["localhost:1", "127.0.0.1", "nas.local", "owlet.example.org"] {
        assert_eq!(status(&[&format!("Host: {host}")]), 200, "{host}");
    }
    assert_eq!(status(&["Host: evil.example"]), 403);
    assert_eq!(status(&["Origin: https://evil.example"]), 403);
    assert_eq!(status(&["Origin: null"]), 403);
    assert_eq!(status(&["Origin: http://localhost"]), 200);
    let reply = server.get("/v1/models", &[]);
    assert!(!reply.headers.keys().any(|name| name.starts_with("access-control")), "{reply:?}");
    let preflight = head("OPTIONS", "/v1/chat/completions", &["Origin: https://evil.example"], None);
    assert_eq!(server.exchange(&preflight).status, 403);
}

#[test]
fn paths_and_methods() {
    let server = Server::start(Kind::Story, &[]);
    assert_eq!(server.get("/v1/nothing", &[]).refusal(), (404, "there is nothing at this path".into()));
    assert_eq!(
        server.get("/v1/chat/completions", &[]).refusal(),
        (405, "this path takes another method".into())
    );
    let ids: Vec<_> = (0..2).map(|_| server.get("/livez", &[]).headers["x-request-id"].clone()).collect();
    assert_ne!(ids[0], ids[1]);
    let gzip = post("/v1/chat/completions", "{}", &["Content-Encoding: gzip"]);
    assert_eq!(server.exchange(&gzip).status, 400);
}

/// What was asked and answered is in no log, and what it took is counted.
#[test]
fn logs_and_metrics() {
    let server = Server::start(Kind::Story, &[]);
    let body = json!({"messages": [{"role": "user", "content": "A secret?"}]});
    let id = server.chat(&body)["id"].as_str().unwrap().trim_start_matches("chatcmpl-").to_string();
    server.get("/nothing", &[]);
    // A slot is free a moment after its answer was sent.
    let metrics = server.metrics_with("owlet_answering 0");
    for line in [
        "owlet_responses_total{class=\"4xx\"} 1",
        "owlet_answers_total 1",
        "owlet_completion_tokens_total 9",
        "owlet_queued 0",
        "owlet_answering 0",
        "owlet_ready 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} in {metrics}");
    }
    // What it wrote is read a moment later.
    let begun = Instant::now();
    let written = |log: &String| log.contains("\"event\":\"answer\"") && log.contains("/v1/chat/completions");
    while !written(&server.log()) && begun.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let log = server.log();
    assert!(!log.contains("secret") && !log.contains("circle"), "{log}");
    let events: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let answer = events.iter().find(|event| event["event"] == "answer").unwrap();
    assert_eq!(
        (&answer["id"], &answer["completion"], &answer["finish"]),
        (&json!(id), &json!(9), &json!("eos"))
    );
    let request =
        events.iter().find(|event| event["event"] == "request" && event["id"] == json!(id)).unwrap();
    assert_eq!((&request["path"], &request["status"]), (&json!("/v1/chat/completions"), &json!(200)));
}

/// HTTP/1.0 and heads in pieces are served, too.
#[test]
fn a_head_may_come_in_pieces() {
    let server = Server::start(Kind::Story, &[]);
    let mut stream = server.connect();
    for byte in b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" {
        stream.write_all(&[*byte]).unwrap();
    }
    assert_eq!(super::Reply::read(&mut stream).body, "alive\n");
}
