//! Answers that have to be JSON, in each dialect's words.

use serde_json::{Value, json};
use std::time::{Duration, Instant};

use super::{Server, data_uri, with};
use crate::models::Kind;

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {"what": {"enum": ["a circle", "圆", "a \"square\""]}, "n": {"type": "integer", "minimum": 3, "maximum": 7}},
        "required": ["what", "n"],
        "additionalProperties": false,
    })
}

fn check(text: &Value) {
    let text = text.as_str().unwrap();
    let found: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text:?}"));
    let names: Vec<_> = found.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["what", "n"], "in the order of the schema");
    assert!(schema()["properties"]["what"]["enum"].as_array().unwrap().contains(&found["what"]), "{text}");
    assert!((3..=7).contains(&found["n"].as_i64().unwrap()), "{text}");
}

/// A model of random weights would never say it by itself.
#[test]
fn an_answer_is_what_its_schema_says() {
    let server = Server::start(Kind::Random, &[]);
    let asked = json!({"messages": [{"role": "user", "content": "Q?"}], "max_tokens": 200});
    let named = |schema: Value| json!({"type": "json_schema", "json_schema": {"name": "what_it-is1", "schema": schema}});
    for strict in [json!(null), json!(true), json!(false)] {
        let mut format = named(schema());
        format["json_schema"]["strict"] = strict;
        let whole =
            server.chat(&with(&asked, json!({"response_format": format, "temperature": 2, "seed": 3})));
        check(&whole["choices"][0]["message"]["content"]);
        assert_eq!(whole["choices"][0]["finish_reason"], "stop");
    }
    let streamed = json!({"response_format": named(schema()), "stream": true, "temperature": 1, "n": 2});
    let (events, _) = server.post("/v1/chat/completions", &with(&asked, streamed)).events();
    for n in 0..2 {
        let of_choice = events.iter().filter(|event| event["choices"][0]["index"] == n);
        let said: String =
            of_choice.filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
        check(&json!(said));
    }
    let any =
        server.chat(&with(&asked, json!({"response_format": {"type": "json_object"}, "max_tokens": 3})));
    let said = any["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(said.starts_with('{') && any["choices"][0]["finish_reason"] == "length", "{any}");

    let asked = json!({"model": "default", "messages": [{"role": "user", "content": "Q?"}], "stream": false});
    check(&server.post("/api/chat", &with(&asked, json!({"format": schema()}))).json()["message"]["content"]);
    let asked = json!({"model": "default", "prompt": "Q?", "stream": false, "options": {"num_predict": 3}});
    let any = server.post("/api/generate", &with(&asked, json!({"format": "json"}))).json();
    assert!(any["response"].as_str().unwrap().starts_with('{') && any["done_reason"] == "length", "{any}");

    let asked = json!({"max_tokens": 200, "messages": [{"role": "user", "content": "Q?"}]});
    let format = json!({"type": "json_schema", "schema": schema()});
    for more in
        [json!({"output_config": {"format": format, "effort": "high"}}), json!({"output_format": format})]
    {
        check(&server.post("/v1/messages", &with(&asked, more)).json()["content"][0]["text"]);
    }
}

#[test]
fn what_cannot_be_kept_to_is_refused_by_its_place() {
    let server = Server::start(Kind::Story, &[]);
    let refused = |path: &str, more: Value| {
        let body = json!({"messages": [{"role": "user", "content": "Q?"}]});
        let reply = server.post(path, &with(&body, more));
        let error = &reply.json()["error"];
        let message = error["message"].as_str().or(error.as_str()).unwrap_or_default().to_string();
        (reply.status, error["param"].clone(), message)
    };
    let chat = |format: Value| refused("/v1/chat/completions", json!({"response_format": format}));
    let schema =
        |schema: Value| chat(json!({"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}));
    let place = "response_format.json_schema.schema";
    let wrong = json!({"properties": {"a": {"items": {"if": {}}}}});
    let cases = [
        (schema(wrong.clone()), place, format!("{place}#/properties/a/items: Unimplemented keys: [\"if\"]")),
        (schema(json!({"type": "objekt"})), place, format!("{place}: Invalid type: objekt")),
        (schema(json!(7)), place, format!("{place}: expected a JSON Schema, found 7")),
        (schema(json!({"$ref": "#"})), place, format!("{place}: no answer that has an end is what it says")),
        (
            schema(json!({"enum": ["x".repeat(200_000)]})),
            place,
            format!("{place}: bytes of a schema: at most 131072"),
        ),
        (
            chat(json!({"type": "json_schema"})),
            "response_format.json_schema",
            "response_format.json_schema: expected".into(),
        ),
        (
            chat(json!({"type": "json_schema", "json_schema": {"schema": {}}})),
            "response_format.json_schema.name",
            "response_format.json_schema.name: expected up to 64 letters".into(),
        ),
        (
            chat(json!({"type": "xml"})),
            "response_format.type",
            "response_format.type: expected text, json".into(),
        ),
        (
            chat(json!({"type": "text", "other": 1})),
            "response_format.other",
            "response_format.other: this".into(),
        ),
        (chat(json!("json")), "response_format", "response_format: expected an object".into()),
    ];
    for ((status, param, message), expected, text) in cases {
        assert_eq!((status, param), (400, json!(expected)), "{message}");
        assert!(message.starts_with(&text), "{message}");
    }
    // A stop text would cut what has to be whole.
    let both = json!({"response_format": {"type": "json_object"}, "stop": ["}"]});
    assert_eq!(refused("/v1/chat/completions", both).0, 400);
    assert_eq!(chat(json!({"type": "text"})).0, 200);

    for (format, text) in [
        (wrong.clone(), "format#/properties/a/items: Unimplemented"),
        (json!("xml"), "format: expected \"json\" or a JSON Schema"),
        (json!(true), "format: expected \"json\" or a JSON Schema"),
    ] {
        let (status, _, message) = refused("/api/chat", json!({"format": format}));
        assert!(status == 400 && message.starts_with(text), "{message}");
    }
    for (more, text) in [
        (
            json!({"output_config": {"format": {"type": "json_schema", "schema": wrong}}}),
            "output_config.format.schema#/properties/a/items: Unimplemented",
        ),
        (
            json!({"output_config": {"format": {"type": "text"}}}),
            "output_config.format.type: expected json_schema",
        ),
        (json!({"output_config": {"effort": "low"}}), "output_config.effort: expected \"high\""),
        (json!({"output_format": {"type": "json_schema"}}), "output_format.schema: expected a JSON Schema"),
    ] {
        let (status, _, message) = refused("/v1/messages", with(&json!({"max_tokens": 9}), more));
        assert!(status == 400 && message.starts_with(text), "{message}");
    }
}

/// Schemas that mean harm, more of them than threads that read them: the server goes on answering others meanwhile.
#[test]
fn hostile_schemas_stop_nobody() {
    let server = std::sync::Arc::new(Server::start(Kind::Story, &["--queue", "40"]));
    let many = |n: usize| {
        let properties = (0..n).map(|n| (format!("p{n}"), json!({"type": "integer"})));
        json!({"properties": properties.collect::<serde_json::Map<_, _>>()})
    };
    let patterns: Vec<_> =
        (0..3).map(|n| json!({"type": "string", "pattern": format!(".*a{n}.*b.{{20}}")})).collect();
    let schemas = [
        many(400),
        json!({"items": {"anyOf": [many(399), many(398), many(397)]}}),
        json!({"allOf": patterns}),
        json!({"type": "string", "pattern": "((((a{100}){100}){100}){100}){100}"}),
        json!({"anyOf": (0..3000).map(|n| json!({"type": "string", "pattern": format!("a{n}.*")})).collect::<Vec<_>>()}),
    ];
    let asking: Vec<_> = (0..20)
        .map(|n| {
            let (server, schema) = (server.clone(), schemas[n % schemas.len()].clone());
            std::thread::spawn(move || {
                let format = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": schema}});
                let messages = json!([{"role": "user", "content": "Q?"}]);
                let body = json!({"messages": messages, "max_tokens": 4, "response_format": format});
                server.post("/v1/chat/completions", &body).status
            })
        })
        .collect();
    let mut slowest = Duration::ZERO;
    while asking.iter().any(|asking| !asking.is_finished()) {
        let started = Instant::now();
        assert_eq!(server.get("/v1/models", &[]).status, 200);
        slowest = slowest.max(started.elapsed());
    }
    let statuses: Vec<_> = asking.into_iter().map(|asking| asking.join().unwrap()).collect();
    assert!(statuses.iter().all(|status| [200, 400].contains(status)), "{statuses:?}");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    // With a picture, which is decoded on the same threads.
    let picture = json!({"type": "image_url", "image_url": {"url": data_uri(9, 9, 1)}});
    assert!(
        server.chat(&json!({"messages": [{"role": "user", "content": [picture]}]}))["choices"].is_array()
    );
}
