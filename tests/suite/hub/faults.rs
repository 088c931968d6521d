//! Everything that a network and a hub can do wrong: what passes is borne, what lasts is one line that says what to do,
//! nothing stands under the final name, and the same command goes on when it is over.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use super::server::{Act, Asked, COMMIT, Hub, NAME, git_sum, said};
use super::{Setting, text};
use crate::program::{Ran, run};

const SHARD: &str = "model-00002-of-00003.safetensors";
const LAST_SHARD: &str = "model-00003-of-00003.safetensors";

fn first_times(n: usize, asked: &Asked, act: Act) -> Act {
    if asked.is_long() && asked.n_before < n { act } else { Act::Serve }
}

#[test]
fn what_passes_is_borne() {
    let setting = Setting::small();
    type Policy = fn(&Asked) -> Act;
    let cases: [(&str, Policy); 6] = [
        ("cut four times", |asked| first_times(4, asked, Act::Cut(100_000))),
        ("cut at once", |asked| first_times(3, asked, Act::Cut(0))),
        ("silent for too long", |asked| first_times(1, asked, Act::Stall(70_000))),
        ("busy", |asked| first_times(2, asked, Act::Refuse(503, ""))),
        ("busy, and says for how long", |asked| {
            let busy = "HTTP/1.1 429 Slow\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n";
            first_times(4, asked, Act::Say(busy.into()))
        }),
        ("the API is busy", |asked| match (asked.file(), asked.n_before) {
            (None, 0..2) => Act::Refuse(502, ""),
            _ => Act::Serve,
        }),
    ];
    for (what, policy) in cases {
        for flags in [&["--stream"][..], &[]] {
            setting.hub.act(policy);
            let ran = setting.convert(flags);
            assert_eq!(ran.code, Some(0), "{what}, {flags:?}: {ran:?}");
            setting.assert_whole(what);
            setting.forget();
        }
    }
}

/// Long silences are told while they last.
#[test]
fn another_try_is_told() {
    let setting = Setting::small();
    for flags in [&["--stream"][..], &[]] {
        setting.hub.act(|asked| match asked.is_long() && asked.file() == Some(SHARD) {
            true => Act::Cut(200_000),
            false => Act::Serve,
        });
        let ran = setting.convert(flags);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let told = format!("{NAME}: {SHARD}: the connection broke");
        assert!(ran.err.contains(&told) && ran.err.contains(": try 2 of 6 in 0.0 s\n"), "{flags:?}: {ran:?}");
        setting.assert_whole("cut now and then");
        setting.forget();
    }
}

struct Lasting {
    what: &'static str,
    policy: fn(&Asked) -> Act,
    /// How the line behind the model's name begins.
    line: &'static str,
}

