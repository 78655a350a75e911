//! A data directory while it is made: beside its place, and without an identity, so that no member starts from it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::directory::{self, DirectoryError, Lock, StoredIdentity};

/// Ending of its name until it is whole.
const UNFINISHED: &str = "restoring";

/// An unfinished data directory. It is removed when it is dropped.
pub(super) struct Draft {
    path: PathBuf,
    place: PathBuf,
    is_finished: bool,
    _lock: Lock,
}

impl Draft {
    /// Begins a directory that will be at `place`, instead of what an attempt left that was cut short.
    ///
    /// # Errors
    /// When another attempt is under way, somebody else's files are where it would be, or the disk fails.
    pub(super) fn begin(place: &Path) -> Result<Self, DirectoryError> {
        let path = unfinished(place);
        let failed = |source| DirectoryError::Io { path: path.clone(), source };
        if path.exists() {
            let _lock = Lock::take(&path)?;
            // With an identity it may be a member's by now, whatever its name is.
            if !directory::is_unowned(&path)? {
                return Err(DirectoryError::Foreign { path });
            }
            fs::remove_dir_all(&path).map_err(failed)?;
        }
        fs::create_dir_all(&path).map_err(failed)?;
        let lock = Lock::take(&path)?;
        Ok(Self { path: path.clone(), place: place.to_owned(), is_finished: false, _lock: lock })
    }

    pub(super) fn wal(&self) -> PathBuf {
        directory::wal(&self.path)
    }

    pub(super) fn database(&self) -> PathBuf {
        directory::database(&self.path)
    }

    /// Gives it to a member and moves it to its place; durable on return.
    ///
    /// # Errors
    /// When the disk fails, or something is at that place by now.
    pub(super) fn finish(mut self, owner: &StoredIdentity) -> Result<(), DirectoryError> {
        self.give(owner).map_err(|source| DirectoryError::Io { path: self.path.clone(), source })?;
        self.is_finished = true;
        Ok(())
    }

    fn give(&self, owner: &StoredIdentity) -> io::Result<()> {
        // The cluster's id follows from what was restored, and from no flags that the member is started with.
        directory::note_joined(&self.path)?;
        directory::write_identity(&self.path, owner)?;
        // Replaces a directory only when that is empty.
        fs::rename(&self.path, &self.place)?;
        let parent = self.place.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_finished {
            // Why it was given up is worth more than that some files are left, which the next attempt removes.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Returns where the directory is written: beside its place, on the same file system.
fn unfinished(place: &Path) -> PathBuf {
    // Without a trailing slash, which would make it a child.
    let mut name = place.components().as_path().as_os_str().to_owned();
    name.push(".");
    name.push(UNFINISHED);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::Directory;

    fn owner() -> StoredIdentity {
        StoredIdentity { cluster_id: 9, member_id: 1, incarnation: 77, name: "a".to_owned() }
    }

    #[test]
    fn nobody_starts_from_a_draft_and_it_goes_when_it_is_given_up() {
        let temporary = tempfile::tempdir().unwrap();
        let (place, path) = (temporary.path().join("data"), temporary.path().join("data.restoring"));
        let draft = Draft::begin(&place).unwrap();
        fs::create_dir(draft.database()).unwrap();
        assert!(matches!(Directory::open(&path, owner()), Err(DirectoryError::Foreign { .. })));
        assert!(matches!(Draft::begin(&place), Err(DirectoryError::InUse { .. })));
        drop(draft);
        assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_crash_left_of_a_draft_goes_and_what_is_somebodys_stays() {
        let temporary = tempfile::tempdir().unwrap();
        let (place, path) = (temporary.path().join("data"), temporary.path().join("data.restoring"));
        for left in ["db", "wal", "joined"] {
            fs::create_dir_all(path.join(left)).unwrap();
            Draft::begin(&place).unwrap().finish(&owner()).unwrap();
            assert_eq!(Directory::open(&place, owner()).unwrap().identity, owner());
            assert!(!path.exists());
            fs::remove_dir_all(&place).unwrap();
        }
        for theirs in ["notes.txt", "member"] {
            fs::create_dir(&path).unwrap();
            fs::write(path.join(theirs), "mine").unwrap();
            assert!(matches!(Draft::begin(&place), Err(DirectoryError::Foreign { .. })), "{theirs}");
            assert!(path.join(theirs).exists() && !place.exists());
            fs::remove_dir_all(&path).unwrap();
        }
    }
}
