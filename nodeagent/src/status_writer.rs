//! Writes one pod's status to the API: the latest wins, retries never block the pod's worker.

use std::sync::Arc;
use std::time::Duration;

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
    let (wanted_sender, wanted) = watch::channel(Wanted::default());
    let (written, written_receiver) = watch::channel(0);
    (
        StatusWriter { wanted: wanted_sender, written: written_receiver },
        StatusTask { client, pod, wanted, written },
    )
}

impl StatusWriter {
    /// Asks for a status to be written; does nothing when it was the last one asked for.
    pub fn publish(&self, status: &PodStatus) {
        self.wanted.send_if_modified(|wanted| {
            if wanted.status.as_ref() == Some(status) {
                return false;
            }
            wanted.status = Some(status.clone());
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
        let mut last = self.pod.status.clone().unwrap_or_default();
        let mut backoff = Backoff::new(RETRY.0, RETRY.1, 1);
        while self.wanted.changed().await.is_ok() {
            loop {
                let wanted = self.wanted.borrow_and_update().clone();
                let Some(status) = wanted.status else { break };
                match self.write(&last, &status).await {
                    Ok(()) => {
                        backoff.reset();
                        last = status;
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

    async fn write(&self, last: &PodStatus, next: &PodStatus) -> Result<(), ApiError> {
        let Some(patch) = patch(&self.pod, last, next) else { return Ok(()) };
        let metadata = &self.pod.metadata;
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        let name = metadata.name.as_deref().unwrap_or_default();
        let options = WriteOptions::default();
        self.client.patch::<Pod>(namespace, name, "status", &Patch::Merge(patch), &options).await.map(drop)
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
}
