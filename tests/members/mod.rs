//! Three `keelson store` members on loopback, driven by the chaos harness, and what clients see of each one.

#![allow(dead_code, reason = "each test uses its own part of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chaos::cluster::{Cluster, Place, Program};
use chaos::etcd::{Failure, MemberClient};
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::maintenance_client::MaintenanceClient;
use proto::etcdserverpb::{HashKvRequest, MoveLeaderRequest, RangeRequest};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Bounds a failure; a loaded machine needs slack.
const PATIENCE: Duration = Duration::from_secs(90);
/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(20);
/// A list of everything that a test wrote.
const LIST_BYTES_MAX: usize = 64 << 20;

/// The members of a test, named n1 to n3, with their data in `<folder>/data/<name>`.
pub struct Members {
    pub cluster: Cluster,
    places: Vec<Place>,
    folder: PathBuf,
    /// How many last words of each member a test has seen.
    heard: Vec<usize>,
}

impl Members {
    /// Starts the members and waits until each serves.
    pub async fn start(folder: &Path) -> Self {
        let places = places();
        let program = Program::new(Path::new(env!("CARGO_BIN_EXE_keelson")));
        let cluster = Cluster::start(&program, &places, "keelson-test", folder).await.unwrap();
        let heard = vec![0; places.len()];
        Self { cluster, places, folder: folder.to_owned(), heard }
    }

    pub fn data(&self, member: usize) -> PathBuf {
        self.folder.join("data").join(&self.places[member].name)
    }

    pub fn client(&self, member: usize) -> MemberClient {
        self.cluster.connect(member).unwrap()
    }

    /// Everything that the runs of a member printed.
    pub fn log(&self, member: usize) -> String {
        std::fs::read_to_string(self.folder.join(format!("{}.log", self.places[member].name))).unwrap()
    }

    /// Waits until a member has ended by itself; returns its exit status and the one line that it said at the end.
    pub async fn end_of(&mut self, member: usize) -> (String, String) {
        let name = self.places[member].name.clone();
        let status =
            until(&format!("the end of {name}"), async || self.cluster.members[member].ended()).await;
        let log = self.log(member);
        assert!(!log.contains("panicked"), "{log}");
        let said = last_words(&log).split_off(self.heard[member]);
        self.heard[member] += said.len();
        assert_eq!(said.len(), 1, "one line says why {name} ended:\n{log}");
        (status, said.concat())
    }

    /// Waits until `member` leads, or until it does not.
    pub async fn give_leadership(&self, member: usize) {
        until("the chosen leader", async || {
            let leader = self.cluster.leader().await?;
            if leader == member {
                return Some(());
            }
            let target_id = self.client(member).status().await.ok()?.header?.member_id;
            let mut maintenance = MaintenanceClient::connect(self.url(leader)).await.ok()?;
            // Refused while an election is under way; the next look asks again.
            let _asked = maintenance.move_leader(MoveLeaderRequest { target_id }).await;
            None
        })
        .await;
    }

    /// Returns what a member itself holds of the writers' keys: a serializable read asks nobody else.
    pub async fn rows(&self, member: usize) -> Option<BTreeMap<String, String>> {
        let request = RangeRequest {
            key: "w".into(),
            range_end: "x".into(),
            serializable: true,
            ..RangeRequest::default()
        };
        let client = KvClient::connect(self.url(member)).await.ok()?;
        let answer = client.max_decoding_message_size(LIST_BYTES_MAX).range(request).await.ok()?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Some(answer.into_inner().kvs.iter().map(|kv| (text(&kv.key), text(&kv.value))).collect())
    }

    /// Returns the hash of a member's rows up to `revision`.
    pub async fn hash(&self, member: usize, revision: i64) -> u32 {
        let mut maintenance = MaintenanceClient::connect(self.url(member)).await.unwrap();
        maintenance.hash_kv(HashKvRequest { revision }).await.unwrap().into_inner().hash
    }

    /// Checks that a member holds everything that was acknowledged.
    pub async fn keeps(&self, member: usize, ledger: &Ledger) {
        // Linearizable: the member has then applied all that was acknowledged before, which its own rows show.
        until("a read", async || self.client(member).read("w").await.ok()).await;
        let rows = self.rows(member).await.unwrap();
        let lost = ledger.acknowledged.iter().find(|(key, value)| rows.get(*key) != Some(value));
        assert_eq!(lost, None, "it was acknowledged");
    }

