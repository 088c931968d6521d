//! How a conversation becomes tokens.

use super::{TextConfig, check_id, id_in};
use crate::error::Shown;
use crate::{Metadata, Result};

/// The conversation's form, with the tokens that it places itself. Text never turns into them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Template {
    /// ` <human>: question <bot>:`, stored as `internvl_zh`.
    InternVlZh { human_id: u32, bot_id: u32, image_begin_id: u32, image_end_id: u32 },
    /// ` USER: question ASSISTANT:`, stored as `vicuna_v1`. It needs no tokens of its own; text before and behind a picture
    /// is tokenized as if each were all there is.
    VicunaV1,
    /// `<|im_start|>user\nquestion<|im_end|><|im_start|>assistant\n`, stored as `hermes_2`.
    Hermes2 { im_start_id: u32, im_end_id: u32, image_begin_id: u32, image_end_id: u32 },
}

/// Template, system message and what ends an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptConfig {
    pub template: Template,
    /// May be empty.
    pub system: String,
    /// Tokens that end an answer; at least one.
    pub stop_ids: Vec<u32>,
}

const TEMPLATE: &str = "owlet.prompt.template";
const INTERNVL_ZH: &str = "internvl_zh";
const VICUNA_V1: &str = "vicuna_v1";
const HERMES_2: &str = "hermes_2";
const HUMAN_ID: &str = "owlet.prompt.human_id";
const BOT_ID: &str = "owlet.prompt.bot_id";
const IM_START_ID: &str = "owlet.prompt.im_start_id";
const IM_END_ID: &str = "owlet.prompt.im_end_id";
const IMAGE_BEGIN_ID: &str = "owlet.prompt.image_begin_id";
const IMAGE_END_ID: &str = "owlet.prompt.image_end_id";
const SYSTEM: &str = "owlet.prompt.system";
const STOP_IDS: &str = "owlet.prompt.stop_ids";
const MAX_SYSTEM_BYTES: usize = 65_536;
const MAX_STOP_IDS: usize = 64;

impl PromptConfig {
    /// # Errors
    /// Where a key is missing, of another type or out of its range, or an id is outside of the vocabulary.
    pub(super) fn read(metadata: &Metadata, text: &TextConfig) -> Result<Self> {
        let template = match metadata.str(TEMPLATE)? {
            INTERNVL_ZH => Template::InternVlZh {
                human_id: id_in(metadata, HUMAN_ID, text)?,
                bot_id: id_in(metadata, BOT_ID, text)?,
                image_begin_id: id_in(metadata, IMAGE_BEGIN_ID, text)?,
                image_end_id: id_in(metadata, IMAGE_END_ID, text)?,
            },
            VICUNA_V1 => Template::VicunaV1,
            HERMES_2 => Template::Hermes2 {
                im_start_id: id_in(metadata, IM_START_ID, text)?,
                im_end_id: id_in(metadata, IM_END_ID, text)?,
                image_begin_id: id_in(metadata, IMAGE_BEGIN_ID, text)?,
                image_end_id: id_in(metadata, IMAGE_END_ID, text)?,
            },
            other => {
                let known = format!("{INTERNVL_ZH}, {VICUNA_V1} or {HERMES_2}");
                let problem = format!("expected {known}, found {}", Shown(other));
                return Err(metadata.wrong(TEMPLATE, problem));
            }
        };
        let system = metadata.str(SYSTEM)?;
        if system.len() > MAX_SYSTEM_BYTES {
            let problem = format!("expected at most {MAX_SYSTEM_BYTES} bytes, found {}", system.len());
            return Err(metadata.wrong(SYSTEM, problem));
        }
        let stop_ids = metadata.u32s(STOP_IDS)?;
        if !(1..=MAX_STOP_IDS).contains(&stop_ids.len()) {
            let problem = format!("expected 1 to {MAX_STOP_IDS} ids, found {}", stop_ids.len());
            return Err(metadata.wrong(STOP_IDS, problem));
        }
        for &id in stop_ids {
            check_id(metadata, STOP_IDS, id, text)?;
        }
        Ok(Self { template, system: system.to_owned(), stop_ids: stop_ids.to_vec() })
    }

    pub(super) fn write(&self, metadata: &mut Metadata) {
        match self.template {
            Template::InternVlZh { human_id, bot_id, image_begin_id, image_end_id } => {
                metadata.put(TEMPLATE, INTERNVL_ZH);
                metadata.put(HUMAN_ID, human_id);
                metadata.put(BOT_ID, bot_id);
                metadata.put(IMAGE_BEGIN_ID, image_begin_id);
                metadata.put(IMAGE_END_ID, image_end_id);
            }
            Template::VicunaV1 => metadata.put(TEMPLATE, VICUNA_V1),
            Template::Hermes2 { im_start_id, im_end_id, image_begin_id, image_end_id } => {
                metadata.put(TEMPLATE, HERMES_2);
                metadata.put(IM_START_ID, im_start_id);
                metadata.put(IM_END_ID, im_end_id);
                metadata.put(IMAGE_BEGIN_ID, image_begin_id);
                metadata.put(IMAGE_END_ID, image_end_id);
            }
        }
        metadata.put(SYSTEM, self.system.as_str());
        metadata.put(STOP_IDS, self.stop_ids.clone());
    }
}
