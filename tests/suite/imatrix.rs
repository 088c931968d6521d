//! `owlet imatrix`: the sums are of what matrices read, an interrupted run ends with the same bytes, files add up, and a
//! quantized model is nearer to its source with one than without.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ggml::{Backend, Cancel};
use owlet::model::{Decoder, Input, KvType, Model, Observe, Row, VisionEncoder};
use owlet::prompt::preprocess;
use owlet_format::{Gguf, Importance, ModelConfig, Role};
use tempfile::TempDir;

use crate::demo::set;
use crate::models::{Kind, path, path_of_tower};
use crate::program::{Ran, owlet, picture};

// the program of tests/accuracy uses more of it
#[allow(dead_code)]
#[path = "../accuracy/watched.rs"]
mod watched;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Pictures and prompts of their own.
struct Inputs {
    dir: TempDir,
}

impl Inputs {
    fn new() -> Inputs {
        let inputs = Inputs { dir: TempDir::new().unwrap() };
        fs::create_dir(inputs.images()).unwrap();
        for (name, rgba) in
            [("a.png", [200, 30, 30, 255]), ("b.png", [20, 90, 220, 255]), ("c.png", [9, 9, 9, 255])]
        {
            let made = picture(&format!("imatrix-{name}"), 60, 40, rgba);
            fs::copy(made, inputs.images().join(name)).unwrap();
        }
        fs::write(inputs.images().join("notes.txt"), "no picture").unwrap();
        fs::write(inputs.prompts(), "la li lo?\n\n A red circle, \n").unwrap();
        inputs
    }

    fn images(&self) -> PathBuf {
        self.dir.path().join("images")
    }

    fn prompts(&self) -> PathBuf {
        self.dir.path().join("prompts.txt")
    }

    fn to(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, model: &Path, out: &Path) -> Ran {
        let (images, prompts) = (self.images(), self.prompts());
        let words = ["imatrix", "-m", text(model), "--images", text(&images), "--text", text(&prompts)];
        owlet(&[&words[..], &["-o", text(out), "--answer", "5"]].concat())
    }
}

/// Every value of every node.
#[derive(Default)]
struct All(BTreeMap<String, Vec<f32>>);

impl Observe for All {
    fn wants(&self, _: &str) -> bool {
        true
    }

    fn wants_input(&self, _: &str) -> bool {
        true
    }

    fn node(&mut self, name: &str, _: &[u64], values: &[f32]) {
        self.0.entry(name.to_owned()).or_default().extend(values);
    }
}

/// What a matrix of the file makes of rows: `weight [n_in, n_out]`, and its bias.
fn product(file: &Gguf, name: &str, rows: &[f32]) -> Vec<f32> {
    let info = file.tensor(&format!("{name}.weight")).unwrap();
    let floats = |info| -> Vec<f32> {
        let (words, _) = file.data(info).as_chunks::<4>();
        words.iter().map(|word| f32::from_le_bytes(*word)).collect()
    };
    let (n_in, weight) = (info.shape.dims()[0] as usize, floats(info));
    let bias = file.tensor(&format!("{name}.bias")).map(floats);
    let dot = |row: &[f32], column: &[f32]| {
        row.iter().zip(column).map(|(a, b)| f64::from(a * b)).sum::<f64>() as f32
    };
    let mut out = Vec::new();
    for row in rows.chunks_exact(n_in) {
        out.extend(weight.chunks_exact(n_in).map(|column| dot(row, column)));
        if let Some(bias) = &bias {
            let start = out.len() - bias.len();
            out[start..].iter_mut().zip(bias).for_each(|(value, bias)| *value += bias);
        }
    }
    out
}

fn assert_near(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let rms = (expected.iter().map(|v| v * v).sum::<f32>() / expected.len() as f32).sqrt();
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= 1e-4 * rms, "{what}: {worst} of {rms}");
}

