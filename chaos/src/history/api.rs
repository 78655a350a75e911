//! Requests to API servers and what came back, what informers are shown, and how long controllers took.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::exchange::{is_false, is_zero};
use super::paired::paired;
use super::{Event, EventKind, Function, Process};

/// Which way a request takes into the API server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Face {
    #[default]
    Rest,
    Grpc,
}

/// A kind of object that workloads use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resource {
    Namespaces,
    Nodes,
    #[default]
    ConfigMaps,
    Deployments,
    ReplicaSets,
    Pods,
}

impl Resource {
    /// Returns its name in paths and in the store's keys.
    #[must_use]
    pub fn plural(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Nodes => "nodes",
            Self::ConfigMaps => "configmaps",
            Self::Deployments => "deployments",
            Self::ReplicaSets => "replicasets",
            Self::Pods => "pods",
        }
    }

    /// Returns its name in objects.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::Namespaces => "Namespace",
            Self::Nodes => "Node",
            Self::ConfigMaps => "ConfigMap",
            Self::Deployments => "Deployment",
            Self::ReplicaSets => "ReplicaSet",
            Self::Pods => "Pod",
        }
    }

    /// Returns its group, empty for the core group.
    #[must_use]
    pub fn group(self) -> &'static str {
        match self {
            Self::Namespaces | Self::Nodes | Self::ConfigMaps | Self::Pods => "",
            Self::Deployments | Self::ReplicaSets => "apps",
        }
    }

    /// Returns the keys of its objects in a namespace, as the store has them.
    #[must_use]
    pub fn folder(self, namespace: &str) -> String {
        match self {
            Self::Namespaces => "/registry/namespaces/".to_owned(),
            Self::Nodes => "/registry/minions/".to_owned(),
            Self::ConfigMaps | Self::Deployments | Self::ReplicaSets | Self::Pods => {
                format!("/registry/{}/{namespace}/", self.plural())
            }
        }
    }
}

/// One object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    pub face: Face,
    pub resource: Resource,
    pub namespace: String,
    pub name: String,
}

/// All objects of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    pub face: Face,
    pub resource: Resource,
    pub namespace: String,
    /// Empty is linearizable, 0 any state, a number is no older than this.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    /// The number is exactly this revision.
    #[serde(default, skip_serializing_if = "is_false")]
    pub exact: bool,
}

/// A lock that whoever holds it stamps writes with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    pub lock: String,
    /// Of the holder.
    pub epoch: u64,
}

/// An object that is written, or what is to change of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Written {
    pub face: Face,
    pub resource: Resource,
    pub namespace: String,
    pub name: String,
    pub object: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<Lock>,
}

/// An object that is deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    pub face: Face,
    pub resource: Resource,
    pub namespace: String,
    pub name: String,
    /// What becomes of its dependents: `Background`, `Foreground` or `Orphan`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propagation: Option<String>,
}

/// Somebody who wants to hold a lock, or thinks so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenancy {
    pub lock: String,
    pub identity: String,
    /// How long the lock stays without a renewal.
    #[serde(default)]
    pub ttl_seconds: u32,
    #[serde(default)]
    pub epoch: u64,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ApiCall {
    Get(Named),
    List(Listing),
    Create(Written),
    Update(Written),
    /// A merge patch.
    Patch(Written),
    Delete(Removal),
    Acquire(Tenancy),
    Renew(Tenancy),
    Release(Tenancy),
}

impl ApiCall {
    /// Whether it may change something.
    #[must_use]
    pub fn is_write(&self) -> bool {
        match self {
            Self::Get(_) | Self::List(_) => false,
            Self::Create(_)
            | Self::Update(_)
            | Self::Patch(_)
            | Self::Delete(_)
            | Self::Acquire(_)
            | Self::Renew(_)
            | Self::Release(_) => true,
        }
    }
}

/// An answer that is certain, good or bad.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ApiAnswer {
    /// HTTP's.
    pub code: u16,
    /// Why not, in the server's word for it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub object: Value,
    /// What a list shows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<Value>,
    /// A list's, an acquisition's; the object's in an answer to a write.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub revision: i64,
    /// Who holds the lock, if it is not whoever asked.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub holder: String,
    /// Of an acquisition.
    #[serde(default, skip_serializing_if = "is_none_yet")]
    pub epoch: u64,
    /// Whether a lock is held.
    #[serde(default, skip_serializing_if = "is_false")]
    pub held: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_none_yet(epoch: &u64) -> bool {
    *epoch == 0
}

