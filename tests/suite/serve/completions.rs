//! Texts that go on, and embeddings of pictures.

use serde_json::{Value, json};

use super::{Server, data_uri, with};
use crate::models::{Kind, STORY, path};
use crate::program::owlet;

fn complete(server: &Server, body: &Value) -> Value {
    let reply = server.post("/v1/completions", body);
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

/// `▁:` alone leads into the script; a template would lead there behind any prompt.
#[test]
fn a_prompt_is_what_it_is() {
    let server = Server::start(Kind::Story, &["--slots", "1"]);
    let whole = complete(&server, &json!({"model": "default", "prompt": ":", "temperature": 0}));
    let choice = json!({"index": 0, "text": format!(" {STORY}"), "logprobs": null, "finish_reason": "stop"});
    assert_eq!((&whole["choices"], &whole["object"]), (&json!([choice]), &json!("text_completion")));
    let usage = &whole["usage"];
    assert_eq!(
        (&usage["prompt_tokens"], &usage["completion_tokens"]),
        (&json!(2), &json!(9)),
        "BOS and `▁:`"
    );
    // In the middle of the script; the white space before what comes is part of it.
    let text = |prompt: &str, more: Value| {
        let body = with(&json!({"prompt": prompt, "temperature": 0}), more);
        complete(&server, &body)["choices"][0]["text"].as_str().unwrap().to_string()
    };
    assert_eq!(text(": A", json!({})), " red circle,圆.");
    assert_eq!(text(": A", json!({"echo": true})), ": A red circle,圆.");
    assert_eq!(text(": A", json!({"max_tokens": 1})), " red");
    assert_eq!(text(": A", json!({"stop": [" circle"]})), " red");
    assert_ne!(text("nothing", json!({"max_tokens": 3})), text(":", json!({"max_tokens": 3})));
    // From nothing but the token that every text begins with; and as many as are usual.
    let usage = complete(&server, &json!({"temperature": 0}))["usage"].clone();
    assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"]), (&json!(1), &json!(16)));
}

#[test]
fn several_prompts_and_choices() {
    let server = Server::start(Kind::Random, &["--slots", "1"]);
    let of = |prompt: Value, n: u32, stream: bool| json!({"prompt": prompt, "n": n, "temperature": 2, "seed": 5, "max_tokens": 6, "stream": stream, "echo": true});
    let texts = |whole: &Value| -> Vec<String> {
        let choices = whole["choices"].as_array().unwrap();
        assert!(choices.iter().enumerate().all(|(n, choice)| choice["index"] == n));
        choices.iter().map(|choice| choice["text"].as_str().unwrap().to_string()).collect()
    };
    let alone = [":", " A red"].map(|prompt| complete(&server, &of(json!(prompt), 2, false)));
    let expected: Vec<_> = alone.iter().flat_map(texts).collect();
    assert!(expected[0] != expected[1] && expected[2].starts_with(" A red"), "{expected:?}");
    let both = complete(&server, &of(json!([":", " A red"]), 2, false));
    assert_eq!(texts(&both), expected);
    let sum = |name: &str| alone.iter().map(|whole| whole["usage"][name].as_u64().unwrap()).sum::<u64>();
    assert_eq!(both["usage"]["prompt_tokens"], sum("prompt_tokens"));
    assert_eq!(both["usage"]["completion_tokens"], sum("completion_tokens"));

    let body = with(&of(json!([":", " A red"]), 2, true), json!({"stream_options": {"include_usage": true}}));
    let (events, _) = server.post("/v1/completions", &body).events();
    let mut streamed = vec![String::new(); 4];
    for choice in events.iter().filter_map(|event| event["choices"].get(0)) {
        streamed[choice["index"].as_u64().unwrap() as usize] += choice["text"].as_str().unwrap();
    }
    assert_eq!(streamed, expected);
    assert_eq!(events.last().unwrap()["usage"]["prompt_tokens"], both["usage"]["prompt_tokens"]);
}

#[test]
fn what_completions_cannot_do_is_refused_by_name() {
    let server = Server::start(Kind::Story, &[]);
    for (more, param) in [
        (json!({"suffix": "x"}), "suffix"),
        (json!({"best_of": 3}), "best_of"),
        (json!({"prompt": [1, 1_000_000]}), "prompt[1]"),
        (json!({"prompt": [1, "x"]}), "prompt[1]"),
        (json!({"prompt": ["x", [2, 3, -1]]}), "prompt[1][2]"),
        (json!({"prompt": [true]}), "prompt"),
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"prompt": vec!["x"; 17]}), "prompt"),
        (json!({"n": 9}), "n"),
        (json!({"messages": []}), "messages"),
        (json!({"response_format": {"type": "json_object"}}), "response_format"),
    ] {
        let reply = server.post("/v1/completions", &with(&json!({"prompt": "x"}), more));
        assert_eq!((reply.status, &reply.json()["error"]["param"]), (400, &json!(param)));
    }
    let long = server.post("/v1/completions", &json!({"prompt": "word ".repeat(5000)}));
    assert_eq!((long.status, &long.json()["error"]["code"]), (400, &json!("context_length_exceeded")));
    for more in [json!({"suffix": ""}), json!({"suffix": null, "best_of": 1, "user": "me"})] {
        assert_eq!(server.post("/v1/completions", &with(&json!({"prompt": ":"}), more)).status, 200);
    }
}

