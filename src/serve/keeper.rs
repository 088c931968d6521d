//! The model of a server: tested when the server starts, given back when nobody has asked for a while, loaded again for whoever asks
//! next. One task does all of that, one thing after the other, so none of it happens twice; requests wait for it, and hold the
//! model as long as they need it.

use super::facts::Facts;
use super::fault::{Fault, Kind, Result};
use super::log;
use crate::engine::{CacheCounts, Engine};
use crate::error::{self, Error};
use ggml::Cancel;
use serde_json::json;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};

/// Where a server's model comes from.
pub struct Source {
    /// Opens it, and starts an engine on it.
    pub open: Box<dyn Fn() -> error::Result<Engine> + Send + Sync>,
    /// Computes what its file has recorded; yields what is wrong, if something is.
    pub self_test: Option<SelfTest>,
}

pub type SelfTest = Box<dyn Fn(&Cancel) -> error::Result<Option<String>> + Send + Sync>;

pub struct Keeper {
    source: Source,
    facts: Facts,
    /// After so long without a request the model is given back.
    idle: Option<Duration>,
    /// Ends a self-test.
    stop: Cancel,
    inside: Mutex<Inside>,
    /// Tells those who wait for the model.
    changed: watch::Sender<()>,
    /// Tells the task that there is something to do.
    wanted: Notify,
}

struct Inside {
    state: State,
    /// Requests that hold the model.
    n_users: usize,
    /// When the last of them let go.
    last_used: Instant,
    n_loads: u64,
    /// What became of pictures in engines that are gone.
    pictures: CacheCounts,
}

enum State {
    /// Its self-test is still to be passed.
    Untested(Arc<Engine>),
    Loaded(Arc<Engine>),
    /// Given back.
    Resting,
    /// Somebody waits for it.
    Loading,
    /// It could not be loaded; the next who asks has it tried again.
    Failed(Fault),
    /// It computes something else than it should.
    Wrong(Fault),
}

/// What the task has to do.
enum Next {
    Load,
    Rest(Arc<Engine>),
    Wait,
    WaitUntil(Instant),
}

/// How the model is, in a word and for readiness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    Testing,
    Loaded,
    Resting,
    Loading,
    Failed,
    Wrong,
}

impl Condition {
    pub fn word(self) -> &'static str {
        match self {
            Condition::Testing => "its self-test runs",
            Condition::Loaded => "loaded",
            Condition::Resting => "not in memory; the next request loads it",
            Condition::Loading => "being loaded",
            Condition::Failed => "could not be loaded again",
            Condition::Wrong => "failed its self-test",
        }
    }
}

/// What metrics tell of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    pub condition: Condition,
    pub n_loads: u64,
    pub pictures: CacheCounts,
}

/// The model, held by a request: it stays until this is dropped.
pub struct Held {
    keeper: Arc<Keeper>,
    engine: Arc<Engine>,
}

