//! Recorded calls of the lock and election services. A call that the recording gave up after a second is given up here when its
//! key is there, and the next one waits until that is gone again.

use futures::StreamExt;
use proto::{etcdserverpb as pb, mvccpb, v3electionpb as election, v3lockpb as lock};
use serde_json::Value;
use tonic::Code;

use super::json;
use super::replay::{Client, Outcome, plain, show};
use crate::harness::PATIENCE;

pub(crate) async fn call(client: &mut Client, rpc: &str, request: &Value) -> Option<Outcome> {
    let leader = || request.get("leader").map(leader_key);
    let lease = json::number(&request["lease"]);
    Some(match rpc {
        "Lock.Lock" => {
            let request = lock::LockRequest { name: json::bytes(&request["name"]), lease };
            let answer = client.lock.lock(request).await;
            show(answer.map(|answer| answer.map(|answer| locked(lease, answer))), |answer| &mut answer.header)
        }
        "Lock.Unlock" => {
            let request = lock::UnlockRequest { key: json::bytes(&request["key"]) };
            show(client.lock.unlock(request).await, |answer| &mut answer.header)
        }
        "Election.Campaign" => {
            let (name, value) = (json::bytes(&request["name"]), json::bytes(&request["value"]));
            let request = election::CampaignRequest { name, lease, value };
            let answer = client.election.campaign(request).await;
            show(answer.map(|answer| answer.map(|answer| won(lease, answer))), |answer| &mut answer.header)
        }
        "Election.Proclaim" => {
            let request =
                election::ProclaimRequest { leader: leader(), value: json::bytes(&request["value"]) };
            show(client.election.proclaim(request).await, |answer| &mut answer.header)
        }
        "Election.Leader" => {
            let request = election::LeaderRequest { name: json::bytes(&request["name"]) };
            show(client.election.leader(request).await, |answer| &mut answer.header)
        }
        "Election.Observe" => {
            let request = election::LeaderRequest { name: json::bytes(&request["name"]) };
            let mut leaders = client.election.observe(request).await.unwrap().into_inner();
            let mut first = leaders.next().await.unwrap().unwrap();
            plain(&mut first.header);
            Ok(format!("{first:?}"))
        }
        "Election.Resign" => {
            let request = election::ResignRequest { leader: leader() };
            show(client.election.resign(request).await, |answer| &mut answer.header)
        }
        _ => return None,
    })
}

/// Whether the recording gave the call up after a second; it waited in a queue until then.
pub(crate) fn is_given_up(case: &Value) -> bool {
    case["error"]["code"] == "DEADLINE_EXCEEDED" && case.get("responses").is_none()
}

/// Makes a call that has to wait, gives it up when its key is there, and waits until that is gone again.
pub(crate) async fn give_up(client: &mut Client, rpc: &str, request: &Value) -> Outcome {
    let before = client.revision().await;
    let (mut watching, mut calling) = (client.clone(), client.clone());
    let entered = async { while watching.revision().await == before {} };
    tokio::select! {
        biased;
        outcome = call(&mut calling, rpc, request) => return outcome.unwrap(),
        () = entered => {}
    }
    let cleaned = async { while client.revision().await < before + 2 {} };
    tokio::time::timeout(PATIENCE, cleaned).await.expect("a call that was given up leaves nothing");
    Err((Code::DeadlineExceeded, "Deadline Exceeded".to_owned()))
}

/// What the recording says of a call that it gave up; an observer has had an answer by then.
pub(crate) fn gave_up(case: &Value) -> Outcome {
    match case["responses"].as_array() {
        Some(responses) => Ok(format!("{:?}", leader_response(&responses[0]))),
        None => Err((Code::DeadlineExceeded, "Deadline Exceeded".to_owned())),
    }
}

pub(crate) fn recorded(rpc: &str, case: &Value) -> String {
    let (request, response) = (&case["request"], &case["response"]);
    let header = json::header(&response["header"]);
    let lease = json::number(&request["lease"]);
    match rpc {
        "Lock.Lock" => {
            let answer = lock::LockResponse { header, key: json::bytes(&response["key"]) };
            format!("{:?}", locked(lease, answer))
        }
        "Lock.Unlock" => format!("{:?}", lock::UnlockResponse { header }),
        "Election.Campaign" => {
            let leader = Some(leader_key(&response["leader"]));
            format!("{:?}", won(lease, election::CampaignResponse { header, leader }))
        }
        "Election.Proclaim" => format!("{:?}", election::ProclaimResponse { header }),
        "Election.Leader" => format!("{:?}", leader_response(response)),
        "Election.Resign" => format!("{:?}", election::ResignResponse { header }),
        other => panic!("no reading of {other}"),
    }
}

/// Removes the lease that the server chose.
fn locked(lease: i64, mut answer: lock::LockResponse) -> lock::LockResponse {
    if lease == 0 {
        answer.key.truncate(answer.key.iter().position(|&byte| byte == b'/').unwrap());
    }
    answer
}

fn won(lease: i64, mut answer: election::CampaignResponse) -> election::CampaignResponse {
    if lease == 0 {
        let leader = answer.leader.as_mut().unwrap();
        leader.lease = 0;
        leader.key.truncate(leader.key.iter().position(|&byte| byte == b'/').unwrap());
    }
    answer
}

fn leader_key(value: &Value) -> election::LeaderKey {
    election::LeaderKey {
        name: json::bytes(&value["name"]),
        key: json::bytes(&value["key"]),
        rev: json::number(&value["rev"]),
        lease: json::number(&value["lease"]),
    }
}

fn leader_response(value: &Value) -> election::LeaderResponse {
    let kv: Option<mvccpb::KeyValue> = value.get("kv").map(json::key_value);
    let header: Option<pb::ResponseHeader> = json::header(&value["header"]);
    election::LeaderResponse { header, kv }
}
