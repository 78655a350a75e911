//! Replicas: never more than was asked for, and in the end exactly that.
//!
//! A ReplicaSet's status says which generation its controller has seen, so what the controller may want at a moment is what any generation since then
//! asks for. Whenever a pod comes, the ReplicaSet has no more living ones than that; whenever a ReplicaSet grows, those of its Deployment ask
//! together for no more than the Deployment's replicas and its surge. Generations never fall, and none is seen before it is there. Once all is
//! healed, every Deployment has what it asks for within a minute, and no pod lives that is nobody's.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::Record;
use super::super::opinions::Opinion;
use super::Findings;
use super::objects::{Change, changes, is_deleting, is_over, is_ready, number, owners, uid};
use crate::history::{ApiCall, Function, Resource, api_exchanges};

/// Name of the checker.
pub const NAME: &str = "k-replicas";
/// Where the workload's objects are.
pub const NAMESPACE: &str = "k-replicas";
/// Acknowledged changes of what is wanted, and pods that came, without which nothing is shown.
const CHANGES_MIN: usize = 3;
const PODS_MIN: usize = 5;

/// A Deployment or a ReplicaSet as the log shows it so far.
struct Owner {
    name: String,
    uid: String,
    /// Of a ReplicaSet: its Deployment's.
    owner: Option<String>,
    /// What each generation asks for at most: with the surge, for a Deployment.
    wanted: BTreeMap<i64, i64>,
    observed: i64,
    replicas: i64,
}

impl Owner {
    /// Returns the most that a controller may want which has seen at least the generation that the status names.
    fn bound(&self) -> i64 {
        let seen = self.wanted.range(..=self.observed).next_back().map(|(_, wanted)| *wanted);
        self.wanted.range(self.observed..).map(|(_, wanted)| *wanted).chain(seen).max().unwrap_or(0)
    }
}

/// A pod that the log shows.
struct Pod {
    owner: Option<String>,
    is_live: bool,
    is_ready: bool,
}

#[derive(Default)]
struct State {
    deployments: BTreeMap<String, Owner>,
    replica_sets: BTreeMap<String, Owner>,
    pods: BTreeMap<String, Pod>,
    pods_made: usize,
    most_live: usize,
}

