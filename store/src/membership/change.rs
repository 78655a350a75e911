//! Changes of membership and how one is decided.

use std::collections::{BTreeMap, BTreeSet};

use super::health;
use crate::raft::types::Member;

/// Learners that are meant to stay learners (etcd's default).
const LEARNERS_MAX: usize = 1;
/// Part of the leader's log that a learner must have to be promoted (etcd's rule).
const READY_PERCENT: u64 = 90;
/// Entries that a learner may lack when it is promoted by itself: about as many as travel while the promotion does.
const AUTO_PROMOTE_LAG_MAX: u64 = 1000;

/// What somebody wants changed. It names everything that was chosen at random, so that it may be decided more than once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Add {
        id: u64,
        peer_urls: Vec<String>,
        kind: Kind,
    },
    Remove {
        id: u64,
    },
    Update {
        id: u64,
        peer_urls: Vec<String>,
    },
    Promote {
        id: u64,
    },
    /// A member says who it is; the first data directory that does owns the id for ever (safety rule 4).
    Publish {
        id: u64,
        incarnation: u64,
        name: String,
        client_urls: Vec<String>,
    },
}

/// What a new member is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Learner,
    /// Added as a learner that is promoted by itself, so that no quorum ever needs a member that is not there yet.
    Voter,
}

/// Why a change is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denial {
    MemberNotFound,
    MemberExists,
    InvalidUrls,
    UrlsExist,
    NotEnoughStarted,
    Unhealthy,
    NotLearner,
    LearnerNotReady,
    TooManyLearners,
    /// The id has been removed, which is for ever.
    Removed,
    /// Another data directory owns the id.
    OtherDirectory,
}

/// What the leader knows about a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) member: Member,
    pub(crate) is_voter: bool,
    /// Whether it has answered the leader lately.
    pub(crate) is_alive: bool,
    /// Last entry that it surely has.
    pub(crate) matched: u64,
}

impl Known {
    pub(crate) fn is_started(&self) -> bool {
        self.member.incarnation != 0
    }
}

/// What a change is decided on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct View {
    /// The leader, which decides.
    pub(crate) own: u64,
    pub(crate) members: BTreeMap<u64, Known>,
    pub(crate) removed: BTreeSet<u64>,
    /// The leader's last entry.
    pub(crate) last_index: u64,
}

/// What is to be done for a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It is so already.
    Nothing,
    Insert(u64, Member),
    Replace(u64, Member),
    Drop(u64),
    Promote(u64),
    /// Another member has to lead before this one can go.
    HandOver,
}

/// Decides a change; every repetition of one that was carried out is [`Decision::Nothing`], but for a removal.
///
/// # Errors
/// Why it is refused.
pub(crate) fn decide(change: &Change, view: &View) -> Result<Decision, Denial> {
    match change {
        Change::Add { id, peer_urls, kind } => add(view, *id, peer_urls, *kind),
        Change::Remove { id } => remove(view, *id),
        Change::Update { id, peer_urls } => update(view, *id, peer_urls),
        Change::Promote { id } => promote(view, *id),
        Change::Publish { id, incarnation, name, client_urls } => {
            let published =
                Member { name: name.clone(), client_urls: client_urls.clone(), ..Member::default() };
            publish(view, *id, *incarnation, published)
        }
    }
}

fn add(view: &View, id: u64, peer_urls: &[String], kind: Kind) -> Result<Decision, Denial> {
    if view.members.get(&id).is_some_and(|known| known.member.peer_urls == peer_urls) {
        return Ok(Decision::Nothing);
    }
    health::check_add(view, kind == Kind::Voter)?;
    if view.removed.contains(&id) || view.members.contains_key(&id) {
        return Err(Denial::MemberExists);
    }
    check_unused(view, id, peer_urls)?;
    let learners = view.members.values().filter(|known| !known.is_voter && !known.member.promote).count();
    if kind == Kind::Learner && learners >= LEARNERS_MAX {
        return Err(Denial::TooManyLearners);
    }
    let promote = kind == Kind::Voter;
    Ok(Decision::Insert(id, Member { peer_urls: peer_urls.to_vec(), promote, ..Member::default() }))
}

fn remove(view: &View, id: u64) -> Result<Decision, Denial> {
    let target = view.members.get(&id).ok_or(Denial::MemberNotFound)?;
    if target.is_voter {
        health::check_remove(view, id)?;
    }
    Ok(if id == view.own { Decision::HandOver } else { Decision::Drop(id) })
}

fn update(view: &View, id: u64, peer_urls: &[String]) -> Result<Decision, Denial> {
    let known = view.members.get(&id).ok_or(Denial::MemberNotFound)?;
    check_unused(view, id, peer_urls)?;
    if known.member.peer_urls == peer_urls {
        return Ok(Decision::Nothing);
    }
    Ok(Decision::Replace(id, Member { peer_urls: peer_urls.to_vec(), ..known.member.clone() }))
}

fn promote(view: &View, id: u64) -> Result<Decision, Denial> {
    let known = view.members.get(&id).ok_or(Denial::MemberNotFound)?;
    if known.is_voter {
        return Err(Denial::NotLearner);
    }
    if !is_ready(view, known) {
        return Err(Denial::LearnerNotReady);
    }
    health::check_promote(view)?;
    Ok(Decision::Promote(id))
}

fn publish(view: &View, id: u64, incarnation: u64, published: Member) -> Result<Decision, Denial> {
    if view.removed.contains(&id) {
        return Err(Denial::Removed);
    }
    let known = view.members.get(&id).ok_or(Denial::MemberNotFound)?;
    if known.is_started() && known.member.incarnation != incarnation {
        return Err(Denial::OtherDirectory);
    }
    let member = Member { incarnation, peer_urls: known.member.peer_urls.clone(), ..published };
    let member = Member { promote: known.member.promote, ..member };
    Ok(if member == known.member { Decision::Nothing } else { Decision::Replace(id, member) })
}

/// Returns the member that is to become a voter now without being asked again.
pub(crate) fn due_promotion(view: &View) -> Option<u64> {
    let is_due = |known: &Known| {
        let is_close = view.last_index.saturating_sub(known.matched) <= AUTO_PROMOTE_LAG_MAX;
        known.member.promote && !known.is_voter && is_close && is_ready(view, known)
    };
    let due = view.members.iter().find(|(_, known)| is_due(known));
    due.map(|(id, _)| *id).filter(|_| health::check_promote(view).is_ok())
}

/// Whether a learner has nearly all of the leader's log and is there: as a voter it is needed at once.
fn is_ready(view: &View, known: &Known) -> bool {
    let enough = u128::from(view.last_index) * u128::from(READY_PERCENT);
    known.is_started() && known.is_alive && u128::from(known.matched) * 100 >= enough
}

/// Nobody else may have one of these URLs.
fn check_unused(view: &View, id: u64, peer_urls: &[String]) -> Result<(), Denial> {
    let mut others = view.members.iter().filter(|(other, _)| **other != id);
    let is_used = others.any(|(_, known)| known.member.peer_urls.iter().any(|url| peer_urls.contains(url)));
    if is_used { Err(Denial::UrlsExist) } else { Ok(()) }
}
