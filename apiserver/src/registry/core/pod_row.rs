//! A pod's row: one word that says what it is doing, from phase, reasons and container states.

use jiff::Timestamp;
use serde_json::Value;

use super::super::Object;
use super::super::table::{NONE, age, name, or_none, since};
use super::super::value::{at, integer, is_true, list, object, objects, text};

/// Returns the cells in column order.
pub(super) fn row(pod: &Object, now: &str) -> Vec<Value> {
    let summary = Summary::of(pod);
    let restarts = match summary.last_restart {
        Some(time) if summary.restarts > 0 => {
            format!("{} ({} ago)", summary.restarts, since(Some(&time.to_string()), now))
        }
        _ => summary.restarts.to_string(),
    };
    vec![
        name(pod),
        Value::from(format!("{}/{}", summary.ready, summary.total)),
        Value::from(summary.reason),
        Value::from(restarts),
        age(pod, now),
        or_none(pod_ip(pod)),
        or_none(text(pod, &["spec", "nodeName"])),
        or_none(text(pod, &["status", "nominatedNodeName"])),
        readiness_gates(pod),
    ]
}

/// Returns the pod's first address.
pub(super) fn pod_ip(pod: &Object) -> &str {
    let first = objects(pod, &["status", "podIPs"]).next().map(|address| text(address, &["ip"]));
    first.unwrap_or_else(|| text(pod, &["status", "podIP"]))
}

struct Summary {
    ready: usize,
    total: usize,
    reason: String,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

impl Summary {
    fn of(pod: &Object) -> Self {
        let phase = text(pod, &["status", "phase"]);
        let own_reason = text(pod, &["status", "reason"]);
        let mut summary = Self {
            ready: 0,
            total: list(pod, &["spec", "containers"]).len() + sidecars(pod).count(),
            reason: if own_reason.is_empty() { phase.to_owned() } else { own_reason.to_owned() },
            restarts: 0,
            last_restart: None,
        };
        if condition(pod, "PodScheduled")
            .is_some_and(|condition| text(condition, &["reason"]) == "SchedulingGated")
        {
            "SchedulingGated".clone_into(&mut summary.reason);
        }
        let initializing = summary.add_init_containers(pod);
        if !initializing || condition(pod, "Initialized").is_some_and(is_status_true) {
            summary.add_containers(pod);
        }
        if at(pod, &["metadata", "deletionTimestamp"]).is_some() {
            if own_reason == "NodeLost" {
                "Unknown".clone_into(&mut summary.reason);
            } else if !matches!(phase, "Succeeded" | "Failed") {
                "Terminating".clone_into(&mut summary.reason);
            }
        }
        summary
    }

    /// Reads init containers up to the first that is not done; reports whether there is one.
    fn add_init_containers(&mut self, pod: &Object) -> bool {
        let total = list(pod, &["spec", "initContainers"]).len();
        for (index, status) in objects(pod, &["status", "initContainerStatuses"]).enumerate() {
            self.count_restarts(status);
            let sidecar = sidecars(pod).any(|sidecar| text(sidecar, &["name"]) == text(status, &["name"]));
            let terminated = object(status, &["state", "terminated"]);
            let waiting = text(status, &["state", "waiting", "reason"]);
            if terminated.is_some_and(|state| integer(state, &["exitCode"]).unwrap_or_default() == 0) {
                continue;
            }
            if sidecar && is_true(status, &["started"]) {
                self.ready += usize::from(is_true(status, &["ready"]));
                continue;
            }
            self.reason = match terminated {
                Some(state) => format!("Init:{}", termination_reason(state)),
                None if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
                None => format!("Init:{index}/{total}"),
            };
            return true;
        }
        false
    }

