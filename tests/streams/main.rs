//! Whether a stream of text goes on while somebody else's picture is looked at and their prompt is read, at the true shapes of
//! InternVL-Chat-V1-1 with random weights.
//!
//! Beside that: how soon somebody gets a word who asks about a picture that another slot holds.
//!
//! In: how many blocks of the tower and of the text half (2 and 4), how often (3). Out: a table of the stream's gaps. A gap of three
//! times the usual one or more is exit status 1.
#![allow(clippy::unwrap_used)]

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ggml::Cancel;
use owlet::engine::{
    CacheOptions, Engine, Event, Loaded, Options, Request, Sampling, Setup, Speculation, Ticket,
};
use owlet::measure::{Synthetic, n_cores, shape};
use owlet::model::KvType;
use owlet::prompt::{Message, Pixels};
use owlet_convert::checkpoint::SourceType;
use owlet_convert::{Options as Conversion, Recipe};

/// Tokens of the stream that say what its usual gap is.
const N_USUAL: usize = 24;

/// The longest gap is to be shorter than so many usual ones.
const BOUND: f64 = 3.0;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<u32>().unwrap());
    let (vision, text) = (args.next().unwrap_or(2), args.next().unwrap_or(4));
    let n_rounds = args.next().unwrap_or(3);
    let engine = start(vision, text);
    println!("{vision} blocks of the tower, {text} of the text half, {} threads\n", n_cores());
    println!(
        "| usual gap | longest, picture | longest, prompt | times | first word of the other, alone | beside \
         | about the stream's own picture | longest gap then |"
    );
    println!("|---:|---:|---:|---:|---:|---:|---:|---:|");
    let mut worst = 0.0f64;
    // The first one is for getting warm.
    for round in 0..=n_rounds {
        let alone = first_word(&engine, 3 * round);
        let found = beside(&engine, 3 * round + 1);
        let (copied, gap) = about_the_same(&engine, 3 * round + 2);
        let times = found.picture.max(found.prompt).as_secs_f64() / found.usual.as_secs_f64();
        if round == 0 {
            continue;
        }
        worst = worst.max(times);
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        println!(
            "| {:.1} ms | {:.1} ms | {:.1} ms | {times:.2} | {:.0} ms | {:.0} ms | {:.0} ms | {:.1} ms |",
            ms(found.usual),
            ms(found.picture),
            ms(found.prompt),
            ms(alone),
            ms(found.first_word),
            ms(copied),
            ms(gap)
        );
    }
    if worst < BOUND { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn start(vision: u32, text: u32) -> Engine {
    let config = shape("internvl-chat-v1-1", Some(vision), Some(text)).unwrap();
    let options = Conversion::default();
    let (vision, rules) = (options.vision, options.rules);
    let recipe = Recipe { text: options.text, vision, projector: vision, rules, has_importance: false };
    let model = Synthetic::new(config.clone(), |spec| recipe.choose(spec, SourceType::BF16, &config).dtype);
    let file = model.in_memory(&Cancel::new(), |_, _| {}).unwrap();
    let loaded = Loaded::from_file(&file, &Setup::cpu(n_cores())).unwrap();
    let options = Options {
        n_ctx: 2048,
        n_slots: 2,
        kv_type: KvType::F16,
        cache: CacheOptions::default(),
        speculation: Speculation::Off,
        low_memory: false,
    };
    Engine::start(loaded, options).unwrap()
}

/// What became of a stream beside a request with a picture.
struct Found {
    usual: Duration,
    picture: Duration,
    prompt: Duration,
    first_word: Duration,
}

fn beside(engine: &Engine, seed: u32) -> Found {
    let stream = engine.submit(request("Go on!", None, 1900, seed)).unwrap();
    let mut usual: Vec<_> = gaps(&stream, |gaps| gaps.len() > N_USUAL).into_iter().skip(1).collect();
    usual.sort();
    let started = Instant::now();
    let other = engine.submit(request("What is there?", Some(seed), 2, seed)).unwrap();
    let (mut picture, mut first_word) = (None, None);
    let while_busy = gaps(&stream, |gaps| {
        while let Some(event) = other.next_event_within(Duration::ZERO) {
            match event {
                Event::Encoded { .. } => picture = Some(gaps.len()),
                Event::Failed(error) => panic!("{error}"),
                Event::Text(_) | Event::Done(_) => first_word = first_word.or(Some(started.elapsed())),
                _ => {}
            }
        }
        first_word.is_some()
    });
    // The gap in which the picture was ready counts for both.
    let n_picture = picture.unwrap();
    let longest = |gaps: &[Duration]| gaps.iter().copied().max().unwrap_or_default();
    Found {
        usual: usual[usual.len() / 2],
        picture: longest(&while_busy[..(n_picture + 1).min(while_busy.len())]),
        prompt: longest(&while_busy[n_picture.saturating_sub(1)..]),
        first_word: first_word.unwrap(),
    }
}

/// The first word of somebody who asks about the picture that a stream is about: its rows are copied. And the stream's longest gap.
fn about_the_same(engine: &Engine, seed: u32) -> (Duration, Duration) {
    let stream = engine.submit(request("Go on!", Some(seed), 1500, seed)).unwrap();
    gaps(&stream, |gaps| gaps.len() > N_USUAL);
    let started = Instant::now();
    let other = engine.submit(request("What else is there?", Some(seed), 2, seed)).unwrap();
    let mut first_word = None;
    let while_busy = gaps(&stream, |_| {
        while let Some(event) = other.next_event_within(Duration::ZERO) {
            match event {
                Event::Encoding { .. } => panic!("the picture is looked at again"),
                Event::Failed(error) => panic!("{error}"),
                Event::Text(_) => first_word = first_word.or(Some(started.elapsed())),
                Event::Done(outcome) => {
                    assert!(outcome.n_copied > 256, "{} positions were copied", outcome.n_copied);
                    first_word = first_word.or(Some(started.elapsed()));
                    return true;
                }
                _ => {}
            }
        }
        false
    });
    (first_word.unwrap(), while_busy.into_iter().max().unwrap_or_default())
}

/// The times between the stream's tokens, until `is_enough` of them. Not between its pieces of text: half a letter, or white space that
/// may be the last, waits for the next token.
fn gaps(stream: &Ticket, mut is_enough: impl FnMut(&[Duration]) -> bool) -> Vec<Duration> {
    let (mut gaps, mut before) = (Vec::new(), Instant::now());
    while !is_enough(&gaps) {
        match stream.next_event() {
            Event::Chosen(_) => {
                gaps.push(before.elapsed());
                before = Instant::now();
            }
            Event::Done(outcome) => panic!("the stream ended: {}", outcome.finish_reason),
            Event::Failed(error) => panic!("{error}"),
            _ => {}
        }
    }
    gaps
}

fn first_word(engine: &Engine, seed: u32) -> Duration {
    let started = Instant::now();
    let ticket = engine.submit(request("What is there?", Some(seed), 2, seed)).unwrap();
    loop {
        match ticket.next_event() {
            Event::Text(_) | Event::Done(_) => return started.elapsed(),
            Event::Failed(error) => panic!("{error}"),
            _ => {}
        }
    }
}

fn request(question: &str, picture: Option<u32>, max_tokens: u32, seed: u32) -> Request {
    let images: Vec<_> = picture.into_iter().map(pixels).collect();
    let messages = vec![Message::user(format!("{seed} {question}"), 0..images.len())];
    let sampling = Sampling { temperature: 1.0, seed: seed.into(), ..Sampling::GREEDY };
    Request { sampling, max_tokens, logprobs: Some(0), ..Request::new(messages, images) }
}

/// A picture of noise that nobody has seen.
fn pixels(seed: u32) -> Arc<Pixels> {
    let size_px = 448;
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let rgb: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(size_px * size_px * 3)
    .collect();
    let planes = rgb.iter().map(|&byte| f32::from(byte) / 127.5 - 1.0).collect();
    Arc::new(Pixels { size_px, rgb: rgb.into(), planes })
}
