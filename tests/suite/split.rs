//! Models in several files: written with `--split-max-size`, read wherever a model file is, and one line for whatever is
//! wrong with one of them.

use std::fs;
use std::path::{Path, PathBuf};

use ggml::Cancel;
use owlet_convert::{Options, Plan};
use owlet_format::{Gguf, ModelConfig};

use crate::convert::{Tiny, all_as, names_beside};
use crate::models::{Kind, path};
use crate::program::{Ran, owlet, picture};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A checkpoint as one file and as several, next to each other.
struct Both {
    tiny: Tiny,
    dir: PathBuf,
    whole: PathBuf,
    first: PathBuf,
}

const MAX: u64 = 700_000;

impl Both {
    fn new() -> Both {
        let tiny = Tiny::new();
        let dir = tiny.safetensors();
        let whole = dir.with_extension("gguf");
        let options = all_as("bf16");
        Plan::from_dir(&dir, &options).unwrap().run(&whole, &mut (), &Cancel::new()).unwrap();
        let split = Options { split_max_bytes: Some(MAX), ..options };
        let out = dir.with_file_name("split.gguf");
        let report = Plan::from_dir(&dir, &split).unwrap().run(&out, &mut (), &Cancel::new()).unwrap();
        assert!(report.to_string().contains(" bytes in 8 files, of which this is the first\n"), "{report}");
        Both { tiny, dir, whole, first: report.done.path }
    }

    fn files(&self) -> Vec<PathBuf> {
        let names = names_beside(&self.first).into_iter().filter(|name| name.starts_with("split-"));
        names.map(|name| self.first.with_file_name(name)).collect()
    }
}

fn assert_same(one: &Gguf, other: &Gguf) {
    let config = |file: &Gguf| ModelConfig::read(file).unwrap();
    assert_eq!(config(one), config(other));
    config(other).check(other).unwrap();
    assert_eq!(one.tensors().len(), other.tensors().len());
    for (a, b) in one.tensors().iter().zip(other.tensors()) {
        assert_eq!((&a.name, a.dtype, a.shape), (&b.name, b.dtype, b.shape));
        assert!(one.data(a) == other.data(b), "{}", a.name);
    }
    assert_eq!(one.checksums().unwrap(), other.checksums().unwrap());
}

#[test]
fn several_files_are_the_same_model() {
    let both = Both::new();
    let files = both.files();
    assert_eq!(files.len(), 8, "{files:?}");
    assert!(files.iter().all(|file| fs::metadata(file).unwrap().len() <= MAX));
    assert_eq!(names_beside(&both.first).len(), 8 + 2, "the directory, the whole, and nothing left over");
    let (whole, split) = (Gguf::open(&both.whole).unwrap(), Gguf::open(&both.first).unwrap());
    assert_same(&whole, &split);
    assert_eq!(split.files().collect::<Vec<_>>(), files);
    // by every program that reads one
    let words = owlet(&["verify", text(&both.first), "--against", text(&both.dir)]).ok();
    assert!(
        words.ends_with("all is right\n") && words.contains(": the files that it was made of\n"),
        "{words}"
    );
    let shown = owlet(&["inspect", text(&both.first)]).ok();
    assert!(shown.contains("tiny-chat"), "{shown}");
}

/// The same words, told by one file and by several, and the same features.
#[test]
fn a_split_model_answers_as_the_whole() {
    let dir = tempfile::tempdir().unwrap();
    let whole = path(Kind::Random);
    let out = dir.path().join("random.gguf");
    let types = ["--type", "f32", "--vision-type", "f32", "--split-max-size", "150KB"];
    let ran = owlet(&[&["quantize", text(&whole), text(&out)], &types[..]].concat());
    assert!(ran.code == Some(0) && !out.exists(), "{ran:?}");
    let first = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).min().unwrap();
    let seen = picture("split.png", 60, 40, [200, 30, 30, 255]);
    let ask = |model: &Path| {
        let words =
            ["run", "-q", "-m", text(model), "--image", text(&seen), "--max-tokens", "12", "la li lo?"];
        owlet(&words).ok()
    };
    assert_eq!(ask(&whole), ask(&first));
    // and back into one
    let again = dir.path().join("again.gguf");
    owlet(&["quantize", text(&first), text(&again), "--type", "f32", "-q"]).ok();
    let (whole, again) = (Gguf::open(&whole).unwrap(), Gguf::open(&again).unwrap());
    for (a, b) in whole.tensors().iter().zip(again.tensors()) {
        assert!(a.name == b.name && whole.data(a) == again.data(b), "{}", a.name);
    }
}

