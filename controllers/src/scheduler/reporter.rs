//! Tells users what became of a pod: the condition `PodScheduled` and events.
//!
//! Reports are best effort and never hold up a decision: a full queue drops them, a failed write is logged. The condition of a
//! pod that was bound is set by the server with the binding itself.

use std::collections::HashMap;
use std::sync::Arc;

use client::{ApiError, Client, Fence, Patch, WriteOptions};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Pod};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tracing::debug;

use super::pod_info::PodInfo;

/// Reports that may wait; beyond, they are dropped, and the pod's next attempt reports again.
pub(super) const REPORTS_MAX: usize = 1024;
/// Events whose repetitions are counted in one object; beyond, counting starts anew.
const COUNTED_EVENTS_MAX: usize = 4096;
/// A pod that changes faster than this keeps its old condition until the next attempt.
const CONDITION_TRIES_MAX: u32 = 4;
/// Why a pod has no node, in the condition.
const REASON_UNSCHEDULABLE: &str = "Unschedulable";
/// Longest message of an event that the API accepts.
const MESSAGE_BYTES_MAX: usize = 1024;

/// What became of a pod.
#[derive(Debug)]
pub(super) enum Report {
    Scheduled { pod: Arc<PodInfo>, node: Arc<str> },
    Unschedulable { pod: Arc<PodInfo>, message: String },
    BindingFailed { pod: Arc<PodInfo>, message: String },
}

/// Writes reports, one after another.
pub(super) struct Reporter {
    client: Client,
    options: WriteOptions,
    component: String,
    identity: String,
    event_counts: HashMap<String, i32>,
}

struct Happening<'a> {
    pod: &'a PodInfo,
    kind: &'static str,
    reason: &'static str,
    action: &'static str,
    message: String,
}

impl Reporter {
    pub(super) fn new(client: Client, fence: Fence, component: String, identity: String) -> Self {
        let options = WriteOptions { fence: Some(fence), ..WriteOptions::default() };
        Self { client, options, component, identity, event_counts: HashMap::new() }
    }

    /// Writes what arrives until the sender is gone.
    pub(super) async fn run(mut self, mut reports: mpsc::Receiver<Report>) {
        while let Some(report) = reports.recv().await {
            let pod = match &report {
                Report::Scheduled { pod, .. }
                | Report::Unschedulable { pod, .. }
                | Report::BindingFailed { pod, .. } => pod.clone(),
            };
            if let Err(error) = self.write(report).await {
                debug!(pod = %pod.key, %error, "report not written");
            }
        }
    }

    async fn write(&mut self, report: Report) -> Result<(), ApiError> {
        match report {
            Report::Scheduled { pod, node } => {
                let message = format!("Successfully assigned {} to {node}", pod.key);
                self.record(&Happening {
                    pod: &pod,
                    kind: "Normal",
                    reason: "Scheduled",
                    action: "Binding",
                    message,
                })
                .await
            }
            Report::Unschedulable { pod, message } => {
                self.set_condition(&pod, &message).await?;
                self.record(&failed(&pod, message)).await
            }
            // The pod may be bound all the same, so its condition is left alone.
            Report::BindingFailed { pod, message } => self.record(&failed(&pod, message)).await,
        }
    }

    /// The patch holds for one version of the pod only: a pod that somebody bound in the meantime keeps its condition.
    async fn set_condition(&self, pod: &PodInfo, message: &str) -> Result<(), ApiError> {
        let (namespace, name) = (&pod.key.namespace, &pod.key.name);
        let mut object = pod.pod.clone();
        for _ in 0..CONDITION_TRIES_MAX {
            let Some(patch) = condition_patch(&object, message, self.client.outside().now()) else {
                return Ok(());
            };
            match self
                .client
                .patch::<Pod>(namespace, name, "status", &Patch::Strategic(patch), &self.options)
                .await
            {
                Err(error) if error.is_conflict() => {
                    object = Arc::new(self.client.get::<Pod>(namespace, name).await?);
                    let is_bound = object.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
                    if is_bound || object.metadata.uid.as_ref() != Some(&pod.uid) {
                        return Ok(());
                    }
                }
                other => return other.map(drop),
            }
        }
        Ok(())
    }

