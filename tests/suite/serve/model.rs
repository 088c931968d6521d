//! The model of a server: tested, given back, loaded again; and what readiness, metrics and clients hear of that.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ggml::Cancel;
use owlet::engine::Setup;
use owlet::measure::{Watch, record_self_test};
use owlet_format::Gguf;
use serde_json::{Value, json};

use super::{PATIENCE, Server, data_uri, exchange, head};
use crate::models::{Kind, path};
use crate::program::owlet;

/// A question about a picture that differs from the others.
fn about(n: u8) -> Value {
    let picture = json!({"type": "image_url", "image_url": {"url": data_uri(30, 20, n)}});
    let text = json!({"type": "text", "text": format!("What is it? {}", "so ".repeat(usize::from(n) * 7))});
    json!({"messages": [{"role": "user", "content": [picture, text]}], "max_tokens": 16, "temperature": 0})
}

fn said(server: &Server, body: &Value) -> String {
    server.chat(body)["choices"][0]["message"]["content"].as_str().unwrap().to_string()
}

/// What `/readyz` says.
fn readiness(server: &Server) -> (u16, String) {
    let reply = server.get("/readyz", &[]);
    (reply.status, reply.body.trim_end().to_string())
}

fn wait_for(server: &Server, text: &str) {
    let started = Instant::now();
    while readiness(server).1 != text {
        assert!(started.elapsed() < PATIENCE, "{:?} and not {text}", readiness(server));
        std::thread::sleep(Duration::from_millis(20));
    }
}

const RESTING: &str = "ready: not in memory; the next request loads it";

fn metric(server: &Server, name: &str) -> f64 {
    let text = server.get("/metrics", &[]).body;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} in {text}")).parse().unwrap()
}

/// A copy of a model's file under a name of its own.
fn copied(dir: &Path, kind: Kind) -> std::path::PathBuf {
    let file = dir.join("copied.gguf");
    fs::copy(path(kind), &file).unwrap();
    file
}

#[test]
fn a_model_that_nobody_asks_is_given_back_and_loaded_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = copied(dir.path(), Kind::Random);
    let server = Arc::new(Server::start_on(&file, &["--idle-unload", "1", "--slots", "2"]));
    let expected: Vec<_> = (0..4).map(|shade| said(&server, &about(shade))).collect();
    assert!(expected.iter().any(|text| *text != expected[0]), "{expected:?}");
    let known = server.get("/api/ps", &[]).json();
    assert!(known["models"][0]["expires_at"].as_str().unwrap() < "2100", "{known}");
    let maps = || {
        let maps = fs::read_to_string(format!("/proc/{}/maps", server.id())).unwrap_or_default();
        maps.contains("copied.gguf")
    };
    assert!(maps() || !cfg!(target_os = "linux"));

    for round in 1..3 {
        wait_for(&server, RESTING);
        // The engine's thread ends, and then its memory goes.
        let started = Instant::now();
        while maps() {
            assert!(started.elapsed() < PATIENCE, "its memory is still there");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(metric(&server, "owlet_model_loaded"), 0.0);
        assert_eq!(server.get("/api/ps", &[]).json(), json!({"models": []}));
        // What is known without it does not wake it.
        assert_eq!(server.get("/v1/models", &[]).status, 200);
        assert_eq!(server.post("/api/show", &json!({"model": "default"})).status, 200);
        assert_eq!(readiness(&server).1, RESTING);

        // Several at once load it once, and wait for that.
        let asking: Vec<_> = (0..4)
            .map(|shade| {
                let server = Arc::clone(&server);
                std::thread::spawn(move || said(&server, &about(shade)))
            })
            .collect();
        let found: Vec<_> = asking.into_iter().map(|asking| asking.join().unwrap()).collect();
        assert_eq!(found, expected, "round {round}");
        assert_eq!(metric(&server, "owlet_model_loads_total"), f64::from(round + 1));
    }
    // Counters only grow: four pictures, three times.
    let n: f64 = ["computed", "memory", "disk"]
        .map(|source| metric(&server, &format!("owlet_pictures_total{{source=\"{source}\"}}")))
        .iter()
        .sum();
    assert!(n >= 4.0, "{n}");
}

/// While somebody is answered, however long that takes, it stays.
#[test]
fn a_model_at_work_is_not_given_back() {
    let server = Server::start(Kind::Slow, &["--idle-unload", "1", "--image-cache", "off"]);
    let picture = |n| json!({"type": "image_url", "image_url": {"url": data_uri(9, 9, n)}});
    let content: Vec<_> = (0..8).map(picture).collect();
    let body = json!({"messages": [{"role": "user", "content": content}], "max_tokens": 3, "stream": true});
    let started = Instant::now();
    for line in server.stream(&body) {
        assert_eq!(metric(&server, "owlet_model_loaded"), 1.0, "{line}");
    }
    assert!(started.elapsed() > Duration::from_secs(2), "too short to show it: {:?}", started.elapsed());
    assert_eq!(metric(&server, "owlet_model_loads_total"), 1.0);
    wait_for(&server, RESTING);
}

