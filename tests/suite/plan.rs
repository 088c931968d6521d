//! `owlet inspect --plan`, and the refusal to start where memory cannot do.

use owlet::measure::{Synthetic, available, shape};
use serde_json::Value;

use crate::models::{Kind, path};
use crate::program::{Ran, command, owlet};

/// Runs the program with a state of its own in `state`.
fn with_state(state: &std::path::Path, args: &[&str]) -> String {
    let output = command(args).env("XDG_STATE_HOME", state).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn parts_and_seconds_before_loading() {
    let (model, state) = (path(Kind::Random), tempfile::tempdir().unwrap());
    let model = model.to_str().unwrap();
    let plan = |more: &[&str]| with_state(state.path(), &[&["inspect", model, "--plan"], more].concat());

    let text = plan(&["-c", "512"]);
    let line = |start: &str| {
        text.lines()
            .find(|line| line.trim_start().starts_with(start))
            .unwrap_or_else(|| panic!("{start}: {text}"))
    };
    assert!(
        text.starts_with(&format!("{model}: what it needs with a context of 512 and f16 keys and values\n"))
    );
    for part in ["vision weights", "projector weights", "text weights"] {
        assert!(line(part).ends_with(" kB  mapped"), "{text}");
    }
    // Two layers, 32 wide, two bytes a value, keys and values.
    assert!(line("KV cache").contains(" 131.07 kB"), "{text}");
    for part in [
        "text buffers",
        "vision buffers",
        "a photo",
        "program",
        "total",
        "with --low-memory",
        "without mapped",
    ] {
        assert!(line(part).ends_with('B') || line(part).trim_end().ends_with('B'), "{text}");
    }
    // The whole context is no longer than what a first question gets.
    let total: Vec<_> = line("total").split_whitespace().collect();
    assert!(matches!(total[..], ["total", first, _, full, _] if first == full), "{text}");
    assert!(
        text.contains("\nA first question has one picture and a cache of 512 positions, which grows"),
        "{text}"
    );
    assert!(
        text.ends_with("Seconds to expect: not known on this machine; `owlet bench` measures them.\n"),
        "{text}"
    );

    let bench = ["bench", "-m", model, "-q", "--no-limits", "-r", "1", "--test", "vision", "decode"];
    with_state(state.path(), &bench);
    let text = plan(&[]);
    assert!(text.contains("with a context of 2048 and f16 keys and values\n"), "{text}");
    for what in ["a picture: tower", "a token of the answer"] {
        let line =
            text.lines().find(|line| line.trim_start().starts_with(what)).unwrap_or_else(|| panic!("{text}"));
        assert!(line.contains(" s  measured on 2"), "{text}");
    }
    // Another model, and no share of a limit to guess from.
    let other = path(Kind::Story);
    let text = with_state(state.path(), &["inspect", other.to_str().unwrap(), "--plan"]);
    assert!(text.contains("Seconds to expect: not known"), "{text}");

    let plan: Value = serde_json::from_str(&plan(&["--json", "-c", "512", "--kv-type", "f32"])).unwrap();
    let parts = plan["parts"].as_array().unwrap();
    let sum: u64 = parts.iter().map(|part| part["n_bytes"].as_u64().unwrap()).sum();
    assert_eq!(plan["total_bytes"], sum);
    assert_eq!((&plan["n_ctx"], &plan["kv_type"]), (&512.into(), &"f32".into()));
    assert!(parts.iter().any(|part| part["what"] == "KV cache" && part["n_bytes"] == 262_144), "{plan}");
    // A longer context holds more than a first question fills: 1,536 positions of 512 bytes.
    let long: Value = serde_json::from_str(&with_state(
        state.path(),
        &["inspect", model, "--plan", "--json", "-c", "2048", "--kv-type", "f32"],
    ))
    .unwrap();
    let bytes = |name: &str| long[name].as_u64().unwrap() - long["first_question"][name].as_u64().unwrap();
    assert_eq!(long["first_question"]["n_positions"], 512);
    assert_eq!(bytes("total_bytes"), 1536 * 512, "{long}");
    assert_eq!(bytes("fixed_bytes"), bytes("low_memory_bytes"), "{long}");
    assert_eq!(plan["expected"][0]["test"], "vision", "{plan}");
    assert_eq!(plan["expected"][0]["is_same_model"], true, "{plan}");
}

#[test]
fn a_plan_needs_a_model_and_a_context_it_can_have() {
    let model = path(Kind::Random);
    let model = model.to_str().unwrap();
    let cases: [(&[&str], i32, &str); 3] = [
        (
            &["inspect", model, "--plan", "-c", "4096"],
            1,
            "owlet: context of the model: at most 2048, found 4096\n",
        ),
        (
            &["inspect", model, "-c", "512"],
            2,
            "error: the following required arguments were not provided:\n  --plan",
        ),
        (&["inspect", model, "--plan", "-c", "0"], 2, "error: invalid value '0' for '--ctx <N>'"),
    ];
    for (args, code, text) in cases {
        let Ran { code: found, out, err } = owlet(args);
        assert!(found == Some(code) && out.is_empty() && err.starts_with(text), "{args:?}: {found:?}\n{err}");
    }
}

/// 200 layers and a million positions: 107 GB of keys and values for 45 MB of weights.
#[test]
fn a_context_that_memory_cannot_hold_is_refused_with_one_that_it_can() {
    const KV_BYTES: u64 = (2 * 200 * 64 * 4) << 20;
    if available().is_none_or(|available| available > KV_BYTES) {
        println!("not run: this system has memory for it, or does not tell");
        return;
    }
    let mut config = shape("internvl-chat-v1-1", None, None).unwrap();
    (config.vision, config.projector, config.image) = (None, None, None);
    let text = config.text.as_mut().unwrap();
    (text.n_layer, text.n_embd, text.n_ff, text.n_head, text.n_head_kv) = (200, 64, 64, 1, 1);
    (text.rope_dim, text.n_ctx_train) = (64, 1 << 20);
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("deep.gguf");
    Synthetic::new(config, |_| ggml::DType::F32).write(&model).unwrap();
    let model = model.to_str().unwrap();
    let common = ["-m", model, "--kv-type", "f32", "-n", "1"];
    for args in [[&["run", "Q?"][..], &common].concat(), [&["chat"][..], &common].concat()] {
        let Ran { code, out, err } = owlet(&args);
        let start = "owlet: memory: a context of 1048576 needs 107.37 GB for keys and values and ";
        assert!(code == Some(1) && out.is_empty() && err.starts_with(start), "{args:?}: {err}");
        assert!(err.ends_with(" fits\n") && err.lines().count() == 1, "{err}");
    }
    let short = owlet(&["run", "-m", model, "--kv-type", "f32", "-c", "256", "-n", "1", "-q", "Q?"]);
    assert!(short.code == Some(0) && short.err.is_empty(), "{short:?}");
}
