//! What holds of `RangeStream` while the store changes under it, which no recording shows.

use proto::etcdserverpb as pb;
use tonic::{Code, Streaming};

use super::replay::Client;
use crate::harness::Server;

const KEYS: usize = 200;
/// Together far more than the windows of a connection, so that most parts are read late.
const VALUE_BYTES: usize = 100_000;

async fn filled(server: &Server) -> Client {
    let mut client = server.client();
    // For the whole answer that the parts are compared with.
    client.kv = client.kv.max_decoding_message_size(2 * KEYS * VALUE_BYTES);
    for number in 0..KEYS {
        client.put(&format!("k/{number:03}"), &"x".repeat(VALUE_BYTES)).await;
    }
    client
}

fn all() -> pb::RangeRequest {
    pb::RangeRequest { key: "k/".into(), range_end: "k0".into(), ..pb::RangeRequest::default() }
}

async fn part(parts: &mut Streaming<pb::RangeStreamResponse>) -> Option<pb::RangeResponse> {
    parts.message().await.unwrap().map(|part| part.range_response.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_shows_one_revision_and_its_parts_make_up_the_answer_of_a_range() {
    let server = Server::start().await;
    let mut client = filled(&server).await;
    let expected = client.kv.range(all()).await.unwrap().into_inner();
    let mut parts = client.kv.range_stream(all()).await.unwrap().into_inner();
    let mut merged = part(&mut parts).await.unwrap();
    assert!(merged.header.is_none() && merged.kvs.len() < KEYS);
    client.put("k/199", "changed").await;
    client.put("k/new", "").await;
    let delete = pb::DeleteRangeRequest { key: "k/198".into(), ..pb::DeleteRangeRequest::default() };
    client.kv.delete_range(delete).await.unwrap();
    while let Some(next) = part(&mut parts).await {
        assert!(merged.header.is_none() && merged.count == 0, "only the last part has them");
        merged.kvs.extend(next.kvs);
        (merged.header, merged.count, merged.more) = (next.header, next.count, next.more);
    }
    assert_eq!(merged, expected);
    drop((parts, client));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compaction_behind_its_revision_ends_a_stream() {
    let server = Server::start().await;
    let mut client = filled(&server).await;
    let mut parts = client.kv.range_stream(all()).await.unwrap().into_inner();
    let first = part(&mut parts).await.unwrap();
    client.put("other", "").await;
    let revision = client.revision().await;
    client.kv.compact(pb::CompactionRequest { revision, physical: true }).await.unwrap();
    let mut read = first.kvs.len();
    let ended = loop {
        match parts.message().await {
            Ok(Some(next)) => read += next.range_response.unwrap().kvs.len(),
            Ok(None) => panic!("all {read} keys of a past that was forgotten"),
            Err(status) => break status,
        }
    };
    let expected = (Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted");
    assert_eq!((ended.code(), ended.message()), expected);
    drop((parts, client));
    server.stop().await;
}

/// A part holds between half and twice of what a request may have, as far as single values allow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_grow_and_shrink_with_the_size_of_values() {
    let server = Server::start().await;
    let mut client = filled(&server).await;
    for number in 0..1000 {
        client.put(&format!("k.{number:04}"), "small").await;
    }
    let range = pb::RangeRequest { key: "k".into(), ..all() };
    let mut parts = client.kv.range_stream(range).await.unwrap().into_inner();
    let mut counts = Vec::new();
    while let Some(part) = part(&mut parts).await {
        counts.push(part.kvs.len());
    }
    assert_eq!(counts.iter().sum::<usize>(), 1000 + KEYS);
    assert_eq!(counts[..5], [10, 20, 40, 80, 160], "{counts:?}");
    let last = *counts.iter().rev().nth(1).unwrap();
    assert!((8..=31).contains(&last), "{last} values of {VALUE_BYTES} bytes are no good part: {counts:?}");
    drop((parts, client));
    server.stop().await;
}
