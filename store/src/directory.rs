//! The data directory of a member: who it belongs to, and that only one process uses it.
//!
//! ```text
//! LOCK      held by the running process
//! member    identity: cluster, member id, incarnation (`codec`)
//! wal/      the write-ahead log
//! db/       the database
//! ballast   room that is given up when the disk is nearly full
//! joined    there when it was started with `--initial-cluster-state existing` once
//! ```

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bincode::{Decode, Encode};
use nix::fcntl::{Flock, FlockArg};

use crate::codec::{self, CodecError, Kind};
use crate::config::ClusterState;

const LOCK: &str = "LOCK";
const MEMBER: &str = "member";
/// Empty file.
const JOINED: &str = "joined";

/// Who a data directory belongs to. Written once, before anything else.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct StoredIdentity {
    pub(crate) cluster_id: u64,
    pub(crate) member_id: u64,
    pub(crate) incarnation: u64,
    pub(crate) name: String,
}

/// Why a data directory cannot be used. Nothing was written then.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    #[error("data directory {path} cannot be used")]
    Io { path: PathBuf, source: io::Error },
    #[error("data directory {path} holds files of something else")]
    Foreign { path: PathBuf },
    #[error("data directory {path} is in use by another process")]
    InUse { path: PathBuf },
    #[error("data directory {path} has a damaged identity file `member`: {reason}")]
    Damaged { path: PathBuf, reason: String },
    #[error(
        "data directory {path} was made by a newer version (format {found}, this one reads {supported}); upgrade"
    )]
    Newer { path: PathBuf, found: u8, supported: u8 },
    #[error(
        "data directory {path} belongs to member {found:x} of cluster {found_cluster:x}, not to member {wanted:x} of \
         cluster {wanted_cluster:x}; check name, peer URLs, initial cluster and token"
    )]
    OtherMember { path: PathBuf, found: u64, found_cluster: u64, wanted: u64, wanted_cluster: u64 },
}

/// An open data directory; the lock ends with it.
pub(crate) struct Directory {
    pub(crate) path: PathBuf,
    pub(crate) identity: StoredIdentity,
    /// Whether this start created it.
    pub(crate) is_new: bool,
    _lock: Flock<File>,
}

impl Directory {
    /// Opens or creates the data directory of `wanted`; its incarnation is used only for a new directory.
    pub(crate) fn open(path: &Path, wanted: StoredIdentity) -> Result<Self, DirectoryError> {
        let failed = |source| DirectoryError::Io { path: path.to_owned(), source };
        let found = read_identity(path)?;
        fs::create_dir_all(path).map_err(failed)?;
        let lock = File::options().create(true).append(true).open(path.join(LOCK)).map_err(failed)?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock)
            .map_err(|_| DirectoryError::InUse { path: path.to_owned() })?;
        let (identity, is_new) = match found {
            Some(found) => {
                check_owner(path, &found, &wanted)?;
                (found, false)
            }
            None => {
                write_identity(path, &wanted).map_err(failed)?;
                (wanted, true)
            }
        };
        Ok(Self { path: path.to_owned(), identity, is_new, _lock: lock })
    }

    /// Notes, durably, that this directory says who the member is, and no flag about a new cluster does: its id does not follow from
    /// its URLs, or these have changed.
    pub(crate) fn note_joined(&self) -> Result<(), DirectoryError> {
        let failed = |source| DirectoryError::Io { path: self.path.clone(), source };
        File::create(self.path.join(JOINED)).map_err(failed)?;
        File::open(&self.path).and_then(|directory| directory.sync_all()).map_err(failed)
    }

    pub(crate) fn wal(&self) -> PathBuf {
        self.path.join("wal")
    }

    pub(crate) fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.path.join("db")
    }
}

/// Checks a data directory without writing: it must be missing, empty or this member's own.
pub(crate) fn check(path: &Path, wanted: &StoredIdentity) -> Result<(), DirectoryError> {
    match read_identity(path)? {
        Some(found) => check_owner(path, &found, wanted),
        None => Ok(()),
    }
}

