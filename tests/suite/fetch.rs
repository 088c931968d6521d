//! Pictures by address: what is fetched, from whom, and how much of it.

use std::time::{Duration, Instant};

use owlet::fetch::{Fetching, Policy, Step, fetch};
use tempfile::TempDir;

use crate::hub::server::{Act, Asked, Hub};
use crate::program::{Ran, owlet, owlet_with};

fn server(policy: impl Fn(&Asked) -> Act + Send + Sync + 'static) -> Hub {
    let hub = Hub::of(TempDir::new().unwrap().path());
    hub.act(policy);
    hub
}

fn said(body: &[u8]) -> Act {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    Act::Say([head.as_bytes(), body].concat())
}

#[test]
fn bytes_come_through_redirects_up_to_three() {
    let hub = server(|asked| match asked.path.trim_start_matches('/').parse::<u32>() {
        Ok(0) => said(b"picture"),
        Ok(n) => Act::To(format!("/{}", n - 1)),
        Err(_) => Act::Refuse(404, ""),
    });
    let at = |path: &str| fetch(&format!("{}/{path}", hub.address), &Policy::loopback());
    for n in 0..=3 {
        assert_eq!(at(&n.to_string()).unwrap(), b"picture", "{n} redirects");
    }
    let text = at("4").unwrap_err().to_string();
    assert_eq!(text, format!("{}/4: redirects more than 3 times", hub.address));
    let text = at("x").unwrap_err().to_string();
    assert_eq!(text, format!("{}/x: the server answers 404", hub.address));
}

/// The addresses are this machine's own by other names, and a server listens there: a hole in the guard would be seen, and
/// would ask nobody else.
#[test]
fn a_redirect_is_judged_like_the_first_address() {
    let inner = server(|_| said(b"a secret"));
    let port = inner.address.rsplit(':').next().unwrap().to_string();
    for refused in ["0.0.0.0", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::]", "[::127.0.0.1]"] {
        let to = format!("http://{refused}:{port}/");
        let hub = server(move |_| Act::To(to.clone()));
        let text = fetch(&hub.address, &Policy::loopback()).unwrap_err().to_string();
        let expected =
            format!("{}: {refused} is out of bounds: owlet fetches from public addresses only", hub.address);
        assert_eq!(text, expected);
    }
    assert_eq!(inner.asked().len(), 0);
    assert_eq!(fetch(&inner.address, &Policy::loopback()).unwrap(), b"a secret");
}

#[test]
fn bytes_and_time_are_bounded() {
    let hub = server(|asked| match asked.path.as_str() {
        "/announced" => Act::Say(b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n".to_vec()),
        "/unannounced" => Act::Say([&b"HTTP/1.1 200 OK\r\n\r\n"[..], &[b'x'; 1001]].concat()),
        "/exact" => said(&[b'x'; 1000]),
        "/short" => Act::Say(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\nabc".to_vec()),
        "/none" => Act::Say(Vec::new()),
        _ => Act::Stall(0),
    });
    let mut policy = Policy::loopback();
    (policy.max_bytes, policy.patience) = (1000, Duration::from_millis(500));
    let at = |path: &str| fetch(&format!("{}{path}", hub.address), &policy);
    let text = |path: &str| at(path).unwrap_err().to_string().replace(&hub.address, "");
    for path in ["/announced", "/unannounced"] {
        assert_eq!(text(path), format!("{path}: bytes: at most 1000, found 1001"));
    }
    assert_eq!(at("/exact").unwrap().len(), 1000);
    for path in ["/short", "/none"] {
        assert!(
            text(path).starts_with(&format!("{path}: the server cannot be reached or breaks off (")),
            "{}",
            text(path)
        );
    }
    let since = Instant::now();
    assert_eq!(text("/Open/x/resolve/y/z"), "/Open/x/resolve/y/z: the server answers 404");
    let slow = server(|_| Act::Pause(Duration::from_secs(4)));
    let error = fetch(&slow.address, &policy).unwrap_err().to_string();
    assert_eq!(error, format!("{}: not there within 0.5 s", slow.address));
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
}

/// What a line of progress is made of, and the end behind it.
#[test]
fn a_fetch_is_seen_to_go_on() {
    let body = vec![b'x'; 100_000];
    let hub = server(move |asked| match asked.path.as_str() {
        "/whole" => said(&body),
        _ => Act::Refuse(404, ""),
    });
    let steps = |path: &str| {
        let fetching = Fetching::begin(&format!("{}{path}", hub.address), &Policy::loopback()).unwrap();
        let mut seen = Vec::new();
        loop {
            match fetching.next_within(Duration::from_secs(60)).unwrap() {
                Step::Bytes(n, n_all) => seen.push((n, n_all)),
                Step::Done(fetched) => return (seen, fetched),
            }
        }
    };
    let (seen, fetched) = steps("/whole");
    assert_eq!(fetched.unwrap().len(), 100_000);
    assert!(
        seen.len() > 2 && seen.is_sorted() && seen.iter().all(|(_, n_all)| *n_all == Some(100_000)),
        "{seen:?}"
    );
    let (seen, fetched) = steps("/none");
    assert_eq!(
        (seen.len(), fetched.unwrap_err().to_string()),
        (0, format!("{}/none: the server answers 404", hub.address))
    );
}

#[test]
fn the_program_fetches_what_it_may() {
    let hub = server(|_| said(b"picture"));
    let local = hub.address.replace("http:", "https:");
    let private = |host: &str| format!("{host} is out of bounds: owlet fetches from public addresses only");
    let refused = || {
        "not fetched from the network; start owlet with --allow-url, or save the picture and give its path"
            .to_string()
    };
    let cases: [(&str, &[&str], String); 8] = [
        ("https://pictures.invalid/a.png", &[], refused()),
        ("HTTP://pictures.invalid/a.png", &[], refused()),
        ("http://pictures.invalid/a.png", &["--allow-url"], "expected an https address".into()),
        (
            "https://a:b@pictures.invalid/",
            &["--allow-url"],
            "expected an address without a name and a password in it".into(),
        ),
        (&local, &["--allow-url"], private("127.0.0.1")),
        ("https://localhost/", &["--allow-url"], private("localhost")),
        ("https://[::ffff:127.0.0.1]/", &["--allow-url"], private("[::ffff:127.0.0.1]")),
        ("https://2130706433/", &["--allow-url"], private("2130706433")),
    ];
    for (url, flags, problem) in cases {
        for command in [&["run", "Who?"][..], &["chat", "-q"]] {
            let Ran { code, err, .. } = owlet(&[command, &["--image", url], flags].concat());
            assert_eq!((code, err), (Some(1), format!("owlet: {url}: {problem}\n")), "{command:?}");
        }
        // typed into the chat
        let lines = format!("/image {url}\n");
        let Ran { code, err, .. } = owlet_with(&[&["chat", "-q"], flags].concat(), lines.as_bytes());
        assert_eq!((code, err), (Some(1), format!("owlet: {url}: {problem}\n")));
    }
    assert_eq!(hub.asked().len(), 0);
}
