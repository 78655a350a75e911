//! Three members with real files, sockets and threads in one process, and etcdctl against them where it is installed.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, reason = "tests")]

mod ports;

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use ports::free_port;
use proto::v3lockpb::lock_client::LockClient;
use proto::v3lockpb::{LockRequest, UnlockRequest};
use store::admin::Admin;
use store::config::{Config, InitialMember};
use store::etcd::{Edge, EtcdOptions};
use store::kv::{Consistency, Kv, KvError, WatchItem, WatchQuery};
use store::mvcc::{AlarmKind, DeleteRange, KeyRange, LeaseId, Op, Put, Range, Revision, Txn};
use store::wal::WalConfig;
use store::{DirectoryError, Member, MemberError};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// Everything here must happen in this time; a loaded machine needs slack.
const PATIENCE: Duration = Duration::from_secs(30);

/// The only member with a quota, where there is one.
const LIMITED: usize = 2;

struct Cluster {
    directory: tempfile::TempDir,
    ports: Vec<u16>,
    members: Vec<Option<Arc<Member>>>,
    fatals: Arc<Mutex<Vec<String>>>,
    quota_bytes: u64,
}

impl Cluster {
    async fn start() -> Self {
        Self::with_quota(0).await
    }

    async fn with_quota(quota_bytes: u64) -> Self {
        let mut cluster = Self {
            directory: tempfile::tempdir().unwrap(),
            ports: (0..3).map(|_| free_port()).collect(),
            members: vec![None, None, None],
            fatals: Arc::default(),
            quota_bytes,
        };
        for number in 0..3 {
            cluster.start_member(number).await.unwrap();
        }
        cluster.member(0).read_index().await.unwrap();
        cluster
    }

    fn config(&self, number: usize) -> Config {
        let url = |number: usize| format!("http://127.0.0.1:{}", self.ports[number]);
        let mut config = Config::single(
            self.directory.path().join(format!("m{number}")),
            &format!("m{number}"),
            &format!("127.0.0.1:{}", self.ports[number]),
        );
        config.initial_cluster = (0..3)
            .map(|number| InitialMember { name: format!("m{number}"), peer_urls: vec![url(number)] })
            .collect();
        config.wal = WalConfig { segment_bytes: 1024 * 1024, ..WalConfig::default() };
        config.snapshot_entries = 200;
        config.entries_kept = Some(20);
        config.quota_bytes = if number == LIMITED { self.quota_bytes } else { 0 };
        let fatals = Arc::clone(&self.fatals);
        config.fatal = Some(Arc::new(move |message| fatals.lock().unwrap().push(message.to_owned())));
        config
    }

    async fn start_member(&mut self, number: usize) -> Result<(), MemberError> {
        let member = until("the end of the killed member", async || {
            match Member::start(self.config(number), CancellationToken::new()).await {
                Err(MemberError::Directory(DirectoryError::InUse { .. }) | MemberError::Listen { .. }) => {
                    None
                }
                other => Some(other),
            }
        });
        self.members[number] = Some(member.await?);
        Ok(())
    }

    fn member(&self, number: usize) -> &Arc<Member> {
        self.members[number].as_ref().unwrap()
    }

    /// Ends a member without any farewell.
    fn kill(&mut self, number: usize) {
        let member = self.members[number].take().unwrap();
        assert_eq!(Arc::strong_count(&member), 1);
        drop(member);
    }

    /// Writes until it is acknowledged: while leadership moves, a write may have an unknown outcome.
    async fn put(&self, number: usize, key: &str, value: &str) {
        until("an acknowledged write", async || match self.member(number).txn(put(key, value)).await {
            Ok(_) => Some(()),
            Err(KvError::OutcomeUnknown | KvError::NoLeader) => None,
            Err(error) => panic!("{error}"),
        })
        .await;
    }

    async fn stop_member(&mut self, number: usize) {
        let member = self.members[number].take().unwrap();
        tokio::time::timeout(PATIENCE, member.stop()).await.expect("a member stops");
        assert_eq!(Arc::strong_count(&member), 1);
    }

