//! Mutants in dependencies: a sown copy of the repository builds sown copies of some packages, too, in the place of the registry's.
//!
//! ```text
//! source as cargo has it ──► dependencies/<name> in the copy ◄── [patch.crates-io] in the copy's Cargo.toml
//! ```
//!
//! A mutant names its file as the copy does. The repository holds nothing of these packages but the words that mutants replace.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::process::{self, output, root};

/// A package of the registry, and the version that its mutants were written for: another one may put the same words to another use.
struct Dependency {
    name: &'static str,
    version: &'static str,
}

/// Packages that may hold mutants.
const DEPENDENCIES: [Dependency; 2] = [
    Dependency { name: "openraft", version: "0.10.0-alpha.37" },
    Dependency { name: "quorum-set", version: "0.2.3" },
];

/// Where they are in the copy.
const FOLDER: &str = "dependencies";

/// Where the sources of all of them are.
pub struct Dependencies {
    /// By name.
    folders: BTreeMap<&'static str, PathBuf>,
}

/// What cargo says of the packages that Cargo.lock names.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    manifest_path: PathBuf,
}

impl Dependencies {
    /// Asks cargo.
    ///
    /// # Errors
    /// When Cargo.lock names another version of one of them.
    pub fn find() -> Result<Self> {
        let said = output(process::cargo().args(["metadata", "--locked", "--format-version", "1"]))?;
        let Metadata { packages } =
            serde_json::from_str(&said).context("cannot read what cargo says of packages")?;
        Self::among(&packages)
    }

    fn among(packages: &[Package]) -> Result<Self> {
        let mut folders = BTreeMap::new();
        for Dependency { name, version } in DEPENDENCIES {
            let found: Vec<&Package> = packages.iter().filter(|package| package.name == name).collect();
            let Some(package) = found.iter().find(|package| package.version == version) else {
                let versions: Vec<&str> = found.iter().map(|package| package.version.as_str()).collect();
                bail!(
                    "{name} is at {}, and its mutants were written for {version}: see that each still breaks what it says, \
                     then change the version in xtask/src/mutants/dependencies.rs",
                    versions.join(" and ")
                );
            };
            let folder = package.manifest_path.parent().with_context(|| format!("{name} is in no folder"))?;
            folders.insert(name, folder.to_owned());
        }
        Ok(Self { folders })
    }

    /// Returns where a file of the copy comes from, the repository or a dependency.
    pub fn origin(&self, file: &str) -> PathBuf {
        let within = || {
            let (name, rest) = file.strip_prefix(FOLDER)?.strip_prefix('/')?.split_once('/')?;
            Some(self.folders.get(name)?.join(rest))
        };
        within().unwrap_or_else(|| root().join(file))
    }

    /// Returns the names in the copy of all files of all of them.
    pub fn files(&self) -> Result<Vec<String>> {
        let mut files = Vec::new();
        for (name, folder) in &self.folders {
            add_files(folder, &format!("{FOLDER}/{name}"), &mut files)?;
        }
        Ok(files)
    }
}

fn add_files(folder: &Path, name: &str, files: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        let last = path.file_name().context("an entry of a folder has no name")?.to_string_lossy();
        let name = format!("{name}/{last}");
        if path.is_dir() { add_files(&path, &name, files)? } else { files.push(name) }
    }
    Ok(())
}

/// Whether a file of the copy is the root module of one of them.
pub fn is_root_module(file: &str) -> bool {
    DEPENDENCIES.iter().any(|Dependency { name, .. }| file == format!("{FOLDER}/{name}/src/lib.rs"))
}

/// Points cargo to the copies, in the copy's manifest.
pub fn patched(manifest: &str) -> String {
    let line = |Dependency { name, .. }: &Dependency| format!("{name} = {{ path = \"{FOLDER}/{name}\" }}\n");
    let lines: String = DEPENDENCIES.iter().map(line).collect();
    format!("{manifest}\n[patch.crates-io]\n{lines}")
}

/// Takes the registry out of what Cargo.lock says of them, as it is for packages of a folder.
pub fn unlocked(lock: &str) -> String {
    let is_ours = |package: &str| {
        DEPENDENCIES.iter().any(|Dependency { name, version }| {
            package.contains(&format!("name = \"{name}\"\nversion = \"{version}\"\n"))
        })
    };
    let is_of_registry = |line: &str| line.starts_with("source = ") || line.starts_with("checksum = ");
    let packages = lock.split_inclusive("\n\n").map(|package| match is_ours(package) {
        true => package.split_inclusive('\n').filter(|line| !is_of_registry(line)).collect(),
        false => package.to_owned(),
    });
    packages.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str) -> Package {
        let manifest_path = format!("/registry/{name}-{version}/Cargo.toml").into();
        Package { name: name.to_owned(), version: version.to_owned(), manifest_path }
    }

    fn all() -> Vec<Package> {
        DEPENDENCIES.iter().map(|Dependency { name, version }| package(name, version)).collect()
    }

    #[test]
    fn a_file_comes_from_its_dependency_or_from_the_repository() {
        let dependencies = Dependencies::among(&all()).unwrap();
        let quorum = dependencies.origin("dependencies/quorum-set/src/lib.rs");
        assert_eq!(quorum, Path::new("/registry/quorum-set-0.2.3/src/lib.rs"));
        for file in ["store/src/lib.rs", "dependencies/serde/src/lib.rs", "Cargo.toml"] {
            assert_eq!(dependencies.origin(file), root().join(file));
        }
    }

    #[test]
    fn another_version_is_told_with_both() {
        let mut packages = all();
        packages[0].version = "0.11.0".to_owned();
        let error = Dependencies::among(&packages).err().unwrap().to_string();
        assert!(error.contains("openraft is at 0.11.0") && error.contains("0.10.0-alpha.37"), "{error}");
    }

    #[test]
    fn only_the_root_module_of_a_dependency_is_one() {
        assert!(is_root_module("dependencies/openraft/src/lib.rs"));
        assert!(
            !is_root_module("dependencies/openraft/src/raft/mod.rs")
                && !is_root_module("openraft/src/lib.rs")
        );
    }

    #[test]
    fn the_lock_forgets_the_registry_for_what_is_sown_and_for_nothing_else() {
        let package = |name: &str, version: &str, registry: &str| {
            format!(
                "[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n{registry}dependencies = [\n \"a\",\n]\n"
            )
        };
        let registry = "source = \"registry+x\"\nchecksum = \"0f\"\n";
        let lock = |registry_of_ours| {
            let ours = package("quorum-set", "0.2.3", registry_of_ours);
            let others =
                [package("quorum-set", "0.1.0", registry), package("openraft-rt", "0.2.3", registry)];
            format!("version = 4\n\n{}\n{}\n{ours}", others[0], others[1])
        };
        assert_eq!(unlocked(&lock(registry)), lock(""));
    }

    #[test]
    fn cargo_finds_the_copies_by_the_manifest() {
        let manifest = patched("[workspace]\n");
        assert!(manifest.starts_with("[workspace]\n\n[patch.crates-io]\n"));
        assert!(manifest.contains("quorum-set = { path = \"dependencies/quorum-set\" }\n"));
    }
}
