//! Containers: each runs once, where its pod was bound, for no longer than its pod is there.
//!
//! What lives and what has started was seen from outside, several times a second; the log says what pods there were. The processes of a container
//! do not overlap, and there is one in all its pod's life: a container that does not end by itself is not started again, whatever happens to
//! agent, runtime and network, and one that has ended stays ended. A pod's object stands in the log for as long as something of it lives. It
//! may only go before if its node's object is gone: no controller deletes by force what is bound to a node that is there, also where that
//! is not heard of any more; the pod is then deleted with its grace period, and its agent lets the object go once it is back. Once all is
//! healed, what lives is what the log holds as running, and all of that is ready.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::Record;
use super::super::opinions::Opinion;
use super::objects::{changes, is_deleting, is_over, is_ready, text, uid};
use super::{Findings, creates_in};
use crate::history::{
    ContainerOf, ContainerProcess, Event, EventKind, Fault, Function, Look, Phase, Resource, looks,
};

/// Name of the checker.
pub const NAME: &str = "k-node";
/// Where the workload's objects are.
pub const NAMESPACE: &str = "k-node";
/// Containers that have started, without which nothing is shown.
const STARTED_MIN: usize = 5;

/// Says what it thinks of the containers of a run.
pub(in super::super) fn opinion(record: &Record) -> Result<Option<Opinion>, String> {
    if !creates_in(NAMESPACE, record)? {
        return Ok(None);
    }
    let mut findings = Findings::default();
    findings.log(record);
    findings.waits(record);
    let seen = Seen::of(looks(&record.events)?);
    seen.overlaps(&mut findings);
    let mut pods = Pods::default();
    if findings.unknown.is_empty() {
        pods.read(record, &mut findings)?;
        let judge = Judge { seen: &seen, pods: &pods, known: Known::of(&record.events) };
        judge.starts(&mut findings);
        judge.objects(&mut findings);
        judge.at_the_end(&record.events, &mut findings);
    }
    let (started, most) = (seen.containers.len(), seen.most());
    let (faults, met) = faults_met(&record.events, &seen.looks);
    findings.demand("containers that started", started, STARTED_MIN);
    findings.demand("faults while a container lived", met, usize::from(faults > 0));
    let looks = seen.looks.len();
    let scope = format!(
        "{started} containers started, at most {most} lived at a time, some of them in {met} of {faults} faults; {looks} looks"
    );
    let counts = [("containers", started), ("looks", looks), ("faults met", met)];
    Ok(Some(findings.opinion(NAME, scope, &counts)))
}

/// What was seen of one container.
#[derive(Default)]
struct Container {
    /// Where each was seen: in which looks, the first and the last.
    processes: BTreeMap<ContainerProcess, Vec<usize>>,
    /// How often it said that it starts, and on which nodes.
    starts: Vec<(String, u64)>,
}

impl Container {
    /// Returns how often it was started: each start says so, and one that was killed at once may only have been said.
    fn started(&self) -> usize {
        self.starts.len().max(self.processes.len())
    }

    fn nodes(&self) -> BTreeSet<&str> {
        let of_processes = self.processes.keys().map(|process| process.node.as_str());
        self.starts.iter().map(|(node, _)| node.as_str()).chain(of_processes).collect()
    }
}

/// All that was seen.
struct Seen {
    looks: Vec<Look>,
    containers: BTreeMap<ContainerOf, Container>,
}

impl Seen {
    fn of(looks: Vec<Look>) -> Self {
        let mut containers: BTreeMap<ContainerOf, Container> = BTreeMap::new();
        for (place, look) in looks.iter().enumerate() {
            for process in &look.sight.processes {
                let container = containers.entry(process.of.clone()).or_default();
                container.processes.entry(process.clone()).or_default().push(place);
            }
            for start in &look.sight.starts {
                let container = containers.entry(start.of.clone()).or_default();
                container.starts.push((start.node.clone(), look.index));
            }
        }
        Self { looks, containers }
    }

    fn most(&self) -> usize {
        self.looks.iter().map(|look| look.sight.processes.len()).max().unwrap_or(0)
    }

    /// Two processes of one container live at a moment if one starts before a look begins that still shows the other, older one.
    fn overlaps(&self, findings: &mut Findings) {
        for (of, container) in &self.containers {
            let mut processes: Vec<(&ContainerProcess, &Look)> = container
                .processes
                .iter()
                .filter_map(|(process, places)| Some((process, self.looks.get(*places.last()?)?)))
                .collect();
            processes.sort_by_key(|(process, _)| process.started);
            for (place, (older, look)) in processes.iter().enumerate() {
                for (newer, _) in processes.iter().skip(place + 1) {
                    if newer.started < look.sight.began {
                        let sentence = format!(
                            "look #{} shows process {} of {}, and process {} of the same container had started",
                            look.index,
                            older.pid,
                            name(of),
                            newer.pid
                        );
                        findings.broken("two at once", &[look.index], sentence);
                    }
                }
            }
        }
    }
}

