//! Flags of etcd that change nothing here. They are taken so that what starts an etcd (kubeadm's manifest, a unit file) starts a
//! member: what they ask for is always so, or the store decides it by itself. What they would switch off or on against that is
//! refused with the reason, never ignored.

use crate::cli::CliError;

const HEADING: &str = "Taken for etcd's sake";

/// Gates of etcd 3.6 and 3.7, each with whether its feature is always there.
const GATES: [(&str, bool); 7] = [
    ("CompactHashCheck", true),
    ("InitialCorruptCheck", true),
    ("LeaseCheckpoint", true),
    ("LeaseCheckpointPersist", true),
    ("SetMemberLocalAddr", false),
    ("StopGRPCServiceOnDefrag", false),
    ("TxnModeWriteWithSharedBuffer", true),
];
/// See the module.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = HEADING)]
pub struct EtcdFlags {
    /// One state is kept
    #[arg(long, env = "ETCD_MAX_SNAPSHOTS")]
    pub max_snapshots: Option<u64>,
    /// Log segments are used again
    #[arg(long, env = "ETCD_MAX_WALS")]
    pub max_wals: Option<u64>,
    /// Members always show each other certificates where they have some
    #[arg(
        long,
        env = "ETCD_PEER_CLIENT_CERT_AUTH",
        num_args = 0..=1,
        default_missing_value = "true",
        requires_if("true", "peer_trusted_ca_file")
    )]
    pub peer_client_cert_auth: Option<bool>,
    /// Every start checks the state against its digest
    #[arg(
        long,
        alias = "experimental-initial-corrupt-check",
        env = "ETCD_INITIAL_CORRUPT_CHECK",
        num_args = 0..=1,
        default_missing_value = "true"
    )]
    pub initial_corrupt_check: Option<bool>,
    /// Leases always keep the time that they have left
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    pub experimental_enable_lease_checkpoint: Option<bool>,
    /// Leases always keep the time that they have left
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    pub experimental_enable_lease_checkpoint_persist: Option<bool>,
    /// Features that etcd switches with gates, as NAME=true[,NAME=false...]
    #[arg(long, env = "ETCD_FEATURE_GATES", value_delimiter = ',')]
    pub feature_gates: Vec<String>,
    /// Changes of members that would stop the cluster are always refused
    #[arg(long, env = "ETCD_STRICT_RECONFIG_CHECK", num_args = 0..=1, default_missing_value = "true")]
    pub strict_reconfig_check: Option<bool>,
    /// Members always ask before they campaign
    #[arg(long, env = "ETCD_PRE_VOTE", num_args = 0..=1, default_missing_value = "true")]
    pub pre_vote: Option<bool>,
    /// There is no v2 API
    #[arg(long, env = "ETCD_ENABLE_V2", num_args = 0..=1, default_missing_value = "true")]
    pub enable_v2: Option<bool>,
    /// Certificates are given, not made up
    #[arg(long, env = "ETCD_AUTO_TLS", num_args = 0..=1, default_missing_value = "true")]
    pub auto_tls: Option<bool>,
    /// Certificates are given, not made up
    #[arg(long, env = "ETCD_PEER_AUTO_TLS", num_args = 0..=1, default_missing_value = "true")]
    pub peer_auto_tls: Option<bool>,
    /// What is acknowledged is on the disk
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    pub unsafe_no_fsync: Option<bool>,
    /// No profiles are served
    #[arg(long, env = "ETCD_ENABLE_PPROF", num_args = 0..=1, default_missing_value = "true")]
    pub enable_pprof: Option<bool>,
    /// All metrics are always served
    #[arg(long, env = "ETCD_METRICS", value_parser = ["basic", "extensive"])]
    pub metrics: Option<String>,
    /// The log is always written as fields
    #[arg(long, env = "ETCD_LOGGER", value_parser = ["zap"])]
    pub logger: Option<String>,
    /// The log is always written as fields
    #[arg(long, env = "ETCD_LOG_FORMAT", value_parser = ["json", "console"])]
    pub log_format: Option<String>,
    /// The log always goes to standard error
    #[arg(long, env = "ETCD_LOG_OUTPUTS", value_parser = ["default", "stderr"], value_delimiter = ',')]
    pub log_outputs: Vec<String>,
    /// Whoever reads standard error rotates it
    #[arg(long, env = "ETCD_ENABLE_LOG_ROTATION", num_args = 0..=1, default_missing_value = "true")]
    pub enable_log_rotation: Option<bool>,
    /// There is no rotation to configure
    #[arg(long, env = "ETCD_LOG_ROTATION_CONFIG_JSON")]
    pub log_rotation_config_json: Option<String>,
    /// Clients may ask for signs of life as often as they like
    #[arg(long, env = "ETCD_GRPC_KEEPALIVE_MIN_TIME")]
    pub grpc_keepalive_min_time: Option<String>,
    /// Ports can be taken again at once after a member ended
    #[arg(long, env = "ETCD_SOCKET_REUSE_ADDRESS", num_args = 0..=1, default_missing_value = "true")]
    pub socket_reuse_address: Option<bool>,
    /// Each port belongs to one process
    #[arg(long, env = "ETCD_SOCKET_REUSE_PORT", num_args = 0..=1, default_missing_value = "true")]
    pub socket_reuse_port: Option<bool>,
    /// The JSON gateway is always served
    #[arg(long, env = "ETCD_ENABLE_GRPC_GATEWAY", num_args = 0..=1, default_missing_value = "true")]
    pub enable_grpc_gateway: Option<bool>,
    /// The gateway needs no connection of its own
    #[arg(long, env = "ETCD_CLIENT_CERT_FILE")]
    pub client_cert_file: Option<String>,
    /// The gateway needs no connection of its own
    #[arg(long, env = "ETCD_CLIENT_KEY_FILE")]
    pub client_key_file: Option<String>,
    /// Certificates are given, not made up
    #[arg(long, env = "ETCD_SELF_SIGNED_CERT_VALIDITY")]
    pub self_signed_cert_validity: Option<u64>,
    /// Addresses in a member's certificate are not compared with where it calls from
    #[arg(long, alias = "experimental-peer-skip-client-san-verification", env = "ETCD_PEER_SKIP_CLIENT_SAN_VERIFICATION", num_args = 0..=1, default_missing_value = "true")]
    pub peer_skip_client_san_verification: Option<bool>,
    /// A first election is never waited for longer than needed
    #[arg(long, env = "ETCD_INITIAL_ELECTION_TICK_ADVANCE", num_args = 0..=1, default_missing_value = "true")]
    pub initial_election_tick_advance: Option<bool>,
    /// Writes are put together by how fast the disk is
    #[arg(long, env = "ETCD_BACKEND_BATCH_INTERVAL")]
    pub backend_batch_interval: Option<String>,
    /// Writes are put together by how fast the disk is
    #[arg(long, env = "ETCD_BACKEND_BATCH_LIMIT")]
    pub backend_batch_limit: Option<u64>,
    /// The database is another one
    #[arg(long, env = "ETCD_BACKEND_BBOLT_FREELIST_TYPE", value_parser = ["map", "array"])]
    pub backend_bbolt_freelist_type: Option<String>,
    /// Space comes back by itself
    #[arg(
        long,
        alias = "experimental-bootstrap-defrag-threshold-megabytes",
        env = "ETCD_BOOTSTRAP_DEFRAG_THRESHOLD_MEGABYTES"
    )]
    pub bootstrap_defrag_threshold_megabytes: Option<u64>,
    /// Collection gives way by itself
    #[arg(long, alias = "experimental-compaction-batch-limit", env = "ETCD_COMPACTION_BATCH_LIMIT")]
    pub compaction_batch_limit: Option<u64>,
    /// Collection gives way by itself
    #[arg(long, alias = "experimental-compaction-sleep-interval", env = "ETCD_COMPACTION_SLEEP_INTERVAL")]
    pub compaction_sleep_interval: Option<String>,
    /// Members compare what they hold by --corrupt-check-time
    #[arg(long, alias = "experimental-compact-hash-check-enabled", env = "ETCD_COMPACT_HASH_CHECK_ENABLED", num_args = 0..=1, default_missing_value = "true")]
    pub compact_hash_check_enabled: Option<bool>,
    /// Members compare what they hold by --corrupt-check-time
    #[arg(long, alias = "experimental-compact-hash-check-time", env = "ETCD_COMPACT_HASH_CHECK_TIME")]
    pub compact_hash_check_time: Option<String>,
    /// All slow requests are logged by --warning-apply-duration
    #[arg(
        long,
        alias = "experimental-warning-unary-request-duration",
        env = "ETCD_WARNING_UNARY_REQUEST_DURATION"
    )]
    pub warning_unary_request_duration: Option<String>,
    /// A downgrade is looked after as soon as it is asked for
    #[arg(long, alias = "experimental-downgrade-check-time", env = "ETCD_DOWNGRADE_CHECK_TIME")]
    pub downgrade_check_time: Option<String>,
    /// One learner may stay one at a time; those that are to vote are not counted
    #[arg(long, alias = "experimental-max-learners", env = "ETCD_MAX_LEARNERS", value_parser = clap::value_parser!(u32).range(1..=1))]
    pub max_learners: Option<u32>,
    /// Memory is not locked
    #[arg(long, alias = "experimental-memory-mlock", env = "ETCD_MEMORY_MLOCK", num_args = 0..=1, default_missing_value = "true")]
    pub memory_mlock: Option<bool>,
    /// No traces are exported
    #[arg(long, alias = "experimental-enable-distributed-tracing", env = "ETCD_ENABLE_DISTRIBUTED_TRACING", num_args = 0..=1, default_missing_value = "true")]
    pub enable_distributed_tracing: Option<bool>,
    /// There is no v2 API
    #[arg(long, env = "ETCD_V2_DEPRECATION", value_parser = ["not-yet", "write-only", "write-only-drop-data", "gone"])]
    pub v2_deprecation: Option<String>,
    /// There is no proxy mode
    #[arg(long, env = "ETCD_PROXY", value_parser = ["off"])]
    pub proxy: Option<String>,
    /// Other logs are not told apart
    #[arg(long, env = "ETCD_DEBUG", num_args = 0..=1, default_missing_value = "true")]
    pub debug: Option<bool>,
    /// Members are not looked up
    #[arg(long, env = "ETCD_DISCOVERY")]
    pub discovery: Option<String>,
    /// Members are not looked up
    #[arg(long, env = "ETCD_DISCOVERY_SRV")]
    pub discovery_srv: Option<String>,
    /// The log is kept in the data directory
    #[arg(long, env = "ETCD_WAL_DIR")]
    pub wal_dir: Option<String>,
}

