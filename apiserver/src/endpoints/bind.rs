//! `pods/binding`: puts a pod on a node, with the node's capacity compared inside the commit.
//!
//! Each node has one record of what is bound to it. A binding reads the record, checks that the pod fits beside its
//! entries, and commits pod and record together on the condition that record and node did not change. So two
//! schedulers can never overfill a node. Entries of pods that ended are dropped when the room is needed.

use std::collections::BTreeMap;

use proto::api::quantity::Quantity;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::status::Status;
use super::{Api, Call, Persist, WRITE_ATTEMPTS, WriteOptions, is_lost_race};
use crate::catalog::stored_kind;
use crate::object;
use crate::registry::{Kind, Object};
use crate::storage::condition::{Condition, Expect, put};
use crate::storage::{StorageError, Stored, keys};

/// What a pod asks for, in the units of the comparison.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Requests {
    cpu_millis: i64,
    memory_bytes: i64,
}

/// What is bound to a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Allocation {
    version: u32,
    /// By pod uid.
    pods: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    namespace: String,
    name: String,
    requests: Requests,
}

/// A binding as asked for.
#[derive(Clone, Debug)]
pub(crate) struct Binding {
    /// Empty when any pod of that name is meant.
    pub(crate) uid: String,
    pub(crate) node: String,
    pub(crate) annotations: Option<Value>,
}

impl Api {
    /// Binds the pod that `call` names.
    pub(crate) async fn bind(
        &self,
        call: &Call,
        binding: &Binding,
        options: &WriteOptions,
    ) -> Result<Object, Status> {
        let node_kind = stored_kind("", "nodes").ok_or_else(Status::no_such_resource)?;
        for _ in 0..WRITE_ATTEMPTS {
            let pod = self.existing(call).await?;
            check_bindable(call, binding, &pod.object)?;
            let storage_error = |error| Status::from_storage(error, node_kind, &binding.node);
            let node = self.storage.get(node_kind, "", &binding.node).await.map_err(storage_error)?;
            let node = node.ok_or_else(|| Status::not_found(node_kind, &binding.node))?;
            let mut extras = options.extras();
            let (key, expect, allocation) = self.allocation_with(call, &pod, &node).await?;
            let record = serde_json::to_vec(&allocation).map_err(Status::internal)?;
            extras.puts.push(put(key.clone(), record));
            extras.conditions.push(Condition { key, expect, violated: StorageError::NodeChanged });
            extras.conditions.push(Condition {
                key: keys::object(node_kind, "", &binding.node),
                expect: Expect::At(node.revision),
                violated: StorageError::NodeChanged,
            });
            let bound = bound(&pod.object, binding, &self.now_text());
            if options.persist == Persist::DryRun {
                return Ok(bound);
            }
            match self.storage.replace(call.kind, &bound, pod.revision, extras).await {
                Ok(stored) => return Ok(stored.object),
                Err(error) if is_lost_race(&error) => {}
                Err(error) => return Err(Status::from_storage(error, call.kind, &call.name)),
            }
        }
        Err(Status::binding_conflict(&call.name, "the node changed too often; try again"))
    }

    /// Returns the node's record with the pod added, where it is kept and what it must still be at the commit.
    async fn allocation_with(
        &self,
        call: &Call,
        pod: &Stored,
        node: &Stored,
    ) -> Result<(String, Expect, Allocation), Status> {
        let key = format!("{}{}", keys::ALLOCATIONS, object::name(&node.object));
        let record = self.storage.read_raw(&key).await.map_err(Status::internal)?;
        let (expect, mut allocation) = match &record {
            None => (Expect::Absent, Allocation { version: 1, ..Allocation::default() }),
            Some(kv) => {
                let parsed = serde_json::from_slice(&kv.value).map_err(Status::internal)?;
                (Expect::At(kv.mod_revision), parsed)
            }
        };
        let requests = requests_of(&pod.object);
        if let Err(_full) = allocation.check_room(requests, &node.object) {
            self.drop_ended(call.kind, &mut allocation).await?;
            allocation
                .check_room(requests, &node.object)
                .map_err(|why| Status::binding_conflict(&call.name, &why))?;
        }
        let entry = Entry { namespace: call.namespace.clone(), name: call.name.clone(), requests };
        allocation.pods.insert(object::uid(&pod.object).to_owned(), entry);
        Ok((key, expect, allocation))
    }

    async fn drop_ended(&self, pods: &Kind, allocation: &mut Allocation) -> Result<(), Status> {
        let mut ended = Vec::new();
        for (uid, entry) in &allocation.pods {
            let found =
                self.storage.get(pods, &entry.namespace, &entry.name).await.map_err(Status::internal)?;
            let is_live = found.is_some_and(|stored| {
                let phase = object::str_at(&stored.object, &["status", "phase"]);
                object::uid(&stored.object) == uid && !matches!(phase, "Succeeded" | "Failed")
            });
            if !is_live {
                ended.push(uid.clone());
            }
        }
        for uid in ended {
            allocation.pods.remove(&uid);
        }
        Ok(())
    }
}

