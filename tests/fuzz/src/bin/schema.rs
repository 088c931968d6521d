//! Schemas for answers: what is taken can be answered, token by token, with JSON on one line.

use std::process::ExitCode;
use std::sync::OnceLock;

use allocation_counter::measure;
use owlet::engine::{Constraint, Loaded, Spelling};
use owlet::token::TokenId;
use owlet_fuzz::Target;
use serde::de::IgnoredAny;

const GOOD: &[&str] = &[
    r#"{"type": "object", "additionalProperties": false, "required": ["shape", "n"],
        "properties": {"shape": {"enum": ["circle", "square", "圆"]}, "n": {"type": "integer", "minimum": 1, "maximum": 50}}}"#,
    r##"{"type": "array", "minItems": 1, "maxItems": 4, "items": {"anyOf": [{"type": "null"}, {"const": [1, 2.5]}, {"$ref": "#"}]}}"##,
    r##"{"$defs": {"tree": {"type": "object", "properties": {"left": {"$ref": "#/$defs/tree"}}}}, "$ref": "#/$defs/tree"}"##,
    r#"{"type": "string", "pattern": "^[A-Z]{1,4}(-\\d+)?$", "maxLength": 12}"#,
    r#"{"type": ["number", "boolean"], "multipleOf": 0.25, "exclusiveMinimum": -3}"#,
    r#"{"type": "string", "format": "date-time"}"#,
    r#"{"patternProperties": {"^x-": {"type": "string", "minLength": 2}}, "additionalProperties": {"type": "integer"}}"#,
    r#"{"allOf": [{"required": ["a"]}, {"properties": {"a": {"type": "boolean"}}}], "oneOf": [{"type": "object"}]}"#,
    r#"{"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": false}"#,
];

/// Tokens that an answer is followed for.
const MAX_TOKENS: usize = 60;
/// What making a grammar, or a token of it, may hold at once.
const MAX_BYTES: u64 = 512 << 20;

/// The built-in model's vocabulary.
static VOCABULARY: OnceLock<(Loaded, Spelling)> = OnceLock::new();

fn main() -> ExitCode {
    let vocabulary = Loaded::open(None, 1).and_then(|model| {
        let spelling = Spelling::new(&model.tokenizer, &model.prompt.stop_ids)?;
        Ok((model, spelling))
    });
    match vocabulary {
        Ok(vocabulary) => VOCABULARY.get_or_init(|| vocabulary),
        Err(error) => {
            eprintln!("the built-in vocabulary: {error}");
            return ExitCode::FAILURE;
        }
    };
    let corpus = GOOD.iter().map(|text| (text.as_bytes().to_vec(), text.len())).collect();
    Target { name: "schema", corpus, run }.main()
}

fn run(bytes: &[u8]) {
    let Some((model, spelling)) = VOCABULARY.get() else { return };
    let text = String::from_utf8_lossy(bytes);
    let Some(constraint) = bounded(|| Constraint::json_schema(&text, "fuzz")) else { return };
    let Some(mut guide) = bounded(|| spelling.guide(&constraint)) else { return };
    let mut ids = Vec::new();
    let mut walk = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    while ids.len() < MAX_TOKENS && !guide.is_complete() {
        let Some(allowed) = bounded(|| guide.allowed()) else { return };
        let all: Vec<TokenId> =
            (0..model.tokenizer.n_vocab() as TokenId).filter(|&id| allowed.contains(id)).collect();
        walk = walk.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let id = all[(walk >> 33) as usize % all.len()];
        assert_eq!(guide.n_possible(&[id]), 1, "what is allowed is possible");
        if model.prompt.stop_ids.contains(&id) {
            assert!(guide.is_met(), "an end that may come is one");
            break;
        }
        assert!(!model.tokenizer.is_special(id), "a special token in an answer");
        if bounded(|| guide.took(id)).is_none() {
            return;
        }
        ids.push(id);
    }
    if guide.is_met() {
        let answer = model.tokenizer.decode(&ids);
        // Its syntax alone: numbers may be larger than those of computers.
        let is_json = serde_json::from_str::<IgnoredAny>(&answer).is_ok();
        assert!(is_json && !answer.contains('\n'), "{answer:?}");
    }
}

/// What `act` makes, without taking too much memory for it.
fn bounded<T>(act: impl FnOnce() -> owlet::error::Result<T>) -> Option<T> {
    let mut made = None;
    let taken =
        measure(|| made = act().map_err(|error| assert_eq!(error.to_string().lines().count(), 1)).ok());
    assert!(taken.bytes_max < MAX_BYTES, "{} bytes at once", taken.bytes_max);
    made
}