#[test]
fn what_is_wrong_with_one_of_them_is_one_line() {
    let both = Both::new();
    let files = both.files();
    let refused = || {
        let ran = owlet(&["verify", text(&both.first)]);
        assert!(ran.code == Some(1) && ran.err.lines().count() == 1, "{ran:?}");
        ran.err
    };
    let second = owlet(&["verify", text(&files[1])]).err;
    let expected = format!("one of 8 files of a model: open the first, {}\n", text(&both.first));
    assert!(second.ends_with(&expected), "{second}");
    let third = fs::read(&files[2]).unwrap();
    let cases: [(&dyn Fn(), &str); 6] = [
        (&|| fs::remove_file(&files[2]).unwrap(), "split-00003-of-00008.gguf: cannot open: No such file"),
        (
            &|| fs::write(&files[2], b"").unwrap(),
            "split-00003-of-00008.gguf: expected a GGUF, found an empty file",
        ),
        (&|| fs::write(&files[2], &third[..third.len() - 64]).unwrap(), "split-00003-of-00008.gguf: tensor "),
        (
            &|| fs::write(&files[2], [&third[..], &[0; 64]].concat()).unwrap(),
            "split-00003-of-00008.gguf: end: expected the file to end behind its last tensor",
        ),
        (
            &|| fs::write(&files[2], fs::read(&files[3]).unwrap()).unwrap(),
            "split-00003-of-00008.gguf: key split.no: expected 2, found 3",
        ),
        (
            &|| fs::write(&files[2], fs::read(&both.whole).unwrap()).unwrap(),
            "split-00003-of-00008.gguf: key split.no: expected u16, found no such key",
        ),
    ];
    for (bend, expected) in cases {
        bend();
        let found = refused();
        assert!(found.contains(expected), "expected {expected}\n   found {found}");
        fs::write(&files[2], &third).unwrap();
    }
    owlet(&["verify", text(&both.first)]).ok();
    // a bit that flipped in the third file
    let mut bytes = third.clone();
    let at = bytes.len() - 200;
    bytes[at] ^= 1;
    fs::write(&files[2], bytes).unwrap();
    let ran = owlet(&["verify", text(&both.first)]);
    assert!(ran.code == Some(1) && ran.out.contains("checksums  1 tensor is wrong\n"), "{ran:?}");
    // a first file under another name
    let other = both.first.with_file_name("other.gguf");
    fs::copy(&both.first, &other).unwrap();
    let found = owlet(&["verify", text(&other)]).err;
    assert!(found.contains("other.gguf: expected a name that ends with -00001-of-00008.gguf"), "{found}");
}

/// Nothing stands under a final name before all is there; the same command goes on, and ends with the same bytes.
#[test]
fn an_interrupted_run_goes_on_in_the_middle_of_its_files() {
    let both = Both::new();
    let expected: Vec<Vec<u8>> = both.files().iter().map(|file| fs::read(file).unwrap()).collect();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("split.gguf");
    struct Stop<'a>(&'a Cancel, usize);
    impl owlet_convert::Progress for Stop<'_> {
        fn start(&mut self, _: u64) {}
        fn advance(&mut self, _: &str, _: u64) {
            self.1 -= 1;
            if self.1 == 0 {
                self.0.cancel();
            }
        }
    }
    let options = Options { split_max_bytes: Some(MAX), ..all_as("bf16") };
    let plan = || Plan::from_dir(&both.dir, &options).unwrap();
    let cancel = Cancel::new();
    plan().run(&out, &mut Stop(&cancel, 40), &cancel).unwrap_err();
    let names = names_beside(&out);
    assert!(names.len() == 9 && names.iter().all(|name| name.contains(".part")), "{names:?}");
    let done = plan().run(&out, &mut (), &Cancel::new()).unwrap().done;
    assert!(done.n_resumed_bytes > 0 && done.n_files == 8);
    let mut names = names_beside(&out);
    names.sort();
    assert_eq!(names.len(), 8, "{names:?}");
    for (name, expected) in names.iter().zip(&expected) {
        assert!(fs::read(dir.path().join(name)).unwrap() == *expected, "{name}");
    }
    let _ = &both.tiny;
}

