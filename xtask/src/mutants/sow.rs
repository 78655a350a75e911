//! Sows mutants: a copy of the repository in which every mutant is compiled in beside the code that it breaks, to be switched on by name.
//!
//! ```text
//! original text ──► (if crate::plant::is_sown("name") { mutated } else { original })
//! ```
//!
//! The copy of each crate that holds mutants gets that module, too, be it of the repository or a dependency (`dependencies`). So one
//! build serves all of them, and the code that people read and ship holds none, and no way to switch one on.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::dependencies::{self, Dependencies};
use super::list::Mutant;
use crate::process::{self, output, root};

/// Crates that stand on the store or beside it: neither its tests nor its simulation need them.
const BESIDE: [&str; 4] = ["apiserver", "controllers", "nodeagent", "chaos/simulation/kubernetes"];

/// Crates that may hold mutants; what is sown into one that is left out is only in the whole program.
const SOWN: [&str; 6] = ["store", "apiserver", "controllers", "nodeagent", "chaos", "chaos/simulation"];

/// Chosen once per process, so that a run never mixes both behaviours.
const SWITCH: &str = r#"
/// Which mutant is switched on.
pub mod plant {
    /// Whether it is this one.
    pub fn is_sown(name: &str) -> bool {
        static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
        CHOSEN.get_or_init(|| std::env::var("KEELSON_PLANT").ok()).as_deref() == Some(name)
    }
}
"#;

/// What the copy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The store's tests and its `keelson-plant`; what stands beside it is left empty.
    Store,
    /// Everything.
    Whole,
}

impl Purpose {
    fn folder(self) -> &'static str {
        match self {
            Self::Store => "sown/tests",
            Self::Whole => "sown/binary",
        }
    }
}

/// Says which mutants no longer fit the sources: their text must be there exactly once.
pub fn misfits(mutants: &[Mutant], read: impl Fn(&str) -> io::Result<String>) -> Vec<String> {
    let mut misfits = Vec::new();
    for mutant in mutants {
        let found = read(mutant.file).map_or(0, |text| text.matches(mutant.original).count());
        if found != 1 {
            let Mutant { name, file, .. } = mutant;
            misfits.push(format!("{file}: the text of mutant `{name}` is there {found} times, not once"));
        }
    }
    misfits
}

/// Brings the copy up to date and returns where it is. Files that do not change keep their times, so that builds are short.
pub fn sow(mutants: &[Mutant], purpose: Purpose) -> Result<PathBuf> {
    let dependencies = Dependencies::find()?;
    let misfits = misfits(mutants, |file| fs::read_to_string(dependencies.origin(file)));
    if !misfits.is_empty() {
        bail!("{}", misfits.join("\n"));
    }
    let copy = process::target().join(purpose.folder());
    let mut files = tracked()?;
    // Where this machine keeps the prebuilt RocksDB archive.
    files.push(".cargo/local.toml".to_owned());
    files.extend(dependencies.files()?);
    for file in &files {
        let Ok(bytes) = fs::read(dependencies.origin(file)) else { continue };
        let bytes = match String::from_utf8(bytes) {
            _ if purpose == Purpose::Store && is_left_out(file) => LEFT_OUT.into(),
            Ok(text) => prepared(file, text, mutants).into_bytes(),
            Err(binary) => binary.into_bytes(),
        };
        write_if_changed(&copy.join(file), &bytes)?;
    }
    remove_others(&copy, &copy, &files.iter().map(PathBuf::from).collect())?;
    Ok(copy)
}

