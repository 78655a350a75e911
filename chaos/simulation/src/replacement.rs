//! A member that died for good and the one that takes its place: what an administrator does, on every member. Each step is repeated
//! until it is seen to be done, whatever became of earlier attempts.

use std::sync::Arc;
use std::time::Duration;

use store::Member;
use store::admin::{Admin, AdminError};

use crate::machine::lock;
use crate::member::{first_id, peer_url};
use crate::world::World;

const INTERVAL: Duration = Duration::from_millis(50);

/// How far the replacement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replacement {
    NobodyDied,
    /// This member is dead and has to go.
    Dead {
        dead: usize,
        in_one: bool,
    },
    Removed {
        dead: usize,
    },
    /// The new member has this id.
    Added {
        dead: usize,
        id: u64,
    },
    /// It votes and the dead one is out.
    Done {
        id: u64,
    },
}

/// Takes the next step whenever there is one.
pub(crate) async fn see_to(world: Arc<World>, member: Arc<Member>) {
    let url = peer_url(world.newcomer());
    loop {
        tokio::time::sleep(INTERVAL).await;
        let step = *lock(&world.replacement);
        let next = match step {
            Replacement::NobodyDied => None,
            Replacement::Done { .. } => return,
            Replacement::Dead { dead, in_one: true } => {
                // Its outcome is seen in the list.
                let _ = member.replace_member(first_id(dead), vec![url.clone()]).await;
                newcomer(&member, &url).await.map(|id| Replacement::Added { dead, id })
            }
            Replacement::Dead { dead, in_one: false } => match member.remove_member(first_id(dead)).await {
                Ok(_) | Err(AdminError::MemberNotFound) => Some(Replacement::Removed { dead }),
                Err(_) => None,
            },
            Replacement::Removed { dead } => {
                let _ = member.add_member(vec![url.clone()], false).await;
                newcomer(&member, &url).await.map(|id| Replacement::Added { dead, id })
            }
            Replacement::Added { dead, id } => {
                let members = member.members(true).await.unwrap_or_default();
                let has_vote = members.iter().any(|member| member.id == id && !member.is_learner);
                let is_out = members.iter().all(|member| member.id != first_id(dead));
                (has_vote && is_out).then_some(Replacement::Done { id })
            }
        };
        let mut replacement = lock(&world.replacement);
        if let Some(next) = next
            && *replacement == step
        {
            *replacement = next;
        }
    }
}

async fn newcomer(member: &Member, url: &String) -> Option<u64> {
    let members = member.members(true).await.unwrap_or_default();
    members.iter().find(|member| member.peer_urls.contains(url)).map(|member| member.id)
}
