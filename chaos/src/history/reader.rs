//! Reading a history file back.

use std::path::Path;

use super::Event;

/// Why a history cannot be judged.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("cannot read the history")]
    Io(#[from] std::io::Error),
    #[error("line {line} is not a history event")]
    Line { line: usize, source: serde_json::Error },
    #[error("line {line}: index {index} does not follow {previous}")]
    Order { line: usize, index: u64, previous: u64 },
}

/// Reads a history and checks that its indexes grow.
///
/// # Errors
/// [`ReadError`] names the line.
pub fn read(path: &Path) -> Result<Vec<Event>, ReadError> {
    parse(&std::fs::read_to_string(path)?)
}

fn parse(text: &str) -> Result<Vec<Event>, ReadError> {
    let mut events: Vec<Event> = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        let event: Event =
            serde_json::from_str(content).map_err(|source| ReadError::Line { line, source })?;
        if let Some(previous) = events.last()
            && event.index <= previous.index
        {
            return Err(ReadError::Order { line, index: event.index, previous: previous.index });
        }
        events.push(event);
    }
    Ok(events)
}
