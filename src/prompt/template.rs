//! The form in which a model was trained to see a conversation.
//!
//! Comes in: messages, each a role with text and pictures in order. Goes out: [`Segment`]s: plain text, special tokens,
//! picture slots. Special tokens and slots are placed here and nowhere else, so what a person types (`<image>`, `</s>`)
//! stays text. A turn is rendered from itself and the turns before it only: a longer conversation begins with the
//! segments of the shorter one, which is what lets the KV cache be reused.

use owlet_format::Template;

use crate::token::TokenId;
use crate::{Error, Result};

/// Which of the request's pictures.
pub type ImageIndex = usize;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    User,
    Bot,
}

/// A piece of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Text(String),
    Image(ImageIndex),
}

/// One turn of one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub role: Role,
    pub parts: Vec<Part>,
}

impl Message {
    /// A question, its pictures before the text, as the models were trained.
    pub fn user(text: impl Into<String>, images: impl IntoIterator<Item = ImageIndex>) -> Message {
        let images = images.into_iter().map(Part::Image);
        Message { role: Role::User, parts: images.chain([Part::Text(text.into())]).collect() }
    }

    /// An answer.
    pub fn bot(text: impl Into<String>) -> Message {
        Message { role: Role::Bot, parts: vec![Part::Text(text.into())] }
    }

    fn n_images(&self) -> usize {
        self.parts.iter().filter(|part| matches!(part, Part::Image(_))).count()
    }
}

/// A piece of the prompt. Neighbouring texts are one text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    Text(String),
    Token(TokenId),
    Image(ImageIndex),
    /// The text before and the text behind are two texts, each tokenized as if it were all there is.
    Break,
}

/// The prompt that asks for the answer to `messages`, which begin and end with a question and alternate. `eos_id` closes
/// an answer where the template has no token of its own for that. A picture slot stands between the template's begin and end tokens, or between breaks where it has none.
///
/// # Errors
/// `Request` when the roles do not alternate or an answer holds a picture.
pub fn render(
    template: &Template,
    eos_id: TokenId,
    system: &str,
    messages: &[Message],
) -> Result<Vec<Segment>> {
    check(messages)?;
    let form = Form::of(template, eos_id);
    let mut segments = form.system(system);
    let mut n_images_before = 0;
    for message in messages {
        match message.role {
            Role::User => {
                segments.extend(form.before_question.clone());
                push_question(message, n_images_before, &form, &mut segments);
                segments.extend(form.behind_question.clone());
            }
            Role::Bot => {
                segments.extend(form.before_answer.clone());
                segments.extend(message.parts.iter().filter_map(|part| match part {
                    Part::Text(text) => Some(Segment::Text(text.clone())),
                    Part::Image(_) => None,
                }));
                segments.push(form.behind_answer.clone());
            }
        }
        n_images_before += message.n_images();
    }
    Ok(segments)
}

/// What a template puts around the parts of a conversation.
struct Form {
    before_system: Vec<Segment>,
    behind_system: Segment,
    before_question: Vec<Segment>,
    behind_question: Vec<Segment>,
    /// Only where the answer is there already: what a model writes itself begins behind the question.
    before_answer: Option<Segment>,
    behind_answer: Segment,
    before_picture: Segment,
    behind_picture: Segment,
}

impl Form {
    fn of(template: &Template, eos_id: TokenId) -> Form {
        let text = |text: &str| Segment::Text(text.into());
        match *template {
            // `{system} <human>: {question} <bot>: {answer}</s><human>: {question} <bot>:`
            Template::InternVlZh { human_id, bot_id, image_begin_id, image_end_id } => Form {
                before_system: Vec::new(),
                behind_system: text(" "),
                before_question: vec![Segment::Token(human_id), text(": ")],
                behind_question: vec![text(" "), Segment::Token(bot_id), text(":")],
                before_answer: Some(text(" ")),
                behind_answer: Segment::Token(eos_id),
                before_picture: Segment::Token(image_begin_id),
                behind_picture: Segment::Token(image_end_id),
            },
            // `{system} USER: {question} ASSISTANT: {answer}</s>USER: {question} ASSISTANT:`
            Template::VicunaV1 => Form {
                before_system: Vec::new(),
                behind_system: text(" "),
                before_question: vec![text("USER: ")],
                behind_question: vec![text(" ASSISTANT:")],
                before_answer: Some(text(" ")),
                behind_answer: Segment::Token(eos_id),
                before_picture: Segment::Break,
                behind_picture: Segment::Break,
            },
            // `<|im_start|>system\n{system}<|im_end|><|im_start|>user\n{question}<|im_end|><|im_start|>assistant\n{answer}<|im_end|>`
            Template::Hermes2 { im_start_id, im_end_id, image_begin_id, image_end_id } => {
                let (start, end) = (Segment::Token(im_start_id), Segment::Token(im_end_id));
                Form {
                    before_system: vec![start.clone(), text("system\n")],
                    behind_system: end.clone(),
                    before_question: vec![start.clone(), text("user\n")],
                    behind_question: vec![end.clone(), start, text("assistant\n")],
                    before_answer: None,
                    behind_answer: end,
                    before_picture: Segment::Token(image_begin_id),
                    behind_picture: Segment::Token(image_end_id),
                }
            }
        }
    }

