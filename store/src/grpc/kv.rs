//! The KV service.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use pb::kv_server::Kv as Service;
use prost::Message;
use proto::etcdserverpb as pb;
use tonic::{Request, Response, Status};

use super::{Credential, Edge, Guard, holding, status};
use crate::kv::{Consistency, KvError, RequestLimits};
use crate::mvcc::{
    Bounded, KeyRange, Op, OpResult, Range, RangeResult, Revision, SortOrder, SortTarget, Txn, TxnResult,
};
use crate::reads::{FREE_BYTES, ReadPermit};
use crate::wire::{
    delete_from_wire, key_value_to_wire, put_from_wire, range_from_wire, range_to_wire, txn_from_wire,
    txn_result_to_wire,
};

pub(crate) struct KvService {
    pub(crate) edge: Edge,
}

/// Keys in the first part of a streamed range; later parts follow the size of the values.
const FIRST_CHUNK_KEYS: u64 = 10;
/// A part that came out smaller than this is followed by one with twice the keys, one larger than
/// [`CHUNK_BYTES_HIGH`] by one with half.
const CHUNK_BYTES_LOW: usize = 768 * 1024;
const CHUNK_BYTES_HIGH: usize = 3 * 1024 * 1024;
/// Most memory that a part of several keys takes: rows and message of what lies between the two.
const PART_MEMORY_MAX: u64 = 6 << 20;
/// Streams that make progress at the same time even where the budget is small.
const PARTS_AT_ONCE_MIN: u64 = 4;
/// How often a compaction that waits for its rows to go looks.
const COLLECTED_POLL: Duration = Duration::from_millis(10);

/// A write that was made, with what was set aside for its answer.
struct Written {
    result: OpResult,
    revision: Revision,
    permit: Option<Arc<ReadPermit>>,
}

/// Runs one write, of a request of `size` bytes, as a transaction of one step.
async fn write(guard: Guard<'_>, op: Op, size: usize) -> Result<Written, Status> {
    let txn = Txn::of(op);
    check_size(guard.edge.limits, size, &txn)?;
    let (TxnResult { results, revision, .. }, permit) = guard.txn(txn).await?;
    let result = results.into_iter().next();
    let result = result.ok_or_else(|| Status::internal("a step has no answer"))?;
    Ok(Written { result, revision, permit })
}

/// Refuses requests larger than the log takes. What else is wrong with one is said first, as etcd does.
fn check_size(limits: RequestLimits, size: usize, txn: &Txn) -> Result<(), Status> {
    if size <= limits.bytes {
        return Ok(());
    }
    txn.validate(limits.txn_ops).map_err(KvError::from)?;
    Err(status::request_too_large())
}

fn consistency(request: &pb::RangeRequest) -> Consistency {
    if request.serializable { Consistency::Serializable } else { Consistency::Linearizable }
}

#[tonic::async_trait]
impl Service for KvService {
    async fn range(&self, request: Request<pb::RangeRequest>) -> Result<Response<pb::RangeResponse>, Status> {
        self.edge.check_leader(&request)?;
        if !request.get_ref().serializable && self.edge.admin.is_learner() {
            return Err(status::not_for_learner());
        }
        let guard = self.edge.guard(&request);
        let request = request.into_inner();
        let consistency = consistency(&request);
        let (result, permit) = guard.range(&range_from_wire(request)?, consistency).await?;
        let header = self.edge.header_at(result.revision);
        Ok(holding(pb::RangeResponse { header, ..range_to_wire(result) }, permit))
    }

    type RangeStreamStream = BoxStream<'static, Result<pb::RangeStreamResponse, Status>>;

    async fn range_stream(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        self.edge.check_leader(&request)?;
        let client = (self.edge.clone(), self.edge.credential(&request));
        let request = request.into_inner();
        let consistency = consistency(&request);
        let range = range_from_wire(request)?;
        range.range.validate().map_err(KvError::from)?;
        let reader = StreamedRange::start(client, range, consistency).await?;
        let parts = futures::stream::unfold(reader, |mut reader| async {
            reader.next().await.map(|part| (part, reader))
        });
        Ok(Response::new(parts.boxed()))
    }

