//! What one member counts while it works. Counting costs an atomic number per request, or a short lock per batch, and no memory.

use std::borrow::Borrow;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Numbers of a member that only grow, and what is under way. Clones count together.
#[derive(Clone, Debug)]
pub struct Counters {
    pub(crate) proposals_pending: Gauge,
    pub(crate) proposals_failed: Counter,
    pub(crate) leader_changes: Counter,
    pub(crate) slow_applies: Counter,
    pub(crate) snapshots_installed: Counter,
    pub(crate) slow_requests: Counter,
    pub(crate) reads_unconfirmed: Gauge,
    pub(crate) read_indexes_slow: Counter,
    pub(crate) read_indexes_failed: Counter,
    pub(crate) wal_sync_seconds: Histogram,
    pub(crate) wal_bytes: Counter,
    pub(crate) commit_seconds: Histogram,
    pub(crate) puts: Counter,
    pub(crate) deletes: Counter,
    pub(crate) leases_granted: Counter,
    pub(crate) leases_ended: Counter,
    pub(crate) leases_expired: Counter,
    pub(crate) leases_renewed: Counter,
}

impl Default for Counters {
    fn default() -> Self {
        // etcd's buckets: 1 ms to 8 s.
        let seconds = || Histogram::new(exponential_buckets(0.001, 2.0, 14));
        Self {
            proposals_pending: Gauge::default(),
            proposals_failed: Counter::default(),
            leader_changes: Counter::default(),
            slow_applies: Counter::default(),
            snapshots_installed: Counter::default(),
            slow_requests: Counter::default(),
            reads_unconfirmed: Gauge::default(),
            read_indexes_slow: Counter::default(),
            read_indexes_failed: Counter::default(),
            wal_sync_seconds: seconds(),
            wal_bytes: Counter::default(),
            commit_seconds: seconds(),
            puts: Counter::default(),
            deletes: Counter::default(),
            leases_granted: Counter::default(),
            leases_ended: Counter::default(),
            leases_expired: Counter::default(),
            leases_renewed: Counter::default(),
        }
    }
}

impl Counters {
    /// Names everything; the library ends the name of a counter with `_total`.
    #[rustfmt::skip]
    pub(super) fn register(&self, registry: &mut Registry) {
        let mut counter = |name: &str, help: &str, counter: &Counter| registry.register(name, help, counter.clone());
        counter("etcd_server_proposals_failed", "Proposals of this member's clients that failed or are of unknown outcome", &self.proposals_failed);
        counter("etcd_server_leader_changes_seen", "Leaders that this member has followed one after the other", &self.leader_changes);
        counter("etcd_server_slow_apply", "Batches that took longer than 100 ms to apply", &self.slow_applies);
        counter("keelson_store_snapshots_installed", "Whole states that this member has taken over from another one", &self.snapshots_installed);
        counter("keelson_store_slow_requests", "Requests of this member's clients that took longer than --warning-apply-duration", &self.slow_requests);
        counter("etcd_server_slow_read_indexes", "Confirmations of reads that took longer than --warning-apply-duration", &self.read_indexes_slow);
        counter("etcd_server_read_indexes_failed", "Confirmations of reads that failed", &self.read_indexes_failed);
        counter("etcd_disk_wal_write_bytes", "Bytes written to the log", &self.wal_bytes);
        counter("etcd_mvcc_put", "Keys that this member has put", &self.puts);
        counter("etcd_mvcc_delete", "Keys that this member has deleted", &self.deletes);
        counter("etcd_debugging_lease_granted", "Leases that this member has seen granted", &self.leases_granted);
        counter("etcd_debugging_lease_revoked", "Leases that this member has seen end, whether revoked or expired", &self.leases_ended);
        counter("etcd_debugging_server_lease_expired", "Leases that this member has ended as leader", &self.leases_expired);
        counter("etcd_debugging_lease_renewed", "Leases that clients of this member have kept alive", &self.leases_renewed);
        registry.register("etcd_server_proposals_pending", "Proposals of this member's clients without an answer; at most 10000 of them through another member", self.proposals_pending.clone());
        registry.register("keelson_store_reads_unconfirmed", "Reads of this member's clients that wait to be confirmed", self.reads_unconfirmed.clone());
        registry.register("etcd_disk_wal_fsync_duration_seconds", "Syncs of the log", self.wal_sync_seconds.clone());
        registry.register("etcd_disk_backend_commit_duration_seconds", "Writes of applied batches to the database", self.commit_seconds.clone());
    }
}

/// Counts something as under way for as long as it lives.
#[derive(Debug)]
pub(crate) struct UnderWay<G: Borrow<Gauge>>(G);

impl<G: Borrow<Gauge>> UnderWay<G> {
    pub(crate) fn new(gauge: G) -> Self {
        gauge.borrow().inc();
        Self(gauge)
    }
}

impl<G: Borrow<Gauge>> Drop for UnderWay<G> {
    fn drop(&mut self) {
        self.0.borrow().dec();
    }
}
