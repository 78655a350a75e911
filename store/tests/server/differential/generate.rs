//! Random requests over few keys, so that they meet each other often; most are valid, some are wrong in one way. The same seed
//! gives the same requests.

use bytes::Bytes;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::range_request::{SortOrder, SortTarget};
use pb::request_op::Request as Step;
use proto::etcdserverpb as pb;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// Keys that are prefixes of each other and hold edge bytes.
const KEYS: [&[u8]; 8] = [b"a", b"a\0", b"aa", b"ab", b"b", b"b\xff", b"c", b"\xff"];
const VALUES: [&[u8]; 4] = [b"", b"x", b"yy", b"\0z"];
const LEASES: i64 = 4;
/// How far behind the present a read goes.
const PAST: i64 = 30;
/// Longer than any run.
const TTL_SECONDS: i64 = 100_000;
/// Above the limit of a request, below that of a message.
const TOO_LARGE: usize = 1_600_000;

/// One call.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    Range(pb::RangeRequest),
    Put(pb::PutRequest),
    DeleteRange(pb::DeleteRangeRequest),
    Txn(pb::TxnRequest),
    Compact(pb::CompactionRequest),
    LeaseGrant(pb::LeaseGrantRequest),
    LeaseRevoke(pb::LeaseRevokeRequest),
    LeaseTimeToLive(pb::LeaseTimeToLiveRequest),
    LeaseLeases,
    /// A watch of the past, up to the revision where the store stands.
    Watch(pb::WatchCreateRequest),
}

/// What the peer knows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dialect {
    /// 3.4 and 3.5 take any number as sort order.
    pub(crate) checks_sort: bool,
    /// 3.4 loses a delete at just the compact revision, and with it an event of a watch from there (fixed in 3.5.16).
    pub(crate) keeps_deletes_at_compaction: bool,
}

pub(crate) struct Generator {
    rng: SmallRng,
    dialect: Dialect,
    /// Where the store stands.
    revision: i64,
    compacted: i64,
    /// Whether the request has a value that is too large; two would be more than a message may be, which is the library's to refuse.
    is_large: bool,
}

impl Generator {
    pub(crate) fn new(seed: u64, dialect: Dialect) -> Self {
        Self { rng: SmallRng::seed_from_u64(seed), dialect, revision: 1, compacted: 0, is_large: false }
    }

    /// Notes what an answer said.
    pub(crate) fn note(&mut self, request: &Request, revision: Option<i64>) {
        if let Some(revision) = revision {
            self.revision = self.revision.max(revision);
            if let Request::Compact(compact) = request {
                self.compacted = self.compacted.max(compact.revision);
            }
        }
    }

    /// Returns where the store stands.
    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    pub(crate) fn next(&mut self) -> Request {
        self.is_large = false;
        match self.rng.random_range(0..100) {
            // Each takes a tenth of a second on etcd.
            0 if self.one_in(3) => Request::Watch(self.watch()),
            0..25 => Request::Range(self.range()),
            25..45 => Request::Put(self.put()),
            45..53 => Request::DeleteRange(self.delete()),
            53..80 => {
                let txn = if self.one_in(40) { self.wide_txn() } else { self.txn(2) };
                Request::Txn(txn)
            }
            80..82 => Request::Compact(self.compact()),
            82..88 => Request::LeaseGrant(pb::LeaseGrantRequest {
                ttl: if self.one_in(8) { self.pick(&[-1, 0, 1, 2, i64::MAX]) } else { TTL_SECONDS },
                id: self.lease(),
            }),
            88..92 => Request::LeaseRevoke(pb::LeaseRevokeRequest { id: self.lease() }),
            92..97 => Request::LeaseTimeToLive(pb::LeaseTimeToLiveRequest {
                id: self.lease(),
                keys: self.one_in(2),
            }),
            _ => Request::LeaseLeases,
        }
    }

