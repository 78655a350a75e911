//! Metrics of the controllers. Label values are bounded: controller names from the catalogue and fixed results.

use client::ApiError;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Who did something, and how it went.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResultLabels {
    pub controller: &'static str,
    pub result: &'static str,
}

/// Who is meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ControllerLabels {
    pub controller: &'static str,
}

/// Which queue or lock is meant, under the label that upstream gives it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct NameLabels {
    pub name: &'static str,
}

/// Who leads what, under upstream's name. Controllers and scheduler have a lock each and share this one metric.
#[derive(Clone, Debug, Default)]
pub struct LeaderStatus(Family<NameLabels, Gauge>);

impl LeaderStatus {
    /// Makes the metric part of `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "leader_election_master_status",
            "1 while this instance leads, 0 while it stands by",
            self.0.clone(),
        );
    }

    /// Notes that this instance leads from now on.
    pub(crate) fn leads(&self, lock: &'static str) {
        self.0.get_or_create(&NameLabels { name: lock }).set(1);
    }

    /// Notes that this instance competes, or does not lead any more.
    pub(crate) fn stands_by(&self, lock: &'static str) {
        self.0.get_or_create(&NameLabels { name: lock }).set(0);
    }
}

/// A plan that is held back.
pub(crate) struct CommitDelayed(Gauge);

impl Drop for CommitDelayed {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Handles of all metrics; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    pub reconciles: Family<ResultLabels, Counter>,
    pub writes: Family<ResultLabels, Counter>,
    pub queue_depth: Family<NameLabels, Gauge>,
    pub parked: Family<ControllerLabels, Gauge>,
    pub commits_delayed: Family<ControllerLabels, Gauge>,
    pub fenced_out: Counter,
    pub nodes_not_ready: Gauge,
    pub evictions: Counter,
}

impl Metrics {
    /// Makes the metrics part of `registry`; counters get their `_total` when they are written.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "controller_reconciles",
            "Reconciles by controller and result",
            self.reconciles.clone(),
        );
        registry.register(
            "controller_writes",
            "Writes to the API by controller and result",
            self.writes.clone(),
        );
        registry.register("workqueue_depth", "Keys ready to be worked on", self.queue_depth.clone());
        registry.register(
            "controller_parked_keys",
            "Keys set aside because their reconcile panicked twice",
            self.parked.clone(),
        );
        registry.register(
            "controller_fenced_out",
            "Writes refused because another instance leads",
            self.fenced_out.clone(),
        );
        registry.register(
            "controller_commits_delayed",
            "Plans that were decided and whose writes a test holds back",
            self.commits_delayed.clone(),
        );
        registry.register(
            "node_lifecycle_nodes_not_ready",
            "Nodes whose Ready condition is not True",
            self.nodes_not_ready.clone(),
        );
        registry.register(
            "node_lifecycle_evictions",
            "Pods deleted because of a NoExecute taint",
            self.evictions.clone(),
        );
    }

    /// Counts a write.
    pub(crate) fn write<T>(&self, controller: &'static str, result: &Result<T, ApiError>) {
        let result = match result {
            Ok(_) => "ok",
            Err(ApiError::Conflict(_)) => "conflict",
            Err(ApiError::FencedOut(_)) => "fenced_out",
            Err(ApiError::OutcomeUnknown(_)) => "unknown",
            Err(_) => "error",
        };
        self.writes.get_or_create(&ResultLabels { controller, result }).inc();
    }

    /// Counts a plan as delayed until the guard is dropped.
    pub(crate) fn commit_delayed(&self, controller: &'static str) -> CommitDelayed {
        let gauge = self.commits_delayed.get_or_create(&ControllerLabels { controller }).clone();
        gauge.inc();
        CommitDelayed(gauge)
    }

    /// Counts a reconcile.
    pub(crate) fn reconcile(&self, controller: &'static str, result: &'static str) {
        self.reconciles.get_or_create(&ResultLabels { controller, result }).inc();
    }
}
