//! Snapshots between this store and real etcds, both ways.

use std::path::Path;

use super::etcd::{Etcd, on_path, peers, restorer, run};
use super::ours::{Ours, alone_at, snapshot, with};
use crate::harness::{free_port, skip};

fn has_peers() -> bool {
    let found = !peers().is_empty() && on_path("etcdctl").is_some();
    if !found {
        skip("no etcd and etcdctl on PATH (`cargo xtask setup` installs them)");
    }
    found
}

/// Restores a file with etcd's own tool.
fn restore(peer: &Path, file: &Path, data: &Path, port: u16) {
    let url = format!("http://127.0.0.1:{port}");
    let cluster = format!("m={url}");
    let (file, data) = (file.to_str().unwrap(), data.to_str().unwrap());
    let flags = ["--name", "m", "--initial-cluster", &cluster, "--initial-advertise-peer-urls", &url];
    let words = [&["snapshot", "restore", file, "--data-dir", data], flags.as_slice()].concat();
    run(&restorer(peer).unwrap(), &words);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcds_tools_take_our_snapshot_and_etcd_goes_on_with_it() {
    if !has_peers() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let ours = Ours::alone(&directory.path().join("ours"), free_port()).await;
    ours.client().fill().await;
    ours.client().fill_users().await;
    let root = ours.client().as_root().await;
    let last = root.revision().await;
    let expected = root.content(last).await;
    let [theirs, exported] = ["theirs.db", "exported.db"].map(|name| directory.path().join(name));
    let endpoint = format!("--endpoints={}", ours.server.address);
    let etcdctl = on_path("etcdctl").unwrap();
    run(&etcdctl, &[&endpoint, "--user=root:root's", "snapshot", "save", theirs.to_str().unwrap()]);
    snapshot(["export", exported.to_str().unwrap(), &endpoint, "--user=root:root's"]).await.unwrap();
    drop(root);
    ours.stop().await;

    let status = run(&etcdctl, &["snapshot", "status", theirs.to_str().unwrap(), "-w", "json"]);
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["revision"], last);
    for (number, peer) in peers().iter().enumerate() {
        for (file, name) in [(&theirs, "etcdctl"), (&exported, "keelson")] {
            let (data, port) = (directory.path().join(format!("{name}{number}")), free_port());
            restore(peer, file, &data, port);
            let etcd = Etcd::start(peer, &data, port).await;
            let root = etcd.client().as_root().await;
            assert!(root.content(last).await == expected, "etcd {} and {name}", etcd.version);
            root.check_users().await;
            root.go_on(last).await;
            println!("etcd {} goes on with what {name} saved at revision {last}", etcd.version);
            etcd.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_of_etcd_is_imported_and_our_member_goes_on_with_it() {
    if !has_peers() {
        return;
    }
    for peer in peers() {
        let directory = tempfile::tempdir().unwrap();
        let etcd = Etcd::start(&peer, &directory.path().join("etcd"), free_port()).await;
        etcd.client().fill().await;
        etcd.client().fill_users().await;
        let root = etcd.client().as_root().await;
        let last = root.revision().await;
        let expected = root.content(last).await;
        let file = directory.path().join("saved.db");
        let file = file.to_str().unwrap();
        let endpoint = format!("--endpoints={}", etcd.endpoint);
        // Our tool reads etcd's snapshots over the wire, too.
        snapshot(["save", file, &endpoint, "--user=root", "--password=root's"]).await.unwrap();
        let version = etcd.version.clone();
        etcd.stop().await;

        let (data, port) = (directory.path().join("ours"), free_port());
        snapshot(with(&["import", file, "--source-frozen"], &alone_at(&data, port))).await.unwrap();
        for _ in 0..2 {
            let ours = Ours::alone(&data, port).await;
            let root = ours.client().as_root().await;
            assert!(root.content(last).await == expected, "etcd {version}");
            root.check_users().await;
            drop(root);
            ours.stop().await;
        }
        let ours = Ours::alone(&data, port).await;
        let root = ours.client().as_root().await;
        root.go_on(last).await;
        drop(root);
        ours.stop().await;
        println!("our member goes on with etcd {version} at revision {last}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_default_an_import_raises_revisions_and_compacts_the_past() {
    if !has_peers() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let etcd = Etcd::start(&peers()[0], &directory.path().join("etcd"), free_port()).await;
    etcd.client().fill().await;
    let last = etcd.client().revision().await;
    let expected = etcd.client().range_at(0).await;
    let file = directory.path().join("saved.db");
    let endpoint = format!("--endpoints={}", etcd.endpoint);
    run(&on_path("etcdctl").unwrap(), &[&endpoint, "snapshot", "save", file.to_str().unwrap()]);
    etcd.stop().await;

    let (data, port) = (directory.path().join("ours"), free_port());
    snapshot(with(&["import", file.to_str().unwrap()], &alone_at(&data, port))).await.unwrap();
    let ours = Ours::alone(&data, port).await;
    let client = ours.client();
    assert_eq!(client.revision().await, last + 1_000_000_000);
    assert_eq!(client.range_at(0).await, expected);
    assert_eq!(client.range_at(last).await, None);
    assert_eq!(client.range_at(last + 999_999_999).await, None);
    client.go_on(last + 1_000_000_000).await;
    drop(client);
    ours.stop().await;
}
