//! The self-test of a file: recorded without touching the model, held by the same model on other arithmetic, failed by another.

use std::fs;
use std::path::{Path, PathBuf};

use ggml::Cancel;
use owlet::engine::Setup;
use owlet::measure::{Difference, SelfTestVerdict, Watch, check_self_test, record_self_test};
use owlet::model::Arithmetic;
use owlet_convert::{Options, Plan};
use owlet_format::{Gguf, SELF_TEST_KEY, SelfTest, SelfTestRoom};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::convert::Tiny;
use crate::models::{Kind, path, path_of_tower};
use crate::program::{Ran, owlet};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A model in `types`, made by the program, with an empty room.
fn made(dir: &TempDir, model: &Path, types: &str) -> PathBuf {
    let out = dir.path().join(format!("{types}.gguf"));
    let words =
        ["quantize", text(model), text(&out), "--vision-type", types, "--projector-type", types, "-q"];
    let of_text = ["--type", types];
    let n_more = if model == path(Kind::Random) { 2 } else { 0 };
    owlet(&[&words[..], &of_text[..n_more]].concat()).ok();
    out
}

fn check(path: Option<&Path>, setup: &Setup) -> SelfTestVerdict {
    let watch = &mut Watch { cancel: &Cancel::new(), progress: &mut |_, _, _| () };
    check_self_test(path, setup, watch).unwrap()
}

fn record(path: &Path) -> SelfTest {
    let watch = &mut Watch { cancel: &Cancel::new(), progress: &mut |_, _, _| () };
    record_self_test(path, &Setup::cpu(2), watch).unwrap()
}

