//! What will be done with a pair, for people: each tensor, each fact with where it is from, what is left out.

use std::fmt;

use owlet_format::Part;

use super::pair::Pair;
use crate::blocks::Moved;
use crate::checkpoint::file::SourceFile;

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
        let width = self.blocks.tensors.iter().map(|moved| moved.spec.name.len()).max().unwrap_or(0);
        for moved in &self.blocks.tensors {
            write_row(f, moved, width)?;
        }
        writeln!(f)?;
        for part in Part::ALL {
            writeln!(f, "{:<10} {}", part.word(), self.blocks.part_size(*part))?;
        }
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
        Ok(())
    }
}

fn write_row(f: &mut fmt::Formatter<'_>, moved: &Moved, width: usize) -> fmt::Result {
    let Moved { spec, dtype, pieces } = moved;
    let ne = spec.ne.to_string();
    let from = pieces[0].dtype.to_string();
    let n_bytes = spec.ne.n_bytes(*dtype).unwrap_or(0);
    write!(f, "{:<width$}  {ne:<18}  {from:>4} -> {dtype:<4} {n_bytes:>12}", spec.name)?;
    let names: Vec<&str> = pieces.iter().map(|piece| piece.name.as_str()).collect();
    match names[..] {
        [name] if name == spec.name => {}
        [name, other] if name == other => write!(f, "  the last row first")?,
        _ => write!(f, "  from {}", names.join(", "))?,
    }
    writeln!(f)
}
