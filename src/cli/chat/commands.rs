//! What a line typed into the chat means. In: the line. Out: a question, a command with what stands behind it, or one
//! line that says what is wrong. Knows no conversation.

use crate::cli::mentions::{self, Piece};

/// A line of the chat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    Blank,
    Question(String),
    Command(Command),
    /// Looks like a command and is none; why.
    Wrong(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Paths or patterns, as they were typed.
    Image(String),
    Images,
    Paste,
    /// A picture's number, from 1 on.
    Drop(usize),
    Undo,
    Regen,
    Save(String),
    Load(String),
    Export {
        path: String,
        replaces: bool,
    },
    Stats,
    /// Shows all settings, or changes one.
    Set(Option<(String, String)>),
    /// Shows the system prompt, or changes it.
    System(Option<String>),
    Clear,
    Help,
    Quit,
}

/// What a command takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    Nothing,
    Path,
    Words,
}

/// Name, what stands behind it, what it does.
pub const COMMANDS: [(&str, Takes, &str, &str); 15] = [
    ("image", Takes::Path, "PATH|GLOB", "attach pictures to the next question"),
    ("images", Takes::Nothing, "", "list the conversation's pictures"),
    ("paste", Takes::Nothing, "", "attach the picture on the clipboard"),
    ("drop", Takes::Words, "N", "take picture N out of the conversation"),
    ("undo", Takes::Nothing, "", "take the last question and its answer back"),
    ("regen", Takes::Nothing, "", "answer the last question anew"),
    ("save", Takes::Path, "PATH", "save the conversation, with all that was computed"),
    ("load", Takes::Path, "PATH", "go on with a saved conversation"),
    ("export", Takes::Path, "[--force] PATH", "write the conversation as .md or .json"),
    ("stats", Takes::Nothing, "", "what this conversation took"),
    ("set", Takes::Words, "[NAME VALUE]", "show or change how answers are chosen"),
    ("system", Takes::Words, "[TEXT]", "show or change what stands first; - is the model's own"),
    ("clear", Takes::Nothing, "", "forget the conversation and its pictures"),
    ("help", Takes::Nothing, "", "this list"),
    ("quit", Takes::Nothing, "", "leave, as Ctrl-D does"),
];

/// What people type who come from elsewhere.
const ALSO: [(&str, &str); 5] =
    [("exit", "quit"), ("bye", "quit"), ("q", "quit"), ("?", "help"), ("regenerate", "regen")];

/// The list of commands, and of what else can be typed.
pub fn help() -> String {
    let mut out = String::new();
    for (name, _, argument, what) in COMMANDS {
        out.push_str(&format!("{:<24}{what}\n", format!("/{name} {argument}").trim_end()));
    }
    out + "
A picture's path inside a question attaches it: 'my cat.png', ./cat.png, ~/cat.png,
C:\\cat.png, file:///cat.png; with --allow-url an address, too: https://a.b/cat.png.
A backslash before it makes it text, and \\/ begins a question with /. A backslash at
the end of a line goes on in the next one; a paste of several lines is one question.
Ctrl-R searches what was typed before, Ctrl-C stops an answer or the work on a
picture."
}

impl Line {
    /// Reads a line. What begins with a slash is a command, a picture's path or a mistake, never a question without one.
    pub fn parse(line: &str) -> Line {
        let line = line.trim();
        let Some(command) = line.strip_prefix('/') else {
            return if line.is_empty() { Line::Blank } else { Line::Question(line.to_string()) };
        };
        let (word, argument) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        let is_command = word.chars().all(|c| c.is_alphabetic() || c == '?');
        if !is_command && matches!(mentions::pieces(line, &|_| false).first(), Some(Piece::Picture(_))) {
            return Line::Question(line.to_string());
        }
        let name = ALSO.iter().find(|(also, _)| *also == word).map_or(word, |(_, name)| name);
        let Some((name, takes, ..)) = COMMANDS.into_iter().find(|(known, ..)| *known == name) else {
            return Line::Wrong(unknown(word));
        };
        let argument = argument.trim();
        if takes == Takes::Nothing && !argument.is_empty() {
            return Line::Wrong(format!("/{name}: expected nothing behind it, found {argument}"));
        }
        Command::parse(name, argument)
            .map_or_else(|expected| Line::Wrong(format!("/{name}: {expected}")), Line::Command)
    }
}

impl Command {
    fn parse(name: &str, argument: &str) -> Result<Command, String> {
        let path = || match one_path(argument) {
            path if path.is_empty() => Err("expected a path".to_string()),
            path => Ok(path),
        };
        Ok(match name {
            "image" => Command::Image(path().map(|_| argument.to_string())?),
            "images" => Command::Images,
            "paste" => Command::Paste,
            "drop" => Command::Drop(match argument.parse() {
                Ok(n) if n > 0 => n,
                _ => {
                    return Err(format!(
                        "expected a picture's number as /images lists it, found {}",
                        found(argument)
                    ));
                }
            }),
            "undo" => Command::Undo,
            "regen" => Command::Regen,
            "save" => Command::Save(path()?),
            "load" => Command::Load(path()?),
            "export" => match argument.strip_prefix("--force ") {
                Some(rest) => Command::Export { path: one_path(rest.trim()), replaces: true },
                None => Command::Export { path: path()?, replaces: false },
            },
            "stats" => Command::Stats,
            "set" if argument.is_empty() => Command::Set(None),
            "set" => {
                let (name, value) = argument
                    .split_once(|c: char| c.is_whitespace() || c == '=')
                    .ok_or_else(|| format!("expected a name and a value, found {argument}"))?;
                Command::Set(Some((name.to_string(), value.trim().to_string())))
            }
            "system" if argument.is_empty() => Command::System(None),
            "system" => Command::System(Some(argument.to_string())),
            "clear" => Command::Clear,
            "help" => Command::Help,
            _ => Command::Quit,
        })
    }
}

