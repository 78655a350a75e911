//! A server's own record: a key on a store lease, so it falls when the server no longer renews it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use store::kv::{Kv, KvError};
use store::mvcc::{LeaseId, Op, Txn};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::storage::condition::put;
use crate::storage::keys::SERVERS;

/// Silence after which a server is no endpoint any more, as upstream.
const TTL: Duration = Duration::from_secs(15);
/// Time between renewals, so that two may be lost.
const RENEWAL: Duration = Duration::from_secs(5);
/// Pause after a failed registration, while the store has no leader.
const RETRY: Duration = Duration::from_secs(1);
/// How long a stopping server tries to take its record back; without a quorum the lease does it later.
const WITHDRAWAL_TIMEOUT: Duration = Duration::from_secs(2);
/// The record says all with its key; the value is for readers of a later version.
const RECORD: &str = r#"{"version":1}"#;

/// Keeps the record until shutdown, then takes it back.
pub(super) async fn keep(kv: Arc<dyn Kv>, address: SocketAddr, shutdown: CancellationToken) {
    let mut lease = None;
    while !shutdown.is_cancelled() {
        let Some(renewed) = shutdown.run_until_cancelled(renew(kv.as_ref(), address, lease)).await else {
            break;
        };
        let pause = if renewed.is_ok() { RENEWAL } else { RETRY };
        match renewed {
            Ok(held) => lease = Some(held),
            Err(KvError::LeaseNotFound) => lease = None,
            Err(error) => warn!(%address, %error, "this server's registration cannot be renewed now"),
        }
        shutdown.run_until_cancelled(tokio::time::sleep(pause)).await;
    }
    if let Some(lease) = lease {
        let _expires_anyway = tokio::time::timeout(WITHDRAWAL_TIMEOUT, kv.lease_revoke(lease)).await;
    }
}

/// Renews the lease, or writes the record on a new one.
async fn renew(kv: &dyn Kv, address: SocketAddr, lease: Option<LeaseId>) -> Result<LeaseId, KvError> {
    if let Some(lease) = lease {
        return kv.lease_keep_alive(lease).await.map(|_ttl| lease);
    }
    let lease = kv.lease_grant(LeaseId::NONE, TTL).await?.id;
    let mut record = put(format!("{SERVERS}{address}"), RECORD);
    record.lease = lease;
    // A record of the same server from before its restart moves to the new lease with this write.
    kv.txn(Txn { success: vec![Op::Put(record)], ..Txn::default() }).await?;
    Ok(lease)
}

#[cfg(test)]
mod tests {
    use store::kv::Consistency;
    use store::memory::MemoryStore;
    use store::mvcc::{KeyRange, Range};
    use tokio_util::task::AbortOnDropHandle;

    use super::*;

    const ADDRESS: &str = "192.0.2.1:6443";

    async fn is_registered(kv: &MemoryStore) -> bool {
        let key = format!("{SERVERS}{ADDRESS}");
        let found = kv.range(Range::new(KeyRange::single(key)), Consistency::Linearizable).await;
        !found.unwrap().kvs.is_empty()
    }

    fn start(kv: &MemoryStore, shutdown: &CancellationToken) -> AbortOnDropHandle<()> {
        let kept = keep(Arc::new(kv.clone()), ADDRESS.parse().unwrap(), shutdown.clone());
        AbortOnDropHandle::new(tokio::spawn(kept))
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_is_registered_while_it_runs_and_no_longer() {
        let (kv, shutdown) = (MemoryStore::default(), CancellationToken::new());
        let server = start(&kv, &shutdown);
        tokio::time::sleep(TTL * 4).await;
        assert!(is_registered(&kv).await);
        shutdown.cancel();
        server.await.unwrap();
        assert!(!is_registered(&kv).await, "it took its record back");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_dies_is_forgotten_after_its_time_to_live() {
        let (kv, shutdown) = (MemoryStore::default(), CancellationToken::new());
        let server = start(&kv, &shutdown);
        tokio::time::sleep(TTL).await;
        drop(server);
        tokio::time::sleep(TTL - RENEWAL - Duration::from_secs(1)).await;
        assert!(is_registered(&kv).await);
        tokio::time::sleep(RENEWAL + Duration::from_secs(2)).await;
        assert!(!is_registered(&kv).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_lease_is_replaced() {
        let (kv, shutdown) = (MemoryStore::default(), CancellationToken::new());
        let _server = start(&kv, &shutdown);
        tokio::time::sleep(TTL).await;
        for lease in kv.leases().await.unwrap() {
            kv.lease_revoke(lease).await.unwrap();
        }
        assert!(!is_registered(&kv).await);
        tokio::time::sleep(RENEWAL + RETRY * 2).await;
        assert!(is_registered(&kv).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_restarted_server_outlives_the_lease_of_its_former_self() {
        let (kv, shutdown) = (MemoryStore::default(), CancellationToken::new());
        let former = start(&kv, &shutdown);
        tokio::time::sleep(TTL).await;
        drop(former);
        let _server = start(&kv, &shutdown);
        for _second in 0..(TTL * 2).as_secs() {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(is_registered(&kv).await);
        }
    }
}
