//! Debian's `etcdctl` against the etcd edge over a store in memory: what a person types, what they see.

use crate::harness::{Etcdctl, PATIENCE, Running, Server, next_line};
use tokio::io::{AsyncBufReadExt, BufReader};

#[tokio::test]
async fn puts_gets_deletes_and_transactions() {
    if !Etcdctl::is_installed() {
        return;
    }
    let server = Server::start().await;
    let etcdctl = Etcdctl::at(&server.address);
    assert_eq!(etcdctl.run(&["put", "/a/1", "one"]).await, "OK"); // 2
    assert_eq!(etcdctl.run(&["put", "/a/2", "two"]).await, "OK"); // 3
    assert_eq!(etcdctl.run(&["put", "/a/1", "uno", "--prev-kv"]).await, "OK\n/a/1\none"); // 4
    assert_eq!(etcdctl.run(&["get", "/a/1"]).await, "/a/1\nuno");
    assert_eq!(etcdctl.run(&["get", "/a/", "--prefix"]).await, "/a/1\nuno\n/a/2\ntwo");
    assert_eq!(etcdctl.run(&["get", "/a/1", "--rev=3"]).await, "/a/1\none");
    assert_eq!(etcdctl.run(&["get", "/a/", "--prefix", "--keys-only"]).await, "/a/1\n\n/a/2");
    assert_eq!(etcdctl.run(&["get", "/a/", "--prefix", "--order=DESCEND", "--limit=1"]).await, "/a/2\ntwo");
    let txn = "mod(\"/a/1\") = \"4\"\n\nput /a/3 three\n\nget /a/1\n\n";
    assert_eq!(etcdctl.run_with_input(&["txn"], txn).await, "SUCCESS\n\nOK");
    assert_eq!(
        etcdctl.run_with_input(&["txn"], &txn.replace("\"4\"", "\"9\"")).await,
        "FAILURE\n\n/a/1\nuno"
    );
    assert_eq!(etcdctl.run(&["del", "/a/", "--prefix"]).await, "3");
    assert_eq!(etcdctl.run(&["get", "/a/", "--prefix"]).await, "");
    server.stop().await;
}

#[tokio::test]
async fn compaction_refuses_the_past() {
    if !Etcdctl::is_installed() {
        return;
    }
    let server = Server::start().await;
    let etcdctl = Etcdctl::at(&server.address);
    for value in ["1", "2", "3"] {
        assert_eq!(etcdctl.run(&["put", "k", value]).await, "OK");
    }
    assert_eq!(etcdctl.run(&["compact", "3"]).await, "compacted revision 3");
    assert_eq!(etcdctl.run(&["get", "k", "--rev=3"]).await, "k\n2");
    let refused = etcdctl.run(&["get", "k", "--rev=2"]).await;
    assert!(refused.contains("etcdserver: mvcc: required revision has been compacted"), "{refused}");
    let refused = etcdctl.run(&["compact", "9"]).await;
    assert!(refused.contains("etcdserver: mvcc: required revision is a future revision"), "{refused}");
    let watched = etcdctl.run(&["watch", "k", "--rev=2"]).await;
    assert!(watched.contains("required revision has been compacted"), "{watched}");
    server.stop().await;
}

