//! What all parts of one run share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chaos::history::Writer;

use crate::control_plane::{AGENTS, ControlPlane};
use crate::links::{CLIENTS, Host};
use crate::machine::{Machine, lock};
use crate::plan::{Kind, Plan};
use crate::replacement::Replacement;

/// One run under way.
pub(crate) struct World {
    pub(crate) plan: Plan,
    /// The last one is not there at first.
    pub(crate) machines: Vec<Arc<Machine>>,
    /// For its clock only: clients run there.
    pub(crate) clients: Arc<Machine>,
    /// Agents run there, in the `k8s` tier.
    pub(crate) agents: Arc<Machine>,
    /// What stands on members, in the `k8s` tier.
    pub(crate) control_plane: Option<Arc<dyn ControlPlane>>,
    pub(crate) has_drifting_clocks: bool,
    /// A member will die for good and another one take its place.
    pub(crate) has_replacement: bool,
    pub(crate) replacement: Mutex<Replacement>,
    pub(crate) phase: Mutex<Phase>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) history: Arc<Writer>,
}

/// How far a run is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Faults,
    /// Nothing is broken any more; these machines must serve.
    Healed {
        present: Vec<usize>,
    },
}

impl World {
    pub(crate) fn new(
        plan: Plan,
        clock: Arc<Clock>,
        history: Arc<Writer>,
        control_plane: Option<Arc<dyn ControlPlane>>,
    ) -> Self {
        let machines = (0..=plan.voters).map(|number| Arc::new(Machine::new(number, plan.seed))).collect();
        let has = |kind| plan.faults.iter().any(|planned| planned.fault.kind() == kind);
        Self {
            machines,
            clients: Arc::new(Machine::new(plan.voters + 1, plan.seed)),
            agents: Arc::new(Machine::new(plan.voters + 2, plan.seed)),
            control_plane,
            has_drifting_clocks: has(Kind::ClockRate),
            has_replacement: has(Kind::Replace),
            replacement: Mutex::new(Replacement::NobodyDied),
            phase: Mutex::new(Phase::Faults),
            clock,
            history,
            plan,
        }
    }

    /// Numbers of the machines that clients use; the last one takes a dead one's place, where members may die for good.
    pub(crate) fn usable(&self) -> std::ops::Range<usize> {
        match self.control_plane {
            Some(_) => 0..self.plan.voters,
            None => 0..self.machines.len(),
        }
    }

    /// Hosts beside the members.
    pub(crate) fn outsiders(&self) -> Vec<Host> {
        let names = [Some(CLIENTS), self.control_plane.is_some().then_some(AGENTS)];
        names.into_iter().flatten().map(|name| Host(name.to_owned())).collect()
    }

    /// Number of the machine that takes a dead one's place.
    pub(crate) fn newcomer(&self) -> usize {
        self.plan.voters
    }

    pub(crate) fn healed(&self) -> Option<Vec<usize>> {
        match &*lock(&self.phase) {
            Phase::Faults => None,
            Phase::Healed { present } => Some(present.clone()),
        }
    }
}

/// The time of the whole simulation. Within one step every reading is another one, in the order in which things happen.
#[derive(Default)]
pub(crate) struct Clock {
    step_ns: AtomicU64,
    readings: AtomicU64,
}

impl Clock {
    /// Begins a step.
    pub(crate) fn set(&self, elapsed: Duration) {
        self.step_ns.store(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.readings.store(0, Ordering::Relaxed);
    }

    /// Returns nanoseconds since the run began.
    pub(crate) fn read(&self) -> u64 {
        self.step_ns.load(Ordering::Relaxed) + self.readings.fetch_add(1, Ordering::Relaxed)
    }
}
