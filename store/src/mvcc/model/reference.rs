//! The naive model: one full copy of the key space per revision.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::level::Level;
use crate::mvcc::divergence::Verdict;
use crate::mvcc::{
    Alarm, AlarmKind, Answer, Applied, Command, Compare, CompareResult, CompareTarget, Downgrade, Event,
    EventKind, GrantedLease, KeyRange, KeyValue, Lease, LeaseId, Op, OpResult, Range, RangeEnd, RangeResult,
    Refusal, Revision, RevisionEvents, RowId, SortOrder, SortTarget, Txn, TxnResult,
};

pub(super) type Space = BTreeMap<Bytes, KeyValue>;

pub(super) struct Reference {
    /// The key space after each revision, from revision 1 on.
    spaces: Vec<Space>,
    compacted: Revision,
    /// Without their keys, which the key space names.
    leases: BTreeMap<LeaseId, Lease>,
    grants: u64,
    alarms: BTreeSet<Alarm>,
    level: Level,
    downgrade: Option<Downgrade>,
    /// Everything that was ever published.
    published: Vec<RevisionEvents>,
}

/// Collects the steps of the path that a transaction takes.
fn steps<'t>(txn: &'t Txn, before: &Space, path: &mut Vec<&'t Op>) {
    for op in Reference::branch(txn, before).1 {
        path.push(op);
        if let Op::Txn(nested) = op {
            steps(nested, before, path);
        }
    }
}

fn inside(range: &KeyRange, key: &Bytes) -> bool {
    match &range.end {
        RangeEnd::Single => *key == range.start,
        RangeEnd::Before(end) => (&range.start..end).contains(&key),
        RangeEnd::Unbounded => *key >= range.start,
    }
}

/// A transaction under way: the space before it, the space as it goes, and what changed.
struct Doing<'a> {
    before: &'a Space,
    space: Cow<'a, Space>,
    revision: Revision,
    events: Vec<Event>,
}

impl Doing<'_> {
    fn seen(&self) -> Revision {
        if self.events.is_empty() { Revision(self.revision.0 - 1) } else { self.revision }
    }

    /// The space behind the transaction and its changes, if there are any.
    fn done(self) -> Option<(Space, Vec<Event>)> {
        (!self.events.is_empty()).then(|| (self.space.into_owned(), self.events))
    }

    fn put(&mut self, kv: KeyValue) {
        let prev = self.space.to_mut().insert(kv.key.clone(), kv.clone());
        self.events.push(Event { kind: EventKind::Put, kv, prev });
    }

    fn delete(&mut self, key: &Bytes) -> Option<KeyValue> {
        if !self.space.contains_key(key) {
            return None;
        }
        let prev = self.space.to_mut().remove(key)?;
        let kv = KeyValue { key: key.clone(), mod_revision: self.revision, ..KeyValue::default() };
        self.events.push(Event { kind: EventKind::Delete, kv, prev: Some(prev.clone()) });
        Some(prev)
    }
}

impl Reference {
    pub(super) fn new() -> Self {
        Self {
            spaces: vec![Space::new()],
            compacted: Revision(-1),
            leases: BTreeMap::new(),
            grants: 0,
            alarms: BTreeSet::new(),
            level: Level::FIRST,
            downgrade: None,
            published: Vec::new(),
        }
    }

    pub(super) fn compacted(&self) -> Revision {
        self.compacted
    }

    pub(super) fn current(&self) -> Revision {
        Revision(i64::try_from(self.spaces.len()).unwrap())
    }

    fn space_at(&self, revision: Revision) -> &Space {
        &self.spaces[usize::try_from(revision.0.max(1)).unwrap() - 1]
    }

    /// Returns the key space as it is now.
    pub(super) fn space(&self) -> &Space {
        self.space_at(self.current())
    }

