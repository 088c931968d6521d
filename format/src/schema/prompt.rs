//! How a conversation becomes tokens.

/// The conversation's form, with the tokens that it places itself. Text never turns into them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Template {
    /// ` <human>: question <bot>:`, stored as `internvl_zh`.
    InternVlZh { human_id: u32, bot_id: u32, image_begin_id: u32, image_end_id: u32 },
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
