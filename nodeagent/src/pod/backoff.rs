//! Exponential back-off that starts after the first repeat and is forgotten after a long calm, as upstream counts it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// Delay before the second restart (upstream: `initialCrashLoopBackOff`).
pub const FIRST: Duration = Duration::from_secs(10);
/// Longest delay (upstream: `MaxContainerBackOff`).
pub const LONGEST: Duration = Duration::from_secs(300);

/// Counts the repeats of one thing: a container's restarts, an image's pulls, a pod's sandboxes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backoff {
    entry: Option<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    delay: Duration,
    updated: Timestamp,
}

impl Backoff {
    /// Returns when the next try may happen after an end at `ended`; `None` means now.
    #[must_use]
    pub fn blocked_until(&self, ended: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let entry = self.entry.as_ref().filter(|entry| !expired(entry, ended))?;
        let until = ended.saturating_add(signed(entry.delay)).ok()?;
        (now < until).then_some(until)
    }

    /// Returns the present delay.
    #[must_use]
    pub fn delay(&self) -> Duration {
        self.entry.as_ref().map_or(Duration::ZERO, |entry| entry.delay)
    }

    /// Notes a try at `now` after an end at `ended`.
    pub fn note(&mut self, ended: Timestamp, now: Timestamp) {
        let delay = match &self.entry {
            Some(entry) if !expired(entry, ended) => entry.delay.saturating_mul(2).min(LONGEST),
            _ => FIRST,
        };
        self.entry = Some(Entry { delay, updated: now });
    }

    /// Forgets everything, after a success.
    pub fn reset(&mut self) {
        self.entry = None;
    }
}

/// A run of twice the longest delay counts as healthy.
fn expired(entry: &Entry, ended: Timestamp) -> bool {
    ended.duration_since(entry.updated) > signed(LONGEST.saturating_mul(2))
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn delays_double_from_ten_seconds_to_five_minutes() {
        let mut backoff = Backoff::default();
        let mut now = 1000;
        let mut delays = Vec::new();
        for _ in 0..7 {
            let until = backoff.blocked_until(at(now), at(now));
            delays.push(until.map_or(0, |until| until.as_second() - now));
            now = until.map_or(now, |until| until.as_second());
            backoff.note(at(now), at(now));
        }
        assert_eq!(delays, [0, 10, 20, 40, 80, 160, 300]);
    }

    #[test]
    fn a_long_clean_run_is_forgiven() {
        let mut backoff = Backoff::default();
        backoff.note(at(0), at(0));
        backoff.note(at(10), at(10));
        assert!(backoff.blocked_until(at(100), at(100)).is_some());
        assert_eq!(backoff.blocked_until(at(700), at(700)), None);
    }
}
