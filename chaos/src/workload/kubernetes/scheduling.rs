//! The scheduling workload: pods of many sizes come and go on nodes that are too small for all of them.
//!
//! Pods that find no room wait until others go. At the end so few are left that all of them fit, and each must run.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::super::{Client, Entry, Nodes, Setup, Tier, Workload};
use super::{face, get, list, removal, written};
use crate::check::kubernetes::objects::{is_deleting, is_ready, text};
use crate::check::kubernetes::scheduling::NAMESPACE;
use crate::history::{ApiAnswer, ApiCall, Face, Resource};

pub(in super::super) const ENTRY: Entry = Entry {
    name: "k-sched",
    about: "pods of many sizes come and go on nodes that are too small for all of them",
    checkers: &["k-sched", "convergence"],
    needs_own_store: true,
    tier: Tier::Kubernetes,
    nodes: Nodes::Hollow,
    create: |setup| Arc::new(Scheduling { generator: Mutex::new(Generator::new(setup)) }),
};

/// Names that pods have in turns.
const PODS: u64 = 24;
/// What pods ask for, in thousandths of a core: a node has as many cores as the machine.
const SIZES: [u64; 4] = [100, 400, 900, 1500];
/// Pods that stay: one on each node fits, whatever they ask for.
const PODS_LEFT: u64 = 3;
/// How often all others are deleted until none is there.
const CLEARINGS_MAX: usize = 10;

struct Scheduling {
    generator: Mutex<Generator>,
}

impl Scheduling {
    fn generator(&self) -> MutexGuard<'_, Generator> {
        self.generator.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pods(face: Face) -> ApiCall {
    list(face, Resource::Pods, NAMESPACE)
}

fn pod(name: &str, millis: u64) -> Value {
    let requests = json!({ "cpu": format!("{millis}m") });
    let container = json!({
        "name": "idle", "image": "example.com/idle:1", "resources": { "requests": requests },
    });
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "namespace": NAMESPACE, "name": name },
        "spec": { "terminationGracePeriodSeconds": 1, "containers": [container] },
    })
}

/// Returns the pods of a list that do not stay.
fn surplus(answer: &ApiAnswer) -> Vec<String> {
    let names = answer.items.iter().map(|pod| text(pod, "/metadata/name").to_owned());
    names.filter(|named| (0..PODS_LEFT).all(|number| name(number) != *named)).collect()
}

/// Says which of the pods that stay does not run yet, or what else is there.
fn are_placed(answer: &ApiAnswer) -> Result<(), String> {
    if !answer.is_done() {
        return Err(format!("the list is refused ({})", answer.code));
    }
    if let Some(other) = surplus(answer).first() {
        return Err(format!("{other} is still there"));
    }
    answer.items.iter().try_for_each(|pod| {
        let lacks = match pod {
            pod if is_deleting(pod) => "is on its way out",
            pod if text(pod, "/spec/nodeName").is_empty() => "is on no node",
            pod if !is_ready(pod) => "is not ready",
            _ => return Ok(()),
        };
        Err(format!("{} {lacks}", text(pod, "/metadata/name")))
    })
}

#[async_trait]
impl Workload for Scheduling {
    async fn work(self: Arc<Self>, mut client: Client) -> std::io::Result<()> {
        client.ensure_namespace(NAMESPACE).await?;
        while client.turn().await {
            let Action { name, face, deed } = self.generator().next_action();
            let call = match deed {
                Deed::Look => pods(face),
                Deed::Read => get(face, Resource::Pods, NAMESPACE, &name),
                Deed::Delete => ApiCall::Delete(removal(face, Resource::Pods, NAMESPACE, &name)),
                Deed::Create(millis) => {
                    let pod = pod(&name, millis);
                    ApiCall::Create(written(face, Resource::Pods, NAMESPACE, &name, pod))
                }
            };
            let _ = client.request(&call).await?;
        }
        Ok(())
    }

    async fn finish(self: Arc<Self>, mut client: Client) -> std::io::Result<()> {
        for _ in 0..CLEARINGS_MAX {
            let Ok(there) = client.request(&pods(Face::Rest)).await? else { continue };
            let surplus = surplus(&there);
            if surplus.is_empty() {
                break;
            }
            for name in surplus {
                let removal = removal(Face::Rest, Resource::Pods, NAMESPACE, &name);
                let _ = client.request(&ApiCall::Delete(removal)).await?;
            }
        }
        client.settle("all pods that are left", &pods(Face::Rest), are_placed).await?;
        // What the scheduler wrote last counts, too.
        let _ = client.request(&pods(Face::Rest)).await?;
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    /// Lists all.
    Look,
    Read,
    /// With what it asks for, in thousandths of a core.
    Create(u64),
    Delete,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Action {
    name: String,
    face: Face,
    deed: Deed,
}

struct Generator {
    random: StdRng,
}

impl Generator {
    fn new(setup: &Setup) -> Self {
        Self { random: StdRng::seed_from_u64(setup.seed) }
    }

    fn next_action(&mut self) -> Action {
        let deed = match self.random.random_range(0..100_u8) {
            0..=17 => {
                let size = self.random.random_range(0..SIZES.len());
                Deed::Create(SIZES.get(size).copied().unwrap_or_default())
            }
            18..=25 => Deed::Delete,
            26..=30 => Deed::Look,
            _ => Deed::Read,
        };
        let name = name(self.random.random_range(0..PODS));
        Action { name, face: face(self.random.random_range(0..2)), deed }
    }
}

fn name(number: u64) -> String {
    format!("p{number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_come_from_the_seed_and_more_pods_come_than_fit() {
        let setup = Setup { seed: 5, prefix: String::new(), members: 3 };
        let (mut one, mut two) = (Generator::new(&setup), Generator::new(&setup));
        let (mut created, mut deleted) = (0, 0);
        for _ in 0..2000 {
            let action = one.next_action();
            assert_eq!(action, two.next_action());
            match action.deed {
                Deed::Create(millis) => created += u64::from(SIZES.contains(&millis)),
                Deed::Delete => deleted += 1,
                Deed::Look | Deed::Read => {}
            }
        }
        assert!(created > 300 && deleted > 100 && created > deleted, "{created} {deleted}");
    }

    #[test]
    fn what_is_left_must_run_and_be_alone() {
        let placed = |number: u64, node: &str, is_ready: bool| {
            let ready = if is_ready { "True" } else { "False" };
            json!({
                "metadata": { "name": name(number) }, "spec": { "nodeName": node },
                "status": { "conditions": [{ "type": "Ready", "status": ready }] },
            })
        };
        let of = |items: Vec<Value>| are_placed(&ApiAnswer { code: 200, items, ..ApiAnswer::default() });
        assert_eq!(of(vec![placed(0, "a", true), placed(2, "b", true)]), Ok(()));
        assert_eq!(of(vec![placed(0, "", false)]).unwrap_err(), "p0 is on no node");
        assert_eq!(of(vec![placed(1, "a", false)]).unwrap_err(), "p1 is not ready");
        let mut leaving = placed(1, "a", true);
        leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(of(vec![leaving]).unwrap_err(), "p1 is on its way out");
        assert_eq!(of(vec![placed(7, "a", true)]).unwrap_err(), "p7 is still there");
        assert!(are_placed(&ApiAnswer { code: 500, ..ApiAnswer::default() }).is_err());
    }
}
