//! Every state that every key ever had, from the log, and what a store would answer to a request at any revision.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::witness::LogEntry;
use crate::history::{Compare, CompareTarget, KeyState, Put, Relation, Request, Response, Row};

/// The states of all keys by revision.
pub struct Versions<'a> {
    keys: BTreeMap<&'a str, BTreeMap<i64, Option<&'a KeyState>>>,
    revisions: BTreeMap<i64, Vec<&'a LogEntry>>,
}

impl<'a> Versions<'a> {
    /// Takes the log of any member; entries that are there twice count once.
    pub fn new(log: impl IntoIterator<Item = &'a LogEntry>) -> Self {
        let mut versions = Self { keys: BTreeMap::new(), revisions: BTreeMap::new() };
        for entry in log {
            let states = versions.keys.entry(&entry.key).or_default();
            if states.insert(entry.revision, entry.state.as_ref()).is_none() {
                versions.revisions.entry(entry.revision).or_default().push(entry);
            }
        }
        versions
    }

    /// Returns the changes of each revision.
    pub fn revisions(&self) -> &BTreeMap<i64, Vec<&'a LogEntry>> {
        &self.revisions
    }

    /// Returns the state of a key behind a revision.
    #[must_use]
    pub fn at(&self, key: &str, revision: i64) -> Option<&'a KeyState> {
        self.keys.get(key)?.range(..=revision).next_back().and_then(|(_, state)| *state)
    }

    /// Returns what a revision did to a key: `None` for nothing, `Some(None)` for a delete.
    #[must_use]
    pub fn change(&self, key: &str, revision: i64) -> Option<Option<&'a KeyState>> {
        self.keys.get(key)?.get(&revision).copied()
    }

    /// Returns all keys that are there behind a revision, in order.
    #[must_use]
    pub fn all(&self, revision: i64) -> Vec<Row> {
        let rows = self.keys.iter().filter_map(|(key, states)| {
            let (_, state) = states.range(..=revision).next_back()?;
            Some(Row { key: (*key).to_owned(), state: (*state)?.clone() })
        });
        rows.collect()
    }

    /// Returns the keys of a range that are there behind a revision, in order.
    #[must_use]
    pub fn range(&self, key: &str, end: Option<&str>, revision: i64) -> Vec<Row> {
        let Some(end) = end else {
            let state = self.at(key, revision).cloned();
            return state.into_iter().map(|state| Row { key: key.to_owned(), state }).collect();
        };
        if end <= key {
            return Vec::new();
        }
        let within = (Bound::Included(key), Bound::Excluded(end));
        let rows = self.keys.range::<str, _>(within).filter_map(|(key, states)| {
            let (_, state) = states.range(..=revision).next_back()?;
            Some(Row { key: (*key).to_owned(), state: (*state)?.clone() })
        });
        rows.collect()
    }
}

/// What a request does and answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    pub response: Response,
    /// State of each key that it changes; `None` is a delete.
    pub changes: BTreeMap<String, Option<KeyState>>,
}

/// Returns what a request does and answers when all revisions below `revision` have happened, and its own changes, if any, are
/// that revision.
#[must_use]
pub fn effect(versions: &Versions<'_>, request: &Request, revision: i64) -> Effect {
    let mut scene = Scene { versions, revision, changes: BTreeMap::new() };
    let response = scene.perform(request);
    Effect { response, changes: scene.changes }
}

/// A request under way.
struct Scene<'a> {
    versions: &'a Versions<'a>,
    revision: i64,
    changes: BTreeMap<String, Option<KeyState>>,
}

