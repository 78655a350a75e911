//! Plants in what members tell each other.

use crate::plan::Kind;
use crate::plants::aims;
use crate::plants::{Expected, Plant, Simulated, Tier};

pub(super) const PLANTS: &[Plant] = &[
    Plant {
        name: "read-without-quorum",
        origin: "etcd 20418, 14140: a leader that was replaced answers reads",
        tier: Tier::Simulated(Simulated { kinds: &[Kind::Partition, Kind::Hold], ..Simulated::USUAL }),
        expected: Expected::FoundBy(&["witness"]),
    },
    Plant {
        name: "stale-read",
        origin: "etcd before 3.1: reads of any member are served as they are there",
        tier: Tier::Simulated(Simulated { kinds: &[Kind::Partition], ..Simulated::USUAL }),
        expected: Expected::FoundBy(&["witness"]),
    },
    Plant {
        name: "read-ahead-of-apply",
        origin: "etcd 21375: a read that is confirmed and not yet applied",
        tier: Tier::Simulated(Simulated { kinds: &[Kind::Hold, Kind::Delay], seed: 2, ..Simulated::USUAL }),
        expected: Expected::FoundBy(&["witness"]),
    },
    Plant {
        name: "old-round-reused",
        origin: "etcd 20418: a confirmation answers a read that came after it began",
        tier: Tier::Simulated(Simulated { kinds: &[Kind::Delay], seed: 5, ..Simulated::USUAL }),
        expected: Expected::FoundBy(&["witness"]),
    },
    Plant {
        name: "unknown-proposed-again",
        origin: "a write of unknown fate that a client's member proposes again",
        tier: Tier::Simulated(Simulated {
            kinds: &[Kind::Partition, Kind::Loss],
            seed: 6,
            ..Simulated::USUAL
        }),
        expected: Expected::FoundBy(&["witness"]),
    },
    Plant {
        name: "snapshot-never-arrives",
        origin: "openraft afd6508b: a follower behind the purged log is never sent a state",
        tier: Tier::Simulated(Simulated {
            kinds: &[Kind::Partition, Kind::Kill],
            aim: aims::short_logs,
            seed: 2,
            ..Simulated::USUAL
        }),
        expected: Expected::FoundBy(&["recovery"]),
    },
    Plant {
        name: "swap-asks-new-side-only",
        origin: "raft, section 6: two votes move without a majority of both sides",
        tier: Tier::Simulated(Simulated {
            kinds: &[Kind::Replace, Kind::Partition, Kind::Kill],
            ..Simulated::USUAL
        }),
        expected: Expected::FoundBy(&["invariants", "witness", "members", "recovery"]),
    },
];
