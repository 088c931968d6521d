//! From a request to its response, the same for all dialects: read, find a place, get ready, wait for its turn, answer, whole or as it
//! is written.

use super::answering::Answering;
use super::app::App;
use super::caller::Caller;
use super::dialect::{Dialect, json_response, refusal};
use super::fault::{Fault, Kind, Result};
use super::fields::Fields;
use super::gate::{Place, Turn};
use super::keeper::Held;
use super::log;
use super::picture::{Picture, Pictures};
use super::question::{Prepared, Question};
use super::ready::{leaving, with_model};
use super::stream::{self, Left, Writer};
use super::transcript;
use super::voice::Voice;
use crate::engine::{Event, FinishReason, Outcome};
use crate::prompt::Tokenizer;
use axum::extract::Request;
use axum::response::Response;
use serde_json::json;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

/// How often a stream says that it lives, when there is nothing else to say.
const PING: Duration = Duration::from_secs(10);

/// Finds the one who says an answer, of tokens of this vocabulary.
pub type Casting = Box<dyn FnOnce(&Tokenizer, &[Prepared]) -> Box<dyn Voice> + Send>;

/// What a dialect reads off a request.
pub struct Asked {
    /// One, but for completions.
    pub questions: Vec<Question>,
    pub streams: bool,
    /// Answers to each.
    pub n_choices: u32,
    /// Who says the answer, once it is known what the model gets to see.
    pub voice: Casting,
}

impl Pictures for Asked {
    fn pictures(&mut self) -> Vec<&mut Picture> {
        self.questions.iter_mut().flat_map(Pictures::pictures).collect()
    }
}

/// Reads a request.
pub type Parse = fn(&App, &Caller, Fields) -> Result<Asked>;

/// Answers `request`, which `parse` reads.
pub async fn answer(app: Arc<App>, dialect: Dialect, request: Request, parse: Parse) -> Response {
    let answered = async {
        let ready = with_model(&app, request, parse, |app, caller, asked: Asked| {
            let prepared = asked.questions.into_iter().map(|question| question.prepare(app, caller));
            let prepared = prepared.collect::<Result<Vec<_>>>()?;
            let voice = (asked.voice)(&app.engine()?.loaded().tokenizer, &prepared);
            Ok((prepared, voice, asked.streams, asked.n_choices))
        });
        let ((place, model), caller, (prepared, mut voice, streams, n_choices)) = ready.await?;
        if app.options.logs_prompts {
            prepared.iter().for_each(|prepared| log_question(&caller, prepared));
        }
        let deadline = Instant::now() + app.limits().answer;
        let task = Task { app: Arc::clone(&app), caller, place, model, prepared, n_choices, deadline };
        if !streams {
            task.whole(voice.as_mut()).await?;
            return Ok(json_response(&voice.whole()));
        }
        let (writer, response) = stream::stream(voice.content_type());
        tokio::spawn(async move { task.streamed(voice.as_mut(), &writer).await });
        Ok(response)
    };
    answered.await.unwrap_or_else(|fault: Fault| refusal(dialect, &fault))
}

/// A request that is ready to be answered, as often as was asked for.
struct Task {
    app: Arc<App>,
    caller: Caller,
    place: Place,
    model: Arc<Held>,
    /// What is asked, as often as `n_choices` says each.
    prepared: Vec<Prepared>,
    n_choices: u32,
    deadline: Instant,
}

/// Why a stream ends before its answer does.
enum Broken {
    Left,
    Fault(Fault),
}

impl From<Left> for Broken {
    fn from(_: Left) -> Broken {
        Broken::Left
    }
}

impl From<Fault> for Broken {
    fn from(fault: Fault) -> Broken {
        Broken::Fault(fault)
    }
}

impl Task {
    /// Answers one choice after the other: what one has read, the next one knows.
    async fn whole(self, voice: &mut dyn Voice) -> Result<()> {
        for choice in self.choices() {
            let turn = timeout_at(self.deadline, self.place.turn()).await.map_err(|_| too_late())??;
            let mut answering = self.begin(choice, turn)?;
            let outcome = loop {
                match answering.next().await? {
                    Event::Encoded { image, source } => voice.saw_picture(image, source),
                    Event::Chosen(token) => voice.chose(choice, token),
                    Event::Read(id, logprob) => voice.read(choice, id, logprob),
                    Event::Warning(text) => self.warn(&text),
                    Event::Done(outcome) => break outcome,
                    _ => {}
                }
            };
            voice.end(choice, self.finished(choice, outcome)?);
        }
        Ok(())
    }

    /// Answers as it is written. Whatever goes wrong now is part of the response, since that has begun.
    async fn streamed(self, voice: &mut dyn Voice, to: &Writer) {
        match self.stream(voice, to).await {
            Ok(()) => {}
            Err(Broken::Left) => log::write("left", json!({"id": self.caller.id})),
            Err(Broken::Fault(fault)) => {
                log::write("failed", json!({"id": self.caller.id, "status": fault.kind.status().as_u16()}));
                // A client that has left as well is not told.
                let _ = to.write(voice.fault(&fault)).await;
            }
        }
    }

