//! Leases: none ends early, all end, and all keys of one go together.
//!
//! | rule | what must hold |
//! |---|---|
//! | ended early | a lease that was granted or renewed lives for as long as the answer said, counted from when it was asked and by the fastest clock |
//! | ended in parts | the end of a lease is one revision that deletes all its keys |
//! | outlived its end | behind its end, or a revoke that was acknowledged, no key of the lease is there |
//! | never ended | on a healed cluster a lease ends within twice its time and a few seconds: a new leader may begin it anew |
//!
//! When a lease ended is known by the first answer that shows the revision: it was not later. What a client may have deleted itself, or the
//! lock service for it, is no end. So every finding is a proof.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::clocks::Clocks;
use super::opinions::Opinion;
use super::versions::Versions;
use super::witness::LogEntry;
use super::{Record, Violation};
use crate::history::{
    Event, Exchange, ExchangeEnd, Function, LeaseCall, LeaseEnd, Request, Response, exchanges, lease_calls,
    left_queues, lock_calls, unlock_calls,
};

/// Name of the checker.
pub const NAME: &str = "lease";

/// What a healed cluster may need beyond twice the time of a lease.
pub const END_SLACK: Duration = Duration::from_secs(5);

/// Violations reported before the checker stops telling.
const VIOLATIONS_MAX: usize = 20;

const NS_PER_S: u64 = 1_000_000_000;

/// One lease.
#[derive(Default)]
struct Lease<'a> {
    /// Grants and renewals, with the time that the answer gave, in nanoseconds.
    given: Vec<(&'a LeaseCall, u64)>,
    /// When it may have been renewed last.
    last_given_at: u64,
    revokes: Vec<&'a LeaseCall>,
    longest: u64,
}

/// Says what it thinks of the leases of a run. It needs a log.
pub(super) fn opinion(record: &Record) -> Result<Option<Opinion>, String> {
    let calls = lease_calls(&record.events)?;
    let leases = collect(&calls);
    if record.logs.is_empty() || leases.is_empty() {
        return Ok(None);
    }
    let exchanges = exchanges(&record.events)?;
    let versions = record.versions();
    let mut violations = Vec::new();
    let (known, clocks) = (KnownBy::new(&exchanges), Clocks::of(&record.events));
    let left_queues = left_queues(&lock_calls(&record.events)?, &unlock_calls(&record.events)?);
    let ends = ends(&versions, (&exchanges, &left_queues), &known, &mut violations);
    for end in &ends {
        early(end, &leases, (&known, &clocks), &mut violations);
    }
    revoked(&leases, &versions, &mut violations);
    used_again(&ends, &leases, &versions, &mut violations);
    never_ended(&leases, &exchanges, healed_at(&record.events), &mut violations);
    violations.truncate(VIOLATIONS_MAX);
    let renewals: usize = leases.values().map(|lease| lease.given.len()).sum();
    let counts = [("leases", leases.len()), ("renewals", renewals), ("ended_with_keys", ends.len())];
    Ok(Some(Opinion {
        checker: NAME,
        scope: format!(
            "{} leases, {renewals} grants and renewals, {} ends with keys",
            leases.len(),
            ends.len()
        ),
        violations,
        unknown: Vec::new(),
        counts: BTreeMap::from(counts),
    }))
}

fn collect(calls: &[LeaseCall]) -> BTreeMap<i64, Lease<'_>> {
    let mut leases: BTreeMap<i64, Lease<'_>> = BTreeMap::new();
    for call in calls.iter().filter(|call| call.id != 0) {
        let lease = leases.entry(call.id).or_default();
        if call.f == Function::LeaseRevoke && call.end != LeaseEnd::Fail {
            lease.revokes.push(call);
        }
        if !matches!(call.f, Function::LeaseGrant | Function::KeepAlive) {
            continue;
        }
        match &call.end {
            LeaseEnd::Ok { answer, returned_at, .. } if answer.ttl > 0 => {
                let given = u64::try_from(answer.ttl).unwrap_or(0).saturating_mul(NS_PER_S);
                lease.given.push((call, given));
                lease.longest = lease.longest.max(given);
                lease.last_given_at = lease.last_given_at.max(*returned_at);
            }
            // It may be renewed yet, as long as the member has the request.
            LeaseEnd::Unknown => {
                lease.last_given_at = lease.last_given_at.max(call.invoked_at.saturating_add(2 * NS_PER_S));
            }
            LeaseEnd::Ok { .. } | LeaseEnd::Fail => {}
        }
    }
    leases
}

/// The end of a lease that held keys.
struct End {
    lease: i64,
    revision: i64,
    keys: usize,
}

