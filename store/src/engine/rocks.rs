//! RocksDB without its write-ahead log: the replicated log already is one, so each batch costs one memtable insert.
//!
//! One column family, so that data and applied id always sit in the same memtable and are flushed together; with several,
//! an atomic flush without WAL has lost data before (rocksdb issue 11148). Keys grow with the revision, so files hardly
//! overlap and compaction mostly moves them.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, Direction, FlushOptions, IteratorMode, Options,
    ReadOptions, WriteBatch, WriteOptions,
};

use super::{Batch, Engine, EngineError, Visitor, Write};
use crate::wal::FreeSpace;

/// Sizes of the engine.
#[derive(Clone, Copy, Debug)]
pub struct RocksOptions {
    /// Uncompressed blocks kept in memory.
    pub block_cache_bytes: usize,
    /// Size at which a memtable is flushed in the background.
    pub write_buffer_bytes: usize,
}

impl Default for RocksOptions {
    /// 32 MiB each: the newest values are cached above the engine, so its own caches serve history and catch-up only,
    /// and an idle member stays small.
    fn default() -> Self {
        Self { block_cache_bytes: 32 << 20, write_buffer_bytes: 32 << 20 }
    }
}

/// Two memtables may wait for the disk before writers stall.
const WRITE_BUFFERS: i32 = 3;
/// One flush and one compaction at a time: the machine belongs to requests.
const BACKGROUND_JOBS: i32 = 2;
/// Writes flushed file data to disk in steps, so that it does not delay the log's syncs.
const BYTES_PER_SYNC: u64 = 1 << 20;
/// Informational log files kept.
const LOG_FILES: usize = 2;
const LOG_FILE_BYTES: usize = 4 << 20;

/// What RocksDB and the kernel say about a disk without room; the interface gives no code, only this text.
const DISK_FULL: [&str; 2] = ["No space left on device", "Disk quota exceeded"];

/// An engine on disk.
pub struct RocksEngine {
    db: DB,
    directory: PathBuf,
    /// Goes after the database is closed: fields are dropped in their order.
    _lock: Option<Arc<dyn Send + Sync>>,
}

impl RocksEngine {
    /// Makes a new database in `directory`, which must hold none.
    ///
    /// # Errors
    /// When the directory cannot be used or holds a database.
    pub fn create(directory: &Path, options: RocksOptions) -> Result<Self, EngineError> {
        let mut options = database_options(options);
        options.create_if_missing(true);
        options.set_error_if_exists(true);
        Self::with(DB::open(&options, directory), directory)
    }

    /// Opens the database in `directory`.
    ///
    /// # Errors
    /// When there is none or its files are damaged.
    pub fn open(directory: &Path, options: RocksOptions) -> Result<Self, EngineError> {
        Self::with(DB::open(&database_options(options), directory), directory)
    }

    /// Opens the database in `directory` for reading; no file is changed.
    ///
    /// # Errors
    /// When there is none or its files are damaged.
    pub fn open_read_only(directory: &Path, options: RocksOptions) -> Result<Self, EngineError> {
        Self::with(DB::open_for_read_only(&database_options(options), directory, false), directory)
    }

    /// Keeps a lock until the database is closed.
    #[must_use]
    pub(crate) fn holding(self, lock: Option<Arc<dyn Send + Sync>>) -> Self {
        Self { _lock: lock, ..self }
    }

    fn with(opened: Result<DB, rocksdb::Error>, directory: &Path) -> Result<Self, EngineError> {
        let db = opened.map_err(|error| failed(directory, error))?;
        Ok(Self { db, directory: directory.to_owned(), _lock: None })
    }

    fn check<T>(&self, result: Result<T, rocksdb::Error>) -> Result<T, EngineError> {
        result.map_err(|error| failed(&self.directory, error))
    }
}

fn failed(directory: &Path, source: rocksdb::Error) -> EngineError {
    let text = source.as_ref();
    if DISK_FULL.iter().any(|reason| text.contains(reason)) {
        return EngineError::DiskFull { space: FreeSpace::of(directory), source: source.into() };
    }
    EngineError::Rocks { directory: directory.display().to_string(), source }
}

fn database_options(options: RocksOptions) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&Cache::new_lru_cache(options.block_cache_bytes));
    let mut database = Options::default();
    database.set_block_based_table_factory(&blocks);
    database.set_write_buffer_size(options.write_buffer_bytes);
    database.set_max_write_buffer_number(WRITE_BUFFERS);
    database.set_allow_concurrent_memtable_write(false);
    database.set_max_background_jobs(BACKGROUND_JOBS);
    database.set_bytes_per_sync(BYTES_PER_SYNC);
    database.set_compression_per_level(&[
        DBCompressionType::None,
        DBCompressionType::None,
        DBCompressionType::Lz4,
        DBCompressionType::Lz4,
        DBCompressionType::Lz4,
        DBCompressionType::Lz4,
        DBCompressionType::Lz4,
    ]);
    database.set_keep_log_file_num(LOG_FILES);
    database.set_max_log_file_size(LOG_FILE_BYTES);
    database.set_paranoid_checks(true);
    database
}

impl Engine for RocksEngine {
    fn write(&self, batch: &Batch) -> Result<(), EngineError> {
        let mut rocks_batch = WriteBatch::default();
        for write in batch.writes() {
            match write {
                Write::Put { key, value } => rocks_batch.put(key, value),
                Write::Delete { key } => rocks_batch.delete(key),
                Write::DeleteRange { from, before } => rocks_batch.delete_range(from, before),
            }
        }
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.check(self.db.write_opt(rocks_batch, &options))
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.check(self.db.get(key))?.map(Bytes::from))
    }

    fn scan(&self, from: &[u8], before: Option<&[u8]>, visit: &mut Visitor<'_>) -> Result<(), EngineError> {
        let mut options = ReadOptions::default();
        if let Some(before) = before {
            options.set_iterate_upper_bound(before);
        }
        for row in self.db.iterator_opt(IteratorMode::From(from, Direction::Forward), options) {
            let (key, value) = self.check(row)?;
            if let ControlFlow::Break(()) = visit(&key, &value) {
                break;
            }
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), EngineError> {
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.check(self.db.flush_opt(&options))
    }

    fn checkpoint(&self, directory: &Path) -> Result<(), EngineError> {
        // Flushes first: without WAL a checkpoint of files alone would miss the memtable.
        self.check(Checkpoint::new(&self.db).and_then(|checkpoint| checkpoint.create_checkpoint(directory)))
    }

    fn size_bytes(&self) -> u64 {
        ["rocksdb.live-sst-files-size", "rocksdb.cur-size-all-mem-tables"]
            .into_iter()
            .filter_map(|name| self.db.property_int_value(name).ok().flatten())
            .sum()
    }
}
