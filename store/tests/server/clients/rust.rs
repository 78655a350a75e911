//! The `etcd-client` crate.

use etcd_client::{
    Certificate, Client, Compare, CompareOp, ConnectOptions, EventType, GetOptions, Identity, LockOptions,
    Permission, PutOptions, TlsOptions, Txn, TxnOp, WatchOptions,
};

use crate::harness::{GUEST, Secured};

async fn connect(secured: &Secured, options: ConnectOptions, shown: &str) -> Client {
    let files = &secured.certificates;
    let text = |end: &str| files.text(&format!("{shown}.{end}"));
    let tls = TlsOptions::new()
        .ca_certificate(Certificate::from_pem(files.text("ca.crt")))
        .identity(Identity::from_pem(text("crt"), text("key")));
    let endpoints = [format!("https://{}", secured.endpoints[0])];
    Client::connect(endpoints, Some(options.with_tls(tls))).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rust_client_works_with_tls_users_and_certificates() {
    let secured = Secured::start(1).await;
    secured.certificates.issue("alice");
    let mut nobody = connect(&secured, ConnectOptions::new(), GUEST).await;
    nobody.user_add("root", "rootpw", None).await.unwrap();
    nobody.user_grant_role("root", "root").await.unwrap();
    nobody.user_add("alice", "alicepw", None).await.unwrap();
    nobody.role_add("r").await.unwrap();
    let permission = Permission::read_write("a/").with_prefix();
    nobody.role_grant_permission("r", permission).await.unwrap();
    nobody.user_grant_role("alice", "r").await.unwrap();
    nobody.auth_enable().await.unwrap();
    assert!(nobody.put("a/1", "v", None).await.unwrap_err().to_string().contains("user name is empty"));

    let mut root = connect(&secured, ConnectOptions::new().with_user("root", "rootpw"), GUEST).await;
    let mut alice = connect(&secured, ConnectOptions::new(), "alice").await;
    keys(&mut root).await;
    alice.put("a/1", "v", None).await.unwrap();
    let refused = alice.put("b/1", "v", None).await.unwrap_err();
    assert!(refused.to_string().contains("permission denied"), "{refused}");
    assert_eq!(root.member_list().await.unwrap().members().len(), 1);
    assert_eq!(root.status().await.unwrap().version(), "3.7.0");
    root.auth_disable().await.unwrap();
    drop((nobody, root, alice));
    secured.stop().await;
}

async fn keys(client: &mut Client) {
    let mut events = client.watch("k", Some(WatchOptions::new().with_prefix())).await.unwrap();
    let lease = client.lease_grant(600, None).await.unwrap().id();
    client.put("k1", "one", Some(PutOptions::new().with_lease(lease))).await.unwrap();
    let found = client.get("k", Some(GetOptions::new().with_prefix())).await.unwrap();
    assert_eq!(found.kvs()[0].value_str().unwrap(), "one");
    let txn = Txn::new()
        .when([Compare::value("k1", CompareOp::Equal, "one")])
        .and_then([TxnOp::put("k2", "two", None)])
        .or_else([TxnOp::get("k1", None)]);
    assert!(client.txn(txn).await.unwrap().succeeded());
    let (mut keeper, mut kept) = client.lease_keep_alive(lease).await.unwrap();
    keeper.keep_alive().await.unwrap();
    assert_eq!(kept.message().await.unwrap().unwrap().ttl(), 600);
    assert_eq!(client.lease_time_to_live(lease, None).await.unwrap().granted_ttl(), 600);
    client.lease_revoke(lease).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let response = events.message().await.unwrap().unwrap();
        let new = response.events().iter();
        seen.extend(new.map(|event| (event.event_type(), event.kv().unwrap().key_str().unwrap().to_owned())));
    }
    let expected = [(EventType::Put, "k1"), (EventType::Put, "k2"), (EventType::Delete, "k1")]
        .map(|(kind, key)| (kind, key.to_owned()));
    assert_eq!(seen, expected);
    let lease = client.lease_grant(600, None).await.unwrap().id();
    let held = client.lock("mutex", Some(LockOptions::new().with_lease(lease))).await.unwrap();
    client.unlock(held.key()).await.unwrap();
    let won = client.campaign("office", "alice", lease).await.unwrap();
    assert_eq!(client.leader("office").await.unwrap().kv().unwrap().value_str().unwrap(), "alice");
    drop(won);
    assert_eq!(
        client.delete("k", Some(etcd_client::DeleteOptions::new().with_prefix())).await.unwrap().deleted(),
        1
    );
}
