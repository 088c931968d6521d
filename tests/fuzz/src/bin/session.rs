//! Saved conversations, brought back by an engine on the built-in model.

use std::cell::RefCell;
use std::process::ExitCode;

use ggml::Cancel;
use owlet::engine::{
    CacheOptions, Conversation, Engine, Event, Loaded, NamedPicture, Options, Request, Speculation,
};
use owlet::model::KvType;
use owlet::prompt::{Message, Pixels};
use owlet_fuzz::Target;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const N_PREFIX_BYTES: usize = 16;
const N_SUM_BYTES: usize = 32;

thread_local! {
    static PLACE: RefCell<Option<(Engine, TempDir)>> = const { RefCell::new(None) };
}

fn main() -> ExitCode {
    match good() {
        Ok(corpus) => Target { name: "session", corpus, run }.main(),
        Err(error) => {
            eprintln!("a conversation to begin with: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A short conversation about a picture, and one about nothing. Behind the head there are only pixels and numbers.
fn good() -> owlet::Result<Vec<(Vec<u8>, usize)>> {
    let io = |cause| owlet::Error::io("temporary directory", cause);
    let engine = Engine::start(
        Loaded::open(None, 1)?,
        Options {
            n_ctx: 64,
            n_slots: 1,
            kv_type: KvType::F16,
            cache: CacheOptions::default(),
            speculation: Speculation::default(),
            low_memory: false,
        },
    )?;
    let dir = tempfile::tempdir().map_err(io)?;
    let path = dir.path().join("session");
    let mut corpus = Vec::new();
    let empty = Conversation::default();
    for conversation in [talk(&engine)?, empty] {
        engine.save(&conversation, &path, |_, _| (), &Cancel::new())?;
        let bytes = std::fs::read(&path).map_err(io)?;
        let reach = N_PREFIX_BYTES + n_head_bytes(&bytes).unwrap_or(0);
        corpus.push((bytes, reach));
    }
    PLACE.set(Some((engine, dir)));
    Ok(corpus)
}

fn talk(engine: &Engine) -> owlet::Result<Conversation> {
    let mut talk = Conversation::default();
    if let Some(config) = &engine.loaded().config.image {
        let rgb = vec![128; 3 * config.size_px.pow(2) as usize];
        let pixels = Pixels::new(rgb, config)?.into();
        talk.pictures.push(NamedPicture { name: "grey.png".into(), pixels });
    }
    talk.messages.push(Message::user("What?", 0..talk.pictures.len()));
    let images = talk.pictures.iter().map(|picture| picture.pixels.clone()).collect();
    let request = Request { max_tokens: 4, ..Request::new(talk.messages.clone(), images) };
    let ticket = engine.submit(request)?;
    loop {
        match ticket.next_event() {
            Event::Done(outcome) => {
                talk.messages.push(Message::bot(outcome.text));
                return Ok(talk);
            }
            Event::Failed(error) => return Err(error),
            _ => {}
        }
    }
}

fn n_head_bytes(bytes: &[u8]) -> Option<usize> {
    let number = bytes.get(12..N_PREFIX_BYTES)?.try_into().ok()?;
    Some(u32::from_le_bytes(number) as usize)
}

fn run(bytes: &[u8]) {
    restore(bytes);
    restore(&sealed(bytes).unwrap_or_default());
}

/// As if whoever damaged it had sealed it again.
fn sealed(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut sealed = bytes.to_vec();
    for end in [N_PREFIX_BYTES.checked_add(n_head_bytes(bytes)?)?, bytes.len().checked_sub(N_SUM_BYTES)?] {
        let sum = Sha256::digest(sealed.get(..end)?);
        sealed.get_mut(end..end.checked_add(N_SUM_BYTES)?)?.copy_from_slice(&sum);
    }
    Some(sealed)
}

fn restore(bytes: &[u8]) {
    PLACE.with_borrow(|place| {
        let Some((engine, dir)) = place else { return };
        let path = dir.path().join("session");
        if std::fs::write(&path, bytes).is_err() {
            return;
        }
        if let Ok(restored) = engine.restore(&path, |_, _| (), &Cancel::new()) {
            assert!(restored.n_positions <= engine.options().n_ctx as usize);
        }
    });
}
