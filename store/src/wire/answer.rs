//! Answers: core to `etcdserverpb`, and the form in which a member sends the outcome of a forwarded proposal.

use bytes::Bytes;
use prost::Message;
use proto::etcdserverpb as pb;
use proto::mvccpb;
use proto::store as wire;
use wire::refused::Reason;

use super::WireError;
use super::auth::{refusal_from_wire as auth_from_wire, refusal_to_wire as auth_to_wire};
use crate::mvcc::{Answer, KeyValue, LeaseId, OpResult, RangeResult, Refusal, Revision, TxnResult};

pub(crate) fn key_value_to_wire(kv: KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: kv.key,
        create_revision: kv.create_revision.0,
        mod_revision: kv.mod_revision.0,
        version: kv.version,
        value: kv.value,
        lease: kv.lease.0,
    }
}

fn key_value_from_wire(kv: mvccpb::KeyValue) -> KeyValue {
    KeyValue {
        key: kv.key,
        value: kv.value,
        create_revision: Revision(kv.create_revision),
        mod_revision: Revision(kv.mod_revision),
        version: kv.version,
        lease: LeaseId(kv.lease),
    }
}

/// A header inside a transaction's answer carries only the revision.
fn inner_header(revision: Revision) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader { revision: revision.0, ..pb::ResponseHeader::default() })
}

pub(crate) fn range_to_wire(result: RangeResult) -> pb::RangeResponse {
    pb::RangeResponse {
        header: inner_header(result.revision),
        kvs: result.kvs.into_iter().map(key_value_to_wire).collect(),
        more: result.more,
        count: i64::try_from(result.count).unwrap_or(i64::MAX),
    }
}

/// Converts a whole answer; the caller replaces the outer header.
pub(crate) fn txn_result_to_wire(result: TxnResult) -> pb::TxnResponse {
    let revision = result.revision;
    let responses = result.results.into_iter().map(|op| op_result_to_wire(op, revision)).collect();
    pb::TxnResponse { header: inner_header(revision), succeeded: result.succeeded, responses }
}

/// A put's header always carries the transaction's own revision, because a put always changes something.
fn op_result_to_wire(result: OpResult, revision: Revision) -> pb::ResponseOp {
    use pb::response_op::Response;
    let response = match result {
        OpResult::Range(range) => Response::ResponseRange(range_to_wire(range)),
        OpResult::Put { prev } => Response::ResponsePut(pb::PutResponse {
            header: inner_header(revision),
            prev_kv: prev.map(key_value_to_wire),
        }),
        OpResult::DeleteRange { deleted, prev, revision } => {
            Response::ResponseDeleteRange(pb::DeleteRangeResponse {
                header: inner_header(revision),
                deleted: i64::try_from(deleted).unwrap_or(i64::MAX),
                prev_kvs: prev.into_iter().map(key_value_to_wire).collect(),
            })
        }
        OpResult::Txn(nested) => {
            let mut response = txn_result_to_wire(TxnResult { revision, ..nested });
            response.header = Some(pb::ResponseHeader::default());
            Response::ResponseTxn(response)
        }
    };
    pb::ResponseOp { response: Some(response) }
}

fn header_revision(header: Option<&pb::ResponseHeader>) -> Revision {
    Revision(header.map_or(0, |header| header.revision))
}

fn txn_result_from_wire(response: pb::TxnResponse, revision: Revision) -> Result<TxnResult, WireError> {
    let results = response
        .responses
        .into_iter()
        .map(|op| op_result_from_wire(op, revision))
        .collect::<Result<_, _>>()?;
    Ok(TxnResult { succeeded: response.succeeded, results, revision })
}

fn op_result_from_wire(op: pb::ResponseOp, revision: Revision) -> Result<OpResult, WireError> {
    use pb::response_op::Response;
    Ok(match op.response.ok_or(WireError::Missing("response of a step"))? {
        Response::ResponseRange(range) => OpResult::Range(RangeResult {
            revision: header_revision(range.header.as_ref()),
            kvs: range.kvs.into_iter().map(key_value_from_wire).collect(),
            more: range.more,
            count: u64::try_from(range.count).unwrap_or(0),
        }),
        Response::ResponsePut(put) => OpResult::Put { prev: put.prev_kv.map(key_value_from_wire) },
        Response::ResponseDeleteRange(delete) => OpResult::DeleteRange {
            revision: header_revision(delete.header.as_ref()),
            deleted: u64::try_from(delete.deleted).unwrap_or(0),
            prev: delete.prev_kvs.into_iter().map(key_value_from_wire).collect(),
        },
        Response::ResponseTxn(nested) => OpResult::Txn(txn_result_from_wire(nested, revision)?),
    })
}

