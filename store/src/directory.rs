//! The data directory of a member: who it belongs to, and that only one process uses it.
//!
//! ```text
//! LOCK      held by the running process
//! member    identity: cluster, member id, incarnation (`codec`)
//! wal/      the write-ahead log
//! db/       the database
//! ballast   room that is given up when the disk is nearly full
//! diverged  there when this state must not be served: who it was, and whom to ask for another one (`codec`)
//! diverged-<id>/  such a state, moved aside
//! joined    there when it was started with `--initial-cluster-state existing` once, or restored from a snapshot
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
const UNFINISHED_MEMBER: &str = "member.tmp";
const WAL: &str = "wal";
const DATABASE: &str = "db";
/// Empty file.
const JOINED: &str = "joined";
const DIVERGED: &str = "diverged";
const BALLAST: &str = "ballast";

/// Who a data directory belongs to. Written once, before anything else.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct StoredIdentity {
    pub(crate) cluster_id: u64,
    pub(crate) member_id: u64,
    pub(crate) incarnation: u64,
    pub(crate) name: String,
}

/// That a member's state differs from that of the others.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct StoredDivergence {
    pub(crate) member_id: u64,
    /// Entry of the log at which it was found.
    pub(crate) index: u64,
    /// Peer URLs of the others.
    pub(crate) contacts: Vec<String>,
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
    _lock: Lock,
}

/// Keeps other processes out of a directory.
pub(crate) struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Locks a directory that exists.
    ///
    /// # Errors
    /// [`DirectoryError::InUse`] when another process has it.
    pub(crate) fn take(path: &Path) -> Result<Self, DirectoryError> {
        let file = File::options().create(true).append(true).open(path.join(LOCK));
        let file = file.map_err(|source| DirectoryError::Io { path: path.to_owned(), source })?;
        let file = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|_| DirectoryError::InUse { path: path.to_owned() })?;
        Ok(Self { _file: file })
    }
}

impl Directory {
    /// Opens or creates the data directory of `wanted`; its incarnation is used only for a new directory.
    pub(crate) fn open(path: &Path, wanted: StoredIdentity) -> Result<Self, DirectoryError> {
        let failed = |source| DirectoryError::Io { path: path.to_owned(), source };
        let found = read_identity(path)?;
        fs::create_dir_all(path).map_err(failed)?;
        let lock = Lock::take(path)?;
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
        note_joined(&self.path).map_err(|source| DirectoryError::Io { path: self.path.clone(), source })
    }

    /// Notes, durably, that the state here must not be served again.
    pub(crate) fn note_divergence(&self, divergence: &StoredDivergence) -> io::Result<()> {
        write_whole(&self.path, DIVERGED, &codec::encode(Kind::Divergence, divergence))
    }

    pub(crate) fn wal(&self) -> PathBuf {
        wal(&self.path)
    }

    pub(crate) fn ballast(&self) -> PathBuf {
        self.path.join(BALLAST)
    }

    pub(crate) fn database(&self) -> PathBuf {
        database(&self.path)
    }
}

pub(crate) fn wal(path: &Path) -> PathBuf {
    path.join(WAL)
}

pub(crate) fn database(path: &Path) -> PathBuf {
    path.join(DATABASE)
}

/// Moves a state aside that must not be served, and returns whose place is to be taken by a new one. Cut short, it goes on at the next
/// call; once another member owns the directory it is over.
pub(crate) fn set_aside(path: &Path) -> Result<Option<StoredDivergence>, DirectoryError> {
    let failed = |source| DirectoryError::Io { path: path.to_owned(), source };
    let divergence: StoredDivergence = match fs::read(path.join(DIVERGED)) {
        Ok(bytes) => codec::decode(Kind::Divergence, &bytes)
            .map_err(|error| DirectoryError::Damaged { path: path.to_owned(), reason: error.to_string() })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let _lock = Lock::take(path)?;
    match read_identity(path)? {
        Some(owner) if owner.member_id == divergence.member_id => {
            move_aside(path, divergence.member_id).map_err(failed)?;
        }
        Some(_) => {
            fs::remove_file(path.join(DIVERGED)).map_err(failed)?;
            return Ok(None);
        }
        None => {}
    }
    Ok(Some(divergence))
}

/// The identity goes last: as long as it is here, there may be more to move.
fn move_aside(path: &Path, member_id: u64) -> io::Result<()> {
    let aside = path.join(format!("{DIVERGED}-{member_id:x}"));
    fs::create_dir_all(&aside)?;
    remove_if_there(&path.join(BALLAST))?;
    for name in [WAL, DATABASE, JOINED, MEMBER] {
        match fs::rename(path.join(name), aside.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    File::open(&aside)?.sync_all()?;
    File::open(path)?.sync_all()
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

pub(crate) fn note_joined(path: &Path) -> io::Result<()> {
    File::create(path.join(JOINED))?;
    File::open(path)?.sync_all()
}

/// Whether a directory has no identity and holds nothing that has another name than our files.
pub(crate) fn is_unowned(path: &Path) -> Result<bool, DirectoryError> {
    holds_only(path, &[LOCK, UNFINISHED_MEMBER, JOINED, WAL, DATABASE])
        .map_err(|source| DirectoryError::Io { path: path.to_owned(), source })
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
    match holds_only(path, &[LOCK, UNFINISHED_MEMBER, "lost+found"]) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        other => other,
    }
}

/// Whether a directory holds nothing else, but for what was moved aside.
fn holds_only(path: &Path, names: &[&str]) -> io::Result<bool> {
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        let is_aside = name.to_str().is_some_and(|name| name.starts_with(DIVERGED));
        if !is_aside && !names.iter().any(|known| name == *known) {
            return Ok(false);
        }
    }
    Ok(true)
}

pub(crate) fn write_identity(path: &Path, identity: &StoredIdentity) -> io::Result<()> {
    write_whole(path, MEMBER, &codec::encode(Kind::Identity, identity))
}

/// Writes a file that is there as a whole or not at all; durable on return.
fn write_whole(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let unfinished = directory.join(format!("{name}.tmp"));
    let mut file = File::create(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, directory.join(name))?;
    File::open(directory)?.sync_all()
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
    fn a_state_that_differs_is_moved_aside_and_its_place_is_free_for_another_member() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path();
        let directory = Directory::open(path, identity(1)).unwrap();
        for name in [WAL, DATABASE] {
            fs::create_dir(path.join(name)).unwrap();
        }
        assert_eq!(set_aside(path).unwrap(), None);
        let divergence = StoredDivergence { member_id: 1, index: 7, contacts: vec!["http://b:1".to_owned()] };
        directory.note_divergence(&divergence).unwrap();
        assert!(matches!(set_aside(path), Err(DirectoryError::InUse { .. })));
        drop(directory);
        // Cut short in the middle of it.
        fs::create_dir(path.join("diverged-1")).unwrap();
        fs::rename(path.join(WAL), path.join("diverged-1").join(WAL)).unwrap();
        for _ in 0..2 {
            assert_eq!(set_aside(path).unwrap(), Some(divergence.clone()));
            assert_eq!(read_identity(path).unwrap(), None);
        }
        for name in [WAL, DATABASE, MEMBER] {
            assert!(path.join("diverged-1").join(name).exists() && !path.join(name).exists(), "{name}");
        }
        drop(Directory::open(path, identity(2)).unwrap());
        assert_eq!(set_aside(path).unwrap(), None);
        assert_eq!(read_identity(path).unwrap(), Some(identity(2)));
        assert!(!path.join(DIVERGED).exists());
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
