//! Pictures that are kept between runs of the program, and `owlet cache`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::models::{Kind, STORY, path};
use crate::program::{Ran, command, owlet, owlet_with, picture, run};

/// Arguments of a run on `kind` that looks at `image` and keeps pictures in `dir`.
fn arguments(kind: Kind, image: &Path, dir: &Path) -> Vec<String> {
    let text = |path: &Path| path.to_str().unwrap().to_string();
    let model = text(&path(kind));
    let words = ["run", "-m", &model, "--json", "-n", "12", "--seed", "1", "Q?"].map(String::from);
    [&words[..], &["--image".into(), text(image), "--image-cache".into(), text(dir)]].concat()
}

fn ask(kind: Kind, image: &Path, dir: &Path) -> Value {
    report(owlet(&arguments(kind, image, dir)))
}

fn report(ran: Ran) -> Value {
    assert_eq!(ran.err, "");
    serde_json::from_str(&ran.ok()).unwrap()
}

/// Whether the picture came from the cache, and the tokens of the answer.
fn cached(report: &Value) -> (bool, &Value) {
    (report["images"][0]["cached"].as_bool().unwrap(), &report["tokens"]["ids"])
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn a_picture_is_looked_at_once_for_all_runs() {
    let dir = tempfile::tempdir().unwrap();
    let images = dir.path().join("not/there/yet");
    let (red, blue) =
        (picture("cache red.png", 9, 7, [255, 0, 0, 255]), picture("cache blue.png", 9, 7, [0, 0, 255, 255]));
    let first = ask(Kind::Random, &red, &images);
    let (is_cached, ids) = cached(&first);
    assert!(!is_cached);
    assert_eq!(entries(&images).len(), 1, "one entry and nothing beside it");

    // The same bits, whether computed or read, under whatever name.
    let copy = dir.path().join("another name.png");
    fs::copy(&red, &copy).unwrap();
    for image in [&red, &copy] {
        assert_eq!(cached(&ask(Kind::Random, image, &images)), (true, ids));
    }
    assert_eq!(cached(&ask(Kind::Random, &red, Path::new("off"))), (false, ids));

    // Another picture, another model.
    assert!(!cached(&ask(Kind::Random, &blue, &images)).0);
    assert!(!cached(&ask(Kind::Story, &red, &images)).0);
    assert_eq!(entries(&images).len(), 3);
}

/// What the tower makes of a picture with activations in f32 has other bits, and each finds its own again.
#[test]
fn exact_embeddings_and_others_never_mix() {
    let dir = tempfile::tempdir().unwrap();
    let image = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/red-circle.png");
    let place = dir.path().to_str().unwrap();
    let args = ["run", "--image", image, "--image-cache", place, "What colour is the circle?"];
    let ask = |more: &[&str]| report(owlet(&[&args[..], &["--json"], more].concat()));
    let packed = ask(&[]);
    let of_packed = entries(dir.path());
    let exact = ask(&["--exact"]);
    assert_eq!((packed["exact"].as_bool(), exact["exact"].as_bool()), (Some(false), Some(true)));
    assert!(!cached(&packed).0 && !cached(&exact).0, "the other's embedding was taken");
    let of_exact: Vec<_> = entries(dir.path()).into_iter().filter(|path| !of_packed.contains(path)).collect();
    let [a, b] = [&of_packed, &of_exact].map(|paths| fs::read(&paths[0]).unwrap());
    // Within the rows, far from what an entry says about itself.
    assert!(a[a.len() / 4..a.len() / 2] != b[b.len() / 4..b.len() / 2], "the flag changes nothing");
    let firsts: [(&[&str], &Value); 2] = [(&[], &packed), (&["--exact"], &exact)];
    for (more, first) in firsts {
        assert_eq!(cached(&ask(more)), (true, cached(first).1), "{more:?}");
    }
    assert_eq!((of_packed.len(), of_exact.len(), &exact["text"]), (1, 1, &json!("red")));

    let receipt = owlet(&[&args[..], &["--exact"]].concat()).err;
    assert!(receipt.starts_with("owlet-demo, exact | "), "{receipt}");
    let chat = owlet_with(&["chat", "--exact"], b"How many circles?\n").err;
    assert!(chat.starts_with("owlet-demo, exact | "), "{chat}");
}

#[test]
fn the_second_run_does_not_wait_for_the_tower() {
    let dir = tempfile::tempdir().unwrap();
    let image = picture("cache slow.png", 9, 7, [1, 2, 3, 255]);
    let seconds = |report: Value| report["timings"]["encode_s"].as_f64().unwrap();
    let first = seconds(ask(Kind::Slow, &image, dir.path()));
    let second = seconds(ask(Kind::Slow, &image, dir.path()));
    assert!(second < first / 10.0, "{first} s, then {second} s");
}

#[test]
fn what_was_reused_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().to_str().unwrap();
    let image = picture("cache said.png", 9, 7, [4, 5, 6, 255]);
    let model = path(Kind::Story);
    let flags = ["-m", model.to_str().unwrap(), "--image-cache", place];
    let once = |more: &[&str]| {
        owlet(&[&["run", "Q?"], &flags[..], &["--image", image.to_str().unwrap()], more].concat())
    };
    let (first, second) = (once(&[]), once(&[]));
    assert!(first.err.contains(" tokens | encode "), "{}", first.err);
    let shown = format!("{} 9x7 -> 112x112, 16 tokens, cached | prefill ", image.display());
    assert!(second.err.contains(&shown) && !second.err.contains("encode"), "{}", second.err);
    assert_eq!((first.out, second.out), (format!("{STORY}\n"), format!("{STORY}\n")));
    // The same picture twice is computed once.
    let other = picture("cache twice.png", 9, 7, [6, 5, 4, 255]);
    let other = other.to_str().unwrap();
    let twice = report(owlet(&[&["run", "Q?", "--json"], &flags[..], &["-i", other, "-i", other]].concat()));
    assert_eq!((&twice["images"][0]["cached"], &twice["images"][1]["cached"]), (&json!(false), &json!(true)));

    let lines = format!("/image {}\nOne?\nTwo?\n", image.display());
    let chat = owlet_with(&[&["chat"], &flags[..]].concat(), lines.as_bytes());
    let said: Vec<_> = chat.err.lines().collect();
    let is_computed = |line: &str| line.contains("encode");
    assert!(said[1].starts_with("story | 1 picture cached | ") && !is_computed(said[1]), "{said:?}");
    let knows = said[2].starts_with("story | ") && !said[2].contains("cached") && !is_computed(said[2]);
    assert!(knows, "what the decoder still knows needs no cache: {said:?}");
}

