//! OpenAI's dialect.

use serde_json::{Value, json};

use super::{Server, data_uri, with};
use crate::models::{Kind, STORY};

fn asked(text: &str) -> Value {
    json!({"model": "default", "messages": [{"role": "user", "content": text}]})
}

#[test]
fn models() {
    let server = Server::start(Kind::Story, &[]);
    let list = server.get("/v1/models", &[]).json();
    let ids: Vec<_> =
        list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!((ids, &list["object"]), (vec!["story", "default"], &json!("list")));
    for name in ["story", "default", "story:latest"] {
        assert_eq!(server.get(&format!("/v1/models/{name}"), &[]).json()["id"], name);
    }
    let unknown = server.get("/v1/models/gpt-4", &[]);
    assert_eq!(unknown.refusal(), (404, "model: expected default or story, found gpt-4".into()));
}

#[test]
fn a_whole_answer_and_a_stream_say_the_same() {
    let server = Server::start(Kind::Story, &["--slots", "1"]);
    let text = |part: &str| json!({"type": "text", "text": part});
    let picture = json!({"type": "image_url", "image_url": {"url": data_uri(40, 30, 9), "detail": "low"}});
    let body = json!({
        "model": "story",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [text("Here:"), picture, text("What is it?")]},
        ],
        "temperature": 0,
        "user": "someone",
        "tools": [],
        "presence_penalty": 0,
    });
    let whole = server.chat(&body);
    let choice = json!({
        "index": 0,
        "message": {"role": "assistant", "content": STORY, "refusal": null},
        "logprobs": null,
        "finish_reason": "stop",
    });
    assert_eq!(
        (&whole["choices"], &whole["object"], &whole["model"]),
        (&json!([choice]), &json!("chat.completion"), &json!("story"))
    );
    let usage = &whole["usage"];
    assert_eq!(usage["completion_tokens"], 9, "{usage}");
    assert!(usage["prompt_tokens"].as_u64().unwrap() > 16 + 20, "{usage}");
    let image = json!({
        "format": "PNG", "width": 40, "height": 30, "orientation": 1, "alpha": false, "size_px": 112, "cached": false,
    });
    assert_eq!(whole["owlet"]["images"], json!([image]));
    assert!(whole["owlet"]["timings"]["encode_s"].as_f64().unwrap() > 0.0);

    let more = json!({"stream": true, "stream_options": {"include_usage": true}});
    let (events, _) = server.post("/v1/chat/completions", &with(&body, more)).events();
    assert!(
        events
            .iter()
            .all(|event| event["object"] == "chat.completion.chunk" && event["id"] == events[0]["id"])
    );
    assert_eq!(events[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    let said: String =
        events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    let [.., last, behind] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((said.as_str(), &last["choices"][0]["finish_reason"]), (STORY, &json!("stop")));
    // The turn before is still known: all but its last position, and so is the picture.
    let n_prompt = usage["prompt_tokens"].as_u64().unwrap();
    assert_eq!((&behind["choices"], &behind["usage"]["prompt_tokens"]), (&json!([]), &json!(n_prompt)));
    assert_eq!(behind["usage"]["prompt_tokens_details"]["cached_tokens"], n_prompt - 1);
    assert_eq!(last["owlet"]["images"][0]["cached"], true);
}

/// In comments, which clients skip.
#[test]
fn a_stream_tells_how_far_a_picture_is() {
    let server = Server::start(Kind::Random, &[]);
    let content = json!([{"type": "image_url", "image_url": {"url": data_uri(20, 20, 1)}}]);
    let body = json!({"messages": [{"role": "user", "content": content}], "stream": true, "max_tokens": 2});
    let (events, comments) = server.post("/v1/chat/completions", &body).events();
    assert!(comments.iter().any(|comment| comment.starts_with("picture 1: step 1 of ")), "{comments:?}");
    assert!(comments.iter().any(|comment| comment.starts_with("prompt: ")), "{comments:?}");
    assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "length");
}

#[test]
fn settings_are_honoured() {
    let server = Server::start(Kind::Endless, &[]);
    let said = |more: Value| {
        let whole = server.chat(&with(&asked("Sing!"), more));
        let choices = whole["choices"].as_array().unwrap().iter();
        let said = |choice: &Value| choice["message"]["content"].as_str().unwrap().to_string();
        (
            choices.clone().map(said).collect::<Vec<_>>(),
            whole["choices"][0]["finish_reason"].as_str().unwrap().to_string(),
        )
    };
    let one = |text: &str, reason: &str| (vec![text.to_string()], reason.to_string());
    assert_eq!(said(json!({"max_tokens": 4})), one("la li lo la", "length"));
    assert_eq!(said(json!({"max_completion_tokens": 2, "max_tokens": 4})), one("la li", "length"));
    assert_eq!(said(json!({"stop": "lo", "max_tokens": 9})), one("la li", "stop"));
    assert_eq!(said(json!({"stop": ["zz", "li"], "max_tokens": 9})), one("la", "stop"));
    let hot = |seed: i64, n: u32| said(json!({"temperature": 3, "seed": seed, "max_tokens": 12, "n": n})).0;
    assert_eq!(hot(7, 1), hot(7, 1));
    let three = hot(7, 3);
    assert_eq!((three.len(), &three[..1], &three[1..2]), (3, &hot(7, 1)[..], &hot(8, 1)[..]));
    assert_ne!(hot(7, 1), hot(8, 1));
    assert_ne!(hot(-1, 1), hot(7, 1));
    assert_eq!(said(json!({"temperature": 3, "top_k": 1, "max_tokens": 4})).0, ["la li lo la"]);
    assert_eq!(said(json!({"temperature": 3, "top_p": 1e-6, "max_tokens": 4})).0, ["la li lo la"]);
    assert_eq!(said(json!({"temperature": 3, "min_p": 1, "max_tokens": 4})).0, ["la li lo la"]);
}

