//! A running member's state as a file on its way to one client. The file has no name, so its space returns with its last user, also
//! when the process ends.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::write::{self, BackupError};
use crate::engine::Engine;
use crate::env::Env;
use crate::env::spare_room::SpareRoom;
use crate::wal::FreeSpace;

/// Snapshots at the same time: each takes the disk that the state takes.
const SPOOLED_MAX: usize = 4;
/// Rows between two looks at the free disk: no more than a segment of the log at the largest values that etcd takes by default.
const ROWS_UNSEEN: u64 = 32;
/// Beginning of the name that the file has for a moment. What a crash leaves of it is removed by the next start.
pub(crate) const PREFIX: &str = "spool-";

/// Why a member gives no snapshot of itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpoolError {
    #[error("{} snapshots are being read already", SPOOLED_MAX)]
    Busy,
    #[error(
        "a snapshot takes {needed} bytes and more in {path}, where {free} are free and {left} must stay so for the store itself"
    )]
    NoRoom { path: String, needed: u64, left: u64, free: u64 },
    #[error("cannot make a file in {path}")]
    File { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Backup(#[from] BackupError),
}

/// Bounds the snapshots of one member.
#[derive(Clone, Debug)]
pub(crate) struct Spool {
    places: Arc<Semaphore>,
}

impl Default for Spool {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(SPOOLED_MAX)) }
    }
}

/// A whole snapshot, without the hash that follows it.
#[derive(Debug)]
pub struct Spooled {
    pub(crate) file: File,
    pub(crate) length: u64,
    /// Held as long as the file takes room.
    pub(crate) place: Option<OwnedSemaphorePermit>,
}

impl Spool {
    /// Returns how many snapshots take room now.
    pub(crate) fn taken(&self) -> usize {
        SPOOLED_MAX - self.places.available_permits()
    }

    /// Writes the state of an engine, as it is now, to a file in `folder`. Dropping the future ends it.
    ///
    /// # Errors
    /// When there are too many, too little room, or the disk fails.
    pub(crate) async fn snapshot(
        &self,
        env: &Env,
        folder: &Path,
        engine: Arc<dyn Engine>,
        row_bytes: u64,
    ) -> Result<Spooled, SpoolError> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| SpoolError::Busy)?;
        // Half-filled pages add to that, so it is only said early that there is no room, and found out while it is written.
        let needed = row_bytes;
        let FreeSpace { path, free_bytes: free, .. } = FreeSpace::of(folder);
        let room = SpareRoom::of(folder);
        if free < needed.saturating_add(room.left()) {
            return Err(SpoolError::NoRoom { path, needed, left: room.left(), free });
        }
        let file = nameless(folder, env.random_u64());
        let file = file.map_err(|source| SpoolError::File { path: folder.to_owned(), source })?;
        let waiting = Waiting::default();
        let is_abandoned = Arc::clone(&waiting.0);
        let mut rows: u64 = 0;
        let mut check = move || {
            if is_abandoned.load(Ordering::Relaxed) {
                return Err(BackupError::Abandoned);
            }
            rows += 1;
            if rows.is_multiple_of(ROWS_UNSEEN) { Ok(room.check()?) } else { Ok(()) }
        };
        let write = move || {
            let file = write::write(&*engine, file, &mut check)?;
            let length = file.metadata().map_err(crate::bbolt::WriteError::from)?.len();
            Ok::<_, BackupError>((file, length))
        };
        let (file, length) = env.blocking(write).await?;
        drop(waiting);
        Ok(Spooled { file, length, place: Some(place) })
    }
}

/// Says that nobody waits, once it is dropped.
#[derive(Default)]
struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Makes a file for reading and writing that has no name any more.
fn nameless(folder: &Path, number: u64) -> io::Result<File> {
    let path = folder.join(format!("{PREFIX}{number:016x}"));
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}
