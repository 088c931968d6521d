//! Configs written and read back; and every rule of the schema, broken.

use ggml::DType;
use owlet_format::*;

use crate::{model, open, raw};

fn read_back(config: &ModelConfig) -> Result<ModelConfig> {
    let file = open(model::file(&model::metadata(config), &model::plan(config)))?;
    let read = ModelConfig::read(&file)?;
    read.check(&file)?;
    Ok(read)
}

#[test]
fn configs_come_back() {
    let whole = model::config();
    let tower = ModelConfig {
        text: None,
        tokenizer: None,
        prompt: None,
        generation: None,
        projector: None,
        vision: Some(VisionConfig {
            norm: NormKind::Layer,
            qk_norm: QkNorm::None,
            qkv_bias: true,
            act: Activation::QuickGelu,
            cls: false,
            patch_bias: true,
            pre_norm: false,
            layer_scale: false,
            ..whole.vision.clone().unwrap()
        }),
        image: Some(ImageConfig { n_tokens: 16, fit: Fit::Crop, ..whole.image.clone().unwrap() }),
        ..whole.clone()
    };
    let decoder = ModelConfig { vision: None, projector: None, image: None, ..whole.clone() };
    let llava = ModelConfig {
        projector: Some(ProjectorConfig {
            kind: ProjectorKind::Mlp2xGelu,
            shuffle: Shuffle::None,
            ratio: 1,
            ..whole.projector.clone().unwrap()
        }),
        image: Some(ImageConfig { n_tokens: 16, fit: Fit::Pad, ..whole.image.clone().unwrap() }),
        ..whole.clone()
    };
    let parts = [whole, tower, decoder, llava].map(|config| {
        config.validate("config").unwrap();
        assert_eq!(read_back(&config).unwrap(), config);
        config.parts().map(Part::word).collect::<Vec<_>>()
    });
    assert_eq!(parts[..3], [vec!["vision", "projector", "text"], vec!["vision"], vec!["text"]]);
}

/// The shapes of the real model: every identity of the fact sheet's that can be counted.
#[test]
fn internvl_chat_v1_1_has_its_parameters() {
    let tiny = model::config();
    let config = ModelConfig {
        vision: Some(VisionConfig {
            n_embd: 3200,
            n_head: 25,
            n_layer: 48,
            n_ff: 12_800,
            image_px: 448,
            source_n_layer: 48,
            ..tiny.vision.clone().unwrap()
        }),
        projector: Some(ProjectorConfig { n_embd_out: 5120, ..tiny.projector.clone().unwrap() }),
        text: Some(TextConfig {
            n_vocab: 41_919,
            n_ctx_train: 4096,
            n_embd: 5120,
            n_layer: 40,
            n_ff: 13_824,
            n_head: 40,
            n_head_kv: 40,
            rope_dim: 128,
            ..tiny.text.clone().unwrap()
        }),
        ..tiny
    };
    let tensors = config.tensors();
    let count = |part| {
        let of_part = tensors.iter().filter(|spec| spec.part == part);
        of_part.fold((0, 0), |(n, sum), spec| (n + 1, sum + spec.ne.n_elements()))
    };
    assert_eq!(count(Part::Vision), (628, 5_905_251_200));
    assert_eq!(count(Part::Projector), (6, 91_786_240));
    assert_eq!(count(Part::Text), (363, 13_117_434_880));
    let shapes: Vec<_> =
        ["v.blk.47.attn_qkv.weight", "v.position_embd.weight", "mm.1.weight", "output.weight"]
            .iter()
            .map(|name| tensors.iter().find(|spec| spec.name == *name).unwrap().ne.to_string())
            .collect();
    assert_eq!(shapes, ["[3200, 9600]", "[3200, 1025]", "[12800, 5120]", "[5120, 41919]"]);
}