fn recorded(path: &Path) -> SelfTest {
    match SelfTest::read(&Gguf::open(path).unwrap()).unwrap() {
        SelfTestRoom::Recorded(record) => record,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_door_records_and_checks() {
    let dir = tempfile::tempdir().unwrap();
    let out = made(&dir, &path(Kind::Random), "q8_0");
    let before = fs::read(&out).unwrap();
    let words = owlet(&["verify", text(&out)]).ok();
    assert!(
        words.ends_with("\nself-test  not recorded: `owlet verify --record` does that\nall is right\n"),
        "{words}"
    );
    assert!(fs::read(&out).unwrap() == before, "a check writes nothing");

    let words = owlet(&["verify", "--record", text(&out)]).ok();
    let start = concat!(
        "\nself-test  right: 80 values, equal to the bit; recorded by owlet ",
        env!("CARGO_PKG_VERSION")
    );
    assert!(words.contains(start) && words.ends_with("\nall is right\n"), "{words}");
    assert_eq!(owlet(&["verify", "--threads", "1", text(&out)]).ok(), words);
    let mut after = fs::read(&out).unwrap();
    let file = Gguf::open(&out).unwrap();
    after[file.array_place(SELF_TEST_KEY).unwrap()].fill(0);
    assert!(after == before, "the model stays as it is");
    let found: Value = serde_json::from_str(&owlet(&["verify", "--json", text(&out)]).ok()).unwrap();
    let self_test = &found["self_test"];
    assert_eq!((&self_test["state"], &self_test["is_equal"]), (&json!("right"), &json!(true)), "{found}");
    let found: Value =
        serde_json::from_str(&owlet(&["verify", "--json", "--no-self-test", text(&out)]).ok()).unwrap();
    assert_eq!(found["self_test"], Value::Null);

    // what is made of it has an empty room again, and the same bytes as if nothing had been recorded
    let of = |name: &str| {
        let next = dir.path().join(name);
        owlet(&["quantize", text(&out), text(&next), "--type", "q8_0", "-q"]).ok();
        fs::read(next).unwrap()
    };
    let of_recorded = of("recorded.gguf");
    fs::write(&out, &before).unwrap();
    assert!(of_recorded == of("empty.gguf"));
}

/// Pictures and conversations that were kept are still found.
#[test]
fn recording_does_not_make_another_model_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let out = made(&dir, &path(Kind::Random), "f16");
    let loaded = || owlet::engine::Loaded::open(Some(&out), 1).unwrap();
    let before = loaded();
    record(&out);
    let after = loaded();
    assert_eq!((before.digest, before.encoder_digest), (after.digest, after.encoder_digest));
}

/// The largest share of its bound that a value takes, by the arithmetic that rounds least.
fn share(out: &Path, setup: &Setup) -> f32 {
    let record = recorded(out);
    let bounds = [record.embedding_bound, record.logits_bound];
    let strict = SelfTest { embedding_bound: 0.0, logits_bound: 0.0, ..record.clone() };
    strict.record(Gguf::open(out).unwrap()).unwrap();
    let verdict = check(Some(out), setup);
    record.record(Gguf::open(out).unwrap()).unwrap();
    let SelfTestVerdict::Wrong { differences, .. } = verdict else { return 0.0 };
    let of = |Difference { what, expected, found, .. }: &Difference| {
        (found - expected).abs() / bounds[usize::from(what.starts_with("logit"))]
    };
    differences.iter().map(of).fold(0.0, f32::max)
}

/// Activations in f32 before quantized weights instead of in 8 bits: other values, and all within their bounds.
#[test]
fn other_arithmetic_is_within_the_bounds() {
    let exact = Setup { arithmetic: Arithmetic::Exact, ..Setup::cpu(2) };
    let dir = tempfile::tempdir().unwrap();
    for types in ["f32", "f16", "bf16", "q8_0", "q5_1", "q4_0", "iq4_nl"] {
        let out = made(&dir, &path(Kind::Random), types);
        record(&out);
        let same = check(Some(&out), &Setup::cpu(1));
        assert!(
            matches!(same, SelfTestVerdict::Right { is_equal: true, n_values: 80, .. }),
            "{types}: {same}"
        );
        let watch = &mut Watch { cancel: &Cancel::new(), progress: &mut |_, _, _| () };
        match check_self_test(Some(&out), &exact, watch) {
            Err(error) => println!("not run: {types}: {error}"),
            Ok(SelfTestVerdict::Right { is_equal, .. }) => {
                println!("{types}: {:.3} of the bound", share(&out, &exact));
                assert!(types.contains('f') || !is_equal, "{types}");
            }
            Ok(other) => panic!("{types}: {other}"),
        }
    }
}

/// Weights that changed under a header that did not: what comes out of them is named.
#[test]
fn a_model_that_computes_something_else_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let sound = made(&dir, &path(Kind::Random), "q8_0");
    record(&sound);
    let file = Gguf::open(&sound).unwrap();
    let cases: [(&str, bool); 4] = [
        ("v.blk.0.attn_qkv.weight", true),
        ("mm.1.weight", true),
        ("blk.0.ffn_down.weight", false),
        ("output.weight", false),
    ];
    for (name, is_seen) in cases {
        let info = file.tensor(name).unwrap();
        let row_bytes = (info.n_bytes / info.shape.n_rows()) as usize;
        let mut bytes = fs::read(&sound).unwrap();
        let data = &mut bytes[info.offset as usize..(info.offset + info.n_bytes) as usize];
        data.rotate_left(row_bytes);
        let out = dir.path().join("changed.gguf");
        fs::write(&out, bytes).unwrap();
        let found = check(Some(&out), &Setup::cpu(2));
        let SelfTestVerdict::Wrong { differences, n_values: 80, .. } = &found else {
            panic!("{name}: {found}")
        };
        let sees = |start: &str| differences.iter().any(|difference| difference.what.starts_with(start));
        // What changed in the tower is seen in the embedding, and need not reach the logits.
        assert_eq!(sees("embedding value "), is_seen, "{name}: {found}");
        assert!(is_seen || sees("logit of token "), "{name}: {found}");
        let words = found.to_string();
        let first = &differences[0];
        let line = format!(
            "\n  {}: expected {}, found {}, at most {} off\n",
            first.what, first.expected, first.found, first.bound
        );
        assert!(words.starts_with("wrong: ") && words.contains(&line), "{words}");
        assert!(
            words.contains("\n  recorded by owlet ") && words.contains("\n  computed by owlet "),
            "{words}"
        );
        // the door does not run what is damaged
        let Ran { code, out: words, .. } = owlet(&["verify", "--record", text(&out)]);
        assert!(
            code == Some(1) && words.contains("checksums  1 tensor is wrong") && !words.contains("self-test")
        );
    }
    // and by the door: a record that says something else
    let right = recorded(&sound);
    let mut wrong = right.clone();
    wrong.embedding[5] += 2.0 * right.embedding_bound;
    wrong.logits[1].0 = right.logits[0].0;
    wrong.n_positions += 1;
    wrong.record(Gguf::open(&sound).unwrap()).unwrap();
    let Ran { code, out: words, .. } = owlet(&["verify", text(&sound)]);
    assert!(
        code == Some(1) && words.contains("\nself-test  wrong: ") && words.ends_with("\nnot all is right\n")
    );
    assert!(
        words.contains("\n  embedding value 5: expected ")
            && words.contains("\n  number of positions of the prompt: ")
    );
    // a token that should not be among the largest
    let mut wrong = right.clone();
    wrong.logits.truncate(15);
    let drop = 3.0 * right.logits_bound;
    wrong.logits[14].1 = right.logits[15].1 - drop;
    wrong.record(Gguf::open(&sound).unwrap()).unwrap();
    let found = check(Some(&sound), &Setup::cpu(1)).to_string();
    assert!(found.contains(&format!("\n  logit of token {}, at most: ", right.logits[15].0)), "{found}");
    assert!(found.contains("\n  number of logits: expected 15, found 16"), "{found}");
}

