//! What holds for every request, whatever it asks: it has an id, its host, origin and key are right, and it is logged.

use super::app::App;
use super::caller::Caller;
use super::dialect::{Dialect, refusal};
use super::fault::{Fault, Kind, Result};
use super::{log, origin};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use serde_json::json;
use std::sync::Arc;
use std::time::Instant;

/// Where no key is asked for: these tell nothing that a connection does not tell. The page asks for a key itself.
const OPEN_PATHS: [&str; 3] = ["/", "/livez", "/readyz"];

/// Passes a request on, or refuses it.
pub async fn enter(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = app.next_id();
    let (method, path) = (request.method().to_string(), request.uri().path().to_string());
    let admitted = origin::check(request.headers(), request.uri(), &app.options.hosts)
        .and_then(|()| key(&app, request.headers(), &path));
    let mut response = match admitted {
        Ok(key) => {
            request.extensions_mut().insert(Caller { id: id.clone(), key });
            next.run(request).await
        }
        Err(fault) => refusal(Dialect::of(&path), &fault),
    };
    let status = response.status().as_u16();
    app.metrics.saw_response(status);
    let ms = (started.elapsed().as_secs_f64() * 1e3).round();
    let path: String = path.chars().take(200).collect();
    log::write("request", json!({"id": id, "method": method, "path": path, "status": status, "ms": ms}));
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert("x-request-id", id);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Which key the request brings, where keys are asked for.
fn key(app: &App, headers: &HeaderMap, path: &str) -> Result<Option<usize>> {
    let keys = &app.options.keys;
    if keys.is_empty() || OPEN_PATHS.contains(&path) {
        return Ok(None);
    }
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.as_bytes().split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"bearer ").then_some(key)
    });
    let given = bearer.or(headers.get("x-api-key").map(HeaderValue::as_bytes));
    let Some(given) = given else {
        return Err(Fault::new(
            Kind::Key,
            "expected a key, as Authorization: Bearer KEY or as x-api-key: KEY",
        ));
    };
    keys.find(given.trim_ascii()).map(Some).ok_or_else(|| Fault::new(Kind::Key, "this key is not known here"))
}