/// What is observed as a matrix's input is what its output is the product of.
#[test]
fn inputs_are_what_the_matrices_multiply() {
    let file = Gguf::open(&path(Kind::Random)).unwrap();
    let config = ModelConfig::read(&file).unwrap();
    let model = Model::load(&file, &config, &Backend::cpu(2).unwrap()).unwrap();
    let mut all = All::default();
    let mut encoder = VisionEncoder::new(&model).unwrap();
    let n_pixels = config.image.as_ref().unwrap().size_px.pow(2) as usize * 3;
    let pixels: Vec<f32> = (0..n_pixels).map(|i| (i as f32 * 0.7).sin()).collect();
    let mut step = encoder.start(&pixels).unwrap();
    while !step.is_last() {
        step = encoder.step_observed(&Cancel::new(), &mut all).unwrap();
    }
    let mut decoder = Decoder::new(&model, 64, 1, KvType::F32).unwrap();
    let rows: Vec<Row> =
        (0..40).map(|pos| Row { input: Input::Token(pos + 5), seq: 0, pos, want_logits: true }).collect();
    decoder.forward_observed(&rows, &[], &Cancel::new(), &mut all).unwrap();

    let nodes = all.0;
    let matrices =
        config.tensors().into_iter().filter(|spec| matches!(spec.role, Role::Matrix | Role::Output));
    for spec in matrices {
        let input =
            nodes.get(&format!("{}.in", spec.name)).unwrap_or_else(|| panic!("{}: not seen", spec.name));
        assert!(input.len().is_multiple_of(spec.ne.dims()[0] as usize) && !input.is_empty(), "{}", spec.name);
    }
    for (matrix, node) in [
        ("v.blk.0.attn_out", "v.blk.0.attn_out"),
        ("v.blk.1.attn_out", "v.blk.1.attn_out"),
        ("mm.1", "mm.1"),
        ("mm.3", "mm.out"),
        ("blk.0.attn_output", "blk.0.attn_out"),
        ("blk.1.attn_output", "blk.1.attn_out"),
        ("output", "logits"),
    ] {
        assert_near(&product(&file, matrix, &nodes[&format!("{matrix}.weight.in")]), &nodes[node], matrix);
    }
    // the residual without the branch that joins it
    let before = |out: &str, attention: &str, input: &str| -> Vec<f32> {
        let of = |name: &str| &nodes[name];
        of(out).iter().zip(of(attention)).zip(of(input)).map(|((out, a), x)| out - a - x).collect()
    };
    let down = before("blk.1.out", "blk.1.attn_out", "blk.0.out");
    assert_near(
        &product(&file, "blk.1.ffn_down", &nodes["blk.1.ffn_down.weight.in"]),
        &down,
        "blk.1.ffn_down",
    );
    // one input, read by three
    assert_eq!(nodes["blk.0.attn_q.weight.in"], nodes["blk.0.attn_v.weight.in"]);
    assert_eq!(nodes["blk.0.ffn_gate.weight.in"], nodes["blk.0.ffn_up.weight.in"]);
    assert_ne!(nodes["blk.0.attn_q.weight.in"], nodes["blk.1.attn_q.weight.in"]);
}

