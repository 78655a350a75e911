//! Authentication over three members with real files and sockets: what one member is told, all of them check.

use crate::harness::{Cluster, Server, until};
use proto::authpb::{Permission, UserAddOptions, permission};
use proto::etcdserverpb as pb;
use store::etcd::{AuthOptions, TokenKind};
use store::kv::{Consistency, Kv};
use store::mvcc::{KeyRange, Range};
use tonic::{Code, Request, Status};

/// Enough writes that a member which misses them gets a snapshot.
const WRITES: usize = 1000;

fn with_token<T>(message: T, token: Option<&str>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        request.metadata_mut().insert("token", token.parse().unwrap());
    }
    request
}

impl Server {
    fn auth(&self) -> pb::auth_client::AuthClient<tonic::transport::Channel> {
        pb::auth_client::AuthClient::new(self.channel())
    }

    async fn login(&self, name: &str, password: &str) -> Result<String, Status> {
        let request = pb::AuthenticateRequest { name: name.to_owned(), password: password.to_owned() };
        Ok(self.auth().authenticate(request).await?.into_inner().token)
    }

    async fn put(&self, token: Option<&str>, key: &str) -> Result<(), Code> {
        self.try_put(token, key).await.map_err(|status| status.code())
    }

    async fn try_put(&self, token: Option<&str>, key: &str) -> Result<(), Status> {
        let put = pb::PutRequest { key: key.to_owned().into(), ..pb::PutRequest::default() };
        let mut client = pb::kv_client::KvClient::new(self.channel());
        client.put(with_token(put, token)).await.map(|_| ())
    }

    async fn get(&self, token: Option<&str>, key: &str) -> Result<(), Code> {
        let range = pb::RangeRequest { key: key.to_owned().into(), ..pb::RangeRequest::default() };
        let mut client = pb::kv_client::KvClient::new(self.channel());
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
        cluster.put(number, "b/1", "").await;
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
    cluster.kill(away).await;

    let root =
        until("a leader", async || cluster.server(other).login("root", "root's password").await.ok()).await;
    let revoke = pb::AuthUserRevokeRoleRequest { name: "alice".to_owned(), role: "r".to_owned() };
    cluster.server(other).auth().user_revoke_role(with_token(revoke, Some(&root))).await.unwrap();
    for number in 0..WRITES {
        cluster.put(other, &format!("k{}", number % 10), "").await;
    }

    cluster.start_member(away).await;
    cluster.member(away).read_index().await.unwrap();
    let current = cluster.directory.path().join(format!("m{away}/db/CURRENT"));
    assert_eq!(std::fs::read_to_string(current).unwrap().trim(), "000002", "the state came as a snapshot");
    let server = cluster.server(away);
    assert_eq!(server.get(None, "a/1").await, Err(Code::InvalidArgument), "authentication is on");
    assert_eq!(server.get(Some(&before), "a/1").await, Err(Code::Unauthenticated), "sessions are forgotten");
    // The state may come a second time, with the session in it: of such a login nobody here knows the outcome.
    let alice = until("a login", async || server.login("alice", "alice's password").await.ok()).await;
    assert_eq!(server.get(Some(&alice), "a/1").await, Err(Code::PermissionDenied));
    assert_eq!(server.put(Some(&alice), "a/1").await, Err(Code::PermissionDenied));
    let root = cluster.server(other).login("root", "root's password").await.unwrap();
    assert_eq!(server.put(Some(&root), "a/1").await, Ok(()));

    cluster.stop_member(away).await;
    cluster.start_member(away).await;
    let server = cluster.server(away);
    assert_eq!(server.put(None, "a/1").await, Err(Code::InvalidArgument), "after a restart as well");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_web_token_is_taken_by_all_until_users_or_roles_change() {
    let files = tempfile::tempdir().unwrap();
    let secret = files.path().join("secret");
    std::fs::write(&secret, "shared by all members").unwrap();
    let tokens = TokenKind::read(&format!("jwt,sign-method=HS256,priv-key={}", secret.display())).unwrap();
    let mut cluster = Cluster::with_auth(AuthOptions { tokens, ..AuthOptions::default() }).await;
    cluster.server(0).enable().await;
    let token = cluster.server(0).login("alice", "alice's password").await.unwrap();
    let bearer = format!("Bearer {token}");
    // Nobody has to be told of it: a member that was restarted takes it as well.
    cluster.stop_member(2).await;
    cluster.start_member(2).await;
    cluster.member(2).read_index().await.unwrap();
    for number in 0..3 {
        let server = cluster.server(number);
        assert_eq!(server.put(Some(&token), "a/1").await, Ok(()), "member {number}");
        assert_eq!(server.get(Some(&bearer), "a/1").await, Ok(()), "member {number}");
        assert_eq!(server.put(Some(&token), "b/1").await, Err(Code::PermissionDenied));
        assert_eq!(server.put(Some(&token.to_lowercase()), "a/1").await, Err(Code::Unauthenticated));
        assert_eq!(server.put(None, "a/1").await, Err(Code::InvalidArgument));
    }
    let root = cluster.server(1).login("root", "root's password").await.unwrap();
    let role = pb::AuthRoleAddRequest { name: "another".to_owned() };
    cluster.server(1).auth().role_add(with_token(role, Some(&root))).await.unwrap();
    for number in 0..3 {
        let refused = cluster.server(number).try_put(Some(&token), "a/1").await.unwrap_err();
        let seen = (refused.code(), refused.message());
        assert_eq!(
            seen,
            (Code::InvalidArgument, "etcdserver: revision of auth store is old"),
            "member {number}"
        );
    }
    let again = cluster.server(2).login("alice", "alice's password").await.unwrap();
    assert_eq!(cluster.server(0).put(Some(&again), "a/1").await, Ok(()));
    cluster.stop().await;
}
