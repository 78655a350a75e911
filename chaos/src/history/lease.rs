//! Calls to the lease service.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::paired::paired;
use super::{Event, EventKind, Function};

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
    let of_leases = |event: &&Event| {
        matches!(
            event.f,
            Function::LeaseGrant | Function::KeepAlive | Function::LeaseRevoke | Function::TimeToLive
        )
    };
    let mut calls = Vec::new();
    for (asked, ended) in paired(events.iter().filter(of_leases))? {
        let id = asked.value.get("id").and_then(Value::as_i64).unwrap_or(0);
        let (index, f, invoked_at) = (asked.index, asked.f, asked.time);
        let mut call = LeaseCall { index, f, id, invoked_at, end: LeaseEnd::Unknown };
        if let Some(ended) = ended {
            call.end = end(ended)?;
        }
        if let LeaseEnd::Ok { answer, .. } = &call.end {
            call.id = answer.id;
        }
        calls.push(call);
    }
    Ok(calls)
}

fn end(event: &Event) -> Result<LeaseEnd, String> {
    Ok(match event.kind {
        EventKind::Info | EventKind::Invoke => LeaseEnd::Unknown,
        EventKind::Fail => LeaseEnd::Fail,
        EventKind::Ok => {
            let answer = event.carried("answer")?;
            LeaseEnd::Ok { answer, revision: event.revision()?, returned_at: event.time }
        }
    })
}
