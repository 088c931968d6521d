//! What the log holds of questions and answers where an operator asks for them; entry.rs has that it holds nothing otherwise.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Server, base64, exchange, post};
use crate::models::Kind;
use crate::program::picture;

/// The lines of `server`'s log, once `n` of them are about answers.
fn events(server: &Server, n: usize) -> Vec<Value> {
    let begun = Instant::now();
    loop {
        let lines: Vec<Value> =
            server.log().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        if lines.iter().filter(|line| line["event"] == "answer").count() >= n {
            return lines;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{lines:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn questions_and_answers_are_logged_where_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let (keys, key) = (dir.path().join("keys"), "phone-0123456789");
    fs::write(&keys, key).unwrap();
    let server = Server::start(Kind::Story, &["--log-prompts", "--api-keys", keys.to_str().unwrap()]);
    let file = fs::read(picture("transcript.png", 30, 20, [9, 8, 7, 255])).unwrap();
    let url = format!("data:image/png;base64,{}", base64(&file));
    let content = json!([{"type": "text", "text": "A \u{9b}secret?"}, {"type": "image_url", "image_url": {"url": url}}]);
    let messages = json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": content}]);
    let bearer = format!("Authorization: Bearer {key}");
    let ask = |path: &str, body: Value| {
        let reply = exchange(server.address, &post(path, &body.to_string(), &[&bearer]));
        assert_eq!(reply.status, 200, "{reply:?}");
        reply
    };
    let whole = ask("/v1/chat/completions", json!({"messages": messages})).json();
    ask("/v1/chat/completions", json!({"messages": messages, "stream": true}));
    let further = ask("/v1/completions", json!({"prompt": ["Once", "Twice"], "max_tokens": 3})).json();

    let events = events(&server, 4);
    let of = |event: &str| events.iter().filter(|line| line["event"] == event).collect::<Vec<_>>();
    assert_eq!(of("warning").len(), 1);
    assert!(of("warning")[0]["text"].as_str().unwrap().starts_with("--log-prompts: "));
    let sha256: String = Sha256::digest(&file).iter().map(|byte| format!("{byte:02x}")).collect();
    let shown = json!([
        {"text": "A \u{9b}secret?"},
        {"picture": {"bytes": file.len(), "sha256": sha256}},
    ]);
    let questions = of("question");
    for asked in &questions[..2] {
        assert_eq!(asked["system"], "Be brief.");
        assert_eq!(asked["messages"], json!([{"role": "user", "content": shown}]));
        assert_eq!(asked["key"], 0);
    }
    let prompts: Vec<_> =
        questions[2..].iter().map(|asked| &asked["messages"][0]["content"][0]["text"]).collect();
    assert_eq!(prompts, ["Once", "Twice"]);
    let said: Vec<_> = of("answer").iter().map(|line| &line["text"]).collect();
    let answer = &whole["choices"][0]["message"]["content"];
    assert_eq!(said, [answer, answer, &further["choices"][0]["text"], &further["choices"][1]["text"]]);
    assert_eq!(questions[0]["id"], of("answer")[0]["id"]);

    let log = server.log();
    assert!(!log.contains(key) && !log.contains(&base64(&file)[..40]), "{log}");
    assert!(!log.contains('\u{9b}'), "{log:?}");
}
