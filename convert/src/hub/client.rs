//! Requests to the hub about one model: with patience that ends, redirects that are looked at, a token that only the hub
//! gets to see, and errors that say what to do.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ggml::Cancel;
use serde_json::Value;
use ureq::http::Response;
use ureq::{Agent, Body};

use super::address::Address;
use super::answers::{LINK_BYTES_MAX, next_link};
use super::environment::{Environment, Token};
use super::name::ModelName;
use super::tries::{Contact, Failure, GLANCE, PAUSE_MAX, Tries};
use crate::error::{Error, Result};

const REDIRECTS_MAX: usize = 5;
const JSON_BYTES_MAX: u64 = 4 << 20;

#[derive(Debug)]
pub struct Client {
    agent: Agent,
    pub(super) name: ModelName,
    endpoint: Address,
    token: Option<Token>,
    pub(super) contact: Contact,
    /// The thread that watches for a cancellation ends with it.
    _alive: Arc<()>,
}

/// What a server said in the end, and which one.
pub struct Answer {
    pub response: Response<Body>,
    pub address: Address,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }
}

/// The bytes of a file that are asked for: from the first one to the one before `end`, or all there are.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    pub start: u64,
    pub end: Option<u64>,
    /// The state of the file that the bytes before `start` are of.
    pub etag: Option<&'a str>,
}

