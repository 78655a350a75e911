//! Who owns whom, and what follows from it. Pure.
//!
//! An owner is *solid* (there, and not waiting for its dependents), *waiting* (being deleted in the foreground), *absent*
//! (seen to go, or verified) or *unknown*. Only absent and waiting owners let go of a dependent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use client::{DeleteOptions, MetadataObject, Propagation, ResourceKind};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::json;

use crate::catalog::{Scope, kind_of_reference};
use crate::runtime::{Action, Plan, Verb};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// Absent owners remembered; a forgotten one is verified again.
const ABSENT_COUNT_MAX: usize = 100_000;
/// How soon to look again while an owner is being verified.
const VERIFY_PAUSE: Duration = Duration::from_secs(5);

/// An owner as a dependent names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OwnerId {
    pub kind: ResourceKind,
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

#[derive(Clone, Debug)]
struct Node {
    kind: ResourceKind,
    object: Arc<MetadataObject>,
}

impl Node {
    fn owners(&self) -> &[OwnerReference] {
        self.object.metadata.owner_references.as_deref().unwrap_or_default()
    }

    fn is_going(&self) -> bool {
        self.object.metadata.deletion_timestamp.is_some()
    }

    fn has_finalizer(&self, finalizer: &str) -> bool {
        self.object.metadata.finalizers.iter().flatten().any(|present| present == finalizer)
    }

    fn waits_for_dependents(&self) -> bool {
        self.is_going() && self.has_finalizer(FOREGROUND)
    }

    fn namespace(&self) -> &str {
        self.object.metadata.namespace.as_deref().unwrap_or_default()
    }
}

/// Every object by uid, with edges from owners to dependents.
#[derive(Debug, Default)]
pub struct Graph {
    nodes: BTreeMap<String, Node>,
    dependents: BTreeMap<String, BTreeSet<String>>,
    absent: BTreeSet<String>,
    absent_order: VecDeque<String>,
}

/// What to do about one object.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    Nothing,
    /// Owners that must be verified before anything is decided.
    Verify(Vec<OwnerId>),
    Act(Vec<Action>),
}

impl Decision {
    /// Returns the plan that carries it out.
    #[must_use]
    pub fn plan(&self) -> Plan {
        match self {
            Self::Nothing => Plan::nothing(),
            Self::Verify(_) => Plan { requeue_after: Some(VERIFY_PAUSE), ..Plan::default() },
            Self::Act(actions) => Plan { actions: actions.clone(), ..Plan::default() },
        }
    }
}

enum Standing {
    Solid,
    Waiting,
    Absent,
    Unknown(Option<OwnerId>),
}

impl Graph {
    /// Takes in the present state of an object; returns the uids to look at.
    pub fn observed(&mut self, kind: &ResourceKind, object: &Arc<MetadataObject>) -> Vec<String> {
        let Some(uid) = object.metadata.uid.clone() else { return Vec::new() };
        let before = self.owner_uids(&uid);
        self.unlink(&uid);
        let node = Node { kind: kind.clone(), object: Arc::clone(object) };
        let mut concerned = vec![uid.clone()];
        // An owner on its way out may have waited for this one to forget it.
        let is_owner = |uid: &String| node.owners().iter().any(|owner| owner.uid == *uid);
        concerned.extend(before.into_iter().filter(|uid| !is_owner(uid)));
        for owner in node.owners() {
            self.dependents.entry(owner.uid.clone()).or_default().insert(uid.clone());
        }
        if node.is_going() {
            concerned.extend(self.dependents_of(&uid).map(str::to_owned));
            // An owner may wait for this one.
            concerned.extend(node.owners().iter().map(|owner| owner.uid.clone()));
        }
        self.absent.remove(&uid);
        self.nodes.insert(uid, node);
        concerned
    }

    /// Takes in that an object is gone; returns the uids to look at.
    pub fn removed(&mut self, uid: &str) -> Vec<String> {
        let owners = self.owner_uids(uid);
        self.unlink(uid);
        self.nodes.remove(uid);
        let mut concerned = self.verified_absent(uid);
        concerned.extend(owners);
        concerned
    }

    /// Takes in that no object has this uid; returns the uids to look at.
    pub fn verified_absent(&mut self, uid: &str) -> Vec<String> {
        if !self.nodes.contains_key(uid) && self.absent.insert(uid.to_owned()) {
            self.absent_order.push_back(uid.to_owned());
            if self.absent_order.len() > ABSENT_COUNT_MAX
                && let Some(oldest) = self.absent_order.pop_front()
            {
                self.absent.remove(&oldest);
            }
        }
        self.dependents_of(uid).map(str::to_owned).collect()
    }

