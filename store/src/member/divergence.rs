//! As leader: has all voters compare what they hold, at one entry of the log at a time. [`crate::mvcc::divergence`] says what follows.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::mvcc::Command;
use crate::mvcc::divergence::{Comparison, Verdict};
use crate::raft::node::Node;
use crate::raft::request::Request;

/// How long another member may take to say what it held; who does not answer is left out.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// Compares until the member ends; an interval of zero is never.
pub(super) async fn run(interval: Duration, node: Arc<Node>, stop: CancellationToken) {
    if interval.is_zero() {
        return;
    }
    while !stop.is_cancelled() {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(interval) => {}
        }
        if node.is_leader() {
            stop.run_until_cancelled(compare(&node)).await;
        }
    }
}

async fn compare(node: &Arc<Node>) {
    let comparison = look(node).await;
    tell(&comparison);
    if node.propose(Request::of(&Command::CompareStates(comparison)), 0).await.is_err() {
        tracing::debug!("states are compared another time");
    }
}

/// Asks every voter what it noted at the last comparison.
async fn look(node: &Arc<Node>) -> Comparison {
    let own = node.identity().member_id;
    let members = node.members().into_keys();
    let voters: Vec<u64> = members.filter(|id| node.machine().is_voter(*id) == Some(true)).collect();
    let counted = u32::try_from(voters.len()).unwrap_or(u32::MAX);
    let Some((index, digest)) = node.machine().last_noted() else {
        return Comparison { voters: counted, ..Comparison::default() };
    };
    let ask = |id| async move {
        if id == own {
            return Some((id, digest));
        }
        let told = node.peer(id)?.state_digest(index, ASK_TIMEOUT).await.ok()?;
        // Another version may rightly hold something else.
        let told = (told.version == env!("CARGO_PKG_VERSION")).then_some(told.digest)?;
        Some((id, u128::from_be_bytes(told.as_ref().try_into().ok()?)))
    };
    let told = futures::future::join_all(voters.into_iter().map(ask)).await;
    Comparison { index, voters: counted, digests: told.into_iter().flatten().collect() }
}

fn tell(comparison: &Comparison) {
    let index = comparison.index;
    match comparison.verdict() {
        Verdict::Equal => {}
        Verdict::Odd(member) => {
            let member = format!("{member:x}");
            tracing::error!(member, index, "a member holds another state than the others; it begins anew");
        }
        Verdict::Unclear(members) => {
            let members: Vec<String> = members.iter().map(|member| format!("{member:x}")).collect();
            tracing::error!(
                ?members,
                index,
                "members hold different states and no majority tells which is right: nothing changes until a person has decided"
            );
        }
    }
}