/// Finds the ends of leases in the log: each deletes everything that the lease held.
fn ends(
    versions: &Versions<'_>,
    (exchanges, left_queues): (&[Exchange], &BTreeSet<String>),
    known: &KnownBy<'_>,
    violations: &mut Vec<Violation>,
) -> Vec<End> {
    let is_delete = |exchange: &&Exchange| exchange.may_write() && exchange.request.may_delete();
    let deletes: Vec<&Exchange> = exchanges.iter().filter(is_delete).collect();
    let mut held: BTreeMap<i64, BTreeSet<&str>> = BTreeMap::new();
    let mut ends = Vec::new();
    for (revision, entries) in versions.revisions() {
        let mut gone: BTreeMap<i64, usize> = BTreeMap::new();
        for entry in entries {
            let before = versions.at(&entry.key, revision - 1).map_or(0, |state| state.lease);
            if before != 0 {
                held.entry(before).or_default().remove(entry.key.as_str());
            }
            match &entry.state {
                Some(state) if state.lease != 0 => {
                    held.entry(state.lease).or_default().insert(&entry.key);
                }
                None if before != 0 => *gone.entry(before).or_default() += 1,
                Some(_) | None => {}
            }
        }
        let known_at = known.at(*revision).map_or(u64::MAX, |(at, _)| at);
        let in_time = |delete: &&&Exchange| delete.invoked_at < known_at;
        let mut candidates = deletes.iter().filter(in_time);
        let leaves_a_queue = |entry: &&LogEntry| entry.state.is_none() && left_queues.contains(&entry.key);
        if !gone.is_empty()
            && (candidates.any(|delete| may_have_made(delete, *revision, entries))
                || entries.iter().all(leaves_a_queue))
        {
            continue;
        }
        for (lease, keys) in gone {
            let left = held.get(&lease).cloned().unwrap_or_default();
            if !left.is_empty() {
                let left: Vec<&str> = left.into_iter().collect();
                violations.push(Violation {
                    rule: "lease ended in parts",
                    sentence: format!(
                        "revision {revision} deletes {keys} keys of lease {lease}, but not {}",
                        left.join(", ")
                    ),
                    operations: Vec::new(),
                });
            }
            ends.push(End { lease, revision: *revision, keys });
        }
    }
    ends
}

/// Whether a request may be what made a revision: it says so, or it is not known and deletes what is gone there.
fn may_have_made(delete: &Exchange, revision: i64, entries: &[&LogEntry]) -> bool {
    match &delete.end {
        ExchangeEnd::Ok { revision: own, .. } => *own == revision,
        ExchangeEnd::Unknown => {
            let mut gone = entries.iter().filter(|entry| entry.state.is_none());
            gone.all(|entry| delete.request.deletes(&entry.key))
        }
        ExchangeEnd::Fail { .. } => false,
    }
}

/// No key is given to a lease that has ended.
fn used_again(
    ends: &[End],
    leases: &BTreeMap<i64, Lease<'_>>,
    versions: &Versions<'_>,
    violations: &mut Vec<Violation>,
) {
    let mut ended: BTreeMap<i64, i64> = BTreeMap::new();
    // Revokes that were acknowledged have a rule of their own.
    let is_revoked =
        |lease: &Lease<'_>| lease.revokes.iter().any(|revoke| matches!(revoke.end, LeaseEnd::Ok { .. }));
    for end in ends.iter().filter(|end| !leases.get(&end.lease).is_some_and(is_revoked)) {
        ended.entry(end.lease).or_insert(end.revision);
    }
    for (revision, entry) in versions
        .revisions()
        .iter()
        .flat_map(|(revision, entries)| entries.iter().map(move |entry| (*revision, *entry)))
    {
        let Some(state) = &entry.state else { continue };
        let Some(ended_at) = ended.get(&state.lease).filter(|ended_at| revision > **ended_at) else {
            continue;
        };
        violations.push(Violation {
            rule: "lease outlived its end",
            sentence: format!(
                "lease {} ended at revision {ended_at}, but {} is given to it at {revision}",
                state.lease, entry.key
            ),
            operations: Vec::new(),
        });
    }
}

/// When a revision was known to have happened: the first answer that shows it or a later one.
struct KnownBy<'a> {
    /// By revision: the earliest return of this or any higher one.
    earliest: BTreeMap<i64, (u64, &'a Exchange)>,
}

impl<'a> KnownBy<'a> {
    fn new(exchanges: &'a [Exchange]) -> Self {
        let mut earliest: BTreeMap<i64, (u64, &Exchange)> = BTreeMap::new();
        for exchange in exchanges {
            let ExchangeEnd::Ok { revision, returned_at, .. } = &exchange.end else { continue };
            let first = earliest.entry(*revision).or_insert((*returned_at, exchange));
            if *returned_at < first.0 {
                *first = (*returned_at, exchange);
            }
        }
        let mut so_far: Option<(u64, &Exchange)> = None;
        for first in earliest.values_mut().rev() {
            match so_far {
                Some(later) if later.0 < first.0 => *first = later,
                Some(_) | None => so_far = Some(*first),
            }
        }
        Self { earliest }
    }

