//! A conversation's form as llama.cpp wants it: a Jinja template, which yields the text that owlet's own templates yield.

use owlet_format::{ModelConfig, PromptConfig, Template, TokenizerConfig};

/// What stands around the parts of a conversation; `before_answer` where the answer is there already.
struct Form {
    before_system: String,
    behind_system: String,
    before_question: String,
    behind_question: String,
    before_answer: String,
    behind_answer: String,
}

/// `tokenizer.chat_template` for a model with a text half.
pub fn of(config: &ModelConfig) -> Option<String> {
    let (tokenizer, prompt) = (config.tokenizer.as_ref()?, config.prompt.as_ref()?);
    let form = Form::of(prompt, tokenizer);
    let [before_system, system, behind_system] = [&form.before_system, &prompt.system, &form.behind_system];
    let (before_system, system, behind_system) =
        (quoted(before_system), quoted(system), quoted(behind_system));
    let question =
        format!("{} + turn['content'] + {}", quoted(&form.before_question), quoted(&form.behind_question));
    let answer =
        format!("{} + turn['content'] + {}", quoted(&form.before_answer), quoted(&form.behind_answer));
    Some(
        [
            &format!("{{%- set system = {system} -%}}{{%- set turns = messages -%}}"),
            "{%- if messages[0]['role'] == 'system' -%}",
            "{%- set system = messages[0]['content'] -%}{%- set turns = messages[1:] -%}",
            "{%- endif -%}",
            &format!("{{{{- {before_system} + system + {behind_system} -}}}}"),
            "{%- for turn in turns -%}{%- if turn['role'] == 'user' -%}",
            &format!("{{{{- {question} -}}}}"),
            "{%- else -%}",
            &format!("{{{{- {answer} -}}}}"),
            "{%- endif -%}{%- endfor -%}",
        ]
        .concat(),
    )
}

impl Form {
    fn of(prompt: &PromptConfig, tokenizer: &TokenizerConfig) -> Form {
        let token = |id| token(tokenizer, id);
        match prompt.template {
            Template::InternVlZh { human_id, bot_id, .. } => Form {
                before_system: String::new(),
                behind_system: " ".into(),
                before_question: format!("{}: ", token(human_id)),
                behind_question: format!(" {}:", token(bot_id)),
                before_answer: " ".into(),
                behind_answer: token(tokenizer.eos_id),
            },
            Template::VicunaV1 => Form {
                before_system: String::new(),
                behind_system: " ".into(),
                before_question: "USER: ".into(),
                behind_question: " ASSISTANT:".into(),
                before_answer: " ".into(),
                behind_answer: token(tokenizer.eos_id),
            },
            Template::Hermes2 { im_start_id, im_end_id, .. } => {
                let (start, end) = (token(im_start_id), token(im_end_id));
                Form {
                    before_system: format!("{start}system\n"),
                    behind_system: end.clone(),
                    before_question: format!("{start}user\n"),
                    behind_question: format!("{end}{start}assistant\n"),
                    before_answer: String::new(),
                    behind_answer: end,
                }
            }
        }
    }
}

fn token(tokenizer: &TokenizerConfig, id: u32) -> String {
    tokenizer.tokens.get(id as usize).unwrap_or_default().to_string()
}

/// A Jinja literal; JSON's escapes are among Jinja's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
