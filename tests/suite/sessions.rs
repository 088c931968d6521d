//! Conversations in files: what comes back is what was saved, to the bit, and whatever else is in a file is refused.

use std::fs;
use std::path::{Path, PathBuf};

use ggml::Cancel;
use owlet::engine::{
    CacheOptions, Conversation, Engine, Loaded, NamedPicture, Options, Outcome, Restored, Saved, Scope,
    Speculation,
};
use owlet::model::KvType;
use owlet::prompt::{Message, Pixels};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::engine::{finish, pixels, request};
use crate::models::{Kind, path};

fn engine_with(kind: Kind, n_ctx: u32, n_slots: u32, kv_type: KvType) -> Engine {
    let loaded = Loaded::open(Some(&path(kind)), 1).unwrap();
    Engine::start(
        loaded,
        Options {
            n_ctx,
            n_slots,
            kv_type,
            cache: CacheOptions::default(),
            speculation: Speculation::default(),
            low_memory: false,
        },
    )
    .unwrap()
}

fn engine(kind: Kind) -> Engine {
    engine_with(kind, 2048, 1, KvType::F16)
}

fn save(engine: &Engine, conversation: &Conversation, path: &Path) -> Saved {
    engine.save(conversation, path, |_, _| (), &Cancel::new()).unwrap()
}

fn restore(engine: &Engine, path: &Path) -> owlet::Result<Restored> {
    engine.restore(path, |_, _| (), &Cancel::new())
}

/// A picture as a door makes it: floats that its bytes bring back.
fn named(engine: &Engine, seed: u8) -> NamedPicture {
    let config = engine.loaded().config.image.clone().unwrap();
    let pixels = Pixels::new(pixels(112, seed).rgb.to_vec(), &config).unwrap();
    NamedPicture { name: format!("picture {seed}.png"), pixels: pixels.into() }
}

/// Asks `question`, about the pictures `images` and whatever was said before; adds both sides to the conversation. Yields
/// also how many pictures the engine had to know.
fn turn(engine: &Engine, conversation: &mut Conversation, question: &str, images: &[u8]) -> (Outcome, usize) {
    let first = conversation.pictures.len();
    conversation.pictures.extend(images.iter().map(|&seed| named(engine, seed)));
    conversation.messages.push(Message::user(question, first..conversation.pictures.len()));
    let pixels = conversation.pictures.iter().map(|picture| picture.pixels.clone()).collect();
    let mut request = request(conversation.messages.clone(), pixels);
    request.system = conversation.system.clone();
    let (outcome, _, sources) = finish(&engine.submit(request).unwrap());
    conversation.messages.push(Message::bot(&outcome.text));
    (outcome, sources.len())
}

#[test]
fn a_conversation_goes_on_in_another_process_as_if_nothing_had_been() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("talk");
    // Heads of 16 do not fill blocks of q8_0; the cache's own tests have those.
    for kv_type in [KvType::F16, KvType::F32] {
        let first = engine_with(Kind::Random, 2048, 1, kv_type);
        let mut talk = Conversation { system: Some("Be brief.".into()), ..Conversation::default() };
        let (one, n_pictures) = turn(&first, &mut talk, "What?", &[3]);
        assert_eq!(n_pictures, 1);
        let saved = save(&first, &talk, &file);
        // Everything but the token that came last, which nothing was computed for.
        assert_eq!(saved.n_positions, one.n_prompt + one.ids.len() - 1);
        assert_eq!(saved.n_bytes, fs::metadata(&file).unwrap().len());

        let mut uninterrupted = talk.clone();
        let two = turn(&first, &mut uninterrupted, "And why?", &[5]);
        let three = turn(&first, &mut uninterrupted, "Sure?", &[]);

        let second = engine_with(Kind::Random, 2048, 1, kv_type);
        let mut heard = Vec::new();
        let mut back =
            second.restore(&file, |done, total| heard.push((done, total)), &Cancel::new()).unwrap();
        assert!(back.conversation == talk, "what was said, and the pictures");
        assert_eq!(back.n_positions, saved.n_positions);
        assert!(
            heard.is_sorted() && heard.iter().all(|(done, total)| done <= total && *total == saved.n_bytes)
        );
        let again = [("And why?", &[5][..]), ("Sure?", &[])]
            .map(|(question, images)| turn(&second, &mut back.conversation, question, images));
        for (again, (before, n_pictures)) in again.into_iter().zip([two, three]) {
            let (outcome, n_looked_at) = again;
            assert_eq!((&outcome.ids, outcome.n_reused), (&before.ids, before.n_reused), "{kv_type:?}");
            assert_eq!(n_looked_at, n_pictures, "{kv_type:?}: only a new picture is looked at");
        }
        // And what was brought back can be saved again, to the same bytes.
        let third = engine_with(Kind::Random, 2048, 1, kv_type);
        let copy = dir.path().join("copy");
        save(&third, &restore(&third, &file).unwrap().conversation, &copy);
        assert!(fs::read(&copy).unwrap() == fs::read(&file).unwrap());
    }
}

