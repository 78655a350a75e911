//! States and effects against a naive store, which does one request after the other and keeps a copy of everything for each revision.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{LogEntry, Versions, effect};
use crate::check::mutation::{self, Mutation, place};
use crate::history::{
    Compare, CompareTarget, Delete, KeyState, Put, Range, Relation, Request, Response, Row, Txn,
};

const PROGRAMS: u64 = 300;
const REQUESTS: u64 = 30;
const KEYS: [&str; 5] = ["a", "b", "c", "d", "e"];

type Everything = BTreeMap<String, KeyState>;

/// A store, and everything that it held at each revision from the first on.
#[derive(Clone)]
struct Naive {
    revisions: Vec<Everything>,
    log: Vec<LogEntry>,
}

/// A request under way.
struct Work {
    before: Everything,
    now: Everything,
    touched: BTreeSet<String>,
    revision: i64,
}

impl Naive {
    fn new() -> Self {
        // The first revision is that of an empty store.
        Self { revisions: vec![Everything::new()], log: Vec::new() }
    }

    fn revision(&self) -> i64 {
        i64::try_from(self.revisions.len()).unwrap()
    }

    fn at(&self, revision: i64) -> &Everything {
        &self.revisions[usize::try_from(revision - 1).unwrap()]
    }

    fn perform(&mut self, request: &Request) -> (Response, BTreeMap<String, Option<KeyState>>) {
        let before = self.at(self.revision()).clone();
        let (now, revision) = (before.clone(), self.revision() + 1);
        let mut work = Work { before, now, touched: BTreeSet::new(), revision };
        let response = work.perform(self, request);
        let changes: BTreeMap<String, Option<KeyState>> =
            work.touched.iter().map(|key| (key.clone(), work.now.get(key).cloned())).collect();
        if !changes.is_empty() {
            self.revisions.push(work.now);
            let entries = changes.iter().map(|(key, state)| (key.clone(), state.clone()));
            self.log.extend(entries.map(|(key, state)| LogEntry { revision, key, state }));
        }
        (response, changes)
    }
}

impl Work {
    fn perform(&mut self, store: &Naive, request: &Request) -> Response {
        match request {
            Request::Range(range) => {
                let from = if range.revision > 0 { store.at(range.revision) } else { &self.now };
                let rows = rows(from, &range.key, range.end.as_deref());
                let count = i64::try_from(rows.len()).unwrap();
                Response::Range { rows, count }
            }
            Request::Put(put) => {
                let old = self.now.get(&put.key).cloned();
                let mut state = KeyState {
                    value: put.value.clone(),
                    version: 1,
                    create_revision: self.revision,
                    mod_revision: self.revision,
                    lease: put.lease,
                };
                if let Some(old) = &old {
                    (state.version, state.create_revision) = (old.version + 1, old.create_revision);
                }
                self.now.insert(put.key.clone(), state);
                self.touched.insert(put.key.clone());
                let prev = old.filter(|_| put.prev_kv).map(|state| Row { key: put.key.clone(), state });
                Response::Put { prev }
            }
            Request::Delete(delete) => {
                let prev = rows(&self.now, &delete.key, delete.end.as_deref());
                for row in &prev {
                    self.now.remove(&row.key);
                    self.touched.insert(row.key.clone());
                }
                Response::Delete { deleted: i64::try_from(prev.len()).unwrap(), prev }
            }
            Request::Txn(txn) => {
                let succeeded = txn.compares.iter().all(|compare| self.holds(compare));
                let branch = if succeeded { &txn.then } else { &txn.otherwise };
                let responses = branch.iter().map(|request| self.perform(store, request)).collect();
                Response::Txn { succeeded, responses }
            }
        }
    }

    fn holds(&self, compare: &Compare) -> bool {
        let mut found = rows(&self.before, &compare.key, compare.end.as_deref());
        if found.is_empty() {
            if matches!(compare.target, CompareTarget::Value(_)) {
                return false;
            }
            let nothing =
                KeyState { value: String::new(), version: 0, create_revision: 0, mod_revision: 0, lease: 0 };
            found.push(Row { key: compare.key.clone(), state: nothing });
        }
        found.iter().all(|Row { state, .. }| {
            let order = match &compare.target {
                CompareTarget::Version(wanted) => state.version.cmp(wanted),
                CompareTarget::CreateRevision(wanted) => state.create_revision.cmp(wanted),
                CompareTarget::ModRevision(wanted) => state.mod_revision.cmp(wanted),
                CompareTarget::Value(wanted) => state.value.cmp(wanted),
                CompareTarget::Lease(wanted) => state.lease.cmp(wanted),
            };
            match compare.relation {
                Relation::Equal => order.is_eq(),
                Relation::NotEqual => order.is_ne(),
                Relation::Less => order.is_lt(),
                Relation::Greater => order.is_gt(),
            }
        })
    }
}

fn rows(from: &Everything, key: &str, end: Option<&str>) -> Vec<Row> {
    let is_within = |found: &str| end.map_or(found == key, |end| key <= found && found < end);
    let rows = from.iter().filter(|(found, _)| is_within(found));
    rows.map(|(key, state)| Row { key: key.clone(), state: state.clone() }).collect()
}

/// Draws requests that a store would take: no transaction changes a key twice.
struct Draw<'a> {
    random: &'a mut StdRng,
    free: Vec<&'static str>,
    number: u64,
    newest: i64,
}

