//! `keelson store`: the store alone, with etcd's flag names and environment variables.

mod config_file;
mod serving;
mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::ArgAction;
use tokio_util::sync::CancellationToken;

use crate::auth::TOKEN_TTL;
use crate::config::{ClusterState, Config, InitialMember, Join, SNAPSHOT_ENTRIES, Timing};
use crate::directory::{self, DirectoryError};
use crate::env::error_chain;
use crate::etcd::{self, AuthOptions, BcryptCost, CertificateNames, Edge, EtcdOptions, TokenKind};
use crate::etcd_flags::EtcdFlags;
use crate::kv::RequestLimits;
use crate::level::{Level, Levels};
use crate::member::{AutoCompaction, JoinError, Member, MemberError};
use crate::net::PeerTls;
use crate::reads::ReadBudget;
use crate::wal::{WalConfig, is_full};
use crate::watch;

use serving::Port;
pub use serving::ServingFlags;
pub use tls::TlsFlags;

/// Bounds of the election timeout: below it a busy machine elects for ever, above it etcd refuses too.
const ELECTION_TIMEOUT_MS: std::ops::RangeInclusive<u64> = 100..=50_000;

/// Runs one member of the store and serves the etcd v3 API.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// YAML file with the names of flags and what they are; other flags and variables then say nothing, as in etcd
    #[arg(long, env = "ETCD_CONFIG_FILE")]
    pub config_file: Option<PathBuf>,
    /// Name of this member in the initial cluster
    #[arg(long, env = "ETCD_NAME", default_value = "default")]
    pub name: String,
    /// Directory that holds log and database
    #[arg(long, env = "ETCD_DATA_DIR", default_value = "default.keelson")]
    pub data_dir: PathBuf,
    /// Client URLs that other members tell clients
    #[arg(long, env = "ETCD_ADVERTISE_CLIENT_URLS", value_delimiter = ',')]
    pub advertise_client_urls: Vec<String>,
    /// URL to serve the other members on
    #[arg(
        long,
        env = "ETCD_LISTEN_PEER_URLS",
        default_value = "http://localhost:2380",
        value_delimiter = ','
    )]
    pub listen_peer_urls: Vec<String>,
    /// Peer URLs that other members reach this one at
    #[arg(long, env = "ETCD_INITIAL_ADVERTISE_PEER_URLS", value_delimiter = ',')]
    pub initial_advertise_peer_urls: Vec<String>,
    /// All members of the cluster, this one included: name=URL[,name=URL...]
    #[arg(long, env = "ETCD_INITIAL_CLUSTER", value_delimiter = ',')]
    pub initial_cluster: Vec<String>,
    /// Whether a member with an empty data directory forms a cluster or joins one that it was added to
    #[arg(long, env = "ETCD_INITIAL_CLUSTER_STATE", value_enum, default_value = "new")]
    pub initial_cluster_state: ClusterState,
    /// Peer URLs of running members; with an empty data directory, this one has itself added and votes once it has caught up
    #[arg(long, value_delimiter = ',', conflicts_with = "initial_cluster")]
    pub join: Vec<String>,
    /// With --join: id of the member whose vote this one takes over once it has caught up, and which then leaves for good
    #[arg(long, requires = "join", value_parser = member_id)]
    pub replace: Option<u64>,
    /// Keeps clusters with equal addresses apart
    #[arg(long, env = "ETCD_INITIAL_CLUSTER_TOKEN", default_value = "etcd-cluster")]
    pub initial_cluster_token: String,
    /// Not a way to start here: `keelson snapshot restore --from-data-dir` makes a new data directory instead
    #[arg(long, env = "ETCD_FORCE_NEW_CLUSTER", num_args = 0..=1, default_missing_value = "true", default_value_t = false, action = ArgAction::Set)]
    pub force_new_cluster: bool,
    /// Milliseconds of silence after which a member campaigns
    #[arg(long, env = "ETCD_ELECTION_TIMEOUT", default_value_t = 1000)]
    pub election_timeout: u64,
    /// Accepted for etcd's sake; heartbeats come ten times per election timeout
    #[arg(long, env = "ETCD_HEARTBEAT_INTERVAL")]
    pub heartbeat_interval: Option<u64>,
    /// Most bytes that keys, values and their history may take; 0 for as much as the disk has
    #[arg(long, env = "ETCD_QUOTA_BACKEND_BYTES", default_value_t = 0, allow_negative_numbers = true)]
    pub quota_backend_bytes: i64,
    /// Free bytes of the disk below which nothing is added while no majority has more; 0 for no reserve. Four log segments (256 MiB) and at most an eighth of the disk unless given
    #[arg(long)]
    pub disk_reserve_bytes: Option<u64>,
    /// How often members compare what they hold; 0 for never
    #[arg(
        long,
        alias = "experimental-corrupt-check-time",
        env = "ETCD_CORRUPT_CHECK_TIME",
        default_value = "1m"
    )]
    pub corrupt_check_time: String,
    /// Memory that the answers to clients' reads may take together, in bytes; by default a quarter of what the process may use
    #[arg(long, env = "KEELSON_STORE_READ_BUDGET_BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    pub read_budget_bytes: Option<u64>,
    /// Most steps of a branch, or compares, of a transaction
    #[arg(long, env = "ETCD_MAX_TXN_OPS", default_value_t = RequestLimits::default().txn_ops)]
    pub max_txn_ops: usize,
    /// Largest request in bytes, at most 33554432: what is large is slow for everyone
    #[arg(long, env = "ETCD_MAX_REQUEST_BYTES", default_value_t = RequestLimits::default().bytes)]
    pub max_request_bytes: usize,
    /// Entries of the log after which the state is made durable, so that they need not be read again at the next start; 0 for as many as the store sees fit
    #[arg(long, env = "ETCD_SNAPSHOT_COUNT")]
    pub snapshot_count: Option<u64>,
    /// Entries of the log that are kept behind that, for members that were away: who misses more takes a snapshot
    #[arg(long, alias = "experimental-snapshot-catchup-entries", env = "ETCD_SNAPSHOT_CATCHUP_ENTRIES")]
    pub snapshot_catchup_entries: Option<u64>,
    /// How history is measured that is forgotten without being asked
    #[arg(long, env = "ETCD_AUTO_COMPACTION_MODE", value_enum, default_value = "periodic")]
    pub auto_compaction_mode: AutoCompactionMode,
    /// How much history is kept: a duration such as 30m (a bare number is hours), or a number of revisions; 0 for all
    #[arg(long, env = "ETCD_AUTO_COMPACTION_RETENTION", default_value = "0")]
    pub auto_compaction_retention: String,
    /// Requests that take longer are logged, with where the time went
    #[arg(
        long,
        alias = "experimental-warning-apply-duration",
        env = "ETCD_WARNING_APPLY_DURATION",
        default_value = "100ms"
    )]
    pub warning_apply_duration: String,
    /// How often a watch that asked for it hears that nothing happened
    #[arg(
        long,
        alias = "experimental-watch-progress-notify-interval",
        env = "ETCD_WATCH_PROGRESS_NOTIFY_INTERVAL",
        default_value = "10m"
    )]
    pub watch_progress_notify_interval: String,
    /// What is logged at least; KEELSON_LOG says it in more detail
    #[arg(long, env = "ETCD_LOG_LEVEL", value_enum, default_value = "info")]
    pub log_level: LogLevel,
    /// Highest feature level that this member lets the cluster agree on: holds an upgrade back, so that the release before can still be gone back to
    #[arg(long, env = "KEELSON_STORE_FEATURE_LEVEL_MAX", value_parser = clap::value_parser!(u32).range(i64::from(Level::FIRST.0)..=i64::from(Level::HIGHEST.0)))]
    pub feature_level_max: Option<u32>,
    /// Tokens that clients get for their password: simple, or jwt,sign-method=RS256,priv-key=FILE,ttl=5m (pub-key=FILE alone checks tokens of others)
    #[arg(long, env = "ETCD_AUTH_TOKEN", default_value = "simple")]
    pub auth_token: String,
    /// Seconds that a simple token lives from its last use
    #[arg(long, env = "ETCD_AUTH_TOKEN_TTL", default_value_t = TOKEN_TTL.as_secs())]
    pub auth_token_ttl: u64,
    /// Cost of the hash of a new password: 4 to 31, each step twice the work
    #[arg(long, env = "ETCD_BCRYPT_COST", default_value_t = 10)]
    pub bcrypt_cost: u32,
    #[command(flatten)]
    pub serving: ServingFlags,
    #[command(flatten)]
    pub tls: TlsFlags,
    #[command(flatten)]
    pub etcd: EtcdFlags,
}