/// Longer than the cache is at first and longer than a piece of the file, beside requests that go on meanwhile.
#[test]
fn other_requests_go_on_beside_files() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("talk");
    let first = engine_with(Kind::Random, 2048, 3, KvType::F32);
    let mut talk = Conversation::default();
    turn(&first, &mut talk, &"long ".repeat(250), &[]);
    let question = || request(vec![Message::user("so ".repeat(100), [])], vec![]);
    let alone = finish(&engine_with(Kind::Random, 2048, 1, KvType::F32).submit(question()).unwrap()).0;
    let beside = [first.submit(question()).unwrap(), first.submit(question()).unwrap()];
    let saved = save(&first, &talk, &file);
    assert!(saved.n_positions > 1200, "{saved:?}");
    assert!(beside.map(|ticket| finish(&ticket).0.ids) == [alone.ids.clone(), alone.ids.clone()]);
    let next = turn(&first, &mut talk.clone(), "Why?", &[]).0;

    let second = engine_with(Kind::Random, 2048, 3, KvType::F32);
    let beside = [second.submit(question()).unwrap(), second.submit(question()).unwrap()];
    let mut back = restore(&second, &file).unwrap();
    let after = turn(&second, &mut back.conversation, "Why?", &[]).0;
    assert_eq!((after.ids, after.n_reused), (next.ids, next.n_reused));
    assert!(beside.map(|ticket| finish(&ticket).0.ids) == [alone.ids.clone(), alone.ids]);
}

/// Whoever wants the slot that is at work gets it when that is done, also when nobody asks for anything any more.
#[test]
fn a_file_waits_for_the_slot_at_work() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("talk");
    let engine = engine(Kind::Endless);
    let mut long = request(vec![Message::user("Sing!", [])], vec![]);
    long.max_tokens = 300;
    let ticket = engine.submit(long).unwrap();
    ticket.next_event();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let saved = engine.save_slot(0, Scope::SHARED, &file, &Cancel::new());
            tell.send(saved.map(|saved| saved.n_positions)).unwrap();
        });
        let (outcome, ..) = finish(&ticket);
        let saved = told.recv_timeout(std::time::Duration::from_secs(60));
        if saved.is_err() {
            // Any order wakes the engine, so that the test ends.
            engine.slots().unwrap();
        }
        let n_positions = saved.expect("the file was not written").unwrap();
        assert_eq!(n_positions, outcome.n_prompt + outcome.ids.len() - 1);
    });
}

