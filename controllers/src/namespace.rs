//! Empties a namespace that is being deleted, and lets it go when nothing is left.
//!
//! Its content is read from caches that are at least as new as the deletion; the API server takes nothing new into a
//! namespace that goes, so an empty view is final.

use std::sync::Arc;
use std::time::Duration;

use client::{MetadataObject, ObjectKey, ResourceKind};
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::catalog::{COLLECTED_KINDS, Scope};
use crate::runtime::{Action, Caches, Context, Controller, Plan};

/// The finalizer in the spec that keeps a namespace until this controller is done.
const FINALIZER: &str = "kubernetes";
/// How soon to look again when a cache is behind the deletion, or only finalizers of others keep content.
const PAUSE: Duration = Duration::from_millis(500);
/// Deletions of one plan; the rest follows with the next.
const DELETION_COUNT_MAX: usize = 500;

/// Reads the caches for namespaces.
#[derive(Debug)]
pub struct NamespaceController {
    pub caches: Caches,
}

/// What a decision about a namespace needs.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    pub namespace: Option<Arc<Namespace>>,
    /// Objects left, by kind, in the order of the catalogue; only read while the namespace goes.
    pub content: Vec<(ResourceKind, Vec<Arc<MetadataObject>>)>,
    /// Whether the content is at least as new as the deletion.
    pub is_current: bool,
}

impl Controller for NamespaceController {
    type Observed = Observed;

    const NAME: &'static str = "namespace-controller";

    fn observe(&self, key: &ObjectKey) -> Observed {
        let namespace = self.caches.namespaces.get("", &key.name);
        let Some(going) = namespace.as_ref().filter(|found| found.metadata.deletion_timestamp.is_some())
        else {
            return Observed { namespace, ..Observed::default() };
        };
        let deleted_at = client::object::revision(going.as_ref());
        let mut observed = Observed { namespace: namespace.clone(), is_current: true, ..Observed::default() };
        for kind in COLLECTED_KINDS.iter().filter(|kind| kind.scope == Scope::Namespaced) {
            let kind = kind.resource_kind();
            let Some(cache) = self.caches.metadata.get(&kind) else { continue };
            observed.is_current &= cache.is_synced() && cache.revision() >= deleted_at;
            observed.content.push((kind, cache.list_namespace(&key.name)));
        }
        observed
    }

    fn reconcile(observed: &Observed, context: &Context) -> Plan {
        let Some(namespace) = &observed.namespace else { return Plan::nothing() };
        if namespace.metadata.deletion_timestamp.is_none() {
            return Plan::nothing();
        }
        let mut plan = Plan::nothing();
        let left: usize = observed.content.iter().map(|(_, objects)| objects.len()).sum();
        write_conditions(namespace, observed, context, &mut plan);
        if left > 0 {
            plan.actions.extend(deletions(observed));
            plan.look_again(PAUSE);
        } else if !observed.is_current {
            plan.look_again(PAUSE);
        } else {
            plan.actions = finalize(namespace).into_iter().collect();
        }
        plan
    }
}

/// Pods first, because they use the rest; then everything else.
fn deletions(observed: &Observed) -> Vec<Action> {
    let pods_left = observed.content.iter().any(|(kind, objects)| is_pods(kind) && !objects.is_empty());
    let due = observed.content.iter().filter(|(kind, _)| !pods_left || is_pods(kind));
    due.flat_map(|(kind, objects)| {
        let present = objects.iter().filter(|object| object.metadata.deletion_timestamp.is_none());
        present.map(|object| Action::delete(object.as_ref()).for_kind(kind))
    })
    .take(DELETION_COUNT_MAX)
    .collect()
}

fn is_pods(kind: &ResourceKind) -> bool {
    kind.group.is_empty() && kind.resource == "pods"
}

fn finalize(namespace: &Namespace) -> Option<Action> {
    let mut namespace = namespace.clone();
    let finalizers = namespace.spec.as_mut()?.finalizers.as_mut()?;
    let before = finalizers.len();
    finalizers.retain(|finalizer| finalizer != FINALIZER);
    (finalizers.len() < before).then(|| Action::finalize(&namespace))
}

