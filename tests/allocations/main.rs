//! A token of an answer allocates nothing: the decoder runs passes of one row with every allocation of the program counted.
//! A binary of its own, since the allocator that counts is the whole program's.
#![allow(clippy::unwrap_used)]

use std::hint::black_box;

use ggml::Cancel;
use owlet::engine::Loaded;
use owlet::model::{Decoder, Input, KvType, Logits, Row};

/// As many rows as passes of drafts and of several conversations have, too.
#[test]
fn a_pass_like_the_one_before_allocates_nothing() {
    // One thread, the one that is counted.
    let model = Loaded::open(None, 1).unwrap().model;
    for kv_type in [KvType::F16, KvType::F32, KvType::Q8_0] {
        for n_rows in [1, 2, 5] {
            let mut decoder = Decoder::new(&model, 512, 1, kv_type).unwrap();
            let (mut logits, cancel) = (Logits::default(), Cancel::new());
            let mut next = 0;
            let mut pass = || {
                let row = |pos| Row { input: Input::Token(pos % 7 + 3), seq: 0, pos, want_logits: true };
                let rows: [Row; 5] = std::array::from_fn(|i| row(next + i as u32));
                decoder.forward_into(&rows[..n_rows], &[], &cancel, &mut logits).unwrap();
                next += n_rows as u32;
            };
            // The first pass makes the graph, and threads get their scratch.
            pass();
            pass();
            let counted = allocation_counter::measure(|| (0..40).for_each(|_| pass()));
            assert_eq!(counted.count_total, 0, "{kv_type:?}, {n_rows} rows: {counted:?}");
            // What counts does count.
            let counted = allocation_counter::measure(|| drop(black_box(Box::new(n_rows))));
            assert_eq!(counted.count_total, 1);
        }
    }
}
