//! Settings of a member, with their units and reasons.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::auth::TOKEN_TTL;
use crate::env::Fatal;
use crate::kv::RequestLimits;
use crate::level::Levels;
use crate::member::AutoCompaction;
use crate::net::PeerTls;
use crate::wal::WalConfig;
use crate::watch;

/// Silence of the leader after which the first member campaigns (etcd's default).
pub const ELECTION_TIMEOUT: Duration = Duration::from_millis(1000);
/// Entries between two snapshots: bounds what a restart applies again to about a second of work.
pub const SNAPSHOT_ENTRIES: u64 = 100_000;
/// What a request waits beyond two elections (etcd's rule).
const REQUEST_PATIENCE: Duration = Duration::from_secs(5);

/// A request that takes longer is logged (etcd's default for applying one).
pub const SLOW_AFTER: Duration = Duration::from_millis(100);

/// All times of consensus, derived from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Silence of the leader after which the first member campaigns.
    pub election_timeout: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { election_timeout: ELECTION_TIMEOUT }
    }
}

impl Timing {
    pub(crate) fn heartbeat(&self) -> Duration {
        self.election_timeout / 10
    }

    /// openraft adds its maximum to the random timeout as the old leader's lease, so 0.4 T and 0.6 T make T.
    pub(crate) fn election_min(&self) -> Duration {
        self.election_timeout * 2 / 5
    }

    pub(crate) fn election_max(&self) -> Duration {
        self.election_timeout * 3 / 5
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        REQUEST_PATIENCE + 2 * self.election_timeout
    }
}

/// One member as the initial cluster names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialMember {
    pub name: String,
    pub peer_urls: Vec<String>,
}

/// Whether a member with a new data directory forms a cluster or joins one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ClusterState {
    New,
    /// It was added before, and learns from the others who it is. A data directory that exists belongs to whom it says.
    Existing,
}

/// How often members compare what they hold where nothing else is said: an entry of the log and a small call to each.
pub const COMPARE_INTERVAL: Duration = Duration::from_secs(60);

/// How a member with an empty data directory has itself added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// Peer URLs of members that are asked.
    pub contacts: Vec<String>,
    /// The member that leaves when this one has caught up.
    pub replaces: Option<u64>,
}

/// Settings of a member on a real machine.
#[derive(Clone)]
pub struct Config {
    /// Holds identity, log and database; belongs to one member for ever.
    pub data_dir: PathBuf,
    pub name: String,
    /// `host:port` that peers connect to.
    pub listen_peer: String,
    pub advertise_peer_urls: Vec<String>,
    pub advertise_client_urls: Vec<String>,
    /// All members of the cluster, this one included.
    pub initial_cluster: Vec<InitialMember>,
    pub cluster_state: ClusterState,
    /// Asks to be added to a cluster that exists; says more than `cluster_state`.
    pub join: Option<Join>,
    /// Keeps clusters with equal addresses apart.
    pub cluster_token: String,
    pub timing: Timing,
    pub wal: WalConfig,
    pub snapshot_entries: u64,
    /// Entries kept behind a snapshot for members that are a little behind; `None` for the default.
    pub entries_kept: Option<u64>,
    /// Most that rows may take, live ones and history, before compression; 0 for no quota.
    pub quota_bytes: u64,
    /// Free bytes of the disk below which nothing is added; `None` for what suits the disk, 0 for no reserve.
    pub disk_reserve_bytes: Option<u64>,
    /// How often members compare what they hold; zero for never.
    pub compare_interval: Duration,
    /// History to forget without being asked.
    pub auto_compaction: AutoCompaction,
    /// How long a simple token lives from its last use.
    pub token_ttl: Duration,
    /// Requests that take longer are logged.
    pub slow_after: Duration,
    /// How large a request may be.
    pub limits: RequestLimits,
    /// What is kept for watches that are behind.
    pub watches: watch::Limits,
    /// Feature levels that this member can be at.
    pub levels: Levels,
    /// Mutual TLS between members; plain text without it.
    pub peer_tls: Option<PeerTls>,
    /// Ends the member; `None` prints the message and exits the process with code 1.
    pub fatal: Option<Fatal>,
}

