//! Writes one pod's status to the API: the latest wins, retries never block the pod's worker.
//!
//! Others write there too: whoever watches over nodes takes the pods of a silent one out of service. So a status is always compared
//! with the newest that the API is known to have, and not only with the last that was written here.

use std::sync::Arc;
use std::time::Duration;

use client::object::revision;
use client::{ApiError, Backoff, Client, Patch, WriteOptions};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde_json::{Map, Value, json};
use tokio::sync::watch;

/// Pauses between tries while the API does not answer.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// What the worker wants written.
#[derive(Debug, Clone, Default, PartialEq)]
struct Wanted {
    status: Option<PodStatus>,
    /// The pod that the status was made from.
    shown: Arc<Pod>,
    number: u64,
}

/// The worker's end.
#[derive(Debug)]
pub struct StatusWriter {
    wanted: watch::Sender<Wanted>,
    written: watch::Receiver<u64>,
}

/// The writing end; its future is a task of the worker.
#[derive(Debug)]
pub struct StatusTask {
    client: Client,
    pod: Arc<Pod>,
    wanted: watch::Receiver<Wanted>,
    written: watch::Sender<u64>,
}

/// Returns both ends for a pod.
#[must_use]
pub fn status_writer(client: Client, pod: Arc<Pod>) -> (StatusWriter, StatusTask) {
    let (wanted_sender, wanted) = watch::channel(Wanted { shown: Arc::clone(&pod), ..Wanted::default() });
    let (written, written_receiver) = watch::channel(0);
    (
        StatusWriter { wanted: wanted_sender, written: written_receiver },
        StatusTask { client, pod, wanted, written },
    )
}

impl StatusWriter {
    /// Asks for a status to be written that was made from `shown`; does nothing when both are those of the last call.
    pub fn publish(&self, status: &PodStatus, shown: &Arc<Pod>) {
        self.wanted.send_if_modified(|wanted| {
            let is_same_pod = revision(wanted.shown.as_ref()) == revision(shown.as_ref());
            if is_same_pod && wanted.status.as_ref() == Some(status) {
                return false;
            }
            wanted.status = Some(status.clone());
            wanted.shown = Arc::clone(shown);
            wanted.number += 1;
            true
        });
    }

    /// Waits until the last status is in the API, or will never be because the pod is gone.
    pub async fn flush(&mut self) {
        let number = self.wanted.borrow().number;
        // An ended task has nothing left to write.
        let _ended = self.written.wait_for(|written| *written >= number).await;
    }
}

impl StatusTask {
    /// Writes until the worker's end is dropped.
    pub async fn run(mut self) {
        let mut last = Known::of(&self.pod);
        let mut backoff = Backoff::new(RETRY.0, RETRY.1, 1);
        while self.wanted.changed().await.is_ok() {
            loop {
                let wanted = self.wanted.borrow_and_update().clone();
                let Some(status) = wanted.status else { break };
                last.learn(&wanted.shown);
                match self.write(&last.status, &status).await {
                    Ok(written) => {
                        backoff.reset();
                        last.status = status;
                        last.revision = written.unwrap_or(last.revision);
                        self.written.send_replace(wanted.number);
                        break;
                    }
                    Err(error) if is_final(&error) => {
                        tracing::debug!(pod = ?self.pod.metadata.name, %error, "status is not wanted any more");
                        self.written.send_replace(u64::MAX);
                        break;
                    }
                    Err(error) => {
                        tracing::warn!(pod = ?self.pod.metadata.name, %error, "status is not written yet");
                        tokio::time::sleep(backoff.next_delay()).await;
                    }
                }
            }
        }
    }

    /// Returns the revision of the pod after the write, or `None` when there was nothing to write.
    async fn write(&self, last: &PodStatus, next: &PodStatus) -> Result<Option<u64>, ApiError> {
        let Some(patch) = patch(&self.pod, last, next) else { return Ok(None) };
        let metadata = &self.pod.metadata;
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        let name = metadata.name.as_deref().unwrap_or_default();
        let (patch, options) = (Patch::Merge(patch), WriteOptions::default());
        let pod = self.client.patch::<Pod>(namespace, name, "status", &patch, &options).await?;
        Ok(Some(revision(&pod)))
    }
}

/// The newest status that the API is known to have.
#[derive(Debug)]
struct Known {
    status: PodStatus,
    revision: u64,
}

impl Known {
    fn of(pod: &Pod) -> Self {
        Self { status: pod.status.clone().unwrap_or_default(), revision: revision(pod) }
    }

    /// Takes what a watch shows, unless the last write is newer.
    fn learn(&mut self, shown: &Pod) {
        if revision(shown) > self.revision {
            *self = Self::of(shown);
        }
    }
}

/// The pod is gone, or a namesake took its place: the uid in the patch is the precondition.
fn is_final(error: &ApiError) -> bool {
    error.is_not_found() || error.is_conflict()
}

/// Returns a merge patch from one status to the next, or `None` when they are equal.
fn patch(pod: &Pod, last: &PodStatus, next: &PodStatus) -> Option<Value> {
    let object = |status: &PodStatus| match serde_json::to_value(status) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    let (last, next) = (object(last), object(next));
    let mut changes = Map::new();
    for (field, value) in &next {
        if last.get(field) != Some(value) {
            changes.insert(field.clone(), value.clone());
        }
    }
    for field in last.keys().filter(|field| !next.contains_key(*field)) {
        changes.insert(field.clone(), Value::Null);
    }
    (!changes.is_empty()).then(|| json!({ "metadata": { "uid": pod.metadata.uid }, "status": changes }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_hold_only_changes_and_the_uid() {
        let pod: Pod = serde_json::from_value(json!({ "metadata": { "uid": "u" } })).unwrap();
        let status = |value: Value| serde_json::from_value::<PodStatus>(value).unwrap();
        let last = status(json!({ "phase": "Pending", "podIP": "1.1.1.1", "hostIP": "2.2.2.2" }));
        let next = status(json!({ "phase": "Running", "hostIP": "2.2.2.2" }));
        let expected = json!({ "metadata": { "uid": "u" }, "status": { "phase": "Running", "podIP": null } });
        assert_eq!(patch(&pod, &last, &next), Some(expected));
        assert_eq!(patch(&pod, &next, &next), None);
    }

    fn pod(revision: u64, phase: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "uid": "u", "resourceVersion": revision.to_string() }, "status": { "phase": phase },
        }))
        .unwrap()
    }

    #[test]
    fn a_status_that_somebody_overwrote_is_known_and_an_old_view_is_not() {
        let mut known = Known { status: pod(5, "Running").status.unwrap(), revision: 5 };
        known.learn(&pod(4, "Pending"));
        assert_eq!(known.status.phase.as_deref(), Some("Running"));
        known.learn(&pod(6, "Unknown"));
        assert_eq!(known.status.phase.as_deref(), Some("Unknown"));
    }
}
