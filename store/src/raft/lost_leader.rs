//! Notices that the leader's process has ended long before its silence tells.
//!
//! While another member leads, this one keeps a call to it open and sends nothing on it. When the call breaks and the leader's machine
//! refuses a new connection, nobody listens there any more. Then this member forgets the lease that it gave the leader, and the voters
//! ask for votes in turn. They ask whether they would be elected first (pre-vote, dissertation of Raft §9.6), and whoever still hears the
//! leader says no: a leader that a majority hears is left alone, whatever one member cannot reach.
//!
//! It does not judge silence: a connection that is neither refused nor accepted says nothing, and election timeouts do the rest.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::stream;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::raft::TransferLeaderRequest;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::network::while_held;
use super::node::Node;

/// A leader that has ended, and until when this member tries to be faster than election timeouts.
#[derive(Clone, Copy)]
struct Lost {
    leader: u64,
    until: Instant,
}

/// Follows whoever leads until the member ends.
pub(super) async fn watch(node: Arc<Node>, stop: CancellationToken) {
    let mut changes = node.raft().server_metrics();
    let mut lost: Option<Lost> = None;
    loop {
        let leader = node.leader().0;
        lost = lost.filter(|lost| leader.is_none_or(|leader| leader == lost.leader));
        tokio::select! {
            () = stop.cancelled() => return,
            // Of the vote, the leader or the members: what is under way may be of the past.
            changed = WatchReceiver::changed(&mut changes) => if changed.is_err() { return },
            found = look(&node, leader, lost) => lost = found,
        }
    }
}

/// Does what is next while leader and members stay as they are. Returns who is lost.
async fn look(node: &Node, leader: Option<u64>, lost: Option<Lost>) -> Option<Lost> {
    match (leader, lost) {
        (Some(leader), None) if leader != node.identity().member_id => {
            ended(node, leader).await;
            tracing::info!(leader = format!("{leader:x}"), "the leader has ended");
            Some(Lost { leader, until: node.env().now() + node.timing().election_timeout })
        }
        (Some(leader), Some(lost)) => {
            // It may be back by now.
            ended(node, leader).await;
            campaign(node, leader).await;
            Some(lost)
        }
        // Somebody's vote is under way, this member's own or another's. It may fail as well.
        (None, Some(lost)) if node.env().now() < lost.until => {
            tokio::time::sleep(node.timing().heartbeat()).await;
            campaign(node, lost.leader).await;
            Some(lost)
        }
        (Some(_) | None, _) => std::future::pending().await,
    }
}

/// Returns when nobody listens at the leader's address.
async fn ended(node: &Node, leader: u64) {
    loop {
        let mut pause = node.timing().heartbeat();
        if let Some(mut peer) = node.peer(leader) {
            let (nothing, _held) = while_held(stream::pending());
            if let Ok(mut refusals) = peer.propose(nothing).await {
                while let Ok(Some(_)) = refusals.message().await {}
                // A process that ends may close its connections before its port.
                pause = moment(node);
            }
            match node.env().net.connect(&peer.address()).await {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return,
                // Somebody is there, or nothing is known.
                Ok(_) | Err(_) => {}
            }
        }
        tokio::time::sleep(pause).await;
    }
}

/// In which what happens on one machine is known on another.
fn moment(node: &Node) -> Duration {
    node.timing().heartbeat() / 20
}

/// Forgets the leader's lease and asks for votes once, when it is this member's turn.
async fn campaign(node: &Node, leader: u64) {
    let (vote, mut voters) = {
        let metrics = node.raft().metrics();
        let metrics = metrics.borrow_watched();
        let voters: Vec<u64> = metrics.membership_config.voter_ids().filter(|id| *id != leader).collect();
        (metrics.vote, voters)
    };
    // As if the leader had given its place to itself: that ends its lease here and nothing else.
    let released = node.raft().handle_transfer_leader(TransferLeaderRequest::new(vote, leader, None)).await;
    // Whoever comes behind the leader goes first, so that the one with the smallest id does not lead after every loss.
    voters.sort_unstable_by_key(|id| (*id < leader, *id));
    let Some(turn) = voters.iter().position(|id| *id == node.identity().member_id) else {
        // A learner has no vote to ask for.
        return std::future::pending().await;
    };
    // Long enough for the vote of whoever comes before: two members that campaign at once take each other's votes.
    let turns = |count: usize| node.timing().heartbeat() / 2 * u32::try_from(count).unwrap_or(u32::MAX);
    // The others have to have noticed, too.
    tokio::time::sleep(moment(node) + turns(turn)).await;
    let asked = node.raft().trigger().elect(true).await;
    if let (Err(error), _) | (_, Err(error)) = (released, asked) {
        tracing::debug!(%error, "raft has ended");
    }
    tokio::time::sleep(turns(voters.len().saturating_sub(turn))).await;
}