/// Returns whom a data directory belongs to, `None` when it is missing or empty. Nothing is written.
pub(crate) fn owner(path: &Path) -> Result<Option<StoredIdentity>, DirectoryError> {
    read_identity(path)
}

/// Whether a data directory says by itself who its member is.
pub(crate) fn has_joined(path: &Path) -> bool {
    path.join(JOINED).exists()
}

/// Whether a data directory, and not its flags, says who its member is, when it is started in this state.
pub(crate) fn says_who(path: &Path, state: ClusterState) -> bool {
    match state {
        ClusterState::New => has_joined(path),
        ClusterState::Existing => path.join(MEMBER).exists(),
    }
}

fn check_owner(path: &Path, found: &StoredIdentity, wanted: &StoredIdentity) -> Result<(), DirectoryError> {
    if (found.member_id, found.cluster_id) == (wanted.member_id, wanted.cluster_id) {
        return Ok(());
    }
    Err(DirectoryError::OtherMember {
        path: path.to_owned(),
        found: found.member_id,
        found_cluster: found.cluster_id,
        wanted: wanted.member_id,
        wanted_cluster: wanted.cluster_id,
    })
}

fn read_identity(path: &Path) -> Result<Option<StoredIdentity>, DirectoryError> {
    let failed = |source| DirectoryError::Io { path: path.to_owned(), source };
    match fs::read(path.join(MEMBER)) {
        Ok(bytes) => codec::decode(Kind::Identity, &bytes).map(Some).map_err(|error| match error {
            CodecError::Damaged => {
                DirectoryError::Damaged { path: path.to_owned(), reason: error.to_string() }
            }
            CodecError::Version { found, supported } => {
                DirectoryError::Newer { path: path.to_owned(), found, supported }
            }
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if is_empty(path).map_err(failed)? {
                Ok(None)
            } else {
                Err(DirectoryError::Foreign { path: path.to_owned() })
            }
        }
        Err(error) => Err(failed(error)),
    }
}

/// A directory that is missing, or holds only our lock (a first start that was cut short), is empty.
fn is_empty(path: &Path) -> io::Result<bool> {
    match fs::read_dir(path) {
        Ok(entries) => {
            for entry in entries {
                let name = entry?.file_name();
                if name != LOCK && name != "member.tmp" && name != "lost+found" {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

fn write_identity(path: &Path, identity: &StoredIdentity) -> io::Result<()> {
    let unfinished = path.join("member.tmp");
    let mut file = File::create(&unfinished)?;
    file.write_all(&codec::encode(Kind::Identity, identity))?;
    file.sync_all()?;
    fs::rename(&unfinished, path.join(MEMBER))?;
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(member_id: u64) -> StoredIdentity {
        StoredIdentity { cluster_id: 9, member_id, incarnation: 77, name: "a".to_owned() }
    }

    #[test]
    fn directory_keeps_its_incarnation_and_refuses_other_owners() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("data");
        let first = Directory::open(&path, identity(1)).unwrap();
        assert!(first.is_new);
        assert!(matches!(Directory::open(&path, identity(1)), Err(DirectoryError::InUse { .. })));
        drop(first);
        let wanted = StoredIdentity { incarnation: 1, ..identity(1) };
        let again = Directory::open(&path, wanted).unwrap();
        assert_eq!((again.is_new, again.identity.incarnation), (false, 77));
        drop(again);
        assert!(matches!(Directory::open(&path, identity(2)), Err(DirectoryError::OtherMember { .. })));
    }

    #[test]
    fn foreign_and_damaged_directories_are_refused_untouched() {
        let temporary = tempfile::tempdir().unwrap();
        fs::write(temporary.path().join("notes.txt"), "mine").unwrap();
        assert!(matches!(
            Directory::open(temporary.path(), identity(1)),
            Err(DirectoryError::Foreign { .. })
        ));
        assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 1);
        fs::write(temporary.path().join(MEMBER), "damaged").unwrap();
        assert!(matches!(
            Directory::open(temporary.path(), identity(1)),
            Err(DirectoryError::Damaged { .. })
        ));
    }
}