    async fn put(&self, request: Request<pb::PutRequest>) -> Result<Response<pb::PutResponse>, Status> {
        self.edge.check_leader(&request)?;
        let guard = self.edge.guard(&request);
        let request = request.into_inner();
        let size = request.encoded_len();
        let Written { result, revision, permit } =
            write(guard, Op::Put(put_from_wire(request)), size).await?;
        let prev_kv = match result {
            OpResult::Put { prev } => prev.map(key_value_to_wire),
            OpResult::Range(_) | OpResult::DeleteRange { .. } | OpResult::Txn(_) => None,
        };
        Ok(holding(pb::PutResponse { header: self.edge.header_at(revision), prev_kv }, permit))
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        self.edge.check_leader(&request)?;
        let guard = self.edge.guard(&request);
        let request = request.into_inner();
        let size = request.encoded_len();
        let Written { result, revision, permit } =
            write(guard, Op::DeleteRange(delete_from_wire(request)), size).await?;
        let (deleted, prev) = match result {
            OpResult::DeleteRange { deleted, prev, revision: _ } => (deleted, prev),
            OpResult::Range(_) | OpResult::Put { .. } | OpResult::Txn(_) => (0, Vec::new()),
        };
        let answer = pb::DeleteRangeResponse {
            header: self.edge.header_at(revision),
            deleted: i64::try_from(deleted).unwrap_or(i64::MAX),
            prev_kvs: prev.into_iter().map(key_value_to_wire).collect(),
        };
        Ok(holding(answer, permit))
    }

    async fn txn(&self, request: Request<pb::TxnRequest>) -> Result<Response<pb::TxnResponse>, Status> {
        self.edge.check_leader(&request)?;
        let guard = self.edge.guard(&request);
        let request = request.into_inner();
        let size = request.encoded_len();
        let txn = txn_from_wire(request)?;
        check_size(self.edge.limits, size, &txn)?;
        let (result, permit) = guard.txn(txn).await?;
        let header = self.edge.header_at(result.revision);
        Ok(holding(pb::TxnResponse { header, ..txn_result_to_wire(result) }, permit))
    }

    async fn compact(
        &self,
        request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        self.edge.check_leader(&request)?;
        let pb::CompactionRequest { revision, physical } = *request.get_ref();
        self.edge.guard(&request).compact(Revision(revision)).await?;
        // As etcd: the call of whoever wants to see the space ends when the rows are gone here. Others collect on their own time.
        while physical && self.edge.kv.status().collected_revision < Revision(revision) {
            tokio::time::sleep(COLLECTED_POLL).await;
        }
        Ok(Response::new(pb::CompactionResponse { header: self.edge.header() }))
    }
}

/// A range that is sent in parts, all read at the revision of the first. Header, count and `more` are on the last part only,
/// so that the parts merged are the answer to a plain range.
struct StreamedRange {
    edge: Edge,
    credential: Credential,
    range: Range,
    /// Keys still wanted; `None` means all.
    left: Option<u64>,
    chunk_keys: u64,
    count: u64,
    revision: Revision,
    parts: VecDeque<pb::RangeResponse>,
    /// For the part that was read last. When the next one is asked for, the connection has taken most of it.
    permit: Option<Arc<ReadPermit>>,
    finished: bool,
}

impl StreamedRange {
    async fn start(
        (edge, credential): (Edge, Credential),
        range: Range,
        consistency: Consistency,
    ) -> Result<Self, Status> {
        let ascending = range.sort_order != SortOrder::Descend;
        let by_key_or_whole = range.sort_target == SortTarget::Key || range.sort_order == SortOrder::None;
        if !ascending || !by_key_or_whole {
            return Err(Status::unimplemented("RangeStream does not support custom sort orders"));
        }
        let bounds = [
            range.min_mod_revision,
            range.max_mod_revision,
            range.min_create_revision,
            range.max_create_revision,
        ];
        if bounds.iter().any(|&bound| bound != 0) {
            return Err(Status::unimplemented("RangeStream does not support revision filters"));
        }
        let whole = range.count_only || range.sort_target != SortTarget::Key;
        let left = (range.limit != 0).then_some(range.limit);
        let mut reader = Self {
            edge,
            credential,
            range,
            left,
            chunk_keys: FIRST_CHUNK_KEYS,
            count: 0,
            revision: Revision(0),
            parts: VecDeque::new(),
            permit: None,
            finished: false,
        };
        if whole {
            reader.read_whole(consistency).await?;
        } else {
            reader.read_part(consistency).await?;
        }
        Ok(reader)
    }

