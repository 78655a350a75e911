//! The recording of keys, leases and locks, and what replays any recording.

use super::{contest, json};
use std::path::Path;

use crate::harness::{PATIENCE, Server, skip};
use futures::StreamExt;
use proto::{etcdserverpb as pb, v3electionpb, v3lockpb};
use serde_json::Value;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// Recorded calls, beside the repository.
const RECORDINGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/etcd-wire");
const SECTIONS: [&str; 11] = [
    "empty store",
    "put",
    "range",
    "range stream",
    "delete",
    "txn",
    "nested txn",
    "compaction",
    "nospace alarm",
    "lease",
    "lock and election",
];
/// Calls that differ, each with the reason.
const EXCEPTIONS: [(i64, &str); 2] = [
    (25, "a message above the wire limit is refused by the gRPC library with its own code and text"),
    (312, "the hash of a revision names the compaction that it was computed under"),
];

/// Puts a token, if there is one, into every request.
#[derive(Clone)]
pub(super) struct Token(Option<MetadataValue<Ascii>>);

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("token", token.clone());
        }
        Ok(request)
    }
}

pub(super) type Connection = InterceptedService<Channel, Token>;

#[derive(Clone)]
pub(super) struct Client {
    pub(super) kv: pb::kv_client::KvClient<Connection>,
    pub(super) lease: pb::lease_client::LeaseClient<Connection>,
    pub(super) maintenance: pb::maintenance_client::MaintenanceClient<Connection>,
    pub(super) lock: v3lockpb::lock_client::LockClient<Connection>,
    pub(super) election: v3electionpb::election_client::ElectionClient<Connection>,
}

/// An answer in a form that can be compared: debug text of the message, or code and text of the error.
pub(super) type Outcome = Result<String, (Code, String)>;

pub(super) fn failed(status: &Status) -> (Code, String) {
    (status.code(), status.message().to_owned())
}

/// Removes what differs from cluster to cluster.
pub(super) fn plain(header: &mut Option<pb::ResponseHeader>) {
    if let Some(header) = header {
        *header = pb::ResponseHeader { revision: header.revision, ..pb::ResponseHeader::default() };
    }
}

impl Client {
    pub(super) fn new(connection: &Connection) -> Self {
        Self {
            kv: pb::kv_client::KvClient::new(connection.clone()),
            lease: pb::lease_client::LeaseClient::new(connection.clone()),
            maintenance: pb::maintenance_client::MaintenanceClient::new(connection.clone()),
            lock: v3lockpb::lock_client::LockClient::new(connection.clone()),
            election: v3electionpb::election_client::ElectionClient::new(connection.clone()),
        }
    }

    /// Makes a recorded call; `None` for one that is not replayed.
    pub(super) async fn call(&mut self, rpc: &str, request: &Value) -> Option<Outcome> {
        Some(match rpc {
            "KV.Range" => {
                show(self.kv.range(json::range_request(request)).await, |answer| &mut answer.header)
            }
            "KV.Put" => show(self.kv.put(json::put_request(request)).await, |answer| &mut answer.header),
            "KV.DeleteRange" => {
                show(self.kv.delete_range(json::delete_request(request)).await, |answer| &mut answer.header)
            }
            "KV.Txn" => show(self.kv.txn(json::txn_request(request)).await, |answer| &mut answer.header),
            "KV.Compact" => {
                let physical = request["physical"].as_bool().unwrap_or_default();
                let request =
                    pb::CompactionRequest { revision: json::number(&request["revision"]), physical };
                show(self.kv.compact(request).await, |answer| &mut answer.header)
            }
            "KV.RangeStream" => self.range_stream(request).await,
            "Lease.LeaseGrant" => {
                let request = pb::LeaseGrantRequest {
                    ttl: json::number(&request["TTL"]),
                    id: json::number(&request["ID"]),
                };
                let is_given = request.id != 0;
                let outcome = show(self.lease.lease_grant(request).await, |answer| &mut answer.header);
                // An id that the server picked differs from time to time.
                return Some(outcome).filter(|outcome| is_given || outcome.is_err());
            }
            "Maintenance.Alarm" => {
                let answer = self.maintenance.alarm(json::alarm_request(request)).await;
                show(answer, |answer| &mut answer.header)
            }
            "Maintenance.Status" => {
                let status = self.maintenance.status(pb::StatusRequest {}).await;
                status.map(|status| shown_status(status.into_inner())).map_err(|status| failed(&status))
            }
            "Lease.LeaseRevoke" => {
                let request = pb::LeaseRevokeRequest { id: json::number(&request["ID"]) };
                show(self.lease.lease_revoke(request).await, |answer| &mut answer.header)
            }
            _ => return contest::call(self, rpc, request).await,
        })
    }

    async fn range_stream(&mut self, request: &Value) -> Outcome {
        let parts = self.kv.range_stream(json::range_request(request)).await;
        let mut parts = parts.map_err(|status| failed(&status))?.into_inner();
        let mut shown = Vec::new();
        while let Some(part) = parts.next().await {
            let mut part = part.map_err(|status| failed(&status))?.range_response.unwrap();
            plain(&mut part.header);
            shown.push(part);
        }
        Ok(format!("{shown:?}"))
    }

    pub(super) async fn put(&mut self, key: &str, value: &str) {
        let request = pb::PutRequest {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            ..pb::PutRequest::default()
        };
        self.kv.put(request).await.unwrap();
    }

    pub(super) async fn revision(&mut self) -> i64 {
        let request = pb::RangeRequest { key: "any".into(), ..pb::RangeRequest::default() };
        self.kv.range(request).await.unwrap().into_inner().header.unwrap().revision
    }
}

