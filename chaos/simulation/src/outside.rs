//! The time of day and chance of a simulated process: virtual time since a fixed moment, and numbers from the seed.

use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use transport::outside::Outside;
use uuid::{Builder, Uuid};

use crate::machine::lock;

/// When every simulation begins: 2026-01-01T00:00:00Z.
const FIRST_MOMENT_SECONDS: i64 = 1_767_225_600;

/// One process's. All clocks tell the same time of day: a clock whose rate is wrong is wrong for the monotonic time, by which waits go.
#[derive(Debug)]
pub(crate) struct SimOutside {
    random: Mutex<SmallRng>,
}

impl SimOutside {
    pub(crate) fn shared(seed: u64) -> Arc<dyn Outside> {
        Arc::new(Self { random: Mutex::new(SmallRng::seed_from_u64(seed)) })
    }
}

impl Outside for SimOutside {
    fn now(&self) -> Timestamp {
        let first = Timestamp::from_second(FIRST_MOMENT_SECONDS).unwrap_or(Timestamp::UNIX_EPOCH);
        first.checked_add(turmoil::sim_elapsed().unwrap_or_default()).unwrap_or(Timestamp::MAX)
    }

    fn uuid(&self) -> Uuid {
        let mut bytes = [0; 16];
        lock(&self.random).fill_bytes(&mut bytes);
        Builder::from_random_bytes(bytes).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_draw_equal_ids_and_time_stands_outside_a_simulation() {
        let (one, two, other) = (SimOutside::shared(1), SimOutside::shared(1), SimOutside::shared(2));
        let ids = |outside: &Arc<dyn Outside>| [outside.uuid(), outside.uuid()];
        let drawn = ids(&one);
        assert_eq!(drawn, ids(&two));
        assert_ne!(drawn, ids(&other));
        assert_eq!(one.now().to_string(), "2026-01-01T00:00:00Z");
    }
}
