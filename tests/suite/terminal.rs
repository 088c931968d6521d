//! A terminal with the real program in it: keys go in, a screen comes out. Everything waits for what the screen shows, with
//! patience for machines that are busy; nothing waits for time to pass.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::process::{Child, Command};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::termios::{InputFlags, LocalFlags, tcgetattr};
use pty_process::Size;
use pty_process::blocking::{Command as PtyCommand, Pty, open};

const PATIENCE: Duration = Duration::from_secs(120);

/// What the line editor sends before it reads keys.
const READY: &str = "\u{1b}[?2004h";

pub struct Terminal {
    pty: Arc<Pty>,
    child: Child,
    shown: Arc<(Mutex<Shown>, Condvar)>,
    /// Prompts that were waited for.
    n_prompts: usize,
}

struct Shown {
    parser: vt100::Parser,
    bytes: Vec<u8>,
    /// The program has closed the terminal.
    is_over: bool,
}

impl Terminal {
    /// Runs `command` in a terminal of so many rows and columns that calls itself `term`, and says no more of itself than the command's own
    /// environment does.
    pub fn new(command: Command, term: &str, rows: u16, columns: u16) -> Terminal {
        Terminal::start(command, None, (term, rows, columns))
    }

    /// The same with a file as standard input.
    pub fn fed(command: Command, input: File, term: &str) -> Terminal {
        Terminal::start(command, Some(input), (term, 60, 100))
    }

    fn start(mut command: Command, input: Option<File>, (term, rows, columns): (&str, u16, u16)) -> Terminal {
        let own: Vec<_> = command.get_envs().map(|(name, _)| name.to_os_string()).collect();
        for name in [
            "COLORTERM",
            "NO_COLOR",
            "CLICOLOR",
            "TERM_PROGRAM",
            "TMUX",
            "STY",
            "KITTY_WINDOW_ID",
            "LC_TERMINAL",
        ] {
            if !own.iter().any(|known| known == name) {
                command.env_remove(name);
            }
        }
        command.env("TERM", term);
        let (pty, program_end) = open().unwrap();
        pty.resize(Size::new(rows, columns)).unwrap();
        let mut command = PtyCommand::from(command);
        if let Some(input) = input {
            command = command.stdin(input);
        }
        let child = command.spawn(program_end).unwrap();
        let parser = vt100::Parser::new(size(rows), size(columns), 0);
        let shown = Shown { parser, bytes: Vec::new(), is_over: false };
        let shown = Arc::new((Mutex::new(shown), Condvar::new()));
        let pty = Arc::new(pty);
        let (from, to) = (Arc::clone(&pty), Arc::clone(&shown));
        thread::spawn(move || show(&from, &to));
        Terminal { pty, child, shown, n_prompts: 0 }
    }

    /// Presses keys.
    pub fn keys(&mut self, keys: &str) {
        (&*self.pty).write_all(keys.as_bytes()).unwrap();
    }

    /// Types a line and Enter.
    pub fn line(&mut self, line: &str) {
        self.keys(&format!("{line}\r"));
    }

    /// Waits for the prompt, types a line there, and waits for the next one.
    pub fn say(&mut self, line: &str) {
        self.prompt();
        self.line(line);
        let n_wanted = self.n_prompts + 1;
        self.wait("the next prompt", |shown| shown.n_prompts() >= n_wanted);
    }

    /// Waits for a prompt that was not waited for yet: the editor reads keys now.
    pub fn prompt(&mut self) {
        self.n_prompts += 1;
        let n_wanted = self.n_prompts;
        self.wait("a prompt", |shown| shown.n_prompts() >= n_wanted);
    }

    /// Waits until `text` is on the screen.
    pub fn sees(&self, text: &str) {
        self.wait(text, |shown| shown.contents().contains(text));
    }

    /// Waits until `text` is on the screen `n` times.
    pub fn sees_times(&self, n: usize, text: &str) {
        self.wait(text, |shown| shown.contents().matches(text).count() == n);
    }

    /// Waits until the program has sent `text` somewhere behind `mark`, on whatever screen that was.
    pub fn sends_behind(&self, mark: &str, text: &str) {
        let is_there = |shown: &Shown| {
            let sent = String::from_utf8_lossy(&shown.bytes);
            sent.split_once(mark).is_some_and(|(_, behind)| behind.contains(text))
        };
        self.wait(text, is_there);
    }

