//! What a conversion from the hub will take, said before it begins: size, licence, what goes where, and the room there is.

use super::{HubFlags, Planned};
use crate::cli::disk::room;
use crate::measure::bytes_in_words as bytes;
use owlet_convert::hub::Repository;
use std::path::Path;

/// The lines of it; `output` is where the model goes.
pub fn summary(flags: &HubFlags, planned: &Planned, output: &Path) -> String {
    let there = room(output);
    let n_result = planned.plan.tensors.iter().map(|tensor| tensor.n_bytes).sum();
    let (mut lines, mut n_here) = (Vec::new(), n_result);
    let (mut n_to_read, mut n_to_keep) = (0, 0);
    for repository in planned.to_fetch() {
        let n_missing = repository.n_missing_bytes();
        lines.push(headline(repository));
        n_to_read += n_missing;
        if !flags.stream {
            let dir = repository.dir();
            let room = room(&dir);
            let is_one_disk = room.zip(there).is_some_and(|(a, b)| a.device == b.device);
            // a checkpoint and its tower go to the same disk
            n_to_keep += n_missing;
            n_here += if is_one_disk { n_missing } else { 0 };
            lines.push(format!(
                "to download: {} to {}{}",
                bytes(n_missing),
                dir.display(),
                free(room.map(|room| room.n_free_bytes), n_to_keep)
            ));
        }
    }
    if flags.stream {
        lines.push(format!("to read from the hub: {}, none of it kept", bytes(n_to_read)));
    }
    lines.push(format!(
        "to write: {} to {}{}",
        bytes(n_result),
        output.display(),
        free(there.map(|room| room.n_free_bytes), n_here)
    ));
    lines.join("\n")
}

/// `Open/chat at 0123456789ab: 38.2 GB in 4 files, licence: mit`
fn headline(repository: &Repository) -> String {
    let commit = &repository.commit()[..12];
    let licence = repository.licence().unwrap_or("not stated");
    let (n_files, weights) = (repository.n_weight_files(), bytes(repository.n_weight_bytes()));
    let files = if n_files == 1 { "file" } else { "files" };
    format!("{} at {commit}: {weights} in {n_files} {files}, licence: {licence}", repository.name())
}

/// `, 12.3 GB free`, with a word where that is not enough.
fn free(n_free: Option<u64>, n_needed: u64) -> String {
    let Some(n_free) = n_free else { return String::new() };
    let verdict =
        if n_free < n_needed { format!(": {} too little", bytes(n_needed - n_free)) } else { String::new() };
    format!(", {} free{verdict}", bytes(n_free))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_room_is_said() {
        assert_eq!(free(None, 5), "");
        assert_eq!(free(Some(3_000_000_000), 2_000_000_000), ", 3.00 GB free");
        assert_eq!(free(Some(3_000_000_000), 4_500_000_000), ", 3.00 GB free: 1.50 GB too little");
    }
}
