//! What a run does, written down before it begins: enough to repeat it, and to leave parts of it out.
//!
//! Everything that the seed decides about faults stands here with its time. What is left to the seed while the plan is carried out
//! are the moments of messages, the bytes that a crash tears, and what members draw.

use serde::{Deserialize, Serialize};
use store::watch::Limits;

use crate::workloads;

/// Version of the file.
pub const FORMAT: u32 = 1;

/// One run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub format: u32,
    pub seed: u64,
    pub voters: usize,
    pub workload: String,
    pub clients: u32,
    /// From one operation of a client to the next.
    pub period_ms: u64,
    /// How long clients work and faults go on; healing and the audit come behind.
    pub lasts_ms: u64,
    pub latency: Latency,
    pub store: StoreSettings,
    /// How long the locks of controllers and scheduler live, in the `k8s` tier.
    #[serde(default = "first_lock_ttl_ms")]
    pub lock_ttl_ms: u64,
    pub faults: Vec<Planned>,
}

/// How long a message takes when nothing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    pub min_us: u64,
    pub max_us: u64,
}

/// Settings of every member. Small ones reach rare paths soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreSettings {
    pub segment_bytes: u64,
    pub batch_bytes: usize,
    pub cache_bytes: usize,
    pub snapshot_entries: u64,
    pub entries_kept: u64,
    pub compare_ms: u64,
    /// Recent changes that are kept for watches which are behind; others are read from storage.
    #[serde(default = "first_watch_ring_bytes")]
    pub watch_ring_bytes: usize,
    /// Most revisions that wait for one watch.
    #[serde(default = "first_watch_queue_revisions")]
    pub watch_queue_revisions: usize,
}

/// A fault and when it comes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    pub at_ms: u64,
    /// Until it is healed, or a crashed member starts again.
    pub lasts_ms: u64,
    pub fault: Fault,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The process ends; the machine keeps what was written.
    Kill(Victim),
    /// The machine loses what was not synced; any sector may have reached the disk, one of them torn.
    PowerLoss(Victim),
    PowerLossEverywhere,
    /// The power of all machines goes as soon as a leader shows itself that was none before: votes were just cast.
    PowerLossAtElection,
    /// Everybody's process ends at once.
    RestartEverybody,
    /// The power goes in the middle of a disk operation.
    TornWrite {
        victim: Victim,
        operations: u64,
        /// The power of all machines goes at that moment.
        everywhere: bool,
    },
    FailedSync {
        victim: Victim,
        syncs: u64,
    },
    FullDisk(Victim),
    Partition {
        shape: Shape,
        victim: Victim,
    },
    /// Messages of one member wait, and then come all at once.
    Hold(Victim),
    /// Messages of one member take up to this long, so that they overtake one another.
    Delay {
        victim: Victim,
        max_ms: u64,
    },
    /// One of this many messages breaks its connection for a moment.
    Loss {
        victim: Victim,
        one_of: u32,
    },
    /// A clock runs at this rate.
    ClockRate {
        victim: Victim,
        permille: u32,
    },
    MoveLeader,
    /// A first member dies for good and another one takes its place.
    Replace {
        victim: Victim,
        /// In one change, not by removing and adding.
        in_one: bool,
    },
    /// The process of all agents ends, and what ran on their nodes with it.
    KillAgent,
}

/// Whom a fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Victim {
    Leader,
    /// Counted among those that are there.
    Nth(usize),
}

/// Which ways are cut, around one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    Isolate,
    Outbound,
    Inbound,
    /// With as many neighbours as a minority holds.
    Minority,
    /// The member sees both halves, which do not see each other.
    Bridge,
    /// Everybody sees a majority, each another one.
    Ring,
    /// To one neighbour, in one direction.
    Single,
    /// Clients do not reach it, other members do.
    FromClients,
}

/// What plans had before they said it.
fn first_lock_ttl_ms() -> u64 {
    5_000
}

fn first_watch_ring_bytes() -> usize {
    Limits::default().ring_bytes_max
}

fn first_watch_queue_revisions() -> usize {
    Limits::default().queue_revisions_max
}

impl Plan {
    /// Whether members are whole servers.
    #[must_use]
    pub fn is_of_servers(&self) -> bool {
        workloads::is_of_servers(&self.workload)
    }
}

impl Fault {
    /// Returns the name of its kind, as `--nemesis` takes it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Kill(_) => Kind::Kill,
            Self::PowerLoss(_) | Self::PowerLossEverywhere | Self::PowerLossAtElection => Kind::PowerLoss,
            Self::RestartEverybody => Kind::Restart,
            Self::TornWrite { .. } => Kind::TornWrite,
            Self::FailedSync { .. } => Kind::FailedSync,
            Self::FullDisk(_) => Kind::FullDisk,
            Self::Partition { .. } => Kind::Partition,
            Self::Hold(_) => Kind::Hold,
            Self::Delay { .. } => Kind::Delay,
            Self::Loss { .. } => Kind::Loss,
            Self::ClockRate { .. } => Kind::ClockRate,
            Self::MoveLeader => Kind::MoveLeader,
            Self::Replace { .. } => Kind::Replace,
            Self::KillAgent => Kind::KillAgent,
        }
    }
}

/// A kind of fault.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Kill,
    PowerLoss,
    Restart,
    TornWrite,
    FailedSync,
    FullDisk,
    Partition,
    Hold,
    Delay,
    Loss,
    ClockRate,
    MoveLeader,
    Replace,
    KillAgent,
}

impl Kind {
    /// Whether members are whole servers where it is drawn; `None` where it does not matter.
    #[must_use]
    pub fn is_of_servers(self) -> Option<bool> {
        match self {
            // As in the real tier: who takes a dead member's place is a store alone.
            Self::Replace => Some(false),
            Self::KillAgent => Some(true),
            Self::Kill
            | Self::PowerLoss
            | Self::Restart
            | Self::TornWrite
            | Self::FailedSync
            | Self::FullDisk
            | Self::Partition
            | Self::Hold
            | Self::Delay
            | Self::Loss
            | Self::ClockRate
            | Self::MoveLeader => None,
        }
    }

    /// Returns its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::PowerLoss => "power-loss",
            Self::Restart => "restart",
            Self::TornWrite => "torn-write",
            Self::FailedSync => "failed-sync",
            Self::FullDisk => "full-disk",
            Self::Partition => "partition",
            Self::Hold => "hold",
            Self::Delay => "delay",
            Self::Loss => "loss",
            Self::ClockRate => "clock-rate",
            Self::MoveLeader => "move-leader",
            Self::Replace => "replace",
            Self::KillAgent => "kill-agent",
        }
    }
}

/// Reads a plan, alone in its file or with what is told of it, as in `chaos/seeds`.
///
/// # Errors
/// One line that says what is wrong with the file.
pub fn read(path: &std::path::Path) -> anyhow::Result<Plan> {
    use anyhow::Context;
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read the plan {}", path.display()))?;
    let is_no_plan = || format!("{} is no plan", path.display());
    let mut content: serde_json::Value = serde_json::from_str(&text).with_context(is_no_plan)?;
    let saved = content.get_mut("plan").map(serde_json::Value::take);
    let plan: Plan = serde_json::from_value(saved.unwrap_or(content)).with_context(is_no_plan)?;
    anyhow::ensure!(
        plan.format == FORMAT,
        "{} has format {}, and this program reads {FORMAT}",
        path.display(),
        plan.format
    );
    Ok(plan)
}
