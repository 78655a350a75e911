//! Clocks that a run bends (`chaos sim`, fault `clock-rate`): what a member measures may pass faster there than in the history, whose time is
//! that of the slowest clock.

use crate::history::{Event, Fault, FaultKind, Phase};

/// Thousandths of the usual rate.
const USUAL: u64 = 1_000;
/// A clock keeps its rate this long, in nanoseconds, behind the event that ends the fault.
const LINGERS_NS: u64 = 10_000_000;

/// A clock that runs at another rate for a while.
#[derive(Clone, Copy, Debug)]
struct Bent {
    number: u32,
    from: u64,
    to: u64,
    permille: u64,
}

/// Which clocks were bent, and when.
#[derive(Clone, Debug, Default)]
pub(super) struct Clocks(Vec<Bent>);

impl Clocks {
    /// Reads what the nemesis tells of clocks.
    pub(super) fn of(events: &[Event]) -> Self {
        let mut bent: Vec<Bent> = Vec::new();
        for event in events {
            let Some((FaultKind::Clock, told)) = Fault::of(event) else { continue };
            let number = told.fault;
            if told.phase == Phase::End {
                let ended = bent.iter_mut().filter(|bent| bent.number == number && bent.to == u64::MAX);
                ended.for_each(|bent| bent.to = event.time.saturating_add(LINGERS_NS));
            } else if let Some(permille) = told.witness.get("permille").and_then(serde_json::Value::as_u64) {
                bent.push(Bent { number, from: event.time, to: u64::MAX, permille });
            }
        }
        Self(bent)
    }

    /// Returns the earliest time of the history at which a member may have counted `lasts` nanoseconds from `from` on.
    pub(super) fn earliest(&self, from: u64, lasts: u64) -> u64 {
        let to = from.saturating_add(lasts);
        let rates =
            || self.0.iter().filter(|bent| bent.from <= to && bent.to >= from).map(|bent| bent.permille);
        let fastest = rates().max().unwrap_or(USUAL).max(USUAL);
        let slowest = rates().min().unwrap_or(USUAL).min(USUAL);
        let least = u128::from(lasts) * u128::from(slowest) / u128::from(fastest);
        from.saturating_add(u64::try_from(least).unwrap_or(lasts))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::history::{EventKind, Function, Process};

    fn told(time: u64, fault: u32, phase: Phase, witness: Value) -> Event {
        let value = Fault {
            fault,
            phase,
            members: vec!["n1".to_owned()],
            leader: None,
            hit_leader: false,
            plan: Value::Null,
            witness,
            ended: Vec::new(),
        };
        Event {
            index: time,
            time,
            kind: EventKind::Info,
            process: Process::NEMESIS,
            f: Function::Fault(FaultKind::Clock),
            key: None,
            value: serde_json::to_value(value).unwrap(),
            node: None,
            rev: None,
            error: None,
        }
    }

    #[test]
    fn time_may_pass_faster_as_long_as_a_clock_is_bent() {
        let clocks = Clocks::of(&[
            told(100, 0, Phase::Witness, json!({ "permille": 2_000 })),
            told(150, 1, Phase::Witness, json!({ "permille": 500 })),
            told(200, 0, Phase::End, Value::Null),
            told(200, 1, Phase::End, Value::Null),
            // The wall clock jumps, and nobody measures with it.
            told(300, 2, Phase::Witness, json!({ "read": "an offset" })),
        ]);
        assert_eq!(clocks.earliest(0, 80), 80);
        assert_eq!(clocks.earliest(0, 120), 60, "twice as fast");
        assert_eq!(clocks.earliest(140, 20), 145, "and what counts the history's time is slow");
        assert_eq!(clocks.earliest(300 + LINGERS_NS, 80), 380 + LINGERS_NS);
        assert_eq!(Clocks::default().earliest(7, 80), 87);
    }
}
