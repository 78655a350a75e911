//! How a new cluster comes to be, exactly once (safety rule 4).
//!
//! Every member of a new cluster asks all others first. The one with the lowest id forms the cluster when all have
//! answered that none exists, with the incarnation of each data directory. A member with an empty data directory whose
//! cluster exists already, and does not know this directory, has lost its disk: it must not come back under its old id.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proto::raft as wire;
use tokio_util::sync::CancellationToken;

use crate::raft::node::Node;
use crate::raft::types::Member;

/// Between two rounds of questions.
const ASK_INTERVAL: Duration = Duration::from_millis(100);
const ASK_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a member may not take part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error(
        "the cluster exists already and does not know this data directory; remove the member and add it again with \
         a new one"
    )]
    DiskLost,
}

/// Forms the cluster or waits until it is formed.
pub(super) async fn run(
    node: &Arc<Node>,
    initial: BTreeMap<u64, Member>,
    stop: &CancellationToken,
) -> Result<(), Refused> {
    let own = node.identity().member_id;
    let is_first = initial.keys().next() == Some(&own);
    while !stop.is_cancelled() && !is_initialized(node).await {
        match ask_all(node, &initial).await? {
            Some(members) if is_first => initialize(node, members).await,
            Some(_) | None => {}
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = tokio::time::sleep(ASK_INTERVAL) => {}
        }
    }
    Ok(())
}

async fn is_initialized(node: &Node) -> bool {
    node.raft().is_initialized().await.unwrap_or(false)
}

/// Returns all members with their incarnations once every one has answered that there is no cluster.
async fn ask_all(
    node: &Node,
    initial: &BTreeMap<u64, Member>,
) -> Result<Option<BTreeMap<u64, Member>>, Refused> {
    let own = node.identity();
    let mut members = BTreeMap::new();
    for (id, member) in initial {
        if *id == own.member_id {
            members.insert(*id, Member { incarnation: own.incarnation, ..member.clone() });
            continue;
        }
        let peer = node.peers().client(*id, member);
        let Ok(info) = peer.cluster_info(ASK_TIMEOUT).await else { return Ok(None) };
        if !belongs(&info, own.cluster_id, *id) {
            tracing::warn!(url = ?member.peer_urls, "another cluster or member answers at a peer's address");
            return Ok(None);
        }
        if info.initialized {
            return if info.recognises_you { Ok(None) } else { Err(Refused::DiskLost) };
        }
        let (name, client_urls, incarnation) = (info.name, info.client_urls, info.incarnation);
        members.insert(*id, Member { name, client_urls, incarnation, ..member.clone() });
    }
    Ok(Some(members))
}

fn belongs(info: &wire::ClusterInfoResponse, cluster_id: u64, member_id: u64) -> bool {
    info.cluster_id == cluster_id && info.member_id == member_id
}

async fn initialize(node: &Node, members: BTreeMap<u64, Member>) {
    let count = members.len();
    match node.raft().initialize(members).await {
        Ok(()) => tracing::info!(members = count, "formed a new cluster"),
        Err(error) => tracing::warn!(%error, "cannot form the cluster"),
    }
}
