//! Answers that may only be what the caller said: one of some texts, or JSON of a schema.

use std::path::PathBuf;

use owlet::engine::{
    CacheOptions, Constraint, Engine, FinishReason, Loaded, Options, Outcome, Request, Sampling, Speculation,
};
use owlet::model::KvType;
use owlet::prompt::Message;
use serde_json::{Value, json};

use crate::engine::{engine, engine_with, finish, request};
use crate::models::Kind;
use crate::program::owlet;

/// The built-in model.
fn built_in() -> Engine {
    built_in_with(1)
}

fn built_in_with(n_slots: u32) -> Engine {
    let options = Options {
        n_ctx: 512,
        n_slots,
        kv_type: KvType::F16,
        cache: CacheOptions::default(),
        speculation: Speculation::Auto,
        low_memory: false,
    };
    Engine::start(Loaded::open(None, 2).unwrap(), options).unwrap()
}

fn ask(engine: &Engine, question: &str, constraint: &Constraint, sampling: Sampling) -> Outcome {
    let request = Request {
        sampling,
        max_tokens: 200,
        constraint: Some(constraint.clone()),
        ..request(vec![Message::user(question, [])], vec![])
    };
    let (outcome, text, _) = finish(&engine.submit(request).unwrap());
    assert_eq!(text, outcome.text, "what was streamed is the answer");
    outcome
}

/// Greedy, and hot enough to say anything.
fn ways() -> impl Iterator<Item = Sampling> {
    let hot = |seed| Sampling { temperature: 5.0, seed, ..Sampling::GREEDY };
    std::iter::once(Sampling::GREEDY).chain((0..3).map(hot))
}

fn example(name: &str) -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples").join(name).display().to_string()
}

/// Whether `value` is what `schema` says, for the words of JSON Schema that are used here.
fn is_valid(schema: &Value, value: &Value) -> bool {
    let is_type = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("type {other}"),
    };
    schema.as_object().unwrap().iter().all(|(word, rule)| match word.as_str() {
        "type" => match rule {
            Value::Array(names) => names.iter().any(|name| is_type(name.as_str().unwrap())),
            name => is_type(name.as_str().unwrap()),
        },
        "enum" => rule.as_array().unwrap().contains(value),
        "const" => rule == value,
        "minimum" => value.as_f64().is_none_or(|x| x >= rule.as_f64().unwrap()),
        "maximum" => value.as_f64().is_none_or(|x| x <= rule.as_f64().unwrap()),
        "maxLength" => value.as_str().is_none_or(|s| s.chars().count() as u64 <= rule.as_u64().unwrap()),
        "minItems" => value.as_array().is_none_or(|a| a.len() as u64 >= rule.as_u64().unwrap()),
        "maxItems" => value.as_array().is_none_or(|a| a.len() as u64 <= rule.as_u64().unwrap()),
        "items" => value.as_array().is_none_or(|a| a.iter().all(|item| is_valid(rule, item))),
        "required" => {
            let names = rule.as_array().unwrap();
            value.as_object().is_none_or(|o| names.iter().all(|name| o.contains_key(name.as_str().unwrap())))
        }
        "properties" => value
            .as_object()
            .is_none_or(|o| o.iter().all(|(name, v)| rule.get(name).is_none_or(|rule| is_valid(rule, v)))),
        "additionalProperties" => {
            assert_eq!(rule, false);
            let known = &schema["properties"];
            value.as_object().is_none_or(|o| o.keys().all(|name| known.get(name).is_some()))
        }
        "anyOf" => rule.as_array().unwrap().iter().any(|schema| is_valid(schema, value)),
        "pattern" => {
            assert_eq!(rule, "^[A-Z]{1,4}$");
            let is_good = |s: &str| (1..=4).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_uppercase());
            value.as_str().is_none_or(is_good)
        }
        other => panic!("word {other}"),
    })
}

