//! Adding, promoting, moving and removing members, and who is refused.

use std::sync::Arc;

use super::cluster::{Cluster, is_voter, put};
use crate::harness::{Etcdctl, Program, Server, free_port, until, url};
use proto::etcdserverpb as pb;
use store::admin::{Admin, AdminError, MemberInfo};
use store::config::{ClusterState, Config};
use store::etcd::Edge;
use store::kv::{Consistency, Kv, KvError};
use store::mvcc::{Alarm, AlarmKind, KeyRange, Range};
use store::{JoinError, Member, MemberError};
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_grows_from_one_to_three_and_a_dead_member_is_replaced() {
    let mut cluster = Cluster::start(&["m0"]).await;
    for number in 0..200 {
        cluster.put("m0", &format!("k{number}")).await;
    }
    cluster.grow("m0", "m1").await;
    cluster.put("m1", "with two").await;
    // A follower takes the call as well.
    let follower = cluster.follower().await;
    cluster.grow(&follower, "m2").await;
    cluster.put("m2", "with three").await;
    cluster.assert_holds("m2", &["k0", "k199", "with two", "with three"]).await;
    let dead = cluster.leader().await;
    let dead_id = cluster.id(&dead);
    cluster.kill(&dead);
    let alive = cluster.running.keys().next().unwrap().clone();
    cluster.put(&alive, "without one").await;
    let refused = cluster.member(&alive).add_member(vec![url(free_port())], false).await;
    assert_eq!(refused, Err(AdminError::Unhealthy), "a dead member goes before a new one comes");
    let members = cluster.member(&alive).remove_member(dead_id).await.unwrap();
    assert_eq!(members.len(), 2);
    cluster.ports.remove(&dead);
    cluster.grow(&alive, "m3").await;
    cluster.assert_holds("m3", &["k0", "with three", "without one"]).await;
    // Three votes again: one may die.
    let dead = cluster.running.keys().find(|name| **name != "m3").unwrap().clone();
    cluster.kill(&dead);
    cluster.put("m3", "on").await;
    assert_eq!(cluster.ended(), Vec::<String>::new());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_write_waits_for_a_voter_that_is_not_there_yet() {
    let mut cluster = Cluster::start(&["m0"]).await;
    let id = cluster.add("m0", "m1", false).await;
    cluster.member("m0").txn(put("alone")).await.unwrap();
    let members = cluster.member("m0").members(true).await.unwrap();
    let added = members.iter().find(|member| member.id == id).unwrap();
    let expected = MemberInfo { id, peer_urls: vec![url(cluster.ports["m1"])], ..MemberInfo::default() };
    assert_eq!(*added, expected, "as etcd shows a member that has not started");
    let refused = cluster.member("m0").add_member(vec![url(free_port())], false).await;
    assert_eq!(refused, Err(AdminError::NotEnoughStarted));
    let refused = cluster.member("m0").remove_member(cluster.id("m0")).await;
    assert_eq!(refused, Err(AdminError::NotEnoughStarted));
    cluster.member("m0").remove_member(id).await.unwrap();
    assert_eq!(cluster.member("m0").remove_member(id).await, Err(AdminError::MemberNotFound));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_is_promoted_when_it_is_asked_for_and_in_sync() {
    let mut cluster = Cluster::start(&["m0"]).await;
    let id = cluster.add("m0", "m1", true).await;
    assert_eq!(cluster.member("m0").promote_member(id).await, Err(AdminError::LearnerNotReady));
    let refused = cluster.member("m0").add_member(vec![url(free_port())], true).await;
    assert_eq!(refused, Err(AdminError::TooManyLearners));
    let refused = cluster.member("m0").promote_member(cluster.id("m0")).await;
    assert_eq!(refused, Err(AdminError::NotLearner));
    assert_eq!(cluster.member("m0").promote_member(7).await, Err(AdminError::MemberNotFound));
    cluster.join("m1").await.unwrap();
    let members =
        until("a learner in sync", async || cluster.member("m0").promote_member(id).await.ok()).await;
    assert!(members.iter().all(is_voter), "{members:?}");
    assert_eq!(cluster.member("m0").promote_member(id).await, Err(AdminError::NotLearner));
    cluster.put("m1", "voted").await;
    cluster.stop().await;
}

/// Safety rule 4.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_belongs_to_the_first_data_directory() {
    let mut cluster = Cluster::start(&["m0"]).await;
    cluster.grow("m0", "m1").await;
    cluster.stop_member("m1").await;
    std::fs::remove_dir_all(cluster.directory.path().join("m1")).unwrap();
    let refused = cluster.join("m1").await.unwrap_err();
    assert!(matches!(refused, MemberError::Join(JoinError::OtherDirectory(_))), "{refused}");
    assert!(!cluster.directory.path().join("m1").exists(), "nothing is written for it");
    // Who was never added has no place.
    cluster.ports.insert("m9".to_owned(), free_port());
    let refused = cluster.join("m9").await.unwrap_err();
    assert!(matches!(refused, MemberError::Join(JoinError::NotAdded(_))), "{refused}");
    cluster.kill("m0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_data_directories_with_one_id_exactly_one_joins() {
    let mut cluster = Cluster::start(&["m0"]).await;
    let id = cluster.add("m0", "m1", false).await;
    let config = cluster.config("m1", ClusterState::Existing);
    let mut rival = cluster.config("m1", ClusterState::Existing);
    rival.data_dir = cluster.directory.path().join("rival");
    rival.listen_peer = format!("127.0.0.1:{}", free_port());
    let start = |config| Member::start(config, CancellationToken::new());
    let (first, second) = tokio::join!(start(config), start(rival));
    // The slower one may have asked after the faster one was in.
    let refused = [&first, &second].iter().filter(|started| started.is_err()).count();
    until("the first directory", async || {
        let members = cluster.member("m0").members(true).await.ok()?;
        members.iter().any(|member| member.id == id && member.name == "m1").then_some(())
    })
    .await;
    until("the end of the second", async || (refused + cluster.ended().len() >= 1).then_some(())).await;
    cluster.put("m0", "on").await;
    assert_eq!(refused + cluster.ended().len(), 1);
    for line in cluster.fatals.lock().unwrap().iter() {
        assert!(line.1.contains("joined with another data directory"), "{line:?}");
    }
    drop((first, second));
    cluster.kill("m0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_member_ends_and_stays_out() {
    let mut cluster = Cluster::start(&["m0", "m1", "m2"]).await;
    let follower = cluster.follower().await;
    let id = cluster.id(&follower);
    let leader = cluster.leader().await;
    cluster.member(&leader).remove_member(id).await.unwrap();
    let line = cluster.end_of(&follower).await;
    assert!(line.contains("has been removed from the cluster"), "{line}");
    cluster.kill(&follower);
    // Whatever it was started with before: its data directory says it, and nobody is disturbed.
    let term = cluster.member(&leader).status().term;
    let refused = cluster.join(&follower).await.unwrap_err();
    assert!(refused.to_string().contains("was removed from the cluster"), "{refused}");
    let as_before = cluster.config(&follower, ClusterState::New);
    let refused = cluster.run(&follower, as_before).await.unwrap_err();
    assert!(refused.to_string().contains("was removed from the cluster"), "{refused}");
    assert_eq!(cluster.member(&leader).status().term, term);
    cluster.put(&leader, "still").await;
    // Its address is free for a member with a new id.
    let port = cluster.ports[&follower];
    let added = cluster.member(&leader).add_member(vec![url(port)], false).await.unwrap();
    assert_ne!(added.member.id, id);
    std::fs::remove_dir_all(cluster.directory.path().join(&follower)).unwrap();
    cluster.join(&follower).await.unwrap();
    cluster.await_voter(&leader, added.member.id).await;
    cluster.stop().await;
}

/// It was away when it was removed, and hears of it from the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_comes_back_after_its_removal_is_told() {
    let mut cluster = Cluster::start(&["m0", "m1", "m2"]).await;
    let away = cluster.follower().await;
    let id = cluster.id(&away);
    cluster.kill(&away);
    let leader = cluster.leader().await;
    cluster.put(&leader, "while it was away").await;
    cluster.member(&leader).remove_member(id).await.unwrap();
    let term = cluster.member(&leader).status().term;
    let as_before = cluster.config(&away, ClusterState::New);
    cluster.run(&away, as_before).await.unwrap();
    let line = cluster.end_of(&away).await;
    assert!(line.contains("has been removed from the cluster"), "{line}");
    let missed = Range::new(KeyRange::single("while it was away"));
    let found = cluster.member(&away).range(missed, Consistency::Serializable).await.unwrap();
    assert!(found.kvs.is_empty(), "nobody sends it anything");
    cluster.kill(&away);
    assert_eq!(cluster.member(&leader).status().term, term);
    cluster.put(&leader, "after it came back").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_removed_gives_leadership_away_first() {
    let mut cluster = Cluster::start(&["m0", "m1", "m2"]).await;
    let leader = cluster.leader().await;
    let id = cluster.id(&leader);
    let members = cluster.member(&leader).remove_member(id).await.unwrap();
    assert_eq!(members.len(), 2);
    let line = cluster.end_of(&leader).await;
    assert!(line.contains("has been removed from the cluster"), "{line}");
    cluster.kill(&leader);
    let left = cluster.running.keys().next().unwrap().clone();
    cluster.put(&left, "two go on").await;
    // And down to one.
    let other = cluster.running.keys().find(|name| **name != left).unwrap().clone();
    let other_id = cluster.id(&other);
    cluster.member(&left).remove_member(other_id).await.unwrap();
    cluster.end_of(&other).await;
    cluster.kill(&other);
    cluster.put(&left, "one goes on").await;
    let refused = cluster.member(&left).remove_member(cluster.id(&left)).await;
    assert_eq!(refused, Err(AdminError::NotEnoughStarted));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_that_was_cut_short_goes_on() {
    let mut cluster = Cluster::start(&["m0"]).await;
    for number in 0..200 {
        cluster.put("m0", &format!("k{number}")).await;
    }
    let id = cluster.add("m0", "m1", false).await;
    for _ in 0..3 {
        cluster.join("m1").await.unwrap();
        cluster.kill("m1");
    }
    // It knows who it is, and waits for the others.
    cluster.stop_member("m0").await;
    cluster.join("m1").await.unwrap();
    let config = cluster.config("m0", ClusterState::New);
    let config =
        Config { initial_cluster: config.initial_cluster.iter().take(1).cloned().collect(), ..config };
    cluster.run("m0", config).await.unwrap();
    cluster.await_voter("m0", id).await;
    cluster.assert_holds("m1", &["k0", "k199"]).await;
    assert_eq!(cluster.ended(), Vec::<String>::new());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_moved_is_found_at_its_new_address() {
    let mut cluster = Cluster::start(&["m0", "m1", "m2"]).await;
    let moved = cluster.follower().await;
    let id = cluster.id(&moved);
    cluster.stop_member(&moved).await;
    let through = cluster.follower().await;
    let port = free_port();
    let taken = url(cluster.ports[&through]);
    let refused = cluster.member(&through).update_member(id, vec![taken]).await;
    assert_eq!(refused, Err(AdminError::PeerUrlsExist));
    let refused = cluster.member(&through).update_member(id, vec!["bad".to_owned()]).await;
    assert_eq!(refused, Err(AdminError::InvalidUrls));
    let refused = cluster.member(&through).update_member(7, vec!["bad".to_owned()]).await;
    assert_eq!(refused, Err(AdminError::MemberNotFound));
    let members = cluster.member(&through).update_member(id, vec![url(port)]).await.unwrap();
    assert!(members.iter().any(|member| member.id == id && member.peer_urls == [url(port)]));
    cluster.put(&through, "while it was away").await;
    cluster.ports.insert(moved.clone(), port);
    let mut config = cluster.config(&moved, ClusterState::Existing);
    config.advertise_client_urls = vec!["http://127.0.0.1:1".to_owned()];
    cluster.run(&moved, config).await.unwrap();
    cluster.assert_holds(&moved, &["while it was away"]).await;
    // What it tells clients is told anew, too.
    until("its new client URLs", async || {
        let members = cluster.member(&through).members(true).await.ok()?;
        let told = members.iter().find(|member| member.id == id)?;
        (told.client_urls == ["http://127.0.0.1:1"]).then_some(())
    })
    .await;
    cluster.stop().await;
}

/// Flags about a new cluster are those of the first start, in many a unit file for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_joined_or_moved_once_needs_no_flag_that_says_so() {
    let mut cluster = Cluster::start(&["m0", "m1"]).await;
    cluster.grow("m0", "m2").await;
    let id = cluster.id("m2");
    cluster.stop_member("m2").await;
    cluster.put("m1", "while it was away").await;
    cluster.run("m2", cluster.config("m2", ClusterState::New)).await.unwrap();
    cluster.assert_holds("m2", &["while it was away"]).await;
    assert_eq!(cluster.id("m2"), id);

    let id = cluster.id("m0");
    cluster.stop_member("m0").await;
    let port = free_port();
    until("a quorum without it", async || cluster.member("m1").update_member(id, vec![url(port)]).await.ok())
        .await;
    cluster.ports.insert("m0".to_owned(), port);
    cluster.join("m0").await.unwrap();
    cluster.assert_holds("m0", &["while it was away"]).await;
    cluster.stop_member("m0").await;
    cluster.run("m0", cluster.config("m0", ClusterState::New)).await.unwrap();
    cluster.put("m0", "again").await;
    assert_eq!(cluster.id("m0"), id);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_alarm_of_a_removed_member_is_lifted_and_nobodys_is_not() {
    let mut cluster = Cluster::start(&["m0", "m1", "m2"]).await;
    let full = cluster.follower().await;
    let id = cluster.id(&full);
    cluster.kill(&full);
    let left = cluster.running.keys().next().unwrap().clone();
    let own = Alarm { kind: AlarmKind::NoSpace, member: id };
    let nobodys = Alarm { kind: AlarmKind::NoSpace, member: 0 };
    for alarm in [own, nobodys] {
        cluster.member(&left).raise_alarm(alarm).await.unwrap();
    }
    assert_eq!(cluster.member(&left).alarms().await.unwrap().len(), 2);
    until("the removal", async || cluster.member(&left).remove_member(id).await.ok()).await;
    until("an alarm less", async || {
        (cluster.member(&left).alarms().await.unwrap() == [nobodys]).then_some(())
    })
    .await;
    assert_eq!(cluster.member(&left).txn(put("k")).await, Err(KvError::NoSpace));
    assert!(cluster.member(&left).clear_alarm(nobodys).await.unwrap());
    cluster.put(&left, "k").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_that_moves_stays_a_learner_and_answers_little() {
    let mut cluster = Cluster::start(&["m0"]).await;
    let id = cluster.add("m0", "m1", true).await;
    let port = free_port();
    let members = cluster.member("m0").update_member(id, vec![url(port)]).await.unwrap();
    assert!(members.iter().any(|member| member.id == id && member.is_learner));
    cluster.ports.insert("m1".to_owned(), port);
    cluster.put("m0", "k").await;
    cluster.join("m1").await.unwrap();
    let range = Range::new(KeyRange::single("k"));
    until("the learner's log", async || {
        let found = cluster.member("m1").range(range.clone(), Consistency::Serializable).await.unwrap();
        (!found.kvs.is_empty()).then_some(())
    })
    .await;
    let members = cluster.member("m0").members(true).await.unwrap();
    assert!(members.iter().any(|member| member.id == id && member.is_learner && member.name == "m1"));

    let member = Arc::clone(cluster.member("m1"));
    let server = Server::of(Edge::new(&member)).await;
    assert_answers_as_learner(server.channel()).await;
    server.stop().await;
    cluster.stop().await;
}

/// etcd saves an empty one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_joins_saves_no_snapshot_before_it_has_caught_up() {
    let mut cluster = Cluster::start(&["m0"]).await;
    for number in 0..200 {
        cluster.put("m0", &format!("before-{number}")).await;
    }
    cluster.add("m0", "m1", false).await;
    cluster.join("m1").await.unwrap();
    let server = Server::of(Edge::new(cluster.member("m1"))).await;
    let mut maintenance = pb::maintenance_client::MaintenanceClient::new(server.channel());
    let saved = until("a snapshot", async || {
        let mut stream = match maintenance.snapshot(pb::SnapshotRequest {}).await {
            Ok(response) => response.into_inner(),
            Err(status) => {
                let seen = (status.code(), status.message().contains("has not caught up"));
                assert_eq!(seen, (tonic::Code::Unavailable, true), "{status}");
                return None;
            }
        };
        let mut file = Vec::new();
        while let Some(part) = stream.message().await.unwrap() {
            file.extend_from_slice(&part.blob);
        }
        Some(file)
    })
    .await;
    let holds = |key: &str| saved.windows(key.len()).any(|window| window == key.as_bytes());
    assert!(holds("before-0") && holds("before-199"), "{} bytes", saved.len());
    server.stop().await;
    cluster.stop().await;
}

async fn assert_answers_as_learner(channel: tonic::transport::Channel) {
    let mut kv = pb::kv_client::KvClient::new(channel.clone());
    let range =
        |serializable| pb::RangeRequest { key: "k".into(), serializable, ..pb::RangeRequest::default() };
    assert_eq!(kv.range(range(true)).await.unwrap().into_inner().kvs.len(), 1);
    let mut maintenance = pb::maintenance_client::MaintenanceClient::new(channel.clone());
    let status = maintenance.status(pb::StatusRequest::default()).await.unwrap().into_inner();
    assert!(status.is_learner);
    let mut cluster = pb::cluster_client::ClusterClient::new(channel.clone());
    let mut lease = pb::lease_client::LeaseClient::new(channel.clone());
    let mut watch = pb::watch_client::WatchClient::new(channel);
    let refused = [
        kv.range(range(false)).await.map(|_| ()),
        kv.put(pb::PutRequest { key: "k".into(), ..pb::PutRequest::default() }).await.map(|_| ()),
        kv.txn(pb::TxnRequest::default()).await.map(|_| ()),
        cluster.member_list(pb::MemberListRequest::default()).await.map(|_| ()),
        lease.lease_grant(pb::LeaseGrantRequest { ttl: 9, id: 0 }).await.map(|_| ()),
        maintenance.hash_kv(pb::HashKvRequest::default()).await.map(|_| ()),
        watch.watch(futures::stream::pending()).await.map(|_| ()),
    ];
    for (number, answer) in refused.into_iter().enumerate() {
        let status = answer.unwrap_err();
        let seen = (status.code(), status.message());
        let expected = (tonic::Code::FailedPrecondition, "etcdserver: rpc not supported for learner");
        assert_eq!(seen, expected, "call {number}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moving_leadership_to_the_leader_itself_changes_nothing() {
    let cluster = Cluster::start(&["m0", "m1", "m2"]).await;
    let leader = cluster.leader().await;
    let before = cluster.member(&leader).status();
    cluster.member(&leader).move_leader(before.member_id).await.unwrap();
    let after = cluster.member(&leader).status();
    assert_eq!((after.leader_id, after.term), (before.leader_id, before.term));
    cluster.put(&leader, "still led").await;
    assert_eq!(cluster.member(&leader).status().term, before.term);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcdctl_adds_lists_updates_and_removes_members() {
    if !Etcdctl::is_installed() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let [client0, peer0, client1, peer1, elsewhere] = std::array::from_fn(|_| free_port());
    let flags = |name: &str, client: u16, peer: u16, cluster: &str, state: &str| {
        [
            format!("--name={name}"),
            format!("--data-dir={}", directory.path().join(name).display()),
            format!("--listen-client-urls={}", url(client)),
            format!("--listen-peer-urls={}", url(peer)),
            format!("--initial-cluster={cluster}"),
            format!("--initial-cluster-state={state}"),
        ]
    };
    let first = Program::start(flags("m0", client0, peer0, &format!("m0={}", url(peer0)), "new"));
    let etcdctl = Etcdctl::at(&format!("127.0.0.1:{client0}"));
    until("a first member that serves", async || {
        etcdctl.run(&["endpoint", "health"]).await.contains("is healthy").then_some(())
    })
    .await;
    let refused = etcdctl.run(&["member", "add", "m1", "--peer-urls", &url(peer0)]).await;
    assert!(refused.contains("etcdserver: Peer URLs already exists"), "{refused}");
    let added = etcdctl.run(&["member", "add", "m1", "--peer-urls", &url(peer1)]).await;
    assert!(added.contains("added to cluster"), "{added}");
    assert!(added.contains("ETCD_INITIAL_CLUSTER_STATE=\"existing\""), "{added}");
    let id = added.split_whitespace().nth(1).unwrap().to_owned();
    let listed = etcdctl.run(&["member", "list"]).await;
    assert!(listed.contains(&format!("{id}, unstarted, , {}, , false", url(peer1))), "{listed}");
    // The cluster exactly as etcdctl printed it.
    let cluster = added.lines().find_map(|line| line.strip_prefix("ETCD_INITIAL_CLUSTER=")).unwrap();
    let second = Program::start(flags("m1", client1, peer1, cluster.trim_matches('"'), "existing"));
    let started = format!("{id}, started, m1, {}, {}, false", url(peer1), url(client1));
    until("a second member that votes", async || {
        etcdctl.run(&["member", "list"]).await.contains(&started).then_some(())
    })
    .await;
    let other = Etcdctl::at(&format!("127.0.0.1:{client1}"));
    assert_eq!(other.run(&["put", "through", "m1"]).await, "OK");
    let updated = other.run(&["member", "update", &id, "--peer-urls", &url(elsewhere)]).await;
    assert!(updated.contains("updated in cluster"), "{updated}");
    assert!(etcdctl.run(&["member", "list"]).await.contains(&url(elsewhere)));
    let updated = other.run(&["member", "update", &id, "--peer-urls", &url(peer1)]).await;
    assert!(updated.contains("updated in cluster"), "{updated}");
    // One that has started would end the process of this test when it is removed.
    let added = etcdctl.run(&["member", "add", "m2", "--peer-urls", &url(elsewhere)]).await;
    assert!(added.contains("added to cluster"), "{added}");
    let unstarted = added.split_whitespace().nth(1).unwrap().to_owned();
    let removed = other.run(&["member", "remove", &unstarted]).await;
    assert!(removed.contains("removed from cluster"), "{removed}");
    let listed = etcdctl.run(&["member", "list"]).await;
    assert!(listed.contains(&started) && !listed.contains(&unstarted), "{listed}");
    let learner = ["member", "add", "m3", "--learner", "--peer-urls", &url(elsewhere)];
    assert!(other.run(&learner).await.contains("added to cluster"));
    let refused =
        etcdctl.run(&["member", "add", "m4", "--learner", "--peer-urls", "http://127.0.0.1:1"]).await;
    assert!(refused.contains("etcdserver: too many learner members in cluster"), "{refused}");
    let refused = etcdctl.run(&["member", "remove", "1234"]).await;
    assert!(refused.contains("etcdserver: member not found"), "{refused}");
    second.stop().await;
    first.stop().await;
}
