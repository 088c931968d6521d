//! A conversion that is interrupted, by whatever and whenever: the same command goes on with it, and the file is the
//! one that an uninterrupted run writes.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ggml::Cancel;
use owlet_convert::{Error, Options, Plan, Progress};
use sha2::{Digest, Sha256};

use super::door::wide;
use super::{Tiny, all_as, megabytes, names_beside, open};
use crate::checkpoint::{Float, Layout};
use crate::program::{Ran, command, owlet};

const FILES: [&str; 3] = ["tiny-chat", "tiny-chat.gguf.part", "tiny-chat.gguf.part.journal"];
const DONE: [&str; 2] = ["tiny-chat", "tiny-chat.gguf"];

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Cancels at its n-th chunk, and keeps what it is told.
struct CancelAt<'a> {
    n: usize,
    cancel: &'a Cancel,
    notes: Vec<String>,
}

impl Progress for CancelAt<'_> {
    fn start(&mut self, _: u64) {}

    fn advance(&mut self, _: &str, _: u64) {
        self.n = self.n.saturating_sub(1);
        if self.n == 0 {
            self.cancel.cancel();
        }
    }

    fn note(&mut self, line: &str) {
        self.notes.push(line.to_string());
    }
}

/// Converts `dir` to the file beside it until the `n`-th chunk; yields what was noted.
fn convert_until(
    n: usize,
    dir: &Path,
    options: &Options,
) -> (Result<owlet_convert::Report, Error>, Vec<String>) {
    let cancel = Cancel::new();
    let mut progress = CancelAt { n, cancel: &cancel, notes: Vec::new() };
    let plan = Plan::from_dir(dir, options).unwrap();
    let result = plan.run(&dir.with_extension("gguf"), &mut progress, &cancel);
    (result, progress.notes)
}

const NEVER: usize = usize::MAX;

/// A file of `options`, made without interruption from a copy of `dir`.
fn expected(dir: &Path, options: &Options) -> Vec<u8> {
    let out = dir.with_extension("expected");
    Plan::from_dir(dir, options).unwrap().run(&out, &mut (), &Cancel::new()).unwrap();
    let bytes = fs::read(&out).unwrap();
    fs::remove_file(out).unwrap();
    bytes
}

#[test]
fn a_cancelled_run_is_gone_on_with() {
    let tiny = Tiny::new();
    for layout in [Layout::Safetensors { shards: 3 }, Layout::Torch { shards: 2 }] {
        let dir = tiny.write(Float::BF16, layout);
        let out = dir.with_extension("gguf");
        let whole = expected(&dir, &Options::default());
        let n_tensors = open(whole.clone()).tensors().len();
        for at in [1, 2, n_tensors / 2, n_tensors - 1] {
            let (result, notes) = convert_until(at, &dir, &Options::default());
            assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
            assert_eq!(
                notes,
                [format!("{}.part: keeps what is done; the same command goes on with it", text(&out))]
            );
            assert_eq!(names_beside(&out), FILES);
            let (result, notes) = convert_until(NEVER, &dir, &Options::default());
            let done = result.unwrap().done;
            assert_eq!(notes, [format!("{}.part: going on with it", text(&out))]);
            assert!(done.n_resumed_bytes > 0 && done.n_resumed_bytes < done.n_source_bytes, "{done:?}");
            assert!(fs::read(&out).unwrap() == whole, "{layout:?}, cancelled at {at}");
            assert_eq!(names_beside(&out), DONE);
            fs::remove_file(&out).unwrap();
        }
    }
}

