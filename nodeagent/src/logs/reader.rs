//! Reads one log file, to its end or on and on.

use std::collections::VecDeque;
use std::io::SeekFrom;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, AsyncSeekExt, BufReader};

use super::record::{Record, parse};

/// How often a followed file is looked at. Polling, because inotify instances are few for a whole machine.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(200);
/// Output is handed on in pieces of about this size.
const CHUNK_BYTES: usize = 32 * 1024;

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file cannot be opened or read.
    #[error("failed to read the log {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
}

/// What is asked of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Go on while the container runs.
    pub follow: bool,
    /// Show each line's time.
    pub timestamps: bool,
    /// Leave out what is older.
    pub since: Option<Timestamp>,
    /// Only this many lines from the end.
    pub tail: Option<u64>,
    /// Stop after this many bytes.
    pub limit_bytes: Option<u64>,
}

/// Where a log goes.
#[async_trait]
pub trait LogSink: Send {
    /// Takes bytes; false when nobody wants more.
    async fn take(&mut self, bytes: Vec<u8>) -> bool;
    /// Reports whether the container may still write.
    async fn is_running(&mut self) -> bool;
}

/// Reads a log into a sink.
///
/// # Errors
/// When the file cannot be read.
pub async fn read(path: &Path, options: &LogOptions, sink: &mut dyn LogSink) -> Result<(), LogError> {
    let failed = |source| LogError::Read { path: path.to_owned(), source };
    let file = File::open(path).await.map_err(failed)?;
    let mut inode = file.metadata().await.map_err(failed)?.ino();
    let mut input = BufReader::new(file);
    if let Some(tail) = options.tail {
        let start = tail_start(&mut input, tail).await.map_err(failed)?;
        input.seek(SeekFrom::Start(start)).await.map_err(failed)?;
    }
    let mut output = Output { options, pending: Vec::new(), left: options.limit_bytes, at_line_start: true };
    let mut line = Vec::new();
    loop {
        // Asked before reading: what was written before the end is then read after it.
        let running = options.follow && sink.is_running().await;
        loop {
            input.read_until(b'\n', &mut line).await.map_err(failed)?;
            if line.last() != Some(&b'\n') {
                // The rest of this record is not written yet.
                break;
            }
            line.pop();
            let wants_more = parse(&line).is_none_or(|record| output.add(&record));
            line.clear();
            if !wants_more {
                sink.take(output.pending).await;
                return Ok(());
            }
            if output.pending.len() >= CHUNK_BYTES && !sink.take(std::mem::take(&mut output.pending)).await {
                return Ok(());
            }
        }
        if !output.pending.is_empty() && !sink.take(std::mem::take(&mut output.pending)).await {
            return Ok(());
        }
        if let Some((next, next_inode)) = rotated(path, inode).await {
            input = BufReader::new(next);
            inode = next_inode;
            line.clear();
            continue;
        }
        if !running {
            return Ok(());
        }
        tokio::time::sleep(FOLLOW_INTERVAL).await;
    }
}

/// Returns the file that took the path's place.
async fn rotated(path: &Path, inode: u64) -> Option<(File, u64)> {
    let file = File::open(path).await.ok()?;
    let next = file.metadata().await.ok()?.ino();
    (next != inode).then_some((file, next))
}

/// Returns where the last `tail` lines begin.
async fn tail_start(input: &mut BufReader<File>, tail: u64) -> std::io::Result<u64> {
    let tail = usize::try_from(tail).unwrap_or(usize::MAX);
    let mut starts: VecDeque<u64> = VecDeque::new();
    let (mut offset, mut at_line_start) = (0_u64, true);
    let mut line = Vec::new();
    loop {
        line.clear();
        let size = input.read_until(b'\n', &mut line).await?;
        if size == 0 || line.last() != Some(&b'\n') {
            break;
        }
        if at_line_start {
            starts.push_back(offset);
            if starts.len() > tail {
                starts.pop_front();
            }
        }
        line.pop();
        at_line_start = parse(&line).is_none_or(|record| record.ends_line);
        offset += u64::try_from(size).unwrap_or_default();
    }
    Ok(starts.front().copied().unwrap_or(offset))
}

struct Output<'a> {
    options: &'a LogOptions,
    pending: Vec<u8>,
    left: Option<u64>,
    at_line_start: bool,
}

impl Output<'_> {
    /// Adds a record; false when the limit is reached.
    fn add(&mut self, record: &Record<'_>) -> bool {
        if self.options.since.is_some_and(|since| record.time < since) {
            return true;
        }
        let before = self.pending.len();
        if self.options.timestamps && self.at_line_start {
            self.pending.extend_from_slice(record.time_text.as_bytes());
            self.pending.push(b' ');
        }
        self.pending.extend_from_slice(record.text);
        if record.ends_line {
            self.pending.push(b'\n');
        }
        self.at_line_start = record.ends_line;
        let Some(left) = self.left else { return true };
        let added = u64::try_from(self.pending.len() - before).unwrap_or(u64::MAX);
        self.left = Some(left.saturating_sub(added));
        if added < left {
            return true;
        }
        let kept = usize::try_from(left).unwrap_or(usize::MAX);
        self.pending.truncate(before.saturating_add(kept));
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[derive(Default)]
    struct Collect {
        bytes: Vec<u8>,
        running_rounds: u32,
        append: Option<(PathBuf, &'static str)>,
    }

    #[async_trait]
    impl LogSink for Collect {
        async fn take(&mut self, bytes: Vec<u8>) -> bool {
            self.bytes.extend(bytes);
            true
        }

        async fn is_running(&mut self) -> bool {
            if let Some((path, text)) = self.append.take() {
                let mut file = std::fs::File::options().append(true).create(true).open(path).unwrap();
                file.write_all(text.as_bytes()).unwrap();
            }
            self.running_rounds = self.running_rounds.saturating_sub(1);
            self.running_rounds > 0
        }
    }

    const LOG: &str = "2026-01-01T00:00:01Z stdout F one\n2026-01-01T00:00:02Z stdout P tw\n\
                       2026-01-01T00:00:02Z stdout F o\n2026-01-01T00:00:03Z stderr F three\n";

    async fn check(options: LogOptions, expected: &str) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, LOG).unwrap();
        let mut sink = Collect::default();
        read(&path, &options, &mut sink).await.unwrap();
        assert_eq!(String::from_utf8(sink.bytes).unwrap(), expected);
    }

    #[tokio::test]
    async fn options_choose_lines() {
        check(LogOptions::default(), "one\ntwo\nthree\n").await;
        check(LogOptions { tail: Some(2), ..LogOptions::default() }, "two\nthree\n").await;
        check(LogOptions { tail: Some(0), ..LogOptions::default() }, "").await;
        check(LogOptions { limit_bytes: Some(5), ..LogOptions::default() }, "one\nt").await;
        let since = Some("2026-01-01T00:00:03Z".parse().unwrap());
        check(
            LogOptions { since, timestamps: true, ..LogOptions::default() },
            "2026-01-01T00:00:03Z three\n",
        )
        .await;
    }

    #[tokio::test]
    async fn following_sees_what_was_written_before_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, LOG).unwrap();
        let append = Some((path.clone(), "2026-01-01T00:00:04Z stdout F four\n"));
        let mut sink = Collect { append, running_rounds: 1, ..Collect::default() };
        let options = LogOptions { follow: true, tail: Some(1), ..LogOptions::default() };
        read(&path, &options, &mut sink).await.unwrap();
        assert_eq!(String::from_utf8(sink.bytes).unwrap(), "three\nfour\n");
    }
}
