//! Importance matrices, as people hand them to the converter.

use std::cell::RefCell;
use std::process::ExitCode;

use owlet_format::Importance;
use owlet_fuzz::Target;
use tempfile::TempDir;

thread_local! {
    static PLACE: RefCell<Option<TempDir>> = const { RefCell::new(None) };
}

fn main() -> ExitCode {
    let good = match good() {
        Ok(good) => good,
        Err(problem) => {
            eprintln!("an importance matrix to begin with: {problem}");
            return ExitCode::FAILURE;
        }
    };
    let reach = good.len();
    Target { name: "imatrix", corpus: vec![(good, reach)], run }.main()
}

fn good() -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("imatrix.gguf");
    let mut importance = Importance::new([7; 32], vec!["pictures".into(), "prompts.txt".into()]);
    importance.add("blk.0.attn_q.weight", &[1.0; 8], 3);
    importance.add("v.blk.0.ffn_up.weight", &[0.5; 4], 2);
    importance.n_chunks = 5;
    importance.write(&path)?;
    let bytes = std::fs::read(&path)?;
    PLACE.set(Some(dir));
    Ok(bytes)
}

fn run(bytes: &[u8]) {
    PLACE.with_borrow(|place| {
        let Some(path) = place.as_ref().map(|dir| dir.path().join("fuzz.gguf")) else { return };
        if std::fs::write(&path, bytes).is_err() {
            return;
        }
        let Ok(read) = Importance::read(&path) else { return };
        for name in read.names() {
            let rows = read.of(name).unwrap_or_default();
            assert!(
                !rows.is_empty() && rows.iter().all(|square| square.is_finite() && *square >= 0.0),
                "{name}"
            );
        }
        let mut twice = read.clone();
        let merged = twice.merge(&read, "itself");
        assert!(merged.is_ok(), "{merged:?}");
    });
}
