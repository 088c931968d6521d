//! The decoder.

use ggml::{Cancel, DType};

use super::reference::{self, Nodes};
use super::tiny::{self, Compare, Everything, TEXT, noise};
use crate::Error;
use crate::model::{Decoder, Input, KvHalf, KvRows, KvType, Logits, Model, Row, kv_bytes, kv_row_bytes};

const F32_BOUND: f64 = 2e-5;

/// Bounds for keys and values that are stored with less: 11 bits, and 8 bits a block of 32.
const F16_KV_BOUND: f64 = 5e-3;
const Q8_0_KV_BOUND: f64 = 5e-2;

fn text_model(dtype: DType, n_threads: usize) -> Model {
    tiny::model(&tiny::config(None, None, Some(TEXT)), dtype, n_threads).0
}

/// Whoever attends: kernels of ours, and ggml, for which caches lie otherwise.
fn text_models(dtype: DType, n_threads: usize) -> [(&'static str, Model); 2] {
    let model = || text_model(dtype, n_threads);
    [("ours", model()), ("ggml", tiny::by_ggml(model()))]
}

/// Rows of sequence 0 from position `first` on: tokens, with embeddings at every third position.
fn rows(first: u32, n: u32) -> Vec<Row> {
    let input = |pos: u32| match pos % 3 {
        2 => Input::Embd(pos as usize),
        _ => Input::Token((pos * 31 + 7) % TEXT.n_vocab),
    };
    (first..first + n).map(|pos| Row { input: input(pos), seq: 0, pos, want_logits: true }).collect()
}

fn embeddings(n: u32) -> Vec<f32> {
    noise("embeddings", (n * TEXT.n_embd) as usize)
}

/// Text and picture rows mixed, for every type of cache, and over a step of cells; by our kernels and by ggml
/// alone.
#[test]
fn nodes_equal_the_reference() {
    let (model, tensors) = tiny::model(&tiny::config(None, None, Some(TEXT)), DType::F32, 2);
    let by_ggml = tiny::by_ggml(text_model(DType::F32, 2));
    let types =
        [(KvType::F32, F32_BOUND, 262), (KvType::F16, F16_KV_BOUND, 19), (KvType::Q8_0, Q8_0_KV_BOUND, 19)];
    for (kv_type, bound, n) in types {
        let (rows, embd) = (rows(0, n), embeddings(n));
        let table = tensors.get("token_embd.weight");
        let n_embd = TEXT.n_embd as usize;
        let input = |row: &Row| match row.input {
            Input::Token(id) => table[id as usize * n_embd..][..n_embd].to_vec(),
            Input::Embd(at) => embd[at * n_embd..][..n_embd].iter().map(|&v| f64::from(v)).collect(),
        };
        let mut nodes = Nodes::new();
        reference::decoder(&TEXT, &tensors, rows.iter().map(input).collect(), &mut nodes);
        for (who, model) in [("ours", &model), ("ggml", &by_ggml)] {
            let mut compare = Compare::new(format!("{kv_type:?} cache, {who}"), nodes.clone(), bound);
            let mut decoder = Decoder::new(model, 300, 1, kv_type).unwrap();
            decoder.forward_observed(&rows, &embd, &Cancel::new(), &mut compare).unwrap();
            compare.finish();
        }
    }
}

/// Nodes that are watched are made one by one, and some weights read in f32 what others read packed.
#[test]
fn observers_change_no_bit() {
    let types: [(&str, tiny::TypeByName); 3] = [
        ("f16", |_| DType::F16),
        ("q8_0", |_| DType::Q8_0),
        (
            "mixed",
            |name| if name.contains("attn_q") || name.contains("up") { DType::Q8_0 } else { DType::F16 },
        ),
    ];
    let config = tiny::config(None, None, Some(TEXT));
    let (rows, embd) = (rows(0, 19), embeddings(19));
    for (dtype, dtype_of) in types {
        let decoder = || {
            let (model, _) = tiny::model_of(&config, dtype_of, 2);
            Decoder::new(&model, 64, 1, KvType::F16).unwrap()
        };
        let expected = flat(decoder().forward(&rows, &embd, &Cancel::new()).unwrap());
        let mut everything = Everything::default();
        let found = decoder().forward_observed(&rows, &embd, &Cancel::new(), &mut everything).unwrap();
        assert!(everything.0.contains_key("output_norm") && everything.0.contains_key("blk.1.attn_out"));
        assert!(flat(found) == expected, "{dtype}");
    }
}

/// The bits of a row, whatever rides along: chunks of all sizes, other sequences, threads; by types of
/// weights and caches. Quantized products switch kernels from 8 columns on unless told not to.
#[test]
fn bits_depend_on_the_own_sequence_only() {
    const N: u32 = 19;
    let types = [
        (DType::F32, KvType::F32),
        (DType::F16, KvType::F16),
        (DType::BF16, KvType::F16),
        (DType::Q8_0, KvType::Q8_0),
        (DType::Q4_0, KvType::F16),
        (DType::Q4_K, KvType::F16),
        (DType::Q6_K, KvType::Q8_0),
    ];
    for (dtype, kv_type) in types {
        let expected = in_chunks(&text_model(dtype, 1), kv_type, N, N);
        assert!(expected.iter().all(|l| l.is_finite()), "{dtype} weights, {kv_type:?} cache");
        for n_threads in [1, 2, 3] {
            let model = text_model(dtype, n_threads);
            let case = format!("{dtype} weights, {kv_type:?} cache, {n_threads} threads");
            for chunk in [1, 2, 7, 16, N] {
                assert!(in_chunks(&model, kv_type, N, chunk) == expected, "{case}, chunks of {chunk}");
            }
            assert!(beside_others(&model, kv_type, N) == expected, "{case}, beside others");
        }
    }
    for kv_type in KvType::ALL {
        let expected = in_chunks(&tiny::by_ggml(text_model(DType::F32, 1)), kv_type, N, N);
        let model = tiny::by_ggml(text_model(DType::F32, 2));
        for chunk in [1, 7] {
            let is_same = in_chunks(&model, kv_type, N, chunk) == expected;
            assert!(is_same, "ggml, {kv_type:?} cache, chunks of {chunk}");
        }
        assert!(beside_others(&model, kv_type, N) == expected, "ggml, {kv_type:?} cache, beside others");
    }
}

fn in_chunks(model: &Model, kv_type: KvType, n: u32, chunk: u32) -> Vec<f32> {
    let mut decoder = Decoder::new(model, n, 1, kv_type).unwrap();
    let (rows, embd) = (rows(0, n), embeddings(n));
    rows.chunks(chunk as usize)
        .flat_map(|rows| flat(decoder.forward(rows, &embd, &Cancel::new()).unwrap()))
        .collect()
}

/// The same rows in sequence 1 of 3, a few at a time, with other rows before and behind.
fn beside_others(model: &Model, kv_type: KvType, n: u32) -> Vec<f32> {
    let mut decoder = Decoder::new(model, 2 * n, 3, kv_type).unwrap();
    let embd = embeddings(n);
    let mut logits = Vec::new();
    for own in rows(0, n).chunks(4) {
        let other = |seq: u32, i: u32, decoder: &Decoder| Row {
            input: Input::Token(i * 13 % TEXT.n_vocab),
            seq,
            pos: decoder.n_past(seq) + i,
            want_logits: seq == 2,
        };
        let mut all: Vec<Row> = (0..6).map(|i| other(0, i, &decoder)).collect();
        all.extend(own.iter().map(|row| Row { seq: 1, ..*row }));
        all.push(other(2, 0, &decoder));
        let step = decoder.forward(&all, &embd, &Cancel::new()).unwrap();
        logits.extend(step.rows().take(own.len()).flatten());
    }
    logits
}

/// A context of several steps of cells: what was prefilled at once equals what was decoded token by token,
/// also where a step begins.
#[test]
fn bits_do_not_change_over_steps_of_cells() {
    const N: u32 = 520;
    // In f32, since quantized activations would round small differences away.
    let models = text_models(DType::F32, 2);
    let embd = embeddings(N);
    for ((who, model), kv_type) in models.iter().flat_map(|m| KvType::ALL.map(|kv_type| (m, kv_type))) {
        let mut at_once = Decoder::new(model, N, 1, kv_type).unwrap();
        let expected = flat(at_once.forward(&rows(0, N), &embd, &Cancel::new()).unwrap());
        let mut in_parts = Decoder::new(model, 1024, 1, kv_type).unwrap();
        let parts = [rows(0, 250), rows(260, 245)];
        for (part, next) in parts.iter().zip([250..260, 505..N]) {
            in_parts.forward(part, &embd, &Cancel::new()).unwrap();
            for row in next.flat_map(|pos| rows(pos, 1)) {
                let logits = flat(in_parts.forward(&[row], &embd, &Cancel::new()).unwrap());
                let at = (row.pos * TEXT.n_vocab) as usize;
                let is_same = logits == expected[at..at + logits.len()];
                assert!(is_same, "{who}, {kv_type:?} cache, position {}", row.pos);
            }
        }
    }
}

/// Forgetting and decoding again gives the same bits, and other tokens other ones.
#[test]
fn truncated_sequences_decode_again() {
    let model = text_model(DType::F32, 2);
    for kv_type in KvType::ALL {
        let mut decoder = Decoder::new(&model, 64, 2, kv_type).unwrap();
        let embd = embeddings(64);
        let first = flat(decoder.forward(&rows(0, 20), &embd, &Cancel::new()).unwrap());
        decoder.truncate(0, 50);
        assert_eq!(decoder.n_past(0), 20);
        decoder.truncate(0, 11);
        assert_eq!(decoder.n_past(0), 11);
        let mut others = rows(11, 9);
        others[0].input = Input::Token(1);
        let other = flat(decoder.forward(&others, &embd, &Cancel::new()).unwrap());
        decoder.truncate(0, 11);
        let again = flat(decoder.forward(&rows(11, 9), &embd, &Cancel::new()).unwrap());
        let tail = &first[11 * TEXT.n_vocab as usize..];
        assert!(again == tail && other != tail, "{kv_type:?} cache");
    }
}

/// A cache that grew, with sequences of different lengths in it, goes on with the same bits.
#[test]
fn a_cache_grows_with_what_is_in_it() {
    let models = text_models(DType::F32, 2);
    let cancel = Cancel::new();
    for ((who, model), kv_type) in models.iter().flat_map(|m| KvType::ALL.map(|kv_type| (m, kv_type))) {
        let embd = embeddings(32);
        let in_slot =
            |seq: u32, rows: Vec<Row>| rows.into_iter().map(|row| Row { seq, ..row }).collect::<Vec<_>>();
        let run = |grows: bool| {
            let mut decoder = Decoder::new(model, 32, 3, kv_type).unwrap();
            decoder.forward(&in_slot(1, rows(0, 20)), &embd, &cancel).unwrap();
            decoder.forward(&in_slot(2, rows(0, 5)), &embd, &cancel).unwrap();
            if grows {
                decoder.grow(300).unwrap();
                assert_eq!((decoder.n_ctx(), decoder.n_past(1)), (300, 20));
            }
            let next = [in_slot(1, rows(20, 3)), in_slot(2, rows(5, 3))].concat();
            flat(decoder.forward(&next, &embd, &cancel).unwrap())
        };
        assert!(run(true) == run(false), "{who}, {kv_type:?} cache");
    }
    let mut decoder = Decoder::new(&models[0].1, 32, 1, KvType::F16).unwrap();
    decoder.forward(&rows(0, 20), &embeddings(20), &cancel).unwrap();
    assert_eq!(decoder.grow(19).unwrap_err().to_string(), "context: expected at least 20, found 19");
    assert_eq!(decoder.n_ctx(), 32);
}

/// Rows that want no logits change nothing for those that do.
#[test]
fn logits_come_for_the_rows_that_want_them() {
    let model = text_model(DType::F32, 2);
    let embd = embeddings(8);
    let all =
        Decoder::new(&model, 8, 1, KvType::F16).unwrap().forward(&rows(0, 8), &embd, &Cancel::new()).unwrap();
    let mut some = rows(0, 8);
    some.iter_mut().for_each(|row| row.want_logits = matches!(row.pos, 3 | 7));
    let mut decoder = Decoder::new(&model, 8, 1, KvType::F16).unwrap();
    let logits = decoder.forward(&some, &embd, &Cancel::new()).unwrap();
    let expected: Vec<_> =
        all.rows().enumerate().filter(|(i, _)| matches!(i, 3 | 7)).map(|(_, row)| row).collect();
    assert!(logits.rows().collect::<Vec<_>>() == expected);

    some.iter_mut().for_each(|row| row.want_logits = false);
    decoder.truncate(0, 0);
    assert_eq!(decoder.forward(&some, &embd, &Cancel::new()).unwrap().rows().len(), 0);
    assert_eq!(decoder.n_past(0), 8);
}

/// What is planned before a pass runs is what it allocates at the end of the context, and some scratch beside that.
#[test]
fn bytes_of_a_pass_are_known_before_it_runs() {
    const N_CTX: u32 = 600;
    for (who, model) in text_models(DType::Q8_0, 2) {
        check_bytes(who, || Decoder::new(&model, N_CTX, 1, KvType::F16).unwrap());
    }
}

fn check_bytes(who: &str, new: impl Fn() -> Decoder) {
    let n_ctx = new().n_ctx();
    let rows = |range: std::ops::Range<u32>| -> Vec<Row> {
        range
            .map(|pos| Row { input: Input::Token(pos % 97), seq: 0, pos, want_logits: pos + 1 == n_ctx })
            .collect()
    };
    for n in [1, 64, 300] {
        let (mut decoder, mut fresh) = (new(), new());
        let bytes = decoder.pass_bytes(n).unwrap().total();
        assert_eq!(decoder.allocated_bytes(), 0);
        // Reads the context one row at a time, then the rows in question.
        for row in rows(0..n_ctx - n) {
            decoder.forward(&[row], &[], &Cancel::new()).unwrap();
        }
        let logits = decoder.forward(&rows(n_ctx - n..n_ctx), &[], &Cancel::new()).unwrap();
        let allocated = decoder.allocated_bytes();
        assert!((allocated..2 * allocated).contains(&bytes), "{who}, {n}: {bytes}, {allocated}");
        let expected = fresh.forward(&rows(0..n_ctx), &[], &Cancel::new()).unwrap();
        assert!(flat(logits) == flat(expected), "{who}: asking changes no answer");
    }
    // No pass takes more than 512 rows, whatever is asked.
    let [most, more] = [512, 9000].map(|n| new().pass_bytes(n).unwrap().total());
    assert!(most <= more && more < most + most / 4, "{who}: {most}, {more}");
}

/// A cancelled prefill leaves a cache that can go on.
#[test]
fn a_cancelled_prefill_goes_on_later() {
    let model = text_model(DType::F32, 2);
    let embd = embeddings(32);
    let expected = in_chunks(&model, KvType::F32, 32, 32);
    let mut decoder = Decoder::new(&model, 32, 1, KvType::F32).unwrap();
    let cancel = Cancel::new();
    let first = flat(decoder.forward(&rows(0, 10), &embd, &cancel).unwrap());
    cancel.cancel();
    assert!(matches!(decoder.forward(&rows(10, 22), &embd, &cancel), Err(Error::Cancelled)));
    let n_past = decoder.n_past(0);
    cancel.reset();
    let rest = flat(decoder.forward(&rows(n_past, 32 - n_past), &embd, &cancel).unwrap());
    assert!(n_past == 10 && [first, rest].concat() == expected);
}

#[test]
fn misuse_is_an_error_and_computes_nothing() {
    let model = text_model(DType::F32, 1);
    let mut decoder = Decoder::new(&model, 8, 2, KvType::F32).unwrap();
    let row = Row { input: Input::Token(3), seq: 0, pos: 0, want_logits: false };
    let cases: &[(&[Row], &[f32], &str)] = &[
        (&[Row { input: Input::Token(97), ..row }], &[], "row 0: token: expected less than 97, found 97"),
        (&[row, Row { pos: 2, ..row }], &[], "row 1: position: expected 1, found 2"),
        (&[Row { seq: 2, ..row }], &[], "row 0: sequence: expected less than 2, found 2"),
        (&[Row { input: Input::Embd(0), ..row }], &[], "row 0: embedding row: expected less than 0, found 0"),
        (&[row], &[0.0; 255], "embeddings: expected rows of 256, found 255 values"),
        (&[0, 1, 2, 3, 4, 5, 6, 7, 8].map(|pos| Row { pos, ..row }), &[], "context: at most 8, found 9"),
    ];
    for (rows, embd, text) in cases {
        assert_eq!(decoder.forward(rows, embd, &Cancel::new()).unwrap_err().to_string(), *text);
        assert_eq!(decoder.n_past(0), 0);
    }
    assert_eq!(decoder.forward(&[], &[], &Cancel::new()).unwrap().rows().len(), 0);

    let refused = |n_ctx, n_seq| Decoder::new(&model, n_ctx, n_seq, KvType::F16).err().map(|e| e.to_string());
    assert_eq!(refused(1025, 1).as_deref(), Some("context of the model: at most 1024, found 1025"));
    assert_eq!(refused(8, 257).as_deref(), Some("sequences: at most 256, found 257"));
    assert_eq!(refused(0, 1).as_deref(), Some("context: expected some positions, found 0 for 1 sequences"));
}

/// Numbers that are none are an error; they haunt neither the next conversation nor the neighbours.
#[test]
fn poison_is_reported_and_removed() {
    let models = text_models(DType::F32, 2);
    let cancel = Cancel::new();
    for ((who, model), kv_type) in models.iter().flat_map(|m| KvType::ALL.map(|kv_type| (m, kv_type))) {
        let mut decoder = Decoder::new(model, 8, 2, kv_type).unwrap();
        let neighbour =
            |first, n| rows(first, n).into_iter().map(|row| Row { seq: 1, ..row }).collect::<Vec<_>>();
        let mut embd = embeddings(3);
        let expected =
            flat(decoder.forward(&[rows(0, 3), neighbour(0, 3)].concat(), &embd, &cancel).unwrap());
        decoder.truncate(0, 0);
        decoder.truncate(1, 2);

        embd[2 * 256..].fill(f32::NAN);
        let last_is_sound = Row { input: Input::Token(0), ..neighbour(2, 1)[0] };
        let error =
            decoder.forward(&[&rows(0, 3)[..], &[last_is_sound]].concat(), &embd, &cancel).unwrap_err();
        assert_eq!(error.to_string(), "tiny: logits: expected numbers, found infinities or NaN");
        assert_eq!([decoder.n_past(0), decoder.n_past(1)], [0, 2]);

        let again =
            decoder.forward(&[rows(0, 2), neighbour(2, 1)].concat(), &embeddings(3), &cancel).unwrap();
        let again = flat(again);
        let n_vocab = TEXT.n_vocab as usize;
        assert!(again[..2 * n_vocab] == expected[..2 * n_vocab], "{who}, {kv_type:?} cache");
        assert!(again[2 * n_vocab..] == expected[5 * n_vocab..], "{who}, {kv_type:?} cache, neighbour");
    }
}

#[test]
fn a_cache_takes_what_was_said() {
    // 2 tensors, 2 layers, 128 values a row, 256 cells a step
    let cases = [
        (KvType::F32, 1, 1, 4 * 131072),
        (KvType::F16, 257, 1, 4 * 131072),
        (KvType::Q8_0, 256, 3, 3 * 139264),
    ];
    for (kv_type, n_ctx, n_seq, bytes) in cases {
        assert_eq!(kv_bytes(&TEXT, n_ctx, n_seq, kv_type), bytes, "{kv_type:?} {n_ctx} {n_seq}");
    }
}

fn flat(logits: Logits) -> Vec<f32> {
    logits.rows().flatten().copied().collect()
}

/// Rows of `seq` in the order of a file, in parts that are not steps of cells.
fn parts(n_past: u32) -> impl Iterator<Item = KvRows> {
    let halves = (0..TEXT.n_layer).flat_map(|layer| [KvHalf::Keys, KvHalf::Values].map(|half| (layer, half)));
    let cuts = (0..n_past).step_by(100).map(move |first| (first, 100.min(n_past - first)));
    halves.flat_map(move |(layer, half)| cuts.clone().map(move |(first, n)| KvRows { layer, half, first, n }))
}

/// What was cached goes on in another decoder, in another slot of another size, beside a neighbour: with the
/// same bits, and without a trace of what was there before.
#[test]
fn cached_rows_move_to_another_decoder() {
    const N: u32 = 300;
    let models = text_models(DType::F32, 2);
    let (embd, cancel) = (embeddings(N + 4), Cancel::new());
    for ((who, model), kv_type) in models.iter().flat_map(|m| KvType::ALL.map(|kv_type| (m, kv_type))) {
        let mut from = Decoder::new(model, 320, 1, kv_type).unwrap();
        from.forward(&rows(0, N), &embd, &cancel).unwrap();
        let saved: Vec<_> = parts(N).map(|part| (part, from.read_rows(0, part).unwrap())).collect();
        let expected = flat(from.forward(&rows(N, 4), &embd, &cancel).unwrap());
        let row_bytes = kv_row_bytes(&TEXT, kv_type) as usize;
        assert!(saved.iter().all(|(part, bytes)| bytes.len() == part.n as usize * row_bytes));

        let in_slot =
            |seq: u32, rows: Vec<Row>| rows.into_iter().map(|row| Row { seq, ..row }).collect::<Vec<_>>();
        let mut to = Decoder::new(model, 700, 3, kv_type).unwrap();
        to.forward(&in_slot(2, rows(0, 9)), &embd, &cancel).unwrap();
        to.forward(&in_slot(1, rows(0, 4)), &embd, &cancel).unwrap();
        to.assume(1, N).unwrap();
        for (part, bytes) in &saved {
            to.write_rows(1, *part, bytes).unwrap();
        }
        let here: Vec<_> = parts(N).map(|part| (part, to.read_rows(1, part).unwrap())).collect();
        assert!(here == saved, "{who}, {kv_type:?} cache: rows");
        let next = [in_slot(1, rows(N, 4)), in_slot(2, rows(9, 1))].concat();
        let logits = flat(to.forward(&next, &embd, &cancel).unwrap());
        assert!(logits[..expected.len()] == expected, "{who}, {kv_type:?} cache: next positions");
    }
}

#[test]
fn cached_rows_that_make_no_sense() {
    let model = text_model(DType::F32, 1);
    let rows_of = |layer, first, n| KvRows { layer, half: KvHalf::Values, first, n };
    for (kv_type, poison) in [
        (KvType::F32, f32::NAN.to_ne_bytes().to_vec()),
        (KvType::F16, 0xfc00u16.to_ne_bytes().to_vec()),
        (KvType::Q8_0, 0x7e00u16.to_ne_bytes().to_vec()),
    ] {
        let mut decoder = Decoder::new(&model, 8, 1, kv_type).unwrap();
        decoder.forward(&rows(0, 3), &embeddings(3), &Cancel::new()).unwrap();
        let good = decoder.read_rows(0, rows_of(1, 1, 2)).unwrap();
        let row_bytes = good.len() / 2;
        let mut poisoned = good.clone();
        poisoned[row_bytes..row_bytes + poison.len()].copy_from_slice(&poison);
        let cases: [(KvRows, &[u8], String); 6] = [
            (rows_of(1, 2, 2), &good, "cached rows: expected some of 3 positions, found 2 from 2 on".into()),
            (
                rows_of(1, u32::MAX, 2),
                &good,
                format!("cached rows: expected some of 3 positions, found 2 from {} on", u32::MAX),
            ),
            (rows_of(2, 1, 2), &good, "layer: expected less than 2, found 2".into()),
            (
                rows_of(1, 1, 2),
                &good[1..],
                format!("cached rows: expected {} bytes, found {}", good.len(), good.len() - 1),
            ),
            (
                rows_of(1, 1, 1),
                &good,
                format!("cached rows: expected {row_bytes} bytes, found {}", good.len()),
            ),
            (rows_of(1, 1, 2), &poisoned, "cached rows: expected numbers, found infinities or NaN".into()),
        ];
        for (rows, bytes, text) in cases {
            assert_eq!(decoder.write_rows(0, rows, bytes).unwrap_err().to_string(), text, "{kv_type:?}");
        }
        assert!(decoder.read_rows(0, rows_of(1, 1, 2)).unwrap() == good, "{kv_type:?}: nothing changed");
        let no_sequence = decoder.read_rows(1, rows_of(0, 0, 1)).unwrap_err().to_string();
        assert_eq!(no_sequence, "cached rows: expected some of 0 positions, found 1 from 0 on");
        assert_eq!(decoder.assume(0, 9).unwrap_err().to_string(), "positions of a cache: at most 8, found 9");
        assert_eq!(decoder.assume(1, 1).unwrap_err().to_string(), "sequence: expected less than 1, found 1");
    }
}
