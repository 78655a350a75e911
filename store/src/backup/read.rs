//! Opens a snapshot file that may be anybody's: its hash, then its pages, then what etcd keeps in them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message;
use proto::{authpb, leasepb, mvccpb};
use sha2::{Digest, Sha256};

use super::checksum::Crc32c;
use super::layout;
use crate::auth::{AuthState, Role, Secret, User};
use crate::bbolt::{Bucket, ReadError, Reader, Visitor};
use crate::engine::EngineError;
use crate::mvcc::{Assembly, EventKind, KeyValue, LeaseId, Numbers, Revision, Row, RowId};
use crate::wire::permission_from_wire;

/// Length of the hash that the snapshot call sends last, and of what it follows: whole sectors.
pub(crate) const HASH_BYTES: u64 = 32;
const SECTOR_BYTES: u64 = 512;
/// Highest revision that is taken: nobody comes there by writing, and there is room above.
const REVISION_MAX: i64 = i64::MAX / 4;

/// Why a snapshot file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("cannot read snapshot {path}")]
    Io { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Bbolt(#[from] ReadError),
    #[error("snapshot missing hash but --skip-hash-check=false")]
    NoHash,
    #[error("expected sha256 {expected}, got {found}")]
    Hash { expected: String, found: String },
    #[error("the file holds no bucket `{0}`, so it is no snapshot of etcd")]
    MissingBucket(&'static str),
    #[error("the file holds a bucket `{0}`, which etcd 3.4 to 3.7 do not have")]
    UnknownBucket(String),
    #[error("bucket `{bucket}` holds a key `{key}`, which etcd 3.4 to 3.7 do not have")]
    UnknownKey { bucket: &'static str, key: String },
    #[error("the file is of etcd {0}; this version reads 3.4 to 3.7")]
    UnknownVersion(String),
    #[error("bucket `{bucket}` is damaged at key {key}: {reason}")]
    Record { bucket: &'static str, key: String, reason: String },
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Whether the hash at the end must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashCheck {
    Required,
    /// The file was copied out of a data directory, or damaged and is all there is.
    Skipped,
}

/// A snapshot file whose layout is known.
pub(crate) struct Snapshot {
    reader: Reader,
    buckets: BTreeMap<String, Bucket>,
    /// Hash of the database, the same for whoever reads the file.
    pub(crate) hash: [u8; 32],
}

/// What etcd's tools tell of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SnapshotStatus {
    pub hash: u32,
    pub revision: i64,
    #[serde(rename = "totalKey")]
    pub total_keys: u64,
    #[serde(rename = "totalSize")]
    pub total_size: u64,
    pub version: String,
}

impl Snapshot {
    /// Opens a file and checks its hash and layout.
    ///
    /// # Errors
    /// When it is damaged or of a kind that this version does not know.
    pub(crate) fn open(path: &Path, check: HashCheck) -> Result<Self, SnapshotError> {
        let Verified { file, database, hash } = verify(path, check)?;
        let reader = Reader::open(file, database)?;
        let mut buckets = BTreeMap::new();
        for (name, bucket) in reader.buckets()? {
            buckets.insert(String::from_utf8_lossy(&name).into_owned(), bucket);
        }
        let snapshot = Self { reader, buckets, hash };
        snapshot.check_layout()?;
        Ok(snapshot)
    }

    fn check_layout(&self) -> Result<(), SnapshotError> {
        if let Some(unknown) = self.buckets.keys().find(|name| !layout::BUCKETS.contains(&name.as_str())) {
            return Err(SnapshotError::UnknownBucket(unknown.clone()));
        }
        let needed = [layout::KEY, layout::META];
        if let Some(missing) = needed.iter().find(|name| !self.buckets.contains_key(**name)) {
            return Err(SnapshotError::MissingBucket(missing));
        }
        let meta = self.pairs(
            layout::META,
            &[
                layout::CONSISTENT_INDEX,
                layout::TERM,
                layout::CONF_STATE,
                layout::STORAGE_VERSION,
                layout::SCHEDULED_COMPACT,
                layout::FINISHED_COMPACT,
            ],
        )?;
        let cluster = self.pairs(layout::CLUSTER, &[layout::CLUSTER_VERSION, layout::DOWNGRADE])?;
        let versions = [meta.get(layout::STORAGE_VERSION), cluster.get(layout::CLUSTER_VERSION)];
        for version in versions.into_iter().flatten() {
            let version = String::from_utf8_lossy(version);
            if !layout::is_known_version(&version) {
                return Err(SnapshotError::UnknownVersion(version.into_owned()));
            }
        }
        Ok(())
    }

    /// Returns the keys of a small bucket, all of which must be known.
    fn pairs(
        &self,
        bucket: &'static str,
        known: &[&'static str],
    ) -> Result<BTreeMap<&'static str, Bytes>, SnapshotError> {
        let mut pairs = BTreeMap::new();
        self.visit(bucket, &mut |key, value| {
            let found = known.iter().find(|known| known.as_bytes() == key);
            let unknown =
                || SnapshotError::UnknownKey { bucket, key: String::from_utf8_lossy(key).into_owned() };
            pairs.insert(*found.ok_or_else(unknown)?, Bytes::copy_from_slice(value));
            Ok(())
        })?;
        Ok(pairs)
    }

    fn visit(&self, bucket: &str, visit: &mut Visitor<'_, SnapshotError>) -> Result<(), SnapshotError> {
        match self.buckets.get(bucket) {
            Some(bucket) => self.reader.visit(bucket, visit),
            None => Ok(()),
        }
    }

    /// Returns what etcd's tools show, from one pass over everything.
    ///
    /// # Errors
    /// When the file is damaged.
    pub(crate) fn status(&self) -> Result<SnapshotStatus, SnapshotError> {
        let mut hash = Crc32c::new();
        let mut revision = 0;
        let mut total_keys = 0;
        for (name, bucket) in &self.buckets {
            hash.update(name.as_bytes());
            self.reader.visit(bucket, &mut |key, value| {
                hash.update(key);
                hash.update(value);
                total_keys += 1;
                if name == layout::KEY {
                    let (id, _) = layout::parse_row_key(key)
                        .ok_or_else(|| damaged(layout::KEY, key, "it is no revision"))?;
                    revision = id.main.0;
                }
                Ok::<(), SnapshotError>(())
            })?;
        }
        let meta = self.pairs_of_meta()?;
        let version = meta.get(layout::STORAGE_VERSION).map(|version| String::from_utf8_lossy(version));
        Ok(SnapshotStatus {
            hash: hash.value(),
            revision,
            total_keys,
            total_size: self.reader.size_bytes(),
            version: version.unwrap_or_default().into_owned(),
        })
    }

    fn pairs_of_meta(&self) -> Result<BTreeMap<String, Bytes>, SnapshotError> {
        let mut pairs = BTreeMap::new();
        self.visit(layout::META, &mut |key, value| {
            pairs.insert(String::from_utf8_lossy(key).into_owned(), Bytes::copy_from_slice(value));
            Ok(())
        })?;
        Ok(pairs)
    }

    /// Returns where the history begins and ends, from one pass over everything.
    ///
    /// # Errors
    /// When the file is damaged.
    pub(crate) fn numbers(&self) -> Result<Numbers, SnapshotError> {
        let compacted = self.compacted()?;
        let newest = Revision(self.status()?.revision);
        if newest.0 > REVISION_MAX {
            return Err(damaged(layout::KEY, &newest.0.to_be_bytes(), "its revision cannot be"));
        }
        Ok(Numbers { revision: newest.max(compacted).max(Revision::FIRST), compacted })
    }

    /// Brings rows, leases, users and roles into a state. Members and alarms stay behind: they are another cluster's.
    ///
    /// # Errors
    /// When the file is damaged, or the engine fails.
    pub(crate) fn bring_into(&self, assembly: &mut Assembly) -> Result<(), SnapshotError> {
        self.bring_rows(assembly)?;
        self.bring_leases(assembly)?;
        self.bring_auth(assembly)
    }

    fn compacted(&self) -> Result<Revision, SnapshotError> {
        let meta = self.pairs_of_meta()?;
        let mut compacted = Revision::NEVER_COMPACTED;
        for key in [layout::SCHEDULED_COMPACT, layout::FINISHED_COMPACT] {
            let Some(value) = meta.get(key) else { continue };
            let revision = layout::parse_revision(value)
                .filter(|id| (1..=REVISION_MAX).contains(&id.main.0))
                .ok_or_else(|| damaged(layout::META, key.as_bytes(), "it is no revision"))?;
            compacted = compacted.max(revision.main);
        }
        Ok(compacted)
    }

    fn bring_rows(&self, assembly: &mut Assembly) -> Result<(), SnapshotError> {
        self.visit(layout::KEY, &mut |key, value| {
            let damaged = |reason: &str| damaged(layout::KEY, key, reason);
            let (id, kind) = layout::parse_row_key(key).ok_or_else(|| damaged("it is no revision"))?;
            // etcd's own restore raises the revision by a row without a key.
            if value.is_empty() {
                return Ok(());
            }
            let kv = mvccpb::KeyValue::decode(value).map_err(|error| damaged(&error.to_string()))?;
            Ok(assembly.row(id, &row(id, kind, kv))?)
        })
    }

    fn bring_leases(&self, assembly: &mut Assembly) -> Result<(), SnapshotError> {
        self.visit(layout::LEASE, &mut |key, value| {
            let damaged = |reason: &str| damaged(layout::LEASE, key, reason);
            let lease = leasepb::Lease::decode(value).map_err(|error| damaged(&error.to_string()))?;
            if key != lease.id.to_be_bytes() || lease.id == 0 || lease.ttl <= 0 {
                return Err(damaged("its id or time to live cannot be"));
            }
            let remaining = Some(lease.remaining_ttl).filter(|remaining| *remaining > 0);
            Ok(assembly.lease(LeaseId(lease.id), lease.ttl, remaining)?)
        })
    }

    fn bring_auth(&self, assembly: &mut Assembly) -> Result<(), SnapshotError> {
        let state = self.pairs(layout::AUTH, &[layout::AUTH_ENABLED, layout::AUTH_REVISION])?;
        let enabled = state.get(layout::AUTH_ENABLED).is_some_and(|enabled| enabled.as_ref() == [1]);
        let revision = match state.get(layout::AUTH_REVISION).map(AsRef::<[u8]>::as_ref) {
            None => 1,
            Some(bytes) => {
                let wrong = || damaged(layout::AUTH, layout::AUTH_REVISION.as_bytes(), "it is no number");
                u64::from_be_bytes(bytes.try_into().map_err(|_| wrong())?)
            }
        };
        let users = self.records(layout::AUTH_USERS, user)?;
        let roles = self.records(layout::AUTH_ROLES, role)?;
        Ok(assembly.auth(AuthState::state_record(enabled, revision), &users, &roles)?)
    }

    fn records<T>(
        &self,
        bucket: &'static str,
        read: impl Fn(&[u8], &[u8]) -> Result<T, String>,
    ) -> Result<Vec<T>, SnapshotError> {
        let mut records = Vec::new();
        self.visit(bucket, &mut |key, value| {
            records.push(read(key, value).map_err(|reason| damaged(bucket, key, &reason))?);
            Ok(())
        })?;
        Ok(records)
    }
}

fn row(id: RowId, kind: EventKind, kv: mvccpb::KeyValue) -> Row {
    let kv = match kind {
        EventKind::Put => KeyValue {
            key: kv.key,
            value: kv.value,
            create_revision: Revision(kv.create_revision),
            mod_revision: Revision(kv.mod_revision),
            version: kv.version,
            lease: LeaseId(kv.lease),
        },
        // etcd keeps nothing but the key.
        EventKind::Delete => KeyValue { key: kv.key, mod_revision: id.main, ..KeyValue::default() },
    };
    Row { kind, kv }
}

fn user(key: &[u8], value: &[u8]) -> Result<User, String> {
    let user = authpb::User::decode(value).map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| "it is no text".to_owned());
    if user.name != key {
        return Err("it names another user".to_owned());
    }
    let hash = text(&user.password)?;
    Ok(User {
        name: text(&user.name)?,
        password_hash: Some(hash).filter(|hash| !hash.is_empty()).map(Secret),
        roles: user.roles.into_iter().collect(),
    })
}

fn role(key: &[u8], value: &[u8]) -> Result<Role, String> {
    let role = authpb::Role::decode(value).map_err(|error| error.to_string())?;
    if role.name != key {
        return Err("it names another role".to_owned());
    }
    let name = String::from_utf8(role.name.to_vec()).map_err(|_| "it is no text".to_owned())?;
    let permissions: Result<Vec<_>, _> = role.key_permission.into_iter().map(permission_from_wire).collect();
    Ok(Role::with(name, permissions.map_err(|error| error.to_string())?))
}

fn damaged(bucket: &'static str, key: &[u8], reason: &str) -> SnapshotError {
    SnapshotError::Record { bucket, key: hex::encode(key), reason: reason.to_owned() }
}

/// A file whose hash was looked at.
pub(super) struct Verified {
    file: File,
    /// Length of the database, without the hash behind it.
    database: u64,
    hash: [u8; 32],
}

/// Compares a file with the hash at its end.
///
/// # Errors
/// When it cannot be read, or `check` asks for a hash and it is missing or another one.
pub(super) fn verify(path: &Path, check: HashCheck) -> Result<Verified, SnapshotError> {
    let failed = |source| SnapshotError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let has_hash = length % SECTOR_BYTES == HASH_BYTES;
    let database = if has_hash { length - HASH_BYTES } else { length };
    if check == HashCheck::Required && !has_hash {
        // A file that is no database at all is better called so.
        Reader::open(file, database)?;
        return Err(SnapshotError::NoHash);
    }
    let (hash, stored) = hashes(&file, database).map_err(failed)?;
    if check == HashCheck::Required && hash.as_slice() != stored {
        return Err(SnapshotError::Hash { expected: hex::encode(stored), found: hex::encode(hash) });
    }
    Ok(Verified { file, database, hash })
}

/// Returns the hash of the database and what stands behind it.
fn hashes(file: &File, database: u64) -> io::Result<([u8; 32], Vec<u8>)> {
    let mut hasher = Sha256::new();
    let mut rest = file.take(database);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let length = rest.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        hasher.update(buffer.get(..length).unwrap_or_default());
    }
    let mut stored = Vec::new();
    file.take(HASH_BYTES).read_to_end(&mut stored)?;
    Ok((hasher.finalize().into(), stored))
}
