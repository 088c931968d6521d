//! What all requests share, and the way from a path to who answers there.

use super::dialect::{Dialect, refusal};
use super::fault::{Fault, Kind, Result};
use super::fields::Fields;
use super::gate::Gate;
use super::metrics::{Metrics, Now};
use super::{Limits, Options, anthropic, document, entry, health, ollama, openai, time};
use crate::engine::{Engine, Loaded};
use axum::Router;
use axum::extract::Request;
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::{get, post};
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
    pub engine: Engine,
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
    pub fn new(engine: Engine, options: Options) -> App {
        let Limits { n_queued, n_of_key, max_body_bytes, .. } = options.limits;
        let gate = Gate::new(engine.options().n_slots, n_queued, options.keys.len(), n_of_key);
        let n_steps = (N_BODIES * max_body_bytes).div_ceil(BODY_STEP).min(Semaphore::MAX_PERMITS as u64);
        App {
            engine,
            options,
            gate: Arc::new(gate),
            metrics: Metrics::default(),
            room: Arc::new(Semaphore::new(n_steps as usize)),
            preparing: Arc::new(Semaphore::new(N_PREPARED)),
            fetching: Arc::new(Semaphore::new(N_FETCHED)),
            stop: Cancel::new(),
            started_s: time::now_s(),
            is_leaving: AtomicBool::new(false),
            n_requests: AtomicU64::new(0),
            // The hasher's keys are the system's random numbers.
            salt: RandomState::new().build_hasher().finish(),
        }
    }

    pub fn loaded(&self) -> &Loaded {
        self.engine.loaded()
    }

    pub fn limits(&self) -> &Limits {
        &self.options.limits
    }

    /// Whether `name` is what the loaded model may be called.
    fn is_model(&self, name: &str) -> bool {
        let name = name.strip_suffix(":latest").unwrap_or(name);
        name == "default" || name == self.loaded().config.name
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
        let (name, loaded) = (name.chars().take(100).collect::<String>(), &self.loaded().config.name);
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

    pub fn is_ready(&self) -> bool {
        !self.is_leaving.load(Ordering::Acquire) && self.engine.is_running()
    }

    /// Ends every answer, and all waiting.
    pub fn cancel_all(&self) {
        self.stop.cancel();
        self.gate.close();
    }

    pub fn metrics_text(&self) -> String {
        let [n_answered, n_queued] = self.gate.lengths();
        let pictures = self.engine.cache_counts();
        self.metrics.text(&Now { n_answered, n_queued, pictures, is_ready: self.is_ready() })
    }
}

/// Who answers where.
pub fn router(app: &Arc<App>) -> Router {
    Router::new()
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route("/openapi.json", get(document::openapi))
        .route("/v1/models", get(openai::models))
        .route("/v1/models/{*name}", get(openai::model))
        .route("/v1/chat/completions", post(openai::chat))
        .route("/v1/completions", post(openai::complete))
        .route("/v1/embeddings", post(openai::embed))
        .route("/v1/messages", post(anthropic::messages))
        .route("/v1/messages/count_tokens", post(anthropic::count_tokens))
        .route("/api/chat", post(ollama::chat))
        .route("/api/generate", post(ollama::generate))
        .route("/api/tags", get(ollama::tags))
        .route("/api/ps", get(ollama::ps))
        .route("/api/show", post(ollama::show))
        .route("/api/version", get(ollama::version))
        .fallback(nothing)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(Arc::clone(app), entry::enter))
        .with_state(Arc::clone(app))
}

async fn nothing(request: Request) -> Response {
    let fault = Fault::new(Kind::NotFound, "there is nothing at this path");
    refusal(Dialect::of(request.uri().path()), &fault)
}

async fn wrong_method(request: Request) -> Response {
    let fault = Fault::new(Kind::Method, "this path takes another method");
    refusal(Dialect::of(request.uri().path()), &fault)
}
