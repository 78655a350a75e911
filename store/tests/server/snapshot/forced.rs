//! A cluster that lost its majority goes on with what one member has.

use std::path::{Path, PathBuf};
use std::time::Duration;

use store::cli::CliError;
use store::config::Config;
use store::kv::Kv;
use store::mvcc::{Op, Put, Txn};

use super::content::Client;
use super::ours::{Ours, snapshot, with};
use crate::harness::{Cluster, until, write};

/// What was written and acknowledged before the majority was lost.
const ACKNOWLEDGED: usize = 60;
/// How long a write is waited for that no quorum can acknowledge.
const HOPELESS: Duration = Duration::from_millis(500);
/// Elections that the members of the old cluster have time for.
const ELECTIONS: u32 = 5;

/// Returns flags that make a member at the place of `config` the only one.
fn flags(config: &Config, data_dir: &Path) -> Vec<String> {
    let url = &config.advertise_peer_urls[0];
    vec![
        format!("--data-dir={}", data_dir.display()),
        format!("--name={}", config.name),
        format!("--initial-cluster={}={url}", config.name),
        format!("--initial-advertise-peer-urls={url}"),
    ]
}

async fn force(config: &Config, from: &Path, data_dir: &Path) -> Result<(), CliError> {
    let from = format!("--from-data-dir={}", from.display());
    snapshot(with(&["restore", &from], &flags(config, data_dir))).await
}

/// Copies a directory as a power cut leaves it: what the database keeps in memory is not there.
fn copied(from: &Path, to: &Path) -> PathBuf {
    let status = std::process::Command::new("cp").arg("-r").args([from, to]).status().unwrap();
    assert!(status.success());
    to.to_owned()
}

fn files(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path.clone(), std::fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

async fn value(client: &Client, key: &str) -> Option<Vec<u8>> {
    let rows = client.range_at(0).await.unwrap();
    rows.iter().find(|row| row.key == key.as_bytes()).map(|row| row.value.to_vec())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_of_a_lost_cluster_goes_on_alone_with_every_entry_of_its_log() {
    let mut cluster = Cluster::start().await;
    let survivor = cluster.leader().await;
    for number in 0..ACKNOWLEDGED {
        cluster.put(survivor, &format!("key{number}"), &format!("{number}")).await;
    }
    let old = cluster.member(survivor).status();
    for lost in (0..3).filter(|number| *number != survivor) {
        cluster.kill(lost).await;
    }
    // Nobody can say that it was not acknowledged by then, so it counts.
    let put = Put { key: "in doubt".into(), value: "kept".into(), ..Put::default() };
    let hopeless = cluster.member(survivor).txn(Txn::of(Op::Put(put)));
    assert!(tokio::time::timeout(HOPELESS, hopeless).await.is_err());
    let config = cluster.config(survivor);
    let held = force(&config, &config.data_dir, &cluster.directory.path().join("new")).await;
    assert!(held.unwrap_err().to_string().contains("in use by another process"));
    let crashed = copied(&config.data_dir, &cluster.directory.path().join("crashed"));
    cluster.kill(survivor).await;

    let new = Config { data_dir: cluster.directory.path().join("new"), ..config.clone() };
    let before = files(&crashed);
    force(&new, &crashed, &new.data_dir).await.unwrap();
    assert!(files(&crashed) == before, "what is left is not touched");
    let ours = Ours::start(&new).await;
    let client = ours.client();
    write(&ours.member, "goes on", "alone").await;
    for number in 0..ACKNOWLEDGED {
        assert_eq!(value(&client, &format!("key{number}")).await, Some(format!("{number}").into_bytes()));
    }
    assert_eq!(value(&client, "in doubt").await, Some(b"kept".to_vec()));
    let own = ours.member.status();
    assert_ne!(own.cluster_id, old.cluster_id);
    assert!(client.revision().await > old.revision.0 + 1_000_000_000);

    // The others come back after all, and look for the third at its address.
    for lost in (0..3).filter(|number| *number != survivor) {
        cluster.start_member(lost).await;
    }
    let lost = (survivor + 1) % 3;
    cluster.put(lost, "written by", "the old cluster").await;
    for round in 0..ELECTIONS {
        write(&ours.member, &format!("round{round}"), "alone").await;
        cluster.put(lost, &format!("round{round}"), "the old cluster").await;
        tokio::time::sleep(config.timing.election_timeout).await;
    }
    assert_eq!(value(&client, "written by").await, None);
    assert_eq!(value(&client, "round4").await, Some(b"alone".to_vec()));
    let later = ours.member.status();
    assert_eq!((later.term, later.leader_id, later.cluster_id), (own.term, own.member_id, own.cluster_id));
    assert_eq!(cluster.member(lost).status().cluster_id, old.cluster_id);
    let theirs = Client::new(cluster.server(lost).channel());
    assert_eq!(value(&theirs, "goes on").await, None);
    assert_eq!(value(&theirs, "round4").await, Some(b"the old cluster".to_vec()));
    drop((client, theirs));
    ours.stop().await;
    // It starts again by itself.
    let ours = Ours::start(&new).await;
    until("a leader", async || (ours.member.status().leader_id != 0).then_some(())).await;
    assert_eq!(value(&ours.client(), "in doubt").await, Some(b"kept".to_vec()));
    ours.stop().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_members_directory_is_refused_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let new = directory.path().join("new");
    let config = Config::single(new.clone(), "m", "127.0.0.1:1");
    let refused = async |from: &Path| {
        let error = force(&config, from, &new).await.unwrap_err();
        assert!(!new.exists() && !directory.path().join("new.restoring").exists());
        (error.exit_code(), error.to_string())
    };
    let missing = directory.path().join("missing");
    let (code, line) = refused(&missing).await;
    assert_eq!((code, line), (64, format!("{} is no data directory of a member", missing.display())));
    let foreign = directory.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("notes.txt"), "mine").unwrap();
    let (code, line) = refused(&foreign).await;
    assert_eq!(code, 64);
    assert!(line.ends_with("holds files of something else"), "{line}");
    assert_eq!(files(&foreign).len(), 1);

    let member = directory.path().join("member");
    let ours = Ours::alone(&member, crate::harness::free_port()).await;
    ours.client().put("k", "v", 0).await;
    ours.stop().await;
    let from = format!("--from-data-dir={}", member.display());
    let mut several = flags(&config, &new);
    several.push("--initial-cluster=other=http://127.0.0.1:2".to_owned());
    let error = snapshot(with(&["restore", &from], &several)).await.unwrap_err();
    assert_eq!(error.exit_code(), 64);
    assert!(error.to_string().contains("begins with that member alone"), "{error}");
    std::fs::remove_dir_all(member.join("wal")).unwrap();
    let (code, line) = refused(&member).await;
    assert_eq!(code, 1);
    assert!(line.contains("do not belong together") && line.contains("log"), "{line}");
}
