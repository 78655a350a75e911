//! Histories that others recorded and labelled: what keeps our checkers honest.
//!
//! A folder holds `labels.tsv` (a file and `linearizable` or `not` on each line, for logs of Jepsen's etcd test) and `kv/`, with
//! key-value histories whose names end in `-ok` or `-bad`. That is Porcupine's test data. The folder is not part of the project.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::check::linearizability::{Limits, Register, Report, Text, Timed, check};

pub mod etcd_log;
pub mod key_value;

/// One labelled history and what the search says of it.
pub struct Row {
    /// Path below the folder.
    pub file: String,
    pub is_linearizable: bool,
    pub report: Report,
    pub lasted: Duration,
}

impl Row {
    /// Returns the verdict in one word.
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        match self.says_linearizable() {
            Some(true) => "linearizable",
            Some(false) => "not",
            None => "unknown",
        }
    }

    /// Returns whether the verdict is the label's.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.says_linearizable() == Some(self.is_linearizable)
    }

    fn says_linearizable(&self) -> Option<bool> {
        if !self.report.violations.is_empty() {
            Some(false)
        } else if self.report.unknown.is_empty() {
            Some(true)
        } else {
            None
        }
    }
}

/// Reads a folder of labelled histories and searches each.
///
/// # Errors
/// When the folder holds none, or one of them cannot be read.
pub fn run(folder: &Path) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (file, is_linearizable) in labels(folder)? {
        let text = read(&folder.join(&file))?;
        let operations = etcd_log::parse(&text).with_context(|| file.clone())?;
        let keys = BTreeMap::from([("register".to_owned(), operations)]);
        rows.push(row(file, is_linearizable, || check::<Register>(&keys, Limits::default())));
    }
    for (file, is_linearizable) in named_by_verdict(folder)? {
        let text = read(&folder.join(&file))?;
        let keys: BTreeMap<String, Vec<Timed<Text>>> =
            key_value::parse(&text).with_context(|| file.clone())?;
        rows.push(row(file, is_linearizable, || check::<Text>(&keys, Limits::default())));
    }
    anyhow::ensure!(
        !rows.is_empty(),
        "{} holds no labelled histories (labels.tsv, kv/*-ok.txt, kv/*-bad.txt)",
        folder.display()
    );
    Ok(rows)
}

fn row(file: String, is_linearizable: bool, search: impl FnOnce() -> Report) -> Row {
    let began = Instant::now();
    let report = search();
    Row { file, is_linearizable, report, lasted: began.elapsed() }
}

/// Files and labels of `labels.tsv`.
fn labels(folder: &Path) -> anyhow::Result<Vec<(String, bool)>> {
    let path = folder.join("labels.tsv");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let mut labels = Vec::new();
    for (number, line) in (1..).zip(read(&path)?.lines()) {
        let label = match line.split_once('\t') {
            Some((file, "linearizable")) => (file.to_owned(), true),
            Some((file, "not")) => (file.to_owned(), false),
            _ => anyhow::bail!(
                "{}: line {number} is not a file, a tab, and linearizable or not",
                path.display()
            ),
        };
        labels.push(label);
    }
    Ok(labels)
}

/// Files of `kv/`, whose names say what they are.
fn named_by_verdict(folder: &Path) -> anyhow::Result<Vec<(String, bool)>> {
    let path = folder.join("kv");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&path).with_context(|| path.display().to_string())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let is_linearizable = if name.ends_with("-ok.txt") {
            true
        } else if name.ends_with("-bad.txt") {
            false
        } else {
            continue;
        };
        files.push((PathBuf::from("kv").join(&name).display().to_string(), is_linearizable));
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests;
