//! Who held a lock, and until when for certain: nobody may take it before.

use std::collections::BTreeMap;

use super::Violation;
use crate::check::clocks::Clocks;
use crate::history::{
    Compare, CompareTarget, Exchange, ExchangeEnd, Function, LeaseCall, LeaseEnd, LockCall, LockEnd, Put,
    Relation, Request, Response, UnlockCall,
};

const NS_PER_S: u64 = 1_000_000_000;

/// A lock that was taken.
struct Taken<'a> {
    index: u64,
    key: &'a str,
    invoked_at: u64,
    returned_at: u64,
    /// The lease may have ended from then on.
    held_until: u64,
}

impl Taken<'_> {
    /// Whether this one may have been taken, held and lost before the other was taken.
    fn may_come_before(&self, other: &Self) -> bool {
        self.invoked_at.max(self.held_until) <= other.returned_at
    }
}

/// What clients asked of locks and their leases.
pub(super) struct Asked<'a> {
    pub(super) exchanges: &'a [Exchange],
    pub(super) locks: &'a [LockCall],
    pub(super) unlocks: &'a [UnlockCall],
    pub(super) leases: &'a [LeaseCall],
}

/// Finds locks that were taken while somebody held them.
pub(super) fn twice(asked: &Asked<'_>, clocks: &Clocks) -> Vec<Violation> {
    let ends = earliest_ends(asked.leases, clocks);
    let mut by_key = created(asked.exchanges, &ends);
    // Whoever may take the key away by hand ends a hold at any time.
    by_key.retain(|key, _| !asked.exchanges.iter().any(|exchange| changes_by_hand(exchange, key)));
    let by_name = served(asked.locks, asked.unlocks, &ends);
    by_key.into_values().chain(by_name.into_values()).flat_map(overlaps).collect()
}

/// Locks that are keys which one can create, each with who took it.
fn created<'a>(exchanges: &'a [Exchange], ends: &BTreeMap<i64, u64>) -> BTreeMap<&'a str, Vec<Taken<'a>>> {
    let mut by_key: BTreeMap<&str, Vec<Taken<'_>>> = BTreeMap::new();
    for exchange in exchanges {
        let Some((put, returned_at)) = taking(exchange) else { continue };
        let held_until = ends.get(&put.lease).copied().unwrap_or(0);
        let (index, key, invoked_at) = (exchange.index, put.key.as_str(), exchange.invoked_at);
        by_key.entry(key).or_default().push(Taken { index, key, invoked_at, returned_at, held_until });
    }
    by_key
}

/// Locks of the lock service's, each with who took it.
fn served<'a>(
    locks: &'a [LockCall],
    unlocks: &[UnlockCall],
    ends: &BTreeMap<i64, u64>,
) -> BTreeMap<&'a str, Vec<Taken<'a>>> {
    let mut by_name: BTreeMap<&str, Vec<Taken<'_>>> = BTreeMap::new();
    for call in locks {
        let LockEnd::Ok { key: own, returned_at, .. } = &call.end else { continue };
        let given_back = unlocks.iter().filter(|unlock| unlock.may_be_done && unlock.key == *own);
        let lease_ends = ends.get(&call.lease).copied().unwrap_or(0);
        let held_until = given_back.map(|unlock| unlock.invoked_at).fold(lease_ends, u64::min);
        let (index, key, invoked_at) = (call.index, call.name.as_str(), call.invoked_at);
        let taken = Taken { index, key, invoked_at, returned_at: *returned_at, held_until };
        by_name.entry(key).or_default().push(taken);
    }
    by_name
}

/// Finds pairs of which neither may have come before the other.
fn overlaps(mut taken: Vec<Taken<'_>>) -> Vec<Violation> {
    taken.sort_by_key(|taken| taken.returned_at);
    let mut violations = Vec::new();
    for (place, one) in taken.iter().enumerate() {
        let others = taken.iter().skip(place + 1).take_while(|other| !one.may_come_before(other));
        violations.extend(others.filter(|other| !other.may_come_before(one)).map(|other| Violation {
            rule: "lock held twice",
            sentence: format!(
                "#{} and #{} both took {}, though neither could have lost it when the other took it",
                one.index, other.index, one.key
            ),
            operations: vec![one.index, other.index],
        }));
    }
    violations
}

/// Returns what a request took, and when it was answered.
fn taking(exchange: &Exchange) -> Option<(&Put, u64)> {
    let Request::Txn(txn) = &exchange.request else { return None };
    let ExchangeEnd::Ok { response: Response::Txn { succeeded: true, .. }, returned_at, .. } = &exchange.end
    else {
        return None;
    };
    let puts = txn.then.iter().flat_map(Request::puts);
    let mut leased = puts.filter(|put| put.lease != 0);
    let put = leased.find(|put| txn.compares.iter().any(|compare| is_absence(compare, &put.key)))?;
    Some((put, *returned_at))
}

fn is_absence(compare: &Compare, key: &str) -> bool {
    let is_none = match &compare.target {
        CompareTarget::Version(wanted)
        | CompareTarget::CreateRevision(wanted)
        | CompareTarget::ModRevision(wanted) => *wanted == 0,
        CompareTarget::Value(_) | CompareTarget::Lease(_) => false,
    };
    is_none && compare.key == key && compare.end.is_none() && compare.relation == Relation::Equal
}

/// Whether a request may take a key away, or put something else there, without having taken the lock.
fn changes_by_hand(exchange: &Exchange, key: &str) -> bool {
    let puts = || exchange.request.puts().iter().any(|put| put.key == key);
    let takes = match &exchange.request {
        Request::Txn(txn) => txn.compares.iter().any(|compare| is_absence(compare, key)),
        Request::Range(_) | Request::Put(_) | Request::Delete(_) => false,
    };
    exchange.may_write() && !takes && (exchange.request.deletes(key) || puts())
}

/// When each lease may have ended at the earliest: it lives for as long as the answer to its grant said, counted from when that
/// was asked for and by the fastest clock, unless somebody ends it.
fn earliest_ends(calls: &[LeaseCall], clocks: &Clocks) -> BTreeMap<i64, u64> {
    let mut ends = BTreeMap::new();
    for call in calls.iter().filter(|call| call.f == Function::LeaseGrant) {
        if let LeaseEnd::Ok { answer, .. } = &call.end {
            let lives = u64::try_from(answer.ttl).unwrap_or(0).saturating_mul(NS_PER_S);
            ends.insert(answer.id, clocks.earliest(call.invoked_at, lives));
        }
    }
    for call in calls.iter().filter(|call| call.f == Function::LeaseRevoke && call.end != LeaseEnd::Fail) {
        if let Some(end) = ends.get_mut(&call.id) {
            *end = call.invoked_at.min(*end);
        }
    }
    ends
}
