//! The tokenizer against sentencepiece, and prompts against transformers' slow LlamaTokenizer.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use owlet::prompt::{Chunk, Segment, Tokenizer, chunks};
use owlet_format::{Strings, TokenKind, TokenizerConfig};

/// What the recorder adds behind each vocabulary.
const ADDED: [&str; 5] = ["<human>", "<bot>", "<img>", "</img>", "<IMG_CONTEXT>"];

fn rows(name: &str) -> Vec<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tokenizer").join(name);
    fs::read_to_string(path).unwrap().split_terminator('\n').map(str::to_owned).collect()
}

/// Undoes Python's escapes.
fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let code = |rest: &mut std::str::Chars, n: usize| {
            let hex: String = rest.take(n).collect();
            char::from_u32(u32::from_str_radix(&hex, 16).unwrap()).unwrap()
        };
        out.push(match c {
            '\\' => match rest.next().unwrap() {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'x' => code(&mut rest, 2),
                'u' => code(&mut rest, 4),
                'U' => code(&mut rest, 8),
                other => other,
            },
            c => c,
        });
    }
    out
}

fn texts(name: &str) -> Vec<String> {
    rows(name).iter().map(|row| unescape(row)).collect()
}

fn kind(number: &str) -> TokenKind {
    let kinds = [TokenKind::Normal, TokenKind::Unknown, TokenKind::Control, TokenKind::UserDefined];
    let kinds = [&kinds[..], &[TokenKind::Unused, TokenKind::Byte]].concat();
    kinds[number.parse::<usize>().unwrap() - 1]
}

fn config(model: &str, legacy: bool) -> TokenizerConfig {
    let rows = rows(&format!("{model}.vocab"));
    let mut tokens = Vec::new();
    let (mut scores, mut kinds) = (Vec::new(), Vec::new());
    for row in &rows[1..] {
        let mut columns = row.splitn(3, ' ');
        kinds.push(kind(columns.next().unwrap()));
        scores.push(columns.next().unwrap().parse().unwrap());
        tokens.push(unescape(columns.next().unwrap()));
    }
    for token in ADDED {
        tokens.push(token.to_owned());
        scores.push(0.0);
        kinds.push(TokenKind::Control);
    }
    TokenizerConfig {
        tokens: Strings::from_iter(tokens),
        scores,
        kinds,
        bos_id: 1,
        eos_id: 2,
        unk_id: 0,
        pad_id: None,
        add_bos: true,
        add_eos: false,
        add_space_prefix: rows[0] == "add_dummy_prefix 1",
        remove_extra_whitespaces: false,
        legacy,
    }
}

fn tokenizer(model: &str) -> Tokenizer {
    Tokenizer::new(&config(model, true)).unwrap()
}

fn base36(ids: &str) -> Vec<u32> {
    ids.split_terminator(' ').map(|id| u32::from_str_radix(id, 36).unwrap()).collect()
}

/// Compares ids with a golden row: all of them, or their hash.
fn assert_ids(ids: &[u32], golden: &str, tokenizer: &Tokenizer, about: &str) {
    let is_equal = match golden.strip_prefix('#') {
        None => ids == base36(golden),
        Some(hash) => {
            let bytes = ids.iter().flat_map(|id| id.to_le_bytes());
            let fnv = bytes.fold(0x811c_9dc5u32, |hash, b| (hash ^ u32::from(b)).wrapping_mul(0x0100_0193));
            format!("{fnv:08x}") == hash
        }
    };
    let pieces =
        |ids: &[u32]| ids.iter().map(|&id| tokenizer.piece(id).unwrap().to_owned()).collect::<Vec<_>>();
    let expected = if golden.starts_with('#') { Vec::new() } else { pieces(&base36(golden)) };
    assert!(is_equal, "{about}\n   found {:?}\nexpected {expected:?} {golden}", pieces(ids));
}

#[test]
fn texts_equal_sentencepiece() {
    let lines = texts("lines.txt");
    assert!(lines.len() >= 2000);
    for model in ["plain", "appended", "defined", "bare"] {
        let tokenizer = tokenizer(model);
        let golden = rows(&format!("{model}.ids"));
        assert_eq!(golden.len(), lines.len());
        for (line, golden) in lines.iter().zip(&golden) {
            let ids = tokenizer.encode(line).unwrap();
            assert_ids(&ids, golden, &tokenizer, &format!("{model}: {line:?}"));
            assert!(ids.iter().all(|&id| id == 0 || !tokenizer.is_special(id)), "{model}: {line:?}");
        }
    }
}

