//! A conversation as a file for people or programs: Markdown or JSON, by the file's name.

use super::conversation::{Shown, Talk, text_of};
use crate::engine::PartFile;
use crate::error::{Error, Result};
use crate::prompt::{Message, Part, Role};
use serde::Serialize;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

/// Writes `talk` with the model named `model` to `path`; the file is there whole or not at all.
///
/// # Errors
/// `Request`: a name that says neither `.md` nor `.json`, or a file that is there and is not to be replaced. `Io`.
pub fn export(talk: &Talk, model: &str, path: &Path, replaces: bool) -> Result<()> {
    let place = path.display();
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    let text = match ending.as_deref() {
        Some("md" | "markdown") => markdown(talk, model),
        Some("json") => json(talk, model)?,
        _ => return Err(Error::request(format!("{place}: expected a name that ends with .md or .json"))),
    };
    if !replaces && path.exists() {
        return Err(Error::request(format!("{place}: exists; /export --force {place} replaces it")));
    }
    let failed = |cause| Error::io(path, cause);
    let mut part = PartFile::create(path).map_err(failed)?;
    part.write_all(text.as_bytes()).map_err(failed)?;
    part.publish_durably().map_err(failed)
}

fn markdown(talk: &Talk, model: &str) -> String {
    let mut out = format!("# A conversation with {model}\n");
    if let Some(system) = &talk.system {
        let _ = write!(out, "\n> {}\n", system.replace('\n', "\n> "));
    }
    for message in talk.messages() {
        let who = if message.role == Role::User { "You" } else { model };
        let _ = write!(out, "\n**{who}**\n");
        for (number, picture) in pictures(talk, message) {
            let target = picture.name.replace('%', "%25").replace('>', "%3E").replace('<', "%3C");
            let _ = write!(out, "\n![Image-{number}](<{target}>)\n");
        }
        let text = text_of(message);
        if !text.is_empty() {
            let _ = write!(out, "\n{text}\n");
        }
    }
    out
}

#[derive(Serialize)]
struct Export<'a> {
    written_by: String,
    model: &'a str,
    /// `null` is what the model's file says.
    system: Option<&'a str>,
    messages: Vec<Said<'a>>,
}

#[derive(Serialize)]
struct Said<'a> {
    role: &'static str,
    text: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pictures: Vec<Named<'a>>,
}

#[derive(Serialize)]
struct Named<'a> {
    /// As `Image-1` in questions.
    number: usize,
    name: &'a str,
}

fn json(talk: &Talk, model: &str) -> Result<String> {
    let messages = talk.messages().iter().map(|message| Said {
        role: if message.role == Role::User { "user" } else { "assistant" },
        text: text_of(message),
        pictures: pictures(talk, message)
            .map(|(number, shown)| Named { number, name: &shown.name })
            .collect(),
    });
    let export = Export {
        written_by: format!("owlet {}", env!("CARGO_PKG_VERSION")),
        model,
        system: talk.system.as_deref(),
        messages: messages.collect(),
    };
    let text = serde_json::to_string_pretty(&export)
        .map_err(|error| Error::internal(format_args!("export: {error}")))?;
    Ok(text + "\n")
}

/// The pictures of a message with their numbers, from 1 on.
fn pictures<'a>(talk: &'a Talk, message: &'a Message) -> impl Iterator<Item = (usize, &'a Shown)> {
    message.parts.iter().filter_map(|part| match part {
        Part::Image(index) => Some((index + 1, talk.pictures().get(*index)?)),
        Part::Text(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::chat::conversation::Seen;
    use crate::prompt::Pixels;
    use std::fs;
    use std::sync::Arc;

    fn talk() -> Talk {
        let mut talk = Talk::new(Some("Be brief.\nBe kind.".into()));
        for name in ["my cat.png", "<b>.png"] {
            let pixels = Arc::new(Pixels { size_px: 1, rgb: vec![0; 3].into(), planes: vec![] });
            talk.attach(Shown { name: name.into(), receipt: String::new(), pixels, seen: Seen::NotYet });
        }
        talk.ask("What?\nAnd \"why\"?");
        talk.answer("A cat, 圆.");
        talk
    }

    #[test]
    fn in_both_forms() {
        let expected = "\
# A conversation with owl

> Be brief.
> Be kind.

**You**

![Image-1](<my cat.png>)

![Image-2](<%3Cb%3E.png>)

What?
And \"why\"?

**owl**

A cat, 圆.
";
        assert_eq!(markdown(&talk(), "owl"), expected);
        let value: serde_json::Value = serde_json::from_str(&json(&talk(), "owl").unwrap()).unwrap();
        let expected = serde_json::json!({
            "written_by": concat!("owlet ", env!("CARGO_PKG_VERSION")),
            "model": "owl",
            "system": "Be brief.\nBe kind.",
            "messages": [
                {
                    "role": "user",
                    "text": "What?\nAnd \"why\"?",
                    "pictures": [{"number": 1, "name": "my cat.png"}, {"number": 2, "name": "<b>.png"}],
                },
                {"role": "assistant", "text": "A cat, 圆."},
            ],
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn what_is_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("talk.md");
        export(&talk(), "owl", &path, false).unwrap();
        let refused = export(&talk(), "owl", &path, false).unwrap_err().to_string();
        assert_eq!(refused, format!("{0}: exists; /export --force {0} replaces it", path.display()));
        export(&Talk::default(), "owl", &path, true).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "# A conversation with owl\n");
        let other = dir.path().join("talk.txt");
        let refused = export(&talk(), "owl", &other, false).unwrap_err().to_string();
        assert_eq!(refused, format!("{}: expected a name that ends with .md or .json", other.display()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
