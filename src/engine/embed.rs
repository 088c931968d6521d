//! Pooled features of pictures from an engine at work: what `owlet embed` calls pooler_output, the row of the tower's class token behind
//! its last block. The picture takes its turn among those of questions and needs no slot, so that no conversation is forgotten for it.

use super::image_cache::Embedding;
use super::order::{Order, Sight, stopped};
use super::{Engine, Scope};
use crate::error::{Error, Result};
use crate::prompt::Pixels;
use ggml::Cancel;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// A picture whose features somebody waits for. Dropping it cancels that.
pub struct Pooling {
    reply: Receiver<Result<Embedding>>,
    cancel: Cancel,
}

impl Engine {
    /// Takes a picture of `scope` up, to yield its pooled features `[n_embd]` of the tower.
    ///
    /// # Errors
    /// `Unsupported` where the model has no tower, or one without a class token.
    pub fn embed(&self, scope: Scope, pixels: Arc<Pixels>) -> Result<Pooling> {
        let key = self.keys(scope, std::iter::once(pixels.as_ref()))?;
        let has_class = self.loaded.config.vision.as_ref().is_some_and(|vision| vision.cls);
        let (Some(&key), true) = (key.first(), has_class) else {
            return Err(Error::unsupported("picture", "this model's tower has no class token"));
        };
        let (reply, received) = channel();
        let cancel = self.stop.part();
        let sight = Sight { pixels, key, cancel: cancel.clone(), reply, since: 0 };
        self.orders.send(Order::See(sight)).map_err(|_| stopped())?;
        Ok(Pooling { reply: received, cancel })
    }
}

impl Pooling {
    /// The features, or `None` where they are not there within `patience`.
    ///
    /// # Errors
    /// `Cancelled`; what the tower says.
    pub fn wait_within(&self, patience: Duration) -> Option<Result<Arc<Vec<f32>>>> {
        match self.reply.recv_timeout(patience) {
            Ok(features) => Some(features),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Err(stopped())),
        }
    }

    /// Raising it ends the work within a block's time.
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }
}

impl Drop for Pooling {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}
