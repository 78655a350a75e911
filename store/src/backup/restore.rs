//! A new data directory from a copy of a state, which is a snapshot file or what a member of a lost cluster left: the first state of a
//! member of a new cluster.
//!
//! Every member is restored from the same file with the same flags, and comes to the same ids, rows and membership by itself. All is
//! written beside the data directory, which comes into being whole by the last rename: what a crash leaves behind is no data
//! directory, and the next attempt removes it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::draft::Draft;
use super::founder::Founder;
use super::read::{HashCheck, Snapshot, SnapshotError};
use super::remains::{Remains, RemainsError};
use crate::config::{InitialMember, member_id};
use crate::directory::DirectoryError;
use crate::engine::{Engine, EngineError};
use crate::env::Engines;
use crate::env::engines::FsEngines;
use crate::mvcc::{Assembly, Numbers, Revision};
use crate::raft::founding::{self, FOUNDATION};
use crate::wal::disk_fs::FsDisk;
use crate::wal::{Record, Vote, Wal, WalConfig, WalError};

/// Where the state comes from.
#[derive(Clone, Debug)]
pub enum Origin {
    Snapshot {
        file: PathBuf,
        hash_check: HashCheck,
    },
    /// The data directory of one member of a cluster whose majority is lost. It is read, and stays as it is.
    Member {
        data_dir: PathBuf,
    },
}

/// What becomes of the revisions that the state has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Past {
    /// Nobody has written to the source since, so that whoever has read from it finds the same here.
    Kept,
    /// The source may have gone on: its clients must not take our next revisions for those that they have seen.
    Raised { by: i64 },
}

/// What to restore, and who the member is.
#[derive(Clone, Debug)]
pub struct Restore {
    pub origin: Origin,
    pub past: Past,
    pub data_dir: PathBuf,
    pub name: String,
    pub advertise_peer_urls: Vec<String>,
    pub initial_cluster: Vec<InitialMember>,
    pub cluster_token: String,
    pub wal: WalConfig,
}

/// Who was restored, and where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    pub cluster_id: u64,
    pub member_id: u64,
    pub revision: Revision,
    pub compacted: Revision,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    Remains(#[from] RemainsError),
    #[error("data-dir {path:?} not empty or could not be read")]
    NotEmpty { path: PathBuf },
    #[error("the initial cluster does not name this member with its peer URLs")]
    NotInCluster,
    #[error(
        "a cluster that goes on from one member's data directory begins with that member alone; start it, and add the others with \
         empty data directories"
    )]
    NotAlone,
    #[error("revision {revision} cannot be raised by {by}")]
    TooHigh { revision: i64, by: i64 },
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Wal(#[from] WalError),
}

/// Makes the data directory. Nothing is there when it fails.
///
/// # Errors
/// When the state is not taken, the data directory exists, or the disk fails.
pub fn restore(restore: &Restore) -> Result<Restored, RestoreError> {
    check_empty(&restore.data_dir)?;
    let ids = ids(restore);
    let own = member_id(&restore.advertise_peer_urls, &restore.cluster_token);
    if !ids.contains_key(&own) {
        return Err(RestoreError::NotInCluster);
    }
    let state = State::read(restore, ids.len())?;
    let founder = Founder::new(state.seed(), restore.past, ids.keys(), &restore.cluster_token);
    let draft = Draft::begin(&restore.data_dir)?;
    let Numbers { revision, compacted } = fill(&draft, state, &founder, ids, restore)?;
    draft.finish(&founder.identity(own, &restore.name))?;
    Ok(Restored { cluster_id: founder.cluster_id(), member_id: own, revision, compacted })
}

/// A state that was read and found whole, before anything is written.
enum State {
    Snapshot(Snapshot, Numbers),
    Remains(Box<Remains>),
}

impl State {
    fn read(restore: &Restore, members: usize) -> Result<Self, RestoreError> {
        match &restore.origin {
            Origin::Snapshot { file, hash_check } => {
                let snapshot = Snapshot::open(file, *hash_check)?;
                let numbers = snapshot.numbers()?;
                Ok(Self::Snapshot(snapshot, numbers))
            }
            // Another member could be given an older state, and they would not agree.
            Origin::Member { .. } if members != 1 => Err(RestoreError::NotAlone),
            Origin::Member { data_dir } => Ok(Self::Remains(Box::new(Remains::open(data_dir, restore.wal)?))),
        }
    }

    /// The same for all members of one new cluster, and for no other.
    fn seed(&self) -> [u8; 32] {
        match self {
            Self::Snapshot(snapshot, _) => snapshot.hash,
            Self::Remains(remains) => remains.seed,
        }
    }

    fn bring_to(self, engine: Arc<dyn Engine>) -> Result<(Assembly, Numbers), RestoreError> {
        match self {
            Self::Snapshot(snapshot, numbers) => {
                let mut assembly = Assembly::new(engine);
                snapshot.bring_into(&mut assembly)?;
                Ok((assembly, numbers))
            }
            Self::Remains(remains) => Ok(remains.bring_to(engine)?),
        }
    }
}

fn check_empty(path: &Path) -> Result<(), RestoreError> {
    let is_empty = match fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    if is_empty { Ok(()) } else { Err(RestoreError::NotEmpty { path: path.to_owned() }) }
}

fn ids(restore: &Restore) -> BTreeMap<u64, InitialMember> {
    let id = |member: &InitialMember| member_id(&member.peer_urls, &restore.cluster_token);
    restore.initial_cluster.iter().map(|member| (id(member), member.clone())).collect()
}

fn raised(found: Numbers, past: Past) -> Result<Numbers, RestoreError> {
    match past {
        Past::Kept => Ok(found),
        Past::Raised { by } => {
            let raised = found.revision.0.checked_add(by).filter(|raised| *raised <= i64::MAX / 2);
            let revision = Revision(raised.ok_or(RestoreError::TooHigh { revision: found.revision.0, by })?);
            Ok(Numbers { revision, compacted: revision })
        }
    }
}

/// Writes database and log as they stand when a snapshot was just installed.
fn fill(
    draft: &Draft,
    state: State,
    founder: &Founder,
    ids: BTreeMap<u64, InitialMember>,
    restore: &Restore,
) -> Result<Numbers, RestoreError> {
    let first = ids.keys().next().copied().unwrap_or_default();
    let (mut assembly, found) = state.bring_to(FsEngines::new(&draft.database()).open()?)?;
    for (name, record) in founding::records(founder.members(ids)) {
        assembly.replication(name, record)?;
    }
    let numbers = raised(found, restore.past)?;
    drop(assembly.finish(numbers)?);
    let disk = Arc::new(FsDisk::new(&draft.wal()));
    let (mut wal, _) = Wal::open(disk, restore.wal)?;
    // Whoever made the first entry had this vote.
    wal.submit(Record::Vote(Vote { term: FOUNDATION.term, voted_for: first, committed: false }));
    wal.submit(Record::PurgedUpto(FOUNDATION));
    wal.submit(Record::Committed(Some(FOUNDATION)));
    wal.close()?;
    Ok(numbers)
}
