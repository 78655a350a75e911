//! New clusters from snapshots of our own.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proto::etcdserverpb as pb;
use store::config::Config;
use store::kv::Kv;
use tokio_util::sync::CancellationToken;

use super::content::Client;
use super::ours::{Ours, alone_at, snapshot, with};
use crate::harness::{Cluster, config, free_port, until, url, write};

/// Snapshots that are taken while clients write.
const SAVED: usize = 5;
const WRITERS: u64 = 4;

/// Writes until it is stopped, and counts.
async fn write_on(client: Client, number: u64, written: Arc<AtomicU64>, stop: CancellationToken) {
    let mut round = 0_u64;
    while !stop.is_cancelled() {
        let key = format!("{number}/{:03}", round % 211);
        client.put(&key, format!("{round}"), 0).await;
        if round.is_multiple_of(7) {
            client
                .delete(&format!("{number}/{:03}", round % 97), &format!("{number}/{:03}", round % 97 + 3))
                .await;
        }
        written.fetch_add(1, Ordering::Relaxed);
        round += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_under_load_is_the_state_of_one_revision_with_its_history() {
    let cluster = Cluster::start().await;
    let follower = (cluster.leader().await + 1) % 3;
    let directory = tempfile::tempdir().unwrap();
    let (stop, written) = (CancellationToken::new(), Arc::new(AtomicU64::new(0)));
    let client = Client::new(cluster.server(follower).channel());
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| tokio::spawn(write_on(client.clone(), number, Arc::clone(&written), stop.clone())))
        .collect();
    until("some writes", async || (written.load(Ordering::Relaxed) > 500).then_some(())).await;
    let endpoint = format!("--endpoints={}", cluster.server(follower).address);
    let mut files = Vec::new();
    for number in 0..SAVED {
        let file = directory.path().join(format!("{number}.db"));
        let before = written.load(Ordering::Relaxed);
        snapshot(["save", file.to_str().unwrap(), &endpoint]).await.unwrap();
        files.push(file);
        until("more writes", async || (written.load(Ordering::Relaxed) > before + 50).then_some(())).await;
    }
    stop.cancel();
    for writer in writers {
        writer.await.unwrap();
    }
    let last = client.revision().await;
    let mut revisions = Vec::new();
    for (number, file) in files.iter().enumerate() {
        let (data, port) = (directory.path().join(format!("data{number}")), free_port());
        let words = ["restore", file.to_str().unwrap(), "--source-frozen"];
        snapshot(with(&words, &alone_at(&data, port))).await.unwrap();
        let ours = Ours::alone(&data, port).await;
        let restored = ours.client();
        let at = restored.revision().await;
        for revision in [at, at - 1, at - 33, at / 2, 2] {
            assert_eq!(
                restored.range_at(revision).await,
                client.range_at(revision).await,
                "at {revision} of {at}"
            );
        }
        assert!(restored.range_at(0).await.unwrap().len() > 100);
        revisions.push(at);
        drop(restored);
        ours.stop().await;
    }
    assert!(revisions.is_sorted() && revisions[0] < revisions[SAVED - 1], "{revisions:?}");
    assert!(revisions[SAVED - 1] < last);
    println!("saved at {revisions:?} of {last} revisions");
    drop(client);
    cluster.stop().await;
}

/// Three members `m0` to `m2` that are restored from a file.
struct Three {
    configs: Vec<Config>,
    running: Vec<Ours>,
}

impl Three {
    async fn restored(directory: &Path, file: &Path) -> Self {
        let ports: Vec<(String, u16)> = (0..3).map(|number| (format!("m{number}"), free_port())).collect();
        let cluster: Vec<String> =
            ports.iter().map(|(name, port)| format!("{name}={}", url(*port))).collect();
        let mut configs = Vec::new();
        for (name, port) in &ports {
            let flags = [
                format!("--data-dir={}", directory.join(name).display()),
                format!("--name={name}"),
                format!("--initial-cluster={}", cluster.join(",")),
                format!("--initial-advertise-peer-urls={}", url(*port)),
            ];
            snapshot(with(&["restore", file.to_str().unwrap()], &flags)).await.unwrap();
            configs.push(config(directory, name, ports.iter().map(|(name, port)| (name, *port))));
        }
        Self { configs, running: Vec::new() }
    }

    async fn start(&mut self) {
        for config in &self.configs {
            self.running.push(Ours::start(config).await);
        }
        for ours in &self.running {
            ours.has_leader().await;
        }
    }

    async fn stop(&mut self) {
        for ours in self.running.drain(..) {
            ours.stop().await;
        }
    }
}

async fn cluster_id(ours: &Ours) -> u64 {
    let mut cluster = pb::cluster_client::ClusterClient::new(ours.server.channel());
    let request = pb::MemberListRequest { linearizable: true };
    let list = cluster.member_list(request).await.unwrap().into_inner();
    let named: Vec<&str> = list.members.iter().map(|member| member.name.as_str()).collect();
    assert_eq!(named.len(), 3);
    list.header.unwrap().cluster_id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_start_from_one_snapshot_and_are_another_cluster() {
    let directory = tempfile::tempdir().unwrap();
    let source = Ours::alone(&directory.path().join("source"), free_port()).await;
    source.client().fill().await;
    let (last, expected) = (source.client().revision().await, source.client().range_at(0).await);
    let old_cluster = source.member.status().cluster_id;
    let file = directory.path().join("saved.db");
    let endpoint = format!("--endpoints={}", source.server.address);
    snapshot(["save", file.to_str().unwrap(), &endpoint]).await.unwrap();
    source.stop().await;

    let mut three = Three::restored(directory.path(), &file).await;
    three.start().await;
    for ours in &three.running {
        assert!(ours.client().range_at(0).await == expected);
    }
    for (number, ours) in three.running.iter().enumerate() {
        write(&ours.member, &format!("written/{number}"), "after").await;
    }
    let new_cluster = cluster_id(&three.running[0]).await;
    assert_ne!(new_cluster, old_cluster);
    three.stop().await;
    // A member alone elects nobody; two go on, and the third catches up.
    three.start().await;
    let gone = three.running.remove(0);
    gone.stop().await;
    for ours in &three.running {
        write(&ours.member, "with two", "members").await;
    }
    three.running.insert(0, Ours::start(&three.configs[0]).await);
    let late = three.running[0].client();
    until("the late member", async || {
        let rows = late.range_at(0).await.unwrap();
        rows.iter().any(|row| row.key == "with two").then_some(())
    })
    .await;
    drop(late);
    for ours in &three.running {
        assert_eq!(cluster_id(ours).await, new_cluster);
        assert!(ours.client().revision().await >= last + 1_000_000_004);
        let rows = ours.client().range_at(0).await.unwrap();
        assert_eq!(rows.len(), expected.as_ref().unwrap().len() + 4);
    }
    three.stop().await;
}

/// Members of two restored clusters that would have the same ids by their flags have nothing to say to each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_was_restored_from_another_file_belongs_to_another_cluster() {
    let directory = tempfile::tempdir().unwrap();
    let source = Ours::alone(&directory.path().join("source"), free_port()).await;
    let endpoint = format!("--endpoints={}", source.server.address);
    let files = ["one.db", "two.db"].map(|name| directory.path().join(name));
    for file in &files {
        source.client().put("k", "v", 0).await;
        snapshot(["save", file.to_str().unwrap(), &endpoint]).await.unwrap();
    }
    source.stop().await;
    let mut three = Three::restored(directory.path(), &files[0]).await;
    let third = &three.configs[2];
    std::fs::remove_dir_all(&third.data_dir).unwrap();
    let cluster: Vec<String> = three
        .configs
        .iter()
        .map(|config| format!("{}={}", config.name, config.advertise_peer_urls[0]))
        .collect();
    let flags = [
        format!("--data-dir={}", third.data_dir.display()),
        format!("--name={}", third.name),
        format!("--initial-cluster={}", cluster.join(",")),
        format!("--initial-advertise-peer-urls={}", third.advertise_peer_urls[0]),
    ];
    snapshot(with(&["restore", files[1].to_str().unwrap()], &flags)).await.unwrap();
    for config in &three.configs {
        three.running.push(Ours::start(config).await);
    }
    for number in 0..20 {
        write(&three.running[number % 2].member, &format!("{number}"), "with two").await;
    }
    let alone = three.running[2].member.status();
    assert_eq!(alone.leader_id, 0, "it found nobody");
    assert_ne!(alone.cluster_id, three.running[0].member.status().cluster_id);
    three.stop().await;
}

/// Each takes room on the disk for as long as its client likes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_snapshots_at_once_are_given_and_their_places_come_back() {
    let directory = tempfile::tempdir().unwrap();
    let ours = Ours::alone(&directory.path().join("data"), free_port()).await;
    // More than is on its way before a client reads.
    for number in 0..8 {
        ours.client().put(&format!("k{number}"), vec![b'v'; 1 << 20], 0).await;
    }
    let mut maintenance = pb::maintenance_client::MaintenanceClient::new(ours.server.channel());
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(maintenance.snapshot(pb::SnapshotRequest {}).await.unwrap());
    }
    let refused = maintenance.snapshot(pb::SnapshotRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    assert!(refused.message().contains("4 snapshots are being read already"), "{refused}");
    drop(streams);
    until("a free place", async || maintenance.snapshot(pb::SnapshotRequest {}).await.ok()).await;
    drop(maintenance);
    ours.stop().await;
}
