//! How likely tokens were, in each dialect's words.

use serde_json::{Value, json};

use owlet::engine::Loaded;

use super::{Server, with};
use crate::models::{Kind, N_VOCAB, STORY, path};

/// Of a token of the script, and of any other: the model's logits are almost 4 for it, since its norm adds 1e-5 to a mean square of
/// 1/64, and 0 for all others.
fn certain() -> [f64; 2] {
    let logit = 4.0 / (1.0 + 64e-5f64).sqrt();
    [logit, 0.0].map(|this| this - (logit.exp() + N_VOCAB as f64 - 1.0).ln())
}

fn close(found: &Value, expected: f64) -> bool {
    (found.as_f64().unwrap() - expected).abs() < 1e-4
}

fn asked() -> Value {
    json!({"messages": [{"role": "user", "content": "Q?"}], "temperature": 0, "repetition_penalty": 1.3})
}

fn bytes_of(entries: &[Value]) -> Vec<u8> {
    let bytes = entries.iter().flat_map(|entry| entry["bytes"].as_array().unwrap());
    bytes.map(|byte| byte.as_u64().unwrap() as u8).collect()
}

/// All tokens but the one that ends it; their bytes are the text; what is streamed is what is whole.
#[test]
fn chats() {
    let server = Server::start(Kind::Story, &["--slots", "1"]);
    let whole = server.chat(&with(&asked(), json!({"logprobs": true, "top_logprobs": 3})));
    let entries = whole["choices"][0]["logprobs"]["content"].as_array().unwrap();
    assert_eq!(entries.len(), 8);
    assert_eq!(String::from_utf8(bytes_of(entries)).unwrap(), format!(" {STORY}"));
    for entry in entries {
        assert!(close(&entry["logprob"], certain()[0]), "{entry}");
        let top = entry["top_logprobs"].as_array().unwrap();
        assert_eq!((top.len(), &top[0]["token"], &top[0]["bytes"]), (3, &entry["token"], &entry["bytes"]));
        assert!(top[1..].iter().all(|other| close(&other["logprob"], certain()[1])), "{top:?}");
    }
    // A byte of a character is none by itself, and a special token is spelled.
    assert_eq!((&entries[4]["token"], &entries[4]["bytes"]), (&json!("\u{fffd}"), &json!([0xE5])));
    let special = &entries[0]["top_logprobs"][1];
    assert_eq!((&special["token"], &special["bytes"]), (&json!("<unk>"), &Value::Null));

    let more = json!({"logprobs": true, "top_logprobs": 3, "stream": true, "n": 2});
    let (events, _) = server.post("/v1/chat/completions", &with(&asked(), more)).events();
    for n in 0..2 {
        let of_choice = events.iter().map(|event| &event["choices"][0]).filter(|choice| choice["index"] == n);
        let told = of_choice.filter_map(|choice| choice["logprobs"]["content"].as_array()).flatten();
        assert_eq!(told.cloned().collect::<Vec<_>>(), *entries);
    }
    let none = server.chat(&with(&asked(), json!({"logprobs": true})));
    assert_eq!(none["choices"][0]["logprobs"]["content"][0]["top_logprobs"], json!([]));
    assert_eq!(server.chat(&asked())["choices"][0]["logprobs"], Value::Null);
    // What a stop text cuts was chosen all the same.
    let cut = server.chat(&with(&asked(), json!({"logprobs": true, "stop": "circle"})));
    assert_eq!(cut["choices"][0]["logprobs"]["content"].as_array().unwrap().len(), 3);
    for (more, param) in [
        (json!({"top_logprobs": 3}), "top_logprobs"),
        (json!({"logprobs": true, "top_logprobs": 21}), "top_logprobs"),
        (json!({"logprobs": 3}), "logprobs"),
    ] {
        let reply = server.post("/v1/chat/completions", &with(&asked(), more));
        assert_eq!((reply.status, &reply.json()["error"]["param"]), (400, &json!(param)));
    }
}

#[test]
fn ollama() {
    let server = Server::start(Kind::Story, &["--slots", "1"]);
    let body = json!({"messages": [{"role": "user", "content": "Q?"}], "stream": false, "logprobs": true, "top_logprobs": 2});
    let whole = server.post("/api/chat", &body).json();
    let entries = whole["logprobs"].as_array().unwrap();
    assert_eq!(String::from_utf8(bytes_of(entries)).unwrap(), format!(" {STORY}"));
    assert!(entries.iter().all(|entry| close(&entry["logprob"], certain()[0])), "{entries:?}");
    let streamed = server.post("/api/chat", &with(&body, json!({"stream": true}))).body;
    let lines = streamed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let told = lines.flat_map(|line| line["logprobs"].as_array().cloned().unwrap_or_default());
    assert_eq!(told.collect::<Vec<_>>(), *entries);
    let body = json!({"prompt": "Q?", "stream": false, "logprobs": true});
    assert_eq!(server.post("/api/generate", &body).json()["logprobs"].as_array().unwrap().len(), 8);
}