#[test]
fn the_input_is_read_once_and_its_sums_are_kept() {
    let tiny = Tiny::new();
    for layout in [Layout::Safetensors { shards: 1 }, Layout::Torch { shards: 3 }] {
        let dir = tiny.write(Float::BF16, layout);
        let (result, _) = convert_until(NEVER, &dir, &Options::default());
        let mut files: Vec<PathBuf> =
            fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|ext| ext == "bin" || ext == "safetensors"));
        files.sort();
        let n_bytes: u64 = files.iter().map(|path| path.metadata().unwrap().len()).sum();
        assert_eq!(result.unwrap().done.n_read_bytes, n_bytes, "{layout:?}");
        let lines: Vec<String> = files
            .iter()
            .map(|path| {
                let sum: String = Sha256::digest(fs::read(path).unwrap())
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect();
                format!("{sum}  {}", path.file_name().unwrap().to_str().unwrap())
            })
            .collect();
        let file = open(fs::read(dir.with_extension("gguf")).unwrap());
        let shards = file.metadata().strings("owlet.provenance.shards").unwrap();
        assert_eq!(shards.iter().collect::<Vec<_>>(), lines, "{layout:?}");
    }
}

/// What lies there is of other work, or isn't what it should be: said in a line, and begun anew.
#[test]
fn only_its_own_work_is_gone_on_with() {
    let part = |out: &Path| PathBuf::from(format!("{}.part", text(out)));
    let flip = |path: &Path, at: u64| {
        let file = File::options().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    };
    let other = "is of other input, another recipe or another version: beginning anew";
    let wrong = "is not what its journal says: beginning anew";
    let tiny = Tiny::new();
    type Bend<'a> = &'a dyn Fn(&Path, &Path);
    let cases: &[(&str, Bend, &str)] = &[
        ("the recipe", &|_, _| (), other),
        (
            "the input",
            &|dir, _| {
                let path = dir.join("model.safetensors");
                let bytes = fs::read(&path).unwrap();
                std::thread::sleep(Duration::from_millis(20));
                fs::write(&path, bytes).unwrap();
            },
            other,
        ),
        ("the journal's head", &|_, out| flip(&part(out).with_extension("part.journal"), 20), other),
        (
            "both slots",
            &|_, out| {
                let path = part(out).with_extension("part.journal");
                let n = path.metadata().unwrap().len();
                [n - 1, n / 2].into_iter().for_each(|at| flip(&path, at));
            },
            other,
        ),
        (
            "the journal's length",
            &|_, out| {
                let path = part(out).with_extension("part.journal");
                File::options().append(true).open(path).unwrap().set_len(1 << 33).unwrap();
            },
            other,
        ),
        (
            "the part file's length",
            &|_, out| File::options().write(true).open(part(out)).unwrap().set_len(4096).unwrap(),
            wrong,
        ),
    ];
    for (what, bend, expected_note) in cases {
        let dir = tiny.safetensors();
        let out = dir.with_extension("gguf");
        let first = if *what == "the recipe" { all_as("q5_0") } else { Options::default() };
        convert_until(30, &dir, &first).0.unwrap_err();
        bend(&dir, &out);
        let (result, notes) = convert_until(NEVER, &dir, &Options::default());
        assert_eq!(result.unwrap().done.n_resumed_bytes, 0, "{what}");
        assert_eq!(notes, [format!("{}.part: {expected_note}", text(&out))], "{what}");
        assert!(fs::read(&out).unwrap() == expected(&dir, &Options::default()), "{what}");
        assert_eq!(names_beside(&out), DONE, "{what}");
    }
}

/// Every byte of a tensor that is done, one at a time.
#[test]
fn a_part_file_that_changed_is_not_built_on() {
    let tiny = Tiny::new();
    let dir = tiny.safetensors();
    let out = dir.with_extension("gguf");
    let whole = expected(&dir, &Options::default());
    let layout = open(whole.clone());
    let last = layout.tensors().last().unwrap();
    for tensor in ["v.blk.0.attn_qkv.weight", "v.class_embd"] {
        convert_until(40, &dir, &Options::default()).0.unwrap_err();
        let file = File::options().read(true).write(true).open(dir.with_extension("gguf.part")).unwrap();
        let at = layout.tensor(tensor).unwrap().offset + 5;
        assert!(at < last.offset);
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 4], at).unwrap();
        let (result, notes) = convert_until(NEVER, &dir, &Options::default());
        assert_eq!(result.unwrap().done.n_resumed_bytes, 0, "{tensor}: {notes:?}");
        assert!(notes[0].contains("is not what its journal says"), "{tensor}: {notes:?}");
        assert!(fs::read(&out).unwrap() == whole);
        fs::remove_file(&out).unwrap();
    }
}