    fn at(&self, revision: i64) -> Option<(u64, &'a Exchange)> {
        self.earliest.range(revision..).next().map(|(_, first)| *first)
    }
}

fn early(
    end: &End,
    leases: &BTreeMap<i64, Lease<'_>>,
    (known, clocks): (&KnownBy<'_>, &Clocks),
    violations: &mut Vec<Violation>,
) {
    let (Some(lease), Some((known_at, shows))) = (leases.get(&end.lease), known.at(end.revision)) else {
        return;
    };
    // Whoever ends a lease by hand ends it when they like.
    if lease.revokes.iter().any(|revoke| revoke.invoked_at < known_at) {
        return;
    }
    for (call, given) in &lease.given {
        let ended_after = known_at.saturating_sub(call.invoked_at);
        if call.invoked_at < known_at && known_at < clocks.earliest(call.invoked_at, *given) {
            violations.push(Violation {
                rule: "lease ended early",
                sentence: format!(
                    "lease {} was given {} s by #{}, but {} ms after this was asked for, #{} shows revision {}, which deletes its {} keys",
                    end.lease,
                    given / NS_PER_S,
                    call.index,
                    ended_after / 1_000_000,
                    shows.index,
                    end.revision,
                    end.keys
                ),
                operations: vec![call.index, shows.index],
            });
            return;
        }
    }
}

/// Behind the revision of a revoke's answer, its lease holds nothing.
fn revoked(leases: &BTreeMap<i64, Lease<'_>>, versions: &Versions<'_>, violations: &mut Vec<Violation>) {
    let mut acknowledged: BTreeMap<i64, (i64, &LeaseCall)> = BTreeMap::new();
    for (id, lease) in leases {
        for revoke in &lease.revokes {
            if let LeaseEnd::Ok { revision, .. } = &revoke.end {
                acknowledged.insert(*id, (*revision, revoke));
            }
        }
    }
    let entries = versions
        .revisions()
        .iter()
        .flat_map(|(revision, entries)| entries.iter().map(move |entry| (*revision, *entry)));
    for (revision, entry) in entries {
        let Some(lease) = entry.state.as_ref().map(|state| state.lease) else { continue };
        let Some((revoked_at, revoke)) = acknowledged.get(&lease) else { continue };
        let then = versions.at(&entry.key, revision.max(*revoked_at));
        if then.is_some_and(|state| state.lease == lease) {
            violations.push(Violation {
                rule: "lease outlived its end",
                sentence: format!(
                    "lease {lease} was revoked by #{} at revision {revoked_at}, but still holds {} at {}",
                    revoke.index,
                    entry.key,
                    revision.max(*revoked_at)
                ),
                operations: vec![revoke.index],
            });
        }
    }
}

fn healed_at(events: &[Event]) -> u64 {
    let recoveries = events.iter().filter(|event| event.f == Function::Recover);
    recoveries.map(|event| event.time).max().unwrap_or(0)
}

fn never_ended(
    leases: &BTreeMap<i64, Lease<'_>>,
    exchanges: &[Exchange],
    healed_at: u64,
    violations: &mut Vec<Violation>,
) {
    let slack = u64::try_from(END_SLACK.as_nanos()).unwrap_or(u64::MAX);
    let mut told = BTreeSet::new();
    for exchange in exchanges {
        let (Request::Range(_), ExchangeEnd::Ok { response: Response::Range { rows, .. }, .. }) =
            (&exchange.request, &exchange.end)
        else {
            continue;
        };
        for row in rows {
            let Some(lease) = leases.get(&row.state.lease) else { continue };
            let from = lease.last_given_at.max(healed_at);
            let late = from.saturating_add(2 * lease.longest).saturating_add(slack);
            if exchange.invoked_at > late && told.insert(row.state.lease) {
                violations.push(Violation {
                    rule: "lease never ended",
                    sentence: format!(
                        "read #{} shows {} of lease {}, {} s after it could last be renewed; it was for {} s",
                        exchange.index,
                        row.key,
                        row.state.lease,
                        (exchange.invoked_at - from) / NS_PER_S,
                        lease.longest / NS_PER_S
                    ),
                    operations: vec![exchange.index],
                });
            }
        }
    }
}

#[cfg(test)]
mod generated;
#[cfg(test)]
mod mutations;
#[cfg(test)]
mod tests;