impl Keeper {
    /// Opens the model.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn open(source: Source, idle: Option<Duration>, stop: Cancel) -> error::Result<Keeper> {
        let engine = (source.open)()?;
        let facts = Facts::of(&engine);
        let inside = Inside {
            state: State::Untested(Arc::new(engine)),
            n_users: 0,
            last_used: Instant::now(),
            n_loads: 1,
            pictures: CacheCounts::default(),
        };
        let (changed, _) = watch::channel(());
        let (inside, wanted) = (Mutex::new(inside), Notify::new());
        Ok(Keeper { source, facts, idle, stop, inside, changed, wanted })
    }

    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    pub fn kept(&self) -> Kept {
        let inside = self.inside();
        let condition = match &inside.state {
            State::Untested(_) => Condition::Testing,
            // The thread that computes is gone: that is our mistake, and no request will be answered.
            State::Loaded(engine) if !engine.is_running() => Condition::Failed,
            State::Loaded(_) => Condition::Loaded,
            State::Resting => Condition::Resting,
            State::Loading => Condition::Loading,
            State::Failed(_) => Condition::Failed,
            State::Wrong(_) => Condition::Wrong,
        };
        let now = match &inside.state {
            State::Untested(engine) | State::Loaded(engine) => engine.cache_counts(),
            _ => CacheCounts::default(),
        };
        Kept { condition, n_loads: inside.n_loads, pictures: inside.pictures + now }
    }

    /// When the model is given back if nobody asks until then.
    pub fn rests_at(&self) -> Option<Instant> {
        let inside = self.inside();
        let is_loaded = matches!(inside.state, State::Loaded(_) | State::Untested(_));
        let since = if inside.n_users > 0 { Instant::now() } else { inside.last_used };
        self.idle.filter(|_| is_loaded).map(|idle| since + idle)
    }

    /// The engine of a request that [holds](Keeper::hold) the model.
    ///
    /// # Errors
    /// `Internal` where none does.
    pub fn engine(&self) -> Result<Arc<Engine>> {
        match &self.inside().state {
            State::Loaded(engine) => Ok(Arc::clone(engine)),
            _ => Err(Fault::new(Kind::Internal, "internal error: a request without the model")),
        }
    }

    /// The model, once it is loaded and tested; has it loaded where it is not.
    ///
    /// # Errors
    /// `NoModel` where that fails.
    pub async fn hold(self: &Arc<Keeper>) -> Result<Held> {
        let mut changed = self.changed.subscribe();
        let mut has_waited = false;
        loop {
            {
                let mut inside = self.inside();
                match &inside.state {
                    State::Loaded(engine) => {
                        let engine = Arc::clone(engine);
                        inside.n_users += 1;
                        return Ok(Held { keeper: Arc::clone(self), engine });
                    }
                    State::Wrong(fault) => return Err(fault.clone()),
                    State::Failed(fault) if has_waited => return Err(fault.clone()),
                    State::Resting | State::Failed(_) => {
                        inside.state = State::Loading;
                        self.wanted.notify_one();
                    }
                    State::Loading | State::Untested(_) => {}
                }
            }
            has_waited = true;
            // Whoever would tell is this keeper itself.
            let _ = changed.changed().await;
        }
    }

    /// Tests, loads and gives back, for ever.
    pub async fn tend(self: Arc<Keeper>) {
        self.test().await;
        loop {
            match self.next() {
                Next::Load => self.load().await,
                Next::Rest(engine) => {
                    log::write("model", json!({"is": Condition::Resting.word()}));
                    // Its thread is waited for, and its memory unmapped.
                    let _ = spawn_blocking(move || drop(engine)).await;
                }
                Next::Wait => self.wanted.notified().await,
                Next::WaitUntil(until) => tokio::select! {
                    () = self.wanted.notified() => {}
                    () = sleep_until(until) => {}
                },
            }
        }
    }

    fn next(&self) -> Next {
        let mut inside = self.inside();
        let until = match &inside.state {
            State::Loading => return Next::Load,
            State::Loaded(_) if inside.n_users == 0 => self.idle.map(|idle| inside.last_used + idle),
            _ => None,
        };
        match until {
            None => Next::Wait,
            Some(until) if until > Instant::now() => Next::WaitUntil(until),
            Some(_) => inside.rest().map_or(Next::Wait, Next::Rest),
        }
    }

    async fn test(self: &Arc<Keeper>) {
        let keeper = Arc::clone(self);
        let tested = spawn_blocking(move || match &keeper.source.self_test {
            Some(self_test) => self_test(&keeper.stop),
            None => Ok(None),
        });
        let problem = match tested.await {
            Ok(Ok(problem)) => problem,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("it did not come to its end".into()),
        };
        let mut inside = self.inside();
        inside.last_used = Instant::now();
        inside.state = match (std::mem::replace(&mut inside.state, State::Resting), problem) {
            (State::Untested(engine), None) => State::Loaded(engine),
            // Not told any more: the server is about to end.
            _ if self.stop.is_cancelled() => {
                State::Wrong(Fault::new(Kind::Leaving, "this server is about to end"))
            }
            (_, problem) => {
                log::write("model", json!({"is": Condition::Wrong.word(), "problem": problem}));
                let text = "the model failed its self-test on this machine; the server's log says how";
                State::Wrong(Fault::new(Kind::NoModel, text))
            }
        };
        drop(inside);
        self.changed.send_replace(());
    }

    async fn load(self: &Arc<Keeper>) {
        let keeper = Arc::clone(self);
        let opened = spawn_blocking(move || (keeper.source.open)()).await;
        let opened =
            opened.unwrap_or_else(|_| Err(Error::internal("opening the model did not come to its end")));
        let opened = opened.map_err(|error| {
            log::write("model", json!({"is": Condition::Failed.word(), "problem": error.to_string()}));
            match &error {
                Error::Io { cause, .. } if cause.kind() == ErrorKind::NotFound => "its file is gone",
                _ => "the server's log says why",
            }
        });
        let opened = opened.and_then(|engine| match Facts::of(&engine).digest == self.facts.digest {
            true => Ok(engine),
            false => {
                let problem = "the file is another one than when the server started";
                log::write("model", json!({"is": Condition::Failed.word(), "problem": problem}));
                Err(problem)
            }
        });
        let mut inside = self.inside();
        inside.last_used = Instant::now();
        inside.state = match opened {
            Ok(engine) => {
                log::write("model", json!({"is": Condition::Loaded.word()}));
                inside.n_loads += 1;
                State::Loaded(Arc::new(engine))
            }
            Err(why) => State::Failed(Fault::new(
                Kind::NoModel,
                format!("the model could not be loaded again: {why}"),
            )),
        };
        drop(inside);
        self.changed.send_replace(());
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    /// Takes the engine out.
    fn rest(&mut self) -> Option<Arc<Engine>> {
        match std::mem::replace(&mut self.state, State::Resting) {
            State::Loaded(engine) => {
                self.pictures = self.pictures + engine.cache_counts();
                Some(engine)
            }
            other => {
                self.state = other;
                None
            }
        }
    }
}

impl Held {
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut inside = self.keeper.inside();
        inside.n_users -= 1;
        inside.last_used = Instant::now();
        if inside.n_users == 0 {
            self.keeper.wanted.notify_one();
        }
    }
}
