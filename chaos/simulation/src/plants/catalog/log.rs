//! Plants in the log and in what a crash leaves.

use crate::plan::Kind;
use crate::plants::aims;
use crate::plants::{Expected, Plant, Simulated, Tier};

pub(super) const PLANTS: &[Plant] = &[
    Plant {
        name: "acknowledged-unsynced",
        origin: "etcd 14370, 14140: an answer before the write is durable",
        tier: Tier::Simulated(Simulated {
            workload: "set",
            kinds: &[Kind::PowerLoss],
            aim: aims::power_goes_everywhere,
            ..Simulated::USUAL
        }),
        expected: Expected::FoundBy(&["members"]),
    },
    Plant {
        name: "vote-before-durable",
        origin: "raft, section 5.2: a vote that a power loss takes back may be cast twice",
        tier: Tier::Simulated(Simulated { aim: aims::at_elections, ..Simulated::USUAL }),
        expected: Expected::FoundBy(&["invariants"]),
    },
    Plant {
        name: "failed-sync-ignored",
        origin: "PostgreSQL's lost errors of fsync, 2018: a sync that failed counts as one",
        tier: Tier::Simulated(Simulated {
            kinds: &[Kind::FailedSync, Kind::Kill],
            seed: 7,
            ..Simulated::USUAL
        }),
        expected: Expected::FoundBy(&["members"]),
    },
    Plant {
        name: "applied-id-apart",
        origin: "etcd 13766: applied index and data in two writes, so that a crash applies entries twice",
        tier: Tier::Simulated(Simulated {
            kinds: &[Kind::Kill, Kind::PowerLoss, Kind::Restart],
            aim: aims::nobody_compares,
            ..Simulated::USUAL
        }),
        expected: Expected::FoundBy(&["convergence", "witness"]),
    },
    Plant {
        name: "revision-comes-again",
        origin: "etcd 17780: a restart gives a revision again",
        tier: Tier::Simulated(Simulated {
            kinds: &[Kind::Kill, Kind::Restart],
            aim: aims::nobody_compares,
            ..Simulated::USUAL
        }),
        expected: Expected::FoundBy(&["convergence", "witness", "members", "process"]),
    },
    Plant {
        name: "txn-in-two-batches",
        origin: "half of a transaction is kept by a crash",
        tier: Tier::Simulated(Simulated {
            workload: "txn",
            kinds: &[Kind::Kill, Kind::PowerLoss, Kind::Restart],
            ..Simulated::USUAL
        }),
        expected: Expected::FoundBy(&["members", "bank", "witness", "convergence"]),
    },
    Plant {
        name: "snapshot-before-durable",
        origin: "openraft leaves it to the store: the log is purged up to a state that is not durable",
        tier: Tier::Simulated(Simulated {
            kinds: &[Kind::PowerLoss],
            aim: aims::short_logs,
            ..Simulated::USUAL
        }),
        expected: Expected::FoundBy(&["members", "process", "recovery", "witness"]),
    },
    Plant {
        name: "checksum-unread",
        origin: "etcd's log, record by record: what a power cut has torn is replayed as it is",
        tier: Tier::Simulated(Simulated {
            workload: "set",
            aim: aims::power_goes_in_writes,
            ..Simulated::USUAL
        }),
        expected: Expected::FoundBy(&["members", "convergence", "witness", "process"]),
    },
];
