//! A running member's own place in the cluster: it publishes who it is, learns that it was removed, and, as leader, goes on with changes
//! that wait for a member to catch up.
//!
//! A removed member is sent no more entries, so it often cannot learn from its log that it is out. The others tell it when it asks, and
//! it asks when no leader has been heard of for a while.

use std::sync::Arc;
use std::time::Duration;

use proto::raft as wire;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::directory::StoredDivergence;
use crate::membership::{Change, Denial};
use crate::raft::change_wire;
use crate::raft::network::Peer;
use crate::raft::node::Node;
use crate::raft::reconfigure::{ChangeError, Outcome};
use crate::raft::types::Member;

const ASK_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a member must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Out {
    #[error("this member has been removed from the cluster; its data directory cannot be used again")]
    Removed,
    #[error(
        "this member has joined with another data directory already; remove it and add it again to use a new one"
    )]
    OtherDirectory,
    #[error(
        "what this member holds differs from what a majority held at entry {0}; started again, it moves its data aside and takes its \
         own place anew"
    )]
    Differs(u64),
}

/// Keeps one member's place.
pub(super) struct Upkeep {
    node: Arc<Node>,
    /// Peer URLs of others, for as long as the log does not say who belongs to the cluster.
    contacts: Vec<String>,
    asked: Option<Instant>,
}

impl Upkeep {
    pub(super) fn new(node: Arc<Node>, contacts: Vec<String>) -> Self {
        Self { node, contacts, asked: None }
    }

