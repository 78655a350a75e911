//! Authentication over three members with real files and sockets: what one member is told, all of them check.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod ports;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ports::free_port;
use proto::authpb::{Permission, UserAddOptions, permission};
use proto::etcdserverpb as pb;
use store::config::{Config, InitialMember};
use store::etcd::{Edge, EtcdOptions};
use store::kv::{Consistency, Kv, KvError};
use store::mvcc::{KeyRange, Op, Put, Range, Txn};
use store::wal::WalConfig;
use store::{DirectoryError, Member, MemberError};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// Everything here must happen in this time; a loaded machine needs slack.
const PATIENCE: Duration = Duration::from_secs(30);
/// Enough writes that a member which misses them gets a snapshot.
const WRITES: usize = 1000;

/// A member with its client port.
struct Server {
    member: Arc<Member>,
    channel: Channel,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

struct Cluster {
    directory: tempfile::TempDir,
    ports: Vec<u16>,
    servers: Vec<Option<Server>>,
    fatals: Arc<Mutex<Vec<String>>>,
}

impl Cluster {
    async fn start() -> Self {
        let mut cluster = Self {
            directory: tempfile::tempdir().unwrap(),
            ports: (0..3).map(|_| free_port()).collect(),
            servers: vec![None, None, None],
            fatals: Arc::default(),
        };
        for number in 0..3 {
            cluster.start_server(number).await;
        }
        cluster.member(0).read_index().await.unwrap();
        cluster
    }

    fn config(&self, number: usize) -> Config {
        let url = |number: usize| format!("http://127.0.0.1:{}", self.ports[number]);
        let name = format!("m{number}");
        let peer = format!("127.0.0.1:{}", self.ports[number]);
        let mut config = Config::single(self.directory.path().join(&name), &name, &peer);
        config.initial_cluster = (0..3)
            .map(|number| InitialMember { name: format!("m{number}"), peer_urls: vec![url(number)] })
            .collect();
        config.wal = WalConfig { segment_bytes: 1024 * 1024, ..WalConfig::default() };
        config.snapshot_entries = 200;
        config.entries_kept = Some(20);
        let fatals = Arc::clone(&self.fatals);
        config.fatal = Some(Arc::new(move |message| fatals.lock().unwrap().push(message.to_owned())));
        config
    }

    async fn start_server(&mut self, number: usize) {
        let member = until("the end of the killed member", async || {
            match Member::start(self.config(number), CancellationToken::new()).await {
                Err(MemberError::Directory(DirectoryError::InUse { .. }) | MemberError::Listen { .. }) => {
                    None
                }
                other => Some(other.unwrap()),
            }
        })
        .await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (edge, stop) = (Edge::new(&member), CancellationToken::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(store::etcd::serve(listener, None, edge, EtcdOptions::default(), stop.clone()));
        let channel = Channel::from_shared(endpoint).unwrap().connect().await.unwrap();
        self.servers[number] = Some(Server { member, channel, stop, tasks });
    }

    fn server(&self, number: usize) -> &Server {
        self.servers[number].as_ref().unwrap()
    }

    fn member(&self, number: usize) -> &Arc<Member> {
        &self.server(number).member
    }

    /// Ends the client port, and the member with or without a farewell.
    async fn end_server(&mut self, number: usize, is_clean: bool) {
        let Server { member, channel, stop, mut tasks } = self.servers[number].take().unwrap();
        drop(channel);
        stop.cancel();
        while tasks.join_next().await.is_some() {}
        if is_clean {
            tokio::time::timeout(PATIENCE, member.stop()).await.expect("a member stops");
        }
        assert_eq!(Arc::strong_count(&member), 1);
    }

    /// Writes from inside the process, which needs no token.
    async fn put(&self, number: usize, key: &str) {
        until("an acknowledged write", async || {
            let put = Put { key: key.to_owned().into(), ..Put::default() };
            match self.member(number).txn(Txn::of(Op::Put(put))).await {
                Ok(_) => Some(()),
                Err(KvError::OutcomeUnknown | KvError::NoLeader) => None,
                Err(error) => panic!("{error}"),
            }
        })
        .await;
    }

    async fn stop(mut self) {
        for number in 0..3 {
            self.end_server(number, true).await;
        }
        assert_eq!(*self.fatals.lock().unwrap(), Vec::<String>::new());
    }
}

async fn until<T>(what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = found().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn with_token<T>(message: T, token: Option<&str>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        request.metadata_mut().insert("token", token.parse().unwrap());
    }
    request
}

impl Server {
    fn auth(&self) -> pb::auth_client::AuthClient<Channel> {
        pb::auth_client::AuthClient::new(self.channel.clone())
    }

    async fn login(&self, name: &str, password: &str) -> Result<String, Status> {
        let request = pb::AuthenticateRequest { name: name.to_owned(), password: password.to_owned() };
        Ok(self.auth().authenticate(request).await?.into_inner().token)
    }

    async fn put(&self, token: Option<&str>, key: &str) -> Result<(), Code> {
        let put = pb::PutRequest { key: key.to_owned().into(), ..pb::PutRequest::default() };
        let mut client = pb::kv_client::KvClient::new(self.channel.clone());
        client.put(with_token(put, token)).await.map(|_| ()).map_err(|status| status.code())
    }

