//! What a constraint costs a token of an answer: which tokens may come, the choice among them, and the step on.
//!
//! `cargo bench --bench constraints` goes over the built-in vocabulary and two as large as LLaMA's and InternLM2's, made up: English words with and
//! without their space, Chinese ones, numbers, signs, bytes. Answers are as long as their constraint lets them be, up to a limit, and
//! take any token that is allowed, so that they go where a model would not lead them. A line has the constraint, what its grammar
//! takes to make, and microseconds a token: median, the slowest of a hundred, the slowest.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use owlet::engine::{Constraint, Guide, Loaded, Sampler, Sampling, Spelling};
use owlet::prompt::Tokenizer;
use owlet::token::TokenId;
use owlet_format::{Strings, TokenKind, TokenizerConfig};

type Failure = Box<dyn std::error::Error>;

const SIZES: [usize; 2] = [32_000, 92_553];
const STOP_ID: TokenId = 2;
const MAX_TOKENS: usize = 200;
const ANSWERS: u64 = 20;

const OBJECT: &str = r#"{"type": "object", "additionalProperties": false, "required": ["shape", "colour", "n", "text"], "properties": {
    "shape": {"enum": ["circle", "square", "triangle"]}, "colour": {"enum": ["red", "green", "blue", "红色"]},
    "n": {"type": "integer", "minimum": 1, "maximum": 99}, "text": {"type": "string", "maxLength": 80}}}"#;
const LIST: &str = r#"{"type": "array", "minItems": 5, "items": {"type": "object", "required": ["name", "box"], "properties": {
    "name": {"type": "string"}, "box": {"type": "array", "minItems": 4, "maxItems": 4, "items": {"type": "number"}}}}}"#;

fn main() -> Result<(), Failure> {
    let many: Vec<String> = (0..1000).map(|n| format!("choice {n} of many")).collect();
    let constraints = [
        ("4 choices", Constraint::choice(&["red", "green", "blue", "yellow"])?),
        ("1000 choices", Constraint::choice(&many)?),
        ("object", Constraint::json_schema(OBJECT, "object")?),
        ("list of objects", Constraint::json_schema(LIST, "list")?),
        ("any string", Constraint::json_schema(r#"{"type": "string"}"#, "string")?),
        ("any JSON", Constraint::json_schema("{}", "any")?),
    ];
    let model = Loaded::open(None, 1)?;
    measure("built in", &model.tokenizer, model.prompt.stop_ids[0], &constraints)?;
    for n_vocab in SIZES {
        measure("made up", &Tokenizer::new(&vocabulary(n_vocab))?, STOP_ID, &constraints)?;
    }
    Ok(())
}

fn measure(
    name: &str,
    tokenizer: &Tokenizer,
    stop_id: TokenId,
    constraints: &[(&str, Constraint)],
) -> Result<(), Failure> {
    let n_vocab = tokenizer.n_vocab();
    let began = Instant::now();
    let spelling = Spelling::new(tokenizer, &[stop_id])?;
    println!("{n_vocab} pieces, {name}, made ready in {:.0} ms", 1e3 * began.elapsed().as_secs_f64());
    let mut free = Sampler::new(Sampling::GREEDY)?;
    let mut times = Vec::new();
    for seed in 0..200 {
        let logits = Random(seed).logits(n_vocab);
        let began = Instant::now();
        free.sample(&logits)?;
        times.push(began.elapsed());
    }
    report("no constraint", Duration::ZERO, times);
    for (name, constraint) in constraints {
        let mut times = Vec::new();
        let began = Instant::now();
        spelling.guide(constraint)?;
        let made = began.elapsed();
        for answer in 0..ANSWERS {
            follow(spelling.guide(constraint)?, (n_vocab, stop_id), Random(answer), &mut times)?;
        }
        report(name, made, times);
    }
    Ok(())
}

struct Random(u64);

impl Random {
    /// A likeliest token that is another each time.
    fn logits(&mut self, n_vocab: usize) -> Vec<f32> {
        let next = |_| {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 40) as f32 / (1 << 24) as f32
        };
        (0..n_vocab).map(next).collect()
    }
}

/// One answer; adds what each of its tokens took.
fn follow(
    mut guide: Guide,
    (n_vocab, stop_id): (usize, TokenId),
    mut random: Random,
    times: &mut Vec<Duration>,
) -> Result<(), Failure> {
    let mut sampler = Sampler::new(Sampling::GREEDY)?;
    for _ in 0..MAX_TOKENS {
        let logits = random.logits(n_vocab);
        let began = Instant::now();
        let allowed = guide.allowed()?;
        let id = sampler.sample_among(&logits, |id| allowed.contains(id))?;
        if id != stop_id {
            guide.took(id)?;
        }
        times.push(began.elapsed());
        if id == stop_id || guide.is_complete() {
            break;
        }
    }
    Ok(())
}

fn report(name: &str, made: Duration, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e6;
    println!(
        "  {name:<16} made in {:6.1} ms; {:6} tokens, {:7.0} {:7.0} {:7.0} us a token",
        1e3 * made.as_secs_f64(),
        times.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

/// `n_vocab` pieces, no two the same: special ones, bytes, signs, then words of all kinds by turns.
fn vocabulary(n_vocab: usize) -> TokenizerConfig {
    let mut tokens: Vec<(String, TokenKind)> = vec![
        ("<unk>".to_string(), TokenKind::Unknown),
        ("<s>".to_string(), TokenKind::Control),
        ("</s>".to_string(), TokenKind::Control),
    ];
    tokens.extend((0..=u8::MAX).map(|byte| (format!("<0x{byte:02X}>"), TokenKind::Byte)));
    tokens.extend((' '..='~').map(|c| (c.to_string().replace(' ', "▁"), TokenKind::Normal)));
    let mut seen: HashSet<String> = tokens.iter().map(|(word, _)| word.clone()).collect();
    for word in (0..).map(word) {
        if tokens.len() >= n_vocab {
            break;
        }
        if seen.insert(word.clone()) {
            tokens.push((word, TokenKind::Normal));
        }
    }
    TokenizerConfig {
        tokens: Strings::from_iter(tokens.iter().map(|(word, _)| word.as_str())),
        scores: (0..tokens.len()).map(|i| -(i as f32)).collect(),
        kinds: tokens.iter().map(|(_, kind)| *kind).collect(),
        bos_id: 1,
        eos_id: STOP_ID,
        unk_id: 0,
        pad_id: None,
        add_bos: true,
        add_eos: false,
        add_space_prefix: true,
        remove_extra_whitespaces: false,
        legacy: false,
    }
}

/// The word number `n`: of eight kinds by turns.
fn word(n: usize) -> String {
    let (kind, n) = (n % 8, n / 8 + 1);
    let han = |n: usize| char::from_u32(0x4e00 + (n % 20_000) as u32).unwrap_or('中');
    match kind {
        0 => format!("▁{}", syllables(n)),
        1 => format!("▁{}ed", syllables(n)),
        2 => format!("▁{}s", syllables(n)),
        3 => syllables(n),
        4 => han(n).to_string(),
        5 => format!("{}{}", han(n), han(n * 31)),
        6 => n.to_string(),
        _ => format!("{}\":", syllables(n)),
    }
}

fn syllables(mut n: usize) -> String {
    const SYLLABLES: [&str; 16] =
        ["ta", "re", "in", "co", "mo", "li", "en", "st", "er", "ing", "pre", "al", "ou", "th", "un", "qu"];
    let mut word = String::new();
    while n > 0 {
        word.push_str(SYLLABLES[n % 16]);
        n /= 16;
    }
    word
}
