//! A checkpoint at the hub whose vision tower is another model there, as LLaVA-1.5 is in its authors' layout.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use owlet::measure::bytes_in_words;
use tempfile::TempDir;

use super::server::{Act, COMMIT, Hub};
use super::text;
use crate::parity::golden::Case;
use crate::parity::tiny;
use crate::program::{Ran, command, run};

const LLAVA: &str = "liuhaotian/llava-v1.5-tiny";
/// What config.json of the case names.
const CLIP: &str = "openai/clip-vit-large-patch14-336";

/// A hub with both, and what they become from directories.
struct Both {
    hub: Hub,
    home: TempDir,
    expected: Vec<u8>,
}

impl Both {
    fn new() -> Both {
        let case = Case::read("llava");
        let home = TempDir::new().unwrap();
        let [llava, clip] = [LLAVA, CLIP].map(|name| snapshot(&home.path().join("elsewhere"), name));
        tiny::lay_out(&case, &llava);
        fs::create_dir_all(clip.parent().unwrap()).unwrap();
        fs::rename(llava.join("tower"), &clip).unwrap();
        let out = home.path().join("expected.gguf");
        let words = ["convert", text(&llava), "--vision-tower", text(&clip), "-o", text(&out)];
        let ran = run(command(&[&words[..], &["--type", "q8_0"]].concat()), b"");
        assert_eq!(ran.code, Some(0), "{ran:?}");
        Both {
            hub: Hub::of_models(&[(LLAVA, &llava), (CLIP, &clip), ("Open/clip", &clip)]),
            expected: fs::read(out).unwrap(),
            home,
        }
    }

    fn out(&self) -> PathBuf {
        self.home.path().join("out.gguf")
    }

    /// Where the directories lie that the expected file was made of.
    fn elsewhere(&self, name: &str) -> PathBuf {
        snapshot(&self.home.path().join("elsewhere"), name)
    }

    fn with_environment(&self, command: Command) -> Command {
        super::with_environment(command, &self.hub, self.home.path())
    }

    fn convert(&self, checkpoint: &str, flags: &[&str]) -> Ran {
        let out = self.out();
        let words = ["convert", checkpoint, "-o", text(&out), "--type", "q8_0"];
        run(self.with_environment(command(&[&words[..], flags].concat())), b"")
    }

    fn assert_whole(&self, what: &str, ran: &Ran) {
        assert_eq!(ran.code, Some(0), "{what}: {ran:?}");
        assert!(fs::read(self.out()).unwrap() == self.expected, "{what}: other bytes than of directories");
        fs::remove_file(self.out()).unwrap();
    }

    fn cached(&self, name: &str) -> PathBuf {
        snapshot(&self.home.path().join("hf/hub"), name)
    }
}

/// As the hub's own tool lays a cache out.
fn snapshot(cache: &Path, name: &str) -> PathBuf {
    cache.join(format!("models--{}/snapshots/{COMMIT}", name.replace('/', "--")))
}

#[test]
fn the_tower_that_a_checkpoint_names_comes_along() {
    let both = Both::new();
    let named = format!("{LLAVA}: takes its vision tower from {CLIP}, as its config.json says\n");
    // a directory here is not what a config from elsewhere means
    fs::create_dir_all(both.home.path().join(CLIP)).unwrap();
    let ran = both.convert(LLAVA, &["--stream"]);
    assert!(ran.err.contains(&named), "{ran:?}");
    let sizes = [LLAVA, CLIP].map(|name| {
        let n_bytes = fs::metadata(both.elsewhere(name).join("model.safetensors")).unwrap().len();
        let size = bytes_in_words(n_bytes);
        let line = format!("\n{name} at 0123456789ab: {size} in 1 file, licence: mit\n");
        assert!(ran.err.contains(&line), "{ran:?}");
        n_bytes
    });
    let total = bytes_in_words(sizes.iter().sum());
    assert!(ran.err.contains(&format!("\nto read from the hub: {total}, none of it kept\n")), "{ran:?}");
    both.assert_whole("read along", &ran);
    assert!(!both.cached(CLIP).join("model.safetensors").exists(), "weights stayed on the disk");
    assert!(both.cached(CLIP).join("config.json").exists(), "configuration is kept");

    let ran = both.convert(LLAVA, &[]);
    assert!(ran.err.contains(&format!(" to {}, ", both.cached(CLIP).display())), "{ran:?}");
    both.assert_whole("downloaded", &ran);
    assert!(both.cached(CLIP).join("model.safetensors").exists());

    both.hub.act(|_| Act::Serve);
    let ran = both.convert(LLAVA, &[]);
    both.assert_whole("cached", &ran);
    assert!(both.hub.asked().iter().all(|asked| asked.file().is_none()), "{:?}", both.hub.asked());
    let out = both.out();
    let words = ["convert", LLAVA, "-o", text(&out), "--type", "q8_0"];
    let mut offline = both.with_environment(command(&words));
    offline.env("HF_HUB_OFFLINE", "1");
    let ran = run(offline, b"");
    assert!(ran.err.contains(&format!("{CLIP}: the hub was not asked, taking ")), "{ran:?}");
    both.assert_whole("offline", &ran);
}

