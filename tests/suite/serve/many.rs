//! Many at once, those that leave, and the end of the program.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Reply, Server, data_uri, post};
use crate::models::Kind;

/// A question about a picture that differs from the others.
fn about(n: u8) -> Value {
    let picture = json!({"type": "image_url", "image_url": {"url": data_uri(30, 20, n)}});
    let text = json!({"type": "text", "text": format!("What is it? {}", "so ".repeat(usize::from(n) * 7))});
    json!({"messages": [{"role": "user", "content": [picture, text]}], "max_tokens": 24, "temperature": 0})
}

fn song(n_tokens: u32) -> Value {
    json!({"messages": [{"role": "user", "content": "Sing!"}], "max_tokens": n_tokens, "stream": true})
}

fn with_picture(streams: bool, n_tokens: u32) -> Value {
    let picture = json!({"type": "image_url", "image_url": {"url": data_uri(9, 9, 3)}});
    json!({"messages": [{"role": "user", "content": [picture]}], "max_tokens": n_tokens, "stream": streams})
}

/// In slots beside each other, with others' pictures and prompts in between, each answer is what it is alone.
#[test]
fn many_are_answered_as_one_is() {
    let alone = Server::start(Kind::Random, &["--slots", "1"]);
    let said = |server: &Server, n: u8| server.chat(&about(n))["choices"][0]["message"]["content"].clone();
    let expected: Vec<_> = (0..8).map(|n| said(&alone, n)).collect();
    assert!(expected.iter().any(|text| *text != expected[0]), "{expected:?}");
    let crowd = Arc::new(Server::start(Kind::Random, &["--slots", "3"]));
    for round in 0..2 {
        let asking: Vec<_> = (0..8)
            .map(|n| {
                let crowd = Arc::clone(&crowd);
                std::thread::spawn(move || crowd.chat(&about(n))["choices"][0]["message"]["content"].clone())
            })
            .collect();
        let found: Vec<_> = asking.into_iter().map(|asking| asking.join().unwrap()).collect();
        assert_eq!(found, expected, "round {round}");
    }
}

#[test]
fn two_hundred_clients_get_answers_or_429() {
    let server = Arc::new(Server::start(Kind::Endless, &["--slots", "2", "--queue", "4"]));
    let asking: Vec<_> = (0..200)
        .map(|_| {
            let server = Arc::clone(&server);
            std::thread::spawn(move || {
                let body = json!({"messages": [{"role": "user", "content": "Sing!"}], "max_tokens": 200});
                server.post("/v1/chat/completions", &body)
            })
        })
        .collect();
    let replies: Vec<Reply> = asking.into_iter().map(|asking| asking.join().unwrap()).collect();
    let n_with = |status: u16| replies.iter().filter(|reply| reply.status == status).count();
    let (n_answered, n_busy) = (n_with(200), n_with(429));
    assert!(n_answered >= 6 && n_answered + n_busy == 200, "{n_answered} answered, {n_busy} sent away");
    let busy = replies.iter().find(|reply| reply.status == 429);
    if let Some(busy) = busy {
        assert_eq!(busy.headers["retry-after"], "5");
        assert_eq!(busy.json()["error"]["type"], "rate_limit_error");
    }
}

