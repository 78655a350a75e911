//! Faults: a pure schedule, and one file per kind that injects it and brings back a witness.
//!
//! A fault that left no witness may not have happened; the run then proves nothing.

mod kill;
mod partition;
mod schedule;

use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::{Cluster, Network};
use crate::history::{EventKind, Function, Note, Process, Writer};

pub use partition::{Shape, cuts};
pub use schedule::{Draw, Kind, Planned, Victim, schedule};

/// Where faults happen and are recorded.
pub struct Nemesis<'a> {
    pub cluster: &'a mut Cluster,
    pub network: &'a Network,
    pub history: &'a Writer,
}

/// What became of a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injected {
    /// One line for a reader who watches the run.
    pub line: String,
}

impl Nemesis<'_> {
    /// Injects a fault, lets it last, and ends it.
    ///
    /// # Errors
    /// When the harness cannot do its work; a fault without effect is not an error, but lacks its witness.
    pub async fn inject(&mut self, planned: &Planned, lasting: Duration) -> anyhow::Result<Injected> {
        let leader = self.cluster.leader().await;
        let victim = match planned.victim {
            Victim::Leader => leader,
            Victim::Drawn => None,
        };
        let count = self.cluster.members.len();
        let victim = victim.unwrap_or_else(|| planned.draw.place(count));
        match planned.kind {
            Kind::Kill => self.kill(victim, leader, lasting).await,
            Kind::Partition => self.partition(planned.draw.shape(), victim, leader, lasting).await,
        }
    }

    fn name(&self, index: Option<usize>) -> Option<String> {
        self.cluster.members.get(index?).map(|member| member.name.clone())
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
        self.network.heal()?;
        for member in &mut self.cluster.members {
            if let Some(status) = member.ended() {
                let value = json!({ "ended_by_itself": status });
                let node = Some(member.name.clone());
                let process = Process::NEMESIS;
                let (kind, f) = (EventKind::Info, Function::Recover);
                self.history.record(Note {
                    kind,
                    process,
                    f,
                    key: None,
                    value,
                    node,
                    rev: None,
                    error: None,
                })?;
            }
        }
        let silent = self.cluster.wait_ready().await;
        self.record(EventKind::Info, Function::Recover, None, json!({ "silent": silent }))?;
        Ok(silent)
    }
}