    fn system(&self, system: &str) -> Vec<Segment> {
        let mut segments = self.before_system.clone();
        segments.extend([Segment::Text(system.into()), self.behind_system.clone()]);
        segments
    }

    fn slot(&self, index: ImageIndex) -> [Segment; 3] {
        [self.before_picture.clone(), Segment::Image(index), self.behind_picture.clone()]
    }
}

/// Each picture is a line of its own: `<image>\n`, or `Image-3: <image>\n` where "the picture" would be ambiguous: the
/// turn brings several, or an earlier turn brought one. Numbers count the conversation's pictures from 1, also those
/// that went unlabelled.
fn push_question(message: &Message, n_images_before: usize, form: &Form, segments: &mut Vec<Segment>) {
    let is_labelled = n_images_before + message.n_images() > 1;
    let mut number = n_images_before;
    let mut at_line_start = true;
    for part in &message.parts {
        match part {
            Part::Text(text) => {
                at_line_start = text.ends_with('\n') || (text.is_empty() && at_line_start);
                segments.push(Segment::Text(text.clone()));
            }
            Part::Image(index) => {
                number += 1;
                let newline = if at_line_start { "" } else { "\n" };
                let label = if is_labelled { format!("Image-{number}: ") } else { String::new() };
                segments.push(Segment::Text(format!("{newline}{label}")));
                segments.extend(form.slot(*index));
                segments.push(Segment::Text("\n".into()));
                at_line_start = true;
            }
        }
    }
}

fn check(messages: &[Message]) -> Result<()> {
    for (i, message) in messages.iter().enumerate() {
        let expected = if i % 2 == 0 { Role::User } else { Role::Bot };
        if message.role != expected {
            let (expected, found) = (name(expected), name(message.role));
            return Err(Error::request(format!(
                "message {}: expected one of {expected}, found one of {found}",
                i + 1
            )));
        }
        if message.role == Role::Bot && message.n_images() > 0 {
            return Err(Error::request(format!("message {}: a picture in an answer", i + 1)));
        }
    }
    if messages.len().is_multiple_of(2) {
        return Err(Error::request("expected a question as the last message"));
    }
    Ok(())
}

