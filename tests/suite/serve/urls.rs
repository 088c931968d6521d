//! Pictures at addresses: the server runs in this process, with the policy of tests, which is http to this machine; everything else is
//! as the program has it.

use std::net::SocketAddr;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ggml::Cancel;
use owlet::engine::{CacheOptions, Engine, Loaded, Options as EngineOptions, Speculation};
use owlet::fetch::{Hosts, Policy};
use owlet::model::KvType;
use owlet::serve::{Limits, Options, Source, serve};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Reply, Server, data_uri, post};
use crate::hub::server::{Act, Asked, Hub};
use crate::models::{Kind, STORY, path};

/// A server in this process; ended and waited for when it is dropped.
struct Inner {
    address: SocketAddr,
    stop: Cancel,
    thread: Option<JoinHandle<()>>,
}

impl Inner {
    fn start(policy: Policy) -> Inner {
        let options = EngineOptions {
            n_ctx: 2048,
            n_slots: 2,
            kv_type: KvType::F32,
            cache: CacheOptions::default(),
            speculation: Speculation::Off,
            low_memory: false,
        };
        let open = move || Engine::start(Loaded::open(Some(&path(Kind::Story)), 1)?, options.clone());
        let source = Source { open: Box::new(open), self_test: None };
        let limits = Limits {
            n_connections: 64,
            n_queued: 8,
            n_of_key: 8,
            max_body_bytes: 1 << 20,
            max_pixels: 10_000,
            n_pictures: 4,
            max_tokens: 100,
            answer: Duration::from_secs(60),
            peer: Duration::from_secs(30),
            drain: Duration::from_secs(5),
        };
        let options = Options { urls: Some(policy), ..Options::new(([127, 0, 0, 1], 0).into(), limits) };
        let (stop, (tell, told)) = (Cancel::new(), channel());
        let end = stop.clone();
        let thread = std::thread::spawn(move || {
            serve(source, options, &end, |_, addresses| tell.send(addresses.server).unwrap()).unwrap();
        });
        Inner { address: told.recv().unwrap(), stop, thread: Some(thread) }
    }

    fn post(&self, path: &str, body: &Value) -> Reply {
        use std::io::Write;
        let mut stream = std::net::TcpStream::connect(self.address).unwrap();
        stream.write_all(&post(path, &body.to_string(), &[])).unwrap();
        Reply::read(&mut stream)
    }

    fn ask(&self, url: &str) -> Reply {
        let content =
            json!([{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "Q?"}]);
        self.post("/v1/chat/completions", &json!({"messages": [{"role": "user", "content": content}]}))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
        self.thread.take().unwrap().join().unwrap();
    }
}

fn policy(hosts: &[&str]) -> Policy {
    let mut policy = Policy::loopback();
    (policy.hosts, policy.patience) = (Some(Hosts::new(hosts).unwrap()), Duration::from_secs(2));
    policy
}

fn site(act: impl Fn(&Asked) -> Act + Send + Sync + 'static) -> Hub {
    let hub = Hub::of(TempDir::new().unwrap().path());
    hub.act(act);
    hub
}

fn said(body: &[u8]) -> Act {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    Act::Say([head.as_bytes(), body].concat())
}

fn png(width: u32, shade: u8) -> Vec<u8> {
    data_uri(width, 20, shade);
    let path = crate::program::picture(
        &format!("serve-{width}x20-{shade}.png"),
        width,
        20,
        [shade, 255 - shade, 7, 255],
    );
    std::fs::read(path).unwrap()
}