    /// Creates the event, or counts it up when it happened before.
    async fn record(&mut self, happening: &Happening<'_>) -> Result<(), ApiError> {
        let now = self.client.outside().now();
        let name = event_name(happening);
        let key = &happening.pod.key;
        if let Some(count) = self.event_counts.get_mut(&name) {
            *count = count.saturating_add(1);
            let patch = Patch::Merge(json!({ "count": *count, "lastTimestamp": seconds(now) }));
            let patched: Result<Event, ApiError> =
                self.client.patch(&key.namespace, &name, "", &patch, &self.options).await;
            match patched {
                Err(error) if error.is_not_found() => {}
                other => return other.map(drop),
            }
        }
        if self.event_counts.len() >= COUNTED_EVENTS_MAX {
            self.event_counts.clear();
        }
        let event = self.event(&name, happening, now)?;
        match self.client.create(&event, &self.options).await {
            Err(error) if !error.is_already_exists() => Err(error),
            // Left by an earlier leader: it is there, and counts on from here.
            Ok(_) | Err(_) => {
                self.event_counts.insert(name, 1);
                Ok(())
            }
        }
    }

    fn event(&self, name: &str, happening: &Happening<'_>, now: Timestamp) -> Result<Event, ApiError> {
        let key = &happening.pod.key;
        let object = json!({
            "metadata": { "name": name, "namespace": key.namespace },
            "involvedObject": {
                "apiVersion": "v1", "kind": "Pod", "namespace": key.namespace, "name": key.name,
                "uid": happening.pod.uid, "resourceVersion": happening.pod.pod.metadata.resource_version,
            },
            "type": happening.kind,
            "reason": happening.reason,
            "action": happening.action,
            "message": happening.message,
            "count": 1,
            "firstTimestamp": seconds(now),
            "lastTimestamp": seconds(now),
            "source": { "component": self.component },
            "reportingComponent": self.component,
            "reportingInstance": self.identity,
        });
        serde_json::from_value(object)
            .map_err(|error| ApiError::Malformed(client::Failure::text(error.to_string())))
    }
}

fn failed(pod: &PodInfo, mut message: String) -> Happening<'_> {
    message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
    Happening { pod, kind: "Warning", reason: "FailedScheduling", action: "Scheduling", message }
}

/// Returns the patch that sets `PodScheduled` to false; `None` when the pod says just that already.
fn condition_patch(pod: &Pod, message: &str, now: Timestamp) -> Option<Value> {
    let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let present = conditions.rfind(|condition| condition.type_ == "PodScheduled");
    let present = present.filter(|condition| condition.status == "False");
    if let Some(present) = present
        && present.reason.as_deref() == Some(REASON_UNSCHEDULABLE)
        && present.message.as_deref() == Some(message)
    {
        return None;
    }
    let since =
        present.and_then(|condition| condition.last_transition_time.as_ref()).map_or(now, |time| time.0);
    let condition = json!({
        "type": "PodScheduled", "status": "False", "reason": REASON_UNSCHEDULABLE, "message": message,
        "lastProbeTime": null, "lastTransitionTime": seconds(since),
    });
    let version = json!({ "uid": pod.metadata.uid, "resourceVersion": pod.metadata.resource_version });
    Some(json!({ "metadata": version, "status": { "conditions": [condition] } }))
}

/// The same happening has the same name, so that repetitions meet in one object.
fn event_name(happening: &Happening<'_>) -> String {
    let mut hash = Sha256::new();
    for part in [&happening.pod.uid, happening.reason, &happening.message] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let digest = hex::encode(hash.finalize());
    format!("{}.{}", happening.pod.key.name, digest.get(..16).unwrap_or(&digest))
}

/// The API's times have whole seconds.
fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::fixtures::pod_from;

    fn check(conditions: Value, message: &str, expected: Option<&str>) {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let pod =
            pod_from(json!({ "metadata": { "name": "a" }, "status": { "conditions": conditions } })).pod;
        let patch = condition_patch(&pod, message, now);
        let since = patch
            .as_ref()
            .map(|patch| patch["status"]["conditions"][0]["lastTransitionTime"].as_str().unwrap());
        assert_eq!(since, expected);
    }

    #[test]
    fn the_condition_is_written_only_when_it_changes() {
        let earlier = "2026-01-01T00:00:00Z";
        let told = json!([{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "m", "lastTransitionTime": earlier,
        }]);
        check(told.clone(), "m", None);
        check(told, "other", Some(earlier));
        check(json!([]), "m", Some("2026-01-02T03:04:05Z"));
    }
}
