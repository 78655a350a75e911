//! What callers ask of the store and what it answers, in the core's own types.
//!
//! Semantics are etcd v3's (API guarantees and the recorded answers in the tests). Wire types are converted to these
//! once, in `grpc/convert.rs`.

use bytes::Bytes;

use super::{LeaseId, Revision};

/// One key at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyValue {
    pub key: Bytes,
    pub value: Bytes,
    /// Revision at which the present generation of the key began.
    pub create_revision: Revision,
    /// Revision of the last write.
    pub mod_revision: Revision,
    /// Writes since the generation began, counted from 1.
    pub version: i64,
    pub lease: LeaseId,
}

/// Where a range of keys ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RangeEnd {
    /// Exactly the start key.
    Single,
    /// All keys below this one.
    Before(Bytes),
    /// All keys from the start on.
    Unbounded,
}

/// A set of neighbouring keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyRange {
    pub start: Bytes,
    pub end: RangeEnd,
}

impl KeyRange {
    /// Returns the range that holds one key.
    #[must_use]
    pub fn single(key: impl Into<Bytes>) -> Self {
        Self { start: key.into(), end: RangeEnd::Single }
    }

    fn rows_max(&self) -> usize {
        match self.end {
            RangeEnd::Single => 1,
            RangeEnd::Before(_) | RangeEnd::Unbounded => usize::MAX,
        }
    }

    /// Returns the range of all keys that begin with `prefix`.
    #[must_use]
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let start = prefix.into();
        let mut end = start.to_vec();
        while let Some(last) = end.pop() {
            if last < u8::MAX {
                end.push(last + 1);
                return Self { start, end: RangeEnd::Before(end.into()) };
            }
        }
        Self { start, end: RangeEnd::Unbounded }
    }
}

/// Order of the answers of a range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortOrder {
    #[default]
    None,
    Ascend,
    Descend,
}

/// Field that a range sorts by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortTarget {
    #[default]
    Key,
    Version,
    CreateRevision,
    ModRevision,
    Value,
}

/// A read of a key range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    pub range: KeyRange,
    /// `None` reads the newest state.
    pub revision: Option<Revision>,
    /// Most keys to return; 0 means all.
    pub limit: u64,
    pub keys_only: bool,
    pub count_only: bool,
    pub sort_order: SortOrder,
    pub sort_target: SortTarget,
    /// Inclusive bounds; 0 switches a bound off.
    pub min_mod_revision: i64,
    pub max_mod_revision: i64,
    pub min_create_revision: i64,
    pub max_create_revision: i64,
}

impl Range {
    /// Returns a plain read of the newest state of `range`.
    #[must_use]
    pub fn new(range: KeyRange) -> Self {
        Self {
            range,
            revision: None,
            limit: 0,
            keys_only: false,
            count_only: false,
            sort_order: SortOrder::None,
            sort_target: SortTarget::Key,
            min_mod_revision: 0,
            max_mod_revision: 0,
            min_create_revision: 0,
            max_create_revision: 0,
        }
    }
}

/// Answer to a [`Range`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeResult {
    pub kvs: Vec<KeyValue>,
    /// Whether `limit` cut the answer.
    pub more: bool,
    /// All keys in the range at that revision, ignoring limit and filters.
    pub count: u64,
    /// The store's current revision, also for a historic read.
    pub revision: Revision,
}

/// A write of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Put {
    pub key: Bytes,
    pub value: Bytes,
    pub lease: LeaseId,
    pub prev_kv: bool,
    pub ignore_value: bool,
    pub ignore_lease: bool,
}

/// A delete of a key range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteRange {
    pub range: KeyRange,
    pub prev_kv: bool,
}

/// How a compare relates the stored field to the given one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareResult {
    Equal,
    Greater,
    Less,
    NotEqual,
    /// A relation this version does not know; it always holds, as in etcd.
    Unknown,
}

/// The field of a key that a compare looks at, with the value to hold it against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompareTarget {
    Version(i64),
    CreateRevision(Revision),
    ModRevision(Revision),
    Value(Bytes),
    Lease(LeaseId),
    /// A field this version does not know; it counts as equal, as in etcd.
    Unknown,
}

/// One condition of a transaction; it must hold for every key of the range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    pub range: KeyRange,
    pub target: CompareTarget,
    pub result: CompareResult,
}

/// One step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    Range(Range),
    Put(Put),
    DeleteRange(DeleteRange),
    Txn(Txn),
}

/// Compare, then do one of two lists of steps, all at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    pub compare: Vec<Compare>,
    pub success: Vec<Op>,
    pub failure: Vec<Op>,
}

impl Txn {
    /// Returns a transaction of one unconditional step.
    #[must_use]
    pub fn of(op: Op) -> Self {
        Self { compare: Vec::new(), success: vec![op], failure: Vec::new() }
    }

    /// Returns whether no branch can write.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.success.iter().chain(&self.failure).all(|op| match op {
            Op::Range(_) => true,
            Op::Put(_) | Op::DeleteRange(_) => false,
            Op::Txn(txn) => txn.is_read_only(),
        })
    }

    /// Returns whether its answer may hold more rows than one.
    #[must_use]
    pub fn answers_many(&self) -> bool {
        let rows = |ops: &[Op]| {
            ops.iter().fold(0_usize, |rows, op| {
                rows.saturating_add(match op {
                    Op::Range(range) => range.range.rows_max(),
                    Op::DeleteRange(delete) if delete.prev_kv => delete.range.rows_max(),
                    Op::Put(put) => usize::from(put.prev_kv),
                    Op::DeleteRange(_) => 0,
                    Op::Txn(txn) if txn.answers_many() => usize::MAX,
                    Op::Txn(_) => 1,
                })
            })
        };
        rows(&self.success).max(rows(&self.failure)) > 1
    }

    /// Returns whether any branch puts a key.
    #[must_use]
    pub fn has_put(&self) -> bool {
        self.success.iter().chain(&self.failure).any(|op| match op {
            Op::Put(_) => true,
            Op::Range(_) | Op::DeleteRange(_) => false,
            Op::Txn(txn) => txn.has_put(),
        })
    }
}

/// Answer to one [`Op`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpResult {
    Range(RangeResult),
    Put {
        prev: Option<KeyValue>,
    },
    /// `revision` is the store's, as this step saw it.
    DeleteRange {
        deleted: u64,
        prev: Vec<KeyValue>,
        revision: Revision,
    },
    Txn(TxnResult),
}

/// Answer to a [`Txn`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnResult {
    pub succeeded: bool,
    pub results: Vec<OpResult>,
    /// The store's revision after the whole transaction, in nested answers too.
    pub revision: Revision,
}

/// Kind of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    Put,
    Delete,
}

/// One change of one key. A delete's `kv` carries only key and mod revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub kind: EventKind,
    pub kv: KeyValue,
    /// The value before, when the watcher asked for it and it is not compacted.
    pub prev: Option<KeyValue>,
}

/// All changes of one revision, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisionEvents {
    pub revision: Revision,
    pub events: Vec<Event>,
}
