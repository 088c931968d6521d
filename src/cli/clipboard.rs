//! The picture on the clipboard, through the programs that systems have for that: no library of a window system is
//! linked. In: nothing. Out: a picture's bytes, or the path of one that was copied as a file, or one line that says what
//! is missing.

use crate::error::{Error, Result};
use crate::prompt::Limits;
use std::ffi::OsStr;
use std::io::{ErrorKind, Read};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// What messages call it.
pub const NAME: &str = "clipboard";

/// Longest wait for a program: the clipboard's owner may have hung.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was on it.
pub enum Copied {
    Picture(Vec<u8>),
    /// A file manager copied this: a path or a `file://` address.
    File(String),
}

/// How to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Desktop {
    Wayland,
    X11,
    Mac,
    Windows,
}

/// What is on the clipboard now.
///
/// # Errors
/// `Unsupported`: there is no clipboard, no program to ask it, or no picture on it. `Limit`: a picture that is too large.
pub fn paste() -> Result<Copied> {
    let desktop = desktop(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    let Some(desktop) = desktop else {
        let problem = "none here: neither Wayland nor X11 is running; save the picture and give its path";
        return Err(Error::unsupported(NAME, problem));
    };
    match desktop {
        Desktop::Wayland => {
            let list = || ask("wl-paste", &["--list-types"], "install wl-clipboard");
            offered(list, |kind| ask("wl-paste", &["--no-newline", "--type", kind], "install wl-clipboard"))
        }
        Desktop::X11 => {
            let target = |kind: &str| {
                ask("xclip", &["-selection", "clipboard", "-target", kind, "-out"], "install xclip")
            };
            offered(|| target("TARGETS"), target)
        }
        Desktop::Mac => mac(),
        Desktop::Windows => {
            let program = if cfg!(windows) { "powershell" } else { "powershell.exe" };
            let bytes = ask(program, &["-NoProfile", "-STA", "-Command", POWERSHELL], "install PowerShell")?;
            picture(bytes.unwrap_or_default())
        }
    }
}

fn desktop(is_set: impl Fn(&str) -> bool) -> Option<Desktop> {
    if cfg!(target_os = "macos") {
        Some(Desktop::Mac)
    } else if cfg!(windows) {
        Some(Desktop::Windows)
    } else if is_set("WAYLAND_DISPLAY") {
        Some(Desktop::Wayland)
    } else if is_set("DISPLAY") {
        Some(Desktop::X11)
    } else {
        is_set("WSL_DISTRO_NAME").then_some(Desktop::Windows)
    }
}

/// Writes the clipboard's picture as PNG to standard output.
const POWERSHELL: &str = "Add-Type -AssemblyName System.Windows.Forms, System.Drawing; \
    $i = [System.Windows.Forms.Clipboard]::GetImage(); \
    if ($i) { $s = New-Object System.IO.MemoryStream; $i.Save($s, [System.Drawing.Imaging.ImageFormat]::Png); \
    $o = [Console]::OpenStandardOutput(); $s.WriteTo($o); $o.Flush() }";

/// Kinds of pictures that owlet reads, the best one first.
const KINDS: [&str; 5] = ["image/png", "image/webp", "image/jpeg", "image/bmp", "image/gif"];

/// From a clipboard that lists what it offers.
fn offered(
    list: impl FnOnce() -> Result<Option<Vec<u8>>>,
    get: impl Fn(&str) -> Result<Option<Vec<u8>>>,
) -> Result<Copied> {
    let listed = list()?.unwrap_or_default();
    let listed = String::from_utf8_lossy(&listed);
    let is_offered = |kind: &str| listed.lines().any(|line| line.trim() == kind);
    // A file manager offers an icon beside the file itself.
    if is_offered("text/uri-list") {
        let uris = get("text/uri-list")?.unwrap_or_default();
        let uris = String::from_utf8_lossy(&uris);
        if let Some(uri) = uris.lines().map(str::trim).find(|line| line.starts_with("file://")) {
            return Ok(Copied::File(uri.to_string()));
        }
    }
    match KINDS.into_iter().find(|kind| is_offered(kind)) {
        Some(kind) => picture(get(kind)?.unwrap_or_default()),
        None => picture(Vec::new()),
    }
}

/// `pngpaste` where it is installed, else what every Mac has, which writes hexadecimal digits.
fn mac() -> Result<Copied> {
    if let Ok(Some(bytes)) = ask("pngpaste", &["-"], "") {
        return picture(bytes);
    }
    let script = "the clipboard as «class PNGf»";
    let said = ask("osascript", &["-e", script], "osascript belongs to macOS")?.unwrap_or_default();
    picture(of_applescript(&said).unwrap_or_default())
}

/// `«data PNGf89504E47…»`
fn of_applescript(said: &[u8]) -> Option<Vec<u8>> {
    let said = String::from_utf8_lossy(said);
    let digits = said.split_once("PNGf")?.1;
    let digits: Vec<u8> = digits.chars().map_while(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

fn picture(bytes: Vec<u8>) -> Result<Copied> {
    if bytes.is_empty() {
        Err(Error::unsupported(NAME, "no picture on it"))
    } else {
        Ok(Copied::Picture(bytes))
    }
}

/// What `program` writes; `None` where it fails, which is how these say that there is no such thing. `remedy` helps where
/// there is no such program.
fn ask(program: &str, arguments: &[impl AsRef<OsStr>], remedy: &str) -> Result<Option<Vec<u8>>> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|cause| match cause.kind() {
        ErrorKind::NotFound => Error::unsupported(NAME, format!("{program} is not here: {remedy}")),
        _ => Error::io(program, cause),
    })?;
    let max_bytes = Limits::default().max_bytes;
    let output = child.stdout.take();
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        output.map(|output| output.take(max_bytes + 1).read_to_end(&mut bytes)).transpose().map(|_| bytes)
    });
    let started = Instant::now();
    // It ends when it has written all, or when nobody reads on.
    let status = loop {
        match child.try_wait().map_err(|cause| Error::io(program, cause))? {
            Some(status) => break status,
            None if started.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(5)),
            None => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(Error::unsupported(NAME, format!("{program} did not answer")));
            }
        }
    };
    let bytes = reader.join().map_err(|_| Error::internal("the clipboard's reader"))?;
    let bytes = bytes.map_err(|cause| Error::io(program, cause))?;
    if bytes.len() as u64 > max_bytes {
        return Err(Error::limit(format_args!("{NAME}: bytes of a picture"), max_bytes, bytes.len() as u64));
    }
    Ok(status.success().then_some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn desktops() {
        if cfg!(any(windows, target_os = "macos")) {
            println!("not run: this system has one desktop");
            return;
        }
        let cases: &[(&[&str], Option<Desktop>)] = &[
            (&[], None),
            (&["DISPLAY"], Some(Desktop::X11)),
            (&["DISPLAY", "WAYLAND_DISPLAY"], Some(Desktop::Wayland)),
            (&["WSL_DISTRO_NAME"], Some(Desktop::Windows)),
        ];
        for (variables, expected) in cases {
            assert_eq!(desktop(|name| variables.contains(&name)), *expected, "{variables:?}");
        }
    }

    #[test]
    fn applescript_writes_digits() {
        assert_eq!(of_applescript("«data PNGf89504E470a»\n".as_bytes()), Some(b"\x89PNG\n".to_vec()));
        assert_eq!(of_applescript(b"execution error"), None);
    }
}