/// Removes what the sources no longer hold: of a module that was moved, the compiler must not find both.
fn remove_others(folder: &Path, copy: &Path, files: &BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_others(&path, copy, files)?;
        } else if path.strip_prefix(copy).is_ok_and(|name| !files.contains(name)) {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// Whether only the whole program holds what is sown into a file.
pub fn is_beside_the_store(file: &str) -> bool {
    beside(file).is_some()
}

/// Returns the path of a file within a crate that is beside the store.
fn beside(file: &str) -> Option<&str> {
    BESIDE.iter().find_map(|folder| file.strip_prefix(folder)?.strip_prefix('/'))
}

const LEFT_OUT: &str = "//! Left out.\n\nfn main() {}\n";

/// Whether a file is the root module or the build script of a crate that is left empty, or belongs to the whole program.
fn is_left_out(file: &str) -> bool {
    file.split_once('/').is_some_and(|(folder, rest)| match folder {
        "src" => rest == "main.rs",
        "tests" => !rest.contains('/') && rest.ends_with(".rs"),
        _ => beside(file).is_some_and(|rest| matches!(rest, "src/lib.rs" | "src/main.rs" | "build.rs")),
    })
}

fn tracked() -> Result<Vec<String>> {
    let mut git = Command::new("git");
    git.current_dir(root()).args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    Ok(output(&mut git)?.lines().map(str::to_owned).collect())
}

fn prepared(file: &str, text: String, mutants: &[Mutant]) -> String {
    let text = match file {
        "Cargo.toml" => dependencies::patched(&text),
        "Cargo.lock" => dependencies::unlocked(&text),
        _ => text,
    };
    let is_root = SOWN.iter().any(|folder| file.strip_prefix(folder) == Some("/src/lib.rs"));
    let is_sown = is_root || dependencies::is_root_module(file);
    // What compilers think of sown code is of no interest.
    let text = if is_sown { format!("#![allow(warnings)]\n{text}{SWITCH}") } else { text };
    mutants
        .iter()
        .filter(|mutant| mutant.file == file)
        .fold(text, |text, mutant| text.replacen(mutant.original, &sown(mutant), 1))
}

/// A text that ends a statement is replaced by a statement, any other by an expression.
fn sown(mutant: &Mutant) -> String {
    let Mutant { name, original, mutated, .. } = mutant;
    let either = format!("if crate::plant::is_sown(\"{name}\") {{ {mutated} }} else {{ {original} }}");
    if original.ends_with(';') { either } else { format!("({either})") }
}

fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MUTANT: Mutant = Mutant {
        name: "off",
        file: "a.rs",
        original: "a < b",
        mutated: "a <= b",
        breaks: "a bound",
        killed_by: &["lib some::test"],
    };

    #[test]
    fn an_expression_stays_one_and_a_statement_too() {
        let text = prepared("a.rs", "if a < b {}".to_owned(), &[MUTANT]);
        assert_eq!(text, "if (if crate::plant::is_sown(\"off\") { a <= b } else { a < b }) {}");
        let statement = Mutant { original: "a();", mutated: "", ..MUTANT };
        let text = prepared("a.rs", "a(); b();".to_owned(), &[statement]);
        assert_eq!(text, "if crate::plant::is_sown(\"off\") {  } else { a(); } b();");
        assert_eq!(prepared("b.rs", "a < b".to_owned(), &[MUTANT]), "a < b");
    }

    #[test]
    fn crates_that_hold_mutants_get_the_switch_and_others_do_not() {
        let has = |file| prepared(file, "pub mod a;\n".to_owned(), &[]).contains("mod plant");
        assert!(has("store/src/lib.rs") && has("chaos/simulation/src/lib.rs") && has("apiserver/src/lib.rs"));
        assert!(has("dependencies/openraft/src/lib.rs"));
        assert!(has("nodeagent/src/lib.rs"));
        assert!(!has("store/src/mvcc/mod.rs") && !has("transport/src/lib.rs"));
    }

    #[test]
    fn a_copy_builds_dependencies_of_its_own() {
        assert!(prepared("Cargo.toml", String::new(), &[]).contains("[patch.crates-io]"));
        assert!(!prepared("store/Cargo.toml", String::new(), &[]).contains("patch"));
        let mutant = Mutant { file: "dependencies/openraft/src/a.rs", ..MUTANT };
        assert!(prepared(mutant.file, "a < b".to_owned(), &[mutant]).contains("is_sown(\"off\")"));
    }

    #[test]
    fn what_does_not_belong_to_the_store_is_left_out() {
        let kubernetes = "chaos/simulation/kubernetes/src/lib.rs";
        for file in ["src/main.rs", "tests/web.rs", "apiserver/src/lib.rs", "nodeagent/build.rs", kubernetes]
        {
            assert!(is_left_out(file), "{file}");
        }
        for file in ["src/up.rs", "tests/web/mod.rs", "store/src/lib.rs", "chaos/simulation/src/main.rs"] {
            assert!(!is_left_out(file), "{file}");
        }
    }

    #[test]
    fn what_is_gone_from_the_sources_goes_from_the_copy() {
        let copy = std::env::temp_dir().join(format!("keelson-sow-{}", std::process::id()));
        for file in ["a/old.rs", "a/kept.rs"] {
            write_if_changed(&copy.join(file), b"").unwrap();
        }
        remove_others(&copy, &copy, &["a/kept.rs".into()].into()).unwrap();
        let left: Vec<bool> = ["a/old.rs", "a/kept.rs"].iter().map(|file| copy.join(file).exists()).collect();
        fs::remove_dir_all(&copy).unwrap();
        assert_eq!(left, [false, true]);
    }

    #[test]
    fn a_mutant_fits_where_its_text_is_once() {
        let found = |text: &'static str| misfits(&[MUTANT], |_| Ok(text.to_owned())).len();
        assert_eq!(found("a < b"), 0);
        assert_eq!((found("a > b"), found("a < b; a < b")), (1, 1));
        assert_eq!(misfits(&[MUTANT], |_| Err(io::ErrorKind::NotFound.into())).len(), 1);
    }
}