    async fn get(&self, token: Option<&str>, key: &str) -> Result<(), Code> {
        let range = pb::RangeRequest { key: key.to_owned().into(), ..pb::RangeRequest::default() };
        let mut client = pb::kv_client::KvClient::new(self.channel.clone());
        client.range(with_token(range, token)).await.map(|_| ()).map_err(|status| status.code())
    }

    /// Makes root, and alice who may read and write below `a/`; switches authentication on.
    async fn enable(&self) {
        let mut auth = self.auth();
        for (name, role) in [("root", "root"), ("alice", "r")] {
            let (name, role) = (name.to_owned(), role.to_owned());
            let user = pb::AuthUserAddRequest {
                name: name.clone(),
                password: format!("{name}'s password"),
                options: Some(UserAddOptions::default()),
                ..pb::AuthUserAddRequest::default()
            };
            auth.user_add(user).await.unwrap();
            auth.role_add(pb::AuthRoleAddRequest { name: role.clone() }).await.unwrap();
            auth.user_grant_role(pb::AuthUserGrantRoleRequest { user: name, role }).await.unwrap();
        }
        let perm = Permission {
            perm_type: permission::Type::Readwrite.into(),
            key: "a/".into(),
            range_end: "a0".into(),
        };
        let grant = pb::AuthRoleGrantPermissionRequest { name: "r".to_owned(), perm: Some(perm) };
        auth.role_grant_permission(grant).await.unwrap();
        auth.auth_enable(pb::AuthEnableRequest {}).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_of_one_member_is_checked_by_all() {
    let cluster = Cluster::start().await;
    cluster.server(0).enable().await;
    for number in 0..3 {
        let server = cluster.server(number);
        // Right after the answer that authentication is on, wherever that was.
        assert_eq!(server.get(None, "a/1").await, Err(Code::InvalidArgument), "member {number}");
        assert_eq!(server.put(None, "a/1").await, Err(Code::InvalidArgument), "member {number}");
        let wrong = server.login("alice", "wrong").await.unwrap_err();
        assert_eq!(wrong.code(), Code::InvalidArgument, "{wrong}");
        let token = server.login("alice", "alice's password").await.unwrap();
        // Right after the answer that gave the token, everywhere.
        for other in 0..3 {
            let other = cluster.server(other);
            assert_eq!(other.put(Some(&token), "a/1").await, Ok(()));
            assert_eq!(other.get(Some(&token), "a/1").await, Ok(()));
            assert_eq!(other.put(Some(&token), "b/1").await, Err(Code::PermissionDenied));
            assert_eq!(other.get(Some(&token), "b/1").await, Err(Code::PermissionDenied));
            assert_eq!(other.get(Some("nobody's"), "a/1").await, Err(Code::Unauthenticated));
        }
        // This process itself needs no token.
        cluster.put(number, "b/1").await;
        let range = Range::new(KeyRange::single("b/1"));
        let read = cluster.member(number).range(range, Consistency::Linearizable).await.unwrap();
        assert_eq!(read.count, 1);
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_revoked_is_revoked_on_a_member_that_was_away() {
    let mut cluster = Cluster::start().await;
    cluster.server(0).enable().await;
    let (away, other) = (2, 1);
    let before = cluster.server(away).login("alice", "alice's password").await.unwrap();
    assert_eq!(cluster.server(away).put(Some(&before), "a/1").await, Ok(()));
    cluster.end_server(away, false).await;

    let root =
        until("a leader", async || cluster.server(other).login("root", "root's password").await.ok()).await;
    let revoke = pb::AuthUserRevokeRoleRequest { name: "alice".to_owned(), role: "r".to_owned() };
    cluster.server(other).auth().user_revoke_role(with_token(revoke, Some(&root))).await.unwrap();
    for number in 0..WRITES {
        cluster.put(other, &format!("k{}", number % 10)).await;
    }

    cluster.start_server(away).await;
    cluster.member(away).read_index().await.unwrap();
    let current = cluster.directory.path().join(format!("m{away}/db/CURRENT"));
    assert_eq!(std::fs::read_to_string(current).unwrap().trim(), "000002", "the state came as a snapshot");
    let server = cluster.server(away);
    assert_eq!(server.get(None, "a/1").await, Err(Code::InvalidArgument), "authentication is on");
    assert_eq!(server.get(Some(&before), "a/1").await, Err(Code::Unauthenticated), "sessions are forgotten");
    let alice = server.login("alice", "alice's password").await.unwrap();
    assert_eq!(server.get(Some(&alice), "a/1").await, Err(Code::PermissionDenied));
    assert_eq!(server.put(Some(&alice), "a/1").await, Err(Code::PermissionDenied));
    let root = cluster.server(other).login("root", "root's password").await.unwrap();
    assert_eq!(server.put(Some(&root), "a/1").await, Ok(()));

    cluster.end_server(away, true).await;
    cluster.start_server(away).await;
    let server = cluster.server(away);
    assert_eq!(server.put(None, "a/1").await, Err(Code::InvalidArgument), "after a restart as well");
    cluster.stop().await;
}
