//! Whose turn it is: the rules of a contest, as transactions to send and answers to read.
//!
//! ```text
//! enter ─► first of all? ─yes─► ours
//!                │no
//!                └► look ─► wait for the deletion of the one before us ─► look …
//!                    └► our own key is gone: over
//! ```
//!
//! Waiting for the predecessor alone means that a name which becomes free wakes one waiter, not all.

use bytes::Bytes;

use crate::mvcc::{
    Compare, CompareResult, CompareTarget, DeleteRange, KeyRange, LeaseId, Op, OpResult, Put, Range,
    RangeResult, Revision, SortOrder, SortTarget, Txn, TxnResult,
};

/// What somebody who wants a name writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) prefix: Bytes,
    pub(crate) key: Bytes,
    pub(crate) lease: LeaseId,
    /// `None` for an empty value that an older entry may differ from.
    pub(crate) value: Option<Bytes>,
}

/// An entry that was written: a key of this name and create revision is a place in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) prefix: Bytes,
    pub(crate) key: Bytes,
    pub(crate) lease: LeaseId,
    /// Create revision of the key.
    pub(crate) created: Revision,
}

/// What entering found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entered {
    pub(crate) place: Place,
    /// Where the store stood after entering.
    pub(crate) revision: Revision,
    /// Whether the name was free.
    pub(crate) is_first: bool,
    /// Whether the entry stood there already, with another value than is wanted now.
    pub(crate) has_other_value: bool,
}

/// What a look at the queue says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Nobody is before us, as of this revision.
    Ours(Revision),
    /// This key is before us, and was there at this revision.
    After { key: Bytes, seen: Revision },
    /// Our own entry is gone.
    Over,
}

/// Returns where the entries for a name lie.
pub(crate) fn entries(name: &[u8]) -> Bytes {
    [name, b"/"].concat().into()
}

/// Returns the transaction that enters a contest, for whoever decides who may: it writes the own entry and reads who is first.
pub(crate) fn entering(name: &[u8], lease: LeaseId) -> Txn {
    Entry::new(name, lease, None).enter()
}

/// Returns a read of the entry that has the name.
pub(crate) fn first_entry(prefix: Bytes) -> Range {
    Range {
        limit: 1,
        sort_order: SortOrder::Ascend,
        sort_target: SortTarget::CreateRevision,
        ..Range::new(KeyRange::prefix(prefix))
    }
}

impl Entry {
    /// Returns the entry of `lease` for `name`: one per lease, so that entering twice is entering once.
    pub(crate) fn new(name: &[u8], lease: LeaseId, value: Option<Bytes>) -> Self {
        let prefix = entries(name);
        let sign = if lease.0 < 0 { "-" } else { "" };
        let suffix = format!("{sign}{:x}", lease.0.unsigned_abs());
        let key = [prefix.as_ref(), suffix.as_bytes()].concat().into();
        Self { prefix, key, lease, value }
    }

    /// Returns the transaction that enters; it may be repeated when its outcome is unknown.
    pub(crate) fn enter(&self) -> Txn {
        let put = Put {
            key: self.key.clone(),
            value: self.value.clone().unwrap_or_default(),
            lease: self.lease,
            ..Put::default()
        };
        let first = || Op::Range(first_entry(self.prefix.clone()));
        Txn {
            compare: vec![created_at(&self.key, Revision(0))],
            success: vec![Op::Put(put), first()],
            failure: vec![Op::Range(Range::new(KeyRange::single(self.key.clone()))), first()],
        }
    }

    /// Reads the answer to [`Entry::enter`]; `None` for an answer of another shape.
    pub(crate) fn entered(&self, answer: &TxnResult) -> Option<Entered> {
        let [own, OpResult::Range(first)] = answer.results.as_slice() else { return None };
        let (created, has_other_value) = match own {
            OpResult::Put { prev: _ } => (answer.revision, false),
            OpResult::Range(found) => {
                let own = found.kvs.first()?;
                (own.create_revision, self.value.as_ref().is_some_and(|value| own.value != *value))
            }
            OpResult::DeleteRange { .. } | OpResult::Txn(_) => return None,
        };
        let Self { prefix, key, lease, value: _ } = self.clone();
        let is_first = first.kvs.first().is_some_and(|first| first.key == key);
        let place = Place { prefix, key, lease, created };
        Some(Entered { place, revision: answer.revision, is_first, has_other_value })
    }
}

impl Place {
    /// Returns a read of our own entry and the one before it, newest first.
    pub(crate) fn look(&self) -> Range {
        Range {
            limit: 2,
            keys_only: true,
            sort_order: SortOrder::Descend,
            sort_target: SortTarget::CreateRevision,
            max_create_revision: self.created.0,
            ..Range::new(KeyRange::prefix(self.prefix.clone()))
        }
    }

    /// Reads the answer to [`Place::look`]. Our own entry is looked for each time: a lease that ended while we waited has taken
    /// it away, and who comes next may have the name already.
    pub(crate) fn turn(&self, found: &RangeResult) -> Turn {
        let mut kvs = found.kvs.iter();
        let own = kvs.next().filter(|own| own.key == self.key && own.create_revision == self.created);
        match (own, kvs.next()) {
            (None, _) => Turn::Over,
            (Some(_), None) => Turn::Ours(found.revision),
            (Some(_), Some(before)) => Turn::After { key: before.key.clone(), seen: found.revision },
        }
    }

    /// Returns the transaction that gives the place up; it may be repeated.
    pub(crate) fn leave(&self) -> Txn {
        let range = KeyRange::single(self.key.clone());
        Txn {
            compare: vec![created_at(&self.key, self.created)],
            success: vec![Op::DeleteRange(DeleteRange { range, prev_kv: false })],
            failure: Vec::new(),
        }
    }