/// etcd's names of what is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogLevel {
    Debug,
    Info,
    Warn,
    /// The highest that there is here.
    #[value(aliases = ["dpanic", "panic", "fatal"])]
    Error,
}

impl LogLevel {
    /// Returns its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// What `--auto-compaction-retention` counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum AutoCompactionMode {
    Periodic,
    Revision,
}

/// Why `keelson store` ended.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The caller can mend it; nothing was written.
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Failed(String),
}

impl CliError {
    /// Returns the exit code of the process.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 64,
            Self::Failed(_) => 1,
        }
    }
}

impl From<MemberError> for CliError {
    fn from(error: MemberError) -> Self {
        let line = error_chain(&error);
        match error {
            // Damage and a full disk are the world's fault: the call was right, and may succeed later.
            MemberError::Directory(DirectoryError::Damaged { .. }) => Self::Failed(line),
            MemberError::Directory(DirectoryError::Io { source, .. }) if is_full(&source) => {
                Self::Failed(line)
            }
            MemberError::Start(reason) if reason.is_callers_mistake() => Self::Usage(line),
            MemberError::Directory(_)
            | MemberError::Listen { .. }
            | MemberError::NotInCluster
            | MemberError::Join(
                JoinError::NotAdded(_)
                | JoinError::OtherDirectory(_)
                | JoinError::Refused(_)
                | JoinError::Level(_),
            ) => Self::Usage(line),
            MemberError::Start(_)
            | MemberError::Join(JoinError::NobodyAnswers(_) | JoinError::NoLeader)
            | MemberError::Runtime(_) => Self::Failed(line),
        }
    }
}