/// What would change the answer and is not honoured is refused, and its name is said.
#[test]
fn what_cannot_be_done_is_refused_by_name() {
    let server =
        Server::start(Kind::Story, &["--max-images", "2", "--max-pixels", "2000", "--max-tokens", "50"]);
    let refused = |body: Value| {
        let reply = server.post("/v1/chat/completions", &body);
        let error = &reply.json()["error"];
        let text = |name: &str| error[name].as_str().unwrap_or_default().to_string();
        (reply.status, text("param"), text("message"))
    };
    let fields = [
        (json!({"tools": [{"type": "function"}]}), "tools"),
        (json!({"tool_choice": "required"}), "tool_choice"),
        (json!({"functions": [{}]}), "functions"),
        (json!({"logprobs": "yes"}), "logprobs"),
        (json!({"presence_penalty": 0.5}), "presence_penalty"),
        (json!({"frequency_penalty": -1}), "frequency_penalty"),
        (json!({"logit_bias": {"5": 10}}), "logit_bias"),
        (json!({"modalities": ["audio"]}), "modalities"),
        (json!({"reasoning_effort": "high"}), "reasoning_effort"),
        (json!({"no_such_field": 1}), "no_such_field"),
        (json!({"n": 9}), "n"),
        (json!({"n": 0}), "n"),
        (json!({"seed": 1.5}), "seed"),
        (json!({"max_tokens": 51}), "max_tokens"),
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"stop": [1]}), "stop"),
        (json!({"stream": "yes"}), "stream"),
        (json!({"stream_options": {"other": 1}}), "stream_options.other"),
        (json!({"messages": "hi"}), "messages"),
        (json!({"messages": null}), "messages"),
    ];
    for (more, param) in fields {
        let (status, named, message) = refused(with(&asked("Q?"), more));
        assert_eq!((status, named.as_str()), (400, param), "{message}");
        assert!(message.starts_with(param), "{message}");
    }
    for (more, message) in [
        (json!({"temperature": -1}), "temperature: expected a finite number of at least 0, found -1"),
        (json!({"top_p": 0}), "top-p: expected above 0 and at most 1, found 0"),
        (json!({"messages": []}), "expected a question as the last message"),
    ] {
        assert_eq!(refused(with(&asked("Q?"), more)), (400, String::new(), message.into()));
    }
    let user = |content: Value| json!({"messages": [{"role": "user", "content": content}]});
    let picture = |url: &str| json!({"type": "image_url", "image_url": {"url": url}});
    let with_url = |url: &str| user(json!([picture(url)]));
    let small = data_uri(4, 4, 1);
    let place = "messages[0].content[0].image_url";
    let cases = [
        (with_url("https://example.org/a.png"), place, "this server fetches nothing"),
        (with_url("file:///etc/passwd"), place, "this server fetches nothing"),
        (with_url("data:image/png;base64,!"), place, "expected base64"),
        (with_url("aGVsbG8gd29ybGQ="), place, "no picture format is known"),
        (with_url(""), place, "the picture is empty"),
        (with_url(&data_uri(50, 50, 1)), place, "pixels of a picture: at most 2000, found 2500"),
        (
            user(json!([picture(&small), picture(&small), picture(&small)])),
            "pictures",
            "at most 2 in a request, found 3",
        ),
        (user(json!([{"type": "input_audio"}])), "messages[0].content[0].type", "expected text or image_url"),
        (user(json!(7)), "messages[0].content", "expected text or a list, found 7"),
        (
            json!({"messages": [{"role": "tool", "content": "x"}]}),
            "messages[0].role",
            "expected system, developer, user or assistant",
        ),
    ];
    for (body, param, text) in cases {
        let (status, named, message) = refused(body);
        assert_eq!((status, named.as_str()), (400, param), "{message}");
        assert!(message.contains(text), "{message}");
    }
    // A stream that cannot be has not begun.
    assert_eq!(refused(json!({"messages": [], "stream": true})).0, 400);
    let unknown = server.post("/v1/chat/completions", &with(&asked("Q?"), json!({"model": "gpt-4o"})));
    assert_eq!(unknown.refusal(), (404, "model: expected default or story, found gpt-4o".into()));
    let long = server.post("/v1/chat/completions", &asked(&"word ".repeat(5000)));
    assert_eq!((long.status, &long.json()["error"]["code"]), (400, &json!("context_length_exceeded")));
}