fn found(argument: &str) -> &str {
    if argument.is_empty() { "nothing" } else { argument }
}

/// The one path behind a command: quoted, escaped, or just all that stands there.
fn one_path(argument: &str) -> String {
    match mentions::arguments(argument).as_slice() {
        [mentions::Place::File(path)] => path.clone(),
        _ => argument.to_string(),
    }
}

fn unknown(word: &str) -> String {
    let nearest = COMMANDS
        .iter()
        .map(|(name, ..)| (distance(word, name), *name))
        .filter(|(distance, name)| *distance <= 2 && *distance < name.chars().count())
        .min_by_key(|(distance, _)| *distance);
    match nearest {
        Some((_, name)) => format!("/{word}: no such command; did you mean /{name}?"),
        None => format!(
            "/{word}: no such command; /help lists them, and a question that begins with / is written \\/"
        ),
    }
}

/// Letters to change, add, take out or swap with their neighbour to make one word the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(32).collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let mut cost = (rows[i - 1][j] + 1).min(row[j - 1] + 1);
            cost = cost.min(rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]));
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                cost = cost.min(rows[i - 2][j - 2] + 1);
            }
            row.push(cost);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let question = |text: &str| Line::Question(text.to_string());
        let image = |path: &str| Line::Command(Command::Image(path.to_string()));
        let wrong = |text: &str| Line::Wrong(text.to_string());
        let set = |name: &str, value: &str| Line::Command(Command::Set(Some((name.into(), value.into()))));
        let export = |path: &str, replaces| Line::Command(Command::Export { path: path.into(), replaces });
        let unknown = "no such command; /help lists them, and a question that begins with / is written \\/";
        for (line, expected) in [
            ("", Line::Blank),
            (" \t", Line::Blank),
            (" what is this? ", question("what is this?")),
            ("one\ntwo", question("one\ntwo")),
            ("\\/image is what?", question("\\/image is what?")),
            ("/image a.png", image("a.png")),
            ("/image  'my cat.png' ", image("'my cat.png'")),
            ("/image", wrong("/image: expected a path")),
            ("/image ''", wrong("/image: expected a path")),
            ("/images", Line::Command(Command::Images)),
            ("/drop 2", Line::Command(Command::Drop(2))),
            ("/drop", wrong("/drop: expected a picture's number as /images lists it, found nothing")),
            ("/drop 0", wrong("/drop: expected a picture's number as /images lists it, found 0")),
            ("/drop cat", wrong("/drop: expected a picture's number as /images lists it, found cat")),
            ("/save my talk", Line::Command(Command::Save("my talk".into()))),
            ("/save 'my talk'", Line::Command(Command::Save("my talk".into()))),
            ("/load my\\ talk", Line::Command(Command::Load("my talk".into()))),
            ("/save", wrong("/save: expected a path")),
            ("/export a.md", export("a.md", false)),
            ("/export --force  a b.md", export("a b.md", true)),
            ("/set", Line::Command(Command::Set(None))),
            ("/set temperature 0.5", set("temperature", "0.5")),
            ("/set seed=7", set("seed", "7")),
            ("/set seed", wrong("/set: expected a name and a value, found seed")),
            ("/system", Line::Command(Command::System(None))),
            ("/system Be brief.", Line::Command(Command::System(Some("Be brief.".into())))),
            ("/clear", Line::Command(Command::Clear)),
            ("/help", Line::Command(Command::Help)),
            ("/?", Line::Command(Command::Help)),
            ("/quit", Line::Command(Command::Quit)),
            ("/bye", Line::Command(Command::Quit)),
            ("/quit now", wrong("/quit: expected nothing behind it, found now")),
            // A dragged picture begins with a slash, too.
            ("/tmp/cat.png what is this?", question("/tmp/cat.png what is this?")),
            ("/tmp/my cat.png", question("/tmp/my cat.png")),
            ("/cat.png", question("/cat.png")),
            ("/tmp/cat what is this?", wrong(&format!("/tmp/cat: {unknown}"))),
            ("/imgae my cat.png", wrong("/imgae: no such command; did you mean /image?")),
            ("/sytem", wrong("/sytem: no such command; did you mean /system?")),
            ("/clera", wrong("/clera: no such command; did you mean /clear?")),
            ("/frobnicate", wrong(&format!("/frobnicate: {unknown}"))),
            ("/", wrong(&format!("/: {unknown}"))),
        ] {
            assert_eq!(Line::parse(line), expected, "{line:?}");
        }
    }

    #[test]
    fn every_command_is_known_and_listed() {
        for (name, takes, ..) in COMMANDS {
            let argument = if takes == Takes::Nothing { "" } else { " 1 1" };
            let parsed = Line::parse(&format!("/{name}{argument}"));
            let is_right =
                matches!(&parsed, Line::Command(command) if name == "quit" || *command != Command::Quit);
            assert!(is_right || name == "drop", "{parsed:?}");
            let is_documented = |text: &str| text.contains(&format!("/{name}"));
            assert!(is_documented(&help()) && is_documented(include_str!("../../../docs/chat.md")), "{name}");
        }
    }

    #[test]
    fn distances() {
        for (a, b, expected) in
            [("", "", 0), ("a", "", 1), ("image", "image", 0), ("imgae", "image", 1), ("exit", "quit", 2)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }
}
