//! Compaction by itself, for clients that never ask for it (etcd's `--auto-compaction-mode` and `--auto-compaction-retention`).
//!
//! The rule is pure: time comes in, a revision comes out. Every member samples, so that a new leader knows what was current when;
//! only the leader compacts, and history collected before this member started is kept until it has seen enough itself.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::mvcc::{Command, Revision};
use crate::raft::node::Node;
use crate::raft::request::Request;

/// Samples within one retention: history is kept for up to a tenth longer than asked for.
const SAMPLES: u32 = 10;
/// Between two samples: not so often that a short retention costs, and often enough for a long one.
const INTERVAL_MIN: Duration = Duration::from_millis(500);
const INTERVAL_MAX: Duration = Duration::from_secs(360);
/// How often the number of revisions is looked at (etcd's rate).
const REVISIONS_INTERVAL: Duration = Duration::from_secs(300);

/// What history is kept without being asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AutoCompaction {
    /// All of it.
    #[default]
    Off,
    /// That of the last while.
    Periodic(Duration),
    /// That many revisions.
    Revisions(i64),
}

impl AutoCompaction {
    fn interval(self) -> Option<Duration> {
        match self {
            Self::Off => None,
            Self::Periodic(retention) => Some((retention / SAMPLES).clamp(INTERVAL_MIN, INTERVAL_MAX)),
            Self::Revisions(_) => Some(REVISIONS_INTERVAL),
        }
    }
}

/// What was current when.
#[derive(Debug)]
struct Schedule {
    policy: AutoCompaction,
    samples: VecDeque<(Duration, Revision)>,
}

impl Schedule {
    fn new(policy: AutoCompaction) -> Self {
        Self { policy, samples: VecDeque::new() }
    }

    /// Returns the revision below which no history is wanted, if there is one.
    fn look(&mut self, now: Duration, current: Revision) -> Option<Revision> {
        match self.policy {
            AutoCompaction::Off => None,
            AutoCompaction::Revisions(kept) => {
                let oldest = current.0.saturating_sub(kept);
                (oldest > Revision::FIRST.0).then_some(Revision(oldest))
            }
            AutoCompaction::Periodic(retention) => {
                self.samples.push_back((now, current));
                let mut oldest = None;
                while let Some(&(taken, revision)) = self.samples.front() {
                    if now.saturating_sub(taken) < retention {
                        break;
                    }
                    oldest = Some(revision);
                    self.samples.pop_front();
                }
                oldest
            }
        }
    }
}

/// Compacts until the member ends.
pub(crate) async fn run(policy: AutoCompaction, node: Arc<Node>, stop: CancellationToken) {
    let Some(interval) = policy.interval() else { return };
    let started = node.env().now();
    let mut schedule = Schedule::new(policy);
    while !stop.is_cancelled() {
        let now = node.env().now().saturating_duration_since(started);
        let (current, compacted) = {
            let store = node.machine().store();
            (store.current_revision(), store.compact_revision())
        };
        if let Some(revision) = schedule.look(now, current).filter(|revision| *revision > compacted)
            && node.is_leader()
        {
            stop.run_until_cancelled(compact(&node, revision)).await;
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = tokio::time::sleep(interval) => {}
        }
    }
}

async fn compact(node: &Node, revision: Revision) {
    match node.propose(Request::of(&Command::Compact { revision }), 0).await {
        Ok(Ok(_)) => tracing::info!(%revision, "compacted"),
        // Somebody else was faster, or an alarm forbids it.
        Ok(Err(refusal)) => tracing::debug!(%revision, %refusal, "not compacted"),
        Err(error) => tracing::debug!(%revision, ?error, "not compacted for now"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn history_of_the_last_hour_is_kept() {
        let mut schedule = Schedule::new(AutoCompaction::Periodic(HOUR));
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        for tenth in 0..10 {
            let revision = Revision(i64::try_from(tenth).unwrap() + 100);
            assert_eq!(schedule.look(minutes(6 * tenth), revision), None, "an hour is not over");
        }
        assert_eq!(schedule.look(minutes(60), Revision(200)), Some(Revision(100)));
        assert_eq!(schedule.look(minutes(66), Revision(200)), Some(Revision(101)));
        // After a pause everything that is old enough goes at once.
        assert_eq!(schedule.look(minutes(600), Revision(300)), Some(Revision(200)));
        assert_eq!(schedule.samples.len(), 1);
    }

    #[test]
    fn so_many_revisions_are_kept() {
        let mut schedule = Schedule::new(AutoCompaction::Revisions(1000));
        assert_eq!(schedule.look(Duration::ZERO, Revision(1001)), None);
        assert_eq!(schedule.look(Duration::ZERO, Revision(1002)), Some(Revision(2)));
        assert_eq!(schedule.look(Duration::ZERO, Revision(i64::MAX)), Some(Revision(i64::MAX - 1000)));
    }

    #[test]
    fn nothing_is_compacted_when_it_is_off() {
        assert_eq!(Schedule::new(AutoCompaction::Off).look(HOUR, Revision(1000)), None);
        assert_eq!(AutoCompaction::Off.interval(), None);
    }

    #[test]
    fn samples_are_a_tenth_of_the_retention_apart() {
        let interval = |retention| AutoCompaction::Periodic(retention).interval();
        assert_eq!(interval(HOUR), Some(Duration::from_secs(360)));
        assert_eq!(interval(24 * HOUR), Some(INTERVAL_MAX));
        assert_eq!(interval(Duration::from_secs(1)), Some(INTERVAL_MIN));
    }
}
