//! `keelson chaos export`: a history in the format of another checker.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;

use super::USAGE;
use crate::export::{ExportError, elle, knossos, porcupine};
use crate::history;
use crate::run::say;

const INVALID: u8 = 2;

/// Whose format.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    /// One register as a log of Jepsen's etcd test
    Porcupine,
    /// One register as EDN, for a cas-register
    Knossos,
    /// Transactions as EDN, for list-append
    Elle,
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct ExportArgs {
    /// Whose format
    #[arg(long, value_enum)]
    format: Format,
    /// Register to write, where the format holds one
    #[arg(long)]
    key: Option<String>,
    /// Folder of a run, or a history file
    file: PathBuf,
}

/// Writes the history to standard output; returns the exit code.
pub(super) fn run(args: &ExportArgs) -> anyhow::Result<u8> {
    let path = if args.file.is_dir() { args.file.join("history.jsonl") } else { args.file.clone() };
    let tell = |why: &str| say(&format!("keelson chaos export: {}: {why}", path.display()));
    if !path.exists() {
        tell("there is no such file");
        return Ok(USAGE);
    }
    let events = match history::read(&path) {
        Ok(events) => events,
        Err(error) => {
            tell(&format!("{:#}", anyhow::Error::from(error)));
            return Ok(INVALID);
        }
    };
    let key = args.key.as_deref();
    let exported = match args.format {
        Format::Porcupine => porcupine(&events, key),
        Format::Knossos => knossos(&events, key),
        Format::Elle => elle(&events),
    };
    let text = match exported {
        Ok(text) => text,
        Err(error) => {
            tell(&error.to_string());
            return Ok(match error {
                ExportError::KeyNeeded { .. } | ExportError::NoSuchKey { .. } => USAGE,
                ExportError::Broken(_)
                | ExportError::NoRegisters
                | ExportError::NoTransactions
                | ExportError::Unseen { .. } => INVALID,
            });
        }
    };
    std::io::stdout().write_all(text.as_bytes()).context("cannot write the history")?;
    Ok(0)
}
