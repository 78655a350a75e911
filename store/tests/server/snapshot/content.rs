//! What two stores must agree on, as a client sees it, and something to put into them.

use std::collections::BTreeMap;

use proto::{authpb, etcdserverpb as pb};
use tonic::transport::Channel;
use tonic::{Request, Status};

/// The user who may do everything, and one who may read below `key/0`.
const ROOT: (&str, &str) = ("root", "root's");
const READER: (&str, &str) = ("reader", "reader's");

/// One user of one store.
#[derive(Clone)]
pub struct Client {
    channel: Channel,
    token: Option<String>,
}

#[derive(Debug, PartialEq)]
pub struct Content {
    /// Everything at each revision; `None` below the compact one.
    ranges: Vec<Option<Vec<Row>>>,
    /// Id, time to live as granted, and keys.
    leases: Vec<(i64, i64, Vec<Vec<u8>>)>,
    users: BTreeMap<String, Vec<String>>,
    roles: BTreeMap<String, Vec<authpb::Permission>>,
}

type Row = proto::mvccpb::KeyValue;

fn all() -> (bytes::Bytes, bytes::Bytes) {
    (vec![0].into(), vec![0].into())
}

impl Client {
    pub fn new(channel: Channel) -> Self {
        Self { channel, token: None }
    }

    /// Becomes root, where users count.
    pub async fn as_root(&self) -> Self {
        self.as_user(ROOT).await.unwrap()
    }

