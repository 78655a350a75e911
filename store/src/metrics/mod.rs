//! Every metric of this crate. Names are etcd's where the meaning is the same; what is not known is not shown.
//!
//! What a member is, it is asked when somebody wants to know (`mod.rs`); what it does, it counts meanwhile (`counters`, `clients`).

mod calls;
mod clients;
mod counters;
mod process;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::admin::MemberNumbers;
use crate::grpc::ETCD_VERSION;
use crate::kv::KvStatus;
use crate::reads::ReadNumbers;

pub(crate) use calls::{Calls, Ongoing};
pub(crate) use clients::ClientCounters;
pub use counters::Counters;
pub(crate) use counters::UnderWay;

/// The form of [`render`]'s text.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is read from a member.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readings {
    pub(crate) member: OfMember,
    /// Keys that exist; `None` when that could not be read.
    pub(crate) keys: Option<u64>,
    pub(crate) reads: ReadNumbers,
    pub(crate) clients: Option<ClientCounters>,
}

/// What is read from a member whoever serves it.
#[derive(Clone, Debug, Default)]
pub(crate) struct OfMember {
    pub(crate) status: KvStatus,
    pub(crate) numbers: MemberNumbers,
    pub(crate) counters: Counters,
}

impl OfMember {
    /// Adds the metrics of a member and its process.
    pub(crate) fn register(&self, registry: &mut Registry) {
        register_status(registry, &self.status);
        register_state(registry, self);
        register_store(registry, self);
        self.counters.register(registry);
        process::register(registry);
    }
}

/// Returns the metrics of a member and of the port where its clients find it, in OpenMetrics text.
pub(crate) fn render(readings: &Readings) -> String {
    let mut registry = Registry::default();
    readings.member.register(&mut registry);
    if let Some(keys) = readings.keys {
        add(&mut registry, "etcd_debugging_mvcc_keys_total", "Keys that exist", count(keys));
    }
    register_reads(&mut registry, &readings.reads);
    if let Some(clients) = &readings.clients {
        clients.register(&mut registry);
    }
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _infallible = encode(&mut text, &registry);
    text
}

