//! Every metric of this crate. Names are etcd's where the meaning is the same; what is not known is not shown.
//!
//! All of them are read from the member when somebody asks, so that an answer is never older than its question.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::admin::MemberNumbers;
use crate::kv::KvStatus;

/// The form of [`render`]'s text.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is read from a member.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readings {
    pub(crate) status: KvStatus,
    pub(crate) numbers: MemberNumbers,
    /// Keys that exist; `None` when that could not be read.
    pub(crate) keys: Option<u64>,
}

/// Returns the metrics of a member, in OpenMetrics text.
pub(crate) fn render(readings: &Readings) -> String {
    let Readings { status, numbers, keys } = readings;
    let has_leader = status.leader_id != 0;
    let is_leader = has_leader && status.leader_id == status.member_id;
    let mut registry = Registry::default();
    let mut add = |name: &str, help: &str, value: i64| {
        let gauge: Gauge = Gauge::default();
        gauge.set(value);
        registry.register(name, help, gauge);
    };
    let flag = i64::from;
    add("etcd_server_has_leader", "Whether this member knows a leader, 1 or 0", flag(has_leader));
    add("etcd_server_is_leader", "Whether this member leads the store, 1 or 0", flag(is_leader));
    add("etcd_server_is_learner", "Whether this member is a learner, 1 or 0", flag(numbers.is_learner));
    add("keelson_store_term", "Raft term of this member", count(status.term));
    add("keelson_store_last_log_index", "Last entry in this member's log", count(numbers.last_log_index));
    add(
        "etcd_server_proposals_applied_total",
        "Last entry of the log that this member has applied",
        count(status.applied_index),
    );
    add("etcd_debugging_mvcc_current_revision", "Revision that this member has applied", status.revision.0);
    add(
        "etcd_debugging_mvcc_compact_revision",
        "Revision below which history is forgotten, -1 when nothing is",
        status.compact_revision.0,
    );
    add("etcd_mvcc_db_total_size_in_bytes", "Bytes of the database on disk", count(numbers.db_size_bytes));
    add(
        "etcd_mvcc_db_total_size_in_use_in_bytes",
        "Bytes of the database that live data takes",
        count(numbers.db_size_in_use_bytes),
    );
    if let Some(keys) = keys {
        add("etcd_debugging_mvcc_keys_total", "Keys that exist", count(*keys));
    }
    if numbers.quota_bytes != 0 {
        add(
            "etcd_server_quota_backend_bytes",
            "Bytes that the database may take",
            count(numbers.quota_bytes),
        );
    }
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _infallible = encode(&mut text, &registry);
    text
}

fn count(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(leader_id: u64, expected: [&str; 3]) {
        let status = KvStatus { member_id: 7, leader_id, term: 4, applied_index: 9, ..KvStatus::default() };
        let text = render(&Readings { status, keys: Some(3), ..Readings::default() });
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
}
