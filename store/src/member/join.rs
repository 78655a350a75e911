//! How a member joins: it learns from the others who it is, before anything is written. With `--join` it has them add it first.
//!
//! ```text
//! empty directory ──ask: whose peer URLs are these?──► identity on disk ──publish──► the leader sends the log
//!                    └─nobody's─► have them added ─┘
//! ```
//!
//! Its data directory owns the id from the moment on that the publication is in the log (`upkeep`); a second directory that was given
//! the same id in the meantime is refused (safety rule 4).

use std::sync::Arc;
use std::time::Duration;

use proto::raft as wire;
use tokio::time::Instant;

use crate::admin::AdminError;
use crate::config::Config;
use crate::level::{Level, UnsupportedLevel};
use crate::membership::{Change, Kind, new_member_id};
use crate::net::Net;
use crate::raft::change_wire;
use crate::raft::network::{Identity, Peers};
use crate::raft::reconfigure::Outcome;
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
    #[error("the cluster has no member with the peer URLs {0}; add it first, or start with --join instead")]
    NotAdded(String),
    #[error("the cluster did not take this member in time; it may have no leader")]
    NoLeader,
    #[error(transparent)]
    Level(#[from] UnsupportedLevel),
    #[error("the cluster does not take this member: {0}")]
    Refused(AdminError),
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

/// Asks the members at the contacts who has `peer_urls`, and has them added when nobody does and the settings say so.
pub(super) async fn find(net: &Arc<dyn Net>, config: &Config, nonce: u64) -> Result<Place, JoinError> {
    let nobody = Identity { cluster_id: 0, member_id: 0, incarnation: 0 };
    let peers = Peers::new(Arc::clone(net), nobody);
    let deadline = Instant::now() + PATIENCE;
    let (contacts, peer_urls) = (config.contacts(), &config.advertise_peer_urls);
    let replaces = config.join.as_ref().and_then(|join| join.replaces);
    let mut failure = JoinError::NobodyAnswers(contacts.join(","));
    loop {
        for url in &contacts {
            let contact = Member { peer_urls: vec![url.clone()], ..Member::default() };
            let asked = peers.client(0, &contact).cluster_info(ASK_TIMEOUT).await;
            let Some(info) = asked.ok().filter(|info| info.initialized) else { continue };
            // Before it is added: a member that cannot follow must not count.
            config.levels.check(Level::told(info.level))?;
            match place(&info, peer_urls, replaces) {
                Err(JoinError::NotAdded(_)) if config.join.is_some() => {
                    let change = entrance(&info, peer_urls, replaces, nonce);
                    // What became of it is seen in the next round.
                    failure = JoinError::NoLeader;
                    request(net, url, &info, change).await?;
                }
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

/// Returns the change that lets a member in. It is the same whenever it is made anew from one nonce.
fn entrance(
    info: &wire::ClusterInfoResponse,
    peer_urls: &[String],
    replaces: Option<u64>,
    nonce: u64,
) -> Change {
    let (id, peer_urls) = (new_member_id(peer_urls, info.cluster_id, nonce), sorted(peer_urls));
    match replaces {
        Some(replaced) => Change::Replace { id, peer_urls, replaced },
        None => Change::Add { id, peer_urls, kind: Kind::Voter },
    }
}

/// Has a change made through the member at `url`, which gave `info`.
async fn request(
    net: &Arc<dyn Net>,
    url: &str,
    info: &wire::ClusterInfoResponse,
    change: Change,
) -> Result<(), JoinError> {
    let own = Identity { cluster_id: info.cluster_id, member_id: 0, incarnation: 0 };
    let asked =
        Member { peer_urls: vec![url.to_owned()], incarnation: info.incarnation, ..Member::default() };
    let peer = Peers::new(Arc::clone(net), own).client(info.member_id, &asked);
    let change = Some(change_wire::change_to_wire(change));
    let answer = peer.change_members(wire::ChangeMembersRequest { change, relay: true }, PATIENCE).await;
    match answer.map(change_wire::outcome) {
        Ok(Ok(Outcome::Denied(denial))) => Err(JoinError::Refused(denial.into())),
        Ok(Ok(Outcome::Changed(_) | Outcome::NotLeader | Outcome::Unknown) | Err(_)) | Err(_) => Ok(()),
    }
}

/// Returns the place that waits for whoever has these URLs. The member that it replaces may have them, too.
fn place(
    info: &wire::ClusterInfoResponse,
    peer_urls: &[String],
    replaces: Option<u64>,
) -> Result<Place, JoinError> {
    let has_same_urls = |member: &&wire::Member| sorted(&member.peer_urls) == sorted(peer_urls);
    let mut owners = info.members.iter().filter(has_same_urls);
    if let Some(free) = owners.clone().find(|member| member.incarnation == 0) {
        return Ok(Place { cluster_id: info.cluster_id, member_id: free.id });
    }
    match owners.find(|member| Some(member.id) != replaces) {
        Some(taken) => Err(JoinError::OtherDirectory(taken.id)),
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
        let free = Place { cluster_id: 7, member_id: 2 };
        assert_eq!(place(&info, &urls(&["http://c:1", "http://b:1"]), None), Ok(free));
        assert_eq!(place(&info, &urls(&["http://a:1"]), None), Err(JoinError::OtherDirectory(1)));
        let unknown = Err(JoinError::NotAdded("http://b:1".to_owned()));
        assert_eq!(place(&info, &urls(&["http://b:1"]), None), unknown);
    }

    #[test]
    fn who_replaces_a_member_may_have_its_urls() {
        let urls = vec!["http://a:1".to_owned()];
        let member = |id, incarnation| wire::Member {
            id,
            peer_urls: urls.clone(),
            incarnation,
            ..wire::Member::default()
        };
        let mut info = wire::ClusterInfoResponse {
            cluster_id: 7,
            members: vec![member(1, 5)],
            ..wire::ClusterInfoResponse::default()
        };
        let not_added = Err(JoinError::NotAdded("http://a:1".to_owned()));
        assert_eq!(place(&info, &urls, Some(1)), not_added);
        assert_eq!(place(&info, &urls, Some(3)), Err(JoinError::OtherDirectory(1)));
        info.members.push(member(2, 0));
        assert_eq!(place(&info, &urls, Some(1)), Ok(Place { cluster_id: 7, member_id: 2 }));
    }
}
