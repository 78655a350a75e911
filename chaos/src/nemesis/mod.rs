//! Faults: a pure schedule, and one file per kind that injects it and brings back a witness.
//!
//! A fault that left no witness may not have happened; the run then proves nothing.

mod bundle;
mod schedule;

mod fault;
mod kinds;

mod kill;
mod kill_agent;
mod kill_runtime;
mod partition;
mod partition_agent;
mod pause;
mod slow_cpu;

mod bit_flips;
mod failing_sync;
mod full_disk;
mod power_loss;
mod slow_disk;
mod stalled_disk;

mod cable;
mod delay;
mod packets;
mod slow_link;

mod clock;

mod install;
mod replace;
mod restart;
mod transfer;

mod trial;

use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};

use crate::cluster::{Cluster, Disk, Network};
use crate::history::{EventKind, Fault as Told, FaultKind, Function, Note, Phase, Process, Writer};

use fault::{Aim, Fault};

pub use crate::history::FaultKind as Kind;
pub use bundle::{turns, turns_of};
pub use install::{CATCHUP_ENTRIES, SNAPSHOT_COUNT};
pub use partition::{Shape, cuts};
pub use schedule::{Draw, Planned, Turn, Victim, schedule};
pub use trial::{Mechanism, missing_for_containers, try_kind};

/// What faults are made with.
pub struct Site<'a> {
    pub cluster: &'a mut Cluster,
    pub network: &'a Network,
    /// One for each member, if a fault of the run needs them.
    pub disks: &'a [Disk],
}

impl Site<'_> {
    fn disk(&self, index: usize) -> anyhow::Result<&Disk> {
        self.disks.get(index).context("the member has no disk of its own")
    }
}

/// Injects faults and records them.
pub struct Nemesis<'a> {
    pub site: Site<'a>,
    pub history: &'a Writer,
}

/// What became of a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injected {
    /// One line for a reader who watches the run.
    pub line: String,
}

/// A fault under way.
struct Active {
    kind: FaultKind,
    fault: Box<dyn Fault>,
    told: Told,
    /// A witness that showed when it began.
    witness: Option<Value>,
}

