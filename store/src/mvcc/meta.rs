//! Meta keys: everything in the engine that is not a row. They begin with 0xff and so sort behind all rows, in the same
//! keyspace, because data and applied id must be flushed together (safety rule 5).

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use proto::store as wire;

use super::row::corrupt;
use super::{Alarm, LeaseId, Revision, RowId};
use crate::auth::RecordKey;
use crate::engine::EngineError;
use crate::level::Level;

/// First byte of all meta keys.
pub(crate) const META_PREFIX: u8 = 0xff;
/// Format of the records that this version writes; a higher one is refused.
pub(crate) const STATE_FORMAT: u32 = 1;
/// Format of the record of a state whose level was raised: versions that know of no levels refuse it.
const LEVEL_FORMAT: u32 = 2;

const STATE: &[u8] = b"state";
const ALARM: &[u8] = b"alarm/";
const DOWNGRADE: &[u8] = b"downgrade";
const LEASE: &[u8] = b"lease/";
const AUTH: &[u8] = b"auth/";
const DELETION: &[u8] = b"deletion/";
const AUTH_STATE: &[u8] = b"auth/state";
const AUTH_USER: &[u8] = b"auth/user/";
const AUTH_ROLE: &[u8] = b"auth/role/";
const REPLICATION: &[u8] = b"replication/";

fn meta_key(parts: [&[u8]; 2]) -> Bytes {
    let mut key = BytesMut::new();
    key.put_u8(META_PREFIX);
    parts.into_iter().for_each(|part| key.put_slice(part));
    key.freeze()
}

/// Returns the key of the store's own numbers.
pub(crate) fn state_key() -> Bytes {
    meta_key([STATE, b""])
}

/// Returns the key of the downgrade that was announced.
pub(crate) fn downgrade_key() -> Bytes {
    meta_key([DOWNGRADE, b""])
}

/// Returns the key of one alarm: its stored form tells it from all others.
pub(crate) fn alarm_key(alarm: Alarm) -> Bytes {
    meta_key([ALARM, &alarm.encode()])
}

/// Returns the first and the first-behind key of all alarms.
pub(crate) fn alarm_keys() -> (Bytes, Bytes) {
    (meta_key([ALARM, b""]), meta_key([b"alarm0", b""]))
}

/// Returns the key of one lease.
pub(crate) fn lease_key(id: LeaseId) -> Bytes {
    meta_key([LEASE, &id.0.to_be_bytes()])
}

/// Returns the first and the first-behind key of all leases.
pub(crate) fn lease_keys() -> (Bytes, Bytes) {
    (meta_key([LEASE, b""]), meta_key([b"lease0", b""]))
}

/// Returns the key under which a deletion is remembered whose row was removed; in the order of rows.
pub(crate) fn deletion_key(row: RowId) -> Bytes {
    meta_key([DELETION, &row.to_key()])
}

/// Returns the row whose deletion is remembered under a key.
pub(crate) fn deletion_row(key: &[u8]) -> Result<RowId, EngineError> {
    let row = key.get(1..).and_then(|key| key.strip_prefix(DELETION));
    RowId::from_key(row.ok_or_else(|| corrupt(key, "is not the key of a deletion"))?)
}

/// Returns the key of a record of users and roles.
pub(crate) fn auth_key(key: &RecordKey) -> Bytes {
    match key {
        RecordKey::State => meta_key([AUTH_STATE, b""]),
        RecordKey::User(name) => meta_key([AUTH_USER, name.as_bytes()]),
        RecordKey::Role(name) => meta_key([AUTH_ROLE, name.as_bytes()]),
    }
}

/// Returns the first and the first-behind key of all records of users and roles.
pub(crate) fn auth_keys() -> (Bytes, Bytes) {
    (meta_key([AUTH, b""]), meta_key([b"auth0", b""]))
}

/// What a meta key is the key of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetaKey<'a> {
    State,
    Alarm,
    Downgrade,
    Lease,
    AuthState,
    AuthUser,
    AuthRole,
    /// What only a saved index needs.
    Deletion,
    Replication(&'a str),
}

