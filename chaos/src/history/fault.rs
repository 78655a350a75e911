//! Faults in a history: one shape for all kinds.
//!
//! A fault is three events of the nemesis whose `f` is the kind's name: `invoke` before it begins, `info` with its witness, and
//! `info` when it is over. The fault's number ties them together, as several may be under way at once.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Event, Function, Process};

/// A kind of fault.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// SIGKILL, then start again on the same data.
    Kill,
    /// SIGKILL to all members at once.
    KillAll,
    /// SIGKILL to a process that runs nodes, then start again.
    KillAgent,
    /// SIGKILL to what runs the containers of a node.
    KillRuntime,
    /// Packets between agents and servers are dropped.
    PartitionAgent,
    /// SIGSTOP and SIGCONT.
    Pause,
    /// Processes have to wait for a processor most of the time.
    SlowCpu,
    /// Packets between members are dropped.
    Partition,
    /// Connections between members are reset.
    Refuse,
    /// Packets between a member and its clients are dropped.
    Clients,
    /// Disks of a minority lose what was not synced.
    PowerLoss,
    /// All disks lose what was not synced.
    PowerLossAll,
    /// Writes to a disk wait.
    StalledDisk,
    /// Writes to a disk are slow.
    SlowDisk,
    /// A disk has no room.
    FullDisk,
    /// Writes to a disk are accepted and cannot be saved.
    FailingSync,
    /// Bits of a minority's files change while it is stopped.
    BitFlips,
    /// One member is removed, and a new one put in its place.
    Replace,
    /// One member is away until the others have forgotten what it misses; twice in a row.
    Install,
    /// SIGTERM to one member after the other, and a start of each.
    Restart,
    /// The leader hands over to another member.
    Transfer,
    /// A member's network cable is pulled.
    Cable,
    /// A member's link carries few bytes a second.
    SlowLink,
    /// Packets are lost by chance.
    Loss,
    /// Packets come twice by chance.
    Duplicate,
    /// Packets take longer and overtake each other.
    Delay,
    /// Wall clocks jump.
    Clock,
}

impl FaultKind {
    /// Returns its name in histories and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::KillAll => "kill-all",
            Self::KillAgent => "kill-agent",
            Self::KillRuntime => "kill-runtime",
            Self::PartitionAgent => "partition-agent",
            Self::Pause => "pause",
            Self::SlowCpu => "slow-cpu",
            Self::Partition => "partition",
            Self::Refuse => "refuse",
            Self::Clients => "clients",
            Self::PowerLoss => "power-loss",
            Self::PowerLossAll => "power-loss-all",
            Self::StalledDisk => "stalled-disk",
            Self::SlowDisk => "slow-disk",
            Self::FullDisk => "full-disk",
            Self::FailingSync => "failing-sync",
            Self::BitFlips => "bit-flips",
            Self::Replace => "replace",
            Self::Install => "install",
            Self::Restart => "restart",
            Self::Transfer => "transfer",
            Self::Cable => "cable",
            Self::SlowLink => "slow-link",
            Self::Loss => "loss",
            Self::Duplicate => "duplicate",
            Self::Delay => "delay",
            Self::Clock => "clock",
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Which of its three events it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    Begin,
    Witness,
    End,
}

/// What an event of a fault carries in its `value`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Its place in the run's plan. The kinds of a combination share it.
    pub fault: u32,
    pub phase: Phase,
    /// Names of the members that it hits.
    pub members: Vec<String>,
    /// Who leads at this moment, as far as members say.
    pub leader: Option<String>,
    /// Whether the leader of the beginning is among those hit.
    pub hit_leader: bool,
    /// What is drawn for this kind, such as the shape of a partition.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub plan: Value,
    /// What shows that it took place; null where nothing did.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub witness: Value,
    /// Members that ended by themselves meanwhile, where the fault may make them do so, each with how.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ended: Vec<(String, String)>,
}

impl Fault {
    /// Reads the fault that an event tells of; `None` for all other events.
    #[must_use]
    pub fn of(event: &Event) -> Option<(FaultKind, Self)> {
        let Function::Fault(kind) = event.f else { return None };
        if event.process != Process::NEMESIS {
            return None;
        }
        Some((kind, Self::deserialize(&event.value).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_kind_has_one_name_everywhere() {
        for kind in FaultKind::value_variants() {
            assert_eq!(json!(kind), json!(kind.name()));
            assert_eq!(json!(Function::Fault(*kind)), json!(kind.name()));
            assert_eq!(kind.to_possible_value().unwrap().get_name(), kind.name());
            let read: Function = serde_json::from_value(json!(kind.name())).unwrap();
            assert_eq!(read, Function::Fault(*kind));
        }
    }

    #[test]
    fn names_of_operations_are_no_faults() {
        let read: Function = serde_json::from_value(json!("read")).unwrap();
        assert_eq!(read, Function::Read);
        assert!(serde_json::from_value::<Function>(json!("earthquake")).is_err());
    }
}
