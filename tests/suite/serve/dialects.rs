//! Ollama's and Anthropic's dialects.

use serde_json::{Value, json};

use super::{Reply, Server, data_uri};
use crate::models::{Kind, STORY};

/// Base64 alone.
fn picture() -> String {
    data_uri(40, 30, 9).split_once(',').unwrap().1.to_string()
}

fn lines(reply: &Reply) -> Vec<Value> {
    assert_eq!(
        (reply.status, reply.headers["content-type"].as_str()),
        (200, "application/x-ndjson"),
        "{reply:?}"
    );
    reply.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn ollama() {
    let server = Server::start(Kind::Story, &["--slots", "1"]);
    let chat = json!({
        "model": "story:latest",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Q?", "images": [picture()]}],
        "options": {"temperature": 0, "num_ctx": 1024, "num_gpu": 99},
        "keep_alive": "5m",
    });
    let pieces = lines(&server.post("/api/chat", &chat));
    let said: String = pieces.iter().map(|piece| piece["message"]["content"].as_str().unwrap()).collect();
    assert_eq!(said, STORY);
    let (last, before) = pieces.split_last().unwrap();
    assert!(
        before.iter().all(|piece| piece["done"] == false && piece["model"] == "story:latest"),
        "{before:?}"
    );
    assert_eq!(
        (&last["done"], &last["done_reason"], &last["eval_count"]),
        (&json!(true), &json!("stop"), &json!(9))
    );
    assert!(last["prompt_eval_count"].as_u64().unwrap() > 16 && last["total_duration"].as_u64().unwrap() > 0);
    assert_eq!(last["owlet"]["images"][0]["width"], 40);

    let generate = |more: Value| {
        let mut body = json!({"model": "default", "prompt": "Q?", "images": [picture()], "stream": false});
        more.as_object().unwrap().iter().for_each(|(name, value)| body[name] = value.clone());
        server.post("/api/generate", &body)
    };
    let whole = generate(json!({})).json();
    assert_eq!((&whole["response"], &whole["done"]), (&json!(STORY), &json!(true)));
    let short = generate(json!({"options": {"num_predict": 2}})).json();
    assert_eq!((&short["response"], &short["done_reason"]), (&json!("A red"), &json!("length")));
    assert_eq!(
        generate(json!({"options": {"num_predict": -1, "stop": ["circle"]}})).json()["response"],
        "A red"
    );
    for (more, text) in [
        (json!({"format": "xml"}), "format: "),
        (json!({"think": true}), "think: "),
        (json!({"context": [1]}), "context: "),
        (json!({"options": {"mirostat": 1}}), "options.mirostat: "),
        (json!({"options": {"num_ctx": 1 << 20}}), "options.num_ctx: "),
        (json!({"options": {"other": 1}}), "options.other: "),
        (json!({"images": ["!"]}), "images[0]: "),
        (json!({"images": ["http://example.org/a.png"]}), "images[0]: "),
    ] {
        let reply = generate(more);
        assert_eq!(reply.status, 400, "{text}");
        assert!(reply.json()["error"].as_str().unwrap().starts_with(text), "{reply:?}");
    }
    let unknown = generate(json!({"model": "llama3"}));
    assert_eq!(
        (unknown.status, unknown.json()),
        (404, json!({"error": "model: expected default or story, found llama3"}))
    );
}

#[test]
fn what_ollamas_clients_ask_about_a_server() {
    let server = Server::start(Kind::Story, &[]);
    let tags = server.get("/api/tags", &[]).json();
    let model = &tags["models"][0];
    assert_eq!((&model["name"], &model["details"]["format"]), (&json!("story:latest"), &json!("gguf")));
    assert_eq!(model["digest"].as_str().unwrap().len(), 64);
    assert_eq!(server.get("/api/ps", &[]).json()["models"][0]["digest"], model["digest"]);
    assert_eq!(server.get("/api/version", &[]).json(), json!({"version": env!("CARGO_PKG_VERSION")}));
    let show = |name: &str| server.post("/api/show", &json!({"model": name}));
    assert_eq!(show("default").json()["capabilities"], json!(["completion", "vision"]));
    assert_eq!(show("other").status, 404);
    assert_eq!(server.get("/api/nothing", &[]).json(), json!({"error": "there is nothing at this path"}));
}

fn message(more: Value) -> Value {
    let image =
        json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": picture()}});
    let mut body = json!({
        "model": "default",
        "max_tokens": 50,
        "temperature": 0,
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": [image, {"type": "text", "text": "Q?"}]}],
    });
    more.as_object().unwrap().iter().for_each(|(name, value)| body[name] = value.clone());
    body
}

#[test]
fn anthropic() {
    let server = Server::start(Kind::Story, &["--slots", "1"]);
    let whole = server.post("/v1/messages", &message(json!({}))).json();
    let expected = json!([{"type": "text", "text": STORY}]);
    assert_eq!(
        (&whole["content"], &whole["stop_reason"], &whole["type"]),
        (&expected, &json!("end_turn"), &json!("message"))
    );
    let usage = &whole["usage"];
    assert_eq!((&usage["output_tokens"], &usage["cache_read_input_tokens"]), (&json!(9), &json!(0)));
    let counted = server.post("/v1/messages/count_tokens", &{
        let mut body = message(json!({}));
        body.as_object_mut().unwrap().retain(|name, _| name != "max_tokens" && name != "temperature");
        body
    });
    assert_eq!(counted.json(), json!({"input_tokens": usage["input_tokens"]}));
    let short = server.post("/v1/messages", &message(json!({"max_tokens": 2}))).json();
    assert_eq!(
        (&short["content"][0]["text"], &short["stop_reason"]),
        (&json!("A red"), &json!("max_tokens"))
    );
    let stopped = server.post("/v1/messages", &message(json!({"stop_sequences": ["circle"]}))).json();
    assert_eq!(
        (&stopped["stop_reason"], &stopped["stop_sequence"]),
        (&json!("stop_sequence"), &json!("circle"))
    );

    let stream = server.post("/v1/messages", &message(json!({"stream": true})));
    let mut events = Vec::new();
    for event in stream.body.split("\n\n").filter(|event| event.starts_with("event: ")) {
        let (name, data) = event.trim_start_matches("event: ").split_once("\ndata: ").unwrap();
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["type"], name);
        events.push(data);
    }
    let kinds: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(kinds[..2], ["message_start", "content_block_start"]);
    assert_eq!(kinds[kinds.len() - 3..], ["content_block_stop", "message_delta", "message_stop"]);
    let said: String = events.iter().filter_map(|event| event["delta"]["text"].as_str()).collect();
    assert_eq!(said, STORY);
    let delta = &events[events.len() - 2];
    assert_eq!(
        (&delta["delta"]["stop_reason"], &delta["usage"]["output_tokens"]),
        (&json!("end_turn"), &json!(9))
    );

    for (more, text) in [
        (json!({"max_tokens": null}), "max_tokens: expected a whole number, found none"),
        (json!({"tools": [{"name": "f"}]}), "tools: expected []: this server can do nothing else"),
        (json!({"thinking": {"type": "enabled", "budget_tokens": 1024}}), "thinking: "),
        (
            json!({"messages": [{"role": "system", "content": "x"}]}),
            "messages[0].role: expected user or assistant",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "document"}]}]}),
            "messages[0].content[0].type: ",
        ),
    ] {
        let reply = server.post("/v1/messages", &message(more));
        let error = &reply.json()["error"];
        assert_eq!((reply.status, &error["type"]), (400, &json!("invalid_request_error")), "{text}");
        assert!(error["message"].as_str().unwrap().starts_with(text), "{reply:?}");
    }
    let unknown = server.post("/v1/messages", &message(json!({"model": "claude"})));
    assert_eq!((unknown.status, &unknown.json()["error"]["type"]), (404, &json!("not_found_error")));
}