#[test]
fn a_file_that_went_or_changed_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let file = copied(dir.path(), Kind::Story);
    let server = Server::start_on(&file, &["--idle-unload", "1"]);
    let body = json!({"messages": [{"role": "user", "content": "What?"}]});
    let before = said(&server, &body);
    let refused = |why: &str| {
        let reply = server.post("/v1/chat/completions", &body);
        let text = format!("the model could not be loaded again: {why}");
        assert_eq!(reply.refusal(), (503, text));
        assert_eq!(reply.headers["retry-after"], "5");
        assert_eq!(readiness(&server), (503, "not ready: could not be loaded again".into()));
        // What stands in the server's file system is the operator's business.
        assert!(!reply.body.contains("copied"), "{}", reply.body);
    };
    wait_for(&server, RESTING);
    fs::rename(&file, dir.path().join("elsewhere")).unwrap();
    refused("its file is gone");
    fs::copy(path(Kind::Endless), &file).unwrap();
    refused("the file is another one than when the server started");
    fs::write(&file, "rubbish").unwrap();
    refused("the server's log says why");
    assert!(server.log().contains("copied.gguf: "), "{}", server.log());
    fs::rename(dir.path().join("elsewhere"), &file).unwrap();
    assert_eq!(said(&server, &body), before);
    assert_eq!(readiness(&server), (200, "ready: loaded".into()));
}

#[test]
fn a_model_that_computes_something_else_answers_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tested.gguf");
    let (from, to) = (path(Kind::Random), file.to_str().unwrap().to_string());
    let types = ["--vision-type", "q8_0", "--projector-type", "q8_0", "--type", "q8_0", "-q"];
    owlet(&[&["quantize", from.to_str().unwrap(), &to], &types[..]].concat()).ok();
    let watch = &mut Watch { cancel: &Cancel::new(), progress: &mut |_, _, _| () };
    let right = record_self_test(&file, &Setup::cpu(1), watch).unwrap();
    let body = json!({"messages": [{"role": "user", "content": "What?"}], "max_tokens": 3});
    {
        let server = Server::start_on(&file, &[]);
        wait_for(&server, "ready: loaded");
        assert_eq!(server.post("/v1/chat/completions", &body).status, 200);
    }
    let mut wrong = right.clone();
    wrong.embedding[5] += 2.0 * right.embedding_bound;
    wrong.record(Gguf::open(&file).unwrap()).unwrap();
    let server = Server::start_on(&file, &[]);
    let text = "the model failed its self-test on this machine; the server's log says how";
    assert_eq!(server.post("/v1/chat/completions", &body).refusal(), (503, text.into()));
    assert_eq!(readiness(&server), (503, "not ready: failed its self-test".into()));
    // What it wrote is read a moment later.
    let begun = Instant::now();
    while !server.log().contains("embedding value 5: expected ") {
        assert!(begun.elapsed() < PATIENCE, "{}", server.log());
        std::thread::sleep(Duration::from_millis(10));
    }
    // Whoever knows better says so.
    let server = Server::start_on(&file, &["--skip-self-test"]);
    assert_eq!(server.post("/v1/chat/completions", &body).status, 200);
}

#[test]
fn metrics_on_a_listener_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys");
    fs::write(&file, "phone-0123456789\n").unwrap();
    let keys = ["--api-keys", file.to_str().unwrap()];
    let with_key = head("GET", "/metrics", &["x-api-key: phone-0123456789"], None);
    let server = Server::start(Kind::Story, &keys);
    assert_eq!((server.get("/metrics", &[]).status, server.exchange(&with_key).status), (401, 200));

    let server = Server::start(Kind::Story, &[&keys[..], &["--metrics-listen", "127.0.0.1:0"]].concat());
    assert_eq!((server.get("/metrics", &[]).status, server.exchange(&with_key).status), (401, 404));
    let log = server.log();
    let address = log.lines().find_map(|line| line.strip_prefix("metrics at http://"));
    let address = address.unwrap_or_else(|| panic!("{log}")).trim_end_matches("/metrics");
    let address = address.parse().unwrap();
    let observe = |path: &str| exchange(address, &head("GET", path, &[], None));
    let metrics = observe("/metrics").body;
    assert!(
        metrics.contains("\nowlet_ready 1\n") && metrics.contains("\nowlet_model_loaded 1\n"),
        "{metrics}"
    );
    assert_eq!(observe("/readyz").body, "ready: loaded\n");
    for path in ["/v1/models", "/api/tags", "/nothing"] {
        assert_eq!(observe(path).status, 404, "{path}");
    }
}