/// Says what it thinks of the replicas of a run.
pub(in super::super) fn opinion(record: &Record) -> Result<Option<Opinion>, String> {
    let exchanges = api_exchanges(&record.events)?;
    let wanted = exchanges.iter().filter(|exchange| match &exchange.call {
        ApiCall::Patch(written) | ApiCall::Create(written) => {
            written.namespace == NAMESPACE && exchange.done().is_some()
        }
        _ => false,
    });
    let wanted = wanted.count();
    if !exchanges.iter().any(|exchange| is_ours(&exchange.call)) {
        return Ok(None);
    }
    let mut findings = Findings::default();
    findings.log(record);
    findings.waits(record);
    let mut state = State::default();
    let folders = [Resource::Deployments, Resource::ReplicaSets, Resource::Pods];
    let mut all: Vec<(Resource, Change<'_>)> = Vec::new();
    for resource in folders {
        let changes = changes(record, &resource.folder(NAMESPACE))?;
        all.extend(changes.into_iter().map(|change| (resource, change)));
    }
    all.sort_by_key(|(_, change)| change.revision);
    if findings.unknown.is_empty() {
        for (resource, change) in &all {
            state.take_in(*resource, change, &mut findings);
        }
        if record.events.iter().any(|event| event.f == Function::Settle) {
            state.at_the_end(&mut findings);
        }
    }
    findings.demand("acknowledged changes of Deployments", wanted, CHANGES_MIN);
    findings.demand("pods that came", state.pods_made, PODS_MIN);
    let State { pods_made, most_live, .. } = state;
    let scope = format!("{wanted} changes, {pods_made} pods came, at most {most_live} lived at a time");
    let counts = [("changes", wanted), ("pods", pods_made), ("most_live", most_live)];
    Ok(Some(findings.opinion(NAME, scope, &counts)))
}

fn is_ours(call: &ApiCall) -> bool {
    match call {
        ApiCall::Get(named) => named.namespace == NAMESPACE,
        ApiCall::Create(written) | ApiCall::Update(written) | ApiCall::Patch(written) => {
            written.namespace == NAMESPACE
        }
        ApiCall::List(_)
        | ApiCall::Delete(_)
        | ApiCall::Acquire(_)
        | ApiCall::Renew(_)
        | ApiCall::Release(_) => false,
    }
}

impl State {
    fn take_in(&mut self, resource: Resource, change: &Change<'_>, findings: &mut Findings) {
        match resource {
            Resource::Deployments => generations(&self.deployments, change, findings),
            Resource::ReplicaSets => generations(&self.replica_sets, change, findings),
            Resource::Pods | Resource::Namespaces | Resource::Nodes | Resource::ConfigMaps => {}
        }
        match resource {
            Resource::Deployments => {
                track(&mut self.deployments, change, wanted_with_surge);
            }
            Resource::ReplicaSets => {
                let before = self.replica_sets.get(change.name).map_or(0, |set| set.replicas);
                let after = track(&mut self.replica_sets, change, replicas);
                if after.is_some_and(|after| after > before) {
                    self.surge(change, findings);
                }
            }
            Resource::Pods => self.pod(change, findings),
            Resource::Namespaces | Resource::Nodes | Resource::ConfigMaps => {}
        }
    }

    /// A ReplicaSet has grown.
    fn surge(&self, change: &Change<'_>, findings: &mut Findings) {
        let owner = self.replica_sets.get(change.name).and_then(|set| set.owner.as_ref());
        let deployment = self.deployments.values().find(|deployment| Some(&deployment.uid) == owner);
        let Some(deployment) = deployment else { return };
        let sets = self.replica_sets.values().filter(|set| set.owner.as_ref() == Some(&deployment.uid));
        let total: i64 = sets.map(|set| set.replicas).sum();
        let bound = deployment.bound();
        if total > bound {
            let (name, at) = (&deployment.name, change.revision);
            let sentence = format!(
                "at {at}, {} grew, and the ReplicaSets of {name} ask for {total} pods, at most {bound} were wanted",
                change.name
            );
            findings.broken("beyond the surge", &[], sentence);
        }
    }

    fn pod(&mut self, change: &Change<'_>, findings: &mut Findings) {
        let Some(object) = &change.object else {
            self.pods.remove(change.name);
            return;
        };
        let is_live = !is_deleting(object) && !is_over(object);
        let owner = owners(object).into_iter().next();
        let pod = Pod { owner: owner.clone(), is_live, is_ready: is_ready(object) };
        self.pods.insert(change.name.to_owned(), pod);
        if !change.is_new {
            return;
        }
        self.pods_made += 1;
        self.most_live = self.most_live.max(self.pods.values().filter(|pod| pod.is_live).count());
        let set = self.replica_sets.values().find(|set| Some(&set.uid) == owner.as_ref());
        let Some(set) = set else { return };
        let (live, bound) = (self.live(&set.uid), set.bound());
        if live > bound {
            let (pod, name, at) = (change.name, &set.name, change.revision);
            let sentence = format!(
                "at {at}, {pod} came, and {name} has {live} living pods, at most {bound} were wanted"
            );
            findings.broken("too many pods", &[], sentence);
        }
    }

    fn live(&self, owner: &str) -> i64 {
        let of_owner = |pod: &&Pod| pod.is_live && pod.owner.as_deref() == Some(owner);
        i64::try_from(self.pods.values().filter(of_owner).count()).unwrap_or(i64::MAX)
    }

    /// What was wanted last is there, and all of it is ready.
    fn at_the_end(&self, findings: &mut Findings) {
        for deployment in self.deployments.values() {
            let sets: Vec<&Owner> = self
                .replica_sets
                .values()
                .filter(|set| set.owner.as_deref() == Some(deployment.uid.as_str()))
                .collect();
            let live: i64 = sets.iter().map(|set| self.live(&set.uid)).sum();
            if live != deployment.replicas {
                let (name, wanted) = (&deployment.name, deployment.replicas);
                let sentence = format!("{name} has {live} living pods in the end, and {wanted} are wanted");
                findings.broken("not what was wanted", &[], sentence);
            }
        }
        let stands = |owner: &String| self.replica_sets.values().any(|set| set.uid == *owner);
        let lonely =
            self.pods.iter().filter(|(_, pod)| pod.is_live && !pod.owner.as_ref().is_some_and(stands));
        for (name, _) in lonely {
            findings.broken(
                "pod of nobody",
                &[],
                format!("{name} lives in the end, and no ReplicaSet has it"),
            );
        }
        let unready = self.pods.iter().filter(|(_, pod)| pod.is_live && !pod.is_ready);
        for (name, _) in unready {
            findings.broken("not ready", &[], format!("{name} lives in the end, and is not ready"));
        }
    }
}

fn replicas(object: &Value) -> i64 {
    object.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1)
}

