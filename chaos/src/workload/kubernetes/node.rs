//! The node workload: pods of real containers come and go on real nodes.
//!
//! Some run until they are deleted, some end by themselves after a moment. Each container is told whose it is and appends one line when it starts;
//! what lives and what has started is looked at from outside, independent of agent and runtime.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::super::{Client, Entry, Nodes, Setup, Tier, Workload};
use super::{face, get, list, removal, written};
use crate::check::kubernetes::node::NAMESPACE;
use crate::check::kubernetes::objects::{is_deleting, is_over, is_ready, text};
use crate::history::{ApiAnswer, ApiCall, ContainerOf, Face, Resource, STARTS};

pub(in super::super) const ENTRY: Entry = Entry {
    name: "k-node",
    about: "pods of real containers come and go: some run until they are deleted, some end by themselves",
    checkers: &["k-node", "convergence"],
    needs_own_store: true,
    tier: Tier::Kubernetes,
    nodes: Nodes::Real,
    create: |setup| Arc::new(RealPods { generator: Mutex::new(Generator::new(setup)) }),
};

/// Names that pods have in turns: those that run, and those that end by themselves. Each costs two processes and a shim.
const RUNNERS: u64 = 6;
const ENDERS: u64 = 3;
/// Packed from the machine's static busybox for the run.
const IMAGE: &str = "localhost/keelson-web:1";
/// Where a container sees the folder of starts.
const FOLDER: &str = "/starts";
const CONTAINER: &str = "main";
/// Time for a container that is told to end, which it does at once.
const GRACE_SECONDS: u64 = 5;
/// What a container runs until it is told to end. Process 1 hears of no signal that it does not trap.
const RUN: &str = "while true; do sleep 3600 & wait $!; done";
/// What a container runs that ends by itself.
const END: &str = "sleep 2 & wait $!";

struct RealPods {
    generator: Mutex<Generator>,
}

impl RealPods {
    fn generator(&self) -> MutexGuard<'_, Generator> {
        self.generator.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pods(face: Face) -> ApiCall {
    list(face, Resource::Pods, NAMESPACE)
}

/// Returns a pod whose container says that it starts, before anything else.
fn pod(name: &str, life: Life, starts: &Path) -> Value {
    let (policy, work) = match life {
        Life::Runs => ("Always", RUN),
        Life::Ends => ("Never", END),
    };
    let script = format!(
        "trap 'exit 0' TERM; read up rest < /proc/uptime; echo \"{} $up\" >> {FOLDER}/{STARTS}; {work}",
        ContainerOf::IN_SHELL
    );
    let field =
        |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } });
    let container = json!({
        "name": CONTAINER, "image": IMAGE, "command": ["sh", "-c", script],
        "env": [
            { "name": ContainerOf::RUN, "value": starts },
            field(ContainerOf::UID, "metadata.uid"),
            field(ContainerOf::NODE, "spec.nodeName"),
            { "name": ContainerOf::NAME, "value": CONTAINER },
        ],
        "volumeMounts": [{ "name": "starts", "mountPath": FOLDER }],
    });
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "namespace": NAMESPACE, "name": name },
        "spec": {
            "restartPolicy": policy,
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            "automountServiceAccountToken": false,
            "containers": [container],
            "volumes": [{ "name": "starts", "hostPath": { "path": starts, "type": "Directory" } }],
        },
    })
}

/// Says which pod is not yet what it is to be for good.
fn are_settled(answer: &ApiAnswer) -> Result<(), String> {
    if !answer.is_done() {
        return Err(format!("the list is refused ({})", answer.code));
    }
    answer.items.iter().try_for_each(|pod| {
        let ends = text(pod, "/spec/restartPolicy") == "Never";
        let lacks = match pod {
            pod if is_deleting(pod) => "is on its way out",
            pod if text(pod, "/spec/nodeName").is_empty() => "is on no node",
            pod if ends && !is_over(pod) => "has not ended",
            pod if !ends && !is_ready(pod) => "is not ready",
            _ => return Ok(()),
        };
        Err(format!("{} {lacks}", text(pod, "/metadata/name")))
    })
}

