//! Exponential delays with jitter, reset by success. Pure: randomness comes in as a seed.

use std::time::Duration;

/// Delays that double up to a maximum.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    failure_count: u32,
    seed: u64,
}

impl Backoff {
    /// Starts at `first` and never exceeds `max`; `seed` spreads the delays of different callers.
    #[must_use]
    pub fn new(first: Duration, max: Duration, seed: u64) -> Self {
        Self { first, max, failure_count: 0, seed: seed | 1 }
    }

    /// Returns the next delay, between half and all of the exponential step.
    pub fn next_delay(&mut self) -> Duration {
        let step = self.first.saturating_mul(2_u32.saturating_pow(self.failure_count)).min(self.max);
        self.failure_count = self.failure_count.saturating_add(1);
        let half = step / 2;
        let spread = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).max(1);
        half + Duration::from_nanos(self.random() % spread)
    }

    /// Starts over after a success.
    pub fn reset(&mut self) {
        self.failure_count = 0;
    }

    /// xorshift64: enough to spread callers, and reproducible from the seed.
    fn random(&mut self) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_maximum_and_reset() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1), 7);
        for step_ms in [100, 200, 400, 800, 1000, 1000] {
            let delay = backoff.next_delay().as_millis();
            assert!(delay >= step_ms / 2 && delay <= step_ms, "{delay} for step {step_ms}");
        }
        backoff.reset();
        assert!(backoff.next_delay() <= Duration::from_millis(100));
    }
}
