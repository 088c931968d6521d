//! Pictures on their way through the engine for their own sake. A thread waits for them, and holds the request's turn until the engine
//! is done with them; whoever leaves has them cancelled.

use super::app::App;
use super::fault::{Fault, Kind, Result};
use super::gate::Place;
use super::keeper::Held;
use super::ready::leaving;
use crate::engine::{Pooling, Scope};
use crate::error::Error;
use crate::prompt::Pixels;
use ggml::Cancel;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// How often it is looked whether the program ends.
const TICK: Duration = Duration::from_millis(100);

/// Cancels what goes on when it is dropped.
struct Leash(Cancel);

impl Drop for Leash {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// The pooled features of each of `pictures`, which are `scope`'s, by `model`, once it is the turn of `place`.
///
/// # Errors
/// `Timeout`, `Leaving`; what the engine says.
pub async fn pooled(
    app: &Arc<App>,
    (place, model): (Place, Arc<Held>),
    scope: Scope,
    pictures: Vec<Arc<Pixels>>,
) -> Result<Vec<Arc<Vec<f32>>>> {
    let leash = Leash(Cancel::new());
    let (with, left) = (Arc::clone(app), leash.0.clone());
    let looked = async {
        let turn = place.turn().await?;
        let looked = spawn_blocking(move || {
            let look = |picture: Arc<Pixels>| {
                let pooling = model.engine().embed(scope, picture).map_err(Fault::of_request)?;
                wait(&with, &pooling, &left).map_err(Fault::of_engine)
            };
            let rows = pictures.into_iter().map(look).collect();
            drop((turn, model));
            rows
        });
        looked
            .await
            .unwrap_or_else(|_| Err(Fault::new(Kind::Internal, "internal error: a picture was dropped")))
    };
    match timeout(app.limits().answer, looked).await {
        Ok(rows) if app.stop.is_cancelled() => rows.map_err(|_| leaving()),
        Ok(rows) => rows,
        Err(_) => Err(Fault::new(Kind::Timeout, "the answer took longer than this server allows")),
    }
}

fn wait(app: &App, pooling: &Pooling, left: &Cancel) -> std::result::Result<Arc<Vec<f32>>, Error> {
    loop {
        if app.stop.is_cancelled() || left.is_cancelled() {
            pooling.cancel().cancel();
        }
        if let Some(row) = pooling.wait_within(TICK) {
            return row;
        }
    }
}