fn add(registry: &mut Registry, name: &str, help: &str, value: i64) {
    let gauge: Gauge = Gauge::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

/// A number that is always 1, for what its label says.
fn label(registry: &mut Registry, name: &str, help: &str, label: (&'static str, String)) {
    let family = Family::<[(&'static str, String); 1], Gauge>::default();
    family.get_or_create(&[label]).set(1);
    registry.register(name, help, family);
}

/// What any store says of its cluster.
pub(crate) fn register_status(registry: &mut Registry, status: &KvStatus) {
    let has_leader = status.leader_id != 0;
    let is_leader = has_leader && status.leader_id == status.member_id;
    let mut add = |name: &str, help: &str, value: i64| add(registry, name, help, value);
    add("etcd_server_has_leader", "Whether this member knows a leader, 1 or 0", i64::from(has_leader));
    add("etcd_server_is_leader", "Whether this member leads the store, 1 or 0", i64::from(is_leader));
    add("keelson_store_term", "Raft term of this member", count(status.term));
}

/// Where the member stands in its cluster.
#[rustfmt::skip]
fn register_state(registry: &mut Registry, member: &OfMember) {
    let OfMember { status, numbers, .. } = member;
    let mut add = |name: &str, help: &str, value: i64| add(registry, name, help, value);
    add("etcd_server_is_learner", "Whether this member is a learner, 1 or 0", i64::from(numbers.is_learner));
    add("keelson_store_last_log_index", "Last entry in this member's log", count(numbers.last_log_index));
    add("etcd_server_proposals_committed_total", "Last entry of the log that this member knows to be committed", count(numbers.committed_index));
    add("etcd_server_proposals_applied_total", "Last entry of the log that this member has applied", count(status.applied_index));
    add("keelson_store_proposals_forwarded", "Proposals of this member's clients on their way through another one; at most 10000", count(numbers.forwarded));
    add("keelson_store_proposals_admitted", "Proposals of this member's clients that are let in and have no answer; at most 10000", count(numbers.proposals));
    add("keelson_store_proposals_admitted_bytes", "Bytes of those; at most 268435456", count(numbers.proposal_bytes));
    add("keelson_store_log_requests_waiting", "Requests that wait for the log; at most 4096", count(numbers.log_queue));
    add("keelson_store_snapshots_under_way", "Snapshots for clients that take room on the disk; at most 4", count(numbers.snapshots));
    add("keelson_store_feature_level", "Feature level that the members have agreed on", i64::from(numbers.level));
    add("etcd_debugging_auth_revision", "Changes of users and roles", count(numbers.auth_revision));
    add("keelson_store_sessions", "Simple tokens that this member takes; at most 100000", count(numbers.sessions));
    label(registry, "etcd_server_id", "Id of this member, in hex", ("server_id", format!("{:x}", status.member_id)));
    label(registry, "etcd_server_version", "Version of etcd's API that is served", ("server_version", ETCD_VERSION.to_owned()));
}

/// What the member holds.
#[rustfmt::skip]
fn register_store(registry: &mut Registry, member: &OfMember) {
    let OfMember { status, numbers, .. } = member;
    let mut add = |name: &str, help: &str, value: i64| add(registry, name, help, value);
    add("etcd_debugging_mvcc_current_revision", "Revision that this member has applied", status.revision.0);
    add("etcd_debugging_mvcc_compact_revision", "Revision below which history is forgotten, -1 when nothing is", status.compact_revision.0);
    add("etcd_mvcc_db_total_size_in_bytes", "Bytes of the database on disk", count(numbers.db_size_bytes));
    add("etcd_mvcc_db_total_size_in_use_in_bytes", "Bytes of the database that live data takes", count(numbers.db_size_in_use_bytes));
    add("keelson_store_index_bytes", "Memory that the index of keys takes, about and without cached values", count(numbers.index_bytes));
    if numbers.quota_bytes != 0 {
        add("etcd_server_quota_backend_bytes", "Bytes that the database may take", count(numbers.quota_bytes));
    }
    if numbers.disk_reserve_bytes != 0 {
        add("keelson_store_disk_free_bytes", "Free bytes of the disk with the log", count(numbers.disk_free_bytes));
        add("keelson_store_disk_reserve_bytes", "Free bytes of the disk below which nothing is added while no majority has more", count(numbers.disk_reserve_bytes));
    }
    add("etcd_debugging_mvcc_watcher_total", "Open watches", count(numbers.watchers));
    add("keelson_store_leases", "Leases that exist", count(numbers.leases));
    add("keelson_store_alarms", "Alarms that are raised, of all members", i64::try_from(numbers.alarms.len()).unwrap_or(i64::MAX));
}

/// The memory of answers, and who waits for it.
#[rustfmt::skip]
fn register_reads(registry: &mut Registry, reads: &ReadNumbers) {
    let mut add = |name: &str, help: &str, value: u64| add(registry, name, help, count(value));
    add("keelson_store_read_budget_bytes", "Memory that the answers to clients' reads may take together", reads.budget_bytes);
    add("keelson_store_read_budget_used_bytes", "Memory set aside for such answers", reads.used_bytes);
    add("keelson_store_reads_waiting", "Reads that wait for memory; at most 1000", reads.waiting);
    add("keelson_store_reads_refused_total", "Reads that were refused for want of memory", reads.refused);
}

fn count(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(leader_id: u64, expected: [&str; 3]) {
        let status = KvStatus { member_id: 7, leader_id, term: 4, applied_index: 9, ..KvStatus::default() };
        let member = OfMember { status, ..OfMember::default() };
        let text = render(&Readings { member, keys: Some(3), ..Readings::default() });
        for line in expected
            .iter()
            .chain(&["etcd_server_proposals_applied_total 9", "etcd_debugging_mvcc_keys_total 3"])
        {
            assert!(text.lines().any(|found| found == *line), "leader {leader_id}: no `{line}` in\n{text}");
        }
        assert!(text.ends_with("# EOF\n") && !text.contains("quota"), "{text}");
    }

    #[test]
    fn a_member_says_where_it_stands() {
        check(7, ["etcd_server_is_leader 1", "etcd_server_has_leader 1", "keelson_store_term 4"]);
        check(8, ["etcd_server_is_leader 0", "etcd_server_has_leader 1", "keelson_store_term 4"]);
        check(0, ["etcd_server_is_leader 0", "etcd_server_has_leader 0", "keelson_store_term 4"]);
    }

    #[test]
    fn each_metric_is_there_once() {
        let clients = Some(ClientCounters::new(&["etcdserverpb.KV"]));
        let text = render(&Readings { clients, keys: Some(3), ..Readings::default() });
        let mut names: Vec<&str> = text.lines().filter(|line| line.starts_with("# TYPE ")).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert!(count > 40 && names.len() == count, "{text}");
    }
}