fn schemas() -> Vec<Value> {
    let colours = json!({"enum": ["red", "green", "blue", "yellow", "红色"]});
    let shapes = json!({"type": "string", "enum": ["circle", "square", "triangle"]});
    vec![
        json!({
            "type": "object", "additionalProperties": false, "required": ["shape", "colour", "n"],
            "properties": {"shape": shapes, "colour": colours, "n": {"type": "integer", "minimum": 1, "maximum": 5}},
        }),
        json!({"type": "array", "minItems": 2, "maxItems": 3, "items": colours}),
        json!({"type": "string", "maxLength": 12}),
        json!({"type": ["boolean", "null"]}),
        json!({"type": "number", "minimum": -2, "maximum": 17.5}),
        json!({"type": "string", "pattern": "^[A-Z]{1,4}$"}),
        json!({"const": {"a \"quoted\" key": [1, null, "中文 \\ \n"]}}),
        json!({
            "type": "object", "additionalProperties": false, "required": ["读"],
            "properties": {
                "读": {"type": "string", "maxLength": 5},
                "things": {"type": "array", "maxItems": 2, "items": {
                    "type": "object", "additionalProperties": false, "required": ["at"],
                    "properties": {"at": {"anyOf": [{"type": "null"}, {"enum": ["left", "right"]}]}},
                }},
            },
        }),
    ]
}

#[test]
fn every_answer_is_what_the_schema_says() {
    let engine = built_in();
    let mut said = std::collections::BTreeSet::new();
    for schema in schemas() {
        let constraint = Constraint::json_schema(&schema.to_string(), "schema").unwrap();
        for (question, sampling) in
            ["What is in the picture?", "图里有什么？"].iter().flat_map(|q| ways().map(move |w| (q, w)))
        {
            let outcome = ask(&engine, question, &constraint, sampling);
            assert!(!outcome.broke_off, "{outcome:?}");
            let value: Value = serde_json::from_str(&outcome.text)
                .unwrap_or_else(|error| panic!("{error} in {:?} by {schema}", outcome.text));
            assert!(is_valid(&schema, &value), "{value} by {schema}");
            assert!(!outcome.text.contains('\n'), "{:?} is one line", outcome.text);
            said.insert(outcome.text);
        }
    }
    println!("{said:#?}");
    assert!(said.len() > 20, "heat finds many answers: {said:?}");
}

#[test]
fn every_answer_is_one_of_the_choices() {
    let engine = built_in();
    let lists: [&[&str]; 6] = [
        &["red", "green", "blue", "yellow"],
        &["红色", "绿色", "蓝色", "黄色", "说不清"],
        // each the beginning of another
        &["a", "a red", "a red circle", "a red circle, I think"],
        &["10", "1", "100", "一", "一个", "一个圆"],
        // not in the vocabulary but for bytes, and what grammars and templates may take for something else
        &["🦉", "🦉🦉", "naïve", "</s>", "<bot>", "\"quoted\"", "a | b", "/x/", "\\n", "two\nlines"],
        &["only this"],
    ];
    for list in lists {
        let constraint = Constraint::choice(list).unwrap();
        let mut said = std::collections::BTreeSet::new();
        for question in ["What colour is it?", "有几个？"] {
            for sampling in ways() {
                let outcome = ask(&engine, question, &constraint, sampling);
                assert!(
                    list.contains(&outcome.text.as_str()) && !outcome.broke_off,
                    "{outcome:?} of {list:?}"
                );
                let ends = [FinishReason::Complete, FinishReason::Eos];
                assert!(ends.contains(&outcome.finish_reason), "{outcome:?}");
                said.insert(outcome.text);
            }
        }
        assert!(said.len() > list.len().min(6) / 3, "heat finds more than one: {said:?} of {list:?}");
    }
}