    fn one_in(&mut self, chances: u32) -> bool {
        self.rng.random_ratio(1, chances)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.rng.random_range(0..from.len())]
    }

    fn key(&mut self) -> Bytes {
        if self.one_in(80) { Bytes::new() } else { Bytes::from_static(self.pick(&KEYS)) }
    }

    fn value(&mut self) -> Bytes {
        Bytes::from_static(self.pick(&VALUES))
    }

    fn lease(&mut self) -> i64 {
        self.rng.random_range(1..=LEASES)
    }

    /// Mostly one that can be read.
    fn past_revision(&mut self) -> i64 {
        match self.rng.random_range(0..20) {
            0 => self.revision + self.rng.random_range(1..3),
            1 => self.rng.random_range(-1..=self.compacted.max(0)),
            _ => self.rng.random_range(self.compacted.max(self.revision - PAST).max(1)..=self.revision),
        }
    }

    fn range_end(&mut self) -> Bytes {
        match self.rng.random_range(0..8) {
            0 => Bytes::from_static(b"\0"),
            1 | 2 => self.key(),
            3 => Bytes::from_static(b"b"),
            _ => Bytes::new(),
        }
    }

    fn bound(&mut self) -> i64 {
        if self.one_in(10) { self.past_revision().max(0) } else { 0 }
    }

    fn range(&mut self) -> pb::RangeRequest {
        let mut request = pb::RangeRequest {
            key: self.key(),
            range_end: self.range_end(),
            revision: if self.one_in(3) { self.past_revision() } else { 0 },
            limit: if self.one_in(3) { self.rng.random_range(1..4) } else { 0 },
            keys_only: self.one_in(6),
            count_only: self.one_in(10),
            serializable: self.one_in(4),
            min_mod_revision: self.bound(),
            max_mod_revision: self.bound(),
            min_create_revision: self.bound(),
            max_create_revision: self.bound(),
            ..pb::RangeRequest::default()
        };
        match self.rng.random_range(0..8) {
            0 => request.set_sort_order(SortOrder::Ascend),
            1 => request.set_sort_order(SortOrder::Descend),
            // The order of equal fields is nobody's promise, so a limit could cut anywhere.
            2 if request.limit == 0 => {
                let targets = [SortTarget::Version, SortTarget::Create, SortTarget::Mod, SortTarget::Value];
                request.set_sort_target(self.pick(&targets));
                request.set_sort_order(self.pick(&[SortOrder::None, SortOrder::Ascend, SortOrder::Descend]));
            }
            3 if self.dialect.checks_sort && self.one_in(20) => request.sort_order = 9,
            4 if self.dialect.checks_sort && self.one_in(20) => request.sort_target = 9,
            _ => {}
        }
        request
    }

    fn put(&mut self) -> pb::PutRequest {
        let ignore_value = self.one_in(12);
        let ignore_lease = self.one_in(12);
        let is_wrong = self.one_in(5);
        let value = match self.rng.random_range(0..150) {
            0 if !self.is_large => {
                self.is_large = true;
                Bytes::from(vec![b'x'; TOO_LARGE])
            }
            _ if ignore_value && !is_wrong => Bytes::new(),
            _ => self.value(),
        };
        let has_lease = self.one_in(4) && (!ignore_lease || is_wrong);
        pb::PutRequest {
            key: self.key(),
            value,
            lease: if has_lease { self.lease() } else { 0 },
            prev_kv: self.one_in(2),
            ignore_value,
            ignore_lease,
        }
    }

    fn delete(&mut self) -> pb::DeleteRangeRequest {
        pb::DeleteRangeRequest { key: self.key(), range_end: self.range_end(), prev_kv: self.one_in(2) }
    }

    /// In a transaction etcd compares a delete that has no end, or ends before it begins, as one of its first key alone: it takes
    /// puts that the delete covers, and writes their keys twice in one revision. We refuse them.
    fn delete_step(&mut self) -> pb::DeleteRangeRequest {
        let mut request = self.delete();
        if request.range_end <= request.key {
            request.range_end = Bytes::new();
        }
        request
    }

    fn watch(&mut self) -> pb::WatchCreateRequest {
        use pb::watch_create_request::FilterType;
        let filters = match self.rng.random_range(0..4) {
            0 => vec![FilterType::Noput.into()],
            1 => vec![FilterType::Nodelete.into()],
            _ => Vec::new(),
        };
        let mut start_revision = if self.rng.random_ratio(2, 5) {
            self.rng.random_range(1..=self.compacted.max(1))
        } else {
            self.past_revision()
        };
        if start_revision == self.compacted && !self.dialect.keeps_deletes_at_compaction {
            start_revision += 1;
        }
        pb::WatchCreateRequest {
            key: self.key(),
            range_end: self.range_end(),
            start_revision,
            prev_kv: self.one_in(2),
            filters,
            ..pb::WatchCreateRequest::default()
        }
    }

    fn compact(&mut self) -> pb::CompactionRequest {
        let revision = if self.one_in(4) {
            self.past_revision()
        } else {
            self.revision - self.rng.random_range(0..PAST)
        };
        pb::CompactionRequest { revision: revision.max(0), physical: self.one_in(4) }
    }

    fn txn(&mut self, depth: u32) -> pb::TxnRequest {
        pb::TxnRequest {
            compare: (0..self.rng.random_range(0..3)).map(|_| self.compare()).collect(),
            success: (0..self.rng.random_range(0..4)).map(|_| self.step(depth)).collect(),
            failure: (0..self.rng.random_range(0..3)).map(|_| self.step(depth)).collect(),
        }
    }

    /// At and around the limit of 128 steps.
    fn wide_txn(&mut self) -> pb::TxnRequest {
        let count = self.rng.random_range(126..131);
        let read = pb::RequestOp { request: Some(Step::RequestRange(self.range())) };
        pb::TxnRequest { success: vec![read; count], ..pb::TxnRequest::default() }
    }

    fn step(&mut self, depth: u32) -> pb::RequestOp {
        let request = match self.rng.random_range(0..10) {
            0 if depth > 0 => Some(Step::RequestTxn(self.txn(depth - 1))),
            0..5 => Some(Step::RequestPut(self.put())),
            5..7 => Some(Step::RequestDeleteRange(self.delete_step())),
            7 if self.one_in(30) => None,
            _ => Some(Step::RequestRange(self.range())),
        };
        pb::RequestOp { request }
    }

    fn compare(&mut self) -> pb::Compare {
        let results =
            [CompareResult::Equal, CompareResult::Greater, CompareResult::Less, CompareResult::NotEqual];
        let (target, union) = match self.rng.random_range(0..5) {
            0 => (CompareTarget::Version, TargetUnion::Version(self.rng.random_range(0..4))),
            1 => (CompareTarget::Create, TargetUnion::CreateRevision(self.bound())),
            2 => (CompareTarget::Mod, TargetUnion::ModRevision(self.past_revision())),
            3 => (CompareTarget::Value, TargetUnion::Value(self.value())),
            _ => (CompareTarget::Lease, TargetUnion::Lease(self.rng.random_range(0..=LEASES))),
        };
        pb::Compare {
            result: self.pick(&results).into(),
            target: target.into(),
            key: self.key(),
            range_end: if self.one_in(4) { self.range_end() } else { Bytes::new() },
            target_union: if self.one_in(20) { None } else { Some(union) },
        }
    }
}
