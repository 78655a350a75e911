//! What is known of each kind of fault before it is injected.

use super::Mechanism;
use crate::history::FaultKind;
use crate::workload::{Entry, Nodes, Tier};

impl FaultKind {
    /// Whether each member needs a disk of its own for it.
    #[must_use]
    pub fn needs_disks(self) -> bool {
        match self {
            Self::PowerLoss
            | Self::PowerLossAll
            | Self::StalledDisk
            | Self::SlowDisk
            | Self::FullDisk
            | Self::FailingSync => true,
            Self::Kill
            | Self::KillAll
            | Self::KillAgent
            | Self::KillRuntime
            | Self::PartitionAgent
            | Self::Pause
            | Self::SlowCpu
            | Self::Partition
            | Self::Refuse
            | Self::Clients
            | Self::BitFlips
            | Self::Replace
            | Self::Install
            | Self::Restart
            | Self::Transfer
            | Self::Cable
            | Self::SlowLink
            | Self::Loss
            | Self::Duplicate
            | Self::Delay
            | Self::Clock => false,
        }
    }

    /// Whether it can be aimed at what a workload runs on.
    ///
    /// A server is not replaced as a store alone is, its files are elsewhere, and its certificates are of one day and hour. A hollow node has no
    /// runtime that could be killed.
    #[must_use]
    pub fn fits(self, workload: &Entry) -> bool {
        match workload.tier {
            Tier::Store => !self.is_of_agents(),
            Tier::Kubernetes if self == Self::KillRuntime => workload.nodes == Nodes::Real,
            Tier::Kubernetes => !matches!(self, Self::Replace | Self::Install | Self::BitFlips | Self::Clock),
        }
    }

    /// Whether it is aimed at agents, and hits no member.
    #[must_use]
    pub fn is_of_agents(self) -> bool {
        matches!(self, Self::KillAgent | Self::KillRuntime | Self::PartitionAgent)
    }

    /// Whether a member that it hits may end by itself: it cannot trust its disk any more, or is no member any more.
    #[must_use]
    pub fn fells_members(self) -> bool {
        self.needs_disks() || matches!(self, Self::BitFlips | Self::Replace)
    }

    /// Whether etcd 3.4 can be made to show it: its clock is not the C library's, and it always keeps five thousand entries of its log.
    #[must_use]
    pub fn fits_etcd(self) -> bool {
        !matches!(self, Self::Clock | Self::Install)
    }

    /// Returns how it is made.
    #[must_use]
    pub fn mechanism(self) -> Mechanism {
        match self {
            Self::Kill
            | Self::KillAll
            | Self::KillAgent
            | Self::KillRuntime
            | Self::Pause
            | Self::BitFlips
            | Self::Replace
            | Self::Install
            | Self::Restart
            | Self::Transfer => Mechanism::Process,
            Self::Partition | Self::Clients | Self::PartitionAgent => Mechanism::Cut,
            Self::Refuse => Mechanism::Reset,
            Self::Cable => Mechanism::Link,
            Self::SlowLink => Mechanism::Bandwidth,
            Self::Loss => Mechanism::Loss,
            Self::Duplicate => Mechanism::Duplication,
            Self::Delay => Mechanism::Delay,
            Self::Clock => Mechanism::Clock,
            Self::PowerLoss | Self::PowerLossAll => Mechanism::Power,
            Self::StalledDisk => Mechanism::Freeze,
            Self::SlowDisk => Mechanism::Throttle,
            Self::SlowCpu => Mechanism::Quota,
            Self::FullDisk => Mechanism::Ballast,
            Self::FailingSync => Mechanism::Starvation,
        }
    }

    /// Returns how many members a cluster must have for it.
    #[must_use]
    pub fn members_min(self) -> usize {
        match self {
            Self::Partition | Self::Refuse | Self::Transfer | Self::Duplicate => 2,
            // A majority must be there while one is replaced.
            Self::BitFlips | Self::Replace | Self::Install => 3,
            Self::Kill
            | Self::KillAll
            | Self::KillAgent
            | Self::KillRuntime
            | Self::PartitionAgent
            | Self::Pause
            | Self::SlowCpu
            | Self::Clients
            | Self::PowerLoss
            | Self::PowerLossAll
            | Self::StalledDisk
            | Self::SlowDisk
            | Self::FullDisk
            | Self::FailingSync
            | Self::Restart
            | Self::Cable
            | Self::SlowLink
            | Self::Loss
            | Self::Delay
            | Self::Clock => 1,
        }
    }
}