/// The model's own answers among others, in both languages.
#[test]
fn the_right_choice_is_taken() {
    let cases = [
        ("red-circle.png", "What colour is the circle?", "blue,red,green,yellow", "red"),
        ("green-square.png", "What colour is the square?", "blue,red,green,yellow", "green"),
        ("four-yellow-squares.png", "What colour are the squares?", "blue,red,green,yellow", "yellow"),
        ("text-k7.png", "What colour is the text?", "blue,red,green,yellow", "blue"),
        ("green-square.png", "正方形是什么颜色？", "红色,绿色,蓝色,黄色", "绿色"),
        ("text-k7.png", "文字是什么颜色？", "红色,绿色,蓝色,黄色", "蓝色"),
        ("three-blue-triangles.png", "How many triangles are there?", "1,2,3,4,5", "3"),
        ("four-yellow-squares.png", "有几个正方形？", "5,4,3,2,1", "4"),
        ("red-circle.png", "Where is the circle?", "left,right,centre", "centre"),
        ("text-owl.png", "What does the text say?", "OWN,OWL,COW", "OWL"),
        (
            "red-circle.png",
            "What is in the picture?",
            "a green circle,a red circle,a red square",
            "a red circle",
        ),
    ];
    for (picture, question, choices, expected) in cases {
        let out = owlet(&["run", "-q", "-i", &example(picture), "--choice", choices, question]).ok();
        assert_eq!(out, format!("{expected}\n"), "{picture}: {question} {choices}");
    }
}

