//! The lock service gives a lock to whoever is the first in the queue, and to nobody whose place in it is gone (etcd 11456).

use super::Violation;
use crate::check::versions::Versions;
use crate::history::{LockCall, LockEnd, Row};

/// Finds answers that give a lock to somebody who was not the first in the queue at the revision that the answer names.
pub(super) fn lost_places(locks: &[LockCall], versions: &Versions<'_>) -> Vec<Violation> {
    let violation = |call: &LockCall| {
        let LockEnd::Ok { key, revision, .. } = &call.end else { return None };
        let (from, end) = (format!("{}/", call.name), format!("{}0", call.name));
        let queue = versions.range(&from, Some(&end), *revision);
        let first = queue.iter().min_by_key(|row| row.state.create_revision);
        let what = found(key, first, &queue)?;
        let (index, name) = (call.index, &call.name);
        let sentence =
            format!("#{index} was given {name} for its key {key} as of revision {revision}, at which {what}");
        Some(Violation { rule: "lock of a lost place", sentence, operations: vec![index] })
    };
    locks.iter().filter_map(violation).collect()
}

/// Says who has the lock, unless it is the owner of this key.
fn found(key: &str, first: Option<&Row>, queue: &[Row]) -> Option<String> {
    let is_there = queue.iter().any(|row| row.key == key);
    match first {
        Some(first) if first.key == key => None,
        Some(first) if is_there => Some(format!("{} came before it", first.key)),
        Some(first) => Some(format!("it was gone, and {} had the lock", first.key)),
        None => Some("it was gone".to_owned()),
    }
}