    /// Returns what was published for a range, from a revision on.
    pub(super) fn published<'a>(
        &'a self,
        range: &'a KeyRange,
        from: Revision,
    ) -> impl Iterator<Item = &'a Event> {
        let start = usize::try_from(from.0.max(2) - 2).unwrap();
        let revisions = self.published.get(start..).unwrap_or_default();
        revisions.iter().flat_map(|revision| &revision.events).filter(|event| inside(range, &event.kv.key))
    }

    /// Whether a compaction has removed what a key held before an event.
    pub(super) fn is_lost(&self, prev: &KeyValue) -> bool {
        prev.mod_revision < self.compacted
            && self.space_at(self.compacted).get(&prev.key).map(|kv| kv.mod_revision)
                != Some(prev.mod_revision)
    }

    /// Returns the rows that a compaction leaves: all of its revision and behind it, and what each key held at it.
    pub(super) fn rows_kept(&self) -> BTreeSet<RowId> {
        let mut kept = BTreeSet::new();
        let mut held = BTreeMap::new();
        for RevisionEvents { revision, events } in &self.published {
            for (sub, event) in (0..).zip(events) {
                let row = RowId { main: *revision, sub };
                if *revision >= self.compacted {
                    kept.insert(row);
                }
                if *revision <= self.compacted {
                    held.insert(&event.kv.key, (row, event.kind));
                }
            }
        }
        kept.extend(held.into_values().filter(|(_, kind)| *kind == EventKind::Put).map(|(row, _)| row));
        kept
    }

    /// Returns all leases, with their keys.
    pub(super) fn leases(&self) -> impl Iterator<Item = Lease> {
        self.leases.values().map(|lease| {
            let keys = self.space().values().filter(|kv| kv.lease == lease.id);
            Lease { keys: keys.map(|kv| kv.key.clone()).collect(), ..lease.clone() }
        })
    }

    fn doing(&self) -> Doing<'_> {
        let before = self.space();
        Doing { before, space: Cow::Borrowed(before), revision: self.current().next(), events: Vec::new() }
    }

    pub(super) fn alarms(&self) -> impl Iterator<Item = Alarm> {
        self.alarms.iter().copied()
    }

    pub(super) fn downgrade(&self) -> Option<&Downgrade> {
        self.downgrade.as_ref()
    }

    pub(super) fn level(&self) -> Level {
        self.level
    }

    fn is_raised(&self, kind: AlarmKind) -> bool {
        self.alarms.iter().any(|alarm| alarm.kind == kind)
    }

    pub(super) fn apply(&mut self, command: &Command) -> Applied {
        let mut events = Vec::new();
        let frozen = match command {
            Command::Txn(txn) => !txn.is_read_only(),
            Command::LeaseCheckpoint { .. }
            | Command::AlarmRaise(_)
            | Command::AlarmClear(_)
            | Command::CompareStates(_)
            | Command::RaiseLevel(_)
            | Command::SetDowngrade(_)
            | Command::Auth(_)
            | Command::Guarded { .. } => false,
            Command::Compact { .. }
            | Command::LeaseGrant { .. }
            | Command::LeaseRevoke { .. }
            | Command::LeaseExpire { .. } => true,
        };
        let answer = match command {
            _ if frozen && self.is_raised(AlarmKind::Corrupt) => Err(Refusal::Corrupt),
            Command::Txn(txn) if txn.has_put() && self.is_raised(AlarmKind::NoSpace) => Err(Refusal::NoSpace),
            Command::LeaseGrant { .. } if self.is_raised(AlarmKind::NoSpace) => Err(Refusal::NoSpace),
            Command::Txn(txn) => self.txn(txn, &mut events).map(Answer::Txn),
            Command::Compact { revision } => self.compact(*revision),
            Command::LeaseGrant { id, ttl_seconds } => self.grant(*id, *ttl_seconds),
            Command::LeaseRevoke { id } if !self.leases.contains_key(id) => Err(Refusal::LeaseNotFound),
            Command::LeaseRevoke { id } => Ok(self.end_lease(*id, &mut events)),
            Command::LeaseExpire { leases } => {
                for lease in leases {
                    if self.is_granted(lease) {
                        self.end_lease(lease.id, &mut events);
                    }
                }
                Ok(Answer::Done)
            }
            Command::LeaseCheckpoint { leases } => {
                for checkpoint in leases {
                    if self.is_granted(&checkpoint.lease) {
                        let lease = self.leases.get_mut(&checkpoint.lease.id).unwrap();
                        lease.remaining_seconds = checkpoint.remaining_seconds;
                    }
                }
                Ok(Answer::Done)
            }
            Command::AlarmRaise(alarm) => {
                self.alarms.insert(*alarm);
                Ok(Answer::Done)
            }
            Command::AlarmClear(alarm) => Ok(Answer::AlarmCleared { was_raised: self.alarms.remove(alarm) }),
            Command::CompareStates(comparison) => {
                // Members 1 to 3, so that two that differ from one are a majority.
                if let Verdict::Unclear(members) = comparison.verdict() {
                    for member in members {
                        self.alarms.insert(Alarm { kind: AlarmKind::Corrupt, member });
                    }
                }
                Ok(Answer::Done)
            }
            Command::RaiseLevel(_) if self.downgrade.is_some() => Ok(Answer::Done),
            Command::RaiseLevel(raised) => {
                self.level = self.level.max(raised.level);
                Ok(Answer::Done)
            }
            Command::SetDowngrade(Some(_)) if self.downgrade.is_some() => Err(Refusal::DowngradeInProgress),
            Command::SetDowngrade(downgrade) => {
                self.downgrade.clone_from(downgrade);
                Ok(Answer::Done)
            }
            Command::Auth(_) | Command::Guarded { .. } => {
                unreachable!("permissions have a model of their own")
            }
        };
        self.published.extend(events.iter().cloned());
        Applied { answer, revision: self.current(), events }
    }

    fn is_granted(&self, lease: &GrantedLease) -> bool {
        self.leases.get(&lease.id).is_some_and(|found| found.grant == lease.grant)
    }

    /// Keeps what a transaction has changed.
    fn keep(&mut self, done: Option<(Space, Vec<Event>)>, events: &mut Vec<RevisionEvents>) {
        if let Some((space, changed)) = done {
            self.spaces.push(space);
            events.push(RevisionEvents { revision: self.current(), events: changed });
        }
    }

    fn compact(&mut self, revision: Revision) -> Result<Answer, Refusal> {
        if revision <= self.compacted {
            return Err(Refusal::Compacted { requested: revision, compacted: self.compacted });
        }
        if revision > self.current() {
            return Err(Refusal::FutureRevision { requested: revision, current: self.current() });
        }
        self.compacted = revision;
        Ok(Answer::Done)
    }

    fn grant(&mut self, id: LeaseId, ttl_seconds: i64) -> Result<Answer, Refusal> {
        if self.leases.contains_key(&id) {
            return Err(Refusal::LeaseExists);
        }
        self.grants += 1;
        let lease =
            Lease { id, ttl_seconds, remaining_seconds: None, grant: self.grants, keys: BTreeSet::new() };
        self.leases.insert(id, lease);
        Ok(Answer::LeaseGranted { id, ttl_seconds })
    }

    fn end_lease(&mut self, id: LeaseId, events: &mut Vec<RevisionEvents>) -> Answer {
        self.leases.remove(&id);
        let mut doing = self.doing();
        let keys: BTreeSet<Bytes> =
            doing.before.values().filter(|kv| kv.lease == id).map(|kv| kv.key.clone()).collect();
        for key in &keys {
            doing.delete(key);
        }
        let done = doing.done();
        self.keep(done, events);
        Answer::Done
    }

    fn txn(&mut self, txn: &Txn, events: &mut Vec<RevisionEvents>) -> Result<TxnResult, Refusal> {
        let mut doing = self.doing();
        self.check(txn, doing.before)?;
        let mut result = self.run(txn, &mut doing);
        let done = doing.done();
        self.keep(done, events);
        stamp(&mut result, self.current());
        Ok(result)
    }

    fn branch<'t>(txn: &'t Txn, before: &Space) -> (bool, &'t [Op]) {
        let succeeded = txn.compare.iter().all(|compare| holds(compare, before));
        (succeeded, if succeeded { &txn.success } else { &txn.failure })
    }

    fn check(&self, txn: &Txn, before: &Space) -> Result<(), Refusal> {
        let mut path = Vec::new();
        steps(txn, before, &mut path);
        for op in &path {
            if let Op::Put(put) = op {
                if (put.ignore_value || put.ignore_lease) && !before.contains_key(&put.key) {
                    return Err(Refusal::KeyNotFound);
                }
                if put.lease.0 != 0 && !self.leases.contains_key(&put.lease) {
                    return Err(Refusal::LeaseNotFound);
                }
            }
        }
        path.iter().try_for_each(|op| match op {
            Op::Range(range) => self.readable(range),
            Op::Put(_) | Op::DeleteRange(_) | Op::Txn(_) => Ok(()),
        })
    }

    fn readable(&self, range: &Range) -> Result<(), Refusal> {
        match range.revision {
            Some(requested) if requested > self.current() => {
                Err(Refusal::FutureRevision { requested, current: self.current() })
            }
            Some(requested) if requested < self.compacted => {
                Err(Refusal::Compacted { requested, compacted: self.compacted })
            }
            Some(_) | None => Ok(()),
        }
    }

    fn run(&self, txn: &Txn, doing: &mut Doing<'_>) -> TxnResult {
        let (succeeded, ops) = Self::branch(txn, doing.before);
        let results = ops.iter().map(|op| self.run_op(op, doing)).collect();
        TxnResult { succeeded, results, revision: doing.seen() }
    }

    fn run_op(&self, op: &Op, doing: &mut Doing<'_>) -> OpResult {
        match op {
            Op::Range(range) => {
                let space = range.revision.map_or(&*doing.space, |revision| self.space_at(revision));
                OpResult::Range(read(range, space, doing.seen()))
            }
            Op::Put(put) => {
                let old = doing.space.get(&put.key).cloned();
                let kept = old.clone().unwrap_or_default();
                doing.put(KeyValue {
                    key: put.key.clone(),
                    value: if put.ignore_value { kept.value } else { put.value.clone() },
                    create_revision: if old.is_some() { kept.create_revision } else { doing.revision },
                    mod_revision: doing.revision,
                    version: kept.version + 1,
                    lease: if put.ignore_lease { kept.lease } else { put.lease },
                });
                OpResult::Put { prev: old.filter(|_| put.prev_kv) }
            }
            Op::DeleteRange(delete) => {
                let keys: Vec<Bytes> =
                    doing.space.keys().filter(|key| inside(&delete.range, key)).cloned().collect();
                let deleted: Vec<KeyValue> = keys.iter().filter_map(|key| doing.delete(key)).collect();
                OpResult::DeleteRange {
                    deleted: u64::try_from(deleted.len()).unwrap(),
                    prev: if delete.prev_kv { deleted } else { Vec::new() },
                    revision: doing.seen(),
                }
            }
            Op::Txn(nested) => OpResult::Txn(self.run(nested, doing)),
        }
    }

    pub(super) fn range(&self, range: &Range) -> Result<RangeResult, Refusal> {
        self.readable(range)?;
        let space = self.space_at(range.revision.unwrap_or(self.current()));
        Ok(read(range, space, self.current()))
    }
}

