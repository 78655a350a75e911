//! Random programs over few keys, so that operations meet each other often. The same seed gives the same program.

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::kv::ProgressMode;
use crate::level::{Level, RaiseLevel};
use crate::mvcc::divergence::Comparison;
use crate::mvcc::{
    Alarm, AlarmKind, Command, Compare, CompareResult, CompareTarget, DeleteRange, Downgrade, GrantedLease,
    KeyRange, LeaseId, LeaseRemaining, Op, Put, Range, RangeEnd, Revision, SortOrder, SortTarget,
    TXN_OPS_MAX, Txn,
};

const KEYS: usize = 8;
const LEASES: i64 = 3;
/// Operations of one program.
const OPERATIONS_MIN: usize = 20;
const OPERATIONS_MAX: usize = 200;

/// One operation, or something that happens to the store between two of them.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Apply(Command),
    /// Ends a batch; reads and watches do it too.
    Commit,
    Range(Range),
    /// Reads the past in pieces of some rows.
    History {
        range: KeyRange,
        from: Revision,
        rows_max: usize,
    },
    /// Lists leases, with keys and times.
    Leases,
    KeepAlive(LeaseId),
    /// Lets time pass: the primary ends leases and records how long others have left, if its proposals get through.
    Wait {
        seconds: u64,
        reaches_log: bool,
    },
    /// Another member becomes the primary.
    NewPrimary,
    Watch {
        range: KeyRange,
        start: Option<Revision>,
        prev_kv: bool,
        progress: ProgressMode,
    },
    /// Takes everything that one of the watches has.
    Look(usize),
    AskProgress(usize),
    EndWatch(usize),
    Collect {
        rows_max: usize,
    },
    /// The state is read again from the rows.
    Reopen,
    /// The state comes from another member, which is this far ahead.
    Install(Vec<Command>),
}

/// Returns the program of a seed.
pub(super) fn program(seed: u64) -> Vec<Step> {
    let mut generator = Generator { rng: SmallRng::seed_from_u64(seed), halves: 2 };
    let length = generator.rng.random_range(OPERATIONS_MIN..=OPERATIONS_MAX);
    let mut steps = (0..length).map(|_| generator.step()).collect();
    add_agreements(seed, &mut steps);
    steps
}

/// Adds what changes no key: with a seed of its own, so that the programs are otherwise those that they were.
fn add_agreements(seed: u64, steps: &mut Vec<Step>) {
    let mut rng = SmallRng::seed_from_u64(!seed);
    for _ in 0..rng.random_range(0..6) {
        let command = match rng.random_range(0..4) {
            0 => Command::SetDowngrade(Some(Downgrade { target: "3.6.0".to_owned() })),
            1 => Command::SetDowngrade(None),
            _ => Command::RaiseLevel(RaiseLevel { level: Level(rng.random_range(0..4)), members: vec![1] }),
        };
        let place = rng.random_range(0..=steps.len());
        steps.insert(place, Step::Apply(command));
    }
}

/// Returns the commands of the program of a seed.
pub(crate) fn commands(seed: u64) -> Vec<Command> {
    let steps = program(seed).into_iter();
    steps.filter_map(|step| if let Step::Apply(command) = step { Some(command) } else { None }).collect()
}

struct Generator {
    rng: SmallRng,
    /// Roughly twice the revision where the store stands, for revisions near it: many a transaction changes nothing.
    halves: i64,
}

impl Generator {
    fn one_in(&mut self, chances: u32) -> bool {
        self.rng.random_ratio(1, chances)
    }

    fn up_to(&mut self, most: usize) -> usize {
        self.rng.random_range(1..=most)
    }

    fn step(&mut self) -> Step {
        match self.rng.random_range(0..200) {
            0..126 => Step::Apply(self.command()),
            126..134 => Step::Commit,
            134..150 => Step::Range(self.range()),
            150..153 => {
                Step::History { range: self.key_range(), from: self.revision(), rows_max: self.up_to(5) }
            }
            153..155 => Step::Leases,
            155..158 => Step::KeepAlive(self.lease()),
            158..162 => Step::Wait { seconds: self.rng.random_range(1..200), reaches_log: !self.one_in(4) },
            162 => Step::NewPrimary,
            163..168 => self.watch(),
            168..180 => Step::Look(self.place()),
            180..184 => Step::AskProgress(self.place()),
            184 => Step::EndWatch(self.place()),
            185..195 => Step::Collect { rows_max: self.up_to(5) },
            195..199 => Step::Reopen,
            _ => Step::Install((0..self.up_to(4)).map(|_| self.command()).collect()),
        }
    }

    fn place(&mut self) -> usize {
        self.rng.random_range(0..4)
    }

    fn watch(&mut self) -> Step {
        Step::Watch {
            range: self.key_range(),
            start: self.one_in(2).then(|| self.revision()),
            prev_kv: self.one_in(2),
            progress: if self.one_in(3) { ProgressMode::Automatic } else { ProgressMode::OnRequest },
        }
    }

    /// Two of three agree, or nobody does.
    fn comparison(&mut self) -> Comparison {
        let third = self.rng.random_range(7..9);
        let second = self.rng.random_range(6..8);
        Comparison { index: 1, voters: 3, digests: vec![(1, 7), (2, second), (3, third)] }
    }

    fn command(&mut self) -> Command {
        match self.rng.random_range(0..22) {
            0 => Command::Compact { revision: self.revision() },
            1 | 2 => Command::LeaseGrant { id: self.lease(), ttl_seconds: self.ttl_seconds() },
            3 => Command::LeaseRevoke { id: self.lease() },
            4 => Command::LeaseExpire { leases: vec![self.granted(), self.granted()] },
            5 => {
                let remaining_seconds = self.one_in(2).then_some(7);
                Command::LeaseCheckpoint {
                    leases: vec![LeaseRemaining { lease: self.granted(), remaining_seconds }],
                }
            }
            6 if self.one_in(10) => Command::AlarmRaise(self.alarm()),
            6 if self.one_in(10) => Command::CompareStates(self.comparison()),
            6 => Command::AlarmClear(self.alarm()),
            _ => {
                self.halves += 1;
                Command::Txn(self.valid_txn())
            }
        }
    }

    /// Some are long enough to be recorded.
    fn ttl_seconds(&mut self) -> i64 {
        if self.one_in(3) { self.rng.random_range(301..1000) } else { self.rng.random_range(2..100) }
    }

    fn alarm(&mut self) -> Alarm {
        let kind = if self.one_in(2) { AlarmKind::NoSpace } else { AlarmKind::Corrupt };
        Alarm { kind, member: 1 }
    }

    fn valid_txn(&mut self) -> Txn {
        loop {
            let txn = if self.one_in(2) { Txn::of(self.simple_op()) } else { self.txn(2) };
            if txn.validate(TXN_OPS_MAX).is_ok() {
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
        Revision(self.rng.random_range(1..self.halves / 2 + 3))
    }
}
