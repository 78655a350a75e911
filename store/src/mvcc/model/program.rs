//! Random programs over few keys, so that commands meet each other often. The same seed gives the same program.

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::mvcc::{
    Alarm, AlarmKind, Command, Compare, CompareResult, CompareTarget, DeleteRange, GrantedLease, KeyRange,
    LeaseId, LeaseRemaining, Op, Put, Range, RangeEnd, Revision, SortOrder, SortTarget, Txn,
};

const KEYS: usize = 8;
const LEASES: i64 = 3;

pub(super) struct Program {
    rng: SmallRng,
    /// Roughly where the store stands, for revisions near it.
    writes: i64,
}

impl Program {
    pub(super) fn new(seed: u64) -> Self {
        Self { rng: SmallRng::seed_from_u64(seed), writes: 1 }
    }

    pub(super) fn length(&mut self) -> usize {
        self.rng.random_range(5..30)
    }

    pub(super) fn one_in(&mut self, chances: u32) -> bool {
        self.rng.random_ratio(1, chances)
    }

    pub(super) fn up_to(&mut self, most: usize) -> usize {
        self.rng.random_range(1..=most)
    }

    pub(super) fn batch(&mut self) -> Vec<Command> {
        (0..self.up_to(6)).map(|_| self.command()).collect()
    }

    pub(super) fn reads(&mut self, current: Revision) -> Vec<Range> {
        self.writes = current.0;
        (0..2).map(|_| self.range()).collect()
    }

    fn command(&mut self) -> Command {
        match self.rng.random_range(0..20) {
            0 => Command::Compact { revision: self.revision() },
            1 | 2 => Command::LeaseGrant { id: self.lease(), ttl_seconds: self.rng.random_range(2..100) },
            3 => Command::LeaseRevoke { id: self.lease() },
            4 => Command::LeaseExpire { leases: vec![self.granted(), self.granted()] },
            5 => {
                let remaining_seconds = self.one_in(2).then_some(7);
                Command::LeaseCheckpoint {
                    leases: vec![LeaseRemaining { lease: self.granted(), remaining_seconds }],
                }
            }
            6 if self.one_in(10) => Command::AlarmRaise(self.alarm()),
            6 => Command::AlarmClear(self.alarm()),
            _ => Command::Txn(self.valid_txn()),
        }
    }

    fn alarm(&mut self) -> Alarm {
        let kind = if self.one_in(2) { AlarmKind::NoSpace } else { AlarmKind::Corrupt };
        Alarm { kind, member: 1 }
    }

    fn valid_txn(&mut self) -> Txn {
        loop {
            let txn = if self.one_in(2) { Txn::of(self.simple_op()) } else { self.txn(2) };
            if txn.validate().is_ok() {
                return txn;
            }
        }
    }

    fn txn(&mut self, depth: u32) -> Txn {
        Txn {
            compare: (0..self.rng.random_range(0..3)).map(|_| self.compare()).collect(),
            success: (0..self.rng.random_range(0..4)).map(|_| self.op(depth)).collect(),
            failure: (0..self.rng.random_range(0..3)).map(|_| self.op(depth)).collect(),
        }
    }

    fn op(&mut self, depth: u32) -> Op {
        if depth > 0 && self.one_in(6) { Op::Txn(self.txn(depth - 1)) } else { self.simple_op() }
    }

    fn simple_op(&mut self) -> Op {
        match self.rng.random_range(0..10) {
            0..5 => Op::Put(self.put()),
            5..8 => Op::DeleteRange(DeleteRange { range: self.key_range(), prev_kv: self.one_in(2) }),
            _ => Op::Range(self.range()),
        }
    }

    fn put(&mut self) -> Put {
        let ignore_value = self.one_in(10);
        let ignore_lease = self.one_in(10);
        Put {
            key: self.key(),
            value: if ignore_value { Bytes::new() } else { self.value() },
            lease: if !ignore_lease && self.one_in(3) { self.lease() } else { LeaseId::NONE },
            prev_kv: self.one_in(2),
            ignore_value,
            ignore_lease,
        }
    }

    fn compare(&mut self) -> Compare {
        let target = match self.rng.random_range(0..6) {
            0 => CompareTarget::Version(self.rng.random_range(0..4)),
            1 => CompareTarget::CreateRevision(self.revision()),
            2 => CompareTarget::ModRevision(if self.one_in(2) { Revision(0) } else { self.revision() }),
            3 => CompareTarget::Value(self.value()),
            4 => CompareTarget::Lease(LeaseId(self.rng.random_range(0..=LEASES))),
            _ => CompareTarget::Unknown,
        };
        let result = match self.rng.random_range(0..5) {
            0 => CompareResult::Equal,
            1 => CompareResult::Greater,
            2 => CompareResult::Less,
            3 => CompareResult::NotEqual,
            _ => CompareResult::Unknown,
        };
        let range = if self.one_in(3) { self.key_range() } else { KeyRange::single(self.key()) };
        Compare { range, target, result }
    }

    fn range(&mut self) -> Range {
        let sort_order = match self.rng.random_range(0..4) {
            0 => SortOrder::Ascend,
            1 => SortOrder::Descend,
            _ => SortOrder::None,
        };
        let sort_target = match self.rng.random_range(0..8) {
            0 => SortTarget::Version,
            1 => SortTarget::CreateRevision,
            2 => SortTarget::ModRevision,
            3 => SortTarget::Value,
            _ => SortTarget::Key,
        };
        Range {
            revision: self.one_in(3).then(|| self.revision()),
            limit: if self.one_in(3) { self.rng.random_range(1..4) } else { 0 },
            keys_only: self.one_in(5),
            count_only: self.one_in(8),
            sort_order,
            sort_target,
            min_mod_revision: if self.one_in(8) { self.revision().0 } else { 0 },
            max_mod_revision: if self.one_in(8) { self.revision().0 } else { 0 },
            min_create_revision: if self.one_in(8) { self.revision().0 } else { 0 },
            max_create_revision: if self.one_in(8) { self.revision().0 } else { 0 },
            ..Range::new(self.key_range())
        }
    }

    fn key_range(&mut self) -> KeyRange {
        let start = self.key();
        let end = match self.rng.random_range(0..4) {
            0 => RangeEnd::Unbounded,
            1 => RangeEnd::Before(self.key()),
            _ => RangeEnd::Single,
        };
        KeyRange { start, end }
    }

    /// Keys that are prefixes of each other and hold edge bytes.
    fn key(&mut self) -> Bytes {
        const NAMES: [&[u8]; KEYS] = [b"a", b"a\0", b"aa", b"ab", b"b", b"b\xff", b"c", b"\xff"];
        Bytes::from_static(NAMES[self.rng.random_range(0..KEYS)])
    }

    fn value(&mut self) -> Bytes {
        const VALUES: [&[u8]; 4] = [b"", b"x", b"y", b"\0z"];
        Bytes::from_static(VALUES[self.rng.random_range(0..VALUES.len())])
    }

    fn lease(&mut self) -> LeaseId {
        LeaseId(self.rng.random_range(1..=LEASES))
    }

    fn granted(&mut self) -> GrantedLease {
        GrantedLease { id: self.lease(), grant: self.rng.random_range(1..6) }
    }

    fn revision(&mut self) -> Revision {
        Revision(self.rng.random_range(1..self.writes + 3))
    }
}
