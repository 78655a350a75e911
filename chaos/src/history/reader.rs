//! Reading a history file back.

use std::path::Path;

use serde::Deserialize;

use super::{Event, FORMAT};

/// Why a history cannot be judged.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("cannot read the history")]
    Io(#[from] std::io::Error),
    #[error("this is no history: line 1 is not an event, as every line of a history.jsonl is")]
    NotAHistory { source: serde_json::Error },
    #[error("the history has format {found}, and this program reads {FORMAT}: use the one that wrote it")]
    Format { found: u64 },
    #[error("line {line}, the last one, is cut off: whoever wrote the history did not finish")]
    CutOff { line: usize },
    #[error("line {line} is not a history event")]
    Line { line: usize, source: serde_json::Error },
    #[error("line {line}: index {index} does not follow {previous}")]
    Order { line: usize, index: u64, previous: u64 },
}

/// What the first line may say. Histories of the first runs have none.
#[derive(Deserialize)]
struct Header {
    history_format: u64,
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
    let is_whole = text.is_empty() || text.ends_with('\n');
    let mut lines = (1..).zip(text.lines()).peekable();
    if let Some((_, first)) = lines.peek()
        && let Ok(Header { history_format: found }) = serde_json::from_str(first)
    {
        if found != FORMAT {
            return Err(ReadError::Format { found });
        }
        lines.next();
    }
    while let Some((line, content)) = lines.next() {
        let event: Event = serde_json::from_str(content).map_err(|source| match line {
            line if lines.peek().is_none() && !is_whole && source.is_eof() => ReadError::CutOff { line },
            1 => ReadError::NotAHistory { source },
            line => ReadError::Line { line, source },
        })?;
        if let Some(previous) = events.last()
            && event.index <= previous.index
        {
            return Err(ReadError::Order { line, index: event.index, previous: previous.index });
        }
        events.push(event);
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{EventKind, Function, Note, Process, Writer};

    const EVENT: &str = r#"{"index":0,"time":5,"type":"invoke","process":0,"f":"read","key":"k"}"#;

    fn error(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn what_was_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.jsonl");
        let writer = Writer::create(&path).unwrap();
        let note = Note {
            kind: EventKind::Invoke,
            process: Process::Client(3),
            f: Function::Txn,
            key: None,
            value: serde_json::json!([["r", "x", null]]),
            node: None,
            rev: None,
            error: None,
        };
        writer.record(note).unwrap();
        let written = writer.finish().unwrap();
        assert_eq!(read(&path).unwrap(), written);
        let first = std::fs::read_to_string(&path).unwrap().lines().next().unwrap().to_owned();
        assert_eq!(first, r#"{"history_format":2}"#);
    }

    #[test]
    fn a_history_without_header_is_read() {
        assert_eq!(parse(&format!("{EVENT}\n")).unwrap().len(), 1);
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn each_broken_file_is_named() {
        assert!(error("INFO hello\n").starts_with("this is no history: line 1"));
        assert!(
            error("{\"history_format\":9}\n")
                .starts_with("the history has format 9, and this program reads 2")
        );
        let (cut, _) = EVENT.split_at(30);
        assert!(error(&format!("{EVENT}\n{cut}")).starts_with("line 2, the last one, is cut off"));
        assert!(error(&format!("{EVENT}\n{cut}\n")).starts_with("line 2 is not a history event"));
        assert!(error(cut).starts_with("line 1, the last one, is cut off"));
        assert_eq!(error(&format!("{EVENT}\n{EVENT}\n")), "line 2: index 0 does not follow 0");
    }
}