    /// Decides what to do about an object.
    #[must_use]
    pub fn decide(&self, uid: &str) -> Decision {
        let Some(node) = self.nodes.get(uid) else { return Decision::Nothing };
        if node.is_going() {
            return self.decide_going(uid, node);
        }
        let mut unknown = Vec::new();
        let (mut solid_count, mut waiting_count) = (0_usize, 0_usize);
        let mut let_go: BTreeSet<&str> = BTreeSet::new();
        for owner in node.owners() {
            match self.standing(node, owner) {
                Standing::Solid => solid_count += 1,
                Standing::Waiting => {
                    waiting_count += 1;
                    let_go.insert(&owner.uid);
                }
                Standing::Absent => {
                    let_go.insert(&owner.uid);
                }
                // An owner of a kind that is not served here may exist: it keeps its dependents.
                Standing::Unknown(None) => solid_count += 1,
                Standing::Unknown(Some(owner)) => unknown.push(owner),
            }
        }
        if !unknown.is_empty() {
            return Decision::Verify(unknown);
        }
        if let_go.is_empty() {
            return Decision::Nothing;
        }
        if solid_count > 0 {
            return Decision::Act(vec![without_owners(node, &let_go)]);
        }
        let has_dependents = self.dependents_of(uid).next().is_some();
        let propagation = if node.has_finalizer(ORPHAN) {
            Propagation::Orphan
        } else if waiting_count > 0 && has_dependents {
            Propagation::Foreground
        } else {
            Propagation::Background
        };
        Decision::Act(vec![delete(node, propagation)])
    }

    fn decide_going(&self, uid: &str, node: &Node) -> Decision {
        let dependents = || self.dependents_of(uid).filter_map(|uid| self.nodes.get(uid));
        if node.has_finalizer(ORPHAN) {
            let owner = BTreeSet::from([uid]);
            let mut actions: Vec<Action> =
                dependents().map(|dependent| without_owners(dependent, &owner)).collect();
            if actions.is_empty() {
                actions.push(without_finalizer(node, ORPHAN));
            }
            return Decision::Act(actions);
        }
        if !node.has_finalizer(FOREGROUND) {
            return Decision::Nothing;
        }
        let blocks = |dependent: &&Node| {
            dependent
                .owners()
                .iter()
                .any(|owner| owner.uid == uid && owner.block_owner_deletion == Some(true))
        };
        if dependents().any(|dependent| blocks(&dependent)) {
            // The dependents have been woken with this change and decide for themselves.
            return Decision::Nothing;
        }
        Decision::Act(vec![without_finalizer(node, FOREGROUND)])
    }

    fn standing(&self, dependent: &Node, owner: &OwnerReference) -> Standing {
        let known = kind_of_reference(&owner.api_version, &owner.kind);
        if let Some(node) = self.nodes.get(&owner.uid) {
            // An owner in another namespace cannot own; upstream treats it as absent.
            let reachable = node.namespace().is_empty() || node.namespace() == dependent.namespace();
            return match (reachable, node.waits_for_dependents()) {
                (false, _) => Standing::Absent,
                (true, true) => Standing::Waiting,
                (true, false) => Standing::Solid,
            };
        }
        if self.absent.contains(&owner.uid) {
            return Standing::Absent;
        }
        Standing::Unknown(known.map(|known| OwnerId {
            kind: known.resource_kind(),
            namespace: match known.scope {
                Scope::Namespaced => dependent.namespace().to_owned(),
                Scope::Cluster => String::new(),
            },
            name: owner.name.clone(),
            uid: owner.uid.clone(),
        }))
    }

    /// Returns who owns an object as it was last observed.
    fn owner_uids(&self, uid: &str) -> Vec<String> {
        let owners = self.nodes.get(uid).map(Node::owners).unwrap_or_default();
        owners.iter().map(|owner| owner.uid.clone()).collect()
    }

    fn dependents_of(&self, uid: &str) -> impl Iterator<Item = &str> {
        self.dependents.get(uid).into_iter().flatten().map(String::as_str)
    }

    fn unlink(&mut self, uid: &str) {
        let Some(node) = self.nodes.get(uid) else { return };
        for owner in node.owners() {
            if let Some(dependents) = self.dependents.get_mut(&owner.uid) {
                dependents.remove(uid);
                if dependents.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
    }
}

fn delete(node: &Node, propagation: Propagation) -> Action {
    let mut action = Action::delete(node.object.as_ref()).for_kind(&node.kind);
    action.verb = Verb::Delete(DeleteOptions {
        uid: node.object.metadata.uid.clone(),
        // The decision holds for exactly this state: an owner may have been added since.
        resource_version: client::object::revision(node.object.as_ref()),
        grace_seconds: None,
        propagation: Some(propagation),
    });
    action
}

fn without_owners(node: &Node, gone: &BTreeSet<&str>) -> Action {
    let owners: Vec<&OwnerReference> =
        node.owners().iter().filter(|owner| !gone.contains(owner.uid.as_str())).collect();
    Action::patch_metadata(node.object.as_ref(), json!({ "ownerReferences": owners })).for_kind(&node.kind)
}

fn without_finalizer(node: &Node, finalizer: &str) -> Action {
    let finalizers: Vec<&String> =
        node.object.metadata.finalizers.iter().flatten().filter(|present| *present != finalizer).collect();
    Action::patch_metadata(node.object.as_ref(), json!({ "finalizers": finalizers })).for_kind(&node.kind)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::catalog::COLLECTED_KINDS;

    fn kind(resource: &str) -> ResourceKind {
        COLLECTED_KINDS.iter().find(|kind| kind.resource == resource).unwrap().resource_kind()
    }

    /// An object whose uid is its name; owners are ReplicaSets of the same namespace.
    fn object(name: &str, owners: &[&str], more: Value) -> Arc<MetadataObject> {
        let owners: Vec<Value> = owners
            .iter()
            .map(|owner| {
                json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": owner,
                    "controller": true, "blockOwnerDeletion": true})
            })
            .collect();
        let mut metadata = json!({"namespace": "ns", "name": name, "uid": name, "resourceVersion": "5",
            "ownerReferences": owners});
        metadata.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Arc::new(serde_json::from_value(json!({ "metadata": metadata })).unwrap())
    }