/// Whatever stands where an entry should be, the answer is right, and the next run finds a whole entry.
#[test]
fn damaged_entries_heal() {
    let dir = tempfile::tempdir().unwrap();
    let image = picture("cache damaged.png", 9, 7, [7, 8, 9, 255]);
    let good = ask(Kind::Random, &image, dir.path());
    let entry = entries(dir.path()).remove(0);
    let whole = fs::read(&entry).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 16;
    for bytes in [vec![], whole[..whole.len() / 2].to_vec(), flipped, [&whole[..], b"more"].concat()] {
        fs::write(&entry, &bytes).unwrap();
        assert_eq!(
            cached(&ask(Kind::Random, &image, dir.path())),
            (false, cached(&good).1),
            "{} bytes",
            bytes.len()
        );
        assert!(fs::read(&entry).unwrap() == whole, "the same bits again");
        assert_eq!(cached(&ask(Kind::Random, &image, dir.path())), (true, cached(&good).1));
    }
    fs::remove_file(&entry).unwrap();
    fs::create_dir(&entry).unwrap();
    let ran = owlet(&arguments(Kind::Random, &image, dir.path()));
    let warning = format!("owlet: image cache {}: ", dir.path().display());
    assert!(ran.err.starts_with(&warning) && ran.err.lines().count() == 1, "{}", ran.err);
    let report: Value = serde_json::from_str(&ran.ok()).unwrap();
    assert_eq!(cached(&report), (false, cached(&good).1));
}

