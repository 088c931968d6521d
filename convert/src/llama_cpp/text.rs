//! The text half of a pair: a LLaMA under llama.cpp's keys, from those of 2023 on, which leave out what llama.cpp takes by
//! itself.

use super::facts::Facts;
use super::stated::Stated;
use crate::error::{Error, Result};

/// Reads the facts of the decoder and of its tokenizer.
///
/// # Errors
/// Where the file is no LLaMA with a SentencePiece vocabulary, lacks a key or has a trait that no graph here has.
pub fn read(text: &Stated, facts: &mut Facts) -> Result<()> {
    let found = text.word("general.architecture")?.unwrap_or_default();
    if found != "llama" {
        let hint = if found == "clip" { ": this is the mmproj" } else { "" };
        let what = format!("expected llama, the text half, found {}{hint}", found.escape_debug());
        return Err(Error::unsupported(text.place("general.architecture"), what));
    }
    shapes(text, facts)?;
    refuse_traits(text)?;
    tokenizer(text, facts)
}

fn shapes(text: &Stated, facts: &mut Facts) -> Result<()> {
    for key in ["llama.context_length", "llama.embedding_length", "llama.block_count", FEED_FORWARD, N_HEAD] {
        facts.stated(key, text.need_count(key)?, text, key);
    }
    match text.count(N_VOCAB)? {
        Some(n) => facts.stated(N_VOCAB, n, text, N_VOCAB),
        None => {
            let n_tokens = text.file.metadata().strings(TOKENS)?.len();
            // as many as a file can hold
            facts.stated(N_VOCAB, u32::try_from(n_tokens).unwrap_or(u32::MAX), text, TOKENS);
        }
    }
    facts.stated(EPS, text.need_number(EPS)?, text, EPS);
    let n_head = text.need_count(N_HEAD)?;
    facts.stated_or(N_HEAD_KV, text, text.count(N_HEAD_KV)?, n_head);
    let head_dim = text.need_count("llama.embedding_length")?.checked_div(n_head).unwrap_or(0);
    facts.stated_or(ROPE_DIM, text, text.count(ROPE_DIM)?, head_dim);
    facts.stated_or(ROPE_BASE, text, text.number(ROPE_BASE)?, 10_000.0f32);
    for key in ["llama.attention.key_length", "llama.attention.value_length"] {
        if let Some(n) = text.count(key)?.filter(|n| *n != head_dim) {
            let what = format!("expected {head_dim}, the embedding over the heads, found {n}");
            return Err(Error::unsupported(text.place(key), what));
        }
    }
    Ok(())
}

/// Scaled positions, experts and whatever else a key of the architecture may ask for.
fn refuse_traits(text: &Stated) -> Result<()> {
    text.expect_word("llama.rope.scaling.type", "none")?;
    for key in ["llama.rope.scale_linear", "llama.rope.scaling.factor"] {
        if let Some(x) = text.number(key)?.filter(|x| *x != 1.0) {
            return Err(Error::unsupported(text.place(key), format!("expected 1, found {x}")));
        }
    }
    for key in ["llama.expert_count", "llama.expert_used_count"] {
        if let Some(n) = text.count(key)?.filter(|n| *n != 0) {
            return Err(Error::unsupported(text.place(key), format!("expected 0, found {n}")));
        }
    }
    // who wrote the checkpoint, and what scaling would have started from
    for key in ["llama.tensor_data_layout", "llama.rope.scaling.original_context_length"] {
        text.value(key);
    }
    text.refuse_unknown("llama.")
}

/// What llama.cpp takes where a SentencePiece vocabulary comes without it: src/llama-vocab.cpp, LLAMA_VOCAB_TYPE_SPM.
const IDS: [(&str, u32); 3] = [
    ("tokenizer.ggml.bos_token_id", 1),
    ("tokenizer.ggml.eos_token_id", 2),
    ("tokenizer.ggml.unknown_token_id", 0),
];
const FLAGS: [(&str, bool); 4] = [
    ("tokenizer.ggml.add_bos_token", true),
    ("tokenizer.ggml.add_eos_token", false),
    ("tokenizer.ggml.add_space_prefix", true),
    ("tokenizer.ggml.remove_extra_whitespaces", false),
];

fn tokenizer(text: &Stated, facts: &mut Facts) -> Result<()> {
    for key in ["tokenizer.ggml.model", TOKENS, "tokenizer.ggml.scores", "tokenizer.ggml.token_type"] {
        facts.copy(key, text);
    }
    for (key, default) in IDS {
        facts.stated_or(key, text, text.count(key)?, default);
    }
    for (key, default) in FLAGS {
        facts.stated_or(key, text, text.flag(key)?, default);
    }
    if let Some(id) = text.count(PAD_ID)? {
        let n_tokens = text.file.metadata().strings(TOKENS)?.len();
        if (id as usize) < n_tokens {
            facts.stated(PAD_ID, id, text, PAD_ID);
        } else {
            // no prompt is padded here; llama.cpp passes over it as well
            facts
                .notes
                .push(format!("{}: names no token of {n_tokens}, found {id}: left out", text.place(PAD_ID)));
        }
    }
    Ok(())
}

const TOKENS: &str = "tokenizer.ggml.tokens";
const PAD_ID: &str = "tokenizer.ggml.padding_token_id";
const N_VOCAB: &str = "llama.vocab_size";
const FEED_FORWARD: &str = "llama.feed_forward_length";
const N_HEAD: &str = "llama.attention.head_count";
const N_HEAD_KV: &str = "llama.attention.head_count_kv";
const EPS: &str = "llama.attention.layer_norm_rms_epsilon";
const ROPE_DIM: &str = "llama.rope.dimension_count";
const ROPE_BASE: &str = "llama.rope.freq_base";