/// One revision for a transaction with all its parts.
fn stamp(result: &mut TxnResult, revision: Revision) {
    result.revision = revision;
    for part in &mut result.results {
        if let OpResult::Txn(nested) = part {
            stamp(nested, revision);
        }
    }
}

fn holds(compare: &Compare, before: &Space) -> bool {
    let mut found: Vec<Option<&KeyValue>> =
        before.values().filter(|kv| inside(&compare.range, &kv.key)).map(Some).collect();
    if found.is_empty() {
        found.push(None);
    }
    found.into_iter().all(|kv| {
        let number = |read: fn(&KeyValue) -> i64| kv.map_or(0, read);
        let order = match &compare.target {
            CompareTarget::Version(given) => number(|kv| kv.version).cmp(given),
            CompareTarget::CreateRevision(given) => number(|kv| kv.create_revision.0).cmp(&given.0),
            CompareTarget::ModRevision(given) => number(|kv| kv.mod_revision.0).cmp(&given.0),
            CompareTarget::Lease(given) => number(|kv| kv.lease.0).cmp(&given.0),
            CompareTarget::Value(given) => match kv {
                Some(kv) => kv.value.cmp(given),
                None => return false,
            },
            CompareTarget::Unknown => std::cmp::Ordering::Equal,
        };
        match compare.result {
            CompareResult::Equal => order.is_eq(),
            CompareResult::Greater => order.is_gt(),
            CompareResult::Less => order.is_lt(),
            CompareResult::NotEqual => order.is_ne(),
            CompareResult::Unknown => true,
        }
    })
}

