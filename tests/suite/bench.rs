//! `owlet bench`: what it prints, for whom, and what it refuses.

use serde_json::Value;

use crate::models::{Kind, path};
use crate::program::{Ran, command, owlet};

/// `owlet bench` on the built-in model, one timed run of each test, as JSON.
fn report(more: &[&str]) -> Value {
    let args = [&["bench", "--json", "-q", "-r", "1", "-t", "2"], more].concat();
    let ran = owlet(&args);
    assert!(ran.err.is_empty(), "{}", ran.err);
    serde_json::from_str(&ran.ok()).unwrap()
}

fn result<'a>(report: &'a Value, test: &str) -> &'a Value {
    let results = report["results"].as_array().unwrap();
    results.iter().find(|result| result["test"] == test).unwrap_or_else(|| panic!("no {test} in {report}"))
}

fn is_positive(value: &Value) -> bool {
    value.as_f64().is_some_and(|x| x > 0.0 && x.is_finite())
}

#[test]
fn json_has_every_test_or_why_not() {
    let report = report(&["--no-limits"]);
    let timed = [
        ("picture", Some("jpeg"), "megapixels/s"),
        ("preprocess", None, "megapixels/s"),
        ("vision", Some("q8_0"), "pictures/s"),
        ("projector", Some("q8_0"), "pictures/s"),
        ("prefill256", Some("q8_0"), "tokens/s"),
        ("prefill512", Some("q8_0"), "tokens/s"),
        ("decode", Some("q8_0"), "tokens/s"),
        ("startup", None, "starts/s"),
    ];
    for (test, dtype, unit) in timed {
        let result = result(&report, test);
        assert_eq!((result["type"].as_str(), result["unit"].as_str()), (dtype, Some(unit)), "{result}");
        for name in ["seconds", "seconds_min", "seconds_max", "rate"] {
            assert!(is_positive(&result[name]), "{name} in {result}");
        }
        assert_eq!(
            (&result["repetitions"], &result["share_of_limit"]),
            (&1.into(), &Value::Null),
            "{result}"
        );
    }
    let tokens = result(&report, "prefill256");
    let product = tokens["seconds"].as_f64().unwrap() * tokens["rate"].as_f64().unwrap();
    assert!((product - 256.0).abs() < 1e-6, "{tokens}");
    // The built-in model was trained for 1,024 positions.
    let skipped = report["skipped"].as_array().unwrap();
    let why = "needs a context of 2064, this model has one of 1024";
    assert!(
        skipped.iter().any(|skipped| skipped["test"] == "decode2048" && skipped["why"] == why),
        "{report}"
    );
    if skipped.len() == 1 {
        let memory = result(&report, "memory");
        assert!(memory["seconds"].is_null() && memory["unit"] == "GB", "{memory}");
        assert!((0.005..2.0).contains(&memory["rate"].as_f64().unwrap()), "{memory}");
    } else {
        assert_eq!(skipped[1]["why"], "this system does not count it", "{report}");
    }
    assert_eq!(report["results"].as_array().unwrap().len() + skipped.len(), 10, "{report}");

    assert_eq!(report["limits"], Value::Null);
    assert_eq!(
        (&report["model"]["name"], &report["model"]["vision_layers"]),
        (&"owlet-demo".into(), &6.into())
    );
    assert_eq!(report["machine"]["n_threads"], 2);
    assert!(report["kernels"].as_str().is_some_and(|kernels| !kernels.is_empty()), "{report}");
    assert!(report["version"].as_str().is_some_and(|v| v.starts_with(env!("CARGO_PKG_VERSION"))), "{report}");
    assert!(report["date"].as_str().is_some_and(|date| date.ends_with('Z')), "{report}");
}

/// The machine's limits, and a share of them: of a matrix product, and none of a decoder of pictures.
#[test]
fn limits_are_measured_before_and_after() {
    let report = report(&["--test", "preprocess,decode"]);
    if report["limits"].is_null() {
        println!("not run: this processor has no limits to measure");
        assert!(report["notes"][0].as_str().unwrap().starts_with("no limits, so no shares: "), "{report}");
        return;
    }
    for name in ["read_gb_s", "fma_gflop_s", "madd1_gop_s", "madd8_gop_s"] {
        let rate = |which: &str| report[which][name].as_f64().unwrap();
        assert!(rate("limits_before") > 0.0 && rate("limits_after") > 0.0, "{report}");
        assert_eq!(rate("limits"), rate("limits_before").max(rate("limits_after")), "{name}");
    }
    assert!(report["read_bytes"].as_u64().unwrap() >= 256 << 20, "{report}");
    let share = result(&report, "decode")["share_of_limit"].as_f64().unwrap();
    assert!(share > 0.0 && share < 1.0, "{report}");
    assert!(result(&report, "preprocess")["share_of_limit"].is_null(), "{report}");
}

