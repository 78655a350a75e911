//! Recorded calls of etcd with authentication off and on, as nobody, users and root.
//!
//! Compared is every field that the recording gives, but for what differs from cluster to cluster. Recorded tokens stand for those
//! that this server gives in their places.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::StreamExt;
use pb::watch_request::RequestUnion;
use proto::{authpb, etcdserverpb as pb};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Response, Status};

use super::json::{bytes, header, number};
use super::replay::{Client, Connection, Outcome, failed, recorded, recordings};
use crate::harness::{PATIENCE, Server};

/// Calls that differ, each with the reason.
const EXCEPTIONS: [(i64, &str); 2] = [
    (362, "the store in memory is one member and has nobody to hand over to"),
    (363, "our version is another one"),
];
/// Fields that differ from cluster to cluster, from program to program, or with time.
const VOLATILE: [&str; 6] = ["cluster_id", "member_id", "raft_term", "TTL", "hash", "members"];
/// Every value of this field is another one.
const TOKEN: &str = "token";

/// Everything that one user may call.
struct Caller {
    client: Client,
    auth: pb::auth_client::AuthClient<Connection>,
    cluster: pb::cluster_client::ClusterClient<Connection>,
    watch: pb::watch_client::WatchClient<Connection>,
}

fn caller(server: &Server, token: Option<&str>) -> Caller {
    let connection = server.connection(token);
    Caller {
        client: Client::new(&connection),
        auth: pb::auth_client::AuthClient::new(connection.clone()),
        cluster: pb::cluster_client::ClusterClient::new(connection.clone()),
        watch: pb::watch_client::WatchClient::new(connection),
    }
}

/// An answer as the recording would show it.
type Shown = Result<Value, (Code, String)>;

fn show<T>(answer: Result<Response<T>, Status>, fields: impl FnOnce(T) -> Value) -> Shown {
    let mut shown = answer.map(|answer| fields(answer.into_inner())).map_err(|status| failed(&status))?;
    strip(&mut shown);
    Ok(shown)
}

fn head(header: Option<pb::ResponseHeader>) -> Value {
    header.map_or(Value::Null, |header| json!({"revision": header.revision}))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Printable bytes are recorded as text, others in hex.
fn show_bytes(bytes: &Bytes) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) if bytes.iter().all(|byte| (0x20..0x7f).contains(byte)) => json!(text),
        _ => json!({"hex": hex::encode(bytes)}),
    }
}

fn show_permission(permission: authpb::Permission) -> Value {
    json!({
        "permType": permission.perm_type().as_str_name(),
        "key": show_bytes(&permission.key),
        "range_end": show_bytes(&permission.range_end),
    })
}

/// Removes default values and what is not compared. The order of leases is that of their ends in etcd.
fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            VOLATILE.iter().for_each(|name| drop(fields.remove(*name)));
            if let Some(Value::Array(leases)) = fields.get_mut("leases") {
                leases.sort_by_key(|lease| number(&lease["ID"]));
            }
            fields.values_mut().for_each(strip);
            fields.retain(|name, value| name == "header" && value.is_object() || !is_default(value));
            if fields.get("permType").is_some_and(|kind| kind == "READ") {
                fields.remove("permType");
            }
            if let Some(token) = fields.get_mut(TOKEN) {
                *token = json!("given");
            }
        }
        Value::Array(values) => values.iter_mut().for_each(strip),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn is_default(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(_) => false,
    }
}

/// Makes a call that has one answer.
async fn call(caller: &mut Caller, rpc: &str, request: &Value) -> Shown {
    match rpc.split_once('.').unwrap() {
        ("Auth", name) => call_auth(&mut caller.auth, name, request).await,
        ("Cluster", name) => call_cluster(&mut caller.cluster, name, request).await,
        ("Maintenance", name) => call_maintenance(&mut caller.client.maintenance, name).await,
        ("Lease", name) => call_lease(&mut caller.client, name, request).await,
        _ => panic!("unknown call {rpc}"),
    }
}

async fn call_lease(client: &mut Client, name: &str, request: &Value) -> Shown {
    let id = number(&request["ID"]);
    match name {
        "LeaseTimeToLive" => {
            let keys = request["keys"].as_bool().unwrap_or_default();
            let answer = client.lease.lease_time_to_live(pb::LeaseTimeToLiveRequest { id, keys }).await;
            show(answer, |it| {
                let keys: Vec<Value> = it.keys.iter().map(show_bytes).collect();
                json!({"header": head(it.header), "ID": it.id, "grantedTTL": it.granted_ttl, "keys": keys})
            })
        }
        "LeaseLeases" => {
            let answer = client.lease.lease_leases(pb::LeaseLeasesRequest {}).await;
            show(answer, |it| {
                let leases: Vec<Value> = it.leases.iter().map(|lease| json!({"ID": lease.id})).collect();
                json!({"header": head(it.header), "leases": leases})
            })
        }
        other => panic!("unknown call of leases {other}"),
    }
}

