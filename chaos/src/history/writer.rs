//! Recording a history while a run is under way.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use serde_json::Value;

use super::{Event, EventKind, FORMAT, Function, Process};

/// Appends events to a file and keeps them for the checkers. Shared by all clients of a run.
pub struct Writer {
    clock: Clock,
    inner: Mutex<Inner>,
}

/// Returns nanoseconds since the run began.
type Clock = Box<dyn Fn() -> u64 + Send + Sync>;

struct Inner {
    file: BufWriter<File>,
    events: Vec<Event>,
}

/// What a caller says of an event; index and time are the writer's.
#[derive(Clone, Debug)]
pub struct Note {
    pub kind: EventKind,
    pub process: Process,
    pub f: Function,
    pub key: Option<String>,
    pub value: Value,
    pub node: Option<String>,
    pub rev: Option<i64>,
    pub error: Option<String>,
}

impl Writer {
    /// Creates the history file, with times from this moment on.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn create(path: &Path) -> std::io::Result<Self> {
        let began = Instant::now();
        Self::create_with_clock(path, move || u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// Creates the history file of a run that has a clock of its own, which gives nanoseconds since it began.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn create_with_clock(
        path: &Path,
        clock: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let mut file = BufWriter::new(File::create(path)?);
        writeln!(file, "{}", serde_json::json!({ "history_format": FORMAT }))?;
        Ok(Self { clock: Box::new(clock), inner: Mutex::new(Inner { file, events: Vec::new() }) })
    }

    /// Stamps and records an event; returns its index.
    ///
    /// # Errors
    /// When the file cannot be written: the run is then a harness failure, not a verdict.
    pub fn record(&self, note: Note) -> std::io::Result<u64> {
        let mut inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Stamped under the lock, so that index order is time order.
        let time = (self.clock)();
        let index = u64::try_from(inner.events.len()).unwrap_or(u64::MAX);
        let Note { kind, process, f, key, value, node, rev, error } = note;
        let event = Event { index, time, kind, process, f, key, value, node, rev, error };
        serde_json::to_writer(&mut inner.file, &event)?;
        inner.file.write_all(b"\n")?;
        inner.events.push(event);
        Ok(index)
    }

    /// Writes out what is buffered and returns all events.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn finish(&self) -> std::io::Result<Vec<Event>> {
        let mut inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        inner.file.flush()?;
        Ok(inner.events.clone())
    }
}
