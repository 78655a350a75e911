//! Members with real files, sockets and threads in this process.

use std::path::Path;
use std::sync::{Arc, Mutex};

use store::config::{Config, InitialMember};
use store::etcd::{AuthOptions, Edge};
use store::kv::{Kv, KvError};
use store::mvcc::{Op, Put, Txn};
use store::wal::WalConfig;
use store::{DirectoryError, Member, MemberError};
use tokio_util::sync::CancellationToken;

use super::{PATIENCE, Server, free_port, until, url};

/// The lines with which members ended.
pub type Fatals = Arc<Mutex<Vec<String>>>;

/// Returns the settings of a member with a small log, in a directory named for it; `members` gives peer ports by name.
pub fn config<N: AsRef<str>>(
    directory: &Path,
    name: &str,
    members: impl IntoIterator<Item = (N, u16)>,
) -> Config {
    let members: Vec<(String, u16)> =
        members.into_iter().map(|(name, port)| (name.as_ref().to_owned(), port)).collect();
    let (_, port) = members.iter().find(|(named, _)| named == name).unwrap();
    let mut config = Config::single(directory.join(name), name, &format!("127.0.0.1:{port}"));
    config.initial_cluster =
        members.into_iter().map(|(name, port)| InitialMember { name, peer_urls: vec![url(port)] }).collect();
    config.wal = WalConfig { segment_bytes: 1024 * 1024, ..WalConfig::default() };
    config
}

/// Starts a member once an earlier one has let go of its files and its port.
pub async fn start_member(config: &Config) -> Result<Arc<Member>, MemberError> {
    until("the end of the killed member", async || {
        match Member::start(config.clone(), CancellationToken::new()).await {
            Err(MemberError::Directory(DirectoryError::InUse { .. }) | MemberError::Listen { .. }) => None,
            other => Some(other),
        }
    })
    .await
}

/// Writes until it is acknowledged: while leadership moves, a write may have an unknown outcome. Needs no token.
pub async fn write(member: &Member, key: &str, value: &str) {
    let put = Put { key: key.to_owned().into(), value: value.to_owned().into(), ..Put::default() };
    let txn = Txn::of(Op::Put(put));
    until("an acknowledged write", async || match member.txn(txn.clone()).await {
        Ok(_) => Some(()),
        Err(KvError::OutcomeUnknown | KvError::NoLeader) => None,
        Err(error) => panic!("{error}"),
    })
    .await;
}

/// Three members `m0` to `m2`, each with a client port.
pub struct Cluster {
    pub directory: tempfile::TempDir,
    pub fatals: Fatals,
    ports: Vec<u16>,
    running: Vec<Option<(Arc<Member>, Server)>>,
    adjust: fn(usize, &mut Config),
    auth: AuthOptions,
}

impl Cluster {
    pub async fn start() -> Self {
        Self::with(|_, _| {}, AuthOptions::default()).await
    }

    /// Starts members whose settings differ from those of others.
    pub async fn adjusted(adjust: fn(usize, &mut Config)) -> Self {
        Self::with(adjust, AuthOptions::default()).await
    }

    /// Starts members whose clients prove themselves in some way.
    pub async fn with_auth(auth: AuthOptions) -> Self {
        Self::with(|_, _| {}, auth).await
    }

    async fn with(adjust: fn(usize, &mut Config), auth: AuthOptions) -> Self {
        let mut cluster = Self {
            directory: tempfile::tempdir().unwrap(),
            fatals: Arc::default(),
            ports: (0..3).map(|_| free_port()).collect(),
            running: vec![None, None, None],
            adjust,
            auth,
        };
        for number in 0..3 {
            cluster.start_member(number).await;
        }
        cluster.member(0).read_index().await.unwrap();
        cluster
    }

    pub fn config(&self, number: usize) -> Config {
        let members = self.ports.iter().enumerate().map(|(number, port)| (format!("m{number}"), *port));
        let mut config = config(self.directory.path(), &format!("m{number}"), members);
        config.snapshot_entries = 200;
        config.entries_kept = Some(20);
        let fatals = Arc::clone(&self.fatals);
        config.fatal = Some(Arc::new(move |message| fatals.lock().unwrap().push(message.to_owned())));
        (self.adjust)(number, &mut config);
        config
    }

    pub async fn start_member(&mut self, number: usize) {
        let member = start_member(&self.config(number)).await.unwrap();
        self.hold(number, member).await;
    }

    /// Starts a member whose files and port must be free by now.
    pub async fn start_member_at_once(&mut self, number: usize) {
        let member = Member::start(self.config(number), CancellationToken::new()).await.unwrap();
        self.hold(number, member).await;
    }

    async fn hold(&mut self, number: usize, member: Arc<Member>) {
        let server = Server::of(Edge::new(&member).with_auth(self.auth.clone())).await;
        self.running[number] = Some((member, server));
    }

    pub fn member(&self, number: usize) -> &Arc<Member> {
        &self.running[number].as_ref().unwrap().0
    }

    pub fn server(&self, number: usize) -> &Server {
        &self.running[number].as_ref().unwrap().1
    }

    /// Ends a member without any farewell.
    pub async fn kill(&mut self, number: usize) {
        let (member, server) = self.running[number].take().unwrap();
        server.stop().await;
        assert_eq!(Arc::strong_count(&member), 1);
    }

    pub async fn stop_member(&mut self, number: usize) {
        let (member, server) = self.running[number].take().unwrap();
        server.stop().await;
        tokio::time::timeout(PATIENCE, member.stop()).await.expect("a member stops");
        assert_eq!(Arc::strong_count(&member), 1);
    }

    pub async fn put(&self, number: usize, key: &str, value: &str) {
        write(self.member(number), key, value).await;
    }

    pub async fn leader(&self) -> usize {
        until("a leader", async || {
            let mut running = (0..3).filter(|number| self.running[*number].is_some());
            running.find(|number| {
                let status = self.member(*number).status();
                status.leader_id == status.member_id
            })
        })
        .await
    }

    pub async fn stop(mut self) {
        for number in 0..3 {
            if self.running[number].is_some() {
                self.stop_member(number).await;
            }
        }
        assert_eq!(*self.fatals.lock().unwrap(), Vec::<String>::new());
    }
}
