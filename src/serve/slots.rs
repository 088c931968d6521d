//! `/slots`: what the slots hold, and conversations that go from them to files and come back, pictures included. There only where an
//! operator has named a directory; clients name files in it, and nothing else.

use super::app::App;
use super::caller::Caller;
use super::dialect::{Dialect, json_response, refusal};
use super::fault::{Fault, Kind, Result};
use super::fields::Fields;
use super::keeper::Condition;
use super::log;
use super::picture::Pictures;
use super::ready::with_model;
use crate::engine::{self, Doing, Engine, Scope, SlotFacts};
use crate::error::Error;
use axum::extract::{Path, RawQuery, Request, State};
use axum::response::Response;
use owlet_format::hex;
use serde_json::{Value, json};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Longest name of a file.
const MAX_NAME_BYTES: usize = 100;

/// `GET /slots`. Where requests of several keys share nothing, each hears of its own.
pub async fn list(State(app): State<Arc<App>>, request: Request) -> Response {
    let scope = scope(&app, &request);
    drop(request);
    let listed = async {
        let scope = scope?;
        if app.keeper.kept().condition != Condition::Loaded {
            return Ok((0..app.facts().n_slots).map(|id| description(&app, id, None)).collect());
        }
        let model = app.keeper.hold().await?;
        let slots = tokio::task::spawn_blocking(move || model.engine().slots()).await;
        let slots = slots.map_err(|_| Fault::new(Kind::Internal, "internal error: a request was dropped"))?;
        let slots = slots.map_err(Fault::of_engine)?;
        let own = |facts: &SlotFacts| facts.scope == scope || facts.n_held == 0;
        let describe = |(id, facts): (u32, SlotFacts)| match own(&facts) {
            true => description(&app, id, Some(facts)),
            false => {
                json!({"id": id, "n_ctx": app.facts().n_ctx, "is_processing": facts.doing != Doing::Nothing})
            }
        };
        Ok((0..).zip(slots).map(describe).collect::<Vec<Value>>())
    };
    answer(listed.await.map(Value::Array))
}

/// `POST /slots/{id}?action=save`, `restore` or `erase`.
pub async fn act(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Response {
    let parse = move |app: &App, _: &Caller, fields: Fields| Deed::read(app, (&id, query.as_deref()), fields);
    let acted = with_model(&app, request, parse, |app, caller, Deed { id, action }| {
        let (engine, scope) = (app.engine()?, app.scope(caller));
        let started = Instant::now();
        let (mut facts, action) = match action {
            Action::Erase => {
                let n_erased = engine.erase_slot(id, scope).map_err(Fault::of_engine)?;
                (json!({"n_erased": n_erased}), "erase")
            }
            Action::Save(name) => (save(app, &engine, (id, scope), &name)?, "save"),
            Action::Restore(name) => (restore(app, &engine, (id, scope), &name)?, "restore"),
        };
        let ms = (started.elapsed().as_secs_f64() * 1e3).round();
        log::write("slot", json!({"id": caller.id, "slot": id, "action": action, "ms": ms}));
        facts["id_slot"] = json!(id);
        facts["ms"] = json!(ms);
        Ok(facts)
    });
    answer(acted.await.map(|(_, _, facts)| facts))
}

/// Removes what saves left in `dir` that were broken off by the end of their process, those of single keys too, and says so.
pub fn sweep(dir: &FilePath) {
    let is_scope = |name: &str| name.len() == 16 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let of_scopes = entries.filter(|entry| {
        entry.file_name().to_str().is_some_and(is_scope) && entry.file_type().is_ok_and(|kind| kind.is_dir())
    });
    let dirs: Vec<PathBuf> = of_scopes.map(|entry| entry.path()).chain([dir.to_path_buf()]).collect();
    for dir in dirs {
        match engine::sweep(&dir, |name| check_name(name).is_ok()) {
            Ok(swept) => {
                for file in swept {
                    log::write(
                        "slot",
                        json!({"file": file, "is": "left by a save that was broken off; removed"}),
                    );
                }
            }
            // It is made when something is saved.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => log::write("slot", json!({"problem": Error::io(&dir, error).to_string()})),
        }
    }
}

/// What is to be done with a slot.
pub struct Deed {
    id: u32,
    action: Action,
}

enum Action {
    /// To the file of this name.
    Save(String),
    Restore(String),
    Erase,
}

impl Pictures for Deed {}

impl Deed {
    /// Reads what `query` asks to be done with the slot `id`.
    ///
    /// # Errors
    /// `Request`, naming the field; `NotFound` where it names another model.
    pub fn read(app: &App, (id, query): (&str, Option<&str>), mut fields: Fields) -> Result<Deed> {
        app.take_model(&mut fields)?;
        let id = id.parse().map_err(|_| Fault::of("slot", "expected a number"))?;
        let action = match query.and_then(|query| query.strip_prefix("action=")) {
            Some("erase") => Action::Erase,
            Some("save") => Action::Save(name(&mut fields)?),
            Some("restore") => Action::Restore(name(&mut fields)?),
            _ => return Err(Fault::of("action", "expected save, restore or erase, as ?action=save")),
        };
        fields.finish(&[])?;
        Ok(Deed { id, action })
    }
}

fn save(app: &App, engine: &Engine, (id, scope): (u32, Scope), name: &str) -> Result<Value> {
    let path = place(app, scope, name)?;
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(|cause| unwritten(name, &Error::io(dir, cause)))?;
    }
    let saved = engine.save_slot(id, scope, &path, &app.stop).map_err(|error| unwritten(name, &error))?;
    Ok(json!({"filename": name, "n_saved": saved.n_positions, "n_written": saved.n_bytes}))
}

