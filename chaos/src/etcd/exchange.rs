//! Requests of a history as the wire has them, and answers back.

use bytes::Bytes;
use proto::etcdserverpb::compare::{CompareResult, CompareTarget as WireTarget, TargetUnion};
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::request_op::Request as WireRequest;
use proto::etcdserverpb::response_op::Response as WireResponse;
use proto::etcdserverpb::{
    CompactionRequest, Compare as WireCompare, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, RequestOp, ResponseHeader, TxnRequest, TxnResponse,
};
use proto::mvccpb::KeyValue;

use super::{Failure, MemberClient, classify, key_state, text};
use crate::history::{Compare, CompareTarget, Delete, Put, Range, Relation, Request, Response, Row, Txn};

impl MemberClient {
    /// Has history forgotten below a revision; returns the header's revision.
    ///
    /// # Errors
    /// [`Failure`] says whether it may have happened.
    pub async fn compact(&self, revision: i64) -> Result<i64, Failure> {
        let request = CompactionRequest { revision, physical: false };
        let answer = KvClient::new(self.channel.clone()).compact(request).await;
        let answer = answer.map_err(|status| classify(&status))?.into_inner();
        Ok(self::revision(answer.header.as_ref()))
    }

    /// Sends a request; returns the answer and its header's revision.
    ///
    /// # Errors
    /// [`Failure`] says whether it may have happened.
    pub async fn perform(&self, request: &Request) -> Result<(Response, i64), Failure> {
        let mut client = KvClient::new(self.channel.clone());
        match request {
            Request::Range(asked) => {
                let answer = client.range(range(asked)).await;
                // A read changes nothing, whatever became of it.
                let answer = answer.map_err(|status| Failure::NotApplied(text(&status)))?.into_inner();
                let revision = revision(answer.header.as_ref());
                Ok((read(answer), revision))
            }
            Request::Put(asked) => {
                let answer = client.put(put(asked)).await.map_err(|status| classify(&status))?.into_inner();
                let revision = revision(answer.header.as_ref());
                Ok((written(answer), revision))
            }
            Request::Delete(asked) => {
                let answer = client.delete_range(delete(asked)).await;
                let answer = answer.map_err(|status| classify(&status))?.into_inner();
                let revision = revision(answer.header.as_ref());
                Ok((deleted(answer), revision))
            }
            Request::Txn(asked) => {
                let answer = client.txn(txn(asked)).await.map_err(|status| classify(&status))?.into_inner();
                let revision = revision(answer.header.as_ref());
                Ok((committed(answer), revision))
            }
        }
    }
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn range(range: &Range) -> RangeRequest {
    RangeRequest {
        key: bytes(&range.key),
        range_end: range.end.as_deref().map(bytes).unwrap_or_default(),
        revision: range.revision,
        serializable: range.serializable,
        ..RangeRequest::default()
    }
}

fn put(put: &Put) -> PutRequest {
    PutRequest {
        key: bytes(&put.key),
        value: bytes(&put.value),
        lease: put.lease,
        prev_kv: put.prev_kv,
        ..PutRequest::default()
    }
}

fn delete(delete: &Delete) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: bytes(&delete.key),
        range_end: delete.end.as_deref().map(bytes).unwrap_or_default(),
        prev_kv: true,
    }
}

fn txn(txn: &Txn) -> TxnRequest {
    TxnRequest {
        compare: txn.compares.iter().map(compare).collect(),
        success: txn.then.iter().map(step).collect(),
        failure: txn.otherwise.iter().map(step).collect(),
    }
}

fn step(request: &Request) -> RequestOp {
    let request = match request {
        Request::Range(asked) => WireRequest::RequestRange(range(asked)),
        Request::Put(asked) => WireRequest::RequestPut(put(asked)),
        Request::Delete(asked) => WireRequest::RequestDeleteRange(delete(asked)),
        Request::Txn(asked) => WireRequest::RequestTxn(txn(asked)),
    };
    RequestOp { request: Some(request) }
}

fn compare(compare: &Compare) -> WireCompare {
    let (target, wanted) = match &compare.target {
        CompareTarget::Version(version) => (WireTarget::Version, TargetUnion::Version(*version)),
        CompareTarget::CreateRevision(revision) => {
            (WireTarget::Create, TargetUnion::CreateRevision(*revision))
        }
        CompareTarget::ModRevision(revision) => (WireTarget::Mod, TargetUnion::ModRevision(*revision)),
        CompareTarget::Value(value) => (WireTarget::Value, TargetUnion::Value(bytes(value))),
        CompareTarget::Lease(lease) => (WireTarget::Lease, TargetUnion::Lease(*lease)),
    };
    let result = match compare.relation {
        Relation::Equal => CompareResult::Equal,
        Relation::NotEqual => CompareResult::NotEqual,
        Relation::Less => CompareResult::Less,
        Relation::Greater => CompareResult::Greater,
    };
    WireCompare {
        result: result.into(),
        target: target.into(),
        key: bytes(&compare.key),
        target_union: Some(wanted),
        range_end: compare.end.as_deref().map(bytes).unwrap_or_default(),
    }
}

fn revision(header: Option<&ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}

/// A key and its state as the wire has them.
pub(super) fn row(kv: &KeyValue) -> Row {
    Row { key: String::from_utf8_lossy(&kv.key).into_owned(), state: key_state(kv) }
}

fn read(answer: RangeResponse) -> Response {
    Response::Range { rows: answer.kvs.iter().map(row).collect(), count: answer.count }
}

fn written(answer: PutResponse) -> Response {
    Response::Put { prev: answer.prev_kv.as_ref().map(row) }
}

fn deleted(answer: DeleteRangeResponse) -> Response {
    Response::Delete { deleted: answer.deleted, prev: answer.prev_kvs.iter().map(row).collect() }
}

fn committed(answer: TxnResponse) -> Response {
    let responses = answer.responses.into_iter().filter_map(|step| {
        Some(match step.response? {
            WireResponse::ResponseRange(answer) => read(answer),
            WireResponse::ResponsePut(answer) => written(answer),
            WireResponse::ResponseDeleteRange(answer) => deleted(answer),
            WireResponse::ResponseTxn(answer) => committed(answer),
        })
    });
    Response::Txn { succeeded: answer.succeeded, responses: responses.collect() }
}
