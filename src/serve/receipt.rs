//! What every dialect tells beside its own fields, as `owlet`: what the model got to see, and where the time went.

use super::picture::Seen;
use super::question::Prepared;
use crate::engine::{EmbeddingSource, Outcome};
use serde_json::{Value, json};

pub struct Receipt(Vec<(Seen, Option<EmbeddingSource>)>);

impl Receipt {
    pub fn new(prepared: &[Prepared]) -> Receipt {
        Receipt(prepared.iter().flat_map(|prepared| &prepared.pictures).map(|seen| (*seen, None)).collect())
    }

    /// The picture `image` is ready. What is said first counts: later choices find it.
    pub fn saw_picture(&mut self, image: usize, source: EmbeddingSource) {
        if let Some((_, known)) = self.0.get_mut(image) {
            known.get_or_insert(source);
        }
    }

    /// About the answer that ended as `outcome`.
    pub fn of(&self, outcome: &Outcome) -> Value {
        let picture = |(seen, source): &(Seen, Option<EmbeddingSource>)| {
            json!({
                "format": seen.format.to_string(),
                "width": seen.width,
                "height": seen.height,
                "orientation": seen.orientation,
                "alpha": seen.had_alpha,
                "size_px": seen.size_px,
                // One that is not heard of stands in a turn that the decoder still knew.
                "cached": source.is_none_or(EmbeddingSource::is_cached),
            })
        };
        json!({
            "images": self.0.iter().map(picture).collect::<Vec<_>>(),
            "timings": {
                "encode_s": outcome.timings.encode.as_secs_f64(),
                "prefill_s": outcome.timings.prefill.as_secs_f64(),
                "decode_s": outcome.timings.decode.as_secs_f64(),
            },
        })
    }
}