fn read(range: &Range, space: &Space, revision: Revision) -> RangeResult {
    let all: Vec<&KeyValue> = space.values().filter(|kv| inside(&range.range, &kv.key)).collect();
    let count = u64::try_from(all.len()).unwrap();
    if range.count_only {
        return RangeResult { kvs: Vec::new(), more: false, count, revision };
    }
    let within =
        |value: Revision, min: i64, max: i64| (min == 0 || value.0 >= min) && (max == 0 || value.0 <= max);
    let mut kvs: Vec<KeyValue> = all
        .into_iter()
        .filter(|kv| within(kv.mod_revision, range.min_mod_revision, range.max_mod_revision))
        .filter(|kv| within(kv.create_revision, range.min_create_revision, range.max_create_revision))
        .cloned()
        .collect();
    kvs.sort_by(|left, right| {
        let order = match range.sort_target {
            SortTarget::Key => left.key.cmp(&right.key),
            SortTarget::Version => left.version.cmp(&right.version),
            SortTarget::CreateRevision => left.create_revision.cmp(&right.create_revision),
            SortTarget::ModRevision => left.mod_revision.cmp(&right.mod_revision),
            SortTarget::Value => left.value.cmp(&right.value),
        };
        if range.sort_order == SortOrder::Descend { order.reverse() } else { order }
    });
    let limit = if range.limit == 0 { usize::MAX } else { usize::try_from(range.limit).unwrap() };
    let more = kvs.len() > limit;
    kvs.truncate(limit);
    if range.keys_only {
        for kv in &mut kvs {
            kv.value = Bytes::new();
            kv.lease = LeaseId::NONE;
        }
    }
    RangeResult { kvs, more, count, revision }
}