#[test]
fn towers_alone_and_split_files_have_one_too() {
    let dir = tempfile::tempdir().unwrap();
    let tower = made(&dir, &path_of_tower(), "q8_0");
    let record_of_tower = record(&tower);
    assert_eq!((record_of_tower.embedding.len(), record_of_tower.logits.len()), (64, 0));
    assert!(check(Some(&tower), &Setup::cpu(1)).is_right());

    let whole = path(Kind::Random);
    let out = dir.path().join("split.gguf");
    let types = ["--type", "f32", "--split-max-size", "150KB", "-q"];
    owlet(&[&["quantize", text(&whole), text(&out)], &types[..]].concat()).ok();
    let mut files: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| text(file).contains("split-0"));
    files.sort();
    let before: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    owlet(&["verify", "--record", "-q", text(&files[0])]).ok();
    let is_same: Vec<bool> =
        files.iter().zip(&before).map(|(file, old)| fs::read(file).unwrap() == *old).collect();
    assert!(files.len() > 2 && !is_same[0] && is_same[1..].iter().all(|same| *same), "{is_same:?}");
    assert!(
        owlet(&["verify", text(&files[0])]).ok().contains("self-test  right: 80 values, equal to the bit")
    );
}

#[test]
fn files_without_a_record_say_so() {
    let old = path(Kind::Random);
    let no_room = "no room for a self-test, being of an owlet from before: `owlet convert` and `owlet quantize` write \
                   files that have it\n";
    let words = owlet(&["verify", text(&old)]).ok();
    assert!(words.ends_with(&format!("\nself-test  {no_room}all is right\n")), "{words}");
    let before = fs::read(&old).unwrap();
    let Ran { code, err, .. } = owlet(&["verify", "--record", text(&old)]);
    assert_eq!((code, err), (Some(1), format!("owlet: {}: has {no_room}", text(&old))));
    assert!(fs::read(&old).unwrap() == before);

    // a conversion leaves the room empty, and one that is cut short is told
    let tiny = Tiny::new();
    let dir = tiny.safetensors();
    let out = dir.with_extension("gguf");
    Plan::from_dir(&dir, &Options::default()).unwrap().run(&out, &mut (), &Cancel::new()).unwrap();
    assert_eq!(check(Some(&out), &Setup::cpu(1)), SelfTestVerdict::NotRecorded);
    record(&out);
    let mut bytes = fs::read(&out).unwrap();
    let room = Gguf::open(&out).unwrap().array_place(SELF_TEST_KEY).unwrap();
    bytes[room.start + 100] ^= 1;
    fs::write(&out, bytes).unwrap();
    let Ran { code, out: words, .. } = owlet(&["verify", text(&out)]);
    let broken = "\nself-test  broken: the recording was cut short, or the header changed behind it; `owlet verify --record` \
                  records anew\nnot all is right\n";
    assert!(code == Some(1) && words.ends_with(broken), "{words}");
    owlet(&["verify", "--record", text(&out)]).ok();
}

/// The built-in model computes here what it computed where it was made.
#[test]
fn the_built_in_model_has_one() {
    let found = check(None, &Setup::cpu(2));
    println!("{found}");
    assert!(matches!(found, SelfTestVerdict::Right { n_values: 80, .. }), "{found}");
}