#[test]
fn tables_for_people_and_for_spreadsheets() {
    let run = |format: &[&str]| {
        owlet(
            &[&["bench", "-q", "--no-limits", "-r", "2", "--test", "projector", "decode2048"], format]
                .concat(),
        )
        .ok()
    };
    let text = run(&[]);
    let lines: Vec<_> = text.lines().collect();
    for (at, start) in [
        (0, "- program: owlet "),
        (1, "- kernels: "),
        (2, "- model: owlet-demo, 5.78 MB, "),
        (3, "- machine: "),
        (4, "- date: 2"),
        (6, "| test | type | seconds | spread | rate | of limit |"),
        (7, "|---|---|---:|---:|---:|---:|"),
        (8, "| projector | q8_0 | "),
        (10, "- not run: decode2048: needs a context of 2064, "),
    ] {
        assert!(lines[at].starts_with(start), "line {at}: expected {start}, found\n{text}");
    }
    assert_eq!(lines.len(), 11, "{text}");
    assert!(lines[8].ends_with(" pictures/s | - |"), "{text}");

    let csv = run(&["--csv"]);
    let rows: Vec<Vec<_>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows.len(), 2, "{csv}");
    assert_eq!(rows[0][..3], ["test", "type", "seconds"]);
    assert_eq!(
        (rows[1].len(), rows[1][0], rows[1][1], rows[1][5]),
        (rows[0].len(), "projector", "q8_0", "2")
    );
    assert!(rows[1][2].parse::<f64>().unwrap() > 0.0, "{csv}");
}

/// The real model's widths, one layer of each half, made in memory: what the full depth takes is extrapolated and called so.
#[test]
fn random_weights_need_no_file() {
    let shape = ["--shape", "internvl-chat-v1-1", "--vision-layers", "1", "--text-layers", "1"];
    let types = ["--type", "q4_0", "--vision-type", "q4_0", "--no-limits", "--test", "decode"];
    let report = report(&[&shape[..], &types].concat());
    let decode = result(&report, "decode");
    assert_eq!(decode["type"], "q4_0+q6_k");
    // Forty layers for one, and the same head: by the bytes, some 20 times as long.
    let times = decode["full_depth_seconds"].as_f64().unwrap() / decode["seconds"].as_f64().unwrap();
    assert!((15.0..25.0).contains(&times), "{times} {decode}");
    assert_eq!((&report["model"]["vision_layers"], &report["model"]["text_layers"]), (&1.into(), &1.into()));
    let note = "1 of 45 vision layers and 1 of 40 text layers ran; ";
    assert!(report["notes"][0].as_str().unwrap().starts_with(note), "{report}");
    assert_eq!(report["results"].as_array().unwrap().len(), 1, "{report}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let shape = ["--shape", "internvl-chat-v1-1"];
    let cases: [(&[&str], i32, &str); 13] = [
        (&["--shape", "llava"], 1, "owlet: shape \"llava\": expected one of internvl-chat-v1-1\n"),
        (
            &[&shape[..], &["--vision-layers", "46"]].concat(),
            1,
            "owlet: vision layers: at most 45, found 46\n",
        ),
        (&[&shape[..], &["--text-layers", "41"]].concat(), 1, "owlet: text layers: at most 40, found 41\n"),
        (
            &[&shape[..], &["--text-layers", "0"]].concat(),
            1,
            "owlet: text layers: expected 1 to 40, found 0\n",
        ),
        (
            &[&shape[..], &["--type", "q3"]].concat(),
            2,
            "error: invalid value 'q3' for '--type <TYPE>': type \"q3\": expected one of f32, f16",
        ),
        (
            &["--test", "prefill"],
            2,
            "error: invalid value 'prefill' for '--test <NAME>...': test \"prefill\": expected one of picture, ",
        ),
        (
            &["--type", "q4_0"],
            2,
            "error: the following required arguments were not provided:\n  --shape <NAME>",
        ),
        (
            &["--vision-layers", "2"],
            2,
            "error: the following required arguments were not provided:\n  --shape <NAME>",
        ),
        (
            &[&shape[..], &["-m", "x.gguf"]].concat(),
            2,
            "error: the argument '--shape <NAME>' cannot be used with ",
        ),
        (&["--json", "--csv"], 2, "error: the argument '--json' cannot be used with '--csv'"),
        (&["-r", "0"], 2, "error: invalid value '0' for '--repetitions <N>': 0 is not in 1..=1000"),
        (&["--kv-type", "q4_0"], 2, "error: invalid value 'q4_0' for '--kv-type <TYPE>': kv type: expected "),
        (&["-m", "/not/there.gguf"], 1, "owlet: /not/there.gguf: cannot open: "),
    ];
    for (args, code, text) in cases {
        let Ran { code: found, out, err } = owlet(&[&["bench"], args].concat());
        assert!(found == Some(code) && out.is_empty() && err.starts_with(text), "{args:?}: {found:?}\n{err}");
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_it_without_a_report() {
    use std::process::{Command, Stdio};
    let model = path(Kind::Slow);
    let args = ["bench", "-m", model.to_str().unwrap(), "--no-limits", "-r", "1000", "--test", "vision"];
    let child = command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Nothing tells from outside that it has begun.
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(130), 0), "{output:?}");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "owlet: cancelled\n");
}
