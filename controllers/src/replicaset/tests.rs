//! Table tests of the ReplicaSet's decisions.

use k8s_openapi::api::core::v1::{PodCondition, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::json;

use super::*;
use crate::runtime::Verb;

fn set(replicas: i32) -> ReplicaSet {
    serde_json::from_value(json!({
        "metadata": {"namespace": "ns", "name": "web", "uid": "set-uid", "generation": 3, "resourceVersion": "7"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}},
        },
    }))
    .unwrap()
}

/// A pod described in words: `running`, `ready`, `pending`, `unassigned`, `gone`, `failed`, `orphan`, `stray`, `foreign`.
fn pod(name: &str, words: &str) -> Arc<Pod> {
    let has = |word: &str| words.split(' ').any(|found| found == word);
    let mut pod = Pod::default();
    pod.metadata.namespace = Some("ns".into());
    pod.metadata.name = Some(name.into());
    pod.metadata.uid = Some(format!("uid-{name}"));
    let app = if has("stray") { "other" } else { "web" };
    pod.metadata.labels = Some([("app".to_owned(), app.to_owned())].into());
    if !has("orphan") {
        let mut owner = pods::controller_reference(&set(0));
        if has("foreign") {
            owner.uid = "somebody".into();
        }
        pod.metadata.owner_references = Some(vec![owner]);
    }
    if has("gone") {
        pod.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    }
    let node_name = (!has("unassigned")).then(|| "n1".to_owned());
    pod.spec = Some(PodSpec { node_name, ..PodSpec::default() });
    let phase = if has("failed") {
        "Failed"
    } else if has("pending") {
        "Pending"
    } else {
        "Running"
    };
    let ready = PodCondition {
        type_: "Ready".into(),
        status: if has("ready") { "True" } else { "False" }.into(),
        last_transition_time: Some(Time(Timestamp::UNIX_EPOCH)),
        ..PodCondition::default()
    };
    pod.status =
        Some(PodStatus { phase: Some(phase.into()), conditions: Some(vec![ready]), ..PodStatus::default() });
    Arc::new(pod)
}

fn plan_of(set: ReplicaSet, pods: &[(&str, &str)]) -> Plan {
    let observed = Observed {
        set: Some(Arc::new(set)),
        pods: pods.iter().map(|(name, words)| pod(name, words)).collect(),
        pods_revision: 40,
    };
    ReplicaSetController::reconcile(&observed, &Context { now: Timestamp::UNIX_EPOCH, last_failure: None })
}

/// Expected: `create N`, `delete name`, `adopt name`, `release name`; status updates are left out.
fn check(replicas: i32, pods: &[(&str, &str)], expected: &[&str]) {
    let plan = plan_of(set(replicas), pods);
    let mut seen = Vec::new();
    let mut create_count = 0;
    for action in &plan.actions {
        match &action.verb {
            Verb::Create { .. } => create_count += 1,
            Verb::Delete(options) => {
                assert_eq!(options.uid, Some(format!("uid-{}", action.name)));
                seen.push(format!("delete {}", action.name));
            }
            Verb::Patch { patch, .. } if patch["metadata"]["ownerReferences"] == json!([]) => {
                seen.push(format!("release {}", action.name));
            }
            Verb::Patch { .. } => seen.push(format!("adopt {}", action.name)),
            Verb::Update { subresource, .. } => assert_eq!(*subresource, "status"),
        }
    }
    if create_count > 0 {
        seen.push(format!("create {create_count}"));
    }
    assert_eq!(seen, expected, "{replicas} replicas of {pods:?}");
}

#[test]
fn missing_pods_are_made_and_surplus_pods_deleted_least_missed_first() {
    check(3, &[], &["create 3"]);
    check(3, &[("a", "ready"), ("b", "gone ready"), ("c", "failed")], &["create 2"]);
    check(1, &[("a", "ready"), ("b", "running"), ("c", "pending")], &["delete c", "delete b"]);
    check(1, &[("a", "pending"), ("b", "unassigned pending")], &["delete b"]);
    check(0, &[("a", "gone")], &[]);
    check(2, &[("a", "ready"), ("b", "ready")], &[]);
}

#[test]
fn orphans_are_adopted_and_strays_released() {
    check(1, &[("a", "orphan ready")], &["adopt a"]);
    check(1, &[("a", "stray ready")], &["release a", "create 1"]);
    check(1, &[("a", "foreign ready")], &["create 1"]);
    check(1, &[("a", "orphan gone")], &["create 1"]);
}

#[test]
fn set_on_its_way_out_makes_nothing() {
    let mut leaving = set(3);
    leaving.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    let plan = plan_of(leaving, &[]);
    assert!(
        plan.actions.iter().all(|action| matches!(action.verb, Verb::Update { subresource: "status", .. }))
    );
}

#[test]
fn empty_selector_selects_nothing() {
    let mut all = set(3);
    all.spec.as_mut().unwrap().selector = LabelSelector::default();
    assert_eq!(plan_of(all, &[("a", "orphan")]), Plan::nothing());
}

#[test]
fn creates_of_one_decision_have_keys_of_their_own_and_a_repeat_has_the_same() {
    let keys = |plan: &Plan| -> Vec<String> {
        let creates = plan.actions.iter().filter_map(|action| match &action.verb {
            Verb::Create { idempotency_key, .. } => Some(idempotency_key.clone()),
            _ => None,
        });
        creates.collect()
    };
    let first = keys(&plan_of(set(2), &[]));
    assert_eq!(first, ["set-uid.3.40.0", "set-uid.3.40.1"]);
    assert_eq!(keys(&plan_of(set(2), &[])), first);
}

#[test]
fn status_counts_pods_and_a_failure_is_a_condition() {
    let observed = Observed {
        set: Some(Arc::new(set(2))),
        pods: vec![pod("a", "ready"), pod("b", "running"), pod("c", "gone")],
        pods_revision: 1,
    };
    let context = Context { now: Timestamp::UNIX_EPOCH, last_failure: Some("quota".into()) };
    let plan = ReplicaSetController::reconcile(&observed, &context);
    let [Action { verb: Verb::Update { object, .. }, .. }] = plan.actions.as_slice() else {
        panic!("{plan:?}")
    };
    let status = &object["status"];
    assert_eq!(status["replicas"], 2);
    assert_eq!(status["readyReplicas"], 1);
    assert_eq!(status["availableReplicas"], 1);
    assert_eq!(status["terminatingReplicas"], 1);
    assert_eq!(status["observedGeneration"], 3);
    assert_eq!(status["conditions"][0]["type"], "ReplicaFailure");
}

#[test]
fn pod_is_available_only_after_it_was_ready_long_enough() {
    let mut slow = set(1);
    slow.spec.as_mut().unwrap().min_ready_seconds = Some(10);
    let plan = plan_of(slow, &[("a", "ready")]);
    assert_eq!(plan.requeue_after, Some(Duration::from_secs(10)));
}
