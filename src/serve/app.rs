//! What all requests share.

use super::caller::Caller;
use super::facts::Facts;
use super::fault::{Fault, Kind, Result};
use super::fields::Fields;
use super::gate::Gate;
use super::keeper::{Condition, Keeper};
use super::metrics::{Metrics, Now};
use super::options::{Limits, Options};
use super::time;
use crate::engine::{Engine, Scope};
use ggml::Cancel;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::Semaphore;

/// Requests whose pictures are decoded at the same time, each within the memory of one picture.
pub const N_PREPARED: usize = 2;

/// Requests whose pictures are fetched at the same time.
pub const N_FETCHED: usize = 4;

/// Bodies of the largest size that may be held at the same time.
const N_BODIES: u64 = 4;

/// Bodies are counted in steps of so many bytes.
pub const BODY_STEP: u64 = 1024;

pub struct App {
    pub keeper: Arc<Keeper>,
    pub options: Options,
    pub gate: Arc<Gate>,
    pub metrics: Metrics,
    /// For bodies, in steps of [`BODY_STEP`].
    pub room: Arc<Semaphore>,
    pub preparing: Arc<Semaphore>,
    pub fetching: Arc<Semaphore>,
    /// Ends every answer.
    pub stop: Cancel,
    pub started_s: u64,
    is_leaving: AtomicBool,
    n_requests: AtomicU64,
    /// What makes ids of this server differ from those of another.
    salt: u64,
}

impl App {
    /// `stop` ends every answer.
    pub fn new(keeper: Keeper, mut options: Options, stop: Cancel) -> App {
        let facts = keeper.facts();
        options.limits.max_tokens = options.limits.max_tokens.min(facts.n_ctx);
        let Limits { n_queued, n_of_key, max_body_bytes, .. } = options.limits;
        let gate = Gate::new(facts.n_slots, n_queued, options.keys.len(), n_of_key);
        let n_steps = (N_BODIES * max_body_bytes).div_ceil(BODY_STEP).min(Semaphore::MAX_PERMITS as u64);
        App {
            keeper: Arc::new(keeper),
            options,
            gate: Arc::new(gate),
            metrics: Metrics::default(),
            room: Arc::new(Semaphore::new(n_steps as usize)),
            preparing: Arc::new(Semaphore::new(N_PREPARED)),
            fetching: Arc::new(Semaphore::new(N_FETCHED)),
            stop,
            started_s: time::now_s(),
            is_leaving: AtomicBool::new(false),
            n_requests: AtomicU64::new(0),
            // The hasher's keys are the system's random numbers.
            salt: RandomState::new().build_hasher().finish(),
        }
    }

    /// About the model, whether it is loaded or not.
    pub fn facts(&self) -> &Facts {
        self.keeper.facts()
    }

    /// For requests that hold the model.
    ///
    /// # Errors
    /// `Internal` where none does.
    pub fn engine(&self) -> Result<Arc<Engine>> {
        self.keeper.engine()
    }

    pub fn limits(&self) -> &Limits {
        &self.options.limits
    }

    /// Whether `name` is what the loaded model may be called.
    fn is_model(&self, name: &str) -> bool {
        let name = name.strip_suffix(":latest").unwrap_or(name);
        name == "default" || name == self.facts().config.name
    }

    /// Takes the field `model`, whose absence means the loaded one.
    ///
    /// # Errors
    /// `NotFound` where it is another one.
    pub fn take_model(&self, fields: &mut Fields) -> Result<String> {
        let name = fields.text("model")?.unwrap_or_else(|| "default".into());
        self.check_model(&name)?;
        Ok(name)
    }

    /// # Errors
    /// `NotFound` where `name` is not what the loaded model may be called.
    pub fn check_model(&self, name: &str) -> Result<()> {
        if self.is_model(name) {
            return Ok(());
        }
        let (name, loaded) = (name.chars().take(100).collect::<String>(), &self.facts().config.name);
        let fault = Fault::new(Kind::NotFound, format!("model: expected default or {loaded}, found {name}"));
        Err(Fault { param: Some("model".into()), ..fault })
    }

    /// A name for a request that no other one has.
    pub fn next_id(&self) -> String {
        let n = self.n_requests.fetch_add(1, Ordering::Relaxed);
        format!("{:016x}{n:08x}", self.salt)
    }

    /// No further requests are taken.
    pub fn leave(&self) {
        self.is_leaving.store(true, Ordering::Release);
    }

    /// What of all that was computed a request of `caller` may find.
    pub fn scope(&self, caller: &Caller) -> Scope {
        let key = caller.key.filter(|_| self.options.is_scoped);
        key.and_then(|key| self.options.keys.digest(key)).map_or(Scope::SHARED, |digest| Scope::of(digest))
    }

    pub fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Acquire)
    }

    /// Whether requests are taken, and what there is to say about that.
    pub fn readiness(&self) -> (bool, &'static str) {
        if self.is_leaving() {
            return (false, "the server is about to end");
        }
        let condition = self.keeper.kept().condition;
        let is_ready = matches!(condition, Condition::Loaded | Condition::Resting | Condition::Loading);
        (is_ready, condition.word())
    }

    /// Ends every answer, and all waiting.
    pub fn cancel_all(&self) {
        self.stop.cancel();
        self.gate.close();
    }

    pub fn metrics_text(&self) -> String {
        let [n_answered, n_queued] = self.gate.lengths();
        let (is_ready, _) = self.readiness();
        self.metrics.text(&Now { n_answered, n_queued, kept: self.keeper.kept(), is_ready })
    }
}
