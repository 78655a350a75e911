//! What raft keeps beside the data, for copies of a state: read when one leaves, and made anew when one founds a cluster.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use openraft::EntryPayload;
use prost::Message;
use proto::raft as wire;

use super::convert;
use super::members::listed;
use super::state_machine::{APPLIED_RECORD, MEMBERSHIP_RECORD, REMOVED_RECORD};
use super::types::{Member, Membership, StoredMembership};
use crate::admin::MemberInfo;
use crate::engine::EngineError;
use crate::level::Levels;
use crate::mvcc::{Store, corrupt};
use crate::wal;
use crate::wire::decode_command;

/// Where a founded cluster begins: in term 1, behind one entry that is not in any log, as a snapshot leaves a log.
pub(crate) const FOUNDATION: wal::LogPosition = wal::LogPosition { term: 1, index: 1 };

/// Where a state stands in its log, and who its cluster is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) applied: wal::LogPosition,
    pub(crate) members: Vec<MemberInfo>,
    pub(crate) removed: Vec<u64>,
}

impl Place {
    /// Takes over one record.
    ///
    /// # Errors
    /// When it is damaged.
    pub(crate) fn take(&mut self, name: &str, record: Bytes) -> Result<(), EngineError> {
        let damaged = |error: &dyn std::fmt::Display| corrupt(name.as_bytes(), &error.to_string());
        match name {
            APPLIED_RECORD => {
                let applied = wire::WalPosition::decode(record).map_err(|error| damaged(&error))?.id;
                self.applied = applied.map(|id| convert::position(convert::log_id(id))).unwrap_or_default();
            }
            MEMBERSHIP_RECORD => {
                let stored = wire::StoredMembership::decode(record).map_err(|error| damaged(&error))?;
                let stored = convert::stored_membership(stored).map_err(|error| damaged(&error))?;
                self.members = listed(&stored);
            }
            REMOVED_RECORD => {
                self.removed = wire::RemovedMembers::decode(record).map_err(|error| damaged(&error))?.ids;
            }
            _ => return Err(corrupt(name.as_bytes(), "unknown record of the replication layer")),
        }
        Ok(())
    }
}

/// Applies an entry of a log whose cluster is gone. Who belonged to it is of no interest, and so is who supported a feature level.
///
/// # Errors
/// When the entry is damaged, or the engine fails.
pub(crate) fn apply(store: &mut Store, entry: Bytes) -> Result<(), EngineError> {
    let damaged = |error: &dyn std::fmt::Display| corrupt(b"log", &error.to_string());
    match convert::entry_from_bytes(entry).map_err(|error| damaged(&error))?.payload {
        EntryPayload::Blank | EntryPayload::Membership(_) => {}
        EntryPayload::Normal(proposal) => {
            let command = decode_command(proposal.command).map_err(|error| damaged(&error))?;
            store.apply(&command)?;
            Levels::SUPPORTED.check(store.level())?;
        }
    }
    Ok(())
}

/// Returns the records of a cluster of these members, all of them voters, that begins at [`FOUNDATION`].
pub(crate) fn records(members: BTreeMap<u64, Member>) -> Vec<(&'static str, Bytes)> {
    let founded = convert::from_position(FOUNDATION);
    let voters: BTreeSet<u64> = members.keys().copied().collect();
    let membership = Membership::new(vec![voters], members).expect("every voter is a member");
    let applied = wire::WalPosition { id: Some(convert::log_id_to_wire(founded)) };
    let stored = convert::stored_membership_to_wire(&StoredMembership::new(Some(founded), membership));
    vec![
        (APPLIED_RECORD, applied.encode_to_vec().into()),
        (MEMBERSHIP_RECORD, stored.encode_to_vec().into()),
        (REMOVED_RECORD, wire::RemovedMembers::default().encode_to_vec().into()),
    ]
}
