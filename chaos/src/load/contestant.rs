//! Who is measured: the store, its peers, and the empty service that shows the limit of the machine.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::cluster::{Program, run_command};

/// The words that turn our binary into the empty service.
const EMPTY_SERVICE: &[&str] = &["bench", "empty-service"];

/// What a side stands for in the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Ours,
    Peer,
    /// Answers at once and keeps nothing.
    Limit,
}

/// One side.
#[derive(Clone, Debug)]
pub(super) struct Contestant {
    /// As the report calls it.
    pub name: String,
    pub role: Role,
    pub program: Program,
}

/// Returns all sides, ours first and the limit last.
///
/// # Errors
/// When a peer is missing or does not say its version.
pub(super) fn all(ours: &Path, peers: &[PathBuf]) -> anyhow::Result<Vec<Contestant>> {
    let mut sides =
        vec![Contestant { name: "Keelson".to_owned(), role: Role::Ours, program: Program::new(ours) }];
    for binary in peers {
        let binary = binary.canonicalize().with_context(|| binary.display().to_string())?;
        let said = run_command(&binary.to_string_lossy(), &["--version"], "")?;
        let version =
            version(&said).with_context(|| format!("{} does not say its version", binary.display()))?;
        let name = format!("etcd {version}");
        // The newest that can be installed may be the one that is installed.
        if sides.iter().all(|side| side.name != name) {
            sides.push(Contestant { name, role: Role::Peer, program: Program::new(&binary) });
        }
    }
    let empty = Program { subcommands: EMPTY_SERVICE, ..Program::new(ours) };
    sides.push(Contestant { name: "empty service".to_owned(), role: Role::Limit, program: empty });
    Ok(sides)
}

fn version(said: &str) -> Option<&str> {
    said.lines().find_map(|line| line.strip_prefix("etcd Version: ")).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn the_version_is_read_from_the_first_lines_of_etcd() {
        assert_eq!(version("etcd Version: 3.5.30\nGit SHA: none\n"), Some("3.5.30"));
        assert_eq!(version("keelson 0.1.0\n"), None);
    }
}
