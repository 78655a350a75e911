//! Plants in watches.

use crate::plan::Kind;
use crate::plants::aims;
use crate::plants::{Expected, Plant, Simulated, Tier};

pub(super) const PLANTS: &[Plant] = &[
    Plant {
        name: "events-told-twice",
        origin: "etcd 17247: events of one transaction twice",
        tier: Tier::Simulated(Simulated { workload: "watch", ..Simulated::USUAL }),
        expected: Expected::FoundBy(&["watch"]),
    },
    Plant {
        name: "snapshot-loses-events",
        origin: "etcd 15271: a watch across a state that is taken over",
        tier: Tier::Simulated(Simulated {
            workload: "watch",
            kinds: &[Kind::Partition, Kind::Hold],
            aim: aims::short_logs,
            ..Simulated::USUAL
        }),
        expected: Expected::FoundBy(&["watch"]),
    },
    Plant {
        name: "progress-overtakes",
        origin: "etcd 15220: progress ahead of events",
        tier: Tier::Simulated(Simulated { workload: "watch", ..Simulated::USUAL }),
        expected: Expected::FoundBy(&["watch"]),
    },
    Plant {
        name: "events-before-the-start",
        origin: "etcd 20221: a watch of the future is shown the past",
        tier: Tier::Simulated(Simulated { workload: "watch", kinds: &[Kind::Hold], ..Simulated::USUAL }),
        expected: Expected::FoundBy(&["watch"]),
    },
    Plant {
        name: "previous-is-the-new",
        origin: "what a key held before is not what is told",
        tier: Tier::Simulated(Simulated { workload: "watch", ..Simulated::USUAL }),
        expected: Expected::FoundBy(&["watch"]),
    },
    Plant {
        name: "filter-leaks",
        origin: "a watch shows keys that it was not asked for",
        tier: Tier::Simulated(Simulated { workload: "watch", ..Simulated::USUAL }),
        expected: Expected::FoundBy(&["watch"]),
    },
    Plant {
        name: "catches-up-too-far",
        origin: "kubernetes 49992, 116122: one too far after reading on from storage",
        tier: Tier::Simulated(Simulated { workload: "watch", kinds: &[Kind::Hold], ..Simulated::USUAL }),
        expected: Expected::FoundBy(&["watch"]),
    },
    Plant {
        name: "overflow-loses-events",
        origin: "etcd 17529: events lost for a slow watcher",
        tier: Tier::Simulated(Simulated {
            workload: "watch",
            aim: aims::little_for_watches,
            ..Simulated::USUAL
        }),
        expected: Expected::FoundBy(&["watch"]),
    },
];