/// Two hundred at once: some listen, some do not, some close one side or both, some never finish what they send. All who listen get
/// an answer or 429, and nothing is left of the others.
#[cfg(target_os = "linux")]
#[test]
fn two_hundred_of_all_kinds_leave_nothing_behind() {
    let flags = ["--slots", "2", "--queue", "4", "--peer-timeout", "2"];
    let server = Arc::new(Server::start(Kind::Endless, &flags));
    let answered = |server: &Server| {
        let body = json!({"messages": [{"role": "user", "content": "Sing!"}], "max_tokens": 3});
        let reply = server.post("/v1/chat/completions", &body);
        reply.status == 200 && reply.json()["choices"][0]["message"]["content"] == "la li lo"
    };
    assert!(answered(&server));
    let n_before = server.n_files();
    let asking: Vec<_> = (0..200)
        .map(|n| {
            let server = Arc::clone(&server);
            std::thread::spawn(move || {
                let mut body = song(100);
                body["stream"] = json!(n % 2 == 0);
                let bytes = post("/v1/chat/completions", &body.to_string(), &[]);
                let mut stream = server.connect();
                match n % 5 {
                    // Listens.
                    0 | 1 => {
                        stream.write_all(&bytes).unwrap();
                        return Some(Reply::read(&mut stream).status);
                    }
                    // Does not, and stays for a while.
                    2 => {
                        stream.write_all(&bytes).unwrap();
                        std::thread::sleep(Duration::from_secs(3));
                    }
                    // Has nothing more to say, or is gone.
                    3 => {
                        stream.write_all(&bytes).unwrap();
                        stream.shutdown(if n % 2 == 0 { Shutdown::Write } else { Shutdown::Both }).unwrap();
                    }
                    // Never comes to an end.
                    _ => {
                        stream.write_all(&bytes[..bytes.len() - 5]).unwrap();
                        assert!(matches!(Reply::read(&mut stream).status, 408 | 429));
                    }
                }
                None
            })
        })
        .collect();
    let statuses: Vec<u16> = asking.into_iter().filter_map(|asking| asking.join().unwrap()).collect();
    let n_with = |status: u16| statuses.iter().filter(|found| **found == status).count();
    assert!(n_with(200) > 0 && n_with(200) + n_with(429) == 80, "{statuses:?}");
    let begun = Instant::now();
    while !answered(&server) || server.n_files() > n_before {
        assert!(begun.elapsed() < Duration::from_secs(60), "{} files, {n_before} before", server.n_files());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

/// With one slot, what somebody began and left must not keep the next one waiting: the whole song would take minutes.
#[test]
fn who_leaves_is_not_sung_to() {
    let server = Server::start(Kind::Slow, &["--slots", "1"]);
    // In the middle of a stream, of a picture, of a whole answer; leaving at once, or with the reading side still open.
    for (body, half) in [
        (song(1500), false),
        (with_picture(true, 1500), false),
        (with_picture(false, 1500), false),
        (song(1500), true),
    ] {
        let mut stream = server.connect();
        stream.write_all(&post("/v1/chat/completions", &body.to_string(), &[])).unwrap();
        if body["stream"] == true {
            stream.read_exact(&mut [0; 300]).unwrap();
        } else {
            std::thread::sleep(Duration::from_millis(300));
        }
        if half {
            stream.shutdown(Shutdown::Write).unwrap();
        } else {
            drop(stream);
        }
        let started = Instant::now();
        let next = json!({"messages": [{"role": "user", "content": "Sing!"}], "max_tokens": 3});
        assert_eq!(server.chat(&next)["choices"][0]["message"]["content"], "la li lo");
        assert!(started.elapsed() < Duration::from_secs(20), "{:?} behind {body}", started.elapsed());
    }
    let metrics = server.get("/metrics", &[]).body;
    // A song may have been over before its client was gone.
    let n = metrics.lines().find_map(|line| line.strip_prefix("owlet_cancelled_total "));
    assert!(n.is_some_and(|n| ["2", "3", "4"].contains(&n)), "{metrics}");
}

/// SIGTERM: no further connections, and what is under way is said to its end.
#[cfg(unix)]
#[test]
fn what_is_under_way_is_done_before_the_end() {
    let mut server = Server::start(Kind::Slow, &["--drain", "120"]);
    let mut lines = server.stream(&with_picture(true, 3));
    assert!(lines.any(|line| line.starts_with(": picture 1: step ")));
    server.terminate();
    let rest: Vec<String> = lines.collect();
    assert!(rest.iter().any(|line| line == "data: [DONE]"), "{:?}", rest.last());
    assert_eq!(server.ended(), Some(0));
    assert!(std::net::TcpStream::connect(server.address).is_err());
    assert!(server.log().contains("\"leaving\"") && !server.log().contains("cut off"), "{}", server.log());
}

/// What does not end in time is cut off, and its client is told.
#[cfg(unix)]
#[test]
fn what_takes_too_long_is_cut_off() {
    let mut server = Server::start(Kind::Slow, &["--drain", "1", "--slots", "1"]);
    let mut lines = server.stream(&with_picture(true, 3));
    assert!(lines.any(|line| line.starts_with(": picture 1: step ")));
    // One that waits for the slot.
    let waiting = server.stream(&song(3));
    server.metrics_with("owlet_queued 1");
    let started = Instant::now();
    server.terminate();
    for lines in [lines.collect::<Vec<_>>(), waiting.collect()] {
        assert!(lines.iter().any(|line| line.contains("this server is about to end")), "{lines:?}");
    }
    assert_eq!(server.ended(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    assert!(server.log().contains("\"cut off\""), "{}", server.log());
}