impl Config {
    /// Returns the settings of a cluster of one member that listens on `listen_peer`.
    #[must_use]
    pub fn single(data_dir: PathBuf, name: &str, listen_peer: &str) -> Self {
        let url = format!("http://{listen_peer}");
        Self {
            data_dir,
            name: name.to_owned(),
            listen_peer: listen_peer.to_owned(),
            advertise_peer_urls: vec![url.clone()],
            advertise_client_urls: Vec::new(),
            initial_cluster: vec![InitialMember { name: name.to_owned(), peer_urls: vec![url] }],
            cluster_state: ClusterState::New,
            join: None,
            cluster_token: "keelson".to_owned(),
            timing: Timing::default(),
            wal: WalConfig::default(),
            snapshot_entries: SNAPSHOT_ENTRIES,
            entries_kept: None,
            quota_bytes: 0,
            disk_reserve_bytes: None,
            compare_interval: COMPARE_INTERVAL,
            auto_compaction: AutoCompaction::Off,
            token_ttl: TOKEN_TTL,
            slow_after: SLOW_AFTER,
            limits: RequestLimits::default(),
            watches: watch::Limits::default(),
            levels: Levels::SUPPORTED,
            peer_tls: None,
            fatal: None,
        }
    }

    /// Returns the ids of the initial members.
    pub(crate) fn initial_ids(&self) -> BTreeMap<u64, InitialMember> {
        self.initial_cluster
            .iter()
            .map(|member| (member_id(&member.peer_urls, &self.cluster_token), member.clone()))
            .collect()
    }

    /// Whether the cluster is there already.
    pub(crate) fn joins(&self) -> bool {
        self.cluster_state == ClusterState::Existing || self.join.is_some()
    }

    /// Returns the peer URLs of the other members, as far as the settings know them.
    pub(crate) fn contacts(&self) -> Vec<String> {
        if let Some(join) = &self.join {
            return join.contacts.clone();
        }
        let urls = self.initial_cluster.iter().flat_map(|member| &member.peer_urls);
        urls.filter(|url| !self.advertise_peer_urls.contains(url)).cloned().collect()
    }

    /// Returns the id of the cluster that the initial members form.
    pub(crate) fn cluster_id(&self) -> u64 {
        cluster_id(self.initial_ids().keys(), &self.cluster_token)
    }
}

/// Returns the id of a new cluster of these members.
pub(crate) fn cluster_id<'a>(members: impl Iterator<Item = &'a u64>, token: &str) -> u64 {
    let mut hasher = Sha256::new();
    members.for_each(|id| hasher.update(id.to_be_bytes()));
    hasher.update(token.as_bytes());
    first_u64(&hasher.finalize())
}

/// Returns the id of an initial member: the same wherever its URLs and token are the same.
pub(crate) fn member_id(peer_urls: &[String], token: &str) -> u64 {
    first_u64(&sorted_urls_hash(peer_urls, &[token.as_bytes()]))
}

/// Hashes a member's URLs, in whatever order they come, and what tells it from others with the same ones.
pub(crate) fn sorted_urls_hash(peer_urls: &[String], distinctions: &[&[u8]]) -> Vec<u8> {
    let mut urls = peer_urls.to_vec();
    urls.sort();
    let mut hasher = Sha256::new();
    for url in urls {
        hasher.update(url.as_bytes());
        hasher.update([0]);
    }
    for distinction in distinctions {
        hasher.update(distinction);
    }
    hasher.finalize().to_vec()
}

/// Returns an id made of a hash.
pub(crate) fn first_u64(hash: &[u8]) -> u64 {
    let (first, _) = hash.split_first_chunk().expect("a SHA-256 hash has 32 bytes");
    // 0 means "no member" in etcd's API.
    u64::from_be_bytes(*first).max(1)
}
