//! Requests that took long, logged with where their time went.
//!
//! ```text
//! asked ──queue──► in this member's log ──fsync──► durable here ──consensus──► committed ──apply──► answered
//! ```
//!
//! On a member that does not lead, the way to the leader and back is part of the queue. Times are those of this member alone, so
//! where others were faster than its own disk, nothing is left for consensus.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::metrics::Counters;
use crate::mvcc::Command;
use crate::wire::decode_command;

/// Lines per second: more would make what is slow slower. Those that are left out are counted.
const LINES_MAX: u32 = 10;

/// Where in the log an answer comes from, and when this member began to apply it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub(crate) index: u64,
    pub(crate) began: Instant,
}

/// When an entry came into this member's log, and when it was durable there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogTimes {
    pub(crate) appended: Instant,
    pub(crate) flushed: Option<Instant>,
}

/// The parts of a write's time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Spent {
    queue: Duration,
    fsync: Duration,
    consensus: Duration,
    apply: Duration,
}

/// Watches how long requests take.
pub(crate) struct SlowLog {
    threshold: Duration,
    counters: Counters,
    second: Mutex<Second>,
}

struct Second {
    began: Instant,
    lines: u32,
    left_out: u64,
}

impl SlowLog {
    pub(crate) fn new(threshold: Duration, counters: Counters) -> Self {
        Self { threshold, counters, second: Mutex::new(Second::new(Instant::now())) }
    }

    pub(crate) fn is_slow(&self, took: Duration) -> bool {
        took > self.threshold
    }

    /// Notes a write that was answered. `times` is asked only of a slow one.
    pub(crate) fn write(
        &self,
        asked: Instant,
        place: Option<Place>,
        command: &Bytes,
        times: impl FnOnce(u64) -> Option<LogTimes>,
    ) {
        let took = asked.elapsed();
        let Some(left_out) = self.admit(took) else { return };
        let times = place.and_then(|place| Some((place, times(place.index)?)));
        let spent =
            times.map_or_else(Spent::default, |(place, times)| spent(asked, place, times, asked + took));
        let Spent { queue, fsync, consensus, apply } = spent;
        let kind = decode_command(command.clone()).map_or("unknown", |command| kind(&command));
        let bytes = command.len();
        tracing::warn!(kind, bytes, ?took, ?queue, ?fsync, ?consensus, ?apply, left_out, "slow request");
    }

    /// Notes the confirmation of a read: what a quorum took, and what this member then had still to apply.
    pub(crate) fn read(&self, consensus: Duration, apply: Duration) {
        let took = consensus + apply;
        let Some(left_out) = self.admit(took) else { return };
        self.counters.read_indexes_slow.inc();
        tracing::warn!(kind = "read index", ?took, ?consensus, ?apply, left_out, "slow request");
    }

    /// Returns how many lines were left out before, if this request is slow and there is room for its line.
    fn admit(&self, took: Duration) -> Option<u64> {
        if !self.is_slow(took) {
            return None;
        }
        self.counters.slow_requests.inc();
        self.second.lock().unwrap_or_else(PoisonError::into_inner).admit(Instant::now())
    }
}

impl Second {
    fn new(began: Instant) -> Self {
        Self { began, lines: 0, left_out: 0 }
    }

    fn admit(&mut self, now: Instant) -> Option<u64> {
        if now.saturating_duration_since(self.began) >= Duration::from_secs(1) {
            (self.began, self.lines) = (now, 0);
        }
        if self.lines == LINES_MAX {
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

fn spent(asked: Instant, place: Place, times: LogTimes, answered: Instant) -> Spent {
    let flushed = times.flushed.map_or(place.began, |flushed| flushed.min(place.began));
    Spent {
        queue: times.appended.saturating_duration_since(asked),
        fsync: flushed.saturating_duration_since(times.appended),
        consensus: place.began.saturating_duration_since(flushed),
        apply: answered.saturating_duration_since(place.began),
    }
}

fn kind(command: &Command) -> &'static str {
    match command {
        Command::Guarded { command, .. } => kind(command),
        Command::Txn(_) => "txn",
        Command::Compact { .. } => "compact",
        Command::LeaseGrant { .. } => "lease grant",
        Command::LeaseRevoke { .. } => "lease revoke",
        Command::LeaseExpire { .. } => "lease expire",
        Command::LeaseCheckpoint { .. } => "lease checkpoint",
        Command::AlarmRaise(_) | Command::AlarmClear(_) => "alarm",
        Command::CompareStates(_) => "comparison",
        Command::RaiseLevel(_) => "feature level",
        Command::SetDowngrade(_) => "downgrade",
        Command::Auth(_) => "auth",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn check(flushed_ms: Option<u32>, expected: [u32; 4]) {
        let asked = Instant::now();
        let at = |ms: u32| asked + ms * MS;
        let times = LogTimes { appended: at(10), flushed: flushed_ms.map(at) };
        let Spent { queue, fsync, consensus, apply } =
            spent(asked, Place { index: 1, began: at(70) }, times, at(150));
        assert_eq!([queue, fsync, consensus, apply], expected.map(|ms| ms * MS), "{flushed_ms:?}");
    }

    #[test]
    fn the_parts_of_a_request_make_up_its_time() {
        check(Some(30), [10, 20, 40, 80]);
        // Others had it on disk first, and were enough.
        check(Some(90), [10, 60, 0, 80]);
        check(None, [10, 60, 0, 80]);
    }

    #[test]
    fn lines_are_bounded_and_those_left_out_are_told() {
        let start = Instant::now();
        let mut second = Second::new(start);
        for _ in 0..LINES_MAX {
            assert_eq!(second.admit(start), Some(0));
        }
        assert_eq!([second.admit(start), second.admit(start)], [None, None]);
        let later = start + Duration::from_secs(1);
        assert_eq!([second.admit(later), second.admit(later)], [Some(2), Some(0)]);
    }

    #[test]
    fn only_what_takes_longer_than_the_threshold_is_slow() {
        let counters = Counters::default();
        let slow = SlowLog::new(100 * MS, counters.clone());
        slow.read(50 * MS, 50 * MS);
        slow.read(50 * MS, 51 * MS);
        assert_eq!((counters.slow_requests.get(), counters.read_indexes_slow.get()), (1, 1));
    }
}
