//! Findings as people read them: a paragraph a topic, problems last.

use super::super::figures::significant;
use super::{Directory, Findings};
use crate::measure::bytes_in_words;
use std::fmt::Write as _;

pub fn of(findings: &Findings) -> String {
    let mut out = String::new();
    let mut line = |text: std::fmt::Arguments| {
        let _ = writeln!(out, "{text}");
    };
    line(format_args!("owlet {}", findings.version));
    let machine = &findings.machine;
    line(format_args!("\n{}", machine.cpu));
    line(format_args!("  features   {}", machine.features.join(" ")));
    line(format_args!("  threads    {} of {} processors", machine.n_threads, machine.n_cores));
    let memory = machine.available_bytes.map_or_else(|| "unknown".to_string(), bytes_in_words);
    line(format_args!("  memory     {memory} available"));
    for device in &findings.devices {
        let (free, total) = (bytes_in_words(device.free_bytes), bytes_in_words(device.total_bytes));
        line(format_args!("  {}  {}, {free} of {total} free", device.name, device.description));
    }
    if let Some(model) = &findings.model {
        line(format_args!("\n{}", model.file));
        line(format_args!("  {}, {}, {} tensors", model.name, bytes_in_words(model.bytes), model.tensors));
        line(format_args!("  structure  right"));
        let damaged = match model.damaged.len() {
            0 => "right".to_string(),
            n => format!("wrong for {n} of them"),
        };
        line(format_args!("  checksums  {damaged}"));
        if let Some(self_test) = &model.self_test {
            let text = self_test.to_string();
            line(format_args!("  self-test  {}", text.lines().next().unwrap_or_default()));
        }
        line(format_args!("  kernels    {}", model.kernels));
    }
    match &findings.settings_file {
        Some(path) if path.exists() => line(format_args!("\nsettings, with {}", path.display())),
        Some(path) => line(format_args!("\nsettings; {} is not there", path.display())),
        None => line(format_args!("\nsettings, without a file")),
    }
    for setting in &findings.settings {
        let value = setting.value.as_deref().unwrap_or("-");
        line(format_args!("  {:<16}  {value:<12}  {}", setting.name, setting.source));
    }
    line(format_args!("\ndirectories"));
    for Directory { what, path, files, bytes } in &findings.directories {
        match path {
            Some(path) => line(format_args!(
                "  {what:<8}  {}: {files} files, {}",
                path.display(),
                bytes_in_words(*bytes)
            )),
            None => line(format_args!("  {what:<8}  off")),
        }
    }
    if !findings.bench.is_empty() {
        line(format_args!("\nspeed of the built-in model"));
    }
    for result in &findings.bench {
        let share =
            result.share_of_limit.map(|share| format!(", {:.0}% of what the machine can do", share * 100.0));
        let (name, rate) = (result.test.name(), significant(result.rate));
        line(format_args!("  {name:<10}  {rate} {}{}", result.unit, share.unwrap_or_default()));
    }
    line(format_args!(""));
    for problem in &findings.problems {
        line(format_args!("wrong: {problem}"));
    }
    if findings.ok {
        line(format_args!("all is as it should be"));
    }
    out
}
