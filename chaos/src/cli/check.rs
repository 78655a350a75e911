//! `keelson chaos check`: folders of runs, single histories, and labelled ones.

use std::path::{Path, PathBuf};

use anyhow::Context;

use super::{FAIL, INVALID, USAGE};
use crate::check::judge::judge;
use crate::check::linearizability::Limits;
use crate::check::opinions::{Opinion, opinions};
use crate::check::{Record, Verdict};
use crate::golden;
use crate::history::{self, ReadError};
use crate::run::{Folder, say};

const PASS: u8 = 0;

#[derive(Clone, Debug, clap::Args)]
pub(super) struct CheckArgs {
    /// Folders of runs, or history files
    #[arg(required_unless_present = "golden")]
    files: Vec<PathBuf>,
    /// Folder of labelled histories (Porcupine's test data): checks the checker
    #[arg(long, conflicts_with = "files")]
    golden: Option<PathBuf>,
}

/// Checks all that is named; returns the worst exit code.
pub(super) fn run(args: &CheckArgs) -> anyhow::Result<u8> {
    if let Some(folder) = &args.golden {
        return check_golden(folder);
    }
    if let Some(missing) = args.files.iter().find(|file| !file.exists()) {
        say(&format!("keelson chaos check: {} does not exist", missing.display()));
        return Ok(USAGE);
    }
    let mut codes = Vec::new();
    for file in &args.files {
        codes.push(if file.is_dir() { check_folder(file)? } else { check_file(file) });
    }
    Ok(worst(&codes))
}

/// A broken promise outweighs what proves nothing, whatever else was checked.
pub(super) fn worst(codes: &[u8]) -> u8 {
    [FAIL, INVALID].into_iter().find(|code| codes.contains(code)).unwrap_or(PASS)
}

fn check_folder(path: &Path) -> anyhow::Result<u8> {
    let folder = Folder::open(path)?;
    let events = match history::read(&folder.history()) {
        Ok(events) => events,
        Err(error) => return Ok(unreadable(&folder.history(), error)),
    };
    let record = folder.record(events)?;
    let outcome = judge(&record, &folder.minimums()?);
    say(outcome.text(&format!("keelson chaos check {}", path.display())).trim_end());
    Ok(outcome.exit_code())
}

fn check_file(path: &Path) -> u8 {
    match history::read(path) {
        Ok(events) => check_record(path, &Record::of_events(events)),
        Err(error) => unreadable(path, error),
    }
}

fn check_record(path: &Path, record: &Record) -> u8 {
    let opinions = match opinions(record, Limits::default()) {
        Ok(opinions) => opinions,
        Err(error) => return invalid(path, &error),
    };
    if opinions.is_empty() {
        return invalid(path, "no operation with a known outcome that a checker understands");
    }
    say(&format!("{}: {} events", path.display(), record.events.len()));
    worst(&opinions.iter().map(show).collect::<Vec<_>>())
}

fn unreadable(path: &Path, error: ReadError) -> u8 {
    invalid(path, &format!("{:#}", anyhow::Error::from(error)))
}

fn invalid(path: &Path, why: &str) -> u8 {
    say(&format!("{}: INVALID, {why}", path.display()));
    INVALID
}

/// Tells an opinion; returns its exit code.
fn show(opinion: &Opinion) -> u8 {
    let Opinion { checker, scope, .. } = opinion;
    let (word, lines, code) = match opinion.verdict() {
        Verdict::Pass => ("PASS", Vec::new(), PASS),
        Verdict::Fail(violations) => ("FAIL", violations.iter().map(ToString::to_string).collect(), FAIL),
        Verdict::Invalid(reasons) => ("UNKNOWN", reasons, INVALID),
    };
    say(&format!("{word:<11} {checker}: {scope}"));
    for line in lines {
        say(&format!("  {line}"));
    }
    code
}

