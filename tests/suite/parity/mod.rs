//! Parity with the models' own PyTorch code, which was run once on tiny checkpoints (tests/reference/README.md).
//!
//! The way is the user's: a checkpoint as Hugging Face lays it out, owlet-convert, owlet's prompt and network. Nodes
//! are compared in the order in which they are computed, so a failure names the first wrong one.

mod compare;
pub mod formula;
pub mod golden;
mod llava;
mod outliers;
mod pixels;
mod position_grid;
mod settings;
mod stored_types;
mod subject;
pub mod tiny;
mod towers;

use compare::{F32_BOUND, TRAP_DISTANCE};
use ggml::DType;
use golden::{Case, Conversation, Node};
use owlet::model::KvType;
use sha2::{Digest, Sha256};
use subject::{Seen, Subject};

#[test]
fn base() {
    assert_parity("base", 31);
}

#[test]
fn shuffle_v2() {
    assert_parity("shuffle_v2", 1);
}

#[test]
fn grid() {
    assert_parity("grid", 3);
}

#[test]
fn not_legacy() {
    assert_parity("not_legacy", 1);
}

#[test]
fn bf16() {
    assert_parity("bf16", 0);
}

#[test]
fn gqa() {
    assert_parity("gqa", 2);
}

/// Yi's tokenizer, whose `<|im_start|>` no file calls special, and Hermes-2.
#[test]
fn v1_2() {
    assert_parity("v1_2", 10);
    assert_eq!(family("v1_2"), "internvl-chat-v1-2");
}

/// The same template where its tokens were added to a vocabulary with a dummy prefix.
#[test]
fn v1_2_added() {
    assert_parity("v1_2_added", 1);
}

/// What V1-2's own config leaves out is known, and for nothing else of fewer blocks.
#[test]
fn a_v1_2_of_45_blocks_may_leave_fields_out() {
    let mut case = Case::read("v1_2");
    let config = case.files.get_mut("config.json").unwrap();
    for key in ["select_layer", "ps_version", "template", "system_message"] {
        config.as_object_mut().unwrap().remove(key);
    }
    config["vision_config"]["num_hidden_layers"] = 45.into();
    let block = |name: &str| name.starts_with("vision_model.encoder.layers.0.");
    let first: Vec<_> = case.tensors.iter().filter(|t| block(&t.name)).cloned().collect();
    for il in 3..45 {
        case.tensors.extend(first.iter().cloned().map(|mut tensor| {
            tensor.name = tensor.name.replace("layers.0.", &format!("layers.{il}."));
            tensor
        }));
    }
    let folder = tempfile::TempDir::new().unwrap();
    tiny::lay_out(&case, folder.path());
    let plan = owlet_convert::Plan::from_dir(folder.path(), &Default::default()).unwrap();
    let vision = plan.config.vision.as_ref().unwrap();
    assert_eq!((plan.config.family.as_str(), vision.n_layer), ("internvl-chat-v1-2", 45));
    let assumed: Vec<&str> = plan.config.provenance.assumed.iter().collect();
    let expected = [
        "template = Hermes-2",
        "select_layer = -1",
        "ps_version = v1",
        "system_message = Answer the questions.",
    ];
    assert_eq!(assumed, expected);
}

/// What a person types becomes none of the template's tokens, not even where SentencePiece has them as pieces.
#[test]
fn typed_tokens_of_the_template_stay_text() {
    for name in ["v1_2", "v1_2_added"] {
        let subject = Subject::new(&Case::read(name), DType::F32);
        for text in ["<|im_start|>", "<|im_end|>", "<img>", "</img>"] {
            let ids = subject.tokenizer.encode(text).unwrap();
            assert!(
                ids.len() > 1 && ids.iter().all(|id| !subject.tokenizer.is_special(*id)),
                "{name}: {text}: {ids:?}"
            );
        }
    }
}

/// Without SentencePiece's word for it, a token that no file calls special is no token of the template.
#[test]
fn a_token_of_the_template_must_be_special() {
    let mut case = Case::read("v1_2");
    case.files.get_mut("tokenizer_config.json").unwrap()["legacy"] = false.into();
    let folder = tempfile::TempDir::new().unwrap();
    tiny::lay_out(&case, folder.path());
    let found = owlet_convert::Plan::from_dir(folder.path(), &Default::default()).unwrap_err().to_string();
    assert!(found.ends_with("token <|im_start|>: expected a special one, found UserDefined"), "{found}");
}

fn family(name: &str) -> String {
    Subject::new(&Case::read(name), DType::F32).config.family
}

/// Early revisions of V1-1 still say the side that the tower was trained at first; what counts is the stored grid.
#[test]
fn an_outdated_image_size_changes_nothing() {
    let converted = |image_size: u32| {
        let mut case = Case::read("base");
        case.files.get_mut("config.json").unwrap()["vision_config"]["image_size"] = image_size.into();
        let folder = tempfile::TempDir::new().unwrap();
        let (checkpoint, file) = (folder.path().join("checkpoint"), folder.path().join("model.gguf"));
        tiny::lay_out(&case, &checkpoint);
        tiny::convert(&checkpoint, DType::F32, &file);
        std::fs::read(file).unwrap()
    };
    assert!(converted(56) == converted(112));
}

