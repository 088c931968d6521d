//! What a model lost against a reference: errors node by node, the divergence of what it would say next, and right
//! answers, as tables in Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::set::{Set, Table};
use super::watched::{Trace, Watched};

/// Nodes of the short table.
const SHORT: [(&str, &str); 3] = [("v.out", "tower"), ("mm.out", "projector"), ("logits", "logits")];
const KINDS: [&str; 7] = ["all", "shape", "colour", "count", "place", "read", "what"];

/// A model's errors so far.
#[derive(Default)]
struct Cost {
    nodes: BTreeMap<String, Error>,
    /// In the order of the network.
    order: Vec<String>,
    n_pictures: u32,
    divergence: f64,
    n_positions: u32,
    n_same: u32,
    table: Table,
}

/// Of one node over all pictures: `rms(a - b) / rms(b)`, summed, and the largest `max |a - b| / rms(b)`.
#[derive(Default)]
struct Error {
    sum: f64,
    max: f64,
}

/// Asks every question of `reference` and of `models`, and compares. `all_nodes` lists them all.
pub fn compare(set: &Set, reference: &str, models: &[String], n_threads: usize, all_nodes: bool) -> String {
    let mut reference = Watched::open(reference, n_threads);
    let mut models: Vec<_> =
        models.iter().map(|name| (Watched::open(name, n_threads), Cost::default())).collect();
    let mut own = Table::default();
    for question in &set.questions {
        let pixels = question.pixels(&set.dir, &reference.loaded);
        let mut expected = Trace::default();
        let prompt = reference.prompt(&pixels, &question.question, &mut expected);
        let answer = reference.answer(&prompt);
        own.add(question, question.accepts(&reference.text(&answer)));
        reference.read(&prompt, &answer, &mut expected);
        for (model, cost) in &mut models {
            let mut found = Trace::default();
            let prompt = model.prompt(&pixels, &question.question, &mut found);
            model.read(&prompt, &answer, &mut found);
            cost.add(&expected, &found);
            // Who would say the same token at every position gives the same answer.
            let said = if found.likeliest == answer { answer.clone() } else { model.answer(&prompt) };
            cost.table.add(question, question.accepts(&model.text(&said)));
        }
    }
    tables(&reference.name, &own, &models, all_nodes)
}

impl Cost {
    fn add(&mut self, expected: &Trace, found: &Trace) {
        self.n_pictures += 1;
        for ((name, b), (other, a)) in expected.nodes.iter().zip(&found.nodes) {
            assert_eq!(name, other, "two networks");
            if !self.nodes.contains_key(name) {
                self.order.push(name.clone());
            }
            self.nodes.entry(name.clone()).or_default().add(a, b);
        }
        let [(_, p), (_, q)] = [expected, found].map(|trace| trace.nodes.last().unwrap());
        let n_vocab = p.len() / expected.likeliest.len();
        for (p, q) in p.chunks_exact(n_vocab).zip(q.chunks_exact(n_vocab)) {
            self.divergence += divergence(p, q);
        }
        self.n_positions += expected.likeliest.len() as u32;
        self.n_same += expected.likeliest.iter().zip(&found.likeliest).filter(|(a, b)| a == b).count() as u32;
    }
}

impl Error {
    fn add(&mut self, a: &[f32], b: &[f32]) {
        let squares = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
        let differences = || a.iter().zip(b).map(|(a, b)| f64::from(*a) - f64::from(*b));
        let norm = squares(&mut b.iter().map(|&v| f64::from(v))).sqrt();
        self.sum += squares(&mut differences()).sqrt() / norm;
        let rms = norm / (b.len() as f64).sqrt();
        self.max = differences().map(f64::abs).fold(self.max, |max, d| max.max(d / rms));
    }
}

/// Kullback-Leibler, in nats, of the distributions that logits `p` and `q` stand for.
fn divergence(p: &[f32], q: &[f32]) -> f64 {
    let log = |logits: &[f32]| -> Vec<f64> {
        let max = logits.iter().fold(f32::MIN, |a, &b| a.max(b));
        let sum: f64 = logits.iter().map(|&l| f64::from(l - max).exp()).sum();
        logits.iter().map(|&l| f64::from(l - max) - sum.ln()).collect()
    };
    log(p).iter().zip(log(q)).map(|(p, q)| p.exp() * (p - q)).sum()
}

fn tables(reference: &str, own: &Table, models: &[(Watched, Cost)], all_nodes: bool) -> String {
    let mut out = String::new();
    let mut line = |cells: &[String]| _ = writeln!(out, "| {} |", cells.join(" | "));
    let heads = SHORT.iter().map(|(_, head)| format!("{head}, mean (max)"));
    let kinds = KINDS.iter().map(|kind| kind.to_string());
    let words = ["divergence", "same token"].map(String::from);
    line(&std::iter::once("model".to_string()).chain(heads).chain(words).chain(kinds).collect::<Vec<_>>());
    line(&vec!["---".to_string(); 1 + SHORT.len() + 2 + KINDS.len()]);
    let right = |table: &Table| KINDS.map(|kind| format!("{:.1}", table.percent(kind)));
    let none = vec![String::new(); SHORT.len() + 2];
    line(&[vec![reference.to_string()], none, right(own).to_vec()].concat());
    for (model, cost) in models {
        let n = f64::from(cost.n_positions);
        let errors = SHORT.map(|(name, _)| shown(&cost.nodes[name], cost.n_pictures));
        let said =
            [format!("{:.1e}", cost.divergence / n), format!("{:.2}%", 100.0 * f64::from(cost.n_same) / n)];
        line(
            &[vec![model.name.clone()], errors.to_vec(), said.to_vec(), right(&cost.table).to_vec()].concat(),
        );
    }
    if all_nodes && let Some((_, first)) = models.first() {
        line(
            &std::iter::once("node".to_string())
                .chain(models.iter().map(|m| m.0.name.clone()))
                .collect::<Vec<_>>(),
        );
        for name in &first.order {
            let errors = models.iter().map(|(_, cost)| shown(&cost.nodes[name], cost.n_pictures));
            line(&std::iter::once(name.clone()).chain(errors).collect::<Vec<_>>());
        }
    }
    out
}

fn shown(error: &Error, n_pictures: u32) -> String {
    format!("{:.2}% ({:.2})", 100.0 * error.sum / f64::from(n_pictures), error.max)
}
