//! A first question as a model reads it, for who runs decoders without an engine. In: a model's configuration, and text.
//! Out: what every position of the prompt is made of.

use owlet_format::{ModelConfig, PromptConfig};

use crate::error::Result;
use crate::model::Input;
use crate::prompt::{Chunk, Message, Tokenizer, chunks, render};
use crate::token::TokenId;

/// What a model with a text half needs to be asked.
pub(super) struct Asker {
    tokenizer: Tokenizer,
    prompt: PromptConfig,
    eos_id: TokenId,
    n_image_tokens: usize,
}

impl Asker {
    /// None for a model without a text half.
    ///
    /// # Errors
    /// `Format` for a vocabulary that is none.
    pub fn of(config: &ModelConfig) -> Result<Option<Asker>> {
        let (Some(tokenizer), Some(prompt)) = (&config.tokenizer, &config.prompt) else { return Ok(None) };
        Ok(Some(Asker {
            eos_id: tokenizer.eos_id,
            tokenizer: Tokenizer::new(tokenizer)?,
            prompt: prompt.clone(),
            n_image_tokens: config.image.as_ref().map_or(0, |image| image.n_tokens as usize),
        }))
    }

    /// The prompt that asks `text`, about a picture if `has_picture`: its rows are the embedding's from 0 on.
    ///
    /// # Errors
    /// `Request` where the template cannot say it.
    pub fn inputs(&self, text: &str, has_picture: bool) -> Result<Vec<Input>> {
        let messages = [Message::user(text, has_picture.then_some(0))];
        let PromptConfig { template, system, .. } = &self.prompt;
        let segments = render(template, self.eos_id, system, &messages)?;
        let mut inputs = Vec::new();
        for chunk in chunks(&segments, &self.tokenizer, self.n_image_tokens)? {
            match chunk {
                Chunk::Tokens(ids) => inputs.extend(ids.into_iter().map(Input::Token)),
                Chunk::Image { n_tokens, .. } => inputs.extend((0..n_tokens).map(Input::Embd)),
            }
        }
        Ok(inputs)
    }

    /// Whether an answer ends with this token.
    pub fn ends_with(&self, id: TokenId) -> bool {
        self.prompt.stop_ids.contains(&id)
    }
}