impl Scene<'_> {
    fn perform(&mut self, request: &Request) -> Response {
        match request {
            Request::Range(range) => {
                let rows = if range.revision > 0 {
                    self.versions.range(&range.key, range.end.as_deref(), range.revision)
                } else {
                    self.rows(&range.key, range.end.as_deref())
                };
                let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
                Response::Range { rows, count }
            }
            Request::Put(put) => self.put(put),
            Request::Delete(delete) => {
                let prev = self.rows(&delete.key, delete.end.as_deref());
                for row in &prev {
                    self.changes.insert(row.key.clone(), None);
                }
                Response::Delete { deleted: i64::try_from(prev.len()).unwrap_or(i64::MAX), prev }
            }
            Request::Txn(txn) => {
                let succeeded = txn.compares.iter().all(|compare| self.holds(compare));
                let branch = if succeeded { &txn.then } else { &txn.otherwise };
                let responses = branch.iter().map(|request| self.perform(request)).collect();
                Response::Txn { succeeded, responses }
            }
        }
    }

    fn put(&mut self, put: &Put) -> Response {
        let before = self.state(&put.key);
        let state = KeyState {
            value: put.value.clone(),
            version: before.as_ref().map_or(0, |state| state.version) + 1,
            create_revision: before.as_ref().map_or(self.revision, |state| state.create_revision),
            mod_revision: self.revision,
            lease: put.lease,
        };
        self.changes.insert(put.key.clone(), Some(state));
        let shown = before.filter(|_| put.prev_kv);
        Response::Put { prev: shown.map(|state| Row { key: put.key.clone(), state }) }
    }

    fn state(&self, key: &str) -> Option<KeyState> {
        match self.changes.get(key) {
            Some(changed) => changed.clone(),
            None => self.versions.at(key, self.revision - 1).cloned(),
        }
    }

    fn rows(&self, key: &str, end: Option<&str>) -> Vec<Row> {
        let mut rows: BTreeMap<String, KeyState> = BTreeMap::new();
        for row in self.versions.range(key, end, self.revision - 1) {
            rows.insert(row.key, row.state);
        }
        let is_within = |changed: &str| match end {
            None => changed == key,
            Some(end) => changed >= key && changed < end,
        };
        for (changed, state) in self.changes.iter().filter(|(changed, _)| is_within(changed)) {
            match state {
                Some(state) => rows.insert(changed.clone(), state.clone()),
                None => rows.remove(changed),
            };
        }
        rows.into_iter().map(|(key, state)| Row { key, state }).collect()
    }

    /// Conditions of nested transactions, too, are about the state before the outermost one (etcd chooses all branches first).
    fn holds(&self, compare: &Compare) -> bool {
        let before = self.revision - 1;
        let Some(end) = &compare.end else { return is_met(compare, self.versions.at(&compare.key, before)) };
        // It must hold for each key that is there; where none is, for one that is not (etcd's applyCompare).
        let rows = self.versions.range(&compare.key, Some(end), before);
        let states: Vec<&KeyState> = rows.iter().map(|row| &row.state).collect();
        if states.is_empty() {
            return is_met(compare, None);
        }
        states.into_iter().all(|state| is_met(compare, Some(state)))
    }
}

/// Whether a condition holds for one key.
fn is_met(compare: &Compare, state: Option<&KeyState>) -> bool {
    let number = |field: fn(&KeyState) -> i64, wanted: i64| {
        let found = state.map_or(0, field);
        is(compare.relation, &found, &wanted)
    };
    match &compare.target {
        CompareTarget::Version(wanted) => number(|state| state.version, *wanted),
        CompareTarget::CreateRevision(wanted) => number(|state| state.create_revision, *wanted),
        CompareTarget::ModRevision(wanted) => number(|state| state.mod_revision, *wanted),
        CompareTarget::Lease(wanted) => number(|state| state.lease, *wanted),
        // A key that is not there has no value: no comparison with one holds (etcd API, Compare.value).
        CompareTarget::Value(wanted) => {
            state.is_some_and(|state| is(compare.relation, state.value.as_str(), wanted.as_str()))
        }
    }
}

fn is<T: PartialOrd + ?Sized>(relation: Relation, found: &T, wanted: &T) -> bool {
    match relation {
        Relation::Equal => found == wanted,
        Relation::NotEqual => found != wanted,
        Relation::Less => found < wanted,
        Relation::Greater => found > wanted,
    }
}

#[cfg(test)]
mod naive;
#[cfg(test)]
mod tests;