impl Client {
    pub fn new(environment: &Environment, name: ModelName, cancel: &Cancel) -> Client {
        let patience = Some(environment.patience);
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // each one is looked at here
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("owlet/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .timeout_resolve(patience)
            .timeout_connect(patience)
            .timeout_recv_response(patience)
            .timeout_per_read(patience)
            .timeout_per_write(patience)
            .build();
        let agent = config.new_agent();
        let alive = Arc::new(());
        watch(&agent, cancel, &alive);
        Client {
            agent,
            name,
            endpoint: environment.endpoint.clone(),
            token: environment.token.clone(),
            contact: Contact::new(environment.patience, cancel.clone()),
            _alive: alive,
        }
    }

    /// The address of `path` at the hub.
    pub fn at(&self, path: &str) -> Address {
        self.endpoint.below(path)
    }

    /// Asks for what is at `address`, or for `wanted` of it.
    ///
    /// # Errors
    /// Where nobody answers, and for redirects that are too many or lead from https to http. Any status is an answer.
    pub fn get(&self, address: &Address, wanted: Option<Wanted>) -> Result<Answer, Failure> {
        let mut at = address.clone();
        for _ in 0..=REDIRECTS_MAX {
            let mut request = self.agent.get(at.to_string());
            if let Some(token) = self.token.as_ref().filter(|_| self.may_see_token(&at)) {
                request = request.header("authorization", token.header());
            }
            if let Some(Wanted { start, end, etag }) = wanted {
                let last = end.map_or_else(String::new, |end| end.saturating_sub(1).to_string());
                request = request.header("range", format!("bytes={start}-{last}"));
                if let Some(etag) = etag {
                    request = request.header("if-range", etag);
                }
            }
            let response = request.call().map_err(|error| self.unanswered(&at, &error))?;
            self.contact.reached();
            if !response.status().is_redirection() {
                return Ok(Answer { response, address: at });
            }
            let location = response.headers().get("location").and_then(|location| location.to_str().ok());
            let next = location
                .filter(|location| location.len() <= LINK_BYTES_MAX)
                .and_then(|location| at.to(location));
            let next = next.filter(|next| next.is_https() || !at.is_https());
            at = next.ok_or_else(|| {
                Failure::lasting(self.network(format!("{} redirects to no sound https address", at.server())))
            })?;
        }
        let what = format!("{} redirects more than {REDIRECTS_MAX} times", address.server());
        Err(Failure::lasting(self.network(what)))
    }

    /// Only the hub itself, and only where nobody listens in.
    fn may_see_token(&self, at: &Address) -> bool {
        at.is_of_server(&self.endpoint) && at.is_private()
    }

    /// The object or array at `address`, and where the next one of several is.
    ///
    /// # Errors
    /// After several tries; see [`Client::get`].
    pub fn json(&self, address: &Address) -> Result<(Value, Option<Address>)> {
        let mut tries = Tries::new(&self.contact);
        loop {
            match self.json_once(address) {
                Ok(found) => return Ok(found),
                Err(failure) => tries.again(failure)?,
            }
        }
    }

    fn json_once(&self, address: &Address) -> Result<(Value, Option<Address>), Failure> {
        let mut answer = self.get(address, None)?;
        if answer.status() != 200 {
            return Err(self.refused(&answer, &self.name.to_string()));
        }
        let next = answer.header("link").and_then(next_link).and_then(|link| answer.address.to(link));
        let body = answer.response.body_mut().with_config().limit(JSON_BYTES_MAX).read_to_vec();
        let body = body.map_err(|error| match error {
            ureq::Error::BodyExceedsLimit(max) => Failure::lasting(Error::limit(
                &self.name,
                format!("{} says more", answer.address.server()),
                max,
            )),
            error => self.unanswered(&answer.address, &error),
        })?;
        let json = serde_json::from_slice(&body).map_err(|error| {
            let server = answer.address.server();
            Failure::lasting(self.network(format!("{server} is no hub: its answer is not JSON ({error})")))
        })?;
        Ok((json, next.filter(|next| next.is_of_server(&self.endpoint))))
    }

    /// What a status other than success means to a person; `place` is what was asked for.
    pub fn refused(&self, answer: &Answer, place: &str) -> Failure {
        let server = answer.address.server();
        let status = answer.status();
        let code = answer.header("x-error-code").unwrap_or_default();
        let what = match (status, code) {
            (408 | 429 | 500..=599, _) => {
                let wait = answer.header("retry-after").and_then(|text| text.parse().ok());
                let what = format!("{server} answers {status}");
                let wait = wait.map(Duration::from_secs).map(|wait| wait.min(PAUSE_MAX));
                return Failure { wait, ..Failure::passing(Error::network(place, what)) };
            }
            (_, "RevisionNotFound") => "the hub has no such revision of it: check --revision".to_string(),
            (_, "EntryNotFound") => "the hub has no such file any more".to_string(),
            (_, "GatedRepo") | (403, _) => {
                let page = self.at(&self.name.to_string());
                format!(
                    "its authors ask for consent: give it at {page}, and set HF_TOKEN to a token of that account"
                )
            }
            (401, code) if code != "RepoNotFound" && self.token.is_some() => {
                format!("{server} refuses the token: check HF_TOKEN, or log in anew")
            }
            (401 | 404, _) => {
                format!(
                    "{server} knows no such model, or it is private: check the name, or set HF_TOKEN to a token that may read it"
                )
            }
            _ => format!("{server} answers {status}"),
        };
        Failure::lasting(Error::network(place, what))
    }

    /// Nobody answered, or stopped in the middle.
    pub fn unanswered(&self, at: &Address, error: &ureq::Error) -> Failure {
        let server = at.server();
        let seconds = self.contact.patience.as_secs();
        let (what, may_pass) = match error {
            ureq::Error::Timeout(_) => (format!("{server} says nothing for {seconds} s"), true),
            ureq::Error::HostNotFound => (format!("{server} is not found"), true),
            ureq::Error::Tls(_) | ureq::Error::Rustls(_) => {
                (format!("{server} is not who it says it is, or its certificate is unsound ({error})"), false)
            }
            error => (format!("{server} cannot be reached or breaks off ({error})"), true),
        };
        Failure { error: self.network(what), may_pass, wait: None }
    }

    /// `what` about the model.
    pub fn network(&self, what: impl std::fmt::Display) -> Error {
        Error::network(&self.name, what)
    }
}

/// Breaks every connection off when `cancel` is raised.
fn watch(agent: &Agent, cancel: &Cancel, alive: &Arc<()>) {
    let (agent, cancel, alive) = (agent.clone(), cancel.clone(), Arc::downgrade(alive));
    let watch = move || {
        while alive.strong_count() > 0 {
            if cancel.is_cancelled() {
                return agent.shutdown();
            }
            thread::sleep(GLANCE);
        }
    };
    // Without it a cancellation waits for the next byte, or until patience ends.
    let _ = thread::Builder::new().name("hub watch".to_string()).spawn(watch);
}