/// Weights, prompts, nodes, greedy tokens and answers of one case, and what its traps would have shown.
fn assert_parity(name: &str, n_traps: usize) {
    let case = Case::read(name);
    assert_weights(&case);
    let subject = Subject::new(&case, DType::F32);
    assert_conversations(&subject, &case);
    assert_eq!(case.traps.len(), n_traps, "{name}: traps recorded");
    assert_traps(&subject, &case);
}

/// Prompts, nodes, greedy tokens and answers.
fn assert_conversations(subject: &Subject, case: &Case) {
    let name = &case.case;
    println!("{name}: family {}", subject.config.family);
    for conversation in &case.conversations {
        let prompt = subject.prompt(conversation, case.image_context_id());
        assert_eq!(prompt.ids, conversation.ids, "{name}/{}: {}", conversation.name, conversation.prompt);
        let seen = nodes(subject, case, conversation);
        assert_nodes(case, &format!("{name}/{}", conversation.name), &conversation.nodes, &seen);
        assert_greedy(subject, case, conversation);
    }
}

/// The pixels of the case's picture and of those that were recorded for their pixels alone.
fn assert_pixels(subject: &Subject, case: &Case) {
    for picture in case.pictures.iter().chain([&case.picture]) {
        let planes = subject.pixels(picture).planes;
        let bytes: Vec<u8> = planes.iter().flat_map(|v| v.to_le_bytes()).collect();
        let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hash, picture.pixels_sha256, "{}: {}", case.case, picture.name);
    }
}

fn assert_weights(case: &Case) {
    let beside = case.tower.iter().flat_map(|tower| &tower.tensors);
    let weights = tiny::weights(case).into_iter().chain(tiny::tower_weights(case));
    for (tensor, weight) in case.tensors.iter().chain(beside).zip(weights) {
        let bytes: Vec<u8> = weight.values.iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(format!("{:016x}", formula::fnv1a64(&bytes)), tensor.fnv1a64, "{}", tensor.name);
    }
}

/// Fails at the first node that is off, and shows how far off the ones before it are.
fn assert_nodes(case: &Case, place: &str, golden: &[Node], seen: &[Seen]) {
    let mut table = format!("{place}\n");
    for node in golden {
        let found = seen.iter().find(|seen| seen.name == node.name);
        let found = found.unwrap_or_else(|| panic!("{table}{}: the network has no such node", node.name));
        let error = compare::error(&found.values, &found.ne, node, case.samples(node));
        table += &format!("  {:18} {error:9.2e}  {:?}\n", node.name, found.ne);
        assert!(error <= F32_BOUND, "{table}the first wrong node is {}, bound {F32_BOUND:e}", node.name);
    }
    print!("{table}");
}

fn assert_greedy(subject: &Subject, case: &Case, conversation: &Conversation) {
    let place = format!("{}/{}", case.case, conversation.name);
    let prompt = subject.prompt(conversation, case.image_context_id());
    let embd = picture_rows(subject, case, conversation, &mut Vec::new());
    let said = subject::greedy(&mut subject.decoder(KvType::F32), &prompt, &embd, conversation.greedy.len());
    assert_eq!(said, conversation.greedy, "{place}: least margin {}", conversation.least_margin);
    // Python's strip() takes the separators of ASCII for white space
    let is_blank = |c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c);
    let answer = subject.tokenizer.decode(&said);
    assert_eq!(answer.trim_matches(is_blank), conversation.answer, "{place}");
}

/// A proof that passes on a wrong variant proves nothing: held against each of them, the comparison must fail, and by
/// ten times its bound.
fn assert_traps(subject: &Subject, case: &Case) {
    let mut seen = nodes(subject, case, case.conversation("picture"));
    let side = u64::from(subject.config.image.as_ref().unwrap().size_px);
    seen.push(Seen {
        name: "pixels".into(),
        ne: vec![side, side, 3],
        values: subject.pixels(&case.picture).planes,
    });
    assert_traps_are_seen(case, &seen);
}

fn assert_traps_are_seen(case: &Case, seen: &[Seen]) {
    for trap in &case.traps {
        let node = seen.iter().find(|node| node.name == trap.node.name).unwrap();
        let error = compare::error(&node.values, &node.ne, &trap.node, case.samples(&trap.node));
        println!("{}: {:28} {error:9.2e} at {:18} {}", case.case, trap.name, node.name, trap.about);
        let is_seen = error.is_finite() && error >= TRAP_DISTANCE * F32_BOUND;
        assert!(is_seen, "{}: {} ({}) would pass: {error:e}", case.case, trap.name, trap.about);
    }
}

/// All nodes of a conversation's prompt.
fn nodes(subject: &Subject, case: &Case, conversation: &Conversation) -> Vec<Seen> {
    nodes_over(KvType::F32, subject, case, conversation)
}

fn nodes_over(kv_type: KvType, subject: &Subject, case: &Case, conversation: &Conversation) -> Vec<Seen> {
    let mut seen = Vec::new();
    let embd = picture_rows(subject, case, conversation, &mut seen);
    let prompt = subject.prompt(conversation, case.image_context_id());
    subject::prefill(&mut subject.decoder(kv_type), &prompt, &embd, &mut seen);
    seen
}

/// `[n_embd, n_image_tokens]`, empty where the conversation has no picture.
fn picture_rows(
    subject: &Subject,
    case: &Case,
    conversation: &Conversation,
    seen: &mut Vec<Seen>,
) -> Vec<f32> {
    if conversation.has_picture() { subject.encode(&subject.pixels(&case.picture), seen) } else { Vec::new() }
}
