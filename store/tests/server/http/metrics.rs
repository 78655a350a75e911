//! What `/metrics` counts of clients.

use std::collections::BTreeMap;

use proto::etcdserverpb as pb;
use tokio_stream::wrappers::ReceiverStream;

use crate::harness::{Server, until};

/// Returns every metric with its labels, and its value.
async fn metrics(server: &Server) -> BTreeMap<String, f64> {
    let (status, text) = server.ask("GET /metrics", "", "").await;
    assert_eq!(status, 200);
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = samples.map(|line| line.rsplit_once(' ').unwrap());
    pairs.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect()
}

fn handled(code: &str, kind: &str, service: &str, method: &str) -> String {
    format!(
        r#"grpc_server_handled_total{{grpc_code="{code}",grpc_type="{kind}",grpc_service="etcdserverpb.{service}",grpc_method="{method}"}}"#
    )
}

#[tokio::test]
async fn calls_are_counted_by_method_and_code_and_streams_while_they_last() {
    let server = Server::start().await;
    let mut kv = pb::kv_client::KvClient::new(server.channel());
    for _ in 0..3 {
        kv.put(pb::PutRequest { key: "k".into(), ..pb::PutRequest::default() }).await.unwrap();
    }
    kv.put(pb::PutRequest::default()).await.unwrap_err();
    let range = pb::RangeRequest { key: "k".into(), ..pb::RangeRequest::default() };
    let mut parts = kv.range_stream(range).await.unwrap().into_inner();
    while parts.message().await.unwrap().is_some() {}
    let mut watch = pb::watch_client::WatchClient::new(server.channel());
    let (requests, receiver) = tokio::sync::mpsc::channel(1);
    let watching = watch.watch(ReceiverStream::new(receiver)).await.unwrap();

    let found = metrics(&server).await;
    let count = |name: &str| found.get(name).copied().unwrap_or_default();
    assert_eq!(count(&handled("OK", "unary", "KV", "Put")), 3.0, "{found:#?}");
    assert_eq!(count(&handled("InvalidArgument", "unary", "KV", "Put")), 1.0);
    assert_eq!(count(&handled("OK", "server_stream", "KV", "RangeStream")), 1.0);
    assert_eq!(count("etcd_debugging_mvcc_watch_stream_total"), 1.0);
    assert!(count("etcd_network_client_grpc_received_bytes_total") > 100.0);
    assert!(count("etcd_network_client_grpc_sent_bytes_total") > 100.0);
    // The shared connection, and the one that asks.
    assert_eq!(count("keelson_store_client_connections"), 2.0);
    assert!(count("process_resident_memory_bytes") > 1_000_000.0);

    drop((requests, watching, watch));
    until("the end of the stream", async || {
        let found = metrics(&server).await;
        // Whether the server hears of the end of the requests or of the whole stream first is chance.
        let ended = ["OK", "Canceled"].map(|code| handled(code, "bidi_stream", "Watch", "Watch"));
        let ended: f64 = ended.iter().filter_map(|name| found.get(name)).sum();
        (ended == 1.0 && found["etcd_debugging_mvcc_watch_stream_total"] == 0.0).then_some(())
    })
    .await;
    server.stop().await;
}
