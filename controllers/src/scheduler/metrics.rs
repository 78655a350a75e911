//! The scheduler's metrics, under upstream's names so that existing dashboards work.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::queue::PendingCounts;

/// How an attempt ended: `scheduled`, `unschedulable` or `error`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    result: &'static str,
    profile: String,
}

/// Where a pod waits: `active`, `backoff`, `unschedulable` or `gated`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabels {
    queue: &'static str,
}

/// How an attempt to schedule a pod ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AttemptResult {
    Scheduled,
    Unschedulable,
    Error,
}

/// Handles of all metrics; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    attempts: Family<AttemptLabels, Counter>,
    attempt_duration: Family<AttemptLabels, Histogram>,
    pending_pods: Family<QueueLabels, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            attempts: Family::default(),
            // 1 ms to 16 s, as upstream.
            attempt_duration: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.001, 2.0, 15))
            }),
            pending_pods: Family::default(),
        }
    }
}

impl Metrics {
    /// Makes the metrics part of `registry`; counters get their `_total` when they are written.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "scheduler_schedule_attempts",
            "Attempts to schedule pods, by result",
            self.attempts.clone(),
        );
        registry.register(
            "scheduler_scheduling_attempt_duration_seconds",
            "Time of an attempt from the queue to the answer of the binding, by result",
            self.attempt_duration.clone(),
        );
        registry.register(
            "scheduler_pending_pods",
            "Pods that wait for a node, by where they wait",
            self.pending_pods.clone(),
        );
    }

    pub(super) fn attempt(&self, profile: &str, result: AttemptResult, duration_seconds: f64) {
        let result = match result {
            AttemptResult::Scheduled => "scheduled",
            AttemptResult::Unschedulable => "unschedulable",
            AttemptResult::Error => "error",
        };
        let labels = AttemptLabels { result, profile: profile.to_owned() };
        self.attempts.get_or_create(&labels).inc();
        self.attempt_duration.get_or_create(&labels).observe(duration_seconds);
    }

    pub(super) fn pending(&self, counts: PendingCounts) {
        let queues = [
            ("active", counts.active),
            ("backoff", counts.backoff),
            ("unschedulable", counts.unschedulable),
            ("gated", counts.gated),
        ];
        for (queue, count) in queues {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.pending_pods.get_or_create(&QueueLabels { queue }).set(count);
        }
    }
}
