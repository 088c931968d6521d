//! Peers that send nothing, too much, or nonsense: each gets a 4xx or a closed connection, and nobody else notices.

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Reply, Server, head, post};
use crate::models::{Kind, STORY};

const CHAT: &str = "/v1/chat/completions";

fn asks(server: &Server) {
    let body = json!({"messages": [{"role": "user", "content": "Q?"}]});
    assert_eq!(server.chat(&body)["choices"][0]["message"]["content"], STORY);
}

#[test]
fn slow_peers_are_let_go() {
    let server = Server::start(Kind::Story, &["--peer-timeout", "1", "--slots", "1", "--queue", "0"]);
    let body = json!({"messages": [{"role": "user", "content": "Q?"}]}).to_string();
    let half = head("POST", CHAT, &[], Some(body.len()));
    let started = Instant::now();
    // Nothing; half a head; half a body. None of them takes the one place there is.
    let mut slow: Vec<_> = [&b""[..], &half[..20], &[&half[..], &body.as_bytes()[..9]].concat()]
        .into_iter()
        .map(|bytes| {
            let mut stream = server.connect();
            stream.write_all(bytes).unwrap();
            stream
        })
        .collect();
    asks(&server);
    let statuses: Vec<_> = slow.iter_mut().map(|stream| Reply::read(stream).status).collect();
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    assert!(matches!(statuses[..2], [0 | 408, 0 | 408]) && statuses[2] == 408, "{statuses:?}");
    asks(&server);
}

/// Clients that do not read their streams, of more bytes than the system's buffers hold, do not hold the one slot.
#[test]
fn who_does_not_read_holds_nothing() {
    let server = Server::start(Kind::Endless, &["--peer-timeout", "100", "--slots", "1"]);
    let song = |n: u32, n_tokens: u32| {
        let messages = json!([{"role": "user", "content": "Sing!"}]);
        // With so much beside each token that no buffer holds it.
        let n_top = if n > 1 { 20 } else { 0 };
        json!({"messages": messages, "max_tokens": n_tokens, "n": n, "stream": n > 1, "logprobs": true, "top_logprobs": n_top})
    };
    let deaf: Vec<_> = (0..3)
        .map(|_| {
            let mut stream = server.connect();
            stream.write_all(&post(CHAT, &song(8, 1900).to_string(), &[])).unwrap();
            stream
        })
        .collect();
    // Until the first of them has to wait for its client, or is through.
    std::thread::sleep(Duration::from_secs(3));
    let started = Instant::now();
    assert_eq!(server.chat(&song(1, 2))["choices"][0]["message"]["content"], "la li");
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    drop(deaf);
}

#[test]
fn too_much_is_refused_before_it_is_read() {
    let server = Server::start(Kind::Story, &["--max-body", "100kB"]);
    let large = format!("{{\"user\": \"{}\"}}", "x".repeat(200_000));
    let started = Instant::now();
    // Only said; said and sent; sent in chunks without saying.
    let chunks = [
        head("POST", CHAT, &["Transfer-Encoding: chunked"], None),
        format!("30d40\r\n{}\r\n0\r\n\r\n", &large[..200_000]).into(),
    ];
    for bytes in [head("POST", CHAT, &[], Some(1 << 40)), post(CHAT, &large, &[]), chunks.concat()] {
        let reply = server.exchange(&bytes);
        assert!(matches!(reply.status, 413 | 0), "{reply:?}");
    }
    assert!(started.elapsed() < Duration::from_secs(20));
    let long_head = [
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: ".to_vec(),
        vec![b'x'; 200_000],
        b"\r\n\r\n".to_vec(),
    ]
    .concat();
    assert!(matches!(server.exchange(&long_head).status, 431 | 400 | 0));
    let many: Vec<String> = (0..500).map(|n| format!("x{n}: y")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(matches!(server.get("/livez", &many).status, 431 | 400 | 0));
    asks(&server);
}