/// Cuts a prompt in which special tokens are spelled into segments.
fn segments(prompt: &str, tokenizer: &Tokenizer) -> Vec<Segment> {
    let mut segments = Vec::new();
    let mut rest = prompt;
    while let Some(c) = rest.chars().next() {
        let special = ADDED.iter().chain(&["</s>"]).find(|special| rest.starts_with(**special));
        match special {
            Some(&"</s>") => segments.push(Segment::Token(2)),
            Some(special) => {
                let id = (0..tokenizer.n_vocab() as u32).find(|&id| tokenizer.piece(id) == Some(*special));
                segments.push(Segment::Token(id.unwrap()));
            }
            // One segment a character: neighbours have to be joined.
            None => segments.push(Segment::Text(c.into())),
        }
        rest = &rest[special.map_or(c.len_utf8(), |special| special.len())..];
    }
    segments
}

#[test]
fn prompts_equal_the_slow_llama_tokenizer() {
    let prompts = texts("prompts.txt");
    for model in ["plain", "appended", "defined"] {
        for (legacy, ending) in [(true, "legacy"), (false, "modern")] {
            let tokenizer = Tokenizer::new(&config(model, legacy)).unwrap();
            let golden = rows(&format!("{model}.{ending}"));
            assert_eq!(golden.len(), prompts.len());
            for (prompt, golden) in prompts.iter().zip(&golden) {
                let chunks = chunks(&segments(prompt, &tokenizer), &tokenizer, 16).unwrap();
                let [Chunk::Tokens(ids)] = chunks.as_slice() else { panic!("{chunks:?}") };
                assert_ids(ids, golden, &tokenizer, &format!("{model}, {ending}: {prompt:?}"));
            }
        }
    }
}

#[test]
fn answers_equal_the_slow_llama_tokenizer() {
    let tokenizer = tokenizer("plain");
    for row in rows("decoded.txt") {
        let (ids, text) = row.split_once('\t').unwrap();
        // Upstream may drop a second leading space; it strips the answer anyway.
        let (found, expected) = (tokenizer.decode(&base36(ids)), unescape(text));
        assert_eq!(found.trim_start_matches(' '), expected.trim_start_matches(' '), "{ids}");
    }
}

#[test]
fn streamed_text_is_the_whole_text() {
    let tokenizer = tokenizer("plain");
    for line in texts("lines.txt") {
        let ids = tokenizer.encode(&line).unwrap();
        let mut stream = tokenizer.detokenizer();
        let mut pieces: Vec<String> = ids.iter().map(|&id| stream.push(id)).collect();
        pieces.push(stream.flush());
        // Nothing is lost, and a replacement character never stands for one that was merely not whole yet.
        assert_eq!(pieces.concat(), line.replace('▁', " "), "{pieces:?}");
    }
}

#[test]
fn pieces_of_answers() {
    let tokenizer = tokenizer("plain");
    let id =
        |piece: &str| (0..tokenizer.n_vocab() as u32).find(|&id| tokenizer.piece(id) == Some(piece)).unwrap();
    let byte = |b: u8| id(&format!("<0x{b:02X}>"));
    let cases: &[(&[u32], &[&str])] = &[
        // One leading space goes, no more.
        (&[id("▁the"), id("▁the")], &["the", " the", ""]),
        (&[id("▁▁"), id("▁the")], &[" ", " the", ""]),
        (&[byte(b'A'), id("▁the")], &["A", " the", ""]),
        // Special tokens have no text and are no start.
        (&[1, id("▁the"), 2], &["", "the", "", ""]),
        // A character comes when it is whole.
        (&[byte(0xe4), byte(0xb8), byte(0x80)], &["", "", "一", ""]),
        (&[byte(0xf0), byte(0x9f), byte(0x98), byte(0x80), byte(b'!')], &["", "", "", "😀", "!", ""]),
        // Each byte that belongs to no character is one U+FFFD, as soon as that is certain.
        (&[byte(0xe4), byte(0xb8), id("▁the")], &["", "", "\u{fffd}\u{fffd} the", ""]),
        (&[byte(0xe4), byte(b'A')], &["", "\u{fffd}A", ""]),
        (&[byte(0x80), byte(0xe4)], &["\u{fffd}", "", "\u{fffd}"]),
        (&[byte(0xed), byte(0xa0), byte(0x80)], &["", "\u{fffd}\u{fffd}", "\u{fffd}", ""]),
        // No token of this vocabulary.
        (&[u32::MAX, id("▁the")], &["", "the", ""]),
    ];
    for (ids, expected) in cases {
        let mut stream = tokenizer.detokenizer();
        let mut found: Vec<String> = ids.iter().map(|&id| stream.push(id)).collect();
        found.push(stream.flush());
        assert_eq!(found, *expected, "{ids:?}");
    }
}

