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
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::history::{Event, EventKind, Function, Process};

    fn request(events: &mut Vec<Event>, asked: Value, answer: Value) {
        let process = Process::Client(0);
        for (kind, value, rev) in [(EventKind::Invoke, asked, None), (EventKind::Ok, answer, Some(2))] {
            let index = u64::try_from(events.len()).unwrap();
            let (f, key, node, error) = (Function::Kv, None, None, None);
            events.push(Event { index, time: index, kind, process, f, key, value, node, rev, error });
        }
    }

    fn update(events: &mut Vec<Event>, lock: &str, list: &str) {
        let put = json!({"put": {"key": format!("locked/{lock}/0"), "value": list}});
        request(events, put, json!({"put": {"prev": null}}));
    }

    fn read(events: &mut Vec<Event>, lock: &str, list: &str) {
        let key = format!("locked/{lock}/0");
        let row = json!({"key": key, "value": list, "version": 1, "create_revision": 2, "mod_revision": 2});
        let answer = json!({"range": {"rows": [row], "count": 1}});
        request(events, json!({"range": {"key": key}}), answer);
    }

    fn judged(lost_from: &str) -> Opinion {
        let mut events = Vec::new();
        for lock in ["fenced", "unfenced"] {
            update(&mut events, lock, "1");
            read(&mut events, lock, "1");
            update(&mut events, lock, if lock == lost_from { "2" } else { "1 2" });
            read(&mut events, lock, if lock == lost_from { "2" } else { "1 2" });
        }
        opinion(&Record::of_events(events)).unwrap().unwrap()
    }

    #[test]
    fn nothing_is_lost_under_a_good_lock() {
        assert!(judged("").violations.is_empty());
    }

    #[test]
    fn a_lost_update_under_the_fenced_lock_is_a_violation() {
        assert_eq!(judged("fenced").violations[0].rule, "lost update under a lock");
    }

    #[test]
    fn the_unfenced_canary_is_told_and_no_violation() {
        let opinion = judged("unfenced");
        assert!(opinion.violations.is_empty());
        assert_eq!(opinion.counts["unfenced_lost"], 1);
        assert!(
            opinion.scope.contains("the unfenced canary lost 1 of 2, as documented"),
            "{}",
            opinion.scope
        );
    }
}
