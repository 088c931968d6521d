//! Vocabularies that contradict themselves, and text in them.

use std::process::ExitCode;

use owlet::prompt::{Place, Tokenizer};
use owlet_format::{Strings, TokenKind, TokenizerConfig};
use owlet_fuzz::Target;

/// A vocabulary, one piece a line, its kind in front; behind the empty line a text.
const GOOD: &str = "2<unk>\n3<s>\n3</s>\n1▁\n1a\n1b\n1ab\n1▁a\n1aba\n1的\n1一\n1的一\n4abab\n4  \n5bb\n5abb\n1▁▁\n1<\n\n\
                    <unk> ab abab aabbab bbb 的一的  \u{0}▁▁ 😀</s>\r\n ab";

fn main() -> ExitCode {
    let good = GOOD.as_bytes().to_vec();
    let n_bytes = good.len();
    Target { name: "tokenizer", corpus: vec![(good, n_bytes)], run }.main()
}

fn run(bytes: &[u8]) {
    let input = String::from_utf8_lossy(bytes);
    let (pieces, text) = input.split_once("\n\n").unwrap_or((&input, &input));
    for legacy in [true, false] {
        let Ok(tokenizer) = Tokenizer::new(&vocabulary(pieces, legacy)) else { continue };
        for place in [Place::Alone, Place::Start, Place::AfterSpecial] {
            let Ok(ids) = tokenizer.encode_segment(text, place) else { continue };
            assert!(ids.iter().all(|&id| id == 0 || !tokenizer.is_special(id)), "a special token from text");
        }
        if let Ok(ids) = tokenizer.encode(text)
            && !ids.contains(&0)
        {
            assert_eq!(tokenizer.decode(&ids), text.replace('▁', " "));
        }
    }
}

/// Without byte pieces, so that text has unknown characters.
fn vocabulary(pieces: &str, legacy: bool) -> TokenizerConfig {
    let lines: Vec<&str> = pieces.lines().collect();
    let kind = |line: &&str| match line.as_bytes().first() {
        Some(b'2') => TokenKind::Unknown,
        Some(b'3') => TokenKind::Control,
        Some(b'4') => TokenKind::UserDefined,
        Some(b'5') => TokenKind::Unused,
        Some(b'6') => TokenKind::Byte,
        _ => TokenKind::Normal,
    };
    TokenizerConfig {
        tokens: Strings::from_iter(lines.iter().map(|line| line.get(1..).unwrap_or_default())),
        // Some ties, some not.
        scores: (0..lines.len()).map(|i| -((i / 4) as f32)).collect(),
        kinds: lines.iter().map(kind).collect(),
        bos_id: 1,
        eos_id: 2,
        unk_id: 0,
        pad_id: None,
        add_bos: true,
        add_eos: false,
        add_space_prefix: true,
        remove_extra_whitespaces: false,
        legacy,
    }
}
