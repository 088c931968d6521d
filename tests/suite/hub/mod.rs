//! `owlet convert ORG/NAME` against a hub on this machine: the same bytes as from the directory, by every way and behind
//! every interruption.

mod faults;
mod pull;
pub mod server;
mod tower;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use owlet_format::Gguf;
use tempfile::TempDir;

use crate::checkpoint::{Float, Layout};
use crate::convert::{Tiny, megabytes, names_beside};
use crate::program::{Ran, command, run};
use server::{Act, Asked, COMMIT, Hub, NAME};

/// A hub with a tiny checkpoint, a home of its own, and what the checkpoint becomes from a directory.
pub struct Setting {
    pub hub: Hub,
    pub home: TempDir,
    /// Of the file that the directory became.
    expected: Vec<u8>,
}

impl Setting {
    pub fn new(tiny: &Tiny, layout: Layout) -> Setting {
        let dir = tiny.write(Float::BF16, layout);
        let hub = Hub::of(&dir);
        let home = TempDir::new().unwrap();
        // as the hub's own tool leaves it, somewhere else
        let there = home.path().join(format!("elsewhere/models--Open--tiny-chat/snapshots/{COMMIT}"));
        fs::create_dir_all(there.parent().unwrap()).unwrap();
        fs::rename(&dir, &there).unwrap();
        let out = home.path().join("expected.gguf");
        let ran = run(command(&["convert", text(&there), "-o", text(&out), "--type", "q8_0"]), b"");
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let expected = fs::read(&out).unwrap();
        fs::remove_dir_all(home.path().join("elsewhere")).unwrap();
        fs::remove_file(out).unwrap();
        Setting { hub, home, expected }
    }

    pub fn small() -> Setting {
        Setting::new(&Tiny::new(), Layout::Safetensors { shards: 3 })
    }

    pub fn out(&self) -> PathBuf {
        self.home.path().join("out.gguf")
    }

    /// A copy of the checkpoint, for a second server.
    fn files(&self) -> PathBuf {
        let dir = self.home.path().join("copy");
        self.hub.write_to(&dir);
        dir
    }

    fn cache(&self) -> PathBuf {
        self.home.path().join("hf/hub/models--Open--tiny-chat")
    }

    pub fn command(&self, flags: &[&str]) -> Command {
        let out = self.out();
        let words = ["convert", NAME, "-o", text(&out), "--type", "q8_0"];
        self.with_environment(command(&[&words[..], flags].concat()))
    }

    pub fn with_environment(&self, command: Command) -> Command {
        with_environment(command, &self.hub, self.home.path())
    }

    pub fn convert(&self, flags: &[&str]) -> Ran {
        run(self.command(flags), b"")
    }

    /// The file is there, and is the one that the directory became; it is taken away.
    pub fn assert_whole(&self, what: &str) {
        assert!(
            fs::read(self.out()).unwrap() == self.expected,
            "{what}: not the bytes that the directory became"
        );
        fs::remove_file(self.out()).unwrap();
    }

    pub fn assert_nothing_under_its_name(&self, what: &str) {
        assert!(!self.out().exists(), "{what}: something stands under the final name");
    }

    /// The files of weights that were asked for up to their ends, in order.
    pub fn long_ones(&self) -> Vec<String> {
        let asked = self.hub.asked();
        let mut names: Vec<_> =
            asked.iter().filter(|asked| asked.is_long()).filter_map(Asked::file).collect();
        names.dedup();
        names.into_iter().map(str::to_string).collect()
    }

    /// Forgets what was fetched and done.
    pub fn forget(&self) {
        for entry in fs::read_dir(self.home.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
        }
    }

    fn weights_in_cache(&self) -> Vec<String> {
        let snapshot = self.cache().join("snapshots").join(COMMIT).join("config.json");
        names_beside(&snapshot)
            .into_iter()
            .filter(|name| name.ends_with(".safetensors") || name.ends_with(".bin"))
            .collect()
    }
}

