//! How many threads are worth starting: one for each physical core that this process may use, since a core's second
//! thread brings the arithmetic of a matrix product nothing. As Linux tells it; elsewhere every processor counts.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

/// Physical cores that this process may use, by its affinity mask and the quota of its control group; at least 1.
pub fn n_cores() -> usize {
    let n_processors = std::thread::available_parallelism().map_or(1, usize::from);
    n_cores_under(Path::new("/"), n_processors)
}

/// [`n_cores`] by the files below `root`, where `n_processors` may be used: as many as may be allowed, or fewer by a quota.
fn n_cores_under(root: &Path, n_processors: usize) -> usize {
    let status = fs::read_to_string(root.join("proc/self/status")).unwrap_or_default();
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let Some(allowed) = allowed.and_then(processors) else { return n_processors };
    // Processors of one core list the same siblings.
    let core = |processor: &usize| {
        let topology = root.join(format!("sys/devices/system/cpu/cpu{processor}/topology"));
        let lists = ["core_cpus_list", "thread_siblings_list"].map(|name| topology.join(name));
        lists.iter().find_map(|path| processors(&fs::read_to_string(path).ok()?)?.into_iter().min())
    };
    let cores: Option<HashSet<usize>> = allowed.iter().map(core).collect();
    match cores {
        Some(cores) if !cores.is_empty() => cores.len().min(n_processors),
        _ => n_processors,
    }
}

/// The processors of a list such as `0-3,8`. A list that is none yields nothing, nor does one of more than a machine has.
fn processors(list: &str) -> Option<Vec<usize>> {
    /// Linux has no more.
    const MAX_PROCESSORS: usize = 8192;
    let mut all = Vec::new();
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if last >= MAX_PROCESSORS || first > last {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_counts_once() {
        // Allowed processors, how many may be used, siblings by processor, cores.
        type Case<'a> = (&'a str, Option<&'a str>, usize, &'a [&'a str], usize);
        let smt = ["0,4", "1,5", "2,6", "3,7", "0,4", "1,5", "2,6", "3,7"];
        let neighbours = ["0-1", "0-1", "2-3", "2-3"];
        // Two fast cores of two threads each, four slow ones of one.
        let hybrid = ["0-1", "0-1", "2-3", "2-3", "4", "5", "6", "7"];
        let cases: [Case; 12] = [
            ("no Linux", None, 8, &[], 8),
            ("no topology", Some("0-3"), 4, &[], 4),
            ("one thread a core", Some("0-1"), 2, &["0", "1"], 2),
            ("two threads a core", Some("0-7"), 8, &smt, 4),
            ("siblings side by side", Some("0-3"), 4, &neighbours, 2),
            ("some slow cores", Some("0-7"), 8, &hybrid, 6),
            ("bound to both threads of a core", Some("1,5"), 2, &smt, 1),
            ("bound to a thread of each", Some("4-7"), 4, &smt, 4),
            ("a quota of three processors", Some("0-7"), 3, &smt, 3),
            ("a quota of six", Some("0-7"), 6, &smt, 4),
            ("a processor of which nothing is known", Some("0-8"), 9, &smt, 9),
            ("nonsense", Some("0-99999999999,x"), 2, &smt, 2),
        ];
        for (name, allowed, n_processors, siblings, expected) in cases {
            for file in ["core_cpus_list", "thread_siblings_list"] {
                let dir = tempfile::tempdir().unwrap();
                let write = |path: String, text: String| {
                    let path = dir.path().join(path);
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(path, text).unwrap();
                };
                if let Some(allowed) = allowed {
                    let text = format!("Name:\towlet\nCpus_allowed:\tff\nCpus_allowed_list:\t{allowed}\n");
                    write("proc/self/status".into(), text);
                }
                for (processor, siblings) in siblings.iter().enumerate() {
                    let topology = format!("sys/devices/system/cpu/cpu{processor}/topology");
                    write(format!("{topology}/{file}"), format!("{siblings}\n"));
                }
                assert_eq!(n_cores_under(dir.path(), n_processors), expected, "{name}, {file}");
            }
        }
    }

    #[test]
    fn there_is_a_core() {
        assert!((1..=std::thread::available_parallelism().unwrap().get()).contains(&n_cores()));
    }
}
