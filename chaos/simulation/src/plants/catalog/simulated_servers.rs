//! Plants in the API server and in controllers that simulated servers show: two seconds of a core each, and no root. The real tier is
//! asked for most of them, too: what differs there is the tier itself.

use crate::plan::Kind;
use crate::plants::{Expected, Plant, Simulated, Tier};

pub(super) const PLANTS: &[Plant] = &[
    Plant {
        name: "put-ignores-version",
        origin: "API conventions: an update that names an old resourceVersion is answered with 409",
        tier: Tier::SimulatedServers(Simulated { workload: "k-occ", ..Simulated::USUAL }),
        expected: Expected::FoundBy(&["k-occ"]),
    },
    Plant {
        name: "commit-compares-no-revision",
        origin: "a condition that is looked at before the commit, and not in it",
        tier: Tier::SimulatedServers(Simulated { workload: "k-occ", ..Simulated::USUAL }),
        expected: Expected::FoundBy(&["k-occ"]),
    },
    Plant {
        name: "watch-begins-too-late",
        origin: "kubernetes 49992, 116122: a watch off by one behind the revision that it goes on from",
        tier: Tier::SimulatedServers(Simulated { workload: "k-listwatch", ..Simulated::USUAL }),
        expected: Expected::FoundBy(&["k-listwatch"]),
    },
    Plant {
        name: "deletion-at-the-last-version",
        origin: "kubernetes 58545: the event of a deletion carries the resourceVersion of the change before it",
        tier: Tier::SimulatedServers(Simulated { workload: "k-listwatch", ..Simulated::USUAL }),
        expected: Expected::FoundBy(&["k-listwatch"]),
    },
    Plant {
        name: "fence-not-compared",
        origin: "Kleppmann, 2016: a lock without a fence, held by somebody who has slept",
        tier: Tier::SimulatedServers(Simulated { workload: "k-leader", ..Simulated::USUAL }),
        expected: Expected::FoundBy(&["k-leader"]),
    },
    Plant {
        name: "orphan-policy-ignored",
        origin: "an owner that is deleted under the policy Orphan lets its dependents go",
        tier: Tier::SimulatedServers(Simulated { workload: "k-orphans", ..Simulated::USUAL }),
        expected: Expected::FoundBy(&["k-orphans"]),
    },
    Plant {
        name: "list-of-this-server",
        origin: "kubernetes 59848: a list of a server that is behind goes back in time",
        // A server that does not hear what the others acknowledge.
        tier: Tier::SimulatedServers(Simulated {
            workload: "k-listwatch",
            kinds: &[Kind::Partition],
            seed: 2,
            ..Simulated::USUAL
        }),
        expected: Expected::FoundBy(&["k-listwatch"]),
    },
    Plant {
        name: "bookmark-before-its-event",
        origin: "etcd 15220, one floor up: who goes on from the bookmark never sees the event",
        tier: Tier::SimulatedServers(Simulated { workload: "k-listwatch", ..Simulated::USUAL }),
        expected: Expected::FoundBy(&["k-listwatch"]),
    },
    Plant {
        name: "rollout-forgets-old-sets",
        origin: "a rolling update never has more pods than replicas and surge",
        tier: Tier::SimulatedServers(Simulated { workload: "k-replicas", ..Simulated::USUAL }),
        expected: Expected::FoundBy(&["k-replicas"]),
    },
];
