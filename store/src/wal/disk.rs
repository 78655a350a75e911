//! The few file operations that the log needs, as a trait: real files and the simulated disk pass the same suite.

use std::io;
use std::path::Path;

/// How much room the log's disk has, for the message that ends a member on a full disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreeSpace {
    /// The directory of the log.
    pub path: String,
    pub free_bytes: u64,
    /// Of the whole disk.
    pub total_bytes: u64,
}

impl FreeSpace {
    /// Asks the file system of a directory; none is free where it does not answer.
    #[must_use]
    pub fn of(directory: &Path) -> Self {
        let (free_bytes, total_bytes) = room(directory).unwrap_or_default();
        Self { path: directory.display().to_string(), free_bytes, total_bytes }
    }
}

/// Returns how much an ordinary user may still write to the file system of a directory.
pub(crate) fn free_bytes(directory: &Path) -> io::Result<u64> {
    room(directory).map(|(free, _)| free)
}

/// Returns the free bytes and all bytes of the file system of a directory.
fn room(directory: &Path) -> io::Result<(u64, u64)> {
    let stats = nix::sys::statvfs::statvfs(directory)?;
    let bytes = |blocks: u64| blocks.saturating_mul(stats.fragment_size());
    Ok((bytes(stats.blocks_available()), bytes(stats.blocks())))
}

/// Whether an operation failed because there is no room left, for the file system or for this user.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// A flat directory of files.
///
/// Names are durable when `create`, `rename` and `remove` return; bytes are durable only after `sync`.
pub trait Disk: Send + Sync + 'static {
    /// Returns all file names, sorted.
    ///
    /// # Errors
    /// When the directory cannot be read.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Returns up to `length` bytes from `offset`; fewer at the end of the file.
    ///
    /// # Errors
    /// When the file is missing or cannot be read.
    fn read(&self, file: &str, offset: u64, length: usize) -> io::Result<Vec<u8>>;

    /// Returns the length of a file.
    ///
    /// # Errors
    /// When the file is missing.
    fn length(&self, file: &str) -> io::Result<u64>;

    /// Creates a file of `size` zero bytes; both the bytes and the name are durable on return.
    ///
    /// # Errors
    /// When the disk is full or fails; no file of that name is left then.
    fn create(&self, file: &str, size: u64) -> io::Result<()>;

    /// Writes at `offset`, growing the file where needed. Not durable before [`Disk::sync`].
    ///
    /// # Errors
    /// When the disk is full or fails. The bytes on disk are then unknown.
    fn write(&self, file: &str, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes every written byte of a file durable.
    ///
    /// # Errors
    /// When the disk fails. The caller must not try again: the kernel may have dropped the dirty pages.
    fn sync(&self, file: &str) -> io::Result<()>;

    /// Renames a file; durable on return.
    ///
    /// # Errors
    /// When the disk fails.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file; durable on return.
    ///
    /// # Errors
    /// When the disk fails.
    fn remove(&self, file: &str) -> io::Result<()>;

    /// Returns where the files are and how much room is left.
    fn free_space(&self) -> FreeSpace;

    /// Takes `size` bytes of the disk out of use, unless some are already.
    ///
    /// # Errors
    /// When there is no room for them; nothing is taken then.
    fn take_ballast(&self, size: u64) -> io::Result<()> {
        let _nothing_to_take = size;
        Ok(())
    }

    /// Gives the bytes back that were taken out of use, and returns whether there were any.
    fn give_up_ballast(&self) -> bool {
        false
    }
}