    /// Waits until all members hold the same, and checks it against what the writers know.
    pub async fn agree_on(&self, ledger: &Ledger) {
        // Linearizable: nothing that was acknowledged has a later revision.
        let (_, revision) = until("a read", async || self.client(1).read("w").await.ok()).await;
        let expected = self.rows(1).await.unwrap();
        for member in [0, 2] {
            until("a member that caught up", async || {
                self.rows(member).await.filter(|rows| *rows == expected)
            })
            .await;
        }
        let hash = self.hash(1, revision).await;
        assert_eq!([self.hash(0, revision).await, self.hash(2, revision).await], [hash, hash]);
        for (key, value) in &ledger.acknowledged {
            assert_eq!(expected.get(key), Some(value), "{key} was acknowledged");
        }
        let invented =
            |key: &&String| !ledger.acknowledged.contains_key(*key) && !ledger.unknown.contains(*key);
        assert_eq!(expected.keys().find(invented), None, "nobody wrote it");
    }

    pub fn url(&self, member: usize) -> String {
        self.places[member].client_url.clone()
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (0..self.places.len()).for_each(|member| eprintln!("{}", self.log(member)));
        }
    }
}

/// What the writers know.
#[derive(Default)]
pub struct Ledger {
    pub acknowledged: BTreeMap<String, String>,
    pub unknown: BTreeSet<String>,
}

/// One writer per member, each writing keys of its own one after another.
pub struct Writers {
    ledgers: Vec<Arc<Mutex<Ledger>>>,
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

impl Writers {
    pub fn start(members: &Members) -> Self {
        let (mut tasks, stop) = (JoinSet::new(), CancellationToken::new());
        let ledgers = (0..members.places.len()).map(|member| {
            let ledger = Arc::new(Mutex::new(Ledger::default()));
            tasks.spawn(write(members.client(member), member, Arc::clone(&ledger), stop.clone()));
            ledger
        });
        Self { ledgers: ledgers.collect(), tasks, stop }
    }

    /// Waits until each of these members has acknowledged another `count` writes.
    pub async fn acknowledged(&self, members: &[usize], count: usize) {
        let counts = || members.iter().map(|&member| self.ledgers[member].lock().unwrap().acknowledged.len());
        let goals: Vec<usize> = counts().map(|before| before + count).collect();
        let reached = || counts().zip(&goals).all(|(now, goal)| now >= *goal);
        until("acknowledged writes", async || reached().then_some(())).await;
    }

    pub async fn stop(mut self) -> Ledger {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        let mut all = Ledger::default();
        for ledger in &self.ledgers {
            let mut ledger = ledger.lock().unwrap();
            all.acknowledged.append(&mut ledger.acknowledged);
            all.unknown.append(&mut ledger.unknown);
        }
        all
    }
}

async fn write(client: MemberClient, writer: usize, ledger: Arc<Mutex<Ledger>>, stop: CancellationToken) {
    for number in 0.. {
        if stop.is_cancelled() {
            return;
        }
        let (key, value) = (format!("w{writer}-{number}"), format!("value {number} of writer {writer}"));
        let outcome = client.write(&key, &value).await;
        let is_served = outcome.is_ok();
        {
            let mut ledger = ledger.lock().unwrap();
            match outcome {
                Ok(_answer) => drop(ledger.acknowledged.insert(key, value)),
                Err(Failure::Unknown(_)) => drop(ledger.unknown.insert(key)),
                Err(Failure::NotApplied(_)) => {}
            }
        }
        if !is_served {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// The lines with which the program ends.
pub fn last_words(log: &str) -> Vec<String> {
    log.lines().filter(|line| line.starts_with("keelson: ")).map(str::to_owned).collect()
}

/// Waits until something is found.
pub async fn until<T>(what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = found().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come");
        tokio::time::sleep(LOOK).await;
    }
}

/// Ports below those that the kernel gives to outgoing connections: one of those could be taken by another member's
/// connection before its owner listens. Tests of one machine begin at different ports, and tests of one process go on where the
/// last one ended: between look and start a port is anybody's.
pub fn places() -> Vec<Place> {
    static PASSED: AtomicU16 = AtomicU16::new(0);
    let first = 12_000 + u16::try_from(std::process::id() % 1000).unwrap() * 8;
    let ports = std::iter::from_fn(|| Some(first + PASSED.fetch_add(1, Ordering::Relaxed)))
        .take_while(|port| *port < 32_000);
    let held: Vec<TcpListener> =
        ports.filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok()).take(6).collect();
    let url = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
    let place = |(number, pair): (usize, &[TcpListener])| Place {
        name: format!("n{number}"),
        client_url: url(&pair[0]),
        peer_url: url(&pair[1]),
        namespace: None,
    };
    (1..).zip(held.chunks(2)).map(place).collect()
}
