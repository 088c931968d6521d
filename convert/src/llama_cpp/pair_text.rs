//! What will be done with a pair, for people: each tensor, each fact with where it is from, what is left out.

use std::fmt;

use super::pair::Pair;
use crate::checkpoint::file::SourceFile;
use crate::outline::{Outline, write_fallbacks, write_table};

impl Pair {
    /// What a person should know of a run: what the pair does not say itself, and what was found in it, a line each.
    pub fn remarks(&self) -> impl Iterator<Item = String> {
        let facts = self.facts.assumed().map(|line| format!("assumed {line}"));
        facts.chain(self.facts.notes.iter().map(|note| format!("note: {note}")))
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths: Vec<_> = self.blocks.sources.iter().map(SourceFile::label).collect();
        let config = &self.blocks.config;
        writeln!(f, "{}: {} from {}", config.name, config.family, paths.join(" and "))?;
        writeln!(f)?;
        let lines = self.blocks.lines();
        write_table(f, &lines, &|part| self.types.in_words(part))?;
        writeln!(f)?;
        for line in self.facts.lines() {
            writeln!(f, "{line}")?;
        }
        for line in config.provenance.recipe.iter() {
            writeln!(f, "{line}")?;
        }
        for note in &self.facts.notes {
            writeln!(f, "note: {note}")?;
        }
        for group in &self.skipped {
            writeln!(f, "skipped, {}: {}", group.reason, group.names.join(", "))?;
        }
        write_fallbacks(f, &lines)
    }
}