/// A command that knows this hub and no other, and asks as nobody.
fn with_environment(mut command: Command, hub: &Hub, home: &Path) -> Command {
    for name in [
        "HF_TOKEN",
        "HF_TOKEN_PATH",
        "HF_HUB_CACHE",
        "HF_HUB_OFFLINE",
        "HTTP_PROXY",
        "http_proxy",
        "ALL_PROXY",
        "all_proxy",
    ] {
        command.env_remove(name);
    }
    command.current_dir(home);
    command.env("HF_ENDPOINT", &hub.address).env("HF_HOME", home.join("hf"));
    command.env("HF_HUB_DOWNLOAD_TIMEOUT", "1");
    command
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn the_same_bytes_by_every_way() {
    for layout in [
        Layout::Safetensors { shards: 1 },
        Layout::Safetensors { shards: 3 },
        Layout::Torch { shards: 1 },
        Layout::Torch { shards: 2 },
    ] {
        let setting = Setting::new(&Tiny::new(), layout);
        let what = format!("{layout:?}, read along");
        let ran = setting.convert(&["--stream"]);
        assert_eq!(ran.code, Some(0), "{what}: {ran:?}");
        setting.assert_whole(&what);
        assert_eq!(setting.weights_in_cache(), [""; 0], "{what}: weights stayed on the disk");
        let n_files = names_beside(&setting.cache().join("blobs/x")).len();
        assert!(n_files > 0, "{what}: configuration is kept");

        let what = format!("{layout:?}, downloaded");
        let ran = setting.convert(&[]);
        assert_eq!(ran.code, Some(0), "{what}: {ran:?}");
        setting.assert_whole(&what);
        let kept = setting.weights_in_cache();
        assert!(!kept.is_empty(), "{what}");

        // the cache has it all now, and nobody is asked for weights, nor for anything where nobody can be
        let what = format!("{layout:?}, cached");
        setting.hub.act(|_| Act::Serve);
        for flags in [&[][..], &["--stream"]] {
            let ran = setting.convert(flags);
            assert_eq!(ran.code, Some(0), "{what}: {ran:?}");
            setting.assert_whole(&what);
        }
        let n_asked = setting.hub.asked().iter().filter(|asked| asked.file().is_some()).count();
        assert_eq!(n_asked, 0, "{what}: {:?}", setting.hub.asked());
        let mut offline = setting.command(&[]);
        offline.env("HF_HUB_OFFLINE", "1");
        let ran = run(offline, b"");
        assert!(ran.code == Some(0) && ran.err.contains("the hub was not asked, taking "), "{what}: {ran:?}");
        setting.assert_whole(&what);
        let mut away = setting.command(&[]);
        away.env("HF_ENDPOINT", "http://127.0.0.1:9");
        let ran = run(away, b"");
        assert!(
            ran.code == Some(0) && ran.err.contains("http://127.0.0.1:9 cannot be reached"),
            "{what}: {ran:?}"
        );
        setting.assert_whole(&what);
    }
}

#[test]
fn the_file_says_where_it_is_from() {
    let setting = Setting::small();
    assert_eq!(setting.convert(&["--stream"]).code, Some(0));
    let file = Gguf::open(&setting.out()).unwrap();
    let said = |key: &str| file.metadata().str(key).unwrap().to_string();
    assert_eq!(said("owlet.provenance.source"), NAME);
    assert_eq!(said("owlet.provenance.revision"), COMMIT);
    let shards: Vec<String> =
        file.metadata().strings("owlet.provenance.shards").unwrap().iter().map(str::to_string).collect();
    let announced: Vec<String> = setting
        .hub
        .tree()
        .iter()
        .filter(|entry| entry["path"].as_str().unwrap().ends_with(".safetensors"))
        .map(|entry| {
            format!("{}  {}", entry["lfs"]["oid"].as_str().unwrap(), entry["path"].as_str().unwrap())
        })
        .collect();
    assert_eq!(shards, announced);
}

#[test]
fn what_it_takes_is_said_first() {
    let setting = Setting::small();
    let ran = setting.convert(&["--stream"]);
    let lines: Vec<&str> = ran.err.lines().collect();
    assert_eq!(lines[1], "Open/tiny-chat at 0123456789ab: 5.10 MB in 3 files, licence: mit", "{ran:?}");
    assert_eq!(lines[2], "to read from the hub: 5.10 MB, none of it kept", "{ran:?}");
    let out = setting.out();
    assert!(
        lines[3].starts_with(&format!("to write: 2.55 MB to {}, ", text(&out)))
            && lines[3].ends_with(" free"),
        "{ran:?}"
    );
    setting.forget();
    let ran = setting.convert(&["--revision", COMMIT]);
    let lines: Vec<&str> = ran.err.lines().collect();
    let dir = setting.cache().join("snapshots").join(COMMIT);
    assert!(lines[2].starts_with(&format!("to download: 5.10 MB to {}, ", text(&dir))), "{ran:?}");
    setting.forget();
    let ran = setting.convert(&["--quiet"]);
    assert!(ran.code == Some(0) && ran.err.is_empty(), "{ran:?}");
}

#[test]
fn a_dry_run_reads_headers_only() {
    let setting = Setting::small();
    let ran = setting.convert(&["--dry-run"]);
    assert!(
        ran.code == Some(0)
            && ran.out.starts_with("Open/tiny-chat: internvl-chat-v1-1 from 3 safetensors files"),
        "{ran:?}"
    );
    assert!(
        setting.hub.n_sent() < setting.hub.n_weight_bytes() / 2,
        "{} bytes were fetched",
        setting.hub.n_sent()
    );
    setting.assert_nothing_under_its_name("a dry run");
}

#[test]
fn files_go_where_they_are_wanted() {
    let setting = Setting::small();
    let ran = setting.convert(&["--download-dir", "mine"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    setting.assert_whole("into a directory");
    let mine = setting.home.path().join("mine");
    assert_eq!(names_beside(&mine.join("x")).len(), setting.hub.tree().len());
    assert!(!setting.cache().exists());

    // a file of the same name that is another one stays, whatever the hub has
    fs::write(mine.join("config.json"), "{}").unwrap();
    let ran = setting.convert(&["--download-dir", "mine"]);
    let what = "exists, and is not the hub's file of this name: remove it, or choose another directory";
    assert_eq!((ran.code, ran.err), (Some(1), format!("owlet: mine/config.json: {what}\n")));
    assert_eq!(fs::read_to_string(mine.join("config.json")).unwrap(), "{}");
}

#[test]
fn a_directory_wins_over_the_hub() {
    let setting = Setting::small();
    assert_eq!(setting.convert(&["--download-dir", NAME]).code, Some(0));
    setting.assert_nothing_under_its_name_but_whole();
    setting.hub.act(|_| Act::Serve);
    let ran = setting.convert(&[]);
    let note = "Open/tiny-chat: the directory here, not the hub's model of that name\n";
    assert!(ran.code == Some(0) && ran.err.starts_with(note), "{ran:?}");
    assert_eq!(setting.hub.asked().len(), 0);
    for flag in ["--stream", "--revision=main", "--download-dir=x"] {
        let ran = setting.convert(&["--force", flag]);
        let name = flag.split('=').next().unwrap();
        let what = format!(
            "owlet: {NAME}: {name} has no effect on a directory, and only ORG/NAME is taken from the hub\n"
        );
        assert_eq!((ran.code, ran.err), (Some(1), what));
    }
}

impl Setting {
    fn assert_nothing_under_its_name_but_whole(&self) {
        self.assert_whole("the first run");
    }
}

fn start(setting: &Setting, flags: &[&str]) -> Child {
    let mut command = setting.command(flags);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Killed at random moments, whatever it is doing then.
#[test]
fn kills_at_random_moments_cost_nothing() {
    const N_KILLS: usize = 12;
    let setting = Setting::new(&Tiny::wide(4096), Layout::Safetensors { shards: 3 });
    let n_bytes = setting.hub.n_weight_bytes();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for flags in [&["--stream"][..], &[]] {
        let slow = |asked: &Asked| match asked.is_weights() {
            true => Act::Slow(Duration::from_micros(400)),
            false => Act::Serve,
        };
        setting.hub.act(slow);
        let since = Instant::now();
        assert!(start(&setting, flags).wait().unwrap().success());
        let (span, n_whole) = (since.elapsed(), setting.hub.n_sent());
        setting.assert_whole("without a kill");
        setting.forget();
        setting.hub.act(slow);
        let (mut n_kills, mut n_finished, mut n_resumed) = (0, 0, 0);
        while n_kills < N_KILLS {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let mut child = start(&setting, flags);
            std::thread::sleep(span.mul_f64((random >> 11) as f64 / (1u64 << 53) as f64));
            child.kill().unwrap();
            let done = child.wait_with_output().unwrap();
            n_resumed += usize::from(String::from_utf8_lossy(&done.stderr).contains("going on with it"));
            if setting.out().exists() {
                n_finished += 1;
                setting.assert_whole("finished before its kill");
                setting.forget();
            } else {
                n_kills += 1;
            }
        }
        let last = start(&setting, flags).wait_with_output().unwrap();
        assert!(last.status.success(), "{last:?}");
        setting.assert_whole("behind the kills");
        println!(
            "{flags:?}: {n_kills} kills in runs of {span:?}, {n_finished} runs finished before theirs, {n_resumed} conversions went on; {} bytes sent in all, {n_whole} of {n_bytes} in one run",
            setting.hub.n_sent()
        );
        setting.forget();
    }
}

/// What the journal lacks is what is read again: less than a chunk of 4 MiB more than the half that never came.
#[test]
fn after_a_kill_at_half_the_other_half_is_read() {
    // 105 MB of weights
    let setting = Setting::new(&Tiny::wide(32_768), Layout::Safetensors { shards: 3 });
    let n_bytes = setting.hub.n_weight_bytes();
    let (middle, at) = setting.half();
    for flags in [&["--stream"][..], &[]] {
        let middle = middle.clone();
        setting.hub.act(move |asked| {
            // nothing behind the middle comes, however often it is asked for
            let start = asked.start().map_or(0, |(start, _)| start);
            match asked.is_long() && asked.file().is_some_and(|name| name >= middle.as_str()) {
                true if asked.file() == Some(middle.as_str()) => Act::Stall(at.saturating_sub(start)),
                true => Act::Stall(0),
                false => Act::Serve,
            }
        });
        let mut command = setting.command(flags);
        command.env("HF_HUB_DOWNLOAD_TIMEOUT", "60").stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        setting.wait_until_nothing_moves();
        assert!(child.try_wait().unwrap().is_none(), "finished before it was killed");
        child.kill().unwrap();
        child.wait().unwrap();
        let before = setting.hub.n_sent() as f64 / n_bytes as f64;
        setting.hub.act(|_| Act::Serve);
        let ran = setting.convert(flags);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let sent = setting.hub.n_sent() as f64 / n_bytes as f64;
        let read = megabytes(&ran.err, " MB read") * 1e6 / n_bytes as f64;
        println!(
            "{flags:?}: {:.1}% of the weights were sent before a kill, {:.1}% behind it, {:.1}% read by its report",
            100.0 * before,
            100.0 * sent,
            100.0 * read
        );
        assert!((0.5..0.51).contains(&before), "{flags:?}: {before} before the kill");
        assert!((0.49..0.6).contains(&sent), "{flags:?}: {sent} sent behind the kill");
        // a download is read from the disk then, all of it
        let expected = if flags.is_empty() { 0.99..1.01 } else { 0.49..0.6 };
        assert!(expected.contains(&read), "{flags:?}: {read} read behind the kill: {ran:?}");
        setting.assert_whole("behind a kill at half");
        setting.forget();
    }
}

impl Setting {
    /// The file that has the middle of all weights, and where in it that is.
    fn half(&self) -> (String, usize) {
        let mut left = self.hub.n_weight_bytes() / 2;
        for entry in self.hub.tree() {
            let (name, n_bytes) = (entry["path"].as_str().unwrap(), entry["size"].as_u64().unwrap());
            if name.ends_with(".safetensors") {
                if left < n_bytes {
                    return (name.to_string(), left as usize);
                }
                left -= n_bytes;
            }
        }
        unreachable!("a half is somewhere");
    }

    /// Waits until the server has sent something and neither it nor the files here change for a while.
    fn wait_until_nothing_moves(&self) {
        let state = || {
            let journal = self.home.path().join("out.gguf.part.journal");
            let written = fs::metadata(journal).ok().and_then(|meta| meta.modified().ok());
            (self.hub.n_sent(), written)
        };
        let (mut last, mut since) = (state(), Instant::now());
        while last.0 < self.hub.n_weight_bytes() / 2 || since.elapsed() < Duration::from_millis(500) {
            std::thread::sleep(Duration::from_millis(20));
            if state() != last {
                (last, since) = (state(), Instant::now());
            }
            assert!(since.elapsed() < Duration::from_secs(60), "{last:?}");
        }
    }
}

#[cfg(unix)]
#[test]
fn people_are_asked() {
    use crate::terminal::Terminal;
    let setting = Setting::small();
    let terminal = |flags: &[&str]| Terminal::new(setting.command(flags), "xterm", 24, 120);
    let ask = |answer: &str| {
        let mut terminal = terminal(&["--stream"]);
        terminal.sees("Go on? [Y/n] ");
        setting.hub.act(|_| Act::Serve);
        terminal.line(answer);
        terminal.ends()
    };
    assert_eq!(ask("n"), Some(130));
    assert_eq!(setting.hub.n_sent(), 0);
    setting.assert_nothing_under_its_name("a no");
    assert_eq!(ask(""), Some(0));
    setting.assert_whole("a yes");
    let mut terminal = terminal(&["--stream", "--yes"]);
    assert_eq!(terminal.ends(), Some(0));
    assert!(!terminal.sent().contains("Go on?"), "{}", terminal.sent());
    setting.assert_whole("asked for not being asked");
}