    /// Every part is decided anew: who may no longer read gets no further part.
    fn guard(&self) -> Guard<'_> {
        self.edge.guard_for(self.credential.clone())
    }

    async fn next(&mut self) -> Option<Result<pb::RangeStreamResponse, Status>> {
        if self.parts.is_empty()
            && !self.finished
            && let Err(error) = self.read_part(Consistency::Serializable).await
        {
            self.finished = true;
            return Some(Err(error));
        }
        let part = self.parts.pop_front()?;
        Some(Ok(pb::RangeStreamResponse { range_response: Some(part) }))
    }

    /// An answer that cannot be cut by keys goes out as one part.
    async fn read_whole(&mut self, consistency: Consistency) -> Result<(), Status> {
        let (result, permit) = self.guard().range(&self.range, consistency).await?;
        self.permit = permit;
        let header = self.edge.header_at(result.revision);
        self.parts.push_back(pb::RangeResponse { header, ..range_to_wire(result) });
        self.finished = true;
        Ok(())
    }

    async fn read_part(&mut self, consistency: Consistency) -> Result<(), Status> {
        self.permit = None;
        self.guard().settle(&self.range, consistency).await?;
        let result = self.read_bounded().await?;
        if self.revision == Revision(0) {
            self.revision = result.revision;
            self.count = result.count;
            self.range.revision.get_or_insert(result.revision);
        }
        let read = u64::try_from(result.kvs.len()).unwrap_or(u64::MAX);
        self.left = self.left.map(|left| left.saturating_sub(read));
        self.finished = !result.more || self.left == Some(0);
        let more = result.more;
        if let Some(last) = result.kvs.last() {
            self.range.range = KeyRange { start: successor(&last.key), end: self.range.range.end.clone() };
        }
        let mut part = pb::RangeResponse { header: None, more: false, count: 0, ..range_to_wire(result) };
        self.adapt(part.encoded_len());
        if self.finished {
            part.header = self.edge.header_at(self.revision);
            part.more = more;
            part.count = i64::try_from(self.count).unwrap_or(i64::MAX);
        }
        self.parts.push_back(part);
        Ok(())
    }

    /// Reads the next keys, fewer of them when their values are large.
    async fn read_bounded(&mut self) -> Result<RangeResult, Status> {
        let part_max = PART_MEMORY_MAX.min(self.edge.reads.budget_bytes() / PARTS_AT_ONCE_MIN);
        let mut permit: Option<Arc<ReadPermit>> = None;
        loop {
            let limit = self.left.map_or(self.chunk_keys, |left| left.min(self.chunk_keys));
            let asked = Range { limit, ..self.range.clone() };
            let allowed = permit.as_ref().map_or(FREE_BYTES, |permit| permit.bytes());
            match self.guard().range_within(&asked, allowed).await? {
                Bounded::Whole(result) => {
                    self.permit = permit;
                    return Ok(result);
                }
                Bounded::Exceeds { needed } if needed > part_max && limit > 1 => self.chunk_keys = limit / 2,
                Bounded::Exceeds { needed } => {
                    // Given back first: who kept a part while waiting for more could wait for ever.
                    drop(permit.take());
                    permit = Some(Arc::new(self.edge.reads.admit(needed).await?));
                }
            }
        }
    }

    fn adapt(&mut self, bytes: usize) {
        if bytes < CHUNK_BYTES_LOW {
            self.chunk_keys = self.chunk_keys.saturating_mul(2);
        } else if bytes > CHUNK_BYTES_HIGH {
            self.chunk_keys = (self.chunk_keys / 2).max(1);
        }
    }
}

/// The first key behind `key`.
fn successor(key: &Bytes) -> Bytes {
    let mut successor = BytesMut::with_capacity(key.len() + 1);
    successor.put_slice(key);
    successor.put_u8(0);
    successor.freeze()
}