#[test]
fn a_tower_is_named_by_hand() {
    let both = Both::new();
    let llava = both.elsewhere(LLAVA);
    // another name of the same: the file says which
    for (checkpoint, flags) in [
        (LLAVA, &["--vision-tower", "Open/clip"][..]),
        (text(&llava), &["--vision-tower", "Open/clip", "--stream"]),
    ] {
        both.hub.act(|_| Act::Serve);
        let ran = both.convert(checkpoint, flags);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(!ran.err.contains("as its config.json says"), "{ran:?}");
        assert!(both.hub.asked().iter().all(|asked| asked.model() != CLIP));
        let file = owlet_format::Gguf::open(&both.out()).unwrap();
        let recipe = file.metadata().strings("owlet.provenance.recipe").unwrap();
        let tower = format!("vision tower Open/clip at {COMMIT}");
        assert!(recipe.iter().any(|line| line == tower), "{recipe:?}");
        fs::remove_file(both.out()).unwrap();
    }
    both.hub.act(|_| Act::Serve);
    let ran = both.convert(text(&llava), &["--vision-tower", CLIP, "--download-dir", "mine"]);
    both.assert_whole("a tower for a directory", &ran);
    assert!(both.hub.asked().iter().all(|asked| asked.model() == CLIP));
    assert!(both.home.path().join("mine/model.safetensors").exists());
    // beside a checkpoint it has a directory of its own, and both can be taken from there
    let ran = both.convert(LLAVA, &["--download-dir", "two"]);
    both.assert_whole("into a directory", &ran);
    let tower = both.home.path().join("two/clip-vit-large-patch14-336");
    assert!(tower.join("model.safetensors").exists());
    let two = both.home.path().join("two");
    let ran = both.convert(text(&two), &["--vision-tower", text(&tower), "--dry-run"]);
    assert!(
        ran.code == Some(0) && ran.out.contains("\nvision tower clip-vit-large-patch14-336\n"),
        "{ran:?}"
    );

    let ran = both.convert(text(&llava), &["--vision-tower", CLIP, "--revision", "main"]);
    let what = "--revision has no effect on a directory, and only ORG/NAME is taken from the hub\n";
    assert_eq!((ran.code, ran.err), (Some(1), format!("owlet: {}: {what}", llava.display())));
    let ran = both.convert(text(&llava), &[]);
    let what = format!("mm_vision_tower: expected {CLIP} as --vision-tower, found none\n");
    assert!(ran.code == Some(1) && ran.err.ends_with(&what), "{ran:?}");
    let ran = both.convert(LLAVA, &["--vision-tower", "Open/absent"]);
    let what = "knows no such model, or it is private";
    assert!(
        ran.code == Some(1) && ran.err.contains("owlet: Open/absent: ") && ran.err.contains(what),
        "{ran:?}"
    );
}

/// What was interrupted in the tower's file goes on there.
#[test]
fn a_tower_that_was_cut_goes_on() {
    let both = Both::new();
    for flags in [&["--stream"][..], &[]] {
        both.hub.act(|asked| match asked.model() == CLIP && asked.is_long() {
            true if asked.n_before > 0 => Act::Refuse(503, ""),
            true => Act::Cut(300_000),
            false => Act::Serve,
        });
        let ran = both.convert(LLAVA, flags);
        assert!(ran.code == Some(1) && ran.err.contains(&format!("owlet: {CLIP}")), "{ran:?}");
        assert!(!both.out().exists());
        both.hub.act(|_| Act::Serve);
        let ran = both.convert(LLAVA, flags);
        let asked = both.hub.asked();
        let long: Vec<_> = asked.iter().filter(|asked| asked.is_long()).collect();
        assert!(long.iter().all(|asked| asked.model() == CLIP), "{flags:?}: {long:?}");
        let ranges: Vec<_> = long.iter().map(|asked| asked.range.as_deref()).collect();
        assert!(ranges.iter().all(|range| range.is_some_and(|range| range != "bytes=0-")), "{ranges:?}");
        both.assert_whole("behind a cut", &ran);
    }
}

#[test]
fn both_are_pulled() {
    let both = Both::new();
    let mut command = both.with_environment(command(&["pull", LLAVA]));
    command.env("XDG_DATA_HOME", both.home.path().join("data"));
    let ran = run(command, b"");
    assert!(ran.code == Some(0) && ran.err.contains(" takes its vision tower from "), "{ran:?}");
    let model = both.home.path().join("data/owlet/models/llava-v1.5-tiny.gguf");
    let file = owlet_format::Gguf::open(&model).unwrap();
    assert_eq!(file.metadata().str("owlet.family").unwrap(), "llava-1.5");
    assert!(!Path::new(&both.cached(CLIP)).join("model.safetensors").exists());
}