/// What a run left that was to write other files is gone when another one begins; what is somebody else's is not.
#[test]
fn parts_of_another_number_of_files_do_not_stay_behind() {
    let both = Both::new();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("split.gguf");
    let others = ["split-00001-of-00003.gguf", "other-00001-of-00003.gguf.part", "split-1-of-3.gguf.part"];
    others.iter().for_each(|name| fs::write(dir.path().join(name), "no part of it").unwrap());
    // of another target that is called like one of several
    let twin = ["split-00009-of-00009.gguf.part", "split-00009-of-00009.gguf.part.journal"];
    twin.iter().for_each(|name| fs::write(dir.path().join(name), "another's").unwrap());
    let interrupted = |max: Option<u64>| {
        struct Stop<'a>(&'a Cancel, usize, Vec<String>);
        impl owlet_convert::Progress for Stop<'_> {
            fn start(&mut self, _: u64) {}
            fn advance(&mut self, _: &str, _: u64) {
                self.1 += 1;
                if self.1 == 40 {
                    self.0.cancel();
                }
            }
            fn note(&mut self, line: &str) {
                self.2.push(line.into());
            }
        }
        let plan = Plan::from_dir(&both.dir, &Options { split_max_bytes: max, ..all_as("bf16") }).unwrap();
        let cancel = Cancel::new();
        let mut stop = Stop(&cancel, 0, Vec::new());
        plan.run(&out, &mut stop, &cancel).unwrap_err();
        let is_part = |name: &String| name.ends_with(".part") && name.starts_with("split-0000");
        let names: Vec<String> =
            names_beside(&out).into_iter().filter(|name| !twin.contains(&name.as_str())).collect();
        (names.iter().filter(|name| is_part(name)).count(), names.contains(&"split.gguf.part".into()), stop.2)
    };
    assert!(matches!(interrupted(Some(MAX)), (8, false, _)));
    let (n_parts, has_whole, notes) = interrupted(Some(3 * MAX));
    assert!((2..8).contains(&n_parts) && !has_whole, "{n_parts}");
    let note = "split-00001-of-00008.gguf.part: part of other files than these will be: removed, with all others of its kind";
    assert!(notes.iter().any(|line| line.ends_with(note)), "{notes:?}");
    assert!(matches!(interrupted(None), (0, true, _)));
    assert!(matches!(interrupted(Some(MAX)), (8, false, _)));
    for name in others.iter().chain(&twin) {
        assert!(dir.path().join(name).exists(), "{name}");
    }
    let _ = &both.tiny;
}

#[test]
fn the_door_is_careful() {
    let both = Both::new();
    let split = |words: &[&str]| -> Ran {
        let out = both.first.with_file_name("split.gguf");
        let types = ["--type", "bf16", "--vision-type", "bf16", "-q"];
        owlet(&[&["convert", text(&both.dir), "-o", text(&out)], &types[..], words].concat())
    };
    let ran = split(&["--split-max-size", "700KB"]);
    assert!(
        ran.code == Some(1) && ran.err.contains("split-00001-of-00008.gguf: exists; --force replaces it"),
        "{ran:?}"
    );
    split(&["--split-max-size", "700KB", "--force"]).ok();
    let ran = split(&["--split-max-size", "100KB"]);
    assert!(
        ran.err.contains("bytes of a file with tensor ") && ran.err.contains(": at most 100000, found "),
        "{ran:?}"
    );
    let ran = split(&["--split-max-size", "1KB"]);
    assert!(
        ran.err.contains("bytes of the keys in the first of several files: at most 1000, found "),
        "{ran:?}"
    );
    // what needs one file is one file
    split(&["--split-max-size", "1GB"]).ok();
    let out = both.first.with_file_name("split.gguf");
    assert_same(&Gguf::open(&both.whole).unwrap(), &Gguf::open(&out).unwrap());
    assert!(fs::read(&out).unwrap() == fs::read(&both.whole).unwrap());
}
