//! Debian's etcdctl 3.4, every subcommand that applies. Those of snapshots need more than a port; `check` takes minutes.

use crate::harness::{Etcdctl, GUEST, Running, Secured, Server, until};

/// Runs each line and compares what is printed: the whole of it, or a part where `…` stands.
async fn script(etcdctl: &Etcdctl, lines: &[(&str, &str)]) {
    for (line, expected) in lines {
        let words: Vec<&str> = line.split(' ').collect();
        let printed = etcdctl.run(&words).await;
        let is_right = match expected.split_once('…') {
            Some((start, end)) => printed.starts_with(start) && printed.contains(end),
            None => printed == *expected,
        };
        assert!(is_right, "etcdctl {line}\n  expected: {expected}\n  printed:  {printed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_subcommand_works_with_tls_users_and_certificates() {
    if !Etcdctl::is_installed() {
        return;
    }
    let secured = Secured::start(3).await;
    for name in ["alice", "stranger"] {
        secured.certificates.issue(name);
    }
    let nobody = secured.etcdctl(GUEST);
    let root = nobody.with(&["--user=root:rootpw".to_owned()]);
    let alice = secured.etcdctl("alice");
    let stranger = secured.etcdctl("stranger");
    let users = [
        ("user add root:rootpw", "User root created"),
        ("user add alice --no-password", "User alice created"),
        ("user add bob:bobpw", "User bob created"),
        ("role add r", "Role r created"),
        ("role grant-permission r readwrite /a/ --prefix=true", "Role r updated"),
        ("role grant-permission r read /b", "Role r updated"),
        ("role revoke-permission r /b", "Permission of key /b is revoked from role r"),
        ("user grant-role root root", "…is granted to user root"),
        ("user grant-role alice r", "…is granted to user alice"),
        ("auth enable", "Authentication Enabled"),
    ];
    script(&nobody, &users).await;

    // A certificate names a user, who may be none; without a name it is nobody's.
    script(&nobody, &[("put /a/1 v", "…etcdserver: user name is empty")]).await;
    script(&stranger, &[("put /a/1 v", "…etcdserver: permission denied")]).await;
    let keys = [
        ("put /a/1 v", "OK"),
        ("get /a/1", "/a/1\nv"),
        ("get /a/ --prefix --print-value-only", "v"),
        ("put /b v", "…etcdserver: permission denied"),
        ("del /a/1 --prev-kv", "1\n/a/1\nv"),
        ("user get alice", "User: alice\nRoles: r"),
        ("role get r", "Role r\nKV Read:\n\t[/a/, /a0) (prefix /a/)\nKV Write:\n\t[/a/, /a0) (prefix /a/)"),
        ("user list", "…etcdserver: permission denied"),
        ("defrag", "…etcdserver: permission denied"),
    ];
    script(&alice, &keys).await;
    let all = [
        ("user list", "alice\nbob\nroot"),
        ("role list", "r"),
        ("put k 1", "OK"),
        ("put k 2", "OK"),
        ("get k --rev=1000", "…etcdserver: mvcc: required revision is a future revision"),
        ("compaction 3", "compacted revision 3"),
        ("alarm list", ""),
        ("alarm disarm", ""),
        ("defrag", "Finished defragmenting etcd member[…"),
        ("endpoint health", "…is healthy"),
        ("endpoint status", "…, 3.7.0, "),
        ("endpoint hashkv", "…, "),
        ("member list", "…, started, m0, https://127.0.0.1:"),
        ("version", "etcdctl version: …API version: 3"),
        ("user revoke-role alice r", "Role r is revoked from user alice"),
        ("role delete r", "Role r deleted"),
        ("user delete bob", "User bob deleted"),
    ];
    script(&root, &all).await;
    script(&alice, &[("get /a/1", "…etcdserver: permission denied")]).await;
    passwords(&nobody, &root).await;
    leases_watches_and_locks(&root).await;
    leadership(&secured, &root).await;
    mirror(&root).await;
    script(&root, &[("auth disable", "Authentication Disabled")]).await;
    script(&nobody, &[("get k", "k\n2")]).await;
    secured.stop().await;
}

async fn passwords(nobody: &Etcdctl, root: &Etcdctl) {
    let added = root.run_with_input(&["user", "add", "carol", "--interactive=false"], "first\n").await;
    assert_eq!(added, "User carol created");
    let changed = root.run_with_input(&["user", "passwd", "carol", "--interactive=false"], "second\n").await;
    assert_eq!(changed, "Password updated");
    let as_carol = |password: &str| nobody.with(&[format!("--user=carol:{password}")]);
    script(&as_carol("first"), &[("user get carol", "…invalid user ID or password")]).await;
    script(&as_carol("second"), &[("user get carol", "User: carol\nRoles:")]).await;
}

async fn leases_watches_and_locks(root: &Etcdctl) {
    let granted = root.run(&["lease", "grant", "600"]).await;
    let id = granted.split(' ').nth(1).unwrap();
    let leases = [
        (format!("put leased v --lease={id}"), "OK".to_owned()),
        (format!("lease keep-alive --once {id}"), format!("lease {id} keepalived with TTL(600)")),
        (format!("lease timetolive --keys {id}"), format!("lease {id} …attached keys([leased])")),
        ("lease list".to_owned(), format!("found 1 leases\n{id}")),
    ];
    let leases: Vec<_> = leases.iter().map(|(line, expected)| (line.as_str(), expected.as_str())).collect();
    script(root, &leases).await;
    let mut watch = Running::start(root, &["watch", "leased", "--rev=4"]);
    assert_eq!([watch.next().await, watch.next().await, watch.next().await], ["PUT", "leased", "v"]);
    let txn = "mod(\"leased\") > \"1\"\n\nput leased w\n\nget leased\n\n";
    assert_eq!(root.run_with_input(&["txn"], txn).await, "SUCCESS\n\nOK");
    assert_eq!([watch.next().await, watch.next().await, watch.next().await], ["PUT", "leased", "w"]);
    // Written without the lease it was no longer bound to it.
    script(root, &[(&format!("put leased x --lease={id}"), "OK")]).await;
    assert_eq!([watch.next().await, watch.next().await, watch.next().await], ["PUT", "leased", "x"]);
    assert_eq!(root.run(&["lease", "revoke", id]).await, format!("lease {id} revoked"));
    assert_eq!([watch.next().await, watch.next().await], ["DELETE", "leased"]);
    watch.interrupt().await;
    assert_eq!(root.run(&["lock", "mutex", "echo", "held"]).await, "held");
    let mut elected = Running::start(root, &["elect", "office", "alice"]);
    assert!(elected.next().await.starts_with("office/"));
    assert_eq!(elected.next().await, "alice");
    elected.interrupt().await;
}

async fn leadership(secured: &Secured, root: &Etcdctl) {
    let leader = async || {
        let status = root.run(&["endpoint", "status", "-w", "json"]).await;
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        let of = |number: usize| status[number]["Status"]["header"]["member_id"].as_u64().unwrap();
        let members: Vec<u64> = (0..secured.endpoints.len()).map(of).collect();
        (status[0]["Status"]["leader"].as_u64().unwrap(), members)
    };
    let (old, members) = leader().await;
    let new = members.into_iter().find(|member| *member != old).unwrap();
    let moved = root.run(&["move-leader", &format!("{new:x}")]).await;
    assert_eq!(moved, format!("Leadership transferred from {old:x} to {new:x}"));
    until("the new leader", async || (leader().await.0 == new).then_some(())).await;
}

async fn mirror(root: &Etcdctl) {
    let destination = Server::start().await;
    let there = Etcdctl::at(&destination.address);
    let insecure = ["make-mirror", "--dest-insecure-transport=true", destination.address.as_str()];
    let mirroring = Running::start(root, &insecure);
    until("the mirrored key", async || (there.run(&["get", "k"]).await == "k\n2").then_some(())).await;
    mirroring.interrupt().await;
    destination.stop().await;
}
