//! Room on a disk that is left for the store itself by what can wait: a snapshot for a client, an index that makes the next start faster.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::wal::FreeSpace;

/// A little more than the reserve below which a member is short of room; and the part of a small disk that it takes at most, as a
/// divisor.
const LEFT_BYTES: u64 = 320 << 20;
const LEFT_SHARE: u64 = 6;
/// What [`Sparing`] writes between two looks at the disk: half a segment of the log.
const UNSEEN_BYTES: usize = 32 << 20;

/// Too few bytes are free.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("only {free} bytes are free in {path}, and {left} must stay so for the store itself")]
pub struct NoRoom {
    path: String,
    /// Bytes that must stay free.
    left: u64,
    free: u64,
}

/// What must stay free on the disk of a folder: a member that runs out of it ends.
#[derive(Clone, Debug)]
pub(crate) struct SpareRoom {
    folder: PathBuf,
    left: u64,
}

impl SpareRoom {
    pub(crate) fn of(folder: &Path) -> Self {
        let FreeSpace { total_bytes, .. } = FreeSpace::of(folder);
        Self { folder: folder.to_owned(), left: left_of(total_bytes) }
    }

    /// More than any disk has.
    #[cfg(test)]
    pub(crate) fn unattainable(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), left: u64::MAX }
    }

    /// Returns how many bytes must stay free.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// # Errors
    /// When less is free.
    pub(crate) fn check(&self) -> Result<(), NoRoom> {
        let FreeSpace { path, free_bytes: free, .. } = FreeSpace::of(&self.folder);
        let left = self.left;
        if free < left { Err(NoRoom { path, left, free }) } else { Ok(()) }
    }
}

fn left_of(disk_bytes: u64) -> u64 {
    LEFT_BYTES.min(disk_bytes / LEFT_SHARE)
}

/// Writes until the room for the store itself would be touched.
pub(crate) struct Sparing<W> {
    out: W,
    room: SpareRoom,
    unseen: usize,
}

impl<W: Write> Sparing<W> {
    pub(crate) fn new(out: W, room: SpareRoom) -> Self {
        // The first byte needs a look.
        Self { out, room, unseen: UNSEEN_BYTES }
    }

    pub(crate) fn into_inner(self) -> W {
        self.out
    }
}

impl<W: Write> Write for Sparing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.unseen >= UNSEEN_BYTES {
            self.room.check().map_err(|none| io::Error::new(io::ErrorKind::StorageFull, none))?;
            self.unseen = 0;
        }
        let written = self.out.write(bytes)?;
        self.unseen += written;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_needs_room_and_so_does_what_comes_later() {
        let folder = tempfile::tempdir().unwrap();
        let mut at_once = Sparing::new(Vec::new(), SpareRoom::unattainable(folder.path()));
        let refused = at_once.write_all(b"x").unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
        assert!(refused.to_string().contains("must stay so for the store itself"), "{refused}");
        assert!(at_once.into_inner().is_empty());

        let mut later = Sparing::new(io::sink(), SpareRoom::of(folder.path()));
        later.write_all(&[0; UNSEEN_BYTES]).unwrap();
        later.room = SpareRoom::unattainable(folder.path());
        assert_eq!(later.write_all(b"x").unwrap_err().kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn a_small_disk_keeps_a_part_of_itself_free() {
        const GIB: u64 = 1 << 30;
        assert_eq!([left_of(100 * GIB), left_of(600), left_of(0)], [320 << 20, 100, 0]);
    }
}
