//! Who made each revision: one write, or the end of a lease.

use std::collections::BTreeMap;

use super::{Placed, Violation, name};
use crate::check::versions::{Effect, Versions, effect};
use crate::check::witness::LogEntry;
use crate::history::{Exchange, ExchangeEnd, KeyState, LockCall, LockEnd};

/// Checks that every revision has exactly one writer that changed just this, and that every acknowledged write stands in the
/// log. Returns the number of revisions at which a lease ended.
pub(super) fn check(
    placed: &[Placed<'_>],
    (exchanges, locks): (&[Exchange], &[LockCall]),
    versions: &Versions<'_>,
    violations: &mut Vec<Violation>,
) -> usize {
    let mut owners: BTreeMap<i64, &Exchange> = BTreeMap::new();
    for (exchange, revision) in placed.iter().filter(|(exchange, _)| exchange.may_write()) {
        if let Some(other) = owners.insert(*revision, exchange) {
            violations.push(Violation {
                rule: "two writes at one revision",
                sentence: format!("{} and {} both claim revision {revision}", name(other), name(exchange)),
                operations: vec![other.index, exchange.index],
            });
        }
    }
    let mut deletes = unplaced_deletes(placed, exchanges);
    let mut queueing: BTreeMap<String, &LockCall> = locks.iter().map(|call| (call.entry(), call)).collect();
    let mut leases_ended = 0;
    for (revision, entries) in versions.revisions() {
        let logged = changes(entries);
        if let Some(owner) = owners.remove(revision) {
            let Effect { changes, .. } = effect(versions, &owner.request, *revision);
            if changes != logged {
                violations.push(Violation {
                    rule: "wrong write in the log",
                    sentence: format!(
                        "revision {revision} holds {}, not what {} does",
                        listed(&logged),
                        name(owner)
                    ),
                    operations: vec![owner.index],
                });
            }
        } else if is_end_of_lease(&logged, *revision, versions) {
            leases_ended += 1;
        } else if enters_a_queue(&logged, *revision, &mut queueing) {
            // The lock service wrote it for a caller.
        } else if let Some(position) =
            deletes.iter().position(|delete| effect(versions, &delete.request, *revision).changes == logged)
        {
            deletes.remove(position);
        } else {
            violations.push(Violation {
                rule: "unowned revision",
                sentence: format!("revision {revision} holds {}, which nobody wrote", listed(&logged)),
                operations: Vec::new(),
            });
        }
    }
    for (revision, exchange) in owners {
        violations.push(Violation {
            rule: "lost write",
            sentence: format!(
                "{} was acknowledged at revision {revision}, which no log shows",
                name(exchange)
            ),
            operations: vec![exchange.index],
        });
    }
    leases_ended
}

/// Whether the lock service gave one of its callers a place in the queue. A call has one: there is one for each lease.
fn enters_a_queue(
    logged: &BTreeMap<String, Option<KeyState>>,
    revision: i64,
    queueing: &mut BTreeMap<String, &LockCall>,
) -> bool {
    let mut changes = logged.iter();
    let (Some((key, Some(state))), None) = (changes.next(), changes.next()) else { return false };
    let is_place = |call: &LockCall| {
        let (value, version) = (state.value.as_str(), state.version);
        call.end != LockEnd::Fail
            && (value, version, state.create_revision, state.lease) == ("", 1, revision, call.lease)
    };
    queueing.get(key).is_some_and(|call| is_place(call)) && queueing.remove(key).is_some()
}

/// Requests of unknown fate that put nothing by which the log would name them.
fn unplaced_deletes<'a>(placed: &[Placed<'a>], exchanges: &'a [Exchange]) -> Vec<&'a Exchange> {
    let is_placed: std::collections::BTreeSet<u64> =
        placed.iter().map(|(exchange, _)| exchange.index).collect();
    let unknown = exchanges.iter().filter(|exchange| exchange.end == ExchangeEnd::Unknown);
    unknown.filter(|exchange| exchange.may_write() && !is_placed.contains(&exchange.index)).collect()
}

fn changes(entries: &[&LogEntry]) -> BTreeMap<String, Option<KeyState>> {
    entries.iter().map(|entry| (entry.key.clone(), entry.state.clone())).collect()
}

/// Whether everything that a lease held went, and nothing else.
fn is_end_of_lease(
    logged: &BTreeMap<String, Option<KeyState>>,
    revision: i64,
    versions: &Versions<'_>,
) -> bool {
    let mut leases = logged.iter().map(|(key, state)| {
        let before = versions.at(key, revision - 1).map_or(0, |before| before.lease);
        if state.is_none() { before } else { 0 }
    });
    let Some(lease) = leases.next().filter(|lease| *lease != 0) else { return false };
    leases.all(|other| other == lease)
}

fn listed(changes: &BTreeMap<String, Option<KeyState>>) -> String {
    let all = changes.iter().map(|(key, state)| match state {
        Some(state) => format!("{:?} of {key}", state.value),
        None => format!("the delete of {key}"),
    });
    all.collect::<Vec<_>>().join(", ")
}
