//! openraft's types to and from `keelson.raft.v1`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use openraft::entry::RaftEntry;
use prost::Message;
use proto::raft as wire;

use super::types::{
    AppendRequest, AppendResponse, Entry, LogId, Member, Membership, Payload, Proposal, SnapshotMeta,
    StoredMembership, Vote, VoteRequest, VoteResponse,
};
use crate::wal;

/// A command up to this size gets memory of its own: as a slice it would keep the whole buffer that it arrived in, eight
/// kilobytes and more, for as long as the log or the index keeps it.
const COPIED_BYTES_MAX: usize = 4096;

/// A message that does not say what it must.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

impl From<Malformed> for std::io::Error {
    fn from(malformed: Malformed) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, malformed)
    }
}

pub(crate) fn log_id(id: wire::LogId) -> LogId {
    LogId::new_term_index(id.term, id.index)
}

pub(crate) fn log_id_to_wire(id: LogId) -> wire::LogId {
    wire::LogId { term: id.committed_leader_id().term, index: id.index() }
}

pub(crate) fn position(id: LogId) -> wal::LogPosition {
    wal::LogPosition { term: id.committed_leader_id().term, index: id.index() }
}

pub(crate) fn from_position(position: wal::LogPosition) -> LogId {
    LogId::new_term_index(position.term, position.index)
}

pub(crate) fn vote(vote: wire::Vote) -> Vote {
    vote_from_wal(vote.into())
}

pub(crate) fn vote_to_wire(vote: &Vote) -> wire::Vote {
    vote_to_wal(vote).into()
}

pub(crate) fn vote_from_wal(vote: wal::Vote) -> Vote {
    if vote.committed {
        Vote::new_committed(vote.term, vote.voted_for)
    } else {
        Vote::new(vote.term, vote.voted_for)
    }
}

pub(crate) fn vote_to_wal(vote: &Vote) -> wal::Vote {
    let leader = vote.leader_id();
    wal::Vote { term: leader.term, voted_for: leader.voted_for, committed: vote.is_committed() }
}

pub(crate) fn entry(entry: wire::Entry) -> Result<Entry, Malformed> {
    let id = log_id(entry.id.ok_or(Malformed("entry id"))?);
    let payload = match entry.payload.ok_or(Malformed("entry payload"))? {
        wire::entry::Payload::Blank(_) => Payload::Blank,
        wire::entry::Payload::Proposal(found) => Payload::Normal(proposal(found)),
        wire::entry::Payload::Membership(found) => Payload::Membership(membership(found)?),
    };
    Ok(Entry { log_id: id, payload })
}

pub(crate) fn entry_to_wire(entry: &Entry) -> wire::Entry {
    let payload = match &entry.payload {
        Payload::Blank => wire::entry::Payload::Blank(wire::Blank {}),
        Payload::Normal(found) => wire::entry::Payload::Proposal(proposal_to_wire(found.clone())),
        Payload::Membership(found) => wire::entry::Payload::Membership(membership_to_wire(found)),
    };
    wire::Entry { id: Some(log_id_to_wire(entry.log_id())), payload: Some(payload) }
}

pub(crate) fn entry_from_bytes(bytes: Bytes) -> Result<Entry, Malformed> {
    entry(wire::Entry::decode(bytes).map_err(|_| Malformed("entry"))?)
}

pub(crate) fn proposal(proposal: wire::Proposal) -> Proposal {
    let wire::Proposal { origin, request_id, command } = proposal;
    let command = if command.len() <= COPIED_BYTES_MAX { Bytes::copy_from_slice(&command) } else { command };
    Proposal { origin, request_id, command }
}

pub(crate) fn proposal_to_wire(proposal: Proposal) -> wire::Proposal {
    wire::Proposal { origin: proposal.origin, request_id: proposal.request_id, command: proposal.command }
}

pub(crate) fn membership(membership: wire::Membership) -> Result<Membership, Malformed> {
    let configs: Vec<BTreeSet<u64>> =
        membership.configs.into_iter().map(|set| set.ids.into_iter().collect()).collect();
    let members: BTreeMap<u64, Member> = membership.members.into_iter().map(member).collect();
    Membership::new(configs, members).map_err(|_| Malformed("membership"))
}

pub(crate) fn membership_to_wire(membership: &Membership) -> wire::Membership {
    wire::Membership {
        configs: membership
            .get_joint_config()
            .iter()
            .map(|set| wire::VoterSet { ids: set.iter().copied().collect() })
            .collect(),
        members: membership.nodes().map(|(id, member)| member_to_wire(*id, member)).collect(),
    }
}

fn member(member: wire::Member) -> (u64, Member) {
    let wire::Member { id, name, peer_urls, client_urls, incarnation, promote, replaces } = member;
    (id, Member { name, peer_urls, client_urls, incarnation, promote, replaces })
}

pub(crate) fn member_to_wire(id: u64, member: &Member) -> wire::Member {
    let Member { name, peer_urls, client_urls, incarnation, promote, replaces } = member.clone();
    wire::Member { id, name, peer_urls, client_urls, incarnation, promote, replaces }
}

pub(crate) fn stored_membership(stored: wire::StoredMembership) -> Result<StoredMembership, Malformed> {
    let found = stored.membership.map_or_else(|| Ok(Membership::default()), membership)?;
    Ok(StoredMembership::new(stored.log_id.map(log_id), found))
}

pub(crate) fn stored_membership_to_wire(stored: &StoredMembership) -> wire::StoredMembership {
    wire::StoredMembership {
        log_id: stored.log_id().map(log_id_to_wire),
        membership: Some(membership_to_wire(stored.membership())),
    }
}