    /// Runs until `stop`, or until this member must end.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let pause = self.node.timing().heartbeat();
        while !stop.is_cancelled() {
            if let Some(Err(out)) = stop.run_until_cancelled(self.round()).await {
                return self.end(out).await;
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Ends the member. That it was removed is kept, so that its data directory is refused also when nobody can be asked.
    async fn end(&self, out: Out) {
        if out == Out::Removed
            && let Err(error) = self.node.machine().note_removed(self.node.identity().member_id).await
        {
            tracing::error!(
                error = crate::env::error_chain(&error),
                "cannot keep that this member was removed"
            );
        }
        if let Out::Differs(index) = out
            && let Err(error) = self.node.env().engines.abandon(&self.divergence(index))
        {
            tracing::error!(%error, "cannot keep that this state must not be served");
        }
        self.node.env().fatal(&out.to_string());
    }

    fn divergence(&self, index: u64) -> StoredDivergence {
        let member_id = self.node.identity().member_id;
        let others = self.node.members().into_iter().filter(|(id, _)| *id != member_id);
        let contacts = others.flat_map(|(_, member)| member.peer_urls).collect();
        StoredDivergence { member_id, index, contacts }
    }

    async fn round(&mut self) -> Result<(), Out> {
        if self.node.machine().has_removed(self.node.identity().member_id) {
            return Err(Out::Removed);
        }
        if let Some(index) = self.node.machine().differed_at(self.node.identity().member_id) {
            return Err(Out::Differs(index));
        }
        self.node.change_due().await;
        let has_leader = self.node.leader().0.is_some();
        match self.published() {
            Some(member) if has_leader && member != self.as_published(&member) => {
                self.publish_again().await?;
            }
            Some(_) => {}
            // It is not in the log that this member has. Others say whether it was added, and take its word for who it is.
            None if self.node.joins() => return self.ask_everyone().await,
            None => {}
        }
        let silence = self.node.timing().election_timeout * 2;
        let knows_cluster = !self.node.members().is_empty();
        if knows_cluster && self.node.leader_silence() > silence && self.may_ask() {
            self.ask_everyone().await?;
        }
        Ok(())
    }

    /// At most once per election timeout: an outage must not be filled with questions.
    fn may_ask(&mut self) -> bool {
        let now = self.node.env().now();
        let pause = self.node.timing().election_timeout;
        let is_due = self.asked.is_none_or(|asked| now.saturating_duration_since(asked) >= pause);
        if is_due {
            self.asked = Some(now);
        }
        is_due
    }

    /// Returns what membership says of this member.
    fn published(&self) -> Option<Member> {
        let (membership, _) = self.node.machine().membership();
        membership.get_node(&self.node.identity().member_id).cloned()
    }

    fn as_published(&self, known: &Member) -> Member {
        let (name, client_urls) = (self.node.name().to_owned(), self.node.client_urls().to_vec());
        Member { name, client_urls, incarnation: self.node.identity().incarnation, ..known.clone() }
    }

    fn publication(&self) -> Change {
        let identity = self.node.identity();
        Change::Publish {
            id: identity.member_id,
            incarnation: identity.incarnation,
            name: self.node.name().to_owned(),
            client_urls: self.node.client_urls().to_vec(),
        }
    }

    /// A member that was started with another name or other client URLs says so.
    async fn publish_again(&self) -> Result<(), Out> {
        match self.node.change_members(&self.publication()).await {
            Err(ChangeError::Denied(denial)) => out(denial),
            Ok(_) | Err(ChangeError::NoLeader | ChangeError::Unknown) => Ok(()),
        }
    }

    async fn ask_everyone(&self) -> Result<(), Out> {
        let own = self.node.identity().member_id;
        for (id, member) in self.node.members() {
            if id != own {
                self.ask(self.node.peers().client(id, &member)).await?;
            }
        }
        for url in &self.contacts {
            let contact = Member { peer_urls: vec![url.clone()], ..Member::default() };
            self.ask(self.node.peers().client(0, &contact)).await?;
        }
        Ok(())
    }

    /// Asks one member how it sees this one. A member that has not published itself does so there.
    async fn ask(&self, peer: Peer) -> Result<(), Out> {
        let own = self.node.identity();
        let Ok(info) = peer.cluster_info(ASK_TIMEOUT).await else { return Ok(()) };
        if info.cluster_id != own.cluster_id {
            return Ok(());
        }
        if info.removed_you {
            return Err(Out::Removed);
        }
        let seen = info.members.iter().find(|member| member.id == own.member_id);
        match seen.map(|member| member.incarnation) {
            Some(0) => self.publish_through(&info).await,
            Some(incarnation) if incarnation != own.incarnation => Err(Out::OtherDirectory),
            Some(_) | None => Ok(()),
        }
    }

    async fn publish_through(&self, info: &wire::ClusterInfoResponse) -> Result<(), Out> {
        let asked = info.members.iter().find(|member| member.id == info.member_id);
        let peer_urls = asked.map(|member| member.peer_urls.clone()).unwrap_or_default();
        let asked = Member { peer_urls, incarnation: info.incarnation, ..Member::default() };
        let peer = self.node.peers().client(info.member_id, &asked);
        let change = Some(change_wire::change_to_wire(self.publication()));
        let request = wire::ChangeMembersRequest { change, relay: true };
        let answer = peer.change_members(request, self.node.timing().request_timeout()).await;
        match answer.map(change_wire::outcome) {
            Ok(Ok(Outcome::Denied(denial))) => out(denial),
            // It is asked again until the log says that it is so.
            Ok(Ok(Outcome::Changed(_) | Outcome::NotLeader | Outcome::Unknown) | Err(_)) | Err(_) => Ok(()),
        }
    }
}

/// What a refused publication means.
fn out(denial: Denial) -> Result<(), Out> {
    match denial {
        Denial::Removed => Err(Out::Removed),
        Denial::OtherDirectory => Err(Out::OtherDirectory),
        // Who answered may be behind.
        Denial::MemberNotFound
        | Denial::MemberExists
        | Denial::InvalidUrls
        | Denial::UrlsExist
        | Denial::NotEnoughStarted
        | Denial::Unhealthy
        | Denial::NotLearner
        | Denial::LearnerNotReady
        | Denial::TooManyLearners
        | Denial::BeingReplaced => Ok(()),
    }
}