/// No key may be missing, and none of another type is taken.
#[test]
fn every_key_is_needed_and_typed() {
    let config = model::config();
    let whole = model::metadata(&config);
    let plan = model::plan(&config);
    // what others read: our reader needs neither
    let for_others = ["general.quantization_version", "tokenizer.ggml.pre"];
    // absent means that there is none
    let optional =
        ["tokenizer.ggml.padding_token_id", "owlet.provenance.revision", "owlet.provenance.shards"];
    for (key, value) in whole.iter().filter(|(key, _)| !for_others.contains(key)) {
        let file = |replacement: Option<Value>| {
            let mut metadata = Metadata::new("tiny.gguf");
            for (other, value) in whole.iter() {
                match (other == key, &replacement) {
                    (false, _) => metadata.put(other, value.clone()),
                    (true, Some(replacement)) => metadata.put(other, replacement.clone()),
                    (true, None) => {}
                }
            }
            let bytes = model::try_file(&metadata, &plan)?;
            ModelConfig::read(&open(bytes)?)
        };
        let prefix = format!("tiny.gguf: key {key}: expected ");
        match file(None) {
            Ok(config) => {
                assert!(optional.contains(&key), "{key}");
                let gone = [
                    config.tokenizer.unwrap().pad_id.is_none(),
                    config.provenance.revision.is_empty(),
                    config.provenance.shards.is_empty(),
                ];
                assert_eq!(gone, optional.map(|optional| optional == key));
            }
            Err(error) => {
                let text = error.to_string();
                assert!(text.starts_with(&prefix) && text.ends_with("found no such key"), "{text}");
            }
        }
        let other = match value {
            Value::I8(_) => Value::U8(1),
            _ => Value::I8(1),
        };
        let text = file(Some(other)).unwrap_err().to_string();
        assert!(text.starts_with(&prefix) && text.ends_with(", found i8"), "{text}");
    }
}

