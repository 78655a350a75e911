//! Plants in the API server, in controllers and in node agents: whole servers show them.

use std::time::Duration;

use crate::plants::{Expected, Plant, Real, Tier};

/// What most of them need: no faults, and time enough for some hundred requests.
const CALM: Real =
    Real { workload: "k-occ", nemesis: "none", lasts: Duration::from_secs(10), seed: 1, seeds: 3 };
/// Informers, long enough for bookmarks.
const INFORMED: Real = Real { workload: "k-listwatch", lasts: Duration::from_secs(20), ..CALM };
const ROLLED: Real = Real { workload: "k-replicas", lasts: Duration::from_secs(15), ..CALM };
const SCHEDULED: Real = Real { workload: "k-sched", lasts: Duration::from_secs(20), ..CALM };
/// Every server is restarted once, and with it whoever leads the controllers.
const RESTARTED: Real = Real { workload: "k-orphans", nemesis: "restart", ..CALM };
/// Real containers, whose agents are killed: long enough for some to run by then.
const CONTAINED: Real =
    Real { workload: "k-node", nemesis: "kill-agent", lasts: Duration::from_secs(20), ..CALM };

pub(super) const PLANTS: &[Plant] = &[
    Plant {
        name: "put-ignores-version",
        origin: "API conventions: an update that names an old resourceVersion is answered with 409",
        tier: Tier::Kubernetes(CALM),
        expected: Expected::FoundBy(&["k-occ"]),
    },
    Plant {
        name: "commit-compares-no-revision",
        origin: "a condition that is looked at before the commit, and not in it",
        tier: Tier::Kubernetes(CALM),
        expected: Expected::FoundBy(&["k-occ"]),
    },
    Plant {
        name: "watch-begins-too-late",
        origin: "kubernetes 49992, 116122: a watch off by one behind the revision that it goes on from",
        tier: Tier::Kubernetes(INFORMED),
        expected: Expected::FoundBy(&["k-listwatch"]),
    },
    Plant {
        name: "list-of-this-server",
        origin: "kubernetes 59848: a list of a server that is behind goes back in time",
        // A server that does not hear what the others acknowledge.
        tier: Tier::Kubernetes(Real { nemesis: "partition", ..INFORMED }),
        expected: Expected::FoundBy(&["k-listwatch"]),
    },
    Plant {
        name: "bookmark-before-its-event",
        origin: "etcd 15220, one floor up: who goes on from the bookmark never sees the event",
        tier: Tier::Kubernetes(INFORMED),
        expected: Expected::FoundBy(&["k-listwatch"]),
    },
    Plant {
        name: "deletion-at-the-last-version",
        origin: "kubernetes 58545: the event of a deletion carries the resourceVersion of the change before it",
        tier: Tier::Kubernetes(INFORMED),
        expected: Expected::FoundBy(&["k-listwatch"]),
    },
    Plant {
        name: "own-writes-not-awaited",
        origin: "kubernetes 129795: a ReplicaSet that does not wait for what it expects makes pods twice",
        tier: Tier::Kubernetes(ROLLED),
        expected: Expected::FoundBy(&["k-replicas"]),
    },
    Plant {
        name: "readiness-unobserved",
        origin: "a controller that acts on events alone, and misses some",
        tier: Tier::Kubernetes(ROLLED),
        expected: Expected::FoundBy(&["k-replicas"]),
    },
    Plant {
        name: "rollout-forgets-old-sets",
        origin: "a rolling update never has more pods than replicas and surge",
        tier: Tier::Kubernetes(ROLLED),
        expected: Expected::FoundBy(&["k-replicas"]),
    },
    Plant {
        name: "unknown-owner-is-gone",
        origin: "kubernetes 88097: not knowing an owner is taken for its absence",
        tier: Tier::Kubernetes(RESTARTED),
        expected: Expected::FoundBy(&["k-orphans"]),
    },
    Plant {
        name: "unknown-owner-is-there",
        origin: "kubernetes 109748: orphans that were there before the collector began are skipped",
        tier: Tier::Kubernetes(RESTARTED),
        expected: Expected::FoundBy(&["k-orphans"]),
    },
    Plant {
        name: "orphan-policy-ignored",
        origin: "an owner that is deleted under the policy Orphan lets its dependents go",
        tier: Tier::Kubernetes(Real { workload: "k-orphans", ..CALM }),
        expected: Expected::FoundBy(&["k-orphans"]),
    },
    Plant {
        name: "fence-not-compared",
        origin: "Kleppmann, 2016: a lock without a fence, held by somebody who has slept",
        tier: Tier::Kubernetes(Real { workload: "k-leader", lasts: Duration::from_secs(15), ..CALM }),
        expected: Expected::FoundBy(&["k-leader"]),
    },
    Plant {
        name: "free-room-wakes-nobody",
        origin: "a pod that waits for room is scheduled once there is some",
        tier: Tier::Kubernetes(SCHEDULED),
        expected: Expected::FoundBy(&["k-sched"]),
    },
    Plant {
        name: "adoption-forgotten",
        origin: "kubernetes 15186: an agent that comes back starts again what runs",
        tier: Tier::Kubernetes(CONTAINED),
        expected: Expected::FoundBy(&["k-node"]),
    },
    Plant {
        name: "ended-pod-started-again",
        origin: "kubernetes 37447: a pod that has ended is started again",
        tier: Tier::Kubernetes(CONTAINED),
        expected: Expected::FoundBy(&["k-node"]),
    },
];
