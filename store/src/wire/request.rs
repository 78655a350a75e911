//! Requests: `etcdserverpb` to core and back.

use bytes::Bytes;
use pb::compare::{CompareResult as WireResult, CompareTarget as WireTarget, TargetUnion};
use pb::range_request::{SortOrder as WireOrder, SortTarget as WireSort};
use proto::etcdserverpb as pb;

use super::WireError;
use crate::mvcc::{
    Compare, CompareResult, CompareTarget, DeleteRange, KeyRange, LeaseId, Op, Put, Range, RangeEnd,
    Revision, SortOrder, SortTarget, Txn,
};

/// `range_end` that means "all keys from the start on".
const UNBOUNDED: &[u8] = b"\0";

pub(crate) fn key_range(key: Bytes, range_end: Bytes) -> KeyRange {
    let end = match range_end.as_ref() {
        b"" => RangeEnd::Single,
        UNBOUNDED => RangeEnd::Unbounded,
        _ => RangeEnd::Before(range_end),
    };
    KeyRange { start: key, end }
}

pub(super) fn range_end(end: RangeEnd) -> Bytes {
    match end {
        RangeEnd::Single => Bytes::new(),
        RangeEnd::Unbounded => Bytes::from_static(UNBOUNDED),
        RangeEnd::Before(end) => end,
    }
}

pub(crate) fn range_from_wire(request: pb::RangeRequest) -> Result<Range, WireError> {
    let order = WireOrder::try_from(request.sort_order).map_err(|_| WireError::InvalidSort)?;
    let target = WireSort::try_from(request.sort_target).map_err(|_| WireError::InvalidSort)?;
    Ok(Range {
        range: key_range(request.key, request.range_end),
        revision: (request.revision > 0).then_some(Revision(request.revision)),
        limit: u64::try_from(request.limit).unwrap_or(0),
        keys_only: request.keys_only,
        count_only: request.count_only,
        sort_order: match order {
            WireOrder::None => SortOrder::None,
            WireOrder::Ascend => SortOrder::Ascend,
            WireOrder::Descend => SortOrder::Descend,
        },
        sort_target: match target {
            WireSort::Key => SortTarget::Key,
            WireSort::Version => SortTarget::Version,
            WireSort::Create => SortTarget::CreateRevision,
            WireSort::Mod => SortTarget::ModRevision,
            WireSort::Value => SortTarget::Value,
        },
        min_mod_revision: request.min_mod_revision,
        max_mod_revision: request.max_mod_revision,
        min_create_revision: request.min_create_revision,
        max_create_revision: request.max_create_revision,
    })
}

fn range_to_wire(range: Range) -> pb::RangeRequest {
    pb::RangeRequest {
        key: range.range.start,
        range_end: range_end(range.range.end),
        limit: i64::try_from(range.limit).unwrap_or(0),
        revision: range.revision.map_or(0, |revision| revision.0),
        sort_order: i32::from(match range.sort_order {
            SortOrder::None => WireOrder::None,
            SortOrder::Ascend => WireOrder::Ascend,
            SortOrder::Descend => WireOrder::Descend,
        }),
        sort_target: i32::from(match range.sort_target {
            SortTarget::Key => WireSort::Key,
            SortTarget::Version => WireSort::Version,
            SortTarget::CreateRevision => WireSort::Create,
            SortTarget::ModRevision => WireSort::Mod,
            SortTarget::Value => WireSort::Value,
        }),
        serializable: false,
        keys_only: range.keys_only,
        count_only: range.count_only,
        min_mod_revision: range.min_mod_revision,
        max_mod_revision: range.max_mod_revision,
        min_create_revision: range.min_create_revision,
        max_create_revision: range.max_create_revision,
    }
}

pub(crate) fn put_from_wire(request: pb::PutRequest) -> Put {
    Put {
        key: request.key,
        value: request.value,
        lease: LeaseId(request.lease),
        prev_kv: request.prev_kv,
        ignore_value: request.ignore_value,
        ignore_lease: request.ignore_lease,
    }
}

fn put_to_wire(put: Put) -> pb::PutRequest {
    pb::PutRequest {
        key: put.key,
        value: put.value,
        lease: put.lease.0,
        prev_kv: put.prev_kv,
        ignore_value: put.ignore_value,
        ignore_lease: put.ignore_lease,
    }
}

pub(crate) fn delete_from_wire(request: pb::DeleteRangeRequest) -> DeleteRange {
    DeleteRange { range: key_range(request.key, request.range_end), prev_kv: request.prev_kv }
}

pub(crate) fn txn_from_wire(request: pb::TxnRequest) -> Result<Txn, WireError> {
    Ok(Txn {
        compare: request.compare.into_iter().map(compare_from_wire).collect(),
        success: request.success.into_iter().map(op_from_wire).collect::<Result<_, _>>()?,
        failure: request.failure.into_iter().map(op_from_wire).collect::<Result<_, _>>()?,
    })
}

