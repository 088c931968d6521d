//! The OpenAPI document that the server publishes: what it takes and answers, field by field. A test holds it against the routes, against
//! the fields that requests are read by, and against docs/server.md.

use axum::http::header;
use axum::response::{IntoResponse, Response};

const TEXT: &str = include_str!("openapi.json");

/// `GET /openapi.json`
pub async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], TEXT).into_response()
}

#[cfg(test)]
mod tests {
    use super::TEXT;
    use crate::engine::{CacheOptions, Engine, Loaded, Options as EngineOptions, Speculation};
    use crate::model::KvType;
    use crate::serve::app::App;
    use crate::serve::caller::Caller;
    use crate::serve::fields::{Fields, known};
    use crate::serve::keeper::{Keeper, Source};
    use crate::serve::{Limits, Options, anthropic, ollama, openai, slots};
    use ggml::Cancel;
    use serde_json::Value;
    use std::collections::BTreeSet;
    use std::time::Duration;

    fn document() -> Value {
        serde_json::from_str(TEXT).unwrap()
    }

    #[test]
    fn every_route_is_told_and_no_other() {
        let routes = include_str!("routes.rs").split(".route(\"").skip(1).map(|route| {
            let (path, rest) = route.split_once("\", ").unwrap();
            let (method, _) = rest.split_once('(').unwrap();
            (path.replace("{*name}", "{name}"), method.to_string())
        });
        let document = document();
        let told = document["paths"].as_object().unwrap().iter().flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(move |method| (path.clone(), method.clone()))
        });
        assert_eq!(told.collect::<BTreeSet<_>>(), routes.collect::<BTreeSet<_>>());
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    }

    /// Each request's examples are read as requests are. What was looked for then is what the document says there can be.
    #[test]
    fn every_field_is_told_and_no_other() {
        let (app, document) = (app(), document());
        type Read = fn(&App, &Caller, Fields) -> Option<String>;
        fn read<T>(result: crate::serve::fault::Result<T>) -> Option<String> {
            result.err().map(|fault| fault.message)
        }
        let readers: [(&str, Read); 9] = [
            ("/v1/chat/completions", |app, by, fields| read(openai::read_chat(app, by, fields))),
            ("/v1/completions", |app, by, fields| read(openai::read_completion(app, by, fields))),
            ("/v1/embeddings", |app, by, fields| read(openai::read_embedding(app, by, fields))),
            ("/v1/messages", |app, by, fields| read(anthropic::read_messages(app, by, fields))),
            ("/v1/messages/count_tokens", |app, by, fields| read(anthropic::read_count(app, by, fields))),
            ("/api/chat", |app, by, fields| read(ollama::read_chat(app, by, fields))),
            ("/api/generate", |app, by, fields| read(ollama::read_generate(app, by, fields))),
            ("/api/show", |app, by, fields| read(ollama::read_show(app, by, fields))),
            ("/slots/{id}", |app, _, fields| {
                read(slots::Deed::read(app, ("0", Some("action=save")), fields))
            }),
        ];
        let with_bodies =
            document["paths"].as_object().unwrap().iter().filter(|(_, path)| path["post"].is_object());
        assert_eq!(with_bodies.count(), readers.len());
        let docs = include_str!("../../docs/server.md");
        let caller = Caller { id: "x".into(), key: None };
        for (path, read) in readers {
            let body = &document["paths"][path]["post"]["requestBody"]["content"]["application/json"];
            known::take();
            for (name, example) in body["examples"].as_object().unwrap() {
                let fields = Fields::of_body(example["value"].to_string().as_bytes()).unwrap();
                assert_eq!(read(&app, &caller, fields), None, "{path}: {name}");
            }
            let mut told = BTreeSet::new();
            names(&document, &body["schema"], "", &mut told);
            assert_eq!(told, known::take(), "{path}");
            for field in &told {
                let name = field.rsplit('.').next().unwrap().trim_end_matches("[]");
                let is_there = docs.contains(&format!("`{name}`")) || docs.contains(&format!(".{name}`"));
                assert!(is_there, "docs/server.md says nothing of {name}, {path}");
            }
        }
    }

    /// The fields that `schema` describes, behind `place`.
    fn names(document: &Value, schema: &Value, place: &str, to: &mut BTreeSet<String>) {
        if let Some(name) = schema["$ref"].as_str() {
            let pointer = name.strip_prefix('#').unwrap();
            return names(document, document.pointer(pointer).unwrap(), place, to);
        }
        for branch in schema["anyOf"].as_array().into_iter().flatten() {
            names(document, branch, place, to);
        }
        let dot = if place.is_empty() { "" } else { "." };
        for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
            let place = format!("{place}{dot}{name}");
            names(document, inner, &place, to);
            to.insert(place);
        }
        if schema["items"].is_object() {
            names(document, &schema["items"], &format!("{place}[]"), to);
        }
    }

    /// On the built-in model.
    fn app() -> App {
        let options = EngineOptions {
            n_ctx: 512,
            n_slots: 1,
            kv_type: KvType::F16,
            cache: CacheOptions::default(),
            speculation: Speculation::Off,
            low_memory: false,
        };
        let limits = Limits {
            n_connections: 1,
            n_queued: 1,
            n_of_key: 1,
            max_body_bytes: 1 << 20,
            max_pixels: 1 << 20,
            n_pictures: 4,
            max_tokens: 512,
            answer: Duration::from_secs(60),
            peer: Duration::from_secs(60),
            drain: Duration::from_secs(60),
        };
        let server = Options::new(([127, 0, 0, 1], 0).into(), limits);
        let open = move || Engine::start(Loaded::open(None, 1)?, options.clone());
        let source = Source { open: Box::new(open), self_test: None };
        let keeper = Keeper::open(source, None, Cancel::new()).unwrap();
        App::new(keeper, server, Cancel::new())
    }
}
