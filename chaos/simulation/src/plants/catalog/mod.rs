//! All plants: each is a mutant of `xtask/src/mutants/list`, and here is how chaos finds it.

mod backup;
mod consensus;
mod core;
mod leases;
mod log;
mod raft;
mod watches;

mod control_plane;
mod simulated_servers;

mod harness;

use super::Plant;

/// Returns all of them.
#[must_use]
pub fn plants() -> Vec<Plant> {
    [
        log::PLANTS,
        raft::PLANTS,
        consensus::PLANTS,
        core::PLANTS,
        leases::PLANTS,
        watches::PLANTS,
        backup::PLANTS,
        control_plane::PLANTS,
        simulated_servers::PLANTS,
        harness::PLANTS,
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use chaos::check::opinions::CHECKERS;

    use super::*;
    use crate::farm::PROCESS;
    use crate::plants::{Expected, Tier};
    use crate::run::{INVARIANTS, MEMBERS, RECOVERY};

    #[test]
    fn every_plant_is_there_once_in_a_tier() {
        let plants = plants();
        let names: BTreeSet<(&str, &str)> =
            plants.iter().map(|plant| (plant.name, plant.tier.name())).collect();
        assert_eq!(names.len(), plants.len());
    }

    #[test]
    fn every_plant_names_a_workload_and_checkers_that_there_are() {
        let own = [INVARIANTS, MEMBERS, RECOVERY, PROCESS];
        for plant in plants() {
            let workload = chaos::workload::named(plant.tier.workload()).unwrap();
            let is_of_servers = matches!(plant.tier, Tier::Kubernetes(_) | Tier::SimulatedServers(_));
            let is_whole = workload.tier == chaos::workload::Tier::Kubernetes;
            assert_eq!(is_of_servers, is_whole, "{}", plant.name);
            if let Expected::FoundBy(checkers) = plant.expected {
                assert!(!checkers.is_empty(), "{}", plant.name);
                for name in checkers {
                    let is_known = own.contains(name) || CHECKERS.iter().any(|known| known.name == *name);
                    assert!(is_known, "{}: {name}", plant.name);
                }
            }
            assert!(!plant.tier.seeds().is_empty(), "{}", plant.name);
        }
    }

    #[test]
    fn a_plan_follows_from_its_seed() {
        for plant in plants() {
            if let Tier::Simulated(simulated) | Tier::SimulatedServers(simulated) = plant.tier {
                assert_eq!(simulated.plan(3), simulated.plan(3), "{}", plant.name);
            }
        }
    }
}
