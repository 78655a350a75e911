//! What every fault can do, and which file makes which kind.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use super::{
    Draw, Site, bit_flips, cable, clock, delay, failing_sync, full_disk, install, kill, kill_agent,
    kill_runtime, packets, partition, partition_agent, pause, power_loss, replace, restart, slow_cpu,
    slow_disk, slow_link, stalled_disk, transfer,
};
use crate::history::FaultKind;

/// At whom a fault is aimed, and what was drawn for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aim {
    pub victim: usize,
    /// Members of the cluster.
    pub count: usize,
    pub draw: Draw,
}

impl Aim {
    /// Returns the largest minority, beginning with the victim.
    pub(super) fn minority(self) -> Vec<usize> {
        let size = (self.count.saturating_sub(1) / 2).max(1);
        (0..size).map(|step| (self.victim + step) % self.count.max(1)).collect()
    }

    /// Returns the victim, or as often the largest minority.
    pub(super) fn one_or_minority(self) -> Vec<usize> {
        if self.draw.choice(1, 2) == 0 { vec![self.victim] } else { self.minority() }
    }
}

/// One fault. What it breaks is mended by `end`, and when it is dropped: a run may be interrupted at any time.
#[async_trait(?Send)]
pub(super) trait Fault {
    /// Members that it hits, by place.
    fn members(&self) -> Vec<usize>;

    /// What was drawn for it, for the history.
    fn plan(&self) -> Value {
        Value::Null
    }

    /// How long it lasts where the run's faults last `usual`.
    fn lasting(&self, usual: Duration) -> Duration {
        usual
    }

    /// Breaks what it breaks; returns the witness if there is one already.
    async fn begin(&mut self, site: &mut Site<'_>) -> anyhow::Result<Option<Value>>;

    /// Mends what it broke; returns the witness if it shows only now. `None` both times is a fault without witness.
    async fn end(&mut self, site: &mut Site<'_>) -> anyhow::Result<Option<Value>>;
}

/// Makes a fault of a kind: the one list of them.
pub(super) fn plan(kind: FaultKind, aim: Aim) -> Box<dyn Fault> {
    match kind {
        FaultKind::Kill => Box::new(kill::Kill::one(aim)),
        FaultKind::KillAll => Box::new(kill::Kill::all(aim)),
        FaultKind::KillAgent => Box::new(kill_agent::KillAgent),
        FaultKind::KillRuntime => Box::new(kill_runtime::KillRuntime::default()),
        FaultKind::PartitionAgent => Box::new(partition_agent::PartitionAgent::new(aim)),
        FaultKind::Pause => Box::new(pause::Pause::new(aim)),
        FaultKind::SlowCpu => Box::new(slow_cpu::SlowCpu::new(aim)),
        FaultKind::Partition => Box::new(partition::Partition::of_members(aim)),
        FaultKind::Refuse => Box::new(partition::Partition::refusing(aim)),
        FaultKind::Clients => Box::new(partition::Partition::of_clients(aim)),
        FaultKind::PowerLoss => Box::new(power_loss::PowerLoss::some(aim)),
        FaultKind::PowerLossAll => Box::new(power_loss::PowerLoss::all(aim)),
        FaultKind::StalledDisk => Box::new(stalled_disk::StalledDisk::new(aim)),
        FaultKind::SlowDisk => Box::new(slow_disk::SlowDisk::new(aim)),
        FaultKind::FullDisk => Box::new(full_disk::FullDisk::new(aim)),
        FaultKind::FailingSync => Box::new(failing_sync::FailingSync::new(aim)),
        FaultKind::BitFlips => Box::new(bit_flips::BitFlips::new(aim)),
        FaultKind::Replace => Box::new(replace::Replace::new(aim)),
        FaultKind::Install => Box::new(install::Install::new(aim)),
        FaultKind::Restart => Box::new(restart::Restart::new(aim)),
        FaultKind::Transfer => Box::new(transfer::Transfer::new(aim)),
        FaultKind::Cable => Box::new(cable::Cable::new(aim)),
        FaultKind::SlowLink => Box::new(slow_link::SlowLink::new(aim)),
        FaultKind::Loss => Box::new(packets::Packets::lost(aim)),
        FaultKind::Duplicate => Box::new(packets::Packets::doubled(aim)),
        FaultKind::Delay => Box::new(delay::Delayed::new(aim)),
        FaultKind::Clock => Box::new(clock::ClockJump::new(aim)),
    }
}