    async fn leader(&self) -> usize {
        until("a leader", async || {
            let mut running = (0..3).filter(|number| self.members[*number].is_some());
            running.find(|number| {
                let status = self.member(*number).status();
                status.leader_id == status.member_id
            })
        })
        .await
    }

    async fn stop(mut self) {
        for number in 0..3 {
            if self.members[number].is_some() {
                self.stop_member(number).await;
            }
        }
        assert_eq!(*self.fatals.lock().unwrap(), Vec::<String>::new());
    }
}

async fn until<T>(what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = found().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn put(key: &str, value: &str) -> Txn {
    let put =
        Put { key: Bytes::from(key.to_owned()), value: Bytes::from(value.to_owned()), ..Put::default() };
    Txn { success: vec![Op::Put(put)], ..Txn::default() }
}

async fn get(member: &Member, key: &str, consistency: Consistency) -> Option<Bytes> {
    let range = Range::new(KeyRange::single(key.to_owned()));
    member.range(range, consistency).await.unwrap().kvs.pop().map(|kv| kv.value)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_go_on_within_two_seconds_of_a_leader_kill_and_the_member_catches_up() {
    let mut cluster = Cluster::start().await;
    for number in 0..3 {
        cluster.put(number, &format!("before{number}"), "1").await;
    }
    let leader = cluster.leader().await;
    let other = (leader + 1) % 3;
    cluster.kill(leader);
    let killed = Instant::now();
    cluster.put(other, "after", "2").await;
    let gap = killed.elapsed();
    println!("writes work again {} ms after the kill", gap.as_millis());
    assert!(gap < Duration::from_secs(4), "took {gap:?}; the promise is 2 s, doubled for a loaded machine");
    cluster.start_member(leader).await.unwrap();
    assert_eq!(get(cluster.member(leader), "after", Consistency::Linearizable).await, Some("2".into()));
    for number in 0..3 {
        let found = get(cluster.member(leader), &format!("before{number}"), Consistency::Linearizable).await;
        assert_eq!(found, Some("1".into()));
    }
    cluster.stop().await;
}

/// A quiet leader keeps its append streams open; that must not keep a follower from stopping, or its files in use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_member_stops_beside_a_quiet_leader_and_starts_again_at_once() {
    let mut cluster = Cluster::start().await;
    for number in 0..3 {
        cluster.put(number, "key", &number.to_string()).await;
        get(cluster.member(number), "key", Consistency::Linearizable).await;
        cluster.stop_member(number).await;
        let member = Member::start(cluster.config(number), CancellationToken::new()).await.unwrap();
        cluster.members[number] = Some(member);
        let found = get(cluster.member(number), "key", Consistency::Linearizable).await;
        assert_eq!(found, Some(number.to_string().into()));
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn member_that_was_away_for_long_gets_a_snapshot_and_its_watch_goes_on() {
    let mut cluster = Cluster::start().await;
    let away = (cluster.leader().await + 1) % 3;
    let writer = (away + 1) % 3;
    cluster.kill(away);
    for number in 0..1000 {
        cluster.put(writer, &format!("k{}", number % 50), &number.to_string()).await;
    }
    cluster.start_member(away).await.unwrap();
    let revision = cluster.member(writer).read_index().await.unwrap();
    let query =
        WatchQuery { start: Some(Revision(revision.0 - 10)), ..WatchQuery::new(KeyRange::prefix("k")) };
    let mut watch = cluster.member(away).watch(query).await.unwrap();
    let mut next = revision.0 - 10;
    while next <= revision.0 {
        let item = tokio::time::timeout(PATIENCE, watch.next()).await.unwrap().unwrap().unwrap();
        if let WatchItem::Events { events, .. } = item {
            for event in events {
                assert_eq!(event.kv.mod_revision, Revision(next), "no gap, no repetition");
                next += 1;
            }
        }
    }
    let range = Range::new(KeyRange::prefix("k"));
    let here = cluster.member(away).range(range.clone(), Consistency::Linearizable).await.unwrap();
    let there = cluster.member(writer).range(range, Consistency::Linearizable).await.unwrap();
    assert_eq!(here, there);
    let current = cluster.directory.path().join(format!("m{away}/db/CURRENT"));
    assert_eq!(std::fs::read_to_string(current).unwrap().trim(), "000002", "the state came as a snapshot");
    drop(watch);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_are_kept_alive_through_any_member_and_expire_on_all() {
    let cluster = Cluster::start().await;
    let follower = (cluster.leader().await + 1) % 3;
    let member = cluster.member(follower);
    let lease = member.lease_grant(LeaseId::NONE, Duration::from_secs(2)).await.unwrap();
    let attached = Put { key: "leased".into(), value: "v".into(), lease: lease.id, ..Put::default() };
    member.txn(Txn { success: vec![Op::Put(attached)], ..Txn::default() }).await.unwrap();
    let kept = Instant::now();
    while kept.elapsed() < Duration::from_secs(4) {
        assert_eq!(member.lease_keep_alive(lease.id).await, Ok(Duration::from_secs(2)));
        assert!(get(member, "leased", Consistency::Linearizable).await.is_some());
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let last = Instant::now();
    until("the end of the lease", async || {
        get(member, "leased", Consistency::Linearizable).await.is_none().then_some(())
    })
    .await;
    assert!(last.elapsed() > Duration::from_millis(1500), "ended early, after {:?}", last.elapsed());
    assert_eq!(member.lease_keep_alive(lease.id).await, Err(KvError::LeaseNotFound));
    cluster.stop().await;
}

/// Safety rule 11.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_quota_refuses_puts_on_every_member_and_lifts_itself() {
    const QUOTA: u64 = 1 << 20;
    let cluster = Cluster::with_quota(QUOTA).await;
    let limited = cluster.member(LIMITED);
    let value = "x".repeat(64 << 10);
    let mut written = 0;
    while limited.txn(put("large", &value)).await != Err(KvError::NoSpace) {
        written += 1;
        assert!(written < 20, "1 MiB holds fewer than 20 versions of 64 KiB");
    }
    assert!(limited.numbers().db_size_in_use_bytes <= QUOTA);
    // The others have no quota: only the alarm makes them refuse.
    for number in 0..3 {
        let member = cluster.member(number);
        until("the refusal", async || {
            let small = member.txn(put("small", "x")).await;
            (small == Err(KvError::NoSpace)).then_some(())
        })
        .await;
        let granted = member.lease_grant(LeaseId::NONE, Duration::from_secs(60)).await;
        assert_eq!(granted.map(|_| ()), Err(KvError::NoSpace));
        assert!(member.numbers().alarms.iter().all(|alarm| alarm.kind == AlarmKind::NoSpace));
        assert_eq!(get(member, "large", Consistency::Linearizable).await.unwrap().len(), value.len());
    }
    let delete = DeleteRange { range: KeyRange::single("large"), prev_kv: false };
    let deleted =
        limited.txn(Txn { success: vec![Op::DeleteRange(delete)], ..Txn::default() }).await.unwrap();
    limited.compact(deleted.revision).await.unwrap();
    for number in 0..3 {
        let member = cluster.member(number);
        until("space again", async || member.txn(put("small", "x")).await.is_ok().then_some(())).await;
        until("no alarm", async || member.alarms().await.unwrap().is_empty().then_some(())).await;
    }
    cluster.stop().await;
}

/// The lock service of one member, on a port of its own.
struct LockServer {
    client: LockClient<Channel>,
    shutdown: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

impl LockServer {
    async fn start(member: &Arc<Member>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let edge = Edge::new(member);
        let shutdown = CancellationToken::new();
        let serving = store::etcd::serve(listener, None, edge, EtcdOptions::default(), shutdown.clone());
        let serving = tokio::spawn(serving);
        Self { client: LockClient::connect(endpoint).await.unwrap(), shutdown, serving }
    }

    async fn stop(self) {
        drop(self.client);
        self.shutdown.cancel();
        self.serving.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_outlives_the_leader_and_passes_to_a_caller_of_another_member() {
    let mut cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    let [one, two] = [(leader + 1) % 3, (leader + 2) % 3];
    let mut first = LockServer::start(cluster.member(one)).await;
    let second = LockServer::start(cluster.member(two)).await;
    for lease in [1, 2] {
        cluster.member(one).lease_grant(LeaseId(lease), Duration::from_secs(600)).await.unwrap();
    }
    let lock = |lease| LockRequest { name: "lk".into(), lease };
    let held = first.client.lock(lock(1)).await.unwrap().into_inner();
    let mut waiting = second.client.clone();
    let waiting = tokio::spawn(async move { waiting.lock(lock(2)).await });
    until("the waiter's key", async || get(cluster.member(one), "lk/2", Consistency::Linearizable).await)
        .await;
    cluster.kill(leader);
    cluster.put(one, "elected", "").await;
    assert!(!waiting.is_finished());
    first.client.unlock(UnlockRequest { key: held.key }).await.unwrap();
    let won = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(won.into_inner().key, "lk/2");
    first.stop().await;
    second.stop().await;
    cluster.stop().await;
}

/// A fault is one of disk or state. Whoever drops a member in the middle of its work ends it and finds no fault.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn member_that_is_dropped_in_the_middle_of_its_work_reports_no_fault() {
    let directory = tempfile::tempdir().unwrap();
    let fatals: Arc<Mutex<Vec<String>>> = Arc::default();
    for round in 0..50 {
        let mut config = Config::single(directory.path().join(format!("m{round}")), "m", "127.0.0.1:0");
        config.wal = WalConfig { segment_bytes: 1024 * 1024, ..WalConfig::default() };
        config.snapshot_entries = 5;
        let told = Arc::clone(&fatals);
        config.fatal = Some(Arc::new(move |message| told.lock().unwrap().push(message.to_owned())));
        let member = Member::start(config, CancellationToken::new()).await.unwrap();
        // The further rounds, the later the end: in every phase of writes, snapshots and flushes.
        for number in 0..round {
            member.txn(put(&format!("k{number}"), "v")).await.unwrap();
        }
        assert_eq!(Arc::strong_count(&member), 1);
        drop(member);
    }
    assert_eq!(*fatals.lock().unwrap(), Vec::<String>::new());
}

/// Safety rule 4.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn member_that_lost_its_disk_is_refused() {
    let mut cluster = Cluster::start().await;
    let victim = (cluster.leader().await + 1) % 3;
    cluster.stop_member(victim).await;
    std::fs::remove_dir_all(cluster.directory.path().join(format!("m{victim}"))).unwrap();
    cluster.start_member(victim).await.unwrap();
    let fatals = Arc::clone(&cluster.fatals);
    let message = until("the refusal", async || fatals.lock().unwrap().pop()).await;
    assert!(message.contains("does not know this data directory"), "{message}");
    cluster.kill(victim);
    cluster.put((victim + 1) % 3, "still", "works").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn busy_port_and_foreign_directory_are_refused_untouched() {
    let temporary = tempfile::tempdir().unwrap();
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = busy.local_addr().unwrap().to_string();
    let data = temporary.path().join("data");
    let config = Config::single(data.clone(), "a", &address);
    let error = Member::start(config, CancellationToken::new()).await.map(|_| ()).unwrap_err();
    assert!(matches!(error, MemberError::Listen { .. }), "{error}");
    assert!(!data.exists());
    std::fs::write(temporary.path().join("notes"), "mine").unwrap();
    let config = Config::single(temporary.path().to_owned(), "a", "127.0.0.1:0");
    let error = Member::start(config, CancellationToken::new()).await.map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("holds files of something else"), "{error}");
}

fn etcdctl(endpoint: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new("etcdctl").args(["--endpoints", endpoint]).args(arguments).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "etcdctl {arguments:?}: {text}{errors}");
    Some(text)
}

fn start_store(
    directory: &Path,
    name: &str,
    client: u16,
    peer: u16,
    cluster: &str,
    shutdown: &CancellationToken,
) -> tokio::task::JoinHandle<Result<(), store::cli::CliError>> {
    use clap::Parser;
    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: store::cli::Args,
    }
    let cli = Cli::parse_from([
        "store",
        "--name",
        name,
        "--data-dir",
        directory.join(name).to_str().unwrap(),
        "--listen-client-urls",
        &format!("http://127.0.0.1:{client}"),
        "--listen-peer-urls",
        &format!("http://127.0.0.1:{peer}"),
        "--initial-cluster",
        cluster,
    ]);
    tokio::spawn(store::cli::run(cli.args, shutdown.clone()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcdctl_works_against_every_member() {
    if Command::new("etcdctl").arg("version").output().is_err() {
        // Past the capture of output: the test runner counts these lines.
        std::io::stderr()
            .write_all(b"skipped: no etcdctl on PATH (`cargo xtask setup` installs it)\n")
            .unwrap();
        return;
    }
    let temporary = tempfile::tempdir().unwrap();
    let ports: Vec<u16> = (0..6).map(|_| free_port()).collect();
    let names = ["a", "b", "c"];
    let cluster: Vec<String> =
        (0..3).map(|number| format!("{}=http://127.0.0.1:{}", names[number], ports[number + 3])).collect();
    let cluster = cluster.join(",");
    let shutdown = CancellationToken::new();
    let running: Vec<_> = (0..3)
        .map(|number| {
            let (client, peer) = (ports[number], ports[number + 3]);
            start_store(temporary.path(), names[number], client, peer, &cluster, &shutdown)
        })
        .collect();
    // No scheme: etcdctl 3.4 sends the whole endpoint as `:authority` for `endpoint status`, and hyper refuses a URL there.
    let endpoints: Vec<String> = ports[..3].iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let work = tokio::task::spawn_blocking(move || {
        let deadline = Instant::now() + PATIENCE;
        while Command::new("etcdctl")
            .args(["--endpoints", &endpoints[0], "endpoint", "health"])
            .output()
            .is_ok_and(|output| !output.status.success())
        {
            assert!(Instant::now() < deadline, "the cluster does not become healthy");
        }
        for (number, endpoint) in endpoints.iter().enumerate() {
            let key = format!("key{number}");
            assert_eq!(etcdctl(endpoint, &["put", &key, "value"]).unwrap(), "OK\n");
            for other in &endpoints {
                assert_eq!(etcdctl(other, &["get", &key, "--print-value-only"]).unwrap(), "value\n");
            }
            let members = etcdctl(endpoint, &["member", "list"]).unwrap();
            assert_eq!(members.matches("started").count(), 3, "{members}");
            let status = etcdctl(endpoint, &["endpoint", "status"]).unwrap();
            assert!(status.contains(endpoint), "{status}");
            let lease = etcdctl(endpoint, &["lease", "grant", "60"]).unwrap();
            let id = lease.split_whitespace().nth(1).unwrap().to_owned();
            etcdctl(endpoint, &["lease", "keep-alive", "--once", &id]).unwrap();
            etcdctl(endpoint, &["lease", "timetolive", &id]).unwrap();
            etcdctl(endpoint, &["lease", "revoke", &id]).unwrap();
        }
        let prefix = etcdctl(&endpoints[2], &["get", "--prefix", "key", "--keys-only"]).unwrap();
        assert_eq!(prefix.matches("key").count(), 3);
        etcdctl(&endpoints[1], &["compaction", "2"]).unwrap();
    });
    work.await.unwrap();
    shutdown.cancel();
    for member in running {
        member.await.unwrap().unwrap();
    }
}