/// Encodes the outcome of a command for the member that forwarded it; `revision` is the store's after the command.
#[must_use]
pub fn encode_answer(answer: &Result<Answer, Refusal>, revision: Revision) -> Bytes {
    use wire::answer::Answer as Wire;
    let answer = match answer.clone() {
        Ok(Answer::Txn(result)) => Wire::Txn(txn_result_to_wire(result)),
        Ok(Answer::LeaseGranted { id, ttl_seconds }) => {
            Wire::LeaseGranted(wire::LeaseGrant { id: id.0, ttl_seconds })
        }
        Ok(Answer::AlarmCleared { was_raised }) => Wire::AlarmCleared(wire::AlarmCleared { was_raised }),
        Ok(Answer::Done) => Wire::Done(wire::Done {}),
        Err(refusal) => Wire::Refused(refusal_to_wire(&refusal)),
    };
    wire::Answer { revision: revision.0, answer: Some(answer) }.encode_to_vec().into()
}

/// Decodes what [`encode_answer`] made.
///
/// # Errors
/// When the bytes are damaged or of a later version.
pub fn decode_answer(bytes: Bytes) -> Result<(Result<Answer, Refusal>, Revision), WireError> {
    use wire::answer::Answer as Wire;
    let message = wire::Answer::decode(bytes)?;
    let revision = Revision(message.revision);
    let answer = match message.answer.ok_or(WireError::Missing("answer"))? {
        Wire::Txn(response) => {
            let revision = header_revision(response.header.as_ref());
            Ok(Answer::Txn(txn_result_from_wire(response, revision)?))
        }
        Wire::LeaseGranted(granted) => {
            Ok(Answer::LeaseGranted { id: LeaseId(granted.id), ttl_seconds: granted.ttl_seconds })
        }
        Wire::AlarmCleared(wire::AlarmCleared { was_raised }) => Ok(Answer::AlarmCleared { was_raised }),
        Wire::Done(wire::Done {}) => Ok(Answer::Done),
        Wire::Refused(refused) => Err(refusal_from_wire(&refused)?),
    };
    Ok((answer, revision))
}

fn refusal_to_wire(refusal: &Refusal) -> wire::Refused {
    let (reason, requested, limit) = match refusal {
        Refusal::Compacted { requested, compacted } => (Reason::Compacted, requested.0, compacted.0),
        Refusal::FutureRevision { requested, current } => (Reason::FutureRevision, requested.0, current.0),
        Refusal::LeaseNotFound => (Reason::LeaseNotFound, 0, 0),
        Refusal::LeaseExists => (Reason::LeaseExists, 0, 0),
        Refusal::KeyNotFound => (Reason::KeyNotFound, 0, 0),
        Refusal::NoSpace => (Reason::NoSpace, 0, 0),
        Refusal::Corrupt => (Reason::Corrupt, 0, 0),
        Refusal::DowngradeInProgress => (Reason::DowngradeInProgress, 0, 0),
        Refusal::Auth(_) => (Reason::Auth, 0, 0),
    };
    let auth = match refusal {
        Refusal::Auth(refusal) => auth_to_wire(*refusal),
        Refusal::Compacted { .. }
        | Refusal::FutureRevision { .. }
        | Refusal::LeaseNotFound
        | Refusal::LeaseExists
        | Refusal::KeyNotFound
        | Refusal::NoSpace
        | Refusal::Corrupt
        | Refusal::DowngradeInProgress => wire::AuthReason::AuthUnspecified,
    };
    wire::Refused { reason: reason.into(), requested, limit, auth: auth.into() }
}

fn refusal_from_wire(refused: &wire::Refused) -> Result<Refusal, WireError> {
    let requested = Revision(refused.requested);
    match refused.reason() {
        Reason::Compacted => Ok(Refusal::Compacted { requested, compacted: Revision(refused.limit) }),
        Reason::FutureRevision => Ok(Refusal::FutureRevision { requested, current: Revision(refused.limit) }),
        Reason::LeaseNotFound => Ok(Refusal::LeaseNotFound),
        Reason::LeaseExists => Ok(Refusal::LeaseExists),
        Reason::KeyNotFound => Ok(Refusal::KeyNotFound),
        Reason::NoSpace => Ok(Refusal::NoSpace),
        Reason::Corrupt => Ok(Refusal::Corrupt),
        Reason::DowngradeInProgress => Ok(Refusal::DowngradeInProgress),
        Reason::Auth => Ok(Refusal::Auth(auth_from_wire(refused.auth())?)),
        Reason::Unspecified => Err(WireError::Missing("reason of a refusal")),
    }
}