const LASTING: [Lasting; 19] = [
    Lasting {
        what: "no such model",
        policy: |asked| if asked.file().is_none() { Act::Refuse(401, "RepoNotFound") } else { Act::Serve },
        line: "Open/tiny-chat: HUB knows no such model, or it is private: check the name, or set HF_TOKEN to a token that may read it",
    },
    Lasting {
        what: "no such revision",
        policy: |_| Act::Refuse(404, "RevisionNotFound"),
        line: "Open/tiny-chat: the hub has no such revision of it: check --revision",
    },
    Lasting {
        what: "gated",
        policy: |asked| if asked.file().is_some() { Act::Refuse(401, "GatedRepo") } else { Act::Serve },
        line: "Open/tiny-chat: config.json: its authors ask for consent: give it at HUB/Open/tiny-chat, and set HF_TOKEN to a token of that account",
    },
    Lasting {
        what: "forbidden",
        policy: |asked| if asked.is_weights() { Act::Refuse(403, "") } else { Act::Serve },
        line: "Open/tiny-chat: model-00001-of-00003.safetensors: its authors ask for consent: give it at HUB/Open/tiny-chat",
    },
    Lasting {
        what: "busy for good",
        policy: |asked| if asked.is_weights() { Act::Refuse(503, "") } else { Act::Serve },
        line: "Open/tiny-chat: model-00001-of-00003.safetensors: HUB answers 503; the same command goes on where it was",
    },
    Lasting {
        what: "says nothing",
        policy: |_| Act::Pause(Duration::from_secs(4)),
        line: "Open/tiny-chat: HUB says nothing for 1 s; check the network, and HF_ENDPOINT if it is set",
    },
    Lasting {
        what: "stops for good",
        policy: |asked| match asked.file() {
            Some("model-00002-of-00003.safetensors") => Act::Stall(0),
            _ => Act::Serve,
        },
        line: "Open/tiny-chat: model-00002-of-00003.safetensors: the server has stopped sending; the same command goes on where it was",
    },
    Lasting {
        what: "no HTTP",
        policy: |_| Act::Say(b"SSH-2.0-OpenSSH\r\n".to_vec()),
        line: "Open/tiny-chat: HUB cannot be reached or breaks off (",
    },
    Lasting {
        what: "no JSON",
        policy: |_| Act::Say(said("<html>", "")),
        line: "Open/tiny-chat: HUB is no hub: its answer is not JSON (expected value",
    },
    Lasting {
        what: "JSON without an end",
        policy: |_| Act::Say(said(&"[".repeat(5 << 20), "")),
        line: "Open/tiny-chat: HUB says more beyond the limit of 4194304",
    },
    Lasting {
        what: "JSON that is deep",
        policy: |_| Act::Say(said(&"[".repeat(100_000), "")),
        line: "Open/tiny-chat: HUB is no hub: its answer is not JSON (recursion limit",
    },
    Lasting {
        what: "a commit that leads elsewhere",
        policy: |_| Act::Say(said(r#"{"sha": "../../../../../../../../tmp/0123456789a"}"#, "")),
        line: "Open/tiny-chat: the hub's answer has no sound commit",
    },
    Lasting {
        what: "pages without an end",
        policy: |asked| match asked.path.contains("/tree/") {
            true => Act::Say(said(
                "[]",
                &format!("Link: <{}x>; rel=\"next\"\r\n", asked.path.trim_end_matches('x').to_string() + "?"),
            )),
            false => Act::Serve,
        },
        line: "Open/tiny-chat: the hub's list of files beyond the limit of 20000",
    },
    Lasting {
        what: "no weights",
        policy: |asked| if asked.path.contains("/tree/") { Act::Say(said("[]", "")) } else { Act::Serve },
        line: "Open/tiny-chat at 0123456789abcdef0123456789abcdef01234567: expected weights in one of model.safetensors, ",
    },
    Lasting {
        what: "redirects in a circle",
        policy: |asked| if asked.is_weights() { Act::To(asked.path.clone()) } else { Act::Serve },
        line: "Open/tiny-chat: HUB redirects more than 5 times",
    },
    Lasting {
        what: "a redirect to a file",
        policy: |asked| if asked.is_weights() { Act::To("file:///etc/passwd".into()) } else { Act::Serve },
        line: "Open/tiny-chat: HUB redirects to no sound https address",
    },
    Lasting {
        what: "a file that is longer than it was announced",
        policy: |asked| match asked.file() {
            Some("config.json") => Act::Say(said(&"x".repeat(100_000), "")),
            _ => Act::Serve,
        },
        line: "Open/tiny-chat: config.json: expected the ",
    },
    Lasting {
        what: "a damaged configuration",
        policy: |asked| if asked.file() == Some("config.json") { Act::Corrupt(20) } else { Act::Serve },
        line: "Open/tiny-chat: config.json: expected git's SHA-1 ",
    },
    Lasting {
        what: "another place of the file than was asked for",
        policy: |asked| match asked.is_weights() {
            true => Act::Say(
                b"HTTP/1.1 206 Part\r\nContent-Range: bytes 5-9/10\r\nContent-Length: 5\r\n\r\nabcde"
                    .to_vec(),
            ),
            false => Act::Serve,
        },
        line: "Open/tiny-chat: model-00001-of-00003.safetensors: expected the ",
    },
];

#[test]
fn what_lasts_is_one_line() {
    let setting = Setting::small();
    for Lasting { what, policy, line } in LASTING {
        setting.hub.act(policy);
        let Ran { code, err, .. } = setting.convert(&["--stream"]);
        let expected = format!("owlet: {}", line.replace("HUB", &setting.hub.address));
        let last = err.lines().last().unwrap_or_default();
        assert!(
            code == Some(1) && last.starts_with(&expected),
            "{what}: expected {expected}\n   found {err}"
        );
        setting.assert_nothing_under_its_name(what);
        setting.hub.act(|_| Act::Serve);
        let ran = setting.convert(&["--stream"]);
        assert_eq!(ran.code, Some(0), "behind {what}: {ran:?}");
        setting.assert_whole(what);
        setting.forget();
    }
}

/// A byte that arrives wrong is found when its file has been read, and costs no other file.
#[test]
fn a_wrong_byte_costs_one_file() {
    let setting = Setting::small();
    let of_shard = |asked: &Asked| asked.file() == Some(SHARD);
    let corrupt = move |asked: &Asked| if of_shard(asked) { Act::Corrupt(400_000) } else { Act::Serve };
    setting.hub.act(corrupt);
    let Ran { code, err, .. } = setting.convert(&["--stream"]);
    let lines: Vec<&str> = err.lines().collect();
    let keeps =
        format!("{}.part: keeps what is done; the same command goes on with it", text(&setting.out()));
    assert_eq!(lines[lines.len() - 2], keeps, "{err}");
    let wrong = format!("owlet: {NAME}: {SHARD}: expected SHA-256 ");
    let last = lines[lines.len() - 1];
    assert!(
        code == Some(1) && last.starts_with(&wrong) && last.ends_with(": the same command reads it again"),
        "{err}"
    );
    setting.assert_nothing_under_its_name("a wrong byte");
    // and once more, now that there is something to go on with
    setting.hub.act(corrupt);
    assert_eq!(setting.convert(&["--stream"]).code, Some(1));
    setting.hub.act(|_| Act::Serve);
    let ran = setting.convert(&["--stream"]);
    assert!(ran.code == Some(0) && ran.err.contains("going on with it"), "{ran:?}");
    assert_eq!(setting.long_ones(), [SHARD, LAST_SHARD], "{ran:?}");
    setting.assert_whole("behind a wrong byte");
    setting.forget();

    // one that is kept on the disk
    setting.hub.act(corrupt);
    let Ran { code, err, .. } = setting.convert(&[]);
    let last = err.lines().last().unwrap();
    let advice = "it was thrown away, and the same command fetches it again";
    assert!(code == Some(1) && last.starts_with(&wrong) && last.ends_with(advice), "{err}");
    setting.hub.act(|_| Act::Serve);
    assert_eq!(setting.convert(&[]).code, Some(0));
    assert_eq!(setting.long_ones(), [SHARD, LAST_SHARD], "the file before it was there");
    setting.assert_whole("behind a wrong byte on the disk");

    // one that the disk turned over later
    let blob = std::fs::canonicalize(setting.cache().join("snapshots").join(COMMIT).join(SHARD)).unwrap();
    let mut bytes = std::fs::read(&blob).unwrap();
    bytes[400_000] ^= 1;
    std::fs::write(&blob, bytes).unwrap();
    let ran = setting.convert(&[]);
    let advice = ": remove it, and the same command fetches it again\n";
    assert!(ran.code == Some(1) && ran.err.ends_with(advice) && ran.err.contains(SHARD), "{ran:?}");
    setting.assert_nothing_under_its_name("a byte that the disk turned over");
    std::fs::remove_file(blob).unwrap();
    assert_eq!(setting.convert(&[]).code, Some(0));
    setting.assert_whole("behind a byte that the disk turned over");
}

/// Where ranges are not known a download begins anew, and reading along is refused.
#[test]
fn a_server_without_ranges() {
    let setting = Setting::small();
    setting.hub.act(|asked| match (asked.is_weights(), asked.range.is_some()) {
        (true, true) => Act::Whole,
        _ => Act::Serve,
    });
    let ran = setting.convert(&["--stream"]);
    let expected = "the server sends files as a whole only, and parts are needed to read one where it lies\n";
    assert!(ran.code == Some(1) && ran.err.ends_with(expected), "{ran:?}");
}

/// The token is the hub's alone: whoever is redirected to, on another port already, does not see it.
#[test]
fn the_token_goes_to_nobody_else() {
    let setting = Setting::small();
    let cdn = Hub::of(&setting.files());
    let to = cdn.address.clone();
    let as_somebody = |flags: &[&str]| {
        let mut command = setting.command(flags);
        command.env("HF_TOKEN", "hf_secret");
        run(command, b"")
    };
    for flags in [&["--stream"][..], &[]] {
        let to = to.clone();
        setting.hub.act(move |asked| match (&asked.token, asked.file()) {
            (None, _) => Act::Refuse(401, "GatedRepo"),
            (Some(_), Some(_)) => Act::To(format!("{to}{}", asked.path)),
            _ => Act::Serve,
        });
        cdn.act(|_| Act::Serve);
        let ran = as_somebody(flags);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        setting.assert_whole("from elsewhere");
        assert!(setting.hub.asked().iter().all(|asked| asked.token.as_deref() == Some("Bearer hf_secret")));
        let there = cdn.asked();
        assert!(!there.is_empty() && there.iter().all(|asked| asked.token.is_none()), "{there:?}");
        let n_weights = setting.hub.asked().iter().filter(|asked| asked.is_weights()).count();
        assert!(n_weights <= 3 * 2, "{n_weights} requests for weights asked the hub for the way");
        setting.forget();
    }
    setting.hub.act(|_| Act::Refuse(401, ""));
    let ran = as_somebody(&[]);
    let expected =
        format!("owlet: {NAME}: {} refuses the token: check HF_TOKEN, or log in anew\n", setting.hub.address);
    assert_eq!((ran.code, ran.err), (Some(1), expected));
}

/// The way to the bytes that the hub shows is good for a while only.
#[test]
fn a_way_that_expires_is_asked_for_again() {
    let setting = Setting::small();
    let cdn = Hub::of(&setting.files());
    let to = cdn.address.clone();
    setting.hub.act(move |asked| match asked.is_weights() {
        true => Act::To(format!("{to}{}", asked.path)),
        false => Act::Serve,
    });
    // every third request comes too late, and most are cut
    cdn.act(|asked| if asked.n_before % 3 == 2 { Act::Refuse(403, "") } else { Act::Cut(150_000) });
    for flags in [&["--stream"][..], &[]] {
        let ran = setting.convert(flags);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        setting.assert_whole("by ways that expire");
        setting.forget();
    }
}

/// Names in the hub's list and in the index become no paths to anywhere.
#[test]
fn names_lead_nowhere() {
    let setting = Setting::small();
    let evil = b"evil".to_vec();
    let entry = json!({"type": "file", "path": "../../../evil.json", "size": 4, "oid": git_sum(&evil)});
    let tree = serde_json::Value::from([vec![entry], setting.hub.tree()].concat()).to_string();
    setting
        .hub
        .act(move |asked| if asked.path.contains("/tree/") { Act::Say(said(&tree, "")) } else { Act::Serve });
    assert_eq!(setting.convert(&["--stream"]).code, Some(0));
    assert!(setting.hub.asked().iter().all(|asked| !asked.path.contains("evil")));
    setting.assert_whole("beside a name that leads away");
    setting.forget();

    let index = r#"{"weight_map": {"a": "../../../evil.safetensors"}}"#.as_bytes().to_vec();
    let mut tree = setting.hub.tree();
    for entry in &mut tree {
        if entry["path"] == "model.safetensors.index.json" {
            *entry =
                json!({"type": "file", "path": entry["path"], "size": index.len(), "oid": git_sum(&index)});
        }
    }
    let tree = serde_json::Value::from(tree).to_string();
    setting.hub.act(move |asked| match asked.file() {
        Some("model.safetensors.index.json") => Act::Say(said(std::str::from_utf8(&index).unwrap(), "")),
        None if asked.path.contains("/tree/") => Act::Say(said(&tree, "")),
        _ => Act::Serve,
    });
    let ran = setting.convert(&["--stream"]);
    let expected =
        "weight_map.a: expected the name of a file beside it, found \"../../../evil.safetensors\"\n";
    assert!(ran.code == Some(1) && ran.err.ends_with(expected), "{ran:?}");
}

#[test]
fn nobody_there_is_one_line() {
    let setting = Setting::small();
    let mut command = setting.command(&[]);
    command.env("HF_ENDPOINT", "http://127.0.0.1:9");
    let ran = run(command, b"");
    let start = format!("owlet: {NAME}: http://127.0.0.1:9 cannot be reached or breaks off (");
    let end = "; check the network, and HF_ENDPOINT if it is set\n";
    assert!(ran.code == Some(1) && ran.err.starts_with(&start) && ran.err.ends_with(end), "{ran:?}");
    let mut command = setting.command(&[]);
    command.env("HF_HUB_OFFLINE", "1");
    let ran = run(command, b"");
    let expected = format!("owlet: {NAME}: HF_HUB_OFFLINE is set, and no main of it is in the cache\n");
    assert_eq!((ran.code, ran.err), (Some(1), expected));
}

/// Ctrl-C ends it at once, whatever the server does, and loses nothing.
#[cfg(unix)]
#[test]
fn ctrl_c_does_not_wait_for_the_server() {
    let setting = Setting::small();
    for flags in [&["--stream"][..], &[]] {
        setting.hub.act(|asked| match asked.is_long() && asked.file() == Some(SHARD) {
            true => Act::Stall(300_000),
            false => Act::Serve,
        });
        let mut command = setting.command(flags);
        command.env("HF_HUB_DOWNLOAD_TIMEOUT", "60").stderr(std::process::Stdio::piped());
        let child = command.spawn().unwrap();
        while !setting.hub.asked().iter().any(|asked| asked.is_long() && asked.file() == Some(SHARD)) {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(200));
        let since = Instant::now();
        assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
        let done = child.wait_with_output().unwrap();
        assert_eq!(done.status.code(), Some(130), "{done:?}");
        assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
        setting.assert_nothing_under_its_name("ctrl-c");
        setting.hub.act(|_| Act::Serve);
        assert_eq!(setting.convert(flags).code, Some(0));
        assert_eq!(setting.long_ones(), [SHARD, LAST_SHARD], "{flags:?}");
        let asked = setting.hub.asked();
        let again = asked.iter().find(|asked| asked.is_long()).unwrap().range.clone();
        assert!(again.is_some_and(|range| range != "bytes=0-"), "{flags:?}: from its beginning: {asked:?}");
        setting.assert_whole("behind ctrl-c");
        setting.forget();
    }
}

/// The limit on a file's length stands in for a disk that is full.
#[cfg(unix)]
#[test]
fn a_full_disk_keeps_what_has_come() {
    let setting = Setting::small();
    let script = "trap '' XFSZ; ulimit -f 1500; exec \"$@\"";
    let inner = setting.command(&[]);
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(inner.get_program()).args(inner.get_args());
    let ran = run(setting.with_environment(command), b"");
    assert!(
        ran.code == Some(1) && ran.err.ends_with(".owlet-part: cannot write: File too large (os error 27)\n"),
        "{ran:?}"
    );
    setting.assert_nothing_under_its_name("a full disk");
    setting.hub.act(|_| Act::Serve);
    assert_eq!(setting.convert(&[]).code, Some(0));
    assert!(setting.hub.n_sent() < setting.hub.n_weight_bytes(), "everything was sent again");
    setting.assert_whole("behind a full disk");
}
