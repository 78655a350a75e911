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
    /// Adds a member that takes the vote of another one once it has caught up, and not earlier.
    Replace {
        id: u64,
        peer_urls: Vec<String>,
        replaced: u64,
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
    /// Somebody else is to take the member's place already.
    BeingReplaced,
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
    /// Whether the first entry of a change of two is in the log and the second is not.
    pub(crate) is_joint: bool,
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
    /// One vote goes from one member to another: the one change that moves two votes, so it takes two entries. The first one asks
    /// majorities of both sides.
    Swap {
        leaving: u64,
        coming: u64,
    },
    /// The second one: only the new side is asked from here on, and who is not on it is gone.
    Settle,
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
        Change::Replace { id, peer_urls, replaced } => replace(view, *id, peer_urls, *replaced),
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
    check_unused(view, &[id], peer_urls)?;
    let learners = view.members.values().filter(|known| !known.is_voter && !known.member.promote).count();
    if kind == Kind::Learner && learners >= LEARNERS_MAX {
        return Err(Denial::TooManyLearners);
    }
    let promote = kind == Kind::Voter;
    Ok(Decision::Insert(id, Member { peer_urls: peer_urls.to_vec(), promote, ..Member::default() }))
}

/// Who replaces a member may have its URLs: a machine whose disk was lost comes back under its address.
fn replace(view: &View, id: u64, peer_urls: &[String], replaced: u64) -> Result<Decision, Denial> {
    let is_it = |known: &Known| known.member.peer_urls == peer_urls && known.member.replaces == replaced;
    if view.members.get(&id).is_some_and(is_it) {
        return Ok(Decision::Nothing);
    }
    if view.removed.contains(&id) || view.members.contains_key(&id) {
        return Err(Denial::MemberExists);
    }
    let left = view.members.get(&replaced).ok_or(Denial::MemberNotFound)?;
    if view.members.values().any(|known| known.member.replaces == replaced) {
        return Err(Denial::BeingReplaced);
    }
    check_unused(view, &[id, replaced], peer_urls)?;
    health::check_replace(view, replaced)?;
    // Who takes the place of a learner stays one.
    let promote = left.is_voter || left.member.promote;
    let member = Member { peer_urls: peer_urls.to_vec(), promote, replaces: replaced, ..Member::default() };
    Ok(Decision::Insert(id, member))
}

fn remove(view: &View, id: u64) -> Result<Decision, Denial> {
    let target = view.members.get(&id).ok_or(Denial::MemberNotFound)?;
    if target.is_voter {
        health::check_remove(view, id)?;
    }
    Ok(drop_member(view, id))
}

fn update(view: &View, id: u64, peer_urls: &[String]) -> Result<Decision, Denial> {
    let known = view.members.get(&id).ok_or(Denial::MemberNotFound)?;
    check_unused(view, &[id, known.member.replaces], peer_urls)?;
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
    let member = Member { promote: known.member.promote, replaces: known.member.replaces, ..member };
    Ok(if member == known.member { Decision::Nothing } else { Decision::Replace(id, member) })
}

/// Returns what is to be done now without being asked again: a change of two entries is ended, and a member that was added to become
/// a voter becomes one.
pub(crate) fn due(view: &View) -> Option<Decision> {
    if view.is_joint {
        return Some(Decision::Settle);
    }
    view.members.iter().find_map(|(id, known)| due_step(view, *id, known))
}

fn due_step(view: &View, id: u64, known: &Known) -> Option<Decision> {
    let leaving = view.members.get_key_value(&known.member.replaces);
    if known.is_voter {
        // It had to come before the other one could go.
        return leaving.map(|(leaving, _)| drop_member(view, *leaving));
    }
    let is_close = view.last_index.saturating_sub(known.matched) <= AUTO_PROMOTE_LAG_MAX;
    if !is_close || !is_ready(view, known) {
        return None;
    }
    match leaving {
        Some((leaving, left)) if !left.is_voter => Some(drop_member(view, *leaving)),
        Some((leaving, _)) if health::is_only_voter(view, *leaving) => Some(Decision::Promote(id)),
        Some((leaving, _)) if *leaving == view.own => Some(Decision::HandOver),
        Some((leaving, _)) => {
            let swap = Decision::Swap { leaving: *leaving, coming: id };
            health::check_replace(view, *leaving).is_ok().then_some(swap)
        }
        None => {
            (known.member.promote && health::check_promote(view).is_ok()).then_some(Decision::Promote(id))
        }
    }
}

fn drop_member(view: &View, id: u64) -> Decision {
    if id == view.own { Decision::HandOver } else { Decision::Drop(id) }
}

/// Whether a learner has nearly all of the leader's log and is there: as a voter it is needed at once.
fn is_ready(view: &View, known: &Known) -> bool {
    let enough = u128::from(view.last_index) * u128::from(READY_PERCENT);
    known.is_started() && known.is_alive && u128::from(known.matched) * 100 >= enough
}

/// Nobody but these may have one of the URLs.
fn check_unused(view: &View, own: &[u64], peer_urls: &[String]) -> Result<(), Denial> {
    let mut others = view.members.iter().filter(|(other, _)| !own.contains(other));
    let is_used = others.any(|(_, known)| known.member.peer_urls.iter().any(|url| peer_urls.contains(url)));
    if is_used { Err(Denial::UrlsExist) } else { Ok(()) }
}
