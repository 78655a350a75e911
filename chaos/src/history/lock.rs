//! Calls to the lock service.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::paired::paired;
use super::{Event, EventKind, Function};

/// The key that is the caller's place in the queue for a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockAnswer {
    pub key: String,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockEnd {
    /// The lock is the caller's.
    Ok {
        key: String,
        revision: i64,
        returned_at: u64,
    },
    /// Provably did not take it.
    Fail,
    Unknown,
}

/// One call that wants a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockCall {
    /// Index of the invocation.
    pub index: u64,
    /// The lock's name.
    pub name: String,
    pub lease: i64,
    pub invoked_at: u64,
    pub end: LockEnd,
}

/// One call that gives a lock back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnlockCall {
    /// The key that was the answer of a [`LockCall`].
    pub key: String,
    pub invoked_at: u64,
    /// Whether it may have been done.
    pub may_be_done: bool,
}

impl LockCall {
    /// Returns the key that the service writes for the caller: the lock's name and the lease's id (etcd's package `concurrency`).
    #[must_use]
    pub fn entry(&self) -> String {
        format!("{}/{:x}", self.name, self.lease)
    }
}

/// Returns keys that the lock service may have removed, whatever their leases: of callers who got no lock, and of locks given back.
#[must_use]
pub fn left_queues(locks: &[LockCall], unlocks: &[UnlockCall]) -> BTreeSet<String> {
    let is_without_lock = |call: &&LockCall| !matches!(call.end, LockEnd::Ok { .. });
    let given_up = locks.iter().filter(is_without_lock).map(LockCall::entry);
    let given_back = unlocks.iter().filter(|unlock| unlock.may_be_done).map(|unlock| unlock.key.clone());
    given_up.chain(given_back).collect()
}

/// Pairs calls that want a lock with their answers.
///
/// # Errors
/// A sentence saying which event breaks the format.
pub fn lock_calls(events: &[Event]) -> Result<Vec<LockCall>, String> {
    let mut calls = Vec::new();
    for (asked, ended) in paired(events.iter().filter(|event| event.f == Function::Lock))? {
        let name = asked.key.clone().ok_or_else(|| asked.broken("a lock without a name"))?;
        let lease = asked.value.get("lease").and_then(Value::as_i64);
        let lease = lease.ok_or_else(|| asked.broken("a lock without a lease"))?;
        let end = match ended {
            None => LockEnd::Unknown,
            Some(ended) => match ended.kind {
                EventKind::Info | EventKind::Invoke => LockEnd::Unknown,
                EventKind::Fail => LockEnd::Fail,
                EventKind::Ok => {
                    let LockAnswer { key } = ended.carried("answer")?;
                    LockEnd::Ok { key, revision: ended.revision()?, returned_at: ended.time }
                }
            },
        };
        calls.push(LockCall { index: asked.index, name, lease, invoked_at: asked.time, end });
    }
    Ok(calls)
}

/// Returns the calls that give locks back.
///
/// # Errors
/// A sentence saying which event breaks the format.
pub fn unlock_calls(events: &[Event]) -> Result<Vec<UnlockCall>, String> {
    let mut calls = Vec::new();
    for (asked, ended) in paired(events.iter().filter(|event| event.f == Function::Unlock))? {
        let key = asked.key.clone().ok_or_else(|| asked.broken("an unlock without a key"))?;
        let may_be_done = ended.is_none_or(|ended| ended.kind != EventKind::Fail);
        calls.push(UnlockCall { key, invoked_at: asked.time, may_be_done });
    }
    Ok(calls)
}