#[test]
fn completions() {
    let server = Server::start(Kind::Story, &["--slots", "1"]);
    let body = json!({"prompt": " :", "temperature": 0, "logprobs": 2});
    let whole = server.post("/v1/completions", &body).json();
    let choice = &whole["choices"][0];
    assert_eq!(choice["text"], format!(" {STORY}"));
    let told = &choice["logprobs"];
    assert_eq!(told["tokens"].as_array().unwrap()[..4], [" A", " red", " circle", ","].map(|t| json!(t)));
    assert_eq!(told["text_offset"].as_array().unwrap()[..4], [0, 2, 6, 13].map(|at| json!(at)));
    assert!(told["token_logprobs"].as_array().unwrap().iter().all(|logprob| close(logprob, certain()[0])));
    let top = told["top_logprobs"][0].as_object().unwrap();
    assert!(top.len() == 2 && close(&top[" A"], certain()[0]), "{top:?}");
    let (events, _) = server.post("/v1/completions", &with(&body, json!({"stream": true}))).events();
    let offsets = events.iter().filter_map(|event| event["choices"][0]["logprobs"]["text_offset"].as_array());
    assert_eq!(json!(offsets.flatten().collect::<Vec<_>>()), told["text_offset"]);
    assert_eq!(server.post("/v1/completions", &with(&body, json!({"logprobs": 6}))).status, 400);
}

/// The columns of `choice`, by name.
fn columns(choice: &Value, name: &str) -> Vec<Value> {
    choice["logprobs"][name].as_array().unwrap().clone()
}

/// How programs that evaluate models ask: a text, or its tokens, read and judged; nothing is written, or one token.
#[test]
fn prompts() {
    let server = Server::start(Kind::Random, &["--slots", "2"]);
    let complete = |prompt: Value, more: Value| {
        let body = json!({"prompt": prompt, "temperature": 0, "echo": true, "logprobs": 2, "max_tokens": 0});
        let reply = server.post("/v1/completions", &with(&body, more));
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()
    };
    let text = "A red circle. ".repeat(30);
    let whole = complete(json!(text), json!({}));
    let choice = &whole["choices"][0];
    assert_eq!((&choice["text"], &choice["finish_reason"]), (&json!(text), &json!("length")));
    assert_eq!(whole["usage"]["completion_tokens"], 0);
    let (tokens, logprobs) = (columns(choice, "tokens"), columns(choice, "token_logprobs"));
    let tokens: Vec<&str> = tokens.iter().map(|token| token.as_str().unwrap()).collect();
    assert_eq!(tokens.concat(), text, "without the space before a first word");
    let offsets = (0..tokens.len()).map(|n| json!(tokens[..n].concat().len()));
    assert_eq!(columns(choice, "text_offset"), offsets.collect::<Vec<_>>());
    let top = columns(choice, "top_logprobs");
    assert_eq!((&logprobs[0], &top[0]), (&Value::Null, &Value::Null));
    assert_eq!(json!(logprobs.len() + 1), whole["usage"]["prompt_tokens"], "and BOS");
    for (token, (logprob, top)) in tokens.iter().zip(logprobs.iter().zip(&top)).skip(1) {
        let (own, logprob) = (top[token].as_f64().unwrap(), logprob.as_f64().unwrap());
        assert!(logprob <= own && own < 0.0, "{token}: {logprob}, {top}");
    }

    // The same by its tokens, BOS among them.
    let loaded = Loaded::open(Some(&path(Kind::Random)), 1).unwrap();
    let ids = [vec![loaded.tokenizer.bos_id().unwrap()], loaded.tokenizer.encode(&text).unwrap()].concat();
    let by_tokens = complete(json!(ids), json!({"max_tokens": 1}));
    let choice = &by_tokens["choices"][0];
    let found = columns(choice, "token_logprobs");
    assert_eq!((found.len(), &found[0]), (ids.len() + 1, &Value::Null));
    assert_eq!((&found[2..ids.len()], &columns(choice, "tokens")[0]), (&logprobs[1..], &json!("<s>")));
    assert!(choice["text"].as_str().unwrap().starts_with(&format!(" {text}")), "{choice}");
    assert_eq!(columns(choice, "text_offset")[..3], [0, 0, 2].map(|at| json!(at)), "BOS has no text");
    // Several at once, and as a stream: each is what it is alone.
    let several = complete(json!([ids, [5, 6, 7], text]), json!({"max_tokens": 1}));
    assert_eq!(several["choices"][0], *choice);
    assert_eq!(columns(&several["choices"][1], "tokens").len(), 4);
    assert_eq!(columns(&several["choices"][2], "token_logprobs")[..logprobs.len()], logprobs);
    let body = json!({"prompt": [ids, [5, 6, 7]], "temperature": 0, "echo": true, "logprobs": 2, "max_tokens": 1, "stream": true});
    let (events, _) = server.post("/v1/completions", &body).events();
    for n in 0..2 {
        let pieces =
            || events.iter().map(|event| &event["choices"][0]).filter(move |piece| piece["index"] == n);
        let said: String = pieces().map(|piece| piece["text"].as_str().unwrap()).collect();
        assert_eq!(json!(said), several["choices"][n]["text"]);
        for name in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
            let told = pieces().filter(|piece| !piece["logprobs"].is_null());
            let told: Vec<Value> = told.flat_map(|piece| columns(piece, name)).collect();
            assert_eq!(told, columns(&several["choices"][n], name), "{name}");
        }
    }
    // Without figures only the text is said.
    let plain = complete(json!(text), json!({"logprobs": null}));
    assert_eq!(plain["choices"][0]["text"], text);
    assert_eq!(plain["choices"][0]["logprobs"], Value::Null);
}
