//! When a probe asks, and what its answers mean.

use std::time::Duration;

use k8s_openapi::api::core::v1::Probe;
use tokio::sync::mpsc;

use super::handlers::{Handler, Target, run_handler};
use crate::pod::probe_state::{Outcome, ProbeKind, Tracker, Verdict};
use crate::runtime::ContainerId;

/// Defaults of the API.
const PERIOD: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(1);

/// A probe's news for the worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Which container.
    pub container: ContainerId,
    /// Its name.
    pub name: String,
    /// Which probe.
    pub kind: ProbeKind,
    /// What the probe says now.
    pub verdict: Verdict,
    /// Why the last try failed.
    pub failure: Option<String>,
}

fn seconds(value: Option<i32>, default: Duration) -> Duration {
    let value = value.and_then(|value| u64::try_from(value).ok()).filter(|value| *value > 0);
    value.map_or(default, Duration::from_secs)
}

/// Probes until the receiver is gone or the task is dropped; a startup probe ends with its first success.
pub async fn run(kind: ProbeKind, probe: Probe, target: Target, reports: mpsc::Sender<Report>) {
    let handler = Handler::of_probe(&probe);
    let mut tracker = Tracker::new(&probe);
    let mut last = Verdict::Unknown;
    let limit = seconds(probe.timeout_seconds, TIMEOUT);
    tokio::time::sleep(seconds(probe.initial_delay_seconds, Duration::ZERO)).await;
    let mut ticks = tokio::time::interval(seconds(probe.period_seconds, PERIOD));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let failure = run_handler(&handler, &target, limit).await.err();
        let outcome = if failure.is_none() { Outcome::Success } else { Outcome::Failure };
        let verdict = tracker.observe(outcome);
        if verdict == last && failure.is_none() {
            continue;
        }
        last = verdict;
        let name = target.spec.name.clone();
        let report = Report { container: target.container.clone(), name, kind, verdict, failure };
        if reports.send(report).await.is_err() || (kind == ProbeKind::Startup && verdict == Verdict::Success)
        {
            return;
        }
    }
}