impl ApiAnswer {
    /// Whether what was asked for was done.
    #[must_use]
    pub fn is_done(&self) -> bool {
        (200..300).contains(&self.code)
    }
}

/// Returns the revision of an object or a list, 0 where it names none.
#[must_use]
pub fn revision(object: &Value) -> i64 {
    let text = object.pointer("/metadata/resourceVersion").and_then(Value::as_str);
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq)]
pub enum ApiEnd {
    Answered {
        answer: ApiAnswer,
        returned_at: u64,
    },
    /// Provably did nothing.
    Fail,
    Unknown,
}

/// A request with what came back.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiExchange {
    /// Index of the invocation.
    pub index: u64,
    pub process: Process,
    pub node: String,
    pub call: ApiCall,
    pub invoked_at: u64,
    pub end: ApiEnd,
}

impl ApiExchange {
    /// Returns the answer of a request that was done.
    #[must_use]
    pub fn done(&self) -> Option<(&ApiAnswer, u64)> {
        match &self.end {
            ApiEnd::Answered { answer, returned_at } if answer.is_done() => Some((answer, *returned_at)),
            ApiEnd::Answered { .. } | ApiEnd::Fail | ApiEnd::Unknown => None,
        }
    }

    /// Whether it provably changed nothing.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        match &self.end {
            ApiEnd::Answered { answer, .. } => !answer.is_done(),
            ApiEnd::Fail => true,
            ApiEnd::Unknown => false,
        }
    }
}

/// Pairs requests to API servers with their answers.
///
/// # Errors
/// A sentence saying which event breaks the format.
pub fn api_exchanges(events: &[Event]) -> Result<Vec<ApiExchange>, String> {
    let mut exchanges = Vec::new();
    for (asked, ended) in paired(events.iter().filter(|event| event.f == Function::Api))? {
        let end = match ended.map(|ended| (ended, ended.kind)) {
            Some((_, EventKind::Info | EventKind::Invoke)) | None => ApiEnd::Unknown,
            Some((_, EventKind::Fail)) => ApiEnd::Fail,
            Some((ended, EventKind::Ok)) => {
                ApiEnd::Answered { answer: ended.carried("answer")?, returned_at: ended.time }
            }
        };
        exchanges.push(ApiExchange {
            index: asked.index,
            process: asked.process,
            node: asked.node.clone().unwrap_or_default(),
            call: asked.carried("request")?,
            invoked_at: asked.time,
            end,
        });
    }
    Ok(exchanges)
}

/// A change that a watch shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownEvent {
    /// `ADDED`, `MODIFIED` or `DELETED`.
    #[serde(rename = "type")]
    pub kind: String,
    pub name: String,
    pub revision: i64,
}

/// What happens to an informer, which is one process for all its life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Informed {
    /// It begins anew from a list: names and revisions of objects.
    Listed {
        revision: i64,
        items: Vec<(String, i64)>,
    },
    /// It asks for what came after a revision.
    Opened {
        from: i64,
        face: Face,
    },
    Event(ShownEvent),
    /// All up to the revision has been shown.
    Bookmark {
        revision: i64,
    },
    /// Its revision is forgotten: it has to list again.
    Expired {
        from: i64,
    },
    Ended {
        why: String,
    },
    /// It wrote an object when all was over, and has to be shown it.
    Awaits {
        revision: i64,
    },
}

/// A wait for controllers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Index of its beginning.
    pub index: u64,
    /// For what.
    pub what: String,
    /// `None` when it came.
    pub failure: Option<String>,
}

/// Returns all waits for controllers.
#[must_use]
pub fn settled(events: &[Event]) -> Vec<Settled> {
    let mut waits: BTreeMap<Process, Settled> = BTreeMap::new();
    let mut done = Vec::new();
    for event in events.iter().filter(|event| event.f == Function::Settle) {
        if event.kind == EventKind::Invoke {
            let what = event.key.clone().unwrap_or_default();
            let failure = Some("the wait did not end".to_owned());
            waits.insert(event.process, Settled { index: event.index, what, failure });
        } else if let Some(wait) = waits.remove(&event.process) {
            let failure = match event.kind {
                EventKind::Ok => None,
                EventKind::Fail | EventKind::Info | EventKind::Invoke => {
                    Some(event.error.clone().unwrap_or_default())
                }
            };
            done.push(Settled { failure, ..wait });
        }
    }
    done.extend(waits.into_values());
    done.sort_by_key(|wait| wait.index);
    done
}