/// One key changed, and what the reader says.
#[test]
fn values_out_of_range_are_refused() {
    let string = |text: &str| Value::from(text);
    let strings = |items: &[&str]| Value::from(items.iter().collect::<Strings>());
    let cases: Vec<(&str, Value, &str)> = vec![
        ("general.alignment", 32u32.into(), "expected 64, found 32"),
        ("owlet.version", 0u32.into(), "expected 1, found 0"),
        (
            "owlet.parts",
            strings(&["vision", "audio"]),
            "expected vision, projector or text once each, found audio",
        ),
        (
            "owlet.parts",
            strings(&["text", "text"]),
            "expected vision, projector or text once each, found text",
        ),
        ("owlet.parts", strings(&[]), "expected vision or text, found neither"),
        ("owlet.parts", strings(&["projector"]), "expected vision beside the projector, found none"),
        (
            "owlet.parts",
            strings(&["vision", "text"]),
            "expected a projector between vision and text, found none",
        ),
        // the tower
        ("clip.vision.embedding_length", 0u32.into(), "expected 1 to 16384, found 0"),
        ("clip.vision.embedding_length", 33u32.into(), ""),
        ("clip.vision.attention.head_count", 0u32.into(), "expected 1 to 256, found 0"),
        ("clip.vision.attention.head_count", 3u32.into(), "expected a divisor of n_embd 32, found 3"),
        ("clip.vision.block_count", u32::MAX.into(), "expected 1 to 256, found 4294967295"),
        ("clip.vision.feed_forward_length", 0u32.into(), "expected 1 to 65536, found 0"),
        ("clip.vision.patch_size", 0u32.into(), "expected 1 to 256, found 0"),
        ("clip.vision.image_size", 57u32.into(), "expected a multiple of patch_px 14, found 57"),
        ("clip.vision.image_size", 4097u32.into(), "expected 1 to 4096, found 4097"),
        (
            "clip.vision.image_size",
            (14u32 * 110).into(),
            "expected at most 268435456 attention scores a block, found 292868402",
        ),
        ("owlet.vision.norm", string("batch"), "expected rms or layer, found batch"),
        ("owlet.vision.qk_norm", string(""), "expected none or full, found "),
        ("owlet.vision.act", string("gelu"), "expected gelu_erf or quick_gelu, found gelu"),
        (
            "clip.vision.attention.layer_norm_epsilon",
            f32::NAN.into(),
            "expected 0.000000000001 to 0.1, found NaN",
        ),
        ("clip.vision.attention.layer_norm_epsilon", 0f32.into(), "expected 0.000000000001 to 0.1, found 0"),
        // the projector
        ("owlet.projector.kind", string("mlp9"), "expected mlp1 or mlp2x_gelu, found mlp9"),
        ("owlet.projector.norm_eps", f32::INFINITY.into(), "expected 0.000000000001 to 0.1, found inf"),
        ("owlet.projector.shuffle", string("v3"), "expected none or v1 or v2, found v3"),
        ("owlet.projector.shuffle", string("none"), ""),
        ("owlet.projector.ratio", 0u32.into(), "expected 1 to 8, found 0"),
        ("owlet.projector.ratio", 1u32.into(), "expected 2 to 8 for shuffle v1, found 1"),
        ("owlet.projector.ratio", 3u32.into(), "expected a divisor of the grid of 4 patches, found 3"),
        ("clip.vision.projection_dim", 65u32.into(), "expected the text model's n_embd 64, found 65"),
        // pictures
        ("owlet.image.size_px", 28u32.into(), "expected 56, found 28"),
        ("owlet.image.fit", string("stretch"), "expected squash or pad or crop, found stretch"),
        ("owlet.image.pad_rgb", vec![1u8, 2].into(), "expected 3 items, red green blue, found 2"),
        ("owlet.image.mean", vec![0f32, 0.0, f32::NAN].into(), "expected -1000 to 1000, found NaN"),
        ("owlet.image.std", vec![1f32, 0.0, 1.0].into(), "expected 0.0001 to 10000, found 0"),
        ("owlet.image.std", vec![1f32; 4].into(), "expected 3 items, red green blue, found 4"),
        ("owlet.image.n_tokens", 16u32.into(), "expected 4, found 16"),
        // the text model
        ("llama.vocab_size", 0u32.into(), "expected 1 to 1048576, found 0"),
        ("llama.vocab_size", 1_048_577u32.into(), "expected 1 to 1048576, found 1048577"),
        ("llama.context_length", 0u32.into(), "expected 1 to 1048576, found 0"),
        ("llama.embedding_length", 0u32.into(), "expected 1 to 65536, found 0"),
        ("llama.block_count", 1025u32.into(), "expected 1 to 1024, found 1025"),
        ("llama.feed_forward_length", 0u32.into(), "expected 1 to 262144, found 0"),
        ("llama.attention.head_count", 0u32.into(), "expected 1 to 1024, found 0"),
        ("llama.attention.head_count", 3u32.into(), "expected a divisor of n_embd 64, found 3"),
        ("llama.attention.head_count_kv", 0u32.into(), "expected 1 to 1024, found 0"),
        ("llama.attention.head_count_kv", 3u32.into(), "expected a divisor of n_head 4, found 3"),
        (
            "llama.attention.layer_norm_rms_epsilon",
            (-1f32).into(),
            "expected 0.000000000001 to 0.1, found -1",
        ),
        ("llama.rope.dimension_count", 15u32.into(), "expected an even number up to head_dim 16, found 15"),
        ("llama.rope.dimension_count", 18u32.into(), "expected an even number up to head_dim 16, found 18"),
        ("llama.rope.dimension_count", 0u32.into(), "expected 2 to 65536, found 0"),
        ("llama.rope.freq_base", f32::NAN.into(), "expected 1 to 1000000000000, found NaN"),
        ("llama.rope.freq_base", 0f32.into(), "expected 1 to 1000000000000, found 0"),
        // the vocabulary
        ("tokenizer.ggml.model", string("gpt2"), "expected llama (SentencePiece BPE), found gpt2"),
        ("tokenizer.ggml.tokens", strings(&["one"]), "expected 16 items, one a token, found 1"),
        ("tokenizer.ggml.tokens", strings(&[""; 16]), "expected token 0 to have 1 to 1024 bytes, found 0"),
        // CVE-2025-49847: the longest token
        (
            "tokenizer.ggml.tokens",
            strings(&["x".repeat(1025).as_str(); 16]),
            "expected token 0 to have 1 to 1024 bytes, found 1025",
        ),
        ("tokenizer.ggml.scores", vec![0f32; 15].into(), "expected 16 items, one a token, found 15"),
        (
            "tokenizer.ggml.scores",
            vec![f32::NEG_INFINITY; 16].into(),
            "expected a finite score for token 0, found -inf",
        ),
        ("tokenizer.ggml.token_type", vec![1i32; 17].into(), "expected 16 items, one a token, found 17"),
        ("tokenizer.ggml.token_type", vec![0i32; 16].into(), "expected 1 to 6 for token 0, found 0"),
        ("tokenizer.ggml.token_type", vec![-1i32; 16].into(), "expected 1 to 6 for token 0, found -1"),
        // GHSA-g4cc-763q-h9h6: ids outside of the vocabulary
        ("tokenizer.ggml.bos_token_id", 16u32.into(), "expected a token id below 16, found 16"),
        ("tokenizer.ggml.eos_token_id", u32::MAX.into(), "expected a token id below 16, found 4294967295"),
        ("tokenizer.ggml.unknown_token_id", 16u32.into(), "expected a token id below 16, found 16"),
        ("tokenizer.ggml.padding_token_id", 16u32.into(), "expected a token id below 16, found 16"),
        // the prompt
        (
            "owlet.prompt.template",
            string("{{ jinja }}"),
            "expected internvl_zh, vicuna_v1 or hermes_2, found {{ jinja }}",
        ),
        ("owlet.prompt.human_id", 16u32.into(), "expected a token id below 16, found 16"),
        ("owlet.prompt.bot_id", 16u32.into(), "expected a token id below 16, found 16"),
        ("owlet.prompt.image_begin_id", 16u32.into(), "expected a token id below 16, found 16"),
        ("owlet.prompt.image_end_id", 16u32.into(), "expected a token id below 16, found 16"),
        ("owlet.prompt.system", "s".repeat(65_537).into(), "expected at most 65536 bytes, found 65537"),
        ("owlet.prompt.stop_ids", vec![2u32, 16].into(), "expected a token id below 16, found 16"),
        ("owlet.prompt.stop_ids", Vec::<u32>::new().into(), "expected 1 to 64 ids, found 0"),
        ("owlet.prompt.stop_ids", vec![2u32; 65].into(), "expected 1 to 64 ids, found 65"),
        // generation
        ("owlet.generation.temperature", f32::NAN.into(), "expected 0 to 100, found NaN"),
        ("owlet.generation.max_tokens", 0u32.into(), "expected 1 to 1048576, found 0"),
    ];
    let mut others = Vec::new();
    for (key, value, problem) in cases {
        let mut metadata = model::metadata(&model::config());
        metadata.put(key, value);
        // nothing but keys: what is wrong is found before tensors are looked at
        let file = open(model::file(&metadata, &[])).unwrap();
        let said = ModelConfig::read(&file).map_or_else(|error| error.to_string(), |_| "accepted".into());
        let right = match problem {
            // another key is the one that no longer fits
            "" => said.starts_with("tiny.gguf: key "),
            _ => said == format!("tiny.gguf: key {key}: {problem}"),
        };
        if !right {
            others.push(format!("{key}: should say: {problem}\n    says: {said}"));
        }
    }
    assert!(others.is_empty(), "\n{}", others.join("\n"));
}

