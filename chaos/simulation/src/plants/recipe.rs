//! What a run looks like that shows a plant.

use std::ops::Range;
use std::time::Duration;

use super::aims;
use crate::plan::{Kind, Plan};
use crate::swarm::{self, Wanted};

/// Where a plant is shown. The simulator is cheaper by far; real processes only for what it does not contain.
#[derive(Clone, Copy, Debug)]
pub enum Tier {
    Simulated(Simulated),
    /// Members are stores.
    Real(Real),
    /// Members are whole servers, which the program with the simulator is not: another one is named.
    Kubernetes(Real),
    /// The same in the simulator of that other program.
    SimulatedServers(Simulated),
}

/// A run in the simulator.
#[derive(Clone, Copy, Debug)]
pub struct Simulated {
    pub workload: &'static str,
    pub voters: usize,
    /// From which faults are drawn.
    pub kinds: &'static [Kind],
    /// Changes the plan that was drawn, for what chance alone seldom meets.
    pub aim: fn(&mut Plan),
    /// The first seed, known to show the plant when it was written.
    pub seed: u64,
    /// How many seeds may be tried: code changes, and with it what a seed meets.
    pub seeds: u64,
}

/// A run of three members, each in a process of its own.
#[derive(Clone, Copy, Debug)]
pub struct Real {
    pub workload: &'static str,
    /// As `chaos run --nemesis` takes it.
    pub nemesis: &'static str,
    /// As `chaos run --time-limit` takes it.
    pub lasts: Duration,
    pub seed: u64,
    pub seeds: u64,
}

impl Simulated {
    /// What most plants leave as it is.
    pub(super) const USUAL: Self =
        Self { workload: "register", voters: 3, kinds: &[], aim: aims::as_drawn, seed: 1, seeds: 4 };

    /// Returns the plan of a seed.
    #[must_use]
    pub fn plan(&self, seed: u64) -> Plan {
        let mut kinds = self.kinds.to_vec();
        // As `chaos sim --nemesis` does, so that it draws the same plans.
        kinds.sort_unstable();
        let wanted = Wanted { voters: self.voters, workloads: vec![self.workload.to_owned()], kinds };
        let mut plan = swarm::plan(seed, &wanted);
        (self.aim)(&mut plan);
        plan
    }
}

impl Tier {
    /// Names of all.
    pub(super) const NAMES: [&str; 4] = ["sim", "real", "k8s", "k8s-sim"];

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Simulated(_) => "sim",
            Self::Real(_) => "real",
            Self::Kubernetes(_) => "k8s",
            Self::SimulatedServers(_) => "k8s-sim",
        }
    }

    pub(super) fn is_simulated(&self) -> bool {
        match self {
            Self::Simulated(_) | Self::SimulatedServers(_) => true,
            Self::Real(_) | Self::Kubernetes(_) => false,
        }
    }

    pub(super) fn workload(&self) -> &'static str {
        match self {
            Self::Simulated(simulated) | Self::SimulatedServers(simulated) => simulated.workload,
            Self::Real(real) | Self::Kubernetes(real) => real.workload,
        }
    }

    pub(super) fn seeds(&self) -> Range<u64> {
        let (first, count) = match self {
            Self::Simulated(simulated) | Self::SimulatedServers(simulated) => {
                (simulated.seed, simulated.seeds)
            }
            Self::Real(real) | Self::Kubernetes(real) => (real.seed, real.seeds),
        };
        first..first + count
    }
}