async fn call_cluster(
    client: &mut pb::cluster_client::ClusterClient<Connection>,
    name: &str,
    request: &Value,
) -> Shown {
    match name {
        "MemberList" => show(
            client.member_list(pb::MemberListRequest::default()).await,
            |it| json!({"header": head(it.header)}),
        ),
        "MemberAdd" => {
            let urls = request["peerURLs"].as_array().unwrap().iter().map(text).collect();
            let request = pb::MemberAddRequest { peer_urls: urls, ..pb::MemberAddRequest::default() };
            show(client.member_add(request).await, |it| json!({"header": head(it.header)}))
        }
        other => panic!("unknown call of the cluster {other}"),
    }
}

async fn call_maintenance(
    client: &mut pb::maintenance_client::MaintenanceClient<Connection>,
    name: &str,
) -> Shown {
    match name {
        "Defragment" => {
            show(client.defragment(pb::DefragmentRequest {}).await, |it| json!({"header": head(it.header)}))
        }
        "Hash" => show(client.hash(pb::HashRequest {}).await, |it| json!({"header": head(it.header)})),
        "HashKV" => show(client.hash_kv(pb::HashKvRequest::default()).await, |it| {
            json!({
                "header": head(it.header),
                "compact_revision": it.compact_revision,
                "hash_revision": it.hash_revision,
            })
        }),
        "MoveLeader" => {
            let request = pb::MoveLeaderRequest { target_id: 1 };
            show(client.move_leader(request).await, |it| json!({"header": head(it.header)}))
        }
        "Downgrade" => {
            let request = pb::DowngradeRequest::default();
            show(client.downgrade(request).await, |it| json!({"header": head(it.header)}))
        }
        other => panic!("unknown call of maintenance {other}"),
    }
}

async fn call_auth(
    client: &mut pb::auth_client::AuthClient<Connection>,
    name: &str,
    request: &Value,
) -> Shown {
    let field = |name: &str| text(&request[name]);
    match name {
        "AuthStatus" => show(
            client.auth_status(pb::AuthStatusRequest {}).await,
            |it| json!({"header": head(it.header), "enabled": it.enabled, "authRevision": it.auth_revision}),
        ),
        "Authenticate" => {
            let request = pb::AuthenticateRequest { name: field("name"), password: field("password") };
            show(client.authenticate(request).await, |it| json!({"header": head(it.header), TOKEN: it.token}))
        }
        "UserGet" => show(
            client.user_get(pb::AuthUserGetRequest { name: field("name") }).await,
            |it| json!({"header": head(it.header), "roles": it.roles}),
        ),
        "UserList" => show(
            client.user_list(pb::AuthUserListRequest {}).await,
            |it| json!({"header": head(it.header), "users": it.users}),
        ),
        "RoleList" => show(
            client.role_list(pb::AuthRoleListRequest {}).await,
            |it| json!({"header": head(it.header), "roles": it.roles}),
        ),
        "RoleGet" => show(client.role_get(pb::AuthRoleGetRequest { role: field("role") }).await, |it| {
            let permissions: Vec<Value> = it.perm.into_iter().map(show_permission).collect();
            json!({"header": head(it.header), "perm": permissions})
        }),
        _ => {
            let header = change(client, name, request).await.map_err(|status| failed(&status))?;
            Ok(json!({"header": head(header)}))
        }
    }
}

