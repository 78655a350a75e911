//! Removes empty cgroups that the runtime leaves behind: it creates the parents of a container's group but never removes them.

use std::io;
use std::path::{Path, PathBuf};

/// Removes the tree below `prefix` in every mounted hierarchy (version 1 and 2). Groups with live processes stay.
pub fn remove_cgroups(prefix: &str) {
    let Ok(mounts) = std::fs::read_to_string("/proc/self/mounts") else { return };
    for root in cgroup_roots(&mounts) {
        let tree = root.join(prefix.trim_start_matches('/'));
        if let Err(error) = remove_tree(&tree) {
            tracing::debug!(path = %tree.display(), %error, "cgroup stays");
        }
    }
}

/// Returns the mount points of all cgroup hierarchies.
fn cgroup_roots(mounts: &str) -> Vec<PathBuf> {
    let fields = |line: &str| -> Option<PathBuf> {
        let mut words = line.split_whitespace().skip(1);
        let target = words.next()?;
        matches!(words.next()?, "cgroup" | "cgroup2").then(|| PathBuf::from(target))
    };
    mounts.lines().filter_map(fields).collect()
}

/// Removes a cgroup and its children, deepest first. Its files are the kernel's and go with the directory.
fn remove_tree(directory: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    match std::fs::remove_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_of_hierarchies_are_found() {
        let mounts = "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ntmpfs /tmp tmpfs rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let expected = [PathBuf::from("/sys/fs/cgroup/cpu"), PathBuf::from("/sys/fs/cgroup/unified")];
        assert_eq!(cgroup_roots(mounts), expected);
    }
}
