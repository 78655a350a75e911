//! Plants in chaos itself: what is broken there must never end in a pass.

use std::time::Duration;

use crate::plan::Kind;
use crate::plants::{Expected, Plant, Real, Simulated, Tier};

pub(super) const PLANTS: &[Plant] = &[
    Plant {
        name: "canary",
        origin: "TigerBeetle's canary: who never hears an alarm does not know whether it rings",
        tier: Tier::Simulated(Simulated { seed: 15, seeds: 16, ..Simulated::USUAL }),
        expected: Expected::FoundBy(&["invariants"]),
    },
    Plant {
        name: "completions-lost",
        origin: "a history without some completions is no history of what happened",
        tier: Tier::Simulated(Simulated { kinds: &[Kind::Kill], seed: 2, ..Simulated::USUAL }),
        expected: Expected::Invalid("the history is broken"),
    },
    Plant {
        name: "checker-gives-up",
        origin: "what a checker could not judge is no pass",
        tier: Tier::Simulated(Simulated { workload: "append", ..Simulated::USUAL }),
        expected: Expected::Invalid("the dependencies are more than"),
    },
    Plant {
        name: "reads-the-wall-clock",
        origin: "a simulator that knows what time it really is repeats nothing",
        tier: Tier::Simulated(Simulated { seed: 2, ..Simulated::USUAL }),
        expected: Expected::AnotherTrace,
    },
    Plant {
        name: "nothing-is-paused",
        origin: "a fault that does nothing shows that a store survives nothing",
        tier: Tier::Real(Real {
            workload: "register",
            nemesis: "pause",
            lasts: Duration::from_secs(10),
            seed: 1,
            seeds: 1,
        }),
        expected: Expected::Invalid("left no witness"),
    },
    Plant {
        name: "stale-read",
        origin: "the same on real processes, sockets and disks",
        tier: Tier::Real(Real {
            workload: "register",
            nemesis: "partition",
            lasts: Duration::from_secs(15),
            seed: 1,
            seeds: 2,
        }),
        expected: Expected::FoundBy(&["witness"]),
    },
];
