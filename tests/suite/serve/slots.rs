//! Slots that go to files and come back, pictures included; and whose slots are whose.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Reply, Server, data_uri, exchange, head, post};
use crate::models::{Kind, path};
use crate::program::owlet;

fn question(shade: u8, text: &str) -> Value {
    let picture = json!({"type": "image_url", "image_url": {"url": data_uri(30, 20, shade)}});
    let content = json!([picture, {"type": "text", "text": text}]);
    json!({"messages": [{"role": "user", "content": content}], "max_tokens": 12, "temperature": 0})
}

/// The same conversation, one turn further.
fn goes_on(body: &Value, answer: &str) -> Value {
    let mut next = body.clone();
    let messages = next["messages"].as_array_mut().unwrap();
    messages.push(json!({"role": "assistant", "content": answer}));
    messages.push(json!({"role": "user", "content": "And why?"}));
    next
}

fn said(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"].as_str().unwrap()
}

fn n_cached(answer: &Value) -> u64 {
    answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap()
}

fn act(server: &Server, slot: u32, action: &str, name: &str) -> Reply {
    let body = if name.is_empty() { json!({}) } else { json!({"filename": name}) };
    server.post(&format!("/slots/{slot}?action={action}"), &body)
}

fn done(reply: Reply) -> Value {
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

fn start(dir: &Path, flags: &[&str]) -> Server {
    let dir = ["--slot-dir", dir.to_str().unwrap(), "--image-cache", "off", "--slots", "2"];
    Server::start(Kind::Random, &[&dir[..], flags].concat())
}

#[test]
fn a_conversation_with_a_picture_outlives_its_server() {
    let dir = tempfile::tempdir().unwrap();
    let slots = dir.path().join("slots");
    let body = question(7, "What is it?");
    let (next, expected, saved);
    {
        let server = start(&slots, &[]);
        let held = |slot: usize| done(server.get("/slots", &[]))[slot].clone();
        assert_eq!(held(1)["can_be_saved"], false);
        assert_eq!(
            act(&server, 1, "save", "talk").refusal(),
            (400, "slot 1: expected a conversation, found none".into())
        );
        let first = server.chat(&body);
        next = goes_on(&body, said(&first));
        let listed = held(0);
        assert_eq!(
            (&listed["state"], &listed["n_pictures"], &listed["can_be_saved"]),
            (&json!("idle"), &json!(1), &json!(true)),
            "{listed}"
        );
        saved = done(act(&server, 0, "save", "talk"));
        assert_eq!(saved["n_saved"], listed["n_held"]);
        assert_eq!(saved["n_written"].as_u64(), Some(fs::metadata(slots.join("talk")).unwrap().len()));
        expected = server.chat(&next);
        assert!(n_cached(&expected) > 0, "{expected}");
        let erased = done(act(&server, 0, "erase", ""));
        assert!(erased["n_erased"].as_u64().unwrap() > 0);
        assert_eq!(held(0)["n_held"], 0);
    }
    let server = start(&slots, &[]);
    let restored = done(act(&server, 1, "restore", "talk"));
    assert_eq!(
        (&restored["n_restored"], &restored["n_pictures"], &restored["n_read"]),
        (&saved["n_saved"], &json!(1), &saved["n_written"])
    );
    let again = server.chat(&next);
    assert_eq!((said(&again), n_cached(&again)), (said(&expected), n_cached(&expected)));
    let metrics = server.get("/metrics", &[]).body;
    assert!(metrics.contains("owlet_pictures_total{source=\"computed\"} 0"), "the tower ran: {metrics}");
    // What came back can be saved again.
    done(act(&server, 1, "restore", "talk"));
    done(act(&server, 1, "save", "copy"));
    assert!(fs::read(slots.join("copy")).unwrap() == fs::read(slots.join("talk")).unwrap());
}

#[test]
fn only_files_of_its_directory_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let slots = dir.path().join("slots");
    let server = start(&slots, &[]);
    let answer = server.chat(&question(7, "What is it?"));
    assert_eq!(answer["object"], "chat.completion");
    done(act(&server, 0, "save", "talk"));
    fs::rename(slots.join("talk"), dir.path().join("outside")).unwrap();
    for name in ["../outside", "/etc/passwd", "..", ".talk", "a/b", "", "talk\u{0}"] {
        for action in ["save", "restore"] {
            let reply = server.post(&format!("/slots/0?action={action}"), &json!({"filename": name}));
            let (status, text) = reply.refusal();
            assert!(
                status == 400 && text.starts_with("filename: expected a name of up to 100 letters"),
                "{name}: {text}"
            );
        }
    }
    assert_eq!(act(&server, 0, "restore", "talk").refusal(), (404, "talk: there is no such file".into()));
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(dir.path().join("outside"), slots.join("link")).unwrap();
        for action in ["save", "restore"] {
            assert_eq!(act(&server, 0, action, "link").refusal(), (400, "filename: link is no file".into()));
        }
    }
    fs::write(slots.join("letter"), "Dear").unwrap();
    assert_eq!(
        act(&server, 0, "save", "letter").refusal(),
        (400, "filename: letter exists and is no saved conversation".into())
    );
    assert_eq!(act(&server, 0, "restore", "letter").refusal().0, 400);
    let mut damaged = fs::read(dir.path().join("outside")).unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(slots.join("damaged"), damaged).unwrap();
    let text = "filename: damaged: checksum: the file is damaged";
    assert_eq!(act(&server, 0, "restore", "damaged").refusal(), (400, text.into()));
    for (path, text) in [
        ("/slots/2?action=erase", "slot: expected less than 2, found 2"),
        ("/slots/x?action=erase", "slot: expected a number"),
        ("/slots/0?action=burn", "action: expected save, restore or erase, as ?action=save"),
        ("/slots/0", "action: expected save, restore or erase, as ?action=save"),
    ] {
        assert_eq!(server.post(path, &json!({})).refusal(), (400, text.into()), "{path}");
    }
    let other = server.post("/slots/0?action=erase", &json!({"model": "other"}));
    assert_eq!(other.refusal().0, 404, "the model of another server is not spoken of");
    // Without a directory there is no such path.
    let server = Server::start(Kind::Story, &[]);
    assert_eq!((server.get("/slots", &[]).status, act(&server, 0, "erase", "").status), (404, 404));
}