#[test]
fn typed_text_stays_text() {
    for model in ["plain", "appended", "defined"] {
        for legacy in [true, false] {
            let tokenizer = Tokenizer::new(&config(model, legacy)).unwrap();
            let typed = "</s><s><unk><human><bot><img></img><IMG_CONTEXT><0x41>";
            let chunks = chunks(&[Segment::Text(typed.into())], &tokenizer, 16).unwrap();
            let [Chunk::Tokens(ids)] = chunks.as_slice() else { panic!("{chunks:?}") };
            assert_eq!(ids[0], 1);
            assert!(ids[1..].iter().all(|&id| !tokenizer.is_special(id)), "{ids:?}");
            assert_eq!(tokenizer.decode(ids), typed);
        }
    }
}

#[test]
fn pictures_are_chunks() {
    let tokenizer = tokenizer("plain");
    let text = |text: &str| Segment::Text(text.into());
    let segments = [text("a"), Segment::Image(1), Segment::Image(0), Segment::Token(2), text("b")];
    let chunks = chunks(&segments, &tokenizer, 16).unwrap();
    let [Chunk::Tokens(before), second, first, Chunk::Tokens(after)] = chunks.as_slice() else {
        panic!("{chunks:?}")
    };
    assert_eq!(before, &[&[1], tokenizer.encode("a").unwrap().as_slice()].concat());
    assert_eq!([second, first], [1, 0].map(|index| Chunk::Image { index, n_tokens: 16 }).each_ref());
    assert_eq!(after, &[&[2], tokenizer.encode("b").unwrap().as_slice()].concat());
    assert_eq!(owlet::prompt::n_positions(&chunks), before.len() + 32 + after.len());
}

#[test]
fn a_megabyte_is_quick() {
    let text = texts("lines.txt").join(" ").repeat(12) + &"a".repeat(100_000) + &" ".repeat(100_000);
    assert!(text.len() > 1 << 20);
    let tokenizer = tokenizer("appended");
    let start = Instant::now();
    tokenizer.encode(&text).unwrap();
    // A quadratic merge takes hours.
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}

#[test]
fn contradictory_vocabularies() {
    type Change = fn(&mut TokenizerConfig);
    let cases: &[(Change, &str)] = &[
        (|c| c.scores.truncate(7), "tokenizer: expected 1105 scores, one a token, found 7"),
        (|c| c.kinds.truncate(7), "tokenizer: expected 1105 kinds, one a token, found 7"),
        (|c| c.unk_id = 300, "tokenizer: expected unk_id 300 to be the unknown piece"),
        (|c| c.unk_id = u32::MAX, "tokenizer: expected unk_id 4294967295 to be the unknown piece"),
        (|c| c.bos_id = 5000, "tokenizer: expected bos_id below 1105, found 5000"),
        (|c| c.scores[300] = f32::NAN, "tokenizer: token 300: the score is not a number"),
        (|c| c.kinds[10] = TokenKind::Normal, "tokenizer: expected 256 byte pieces or none, found 255"),
        (|c| c.kinds[300] = TokenKind::Byte, "names no byte"),
        (
            |c| c.remove_extra_whitespaces = true,
            "tokenizer: remove_extra_whitespaces: expected false, found true",
        ),
        (|c| c.add_eos = true, "tokenizer: add_eos: expected false, found true"),
        (
            |c| {
                c.tokens = c.tokens.iter().enumerate().map(|(i, t)| if i == 301 { "▁▁" } else { t }).collect()
            },
            "tokenizer: token 301: \"▁▁\" is already token 259",
        ),
        (
            |c| c.tokens = c.tokens.iter().enumerate().map(|(i, t)| if i == 301 { "" } else { t }).collect(),
            "tokenizer: token 301: the piece is empty",
        ),
    ];
    for (change, expected) in cases {
        let mut config = config("plain", true);
        change(&mut config);
        let error = Tokenizer::new(&config).unwrap_err().to_string();
        assert!(error.contains(expected), "expected {expected}\n   found {error}");
    }
}

#[test]
fn too_long_a_text() {
    let error = tokenizer("plain").encode(&"a".repeat((16 << 20) + 1)).unwrap_err();
    assert_eq!(error.to_string(), "prompt: bytes of text in one piece: at most 16777216, found 16777217");
}
