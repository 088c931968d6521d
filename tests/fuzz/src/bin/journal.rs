//! Journals of conversions that were interrupted.

use std::process::ExitCode;

use owlet_convert::{State, Subject};
use owlet_fuzz::Target;
use sha2::{Digest, Sha256};

const SUBJECT: Subject = Subject { id: [7; 32], n_tensors: 3, n_hashes: 2 };
const N_HEAD_BYTES: usize = 48;
const N_SUM_BYTES: usize = 32;

fn main() -> ExitCode {
    let mut state = State::new(&SUBJECT);
    state.n_done = 2;
    state.row = 7;
    state.hashes[0].update(&[1; 100]);
    let good = SUBJECT.whole(&state);
    let reach = good.len();
    Target { name: "journal", corpus: vec![(good, reach)], run }.main()
}

fn run(bytes: &[u8]) {
    check(bytes);
    check(&sealed(bytes).unwrap_or_default());
}

/// As if whoever damaged it had sealed it again.
fn sealed(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut sealed = bytes.to_vec();
    let (head, slots) = sealed.split_at_mut_checked(N_HEAD_BYTES)?;
    let n_slot = (slots.len() / 2).max(1);
    for slot in slots.chunks_exact_mut(n_slot) {
        let (content, seal) = slot.split_at_mut_checked(slot.len().checked_sub(N_SUM_BYTES)?)?;
        seal.copy_from_slice(&Sha256::new().chain_update(&*head).chain_update(&*content).finalize());
    }
    Some(sealed)
}

fn check(bytes: &[u8]) {
    if let Some((_, state)) = SUBJECT.newest(bytes) {
        assert!(state.n_done <= SUBJECT.n_tensors);
        assert_eq!((state.sums.len(), state.hashes.len()), (SUBJECT.n_tensors, SUBJECT.n_hashes));
        // any hash under way can be gone on with
        for mut hash in state.hashes {
            hash.update(&[0; 65]);
            hash.finish();
        }
    }
}
