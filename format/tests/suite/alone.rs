//! What only a program of its own can show, because it ends: this test program starts itself again with a
//! part to play, and looks at how that went.
#![cfg(unix)]

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use owlet_format::*;

use crate::model;

const PART: &str = "OWLET_FORMAT_TEST_PART";

/// Starts this program to run `part` in `dir`.
fn start(part: &str, dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "alone::play_a_part", "--nocapture"])
        .env(PART, part)
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What the program left; one that does not end is killed, so that its test fails and does not hang.
fn end_of(mut child: Child) -> Output {
    let patience = Instant::now() + Duration::from_secs(60);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > patience {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap()
}

/// Not a test by itself: without a part it does nothing.
#[test]
fn play_a_part() {
    match std::env::var(PART).as_deref() {
        Ok("read what is gone") => read_what_is_gone(),
        Ok("be killed while writing") => be_killed_while_writing(),
        Ok("read what is gone elsewhere") => read_what_is_gone_elsewhere(),
        _ => {}
    }
}

fn read_what_is_gone() {
    report_lost_maps().unwrap();
    report_lost_maps().unwrap();
    let file = Gguf::open(Path::new("m.gguf")).unwrap();
    OpenOptions::new().write(true).open("m.gguf").unwrap().set_len(1).unwrap();
    let sum: u64 =
        file.tensors().iter().flat_map(|tensor| file.data(tensor)).map(|&byte| u64::from(byte)).sum();
    println!("read {sum} out of nothing");
}

fn read_what_is_gone_elsewhere() {
    report_lost_maps().unwrap();
    let _file = Gguf::open(Path::new("m.gguf")).unwrap();
    fs::write("other", vec![1; 16_384]).unwrap();
    let other = OpenOptions::new().read(true).write(true).open("other").unwrap();
    // SAFETY: it is not safe, and is meant not to be
    #[allow(unsafe_code)]
    let map = unsafe { memmap2::Mmap::map(&other) }.unwrap();
    other.set_len(1).unwrap();
    println!("read {} out of nothing", map[8192]);
}

fn be_killed_while_writing() {
    let config = model::config();
    let mut writer =
        Writer::create(Path::new("new.gguf"), &model::metadata(&config), &model::plan(&config)).unwrap();
    let first = writer.tensors()[0].clone();
    writer.begin(&first.name).unwrap();
    println!("writing");
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_file_cut_short_while_mapped_ends_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    // longer than a page behind the cut
    let bytes = model::tiny();
    assert!(bytes.len() > 16_384);
    fs::write(dir.path().join("m.gguf"), bytes).unwrap();
    let output = end_of(start("read what is gone", dir.path()));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        (output.status.code(), stderr.as_str()),
        (
            Some(1),
            "m.gguf: a part of the file is gone while it is in use: it was cut short or its disk failed\n"
        )
    );
}

#[test]
fn a_sigbus_from_elsewhere_is_not_explained_away() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("m.gguf"), model::tiny()).unwrap();
    let output = end_of(start("read what is gone elsewhere", dir.path()));
    assert_eq!(output.status.signal(), Some(libc::SIGBUS), "{output:?}");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("m.gguf"), "{output:?}");
}

#[test]
fn killed_while_writing_leaves_nothing_under_the_name() {
    let dir = tempfile::tempdir().unwrap();
    File::create(dir.path().join("new.gguf")).unwrap().write_all(b"old").unwrap();
    let mut child = start("be killed while writing", dir.path());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with("writing")));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(fs::read(dir.path().join("new.gguf")).unwrap(), b"old");
}
