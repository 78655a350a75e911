//! The shapes of the watch protocol, as clients depend on them.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use pb::watch_request::RequestUnion;
use proto::etcdserverpb as pb;
use store::etcd::{Edge, EtcdOptions};
use store::memory::MemoryStore;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::replay::Client;
use crate::harness::{PATIENCE, Server};

/// One watch stream.
struct Session {
    requests: mpsc::Sender<pb::WatchRequest>,
    responses: Streaming<pb::WatchResponse>,
}

impl Session {
    async fn open(server: &Server) -> Self {
        let (requests, receiver) = mpsc::channel(16);
        let mut client = pb::watch_client::WatchClient::new(server.channel());
        let responses = client.watch(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        Self { requests, responses }
    }

    async fn send(&self, request: RequestUnion) {
        self.requests.send(pb::WatchRequest { request_union: Some(request) }).await.unwrap();
    }

    async fn create(&mut self, create: pb::WatchCreateRequest) -> pb::WatchResponse {
        self.send(RequestUnion::CreateRequest(create)).await;
        self.next().await
    }

    async fn ask_progress(&self) {
        self.send(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})).await;
    }

    async fn next(&mut self) -> pb::WatchResponse {
        let response = tokio::time::timeout(PATIENCE, self.responses.next()).await;
        response.expect("no response came").expect("the stream ended").unwrap()
    }
}

fn watch(key: &'static str) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest { key: key.into(), ..pb::WatchCreateRequest::default() }
}

fn revision(response: &pb::WatchResponse) -> i64 {
    response.header.unwrap().revision
}

/// What clients see of a refused watch.
fn refusal(response: &pb::WatchResponse) -> (i64, bool, bool, &str) {
    (response.watch_id, response.created, response.canceled, response.cancel_reason.as_str())
}

async fn compact(client: &mut Client, revision: i64) {
    client.kv.compact(pb::CompactionRequest { revision, physical: true }).await.unwrap();
}

#[tokio::test]
async fn ids_are_given_from_zero_and_skip_those_in_use() {
    let server = Server::start().await;
    let mut session = Session::open(&server).await;
    let chosen = pb::WatchCreateRequest { watch_id: 1, ..watch("a") };
    assert_eq!(session.create(chosen.clone()).await.watch_id, 1);
    assert_eq!(session.create(watch("b")).await.watch_id, 0);
    assert_eq!(session.create(watch("c")).await.watch_id, 2);
    let duplicate = session.create(chosen).await;
    let reason = "mvcc: duplicate watch ID provided on the WatchStream";
    assert_eq!(refusal(&duplicate), (-1, true, true, reason));
    drop(session);
    server.stop().await;
}

#[tokio::test]
async fn impossible_watches_are_created_and_cancelled_in_one_response() {
    let server = Server::start().await;
    let mut session = Session::open(&server).await;
    let empty = pb::WatchCreateRequest { range_end: "a".into(), ..watch("w") };
    let response = session.create(empty).await;
    assert_eq!(refusal(&response), (-1, true, true, "mvcc: watcher range is empty"));
    let negative = pb::WatchCreateRequest { start_revision: -1, ..watch("w") };
    let response = session.create(negative).await;
    let reason = "etcdserver: mvcc: required revision has been compacted";
    assert_eq!(refusal(&response), (-1, true, true, reason));
    assert_eq!(session.create(watch("w")).await.watch_id, 0, "the stream lives on");
    drop(session);
    server.stop().await;
}

#[tokio::test]
async fn a_compacted_start_is_created_first_and_then_cancelled_with_the_revision() {
    let server = Server::start().await;
    let mut client = server.client();
    for value in ["1", "2", "3"] {
        client.put("w", value).await;
    }
    compact(&mut client, 4).await;
    let mut session = Session::open(&server).await;
    let created = session.create(pb::WatchCreateRequest { start_revision: 2, ..watch("w") }).await;
    assert_eq!((created.created, created.canceled, revision(&created)), (true, false, 4));
    let cancelled = session.next().await;
    assert_eq!((cancelled.canceled, cancelled.compact_revision, revision(&cancelled)), (true, 4, 0));
    assert_eq!(cancelled.cancel_reason, "");
    drop((session, client));
    server.stop().await;
}