fn name(role: Role) -> &'static str {
    match role {
        Role::User => "the user",
        Role::Bot => "the model",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: Template =
        Template::InternVlZh { human_id: 6, bot_id: 7, image_begin_id: 8, image_end_id: 9 };

    /// The prompt as the upstream string, special tokens spelled, `<imageN>` for a slot.
    fn shown(system: &str, messages: &[Message]) -> String {
        shown_as(&TEMPLATE, system, messages)
    }

    fn shown_as(template: &Template, system: &str, messages: &[Message]) -> String {
        let spell = |segment: &Segment| match segment {
            Segment::Text(text) => text.clone(),
            Segment::Token(2) => "</s>".into(),
            Segment::Token(6) => "<human>".into(),
            Segment::Token(7) => "<bot>".into(),
            Segment::Token(8) => "<img>".into(),
            Segment::Token(9) => "</img>".into(),
            Segment::Token(id) => panic!("token {id}"),
            Segment::Image(index) => format!("<image{index}>"),
            Segment::Break => "|".into(),
        };
        render(template, 2, system, messages).unwrap().iter().map(spell).collect()
    }

    fn q(text: &str, images: &[ImageIndex]) -> Message {
        Message::user(text, images.iter().copied())
    }

    #[test]
    fn internvl_zh() {
        let a = Message::bot;
        let cases: &[(&str, &[Message], &str)] = &[
            ("", &[q("Hi?", &[])], " <human>: Hi? <bot>:"),
            ("Be kind.", &[q("Hi?", &[])], "Be kind. <human>: Hi? <bot>:"),
            ("", &[q("你好", &[0])], " <human>: <img><image0></img>\n你好 <bot>:"),
            (
                "",
                &[q("one", &[]), a("two"), q("three", &[])],
                " <human>: one <bot>: two</s><human>: three <bot>:",
            ),
            (
                "",
                &[q("Same?", &[0, 1])],
                " <human>: Image-1: <img><image0></img>\nImage-2: <img><image1></img>\nSame? <bot>:",
            ),
            // The first picture stays as it was when it was asked about; the second one says which it is.
            (
                "",
                &[q("What?", &[0]), a("A cat."), q("And this?", &[1])],
                " <human>: <img><image0></img>\nWhat? <bot>: A cat.</s><human>: Image-2: <img><image1></img>\nAnd this? <bot>:",
            ),
            (
                "",
                &[q("Same?", &[0, 1]), a("No."), q("Why?", &[])],
                " <human>: Image-1: <img><image0></img>\nImage-2: <img><image1></img>\nSame? <bot>: No.</s><human>: Why? <bot>:",
            ),
            // What a person types stays text.
            ("", &[q("<image></s> Image-1: <image>", &[])], " <human>: <image></s> Image-1: <image> <bot>:"),
            ("", &[q("", &[0])], " <human>: <img><image0></img>\n <bot>:"),
        ];
        for (system, messages, expected) in cases {
            assert_eq!(shown(system, messages), *expected);
        }
    }

    #[test]
    fn vicuna_v1() {
        let a = Message::bot;
        let cases: &[(&[Message], &str)] = &[
            (&[q("Hi?", &[])], "Chat. USER: Hi? ASSISTANT:"),
            (&[q("What?", &[0])], "Chat. USER: |<image0>|\nWhat? ASSISTANT:"),
            (
                &[q("What?", &[0]), a("A cat."), q("Sure?", &[])],
                "Chat. USER: |<image0>|\nWhat? ASSISTANT: A cat.</s>USER: Sure? ASSISTANT:",
            ),
            (
                &[q("Same?", &[1, 0])],
                "Chat. USER: Image-1: |<image1>|\nImage-2: |<image0>|\nSame? ASSISTANT:",
            ),
        ];
        for (messages, expected) in cases {
            assert_eq!(shown_as(&Template::VicunaV1, "Chat.", messages), *expected);
        }
    }

    #[test]
    fn hermes_2() {
        let template = Template::Hermes2 { im_start_id: 6, im_end_id: 7, image_begin_id: 8, image_end_id: 9 };
        let shown = |messages: &[Message]| {
            shown_as(&template, "Chat.", messages).replace("<human>", "[").replace("<bot>", "]")
        };
        let a = Message::bot;
        let cases: &[(&[Message], &str)] = &[
            (&[q("Hi?", &[])], "[system\nChat.][user\nHi?][assistant\n"),
            (&[q("What?", &[0])], "[system\nChat.][user\n<img><image0></img>\nWhat?][assistant\n"),
            (
                &[q("What?", &[0]), a("A cat."), q("Sure?", &[])],
                "[system\nChat.][user\n<img><image0></img>\nWhat?][assistant\nA cat.][user\nSure?][assistant\n",
            ),
            (&[q("<|im_end|>", &[])], "[system\nChat.][user\n<|im_end|>][assistant\n"),
        ];
        for (messages, expected) in cases {
            assert_eq!(shown(messages), *expected);
        }
    }

    #[test]
    fn pictures_stand_where_they_were_put() {
        let parts = vec![
            Part::Text("Compare this".into()),
            Part::Image(1),
            Part::Text("with\n".into()),
            Part::Image(0),
            Part::Text("please".into()),
        ];
        let message = Message { role: Role::User, parts };
        assert_eq!(
            shown("", &[message]),
            " <human>: Compare this\nImage-1: <img><image1></img>\nwith\nImage-2: <img><image0></img>\nplease <bot>:"
        );
    }

    #[test]
    fn a_longer_conversation_begins_with_the_shorter_one() {
        let turns = [
            q("What?", &[0]),
            Message::bot("A cat."),
            q("And these?", &[1, 2]),
            Message::bot("Dogs."),
            q("Sure?", &[]),
        ];
        for n in [1, 3] {
            let shorter = shown("", &turns[..n]);
            let longer = shown("", &turns[..n + 2]);
            assert!(longer.starts_with(&shorter), "{longer}\ndoes not begin with\n{shorter}");
        }
    }

    #[test]
    fn wrong_conversations() {
        let in_answer = Message { role: Role::Bot, parts: vec![Part::Image(0)] };
        let cases: &[(&[Message], &str)] = &[
            (&[], "expected a question as the last message"),
            (&[Message::bot("hi")], "message 1: expected one of the user, found one of the model"),
            (&[q("a", &[]), q("b", &[])], "message 2: expected one of the model, found one of the user"),
            (&[q("a", &[]), Message::bot("b")], "expected a question as the last message"),
            (&[q("a", &[]), in_answer, q("b", &[])], "message 2: a picture in an answer"),
        ];
        for (messages, expected) in cases {
            let error = render(&TEMPLATE, 2, "", messages).unwrap_err();
            assert!(matches!(error, Error::Request(_)), "{error:?}");
            assert_eq!(error.to_string(), *expected);
        }
    }
}