impl<'a> MetaKey<'a> {
    /// Reads a key of the engine; `None` for that of a row.
    ///
    /// # Errors
    /// When it is an unknown meta key.
    pub(crate) fn of(key: &'a [u8]) -> Result<Option<Self>, EngineError> {
        let Some((&META_PREFIX, name)) = key.split_first() else { return Ok(None) };
        let known = [
            (STATE, Self::State),
            (ALARM, Self::Alarm),
            (DOWNGRADE, Self::Downgrade),
            (LEASE, Self::Lease),
            (AUTH_STATE, Self::AuthState),
            (AUTH_USER, Self::AuthUser),
            (AUTH_ROLE, Self::AuthRole),
            (DELETION, Self::Deletion),
        ];
        if let Some(record) = name.strip_prefix(REPLICATION) {
            let record = std::str::from_utf8(record);
            return record
                .map(|record| Some(Self::Replication(record)))
                .map_err(|_| corrupt(key, "unknown key"));
        }
        let found = known.iter().find(|(prefix, _)| name.starts_with(prefix));
        found.map(|(_, kind)| Some(*kind)).ok_or_else(|| corrupt(key, "unknown key"))
    }
}

/// Returns the key of a record that the replication layer keeps beside the data.
pub(crate) fn replication_key(name: &str) -> Bytes {
    meta_key([REPLICATION, name.as_bytes()])
}

/// The store's own numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StateRecord {
    pub(crate) revision: Revision,
    pub(crate) compacted: Revision,
    pub(crate) collected: Revision,
    pub(crate) grants: u64,
    pub(crate) level: Level,
}

impl StateRecord {
    /// The numbers of an empty store.
    pub(crate) const EMPTY: Self = Self {
        revision: Revision::FIRST,
        compacted: Revision::NEVER_COMPACTED,
        collected: Revision::NEVER_COMPACTED,
        grants: 0,
        level: Level::FIRST,
    };

    pub(crate) fn encode(&self, digest: u128) -> Bytes {
        let is_raised = self.level >= Level::RECORDED;
        let record = wire::StoreState {
            format: if is_raised { LEVEL_FORMAT } else { STATE_FORMAT },
            revision: self.revision.0,
            compacted: self.compacted.0,
            collected: self.collected.0,
            grants: self.grants,
            digest: Bytes::copy_from_slice(&digest.to_be_bytes()),
            level: if is_raised { self.level.0 } else { 0 },
        };
        record.encode_to_vec().into()
    }

    /// Reads the record and the digest that was stored with it.
    pub(crate) fn decode(bytes: Bytes) -> Result<(Self, u128), EngineError> {
        let record = wire::StoreState::decode(bytes).map_err(|error| corrupt(STATE, &error.to_string()))?;
        let level = match record.format {
            LEVEL_FORMAT if Level(record.level) < Level::RECORDED => {
                return Err(corrupt(STATE, "a raised feature level is missing"));
            }
            LEVEL_FORMAT => Level(record.level),
            STATE_FORMAT => Level::FIRST,
            found => return Err(EngineError::Format { found, supported: LEVEL_FORMAT }),
        };
        let digest =
            record.digest.as_ref().try_into().map_err(|_| corrupt(STATE, "digest has a wrong length"))?;
        let state = Self {
            revision: Revision(record.revision),
            compacted: Revision(record.compacted),
            collected: Revision(record.collected),
            grants: record.grants,
            level,
        };
        Ok((state, u128::from_be_bytes(digest)))
    }
}

/// Refuses records of a later version.
pub(crate) fn check_format(found: u32) -> Result<(), EngineError> {
    if found == STATE_FORMAT { Ok(()) } else { Err(EngineError::Format { found, supported: STATE_FORMAT }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(level: Level) -> StateRecord {
        StateRecord {
            revision: Revision(9),
            compacted: Revision(4),
            collected: Revision(3),
            grants: 2,
            level,
        }
    }

    #[track_caller]
    fn check(level: Level, bytes: &str) {
        assert_eq!(hex::encode(state(level).encode(7)), bytes);
        let read = StateRecord::decode(hex::decode(bytes).unwrap().into()).unwrap();
        assert_eq!(read, (state(level), 7));
    }

    #[test]
    fn the_level_is_recorded_once_it_is_raised_and_the_version_before_reads_what_is_not() {
        check(Level::FIRST, "08011009180420032802321000000000000000000000000000000007");
        check(Level(2), "080210091804200328023210000000000000000000000000000000073802");
        check(Level(300), "0802100918042003280232100000000000000000000000000000000738ac02");
    }

    #[test]
    fn a_later_format_and_a_level_that_is_missing_are_refused() {
        let decode = |bytes: &str| StateRecord::decode(hex::decode(bytes).unwrap().into()).unwrap_err();
        let later = decode("080310091804200328023210000000000000000000000000000000073803");
        assert!(matches!(later, EngineError::Format { found: 3, supported: 2 }), "{later}");
        let missing = decode("08021009180420032802321000000000000000000000000000000007");
        assert!(matches!(missing, EngineError::Corrupt { .. }), "{missing}");
    }
}