/// What is not in the cache any more costs a prefill, and what was taken back is not saved.
#[test]
fn a_file_holds_what_the_cache_knows() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("talk");
    let engine = engine(Kind::Random);
    let mut talk = Conversation::default();
    let (one, _) = turn(&engine, &mut talk, "What?", &[3]);
    let short = talk.clone();
    let (two, _) = turn(&engine, &mut talk, "And this?", &[5]);
    // The turn with the second picture is taken back: its first words are known, its picture has gone.
    let saved = save(&engine, &short, &file);
    assert!(
        saved.n_positions >= one.n_prompt && saved.n_positions < two.n_prompt,
        "{saved:?} {one:?} {two:?}"
    );
    assert!(restore(&engine, &file).unwrap().conversation == short);

    turn(&engine, &mut Conversation { system: Some("Else.".into()), ..Conversation::default() }, "Who?", &[]);
    let saved = save(&engine, &talk, &file);
    assert!(saved.n_positions < 4, "the beginning that every prompt has: {saved:?}");
    let mut back = restore(&engine, &file).unwrap().conversation;
    assert!(back == talk);
    let (again, _) = turn(&engine, &mut back, "Why?", &[]);
    let mut fresh = talk.clone();
    assert_eq!(again.ids, turn(&self::engine(Kind::Random), &mut fresh, "Why?", &[]).0.ids);

    let nothing = Conversation::default();
    assert_eq!(save(&engine, &nothing, &file).n_positions, 0);
    assert_eq!(restore(&engine, &file).unwrap(), Restored { conversation: nothing, n_positions: 0 });
}

#[test]
fn a_file_appears_whole_and_replaces_only_its_like() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(Kind::Random);
    let mut talk = Conversation::default();
    turn(&engine, &mut talk, "What?", &[]);
    let names =
        || fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();

    let other = dir.path().join("cat.png");
    fs::write(&other, "a picture").unwrap();
    let refused = |path: &Path| engine.save(&talk, path, |_, _| (), &Cancel::new()).unwrap_err().to_string();
    assert_eq!(refused(&other), format!("{}: exists and is no saved conversation", other.display()));
    assert_eq!(refused(dir.path()), format!("{}: exists and is no saved conversation", dir.path().display()));
    assert!(refused(&dir.path().join("no/talk")).ends_with("talk: No such file or directory (os error 2)"));
    assert_eq!((fs::read(&other).unwrap(), names().len()), (b"a picture".to_vec(), 1));

    let file = dir.path().join("talk");
    let cancel = Cancel::new();
    let stop = |_, _| cancel.cancel();
    let cancelled = engine.save(&talk, &file, stop, &cancel).unwrap_err();
    assert_eq!((cancelled.to_string(), names().len()), ("cancelled".to_string(), 1));
    let before = save(&engine, &talk, &file);
    turn(&engine, &mut talk, "And?", &[]);
    let after = save(&engine, &talk, &file);
    assert!(after.n_positions > before.n_positions && names().len() == 2);
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&file).unwrap());
        assert_eq!(mode & 0o777, 0o600);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        save(&engine, &talk, &link);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink(), "the file is replaced, not the link");
    }

    let cancelled = engine.restore(&file, |_, _| cancel.cancel(), &cancel).unwrap_err();
    assert_eq!(cancelled.to_string(), "cancelled");
    assert!(restore(&engine, &file).unwrap().conversation == talk);

    let mut small = talk.clone();
    small.pictures.push(NamedPicture { name: "small.png".into(), pixels: pixels(28, 1) });
    let refused = engine.save(&small, &file, |_, _| (), &Cancel::new()).unwrap_err().to_string();
    assert_eq!(refused, "small.png: expected 112 pixels a side, found 28");
    small.pictures.clear();
    small.messages.push(Message::user("This?", [0]));
    let refused = engine.save(&small, &file, |_, _| (), &Cancel::new()).unwrap_err().to_string();
    assert_eq!(refused, "picture 1: the request brings 0");
}

/// A saved conversation, and the engine that it belongs to.
struct Fixture {
    _dir: tempfile::TempDir,
    file: PathBuf,
    good: Vec<u8>,
    engine: Engine,
}

const N_PREFIX: usize = 16;
const N_SUM: usize = 32;

