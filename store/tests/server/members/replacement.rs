//! Members take the places of others, and have themselves added.

use std::sync::Arc;

use store::admin::{Admin, AdminError};
use store::config::{ClusterState, Join};
use store::etcd::Edge;
use store::{JoinError, MemberError};

use super::cluster::Cluster;
use crate::harness::{Server, free_port, until, url};

/// Two changes in the log, and no moment with a vote more or less.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_member_is_replaced_in_one_go() {
    let mut cluster = Cluster::start(&["m0", "m1", "m2"]).await;
    for number in 0..200 {
        cluster.put("m0", &format!("k{number}")).await;
    }
    let dead = cluster.leader().await;
    let dead_id = cluster.id(&dead);
    cluster.kill(&dead);
    let through = cluster.running.keys().next().unwrap().clone();
    cluster.put(&through, "without one").await;
    let coming = cluster.replace(&through, dead_id, "m3").await;
    let again = cluster.member(&through).replace_member(dead_id, vec![url(free_port())]).await;
    assert_eq!(again, Err(AdminError::BeingReplaced));
    let members = cluster.member(&through).members(true).await.unwrap();
    assert_eq!(members.len(), 4, "nobody goes before the new one has come: {members:?}");
    cluster.ports.remove(&dead);
    cluster.join("m3").await.unwrap();
    cluster.await_replaced(&through, dead_id, coming).await;
    cluster.assert_holds("m3", &["k0", "k199", "without one"]).await;
    // Three votes, and one may die again; the dead one never returns.
    let other = cluster.running.keys().find(|name| **name != "m3" && **name != through).unwrap().clone();
    cluster.kill(&other);
    cluster.put("m3", "two of three").await;
    let refused = cluster.member("m3").replace_member(dead_id, vec![url(free_port())]).await;
    assert_eq!(refused.map(|_| ()), Err(AdminError::MemberNotFound));
    assert_eq!(cluster.ended(), Vec::<String>::new());
    cluster.stop().await;
}

#[derive(clap::Parser)]
struct MemberCli {
    #[command(subcommand)]
    command: store::control::member::Command,
}