fn restore(app: &App, engine: &Engine, (id, scope): (u32, Scope), name: &str) -> Result<Value> {
    let path = place(app, scope, name)?;
    let n_read = fs::metadata(&path).map(|metadata| metadata.len()).unwrap_or(0);
    let restored = engine.restore_slot(id, scope, &path, &app.stop).map_err(|error| unread(name, error))?;
    let n_pictures = restored.conversation.pictures.len();
    Ok(
        json!({"filename": name, "n_restored": restored.n_positions, "n_pictures": n_pictures, "n_read": n_read}),
    )
}

/// Takes the field `filename`.
fn name(fields: &mut Fields) -> Result<String> {
    let name = fields.text("filename")?.unwrap_or_default();
    check_name(&name)?;
    Ok(name)
}

/// The path of the file `name` in the directory for files of `scope`.
fn place(app: &App, scope: Scope, name: &str) -> Result<PathBuf> {
    let Some(dir) = &app.options.slot_dir else {
        return Err(Fault::new(Kind::NotFound, "this server saves no slots"));
    };
    let dir = match scope.digest() {
        None => dir.clone(),
        Some(digest) => dir.join(hex(&digest[..8])),
    };
    let path = dir.join(name);
    if fs::symlink_metadata(&path).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(Fault::of("filename", format_args!("{name} is no file")));
    }
    Ok(path)
}

/// Whether `name` names a file in a directory and cannot mean anything else, on any system.
fn check_name(name: &str) -> Result<()> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=MAX_NAME_BYTES).contains(&name.len())
        && name.bytes().all(is_plain)
        && !name.starts_with(['.', '-'])
    {
        return Ok(());
    }
    let expected = format_args!(
        "expected a name of up to {MAX_NAME_BYTES} letters, digits, dots, dashes and underscores, which begins with a letter or digit"
    );
    Err(Fault::of("filename", expected))
}

/// What a client hears of a file that could not be written: nothing of the paths here.
fn unwritten(name: &str, error: &Error) -> Fault {
    match error {
        Error::Io { .. } => {
            log::write("slot", json!({"file": name, "problem": error.to_string()}));
            Fault::new(Kind::Internal, format!("{name}: it could not be written; the server's log says why"))
        }
        Error::Cancelled => Fault::new(Kind::Leaving, "this server is about to end"),
        Error::Request(text) if text.contains("no saved conversation") => {
            Fault::of("filename", format_args!("{name} exists and is no saved conversation"))
        }
        Error::Request(text) => Fault::request(text.clone()),
        error => Fault::new(Kind::Internal, error.to_string()),
    }
}

fn unread(name: &str, error: Error) -> Fault {
    match error {
        Error::Io { cause, .. } if cause.kind() == ErrorKind::NotFound => {
            Fault::new(Kind::NotFound, format!("{name}: there is no such file"))
        }
        Error::Format { problem, .. } | Error::Unsupported { problem, .. } => {
            Fault::of("filename", format_args!("{name}: {problem}"))
        }
        Error::Limit { max, found, .. } => {
            Fault::of("filename", format_args!("{name}: at most {max} positions, found {found}"))
        }
        error => unwritten(name, &error),
    }
}

fn scope(app: &App, request: &Request) -> Result<Scope> {
    let caller = request.extensions().get::<Caller>();
    caller
        .map(|caller| app.scope(caller))
        .ok_or_else(|| Fault::new(Kind::Internal, "internal error: a request without an id"))
}

fn description(app: &App, id: u32, facts: Option<SlotFacts>) -> Value {
    let doing = facts.map_or(Doing::Nothing, |facts| facts.doing);
    let word = match doing {
        Doing::Nothing => "idle",
        Doing::Lent => "file",
        Doing::Picture => "picture",
        Doing::Prompt => "prompt",
        Doing::Answer => "answer",
    };
    json!({
        "id": id,
        "n_ctx": app.facts().n_ctx,
        "is_processing": doing != Doing::Nothing,
        "state": word,
        "n_held": facts.map_or(0, |facts| facts.n_held),
        "n_pictures": facts.map_or(0, |facts| facts.n_pictures),
        "can_be_saved": facts.is_some_and(|facts| facts.can_be_saved),
    })
}

fn answer(value: Result<Value>) -> Response {
    value.map_or_else(|fault| refusal(Dialect::OpenAi, &fault), |value| json_response(&value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_name_a_file_here() {
        for name in ["a", "talk-1.owlet", "A_b.c", "9", &"x".repeat(100)] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            ".hidden",
            "-r",
            "a/b",
            "../a",
            "a\\b",
            "a\0",
            "a b",
            "a\n",
            "C:",
            "é",
            "a%2fb",
            &"x".repeat(101),
        ] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
    }
}
