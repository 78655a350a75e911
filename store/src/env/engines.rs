//! The engines of a data directory: RocksDB directories behind a pointer file, and memory for the simulator.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::Engines;
use crate::directory::{Directory, StoredDivergence};
use crate::engine::{Engine, EngineError, MemoryEngine, RocksEngine, RocksOptions};
use crate::wal::disk_fs::create_directory;

/// Names the current engine's directory; replaced by rename, so it names a whole engine at any time.
const CURRENT: &str = "CURRENT";
/// Number of a member's first engine.
const FIRST: u64 = 1;

/// RocksDB engines below one directory.
pub struct FsEngines {
    directory: PathBuf,
    staged: Mutex<Option<u64>>,
    owner: Option<Directory>,
}

impl FsEngines {
    /// Uses `directory`; the first engine that is opened creates it.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), staged: Mutex::new(None), owner: None }
    }

    /// Keeps the data directory locked as long as somebody may write to it.
    pub(crate) fn owning(self, owner: Directory) -> Self {
        Self { owner: Some(owner), ..self }
    }

    fn path(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{number:06}"))
    }

    fn failed(&self, error: io::Error) -> EngineError {
        EngineError::io(&self.directory, error)
    }

    fn current(&self) -> Result<Option<u64>, EngineError> {
        match fs::read_to_string(self.directory.join(CURRENT)) {
            Ok(text) => match text.trim().parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(self
                    .failed(io::Error::new(io::ErrorKind::InvalidData, "its file CURRENT names no engine"))),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Makes a new empty engine where a cut-short attempt may have left files.
    fn create(&self, number: u64) -> Result<RocksEngine, EngineError> {
        let path = self.path(number);
        if path.exists() {
            fs::remove_dir_all(&path).map_err(|error| self.failed(error))?;
        }
        RocksEngine::create(&path, RocksOptions::default())
    }

    fn point_to(&self, number: u64) -> io::Result<()> {
        let unfinished = self.directory.join("CURRENT.tmp");
        let mut file = File::create(&unfinished)?;
        writeln!(file, "{number:06}")?;
        file.sync_all()?;
        fs::rename(&unfinished, self.directory.join(CURRENT))?;
        File::open(&self.directory)?.sync_all()
    }

    /// Removes engines that are not current: left over from an unfinished snapshot or replaced by one.
    fn remove_others(&self, current: u64) -> io::Result<()> {
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let number = entry.file_name().to_str().and_then(|name| name.parse::<u64>().ok());
            if entry.file_type()?.is_dir() && number.is_some_and(|number| number != current) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }
}

impl Engines for FsEngines {
    fn directory(&self) -> String {
        self.directory.display().to_string()
    }

    fn inspect(&self) -> Result<Option<Arc<dyn Engine>>, EngineError> {
        let Some(current) = self.current()? else { return Ok(None) };
        Ok(Some(Arc::new(RocksEngine::open_read_only(&self.path(current), RocksOptions::default())?)))
    }

    fn open(&self) -> Result<Arc<dyn Engine>, EngineError> {
        create_directory(&self.directory).map_err(|error| self.failed(error))?;
        let Some(current) = self.current()? else {
            // Named last: what it names is a whole database at any time.
            let engine = self.create(FIRST)?;
            self.point_to(FIRST).map_err(|error| self.failed(error))?;
            return Ok(Arc::new(engine));
        };
        self.remove_others(current).map_err(|error| self.failed(error))?;
        Ok(Arc::new(RocksEngine::open(&self.path(current), RocksOptions::default())?))
    }

    fn stage(&self) -> Result<Arc<dyn Engine>, EngineError> {
        let current = self.current()?.unwrap_or(0);
        // The engine before the current one may still have readers; it goes at the next start.
        let number = current + 1;
        let engine = self.create(number)?;
        *self.staged.lock().unwrap_or_else(PoisonError::into_inner) = Some(number);
        Ok(Arc::new(engine))
    }

    fn abandon(&self, divergence: &StoredDivergence) -> io::Result<()> {
        self.owner.as_ref().map_or(Ok(()), |directory| directory.note_divergence(divergence))
    }

    fn promote(&self) -> Result<(), EngineError> {
        let staged = self.staged.lock().unwrap_or_else(PoisonError::into_inner).take();
        let number = staged.ok_or_else(|| self.failed(nothing_staged()))?;
        self.point_to(number).map_err(|error| self.failed(error))
    }
}

fn nothing_staged() -> io::Error {
    io::Error::other("no engine was staged")
}

/// Engines in memory. Clones share them, so they outlive the simulated member that crashes.
#[derive(Clone, Default)]
pub struct SimEngines {
    inner: Arc<Mutex<SimInner>>,
}

#[derive(Default)]
struct SimInner {
    current: MemoryEngine,
    /// Whether it was ever opened; only then there is something to find.
    is_made: bool,
    staged: Option<MemoryEngine>,
}

impl SimEngines {
    /// Returns engines of another machine that hold the same.
    #[must_use]
    pub fn fork(&self) -> Self {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let forked = SimInner { current: inner.current.fork(), is_made: inner.is_made, staged: None };
        Self { inner: Arc::new(Mutex::new(forked)) }
    }

    /// Loses what was not flushed, as a power cut does.
    pub fn crash(&self) {
        self.crash_behind(0);
    }

    /// Loses what was not flushed, but for the first batches: an engine may flush before it is asked to.
    pub fn crash_behind(&self, batches: usize) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.current.crash_behind(batches);
        inner.staged = None;
    }

    /// Returns how many batches were written since the last flush.
    #[must_use]
    pub fn unflushed_batches(&self) -> usize {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).current.unflushed_batches()
    }
}