#[test]
fn other_files_and_newer_ones_are_named() {
    for (key, value, text) in [
        (
            "general.architecture",
            Value::from("llama"),
            "tiny.gguf: not an owlet file but one of llama: use `owlet convert`",
        ),
        (
            "owlet.version",
            Value::from(2u32),
            "tiny.gguf: owlet file version 2, this program reads 1: upgrade owlet",
        ),
    ] {
        let mut metadata = model::metadata(&model::config());
        metadata.put(key, value);
        let file = open(model::file(&metadata, &[])).unwrap();
        assert_eq!(ModelConfig::read(&file).unwrap_err().to_string(), text);
    }
}

#[test]
fn configs_that_no_file_may_have_are_refused_before_writing() {
    let config = model::config();
    let half = ModelConfig { image: None, ..config.clone() };
    let wide = ModelConfig { projector: None, ..config };
    assert_eq!(
        wide.validate("checkpoint").unwrap_err().to_string(),
        "checkpoint: key owlet.parts: expected a projector between vision and text, found none"
    );
    assert_eq!(
        half.validate("checkpoint").unwrap_err().to_string(),
        "checkpoint: key owlet.image.size_px: expected u32, found no such key"
    );
}

/// One tensor changed, and what the check says.
#[test]
fn tensors_must_be_those_of_the_config() {
    let config = model::config();
    let said = |change: &dyn Fn(&mut Vec<TensorPlan>)| {
        let mut plan = model::plan(&config);
        change(&mut plan);
        let file = open(model::file(&model::metadata(&config), &plan)).unwrap();
        config.check(&file).unwrap_err().to_string()
    };
    fn find<'a>(plan: &'a mut [TensorPlan], name: &str) -> &'a mut TensorPlan {
        plan.iter_mut().find(|tensor| tensor.name == name).unwrap()
    }
    fn shape(ne: &[u64]) -> Shape {
        Shape::new(ne).unwrap()
    }
    assert_eq!(
        said(&|plan| plan.retain(|tensor| tensor.name != "blk.1.ffn_up.weight")),
        "tiny.gguf: tensor blk.1.ffn_up.weight: expected ne [64, 96], found no such tensor"
    );
    assert_eq!(
        said(&|plan| find(plan, "v.blk.1.attn_qkv.weight").shape = shape(&[96, 32])),
        "tiny.gguf: tensor v.blk.1.attn_qkv.weight: expected ne [32, 96], found [96, 32]"
    );
    assert_eq!(
        said(&|plan| find(plan, "v.blk.0.ln1.weight").dtype = DType::F16),
        "tiny.gguf: tensor v.blk.0.ln1.weight: expected type f32, found f16"
    );
    assert_eq!(
        said(&|plan| find(plan, "v.patch_embd.weight").dtype = DType::BF16),
        "tiny.gguf: tensor v.patch_embd.weight: expected type f32 or f16, found bf16"
    );
    for dtype in [DType::Q8_1, DType::I8, DType::F64] {
        assert_eq!(
            said(&|plan| find(plan, "output.weight").dtype = dtype),
            format!(
                "tiny.gguf: tensor output.weight: expected type f32, f16, bf16 or a quantized type for \
                 weights, found {dtype}"
            )
        );
    }
    assert_eq!(
        said(&|plan| plan.push(TensorPlan {
            name: "blk.2.attn_q.weight".into(),
            dtype: DType::F32,
            shape: shape(&[1])
        })),
        "tiny.gguf: tensor blk.2.attn_q.weight: expected no tensor of this name"
    );

    let trailing = [model::tiny(), vec![0; 5]].concat();
    assert_eq!(
        config.check(&open(trailing).unwrap()).unwrap_err().to_string(),
        "tiny.gguf: end: expected nothing behind the tensors, found 5 bytes"
    );
}

