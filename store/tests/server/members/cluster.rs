//! Members with names, which come and go.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use store::admin::{Admin, AdminError, MemberInfo};
use store::config::{ClusterState, Config};
use store::kv::{Consistency, Kv, KvError};
use store::mvcc::{KeyRange, Op, Put, Range, Txn};
use store::{Member, MemberError};

use crate::harness::{self, PATIENCE, free_port, until, url};

/// Members by name. Each has a port of its own, and a directory named after it.
pub struct Cluster {
    pub directory: tempfile::TempDir,
    pub ports: BTreeMap<String, u16>,
    pub running: BTreeMap<String, Arc<Member>>,
    pub fatals: Arc<Mutex<Vec<(String, String)>>>,
}

impl Cluster {
    /// Starts a cluster of new members.
    pub async fn start(names: &[&str]) -> Self {
        Self::start_with(names, |_, config| config).await
    }

    /// Starts members whose settings are other ones.
    pub async fn start_with(names: &[&str], adjust: impl Fn(&str, Config) -> Config) -> Self {
        let mut cluster = Self {
            directory: tempfile::tempdir().unwrap(),
            ports: names.iter().map(|name| ((*name).to_owned(), free_port())).collect(),
            running: BTreeMap::new(),
            fatals: Arc::default(),
        };
        for name in names {
            let config = adjust(name, cluster.config(name, ClusterState::New));
            cluster.run(name, config).await.unwrap();
        }
        cluster.member(names[0]).read_index().await.unwrap();
        cluster
    }

    pub fn config(&self, name: &str, state: ClusterState) -> Config {
        let members = self.ports.iter().map(|(name, port)| (name, *port));
        let mut config = harness::config(self.directory.path(), name, members);
        config.cluster_state = state;
        // Few enough that who comes later gets a snapshot.
        config.snapshot_entries = 50;
        config.entries_kept = Some(10);
        let (fatals, own) = (Arc::clone(&self.fatals), name.to_owned());
        config.fatal = Some(Arc::new(move |message| {
            fatals.lock().unwrap().push((own.clone(), message.to_owned()));
        }));
        config
    }

    pub async fn run(&mut self, name: &str, config: Config) -> Result<(), MemberError> {
        self.running.insert(name.to_owned(), harness::start_member(&config).await?);
        Ok(())
    }

    /// Starts a member that was added, or one that has joined before.
    pub async fn join(&mut self, name: &str) -> Result<(), MemberError> {
        let config = self.config(name, ClusterState::Existing);
        self.run(name, config).await
    }

    pub fn member(&self, name: &str) -> &Arc<Member> {
        &self.running[name]
    }

    /// Adds a member through another one and returns its id.
    pub async fn add(&mut self, through: &str, name: &str, learner: bool) -> u64 {
        let port = free_port();
        let added = self.member(through).add_member(vec![url(port)], learner).await.unwrap();
        self.ports.insert(name.to_owned(), port);
        added.member.id
    }

    /// Adds a member, starts it and waits until it votes.
    pub async fn grow(&mut self, through: &str, name: &str) -> u64 {
        let id = self.add(through, name, false).await;
        self.join(name).await.unwrap();
        self.await_voter(through, id).await;
        id
    }

    /// Adds a member that takes another one's place, and returns its id.
    pub async fn replace(&mut self, through: &str, replaced: u64, name: &str) -> u64 {
        let port = free_port();
        let added = until("a replacement that is taken", async || {
            match self.member(through).replace_member(replaced, vec![url(port)]).await {
                Ok(added) => Some(added),
                Err(AdminError::Kv(KvError::NoLeader)) => None,
                Err(error) => panic!("{error}"),
            }
        })
        .await;
        self.ports.insert(name.to_owned(), port);
        added.member.id
    }

    pub async fn await_replaced(&self, asked: &str, old: u64, new: u64) {
        until("the end of a replacement", async || {
            let members = self.member(asked).members(true).await.ok()?;
            let has_come = members.iter().any(|member| member.id == new && is_voter(member));
            (has_come && members.iter().all(|member| member.id != old)).then_some(())
        })
        .await;
    }

    pub async fn await_voter(&self, asked: &str, id: u64) {
        until("a new voter", async || {
            let members = self.member(asked).members(true).await.ok()?;
            members.iter().any(|member| member.id == id && is_voter(member)).then_some(())
        })
        .await;
    }

    pub fn id(&self, name: &str) -> u64 {
        self.member(name).responder().member_id
    }

    pub fn kill(&mut self, name: &str) {
        let member = self.running.remove(name).unwrap();
        assert_eq!(Arc::strong_count(&member), 1);
        drop(member);
    }

    pub async fn stop_member(&mut self, name: &str) {
        let member = self.running.remove(name).unwrap();
        tokio::time::timeout(PATIENCE, member.stop()).await.expect("a member stops");
    }

    pub async fn leader(&self) -> String {
        until("a leader", async || {
            let leads = |member: &Arc<Member>| {
                let status = member.status();
                status.leader_id == status.member_id
            };
            self.running.iter().find(|(_, member)| leads(member)).map(|(name, _)| name.clone())
        })
        .await
    }

    /// Returns the name of a running member that does not lead.
    pub async fn follower(&self) -> String {
        let leader = self.leader().await;
        self.running.keys().find(|name| **name != leader).unwrap().clone()
    }

    pub async fn put(&self, name: &str, key: &str) {
        harness::write(self.member(name), key, "v").await;
    }

    pub async fn assert_holds(&self, name: &str, keys: &[&str]) {
        for key in keys {
            let range = Range::new(KeyRange::single((*key).to_owned()));
            let found = until("a linearizable read", async || {
                self.member(name).range(range.clone(), Consistency::Linearizable).await.ok()
            });
            assert_eq!(found.await.kvs.len(), 1, "{name} lacks {key}");
        }
    }

    /// Waits for the line with which a member ends.
    pub async fn end_of(&self, name: &str) -> String {
        let fatals = Arc::clone(&self.fatals);
        until("the end of a member", async || {
            let fatals = fatals.lock().unwrap();
            fatals.iter().find(|(of, _)| of == name).map(|(_, line)| line.clone())
        })
        .await
    }

    pub fn ended(&self) -> Vec<String> {
        self.fatals.lock().unwrap().iter().map(|(name, _)| name.clone()).collect()
    }

    pub async fn stop(mut self) {
        for name in self.running.keys().cloned().collect::<Vec<_>>() {
            self.stop_member(&name).await;
        }
    }
}

pub fn is_voter(member: &MemberInfo) -> bool {
    !member.is_learner && !member.name.is_empty()
}

pub fn put(key: &str) -> Txn {
    let put = Put { key: Bytes::from(key.to_owned()), value: "v".into(), ..Put::default() };
    Txn { success: vec![Op::Put(put)], ..Txn::default() }
}
