//! What tests may not leave behind on a machine: processes, mounts, links, nft tables, network namespaces, cgroups.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

/// Programs that only tests start; a new one after the tests is a leak.
const WATCHED_PROGRAMS: &[&str] =
    &["keelson", "containerd", "containerd-shim", "etcd", "etcdctl", "kubectl", "runc", "busybox"];

/// The machine's folder of named network namespaces: whoever makes the first one mounts it, and nobody ever unmounts it.
const NAMESPACE_FOLDER: &str = "/run/netns";

/// What stands on the machine at one moment.
pub struct Snapshot {
    items: BTreeSet<String>,
}

impl Snapshot {
    /// Looks at the machine.
    pub fn take() -> Self {
        let mut items = BTreeSet::new();
        items.extend(lines("ip", &["-o", "link", "show"]).iter().filter_map(|line| {
            let name = line.split(": ").nth(1)?;
            Some(format!("link {}", name.split('@').next().unwrap_or(name)))
        }));
        items.extend(lines("nft", &["list", "tables"]).into_iter().map(|line| format!("nft {line}")));
        items.extend(lines("ip", &["netns", "list"]).into_iter().map(|line| format!("namespace {line}")));
        items.extend(
            lines("losetup", &["--list", "--noheadings", "--output", "NAME"])
                .into_iter()
                .map(|line| format!("loop {line}")),
        );
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        items.extend(
            mounts
                .lines()
                .filter_map(|line| line.split(' ').nth(1))
                .filter(|at| *at != NAMESPACE_FOLDER)
                .map(|at| format!("mount {at}")),
        );
        items.extend(processes());
        items.extend(cgroups());
        Self { items }
    }

    /// Returns what is here now and was not in `before`.
    pub fn new_since(&self, before: &Self) -> Vec<String> {
        self.items.difference(&before.items).cloned().collect()
    }
}

fn processes() -> Vec<String> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        let name = name.trim();
        WATCHED_PROGRAMS
            .iter()
            .any(|program| name.starts_with(program))
            .then(|| format!("process {name} {pid}"))
    })
    .collect()
}

/// Control groups that a cluster made: their names carry the project's prefix.
fn cgroups() -> Vec<String> {
    lines("find", &["/sys/fs/cgroup", "-maxdepth", "3", "-type", "d", "-name", "keelson*"])
        .into_iter()
        .map(|line| format!("cgroup {line}"))
        .collect()
}

/// Lines that a program prints; a program that is missing shows nothing.
fn lines(program: &str, args: &[&str]) -> Vec<String> {
    let Ok(output) = Command::new(program).args(args).output() else { return Vec::new() };
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}