#[tokio::test]
async fn events_follow_created_with_what_was_before_and_without_what_is_filtered() {
    let server = Server::start().await;
    let mut client = server.client();
    client.put("w", "1").await;
    let mut session = Session::open(&server).await;
    let deletes = pb::WatchCreateRequest {
        prev_kv: true,
        filters: vec![pb::watch_create_request::FilterType::Noput.into()],
        ..watch("w")
    };
    assert_eq!(revision(&session.create(deletes).await), 2);
    client.put("w", "2").await;
    let delete = pb::DeleteRangeRequest { key: "w".into(), ..pb::DeleteRangeRequest::default() };
    client.kv.delete_range(delete).await.unwrap();
    let response = session.next().await;
    assert_eq!((response.watch_id, revision(&response), response.events.len()), (0, 4, 1));
    let event = &response.events[0];
    assert_eq!(event.r#type(), proto::mvccpb::event::EventType::Delete);
    assert_eq!(event.prev_kv.as_ref().unwrap().value, "2");
    drop((session, client));
    server.stop().await;
}

#[tokio::test]
async fn a_cancel_is_confirmed_once_and_unknown_ids_are_ignored() {
    let server = Server::start().await;
    let mut session = Session::open(&server).await;
    session.create(watch("a")).await;
    for watch_id in [0, 0, 99] {
        session.send(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id })).await;
    }
    let cancelled = session.next().await;
    assert_eq!((cancelled.watch_id, cancelled.canceled, cancelled.created), (0, true, false));
    assert!(session.create(watch("b")).await.created, "nothing else was answered");
    drop(session);
    server.stop().await;
}

#[tokio::test]
async fn progress_is_answered_for_the_stream_behind_all_events() {
    let server = Server::start().await;
    let mut client = server.client();
    let mut session = Session::open(&server).await;
    session.create(watch("a")).await;
    session.create(watch("b")).await;
    client.put("b", "1").await; // 2
    client.put("c", "1").await; // 3
    session.ask_progress().await;
    let event = session.next().await;
    assert_eq!((event.watch_id, event.events.len()), (1, 1));
    let progress = session.next().await;
    assert_eq!((progress.watch_id, progress.events.len(), revision(&progress)), (-1, 0, 3));
    session.create(pb::WatchCreateRequest { start_revision: 50, ..watch("a") }).await;
    session.ask_progress().await;
    let next = session.create(watch("d")).await;
    assert!(next.created, "no progress while a watcher of the stream starts in the future");
    drop((session, client));
    server.stop().await;
}

#[tokio::test]
async fn who_asks_to_be_notified_hears_of_progress_again_and_again_and_others_do_not() {
    let options =
        EtcdOptions { watch_progress_interval: Duration::from_millis(100), ..EtcdOptions::default() };
    let server = Server::with_options(Edge::new(&Arc::new(MemoryStore::new())), options).await;
    let mut client = server.client();
    let mut session = Session::open(&server).await;
    session.create(watch("a")).await;
    session.create(pb::WatchCreateRequest { progress_notify: true, ..watch("b") }).await;
    client.put("c", "1").await; // 2
    for _ in 0..3 {
        let progress = session.next().await;
        assert_eq!((progress.watch_id, progress.events.len()), (1, 0));
        assert!(!progress.created && !progress.canceled);
    }
    assert_eq!(revision(&session.next().await), 2, "it has reached the last change by now");
    drop((session, client));
    server.stop().await;
}

#[tokio::test]
async fn a_large_revision_is_cut_into_fragments_when_asked() {
    let server = Server::start().await;
    let mut client = server.client();
    for number in 0..6 {
        client.put(&format!("f{number}"), &"x".repeat(500_000)).await;
    }
    let delete = pb::DeleteRangeRequest { key: "f".into(), range_end: "g".into(), prev_kv: false };
    client.kv.delete_range(delete).await.unwrap(); // 8
    let mut session = Session::open(&server).await;
    let create = pb::WatchCreateRequest {
        range_end: "g".into(),
        start_revision: 8,
        prev_kv: true,
        fragment: true,
        ..watch("f")
    };
    session.create(create).await;
    let first = session.next().await;
    let last = session.next().await;
    assert!(first.fragment && !last.fragment);
    assert_eq!(first.events.len() + last.events.len(), 6);
    drop((session, client));
    server.stop().await;
}
