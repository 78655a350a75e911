//! Calls to the lease service.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Event, EventKind, Function, Process};

/// What came back of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseAnswer {
    pub id: i64,
    /// Seconds; 0 or less for a lease that is not there.
    pub ttl: i64,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseEnd {
    Ok {
        answer: LeaseAnswer,
        revision: i64,
        returned_at: u64,
    },
    /// Provably did nothing.
    Fail,
    Unknown,
}

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseCall {
    /// Index of the invocation.
    pub index: u64,
    pub f: Function,
    /// Which lease; 0 for one that is yet to be granted.
    pub id: i64,
    pub invoked_at: u64,
    pub end: LeaseEnd,
}

/// Pairs calls to the lease service with their answers.
///
/// # Errors
/// A sentence saying which event breaks the format.
pub fn lease_calls(events: &[Event]) -> Result<Vec<LeaseCall>, String> {
    let mut open: BTreeMap<Process, LeaseCall> = BTreeMap::new();
    let mut calls = Vec::new();
    let of_leases = |event: &&Event| {
        matches!(
            event.f,
            Function::LeaseGrant | Function::KeepAlive | Function::LeaseRevoke | Function::TimeToLive
        )
    };
    for event in events.iter().filter(of_leases) {
        let broken = |what: &str| format!("event {}: {what}", event.index);
        if event.kind == EventKind::Invoke {
            let id = event.value.get("id").and_then(Value::as_i64).unwrap_or(0);
            let (index, f, invoked_at) = (event.index, event.f, event.time);
            let call = LeaseCall { index, f, id, invoked_at, end: LeaseEnd::Unknown };
            if open.insert(event.process, call).is_some() {
                return Err(broken("the process has a call to the lease service open"));
            }
            continue;
        }
        let mut call =
            open.remove(&event.process).ok_or_else(|| broken("answers a call that was not made"))?;
        call.end = match event.kind {
            EventKind::Info | EventKind::Invoke => LeaseEnd::Unknown,
            EventKind::Fail => LeaseEnd::Fail,
            EventKind::Ok => {
                let answer: LeaseAnswer = serde_json::from_value(event.value.clone())
                    .map_err(|error| broken(&format!("the answer cannot be read: {error}")))?;
                call.id = answer.id;
                let revision = event.rev.ok_or_else(|| broken("an answer without revision"))?;
                LeaseEnd::Ok { answer, revision, returned_at: event.time }
            }
        };
        calls.push(call);
    }
    calls.extend(open.into_values());
    calls.sort_by_key(|call| call.index);
    Ok(calls)
}