/// Returns the most pods that a Deployment's ReplicaSets may ask for: a share is rounded up.
fn wanted_with_surge(deployment: &Value) -> i64 {
    let replicas = replicas(deployment);
    let surge = deployment.pointer("/spec/strategy/rollingUpdate/maxSurge");
    let percent = |text: &str| text.trim_end_matches('%').parse::<i64>().ok();
    let surge = match surge {
        Some(Value::String(text)) => percent(text).map(|share| (replicas * share + 99) / 100),
        Some(surge) => surge.as_i64(),
        None => Some((replicas * 25 + 99) / 100),
    };
    replicas + surge.unwrap_or(0)
}

/// A generation never falls, and no controller has seen one that is not there: what may be wanted is told by both.
fn generations(owners_by_name: &BTreeMap<String, Owner>, change: &Change<'_>, findings: &mut Findings) {
    let Some(object) = &change.object else { return };
    let (name, at) = (change.name, change.revision);
    let generation = number(object, "/metadata/generation");
    let observed = number(object, "/status/observedGeneration");
    if observed > generation {
        let sentence = format!("at {at}, {name} is of generation {generation}, and {observed} was seen");
        findings.broken("generation seen before it was there", &[], sentence);
    }
    let standing = owners_by_name.get(name).filter(|_| !change.is_new);
    let before = standing.and_then(|owner| owner.wanted.last_key_value()).map_or(0, |(before, _)| *before);
    if generation < before {
        let sentence = format!("at {at}, {name} is of generation {generation}, after {before}");
        findings.broken("generation went back", &[], sentence);
    }
}

/// Takes in a change of an owner of others; returns what it asks for now.
fn track(
    owners_by_name: &mut BTreeMap<String, Owner>,
    change: &Change<'_>,
    wanted: impl Fn(&Value) -> i64,
) -> Option<i64> {
    let Some(object) = &change.object else {
        owners_by_name.remove(change.name);
        return None;
    };
    if change.is_new {
        owners_by_name.remove(change.name);
    }
    let owner = owners_by_name.entry(change.name.to_owned()).or_insert_with(|| Owner {
        name: change.name.to_owned(),
        uid: uid(object).unwrap_or_default().to_owned(),
        owner: owners(object).into_iter().next(),
        wanted: BTreeMap::new(),
        observed: 0,
        replicas: 0,
    });
    owner.replicas = replicas(object);
    owner.observed = number(object, "/status/observedGeneration");
    owner.wanted.insert(number(object, "/metadata/generation"), wanted(object));
    Some(owner.replicas)
}

#[cfg(test)]
mod mutations;
#[cfg(test)]
mod tests;
