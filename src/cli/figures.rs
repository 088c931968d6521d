//! A bench's report as people and spreadsheets read it: Markdown and CSV.

use std::fmt::Write as _;

use crate::measure::{Limits, Machine, Measured, Report, bytes_in_words};

/// Lists and tables that read well on a terminal, too.
pub fn markdown(version: &str, report: &Report) -> String {
    let mut out = String::new();
    let mut line = |text: std::fmt::Arguments| {
        let _ = writeln!(out, "{text}");
    };
    line(format_args!("- program: owlet {}", version.replace('\n', "; ")));
    line(format_args!("- kernels: {}", report.kernels));
    line(format_args!("- model: {}", model(report)));
    line(format_args!("- machine: {}", machine(&report.machine)));
    line(format_args!("- date: {}", report.date));

    if let (Some(limits), Some(before), Some(after)) =
        (&report.limits, &report.limits_before, &report.limits_after)
    {
        let n_bytes = bytes_in_words(report.read_bytes.unwrap_or(0));
        line(format_args!("\nLimits of this machine; reading goes over {n_bytes}.\n"));
        line(format_args!("| limit | higher | before | after | unit |\n|---|---:|---:|---:|---|"));
        let rates = limits.rates().into_iter().zip(before.rates()).zip(after.rates());
        for ((name, unit), ((higher, before), after)) in Limits::NAMES.into_iter().zip(rates) {
            line(format_args!("| {name} | {higher:.1} | {before:.1} | {after:.1} | {unit} |"));
        }
    }
    let is_cut = report.results.iter().any(|result| result.full_depth_seconds.is_some());
    let (head, rule) = if is_cut { (" full depth, extrapolated |", "---:|") } else { ("", "") };
    line(format_args!(
        "\n| test | type | seconds | spread | rate | of limit |{head}\n|---|---|---:|---:|---:|---:|{rule}"
    ));
    for result in &report.results {
        let full = if is_cut { format!(" {} |", full_depth(result)) } else { String::new() };
        line(format_args!("{}{full}", row(result)));
    }
    if !report.skipped.is_empty() || !report.notes.is_empty() {
        line(format_args!(""));
    }
    for skipped in &report.skipped {
        line(format_args!("- not run: {}: {}", skipped.test, skipped.why));
    }
    for note in &report.notes {
        line(format_args!("- note: {note}"));
    }
    out
}

fn row(result: &Measured) -> String {
    let dtype = result.dtype.as_deref().unwrap_or("-");
    let seconds = result.seconds.map_or("-".into(), significant);
    format!(
        "| {} | {dtype} | {seconds} | {} | {} {} | {} |",
        result.test,
        percent(result.spread()),
        significant(result.rate),
        result.unit,
        percent(result.share_of_limit)
    )
}

fn full_depth(result: &Measured) -> String {
    result.full_depth_seconds.map_or("-".into(), |seconds| format!("{} s", significant(seconds)))
}

fn model(report: &Report) -> String {
    let model = &report.model;
    let layers = |what, n: Option<u32>| n.map(|n| format!(", {n} {what} layers")).unwrap_or_default();
    format!(
        "{}, {}, {:.1} million parameters{}{}",
        model.name,
        bytes_in_words(model.n_bytes),
        model.n_parameters as f64 / 1e6,
        layers("vision", model.vision_layers),
        layers("text", model.text_layers)
    )
}

fn machine(machine: &Machine) -> String {
    let Machine { cpu, n_cores, n_threads, features, available_bytes } = machine;
    let memory =
        available_bytes.map(|n| format!(", {} of memory available", bytes_in_words(n))).unwrap_or_default();
    format!("{cpu}, {n_threads} threads on {n_cores} cores{memory}, {}", features.join(" "))
}

/// One line a limit and a test, the columns of the JSON's results. No field needs quotes.
pub fn csv(report: &Report) -> String {
    let mut out = String::from(
        "test,type,seconds,seconds_min,seconds_max,repetitions,rate,unit,share_of_limit,full_depth_seconds\n",
    );
    if let Some(limits) = &report.limits {
        for ((name, unit), rate) in Limits::NAMES.into_iter().zip(limits.rates()) {
            let _ = writeln!(out, "{name},,,,,,{rate},{unit},,");
        }
    }
    let number = |x: Option<f64>| x.map(|x| x.to_string()).unwrap_or_default();
    for result in &report.results {
        let Measured { test, repetitions, rate, unit, .. } = result;
        let dtype = result.dtype.as_deref().unwrap_or("");
        let seconds = [result.seconds, result.seconds_min, result.seconds_max].map(number).join(",");
        let (share, full) = (number(result.share_of_limit), number(result.full_depth_seconds));
        let _ = writeln!(out, "{test},{dtype},{seconds},{repetitions},{rate},{unit},{share},{full}");
    }
    out
}

fn percent(share: Option<f64>) -> String {
    share.map_or("-".into(), |share| format!("{:.0}%", 100.0 * share))
}

/// Three digits that mean something: `1234`, `12.3`, `0.0123`.
pub fn significant(x: f64) -> String {
    let magnitude = if x == 0.0 { 0.0 } else { x.abs().log10().floor() };
    let n_decimals = (2.0 - magnitude).clamp(0.0, 9.0);
    format!("{x:.*}", n_decimals as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits() {
        for (x, expected) in [
            (0.0, "0.00"),
            (1234.5, "1234"),
            (123.4, "123"),
            (12.34, "12.3"),
            (1.234, "1.23"),
            (0.01234, "0.0123"),
            (0.000_001_234, "0.00000123"),
            (1e-30, "0.000000000"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(significant(x), expected, "{x}");
        }
    }
}