/// Cancels at the first chunk of one tensor.
struct CancelIn<'a> {
    tensor: &'a str,
    cancel: &'a Cancel,
}

impl Progress for CancelIn<'_> {
    fn start(&mut self, _: u64) {}

    fn advance(&mut self, tensor: &str, _: u64) {
        if tensor == self.tensor {
            self.cancel.cancel();
        }
    }
}

/// The same of rows of a tensor that is not whole yet.
#[test]
fn rows_that_changed_are_not_built_on() {
    const TENSOR: &str = "blk.0.ffn_up.weight";
    // whose 8 MiB are read in two chunks
    let tiny = Tiny::wide(16_384);
    let (dir, options) = (tiny.safetensors(), all_as("q8_0"));
    let out = dir.with_extension("gguf");
    let whole = expected(&dir, &options);
    let at = open(whole.clone()).tensor(TENSOR).unwrap().offset + 5;
    for is_changed in [false, true] {
        let cancel = Cancel::new();
        let mut progress = CancelIn { tensor: TENSOR, cancel: &cancel };
        Plan::from_dir(&dir, &options).unwrap().run(&out, &mut progress, &cancel).unwrap_err();
        let file = File::options().read(true).write(true).open(dir.with_extension("gguf.part")).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ u8::from(is_changed)], at).unwrap();
        let (result, notes) = convert_until(NEVER, &dir, &options);
        assert_eq!(result.unwrap().done.n_resumed_bytes == 0, is_changed, "{notes:?}");
        assert!(fs::read(&out).unwrap() == whole, "changed: {is_changed}");
        fs::remove_file(&out).unwrap();
    }
}

#[test]
fn what_is_no_part_of_ours_stays() {
    let tiny = Tiny::new();
    let dir = tiny.safetensors();
    let out = dir.with_extension("gguf");
    let part = dir.with_extension("gguf.part");
    fs::write(&part, "precious").unwrap();
    let Ran { code, err, .. } = owlet(&["convert", text(&dir), "-o", text(&out)]);
    assert_eq!(code, Some(1));
    let what = "stands in the way, and nothing can go on with it without its journal: remove it";
    assert_eq!(err, format!("owlet: {}: {what}\n", text(&part)));
    assert_eq!(fs::read_to_string(&part).unwrap(), "precious");
    assert_eq!(names_beside(&out), FILES[..2]);

    // a journal that outlived its run by a moment
    fs::remove_file(&part).unwrap();
    fs::write(&out, "whole").unwrap();
    fs::write(dir.with_extension("gguf.part.journal"), "").unwrap();
    assert_eq!(owlet(&["convert", text(&dir), "-o", text(&out)]).code, Some(1));
    assert_eq!(names_beside(&out), DONE);
}