/// Sums and counts of the file are those of the rows that went through.
#[test]
fn the_file_has_the_sums_of_all_inputs() {
    let (inputs, model) = (Inputs::new(), path(Kind::Random));
    let out = inputs.to("imatrix.gguf");
    let ran = inputs.run(&model, &out);
    assert!(ran.err.ends_with("matrices, 3 inputs\n") && ran.code == Some(0), "{ran:?}");
    let found = Importance::read(&out).unwrap();
    assert_eq!(
        (found.n_chunks, &found.datasets[..]),
        (3, &["images".to_string(), "prompts.txt".to_string()][..])
    );

    let file = Gguf::open(&model).unwrap();
    let config = ModelConfig::read(&file).unwrap();
    let specs = config.tensors();
    let matrices = specs.iter().filter(|spec| matches!(spec.role, Role::Matrix | Role::Output));
    let mut names: Vec<&str> = matrices.map(|spec| spec.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(found.names().collect::<Vec<_>>(), names);

    let network = Model::load(&file, &config, &Backend::cpu(2).unwrap()).unwrap();
    let mut encoder = VisionEncoder::new(&network).unwrap();
    let mut all = All::default();
    for name in ["a.png", "b.png", "c.png"] {
        let bytes = fs::read(inputs.images().join(name)).unwrap();
        let limits = owlet::prompt::Limits::default();
        let picture = owlet::prompt::decode(&bytes, name, &limits).unwrap();
        let pixels = preprocess(&picture, config.image.as_ref().unwrap()).unwrap();
        let mut step = encoder.start(&pixels.planes).unwrap();
        while !step.is_last() {
            step = encoder.step_observed(&Cancel::new(), &mut all).unwrap();
        }
    }
    for name in ["v.blk.1.ffn_down.weight", "v.blk.0.attn_qkv.weight", "mm.1.weight", "mm.3.weight"] {
        let rows = &all.0[&format!("{name}.in")];
        let found = found.of(name).unwrap();
        let n_rows = rows.len() / found.len();
        let mean = |at: usize| {
            rows.iter().skip(at).step_by(found.len()).map(|v| f64::from(v * v)).sum::<f64>() / n_rows as f64
        };
        let expected: Vec<f32> = (0..found.len()).map(|at| mean(at) as f32).collect();
        assert_near(&found, &expected, name);
    }
    // of a tower alone, pictures are enough
    let out = inputs.to("tower.gguf");
    let (images, tower) = (inputs.images(), path_of_tower());
    owlet(&["imatrix", "-m", text(&tower), "--images", text(&images), "-o", text(&out)]).ok();
    let of_tower = Importance::read(&out).unwrap();
    assert_near(
        &of_tower.of("v.blk.1.ffn_down.weight").unwrap(),
        &found.of("v.blk.1.ffn_down.weight").unwrap(),
        "tower",
    );
}

/// A picture that can't be read stops the run; with the picture in its place it goes on, and ends with the same bytes.
#[test]
fn an_interrupted_run_goes_on() {
    let (inputs, model) = (Inputs::new(), path(Kind::Random));
    let (whole, out) = (inputs.to("whole.gguf"), inputs.to("out.gguf"));
    inputs.run(&model, &whole).ok();
    let last = inputs.images().join("c.png");
    let good = fs::read(&last).unwrap();
    fs::write(&last, vec![0; good.len()]).unwrap();
    let ran = inputs.run(&model, &out);
    assert!(ran.code == Some(1) && ran.err.contains("c.png") && !out.exists(), "{ran:?}");
    assert!(
        ran.err.contains("out.gguf.part: keeps what is done; the same command goes on with it"),
        "{ran:?}"
    );
    assert_eq!(Importance::read(&inputs.to("out.gguf.part")).unwrap().n_chunks, 2);
    fs::write(&last, good).unwrap();
    let ran = inputs.run(&model, &out);
    assert!(ran.code == Some(0) && ran.err.contains("out.gguf.part: going on with it"), "{ran:?}");
    assert!(fs::read(&out).unwrap() == fs::read(&whole).unwrap());
    assert!(!inputs.to("out.gguf.part").exists());
    // other prompts are other work
    fs::copy(&out, inputs.to("next.gguf.part")).unwrap();
    fs::write(inputs.prompts(), "something else\n").unwrap();
    let ran = inputs.run(&model, &inputs.to("next.gguf"));
    assert!(
        ran.code == Some(0) && ran.err.contains("next.gguf.part: is of other work: beginning anew"),
        "{ran:?}"
    );
}

#[test]
fn files_add_up() {
    let (inputs, model) = (Inputs::new(), path(Kind::Random));
    let (one, two, both) = (inputs.to("one.gguf"), inputs.to("two.gguf"), inputs.to("both.gguf"));
    inputs.run(&model, &one).ok();
    fs::write(inputs.prompts(), "red circle circle\n").unwrap();
    inputs.run(&model, &two).ok();
    owlet(&["imatrix", "--merge", text(&one), "--merge", text(&two), "-o", text(&both)]).ok();
    let [one, two, both] = [one, two, both].map(|path| Importance::read(&path).unwrap());
    assert_eq!((both.n_chunks, both.datasets.len(), both.subject), (6, 4, None));
    assert!(one.is_folded && two.is_folded && both.is_folded, "measured on owlet's files");
    // sums of other norms are no sums of these
    let mut other = two.clone();
    other.is_folded = false;
    let problem =
        "other.gguf: expected sums measured by owlet as those before, found some by another program";
    assert_eq!(one.clone().merge(&other, "other.gguf").unwrap_err().to_string(), problem);
    let name = "v.blk.1.ffn_down.weight";
    assert_near(&both.of(name).unwrap(), &one.of(name).unwrap(), "the same pictures twice");
    let name = "blk.1.ffn_down.weight";
    let [a, b, found] = [&one, &two, &both].map(|importance| importance.of(name).unwrap());
    let is_between = |at: usize| {
        let (low, high) = (a[at].min(b[at]), a[at].max(b[at]));
        (low * 0.999..=high * 1.001).contains(&found[at])
    };
    assert!((0..found.len()).all(is_between));
}

#[test]
fn what_is_wrong_is_one_line() {
    let (inputs, model) = (Inputs::new(), path(Kind::Random));
    let (images, prompts, out) = (inputs.images(), inputs.prompts(), inputs.to("out.gguf"));
    let (empty, good, other) = (inputs.to("empty"), inputs.to("good.gguf"), inputs.to("other.gguf"));
    fs::create_dir(&empty).unwrap();
    fs::write(inputs.to("empty.txt"), "\n \n").unwrap();
    inputs.run(&model, &good).ok();
    let mut importance = Importance::default();
    importance.is_folded = true;
    importance.add("blk.0.ffn_down.weight", &[1.0; 32], 1);
    importance.write(&other).unwrap();
    let mut unknown = Importance::default();
    unknown.add("blk.9.ffn_down.weight", &[1.0; 32], 1);
    unknown.write(&inputs.to("unknown.gguf")).unwrap();
    let mut bad = Importance::default();
    bad.add("blk.0.ffn_down.weight", &[f64::NAN; 64], 1);
    bad.write(&inputs.to("bad.gguf")).unwrap();
    let q4_0 = |imatrix: &str| -> Vec<String> {
        let imatrix = inputs.to(imatrix);
        ["quantize", text(&model), text(&out), "--type", "q4_0", "--imatrix", text(&imatrix)]
            .map(String::from)
            .into()
    };
    let imatrix = |words: &[&str]| -> Vec<String> {
        [&["imatrix", "-m", text(&model), "-o", text(&out)], words]
            .concat()
            .iter()
            .map(|word| word.to_string())
            .collect()
    };
    let merge = |a: &Path, b: &Path| -> Vec<String> {
        ["imatrix", "--merge", text(a), "--merge", text(b), "-o", text(&out)].map(String::from).into()
    };
    let cases: Vec<(Vec<String>, i32, &str)> = vec![
        (
            imatrix(&["--images", text(&images)]),
            1,
            "random has a text half: --text FILE, expected prompts, found none",
        ),
        (
            imatrix(&["--images", text(&empty), "--text", text(&prompts)]),
            1,
            "/empty: expected pictures, found none",
        ),
        (
            imatrix(&["--images", text(&prompts), "--text", text(&prompts)]),
            1,
            "/prompts.txt: Not a directory",
        ),
        (
            imatrix(&["--text", text(&inputs.to("empty.txt"))]),
            1,
            "empty.txt: expected prompts, one a line, found none",
        ),
        (imatrix(&["--text", text(&inputs.to("nowhere.txt"))]), 1, "nowhere.txt: No such file"),
        (
            merge(&good, &other),
            1,
            "/other.gguf: tensor blk.0.ffn_down.weight.in_sum2: expected 64 sums, found 32",
        ),
        (merge(&good, &model), 1, "key general.type: expected string, found no such key"),
        (q4_0("other.gguf"), 1, "/other.gguf: tensor blk.0.ffn_down.weight: expected 64 sums, found 32"),
        (q4_0("unknown.gguf"), 1, "/unknown.gguf: expected sums for a matrix that is quantized, found none"),
        (
            q4_0("bad.gguf"),
            1,
            "/bad.gguf: tensor blk.0.ffn_down.weight.in_sum2: expected finite numbers from 0 on, found NaN at 0",
        ),
        (
            vec!["imatrix".into(), "--merge".into(), text(&good).into(), "-o".into(), text(&out).into()],
            2,
            "expected two files or more",
        ),
        (vec!["imatrix".into(), "-o".into(), text(&out).into()], 2, "--images"),
    ];
    for (words, code, expected) in cases {
        let ran = owlet(&words);
        assert!(
            ran.code == Some(code) && ran.err.contains(expected),
            "{words:?}: expected {expected}\n   found {ran:?}"
        );
        assert!(
            code == 2 || ran.err.lines().filter(|line| line.starts_with("owlet: ")).count() == 1,
            "{ran:?}"
        );
        assert!(!out.exists(), "{words:?}");
    }
}

/// Calibrated on one half of a sample, the built-in model's checkpoint at 4 bits is nearer to itself on the other half.
#[test]
fn at_four_bits_it_lowers_the_error() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let set = set::Set::read(&root.join("tests/data/demo"));
    let dir = TempDir::new().unwrap();
    let to = |name: &str| dir.path().join(name);
    let (calibrate, others) = set.questions.split_at(set.questions.len() / 2);
    let judge = &others[..16];
    fs::create_dir(to("images")).unwrap();
    for question in calibrate {
        fs::copy(set.dir.join(&question.image), to("images").join(&question.image)).unwrap();
    }
    let prompts: Vec<&str> = calibrate.iter().map(|question| question.question.as_str()).collect();
    fs::write(to("prompts.txt"), prompts.join("\n")).unwrap();
    let (source, imatrix) = (to("f16.gguf"), to("imatrix.gguf"));
    let checkpoint = root.join("demo/checkpoint");
    let types = ["--type", "f16", "--vision-type", "f16"];
    owlet(&[&["convert", text(&checkpoint), "-o", text(&source), "-q"], &types[..]].concat()).ok();
    let (images, prompts) = (to("images"), to("prompts.txt"));
    let given = ["--images", text(&images), "--text", text(&prompts), "-o", text(&imatrix)];
    owlet(&[&["imatrix", "-q", "--answer", "8", "-m", text(&source)], &given[..]].concat()).ok();

    let mut expected = watched::Watched::open(&format!("exact:{}", text(&source)), 2);
    for choice in ["q4_0", "q4_1"] {
        let types = ["--type", choice, "--vision-type", choice, "--projector-type", choice, "-q"];
        let (plain, weighted) = (to(&format!("{choice}.gguf")), to(&format!("{choice}-im.gguf")));
        owlet(&[&["quantize", text(&source), text(&plain)], &types[..]].concat()).ok();
        let with = ["quantize", text(&source), text(&weighted), "--imatrix", text(&imatrix)];
        owlet(&[&with[..], &types[..]].concat()).ok();
        let mut error = |path: &Path| errors(&mut expected, path, &set, judge);
        let (plain, weighted) = (error(&plain), error(&weighted));
        println!("{choice}: tower, projector, logits: {plain:.4?} without, {weighted:.4?} with");
        for (node, (plain, weighted)) in
            ["tower", "projector", "logits"].iter().zip(plain.iter().zip(&weighted))
        {
            assert!(weighted < &(plain * LESS), "{choice}: {node}: {plain} without, {weighted} with");
        }
        // and the file says so
        let recipe = ModelConfig::read(&Gguf::open(&to(&format!("{choice}-im.gguf"))).unwrap())
            .unwrap()
            .provenance
            .recipe;
        let line = recipe.iter().find(|line| line.starts_with("then importance = ")).unwrap().to_owned();
        assert!(line.ends_with(&format!(", {} inputs of images, prompts.txt", calibrate.len())), "{line}");
    }
}

