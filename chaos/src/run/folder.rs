//! The folder of a run: options, history, logs, verdict; enough to judge it again.
//!
//! ```text
//! options.json  history.jsonl  log-n1.jsonl …  live-n1.jsonl …  result.json  report.txt  report.html  n1.log …  starts/ (of real containers)
//! data/ (removed at the end)
//! ```

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Deserialize;
use serde_json::json;

use super::{Options, Outcome};
use crate::check::judge::Minimums;
use crate::check::opinions::Opinion;
use crate::check::witness::LogEntry;
use crate::check::{Record, Verdict};
use crate::history::{self, Event, EventKind, Process};

/// Version of the files in the folder.
const FORMAT: u32 = 2;

/// What judging a run needs beside what it recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The command that repeats it.
    pub reproduce: String,
    pub minimums: Minimums,
}

/// The folder of one run.
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Creates the folder.
    ///
    /// # Errors
    /// When it exists and holds a run, or cannot be made.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
        let path = path.canonicalize()?;
        anyhow::ensure!(!path.join("history.jsonl").exists(), "{} already holds a run", path.display());
        Ok(Self { path })
    }

    /// Opens the folder of a finished run.
    ///
    /// # Errors
    /// When there is no history.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        anyhow::ensure!(path.join("history.jsonl").exists(), "{} holds no history.jsonl", path.display());
        Ok(Self { path: path.to_owned() })
    }

    /// Returns the folder's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of the history.
    #[must_use]
    pub fn history(&self) -> PathBuf {
        self.path.join("history.jsonl")
    }

    /// Returns the path of the snapshots that clients have saved.
    #[must_use]
    pub fn snapshots(&self) -> PathBuf {
        self.path.join("snapshots")
    }

    /// Returns the folder in which real containers say that they start.
    #[must_use]
    pub fn starts(&self) -> PathBuf {
        self.path.join("starts")
    }

    pub(super) fn write_options(&self, options: &Options) -> anyhow::Result<()> {
        self.write_terms(&options.terms())
    }

    /// Writes options.json.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_terms(&self, terms: &Terms) -> anyhow::Result<()> {
        let content = json!({
            "format": FORMAT,
            "reproduce": terms.reproduce,
            "started": format!("{:.0}", jiff::Timestamp::now()),
            "minimums": terms.minimums,
        });
        std::fs::write(self.path.join("options.json"), format!("{content:#}\n"))?;
        Ok(())
    }

    /// Reads what the run had to do.
    ///
    /// # Errors
    /// When options.json is not there or of another format.
    pub fn minimums(&self) -> anyhow::Result<Minimums> {
        let path = self.path.join("options.json");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let content: serde_json::Value = serde_json::from_str(&text)?;
        let format = content.get("format").and_then(serde_json::Value::as_u64).unwrap_or(0);
        anyhow::ensure!(
            format == u64::from(FORMAT),
            "{}: format {format}, and this program reads {FORMAT}: use the one that wrote it",
            path.display()
        );
        let minimums = content.get("minimums").context("options.json names no minimums")?;
        Ok(Minimums::deserialize(minimums)?)
    }

    /// Writes the log that each member showed, at the end and all along.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_logs(&self, record: &Record) -> anyhow::Result<()> {
        for (kind, logs) in [("log", &record.logs), ("live", &record.live)] {
            for (name, log) in logs {
                let mut file = BufWriter::new(File::create(self.path.join(format!("{kind}-{name}.jsonl")))?);
                for entry in log {
                    serde_json::to_writer(&mut file, entry)?;
                    file.write_all(b"\n")?;
                }
                file.flush()?;
            }
        }
        Ok(())
    }

    /// Reads back all that checkers need, but for the history itself.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn record(&self, events: Vec<Event>) -> anyhow::Result<Record> {
        Ok(Record { events, logs: self.logs("log")?, live: self.logs("live")? })
    }

    fn logs(&self, kind: &str) -> anyhow::Result<Vec<(String, Vec<LogEntry>)>> {
        let mut logs = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            let file_name = entry.file_name().to_string_lossy().into_owned();
            let name =
                file_name.strip_prefix(&format!("{kind}-")).and_then(|rest| rest.strip_suffix(".jsonl"));
            let Some(name) = name else { continue };
            let lines = BufReader::new(File::open(entry.path())?).lines();
            let log: Result<Vec<LogEntry>, anyhow::Error> =
                lines.map(|line| Ok(serde_json::from_str(&line?)?)).collect();
            logs.push((name.to_owned(), log.with_context(|| file_name.clone())?));
        }
        logs.sort_by(|left, right| left.0.cmp(&right.0));
        Ok(logs)
    }

    /// Writes result.json and report.txt.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_outcome(&self, terms: &Terms, outcome: &Outcome) -> anyhow::Result<()> {
        let (verdict, violations, reasons) = match &outcome.verdict {
            Verdict::Pass => ("pass", &[][..], &[][..]),
            Verdict::Fail(violations) => ("fail", violations.as_slice(), &[][..]),
            Verdict::Invalid(reasons) => ("invalid", &[][..], reasons.as_slice()),
        };
        let faults = history::read(&self.history())?
            .into_iter()
            .filter(|event| event.process == Process::NEMESIS && event.kind == EventKind::Info);
        let content = json!({
            "format": FORMAT,
            "verdict": verdict,
            "violations": violations,
            "reasons": reasons,
            "counts": outcome.counts,
            "checkers": outcome.opinions.iter().map(checker).collect::<Vec<_>>(),
            "minimums": terms.minimums,
            "faults": faults.collect::<Vec<_>>(),
            "reproduce": terms.reproduce,
        });
        std::fs::write(self.path.join("result.json"), format!("{content:#}\n"))?;
        std::fs::write(self.path.join("report.txt"), outcome.text(&terms.reproduce))?;
        Ok(())
    }

    /// Removes what members have written: the logs that were judged are kept beside it.
    pub(super) fn remove_data(&self) {
        if let Err(error) = std::fs::remove_dir_all(self.path.join("data")) {
            tracing::warn!(%error, path = %self.path.display(), "the members' data stays behind");
        }
    }
}

fn checker(opinion: &Opinion) -> serde_json::Value {
    json!({
        "name": opinion.checker,
        "scope": opinion.scope,
        "counts": opinion.counts,
        "violations": opinion.violations,
        "unknown": opinion.unknown,
    })
}
