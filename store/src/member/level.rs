//! As leader: has the feature level raised once every member supports a higher one (safety rule 9). [`crate::level`] says what that is.
//!
//! A member that does not answer holds the level where it is: nobody knows what it will be started as.

use std::sync::Arc;
use std::time::Duration;

use proto::raft as wire;
use tokio_util::sync::CancellationToken;

use crate::level::{Level, Levels, RaiseLevel};
use crate::mvcc::Command;
use crate::raft::node::Node;
use crate::raft::request::Request;

/// How often a leader that supports more asks the others.
const ASK_INTERVAL: Duration = Duration::from_secs(1);
/// How long another member may take to say what it supports.
const ASK_TIMEOUT: Duration = Duration::from_millis(500);

/// Asks until the member ends. Nobody is asked where the level is as high as this member supports.
pub(super) async fn run(node: Arc<Node>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let agreed = Agreed::of(&node);
        if node.is_leader() && agreed.level < node.machine().levels().highest {
            stop.run_until_cancelled(raise(&node, agreed)).await;
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(ASK_INTERVAL) => {}
        }
    }
}

/// What the members have agreed on.
#[derive(Clone, Copy, Debug)]
struct Agreed {
    level: Level,
    /// A downgrade was announced.
    is_held: bool,
}

impl Agreed {
    fn of(node: &Node) -> Self {
        let store = node.machine().store();
        Self { level: store.level(), is_held: store.downgrade().is_some() }
    }
}

async fn raise(node: &Arc<Node>, agreed: Agreed) {
    let Some(raised) = due(agreed, &supported(node).await) else { return };
    if node.propose(Request::of(&Command::RaiseLevel(raised)), 0).await.is_err() {
        tracing::debug!("the feature level is raised another time");
    }
}

/// Asks every member, learners too, what it supports.
async fn supported(node: &Arc<Node>) -> Vec<(u64, Option<Levels>)> {
    let own = node.identity().member_id;
    let ask = |id| async move {
        if id == own {
            return (id, Some(node.machine().levels()));
        }
        let Some(peer) = node.peer(id) else { return (id, None) };
        let told = peer.cluster_info(ASK_TIMEOUT).await.ok();
        (id, told.filter(|info| info.member_id == id).map(|info| levels(&info)))
    };
    futures::future::join_all(node.members().into_keys().map(ask)).await
}

fn levels(info: &wire::ClusterInfoResponse) -> Levels {
    Levels { lowest: Level::told(info.lowest_level), highest: Level::told(info.highest_level) }
}

/// Returns what to ask for: the highest level that every member supports, if it is above the one that was agreed on.
fn due(agreed: Agreed, members: &[(u64, Option<Levels>)]) -> Option<RaiseLevel> {
    let told: Vec<Levels> = members.iter().map(|(_, levels)| *levels).collect::<Option<_>>()?;
    let level = told.iter().map(|levels| levels.highest).min()?;
    let is_supported = told.iter().all(|levels| levels.lowest <= level);
    let members = members.iter().map(|(id, _)| *id).collect();
    let is_raised = level > agreed.level && is_supported && !agreed.is_held;
    is_raised.then_some(RaiseLevel { level, members })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: Option<Levels> = None;

    fn of(lowest: u32, highest: u32) -> Option<Levels> {
        Some(Levels { lowest: Level(lowest), highest: Level(highest) })
    }

    #[track_caller]
    fn check(agreed: u32, members: &[Option<Levels>], expected: Option<u32>) {
        let members: Vec<(u64, Option<Levels>)> = (1..).zip(members.iter().copied()).collect();
        let expected = expected.map(|level| {
            let members = members.iter().map(|(id, _)| *id).collect();
            RaiseLevel { level: Level(level), members }
        });
        let agreed = |is_held| Agreed { level: Level(agreed), is_held };
        assert_eq!(due(agreed(false), &members), expected, "{members:?}");
        assert_eq!(due(agreed(true), &members), None, "a downgrade was announced");
    }

    #[test]
    fn the_level_is_the_highest_that_every_member_supports() {
        check(1, &[of(1, 2)], Some(2));
        check(1, &[of(1, 2), of(1, 3), of(1, 2)], Some(2));
        check(2, &[of(1, 4), of(2, 3), of(1, 5)], Some(3));
        check(1, &[of(1, 2), of(1, 1), of(1, 2)], None);
        check(2, &[of(1, 2), of(1, 2)], None);
        check(3, &[of(1, 2), of(1, 2)], None);
        check(1, &[], None);
    }

    #[test]
    fn who_does_not_answer_or_supports_only_higher_ones_holds_the_level() {
        check(1, &[of(1, 2), NOBODY, of(1, 2)], None);
        check(1, &[NOBODY], None);
        check(1, &[of(1, 2), of(3, 4)], None);
    }

    #[test]
    fn a_member_that_knows_of_no_levels_supports_the_first() {
        let told = levels(&wire::ClusterInfoResponse::default());
        assert_eq!(Some(told), of(1, 1));
    }
}
