//! How a member that was added joins: it learns from the others who it is, before anything is written.
//!
//! ```text
//! empty directory ──ask: whose peer URLs are these?──► identity on disk ──publish──► the leader sends the log
//! ```
//!
//! Its data directory owns the id from the moment on that the publication is in the log (`upkeep`); a second directory that was given
//! the same id in the meantime is refused (safety rule 4).

use std::sync::Arc;
use std::time::Duration;

use proto::raft as wire;
use tokio::time::Instant;

use crate::net::Net;
use crate::raft::network::{Identity, Peers};
use crate::raft::types::Member;

/// Between two rounds of questions.
const ASK_INTERVAL: Duration = Duration::from_millis(100);
const ASK_TIMEOUT: Duration = Duration::from_secs(1);
/// A member that was just added may be unknown to some for a moment, and all may be restarting.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a member cannot join.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    #[error("no member of the cluster answers at {0}")]
    NobodyAnswers(String),
    #[error("the cluster has no member with the peer URLs {0}; add it first")]
    NotAdded(String),
    #[error(
        "member {0:x} has these peer URLs and another data directory already; remove that member and add it again, or \
         bring its data directory back"
    )]
    OtherDirectory(u64),
}

/// Who a joining member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) cluster_id: u64,
    pub(super) member_id: u64,
}

/// Asks the members at `contacts` who has `peer_urls`.
pub(super) async fn find(
    net: &Arc<dyn Net>,
    contacts: &[String],
    peer_urls: &[String],
) -> Result<Place, JoinError> {
    let nobody = Identity { cluster_id: 0, member_id: 0, incarnation: 0 };
    let peers = Peers::new(Arc::clone(net), nobody);
    let deadline = Instant::now() + PATIENCE;
    let mut failure = JoinError::NobodyAnswers(contacts.join(","));
    loop {
        for url in contacts {
            let contact = Member { peer_urls: vec![url.clone()], ..Member::default() };
            let asked = peers.client(0, &contact).cluster_info(ASK_TIMEOUT).await;
            let Some(info) = asked.ok().filter(|info| info.initialized) else { continue };
            match place(&info, peer_urls) {
                Err(JoinError::NotAdded(urls)) => failure = JoinError::NotAdded(urls),
                decided => return decided,
            }
        }
        if Instant::now() >= deadline {
            return Err(failure);
        }
        tokio::time::sleep(ASK_INTERVAL).await;
    }
}

fn place(info: &wire::ClusterInfoResponse, peer_urls: &[String]) -> Result<Place, JoinError> {
    let has_same_urls = |member: &&wire::Member| sorted(&member.peer_urls) == sorted(peer_urls);
    match info.members.iter().find(has_same_urls) {
        Some(member) if member.incarnation != 0 => Err(JoinError::OtherDirectory(member.id)),
        Some(member) => Ok(Place { cluster_id: info.cluster_id, member_id: member.id }),
        None => Err(JoinError::NotAdded(peer_urls.join(","))),
    }
}

fn sorted(urls: &[String]) -> Vec<String> {
    let mut urls = urls.to_vec();
    urls.sort();
    urls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_found_by_peer_urls_and_only_once() {
        let urls = |urls: &[&str]| -> Vec<String> { urls.iter().map(|url| (*url).to_owned()).collect() };
        let member = |id, given: &[&str], incarnation| wire::Member {
            id,
            peer_urls: urls(given),
            incarnation,
            ..wire::Member::default()
        };
        let info = wire::ClusterInfoResponse {
            cluster_id: 7,
            members: vec![member(1, &["http://a:1"], 5), member(2, &["http://b:1", "http://c:1"], 0)],
            ..wire::ClusterInfoResponse::default()
        };
        let found = place(&info, &urls(&["http://c:1", "http://b:1"]));
        assert_eq!(found, Ok(Place { cluster_id: 7, member_id: 2 }));
        assert_eq!(place(&info, &urls(&["http://a:1"])), Err(JoinError::OtherDirectory(1)));
        let unknown = place(&info, &urls(&["http://b:1"]));
        assert_eq!(unknown, Err(JoinError::NotAdded("http://b:1".to_owned())));
    }
}
