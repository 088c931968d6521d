//! The real binary: arguments and input in, output, errors and exit status out.

use std::ffi::OsStr;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// What a run of the program left behind.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// The run must have succeeded; yields its standard output.
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }
}

pub fn command<S: AsRef<OsStr>>(args: &[S]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_owlet"));
    command.args(args).env("RUST_BACKTRACE", "0").env("XDG_STATE_HOME", state_dir());
    command.env("XDG_DATA_HOME", state_dir().join("data"));
    // A test that wants pictures kept, or settings, says where.
    command.env("OWLET_CACHE", "off").env("OWLET_CONFIG", "off");
    command
}

/// Where the program under test keeps its state.
pub fn state_dir() -> PathBuf {
    std::env::temp_dir().join(format!("owlet-tests-{}", std::process::id()))
}

pub fn owlet<S: AsRef<OsStr>>(args: &[S]) -> Ran {
    owlet_with(args, b"")
}

/// Runs the program with `input` as its standard input.
pub fn owlet_with<S: AsRef<OsStr>>(args: &[S], input: &[u8]) -> Ran {
    run(command(args), input)
}

pub fn run(mut command: Command, input: &[u8]) -> Ran {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A program that fails early closes its input; that is no fault of the test.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// A PNG of one colour, in a directory that lives as long as the tests.
pub fn picture(name: &str, width: u32, height: u32, rgba: [u8; 4]) -> PathBuf {
    let dir = state_dir().join("pictures");
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join(name);
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgba);
    let pixels = rgba.repeat((width * height) as usize);
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    // Tests run at the same time: nobody may see half a picture.
    let part = dir.join(format!("{name}.{:?}", std::thread::current().id()));
    std::fs::write(&part, bytes).unwrap();
    std::fs::rename(part, &path).unwrap();
    path
}
