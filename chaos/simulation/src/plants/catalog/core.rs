//! Plants in the state that all members agree on.

use crate::plan::Kind;
use crate::plants::aims;
use crate::plants::{Expected, Plant, Simulated, Tier};

pub(super) const PLANTS: &[Plant] = &[
    Plant {
        name: "compare-of-revisions-holds",
        origin: "ABA: a compare that does not see what has changed",
        tier: Tier::Simulated(Simulated { workload: "cas", ..Simulated::USUAL }),
        expected: Expected::FoundBy(&["witness", "counter"]),
    },
    Plant {
        name: "absent-value-equals",
        origin: "a value is compared where there is none",
        tier: Tier::Simulated(Simulated { workload: "txn", ..Simulated::USUAL }),
        expected: Expected::FoundBy(&["witness"]),
    },
    Plant {
        name: "deletes-count-tombstones",
        origin: "keys that were deleted before are counted again",
        tier: Tier::Simulated(Simulated { workload: "txn", ..Simulated::USUAL }),
        expected: Expected::FoundBy(&["witness"]),
    },
    Plant {
        name: "version-stands-still",
        origin: "a key's version does not count its writes",
        tier: Tier::Simulated(Simulated { ..Simulated::USUAL }),
        expected: Expected::FoundBy(&["witness"]),
    },
    Plant {
        name: "past-read-from-cache",
        origin: "a read of the past answers with the newest row",
        tier: Tier::Simulated(Simulated { workload: "compact", ..Simulated::USUAL }),
        expected: Expected::FoundBy(&["members"]),
    },
    Plant {
        name: "compact-revision-unreadable",
        origin: "the compact revision itself is refused",
        tier: Tier::Simulated(Simulated { workload: "compact", ..Simulated::USUAL }),
        expected: Expected::FoundBy(&["compaction"]),
    },
    Plant {
        name: "held-row-collected",
        origin: "etcd 18089: what held at the compact revision is collected",
        tier: Tier::Simulated(Simulated { workload: "compact", ..Simulated::USUAL }),
        expected: Expected::FoundBy(&["compaction", "witness", "convergence"]),
    },
    Plant {
        name: "collected-rows-stay",
        origin: "etcd 17780: a crash in a compaction, and a revision that comes again",
        tier: Tier::Simulated(Simulated {
            workload: "compact",
            kinds: &[Kind::Kill, Kind::PowerLoss],
            ..Simulated::USUAL
        }),
        expected: Expected::FoundBy(&["process"]),
    },
    Plant {
        name: "tombstone-lost",
        origin: "etcd 18089, 19179: a compaction takes away the delete at its own revision",
        tier: Tier::Simulated(Simulated {
            workload: "compact",
            aim: aims::little_for_watches,
            ..Simulated::USUAL
        }),
        expected: Expected::FoundBy(&["watch"]),
    },
    Plant {
        name: "readable-until-collected",
        origin: "etcd 18667: a transaction reads what is compacted, and each member answers as far as it has collected",
        tier: Tier::Simulated(Simulated { workload: "compact", ..Simulated::USUAL }),
        expected: Expected::FoundBy(&["compaction", "witness", "convergence", "members"]),
    },
];
