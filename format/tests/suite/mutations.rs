//! Thousands of small changes to a good file: whatever they make of it, it is read or refused, at once and in
//! bounded memory. And the headers that would cost the most memory, whole.

use std::time::{Duration, Instant};

use owlet_format::{Gguf, ModelConfig, Strings};

use crate::memory::peak_of;
use crate::mutate::Mutator;
use crate::raw::{ARRAY, Raw, STRING, array, string};
use crate::{model, open, raw};

/// What a parse may hold beyond the metadata itself.
const SLACK: usize = 64 << 20;

/// As far as a program goes with a file before it computes.
fn use_whole(bytes: Vec<u8>) -> bool {
    let Ok(file) = Gguf::from_bytes(bytes.into(), "mutated") else {
        return false;
    };
    for tensor in file.tensors() {
        assert_eq!(file.data(tensor).len() as u64, tensor.n_bytes);
    }
    let _ = file.checksums();
    ModelConfig::read(&file).and_then(|config| config.check(&file)).is_ok()
}

#[test]
fn mutated_files_are_read_or_refused() {
    let good = model::tiny();
    let data_at = Gguf::from_bytes(good.clone().into(), "good").unwrap().tensors()[0].offset as usize;
    let mut mutator = Mutator::new(1);
    let mut n_accepted = 0;
    for n in 0..20_000 {
        let mut bytes = good.clone();
        mutator.mutate(&mut bytes, data_at);
        let n_bytes = bytes.len();
        let start = Instant::now();
        let (accepted, peak) = peak_of(|| use_whole(bytes));
        assert!(start.elapsed() < Duration::from_secs(1), "mutation {n} takes too long");
        // a small file has no use for the slack: eight times itself is for tables and messages
        assert!(peak < 8 * n_bytes + 65_536, "mutation {n}: {peak} bytes for a file of {n_bytes}");
        n_accepted += usize::from(accepted);
    }
    // bits of names, scores and checksums may be anything; nearly all else is refused
    assert!((500..8000).contains(&n_accepted), "{n_accepted} of 20000 accepted");
}

#[test]
fn every_cut_is_refused() {
    let good = model::tiny();
    let data_at = Gguf::from_bytes(good.clone().into(), "good").unwrap().tensors()[0].offset as usize;
    // every length within the header, every 61st behind it, up to where only the last padding is missing
    for n_bytes in (0..data_at).chain((data_at..good.len() - 64).step_by(61)) {
        assert!(!use_whole(good[..n_bytes].to_vec()), "{n_bytes} bytes were enough");
    }
}

/// The worst that a header of a given size can ask for, kind by kind.
#[test]
fn memory_is_bounded_by_the_metadata() {
    let many = 1_000_000;
    let empty_strings = vec![0; 8 * many];
    let short_keys = |n: usize| {
        let mut raw = Raw::new();
        for n in 0..n {
            raw = raw.key(format!("{n:x}"), raw::U8, [0]);
        }
        raw.build()
    };
    let short_tensors = |n: usize| {
        let mut raw = Raw::new();
        for at in 0..n {
            raw = raw.tensor(format!("{at:x}"), &[8], 0, 32 * at as u64);
        }
        raw.data(32 * n).build()
    };
    let list = |item_type, n_items: usize, items: Vec<u8>| {
        Raw::new().key("list", ARRAY, array(item_type, n_items as u64, items)).build()
    };
    let nearly_16_mib = "x".repeat((16 << 20) - 1);
    for (what, bytes, slack) in [
        ("empty strings", list(STRING, many, empty_strings), 1 << 20),
        ("a bool each", list(raw::BOOL, many, vec![1; many]), 1 << 20),
        ("bytes", list(raw::U8, many, vec![1; many]), 1 << 20),
        ("one long string", Raw::new().key("text", STRING, string(&nearly_16_mib)).build(), 1 << 20),
        ("one long string in a list", list(STRING, 1, string(&nearly_16_mib)), 1 << 20),
        ("keys", short_keys(16_384), SLACK / 8),
        ("tensors", short_tensors(65_536), SLACK / 2),
    ] {
        let n_bytes = bytes.len();
        let bytes = bytes::Bytes::from(bytes);
        let (file, peak) = peak_of(|| Gguf::from_bytes(bytes, "big"));
        assert!(file.is_ok(), "{what}: {}", file.unwrap_err());
        assert!(peak <= n_bytes + slack, "{what}: {peak} bytes held for a file of {n_bytes}");
    }
}

/// The vocabulary is shared with the file it came from, not copied.
#[test]
fn reading_a_config_copies_no_vocabulary() {
    let n_vocab = 200_000u32;
    let mut config = model::config();
    config.text.as_mut().unwrap().n_vocab = n_vocab;
    let tokenizer = config.tokenizer.as_mut().unwrap();
    tokenizer.tokens =
        (0..n_vocab).map(|id| format!("a piece of some length, number {id}")).collect::<Strings>();
    tokenizer.scores = vec![0.0; n_vocab as usize];
    tokenizer.kinds = vec![owlet_format::TokenKind::Normal; n_vocab as usize];
    let file = open(model::file(&model::metadata(&config), &[])).unwrap();
    let (config, peak) = peak_of(|| ModelConfig::read(&file));
    config.unwrap();
    assert!(peak < 6 * n_vocab as usize, "{peak} bytes");
}
