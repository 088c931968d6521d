//! What drafts are worth: answers that go over a text of the prompt again, with drafts and without, in passes of the
//! true width of InternVL-Chat-V1-1's text half.
//!
//! In: how many of its layers (2), how often each text is answered (3), which texts, by words of their names (all). Out: a
//! table of seconds. The model knows one text by heart, since each of its tokens makes the next one the likeliest, and its
//! layers add nothing to that but their time. So answers are as certain as a careful transcription, and how much of the text
//! stands in the prompt is up to the question.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::Duration;

use ggml::{DType, quantize};
use owlet::engine::{CacheOptions, Engine, Event, Loaded, Options, Outcome, Request, Speculation};
use owlet::measure::shape;
use owlet::model::KvType;
use owlet::prompt::Message;
use owlet_format::*;

/// Tokens of the text that the model knows.
const N_SCRIPT: usize = 240;
/// Characters that are tokens: those of the text first, then some that only stand in prompts.
const N_CHARACTERS: usize = 20_000;
/// Where they begin: CJK Unified Ideographs, none of which is made of others.
const FIRST_CHARACTER: u32 = 0x4e00;
/// Control tokens and bytes.
const N_BEFORE: usize = 259;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| args.get(at).map(|arg| arg.parse::<u32>().unwrap());
    let (n_layer, n_rounds) = (number(0).unwrap_or(2), number(1).unwrap_or(3));
    let is_wanted = |name: &str| args.len() < 3 || args[2..].iter().any(|word| name.contains(word));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("script.gguf");
    write(&config(n_layer), &path);
    let engines = [Speculation::Off, Speculation::Auto].map(|speculation| start(&path, speculation));

    println!("{n_layer} layers, {N_SCRIPT} tokens an answer, the median of {n_rounds}\n");
    println!("| the prompt | without drafts | with | times as fast | drafted | of them right |");
    println!("|---|---:|---:|---:|---:|---:|");
    for (name, question) in questions().into_iter().filter(|(name, _)| is_wanted(name)) {
        // The first answers are for getting warm, and to learn what passes take.
        let rounds: Vec<_> = (0..=n_rounds).map(|_| engines.each_ref().map(|e| ask(e, &question))).collect();
        let [plain, drafted] = [0, 1].map(|i| median(rounds[1..].iter().map(|r| r[i].timings.decode)));
        let last = &rounds[n_rounds as usize];
        assert!(last[0].ids == last[1].ids && last[0].ids.len() == N_SCRIPT, "{name}: another answer");
        let (n_drafted, n_accepted) = (last[1].n_drafted, last[1].n_accepted);
        println!(
            "| {name} | {:.2} s | {:.2} s | {:.2} | {n_drafted} | {n_accepted} |",
            plain.as_secs_f64(),
            drafted.as_secs_f64(),
            plain.as_secs_f64() / drafted.as_secs_f64()
        );
    }
}

/// What is asked, by what stands in it.
fn questions() -> Vec<(&'static str, String)> {
    let other = |i: usize| character(N_SCRIPT + i % 1000);
    // Every so many characters another one.
    let with_slips = |every: usize| {
        (0..N_SCRIPT)
            .map(|i| if i % every == every - 1 { other(i) } else { character(i) })
            .collect::<String>()
    };
    vec![
        ("the whole text", with_slips(usize::MAX)),
        ("the text, every 25th token another", with_slips(25)),
        ("the text, every 8th token another", with_slips(8)),
        ("nothing of it", (0..N_SCRIPT).map(other).collect()),
        // What matched goes on in another way each time.
        (
            "pairs of it that lead astray",
            (0..N_SCRIPT).flat_map(|i| [character(i), character(i + 1), other(i)]).collect(),
        ),
    ]
}

fn character(i: usize) -> char {
    char::from_u32(FIRST_CHARACTER + i as u32).unwrap()
}

fn start(path: &Path, speculation: Speculation) -> Engine {
    let n_threads = std::thread::available_parallelism().unwrap().get();
    let loaded = Loaded::open(Some(path), n_threads).unwrap();
    let options = Options {
        n_ctx: 4096,
        n_slots: 1,
        kv_type: KvType::F16,
        cache: CacheOptions::default(),
        speculation,
        low_memory: false,
    };
    Engine::start(loaded, options).unwrap()
}