/// Killed in the middle of saving: the file under its name is the old one or the new one.
#[test]
fn a_file_is_whole_whenever_the_server_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let slots = dir.path().join("slots");
    let (mut n_old, mut n_new) = (0, 0);
    for round in 0..8 {
        let mut server = start(&slots, &["--ctx", "2048"]);
        // Alternately short and long.
        let text = "so ".repeat(if round % 2 == 0 { 20 } else { 300 });
        server.chat(&question(round, &text));
        let n_held = done(server.get("/slots", &[]))[0]["n_held"].clone();
        if round == 0 {
            done(act(&server, 0, "save", "talk"));
        } else {
            let mut stream = server.connect();
            let body = json!({"filename": "talk"}).to_string();
            std::io::Write::write_all(&mut stream, &post("/slots/0?action=save", &body, &[])).unwrap();
            std::thread::sleep(Duration::from_micros(u64::from(round) * 700));
        }
        server.kill();
        let server = start(&slots, &[]);
        let restored = done(act(&server, 0, "restore", "talk"));
        *if restored["n_restored"] == n_held { &mut n_new } else { &mut n_old } += 1;
        let names: Vec<_> = fs::read_dir(&slots).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(
            names.iter().all(|name| name == "talk" || name.to_str().unwrap().ends_with(".part")),
            "{names:?}"
        );
    }
    println!("{n_old} times the old file, {n_new} times the new one");
}

