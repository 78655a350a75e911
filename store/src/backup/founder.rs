//! What all members of a restored cluster agree on without speaking to each other: ids that follow from the state and from the flags.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::restore::Past;
use crate::config::{InitialMember, cluster_id, first_u64};
use crate::directory::StoredIdentity;
use crate::raft::types::Member;

/// Makes the ids of one new cluster.
pub(super) struct Founder {
    seed: [u8; 32],
    /// 0 when revisions are kept.
    raised_by: i64,
    /// Id of a new cluster of these members.
    named: u64,
}

impl Founder {
    pub(super) fn new<'a>(
        seed: [u8; 32],
        past: Past,
        members: impl Iterator<Item = &'a u64>,
        token: &str,
    ) -> Self {
        let raised_by = match past {
            Past::Kept => 0,
            Past::Raised { by } => by,
        };
        Self { seed, raised_by, named: cluster_id(members, token) }
    }

    /// Neither the source's id nor that of a cluster that these members form without a snapshot, or from another one.
    pub(super) fn cluster_id(&self) -> u64 {
        self.derive(b"cluster", 0)
    }

    pub(super) fn identity(&self, member_id: u64, name: &str) -> StoredIdentity {
        StoredIdentity {
            cluster_id: self.cluster_id(),
            member_id,
            incarnation: self.incarnation(member_id),
            name: name.to_owned(),
        }
    }

    pub(super) fn members(&self, ids: BTreeMap<u64, InitialMember>) -> BTreeMap<u64, Member> {
        let member = |id: u64, member: InitialMember| Member {
            name: member.name,
            peer_urls: member.peer_urls,
            incarnation: self.incarnation(id),
            ..Member::default()
        };
        ids.into_iter().map(|(id, initial)| (id, member(id, initial))).collect()
    }

    /// Random numbers would have to be carried from member to member; these are the same only for the same file and flags.
    fn incarnation(&self, member_id: u64) -> u64 {
        self.derive(b"incarnation", member_id).max(1)
    }

    fn derive(&self, what: &[u8], member_id: u64) -> u64 {
        let mut hasher = Sha256::new();
        hasher.update(what);
        hasher.update(self.seed);
        hasher.update(self.named.to_be_bytes());
        hasher.update(self.raised_by.to_be_bytes());
        hasher.update(member_id.to_be_bytes());
        first_u64(&hasher.finalize())
    }
}
