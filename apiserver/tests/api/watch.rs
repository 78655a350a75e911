//! Watches: resuming without a gap, selectors, initial events.

use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::harness::{DEADLINE, Rest, TestServer};

const MAPS: &str = "/api/v1/namespaces/lw/configmaps";

/// Reads `count` events of a watch as `TYPE name`.
async fn events(client: &Rest, query: &str, count: usize) -> Vec<(String, Value)> {
    let mut body = client.open("GET", &format!("{MAPS}?watch=1&{query}"), "", Vec::new()).await.into_body();
    let mut text = Vec::new();
    let read = async {
        loop {
            let lines: Vec<Value> = text
                .split(|byte| *byte == b'\n')
                .filter_map(|line| serde_json::from_slice(line).ok())
                .collect();
            if lines.len() >= count {
                return lines;
            }
            let Some(frame) = body.frame().await else { return lines };
            text.extend_from_slice(&frame.unwrap().into_data().unwrap());
        }
    };
    let lines = tokio::time::timeout(DEADLINE, read).await.expect("events in time");
    let name = |event: &Value| event["object"]["metadata"]["name"].as_str().unwrap_or("-").to_owned();
    lines
        .into_iter()
        .map(|event| {
            (format!("{} {}", event["type"].as_str().unwrap_or("?"), name(&event)), event["object"].clone())
        })
        .collect()
}

fn names(events: &[(String, Value)]) -> Vec<&str> {
    events.iter().map(|(name, _)| name.as_str()).collect()
}

#[tokio::test]
async fn a_watch_shows_every_change_from_its_revision_on() {
    let server = TestServer::start().await;
    let admin = server.admin();
    admin.namespace("lw").await;
    let start = admin.get(MAPS).await.expect(200)["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let path = format!("{MAPS}/w");
    admin.post(MAPS, &json!({"metadata": {"name": "w", "labels": {"n": "w"}}})).await.expect(201);
    admin.merge(&path, &json!({"data": {"a": "1"}})).await.expect(200);
    admin.merge(&path, &json!({"metadata": {"labels": {"n": "x"}}})).await.expect(200);
    admin.merge(&path, &json!({"metadata": {"labels": {"n": "w"}}})).await.expect(200);
    admin.delete(&path, &json!({})).await.expect(200);
    let all = events(&admin, &format!("resourceVersion={start}"), 5).await;
    assert_eq!(names(&all), ["ADDED w", "MODIFIED w", "MODIFIED w", "MODIFIED w", "DELETED w"]);
    // Resuming after the second event repeats nothing and skips nothing.
    let second = all[1].1["metadata"]["resourceVersion"].as_str().unwrap();
    let resumed = events(&admin, &format!("resourceVersion={second}"), 3).await;
    assert_eq!(resumed, all[2..]);
    let selected = events(&admin, &format!("resourceVersion={start}&labelSelector=n%3Dw"), 5).await;
    assert_eq!(names(&selected), ["ADDED w", "MODIFIED w", "DELETED w", "ADDED w", "DELETED w"]);
    assert_eq!(selected[4].1["metadata"]["labels"]["n"], "w", "a deletion carries the last state");
    assert_eq!(selected[4].1["metadata"]["resourceVersion"], all[4].1["metadata"]["resourceVersion"]);
    server.stop().await;
}

#[tokio::test]
async fn initial_events_end_with_a_marked_bookmark() {
    let server = TestServer::start().await;
    let admin = server.admin();
    admin.namespace("lw").await;
    admin.post(MAPS, &json!({"metadata": {"name": "a"}})).await.expect(201);
    let query = "sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan";
    let initial = events(&admin, query, 2).await;
    assert_eq!(names(&initial), ["ADDED a", "BOOKMARK -"]);
    assert_eq!(initial[1].1["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    let refused = admin.get(&format!("{MAPS}?watch=1&sendInitialEvents=true")).await;
    assert_eq!(refused.code, 422);
    server.stop().await;
}

#[tokio::test]
async fn a_watch_that_times_out_says_how_far_it_came() {
    let server = TestServer::start().await;
    let admin = server.admin();
    admin.namespace("lw").await;
    let start = admin.get(MAPS).await.expect(200)["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let query = format!("resourceVersion={start}&timeoutSeconds=1&allowWatchBookmarks=true");
    let ended = events(&admin, &query, 9).await;
    let (last, object) = ended.last().unwrap();
    assert_eq!(last, "BOOKMARK -");
    let revision: u64 = object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    assert!(revision >= start.parse().unwrap());
    server.stop().await;
}
