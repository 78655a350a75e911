//! Feature levels of a cluster whose members support different ones (safety rule 9).

use std::time::{Duration, Instant};

use store::admin::{Admin, AdminError};
use store::config::{ClusterState, Config, Join};
use store::kv::KvError;
use store::level::{Level, Levels, UnsupportedLevel};
use store::mvcc::Downgrade;
use store::{JoinError, Member, MemberError};

use super::cluster::Cluster;
use crate::harness::{free_port, until, url};

/// Longer than a leader waits before it asks the others again.
const SEVERAL_ROUNDS: Duration = Duration::from_secs(3);

/// As if there were a release that supports one more.
const NEXT: Level = Level(Level::HIGHEST.0 + 1);

fn level(member: &Member) -> Level {
    Level(member.numbers().level)
}

async fn await_level(cluster: &Cluster, wanted: Level) {
    until("a raised level", async || {
        cluster.running.values().all(|member| level(member) == wanted).then_some(())
    })
    .await;
}

fn supporting(config: Config, highest: Level) -> Config {
    Config { levels: Levels::up_to(highest), ..config }
}

/// Starts members that support levels up to these.
async fn start(members: &[(&str, Level)]) -> Cluster {
    let names: Vec<&str> = members.iter().map(|(name, _)| *name).collect();
    let highest = |name: &str| members.iter().find(|(member, _)| *member == name).unwrap().1;
    Cluster::start_with(&names, |name, config| supporting(config, highest(name))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_level_rises_when_the_last_member_supports_it_and_then_nobody_goes_back() {
    let mut cluster = start(&[("m0", Level::HIGHEST), ("m1", Level::HIGHEST), ("m2", Level::FIRST)]).await;
    cluster.put("m0", "k").await;
    let end = Instant::now() + SEVERAL_ROUNDS;
    while Instant::now() < end {
        assert!(cluster.running.values().all(|member| level(member) == Level::FIRST));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The release before can still be gone back to.
    for name in ["m0", "m1"] {
        cluster.stop_member(name).await;
        let held = supporting(cluster.config(name, ClusterState::New), Level::FIRST);
        cluster.run(name, held).await.unwrap();
        cluster.put(name, name).await;
    }
    for name in ["m0", "m1", "m2"] {
        cluster.stop_member(name).await;
        cluster.run(name, cluster.config(name, ClusterState::New)).await.unwrap();
        cluster.put(name, name).await;
    }
    await_level(&cluster, Level::HIGHEST).await;
    cluster.stop_member("m2").await;
    let held = supporting(cluster.config("m2", ClusterState::New), Level::FIRST);
    let refused = store::cli::CliError::from(cluster.run("m2", held).await.unwrap_err());
    assert_eq!(refused.exit_code(), 64, "the call is wrong, and the directory is fine");
    let line = refused.to_string();
    assert!(
        line.contains("the cluster has feature level 2 and --feature-level-max holds this member to 1"),
        "{line}"
    );
    cluster.run("m2", cluster.config("m2", ClusterState::New)).await.unwrap();
    cluster.put("m2", "again").await;
    assert_eq!(cluster.ended(), Vec::<String>::new());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_version_refuses_what_a_newer_one_has_raised_and_is_not_let_in() {
    let mut cluster = start(&[("m0", NEXT)]).await;
    await_level(&cluster, NEXT).await;
    cluster.put("m0", "k").await;

    // Whether it has itself added or was added before, nothing is left of it.
    let port = free_port();
    let too_high = UnsupportedLevel::TooHigh { found: NEXT, highest: Level::HIGHEST };
    cluster.ports.insert("m1".to_owned(), port);
    let contacts = vec![url(cluster.ports["m0"])];
    let joining =
        Config { join: Some(Join { contacts, replaces: None }), ..cluster.config("m1", ClusterState::New) };
    let refused = cluster.run("m1", joining).await.unwrap_err();
    assert!(matches!(refused, MemberError::Join(JoinError::Level(level)) if level == too_high), "{refused}");
    assert_eq!(cluster.member("m0").members(true).await.unwrap().len(), 1, "nobody was added");
    let added = cluster.member("m0").add_member(vec![url(port)], false).await.unwrap().member.id;
    let refused = cluster.join("m1").await.unwrap_err();
    assert!(matches!(refused, MemberError::Join(JoinError::Level(level)) if level == too_high), "{refused}");
    assert!(!cluster.directory.path().join("m1").exists());
    cluster.member("m0").remove_member(added).await.unwrap();
    cluster.ports.remove("m1");

    cluster.stop_member("m0").await;
    let older = cluster.config("m0", ClusterState::New);
    let line = store::cli::CliError::from(cluster.run("m0", older).await.unwrap_err()).to_string();
    assert!(
        line.contains("has feature level 3 and this version supports up to 2: start the newer release"),
        "{line}"
    );
    let newer = supporting(cluster.config("m0", ClusterState::New), NEXT);
    cluster.run("m0", newer).await.unwrap();
    cluster.assert_holds("m0", &["k"]).await;
    cluster.stop().await;
}

/// Who is added and has not started may be of any version.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_and_a_member_that_is_not_there_yet_hold_the_level() {
    let mut cluster = start(&[("m0", Level::FIRST)]).await;
    let id = cluster.add("m0", "m1", true).await;
    cluster.stop_member("m0").await;
    let alone = |cluster: &Cluster, highest| {
        let config = cluster.config("m0", ClusterState::New);
        let initial_cluster = config.initial_cluster.iter().take(1).cloned().collect();
        supporting(Config { initial_cluster, ..config }, highest)
    };
    cluster.run("m0", alone(&cluster, Level::HIGHEST)).await.unwrap();
    cluster.put("m0", "k").await;
    let end = Instant::now() + SEVERAL_ROUNDS;
    while Instant::now() < end {
        assert_eq!(level(cluster.member("m0")), Level::FIRST);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    cluster.run("m1", supporting(cluster.config("m1", ClusterState::Existing), Level::FIRST)).await.unwrap();
    until("the learner's name", async || {
        let members = cluster.member("m0").members(true).await.ok()?;
        members.iter().any(|member| member.id == id && member.name == "m1").then_some(())
    })
    .await;
    let end = Instant::now() + SEVERAL_ROUNDS;
    while Instant::now() < end {
        assert_eq!(level(cluster.member("m0")), Level::FIRST);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    cluster.stop_member("m1").await;
    cluster.run("m1", cluster.config("m1", ClusterState::Existing)).await.unwrap();
    await_level(&cluster, Level::HIGHEST).await;
    assert_eq!(cluster.ended(), Vec::<String>::new());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_downgrade_that_was_announced_is_known_everywhere_and_holds_the_level() {
    let highest = [("m0", Level::HIGHEST), ("m1", Level::HIGHEST), ("m2", Level::HIGHEST)];
    let mut cluster = start(&highest).await;
    await_level(&cluster, Level::HIGHEST).await;
    let downgrade = Downgrade { target: "3.6.0".to_owned() };
    cluster.member("m0").set_downgrade(Some(downgrade.clone())).await.unwrap();
    // Each starts as a release that supports more.
    for (name, _) in highest {
        cluster.stop_member(name).await;
        let next = supporting(cluster.config(name, ClusterState::New), NEXT);
        cluster.run(name, next).await.unwrap();
        cluster.put(name, name).await;
        assert_eq!(cluster.member(name).numbers().downgrade, Some(downgrade.clone()), "{name}");
    }
    let again = cluster.member("m1").set_downgrade(Some(downgrade.clone())).await;
    assert_eq!(again, Err(AdminError::Kv(KvError::DowngradeInProgress)));
    assert_eq!(cluster.member("m2").downgrade().await, Ok(Some(downgrade)));
    let end = Instant::now() + SEVERAL_ROUNDS;
    while Instant::now() < end {
        assert!(cluster.running.values().all(|member| level(member) == Level::HIGHEST));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    cluster.member("m2").set_downgrade(None).await.unwrap();
    await_level(&cluster, NEXT).await;
    assert_eq!(cluster.member("m0").downgrade().await, Ok(None));
    assert_eq!(cluster.ended(), Vec::<String>::new());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_needs_a_higher_level_never_reaches_the_log() {
    let cluster = start(&[("m0", Level::FIRST)]).await;
    let before = cluster.member("m0").numbers().last_log_index;
    let downgrade = Downgrade { target: "3.6.0".to_owned() };
    let refused = cluster.member("m0").set_downgrade(Some(downgrade)).await;
    assert_eq!(refused, Err(AdminError::Kv(KvError::NotCapable)));
    let after = cluster.member("m0").numbers();
    assert_eq!((after.last_log_index, after.downgrade), (before, None));
    cluster.stop().await;
}