/// Calls whose answers are nothing but headers.
async fn change(
    client: &mut pb::auth_client::AuthClient<Connection>,
    name: &str,
    request: &Value,
) -> Result<Option<pb::ResponseHeader>, Status> {
    let field = |name: &str| text(&request[name]);
    let (user, role, password) = (field("user"), field("role"), field("password"));
    Ok(match name {
        "AuthEnable" => client.auth_enable(pb::AuthEnableRequest {}).await?.into_inner().header,
        "AuthDisable" => client.auth_disable(pb::AuthDisableRequest {}).await?.into_inner().header,
        "UserAdd" => {
            let no_password = request["options"]["no_password"].as_bool().unwrap_or_default();
            let options = Some(pb_options(no_password));
            let request =
                pb::AuthUserAddRequest { name: field("name"), password, options, ..Default::default() };
            client.user_add(request).await?.into_inner().header
        }
        "UserDelete" => {
            client.user_delete(pb::AuthUserDeleteRequest { name: field("name") }).await?.into_inner().header
        }
        "UserChangePassword" => {
            let request =
                pb::AuthUserChangePasswordRequest { name: field("name"), password, ..Default::default() };
            client.user_change_password(request).await?.into_inner().header
        }
        "UserGrantRole" => {
            client.user_grant_role(pb::AuthUserGrantRoleRequest { user, role }).await?.into_inner().header
        }
        "UserRevokeRole" => {
            let request = pb::AuthUserRevokeRoleRequest { name: field("name"), role };
            client.user_revoke_role(request).await?.into_inner().header
        }
        "RoleAdd" => {
            client.role_add(pb::AuthRoleAddRequest { name: field("name") }).await?.into_inner().header
        }
        "RoleDelete" => client.role_delete(pb::AuthRoleDeleteRequest { role }).await?.into_inner().header,
        "RoleGrantPermission" => {
            let perm = request.get("perm").map(|perm| authpb::Permission {
                perm_type: authpb::permission::Type::from_str_name(&text(&perm["permType"]))
                    .unwrap_or_default()
                    .into(),
                key: bytes(&perm["key"]),
                range_end: bytes(&perm["range_end"]),
            });
            let request = pb::AuthRoleGrantPermissionRequest { name: field("name"), perm };
            client.role_grant_permission(request).await?.into_inner().header
        }
        "RoleRevokePermission" => {
            let (key, range_end) = (bytes(&request["key"]), bytes(&request["range_end"]));
            let request = pb::AuthRoleRevokePermissionRequest { role, key, range_end };
            client.role_revoke_permission(request).await?.into_inner().header
        }
        other => panic!("unknown call of authentication {other}"),
    })
}

fn pb_options(no_password: bool) -> authpb::UserAddOptions {
    authpb::UserAddOptions { no_password }
}

fn expected(case: &Value) -> Shown {
    if case.get("error").is_some() {
        return Err(recorded(case).unwrap_err());
    }
    let mut response = case["response"].clone();
    strip(&mut response);
    Ok(response)
}

/// Plays the steps of one stream; returns the first difference.
async fn play<Q, A: std::fmt::Debug>(
    steps: &Value,
    requests: mpsc::Sender<Q>,
    mut answers: tonic::Streaming<A>,
    request: impl Fn(&Value) -> Q,
    (normal, read): (impl Fn(A) -> A, impl Fn(&Value) -> A),
) -> Result<(), String> {
    for step in steps.as_array().unwrap() {
        if let Some(sent) = step.get("send") {
            // Behind an error nobody listens any more.
            let _ = requests.send(request(sent)).await;
            continue;
        }
        let answer = tokio::time::timeout(PATIENCE, answers.next()).await.expect("no answer came");
        let ours = match answer {
            Some(answer) => answer.map(|it| format!("{:?}", normal(it))).map_err(|status| failed(&status)),
            None => return Err(format!("the stream ended before {step}")),
        };
        let theirs: Outcome = match step.get("recv") {
            Some(received) => Ok(format!("{:?}", read(received))),
            None => Err(recorded(step).unwrap_err()),
        };
        if ours != theirs {
            return Err(format!("etcd: {theirs:?}\n  ours: {ours:?}"));
        }
    }
    Ok(())
}

fn plain_header(header: Option<pb::ResponseHeader>) -> Option<pb::ResponseHeader> {
    header.map(|it| pb::ResponseHeader { revision: it.revision, ..pb::ResponseHeader::default() })
}

