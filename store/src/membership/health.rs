//! Whether enough members are there for a change (etcd's strict reconfiguration check). A member that is to become a voter counts as
//! one here, so that callers see etcd's answers; where our own quorum is at stake, only voters count.

use super::{Denial, Known, View};

/// Adding keeps a majority of started members, and everybody must be there.
pub(super) fn check_add(view: &View, is_voter: bool) -> Result<(), Denial> {
    let started = voting(view).filter(|known| known.is_started()).count();
    let after = voting(view).count() + 1;
    // From one member to two there is no majority of started members, yet it is how a cluster begins to grow.
    let is_first_step = started == 1 && after == 2;
    if is_voter && !is_first_step && started < quorum(after) {
        return Err(Denial::NotEnoughStarted);
    }
    if voting(view).all(|known| known.is_alive) { Ok(()) } else { Err(Denial::Unhealthy) }
}

/// Removing a voter keeps a majority of started members, and a majority of the rest that works.
pub(super) fn check_remove(view: &View, id: u64) -> Result<(), Denial> {
    let others = || view.members.iter().filter(|(other, _)| **other != id).map(|(_, known)| known);
    let rest = others().filter(|known| is_voting(known)).count();
    let started = others().filter(|known| is_voting(known) && known.is_started()).count();
    let is_last = !others().any(|known| known.is_voter);
    if is_last || started < quorum(rest) {
        return Err(Denial::NotEnoughStarted);
    }
    let left = others().filter(|known| known.is_voter).count();
    let alive = others().filter(|known| known.is_voter && known.is_alive).count();
    // A majority of those that stay must be heard of, also where the target seems to be down: a new leader may only not have heard of
    // it yet.
    if alive < quorum(left) { Err(Denial::Unhealthy) } else { Ok(()) }
}

/// Replacing takes no vote before the new member is there. With it, those that stay must be a majority, started and heard of.
pub(super) fn check_replace(view: &View, replaced: u64) -> Result<(), Denial> {
    let stay = || view.members.iter().filter(|(id, known)| **id != replaced && known.is_voter);
    // With the new one they are as many as before.
    let needed = quorum(stay().count() + 1);
    let started = stay().filter(|(_, known)| known.is_started()).count() + 1;
    if started < needed {
        return Err(Denial::NotEnoughStarted);
    }
    let alive = stay().filter(|(_, known)| known.is_alive).count() + 1;
    if alive < needed { Err(Denial::Unhealthy) } else { Ok(()) }
}

/// Whether nobody else has a vote.
pub(super) fn is_only_voter(view: &View, id: u64) -> bool {
    view.members.iter().all(|(other, known)| !known.is_voter || *other == id)
}

/// Promoting keeps a majority of started members; the promoted one is started.
pub(super) fn check_promote(view: &View) -> Result<(), Denial> {
    let voters = || view.members.values().filter(|known| known.is_voter);
    let started = voters().filter(|known| known.is_started()).count() + 1;
    if started < quorum(voters().count() + 1) { Err(Denial::NotEnoughStarted) } else { Ok(()) }
}

fn quorum(members: usize) -> usize {
    members / 2 + 1
}

fn is_voting(known: &Known) -> bool {
    known.is_voter || known.member.promote
}

fn voting(view: &View) -> impl Iterator<Item = &Known> {
    view.members.values().filter(|known| is_voting(known))
}