/// Ollama's word for the same.
#[test]
fn raw() {
    let server = Server::start(Kind::Story, &[]);
    let body = json!({"prompt": ": A", "raw": true, "stream": false});
    assert_eq!(server.post("/api/generate", &body).json()["response"], " red circle,圆.");
    for more in [json!({"system": "Be brief."}), json!({"images": [data_uri(9, 9, 1)]})] {
        assert_eq!(server.post("/api/generate", &with(&body, more)).status, 400);
    }
}

/// To the bit, whatever else the tower does meanwhile, and whichever way they are asked for.
#[test]
fn embeddings_are_those_of_owlet_embed() {
    let dir = tempfile::tempdir().unwrap();
    let model = path(Kind::Random);
    let uris: Vec<String> = (1..4).map(|n| data_uri(30 + u32::from(n), 20, n)).collect();
    let files: Vec<_> = (1..4u8)
        .map(|n| {
            let name = format!("serve-{}x20-{n}.png", 30 + u32::from(n));
            crate::program::picture(&name, 30 + u32::from(n), 20, [n, 255 - n, 7, 255])
        })
        .collect();
    let out = dir.path().join("out.json");
    let mut args =
        vec!["embed", "-q", "--pooled", "-m", model.to_str().unwrap(), "-o", out.to_str().unwrap()];
    args.extend(files.iter().map(|path| path.to_str().unwrap()));
    owlet(&args).ok();
    let report: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(&out).unwrap()).unwrap();
    let pooled = |picture: &Value| serde_json::from_value(picture["pooler_output"].clone()).unwrap();
    let expected: Vec<Vec<f32>> = report.iter().map(pooled).collect();

    let server = Server::start(Kind::Random, &["--slots", "2"]);
    let embed = |body: Value| {
        let reply = server.post("/v1/embeddings", &body);
        assert_eq!(reply.status, 200, "{reply:?}");
        let whole = reply.json();
        let rows = whole["data"].as_array().unwrap().iter().enumerate().map(|(n, one)| {
            assert_eq!((&one["index"], &one["object"]), (&json!(n), &json!("embedding")));
            one["embedding"].clone()
        });
        (rows.collect::<Vec<_>>(), whole["usage"].clone())
    };
    let floats = |row: &Value| serde_json::from_value::<Vec<f32>>(row.clone()).unwrap();
    // The second one is asked about before, and a stream is written meanwhile.
    let song = json!({"messages": [{"role": "user", "content": "Sing!"}], "max_tokens": 400, "stream": true});
    let streamed = server.stream(&song);
    let content = json!([{"type": "image_url", "image_url": {"url": uris[1]}}]);
    server.chat(&json!({"messages": [{"role": "user", "content": content}], "max_tokens": 2}));
    let (rows, usage) = embed(json!({"model": "default", "input": uris, "user": "me"}));
    assert_eq!(rows.iter().map(floats).collect::<Vec<_>>(), expected);
    assert_eq!(usage, json!({"prompt_tokens": 3 * 16, "total_tokens": 3 * 16}));
    drop(streamed);
    let bare = uris[0].split_once(',').unwrap().1;
    for input in [
        json!(uris[0]),
        json!(bare),
        json!({"image_url": uris[0]}),
        json!([{"type": "image_url", "image_url": {"url": uris[0], "detail": "low"}}]),
    ] {
        let (rows, _) = embed(json!({"input": input, "dimensions": expected[0].len()}));
        assert_eq!(rows.iter().map(floats).collect::<Vec<_>>(), expected[..1]);
    }
    let (rows, _) = embed(json!({"input": uris[2], "encoding_format": "base64"}));
    let bytes: Vec<u8> = expected[2].iter().flat_map(|value| value.to_le_bytes()).collect();
    assert_eq!(rows, [json!(super::base64(&bytes))]);
    // A question about a picture whose features were asked for finds it.
    let seen = server.chat(&json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": uris[2]}}]}], "max_tokens": 2}));
    assert_eq!(seen["owlet"]["images"][0]["cached"], true);

    for (body, param, text) in [
        (json!({}), "input", "expected pictures, found none"),
        (json!({"input": []}), "input", "expected pictures, found none"),
        (
            json!({"input": "What is an owl?"}),
            "input",
            "expected a picture, this server has no embeddings of texts",
        ),
        (json!({"input": "owl"}), "input", "expected a picture, this server has no embeddings of texts"),
        (
            json!({"input": [uris[0], "owls"]}),
            "input[1]",
            "expected a picture, this server has no embeddings of texts",
        ),
        (json!({"input": [[1, 2]]}), "input[0]", "expected a picture, found a list"),
        (json!({"input": [{"text": "owl"}]}), "input[0].image_url", "expected a picture, found none"),
        (json!({"input": uris[0], "encoding_format": "int8"}), "encoding_format", "expected float or base64"),
        (
            json!({"input": uris[0], "dimensions": 5}),
            "dimensions",
            "expected a whole number from 32 to 32, found 5",
        ),
        (json!({"input": uris[0], "other": 5}), "other", "this server knows no such field"),
        (json!({"input": vec![&uris[0]; 17]}), "pictures", "at most 16 in a request, found 17"),
        (json!({"input": "https://example.org/a.png"}), "input", "this server fetches nothing"),
    ] {
        let reply = server.post("/v1/embeddings", &body);
        let error = &reply.json()["error"];
        assert_eq!((reply.status, &error["param"]), (400, &json!(param)), "{reply:?}");
        assert!(error["message"].as_str().unwrap().contains(text), "{reply:?}");
    }
}

/// Whoever leaves has the tower stopped: the slow one would take minutes.
#[test]
fn an_embedding_nobody_waits_for_is_not_made() {
    use std::io::Write;
    use std::time::{Duration, Instant};
    let server = Server::start(Kind::Slow, &["--slots", "1", "--queue", "0"]);
    let mut stream = server.connect();
    let pictures: Vec<_> = (1..9).map(|n| data_uri(9, 9, n)).collect();
    let body = json!({"input": pictures}).to_string();
    stream.write_all(&super::post("/v1/embeddings", &body, &[])).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    // It has the one place.
    let other = json!({"messages": [{"role": "user", "content": "Sing!"}], "max_tokens": 3});
    assert_eq!(server.post("/v1/chat/completions", &other).status, 429);
    drop(stream);
    let started = Instant::now();
    while server.post("/v1/chat/completions", &other).status == 429 {
        assert!(started.elapsed() < Duration::from_secs(20), "still taken");
        std::thread::sleep(Duration::from_millis(50));
    }
}
