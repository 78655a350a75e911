//! The replicas workload: Deployments are scaled up and down, rolled over and robbed of pods, while all look on.
//!
//! Most requests are reads: controllers have work enough with few changes. At the end every Deployment must have what it asks for, as every server
//! shows it, and all pods are listed once more.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::super::values::Counter;
use super::super::{Client, Entry, Nodes, Setup, Tier, Workload};
use super::{face, get, removal, written};
use crate::check::kubernetes::replicas::NAMESPACE;
use crate::history::{ApiAnswer, ApiCall, Face, Resource};

pub(in super::super) const ENTRY: Entry = Entry {
    name: "k-replicas",
    about: "Deployments are scaled, rolled over and robbed of pods",
    checkers: &["k-replicas", "convergence"],
    needs_own_store: true,
    tier: Tier::Kubernetes,
    nodes: Nodes::Hollow,
    create: |setup| Arc::new(Replicas { generator: Mutex::new(Generator::new(setup)) }),
};

const DEPLOYMENTS: u64 = 3;
/// Most replicas that are asked for: hollow nodes start pods at once, and every pod costs a handful of writes.
const REPLICAS_MAX: u64 = 8;

struct Replicas {
    generator: Mutex<Generator>,
}

impl Replicas {
    fn generator(&self) -> MutexGuard<'_, Generator> {
        self.generator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn perform(&self, client: &mut Client, action: Action) -> std::io::Result<()> {
        let Action { name, face, deed } = action;
        let call = match deed {
            Deed::Read => get(face, Resource::Deployments, NAMESPACE, &name),
            Deed::Scale(replicas) => {
                let patch = json!({ "spec": { "replicas": replicas } });
                ApiCall::Patch(written(face, Resource::Deployments, NAMESPACE, &name, patch))
            }
            Deed::Roll(tag) => {
                let annotations = json!({ "annotations": { "roll": tag.to_string() } });
                let patch = json!({ "spec": { "template": { "metadata": annotations } } });
                ApiCall::Patch(written(face, Resource::Deployments, NAMESPACE, &name, patch))
            }
            Deed::Rob(draw) => {
                let Ok(pods) = client.request(&pods(face)).await? else { return Ok(()) };
                let count = u64::try_from(pods.items.len()).unwrap_or(0);
                let place = usize::try_from(draw % count.max(1)).unwrap_or(0);
                let pod = pods.items.get(place).and_then(|pod| pod.pointer("/metadata/name"));
                let Some(pod) = pod.and_then(Value::as_str) else { return Ok(()) };
                ApiCall::Delete(removal(face, Resource::Pods, NAMESPACE, pod))
            }
        };
        let answer = client.request(&call).await?;
        if answer.is_ok_and(|answer| answer.code == 404) && deed == Deed::Read {
            let create = written(face, Resource::Deployments, NAMESPACE, &name, deployment(&name));
            let _ = client.request(&ApiCall::Create(create)).await?;
        }
        Ok(())
    }
}

fn pods(face: Face) -> ApiCall {
    list(face, Resource::Pods)
}

fn list(face: Face, resource: Resource) -> ApiCall {
    super::list(face, resource, NAMESPACE)
}

fn deployment(name: &str) -> Value {
    let labels = json!({ "app": name });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "namespace": NAMESPACE, "name": name },
        "spec": {
            "replicas": 2,
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{ "name": "idle", "image": "example.com/idle:1" }],
                },
            },
        },
    })
}

/// Says what a Deployment still lacks, of all that there should be.
fn are_whole(answer: &ApiAnswer) -> Result<(), String> {
    if !answer.is_done() {
        return Err(format!("the list is refused ({})", answer.code));
    }
    let is_called =
        |object: &&Value, name: &str| object.pointer("/metadata/name").and_then(Value::as_str) == Some(name);
    (0..DEPLOYMENTS).map(name).try_for_each(|name| {
        let found = answer.items.iter().find(|object| is_called(object, &name));
        let lacks = found.map_or_else(|| Err("it is not there".to_owned()), is_whole);
        lacks.map_err(|lacks| format!("{name}: {lacks}"))
    })
}