#[test]
fn a_disk_that_refuses_is_said_once_and_costs_no_answer() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let (a, b) = (picture("cache a.png", 4, 4, [1; 4]), picture("cache b.png", 4, 4, [2; 4]));
    let lines = format!("/image {}\nOne?\n/image {}\nTwo?\n", a.display(), b.display());
    let model = path(Kind::Story);
    let chat = |place: &str, more: &[&str]| {
        let args = [&["chat", "-m", model.to_str().unwrap(), "--image-cache", place], more].concat();
        owlet_with(&args, lines.as_bytes())
    };
    // A file in the way, and where even the superuser may make nothing.
    let mut places = vec![file.path().to_str().unwrap()];
    places.extend(cfg!(target_os = "linux").then_some("/proc/owlet"));
    for place in places {
        let ran = chat(place, &[]);
        assert_eq!((ran.code, ran.out), (Some(0), format!("{STORY}\n{STORY}\n")));
        let warnings: Vec<_> = ran.err.lines().filter(|line| line.starts_with("owlet: ")).collect();
        assert_eq!(warnings.len(), 1, "{}", ran.err);
        let start = format!("owlet: image cache {place}: ");
        assert!(
            warnings[0].starts_with(&start) && warnings[0].ends_with("; pictures are not kept there"),
            "{warnings:?}"
        );
        assert_eq!(chat(place, &["-q"]).err, "");
    }
}

#[test]
fn several_runs_share_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let image = picture("cache shared.png", 9, 7, [3, 1, 4, 255]);
    let args = arguments(Kind::Random, &image, dir.path());
    let spawn = || command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let children: Vec<_> = (0..4).map(|_| spawn()).collect();
    let ids = children.into_iter().map(|child| {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["tokens"]["ids"].take()
    });
    let ids: Vec<_> = ids.collect();
    assert!(ids.iter().all(|other| *other == ids[0]), "{ids:?}");
    assert_eq!(entries(dir.path()).len(), 1);
    assert_eq!(cached(&ask(Kind::Random, &image, dir.path())), (true, &ids[0]));
}

#[test]
fn the_budget_holds_and_the_oldest_goes() {
    let dir = tempfile::tempdir().unwrap();
    let image = |n: u8| picture(&format!("cache budget {n}.png"), 4, 4, [n, n, n, 255]);
    let keep = |n: u8| {
        let args = [
            &arguments(Kind::Story, &image(n), dir.path())[..],
            &["--image-cache-size".into(), "10KB".into()],
        ];
        report(owlet(&args.concat()))["images"][0]["cached"].as_bool().unwrap()
    };
    // An entry takes 4,180 bytes.
    assert_eq!([1, 2, 1, 3].map(keep), [false, false, true, false]);
    assert_eq!(entries(dir.path()).len(), 2);
    assert_eq!([1, 3, 2].map(keep), [true, true, false], "2 was not used for longest");
}

#[test]
fn where_pictures_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let image = picture("cache place.png", 4, 4, [5; 4]);
    let model = path(Kind::Story);
    let args = ["run", "-m", model.to_str().unwrap(), "-q", "Q?", "--image", image.to_str().unwrap()];
    for (variable, place) in [("OWLET_CACHE", "images"), ("XDG_CACHE_HOME", "owlet/images")] {
        let root = dir.path().join(variable);
        let mut command = command(&args);
        command.env_remove("OWLET_CACHE").env(variable, &root);
        assert_eq!(run(command, b"").ok(), format!("{STORY}\n"));
        assert_eq!(entries(&root.join(place)).len(), 1, "{variable}");
        #[cfg(unix)]
        for (path, mode) in [(root.join(place), 0o700), (entries(&root.join(place)).remove(0), 0o600)] {
            let metadata = fs::metadata(path).unwrap();
            assert_eq!(std::os::unix::fs::MetadataExt::mode(&metadata) & 0o777, mode);
        }
    }
}

fn cache(dir: &Path, args: &[&str]) -> Ran {
    owlet(&[&["cache", "--image-cache", dir.to_str().unwrap()], args].concat())
}