/// Versions, indexes and sizes are each server's own.
fn shown_status(status: pb::StatusResponse) -> String {
    format!("learner: {}, errors: {:?}", status.is_learner, status.errors)
}

pub(super) fn show<T: std::fmt::Debug>(
    answer: Result<tonic::Response<T>, Status>,
    header: impl FnOnce(&mut T) -> &mut Option<pb::ResponseHeader>,
) -> Outcome {
    let mut answer = answer.map_err(|status| failed(&status))?.into_inner();
    plain(header(&mut answer));
    Ok(format!("{answer:?}"))
}

/// What etcd answered.
pub(super) fn recorded(case: &Value) -> Outcome {
    if let Some(error) = case.get("error") {
        let code = match error["code"].as_str().unwrap() {
            "INVALID_ARGUMENT" => Code::InvalidArgument,
            "OUT_OF_RANGE" => Code::OutOfRange,
            "NOT_FOUND" => Code::NotFound,
            "FAILED_PRECONDITION" => Code::FailedPrecondition,
            "UNIMPLEMENTED" => Code::Unimplemented,
            "RESOURCE_EXHAUSTED" => Code::ResourceExhausted,
            "DATA_LOSS" => Code::DataLoss,
            "PERMISSION_DENIED" => Code::PermissionDenied,
            "UNAUTHENTICATED" => Code::Unauthenticated,
            "UNKNOWN" => Code::Unknown,
            "DEADLINE_EXCEEDED" => return contest::gave_up(case),
            other => panic!("unknown code {other}"),
        };
        return Err((code, error["message"].as_str().unwrap().to_owned()));
    }
    let response = &case["response"];
    Ok(match case["rpc"].as_str().unwrap() {
        "KV.Range" => format!("{:?}", json::range_response(response)),
        "KV.Put" => format!("{:?}", json::put_response(response)),
        "KV.DeleteRange" => format!("{:?}", json::delete_response(response)),
        "KV.Txn" => format!("{:?}", json::txn_response(response)),
        "KV.Compact" => format!("{:?}", pb::CompactionResponse { header: json::header(&response["header"]) }),
        "KV.RangeStream" => {
            let parts: Vec<pb::RangeResponse> = case["responses"]
                .as_array()
                .unwrap()
                .iter()
                .map(|part| json::range_response(&part["range_response"]))
                .collect();
            format!("{parts:?}")
        }
        "Lease.LeaseGrant" => {
            let answer = pb::LeaseGrantResponse {
                header: json::header(&response["header"]),
                id: json::number(&response["ID"]),
                ttl: json::number(&response["TTL"]),
                error: String::new(),
            };
            format!("{answer:?}")
        }
        "Maintenance.Alarm" => format!("{:?}", json::alarm_response(response)),
        "Maintenance.Status" => shown_status(json::status_response(response)),
        "Lease.LeaseRevoke" => {
            format!("{:?}", pb::LeaseRevokeResponse { header: json::header(&response["header"]) })
        }
        rpc => contest::recorded(rpc, case),
    })
}

/// Writes that the recording made without noting them.
async fn prepare(client: &mut Client, case: &Value) {
    match case["n"].as_i64().unwrap() {
        116 => {
            for number in 0..60 {
                client.put(&format!("rs/{number:03}"), &"x".repeat(100)).await;
            }
        }
        // The section before this one is about watches, which have tests of their own.
        418 => {
            while client.revision().await < 182 {
                client.put("padding", "").await;
            }
            for id in [7000, 7001] {
                client.lease.lease_grant(pb::LeaseGrantRequest { ttl: 600, id }).await.unwrap();
            }
        }
        // The recording waited for a lease of two seconds to end.
        380 => {
            let expired = async { while client.revision().await < 118 {} };
            tokio::time::timeout(PATIENCE, expired).await.expect("a lease of two seconds ends");
        }
        _ => {}
    }
}

impl Server {
    pub(super) fn client(&self) -> Client {
        Client::new(&self.connection(None))
    }

    /// Returns a connection that shows a token.
    pub(super) fn connection(&self, token: Option<&str>) -> Connection {
        let token = token.map(|token| token.parse().unwrap());
        InterceptedService::new(self.channel(), Token(token))
    }
}

/// Returns what was recorded; says so when it is not there.
pub(super) fn recordings(file: &str) -> Option<Vec<Value>> {
    let Ok(text) = std::fs::read_to_string(Path::new(RECORDINGS).join(file)) else {
        skip("no recordings beside the repository");
        return None;
    };
    Some(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[tokio::test]
async fn recorded_calls_are_answered_as_etcd_answered_them() {
    let Some(recordings) = recordings("kv.jsonl") else { return };
    let server = Server::start().await;
    let mut client = server.client();
    let mut differences = Vec::new();
    let mut replayed = 0;
    for case in recordings {
        let number = case["n"].as_i64().unwrap();
        let is_exception = EXCEPTIONS.iter().any(|&(exception, _)| exception == number);
        if !SECTIONS.contains(&case["section"].as_str().unwrap()) || is_exception {
            continue;
        }
        prepare(&mut client, &case).await;
        let (rpc, request) = (case["rpc"].as_str().unwrap(), &case["request"]);
        let outcome = if contest::is_given_up(&case) {
            contest::give_up(&mut client, rpc, request).await
        } else {
            let Some(outcome) = client.call(rpc, request).await else { continue };
            outcome
        };
        replayed += 1;
        let expected = recorded(&case);
        if outcome != expected {
            differences.push(format!(
                "call {number} {}\n  etcd: {expected:?}\n  ours: {outcome:?}",
                case["request"]
            ));
        }
    }
    println!("{replayed} calls replayed");
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert!(replayed > 335, "only {replayed} calls replayed");
    drop(client);
    server.stop().await;
}
