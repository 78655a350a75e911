//! Every metric of this crate. Names are upstream's where the meaning is the same.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use store::kv::Kv;

/// Labels of a request: verb, resource and code are from closed sets, so series stay few.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    verb: String,
    code: u16,
}

/// A request that is being served.
pub(crate) struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The metrics of one server.
pub(crate) struct Metrics {
    registry: Registry,
    /// What the rest of the process counts.
    others: Arc<Registry>,
    requests: Family<RequestLabels, Counter>,
    duration_seconds: Histogram,
    inflight: Gauge,
    panics: Counter,
    fenced_out: Counter,
}

impl Metrics {
    /// Returns the server's metrics; those of `others`, which must have other names, are shown with them.
    pub(crate) fn new(others: Arc<Registry>) -> Self {
        let mut registry = Registry::default();
        let requests = Family::<RequestLabels, Counter>::default();
        let duration_seconds = Histogram::new([0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0]);
        let (inflight, panics, fenced_out) = (Gauge::default(), Counter::default(), Counter::default());
        registry.register("apiserver_request", "Requests by method and status code", requests.clone());
        registry.register(
            "apiserver_request_duration_seconds",
            "Time from the request's head to the response's head",
            duration_seconds.clone(),
        );
        registry.register("apiserver_current_inflight_requests", "Requests being served", inflight.clone());
        registry.register("keelson_apiserver_panics", "Handlers that panicked", panics.clone());
        registry.register(
            "keelson_apiserver_fenced_out",
            "Writes refused because their author's leadership was over",
            fenced_out.clone(),
        );
        Self { registry, others, requests, duration_seconds, inflight, panics, fenced_out }
    }

    /// Counts a request as being served until the guard is dropped, also when its client goes away.
    pub(crate) fn request_started(&self) -> InFlight {
        self.inflight.inc();
        InFlight(self.inflight.clone())
    }

    pub(crate) fn request_ended(&self, verb: &str, code: u16, took: Duration) {
        self.duration_seconds.observe(took.as_secs_f64());
        self.requests.get_or_create(&RequestLabels { verb: verb.to_owned(), code }).inc();
    }

    pub(crate) fn panicked(&self) {
        self.panics.inc();
    }

    pub(crate) fn fenced_out(&self) {
        self.fenced_out.inc();
    }

    /// Returns all metrics in OpenMetrics text, those of the store as it stands now.
    pub(crate) fn render(&self, store: &dyn Kv) -> String {
        let mut below = Registry::default();
        store.register_metrics(&mut below);
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _infallible = [&self.registry, &*self.others, &below]
            .into_iter()
            .try_for_each(|registry| encode_registry(&mut text, registry))
            .and_then(|()| encode_eof(&mut text));
        text
    }
}

#[cfg(test)]
mod tests {
    use store::memory::MemoryStore;

    use super::*;

    #[tokio::test]
    async fn metrics_of_the_whole_process_are_one_document() {
        let mut others = Registry::default();
        let counter = Counter::<u64>::default();
        others.register("other", "Of another part", counter.clone());
        counter.inc();
        let text = Metrics::new(Arc::new(others)).render(&MemoryStore::new());
        for metric in ["other_total 1", "apiserver_request", "etcd_server_has_leader 1"] {
            assert!(text.contains(&format!("\n{metric}")), "no `{metric}` in\n{text}");
        }
        assert_eq!(text.matches("# EOF").count(), 1, "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
