//! Members as etcd's file holds them: JSON, with ids as decimal numbers.

use serde::{Deserialize, Serialize};

use crate::admin::MemberInfo;

#[derive(Serialize, Deserialize)]
struct Member {
    id: u64,
    #[serde(rename = "peerURLs")]
    peer_urls: Vec<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(rename = "clientURLs", default, skip_serializing_if = "Vec::is_empty")]
    client_urls: Vec<String>,
    #[serde(rename = "isLearner", default, skip_serializing_if = "std::ops::Not::not")]
    is_learner: bool,
}

#[derive(Serialize)]
struct ConfState {
    voters: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    learners: Vec<u64>,
    auto_leave: bool,
}

/// Returns the key of a member.
pub(super) fn member_key(id: u64) -> String {
    format!("{id:x}")
}

pub(super) fn member(member: &MemberInfo) -> Vec<u8> {
    let MemberInfo { id, name, peer_urls, client_urls, is_learner } = member.clone();
    to_json(&Member { id, peer_urls, name, client_urls, is_learner })
}

/// Returns who votes.
pub(super) fn conf_state(members: &[MemberInfo]) -> Vec<u8> {
    let ids = |is_learner: bool| {
        let of_kind = members.iter().filter(|member| member.is_learner == is_learner);
        of_kind.map(|member| member.id).collect()
    };
    to_json(&ConfState { voters: ids(false), learners: ids(true), auto_leave: false })
}

fn to_json(record: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(record).expect("numbers and text are JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_written_as_etcd_writes_them() {
        let started = MemberInfo {
            id: 0x5c76_a90a_e78b_cee7,
            name: "s".to_owned(),
            peer_urls: vec!["http://127.0.0.1:33380".to_owned()],
            client_urls: vec!["http://127.0.0.1:33379".to_owned()],
            is_learner: false,
        };
        let expected = r#"{"id":6662698563040693991,"peerURLs":["http://127.0.0.1:33380"],"name":"s","clientURLs":["http://127.0.0.1:33379"]}"#;
        assert_eq!(String::from_utf8(member(&started)).unwrap(), expected);
        assert_eq!(member_key(started.id), "5c76a90ae78bcee7");
        let learner = MemberInfo { id: 2, is_learner: true, ..MemberInfo::default() };
        assert_eq!(
            String::from_utf8(conf_state(&[started, learner])).unwrap(),
            r#"{"voters":[6662698563040693991],"learners":[2],"auto_leave":false}"#
        );
    }
}
