//! Looks at the containers of a run several times a second and writes down what it sees, and once more at the end.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

use crate::cluster::{container_processes, since_boot};
use crate::history::{EventKind, Function, Note, Process, STARTS, Sight, Start, Writer};

/// Between two looks: a look costs the machine some milliseconds.
const INTERVAL: Duration = Duration::from_millis(250);
/// The process of looks in the history: no client has its number.
const PROCESS: Process = Process::Client(u32::MAX - 1);

/// A thread that looks, until it is dropped.
pub(super) struct Lookout {
    /// Goes when the thread is to end.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<anyhow::Result<Eyes>>>,
}

impl Lookout {
    /// Makes the folder into which containers write, and begins to look.
    ///
    /// # Errors
    /// When folder or thread cannot be made.
    pub(super) fn start(starts: &Path, history: &Arc<Writer>) -> anyhow::Result<Self> {
        std::fs::create_dir_all(starts).with_context(|| format!("cannot create {}", starts.display()))?;
        std::fs::write(starts.join(STARTS), "")?;
        let mut eyes = Eyes { starts: starts.to_owned(), read: 0, history: Arc::clone(history) };
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new().name("lookout".to_owned()).spawn(move || {
            while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                eyes.look()?;
            }
            Ok(eyes)
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }

    /// Ends the thread, and looks once more.
    ///
    /// # Errors
    /// When a look failed.
    pub(super) fn look_last(mut self) -> anyhow::Result<()> {
        self.stop = None;
        let thread = self.thread.take().context("the lookout has ended before")?;
        let mut eyes = thread.join().map_err(|_| anyhow::anyhow!("the lookout panicked"))??;
        eyes.look()
    }
}

impl Drop for Lookout {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // The run has failed for another reason, or was interrupted.
            let _ = thread.join();
        }
    }
}

struct Eyes {
    starts: PathBuf,
    /// Bytes of whole lines that have been read.
    read: u64,
    history: Arc<Writer>,
}

impl Eyes {
    fn look(&mut self) -> anyhow::Result<()> {
        self.note(EventKind::Invoke, Value::Null)?;
        let began = since_boot()?;
        let processes = container_processes(&self.starts)?;
        let starts = self.new_starts()?;
        let sight = Sight { began, processes, starts };
        self.note(EventKind::Ok, serde_json::to_value(sight)?)
    }

    fn note(&self, kind: EventKind, value: Value) -> anyhow::Result<()> {
        let (process, f) = (PROCESS, Function::Containers);
        self.history.record(Note {
            kind,
            process,
            f,
            key: None,
            value,
            node: None,
            rev: None,
            error: None,
        })?;
        Ok(())
    }

    /// Reads the lines that are new.
    fn new_starts(&mut self) -> anyhow::Result<Vec<Start>> {
        let mut file = File::open(self.starts.join(STARTS))?;
        file.seek(SeekFrom::Start(self.read))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        // A line is written at once; what is behind the last one is read the next time.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let whole = text.get(..whole).context("a line of a start is no text")?;
        self.read += u64::try_from(whole.len())?;
        let read = |line: &str| Start::read(line).with_context(|| format!("{line:?} is no line of a start"));
        whole.lines().map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::history::looks;

    #[test]
    fn each_line_is_told_once_and_half_a_line_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let starts = folder.path().join("starts");
        std::fs::create_dir(&starts).unwrap();
        let mut file = File::create(starts.join(STARTS)).unwrap();
        let history = Arc::new(Writer::create(&folder.path().join("history.jsonl")).unwrap());
        let mut eyes = Eyes { starts, read: 0, history: Arc::clone(&history) };
        for text in ["u1 n main 1.00\nu2 n ma", "in 2.00\n", ""] {
            file.write_all(text.as_bytes()).unwrap();
            eyes.look().unwrap();
        }
        let looks = looks(&history.finish().unwrap()).unwrap();
        let told: Vec<Vec<String>> = looks
            .iter()
            .map(|look| look.sight.starts.iter().map(|start| start.of.uid.clone()).collect())
            .collect();
        assert_eq!(told, [vec!["u1".to_owned()], vec!["u2".to_owned()], vec![]]);
    }

    #[test]
    fn the_last_look_comes_after_the_thread_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let history = Arc::new(Writer::create(&folder.path().join("history.jsonl")).unwrap());
        let lookout = Lookout::start(&folder.path().join("starts"), &history).unwrap();
        lookout.look_last().unwrap();
        assert!(!looks(&history.finish().unwrap()).unwrap().is_empty());
    }
}