impl Engines for SimEngines {
    fn directory(&self) -> String {
        "memory".to_owned()
    }

    fn inspect(&self) -> Result<Option<Arc<dyn Engine>>, EngineError> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let current: Arc<dyn Engine> = Arc::new(inner.current.clone());
        Ok(inner.is_made.then_some(current))
    }

    fn open(&self) -> Result<Arc<dyn Engine>, EngineError> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.is_made = true;
        Ok(Arc::new(inner.current.clone()))
    }

    fn stage(&self) -> Result<Arc<dyn Engine>, EngineError> {
        let staged = MemoryEngine::new();
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).staged = Some(staged.clone());
        Ok(Arc::new(staged))
    }

    fn promote(&self) -> Result<(), EngineError> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let staged = inner.staged.take();
        inner.current = staged.ok_or_else(|| EngineError::io(Path::new("memory"), nothing_staged()))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Batch;

    fn engines(directory: &Path) -> FsEngines {
        FsEngines::new(&directory.join("db"))
    }

    #[test]
    fn a_first_engine_that_was_cut_short_is_made_again() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("db/000001")).unwrap();
        fs::write(directory.path().join("db/000001/CURRENT"), "half").unwrap();
        assert!(engines(directory.path()).inspect().unwrap().is_none());
        engines(directory.path()).open().unwrap();
        assert!(engines(directory.path()).inspect().unwrap().is_some());
    }

    #[test]
    fn an_engine_that_was_lost_is_never_replaced_by_an_empty_one() {
        let directory = tempfile::tempdir().unwrap();
        drop(engines(directory.path()).open().unwrap());
        fs::remove_dir_all(directory.path().join("db/000001")).unwrap();
        assert!(engines(directory.path()).inspect().is_err());
        assert!(engines(directory.path()).open().is_err());
    }

    #[test]
    fn what_is_inspected_is_what_was_flushed() {
        let directory = tempfile::tempdir().unwrap();
        let engine = engines(directory.path()).open().unwrap();
        let mut batch = Batch::default();
        batch.put(&b"key"[..], &b"value"[..]);
        engine.write(&batch).unwrap();
        engine.flush().unwrap();
        let found = engines(directory.path()).inspect().unwrap().unwrap();
        assert_eq!(found.get(b"key").unwrap().unwrap(), "value");
        assert!(found.write(&batch).is_err(), "it is there for reading");
    }
}