fn name(of: &ContainerOf) -> String {
    format!("container {} of pod {}", of.container, of.uid)
}

/// A pod that the log shows.
struct Pod {
    name: String,
    /// Empty as long as it has none.
    node: String,
    /// Whether its containers are to be started again when they end.
    runs: bool,
    /// At its newest version.
    is_over: bool,
    is_deleting: bool,
    is_ready: bool,
    /// Whether any version has said so.
    was_ready: bool,
    succeeded: bool,
    /// The revision at which its object went, and whether its node was there.
    gone: Option<(i64, bool)>,
}

impl Pod {
    fn read(name: &str, object: &Value, before: Option<&Self>) -> Self {
        let is_ready = is_ready(object);
        Self {
            name: name.to_owned(),
            node: text(object, "/spec/nodeName").to_owned(),
            runs: text(object, "/spec/restartPolicy") != "Never",
            is_over: is_over(object),
            is_deleting: is_deleting(object),
            is_ready,
            was_ready: is_ready || before.is_some_and(|before| before.was_ready),
            succeeded: text(object, "/status/phase") == "Succeeded",
            gone: None,
        }
    }
}

/// All pods that there were, by uid.
#[derive(Default)]
struct Pods {
    by_uid: BTreeMap<String, Pod>,
}

impl Pods {
    fn read(&mut self, record: &Record, findings: &mut Findings) -> Result<(), String> {
        let mut all = Vec::new();
        for resource in [Resource::Nodes, Resource::Pods] {
            let changes = changes(record, &resource.folder(NAMESPACE))?;
            all.extend(changes.into_iter().map(|change| (resource, change)));
        }
        all.sort_by_key(|(_, change)| change.revision);
        let mut nodes: BTreeSet<&str> = BTreeSet::new();
        let mut uids: BTreeMap<&str, String> = BTreeMap::new();
        for (resource, change) in &all {
            match (resource, &change.object) {
                (Resource::Pods, Some(object)) => {
                    let uid = uid(object).unwrap_or_default().to_owned();
                    let before = self.by_uid.get(&uid);
                    let pod = Pod::read(change.name, object, before);
                    binding(before, &pod, change.revision, findings);
                    uids.insert(change.name, uid.clone());
                    self.by_uid.insert(uid, pod);
                }
                (Resource::Pods, None) => {
                    let pod = uids.remove(change.name).and_then(|uid| self.by_uid.get_mut(&uid));
                    if let Some(pod) = pod {
                        pod.gone = Some((change.revision, nodes.contains(pod.node.as_str())));
                    }
                }
                (_, Some(_)) => drop(nodes.insert(change.name)),
                (_, None) => drop(nodes.remove(change.name)),
            }
        }
        Ok(())
    }
}

/// A pod has one node for all its life.
fn binding(before: Option<&Pod>, pod: &Pod, at: i64, findings: &mut Findings) {
    let had = before.map_or("", |before| before.node.as_str());
    if !had.is_empty() && had != pod.node {
        let node = if pod.node.is_empty() { "no node" } else { &pod.node };
        let sentence = format!("at {at}, {} is on {node}, and was on {had} before", pod.name);
        findings.broken("bound twice", &[], sentence);
    }
}

/// From when on somebody knew of revisions: an answer that names one was made when all up to it had happened.
struct Known {
    /// Revisions that were the highest when they were named, each with the time.
    highest: Vec<(i64, u64)>,
}

impl Known {
    fn of(events: &[Event]) -> Self {
        let mut highest: Vec<(i64, u64)> = Vec::new();
        for event in events.iter().filter(|event| event.kind == EventKind::Ok) {
            let is_higher = |revision: i64| highest.last().is_none_or(|(known, _)| *known < revision);
            if let Some(revision) = event.rev.filter(|revision| is_higher(*revision)) {
                highest.push((revision, event.time));
            }
        }
        Self { highest }
    }

    /// Returns a time by which the revision had happened.
    fn since(&self, revision: i64) -> Option<u64> {
        let place = self.highest.partition_point(|(known, _)| *known < revision);
        self.highest.get(place).map(|(_, time)| *time)
    }
}

struct Judge<'a> {
    seen: &'a Seen,
    pods: &'a Pods,
    known: Known,
}

