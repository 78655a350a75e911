//! Plants in what is saved and restored: real processes show them, because the simulator restores nothing.

use std::time::Duration;

use crate::plants::{Expected, Plant, Real, Tier};

pub(super) const PLANTS: &[Plant] = &[Plant {
    name: "restored-revisions-kept",
    origin: "etcd 16028, kubernetes 118501: a restored store gives revisions again that clients have seen",
    tier: Tier::Real(Real {
        workload: "snapshot",
        nemesis: "none",
        lasts: Duration::from_secs(8),
        seed: 1,
        seeds: 1,
    }),
    expected: Expected::FoundBy(&["snapshot"]),
}];
