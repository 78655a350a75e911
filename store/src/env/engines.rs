//! The engines of a data directory: RocksDB directories behind a pointer file, and memory for the simulator.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::Engines;
use crate::directory::Directory;
use crate::engine::{Engine, EngineError, MemoryEngine, RocksEngine, RocksOptions};

/// Names the current engine's directory; replaced by rename, so it names a whole engine at any time.
const CURRENT: &str = "CURRENT";

/// RocksDB engines below one directory.
pub struct FsEngines {
    directory: PathBuf,
    staged: Mutex<Option<u64>>,
    _owner: Option<Directory>,
}

impl FsEngines {
    /// Uses `directory`, which is created when it is missing.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn new(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        Ok(Self { directory: directory.to_owned(), staged: Mutex::new(None), _owner: None })
    }

    /// Keeps the data directory locked as long as somebody may write to it.
    pub(crate) fn owning(self, owner: Directory) -> Self {
        Self { _owner: Some(owner), ..self }
    }

    fn path(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{number:06}"))
    }

    fn current(&self) -> io::Result<Option<u64>> {
        match fs::read_to_string(self.directory.join(CURRENT)) {
            Ok(text) => match text.trim().parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "CURRENT names no engine")),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
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
    fn open(&self) -> Result<Arc<dyn Engine>, EngineError> {
        let current = match self.current()? {
            Some(current) => current,
            None => {
                self.point_to(1)?;
                1
            }
        };
        self.remove_others(current)?;
        Ok(Arc::new(RocksEngine::open(&self.path(current), RocksOptions::default())?))
    }

    fn stage(&self) -> Result<Arc<dyn Engine>, EngineError> {
        let current = self.current()?.unwrap_or(0);
        // The engine before the current one may still have readers; it goes at the next start.
        let number = current + 1;
        let path = self.path(number);
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        *self.staged.lock().unwrap_or_else(PoisonError::into_inner) = Some(number);
        Ok(Arc::new(RocksEngine::open(&path, RocksOptions::default())?))
    }

    fn promote(&self) -> Result<(), EngineError> {
        let staged = self.staged.lock().unwrap_or_else(PoisonError::into_inner).take();
        let number = staged.ok_or_else(|| io::Error::other("no engine was staged"))?;
        Ok(self.point_to(number)?)
    }
}

/// Engines in memory. Clones share them, so they outlive the simulated member that crashes.
#[derive(Clone, Default)]
pub struct SimEngines {
    inner: Arc<Mutex<SimInner>>,
}

#[derive(Default)]
struct SimInner {
    current: MemoryEngine,
    staged: Option<MemoryEngine>,
}

impl SimEngines {
    /// Loses what was not flushed, as a power cut does.
    pub fn crash(&self) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.current.crash();
        inner.staged = None;
    }
}

impl Engines for SimEngines {
    fn open(&self) -> Result<Arc<dyn Engine>, EngineError> {
        Ok(Arc::new(self.inner.lock().unwrap_or_else(PoisonError::into_inner).current.clone()))
    }

    fn stage(&self) -> Result<Arc<dyn Engine>, EngineError> {
        let staged = MemoryEngine::new();
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).staged = Some(staged.clone());
        Ok(Arc::new(staged))
    }

    fn promote(&self) -> Result<(), EngineError> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let staged = inner.staged.take().ok_or_else(|| io::Error::other("no engine was staged"))?;
        inner.current = staged;
        Ok(())
    }
}