    fn add_containers(&mut self, pod: &Object) {
        // Only sidecars' restarts still count once the pod is initialised.
        (self.restarts, self.last_restart) = (0, None);
        for status in objects(pod, &["status", "initContainerStatuses"]) {
            if sidecars(pod).any(|sidecar| text(sidecar, &["name"]) == text(status, &["name"])) {
                self.count_restarts(status);
            }
        }
        let mut has_running = false;
        let statuses: Vec<&Object> = objects(pod, &["status", "containerStatuses"]).collect();
        for status in statuses.into_iter().rev() {
            self.count_restarts(status);
            let waiting = text(status, &["state", "waiting", "reason"]);
            if !waiting.is_empty() {
                waiting.clone_into(&mut self.reason);
            } else if let Some(state) = object(status, &["state", "terminated"]) {
                self.reason = termination_reason(state);
            } else if is_true(status, &["ready"]) && object(status, &["state", "running"]).is_some() {
                has_running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && has_running {
            let ready = condition(pod, "Ready").is_some_and(is_status_true);
            (if ready { "Running" } else { "NotReady" }).clone_into(&mut self.reason);
        }
    }

    fn count_restarts(&mut self, status: &Object) {
        self.restarts += integer(status, &["restartCount"]).unwrap_or_default();
        let finished = text(status, &["lastState", "terminated", "finishedAt"]).parse::<Timestamp>().ok();
        self.last_restart = self.last_restart.max(finished);
    }
}

fn termination_reason(state: &Object) -> String {
    let reason = text(state, &["reason"]);
    let signal = integer(state, &["signal"]).unwrap_or_default();
    if !reason.is_empty() {
        reason.to_owned()
    } else if signal != 0 {
        format!("Signal:{signal}")
    } else {
        format!("ExitCode:{}", integer(state, &["exitCode"]).unwrap_or_default())
    }
}

/// Returns the init containers that keep running.
fn sidecars(pod: &Object) -> impl Iterator<Item = &Object> {
    objects(pod, &["spec", "initContainers"])
        .filter(|container| text(container, &["restartPolicy"]) == "Always")
}

fn condition<'a>(pod: &'a Object, kind: &str) -> Option<&'a Object> {
    objects(pod, &["status", "conditions"]).find(|condition| text(condition, &["type"]) == kind)
}

fn is_status_true(condition: &Object) -> bool {
    text(condition, &["status"]) == "True"
}

fn readiness_gates(pod: &Object) -> Value {
    let gates = list(pod, &["spec", "readinessGates"]);
    if gates.is_empty() {
        return Value::from(NONE);
    }
    let holds = |gate: &&Object| condition(pod, text(gate, &["conditionType"])).is_some_and(is_status_true);
    let true_count = objects(pod, &["spec", "readinessGates"]).filter(holds).count();
    Value::from(format!("{true_count}/{}", gates.len()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: &str = "2026-01-01T01:00:00Z";

    fn check(pod: Value, expected: [&str; 3]) {
        let cells = row(pod.as_object().unwrap(), NOW);
        assert_eq!([&cells[1], &cells[2], &cells[3]], expected, "{pod}");
    }

    fn pod(status: Value) -> Value {
        json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}, "status": status})
    }

    #[test]
    fn the_word_follows_the_containers() {
        check(pod(json!({"phase": "Pending"})), ["0/1", "Pending", "0"]);
        check(
            pod(
                json!({"phase": "Running", "containerStatuses": [{"name": "c", "ready": true, "state": {"running": {}}}]}),
            ),
            ["1/1", "Running", "0"],
        );
        check(
            pod(json!({"phase": "Running", "containerStatuses": [{"name": "c", "restartCount": 4,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"finishedAt": "2026-01-01T00:59:00Z"}}}]})),
            ["0/1", "CrashLoopBackOff", "4 (60s ago)"],
        );
        check(
            pod(
                json!({"phase": "Succeeded", "containerStatuses": [{"name": "c", "state": {"terminated": {"reason": "Completed"}}}]}),
            ),
            ["0/1", "Completed", "0"],
        );
        check(
            pod(
                json!({"phase": "Failed", "containerStatuses": [{"name": "c", "state": {"terminated": {"exitCode": 3}}}]}),
            ),
            ["0/1", "ExitCode:3", "0"],
        );
        check(pod(json!({"phase": "Failed", "reason": "Evicted"})), ["0/1", "Evicted", "0"]);
    }

    #[test]
    fn init_containers_show_their_progress() {
        let pod = |statuses: Value| {
            json!({"metadata": {"name": "p"}, "spec": {"initContainers": [{"name": "a"}, {"name": "b"}], "containers": [{"name": "c"}]},
                "status": {"phase": "Pending", "initContainerStatuses": statuses}})
        };
        check(
            pod(
                json!([{"name": "a", "state": {"terminated": {"exitCode": 0}}}, {"name": "b", "state": {"running": {}}}]),
            ),
            ["0/1", "Init:1/2", "0"],
        );
        check(
            pod(json!([{"name": "a", "state": {"waiting": {"reason": "ImagePullBackOff"}}}])),
            ["0/1", "Init:ImagePullBackOff", "0"],
        );
        check(
            pod(json!([{"name": "a", "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}])),
            ["0/1", "Init:Error", "0"],
        );
    }

    #[test]
    fn deletion_shows_until_the_pod_has_ended() {
        let mut running = pod(json!({"phase": "Running"}));
        running["metadata"]["deletionTimestamp"] = json!(NOW);
        check(running, ["0/1", "Terminating", "0"]);
        let mut ended = pod(json!({"phase": "Succeeded"}));
        ended["metadata"]["deletionTimestamp"] = json!(NOW);
        check(ended, ["0/1", "Succeeded", "0"]);
    }
}
