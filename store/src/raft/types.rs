//! What openraft is instantiated with.

use std::fmt;

use bytes::Bytes;
use openraft::impls::leader_id_std;
use openraft_rt::deterministic_rng::DeterministicRng;

use super::slow::Place;
use crate::mvcc::{Answer, Refusal};

openraft::declare_raft_types!(
    /// Keelson's raft. The runtime draws randomness from a seed per member, so that a simulation repeats exactly.
    pub TypeConfig:
        D = Proposal,
        R = Reply,
        NodeId = u64,
        Node = Member,
        Term = u64,
        LeaderId = leader_id_std::LeaderId<u64, u64>,
        AsyncRuntime = DeterministicRng<openraft_rt_tokio::TokioRuntime>,
);

pub(crate) type LogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
pub(crate) type Vote = openraft::type_config::alias::VoteOf<TypeConfig>;
pub(crate) type Entry = openraft::type_config::alias::EntryOf<TypeConfig>;
pub(crate) type Payload = openraft::type_config::alias::PayloadOf<TypeConfig>;
pub(crate) type Membership = openraft::Membership<u64, Member>;
pub(crate) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;
pub(crate) type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;
pub(crate) type AppendRequest = openraft::raft::AppendEntriesRequest<TypeConfig>;
pub(crate) type AppendResponse = openraft::raft::AppendEntriesResponse<TypeConfig>;
pub(crate) type VoteRequest = openraft::raft::VoteRequest<TypeConfig>;
pub(crate) type VoteResponse = openraft::raft::VoteResponse<TypeConfig>;
pub(crate) type Raft = openraft::Raft<TypeConfig, super::state_machine::StateMachine>;

/// One member of the cluster, as membership entries carry it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    pub name: String,
    pub peer_urls: Vec<String>,
    pub client_urls: Vec<String>,
    /// Random number of its data directory (safety rule 4); 0 until it has started once.
    pub incarnation: u64,
    /// Becomes a voter by itself once it has caught up. Means nothing for one that is a voter.
    pub promote: bool,
    /// The member that leaves when this one becomes a voter; 0 for none. Means nothing once that one has left.
    pub replaces: u64,
}

/// A command on its way through the log.
#[derive(Clone, PartialEq, Eq)]
pub struct Proposal {
    /// The member whose client asked.
    pub origin: u64,
    /// A number that only this member uses, once.
    pub request_id: u64,
    /// The command in the state machine's encoding.
    pub command: Bytes,
}

impl fmt::Debug for Proposal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:x}/{:x} {} bytes", self.origin, self.request_id, self.command.len())
    }
}

/// What applying an entry answered; nothing for blank and membership entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    pub answer: Option<Result<Answer, Refusal>>,
    /// For the log of slow requests.
    pub place: Option<Place>,
}
