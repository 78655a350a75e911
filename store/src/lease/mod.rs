//! Lease time. Which leases exist is replicated state (`mvcc`); how much time they have left is known to one member only,
//! the primary, by its own monotonic clock. A stopped or cut-off primary makes leases live longer, never shorter.

mod change;
mod primary;

pub use change::{LeaseChange, PendingGrant};
pub use primary::{ExpiryLimits, Primary, Renewal};

use std::time::Duration;

use crate::kv::KvError;

/// Longest time to live that is accepted, in seconds (etcd's limit).
const TTL_SECONDS_MAX: i64 = 9_000_000_000;

/// Returns the time to live to grant, in whole seconds: at least one and a half election timeouts, so that a change of
/// leader alone never costs a lease.
///
/// # Errors
/// [`KvError::LeaseTtlTooLarge`].
pub fn granted_ttl_seconds(asked: Duration, election_timeout: Duration) -> Result<i64, KvError> {
    let asked = i64::try_from(asked.as_secs()).map_err(|_| KvError::LeaseTtlTooLarge)?;
    if asked > TTL_SECONDS_MAX {
        return Err(KvError::LeaseTtlTooLarge);
    }
    let least = election_timeout * 3 / 2;
    let least = least.as_secs() + u64::from(least.subsec_nanos() > 0);
    let least = i64::try_from(least).map_err(|_| KvError::LeaseTtlTooLarge)?;
    Ok(asked.max(least))
}