pub(super) fn check_golden(folder: &Path) -> anyhow::Result<u8> {
    if !folder.is_dir() {
        say(&format!("keelson chaos check: --golden {} is not a folder", folder.display()));
        return Ok(USAGE);
    }
    let rows = match golden::run(folder).with_context(|| format!("--golden {}", folder.display())) {
        Ok(rows) => rows,
        Err(error) => {
            say(&format!("keelson chaos check: {error:#}"));
            return Ok(INVALID);
        }
    };
    say(&format!("{:<24} {:<13} {:<13} {:>10} {:>8}", "history", "label", "verdict", "operations", "ms"));
    for row in &rows {
        let label = if row.is_linearizable { "linearizable" } else { "not" };
        let (verdict, operations, ms) = (row.verdict(), row.report.operations, row.lasted.as_millis());
        let mark = if row.is_right() { "" } else { "  WRONG" };
        say(&format!("{:<24} {label:<13} {verdict:<13} {operations:>10} {ms:>8}{mark}", row.file));
    }
    let right = rows.iter().filter(|row| row.is_right()).count();
    say(&format!("{right} of {} as labelled", rows.len()));
    Ok(if right == rows.len() {
        PASS
    } else if rows.iter().all(|row| row.is_right() || row.verdict() == "unknown") {
        INVALID
    } else {
        FAIL
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = concat!(
        r#"{"history_format":2}"#,
        "\n",
        r#"{"index":0,"time":0,"type":"invoke","process":0,"f":"txn","value":[["append","x",1],["r","y",null]]}"#,
        "\n",
        r#"{"index":1,"time":1,"type":"ok","process":0,"f":"txn","value":[["append","x",1],["r","y",[]]]}"#,
        "\n",
    );

    /// The exit code for files with these contents; `None` is a file that is not there.
    fn code(contents: &[Option<&str>]) -> u8 {
        let folder = tempfile::tempdir().unwrap();
        let mut files = Vec::new();
        for (number, content) in contents.iter().enumerate() {
            let path = folder.path().join(format!("{number}.jsonl"));
            if let Some(content) = content {
                std::fs::write(&path, content).unwrap();
            }
            files.push(path);
        }
        run(&CheckArgs { files, golden: None }).unwrap()
    }

    #[test]
    fn the_exit_code_is_that_of_the_worst_file() {
        let bad = GOOD.replace(r#"["r","y",[]]"#, r#"["r","y",[7]]"#);
        let bad = bad.as_str();
        assert_eq!(code(&[Some(GOOD)]), PASS);
        assert_eq!(code(&[Some(bad)]), FAIL);
        assert_eq!(code(&[Some("hello\n")]), INVALID);
        assert_eq!(code(&[Some(GOOD), Some("hello\n")]), INVALID);
        assert_eq!(code(&[Some("hello\n"), Some(bad), Some(GOOD)]), FAIL);
        assert_eq!(code(&[Some(GOOD), None]), USAGE);
    }

    #[test]
    fn a_file_that_proves_nothing_is_invalid() {
        assert_eq!(code(&[Some("")]), INVALID);
        let unanswered: String = GOOD.lines().take(2).map(|line| format!("{line}\n")).collect();
        assert_eq!(code(&[Some(&unanswered)]), INVALID);
    }

    #[test]
    fn a_wrong_label_fails_and_a_folder_without_labels_is_invalid() {
        let folder = tempfile::tempdir().unwrap();
        let golden =
            || run(&CheckArgs { files: Vec::new(), golden: Some(folder.path().to_owned()) }).unwrap();
        assert_eq!(golden(), INVALID);
        std::fs::create_dir(folder.path().join("kv")).unwrap();
        let event = "{:process 0, :type :invoke, :f :get, :key \"0\", :value nil}\n";
        std::fs::write(folder.path().join("kv/a-ok.txt"), event).unwrap();
        assert_eq!(golden(), PASS);
        std::fs::write(folder.path().join("kv/b-bad.txt"), event).unwrap();
        assert_eq!(golden(), FAIL);
        let missing = Some(folder.path().join("missing"));
        assert_eq!(run(&CheckArgs { files: Vec::new(), golden: missing }).unwrap(), USAGE);
    }
}