impl EtcdFlags {
    /// Refuses what would have to change something.
    ///
    /// # Errors
    /// [`CliError::Usage`], in one line that says what holds here.
    pub(crate) fn check(&self) -> Result<(), CliError> {
        let switches = [
            (
                self.strict_reconfig_check,
                true,
                "--strict-reconfig-check",
                "unsafe changes of members are always refused",
            ),
            (self.pre_vote, true, "--pre-vote", "members always ask before they campaign"),
            (self.enable_v2, false, "--enable-v2", "there is no v2 API"),
            (self.auto_tls, false, "--auto-tls", "give certificates with --cert-file and --key-file"),
            (
                self.peer_auto_tls,
                false,
                "--peer-auto-tls",
                "give certificates with --peer-cert-file and --peer-key-file",
            ),
            (self.unsafe_no_fsync, false, "--unsafe-no-fsync", "what is acknowledged is on the disk"),
            (self.enable_pprof, false, "--enable-pprof", "no profiles are served"),
            (self.enable_log_rotation, false, "--enable-log-rotation", "the log goes to standard error"),
            (self.socket_reuse_port, false, "--socket-reuse-port", "each port belongs to one process"),
            (self.enable_grpc_gateway, true, "--enable-grpc-gateway", "the JSON gateway is always served"),
            (self.memory_mlock, false, "--memory-mlock", "memory is not locked"),
            (
                self.enable_distributed_tracing,
                false,
                "--enable-distributed-tracing",
                "no traces are exported",
            ),
            (self.debug, false, "--debug", "ask for more with --log-level=debug"),
        ];
        for (given, held, flag, why) in switches {
            if given.is_some_and(|given| given != held) {
                return Err(CliError::Usage(format!("{flag} can only be {held} here: {why}")));
            }
        }
        let advice = [
            (
                &self.discovery,
                "--discovery",
                "name the members with --initial-cluster, or one of them with --join",
            ),
            (
                &self.discovery_srv,
                "--discovery-srv",
                "name the members with --initial-cluster, or one of them with --join",
            ),
            (
                &self.wal_dir,
                "--wal-dir",
                "the log is kept in --data-dir; mount another disk at its folder `wal`",
            ),
        ];
        for (given, flag, advice) in advice {
            if given.as_ref().is_some_and(|given| !given.is_empty()) {
                return Err(CliError::Usage(format!("{flag} is not implemented: {advice}")));
            }
        }
        self.feature_gates.iter().try_for_each(|gate| check_gate(gate))
    }
}

fn check_gate(gate: &str) -> Result<(), CliError> {
    let refused = |why: String| Err(CliError::Usage(format!("--feature-gates={gate}: {why}")));
    let Some((name, given)) = gate.split_once('=') else {
        return refused("is not NAME=true or NAME=false".to_owned());
    };
    let Some((_, held)) = GATES.iter().find(|(known, _)| *known == name) else {
        let known: Vec<&str> = GATES.iter().map(|(known, _)| *known).collect();
        return refused(format!("no such gate; there are {}", known.join(", ")));
    };
    match given.parse::<bool>() {
        Ok(given) if given == *held => Ok(()),
        Ok(_) => refused(format!("it is always {held} here")),
        Err(_) => refused("is not NAME=true or NAME=false".to_owned()),
    }
}
