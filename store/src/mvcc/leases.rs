//! The replicated part of leases: which exist, with what time to live, and which keys hang on them. No clock: deadlines are
//! the primary's business (`lease::primary`).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;
use proto::store as wire;

use super::meta::{STATE_FORMAT, check_format};
use super::row::corrupt;
use super::{LeaseId, Refusal};
use crate::engine::EngineError;

/// A lease as all members know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub id: LeaseId,
    pub ttl_seconds: i64,
    /// Time that was left at the last checkpoint.
    pub remaining_seconds: Option<i64>,
    /// Number of the grant that made this lease; a later lease of the same id has a higher one.
    pub grant: u64,
    pub keys: BTreeSet<Bytes>,
}

impl Lease {
    pub(crate) fn encode(&self) -> Bytes {
        let record = wire::LeaseRecord {
            format: STATE_FORMAT,
            id: self.id.0,
            ttl_seconds: self.ttl_seconds,
            remaining_seconds: self.remaining_seconds.unwrap_or(0),
            grant: self.grant,
        };
        record.encode_to_vec().into()
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Self, EngineError> {
        let record =
            wire::LeaseRecord::decode(bytes).map_err(|error| corrupt(b"lease", &error.to_string()))?;
        check_format(record.format)?;
        Ok(Self {
            id: LeaseId(record.id),
            ttl_seconds: record.ttl_seconds,
            remaining_seconds: (record.remaining_seconds > 0).then_some(record.remaining_seconds),
            grant: record.grant,
            keys: BTreeSet::new(),
        })
    }
}

/// All leases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leases {
    leases: BTreeMap<LeaseId, Lease>,
}

impl Leases {
    pub(crate) fn get(&self, id: LeaseId) -> Option<&Lease> {
        self.leases.get(&id)
    }

    pub(crate) fn count(&self) -> usize {
        self.leases.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.leases.values()
    }

    pub(crate) fn insert(&mut self, lease: Lease) {
        self.leases.insert(lease.id, lease);
    }

    pub(crate) fn remove(&mut self, id: LeaseId) -> Option<Lease> {
        self.leases.remove(&id)
    }

    pub(crate) fn set_remaining(&mut self, id: LeaseId, remaining_seconds: Option<i64>) -> Option<&Lease> {
        let lease = self.leases.get_mut(&id)?;
        lease.remaining_seconds = remaining_seconds;
        Some(lease)
    }

    /// Returns an error unless `id` is no lease or an existing one.
    pub(crate) fn check(&self, id: LeaseId) -> Result<(), Refusal> {
        if id == LeaseId::NONE || self.leases.contains_key(&id) {
            Ok(())
        } else {
            Err(Refusal::LeaseNotFound)
        }
    }

    /// Moves a key from one lease to another.
    pub(crate) fn attach(&mut self, key: &Bytes, from: LeaseId, to: LeaseId) {
        if from == to {
            return;
        }
        if let Some(lease) = self.leases.get_mut(&from) {
            lease.keys.remove(key);
        }
        if let Some(lease) = self.leases.get_mut(&to) {
            lease.keys.insert(Bytes::copy_from_slice(key));
        }
    }
}
