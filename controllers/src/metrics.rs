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

/// Handles of all metrics; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    pub reconciles: Family<ResultLabels, Counter>,
    pub writes: Family<ResultLabels, Counter>,
    pub queue_depth: Family<ControllerLabels, Gauge>,
    pub parked: Family<ControllerLabels, Gauge>,
    pub fenced_out: Counter,
    pub leading: Gauge,
    pub nodes_not_ready: Gauge,
    pub evictions: Counter,
}

impl Metrics {
    /// Creates the metrics and registers them.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "controller_reconciles",
            "Reconciles by controller and result",
            metrics.reconciles.clone(),
        );
        registry.register(
            "controller_writes",
            "Writes to the API by controller and result",
            metrics.writes.clone(),
        );
        registry.register("workqueue_depth", "Keys ready to be worked on", metrics.queue_depth.clone());
        registry.register(
            "controller_parked_keys",
            "Keys set aside because their reconcile panicked twice",
            metrics.parked.clone(),
        );
        registry.register(
            "controller_fenced_out",
            "Writes refused because another instance leads",
            metrics.fenced_out.clone(),
        );
        registry.register(
            "controller_leading",
            "1 while this instance leads the controllers",
            metrics.leading.clone(),
        );
        registry.register(
            "node_lifecycle_nodes_not_ready",
            "Nodes whose Ready condition is not True",
            metrics.nodes_not_ready.clone(),
        );
        registry.register(
            "node_lifecycle_evictions",
            "Pods deleted because of a NoExecute taint",
            metrics.evictions.clone(),
        );
        metrics
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

    /// Counts a reconcile.
    pub(crate) fn reconcile(&self, controller: &'static str, result: &'static str) {
        self.reconciles.get_or_create(&ResultLabels { controller, result }).inc();
    }
}