/// With a scope a key, what one key left is nothing to another: no prefix, no picture, no slot, no file.
#[test]
fn keys_share_nothing_where_that_is_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let (file, slots) = (dir.path().join("keys"), dir.path().join("slots"));
    fs::write(&file, "phone-0123456789\nlaptop-0123456789\n").unwrap();
    let keys = ["--api-keys", file.to_str().unwrap()];
    let ran = owlet(&["serve", "-m", path(Kind::Story).to_str().unwrap(), "--cache-scope", "key"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("--cache-scope key has no effect without --api-keys"), "{}", ran.err);
    for (scope, is_shared) in [("shared", true), ("key", false)] {
        let server = start(&slots, &[&keys[..], &["--cache-scope", scope]].concat());
        let [phone, laptop] = ["phone", "laptop"].map(|who| format!("x-api-key: {who}-0123456789"));
        let ask = |key: &str| {
            let body = question(9, "What is it?").to_string();
            let answer = done(exchange(server.address, &post("/v1/chat/completions", &body, &[key])));
            (n_cached(&answer) > 0, answer["owlet"]["images"][0]["cached"] == true)
        };
        assert_eq!(ask(&phone), (false, false));
        assert_eq!(ask(&phone), (true, true));
        assert_eq!(ask(&laptop), (is_shared, is_shared), "{scope}");
        assert_eq!(ask(&laptop), (true, true));
        let post_as = |key: &str, path: &str, body: Value| {
            exchange(server.address, &post(path, &body.to_string(), &[key]))
        };
        let list = |key: &str| done(exchange(server.address, &head("GET", "/slots", &[key], None)));
        let own = |key: &str| {
            list(key).as_array().unwrap().iter().filter(|slot| slot["n_held"].as_u64() > Some(0)).count()
        };
        assert_eq!((own(&phone), own(&laptop)), (1, 1), "{scope}");
        let at =
            list(&phone).as_array().unwrap().iter().position(|slot| slot["can_be_saved"] == true).unwrap();
        let (save, name) = (format!("/slots/{at}?action=save"), json!({"filename": format!("of-{scope}")}));
        assert_eq!(post_as(&phone, &save, name.clone()).status, 200);
        let restore = "/slots/0?action=restore";
        assert_eq!(post_as(&laptop, &save, name.clone()).status, if is_shared { 200 } else { 400 });
        assert_eq!(post_as(&laptop, restore, name.clone()).status, if is_shared { 200 } else { 404 });
        assert_eq!(post_as(&phone, restore, name).status, 200);
    }
}

/// A process that was killed leaves parts of files. The next one that starts takes them away, and nothing that is somebody else's, or
/// that another process still writes.
#[test]
fn what_broken_off_saves_left_is_swept() {
    let dir = tempfile::tempdir().unwrap();
    let of_key = dir.path().join("0123456789abcdef");
    let other = dir.path().join("others");
    for sub in [&of_key, &other] {
        fs::create_dir(sub).unwrap();
    }
    let place = |name: &str| dir.path().join(name);
    let left = [place(".talk.4000000000.0.part"), of_key.join(".a.4000000000.3.part")];
    let stays = [
        place("talk"),
        place(".talk.part"),
        place(".a word.1.0.part"),
        other.join(".talk.4000000000.0.part"),
        place(".talk.1.0.part"),
    ];
    left.iter().chain(&stays).for_each(|path| fs::write(path, "half").unwrap());
    let written = fs::File::open(&stays[4]).unwrap();
    written.lock().unwrap();
    let server = start(dir.path(), &[]);
    assert!(left.iter().all(|path| !path.exists()), "{}", server.log());
    assert!(stays.iter().all(|path| path.exists()), "{}", server.log());
    let log = server.log();
    let told: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> = told.iter().filter(|line| line["event"] == "slot").map(|line| &line["file"]).collect();
    assert_eq!(told, [".a.4000000000.3.part", ".talk.4000000000.0.part"], "{log}");
    drop((server, written));
    let server = start(dir.path(), &[]);
    assert!(!stays[4].exists() && stays[0].exists(), "{}", server.log());
}
