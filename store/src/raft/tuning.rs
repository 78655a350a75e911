//! What openraft is told: times, and how much it does at once.

use std::time::Duration;

use openraft::SnapshotPolicy;

use super::node::{NodeConfig, StartError};

/// Entries of one replication message; `log_store` cuts it by bytes as well.
const PAYLOAD_ENTRIES_MAX: u64 = 1024;
/// Proposals that queue for the core; more wait in their callers.
const API_QUEUE_MAX: u64 = 4096;
/// Entries kept behind a snapshot for followers that are a little behind.
const ENTRIES_KEPT: u64 = 10_000;
/// A follower further behind than this gets a snapshot instead of entries.
const LAG_ENTRIES_MAX: u64 = 200_000;

pub(super) fn raft_config(config: &NodeConfig) -> Result<openraft::Config, StartError> {
    let timing = &config.timing;
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let wanted = openraft::Config {
        cluster_name: format!("{:x}", config.identity.cluster_id),
        heartbeat_interval: millis(timing.heartbeat()),
        election_timeout_min: millis(timing.election_min()),
        election_timeout_max: millis(timing.election_max()),
        max_payload_entries: PAYLOAD_ENTRIES_MAX,
        api_channel_size: Some(API_QUEUE_MAX),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(config.snapshot_entries),
        max_in_snapshot_log_to_keep: config.entries_kept.unwrap_or(ENTRIES_KEPT),
        replication_lag_threshold: LAG_ENTRIES_MAX.max(config.snapshot_entries * 2),
        // A restarted leader must be elected anew: what it had applied may not have been flushed.
        enable_leader_restore: Some(false),
        enable_pre_vote: Some(true),
        allow_log_reversion: None,
        install_snapshot_timeout: millis(Duration::from_secs(600)),
        ..openraft::Config::default()
    };
    wanted.validate().map_err(|error| StartError::Raft(error.to_string()))
}