/// Runs a member until `shutdown`.
///
/// # Errors
/// [`CliError::Usage`] before anything is written when flags, ports or data directory cannot be used.
pub async fn run(args: Args, shutdown: CancellationToken) -> Result<(), CliError> {
    let client_tls = args.tls.of_clients()?;
    let auth = auth_options(&args)?;
    let options = EtcdOptions {
        watch_progress_interval: progress_interval(&args)?,
        ports: args.serving.options()?,
        access: args.serving.access(),
    };
    let config = config(&args)?;
    Member::check(&config)?;
    let (ports, metrics_ports) = args.serving.listen(client_tls.as_ref()).await?;
    // The member ends after its clients have been served, so it has a token of its own.
    let member = Member::start(config, CancellationToken::new()).await?;
    announce(&args.name, &member, &ports);
    let budget = args.read_budget_bytes.map(ReadBudget::new).unwrap_or_default();
    let edge = Edge::new(&member).with_auth(auth).with_read_budget(budget);
    let mut serving = tokio::task::JoinSet::new();
    for Port { listener, tls } in ports {
        serving.spawn(etcd::serve(listener, tls, edge.clone(), options.clone(), shutdown.clone()));
    }
    for Port { listener, tls } in metrics_ports {
        serving.spawn(etcd::serve_metrics(listener, tls, edge.clone(), shutdown.clone()));
    }
    shutdown.cancelled().await;
    // Hands leadership over while requests in flight drain.
    member.stop().await;
    while serving.join_next().await.is_some() {}
    Ok(())
}