#[tokio::test]
async fn a_watch_replays_the_past_and_follows_the_present() {
    if !Etcdctl::is_installed() {
        return;
    }
    let server = Server::start().await;
    let etcdctl = Etcdctl::at(&server.address);
    etcdctl.run(&["put", "/w/a", "1"]).await; // 2
    etcdctl.run(&["put", "/w/b", "1"]).await; // 3
    let mut watch = etcdctl.command(&["watch", "/w/", "--prefix", "--rev=3", "--prev-kv"]).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut next = async |count: usize| {
        let mut read = Vec::new();
        for _ in 0..count {
            read.push(next_line(&mut lines).await);
        }
        read.join("|")
    };
    assert_eq!(next(3).await, "PUT|/w/b|1");
    etcdctl.run(&["put", "/w/b", "2"]).await;
    assert_eq!(next(5).await, "PUT|/w/b|1|/w/b|2");
    etcdctl.run(&["del", "/w/a"]).await;
    assert_eq!(next(5).await, "DELETE|/w/a|1|/w/a|");
    watch.kill().await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn leases_are_granted_kept_listed_and_revoked() {
    if !Etcdctl::is_installed() {
        return;
    }
    let server = Server::start().await;
    let etcdctl = Etcdctl::at(&server.address);
    let granted = etcdctl.run(&["lease", "grant", "600"]).await;
    assert!(granted.ends_with("granted with TTL(600s)"), "{granted}");
    let id = granted.split(' ').nth(1).unwrap().to_owned();
    assert_eq!(etcdctl.run(&["put", "leased", "v", "--lease", &id]).await, "OK");
    let kept = etcdctl.run(&["lease", "keep-alive", "--once", &id]).await;
    assert_eq!(kept, format!("lease {id} keepalived with TTL(600)"));
    let left = etcdctl.run(&["lease", "timetolive", "--keys", &id]).await;
    assert!(left.contains("granted with TTL(600s)") && left.contains("attached keys([leased])"), "{left}");
    assert_eq!(etcdctl.run(&["lease", "list"]).await, format!("found 1 leases\n{id}"));
    assert_eq!(etcdctl.run(&["lease", "revoke", &id]).await, format!("lease {id} revoked"));
    assert_eq!(etcdctl.run(&["get", "leased"]).await, "");
    let left = etcdctl.run(&["lease", "timetolive", &id]).await;
    assert_eq!(left, format!("lease {id} already expired"));
    let refused = etcdctl.run(&["put", "leased", "v", "--lease", &id]).await;
    assert!(refused.contains("etcdserver: requested lease not found"), "{refused}");
    server.stop().await;
}

#[tokio::test]
async fn an_unkept_lease_expires_with_its_keys() {
    if !Etcdctl::is_installed() {
        return;
    }
    let server = Server::start().await;
    let etcdctl = Etcdctl::at(&server.address);
    let granted = etcdctl.run(&["lease", "grant", "1"]).await;
    assert!(granted.ends_with("granted with TTL(2s)"), "the least time to live: {granted}");
    let id = granted.split(' ').nth(1).unwrap();
    assert_eq!(etcdctl.run(&["put", "leased", "v", "--lease", id]).await, "OK");
    let mut watch = etcdctl.command(&["watch", "leased", "--rev=2"]).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    for expected in ["PUT", "leased", "v", "DELETE"] {
        assert_eq!(next_line(&mut lines).await, expected);
    }
    watch.kill().await.unwrap();
    assert_eq!(etcdctl.run(&["get", "leased"]).await, "");
    server.stop().await;
}

#[tokio::test]
async fn status_health_and_members_are_reported() {
    if !Etcdctl::is_installed() {
        return;
    }
    let server = Server::start().await;
    let etcdctl = Etcdctl::at(&server.address);
    let health = etcdctl.run(&["endpoint", "health"]).await;
    assert!(health.contains("is healthy"), "{health}");
    let status = etcdctl.run(&["endpoint", "status", "-w", "json"]).await;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status[0]["Status"]["leader"], 1);
    assert_eq!(status[0]["Status"]["header"]["revision"], 1);
    let members = etcdctl.run(&["member", "list"]).await;
    assert!(members.starts_with("1, started, memory"), "{members}");
    let refused = etcdctl.run(&["member", "add", "x", "--peer-urls=http://127.0.0.1:1"]).await;
    assert!(refused.contains("not implemented"), "{refused}");
    let hash = etcdctl.run(&["endpoint", "hashkv"]).await;
    assert!(hash.contains(&server.address), "{hash}");
    server.stop().await;
}

