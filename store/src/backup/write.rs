//! Writes a state as etcd's file. One scan of the engine gives it: rows and records of one applied position, whatever is applied
//! meanwhile. Memory holds one page of each level of one bucket.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::ControlFlow;

use bytes::Bytes;
use prost::Message;
use proto::{authpb, etcdserverpb as pb, leasepb, mvccpb, store as wire};

use super::{layout, record};
use crate::auth::{Role, User};
use crate::bbolt::{Tree, WriteError, Writer};
use crate::engine::{Engine, EngineError};
use crate::env::spare_room::NoRoom;
use crate::mvcc::{Alarm, EventKind, MetaKey, Revision, Row, RowId, StateRecord, check_format, corrupt};
use crate::raft::founding::Place;
use crate::wire::permission_to_wire;

/// The oldest etcd that knows all that is in our files. An older one passes over what it does not know.
pub(crate) const STORAGE_VERSION: &str = "3.6.0";

/// Why a snapshot cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("nobody waits for it any more")]
    Abandoned,
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
}

/// Writes the state of an engine to an empty file. `check` is asked at every row, and may end it.
///
/// # Errors
/// When the engine or the disk fails, or the state holds something that etcd's file cannot.
pub(crate) fn write(
    engine: &dyn Engine,
    file: File,
    check: &mut dyn FnMut() -> Result<(), BackupError>,
) -> Result<File, BackupError> {
    let mut backup = Backup {
        writer: Writer::new(file)?,
        trees: BTreeMap::new(),
        place: Place::default(),
        state: StateRecord::EMPTY,
        newest: Revision::FIRST,
    };
    let mut outcome = Ok(());
    engine.scan(b"", None, &mut |key, value| {
        outcome = check().and_then(|()| backup.take(key, value));
        if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    outcome?;
    backup.finish()
}

struct Backup {
    writer: Writer,
    /// The engine has the rows first and then its records by kind, so at most one of these grows at a time.
    trees: BTreeMap<&'static str, Tree>,
    place: Place,
    state: StateRecord,
    /// Revision of the last row.
    newest: Revision,
}

impl Backup {
    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), BackupError> {
        match MetaKey::of(key)? {
            None => self.take_row(key, value),
            Some(kind) => self.take_record(kind, Bytes::copy_from_slice(value)),
        }
    }

    fn take_row(&mut self, key: &[u8], value: &[u8]) -> Result<(), BackupError> {
        let id = RowId::from_key(key)?;
        let row = Row::decode(id, Bytes::copy_from_slice(value))?;
        self.newest = id.main;
        let etcd_value = match row.kind {
            // Behind our byte of kind and format stands the same message that etcd keeps.
            EventKind::Put => value.get(1..).unwrap_or_default().to_vec(),
            EventKind::Delete => {
                mvccpb::KeyValue { key: row.kv.key, ..mvccpb::KeyValue::default() }.encode_to_vec()
            }
        };
        self.put(layout::KEY, &layout::row_key(id, row.kind), &etcd_value)
    }

    fn take_record(&mut self, kind: MetaKey<'_>, record: Bytes) -> Result<(), BackupError> {
        match kind {
            MetaKey::State => self.state = StateRecord::decode(record)?.0,
            MetaKey::Replication(name) => self.place.take(name, record)?,
            MetaKey::Alarm => {
                let alarm = pb::AlarmMember::from(Alarm::decode(record)?);
                self.put(layout::ALARM, &alarm.encode_to_vec(), b"")?;
            }
            MetaKey::Lease => {
                let lease = decode::<wire::LeaseRecord>(record)?;
                check_format(lease.format)?;
                let etcd = leasepb::Lease {
                    id: lease.id,
                    ttl: lease.ttl_seconds,
                    remaining_ttl: lease.remaining_seconds,
                };
                self.put(layout::LEASE, &lease.id.to_be_bytes(), &etcd.encode_to_vec())?;
            }
            MetaKey::AuthState => {
                let state = decode::<wire::AuthState>(record)?;
                check_format(state.format)?;
                self.put(layout::AUTH, layout::AUTH_ENABLED.as_bytes(), &[u8::from(state.enabled)])?;
                self.put(layout::AUTH, layout::AUTH_REVISION.as_bytes(), &state.revision.to_be_bytes())?;
            }
            MetaKey::AuthUser => {
                let user = user(User::decode(record)?);
                self.put(layout::AUTH_USERS, &user.name, &user.encode_to_vec())?;
            }
            MetaKey::AuthRole => {
                let role = role(&Role::decode(record)?);
                self.put(layout::AUTH_ROLES, &role.name, &role.encode_to_vec())?;
            }
            // Its row was removed, as it is from etcd's file.
            // What only members of this cluster need.
            MetaKey::Deletion | MetaKey::Downgrade => {}
        }
        Ok(())
    }

    /// Where revisions were raised, neither a row nor the compaction says how high. etcd's own restore writes such a row then.
    fn put_revision(&mut self) -> Result<(), BackupError> {
        let revision = self.state.revision;
        if revision > self.newest.max(self.state.compacted) {
            self.put(layout::KEY, &layout::row_key(RowId::first_of(revision), EventKind::Put), b"")?;
        }
        Ok(())
    }

    fn put(&mut self, bucket: &'static str, key: &[u8], value: &[u8]) -> Result<(), BackupError> {
        Ok(self.trees.entry(bucket).or_default().put(&mut self.writer, key, value)?)
    }

    fn finish(mut self) -> Result<File, BackupError> {
        self.put_revision()?;
        let Place { applied, mut members, mut removed } = std::mem::take(&mut self.place);
        // In the order of their keys, which are hexadecimal text.
        members.sort_by_key(|member| record::member_key(member.id));
        for member in &members {
            let key = record::member_key(member.id);
            self.put(layout::MEMBERS, key.as_bytes(), &record::member(member))?;
        }
        removed.sort_by_key(|id| record::member_key(*id));
        for id in removed {
            self.put(layout::MEMBERS_REMOVED, record::member_key(id).as_bytes(), b"removed")?;
        }
        let mut meta = BTreeMap::from([
            (layout::CONSISTENT_INDEX, applied.index.to_be_bytes().to_vec()),
            (layout::TERM, applied.term.to_be_bytes().to_vec()),
            (layout::CONF_STATE, record::conf_state(&members)),
            (layout::STORAGE_VERSION, STORAGE_VERSION.into()),
        ]);
        // What is compacted and not yet collected is in the file; etcd removes it when it finds these two apart.
        for (key, revision) in [
            (layout::SCHEDULED_COMPACT, self.state.compacted),
            (layout::FINISHED_COMPACT, self.state.collected),
        ] {
            if revision.0 > 0 {
                meta.insert(key, layout::compact_revision(revision));
            }
        }
        for (key, value) in meta {
            self.put(layout::META, key.as_bytes(), &value)?;
        }
        // The cluster's version is left out: an older etcd would refuse the file for it, and any agrees on one anew.
        for bucket in layout::BUCKETS {
            let tree = self.trees.remove(bucket).unwrap_or_default();
            self.writer.add(bucket, tree)?;
        }
        Ok(self.writer.finish()?)
    }
}

fn decode<T: Message + Default>(record: Bytes) -> Result<T, EngineError> {
    T::decode(record).map_err(|error| corrupt(b"record", &error.to_string()))
}

fn user(user: User) -> authpb::User {
    let no_password = user.password_hash.is_none();
    authpb::User {
        name: user.name.into(),
        password: user.password_hash.map(|hash| hash.0).unwrap_or_default().into(),
        roles: user.roles.into_iter().collect(),
        options: Some(authpb::UserAddOptions { no_password }),
    }
}

fn role(role: &Role) -> authpb::Role {
    authpb::Role {
        name: role.name.clone().into(),
        key_permission: role.permissions().map(permission_to_wire).collect(),
    }
}
