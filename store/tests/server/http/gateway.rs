//! The JSON gateway.

use tokio::io::{AsyncBufReadExt, BufReader};

use crate::harness::Server;

async fn post(server: &Server, path: &str, body: &str) -> (u16, String) {
    let (status, text) = server.ask(&format!("POST {path}"), "", body).await;
    // Ids differ from cluster to cluster; those of the store in memory are fixed.
    (status, text.replace(r#""cluster_id":"1","member_id":"1","#, "").replace(r#","raft_term":"1""#, ""))
}

async fn check(server: &Server, path: &str, body: &str, expected: (u16, &str)) {
    let (status, text) = post(server, path, body).await;
    assert_eq!((status, text.as_str()), expected, "{path} {body}");
}

#[tokio::test]
async fn keys_are_put_read_and_deleted() {
    let server = Server::start().await;
    let header = r#"{"header":{"revision":"2"}}"#;
    check(&server, "/v3/kv/put", r#"{"key":"Zm9v","value":"YmFy"}"#, (200, header)).await;
    let found = r#"{"header":{"revision":"2"},"kvs":[{"key":"Zm9v","create_revision":"2","mod_revision":"2","version":"1","value":"YmFy"}],"count":"1"}"#;
    check(&server, "/v3/kv/range", r#"{"key":"Zm9v"}"#, (200, found)).await;
    check(&server, "/v3/kv/range", r#"{"key":"Zg==","rangeEnd":"Zw=="}"#, (200, found)).await;
    let txn = r#"{"compare":[{"target":"CREATE","key":"Zm9v","createRevision":"2"}],"success":[{"requestPut":{"key":"Zm9v","value":"eA=="}}]}"#;
    let done = r#"{"header":{"revision":"3"},"succeeded":true,"responses":[{"response_put":{"header":{"revision":"3"}}}]}"#;
    check(&server, "/v3/kv/txn", txn, (200, done)).await;
    let deleted = r#"{"header":{"revision":"4"},"deleted":"1"}"#;
    check(&server, "/v3/kv/deleterange", r#"{"key":"Zm9v"}"#, (200, deleted)).await;
    server.stop().await;
}

#[tokio::test]
async fn errors_carry_text_code_and_http_status() {
    let server = Server::start().await;
    let text = "etcdserver: key is not provided";
    let expected = format!(r#"{{"code":3,"error":"{text}","message":"{text}"}}"#);
    check(&server, "/v3/kv/put", "{}", (400, &expected)).await;
    check(&server, "/v3/kv/put", "", (400, &expected)).await;
    let text = "etcdserver: requested lease not found";
    let expected = format!(r#"{{"code":5,"error":"{text}","message":"{text}"}}"#);
    check(&server, "/v3/lease/revoke", r#"{"ID":"7"}"#, (404, &expected)).await;
    assert_eq!(post(&server, "/v3/kv/put", "{").await.0, 400);
    assert_eq!(post(&server, "/v3/kv/put", r#"{"key":"%"}"#).await.0, 400);
    let unknown = r#"{"code":5,"error":"Not Found","message":"Not Found"}"#;
    check(&server, "/v3/kv/nonsense", "{}", (404, unknown)).await;
    assert_eq!(server.ask("GET /v3/kv/range", "", "").await.0, 501);
    server.stop().await;
}

#[tokio::test]
async fn leases_locks_and_elections_are_served() {
    let server = Server::start().await;
    let granted = r#"{"header":{"revision":"1"},"ID":"16","TTL":"600"}"#;
    check(&server, "/v3/lease/grant", r#"{"TTL":"600","ID":"16"}"#, (200, granted)).await;
    let (status, kept) = post(&server, "/v3/lease/keepalive", r#"{"ID":"16"}"#).await;
    assert_eq!(status, 200);
    assert!(kept.contains(r#"{"result":{"header":{"revision":"1"},"ID":"16","TTL":"600"}}"#), "{kept}");
    let (_, both) = post(&server, "/v3/lease/keepalive", "{\"ID\":\"16\"}\n{\"ID\":\"17\"}").await;
    let ids = [r#""ID":"16","TTL":"600""#, r#""ID":"17"}"#];
    assert!(both.matches("result").count() == 2 && ids.iter().all(|id| both.contains(id)), "{both}");
    // base64 of "lk", and of "lk/10".
    let locked = r#"{"header":{"revision":"2"},"key":"bGsvMTA="}"#;
    check(&server, "/v3/lock/lock", r#"{"name":"bGs=","lease":"16"}"#, (200, locked)).await;
    let text = "election: no leader";
    let expected = format!(r#"{{"code":2,"error":"{text}","message":"{text}"}}"#);
    check(&server, "/v3/election/leader", r#"{"name":"ZWw="}"#, (500, &expected)).await;
    let status = post(&server, "/v3/maintenance/status", "{}").await.1;
    assert!(status.contains(r#""version":"3.7.0""#) && status.contains(r#""raftTerm":"1""#), "{status}");
    server.stop().await;
}

#[tokio::test]
async fn a_downgrade_is_announced_and_cancelled() {
    let server = Server::start().await;
    let ask = async |body: &str| post(&server, "/v3/maintenance/downgrade", body).await;
    let done = (200, r#"{"header":{"revision":"1"},"version":"3.7"}"#.to_owned());
    let refused = |code: u8, text: &str| {
        (400, format!(r#"{{"code":{code},"error":"etcdserver: {text}","message":"etcdserver: {text}"}}"#))
    };
    assert_eq!(ask(r#"{"version":"3.6"}"#).await, done, "it is possible");
    assert_eq!(
        ask(r#"{"action":"ENABLE","version":"3.5"}"#).await,
        refused(3, "invalid downgrade target version")
    );
    assert_eq!(ask(r#"{"action":"ENABLE","version":"3.6.0"}"#).await, done);
    let status = post(&server, "/v3/maintenance/status", "{}").await.1;
    assert!(status.contains(r#""downgradeInfo":{"enabled":true,"targetVersion":"3.6.0"}"#), "{status}");
    let in_progress = refused(9, "cluster has a downgrade job in progress");
    assert_eq!(ask(r#"{"action":"ENABLE","version":"3.6.0"}"#).await, in_progress);
    assert_eq!(ask(r#"{"action":"CANCEL"}"#).await, done);
    let status = post(&server, "/v3/maintenance/status", "{}").await.1;
    assert!(status.contains(r#""downgradeInfo":{}"#), "{status}");
    server.stop().await;
}

/// Reads on to the next line that holds a result.
async fn next_result(lines: &mut tokio::io::Lines<BufReader<tokio::net::TcpStream>>) -> String {
    loop {
        let line = lines.next_line().await.unwrap().expect("the stream ended");
        if line.starts_with('{') {
            return line;
        }
    }
}

#[tokio::test]
async fn a_watch_is_a_line_for_each_response() {
    let server = Server::start().await;
    let watch = r#"{"create_request":{"key":"dw==","start_revision":"2"}}"#;
    let stream = server.send("POST /v3/watch", "", watch).await;
    let mut lines = BufReader::new(stream).lines();
    let created = next_result(&mut lines).await;
    assert!(
        created.starts_with(r#"{"result":{"header":{"#) && created.ends_with(r#""created":true}}"#),
        "{created}"
    );
    post(&server, "/v3/kv/put", r#"{"key":"dw==","value":"MQ=="}"#).await;
    let event = next_result(&mut lines).await;
    let expected = r#""events":[{"kv":{"key":"dw==","create_revision":"2","mod_revision":"2","version":"1","value":"MQ=="}}]}}"#;
    assert!(event.ends_with(expected), "{event}");
    drop(lines);
    server.stop().await;
}

#[tokio::test]
async fn a_token_comes_as_a_header() {
    let server = Server::start().await;
    for (path, body) in [
        ("user/add", r#"{"name":"root","password":"secret"}"#),
        ("role/add", r#"{"name":"root"}"#),
        ("user/grant", r#"{"user":"root","role":"root"}"#),
        ("enable", "{}"),
    ] {
        assert_eq!(post(&server, &format!("/v3/auth/{path}"), body).await.0, 200, "{path}");
    }
    let (_, answer) = post(&server, "/v3/auth/authenticate", r#"{"name":"root","password":"secret"}"#).await;
    let token = answer.split(r#""token":""#).nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    let range = async |headers: &str| server.ask("POST /v3/kv/range", headers, r#"{"key":"Zm9v"}"#).await.0;
    assert_eq!(range("").await, 400, "nobody asks");
    assert_eq!(range("authorization: nonsense\r\n").await, 401);
    assert_eq!(range(&format!("authorization: {token}\r\n")).await, 200);
    server.stop().await;
}

#[tokio::test]
async fn metadata_comes_as_headers() {
    let server = Server::start().await;
    let headers = "authorization: secret\r\ngrpc-metadata-hasleader: true\r\n";
    let (status, _) = server.ask("POST /v3/kv/range", headers, r#"{"key":"Zm9v"}"#).await;
    assert_eq!(status, 200);
    server.stop().await;
}
