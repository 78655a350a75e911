//! Turns single probe outcomes into a verdict by the probe's thresholds.

use k8s_openapi::api::core::v1::Probe;

/// Which of a container's probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProbeKind {
    /// Gates the others until it succeeds once.
    Startup,
    /// A failure restarts the container.
    Liveness,
    /// Decides whether the pod is an endpoint.
    Readiness,
}

impl ProbeKind {
    /// Returns the name used in events.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

/// What a probe says about its container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verdict {
    /// Not enough outcomes yet.
    #[default]
    Unknown,
    /// The success threshold was reached.
    Success,
    /// The failure threshold was reached.
    Failure,
}

/// Verdicts of one container's probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verdicts {
    /// Startup probe.
    pub startup: Verdict,
    /// Liveness probe.
    pub liveness: Verdict,
    /// Readiness probe.
    pub readiness: Verdict,
}

impl Verdicts {
    /// Notes a verdict.
    pub fn set(&mut self, kind: ProbeKind, verdict: Verdict) {
        match kind {
            ProbeKind::Startup => self.startup = verdict,
            ProbeKind::Liveness => self.liveness = verdict,
            ProbeKind::Readiness => self.readiness = verdict,
        }
    }
}

/// Outcome of one probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It answered as wanted.
    Success,
    /// It did not.
    Failure,
}

/// Counts consecutive outcomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracker {
    success_threshold: u32,
    failure_threshold: u32,
    last: Option<Outcome>,
    run_length: u32,
    verdict: Verdict,
}

impl Tracker {
    /// Returns a tracker with the probe's thresholds (defaults 1 and 3).
    #[must_use]
    pub fn new(probe: &Probe) -> Self {
        let threshold = |value: Option<i32>, default| {
            value.and_then(|value| u32::try_from(value).ok()).unwrap_or(default).max(1)
        };
        Self {
            success_threshold: threshold(probe.success_threshold, 1),
            failure_threshold: threshold(probe.failure_threshold, 3),
            last: None,
            run_length: 0,
            verdict: Verdict::Unknown,
        }
    }

    /// Takes an outcome and returns the verdict.
    pub fn observe(&mut self, outcome: Outcome) -> Verdict {
        self.run_length = if self.last == Some(outcome) { self.run_length.saturating_add(1) } else { 1 };
        self.last = Some(outcome);
        let (threshold, verdict) = match outcome {
            Outcome::Success => (self.success_threshold, Verdict::Success),
            Outcome::Failure => (self.failure_threshold, Verdict::Failure),
        };
        if self.run_length >= threshold {
            self.verdict = verdict;
        }
        self.verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_count_consecutive_outcomes() {
        let probe = Probe { success_threshold: Some(2), failure_threshold: Some(3), ..Probe::default() };
        let mut tracker = Tracker::new(&probe);
        let verdicts: Vec<Verdict> = "ssfffsfss"
            .chars()
            .map(|c| tracker.observe(if c == 's' { Outcome::Success } else { Outcome::Failure }))
            .collect();
        use Verdict::{Failure as F, Success as S, Unknown as U};
        assert_eq!(verdicts, [U, S, S, S, F, F, F, F, S]);
    }
}
