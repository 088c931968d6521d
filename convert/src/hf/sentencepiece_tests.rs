use super::*;

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(value.len() as u64), value.to_vec()].concat()
}

fn piece(text: &str, score: f32, kind: u64) -> Vec<u8> {
    let body = [bytes(1, text.as_bytes()), varint(2 << 3 | 5), score.to_le_bytes().to_vec(), number(3, kind)];
    bytes(1, &body.concat())
}

fn byte_pieces() -> Vec<u8> {
    (0..256).flat_map(|b| piece(&format!("<0x{b:02X}>"), 0.0, 6)).collect()
}

fn trainer(fields: &[(u64, u64)]) -> Vec<u8> {
    bytes(2, &fields.iter().flat_map(|(field, value)| number(*field, *value)).collect::<Vec<_>>())
}

fn normalizer(fields: &[(u64, u64)]) -> Vec<u8> {
    bytes(3, &fields.iter().flat_map(|(field, value)| number(*field, *value)).collect::<Vec<_>>())
}

fn model() -> Vec<u8> {
    [
        piece("<unk>", 0.0, 2),
        byte_pieces(),
        piece("▁a", -1.5, 1),
        trainer(&[(3, 2), (35, 1)]),
        normalizer(&[(3, 1), (4, 0)]),
    ]
    .concat()
}

#[test]
fn reads_pieces_scores_and_kinds() {
    let model = SentencePiece::parse(&model(), "t.model").unwrap();
    assert_eq!(model.pieces.len(), 258);
    assert_eq!(model.pieces[0].kind, TokenKind::Unknown);
    assert_eq!(model.pieces[11].text, "<0x0A>");
    assert_eq!(model.pieces[257], Piece { text: "▁a".into(), score: -1.5, kind: TokenKind::Normal });
    assert!(model.add_dummy_prefix);
}

#[test]
fn refuses_models_of_another_kind() {
    let with = |trainer: Vec<u8>, normalizer: Vec<u8>| [byte_pieces(), trainer, normalizer].concat();
    let good_trainer = || trainer(&[(3, 2), (35, 1)]);
    let good_normalizer = || normalizer(&[(4, 0)]);
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "t.model: expected a SentencePiece model, found no pieces"),
        (b"{\"a\": 1}".to_vec(), "t.model: byte 0: expected wire type 0, 1, 2 or 5, found 3"),
        (
            with(trainer(&[(35, 1)]), good_normalizer()),
            "a tokenizer of another kind: expected model_type bpe, found unigram",
        ),
        (with(trainer(&[(3, 3), (35, 1)]), good_normalizer()), "found word"),
        (with(trainer(&[(3, 9), (35, 1)]), good_normalizer()), "found an unknown one"),
        (with(trainer(&[(3, 2)]), good_normalizer()), "expected byte_fallback true, found false"),
        (
            with(trainer(&[(3, 2), (35, 1), (24, 1)]), good_normalizer()),
            "treat_whitespace_as_suffix false, found true",
        ),
        (
            with(good_trainer(), vec![]),
            "normalizer_spec.remove_extra_whitespaces: expected false, found true",
        ),
        (
            with(good_trainer(), bytes(3, &[number(4, 0), bytes(2, b"abc")].concat())),
            "normalizer_spec.precompiled_charsmap: expected none (identity), found 3 bytes",
        ),
        (
            with(good_trainer(), normalizer(&[(4, 0), (5, 0)])),
            "escape_whitespaces: expected true, found false",
        ),
        (
            [piece("a", 0.0, 1), good_trainer(), good_normalizer()].concat(),
            "expected a byte piece <0x00>, found none",
        ),
        (
            [byte_pieces(), piece("<0x0A>", 0.0, 6), good_trainer(), good_normalizer()].concat(),
            "piece 256: expected one byte piece a byte such as <0x0A>, found \"<0x0A>\"",
        ),
        (
            [byte_pieces(), piece("<0x+A>", 0.0, 6), good_trainer(), good_normalizer()].concat(),
            "piece 256: expected one byte piece a byte",
        ),
        (piece("a", f32::NAN, 1), "piece 0: expected a finite score, found NaN"),
        (piece("a", 0.0, 7), "piece 0: expected a type from 1 to 6, found 7"),
        (piece("", 0.0, 1), "piece 0: expected a text, found none"),
        (bytes(1, &bytes(1, b"\xff")), "piece 0: expected UTF-8"),
        (bytes(1, &bytes(1, &[b'a'; 1025])), "piece 0: expected at most 1024 bytes, found 1025"),
        (bytes(2, b"\x08"), "trainer_spec: byte 1: expected 1 more bytes, found 0"),
    ];
    for (bytes, expected) in cases {
        let text = SentencePiece::parse(&bytes, "t.model").unwrap_err().to_string();
        assert!(text.contains(expected), "expected {expected}\n   found {text}");
    }
}

#[test]
fn mutations_never_panic() {
    let good = model();
    let mut state = 0x0123_4567_89ab_cdefu64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    for _ in 0..5_000 {
        let mut bytes = good.clone();
        for _ in 0..=random() % 3 {
            let at = random() % bytes.len();
            match random() % 4 {
                0 => bytes.truncate(at.max(1)),
                _ => bytes[at] = random() as u8,
            }
        }
        let _ = SentencePiece::parse(&bytes, "t.model");
    }
}

/// A vocabulary of `<unk> <s> </s>`, the bytes and `▁a`, for the tests of the tokenizer's files.
pub(crate) fn tiny_model() -> Vec<u8> {
    [
        piece("<unk>", 0.0, 2),
        piece("<s>", 0.0, 3),
        piece("</s>", 0.0, 3),
        byte_pieces(),
        piece("▁a", -1.5, 1),
        trainer(&[(3, 2), (35, 1)]),
        normalizer(&[(3, 1), (4, 0)]),
    ]
    .concat()
}
