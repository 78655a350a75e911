//! The lease that an entry lives by: the caller's, or one that is made for the call.

use std::time::Duration;

use super::ContestError;
use crate::kv::{Kv, KvError};
use crate::mvcc::LeaseId;

/// Time to live of a lease that the caller did not bring (etcd's number).
const SESSION_TTL: Duration = Duration::from_secs(60);
/// Between two renewals: two may be lost.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// A lease with who looks after it.
pub(super) struct Session {
    pub(super) lease: LeaseId,
    /// Made here, for this call. Its caller learns of it only when the call succeeds, and must renew it from then on.
    pub(super) is_ours: bool,
}

impl Session {
    /// Returns the session of `lease`, or of a new one for [`LeaseId::NONE`].
    pub(super) async fn open(kv: &dyn Kv, lease: LeaseId) -> Result<Self, KvError> {
        if lease != LeaseId::NONE {
            return Ok(Self { lease, is_ours: false });
        }
        let granted = kv.lease_grant(LeaseId::NONE, SESSION_TTL).await?;
        Ok(Self { lease: granted.id, is_ours: true })
    }

    /// Renews a lease of ours for as long as this is polled; ends when there is nothing left to renew.
    pub(super) async fn keep(&self, kv: &dyn Kv) -> ContestError {
        if !self.is_ours {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(KEEP_ALIVE_INTERVAL).await;
            // Without a leader the lease does not end either; the next round tries again.
            if kv.lease_keep_alive(self.lease).await == Err(KvError::LeaseNotFound) {
                return ContestError::SessionExpired;
            }
        }
    }
}