impl Judge<'_> {
    /// Every container starts once, on the node of its pod.
    fn starts(&self, findings: &mut Findings) {
        for (of, container) in &self.seen.containers {
            let (whose, started) = (name(of), container.started());
            let looks: Vec<u64> = container.starts.iter().map(|(_, index)| *index).collect();
            let Some(pod) = self.pods.by_uid.get(&of.uid) else {
                findings.broken(
                    "no such pod",
                    &looks,
                    format!("{whose} was started, and there never was that pod"),
                );
                continue;
            };
            for node in container.nodes().into_iter().filter(|node| **node != pod.node) {
                let bound = if pod.node.is_empty() { "bound nowhere" } else { &pod.node };
                let sentence =
                    format!("{whose} ({}) was started on {node}, and the pod is on {bound}", pod.name);
                findings.broken("on another node", &looks, sentence);
            }
            if started > 1 {
                let (rule, what) = if pod.runs {
                    ("started again", "and does not end by itself")
                } else {
                    ("started after its end", "and is not to be started again")
                };
                let sentence = format!("{whose} ({}) was started {started} times, {what}", pod.name);
                findings.broken(rule, &looks, sentence);
            }
        }
        for (uid, pod) in &self.pods.by_uid {
            let is_said_to_run = pod.was_ready || pod.succeeded;
            if is_said_to_run && !self.seen.containers.keys().any(|of| of.uid == *uid) {
                let sentence =
                    format!("pod {uid} ({}) is said to have run, and nothing of it has started", pod.name);
                findings.broken("never started", &[], sentence);
            }
        }
    }

    /// A pod's object stays until nothing of it lives.
    fn objects(&self, findings: &mut Findings) {
        for (uid, pod) in &self.pods.by_uid {
            // What is bound to a node that is gone is removed by force.
            let Some((revision, true)) = pod.gone else { continue };
            let Some(since) = self.known.since(revision) else { continue };
            let later = self.seen.looks.iter().filter(|look| look.began_at >= since);
            let mut lives =
                later.filter(|look| look.sight.processes.iter().any(|process| process.of.uid == *uid));
            if let Some(look) = lives.next() {
                let sentence = format!(
                    "pod {uid} ({}) was gone at {revision}, and look #{} after that shows a process of it",
                    pod.name, look.index
                );
                findings.broken("object gone first", &[look.index], sentence);
            }
        }
    }

    /// What lives is what is to live, and what is to live is ready.
    fn at_the_end(&self, events: &[Event], findings: &mut Findings) {
        let waits = events.iter().filter(|event| event.f == Function::Settle);
        let Some(settled_at) = waits.map(|event| event.time).max() else { return };
        let Some(last) = self.seen.looks.last().filter(|look| look.began_at >= settled_at) else {
            findings.unknown.push("nobody looked at containers when all was settled".to_owned());
            return;
        };
        let live: BTreeSet<&str> =
            last.sight.processes.iter().map(|process| process.of.uid.as_str()).collect();
        let is_to_live = |pod: &Pod| pod.runs && pod.gone.is_none() && !pod.is_deleting && !pod.is_over;
        for (uid, pod) in self.pods.by_uid.iter().filter(|(_, pod)| is_to_live(pod)) {
            let lacks = match (live.contains(uid.as_str()), pod.is_ready) {
                (true, true) => continue,
                (false, _) => "no process of it lives",
                (true, false) => "it is not ready",
            };
            let sentence = format!("pod {uid} ({}) is there in the end, and {lacks}", pod.name);
            findings.broken("does not run", &[last.index], sentence);
        }
        for uid in live {
            if !self.pods.by_uid.get(uid).is_some_and(is_to_live) {
                let sentence = format!(
                    "look #{}, the last, shows a process of pod {uid}, which is not to run",
                    last.index
                );
                findings.broken("left behind", &[last.index], sentence);
            }
        }
    }
}

/// Returns how many faults there were, and in how many of them a look showed a container that lived.
fn faults_met(events: &[Event], looks: &[Look]) -> (usize, usize) {
    let mut spans: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    for event in events {
        let Some((_, fault)) = Fault::of(event) else { continue };
        match fault.phase {
            Phase::Begin => drop(spans.entry(fault.fault).or_insert((event.time, u64::MAX))),
            Phase::Witness => {}
            Phase::End => drop(spans.entry(fault.fault).and_modify(|span| span.1 = event.time)),
        }
    }
    let is_met = |(began, ended): &&(u64, u64)| {
        looks.iter().any(|look| {
            look.began_at >= *began && look.ended_at <= *ended && !look.sight.processes.is_empty()
        })
    };
    (spans.len(), spans.values().filter(is_met).count())
}

#[cfg(test)]
mod mutations;
#[cfg(test)]
mod tests;
