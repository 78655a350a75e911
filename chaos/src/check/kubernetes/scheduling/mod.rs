//! Scheduling: a pod gets one node, once, and no node gets more than it has.
//!
//! The log shows every binding with all that was on the node at that moment. A pod that is on its way out is given no node any more. Once all is
//! healed, and few enough pods are left, each of them runs.

use std::collections::BTreeMap;

use proto::api::quantity::Quantity;
use serde_json::Value;

use super::super::Record;
use super::super::opinions::Opinion;
use super::objects::{Change, changes, is_deleting, is_over, is_ready, text, uid};
use super::{Findings, creates_in};
use crate::history::{Function, Resource};

/// Name of the checker.
pub const NAME: &str = "k-sched";
/// Where the workload's objects are.
pub const NAMESPACE: &str = "k-sched";
/// Bindings without which nothing is shown, and how full a node must have been.
const BINDINGS_MIN: usize = 5;
const PERCENT_MIN: usize = 80;

/// A pod that the log shows.
struct Pod {
    uid: String,
    /// Empty as long as it has none.
    node: String,
    /// Thousandths of a core.
    cpu: i64,
    is_over: bool,
    is_deleting: bool,
    is_ready: bool,
}

impl Pod {
    fn read(object: &Value) -> Self {
        Self {
            uid: uid(object).unwrap_or_default().to_owned(),
            node: text(object, "/spec/nodeName").to_owned(),
            cpu: requested(object),
            is_over: is_over(object),
            is_deleting: is_deleting(object),
            is_ready: is_ready(object),
        }
    }
}

#[derive(Default)]
struct State {
    /// What pods may take of each node, in thousandths of a core.
    nodes: BTreeMap<String, i64>,
    pods: BTreeMap<String, Pod>,
    bindings: usize,
    /// The most that was taken of a node.
    percent: usize,
}

/// Says what it thinks of the placement of pods of a run.
pub(in super::super) fn opinion(record: &Record) -> Result<Option<Opinion>, String> {
    if !creates_in(NAMESPACE, record)? {
        return Ok(None);
    }
    let mut findings = Findings::default();
    findings.log(record);
    findings.waits(record);
    let mut state = State::default();
    let mut all: Vec<(Resource, Change<'_>)> = Vec::new();
    for resource in [Resource::Nodes, Resource::Pods] {
        let changes = changes(record, &resource.folder(NAMESPACE))?;
        all.extend(changes.into_iter().map(|change| (resource, change)));
    }
    all.sort_by_key(|(_, change)| change.revision);
    if findings.unknown.is_empty() {
        for (resource, change) in &all {
            if *resource == Resource::Nodes {
                state.node(change);
            } else {
                state.pod(change, &mut findings);
            }
        }
        if record.events.iter().any(|event| event.f == Function::Settle) {
            state.at_the_end(&mut findings);
        }
    }
    let State { bindings, percent, .. } = state;
    findings.demand("bindings", bindings, BINDINGS_MIN);
    findings.demand("percent of a node that were taken", percent, PERCENT_MIN);
    let scope = format!("{bindings} bindings, at most {percent} % of a node were taken");
    Ok(Some(findings.opinion(NAME, scope, &[("bindings", bindings), ("percent", percent)])))
}

impl State {
    fn node(&mut self, change: &Change<'_>) {
        match &change.object {
            None => {
                self.nodes.remove(change.name);
            }
            Some(node) => {
                let cpu = millis(text(node, "/status/allocatable/cpu"));
                self.nodes.insert(change.name.to_owned(), cpu);
            }
        }
    }

    fn pod(&mut self, change: &Change<'_>, findings: &mut Findings) {
        let Some(object) = &change.object else {
            self.pods.remove(change.name);
            return;
        };
        let pod = Pod::read(object);
        let before = self.pods.get(change.name).filter(|before| before.uid == pod.uid);
        let had = before.map_or("", |before| before.node.as_str());
        let (name, node, at) = (change.name, pod.node.clone(), change.revision);
        if !had.is_empty() && had != node {
            let node = if node.is_empty() { "no node" } else { &node };
            let sentence = format!("at {at}, {name} is on {node}, and was on {had} before");
            findings.broken("bound twice", &[], sentence);
        }
        let is_bound = had.is_empty() && !node.is_empty();
        let is_late = is_bound && pod.is_deleting;
        self.pods.insert(name.to_owned(), pod);
        if is_late {
            let sentence = format!("at {at}, {name} was bound to {node}, and was on its way out");
            findings.broken("bound too late", &[], sentence);
        }
        if is_bound {
            self.bindings += 1;
            self.room(change, &node, findings);
        }
    }

    /// A pod has come to a node.
    fn room(&mut self, change: &Change<'_>, node: &str, findings: &mut Findings) {
        let (name, at) = (change.name, change.revision);
        let Some(there_is) = self.nodes.get(node).copied() else {
            let sentence = format!("at {at}, {name} was bound to {node}, and there is no such node");
            findings.broken("bound to nobody", &[], sentence);
            return;
        };
        let takes = |pod: &&Pod| pod.node == node && !pod.is_over;
        let taken: i64 = self.pods.values().filter(takes).map(|pod| pod.cpu).sum();
        let percent = usize::try_from(taken.saturating_mul(100) / there_is.max(1)).unwrap_or(0);
        self.percent = self.percent.max(percent);
        if taken > there_is {
            let sentence = format!(
                "at {at}, {name} was bound to {node}, whose pods ask for {taken} thousandths of a core now, of {there_is}"
            );
            findings.broken("more than fits", &[], sentence);
        }
    }

    /// So few are left that all of them run.
    fn at_the_end(&self, findings: &mut Findings) {
        for (name, pod) in &self.pods {
            if pod.is_deleting || pod.is_over || !pod.is_ready {
                let sentence = format!("{name} is there in the end, and does not run");
                findings.broken("does not run", &[], sentence);
            }
        }
    }
}

/// Returns what a pod of the workload asks for, in thousandths of a core.
fn requested(pod: &Value) -> i64 {
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
    let cpu = |container: &Value| millis(text(container, "/resources/requests/cpu"));
    containers.into_iter().flatten().map(cpu).sum()
}

fn millis(quantity: &str) -> i64 {
    quantity.parse::<Quantity>().map_or(0, Quantity::millis)
}

#[cfg(test)]
mod mutations;
#[cfg(test)]
mod tests;
