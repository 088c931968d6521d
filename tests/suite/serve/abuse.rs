//! Peers that send nothing, too much, or nonsense: each gets a 4xx or a closed connection, and nobody else notices.

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Reply, Server, data_uri, head, post};
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
        json!({"messages": messages, "max_tokens": n_tokens, "n": n, "stream": n > 1})
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

/// Good requests with bytes changed, left out, doubled, or numbers made extreme.
#[test]
fn mutated_requests_are_answered_or_refused() {
    const N_REQUESTS: usize = 1500;
    let server =
        Server::start(Kind::Story, &["--max-pixels", "100000", "--max-body", "1MB", "--peer-timeout", "1"]);
    let picture = json!({"type": "image_url", "image_url": {"url": data_uri(12, 9, 5), "detail": "auto"}});
    let good = [
        json!({"model": "default", "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [picture, {"type": "text", "text": "What is it? 圆"}]}], "max_tokens": 4}),
        json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}], "temperature": 1.5, "top_p": 0.9, "seed": 12, "stop": ["x"], "max_tokens": 3, "stream": true, "stream_options": {"include_usage": true}, "n": 2}),
    ];
    let extremes = [
        "-1",
        "0",
        "1e308",
        "18446744073709551616",
        "-9223372036854775809",
        "1.5",
        "null",
        "\"\"",
        "[]",
        "{}",
        "true",
        "NaN",
    ];
    let mut state = 20u64;
    let mut below = |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    };
    let mut by_class = [0; 6];
    for n in 0..N_REQUESTS {
        let mut body = good[below(good.len())].to_string().into_bytes();
        for _ in 0..=below(3) {
            let at = below(body.len());
            match below(6) {
                0 => body[at] = below(256) as u8,
                1 => drop(body.drain(at..(at + 1 + below(9)).min(body.len() - 1).max(at))),
                2 => body.truncate(at.max(1)),
                3 => body = [&body[..at], &b"[".repeat(1 + below(400))[..], &body[at..]].concat(),
                4 => body = [&body[..at], &body[at / 2..at], &body[at..]].concat(),
                _ => {
                    // The value of some field.
                    let colon = body[at..].iter().position(|&b| b == b':').map_or(at, |p| at + p + 1);
                    let end = body[colon..]
                        .iter()
                        .position(|&b| b == b',' || b == b'}')
                        .map_or(body.len(), |p| colon + p);
                    let value = extremes[below(extremes.len())].as_bytes();
                    body = [&body[..colon], value, &body[end..]].concat();
                }
            }
        }
        let mut bytes = [head("POST", CHAT, &[], Some(body.len())), body.clone()].concat();
        if below(8) == 0 {
            let at = below(bytes.len().min(120));
            bytes[at] = below(256) as u8;
        }
        let reply = server.exchange(&bytes);
        assert!(reply.status < 500, "request {n}: {reply:?} for {}", String::from_utf8_lossy(&body));
        by_class[usize::from(reply.status / 100)] += 1;
    }
    assert!(by_class[2] > 20 && by_class[4] > 500, "{by_class:?}");
    assert!(!server.log().contains("panicked"), "{}", server.log());
    asks(&server);
}