#[tokio::test]
async fn users_are_checked_once_authentication_is_enabled() {
    if !Etcdctl::is_installed() {
        return;
    }
    let server = Server::start().await;
    let etcdctl = Etcdctl::at(&server.address);
    let refused = etcdctl.run(&["auth", "enable"]).await;
    assert!(refused.contains("etcdserver: root user does not exist"), "{refused}");
    assert_eq!(etcdctl.run(&["user", "add", "root:rootpw"]).await, "User root created");
    assert_eq!(etcdctl.run(&["user", "add", "alice:alicepw"]).await, "User alice created");
    assert_eq!(etcdctl.run(&["role", "add", "r"]).await, "Role r created");
    let granted = etcdctl.run(&["role", "grant-permission", "r", "readwrite", "/a/", "--prefix=true"]).await;
    assert_eq!(granted, "Role r updated");
    assert!(
        etcdctl.run(&["user", "grant-role", "alice", "r"]).await.contains("Role r is granted to user alice")
    );
    // It makes the root role by itself, and warns that there was none.
    let enabled = etcdctl.run(&["auth", "enable"]).await;
    assert!(enabled.starts_with("Authentication Enabled"), "{enabled}");

    assert!(etcdctl.run(&["put", "/a/1", "v"]).await.contains("etcdserver: user name is empty"));
    let (root, alice) = ("--user=root:rootpw", "--user=alice:alicepw");
    assert_eq!(etcdctl.run(&[root, "put", "/b/1", "v"]).await, "OK");
    assert_eq!(etcdctl.run(&[alice, "put", "/a/1", "v"]).await, "OK");
    assert_eq!(etcdctl.run(&[alice, "get", "/a/", "--prefix"]).await, "/a/1\nv");
    for denied in [["put", "/b/1", "v"], ["get", "/b/1", "--consistency=s"], ["get", "/", "--prefix"]] {
        let arguments = [&[alice], denied.as_slice()].concat();
        assert!(etcdctl.run(&arguments).await.contains("etcdserver: permission denied"), "{denied:?}");
    }
    let refused = etcdctl.run(&["--user=alice:wrong", "get", "/a/1"]).await;
    assert!(refused.contains("authentication failed, invalid user ID or password"), "{refused}");
    assert_eq!(etcdctl.run(&[alice, "user", "get", "alice"]).await, "User: alice\nRoles: r");
    assert!(etcdctl.run(&[alice, "user", "list"]).await.contains("etcdserver: permission denied"));
    assert_eq!(etcdctl.run(&[root, "user", "list"]).await, "alice\nroot");

    assert_eq!(
        etcdctl.run(&[root, "user", "revoke-role", "alice", "r"]).await,
        "Role r is revoked from user alice"
    );
    assert!(etcdctl.run(&[alice, "get", "/a/1"]).await.contains("etcdserver: permission denied"));
    assert_eq!(etcdctl.run(&[root, "auth", "disable"]).await, "Authentication Disabled");
    assert_eq!(etcdctl.run(&["get", "/a/1"]).await, "/a/1\nv");
    server.stop().await;
}

/// Waits until so many keys begin with `prefix`.
async fn until_keys(etcdctl: &Etcdctl, prefix: &str, count: usize) {
    let counted = async {
        while etcdctl.run(&["get", prefix, "--prefix", "--keys-only"]).await.split_whitespace().count()
            != count
        {}
    };
    tokio::time::timeout(PATIENCE, counted).await.unwrap();
}

#[tokio::test]
async fn a_lock_passes_from_one_holder_to_the_next() {
    if !Etcdctl::is_installed() {
        return;
    }
    let server = Server::start().await;
    let etcdctl = Etcdctl::at(&server.address);
    let mut first = Running::start(&etcdctl, &["lock", "mutex"]);
    let key = first.next().await;
    assert!(key.starts_with("mutex/"), "{key}");
    let mut second = Running::start(&etcdctl, &["lock", "mutex", "echo", "held"]);
    until_keys(&etcdctl, "mutex/", 2).await;
    first.interrupt().await;
    assert_eq!(second.next().await, "held");
    assert!(second.child.wait().await.unwrap().success());
    until_keys(&etcdctl, "mutex/", 0).await;
    server.stop().await;
}

#[tokio::test]
async fn an_election_is_won_observed_and_given_up() {
    if !Etcdctl::is_installed() {
        return;
    }
    let server = Server::start().await;
    let etcdctl = Etcdctl::at(&server.address);
    let mut first = Running::start(&etcdctl, &["elect", "office", "alice"]);
    let key = first.next().await;
    assert!(key.starts_with("office/"), "{key}");
    assert_eq!(first.next().await, "alice");
    let mut observer = Running::start(&etcdctl, &["elect", "--listen", "office"]);
    assert_eq!((observer.next().await, observer.next().await), (key, "alice".to_owned()));
    let mut second = Running::start(&etcdctl, &["elect", "office", "bob"]);
    until_keys(&etcdctl, "office/", 2).await;
    first.interrupt().await;
    let key = second.next().await;
    assert_eq!(second.next().await, "bob");
    assert_eq!((observer.next().await, observer.next().await), (key, "bob".to_owned()));
    second.interrupt().await;
    observer.child.kill().await.unwrap();
    server.stop().await;
}
