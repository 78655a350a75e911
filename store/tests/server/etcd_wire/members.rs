//! Recorded calls about members against a member of its own: the whole section that one process can play.

use std::collections::BTreeMap;

use proto::etcdserverpb as pb;
use serde_json::Value;
use store::etcd::Edge;
use store::kv::Kv;
use store::{Config, Member};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::Channel;

use super::json;
use super::replay::{Outcome, failed, recordings, show};
use crate::harness::Server;

/// The recorded member's peer URL. Nothing listens there; only the other side of it is played.
const PEER_URL: &str = "http://127.0.0.1:32380";
/// Calls that differ, each with the reason.
const EXCEPTIONS: [(i64, &str); 2] = [
    (450, "etcd takes any text as a peer URL here, and the member cannot be reached any more"),
    (480, "the URL is free in etcd, because call 450 gave it away"),
];

struct Client {
    cluster: pb::cluster_client::ClusterClient<Channel>,
    maintenance: pb::maintenance_client::MaintenanceClient<Channel>,
    /// Our ids by recorded ones.
    ids: BTreeMap<u64, u64>,
}

impl Client {
    fn id(&self, value: &Value) -> u64 {
        let recorded = value.as_u64().unwrap_or_default();
        self.ids.get(&recorded).copied().unwrap_or(recorded)
    }

    /// Makes a recorded call; `None` for one that is not replayed.
    async fn call(&mut self, rpc: &str, request: &Value) -> Option<Outcome> {
        let id = self.id(&request["ID"]);
        let peer_urls = texts(&request["peerURLs"]);
        Some(match rpc {
            "Cluster.MemberList" => {
                let linearizable = request["linearizable"].as_bool().unwrap_or_default();
                let answer = self.cluster.member_list(pb::MemberListRequest { linearizable }).await;
                show(answer, |answer| &mut answer.header)
            }
            "Cluster.MemberAdd" => {
                let is_learner = request["isLearner"].as_bool().unwrap_or_default();
                let answer = self.cluster.member_add(pb::MemberAddRequest { peer_urls, is_learner }).await;
                show(answer, |answer| &mut answer.header)
            }
            "Cluster.MemberRemove" => {
                let answer = self.cluster.member_remove(pb::MemberRemoveRequest { id }).await;
                show(answer, |answer| &mut answer.header)
            }
            "Cluster.MemberUpdate" => {
                let answer = self.cluster.member_update(pb::MemberUpdateRequest { id, peer_urls }).await;
                show(answer, |answer| &mut answer.header)
            }
            "Cluster.MemberPromote" => {
                let answer = self.cluster.member_promote(pb::MemberPromoteRequest { id }).await;
                show(answer, |answer| &mut answer.header)
            }
            "Maintenance.MoveLeader" => {
                let target_id = self.id(&request["targetID"]);
                let answer = self.maintenance.move_leader(pb::MoveLeaderRequest { target_id }).await;
                answer.map(|answer| format!("{:?}", answer.into_inner())).map_err(|status| failed(&status))
            }
            // How far the keys had come by then is of no interest.
            "Maintenance.Downgrade" => {
                let answer = self.maintenance.downgrade(json::downgrade_request(request)).await;
                answer.map(|answer| answer.into_inner().version).map_err(|status| failed(&status))
            }
            _ => return None,
        })
    }

    /// Learns our id of the member that a recorded call added.
    async fn learn(&mut self, case: &Value) {
        let Some(recorded) = case["response"]["member"]["ID"].as_u64() else { return };
        let listed = self.cluster.member_list(pb::MemberListRequest::default()).await.unwrap().into_inner();
        let urls = texts(&case["response"]["member"]["peerURLs"]);
        let added = listed.members.into_iter().find(|member| member.peer_urls == urls).unwrap();
        self.ids.insert(recorded, added.id);
    }

    fn member(&self, value: &Value) -> pb::Member {
        let is_bad = value["peerURLs"][0] == "bad";
        pb::Member {
            id: self.id(&value["ID"]),
            name: value["name"].as_str().unwrap_or_default().to_owned(),
            peer_urls: if is_bad { vec![PEER_URL.to_owned()] } else { texts(&value["peerURLs"]) },
            client_urls: texts(&value["clientURLs"]),
            is_learner: value["isLearner"].as_bool().unwrap_or_default(),
        }
    }

    /// What etcd answered, with our ids.
    fn recorded(&self, case: &Value) -> Outcome {
        if let Some(error) = case.get("error") {
            let code = match error["code"].as_str().unwrap() {
                "INVALID_ARGUMENT" => Code::InvalidArgument,
                "NOT_FOUND" => Code::NotFound,
                "FAILED_PRECONDITION" => Code::FailedPrecondition,
                "UNKNOWN" => Code::Unknown,
                other => panic!("unknown code {other}"),
            };
            return Err((code, error["message"].as_str().unwrap().to_owned()));
        }
        let response = &case["response"];
        let header = json::header(&response["header"]);
        let mut members: Vec<pb::Member> =
            response["members"].as_array().into_iter().flatten().map(|value| self.member(value)).collect();
        members.sort_by_key(|member| member.id);
        Ok(match case["rpc"].as_str().unwrap() {
            "Cluster.MemberList" => format!("{:?}", pb::MemberListResponse { header, members }),
            "Cluster.MemberAdd" => {
                let member = Some(self.member(&response["member"]));
                format!("{:?}", pb::MemberAddResponse { header, member, members })
            }
            "Maintenance.MoveLeader" => format!("{:?}", pb::MoveLeaderResponse { header }),
            "Maintenance.Downgrade" => response["version"].as_str().unwrap().to_owned(),
            other => panic!("no reading of {other}"),
        })
    }
}

fn texts(value: &Value) -> Vec<String> {
    let texts = value.as_array().into_iter().flatten();
    texts.map(|text| text.as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_calls_about_members_are_answered_as_etcd_answered_them() {
    let Some(recordings) = recordings("kv.jsonl") else { return };
    let directory = tempfile::tempdir().unwrap();
    let mut config = Config::single(directory.path().join("s1"), "s1", "127.0.0.1:32380");
    config.listen_peer = "127.0.0.1:0".to_owned();
    config.advertise_client_urls = vec!["http://127.0.0.1:32379".to_owned()];
    let member = Member::start(config, CancellationToken::new()).await.unwrap();
    member.read_index().await.unwrap();
    let server = Server::of(Edge::new(&member)).await;
    let mut client = Client {
        cluster: pb::cluster_client::ClusterClient::new(server.channel()),
        maintenance: pb::maintenance_client::MaintenanceClient::new(server.channel()),
        ids: BTreeMap::from([(443_629_905_751_424_238, member.responder().member_id)]),
    };
    let mut differences = Vec::new();
    let mut replayed = 0;
    for case in recordings {
        let number = case["n"].as_i64().unwrap();
        let is_exception = EXCEPTIONS.iter().any(|&(exception, _)| exception == number);
        if case["section"] != "cluster" || is_exception {
            continue;
        }
        let call = client.call(case["rpc"].as_str().unwrap(), &case["request"]).await;
        let Some(outcome) = call else { continue };
        replayed += 1;
        client.learn(&case).await;
        let expected = client.recorded(&case);
        if outcome != expected {
            differences.push(format!(
                "call {number} {}\n  etcd: {expected:?}\n  ours: {outcome:?}",
                case["request"]
            ));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert_eq!(replayed, 28, "calls that are replayed");
    server.stop().await;
    member.stop().await;
}