fn write_conditions(namespace: &Namespace, observed: &Observed, context: &Context, plan: &mut Plan) {
    let remaining: Vec<String> = observed
        .content
        .iter()
        .filter(|(_, objects)| !objects.is_empty())
        .map(|(kind, objects)| {
            let group = if kind.group.is_empty() { String::new() } else { format!(".{}", kind.group) };
            format!("{}{group} has {} resource instances", kind.resource, objects.len())
        })
        .collect();
    let finalizers: Vec<&str> = observed
        .content
        .iter()
        .flat_map(|(_, objects)| objects)
        .flat_map(|object| object.metadata.finalizers.iter().flatten())
        .map(String::as_str)
        .collect();
    let wanted = [
        stated(
            "NamespaceDeletionContentFailure",
            context.last_failure.clone(),
            (
                "ContentDeletionFailed",
                "ContentDeleted",
                "All content successfully deleted, may be waiting on finalization",
            ),
        ),
        stated(
            "NamespaceContentRemaining",
            (!remaining.is_empty())
                .then(|| format!("Some resources are remaining: {}", remaining.join(", "))),
            ("SomeResourcesRemain", "ContentRemoved", "All content successfully removed"),
        ),
        stated(
            "NamespaceFinalizersRemaining",
            (!finalizers.is_empty()).then(|| {
                format!("Some content in the namespace has finalizers remaining: {}", finalizers.join(", "))
            }),
            ("SomeFinalizersRemain", "ContentHasNoFinalizers", "All content-preserving finalizers finished"),
        ),
    ];
    let mut namespace = namespace.clone();
    let status = namespace.status.get_or_insert_default();
    let before = status.clone();
    status.phase = Some("Terminating".to_owned());
    let conditions = status.conditions.get_or_insert_default();
    for mut condition in wanted {
        let present = conditions.iter().position(|present| present.type_ == condition.type_);
        let same_status = present
            .and_then(|index| conditions.get(index))
            .filter(|present| present.status == condition.status);
        condition.last_transition_time =
            same_status.map_or(Some(Time(context.now)), |present| present.last_transition_time.clone());
        match present.and_then(|index| conditions.get_mut(index)) {
            Some(present) => *present = condition,
            None => conditions.push(condition),
        }
    }
    if *status != before {
        plan.actions.push(Action::update_status(&namespace));
    }
}

fn stated(
    condition_type: &str,
    trouble: Option<String>,
    (bad, good, good_message): (&str, &str, &str),
) -> NamespaceCondition {
    let is_bad = trouble.is_some();
    NamespaceCondition {
        type_: condition_type.to_owned(),
        status: if is_bad { "True" } else { "False" }.to_owned(),
        reason: Some(if is_bad { bad } else { good }.to_owned()),
        message: Some(trouble.unwrap_or_else(|| good_message.to_owned())),
        last_transition_time: None,
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::runtime::Verb;

    fn observed(content: &[(&str, &[&str])]) -> Observed {
        let namespace: Namespace = serde_json::from_value(json!({
            "metadata": {"name": "web", "deletionTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"finalizers": ["kubernetes"]},
        }))
        .unwrap();
        let content = content.iter().map(|(resource, names)| {
            let kind =
                COLLECTED_KINDS.iter().find(|kind| kind.resource == *resource).unwrap().resource_kind();
            let objects = names.iter().map(|name| {
                let mut object = MetadataObject::default();
                object.metadata.name = Some((*name).to_owned());
                object.metadata.namespace = Some("web".to_owned());
                Arc::new(object)
            });
            (kind, objects.collect())
        });
        Observed { namespace: Some(Arc::new(namespace)), content: content.collect(), is_current: true }
    }

    fn check(observed: &Observed, expected: &[&str]) {
        let context = Context { now: Timestamp::UNIX_EPOCH, last_failure: None };
        let plan = NamespaceController::reconcile(observed, &context);
        let seen: Vec<String> = plan
            .actions
            .iter()
            .map(|action| match &action.verb {
                Verb::Delete(_) => format!("delete {}/{}", action.kind.resource, action.name),
                Verb::Update { subresource, .. } => (*subresource).to_owned(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn pods_go_first_then_the_rest_then_the_namespace() {
        check(&observed(&[("configmaps", &["c"]), ("pods", &["p"])]), &["status", "delete pods/p"]);
        check(&observed(&[("configmaps", &["c"]), ("pods", &[])]), &["status", "delete configmaps/c"]);
        check(&observed(&[("configmaps", &[])]), &["finalize"]);
    }

    #[test]
    fn empty_view_that_is_older_than_the_deletion_proves_nothing() {
        let stale = Observed { is_current: false, ..observed(&[]) };
        check(&stale, &["status"]);
    }

    #[test]
    fn living_namespace_is_left_alone() {
        let mut living = observed(&[("pods", &["p"])]);
        Arc::make_mut(living.namespace.as_mut().unwrap()).metadata.deletion_timestamp = None;
        check(&living, &[]);
    }
}
