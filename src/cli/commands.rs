//! What a line typed into the chat means.

/// A line of the chat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    Blank,
    Question(String),
    /// `/image PATH`
    Image(String),
    Clear,
    Help,
    Quit,
    /// Looks like a command and is none; why.
    Wrong(String),
}

pub const HELP: &str = "\
/image PATH   attach a picture to the next question
/clear        forget the conversation and its pictures
/help         this list
/quit         leave, as Ctrl-D does
Ctrl-C stops an answer, or the work on a picture. A question that begins with / is written \\/.";

impl Line {
    /// Reads a line. What begins with a slash is a command or a mistake, never a question.
    pub fn parse(line: &str) -> Line {
        let line = line.trim();
        let Some(command) = line.strip_prefix('/') else {
            let question = line.strip_prefix('\\').filter(|rest| rest.starts_with('/')).unwrap_or(line);
            return if line.is_empty() { Line::Blank } else { Line::Question(question.to_string()) };
        };
        let (word, argument) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        let argument = unquoted(argument.trim());
        match (word, argument) {
            ("image", "") => Line::Wrong("/image: expected a path".to_string()),
            ("image", path) => Line::Image(path.to_string()),
            ("clear", "") => Line::Clear,
            ("help", "") => Line::Help,
            ("quit", "") => Line::Quit,
            ("clear" | "help" | "quit", _) => {
                Line::Wrong(format!("/{word}: expected nothing behind it, found {argument}"))
            }
            _ => Line::Wrong(format!(
                "/{word}: no such command; /help lists them, and a question that begins with / is written \\/"
            )),
        }
    }
}

/// Without the quotes around it, as shells and drag and drop put them there.
fn unquoted(text: &str) -> &str {
    let inside = |quote| text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote));
    inside('"').or_else(|| inside('\'')).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let question = |text: &str| Line::Question(text.to_string());
        let image = |path: &str| Line::Image(path.to_string());
        let wrong = |text: &str| Line::Wrong(text.to_string());
        for (line, expected) in [
            ("", Line::Blank),
            (" \t", Line::Blank),
            (" what is this? ", question("what is this?")),
            ("\\/image is what?", question("/image is what?")),
            ("\\n is what?", question("\\n is what?")),
            ("/image a.png", image("a.png")),
            ("/image  my cat.png ", image("my cat.png")),
            ("/image 'my cat.png'", image("my cat.png")),
            ("/image \"圆 1.png\"", image("圆 1.png")),
            ("/image '", image("'")),
            ("/image", wrong("/image: expected a path")),
            ("/image ''", wrong("/image: expected a path")),
            ("/clear", Line::Clear),
            ("/help", Line::Help),
            ("/quit", Line::Quit),
            ("/quit now", wrong("/quit: expected nothing behind it, found now")),
            (
                "/tmp/cat.png what is this?",
                wrong(
                    "/tmp/cat.png: no such command; /help lists them, and a question that begins with / is written \\/",
                ),
            ),
            (
                "/",
                wrong(
                    "/: no such command; /help lists them, and a question that begins with / is written \\/",
                ),
            ),
        ] {
            assert_eq!(Line::parse(line), expected, "{line:?}");
        }
    }
}