#[test]
fn the_cache_is_shown_pruned_and_cleared() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("images");
    let shown = |args: &[&str]| cache(&place, args).ok();
    assert_eq!(shown(&[]), format!("{}\n0 entries, 0 B of 2.00 GB\n", place.display()));
    assert_eq!(cache(&place, &["clear"]).err, "0 entries deleted, 0 B\n");
    assert!(!place.exists(), "looking makes no directory");

    for n in 1..=4 {
        ask(Kind::Story, &picture(&format!("cache shown {n}.png"), 4, 4, [n, 0, 0, 255]), &place);
    }
    fs::write(place.join("notes.txt"), "precious").unwrap();
    let days_ago = |n: u64| SystemTime::now() - Duration::from_secs(n * 86_400 + 60);
    let is_entry = |path: &PathBuf| path.extension().is_some_and(|name| name == "owlet-image");
    let files: Vec<_> = entries(&place).into_iter().filter(is_entry).collect();
    for (path, n) in files.iter().zip([40, 3, 2, 0]) {
        fs::File::options().write(true).open(path).unwrap().set_modified(days_ago(n)).unwrap();
    }
    let text = format!(
        "{}\n4 entries, 16.72 kB of 1.00 GB\nnewest use 1 minute ago, oldest 40 days ago\n",
        place.display()
    );
    assert_eq!(shown(&["--image-cache-size", "1GB"]), text);
    let summary: Value = serde_json::from_str(&shown(&["--json"])).unwrap();
    let seconds = |n| days_ago(n).duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let (newest, oldest) = (summary["newest_use"].as_u64().unwrap(), summary["oldest_use"].as_u64().unwrap());
    assert!(newest.abs_diff(seconds(0)) < 60 && oldest.abs_diff(seconds(40)) < 60, "{summary}");
    let expected = json!({
        "path": place.to_str().unwrap(), "entries": 4, "bytes": 16720, "budget_bytes": 2_000_000_000u64,
        "newest_use": newest, "oldest_use": oldest,
    });
    assert_eq!(summary, expected);

    let left = || files.iter().filter(|path| path.exists()).count();
    let cases: [(&[&str], &str, usize); 5] = [
        (&["prune"], "0 entries deleted, 0 B\n", 4),
        (&["prune", "--older-than", "30d"], "1 entry deleted, 4.18 kB\n", 3),
        (&["prune", "--max-size", "9kB", "--older-than", "1w"], "1 entry deleted, 4.18 kB\n", 2),
        (&["--image-cache-size", "5kB", "prune"], "1 entry deleted, 4.18 kB\n", 1),
        (&["clear"], "1 entry deleted, 4.18 kB\n", 0),
    ];
    for (args, said, n_left) in cases {
        let ran = cache(&place, args);
        assert_eq!(
            (ran.code, ran.out, ran.err, left()),
            (Some(0), String::new(), said.to_string(), n_left),
            "{args:?}"
        );
    }
    assert_eq!(entries(&place), [place.join("notes.txt")]);
}

#[test]
fn mistakes_with_the_cache() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let file = file.path().to_str().unwrap();
    let off = "owlet: image cache: it is off, or has no place; set HOME or OWLET_CACHE, or give --image-cache DIR\n";
    let cases: [(&[&str], i32, &str); 7] = [
        (&["cache"], 1, off),
        (&["cache", "clear", "--image-cache", "off"], 1, off),
        (&["cache", "--image-cache", file], 1, &format!("owlet: {file}: Not a directory (os error 20)\n")),
        (&["cache", "--json", "clear"], 2, "error: --json is for what is shown without a command\n"),
        (
            &["cache", "prune", "--max-size", "big"],
            2,
            "error: invalid value 'big' for '--max-size <SIZE>': expected a size such as 500MB or 2GB\n",
        ),
        (
            &["cache", "prune", "--older-than", "30"],
            2,
            "error: invalid value '30' for '--older-than <AGE>': expected a span such as 30d or 12h\n",
        ),
        (&["cache", "burn"], 2, "error: unrecognized subcommand 'burn'\n"),
    ];
    for (args, code, text) in cases {
        let ran = owlet(args);
        assert!(
            ran.code == Some(code) && ran.out.is_empty() && ran.err.starts_with(text),
            "{args:?}\n{ran:?}"
        );
    }
}