impl Allocation {
    /// Checks that `requests` fit beside what is bound already; a node that reports no capacity takes anything.
    fn check_room(&self, requests: Requests, node: &Object) -> Result<(), String> {
        let capacity = |resource: &str| {
            let text = object::at(node, &["status", "allocatable", resource])?;
            text.as_str()?.parse::<Quantity>().ok()
        };
        let sum = |part: fn(&Requests) -> i64| {
            self.pods.values().map(|entry| part(&entry.requests)).fold(part(&requests), i64::saturating_add)
        };
        let count = i64::try_from(self.pods.len()).unwrap_or(i64::MAX).saturating_add(1);
        let checks = [
            ("cpu", sum(|requests| requests.cpu_millis), capacity("cpu").map(Quantity::millis)),
            ("memory", sum(|requests| requests.memory_bytes), capacity("memory").map(Quantity::units)),
            ("pods", count, capacity("pods").map(Quantity::units)),
        ];
        for (resource, wanted, allocatable) in checks {
            if let Some(allocatable) = allocatable.filter(|allocatable| wanted > *allocatable) {
                let node = object::name(node);
                return Err(format!("node {node} has insufficient {resource}: {wanted} > {allocatable}"));
            }
        }
        Ok(())
    }
}

fn check_bindable(call: &Call, binding: &Binding, pod: &Object) -> Result<(), Status> {
    let conflict = |why: String| Err(Status::binding_conflict(&call.name, &why));
    let name = &call.name;
    if !binding.uid.is_empty() && binding.uid != object::uid(pod) {
        return conflict(format!(
            "Precondition failed: UID in precondition: {}, UID in object meta: {}",
            binding.uid,
            object::uid(pod)
        ));
    }
    if object::is_being_deleted(pod) {
        return conflict(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    let node = object::str_at(pod, &["spec", "nodeName"]);
    if !node.is_empty() {
        return conflict(format!("pod {name} is already assigned to node \"{node}\""));
    }
    let gates = object::at(pod, &["spec", "schedulingGates"]).and_then(Value::as_array);
    if gates.is_some_and(|gates| !gates.is_empty()) {
        return conflict(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    Ok(())
}

fn bound(pod: &Object, binding: &Binding, now: &str) -> Object {
    let mut bound = pod.clone();
    object::set_at(&mut bound, &["spec", "nodeName"], binding.node.as_str().into());
    for (key, value) in binding.annotations.as_ref().and_then(Value::as_object).into_iter().flatten() {
        object::set_at(&mut bound, &["metadata", "annotations", key], value.clone());
    }
    let mut conditions: Vec<_> = object::at(pod, &["status", "conditions"])
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(|condition| condition.get("type").and_then(Value::as_str) != Some("PodScheduled"))
        .cloned()
        .collect();
    conditions.push(json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now,
    }));
    object::set_at(&mut bound, &["status", "conditions"], conditions.into());
    bound
}

/// Returns what the scheduler counts for a pod: the larger of all containers together and the largest init container,
/// plus overhead.
fn requests_of(pod: &Object) -> Requests {
    let containers = |field: &str| {
        let list = object::at(pod, &["spec", field]).and_then(Value::as_array).cloned().unwrap_or_default();
        list.iter().map(container_requests).collect::<Vec<_>>()
    };
    let all = containers("containers").into_iter().fold(Requests::default(), Requests::plus);
    let largest = containers("initContainers").into_iter().fold(all, Requests::larger);
    match object::at(pod, &["spec", "overhead"]) {
        Some(overhead) => largest.plus(quantities(Some(overhead))),
        None => largest,
    }
}

fn container_requests(container: &Value) -> Requests {
    quantities(container.get("resources").and_then(|resources| resources.get("requests")))
}

fn quantities(list: Option<&Value>) -> Requests {
    let quantity = |name: &str| {
        let text = list.and_then(|list| list.get(name)).and_then(Value::as_str)?;
        text.parse::<Quantity>().ok()
    };
    Requests {
        cpu_millis: quantity("cpu").map_or(0, Quantity::millis),
        memory_bytes: quantity("memory").map_or(0, Quantity::units),
    }
}

impl Requests {
    fn plus(self, other: Self) -> Self {
        Self {
            cpu_millis: self.cpu_millis.saturating_add(other.cpu_millis),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
        }
    }

    fn larger(self, other: Self) -> Self {
        Self {
            cpu_millis: self.cpu_millis.max(other.cpu_millis),
            memory_bytes: self.memory_bytes.max(other.memory_bytes),
        }
    }
}