/// What the log takes as one record bounds what is asked for.
fn limits(args: &Args) -> Result<RequestLimits, CliError> {
    let most = RequestLimits::BYTES_MAX;
    if !(1..=most).contains(&args.max_request_bytes) {
        return Err(CliError::Usage(format!("--max-request-bytes must be between 1 and {most}")));
    }
    if args.max_txn_ops == 0 {
        return Err(CliError::Usage("--max-txn-ops must be at least 1".to_owned()));
    }
    Ok(RequestLimits { bytes: args.max_request_bytes, txn_ops: args.max_txn_ops })
}

fn announce(name: &str, member: &Member, ports: &[Port]) {
    let clients: Vec<SocketAddr> = ports.iter().filter_map(|port| port.listener.local_addr().ok()).collect();
    tracing::info!(name, peers = ?member.peer_address(), ?clients, "serving");
}

/// Turns flags into settings, or says in one line what is wrong with them.
///
/// # Errors
/// [`CliError::Usage`].
pub fn config(args: &Args) -> Result<Config, CliError> {
    args.etcd.check()?;
    let [listen_peer] = args.listen_peer_urls.as_slice() else {
        return Err(CliError::Usage("--listen-peer-urls takes exactly one URL".to_owned()));
    };
    if !ELECTION_TIMEOUT_MS.contains(&args.election_timeout) {
        return Err(CliError::Usage(format!(
            "--election-timeout must be between {} and {} ms",
            ELECTION_TIMEOUT_MS.start(),
            ELECTION_TIMEOUT_MS.end()
        )));
    }
    let advertised = or_default(&args.initial_advertise_peer_urls, &args.listen_peer_urls);
    if args.force_new_cluster {
        return Err(CliError::Usage(forcing(args, &advertised)));
    }
    for url in advertised.iter().chain(&args.advertise_client_urls).chain(&args.join) {
        address(url)?;
    }
    let initial_cluster = initial_cluster(&args.initial_cluster, &args.name, &advertised)?;
    // Who belongs to the cluster is known then, and flags about a new one mean nothing, as in etcd.
    if !directory::says_who(&args.data_dir, args.initial_cluster_state) {
        check_named(&initial_cluster, &args.name, &advertised)?;
    }
    Ok(Config {
        data_dir: args.data_dir.clone(),
        name: args.name.clone(),
        listen_peer: address(listen_peer)?,
        advertise_peer_urls: advertised,
        advertise_client_urls: or_default(&args.advertise_client_urls, &args.serving.listen_client_urls),
        initial_cluster,
        cluster_state: args.initial_cluster_state,
        join: (!args.join.is_empty()).then(|| Join { contacts: args.join.clone(), replaces: args.replace }),
        cluster_token: args.initial_cluster_token.clone(),
        timing: Timing { election_timeout: Duration::from_millis(args.election_timeout) },
        wal: WalConfig::default(),
        snapshot_entries: args.snapshot_count.filter(|count| *count > 0).unwrap_or(SNAPSHOT_ENTRIES),
        entries_kept: args.snapshot_catchup_entries,
        auto_compaction: auto_compaction(args)?,
        token_ttl: Duration::from_secs(args.auth_token_ttl),
        slow_after: duration("--warning-apply-duration", &args.warning_apply_duration)?,
        limits: limits(args)?,
        watches: watch::Limits::default(),
        compare_interval: duration("--corrupt-check-time", &args.corrupt_check_time)?,
        disk_reserve_bytes: args.disk_reserve_bytes,
        levels: args.feature_level_max.map_or(Levels::SUPPORTED, |max| Levels::up_to(Level(max))),
        quota_bytes: u64::try_from(args.quota_backend_bytes).unwrap_or(0),
        peer_tls: peer_tls(args, listen_peer)?,
        fatal: None,
    })
}