async fn play_watch(caller: &mut Caller, steps: &Value) -> Result<(), String> {
    let (requests, receiver) = mpsc::channel(16);
    let answers = caller.watch.watch(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    let request = |sent: &Value| {
        let create = &sent["create_request"];
        let (key, range_end) = (bytes(&create["key"]), bytes(&create["range_end"]));
        let create = pb::WatchCreateRequest { key, range_end, ..pb::WatchCreateRequest::default() };
        pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
    };
    let normal = |it: pb::WatchResponse| pb::WatchResponse { header: plain_header(it.header), ..it };
    let read = |received: &Value| pb::WatchResponse {
        header: header(&received["header"]),
        watch_id: number(&received["watch_id"]),
        created: received["created"].as_bool().unwrap_or_default(),
        canceled: received["canceled"].as_bool().unwrap_or_default(),
        cancel_reason: text(&received["cancel_reason"]),
        ..pb::WatchResponse::default()
    };
    play(steps, requests, answers, request, (normal, read)).await
}

async fn play_keep_alive(caller: &mut Caller, steps: &Value) -> Result<(), String> {
    let (requests, receiver) = mpsc::channel(16);
    let opened = caller.client.lease.lease_keep_alive(ReceiverStream::new(receiver)).await;
    let request = |sent: &Value| pb::LeaseKeepAliveRequest { id: number(&sent["ID"]) };
    let normal =
        |it: pb::LeaseKeepAliveResponse| pb::LeaseKeepAliveResponse { header: plain_header(it.header), ..it };
    let read = |received: &Value| pb::LeaseKeepAliveResponse {
        header: header(&received["header"]),
        id: number(&received["ID"]),
        ttl: number(&received["TTL"]),
    };
    play(steps, requests, opened.unwrap().into_inner(), request, (normal, read)).await
}

/// Leases and keys that the recording made without noting them.
async fn prepare(server: &Server) {
    let mut client = server.client();
    for id in [11, 12] {
        client.lease.lease_grant(pb::LeaseGrantRequest { ttl: 600, id }).await.unwrap();
    }
    for (key, lease) in [("a1", 0), ("x", 0), ("secret", 11), ("x", 12)] {
        let put = pb::PutRequest { key: key.into(), value: "1".into(), lease, ..Default::default() };
        client.kv.put(put).await.unwrap();
    }
}

/// Recorded tokens and those that this server gave for them.
#[derive(Default)]
struct Tokens {
    given: BTreeMap<String, String>,
    /// By user, for streams, whose tokens the recording leaves out.
    by_user: BTreeMap<String, String>,
}

impl Tokens {
    fn of<'a>(&'a self, case: &'a Value) -> Option<&'a str> {
        if case.get("stream").is_some() {
            let user = case["section"].as_str().unwrap().strip_prefix("auth on, as ").unwrap();
            return match user {
                "nobody" => None,
                "bad token" => Some("xx.1"),
                user => Some(&self.by_user[user]),
            };
        }
        let recorded = case["metadata"][TOKEN].as_str()?;
        Some(self.given.get(recorded).map_or(recorded, String::as_str))
    }

    async fn authenticate(&mut self, server: &Server, case: &Value) {
        let (name, password) = (text(&case["request"]["name"]), text(&case["request"]["password"]));
        let mut client = caller(server, None).auth;
        let request = pb::AuthenticateRequest { name: name.clone(), password };
        let token = client.authenticate(request).await.unwrap().into_inner().token;
        self.given.insert(text(&case["response"][TOKEN]), token.clone());
        self.by_user.insert(name, token);
    }
}

/// Makes one recorded call; returns the difference if there is one.
async fn replay(caller: &mut Caller, case: &Value) -> Result<(), String> {
    let (rpc, request) = (case["rpc"].as_str().unwrap(), &case["request"]);
    match rpc {
        "Watch.Watch" => return play_watch(caller, &case["stream"]).await,
        "Lease.LeaseKeepAlive" => return play_keep_alive(caller, &case["stream"]).await,
        _ => {}
    }
    if let Some(ours) = caller.client.call(rpc, request).await {
        let theirs = recorded(case);
        return if ours == theirs { Ok(()) } else { Err(format!("etcd: {theirs:?}\n  ours: {ours:?}")) };
    }
    let (ours, theirs) = (call(caller, rpc, request).await, expected(case));
    if ours == theirs { Ok(()) } else { Err(format!("etcd: {theirs:?}\n  ours: {ours:?}")) }
}

#[tokio::test]
async fn recorded_calls_of_users_are_answered_as_etcd_answered_them() {
    let Some(recordings) = recordings("auth.jsonl") else { return };
    let server = Server::start().await;
    let mut tokens = Tokens::default();
    let (mut differences, mut replayed) = (Vec::new(), 0);
    for case in recordings {
        let number = case["n"].as_i64().unwrap();
        if number == 50 {
            prepare(&server).await;
        }
        if EXCEPTIONS.iter().any(|&(exception, _)| exception == number) {
            continue;
        }
        let mut caller = caller(&server, tokens.of(&case));
        if let Err(difference) = replay(&mut caller, &case).await {
            differences.push(format!("call {number} {} {}\n  {difference}", case["rpc"], case["request"]));
        }
        if case["response"][TOKEN].is_string() {
            tokens.authenticate(&server, &case).await;
        }
        replayed += 1;
    }
    println!("{replayed} calls replayed");
    assert!(differences.is_empty(), "{} differences\n{}", differences.len(), differences.join("\n"));
    assert_eq!(replayed, 390 - EXCEPTIONS.len());
    server.stop().await;
}