#[test]
fn checksums_are_one_a_tensor() {
    let config = model::config();
    let mut bytes = model::tiny();
    let key =
        bytes.windows(CHECKSUMS_KEY.len()).position(|window| window == CHECKSUMS_KEY.as_bytes()).unwrap();
    bytes[key + CHECKSUMS_KEY.len() - 1] = b'7';
    assert_eq!(
        config.check(&open(bytes).unwrap()).unwrap_err().to_string(),
        "tiny.gguf: key owlet.checksum.sha256: expected array of u8, found no such key"
    );

    let sums = raw::array(raw::U8, 31, [0; 31]);
    let short = raw::Raw::new().key(CHECKSUMS_KEY, raw::ARRAY, sums).tensor("t", &[8], 0, 0).data(32).build();
    assert_eq!(
        open(short).unwrap().checksums().unwrap_err().to_string(),
        "tiny.gguf: key owlet.checksum.sha256: expected 32 bytes, found 31"
    );

    // whatever stands under the key already, the writer keeps its own room
    let mut metadata = model::metadata(&config);
    metadata.put(CHECKSUMS_KEY, vec![0u8; 31]);
    let file = open(model::file(&metadata, &model::plan(&config))).unwrap();
    assert_eq!(file.checksums().unwrap().len(), file.tensors().len());
}

/// The specification names every key and every tensor.
#[test]
fn the_page_about_the_format_is_complete() {
    let page = include_str!("../../../docs/format.md");
    let whole = model::config();
    let others = ModelConfig {
        vision: Some(VisionConfig { norm: NormKind::Layer, qkv_bias: true, ..whole.vision.clone().unwrap() }),
        ..whole.clone()
    };
    let metadata = model::metadata(&whole);
    for name in metadata.iter().map(|(key, _)| key).chain([CHECKSUMS_KEY, SELF_TEST_KEY]) {
        assert!(page.contains(&format!("\n| `{name}` | ")), "docs/format.md lacks key {name}");
    }
    for spec in whole.tensors().into_iter().chain(others.tensors()) {
        let name = spec.name.replace("blk.0.", "blk.N.").replace("blk.1.", "blk.N.");
        assert!(page.contains(&format!("\n| `{name}` | ")), "docs/format.md lacks tensor {name}");
    }
}
