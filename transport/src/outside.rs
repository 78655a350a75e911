//! The time of day and chance, as a process takes them from outside.
//!
//! Whoever serves the API or calls it is handed one at its start and reads no other wall clock and no other randomness, but for keys and
//! signatures. Monotonic time is tokio's. So a simulation decides both, and two runs of one seed write the same bytes.

use std::fmt::Debug;
use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

/// Where time and chance come from.
pub trait Outside: Debug + Send + Sync + 'static {
    /// Returns the time of day.
    fn now(&self) -> Timestamp;

    /// Returns an id that no one else draws (version 4, RFC 9562).
    fn uuid(&self) -> Uuid;
}

/// The machine's clock and its source of randomness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Machine;

impl Machine {
    /// Returns it as those take it who are handed one.
    #[must_use]
    pub fn shared() -> Arc<dyn Outside> {
        Arc::new(Self)
    }
}

impl Outside for Machine {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn uuid(&self) -> Uuid {
        Uuid::new_v4()
    }
}