    /// The screen as it is now.
    pub fn screen(&self) -> String {
        self.shown.0.lock().unwrap().contents()
    }

    /// The row that the cursor is in, and its column.
    pub fn cursor(&self) -> (String, u16) {
        let shown = self.shown.0.lock().unwrap();
        let (row, column) = shown.parser.screen().cursor_position();
        (shown.contents().lines().nth(row.into()).unwrap_or_default().to_string(), column)
    }

    /// All that the program sent.
    pub fn sent(&self) -> String {
        String::from_utf8_lossy(&self.shown.0.lock().unwrap().bytes).into_owned()
    }

    /// Foreground and background of the first cell that shows `character`.
    pub fn colours(&self, character: &str) -> Option<(vt100::Color, vt100::Color)> {
        let shown = self.shown.0.lock().unwrap();
        let screen = shown.parser.screen();
        let (rows, columns) = screen.size();
        let cells = (0..rows.get()).flat_map(|row| (0..columns.get()).map(move |column| (row, column)));
        let cell = cells
            .filter_map(|(row, column)| screen.cell(row, column))
            .find(|cell| cell.contents() == character)?;
        Some((cell.fgcolor(), cell.bgcolor()))
    }

    /// Holds the program up for so long, as a busy machine does.
    pub fn pause(&self, long: Duration) {
        for signal in ["-STOP", "-CONT"] {
            let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
            assert!(sent.unwrap().success());
            if signal == "-STOP" {
                thread::sleep(long);
            }
        }
    }

    pub fn resize(&mut self, rows: u16, columns: u16) {
        self.shown.0.lock().unwrap().parser.screen_mut().set_size(size(rows), size(columns));
        self.pty.resize(Size::new(rows, columns)).unwrap();
    }

    /// Waits until the program has ended; yields its status, and leaves the terminal to be looked at.
    pub fn ends(&mut self) -> Option<i32> {
        self.wait("the end", |shown| shown.is_over);
        self.child.wait().unwrap().code()
    }

    /// Ctrl-D at the next prompt ends the program well, and the terminal is as it was before.
    pub fn leaves(mut self) {
        self.prompt();
        self.keys("\u{4}");
        assert_eq!(self.ends(), Some(0), "{}", self.screen());
        assert!(self.is_cooked());
    }

    /// Keys are echoed and lines are the terminal's to edit.
    pub fn is_cooked(&self) -> bool {
        let modes = tcgetattr(&*self.pty).unwrap();
        modes.local_flags.contains(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG)
            && modes.input_flags.contains(InputFlags::ICRNL)
    }

    fn wait(&self, what: &str, mut is_there: impl FnMut(&Shown) -> bool) {
        let until = Instant::now() + PATIENCE;
        let (shown, changed) = &*self.shown;
        let mut shown = shown.lock().unwrap();
        while !is_there(&shown) {
            let left = until.saturating_duration_since(Instant::now());
            let is_hopeless = left.is_zero() || shown.is_over;
            assert!(!is_hopeless, "waited for {what}; the screen:\n{}", shown.contents());
            shown = changed.wait_timeout(shown, left).unwrap().0;
        }
    }
}

impl Shown {
    fn contents(&self) -> String {
        self.parser.screen().contents()
    }

    fn n_prompts(&self) -> usize {
        self.bytes.windows(READY.len()).filter(|window| *window == READY.as_bytes()).count()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Brings what the program sends to the screen, until it has closed the terminal.
fn show(pty: &Pty, shown: &(Mutex<Shown>, Condvar)) {
    let mut bytes = [0; 4096];
    loop {
        // Linux reports a closed terminal as an error.
        let n = (&*pty).read(&mut bytes).unwrap_or(0);
        // A test that failed needs no screen any more.
        let Ok(mut seen) = shown.0.lock() else { return };
        seen.parser.process(&bytes[..n]);
        seen.bytes.extend(&bytes[..n]);
        seen.is_over = n == 0;
        shown.1.notify_all();
        if n == 0 {
            return;
        }
    }
}

fn size(n: u16) -> NonZeroU16 {
    NonZeroU16::new(n).unwrap()
}