impl Draw<'_> {
    fn key(&mut self) -> String {
        KEYS[self.random.random_range(0..KEYS.len())].to_owned()
    }

    fn free_key(&mut self) -> Option<String> {
        let count = self.free.len();
        (count > 0).then(|| self.free.swap_remove(self.random.random_range(0..count)).to_owned())
    }

    fn end(&mut self) -> Option<String> {
        self.random.random_bool(0.4).then(|| self.key())
    }

    fn request(&mut self, depth: u32) -> Option<Request> {
        let is_nested = depth > 0;
        Some(match self.random.random_range(0..6_u8) {
            0 | 1 => {
                self.number += 1;
                let (key, value) = (self.free_key()?, self.number.to_string());
                let (lease, prev_kv) = (self.random.random_range(0..3), self.random.random_bool(0.5));
                Request::Put(Put { key, value, lease, prev_kv })
            }
            2 if is_nested => Request::Delete(Delete { key: self.free_key()?, end: None }),
            2 => Request::Delete(Delete { key: self.key(), end: self.end() }),
            3 | 4 if depth < 2 => {
                let compares = (0..self.random.random_range(0..3_u8)).map(|_| self.compare()).collect();
                let mut branch = || {
                    let count = self.random.random_range(0..4_u8);
                    (0..count).filter_map(|_| self.request(depth + 1)).collect()
                };
                Request::Txn(Txn { compares, then: branch(), otherwise: branch() })
            }
            _ => {
                let is_old = self.random.random_bool(0.3);
                let revision = if is_old { self.random.random_range(1..=self.newest) } else { 0 };
                Request::Range(Range { key: self.key(), end: self.end(), revision, serializable: false })
            }
        })
    }

    fn compare(&mut self) -> Compare {
        let small = self.random.random_range(0..4);
        let target = match self.random.random_range(0..5_u8) {
            0 => CompareTarget::Version(small),
            1 => CompareTarget::CreateRevision(self.random.random_range(0..=self.newest)),
            2 => CompareTarget::ModRevision(self.random.random_range(0..=self.newest)),
            3 => CompareTarget::Value(self.random.random_range(0..=self.number).to_string()),
            _ => CompareTarget::Lease(small),
        };
        let relations = [Relation::Equal, Relation::NotEqual, Relation::Less, Relation::Greater];
        let relation = relations[self.random.random_range(0..relations.len())];
        Compare { key: self.key(), end: self.end(), target, relation }
    }
}

/// Does random requests; each is looked at before it is done, with what it answers and changes.
fn program(
    random: &mut StdRng,
    mut look: impl FnMut(&Naive, &Request, (Response, BTreeMap<String, Option<KeyState>>)),
) -> Naive {
    let mut store = Naive::new();
    let mut number = 0;
    for _ in 0..REQUESTS {
        let mut draw = Draw { random: &mut *random, free: KEYS.to_vec(), number, newest: store.revision() };
        let Some(request) = draw.request(0) else { continue };
        number = draw.number;
        let before = store.clone();
        let done = store.perform(&request);
        look(&before, &request, done);
    }
    store
}

#[test]
fn every_request_does_and_answers_what_a_naive_store_does() {
    let mut changing = 0;
    for seed in 0..PROGRAMS {
        program(&mut StdRng::seed_from_u64(seed), |before, request, (response, changes)| {
            changing += usize::from(!changes.is_empty());
            let found = effect(&Versions::new(&before.log), request, before.revision() + 1);
            assert_eq!((found.response, found.changes), (response, changes), "seed {seed}: {request:?}");
        });
    }
    assert!(changing > 1000, "{changing}");
}

/// Whether states by revision are those of the store.
fn rules(store: &Naive) -> Vec<&'static str> {
    let versions = Versions::new(&store.log);
    let is_same = |revision: i64| {
        let everything = store.at(revision);
        versions.all(revision) == rows(everything, "", Some("z"))
            && versions.range("b", Some("d"), revision) == rows(everything, "b", Some("d"))
            && KEYS.iter().all(|key| versions.at(key, revision) == everything.get(*key))
    };
    if (1..=store.revision()).all(is_same) { Vec::new() } else { vec!["another state"] }
}

const FOUND: &[&str] = &["another state"];

#[test]
fn states_are_those_of_a_naive_store_and_no_other_log_has_them() {
    let valid = |random: &mut StdRng| program(random, |_, _, _| {});
    mutation::check(
        valid,
        rules,
        &[
            Mutation {
                name: "an entry is missing",
                found_by: FOUND,
                change: |store, random| {
                    let at = place(&store.log, random, |_| true)?;
                    drop(store.log.remove(at));
                    Some(())
                },
            },
            Mutation {
                name: "a value is another",
                found_by: FOUND,
                change: |store, random| {
                    let at = place(&store.log, random, |entry| entry.state.is_some())?;
                    store.log[at].state.as_mut()?.value.push('x');
                    Some(())
                },
            },
            Mutation {
                name: "a put is a delete",
                found_by: FOUND,
                change: |store, random| {
                    let at = place(&store.log, random, |entry| entry.state.is_some())?;
                    store.log[at].state = None;
                    Some(())
                },
            },
            Mutation {
                name: "a change comes one revision too early",
                found_by: FOUND,
                change: |store, random| {
                    let at = place(&store.log, random, |_| true)?;
                    store.log[at].revision -= 1;
                    Some(())
                },
            },
        ],
    );
}