    /// Returns the transaction that changes the value, while the place is still ours.
    pub(crate) fn proclaim(&self, value: Bytes) -> Txn {
        let put = Put { key: self.key.clone(), value, lease: self.lease, ..Put::default() };
        Txn {
            compare: vec![created_at(&self.key, self.created)],
            success: vec![Op::Put(put)],
            failure: Vec::new(),
        }
    }
}

fn created_at(key: &Bytes, revision: Revision) -> Compare {
    Compare {
        range: KeyRange::single(key.clone()),
        target: CompareTarget::CreateRevision(revision),
        result: CompareResult::Equal,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::engine::MemoryEngine;
    use crate::mvcc::{Answer, Command, Store};

    #[test]
    fn keys_are_named_as_etcd_names_them() {
        let key = |lease: i64| Entry::new(b"lk", LeaseId(lease), None).key;
        assert_eq!(key(7000), "lk/1b58");
        assert_eq!(key(-16), "lk/-10");
        assert_eq!(Entry::new(b"", LeaseId(1), None).key, "/1");
    }

    /// A contest over the real store, one step at a time.
    struct Contest {
        store: Store,
        places: BTreeMap<i64, Place>,
    }

    const LEASES: i64 = 6;

    impl Contest {
        fn new() -> Self {
            let mut contest =
                Self { store: Store::open(Arc::new(MemoryEngine::new())).unwrap(), places: BTreeMap::new() };
            (1..=LEASES).for_each(|lease| contest.grant(lease));
            contest
        }

        fn apply(&mut self, command: &Command) -> Answer {
            let answer = self.store.apply(command).unwrap().answer.unwrap();
            self.store.commit().unwrap();
            answer
        }

        fn grant(&mut self, lease: i64) {
            self.apply(&Command::LeaseGrant { id: LeaseId(lease), ttl_seconds: 60 });
        }

        fn txn(&mut self, txn: Txn) -> TxnResult {
            match self.apply(&Command::Txn(txn)) {
                Answer::Txn(answer) => answer,
                other => panic!("{other:?}"),
            }
        }

        fn enter(&mut self, lease: i64) -> Entered {
            let entry = Entry::new(b"lk", LeaseId(lease), None);
            let answer = self.txn(entry.enter());
            let entered = entry.entered(&answer).unwrap();
            self.places.insert(lease, entered.place.clone());
            entered
        }

        /// Gives the place up; returns whether it was still there.
        fn leave(&mut self, lease: i64) -> bool {
            let place = self.places[&lease].clone();
            self.txn(place.leave()).succeeded
        }

        fn expire(&mut self, lease: i64) {
            self.apply(&Command::LeaseRevoke { id: LeaseId(lease) });
            self.grant(lease);
        }

        fn turn(&self, lease: i64) -> Turn {
            let place = &self.places[&lease];
            place.turn(&self.store.range(&place.look()).unwrap().unwrap())
        }
    }

    #[test]
    fn entering_twice_is_entering_once() {
        let mut contest = Contest::new();
        let (first, second) = (contest.enter(1), contest.enter(1));
        assert_eq!(first, second);
        assert!(first.is_first);
        assert!(!contest.enter(2).is_first);
    }

    #[test]
    fn a_new_entry_of_the_same_lease_is_another_place() {
        let mut contest = Contest::new();
        let old = contest.enter(1).place;
        contest.expire(1);
        contest.enter(2);
        let new = contest.enter(1).place;
        assert_ne!(old.created, new.created);
        assert!(!contest.txn(old.leave()).succeeded, "the new entry is not the old one's to remove");
        assert!(!contest.txn(old.proclaim(Bytes::from_static(b"v"))).succeeded);
        assert_eq!(old.turn(&contest.store.range(&old.look()).unwrap().unwrap()), Turn::Over);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Enter(i64),
        Leave(i64),
        Expire(i64),
    }

    fn step() -> impl Strategy<Value = Step> {
        (0..4, 1..=LEASES).prop_map(|(kind, lease)| match kind {
            0 | 1 => Step::Enter(lease),
            2 => Step::Leave(lease),
            _ => Step::Expire(lease),
        })
    }

    proptest! {
        /// Against a plain queue: exactly the head has the name, and every other waits for its neighbour.
        #[test]
        fn the_head_of_the_queue_has_the_name(steps in proptest::collection::vec(step(), 0..40)) {
            let mut contest = Contest::new();
            let mut queue: Vec<i64> = Vec::new();
            for step in steps {
                match step {
                    Step::Enter(lease) => {
                        let entered = contest.enter(lease);
                        if !queue.contains(&lease) {
                            queue.push(lease);
                        }
                        prop_assert_eq!(entered.is_first, queue[0] == lease);
                    }
                    Step::Leave(lease) if contest.places.contains_key(&lease) => {
                        prop_assert_eq!(contest.leave(lease), queue.contains(&lease));
                        queue.retain(|&other| other != lease);
                    }
                    Step::Leave(_) => {}
                    Step::Expire(lease) => {
                        contest.expire(lease);
                        queue.retain(|&other| other != lease);
                    }
                }
                for &lease in contest.places.keys() {
                    let position = queue.iter().position(|&other| other == lease);
                    match (position, contest.turn(lease)) {
                        (Some(0), Turn::Ours(_)) | (None, Turn::Over) => {}
                        (Some(position), Turn::After { key, .. }) if position > 0 => {
                            prop_assert_eq!(&key, &contest.places[&queue[position - 1]].key);
                        }
                        (position, turn) => prop_assert!(false, "{} at {:?}: {:?}", lease, position, turn),
                    }
                }
            }
        }
    }
}