/// Says which command etcd's flag stands for: it would change the only copy that is left, at every start anew.
fn forcing(args: &Args, advertised: &[String]) -> String {
    let (data_dir, name) = (args.data_dir.display(), &args.name);
    let cluster: Vec<String> = advertised.iter().map(|url| format!("{name}={url}")).collect();
    format!(
        "--force-new-cluster is done once, by another command: keelson snapshot restore --from-data-dir {data_dir} --data-dir \
         {data_dir}.new --name {name} --initial-cluster {} --initial-advertise-peer-urls {}; then start with --data-dir \
         {data_dir}.new and without this flag",
        cluster.join(","),
        advertised.join(",")
    )
}

fn auto_compaction(args: &Args) -> Result<AutoCompaction, CliError> {
    let text = args.auto_compaction_retention.as_str();
    let number: Option<i64> = text.parse().ok();
    let wrong = |wanted: &str| {
        CliError::Usage(format!("--auto-compaction-retention={text} is not {wanted}; 0 keeps all history"))
    };
    match (args.auto_compaction_mode, number) {
        (_, Some(0)) => Ok(AutoCompaction::Off),
        (AutoCompactionMode::Revision, Some(kept)) if kept > 0 => Ok(AutoCompaction::Revisions(kept)),
        (AutoCompactionMode::Revision, _) => Err(wrong("a number of revisions such as 1000")),
        (AutoCompactionMode::Periodic, number) => {
            // As etcd: a bare number is hours.
            let retention = match number {
                Some(hours) => u64::try_from(hours).ok().and_then(|hours| hours.checked_mul(3600)),
                None => None,
            };
            let parsed =
                || text.parse::<jiff::SignedDuration>().ok().and_then(|parsed| parsed.try_into().ok());
            match retention.map(Duration::from_secs).or_else(parsed) {
                Some(retention) if retention > Duration::ZERO => Ok(AutoCompaction::Periodic(retention)),
                Some(_) | None => Err(wrong("a duration such as 30m")),
            }
        }
    }
}

fn duration(flag: &str, text: &str) -> Result<Duration, CliError> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let parsed = text.parse::<jiff::SignedDuration>().ok().and_then(|parsed| parsed.try_into().ok());
    parsed.ok_or_else(|| CliError::Usage(format!("{flag}={text} is not a duration such as 100ms")))
}

fn progress_interval(args: &Args) -> Result<Duration, CliError> {
    let (flag, text) = ("--watch-progress-notify-interval", &args.watch_progress_notify_interval);
    match duration(flag, text)? {
        Duration::ZERO => Err(CliError::Usage(format!("{flag}={text} must be more than nothing"))),
        interval => Ok(interval),
    }
}

fn auth_options(args: &Args) -> Result<AuthOptions, CliError> {
    let tokens = TokenKind::read(&args.auth_token)
        .map_err(|error| CliError::Usage(format!("--auth-token={}: {error}", args.auth_token)))?;
    let certificate_names =
        if args.tls.client_cert_auth { CertificateNames::AreUsers } else { CertificateNames::Ignored };
    Ok(AuthOptions { certificate_names, tokens, bcrypt_cost: BcryptCost::new(args.bcrypt_cost) })
}

/// Members speak TLS where the URL says so, and there must be certificates then.
fn peer_tls(args: &Args, listen_peer: &str) -> Result<Option<PeerTls>, CliError> {
    let tls = args.tls.of_members()?;
    match (listen_peer.starts_with("https://"), tls.is_some()) {
        (true, false) => Err(CliError::Usage(format!(
            "{listen_peer} needs --peer-cert-file, --peer-key-file and --peer-trusted-ca-file"
        ))),
        (false, true) => Err(CliError::Usage(format!(
            "{listen_peer} is not an https URL, but --peer-cert-file is given: members would meet without certificates"
        ))),
        (true, true) | (false, false) => Ok(tls),
    }
}

fn or_default(urls: &[String], default: &[String]) -> Vec<String> {
    if urls.is_empty() { default.to_vec() } else { urls.to_vec() }
}

fn sorted(urls: &[String]) -> Vec<String> {
    let mut urls = urls.to_vec();
    urls.sort();
    urls
}

