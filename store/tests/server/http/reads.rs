//! Reads that take more memory than a member has for them.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::request_op::Request as Step;
use store::ReadBudget;
use store::etcd::Edge;
use store::kv::Kv;
use store::memory::MemoryStore;
use store::mvcc::{Op, Put, Txn};
use tonic::Code;
use tonic::transport::Channel;

use crate::harness::Server;

const VALUE_BYTES: usize = 64 << 10;
const KEYS: usize = 32;
/// Room for three answers with all keys: each takes all values twice and a little more.
const BUDGET: usize = 7 * KEYS * VALUE_BYTES;
/// A message with all keys.
const MESSAGE_BYTES_MAX: usize = 8 << 20;

async fn filled() -> MemoryStore {
    let store = MemoryStore::new();
    for number in 0..KEYS {
        let (key, value) = (Bytes::from(format!("key{number:02}")), vec![b'v'; VALUE_BYTES].into());
        store.txn(Txn::of(Op::Put(Put { key, value, ..Put::default() }))).await.unwrap();
    }
    store
}

async fn serve(store: &MemoryStore, budget: usize) -> (Server, KvClient<Channel>) {
    let budget = ReadBudget::new(u64::try_from(budget).unwrap());
    let server = Server::of(Edge::new(&Arc::new(store.clone())).with_read_budget(budget)).await;
    let client = KvClient::new(server.channel()).max_decoding_message_size(MESSAGE_BYTES_MAX);
    (server, client)
}

fn all() -> pb::RangeRequest {
    let (key, range_end) = (Bytes::from_static(b"\0"), Bytes::from_static(b"\0"));
    pb::RangeRequest { key, range_end, ..pb::RangeRequest::default() }
}

async fn check_metric(server: &Server, line: &str) {
    let (_, text) = server.ask("GET /metrics", "", "").await;
    assert!(text.lines().any(|found| found == line), "no `{line}` in\n{text}");
}

#[tokio::test]
async fn a_hundred_large_ranges_at_once_are_served_within_the_budget() {
    let (server, client) = serve(&filled().await, BUDGET).await;
    let answers = futures::future::join_all((0..100).map(|_| {
        let mut client = client.clone();
        async move { client.range(all()).await }
    }));
    for answer in answers.await {
        assert_eq!(answer.unwrap().into_inner().kvs.len(), KEYS);
    }
    check_metric(&server, "keelson_store_read_budget_used_bytes 0").await;
    check_metric(&server, "keelson_store_reads_waiting 0").await;
    check_metric(&server, &format!("keelson_store_read_budget_bytes {BUDGET}")).await;
    server.stop().await;
}

#[tokio::test]
async fn a_range_above_the_budget_is_refused_and_streams_in_parts() {
    let (server, mut client) = serve(&filled().await, VALUE_BYTES * 8).await;
    let refused = client.range(all()).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(
        refused
            .message()
            .contains("more than the 524288 that reads may take: set a limit or use RangeStream")
    );
    let limited = client.range(pb::RangeRequest { limit: 2, ..all() }).await.unwrap().into_inner();
    assert_eq!((limited.kvs.len(), limited.count), (2, 32));
    let keys_only = client.range(pb::RangeRequest { keys_only: true, ..all() }).await.unwrap();
    assert_eq!(keys_only.into_inner().kvs.len(), KEYS);
    let mut parts = client.range_stream(all()).await.unwrap().into_inner();
    let (mut keys, mut largest) = (0, 0);
    while let Some(part) = parts.next().await {
        let kvs = part.unwrap().range_response.unwrap().kvs.len();
        (keys, largest) = (keys + kvs, kvs.max(largest));
    }
    assert_eq!(keys, KEYS);
    assert!(largest <= 2, "a part takes its share of the budget, not {largest} values");
    check_metric(&server, "keelson_store_reads_refused_total 1").await;
    server.stop().await;
}

#[tokio::test]
async fn a_transaction_that_reads_above_the_budget_does_nothing() {
    let store = filled().await;
    let (server, mut client) = serve(&store, VALUE_BYTES * 8).await;
    let before = store.status().revision;
    let put = pb::PutRequest { key: "other".into(), ..pb::PutRequest::default() };
    let steps = [Step::RequestPut(put), Step::RequestRange(all())];
    let success = steps.map(|step| pb::RequestOp { request: Some(step) }).into();
    let refused = client.txn(pb::TxnRequest { success, ..pb::TxnRequest::default() }).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    let all = pb::DeleteRangeRequest { key: "\0".into(), range_end: "\0".into(), prev_kv: true };
    let refused = client.delete_range(all.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert_eq!(store.status().revision, before);
    let deleted = client.delete_range(pb::DeleteRangeRequest { prev_kv: false, ..all }).await.unwrap();
    assert_eq!(deleted.into_inner().deleted, 32, "without values it is small");
    server.stop().await;
}

#[tokio::test]
async fn the_gateway_says_too_many_requests() {
    let (server, _) = serve(&filled().await, VALUE_BYTES * 8).await;
    let (status, body) = server.ask("POST /v3/kv/range", "", r#"{"key":"AA==","range_end":"AA=="}"#).await;
    assert_eq!(status, 429);
    assert!(body.contains("that reads may take"), "{body}");
    let (status, _) = server.ask("POST /v3/kv/range", "", r#"{"key":"a2V5MDA="}"#).await;
    assert_eq!(status, 200);
    check_metric(&server, "keelson_store_read_budget_used_bytes 0").await;
    server.stop().await;
}