#[test]
fn pictures_of_hosts_that_are_named() {
    let (small, huge) = (png(40, 5), png(600, 6));
    let elsewhere = site(|_| Act::Say(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc".to_vec()));
    let away = elsewhere.address.replace("127.0.0.1", "localhost");
    let mapped = elsewhere.address.replace("127.0.0.1", "[::ffff:127.0.0.1]");
    let hub = site(move |asked| match asked.path.as_str() {
        "/a.png" => said(&small),
        "/huge.png" => said(&huge),
        "/to" => Act::To("/a.png".into()),
        "/away" => Act::To(format!("{away}/a.png")),
        "/mapped" => Act::To(format!("{mapped}/a.png")),
        "/text" => said(b"no picture at all"),
        "/slow" => Act::Pause(Duration::from_secs(60)),
        "/long" => Act::Say(b"HTTP/1.1 200 OK\r\nContent-Length: 99000000\r\n\r\n".to_vec()),
        _ => Act::Refuse(404, ""),
    });
    let server = Inner::start(policy(&["127.0.0.1", "*.example.org"]));
    let url = |path: &str| format!("{}{path}", hub.address);
    for path in ["/a.png", "/to"] {
        let whole = server.ask(&url(path)).json();
        assert_eq!(whole["choices"][0]["message"]["content"], STORY, "{whole}");
        assert_eq!(
            (&whole["owlet"]["images"][0]["width"], &whole["owlet"]["images"][0]["format"]),
            (&json!(40), &json!("PNG"))
        );
    }
    // In each dialect that has addresses, and for embeddings.
    let source = json!({"type": "image", "source": {"type": "url", "url": url("/a.png")}});
    let message = json!({"max_tokens": 20, "messages": [{"role": "user", "content": [source]}]});
    assert_eq!(server.post("/v1/messages", &message).json()["owlet"]["images"][0]["width"], 40);
    let both = json!({"input": [{"image_url": url("/a.png")}, data_uri(40, 20, 5)]});
    let rows = server.post("/v1/embeddings", &both).json();
    assert_eq!(rows["data"][0]["embedding"], rows["data"][1]["embedding"]);

    let n_before = hub.asked().len();
    let place = "messages[0].content[0].image_url";
    let out = |host: &str, why: &str| format!("{host} is out of bounds: {why}");
    let unnamed = "--allow-url does not name it";
    for (url, problem) in [
        (url("/away"), out("localhost", unnamed)),
        (url("/mapped"), out("[::ffff:127.0.0.1]", unnamed)),
        (url("/a.png").replace("127.0.0.1", "localhost"), out("localhost", unnamed)),
        ("http://evil.example/a.png".into(), out("evil.example", unnamed)),
        ("http://169.254.169.254/latest".into(), out("169.254.169.254", unnamed)),
        ("https://127.0.0.1/a.png".into(), "expected an https address".into()),
        (url("/text"), "no picture format is known".into()),
        (url("/huge.png"), "pixels of a picture: at most 10000, found 12000".into()),
        (url("/none"), "the server answers 404".into()),
        (url("/long"), "bytes: at most 1048576, found 99000000".into()),
        (url("/slow"), "not there within 2".into()),
    ] {
        let reply = server.ask(&url);
        let error = &reply.json()["error"];
        assert_eq!((reply.status, &error["param"]), (400, &json!(place)), "{url}: {reply:?}");
        assert!(error["message"].as_str().unwrap().contains(&problem), "{url}: {reply:?}");
    }
    assert_eq!(elsewhere.asked().len(), 0, "nobody was asked who is not named");
    assert!(hub.asked().len() > n_before);
}

/// Servers that do not answer keep only those waiting who named them; and all pictures of a request have the time of one.
#[test]
fn slow_servers_stop_nobody() {
    let hub = site(|_| Act::Pause(Duration::from_secs(60)));
    let server = std::sync::Arc::new(Inner::start(policy(&["127.0.0.1"])));
    let started = Instant::now();
    let asking: Vec<_> = (0..4)
        .map(|n| {
            let (server, address) = (server.clone(), hub.address.clone());
            std::thread::spawn(move || {
                let picture =
                    |k| json!({"type": "image_url", "image_url": {"url": format!("{address}/{n}-{k}.png")}});
                let content: Vec<_> = (0..4).map(picture).collect();
                let body = json!({"messages": [{"role": "user", "content": content}]});
                server.post("/v1/chat/completions", &body).status
            })
        })
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    let asked = Instant::now();
    assert_eq!(server.ask(&data_uri(9, 9, 1)).status, 200);
    assert!(asked.elapsed() < Duration::from_millis(1500), "{:?}", asked.elapsed());
    assert_eq!(asking.into_iter().map(|asking| asking.join().unwrap()).collect::<Vec<_>>(), [400; 4]);
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
}

/// In the program as it is: nothing unless a host is named, https alone, and no private address even then.
#[test]
fn the_program_asks_nobody_here() {
    let hub = site(|_| said(b"a secret"));
    let ask = |server: &Server, url: &str| {
        let content = json!([{"type": "image_url", "image_url": {"url": url}}]);
        let reply =
            server.post("/v1/chat/completions", &json!({"messages": [{"role": "user", "content": content}]}));
        assert_eq!(reply.status, 400);
        reply.json()["error"]["message"].as_str().unwrap().to_string()
    };
    let https = hub.address.replace("http:", "https:");
    let closed = Server::start(Kind::Story, &[]);
    assert!(ask(&closed, &https).contains("this server fetches nothing"));
    let open = Server::start(Kind::Story, &["--allow-url", "127.0.0.1,localhost,*.example.org"]);
    let out = "is out of bounds: owlet fetches from public addresses only";
    for (url, problem) in [
        (https.clone(), out),
        (https.replace("127.0.0.1", "localhost"), out),
        (hub.address.clone(), "expected an https address"),
        ("https://a:b@127.0.0.1/".into(), "without a name and a password"),
        ("https://0.0.0.0/".into(), "--allow-url does not name it"),
    ] {
        let message = ask(&open, &url);
        assert!(message.contains(problem), "{url}: {message}");
    }
    assert_eq!(hub.asked().len(), 0);
    let ran = crate::program::owlet(&["serve", "--allow-url", "https://example.org"]);
    assert!(ran.code == Some(2) && ran.err.contains("--allow-url: expected names of hosts"), "{ran:?}");
}
