//! What one member of a cluster left that lost its majority: database and log, read and not touched.
//!
//! Every entry of its log is applied, also those of which nobody can say any more whether they were committed: one of them may have been
//! acknowledged.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::directory::{self, Directory, DirectoryError};
use crate::engine::{Batch, Engine, EngineError};
use crate::env::engines::FsEngines;
use crate::level::Levels;
use crate::mvcc::{Assembly, Numbers, Store};
use crate::raft::convert;
use crate::raft::founding;
use crate::raft::state_machine::Found;
use crate::raft::together::{Mismatch, check_together};
use crate::wal::disk_fs::FsDisk;
use crate::wal::{Disk, LoggedEntry, Wal, WalConfig, WalError, read_entry};

/// Bytes that are handed to the new engine at once.
const BATCH_BYTES: usize = 1 << 20;

/// Why a data directory is not gone on with.
#[derive(Debug, thiserror::Error)]
pub enum RemainsError {
    #[error("{path} is no data directory of a member")]
    NoMember { path: PathBuf },
    #[error("the member of {path} never knew its cluster; there is nothing to go on with")]
    NoState { path: PathBuf },
    #[error("log and database of {path} do not belong together")]
    Apart { path: PathBuf, source: Mismatch },
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Wal(#[from] WalError),
}

/// A member's state that nobody goes on with.
pub(super) struct Remains {
    store: Store,
    disk: Arc<dyn Disk>,
    /// What the database has not applied.
    entries: VecDeque<LoggedEntry>,
    /// Another one each time: two clusters that go on from one directory are not one.
    pub(super) seed: [u8; 32],
    /// Keeps the member from being started meanwhile.
    _lock: Directory,
}

impl Remains {
    /// Reads and checks log and database.
    ///
    /// # Errors
    /// When the directory is in use, of something else, or damaged.
    pub(super) fn open(path: &Path, wal: WalConfig) -> Result<Self, RemainsError> {
        let owner =
            directory::owner(path)?.ok_or_else(|| RemainsError::NoMember { path: path.to_owned() })?;
        let lock = Directory::open(path, owner)?;
        let disk = Arc::new(FsDisk::new(&lock.wal()));
        let log = Wal::inspect(disk.clone(), wal)?;
        let found = Found::read(&FsEngines::new(&lock.database()), Levels::SUPPORTED)?;
        check_together(&found, &log)
            .map_err(|source| RemainsError::Apart { path: path.to_owned(), source })?;
        let applied = found.applied().map(convert::position);
        // The database may not have written anything yet; then the log has it all.
        let entries = log.into_recovered()?.entries_behind(applied);
        let store = found.into_store().filter(|_| applied.is_some() || !entries.is_empty());
        let store = store.ok_or_else(|| RemainsError::NoState { path: path.to_owned() })?;
        Ok(Self { store, disk, entries, seed: seed(), _lock: lock })
    }

    /// Brings the whole state to an empty engine.
    ///
    /// # Errors
    /// When an entry is damaged, or the disk fails.
    pub(super) fn bring_to(self, engine: Arc<dyn Engine>) -> Result<(Assembly, Numbers), RemainsError> {
        copy(&**self.store.engine(), &*engine)?;
        let mut store = self.store.on(engine);
        for entry in self.entries {
            let bytes = match entry.bytes {
                Some(bytes) => bytes,
                None => read_entry(&*self.disk, entry.location)?,
            };
            founding::apply(&mut store, bytes)?;
            store.commit()?;
        }
        let numbers = Numbers { revision: store.current_revision(), compacted: store.compact_revision() };
        Ok((Assembly::of(&store), numbers))
    }
}

fn copy(from: &dyn Engine, to: &dyn Engine) -> Result<(), EngineError> {
    let (mut batch, mut bytes) = (Batch::default(), 0);
    let mut outcome = Ok(());
    from.scan(b"", None, &mut |key, value| {
        bytes += key.len() + value.len();
        batch.put(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        if bytes >= BATCH_BYTES {
            bytes = 0;
            outcome = to.write(&std::mem::take(&mut batch));
        }
        if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    outcome?;
    to.write(&batch)
}

fn seed() -> [u8; 32] {
    let (one, two) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
    Sha256::new().chain_update(one.as_bytes()).chain_update(two.as_bytes()).finalize().into()
}