/// Runs `keelson member` as a person types it.
async fn keelson_member(server: &Server, words: &[&str]) -> Result<(), String> {
    let endpoint = format!("--endpoints={}", server.address);
    let words = ["member"].into_iter().chain(words.iter().copied()).chain([endpoint.as_str()]);
    let cli = <MemberCli as clap::Parser>::try_parse_from(words).map_err(|error| error.to_string())?;
    store::control::member::run(cli.command).await.map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_are_added_replaced_and_removed_from_the_command_line() {
    let mut cluster = Cluster::start(&["m0"]).await;
    let member = Arc::clone(cluster.member("m0"));
    let server = Server::of(Edge::new(&member)).await;
    for name in ["m1", "m2"] {
        let port = free_port();
        keelson_member(&server, &["add", name, "--peer-urls", &url(port)]).await.unwrap();
        cluster.ports.insert(name.to_owned(), port);
        cluster.join(name).await.unwrap();
        cluster.await_voter("m0", cluster.id(name)).await;
    }
    let dead = cluster.id("m1");
    cluster.kill("m1");
    cluster.ports.remove("m1");
    let port = free_port();
    cluster.ports.insert("m3".to_owned(), port);
    let id = format!("{dead:x}");
    let replace = ["replace", &id, "--name", "m3", "--peer-urls", &url(port), "--no-wait"];
    until("a leader that knows who is there", async || keelson_member(&server, &replace).await.ok()).await;
    let refused = keelson_member(&server, &replace).await.unwrap_err();
    assert!(refused.ends_with("member is being replaced already"), "{refused}");
    cluster.join("m3").await.unwrap();
    cluster.await_replaced("m0", dead, cluster.id("m3")).await;
    let refused =
        keelson_member(&server, &["promote", &format!("{:x}", cluster.id("m3"))]).await.unwrap_err();
    assert!(refused.ends_with("can only promote a learner member"), "{refused}");
    keelson_member(&server, &["list"]).await.unwrap();
    keelson_member(&server, &["remove", &format!("{:x}", cluster.id("m2"))]).await.unwrap();
    assert_eq!(cluster.member("m0").members(true).await.unwrap().len(), 2);
    server.stop().await;
    cluster.end_of("m2").await;
    cluster.kill("m2");
    drop(member);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_lost_its_disk_joins_under_its_old_address() {
    let mut cluster = Cluster::start(&["m0", "m1", "m2"]).await;
    let lost = cluster.follower().await;
    let lost_id = cluster.id(&lost);
    // Until it is gone it writes to its directory.
    cluster.stop_member(&lost).await;
    std::fs::remove_dir_all(cluster.directory.path().join(&lost)).unwrap();
    let through = cluster.leader().await;
    // One command: it asks to be added, and for whom.
    let asked = url(cluster.ports[&through]);
    let mut config = cluster.config(&lost, ClusterState::New);
    config.initial_cluster.retain(|member| member.name == lost);
    config.join = Some(Join { contacts: vec![asked.clone()], replaces: Some(lost_id) });
    cluster.run(&lost, config.clone()).await.unwrap();
    let coming = cluster.id(&lost);
    assert_ne!(coming, lost_id);
    cluster.await_replaced(&through, lost_id, coming).await;
    cluster.put(&lost, "from the new disk").await;
    // The same flags mean nothing from now on.
    cluster.stop_member(&lost).await;
    cluster.run(&lost, config).await.unwrap();
    assert_eq!(cluster.id(&lost), coming);
    cluster.assert_holds(&lost, &["from the new disk"]).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_and_an_only_member_can_be_replaced() {
    let mut cluster = Cluster::start(&["m0"]).await;
    cluster.put("m0", "of the first").await;
    for (leaving, coming) in [("m0", "m1"), ("m1", "m2")] {
        let (old, asked) = (cluster.id(leaving), url(cluster.ports[leaving]));
        cluster.ports.insert(coming.to_owned(), free_port());
        let mut config = cluster.config(coming, ClusterState::New);
        config.initial_cluster.retain(|member| member.name == coming);
        config.join = Some(Join { contacts: vec![asked], replaces: Some(old) });
        cluster.run(coming, config).await.unwrap();
        let line = cluster.end_of(leaving).await;
        assert!(line.contains("has been removed from the cluster"), "{line}");
        cluster.kill(leaving);
        cluster.ports.remove(leaving);
        cluster.await_replaced(coming, old, cluster.id(coming)).await;
        cluster.assert_holds(coming, &["of the first"]).await;
    }
    assert_eq!(cluster.member("m2").members(true).await.unwrap().len(), 1);
    cluster.grow("m2", "m3").await;
    cluster.grow("m3", "m4").await;
    let leader = cluster.leader().await;
    let (old, through) = (cluster.id(&leader), cluster.follower().await);
    let new = cluster.replace(&through, old, "m5").await;
    cluster.join("m5").await.unwrap();
    cluster.end_of(&leader).await;
    cluster.kill(&leader);
    cluster.await_replaced(&through, old, new).await;
    cluster.put("m5", "on").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_join_hears_why_and_leaves_no_trace() {
    let mut cluster = Cluster::start(&["m0"]).await;
    let contact = url(cluster.ports["m0"]);
    let silent = url(free_port());
    cluster.ports.insert("m1".to_owned(), free_port());
    let mut config = cluster.config("m1", ClusterState::New);
    config.initial_cluster.retain(|member| member.name == "m1");
    for (contact, replaces) in [(&contact, Some(7)), (&silent, None)] {
        config.join = Some(Join { contacts: vec![contact.clone()], replaces });
        let refused = match cluster.run("m1", config.clone()).await.unwrap_err() {
            MemberError::Join(refused) => refused,
            other => panic!("{other}"),
        };
        let expected = match replaces {
            Some(_) => JoinError::Refused(AdminError::MemberNotFound),
            None => JoinError::NobodyAnswers(silent.clone()),
        };
        assert_eq!(refused, expected);
        assert!(!cluster.directory.path().join("m1").exists());
    }
    assert_eq!(cluster.member("m0").members(true).await.unwrap().len(), 1);
    config.join = Some(Join { contacts: vec![silent, contact], replaces: None });
    cluster.run("m1", config).await.unwrap();
    cluster.await_voter("m0", cluster.id("m1")).await;
    cluster.put("m1", "in").await;
    cluster.stop().await;
}