    async fn as_user(&self, (name, password): (&str, &str)) -> Result<Self, Status> {
        let request = pb::AuthenticateRequest { name: name.to_owned(), password: password.to_owned() };
        let answer = self.auth().authenticate(request).await?;
        Ok(Self { token: Some(answer.into_inner().token), ..self.clone() })
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("token", token.parse().unwrap());
        }
        request
    }

    fn kv(&self) -> pb::kv_client::KvClient<Channel> {
        pb::kv_client::KvClient::new(self.channel.clone())
    }

    fn lease(&self) -> pb::lease_client::LeaseClient<Channel> {
        pb::lease_client::LeaseClient::new(self.channel.clone())
    }

    fn auth(&self) -> pb::auth_client::AuthClient<Channel> {
        pb::auth_client::AuthClient::new(self.channel.clone())
    }

    pub async fn put(&self, key: &str, value: impl Into<bytes::Bytes>, lease: i64) -> i64 {
        let put =
            pb::PutRequest { key: key.to_owned().into(), value: value.into(), lease, ..Default::default() };
        self.kv().put(self.request(put)).await.unwrap().into_inner().header.unwrap().revision
    }

    pub async fn delete(&self, key: &str, range_end: &str) {
        let (key, range_end) = (key.to_owned().into(), range_end.to_owned().into());
        let delete = pb::DeleteRangeRequest { key, range_end, ..Default::default() };
        self.kv().delete_range(self.request(delete)).await.unwrap();
    }

    pub async fn compact(&self, revision: i64) {
        let request = pb::CompactionRequest { revision, physical: true };
        self.kv().compact(self.request(request)).await.unwrap();
    }

    /// Whether a linearizable read is answered, if only by asking who reads.
    pub async fn is_served(&self) -> bool {
        let request = pb::RangeRequest { key: "any".into(), ..Default::default() };
        match self.kv().range(self.request(request)).await {
            Ok(_) => true,
            Err(status) => status.message().contains("user name is empty"),
        }
    }

    pub async fn revision(&self) -> i64 {
        let request = pb::RangeRequest { key: "any".into(), ..Default::default() };
        self.kv().range(self.request(request)).await.unwrap().into_inner().header.unwrap().revision
    }

    /// Returns everything at a revision, 0 for now; `None` when it is compacted.
    pub async fn range_at(&self, revision: i64) -> Option<Vec<Row>> {
        let (key, range_end) = all();
        let request = pb::RangeRequest { key, range_end, revision, ..Default::default() };
        let answer = self.kv().range(self.request(request)).await;
        match answer {
            Ok(answer) => Some(answer.into_inner().kvs),
            Err(status) if status.message().contains("compacted") => None,
            Err(status) => panic!("{status}"),
        }
    }

    /// Returns everything up to a revision.
    pub async fn content(&self, last: i64) -> Content {
        let mut ranges = Vec::new();
        for revision in 1..=last {
            ranges.push(self.range_at(revision).await);
        }
        let (users, roles) = self.users_and_roles().await;
        Content { ranges, leases: self.leases().await, users, roles }
    }

    async fn leases(&self) -> Vec<(i64, i64, Vec<Vec<u8>>)> {
        let listed = self.lease().lease_leases(self.request(pb::LeaseLeasesRequest {})).await.unwrap();
        let mut leases = Vec::new();
        for lease in listed.into_inner().leases {
            let request = pb::LeaseTimeToLiveRequest { id: lease.id, keys: true };
            let answer = self.lease().lease_time_to_live(self.request(request)).await.unwrap().into_inner();
            let mut keys: Vec<Vec<u8>> = answer.keys.iter().map(|key| key.to_vec()).collect();
            keys.sort();
            leases.push((answer.id, answer.granted_ttl, keys));
        }
        leases.sort();
        leases
    }

    async fn users_and_roles(
        &self,
    ) -> (BTreeMap<String, Vec<String>>, BTreeMap<String, Vec<authpb::Permission>>) {
        let mut auth = self.auth();
        let (mut users, mut roles) = (BTreeMap::new(), BTreeMap::new());
        let listed = auth.user_list(self.request(pb::AuthUserListRequest {})).await.unwrap().into_inner();
        for name in listed.users {
            let request = self.request(pb::AuthUserGetRequest { name: name.clone() });
            users.insert(name, auth.user_get(request).await.unwrap().into_inner().roles);
        }
        let listed = auth.role_list(self.request(pb::AuthRoleListRequest {})).await.unwrap().into_inner();
        for role in listed.roles {
            let request = self.request(pb::AuthRoleGetRequest { role: role.clone() });
            let perm = auth.role_get(request).await.unwrap().into_inner().perm;
            roles.insert(role, perm);
        }
        (users, roles)
    }

    /// Fills a store with keys at several revisions, deletions, leases and a compaction.
    pub async fn fill(&self) {
        for id in [7, 9] {
            let grant = pb::LeaseGrantRequest { id, ttl: 6000 };
            self.lease().lease_grant(self.request(grant)).await.unwrap();
        }
        for number in 0..300_u32 {
            let value = vec![u8::try_from(number % 251).unwrap(); usize::try_from(number * 7).unwrap()];
            let lease = if number % 10 == 0 { 7 } else { 0 };
            self.put(&format!("key/{:03}", number % 97), value, lease).await;
            if number % 13 == 0 {
                let first = number % 50;
                self.delete(&format!("key/{first:03}"), &format!("key/{:03}", first + 2)).await;
            }
        }
        self.compact(150).await;
    }

    /// Makes users and roles, and lets them count. Only root sees anything from now on.
    pub async fn fill_users(&self) {
        let mut auth = self.auth();
        for role in ["root", "reads"] {
            auth.role_add(pb::AuthRoleAddRequest { name: role.to_owned() }).await.unwrap();
        }
        let perm = authpb::Permission {
            perm_type: authpb::permission::Type::Read.into(),
            key: "key/0".into(),
            range_end: "key/1".into(),
        };
        let grant = pb::AuthRoleGrantPermissionRequest { name: "reads".to_owned(), perm: Some(perm) };
        auth.role_grant_permission(grant).await.unwrap();
        for ((name, password), role) in [(ROOT, "root"), (READER, "reads")] {
            let (name, password) = (name.to_owned(), password.to_owned());
            let user = pb::AuthUserAddRequest { name: name.clone(), password, ..Default::default() };
            auth.user_add(user).await.unwrap();
            let grant = pb::AuthUserGrantRoleRequest { user: name, role: role.to_owned() };
            auth.user_grant_role(grant).await.unwrap();
        }
        auth.auth_enable(pb::AuthEnableRequest {}).await.unwrap();
    }

    /// Users of [`Client::fill_users`] may what they might, with the passwords they had.
    pub async fn check_users(&self) {
        let nobody = Self { token: None, ..self.clone() };
        let wrong = nobody.as_user(("reader", "root's")).await.err().unwrap();
        assert!(wrong.message().contains("authentication failed"), "{wrong}");
        let reader = nobody.as_user(READER).await.unwrap();
        let read = |client: &Self, key: &str| {
            let request = pb::RangeRequest { key: key.to_owned().into(), ..Default::default() };
            let (mut kv, request) = (client.kv(), client.request(request));
            async move { kv.range(request).await }
        };
        assert!(read(&reader, "key/050").await.is_ok());
        let refused = read(&reader, "other").await.unwrap_err();
        assert!(refused.message().contains("permission denied"), "{refused}");
        let refused = read(&nobody, "key/050").await.unwrap_err();
        assert!(refused.message().contains("user name is empty"), "{refused}");
    }

    /// Goes on behind `last`: it can be written to, and compacted, which takes pages out of etcd's trees.
    pub async fn go_on(&self, last: i64) {
        self.delete("\0", "\0").await;
        self.compact(last + 1).await;
        assert_eq!(self.put("k", "v", 0).await, last + 2);
    }
}
