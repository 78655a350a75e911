//! PrioritySort: the order of the active queue. Higher priority first, then who waits longer.

use std::cmp::Reverse;
use std::time::Instant;

/// Sorts pods in the active queue; the smallest goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueuePosition {
    priority: Reverse<i32>,
    queued_at: Instant,
    /// Pods queued at the same instant keep their order of arrival.
    sequence: u64,
}

impl QueuePosition {
    /// Returns the position of a pod of `priority` that was queued at `queued_at` as number `sequence`.
    pub fn new(priority: i32, queued_at: Instant, sequence: u64) -> Self {
        Self { priority: Reverse(priority), queued_at, sequence }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn priority_goes_before_age_and_age_before_arrival() {
        let early = Instant::now();
        let late = early + Duration::from_secs(1);
        let mut positions = [
            QueuePosition::new(0, early, 1),
            QueuePosition::new(0, early, 0),
            QueuePosition::new(-1, early, 2),
            QueuePosition::new(7, late, 3),
        ];
        positions.sort();
        let sequences: Vec<u64> = positions.iter().map(|position| position.sequence).collect();
        assert_eq!(sequences, [3, 0, 1, 2]);
    }
}