/// What is left of the error at most.
const LESS: f64 = 0.97;

/// The mean relative error of what tower and projector yield and of the logits.
fn errors(expected: &mut watched::Watched, path: &Path, set: &set::Set, judge: &[set::Question]) -> [f64; 3] {
    let mut model = watched::Watched::open(&format!("exact:{}", text(path)), 2);
    let mut sums = [0.0; 3];
    for question in judge {
        let pixels = question.pixels(&set.dir, &expected.loaded);
        let (mut right, mut found) = (watched::Trace::default(), watched::Trace::default());
        let prompt = expected.prompt(&pixels, &question.question, &mut right);
        let answer = expected.answer(&prompt);
        expected.read(&prompt, &answer, &mut right);
        let prompt = model.prompt(&pixels, &question.question, &mut found);
        model.read(&prompt, &answer, &mut found);
        for (sum, name) in sums.iter_mut().zip(["v.out", "mm.out", "logits"]) {
            let of =
                |trace: &watched::Trace| trace.nodes.iter().find(|node| node.0 == name).unwrap().1.clone();
            let (a, b) = (of(&found), of(&right));
            let squares = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
            let difference = squares(&mut a.iter().zip(&b).map(|(a, b)| f64::from(a - b)));
            *sum += (difference / squares(&mut b.iter().map(|v| f64::from(*v)))).sqrt() / judge.len() as f64;
        }
    }
    sums
}