fn is_whole(deployment: &Value) -> Result<(), String> {
    let number = |pointer: &str| deployment.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    let wanted = number("/spec/replicas");
    let is_observed = number("/status/observedGeneration") >= number("/metadata/generation");
    let counts = ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"];
    let behind = counts.iter().find(|count| number(&format!("/status/{count}")) != wanted);
    match (is_observed, behind) {
        (false, _) => Err("its last change is not observed".to_owned()),
        (true, Some(count)) => {
            Err(format!("{count} is {} and {wanted} are wanted", number(&format!("/status/{count}"))))
        }
        (true, None) => Ok(()),
    }
}

#[async_trait]
impl Workload for Replicas {
    async fn work(self: Arc<Self>, mut client: Client) -> std::io::Result<()> {
        client.ensure_namespace(NAMESPACE).await?;
        while client.turn().await {
            let action = self.generator().next_action();
            self.perform(&mut client, action).await?;
        }
        Ok(())
    }

    async fn finish(self: Arc<Self>, mut client: Client) -> std::io::Result<()> {
        client.settle("all deployments", &list(Face::Rest, Resource::Deployments), are_whole).await?;
        let _ = client.request(&pods(Face::Rest)).await?;
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    /// Creates it where it is not there.
    Read,
    Scale(u64),
    /// Changes its template, so that every pod is replaced.
    Roll(u64),
    /// Deletes a pod.
    Rob(u64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Action {
    name: String,
    face: Face,
    deed: Deed,
}

struct Generator {
    random: StdRng,
    tags: Counter,
}

impl Generator {
    fn new(setup: &Setup) -> Self {
        Self { random: StdRng::seed_from_u64(setup.seed), tags: Counter::default() }
    }

    fn next_action(&mut self) -> Action {
        let deed = match self.random.random_range(0..100_u8) {
            0..=5 => Deed::Scale(self.random.random_range(0..=REPLICAS_MAX)),
            6 => Deed::Roll(self.tags.next()),
            7 => Deed::Rob(self.random.random()),
            _ => Deed::Read,
        };
        let name = name(self.random.random_range(0..DEPLOYMENTS));
        Action { name, face: face(self.random.random_range(0..2)), deed }
    }
}

fn name(number: u64) -> String {
    format!("d{number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_come_from_the_seed_and_most_are_reads() {
        let setup = Setup { seed: 5, prefix: String::new(), members: 3 };
        let (mut one, mut two) = (Generator::new(&setup), Generator::new(&setup));
        let (mut reads, mut scales, mut rolls, mut robs) = (0, 0, 0, 0);
        for _ in 0..2000 {
            let action = one.next_action();
            assert_eq!(action, two.next_action());
            match action.deed {
                Deed::Read => reads += 1,
                Deed::Scale(replicas) => scales += i32::from(replicas <= REPLICAS_MAX),
                Deed::Roll(_) => rolls += 1,
                Deed::Rob(_) => robs += 1,
            }
        }
        assert!(reads > 1700 && scales > 60 && rolls > 5 && robs > 5, "{reads} {scales} {rolls} {robs}");
    }

    #[test]
    fn a_deployment_is_whole_when_every_count_is_the_one_that_is_wanted() {
        let deployment = |name: String, observed: i64, ready: i64| {
            let status = json!({
                "observedGeneration": observed, "replicas": 2, "updatedReplicas": 2, "readyReplicas": ready,
                "availableReplicas": ready,
            });
            let metadata = json!({ "name": name, "generation": 3 });
            json!({ "metadata": metadata, "spec": { "replicas": 2 }, "status": status })
        };
        let whole = || (0..DEPLOYMENTS).map(|number| deployment(name(number), 3, 2));
        let of = |last: Option<Value>| {
            let items: Vec<Value> = whole().skip(1).chain(last).collect();
            are_whole(&ApiAnswer { code: 200, items, ..ApiAnswer::default() })
        };
        assert_eq!(of(whole().next()), Ok(()));
        assert_eq!(of(Some(deployment(name(0), 2, 2))).unwrap_err(), "d0: its last change is not observed");
        assert!(of(Some(deployment(name(0), 3, 1))).unwrap_err().contains("d0: readyReplicas is 1"));
        assert_eq!(of(None).unwrap_err(), "d0: it is not there");
        assert!(are_whole(&ApiAnswer { code: 404, ..ApiAnswer::default() }).is_err());
    }
}