    async fn stream(&self, voice: &mut dyn Voice, to: &Writer) -> std::result::Result<(), Broken> {
        for choice in self.choices() {
            let turn = self.turn(voice, to).await?;
            let mut answering = self.begin(choice, turn)?;
            to.write(voice.begin(choice)).await?;
            let mut last_step = None;
            let outcome = loop {
                let event = tokio::select! {
                    event = answering.next() => Some(event?),
                    () = to.left() => return Err(Broken::Left),
                    () = sleep(PING) => None,
                };
                match event {
                    Some(Event::Done(outcome)) => break outcome,
                    Some(Event::Chosen(token)) => voice.chose(choice, token),
                    Some(Event::Read(id, logprob)) => voice.read(choice, id, logprob),
                    Some(Event::Text(text)) => to.write(voice.text(choice, &text)).await?,
                    Some(Event::Encoding { image, done, total }) => {
                        // A step may come in several pieces.
                        if last_step.replace((image, done)) != Some((image, done)) {
                            to.remark(voice, &format!("picture {}: step {done} of {total}", image + 1))
                                .await?;
                        }
                    }
                    Some(Event::Encoded { image, source }) => voice.saw_picture(image, source),
                    Some(Event::Prefill { done, total }) => {
                        to.remark(voice, &format!("prompt: {done} of {total}")).await?;
                    }
                    Some(Event::Warning(text)) => self.warn(&text),
                    Some(Event::Failed(error)) => return Err(Fault::of_engine(error).into()),
                    None => to.remark(voice, "at work").await?,
                }
            };
            to.write(voice.end(choice, self.finished(choice, outcome)?)).await?;
        }
        to.write(voice.last()).await?;
        Ok(())
    }

    /// Waits for the request's turn.
    async fn turn(&self, voice: &dyn Voice, to: &Writer) -> std::result::Result<Turn, Broken> {
        let turn = self.place.turn();
        tokio::pin!(turn);
        loop {
            tokio::select! {
                turn = turn.as_mut() => return Ok(turn?),
                () = to.left() => return Err(Broken::Left),
                () = sleep_until(self.deadline) => return Err(too_late().into()),
                () = sleep(PING) => to.remark(voice, "waiting for others to be answered").await?,
            }
        }
    }

    /// Those of the first question come first.
    fn choices(&self) -> Range<u32> {
        0..self.n_choices * self.prepared.len() as u32
    }

    fn prepared(&self, choice: u32) -> Result<&Prepared> {
        let prepared = self.prepared.get((choice / self.n_choices) as usize);
        prepared.ok_or_else(|| Fault::new(Kind::Internal, "internal error: a choice without a question"))
    }

    /// Choices of a question differ in their seeds, and each has a turn of its own, which goes to whoever follows the engine: nobody holds
    /// one who may have to wait for a client.
    fn begin(&self, choice: u32, turn: Turn) -> Result<Answering> {
        let request = self.prepared(choice)?.request.clone();
        let seed = request.request().sampling.seed.wrapping_add((choice % self.n_choices).into());
        let request = request.with_seed(seed).map_err(Fault::of_request)?;
        Answering::begin(&self.app, request, (turn, Arc::clone(&self.model)), self.deadline)
    }

    /// Notes an answer, which was not cut off.
    fn finished(&self, choice: u32, outcome: Outcome) -> Result<Outcome> {
        let ms = |time: Duration| (time.as_secs_f64() * 1e3).round();
        let mut facts = json!({
            "id": self.caller.id,
            "key": self.caller.key,
            "pictures": self.prepared(choice)?.pictures.len(),
            "prompt": outcome.n_prompt,
            "reused": outcome.n_reused,
            "completion": outcome.ids.len(),
            "finish": outcome.finish_reason.word(),
            "encode_ms": ms(outcome.timings.encode),
            "prefill_ms": ms(outcome.timings.prefill),
            "decode_ms": ms(outcome.timings.decode),
        });
        if self.app.options.logs_prompts {
            facts["text"] = json!(outcome.text);
        }
        log::write("answer", facts);
        if outcome.finish_reason == FinishReason::Cancelled { Err(leaving()) } else { Ok(outcome) }
    }

    fn warn(&self, text: &str) {
        log::write("warning", json!({"id": self.caller.id, "text": text}));
    }
}

fn log_question(caller: &Caller, prepared: &Prepared) {
    let mut facts = transcript::question(prepared.request.request(), &prepared.pictures);
    facts["id"] = json!(caller.id);
    facts["key"] = json!(caller.key);
    log::write("question", facts);
}

fn too_late() -> Fault {
    Fault::new(Kind::Timeout, "the answer took longer than this server allows")
}
