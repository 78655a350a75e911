//! Forgets old history, as upstream's API server does: revisions stay readable for five to ten minutes.
//!
//! Every server does this on its own; a revision that another one has compacted already is no error. A reader that
//! needs older history gets 410 and lists again.

use std::sync::Arc;
use std::time::Duration;

use store::kv::{Kv, KvError};
use store::mvcc::Revision;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Time between compactions; continue tokens and watches that are cut live at least this long.
const INTERVAL: Duration = Duration::from_secs(300);

/// Compacts until `shutdown`.
pub(crate) async fn run(kv: Arc<dyn Kv>, shutdown: CancellationToken) {
    let mut seen: Option<Revision> = None;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
        if let Some(revision) = seen {
            match kv.compact(revision).await {
                Ok(()) => debug!(%revision, "history is compacted"),
                Err(KvError::Compacted { .. }) => {}
                Err(error) => warn!(%revision, %error, "history cannot be compacted now"),
            }
        }
        seen = Some(kv.status().revision);
    }
}

#[cfg(test)]
mod tests {
    use store::kv::Consistency;
    use store::memory::MemoryStore;
    use store::mvcc::{KeyRange, Op, Range, Txn};

    use super::*;
    use crate::storage::condition::put;

    #[tokio::test(start_paused = true)]
    async fn history_is_kept_for_one_interval_and_gone_after_two() {
        let kv: Arc<dyn Kv> = Arc::new(MemoryStore::default());
        let write = |value: &'static str| Txn { success: vec![Op::Put(put("k", value))], ..Txn::default() };
        let old = kv.txn(write("1")).await.unwrap().revision;
        kv.txn(write("2")).await.unwrap();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(run(Arc::clone(&kv), shutdown.clone()));
        let read = || {
            let range = Range { revision: Some(old), ..Range::new(KeyRange::single("k")) };
            kv.range(range, Consistency::Linearizable)
        };
        tokio::time::sleep(INTERVAL + Duration::from_secs(1)).await;
        assert!(read().await.is_ok());
        tokio::time::sleep(INTERVAL).await;
        assert!(matches!(read().await, Err(KvError::Compacted { .. })));
        shutdown.cancel();
        task.await.unwrap();
    }
}