/// Reads the members of a cluster: this one alone when none is named. A member with several URLs is named several times, as in etcd.
pub(crate) fn initial_cluster(
    pairs: &[String],
    own_name: &str,
    advertised: &[String],
) -> Result<Vec<InitialMember>, CliError> {
    if pairs.is_empty() {
        return Ok(vec![InitialMember { name: own_name.to_owned(), peer_urls: advertised.to_vec() }]);
    }
    let mut members: Vec<InitialMember> = Vec::new();
    for pair in pairs {
        let (name, url) = pair
            .split_once('=')
            .ok_or_else(|| CliError::Usage(format!("--initial-cluster: {pair} is not name=URL")))?;
        address(url)?;
        match members.iter_mut().find(|member| member.name == name) {
            Some(member) => member.peer_urls.push(url.to_owned()),
            None => members.push(InitialMember { name: name.to_owned(), peer_urls: vec![url.to_owned()] }),
        }
    }
    Ok(members)
}

/// Reads a member id, in hexadecimal digits as it is shown everywhere.
pub(crate) fn member_id(text: &str) -> Result<u64, String> {
    u64::from_str_radix(text, 16).map_err(|_| format!("{text} is not a member id such as 8e9e05c52164694d"))
}

/// Refuses a cluster that does not name a member with just its URLs.
pub(crate) fn check_named(
    cluster: &[InitialMember],
    name: &str,
    advertised: &[String],
) -> Result<(), CliError> {
    let own = cluster.iter().find(|member| member.name == name);
    if own.is_some_and(|member| sorted(&member.peer_urls) == sorted(advertised)) {
        return Ok(());
    }
    Err(CliError::Usage(format!("--initial-cluster does not name {name}={}", advertised.join(","))))
}

