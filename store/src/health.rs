//! Whether this member can serve: one judgement, made when somebody asks, for gRPC health and the HTTP checks.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::kv::{Consistency, Kv};
use crate::mvcc::{KeyRange, Range};

/// A member that did not hear from its leader for this long may have lost it without knowing: three election timeouts.
const LEADER_SILENCE_MAX: Duration = Duration::from_secs(3);
/// A read that takes longer than this counts as failed.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// What the checks read; it need not exist.
const PROBE_KEY: &[u8] = b"health";

/// What stands between a member and its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Trouble {
    #[error("the server is stopping")]
    Ending,
    #[error("no leader")]
    NoLeader,
}

/// Judges one member.
#[derive(Clone)]
pub(crate) struct Health {
    kv: Arc<dyn Kv>,
    ending: CancellationToken,
}

impl Health {
    /// Returns the judge of the member behind `kv`, which stops taking calls when `ending` is cancelled.
    pub(crate) fn new(kv: Arc<dyn Kv>, ending: CancellationToken) -> Self {
        Self { kv, ending }
    }

    /// Says whether the member can serve, without asking anyone.
    pub(crate) fn check(&self) -> Result<(), Trouble> {
        if self.is_ending() {
            return Err(Trouble::Ending);
        }
        self.check_leader()
    }

    /// Says whether the member hears from a leader.
    pub(crate) fn check_leader(&self) -> Result<(), Trouble> {
        let status = self.kv.status();
        let has_leader = status.leader_id != 0 && status.leader_silence <= LEADER_SILENCE_MAX;
        if has_leader { Ok(()) } else { Err(Trouble::NoLeader) }
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.ending.is_cancelled()
    }

    /// Returns when the member begins to end.
    pub(crate) async fn ended(&self) {
        self.ending.cancelled().await;
    }

    /// Reads, with a quorum's word or without; the error is text for a person.
    pub(crate) async fn read(&self, consistency: Consistency) -> Result<(), String> {
        let probe = Range { limit: 1, keys_only: true, ..Range::new(KeyRange::single(PROBE_KEY)) };
        match tokio::time::timeout(READ_TIMEOUT, self.kv.range(probe, consistency)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the read timed out".to_owned()),
        }
    }
}
