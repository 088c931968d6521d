//! Memory: how much a program may still take, and the most that this one has taken.
//!
//! Both as Linux tells them; elsewhere there is no answer, and nobody is refused anything for that. What may be taken is
//! what the system calls available (a file's cached pages count, since they give way), or what the narrowest of this
//! process's control groups leaves.

use std::fs;
use std::path::{Path, PathBuf};

/// Bytes that can be taken without pushing out anything but cached files.
pub fn available() -> Option<u64> {
    available_under(Path::new("/"))
}

/// Bytes of this process that were in memory at once at most, mapped files included, since the last [`forget_peak`].
pub fn peak() -> Option<u64> {
    kilobytes(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// Lets [`peak`] count anew. Says whether it does.
pub fn forget_peak() -> bool {
    fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// `4.2 MB`, in powers of ten as shops and disks count.
pub fn bytes_in_words(n: u64) -> String {
    let units = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match units.into_iter().find(|(unit, _)| n >= *unit) {
        Some((unit, name)) => format!("{:.2} {name}", n as f64 / unit as f64),
        None => format!("{n} B"),
    }
}

/// [`available`] by the files below `root`.
fn available_under(root: &Path) -> Option<u64> {
    let system = kilobytes(&fs::read_to_string(root.join("proc/meminfo")).ok()?, "MemAvailable:")?;
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    Some(groups.lines().filter_map(|line| left_in_group(root, line)).fold(system, u64::min))
}

/// What the group of this line of /proc/self/cgroup and those around it leave: `0::/path` in version 2, `4:memory:/path` in
/// version 1.
fn left_in_group(root: &Path, line: &str) -> Option<u64> {
    let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
    let (mount, files) = match controllers {
        "" => ("sys/fs/cgroup", &VERSION_2),
        _ if controllers.split(',').any(|name| name == "memory") => ("sys/fs/cgroup/memory", &VERSION_1),
        _ => return None,
    };
    let mount = root.join(mount);
    let group = mount.join(path.trim_start_matches('/'));
    let around = group.ancestors().take_while(|group| group.starts_with(&mount));
    around.filter_map(|group| files.left(group)).min()
}

/// What a version of control groups calls its files.
struct Files {
    limit: &'static str,
    usage: &'static str,
    /// Lines of `memory.stat` about pages that give way: those of files.
    files: [&'static str; 2],
}

const VERSION_2: Files =
    Files { limit: "memory.max", usage: "memory.current", files: ["inactive_file", "active_file"] };
const VERSION_1: Files = Files {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    files: ["total_inactive_file", "total_active_file"],
};

impl Files {
    /// `None` where the group has no limit, or does not exist in this view of the groups.
    fn left(&self, group: &Path) -> Option<u64> {
        let number = |name: &str| read_number(group.join(name));
        let limit = number(self.limit)?;
        let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
        let of_files: u64 = self.files.iter().filter_map(|name| field(&stat, name)).sum();
        Some(limit.saturating_sub(number(self.usage)?.saturating_sub(of_files)))
    }
}

fn read_number(path: PathBuf) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The number behind `name`, which is a line's first word.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        if words.next()? == name { words.next()?.parse().ok() } else { None }
    })
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    field(text, name)?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str =
        "MemTotal:       24000000 kB\nMemFree:         1000000 kB\nMemAvailable:   16000000 kB\n";
    const SYSTEM: u64 = 16_000_000 * 1024;

    /// Files below a root, and what they leave.
    #[test]
    fn the_narrowest_limit_counts() {
        let v2 = ("proc/self/cgroup", "0::/user/owlet\n");
        let v1 = ("proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/docker/x\n0::/\n");
        let unlimited = "9223372036854771712\n";
        type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], Option<u64>);
        let cases: [Case; 9] = [
            ("no Linux", &[], None),
            ("no groups", &[("proc/meminfo", MEMINFO)], Some(SYSTEM)),
            (
                "version 2 without a limit",
                &[
                    ("proc/meminfo", MEMINFO),
                    v2,
                    ("sys/fs/cgroup/user/owlet/memory.max", "max\n"),
                    ("sys/fs/cgroup/user/owlet/memory.current", "5000\n"),
                ],
                Some(SYSTEM),
            ),
            (
                "version 2: pages of files give way, others don't",
                &[
                    ("proc/meminfo", MEMINFO),
                    v2,
                    ("sys/fs/cgroup/user/owlet/memory.max", "8000000\n"),
                    ("sys/fs/cgroup/user/owlet/memory.current", "7000000\n"),
                    (
                        "sys/fs/cgroup/user/owlet/memory.stat",
                        "anon 4000000\nfile 3000000\ninactive_file 2000000\nactive_file 1000000\n",
                    ),
                ],
                Some(4_000_000),
            ),
            (
                "version 2: the group around is narrower",
                &[
                    ("proc/meminfo", MEMINFO),
                    v2,
                    ("sys/fs/cgroup/user/owlet/memory.max", "8000000\n"),
                    ("sys/fs/cgroup/user/owlet/memory.current", "0\n"),
                    ("sys/fs/cgroup/user/memory.max", "5000000\n"),
                    ("sys/fs/cgroup/user/memory.current", "2000000\n"),
                ],
                Some(3_000_000),
            ),
            (
                "version 2 in a container: the path is another view's",
                &[
                    ("proc/meminfo", MEMINFO),
                    v2,
                    ("sys/fs/cgroup/memory.max", "6000000\n"),
                    ("sys/fs/cgroup/memory.current", "6500000\n"),
                ],
                Some(0),
            ),
            (
                "version 1",
                &[
                    ("proc/meminfo", MEMINFO),
                    v1,
                    ("sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes", "9000000\n"),
                    ("sys/fs/cgroup/memory/docker/x/memory.usage_in_bytes", "8500000\n"),
                    (
                        "sys/fs/cgroup/memory/docker/x/memory.stat",
                        "total_inactive_file 500000\ninactive_file 1\n",
                    ),
                ],
                Some(1_000_000),
            ),
            (
                "version 1 without a limit",
                &[
                    ("proc/meminfo", MEMINFO),
                    v1,
                    ("sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes", unlimited),
                    ("sys/fs/cgroup/memory/docker/x/memory.usage_in_bytes", "8500000\n"),
                ],
                Some(SYSTEM),
            ),
            (
                "nonsense",
                &[("proc/meminfo", MEMINFO), ("proc/self/cgroup", "\n:::\nx\n0::/../../etc\n")],
                Some(SYSTEM),
            ),
        ];
        for (name, files, expected) in cases {
            let dir = tempfile::tempdir().unwrap();
            for (path, text) in files {
                let path = dir.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            assert_eq!(available_under(dir.path()), expected, "{name}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_was_taken_is_seen_and_forgotten() {
        // Far more than other tests, which run beside this one, take meanwhile.
        const TAKEN: usize = 512 << 20;
        assert!(available().is_some_and(|bytes| bytes > 0));
        let taken = std::hint::black_box(vec![1u8; TAKEN]);
        let with = peak().unwrap();
        assert!(with > TAKEN as u64, "{with}");
        drop(taken);
        // Linux counts by processor and adds up roughly.
        assert!(peak().unwrap() + (8 << 20) > with, "a peak stays");
        if !forget_peak() {
            println!("not run: this system does not let a process reset its peak");
            return;
        }
        let after = peak().unwrap();
        assert!(after < with, "{with}, then {after}");
    }
}