impl Nemesis<'_> {
    /// Injects the faults of one turn, lets them last, and ends them.
    ///
    /// # Errors
    /// When the harness cannot do its work; a fault without effect is not an error, but lacks its witness.
    pub async fn inject(&mut self, planned: &Planned, lasting: Duration) -> anyhow::Result<Injected> {
        let leader = self.site.cluster.leader().await;
        let mut active = Vec::new();
        for (place, kind) in planned.turn.kinds().iter().enumerate() {
            active.push(self.begin(*kind, planned, (leader, place)).await?);
        }
        let lasting = active.iter().map(|active| active.fault.lasting(lasting)).max().unwrap_or(lasting);
        tokio::time::sleep(lasting).await;
        let leader_after = self.name(self.site.cluster.leader().await);
        let mut lines = Vec::new();
        for active in active.into_iter().rev() {
            lines.push(self.end(active, leader_after.clone()).await?);
        }
        self.revive()?;
        lines.reverse();
        let after = leader_after.unwrap_or_else(|| "nobody".to_owned());
        Ok(Injected { line: format!("{}; {after} led", lines.join("; ")) })
    }

    async fn begin(
        &mut self,
        kind: FaultKind,
        planned: &Planned,
        (leader, place): (Option<usize>, usize),
    ) -> anyhow::Result<Active> {
        let victim = match planned.victim {
            Victim::Leader => leader,
            Victim::Drawn => None,
        };
        let count = self.site.cluster.members.len();
        let victim = victim.unwrap_or_else(|| planned.draw.place(count));
        // The faults of a combination hit one member, or each the next.
        let shift = if planned.draw.choice(9, 2) == 0 { 0 } else { place };
        let victim = (victim + shift) % count.max(1);
        let mut fault = fault::plan(kind, Aim { victim, count, draw: planned.draw });
        let hit = fault.members();
        let mut told = Told {
            fault: planned.number,
            phase: Phase::Begin,
            members: hit.iter().filter_map(|member| self.name(Some(*member))).collect(),
            leader: self.name(leader),
            hit_leader: leader.is_some_and(|leader| hit.contains(&leader)),
            plan: fault.plan(),
            witness: Value::Null,
            ended: Vec::new(),
        };
        self.record_fault(kind, &told)?;
        let witness = fault.begin(&mut self.site).await?;
        if let Some(witness) = &witness {
            told.phase = Phase::Witness;
            told.witness = witness.clone();
            self.record_fault(kind, &told)?;
        }
        Ok(Active { kind, fault, told, witness })
    }

    /// Ends a fault; returns a line about it.
    async fn end(&mut self, active: Active, leader_after: Option<String>) -> anyhow::Result<String> {
        let Active { kind, mut fault, mut told, witness } = active;
        told.leader = leader_after;
        let ended = self.felled(kind, &told.members);
        let at_end = fault.end(&mut self.site).await?;
        let witness = match witness {
            Some(witness) => witness,
            None => {
                told.phase = Phase::Witness;
                told.witness = at_end.unwrap_or(Value::Null);
                self.record_fault(kind, &told)?;
                told.witness.clone()
            }
        };
        for (name, _) in &ended {
            self.start_again(name)?;
        }
        let over = Told { phase: Phase::End, witness: Value::Null, ended, ..told };
        self.record_fault(kind, &over)?;
        let leader = if over.hit_leader { " (the leader)" } else { "" };
        let plan = if over.plan.is_null() { String::new() } else { format!(" {}", words(&over.plan)) };
        let witness = if witness.is_null() { "NO WITNESS".to_owned() } else { words(&witness) };
        let ended: String =
            over.ended.iter().map(|(name, status)| format!(", {name} ended ({status})")).collect();
        Ok(format!("{kind} {}{leader}{plan}: {witness}{ended}", over.members.join(" ")))
    }

    /// Returns those members that a fault has felled, as it may, and how each ended.
    fn felled(&mut self, kind: FaultKind, hit: &[String]) -> Vec<(String, String)> {
        let members = self.site.cluster.members.iter_mut();
        let may_end = members.filter(|member| kind.fells_members() && hit.contains(&member.name));
        may_end.filter_map(|member| Some((member.name.clone(), member.ended()?))).collect()
    }

    /// Starts a member again unless its fault has done so.
    fn start_again(&mut self, name: &str) -> anyhow::Result<()> {
        for member in &mut self.site.cluster.members {
            if member.name == name && member.ended().is_some() {
                member.start()?;
            }
        }
        Ok(())
    }

    /// Starts all other members again that ended by themselves, which none may.
    fn revive(&mut self) -> anyhow::Result<()> {
        let mut ended = Vec::new();
        let cluster = &mut self.site.cluster;
        for member in cluster.members.iter_mut().chain(&mut cluster.agents) {
            if let Some(status) = member.ended() {
                ended.push((member.name.clone(), json!({ "ended_by_itself": status })));
                member.start()?;
            }
        }
        for (name, value) in ended {
            self.record(EventKind::Info, Function::Recover, Some(name), value)?;
        }
        Ok(())
    }

    fn name(&self, index: Option<usize>) -> Option<String> {
        self.site.cluster.members.get(index?).map(|member| member.name.clone())
    }

    fn record_fault(&self, kind: FaultKind, told: &Told) -> anyhow::Result<()> {
        let event = match told.phase {
            Phase::Begin => EventKind::Invoke,
            Phase::Witness | Phase::End => EventKind::Info,
        };
        let node = match told.members.as_slice() {
            [one] => Some(one.clone()),
            _ => None,
        };
        self.record(event, Function::Fault(kind), node, serde_json::to_value(told)?)
    }

    fn record(&self, kind: EventKind, f: Function, node: Option<String>, value: Value) -> anyhow::Result<()> {
        let process = Process::NEMESIS;
        self.history.record(Note { kind, process, f, key: None, value, node, rev: None, error: None })?;
        Ok(())
    }

    /// Ends all faults, and records which members serve again.
    ///
    /// # Errors
    /// When the harness cannot do its work.
    pub async fn recover(&mut self) -> anyhow::Result<Vec<String>> {
        self.site.network.heal()?;
        self.revive()?;
        let began = Instant::now();
        let silent = self.site.cluster.wait_ready().await;
        self.revive()?;
        let milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let value = json!({ "silent": silent, "milliseconds": milliseconds });
        self.record(EventKind::Info, Function::Recover, None, value)?;
        Ok(silent)
    }
}

/// Says a witness or a plan as a reader of lines likes it: names and values, nested ones in brackets.
fn words(value: &Value) -> String {
    let part = |(name, value): (&String, &Value)| format!("{} {}", name.replace('_', " "), words(value));
    match value {
        Value::Object(fields) => fields.iter().map(part).collect::<Vec<_>>().join(", "),
        Value::Array(items) => format!("[{}]", items.iter().map(words).collect::<Vec<_>>().join(" ")),
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_witness_is_said_in_words() {
        assert_eq!(words(&json!({ "packets_dropped": 42 })), "packets dropped 42");
        assert_eq!(
            words(&json!({ "cut": [["n1", "n2"]], "shape": "isolate" })),
            "cut [[n1 n2]], shape isolate"
        );
    }
}
