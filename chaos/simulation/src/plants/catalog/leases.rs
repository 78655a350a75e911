//! Plants in leases and locks.

use crate::plan::Kind;
use crate::plants::aims;
use crate::plants::{Expected, Plant, Simulated, Tier};

pub(super) const PLANTS: &[Plant] = &[
    Plant {
        name: "old-leader-ends-leases",
        origin: "etcd 15247: a leader that was replaced ends leases",
        tier: Tier::Simulated(Simulated {
            workload: "lease",
            kinds: &[Kind::Hold, Kind::ClockRate, Kind::Delay],
            seed: 8,
            ..Simulated::USUAL
        }),
        expected: Expected::FoundBy(&["lease"]),
    },
    Plant {
        name: "leases-never-end",
        origin: "etcd 10686: leases that are immortal after a change of the leader",
        tier: Tier::Simulated(Simulated {
            workload: "lease",
            kinds: &[Kind::MoveLeader, Kind::Kill],
            ..Simulated::USUAL
        }),
        expected: Expected::FoundBy(&["lease"]),
    },
    Plant {
        name: "revoked-lease-returns",
        origin: "a restart finds leases that were revoked",
        tier: Tier::Simulated(Simulated {
            workload: "lease",
            kinds: &[Kind::Kill, Kind::Restart],
            ..Simulated::USUAL
        }),
        expected: Expected::FoundBy(&["members", "lease", "convergence"]),
    },
    Plant {
        name: "compare-of-creation-holds",
        origin: "a lock that is taken though somebody holds it",
        tier: Tier::Simulated(Simulated { workload: "lock", ..Simulated::USUAL }),
        expected: Expected::FoundBy(&["lock", "witness"]),
    },
    Plant {
        name: "lock-without-a-look",
        origin: "etcd 11456: who waited for a lock gets it though the own lease is over",
        tier: Tier::Simulated(Simulated { workload: "lock", ..Simulated::USUAL }),
        expected: Expected::FoundBy(&["lock"]),
    },
    Plant {
        name: "snapshot-without-leases",
        origin: "etcd 17132, 13491: who takes over a state knows no lease",
        tier: Tier::Simulated(Simulated {
            workload: "lease",
            kinds: &[Kind::Kill, Kind::Restart],
            aim: aims::short_logs,
            ..Simulated::USUAL
        }),
        expected: Expected::FoundBy(&["members", "lease", "process", "convergence"]),
    },
];
