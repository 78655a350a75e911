//! Ordered key-value engines under the MVCC core: one trait, kept by RocksDB in production and by memory in tests and
//! simulation. Both pass the suite in `suite.rs`.
//!
//! An engine has no write-ahead log: what is not flushed may be lost in a crash, but only as a suffix of whole batches.
//! The replicated log is replayed from the applied id that travels in the same batches as the data.

use std::ops::ControlFlow;
use std::path::Path;

use bytes::Bytes;

use crate::level::UnsupportedLevel;
use crate::wal::{FreeSpace, is_full};

mod memory;
mod rocks;
#[cfg(test)]
mod suite;

pub use memory::MemoryEngine;
pub use rocks::{RocksEngine, RocksOptions};

/// Why an engine could not do its work. All of these stop the member: applied state must not be guessed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("disk full in {}: {} bytes free", space.path, space.free_bytes)]
    DiskFull { space: FreeSpace, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("storage engine in {directory} failed")]
    Rocks { directory: String, source: rocksdb::Error },
    #[error("storage engine cannot use its directory {directory}")]
    Io { directory: String, source: std::io::Error },
    #[error("corrupt record at key {key}: {reason}")]
    Corrupt { key: String, reason: String },
    #[error("data directory has format {found}, this version reads {supported}: start a newer release")]
    Format { found: u32, supported: u32 },
    #[error(transparent)]
    Level(#[from] UnsupportedLevel),
    #[error("this engine has no files to make a checkpoint of")]
    NoCheckpoint,
}

impl EngineError {
    /// Says where an operation on files failed, and whether that is for want of room.
    pub(crate) fn io(directory: &Path, source: std::io::Error) -> Self {
        if is_full(&source) {
            return Self::DiskFull { space: FreeSpace::of(directory), source: source.into() };
        }
        Self::Io { directory: directory.display().to_string(), source }
    }
}

/// One change of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    Put {
        key: Bytes,
        value: Bytes,
    },
    Delete {
        key: Bytes,
    },
    /// Every key from `from` on, below `before`, which lies behind it.
    DeleteRange {
        from: Bytes,
        before: Bytes,
    },
}

/// Changes that become visible, and later durable, together. A later change of a key wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    writes: Vec<Write>,
}

impl Batch {
    /// Adds or replaces a key.
    pub fn put(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.writes.push(Write::Put { key: key.into(), value: value.into() });
    }

    /// Removes a key; a missing one is no error.
    pub fn delete(&mut self, key: impl Into<Bytes>) {
        self.writes.push(Write::Delete { key: key.into() });
    }

    /// Removes every key from `from` on, below `before`, however many there are: one change for the engine.
    ///
    /// Reads look at each such change until the engine has made it true, so a few thousand at a time are well, and no more.
    pub fn delete_range(&mut self, from: impl Into<Bytes>, before: impl Into<Bytes>) {
        let (from, before) = (from.into(), before.into());
        if from < before {
            self.writes.push(Write::DeleteRange { from, before });
        }
    }

    /// Returns the changes in the order they were added.
    #[must_use]
    pub fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// Returns whether the batch changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}

/// Called for each row of a scan; `Break` ends it.
pub type Visitor<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// An ordered map from bytes to bytes with atomic batches. One thread writes, any number read.
pub trait Engine: Send + Sync + 'static {
    /// Makes a batch visible at once. It is durable after the next [`Engine::flush`], and never before an earlier batch.
    ///
    /// # Errors
    /// Any error is fatal for the member.
    fn write(&self, batch: &Batch) -> Result<(), EngineError>;

    /// Returns the value of a key.
    ///
    /// # Errors
    /// Any error is fatal for the member.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// Visits the keys from `from` on, below `before` if given, in order, as they were at the time of the call.
    ///
    /// # Errors
    /// Any error is fatal for the member.
    fn scan(&self, from: &[u8], before: Option<&[u8]>, visit: &mut Visitor<'_>) -> Result<(), EngineError>;

    /// Makes every batch written so far durable.
    ///
    /// # Errors
    /// Any error is fatal for the member; a failed flush is never retried.
    fn flush(&self) -> Result<(), EngineError>;

    /// Writes a copy of the present state to `directory`, which must not exist yet.
    ///
    /// # Errors
    /// [`EngineError::NoCheckpoint`] for engines without files.
    fn checkpoint(&self, directory: &Path) -> Result<(), EngineError>;

    /// Returns about how many bytes the state takes.
    fn size_bytes(&self) -> u64;
}