impl Fixture {
    fn new(images: &[u8]) -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("talk");
        let engine = engine(Kind::Random);
        let mut talk = Conversation::default();
        turn(&engine, &mut talk, "What?", images);
        save(&engine, &talk, &file);
        Fixture { good: fs::read(&file).unwrap(), file, engine, _dir: dir }
    }

    /// What is said about `bytes`, without the file's name.
    fn refusal(&self, bytes: &[u8]) -> Result<Restored, String> {
        fs::write(&self.file, bytes).unwrap();
        let name = format!("{}: ", self.file.display());
        restore(&self.engine, &self.file).map_err(|error| {
            let text = error.to_string();
            assert!(!text.contains('\n'), "{text:?}");
            text.strip_prefix(&name).unwrap_or(&text).to_string()
        })
    }

    fn n_head(&self) -> usize {
        u32::from_le_bytes(self.good[12..16].try_into().unwrap()) as usize
    }

    /// The file with another head and right sums.
    fn with_head(&self, change: impl FnOnce(&mut Value)) -> Vec<u8> {
        let mut head: Value = serde_json::from_slice(&self.good[N_PREFIX..N_PREFIX + self.n_head()]).unwrap();
        change(&mut head);
        let body = &self.good[N_PREFIX + self.n_head() + N_SUM..self.good.len() - N_SUM];
        sealed(&self.good[..12], head.to_string().as_bytes(), body)
    }

    /// The file with another body and a right sum.
    fn with_body(&self, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let (head, rest) = self.good[N_PREFIX..].split_at(self.n_head());
        let mut body = rest[N_SUM..rest.len() - N_SUM].to_vec();
        change(&mut body);
        sealed(&self.good[..12], head, &body)
    }
}

fn sealed(start: &[u8], head: &[u8], body: &[u8]) -> Vec<u8> {
    let mut bytes = [start, &(head.len() as u32).to_le_bytes(), head].concat();
    bytes.extend(Sha256::digest(&bytes));
    bytes.extend(body);
    bytes.extend(Sha256::digest(&bytes));
    bytes
}

#[test]
fn every_flipped_byte_and_every_cut_is_found() {
    let fixture = Fixture::new(&[]);
    let good = &fixture.good;
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        assert!(fixture.refusal(&bytes).is_err(), "byte {at} of {}", good.len());
    }
    for n in (0..good.len()).step_by(7).chain([good.len() - 1]) {
        assert!(fixture.refusal(&good[..n]).is_err(), "{n} bytes of {}", good.len());
    }
    assert!(fixture.refusal(&[good, &b"x"[..]].concat()).is_err());
    // And after all of that the engine answers as a new one does.
    let back = fixture.refusal(good).unwrap();
    let answer = |engine: &Engine| turn(engine, &mut back.conversation.clone(), "Why?", &[]).0.ids;
    assert_eq!(answer(&fixture.engine), answer(&engine(Kind::Random)));
}