#[async_trait]
impl Workload for RealPods {
    async fn work(self: Arc<Self>, mut client: Client) -> std::io::Result<()> {
        client.ensure_namespace(NAMESPACE).await?;
        let starts = client.starts();
        while client.turn().await {
            let Action { name, life, face, deed } = self.generator().next_action();
            let call = match deed {
                Deed::Look => pods(face),
                Deed::Read => get(face, Resource::Pods, NAMESPACE, &name),
                Deed::Delete => ApiCall::Delete(removal(face, Resource::Pods, NAMESPACE, &name)),
                Deed::Create => {
                    let pod = pod(&name, life, &starts);
                    ApiCall::Create(written(face, Resource::Pods, NAMESPACE, &name, pod))
                }
            };
            let _ = client.request(&call).await?;
        }
        Ok(())
    }

    async fn finish(self: Arc<Self>, mut client: Client) -> std::io::Result<()> {
        client.settle("all pods", &pods(Face::Rest), are_settled).await?;
        // What agents wrote last counts, too.
        let _ = client.request(&pods(Face::Rest)).await?;
        Ok(())
    }
}

/// What a pod's container does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// Until the pod is deleted.
    Runs,
    /// Ends well after a moment.
    Ends,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    /// Lists all.
    Look,
    Read,
    Create,
    Delete,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Action {
    name: String,
    life: Life,
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

    /// Most actions only look: a container costs the machine a large part of a second, and pods must live for longer than a fault.
    fn next_action(&mut self) -> Action {
        let deed = match self.random.random_range(0..400_u16) {
            0..=19 => Deed::Create,
            20..=21 => Deed::Delete,
            22..=41 => Deed::Look,
            _ => Deed::Read,
        };
        let number = self.random.random_range(0..RUNNERS + ENDERS);
        let (name, life) = if number < RUNNERS {
            (format!("r{number}"), Life::Runs)
        } else {
            (format!("e{}", number - RUNNERS), Life::Ends)
        };
        Action { name, life, face: face(self.random.random_range(0..2)), deed }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn actions_come_from_the_seed_and_a_name_stands_for_one_life() {
        let setup = Setup { seed: 5, prefix: String::new(), members: 3 };
        let (mut one, mut two) = (Generator::new(&setup), Generator::new(&setup));
        let mut deeds = [0, 0];
        let mut names = BTreeSet::new();
        for _ in 0..4000 {
            let action = one.next_action();
            assert_eq!(action, two.next_action());
            assert_eq!(action.life == Life::Runs, action.name.starts_with('r'));
            names.insert(action.name);
            match action.deed {
                Deed::Create => deeds[0] += 1,
                Deed::Delete => deeds[1] += 1,
                Deed::Look | Deed::Read => {}
            }
        }
        assert_eq!(names.len() as u64, RUNNERS + ENDERS);
        assert!(deeds[1] > 10 && deeds[0] > 5 * deeds[1], "{deeds:?}");
    }

    #[test]
    fn a_container_is_told_whose_it_is_and_says_so_first() {
        let pod = pod("e0", Life::Ends, Path::new("/run/starts"));
        assert_eq!(pod["spec"]["restartPolicy"], "Never");
        let script = pod["spec"]["containers"][0]["command"][2].as_str().unwrap();
        let (before, after) = script.split_once(">> /starts/starts.txt; ").unwrap();
        assert!(before.starts_with("trap 'exit 0' TERM; ") && after.starts_with("sleep 2"), "{script}");
        assert!(before.contains("\"$CHAOS_UID $CHAOS_NODE $CHAOS_CONTAINER $up\""), "{script}");
    }

    #[test]
    fn pods_are_settled_when_each_is_what_it_is_to_be() {
        let pod = |policy: &str, phase: &str, ready: &str| {
            json!({
                "metadata": { "name": "p" }, "spec": { "nodeName": "n", "restartPolicy": policy },
                "status": { "phase": phase, "conditions": [{ "type": "Ready", "status": ready }] },
            })
        };
        let of = |pod: Value| are_settled(&ApiAnswer { code: 200, items: vec![pod], ..ApiAnswer::default() });
        assert_eq!(of(pod("Always", "Running", "True")), Ok(()));
        assert_eq!(of(pod("Never", "Succeeded", "False")), Ok(()));
        assert_eq!(of(pod("Always", "Running", "False")).unwrap_err(), "p is not ready");
        assert_eq!(of(pod("Never", "Running", "True")).unwrap_err(), "p has not ended");
        let mut leaving = pod("Never", "Succeeded", "False");
        leaving["metadata"]["deletionTimestamp"] = json!("now");
        assert_eq!(of(leaving).unwrap_err(), "p is on its way out");
        assert!(are_settled(&ApiAnswer { code: 503, ..ApiAnswer::default() }).is_err());
    }
}