    fn graph(sets: &[Arc<MetadataObject>], pods: &[Arc<MetadataObject>]) -> Graph {
        let mut graph = Graph::default();
        for set in sets {
            graph.observed(&kind("replicasets"), set);
        }
        for pod in pods {
            graph.observed(&kind("pods"), pod);
        }
        graph
    }

    fn check(graph: &Graph, uid: &str, expected: &str) {
        let seen = match graph.decide(uid) {
            Decision::Nothing => "nothing".to_owned(),
            Decision::Verify(owners) => format!("verify {}", owners[0].uid),
            Decision::Act(actions) => {
                let words = actions.iter().map(|action| match &action.verb {
                    Verb::Delete(options) => {
                        format!("delete {} {:?}", action.name, options.propagation.unwrap())
                    }
                    Verb::Patch { patch, .. } if patch["metadata"].get("finalizers").is_some() => {
                        format!("release {}", action.name)
                    }
                    Verb::Patch { .. } => format!("disown {}", action.name),
                    other => panic!("{other:?}"),
                });
                words.collect::<Vec<_>>().join(", ")
            }
        };
        assert_eq!(seen, expected);
    }

    fn going(finalizer: &str) -> Value {
        json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": [finalizer]})
    }

    #[test]
    fn dependent_goes_only_when_its_owner_is_known_to_be_absent() {
        let mut graph = graph(&[object("rs", &[], json!({}))], &[object("p", &["rs"], json!({}))]);
        check(&graph, "p", "nothing");
        assert_eq!(graph.removed("rs"), ["p"]);
        check(&graph, "p", "delete p Background");
    }

    #[test]
    fn unknown_owner_is_verified_first() {
        let mut graph = graph(&[], &[object("p", &["rs"], json!({}))]);
        check(&graph, "p", "verify rs");
        assert_eq!(graph.verified_absent("rs"), ["p"]);
        check(&graph, "p", "delete p Background");
        graph.observed(&kind("replicasets"), &object("rs", &[], json!({})));
        check(&graph, "p", "nothing");
    }

    #[test]
    fn one_solid_owner_keeps_the_object_and_absent_ones_are_forgotten() {
        let mut graph = graph(&[object("a", &[], json!({}))], &[object("p", &["a", "b"], json!({}))]);
        graph.verified_absent("b");
        check(&graph, "p", "disown p");
    }

    #[test]
    fn foreground_owner_waits_for_blocking_dependents() {
        let set = object("rs", &[], going("foregroundDeletion"));
        let mut graph = graph(std::slice::from_ref(&set), &[object("p", &["rs"], json!({}))]);
        check(&graph, "rs", "nothing");
        check(&graph, "p", "delete p Background");
        assert!(graph.removed("p").contains(&"rs".to_owned()));
        check(&graph, "rs", "release rs");
    }

    #[test]
    fn orphaning_disowns_dependents_before_the_finalizer_goes() {
        let set = object("rs", &[], going("orphan"));
        let mut graph = graph(std::slice::from_ref(&set), &[object("p", &["rs"], json!({}))]);
        check(&graph, "rs", "disown p");
        graph.observed(&kind("pods"), &object("p", &[], json!({})));
        check(&graph, "rs", "release rs");
    }

    #[test]
    fn an_owner_on_its_way_out_is_looked_at_when_a_dependent_forgets_it() {
        for finalizer in ["orphan", "foregroundDeletion"] {
            let set = object("rs", &[], going(finalizer));
            let mut graph = graph(std::slice::from_ref(&set), &[object("p", &["rs"], json!({}))]);
            let concerned = graph.observed(&kind("pods"), &object("p", &[], json!({})));
            assert!(concerned.contains(&"rs".to_owned()), "{finalizer}: {concerned:?}");
            check(&graph, "rs", "release rs");
        }
    }

    #[test]
    fn owner_of_an_unserved_kind_keeps_its_dependents() {
        let custom = json!({"ownerReferences": [
            {"apiVersion": "example.com/v1", "kind": "Custom", "name": "c", "uid": "c"}]});
        let graph = graph(&[], &[object("p", &[], custom)]);
        check(&graph, "p", "nothing");
    }

    #[test]
    fn owner_in_another_namespace_does_not_own() {
        let foreign = object("rs", &[], json!({"namespace": "other"}));
        let graph = graph(&[foreign], &[object("p", &["rs"], json!({}))]);
        check(&graph, "p", "delete p Background");
    }
}
