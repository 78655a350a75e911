//! `cargo xtask tidy`: the house rules that a compiler does not check.
//!
//! Crates depend one way, pure cores import no IO, every module says what it is for, files stay readable.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::mutants;
use crate::process::{output, root};

/// Which workspace crates each crate may depend on (docs/decisions/0001).
const EDGES: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("transport", &[]),
    ("store", &["proto", "transport"]),
    ("client", &["proto", "transport"]),
    ("apiserver", &["proto", "transport", "store"]),
    ("controllers", &["client", "proto", "transport"]),
    ("nodeagent", &["client", "proto", "transport"]),
    ("chaos", &["client", "proto", "transport"]),
    ("chaos/simulation", &["chaos", "proto", "store", "transport"]),
    (
        "chaos/simulation/kubernetes",
        &["apiserver", "chaos", "client", "controllers", "nodeagent", "store", "transport"],
    ),
    ("xtask", &[]),
];

/// Folders and files that hold decisions only.
const PURE: &[&str] = &[
    "proto/src/api",
    "store/src/auth",
    "store/src/mvcc",
    "store/src/contest/turn.rs",
    "store/src/contest/leaders.rs",
    "store/src/lease/table.rs",
    "store/src/membership",
    "apiserver/src/registry",
    "apiserver/src/patch",
    "apiserver/src/authz",
    "controllers/src/scheduler/plugins",
    "controllers/src/scheduler/queue.rs",
    "controllers/src/scheduler/cycle.rs",
    "nodeagent/src/pod",
    "nodeagent/src/proxy/model.rs",
    "nodeagent/src/dns/zone.rs",
    "nodeagent/src/nft/table.rs",
    "chaos/src/check",
];

/// What a pure core may not name.
const IMPURE: &[&str] = &[
    "tokio::",
    "openraft::",
    "tonic::transport",
    "hyper::",
    "reqwest::",
    "std::fs",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "std::env",
    "Instant::now",
    "SystemTime::now",
    "Zoned::now",
    "Timestamp::now",
    "rocksdb::",
    "std::process::Command",
];

/// Non-test lines after which a file must be split.
const FILE_LINES_MAX: usize = 700;

/// File and folder names that say nothing.
const EMPTY_NAMES: &[&str] = &["utils", "util", "helpers", "helper", "common", "misc"];

pub fn run() -> Result<()> {
    let mut findings = Vec::new();
    edges(&mut findings)?;
    findings.extend(mutants::check());
    let files = sources()?;
    for file in &files {
        let text = fs::read_to_string(root().join(file))?;
        check_file(file, &text, &mut findings);
    }
    for finding in &findings {
        eprintln!("tidy: {finding}");
    }
    if !findings.is_empty() {
        bail!("{} findings", findings.len());
    }
    Ok(())
}

/// Rust files that git tracks or would track.
fn sources() -> Result<Vec<PathBuf>> {
    let mut git = Command::new("git");
    git.current_dir(root()).args(["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"]);
    let listing = output(&mut git)?;
    Ok(listing.lines().map(PathBuf::from).filter(|file| root().join(file).exists()).collect())
}

fn edges(findings: &mut Vec<String>) -> Result<()> {
    let allowed: BTreeMap<&str, &[&str]> = EDGES.iter().copied().collect();
    for (name, edges) in &allowed {
        let manifest = fs::read_to_string(root().join(name).join("Cargo.toml"))?;
        for dependency in dependencies(&manifest) {
            if allowed.contains_key(dependency) && !edges.contains(&dependency) {
                findings.push(format!("{name} may not depend on {dependency} (docs/decisions/0001)"));
            }
        }
    }
    Ok(())
}

/// Names under `[dependencies]`; tests may cross crate borders, so dev-dependencies are free.
fn dependencies(manifest: &str) -> Vec<&str> {
    let section = manifest.split("[dependencies]").nth(1).unwrap_or_default();
    let section = section.split("\n[").next().unwrap_or_default();
    section
        .lines()
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !name.is_empty())
        .collect()
}

fn check_file(file: &Path, text: &str, findings: &mut Vec<String>) {
    let shown = file.display();
    if !text.trim_start().starts_with("//!") {
        findings.push(format!("{shown}: starts without `//!` saying what the module is for"));
    }
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if EMPTY_NAMES.contains(&stem) {
        findings.push(format!("{shown}: the name says nothing; name the concept"));
    }
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text);
    let lines = code.lines().count();
    // `mvcc/model` is the naive reference that the core is tested against.
    let in_tests = file.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "model");
    let is_test = in_tests || stem == "tests" || stem.ends_with("_tests");
    if lines > FILE_LINES_MAX && !is_test {
        findings
            .push(format!("{shown}: {lines} lines; look for the seam past 400, split past {FILE_LINES_MAX}"));
    }
    if PURE.iter().any(|pure| file.starts_with(pure)) && !is_test {
        for word in IMPURE.iter().filter(|word| code.contains(**word)) {
            findings.push(format!("{shown}: a pure core names `{word}`"));
        }
    }
    let is_this = file.starts_with("xtask");
    for word in
        ["#[ignore", "TODO", "FIXME", "should_panic"].iter().filter(|word| !is_this && text.contains(**word))
    {
        findings.push(format!("{shown}: `{word}` is not used here"));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{check_file, dependencies};

    fn findings(file: &str, text: &str) -> usize {
        let mut findings = Vec::new();
        check_file(Path::new(file), text, &mut findings);
        findings.len()
    }

    #[test]
    fn dependencies_are_read_from_their_section_only() {
        let manifest = "[package]\nname = \"x\"\n[dependencies]\nproto.workspace = true\nserde = \"1\"\n\n[dev-dependencies]\nstore.workspace = true\n";
        assert_eq!(dependencies(manifest), ["proto", "serde"]);
    }

    #[test]
    fn a_pure_core_may_not_read_the_clock() {
        assert_eq!(findings("store/src/mvcc/a.rs", "//! A.\nfn f() { std::time::Instant::now(); }\n"), 1);
        assert_eq!(findings("store/src/raft/a.rs", "//! A.\nfn f() { std::time::Instant::now(); }\n"), 0);
    }

    #[test]
    fn a_module_says_what_it_is_for() {
        assert_eq!(findings("store/src/raft/a.rs", "fn f() {}\n"), 1);
    }
}