/// The real program on `dir`; one thread, so that it takes a while.
fn start(dir: &Path, dtype: &str) -> Child {
    let out = dir.with_extension("gguf");
    let mut command = command(&["convert", text(dir), "-o", text(&out), "-t", "1", "--type", dtype]);
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn thirty_kills_at_random_moments() {
    const N_KILLS: usize = 30;
    /// So that most of the time goes into what a kill could break.
    const QUICK: &str = "q8_0";
    // 27 MB of weights
    let tiny = Tiny::wide(8192);
    let dir = tiny.write(Float::BF16, Layout::Safetensors { shards: 2 });
    let out = dir.with_extension("gguf");
    let whole = expected(&dir, &all_as(QUICK));
    let since = Instant::now();
    assert!(start(&dir, QUICK).wait_with_output().unwrap().status.success());
    let span = since.elapsed();
    fs::remove_file(&out).unwrap();

    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let (mut n_kills, mut n_finished, mut n_resumed) = (0, 0, 0);
    while n_kills < N_KILLS {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let mut child = start(&dir, QUICK);
        std::thread::sleep(span.mul_f64((random >> 11) as f64 / (1u64 << 53) as f64));
        child.kill().unwrap();
        let done = child.wait_with_output().unwrap();
        let report = String::from_utf8(done.stderr).unwrap();
        n_resumed += usize::from(report.contains("going on with it"));
        if done.status.success() || out.exists() {
            n_finished += 1;
            assert!(fs::read(&out).unwrap() == whole, "after {n_kills} kills");
            fs::remove_file(&out).unwrap();
            // the kill may have come between the rename and the journal's end
            let _ = fs::remove_file(dir.with_extension("gguf.part.journal"));
        } else {
            n_kills += 1;
            assert!(done.status.code().is_none(), "{report}");
        }
    }
    let last = start(&dir, QUICK).wait_with_output().unwrap();
    assert!(last.status.success(), "{last:?}");
    assert!(fs::read(&out).unwrap() == whole);
    assert_eq!(names_beside(&out), DONE);
    println!(
        "{n_kills} kills in runs of {span:?}; {n_resumed} runs went on, {n_finished} finished before the kill"
    );
    assert!(n_resumed >= 5, "only {n_resumed} runs had something to go on with");
}

/// The kill comes when half of the weights were read: what is in flight, and what was done since the last commit, is
/// all that is read again.
#[cfg(target_os = "linux")]
#[test]
fn after_a_kill_at_half_little_is_read_again() {
    let dir = wide();
    let n_bytes = dir.path.join("model.safetensors").metadata().unwrap().len();
    let mut child = start(&dir.path, "q4_k_m");
    let io = format!("/proc/{}/io", child.id());
    let n_read = || -> u64 {
        let io = fs::read_to_string(&io).unwrap();
        io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
    };
    while n_read() < n_bytes / 2 {
        assert!(child.try_wait().unwrap().is_none(), "finished before it was killed");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let out = dir.path.with_extension("gguf");
    assert_eq!(names_beside(&out), FILES);
    let done = start(&dir.path, "q4_k_m").wait_with_output().unwrap();
    let report = String::from_utf8(done.stderr).unwrap();
    assert!(done.status.success(), "{report}");
    let (total, again) = (n_bytes as f64 / 1e6, megabytes(&report, " MB read"));
    println!("{again} MB of {total} MB read behind a kill at half; {}", report.lines().last().unwrap());
    assert!(again <= 0.6 * total, "{again} MB of {total} MB: {report}");
    assert!(again >= 0.4 * total, "{again} MB of {total} MB: {report}");
    let first = fs::read(&out).unwrap();
    fs::remove_file(&out).unwrap();
    assert!(start(&dir.path, "q4_k_m").wait_with_output().unwrap().status.success());
    assert!(fs::read(&out).unwrap() == first);
}

/// The limit on a file's length stands in for a disk that is full: a write fails half-way, for good.
#[test]
fn a_full_disk_keeps_what_is_done() {
    let tiny = Tiny::new();
    let dir = tiny.safetensors();
    let out = dir.with_extension("gguf");
    let script = "trap '' XFSZ; ulimit -f 1400; exec \"$0\" convert \"$1\" -o \"$2\"";
    let program = env!("CARGO_BIN_EXE_owlet");
    let done = Command::new("sh").args(["-c", script, program, text(&dir), text(&out)]).output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    let expected_text = format!(
        "{out}.part: keeps what is done; the same command goes on with it\n\
         owlet: {out}: cannot write: File too large (os error 27)\n",
        out = text(&out)
    );
    assert_eq!(String::from_utf8(done.stderr).unwrap(), expected_text);
    assert_eq!(names_beside(&out), FILES);
    let again = owlet(&["convert", text(&dir), "-o", text(&out)]);
    assert!(again.code == Some(0) && again.err.contains(" by an earlier run, in "), "{again:?}");
    assert!(fs::read(&out).unwrap() == expected(&dir, &Options::default()));
}