/// Drafts, neighbours and how a prompt was cut: none of them changes a constrained answer, and none of those around it.
#[test]
fn a_constraint_lives_beside_others() {
    let constraints = [
        None,
        Some(Constraint::json_schema(&schemas()[0].to_string(), "s").unwrap()),
        Some(Constraint::choice(&["la li lo la li lo la", "la li", "lo"]).unwrap()),
        Some(Constraint::json_schema(r#"{"type": "array", "items": {"type": "integer"}}"#, "s").unwrap()),
    ];
    let hot = Sampling { temperature: 1.5, seed: 3, ..Sampling::GREEDY };
    let requests: Vec<Request> = constraints
        .iter()
        .flat_map(|constraint| [Sampling::GREEDY, hot].map(|sampling| (constraint.clone(), sampling)))
        .map(|(constraint, sampling)| Request {
            sampling,
            max_tokens: 90,
            constraint,
            ..request(vec![Message::user("la li lo la li [1, 2, 1, 2, 1, 2", [])], vec![])
        })
        .collect();
    for kind in [Kind::Random, Kind::Endless] {
        let plain = engine_with(kind, |options| options.speculation = Speculation::Off);
        let expected: Vec<_> =
            requests.iter().map(|request| finish(&plain.submit(request.clone()).unwrap()).0.ids).collect();
        let drafting = engine_with(kind, |options| options.speculation = Speculation::Always);
        for (request, expected) in requests.iter().zip(&expected) {
            let (outcome, ..) = finish(&drafting.submit(request.clone()).unwrap());
            assert_eq!(&outcome.ids, expected, "{kind:?} with drafts: {request:?}");
        }
        let crowd = engine(kind, 3);
        let tickets: Vec<_> = requests.iter().map(|request| crowd.submit(request.clone()).unwrap()).collect();
        for ((ticket, expected), request) in tickets.iter().zip(&expected).zip(&requests) {
            assert_eq!(&finish(ticket).0.ids, expected, "{kind:?} among others: {request:?}");
        }
    }
}

/// Rows of a draft cost a pass; those that no answer can have are left out before it.
#[test]
fn drafts_that_cannot_come_are_not_computed() {
    let drafting = engine_with(Kind::Random, |options| options.speculation = Speculation::Always);
    let n_drafted = |constraint| {
        let request =
            Request { max_tokens: 12, constraint, ..request(vec![Message::user("Sing!", [])], vec![]) };
        finish(&drafting.submit(request).unwrap()).0.n_drafted
    };
    assert!(n_drafted(None) > 0);
    // Nothing of the prompt, and no letter twice, so that no draft comes from the answer either.
    assert_eq!(n_drafted(Some(Constraint::choice(&["QWXYV"]).unwrap())), 0);
}

#[test]
fn what_breaks_off_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let schema = dir.path().join("s.json");
    std::fs::write(&schema, r#"{"type": "object", "required": ["name"], "properties": {"name": {"type": "string", "minLength": 30}}}"#).unwrap();
    let schema = schema.to_str().unwrap();
    let ran = owlet(&["run", "-q", "--output-schema", schema, "-n", "4", "Who?"]);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert_eq!(ran.err, "owlet: the answer was ended by the token limit (-n) before it was complete\n");
    let ran = owlet(&["run", "--json", "--output-schema", schema, "-n", "4", "Who?"]);
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(
        (ran.code, &report["complete"], &report["finish_reason"]),
        (Some(3), &json!(false), &json!("length"))
    );
    let report: Value =
        serde_json::from_str(&owlet(&["run", "--json", "--choice", "yes,no", "Is it?"]).ok()).unwrap();
    assert_eq!(report["complete"], true);
}

/// Known before a model is opened: the one that is named here does not exist.
#[test]
fn wrong_constraints_are_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(dir.path().join(name), text).unwrap();
        dir.path().join(name).display().to_string()
    };
    let cut = file("cut.json", "{\"type\": ");
    let new = file("new.json", r#"{"if": {"type": "string"}}"#);
    let huge = file("huge.json", &format!("{{\"title\": \"{}\"}}", "x".repeat(200_000)));
    let good = file("good.json", r#"{"type": "integer"}"#);
    let cases: [(&[&str], i32, String); 8] = [
        (&["--output-schema", "no.json"], 1, "owlet: no.json: No such file".into()),
        (
            &["--output-schema", &cut],
            1,
            format!("owlet: {cut}: EOF while parsing a value at line 1 column 9"),
        ),
        (&["--output-schema", &new], 1, format!("owlet: {new}: Unimplemented keys: [\"if\"]")),
        (
            &["--output-schema", &huge],
            1,
            format!("owlet: {huge}: bytes of a schema: at most 131072, found 20001"),
        ),
        (
            &["--choice", "a,,b"],
            2,
            "error: invalid value 'a,,b' for '--choice <A,B,C>': choice 2: expected a text".into(),
        ),
        (
            &["--choice", "a,a"],
            2,
            "error: invalid value 'a,a' for '--choice <A,B,C>': choice 2: \"a\" is there twice".into(),
        ),
        (
            &["--choice", "a", "--output-schema", &good],
            2,
            "error: the argument '--choice <A,B,C>' cannot be used with".into(),
        ),
        (
            &["--choice", "a", "--stop", "b"],
            2,
            "error: the argument '--choice <A,B,C>' cannot be used with".into(),
        ),
    ];
    for (flags, code, text) in cases {
        let args = [&["run", "-m", "nowhere.gguf", "Q?"], flags].concat();
        let ran = owlet(&args);
        assert!(
            ran.code == Some(code) && ran.out.is_empty() && ran.err.starts_with(&text),
            "{flags:?}\n{ran:?}"
        );
        assert!(code == 2 || ran.err.lines().count() == 1, "more than a line: {}", ran.err);
    }
}

/// What was checked once is answered as often as wanted: two at once, each with its own place in the grammar and its own random
/// numbers, and later ones from the beginning.
#[test]
fn a_checked_request_is_answered_again_and_again() {
    let constraint = Constraint::choice(&["red", "a red circle", "a blue square", "nothing"]).unwrap();
    let asked = |seed| Request {
        sampling: Sampling { temperature: 5.0, seed, ..Sampling::GREEDY },
        max_tokens: 200,
        constraint: Some(constraint.clone()),
        ..request(vec![Message::user("What is it?", [])], vec![])
    };
    let alone: Vec<_> = (0..4).map(|seed| finish(&built_in().submit(asked(seed)).unwrap()).0.ids).collect();
    assert!(alone.iter().any(|ids| *ids != alone[0]), "{alone:?}");
    let engine = built_in_with(2);
    let checked = engine.check(asked(7)).unwrap();
    let tickets: Vec<_> =
        (0..4).map(|seed| engine.answer(checked.clone().with_seed(seed).unwrap()).unwrap()).collect();
    let again: Vec<_> = tickets.iter().map(|ticket| finish(ticket).0.ids).collect();
    assert_eq!(again, alone);
}