/// Returns `host:port` of a URL.
pub(crate) fn address(url: &str) -> Result<String, CliError> {
    let usage = || CliError::Usage(format!("{url} is not a URL of the form http://host:port"));
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")).ok_or_else(usage)?;
    let rest = rest.trim_end_matches('/');
    let (host, port) = rest.rsplit_once(':').ok_or_else(usage)?;
    if host.is_empty() || rest.contains('/') || port.parse::<u16>().is_err() {
        return Err(usage());
    }
    Ok(rest.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn parse(flags: &[&str]) -> Result<Config, String> {
        let all = std::iter::once("store").chain(flags.iter().copied());
        let cli = Cli::try_parse_from(all).map_err(|error| error.to_string())?;
        config(&cli.args).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_of_a_three_member_cluster_give_every_member_the_same_ids() {
        let cluster = "a=http://127.0.0.1:1,b=http://127.0.0.1:2,c=http://127.0.0.1:3";
        let configs: Vec<Config> = [("a", 1), ("b", 2), ("c", 3)]
            .map(|(name, port)| {
                let url = format!("http://127.0.0.1:{port}");
                let flags = ["--name", name, "--listen-peer-urls", &url, "--initial-cluster", cluster];
                parse(&flags).unwrap()
            })
            .into();
        for config in &configs {
            assert_eq!(config.cluster_id(), configs[0].cluster_id());
            assert_eq!(config.initial_ids(), configs[0].initial_ids());
            assert_eq!(config.initial_ids().len(), 3);
        }
    }

    #[test]
    fn the_retention_of_history_is_read_as_etcd_reads_it() {
        let retention = |flags: &[&str]| parse(flags).map(|config| config.auto_compaction);
        let periodic = |seconds| Ok(AutoCompaction::Periodic(Duration::from_secs(seconds)));
        assert_eq!(retention(&[]), Ok(AutoCompaction::Off));
        assert_eq!(retention(&["--auto-compaction-retention=1"]), periodic(3600));
        assert_eq!(retention(&["--auto-compaction-retention=1h30m"]), periodic(5400));
        assert_eq!(retention(&["--auto-compaction-retention=10s"]), periodic(10));
        let revisions = ["--auto-compaction-mode=revision", "--auto-compaction-retention=1000"];
        assert_eq!(retention(&revisions), Ok(AutoCompaction::Revisions(1000)));
        for wrong in ["soon", "-1h", "-5"] {
            let flag = format!("--auto-compaction-retention={wrong}");
            assert!(retention(&[&flag]).unwrap_err().contains("a duration such as 30m"));
        }
        let wrong = ["--auto-compaction-mode=revision", "--auto-compaction-retention=1h"];
        assert!(retention(&wrong).unwrap_err().contains("a number of revisions"));
    }

    /// Of etcd 3.5 and of 3.6, but for the certificates and with them TLS between members.
    #[test]
    fn the_flags_of_kubeadms_manifests_are_taken() {
        let both = [
            "--advertise-client-urls=https://10.0.0.1:2379",
            "--client-cert-auth=false",
            "--peer-client-cert-auth=false",
            "--initial-advertise-peer-urls=http://10.0.0.1:2380",
            "--initial-cluster=m=http://10.0.0.1:2380",
            "--listen-client-urls=https://127.0.0.1:2379,https://10.0.0.1:2379",
            "--listen-metrics-urls=http://127.0.0.1:2381",
            "--listen-peer-urls=http://10.0.0.1:2380",
            "--name=m",
            "--snapshot-count=10000",
        ];
        let older =
            ["--experimental-initial-corrupt-check=true", "--experimental-watch-progress-notify-interval=5s"];
        let newer = ["--feature-gates=InitialCorruptCheck=true", "--watch-progress-notify-interval=5s"];
        for others in [older, newer] {
            let flags: Vec<&str> = both.iter().chain(&others).copied().collect();
            parse(&flags).unwrap();
            let cli = Cli::try_parse_from(std::iter::once("store").chain(flags)).unwrap();
            assert_eq!(progress_interval(&cli.args).unwrap(), Duration::from_secs(5));
        }
        let wrong = Cli::try_parse_from(["store", "--watch-progress-notify-interval=0"]).unwrap();
        assert!(progress_interval(&wrong.args).is_err());
    }

    #[test]
    fn wrong_flags_are_named_in_one_line() {
        let cases: [(&[&str], &str); 19] = [
            (&["--listen-peer-urls", "127.0.0.1:1"], "is not a URL"),
            (&["--initial-cluster", "x=http://127.0.0.1:1"], "does not name default"),
            (&["--initial-cluster", "nonsense"], "is not name=URL"),
            (&["--election-timeout", "1"], "--election-timeout must be"),
            (&["--cert-file", "x"], "--key-file"),
            (&["--listen-peer-urls=https://127.0.0.1:1"], "needs --peer-cert-file"),
            (&["--peer-cert-allowed-cn=a"], "--peer-trusted-ca-file"),
            (&["--discovery=http://127.0.0.1:1"], "name the members with --initial-cluster"),
            (&["--socket-reuse-port"], "--socket-reuse-port can only be false here"),
            (&["--client-cert-auth=true"], "--trusted-ca-file"),
            (&["--peer-client-cert-auth=true"], "--peer-trusted-ca-file"),
            (&["--pre-vote=false"], "--pre-vote can only be true here"),
            (&["--unsafe-no-fsync"], "--unsafe-no-fsync can only be false here"),
            (&["--max-request-bytes=33554433"], "--max-request-bytes must be between 1 and 33554432"),
            (&["--max-txn-ops=0"], "--max-txn-ops must be at least 1"),
            (&["--feature-gates=InitialCorruptCheck=false"], "it is always true here"),
            (&["--feature-gates=Nonsense=true"], "no such gate; there are CompactHashCheck,"),
            (&["--feature-gates=Nonsense"], "is not NAME=true"),
            (
                &["--force-new-cluster", "--data-dir", "d", "--name", "m"],
                "keelson snapshot restore --from-data-dir d --data-dir d.new --name m --initial-cluster m=http://localhost:2380 \
                 --initial-advertise-peer-urls http://localhost:2380;",
            ),
        ];
        for (flags, expected) in cases {
            let message = parse(flags).map(|_| ()).unwrap_err();
            assert!(message.contains(expected), "{flags:?}: {message}");
        }
    }
}