pub(crate) fn txn_to_wire(txn: Txn) -> pb::TxnRequest {
    pb::TxnRequest {
        compare: txn.compare.into_iter().map(compare_to_wire).collect(),
        success: txn.success.into_iter().map(op_to_wire).collect(),
        failure: txn.failure.into_iter().map(op_to_wire).collect(),
    }
}

fn op_from_wire(op: pb::RequestOp) -> Result<Op, WireError> {
    use pb::request_op::Request;
    match op.request.ok_or(WireError::EmptyOp)? {
        Request::RequestRange(range) => range_from_wire(range).map(Op::Range),
        Request::RequestPut(put) => Ok(Op::Put(put_from_wire(put))),
        Request::RequestDeleteRange(delete) => Ok(Op::DeleteRange(delete_from_wire(delete))),
        Request::RequestTxn(txn) => txn_from_wire(txn).map(Op::Txn),
    }
}

fn op_to_wire(op: Op) -> pb::RequestOp {
    use pb::request_op::Request;
    let request = match op {
        Op::Range(range) => Request::RequestRange(range_to_wire(range)),
        Op::Put(put) => Request::RequestPut(put_to_wire(put)),
        Op::DeleteRange(delete) => Request::RequestDeleteRange(pb::DeleteRangeRequest {
            key: delete.range.start,
            range_end: range_end(delete.range.end),
            prev_kv: delete.prev_kv,
        }),
        Op::Txn(txn) => Request::RequestTxn(txn_to_wire(txn)),
    };
    pb::RequestOp { request: Some(request) }
}

/// A value of another target's field counts as unset, and unset as zero or empty.
fn compare_from_wire(compare: pb::Compare) -> Compare {
    let given = compare.target_union;
    let number = |read: fn(&TargetUnion) -> Option<i64>| given.as_ref().and_then(read).unwrap_or(0);
    let target = match WireTarget::try_from(compare.target) {
        Ok(WireTarget::Version) => CompareTarget::Version(number(|given| match given {
            TargetUnion::Version(version) => Some(*version),
            _ => None,
        })),
        Ok(WireTarget::Create) => CompareTarget::CreateRevision(Revision(number(|given| match given {
            TargetUnion::CreateRevision(revision) => Some(*revision),
            _ => None,
        }))),
        Ok(WireTarget::Mod) => CompareTarget::ModRevision(Revision(number(|given| match given {
            TargetUnion::ModRevision(revision) => Some(*revision),
            _ => None,
        }))),
        Ok(WireTarget::Lease) => CompareTarget::Lease(LeaseId(number(|given| match given {
            TargetUnion::Lease(lease) => Some(*lease),
            _ => None,
        }))),
        Ok(WireTarget::Value) => CompareTarget::Value(match given {
            Some(TargetUnion::Value(value)) => value,
            _ => Bytes::new(),
        }),
        Err(_) => CompareTarget::Unknown,
    };
    let result = match WireResult::try_from(compare.result) {
        Ok(WireResult::Equal) => CompareResult::Equal,
        Ok(WireResult::Greater) => CompareResult::Greater,
        Ok(WireResult::Less) => CompareResult::Less,
        Ok(WireResult::NotEqual) => CompareResult::NotEqual,
        Err(_) => CompareResult::Unknown,
    };
    Compare { range: key_range(compare.key, compare.range_end), target, result }
}

/// A number that no version of the protocol uses, for what we do not know ourselves.
const UNKNOWN: i32 = i32::MAX;

fn compare_to_wire(compare: Compare) -> pb::Compare {
    let (target, target_union) = match compare.target {
        CompareTarget::Version(version) => (WireTarget::Version.into(), Some(TargetUnion::Version(version))),
        CompareTarget::CreateRevision(revision) => {
            (WireTarget::Create.into(), Some(TargetUnion::CreateRevision(revision.0)))
        }
        CompareTarget::ModRevision(revision) => {
            (WireTarget::Mod.into(), Some(TargetUnion::ModRevision(revision.0)))
        }
        CompareTarget::Value(value) => (WireTarget::Value.into(), Some(TargetUnion::Value(value))),
        CompareTarget::Lease(lease) => (WireTarget::Lease.into(), Some(TargetUnion::Lease(lease.0))),
        CompareTarget::Unknown => (UNKNOWN, None),
    };
    let result = match compare.result {
        CompareResult::Equal => WireResult::Equal.into(),
        CompareResult::Greater => WireResult::Greater.into(),
        CompareResult::Less => WireResult::Less.into(),
        CompareResult::NotEqual => WireResult::NotEqual.into(),
        CompareResult::Unknown => UNKNOWN,
    };
    pb::Compare {
        result,
        target,
        key: compare.range.start,
        range_end: range_end(compare.range.end),
        target_union,
    }
}
