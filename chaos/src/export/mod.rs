//! Our histories in the formats of other checkers, so that nobody has to believe ours.
//!
//! Values become numbers, in the order in which they first come up, where a format knows only numbers.

mod elle;
mod register;

pub use elle::elle;
pub use register::{knossos, porcupine};

use crate::check::registers;
use crate::history::{Event, Process, pair};

/// Why a history cannot be written in a format.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("the history is broken: {0}")]
    Broken(String),
    #[error("the history has no operations on registers")]
    NoRegisters,
    #[error("the history has no transactions")]
    NoTransactions,
    #[error(
        "the format holds one register, and the history has {count}: name one with --key, such as {first}"
    )]
    KeyNeeded { count: usize, first: String },
    #[error("the history has no register {key}; there are {count}, such as {first}")]
    NoSuchKey { key: String, count: usize, first: String },
    #[error("#{index} expects a revision whose value no answer shows, which the format cannot say")]
    Unseen { index: u64 },
}

/// One register's operations and who did them.
struct Register {
    operations: Vec<crate::check::linearizability::Timed<crate::check::linearizability::Register>>,
    processes: std::collections::BTreeMap<u64, u32>,
}

impl Register {
    fn choose(events: &[Event], key: Option<&str>) -> Result<Self, ExportError> {
        let operations = pair(events).map_err(ExportError::Broken)?;
        let processes = operations.iter().filter_map(|operation| match operation.process {
            Process::Client(process) => Some((operation.index, process)),
            Process::Nemesis(_) => None,
        });
        let processes = processes.collect();
        let mut keys = registers::keys(&operations).map_err(|violations| {
            ExportError::Broken(violations.first().map_or_else(String::new, ToString::to_string))
        })?;
        let count = keys.len();
        let first = keys.keys().next().cloned().ok_or(ExportError::NoRegisters)?;
        let key = match key {
            Some(key) => key.to_owned(),
            None if count == 1 => first.clone(),
            None => return Err(ExportError::KeyNeeded { count, first }),
        };
        let operations = keys.remove(&key).ok_or(ExportError::NoSuchKey { key, count, first })?;
        Ok(Self { operations, processes })
    }
}

#[cfg(test)]
mod tests;