#[test]
fn files_that_are_hostile() {
    let fixture = Fixture::new(&[3]);
    let good = &fixture.good;
    assert_eq!(fixture.with_head(|_| ()).len(), good.len());
    assert!(fixture.refusal(&fixture.with_head(|_| ())).is_ok(), "the fixture seals as the program does");
    let patched = |at: usize, bytes: &[u8]| {
        let mut patched = good.clone();
        patched[at..at + bytes.len()].copy_from_slice(bytes);
        patched
    };
    let head = |change: fn(&mut Value)| fixture.with_head(change);
    let n_body = good.len() - N_PREFIX - fixture.n_head() - 2 * N_SUM;
    let cases: Vec<(Vec<u8>, String)> = vec![
        (vec![], "cut off after 0 bytes".into()),
        (patched(0, b"OWLET"), "expected a saved conversation, found something else".into()),
        (patched(8, &[2]), "version 2 of saved conversations; this program knows 1".into()),
        (patched(12, &u32::MAX.to_le_bytes()), "bytes of the head: at most 16777216, found 4294967295".into()),
        (patched(12, &(15u32 << 20).to_le_bytes()), format!("cut off after {} bytes", good.len())),
        (patched(20, b"\0"), "checksum: the file is damaged".into()),
        (patched(good.len() - 40, &[good[good.len() - 40] ^ 1]), "checksum: the file is damaged".into()),
        (fixture.with_body(|body| body.truncate(n_body - 1)), format!("expected {} bytes, found {}", good.len(), good.len() - 1)),
        (sealed(&good[..12], b"{", &[]), "head: EOF while parsing an object at line 1 column 1".into()),
        (sealed(&good[..12], "[".repeat(100_000).as_bytes(), &[]), "head: invalid type: sequence, expected a string at line 1 column 1".into()),
        (head(|head| head["more\n"] = json!(1)), "head: unknown field `more\\n`, expected one of `written_by`, `model`, `kv_type`, `exact`, `system`, `messages`, `pictures`, `positions` at line 1 column ".into()),
        (head(|head| head["model"]["sha256"] = json!("00")), "a conversation with another model, random; this one is random".into()),
        (head(|head| head["kv_type"] = json!("q8_0")), "its keys and values are of type q8_0; this program runs with f16".into()),
        (head(|head| head["kv_type"] = json!("f99\n")), "its keys and values are of type f99\\n; this program runs with f16".into()),
        (head(|head| head["exact"] = json!(true)), "its keys and values are of exact activations; this program runs with 8 bits".into()),
        (head(|head| head["messages"][1]["by"] = json!("user")), "message 2: expected one by the model, found one by the user".into()),
        (head(|head| head["messages"][1]["parts"] = json!([{"picture": 0}])), "message 2: a picture in an answer".into()),
        (head(|head| head["messages"][0]["parts"][0] = json!({"picture": 1})), "message 1: picture 1: expected one of 1".into()),
        (head(|head| head["pictures"] = json!([])), "message 1: picture 0: expected one of 0".into()),
        (head(|head| head["pictures"] = json!(["a", "b"])), {
            // Eight letters less in the head, and a second picture missing.
            let n_bytes = good.len() - 8;
            format!("expected {} bytes, found {n_bytes}", n_bytes + 3 * 112 * 112)
        }),
        (head(|head| head["positions"][0]["tokens"][0] = json!(274)), "positions: token: expected less than 274, found 274".into()),
        (head(|head| head["positions"][0]["tokens"][0] = json!(-1)), "head: invalid value: integer `-1`, expected u32 at line 1 column ".into()),
        (head(|head| head["positions"][1]["picture"]["index"] = json!(1)), "positions: picture 1: expected one of 1".into()),
        (head(|head| head["positions"][1]["picture"]["n"] = json!(u32::MAX)), "positions: rows of a picture: expected some of 16, found 4294967295 from 0 on".into()),
        (head(|head| head["positions"] = json!(vec![json!({"picture": {"index": 0, "first": 0, "n": 16}}); 200])), "positions in this context: at most 2048, found 2064".into()),
        (head(|head| head["positions"][1]["picture"]["n"] = json!(15)), "expected ".into()),
        (fixture.with_body(|body| { let at = body.len() - 2; body[at..].copy_from_slice(&0x7c00u16.to_le_bytes()) }), "cached rows: expected numbers, found infinities or NaN".into()),
    ];
    for (bytes, text) in &cases {
        let found = fixture.refusal(bytes).unwrap_err();
        let is_open = text.ends_with(' ');
        assert!(
            if is_open { found.starts_with(text) } else { found == *text },
            "expected {text:?}\nfound {found:?}"
        );
    }
    assert!(fixture.refusal(good).is_ok());

    // Good files in wrong places.
    fs::write(&fixture.file, good).unwrap();
    let refused = |engine: &Engine, path: &Path| {
        restore(engine, path).unwrap_err().to_string().replace(&format!("{}: ", path.display()), "")
    };
    let file = &fixture.file;
    for (engine, expected) in [
        (engine(Kind::Story), "a conversation with another model, random; this one is story"),
        (
            engine_with(Kind::Random, 2048, 1, KvType::F32),
            "its keys and values are of type f16; this program runs with f32",
        ),
        (engine_with(Kind::Random, 20, 1, KvType::F16), "positions in this context: at most 20, found "),
    ] {
        let found = refused(&engine, file);
        assert!(found.starts_with(expected), "{found}");
    }
    let dir = file.parent().unwrap();
    assert_eq!(refused(&fixture.engine, dir), "expected a file, found something else");
    assert_eq!(refused(&fixture.engine, &dir.join("nothing")), "No such file or directory (os error 2)");
}