fn ask(engine: &Engine, question: &str) -> Outcome {
    let asked = Request::new(vec![Message::user(question, [])], Vec::new());
    let ticket = engine.submit(Request { max_tokens: N_SCRIPT as u32, ..asked }).unwrap();
    loop {
        match ticket.next_event() {
            Event::Done(outcome) => return outcome,
            Event::Failed(error) => panic!("{error}"),
            _ => {}
        }
    }
}

fn median(all: impl Iterator<Item = Duration>) -> Duration {
    let mut all: Vec<_> = all.collect();
    all.sort();
    all[all.len() / 2]
}

/// The text half alone, with a vocabulary of characters.
fn config(n_layer: u32) -> ModelConfig {
    let full = shape("internvl-chat-v1-1", None, Some(n_layer)).unwrap();
    let mut pieces: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).into();
    pieces.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
    assert_eq!(pieces.len(), N_BEFORE);
    pieces.extend((0..N_CHARACTERS).map(|i| character(i).to_string()));
    pieces.extend(["\u{2581}", "<human>", "<bot>", "<img>", "</img>"].map(String::from));
    let n_vocab = pieces.len();
    let kinds = (0..n_vocab).map(|id| match id {
        0 => TokenKind::Unknown,
        1 | 2 => TokenKind::Control,
        3..N_BEFORE => TokenKind::Byte,
        _ if id >= n_vocab - 4 => TokenKind::Control,
        _ => TokenKind::Normal,
    });
    let special = |n: usize| (n_vocab - 4 + n) as u32;
    ModelConfig {
        vision: None,
        projector: None,
        image: None,
        text: full.text.map(|text| TextConfig { n_vocab: n_vocab as u32, ..text }),
        tokenizer: full.tokenizer.map(|tokenizer| TokenizerConfig {
            scores: (0..n_vocab).map(|id| -(id as f32)).collect(),
            kinds: kinds.collect(),
            tokens: Strings::from_iter(pieces.iter().map(String::as_str)),
            pad_id: None,
            ..tokenizer
        }),
        prompt: full.prompt.map(|prompt| PromptConfig {
            template: Template::InternVlZh {
                human_id: special(0),
                bot_id: special(1),
                image_begin_id: special(2),
                image_end_id: special(3),
            },
            ..prompt
        }),
        ..full
    }
}

fn write(config: &ModelConfig, path: &Path) {
    let dtype = |spec: &TensorSpec| match spec.role {
        Role::Matrix => DType::Q4_0,
        Role::Embedding | Role::Output => DType::Q8_0,
        _ => DType::F32,
    };
    let plan: Vec<_> = config
        .tensors()
        .into_iter()
        .map(|spec| TensorPlan { dtype: dtype(&spec), name: spec.name, shape: spec.ne })
        .collect();
    let mut metadata = Metadata::new("script.gguf");
    config.write(&mut metadata);
    let mut writer = Writer::create(path, &metadata, &plan).unwrap();
    for spec in config.tensors() {
        let [n_embd, n_rows, ..] = spec.ne.padded().map(|n| n as usize);
        writer.begin(&spec.name).unwrap();
        for row in 0..n_rows {
            let mut values = vec![if spec.role == Role::Norm { 1.0 } else { 0.0 }; n_embd];
            if let Some(element) = place(spec.role, row) {
                values[element] = 1.0;
            }
            let mut bytes = vec![0; dtype(&spec).row_bytes(n_embd as u64).unwrap() as usize];
            quantize::quantize_rows(dtype(&spec), &values, n_embd, None, &mut bytes).unwrap();
            writer.write(&bytes).unwrap();
        }
    }
    writer.finish().unwrap().publish().unwrap();
}

/// Where the row of a token has its one. A token's embedding has a place of its own, and its successor's row of the output looks
/// there; whatever ends a prompt is followed by the first.
fn place(role: Role, row: usize) -> Option<usize> {
    let character = row.checked_sub(N_BEFORE);
    let is_known = |n: &usize| *n < N_SCRIPT;
    match role {
        Role::Embedding => character.filter(is_known).map(|n| n + 1).or(Some(0)),
        Role::Output => character.filter(is_known),
        _ => None,
    }
}
