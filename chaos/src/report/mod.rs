//! Reports: a page for each run, an index over all runs of a folder, two runs side by side.
//!
//! `recorded` reads what a folder says, `page`, `index` and `compare` turn it into HTML; all of them are pure. This file reads and writes the files,
//! `serve` shows them. A page is
//! made from its folder alone, so it can be made again at any time.

pub(crate) mod recorded;
pub(crate) mod summary;

mod compare;
mod index;
mod page;

mod serve;

#[cfg(test)]
mod example;

use std::fs;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::Context;

pub use serve::serve;

use self::recorded::{Recorded, Texts};
use self::summary::Summary;

/// Name of a run's page in its folder.
pub const PAGE: &str = "report.html";
/// Name of the index over all runs of a folder.
pub const INDEX: &str = "index.html";

/// How deep below a folder its runs may lie: those of a set have a folder of their own.
const DEPTH_MAX: usize = 3;
/// Bytes at the end of a history that hold its last line.
const TAIL: u64 = 1 << 16;

/// Writes the page of the run in this folder; returns its path.
///
/// # Errors
/// When the folder holds no history, or the page cannot be written.
pub fn write_page(folder: &Path) -> anyhow::Result<PathBuf> {
    let path = folder.join(PAGE);
    fs::write(&path, page::page(&read(folder)?)).with_context(|| path.display().to_string())?;
    Ok(path)
}

/// Writes the index over all runs in and below a folder; returns its path.
///
/// # Errors
/// When the folder cannot be read or the index not be written.
pub fn write_index(folder: &Path) -> anyhow::Result<PathBuf> {
    let path = folder.join(INDEX);
    fs::write(&path, index_page(folder)?).with_context(|| path.display().to_string())?;
    Ok(path)
}

/// Returns the index over all runs in and below a folder.
///
/// # Errors
/// When the folder cannot be read.
pub fn index_page(folder: &Path) -> anyhow::Result<String> {
    let runs = runs(folder, DEPTH_MAX).with_context(|| folder.display().to_string())?;
    let summaries: anyhow::Result<Vec<Summary>> = runs
        .iter()
        .map(|run| {
            let place = run.strip_prefix(folder).unwrap_or(run).to_string_lossy().into_owned();
            Ok(Summary { place, ..summary(run)? })
        })
        .collect();
    Ok(index::index(&format!("Runs in {}", name(folder)), &summaries?))
}

/// Writes two runs side by side, as a page and as Markdown beside it; returns the paths.
///
/// # Errors
/// When one is no run, or the files cannot be written.
pub fn write_comparison(first: &Path, second: &Path, output: &Path) -> anyhow::Result<[PathBuf; 2]> {
    let (first, second) = (read(first)?, read(second)?);
    let comparison = compare::Comparison { first: &first, second: &second };
    let markdown = output.with_extension("md");
    if let Some(folder) = output.parent() {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    fs::write(output, comparison.html()).with_context(|| output.display().to_string())?;
    fs::write(&markdown, comparison.markdown()).with_context(|| markdown.display().to_string())?;
    Ok([output.to_owned(), markdown])
}

/// Returns the folders that hold a run.
fn runs(folder: &Path, depth: usize) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        // A link is not followed: it may lead around.
        if !path.is_dir() || path.is_symlink() {
            continue;
        }
        if path.join("history.jsonl").is_file() {
            found.push(path);
        } else if depth > 1 {
            found.extend(runs(&path, depth - 1)?);
        }
    }
    found.sort();
    Ok(found)
}

/// Sums up one run without reading its whole history.
pub(crate) fn summary(folder: &Path) -> anyhow::Result<Summary> {
    let history = folder.join("history.jsonl");
    let mut file = fs::File::open(&history).with_context(|| history.display().to_string())?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let history = String::from_utf8_lossy(&tail).into_owned();
    Ok(Summary::read(&texts(folder, history)?))
}

fn read(folder: &Path) -> anyhow::Result<Recorded> {
    let path = folder.join("history.jsonl");
    anyhow::ensure!(path.is_file(), "{} holds no run: there is no history.jsonl", folder.display());
    // A history may end in the middle of a letter if the run was.
    let history = String::from_utf8_lossy(&fs::read(path)?).into_owned();
    Ok(Recorded::read(&texts(folder, history)?))
}

fn texts(folder: &Path, history: String) -> anyhow::Result<Texts> {
    let text = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
    Ok(Texts {
        name: name(folder),
        modified: modified(&folder.join("history.jsonl")),
        options: text("options.json"),
        history,
        result: text("result.json"),
        logs: logs(folder)?,
    })
}

fn name(folder: &Path) -> String {
    let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    whole.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn modified(path: &Path) -> String {
    let time = fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let time = time.and_then(|time| jiff::Timestamp::try_from(time).ok());
    time.map(|time| format!("{time:.0}")).unwrap_or_default()
}

fn logs(folder: &Path) -> anyhow::Result<Vec<(String, usize)>> {
    let mut logs = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let file_name = entry.file_name().to_string_lossy().into_owned();
        let name = file_name.strip_prefix("log-").and_then(|rest| rest.strip_suffix(".jsonl"));
        if let Some(name) = name {
            logs.push((name.to_owned(), BufReader::new(fs::File::open(entry.path())?).lines().count()));
        }
    }
    logs.sort();
    Ok(logs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_run(folder: &Path) {
        fs::create_dir_all(folder).unwrap();
        let texts = example::texts();
        fs::write(folder.join("history.jsonl"), texts.history).unwrap();
        fs::write(folder.join("options.json"), texts.options).unwrap();
        fs::write(folder.join("result.json"), texts.result).unwrap();
        fs::write(folder.join("log-n1.jsonl"), "{}\n{}\n").unwrap();
    }

    #[test]
    fn a_page_is_made_from_its_folder_alone() {
        let folder = tempfile::tempdir().unwrap();
        write_run(folder.path());
        let first = fs::read_to_string(write_page(folder.path()).unwrap()).unwrap();
        assert!(first.contains("stale read") && first.contains("log of n1"));
        assert_eq!(first, fs::read_to_string(write_page(folder.path()).unwrap()).unwrap());
        let empty = tempfile::tempdir().unwrap();
        assert!(write_page(empty.path()).unwrap_err().to_string().contains("holds no run"));
    }

    #[test]
    fn an_index_finds_runs_below_it_and_follows_no_link() {
        let folder = tempfile::tempdir().unwrap();
        write_run(&folder.path().join("5"));
        write_run(&folder.path().join("set/first"));
        std::os::unix::fs::symlink(folder.path(), folder.path().join("around")).unwrap();
        let html = fs::read_to_string(write_index(folder.path()).unwrap()).unwrap();
        assert!(html.contains("./5/report.html") && html.contains("./set/first/report.html"));
        assert!(html.contains("<b>runs</b> 2") && html.contains("<b>fail</b> 2"));
        assert!(write_index(&folder.path().join("nowhere")).is_err());
    }
}
