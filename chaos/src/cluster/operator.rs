//! What an operator does to a cluster: puts a new member in the place of a lost one, hands leadership over, compacts.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use proto::etcdserverpb::cluster_client::ClusterClient;
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::maintenance_client::MaintenanceClient;
use proto::etcdserverpb::{
    CompactionRequest, DefragmentRequest, Member as Listed, MemberAddRequest, MemberListRequest,
    MemberRemoveRequest, MoveLeaderRequest,
};
use tonic::transport::{Channel, Endpoint};

use super::Cluster;

/// A change of members waits for a majority, which may have to elect a leader first.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a change is tried again: members refuse it while they are not sure of each other.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(30);
const CHANGE_POLL: Duration = Duration::from_millis(300);

/// The ids before and after a replacement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replaced {
    pub old: u64,
    pub new: u64,
}

impl Cluster {
    /// Removes a member from the cluster, wipes its data and starts it anew under a new id. A majority of the others serves.
    ///
    /// # Errors
    /// When the cluster does not accept it in time.
    pub async fn replace(&mut self, index: usize) -> anyhow::Result<Replaced> {
        let old = self.remove(index).await?;
        Ok(Replaced { old, new: self.add(index).await? })
    }

    /// Removes a member from the cluster, ends it and wipes its data; returns its id.
    ///
    /// # Errors
    /// When the cluster does not accept it in time.
    pub async fn remove(&mut self, index: usize) -> anyhow::Result<u64> {
        let old = *self.ids.get(index).context("no such member")?;
        self.change(index, async |mut cluster: ClusterClient<Channel>| {
            let listed = list(&mut cluster).await?;
            if listed.iter().any(|member| member.id == old) {
                cluster.member_remove(MemberRemoveRequest { id: old }).await?;
            }
            Ok(())
        })
        .await
        .context("the member is not removed")?;
        let directory = self.directory(index)?;
        let member = self.members.get_mut(index).context("no such member")?;
        member.kill().await?;
        wipe(&directory)?;
        Ok(old)
    }

    /// Adds a new member where one was removed, and starts it; returns its id. All members that are left must serve.
    ///
    /// # Errors
    /// When the cluster does not accept it in time.
    pub async fn add(&mut self, index: usize) -> anyhow::Result<u64> {
        let peer_url = self.places.get(index).context("no such member")?.peer_url.clone();
        let listed = self
            .change(index, async |mut cluster: ClusterClient<Channel>| {
                let listed = list(&mut cluster).await?;
                if listed.iter().any(|member| member.peer_urls.contains(&peer_url)) {
                    return Ok(listed);
                }
                let request = MemberAddRequest { peer_urls: vec![peer_url.clone()], is_learner: false };
                Ok(cluster.member_add(request).await?.into_inner().members)
            })
            .await
            .context("the new member is not added")?;
        let new = listed.iter().find(|member| member.peer_urls.contains(&peer_url));
        let new = new.context("the new member is not listed")?.id;
        let initial: Vec<String> = self
            .places
            .iter()
            .filter(|place| listed.iter().any(|member| member.peer_urls.contains(&place.peer_url)))
            .map(|place| format!("{}={}", place.name, place.peer_url))
            .collect();
        let member = self.members.get_mut(index).context("no such member")?;
        member.join(&initial.join(","));
        member.start()?;
        if let Some(id) = self.ids.get_mut(index) {
            *id = new;
        }
        Ok(new)
    }

    /// Whether a member that was put in another one's place is a voter that knows a leader.
    pub async fn votes(&self, index: usize, id: u64) -> bool {
        let Ok(client) = self.connect(index) else { return false };
        let asked = tokio::time::timeout(CALL_TIMEOUT, client.status()).await;
        let is_led = asked.is_ok_and(|status| status.is_ok_and(|status| status.leader != 0));
        let listed = self
            .change(index, async |mut cluster: ClusterClient<Channel>| list(&mut cluster).await)
            .await
            .unwrap_or_default();
        is_led && listed.iter().any(|member| member.id == id && !member.is_learner)
    }

    /// Asks the leader to hand over to another member; returns whether it agreed.
    ///
    /// # Errors
    /// When the leader cannot be asked.
    pub async fn transfer(&self, leader: usize, to: usize) -> anyhow::Result<bool> {
        let target_id = *self.ids.get(to).context("no such member")?;
        let mut maintenance = MaintenanceClient::new(self.channel(leader)?);
        Ok(maintenance.move_leader(MoveLeaderRequest { target_id }).await.is_ok())
    }

    /// Compacts up to a revision; returns whether the member agreed.
    ///
    /// # Errors
    /// When the member's address is none.
    pub async fn compact(&self, through: usize, revision: i64) -> anyhow::Result<bool> {
        let request = CompactionRequest { revision, physical: true };
        Ok(KvClient::new(self.channel(through)?).compact(request).await.is_ok())
    }

    /// Defragments one member; returns whether it did.
    ///
    /// # Errors
    /// When the member's address is none.
    pub async fn defragment(&self, index: usize) -> anyhow::Result<bool> {
        Ok(MaintenanceClient::new(self.channel(index)?).defragment(DefragmentRequest {}).await.is_ok())
    }

    /// Tries a change through every member but one, until one of them does it.
    async fn change<T>(
        &self,
        except: usize,
        change: impl AsyncFn(ClusterClient<Channel>) -> Result<T, tonic::Status>,
    ) -> anyhow::Result<T> {
        let began = tokio::time::Instant::now();
        loop {
            let mut last = None;
            for through in (0..self.members.len()).filter(|member| *member != except) {
                match change(ClusterClient::new(self.channel(through)?)).await {
                    Ok(done) => return Ok(done),
                    Err(status) => last = Some(status),
                }
            }
            if began.elapsed() > CHANGE_TIMEOUT {
                let last = last.map_or_else(|| "there is nobody to ask".to_owned(), |last| last.to_string());
                anyhow::bail!("no member agrees within {CHANGE_TIMEOUT:?}: {last}");
            }
            tokio::time::sleep(CHANGE_POLL).await;
        }
    }

    fn channel(&self, index: usize) -> anyhow::Result<Channel> {
        let endpoint = Endpoint::from_shared(self.client_url(index)?.to_owned())?;
        Ok(endpoint.connect_timeout(CALL_TIMEOUT).timeout(CALL_TIMEOUT).connect_lazy())
    }
}

async fn list(cluster: &mut ClusterClient<Channel>) -> Result<Vec<Listed>, tonic::Status> {
    Ok(cluster.member_list(MemberListRequest { linearizable: true }).await?.into_inner().members)
}

/// Empties a directory, which may be a mount point.
fn wipe(directory: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            std::fs::remove_dir_all(path)?;
        } else {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wiped_directory_is_empty_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("member")).unwrap();
        std::fs::write(folder.path().join("member/wal"), "x").unwrap();
        std::fs::write(folder.path().join("lock"), "x").unwrap();
        wipe(folder.path()).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
