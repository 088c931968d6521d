use super::super::sentencepiece::tests::tiny_model;
use super::*;

/// A vocabulary of `<unk> <s> </s>`, 256 bytes and `▁a`: 260 pieces.
fn read(files: &[(&str, &str)], n_vocab: u32) -> Result<Tokenizer> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.json"), "{}").unwrap();
    std::fs::write(dir.path().join("tokenizer.model"), tiny_model()).unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    Tokenizer::read(&ConfigFiles::read(dir.path())?, n_vocab)
}

#[test]
fn added_tokens_stand_behind_the_pieces() {
    let files = [
        ("added_tokens.json", r#"{"<human>": 260, "<bot>": 261, "plain": 263}"#),
        ("special_tokens_map.json", r#"{"additional_special_tokens": ["<human>", {"content": "<bot>"}]}"#),
    ];
    let tokenizer = read(&files, 266).unwrap();
    let config = &tokenizer.config;
    assert_eq!(config.tokens.len(), 266);
    let shown: Vec<_> = (258..266).map(|i| (config.tokens.get(i).unwrap(), config.kinds[i])).collect();
    let expected = [
        ("<0xFF>", TokenKind::Byte),
        ("▁a", TokenKind::Normal),
        ("<human>", TokenKind::Control),
        ("<bot>", TokenKind::Control),
        ("[PAD262]", TokenKind::Unused),
        ("plain", TokenKind::UserDefined),
        ("[PAD264]", TokenKind::Unused),
        ("[PAD265]", TokenKind::Unused),
    ];
    assert_eq!(shown, expected);
    assert_eq!((config.bos_id, config.eos_id, config.unk_id, config.pad_id), (1, 2, 0, None));
    assert!(config.add_bos && !config.add_eos && config.legacy && config.add_space_prefix);
    assert_eq!(tokenizer.special("<bot>").unwrap(), 261);
    assert!(
        tokenizer
            .special("plain")
            .unwrap_err()
            .to_string()
            .ends_with("expected a special one, found UserDefined")
    );
    assert!(
        tokenizer.special("<img>").unwrap_err().to_string().ends_with("expected a token <img>, found none")
    );
    assert_eq!(tokenizer.assumed.last().unwrap(), "tokenizer_config.legacy = true");
}

#[test]
fn tokenizer_config_says_what_is_special_and_legacy() {
    let config = r#"{"legacy": false, "add_bos_token": true, "add_eos_token": false, "pad_token": "<unk>",
        "eos_token": {"content": "</s>"}, "tokenizer_class": "LlamaTokenizer", "added_tokens_decoder": {
        "1": {"content": "<s>", "special": true}, "260": {"content": "<img>", "special": true}}}"#;
    let tokenizer = read(&[("tokenizer_config.json", config)], 261).unwrap();
    assert_eq!(tokenizer.special("<img>").unwrap(), 260);
    assert!(!tokenizer.config.legacy);
    assert_eq!(tokenizer.config.pad_id, Some(0));
    assert!(tokenizer.assumed.is_empty());
}

#[test]
fn refuses_what_contradicts() {
    let config = "tokenizer_config.json";
    type Files = Vec<(&'static str, &'static str)>;
    let cases: Vec<(Files, u32, &str)> = vec![
        (
            vec![],
            259,
            "expected at most the 259 tokens of llm_config.vocab_size, found 260 with the added ones",
        ),
        (vec![("added_tokens.json", r#"{"a": 262}"#)], 262, "found 263 with the added ones"),
        (vec![("added_tokens.json", r#"{"a": 4294967295}"#)], 262, "found 4294967296 with the added ones"),
        (vec![], u32::MAX, "4294967295 tokens beyond the limit of 2097152"),
        (
            vec![("added_tokens.json", r#"{"a": -1}"#)],
            262,
            "added_tokens.json: a: expected an integer from 0",
        ),
        (
            vec![("added_tokens.json", r#"{"a": 260, "b": 260}"#)],
            262,
            "added_tokens.json: b: expected an id of its own, found that of a",
        ),
        (vec![("added_tokens.json", r#"{"a": 5}"#)], 262, "added_tokens.json: a: expected \"<0x02>\" as in"),
        (
            vec![("added_tokens.json", r#"{"▁a": 260}"#)],
            262,
            "token \"▁a\": expected one id, found 259 and 260",
        ),
        (vec![("added_tokens.json", r#"{"": 260}"#)], 262, "expected a token of 1 to 1024 bytes, found 0"),
        (
            vec![
                ("added_tokens.json", r#"{"a": 260}"#),
                (config, r#"{"added_tokens_decoder": {"260": {"content": "b"}}}"#),
            ],
            262,
            "added_tokens_decoder.260: expected \"a\" as in",
        ),
        (
            vec![(config, r#"{"added_tokens_decoder": {"x": {"content": "b"}}}"#)],
            262,
            "expected an id as the key",
        ),
        (
            vec![(config, r#"{"added_tokens_decoder": {"260": {"content": "b", "lstrip": true}}}"#)],
            262,
            "added_tokens_decoder.260.lstrip: expected false, found true",
        ),
        (
            vec![(config, r#"{"tokenizer_class": "Qwen2Tokenizer"}"#)],
            262,
            "a tokenizer of another kind), found \"Qwen2Tokenizer\"",
        ),
        (vec![(config, r#"{"bos_token": "<bos>"}"#)], 262, "bos_token \"<bos>\": expected among the tokens"),
        (vec![(config, r#"{"unk_token": "▁a"}"#)], 262, "unk_token \"▁a\": expected the unknown piece"),
        (
            vec![(config, r#"{"legacy": 1}"#)],
            262,
            "tokenizer_config.json: legacy: expected true or false, found 1",
        ),
        (vec![("tokenizer.model", "nothing")], 262, "tokenizer.model: byte 0: expected wire type"),
    ];
    for (files, n_vocab, expected) in cases {
        let text = read(&files, n_vocab).unwrap_err().to_string();
        assert!(text.contains(expected), "expected {expected}\n   found {text}");
    }
}
