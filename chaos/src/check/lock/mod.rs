//! Locks: under a fenced lock no acknowledged update of the list is lost.
//!
//! An update reads the list, adds an element and writes it back, all while its client holds the lock. Two who do this at the same
//! time lose one of the elements. The fenced lock must prevent it, whatever pauses. The unfenced one cannot, and is reported
//! as what it is: a canary that shows that clients did lose their lock while they held it. It says nothing about the store.

use std::collections::BTreeMap;

use super::opinions::Opinion;
use super::{Record, Violation};
use crate::history::{Exchange, ExchangeEnd, Request, Response, exchanges};

/// Name of the checker.
pub const NAME: &str = "lock";

/// Marks the lists that locks guard.
const FOLDER: &str = "locked/";

/// Violations reported before the checker stops telling.
const VIOLATIONS_MAX: usize = 20;

/// How a lock is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lock {
    Fenced,
    Unfenced,
}

impl Lock {
    /// Returns its name in keys.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fenced => "fenced",
            Self::Unfenced => "unfenced",
        }
    }
}

/// Returns the key of a list that a lock guards.
#[must_use]
pub fn list_key(prefix: &str, lock: Lock, number: u64) -> String {
    format!("{prefix}{FOLDER}{}/{number}", lock.name())
}

fn lock_of(key: &str) -> Option<Lock> {
    let (_, rest) = key.split_once(FOLDER)?;
    [Lock::Fenced, Lock::Unfenced].into_iter().find(|lock| rest.starts_with(&format!("{}/", lock.name())))
}

/// One list.
#[derive(Default)]
struct List<'a> {
    /// Acknowledged updates: the element that each added.
    updates: Vec<(&'a Exchange, String)>,
    /// The read that was invoked last, and what it shows.
    last: Option<(&'a Exchange, Vec<String>)>,
}

/// Says what it thinks of the locks of a run.
pub(super) fn opinion(record: &Record) -> Result<Option<Opinion>, String> {
    let exchanges = exchanges(&record.events)?;
    let lists = collect(&exchanges);
    let mut updates: BTreeMap<Lock, usize> = BTreeMap::new();
    let mut lost: BTreeMap<Lock, Vec<Violation>> = BTreeMap::new();
    for (key, list) in &lists {
        let Some(lock) = lock_of(key) else { continue };
        *updates.entry(lock).or_default() += list.updates.len();
        lost.entry(lock).or_default().extend(lost_updates(key, list));
    }
    let fenced = updates.get(&Lock::Fenced).copied().unwrap_or(0);
    if fenced == 0 {
        return Ok(None);
    }
    let unfenced = updates.get(&Lock::Unfenced).copied().unwrap_or(0);
    let canary = lost.get(&Lock::Unfenced).map_or(0, Vec::len);
    let mut violations = lost.remove(&Lock::Fenced).unwrap_or_default();
    violations.truncate(VIOLATIONS_MAX);
    let canary_says = if canary > 0 {
        format!("the unfenced canary lost {canary} of {unfenced}, as documented")
    } else {
        format!("the unfenced canary lost none of {unfenced}: no holder was overtaken")
    };
    Ok(Some(Opinion {
        checker: NAME,
        scope: format!("{fenced} updates under the fenced lock; {canary_says}"),
        violations,
        unknown: Vec::new(),
        counts: BTreeMap::from([("fenced", fenced), ("unfenced", unfenced), ("unfenced_lost", canary)]),
    }))
}

fn collect(exchanges: &[Exchange]) -> BTreeMap<&str, List<'_>> {
    let mut lists: BTreeMap<&str, List<'_>> = BTreeMap::new();
    for exchange in exchanges {
        let ExchangeEnd::Ok { response, .. } = &exchange.end else { continue };
        if let (Request::Range(range), Response::Range { rows, .. }) = (&exchange.request, response)
            && lock_of(&range.key).is_some()
        {
            let value = rows.first().map_or("", |row| row.state.value.as_str());
            let shown = value.split_whitespace().map(str::to_owned).collect();
            let list = lists.entry(&range.key).or_default();
            if list.last.as_ref().is_none_or(|(last, _)| last.invoked_at <= exchange.invoked_at) {
                list.last = Some((exchange, shown));
            }
        }
        let puts = exchange.request.puts().into_iter().filter(|_| response.wrote());
        for put in puts.filter(|put| lock_of(&put.key).is_some()) {
            let element = put.value.split_whitespace().last().unwrap_or_default().to_owned();
            lists.entry(&put.key).or_default().updates.push((exchange, element));
        }
    }
    lists
}

fn lost_updates(key: &str, list: &List<'_>) -> Vec<Violation> {
    let Some((last, shown)) = &list.last else { return Vec::new() };
    let before = list.updates.iter().filter(|(update, _)| match update.end {
        ExchangeEnd::Ok { returned_at, .. } => returned_at < last.invoked_at,
        ExchangeEnd::Fail { .. } | ExchangeEnd::Unknown => false,
    });
    let missing = before.filter(|(_, element)| !shown.contains(element));
    missing
        .map(|(update, element)| Violation {
            rule: "lost update under a lock",
            sentence: format!(
                "#{} added {element} to {key} while it held the lock, but read #{} does not show it",
                update.index, last.index
            ),
            operations: vec![update.index, last.index],
        })
        .collect()
}

#[cfg(test)]
mod tests;