pub(crate) fn snapshot_meta(meta: wire::SnapshotMeta) -> Result<SnapshotMeta, Malformed> {
    let stored = stored_membership(meta.membership.ok_or(Malformed("snapshot membership"))?)?;
    Ok(SnapshotMeta { last_log_id: meta.last.map(log_id), last_membership: stored })
}

pub(crate) fn snapshot_meta_to_wire(meta: &SnapshotMeta) -> wire::SnapshotMeta {
    wire::SnapshotMeta {
        last: meta.last_log_id.map(log_id_to_wire),
        membership: Some(stored_membership_to_wire(&meta.last_membership)),
    }
}

/// # Errors
/// When the entries do not follow each other: what lies between them would be missing from the log.
pub(crate) fn append_request(request: wire::AppendRequest) -> Result<AppendRequest, Malformed> {
    let request = AppendRequest {
        vote: vote(request.vote.ok_or(Malformed("append vote"))?),
        prev_log_id: request.previous.map(log_id),
        entries: request.entries.into_iter().map(entry).collect::<Result<_, _>>()?,
        leader_commit: request.committed.map(log_id),
    };
    if is_consecutive(&request) { Ok(request) } else { Err(Malformed("order of entries")) }
}

/// Whether each entry stands right behind the one before it, and the first behind the one that the request builds on.
pub(crate) fn is_consecutive(request: &AppendRequest) -> bool {
    let first = request.prev_log_id.map_or(0, |previous| previous.index() + 1);
    (first..).zip(&request.entries).all(|(index, entry)| entry.log_id().index() == index)
}

pub(crate) fn append_request_to_wire(request: &AppendRequest) -> wire::AppendRequest {
    wire::AppendRequest {
        vote: Some(vote_to_wire(&request.vote)),
        previous: request.prev_log_id.map(log_id_to_wire),
        entries: request.entries.iter().map(entry_to_wire).collect(),
        committed: request.leader_commit.map(log_id_to_wire),
    }
}

pub(crate) fn append_response(response: wire::AppendResponse) -> Result<AppendResponse, Malformed> {
    use wire::append_response::Result as Outcome;
    Ok(match response.result.ok_or(Malformed("append response"))? {
        Outcome::Success(_) => AppendResponse::Success,
        Outcome::Partial(stored) => AppendResponse::PartialSuccess(stored.id.map(log_id)),
        Outcome::Conflict(_) => AppendResponse::Conflict,
        Outcome::HigherVote(higher) => AppendResponse::HigherVote(vote(higher)),
    })
}

pub(crate) fn vote_request(request: wire::VoteRequest) -> Result<VoteRequest, Malformed> {
    let asked = vote(request.vote.ok_or(Malformed("vote request"))?);
    let mut found = VoteRequest::new(asked, request.last.map(log_id));
    found.leadership_transfer = request.leadership_transfer;
    Ok(found)
}

pub(crate) fn vote_request_to_wire(request: &VoteRequest, kind: VoteKind) -> wire::VoteRequest {
    wire::VoteRequest {
        vote: Some(vote_to_wire(&request.vote)),
        last: request.last_log_id.map(log_id_to_wire),
        leadership_transfer: request.leadership_transfer,
        pre_vote: kind == VoteKind::Pre,
    }
}

/// Whether a vote is asked for, or only whether it would be granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VoteKind {
    Real,
    Pre,
}

pub(crate) fn vote_response(response: wire::VoteResponse) -> Result<VoteResponse, Malformed> {
    let found = vote(response.vote.ok_or(Malformed("vote response"))?);
    Ok(VoteResponse::new(found, response.last.map(log_id), response.granted))
}

pub(crate) fn vote_response_to_wire(response: &VoteResponse) -> wire::VoteResponse {
    wire::VoteResponse {
        vote: Some(vote_to_wire(&response.vote)),
        granted: response.vote_granted,
        last: response.last_log_id.map(log_id_to_wire),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns whether a request is taken that builds on an entry and has these.
    fn is_taken(previous: Option<u64>, entries: &[u64]) -> bool {
        let entry = |index: &u64| Entry { log_id: LogId::new_term_index(1, *index), payload: Payload::Blank };
        let request = AppendRequest {
            vote: Vote::new_committed(1, 1),
            prev_log_id: previous.map(|index| LogId::new_term_index(1, index)),
            entries: entries.iter().map(entry).collect(),
            leader_commit: None,
        };
        append_request(append_request_to_wire(&request)).is_ok()
    }

    #[test]
    fn entries_that_do_not_follow_each_other_are_refused() {
        assert!(is_taken(None, &[0, 1]) && is_taken(Some(4), &[5, 6]) && is_taken(Some(4), &[]));
        for (previous, entries) in [(None, [1, 2]), (Some(4), [6, 7]), (Some(4), [5, 7]), (Some(4), [4, 5])] {
            assert!(!is_taken(previous, &entries), "{previous:?} {entries:?}");
        }
    }

    #[test]
    fn a_small_command_does_not_keep_the_buffer_that_it_came_in() {
        let message = Bytes::from(vec![7; 64 * 1024]);
        let received = |length: usize| {
            let command = message.slice(100..100 + length);
            proposal(wire::Proposal { origin: 1, request_id: 2, command }).command
        };
        let (small, large) = (received(300), received(10_000));
        assert_eq!((small.len(), large.len()), (300, 10_000));
        let is_inside = |part: &Bytes| message.as_ptr_range().contains(&part.as_ptr());
        assert!(!is_inside(&small), "it is a slice of the message");
        assert!(is_inside(&large), "copying much costs more than keeping it");
    }
}
