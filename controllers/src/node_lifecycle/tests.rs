//! Table tests of silence, taints and evictions.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::runtime::Verb;

const GRACE: Duration = Duration::from_secs(40);

fn node(ready: &str, taints: Value) -> Arc<Node> {
    let node = json!({
        "metadata": {"name": "n1"},
        "spec": {"taints": taints},
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    });
    Arc::new(serde_json::from_value(node).unwrap())
}

fn unreachable() -> Value {
    json!([
        {"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule"},
        {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"},
    ])
}

fn pod(name: &str, tolerations: Value) -> Arc<Pod> {
    let pod = json!({
        "metadata": {"namespace": "ns", "name": name},
        "spec": {"nodeName": "n1", "containers": [], "tolerations": tolerations},
        "status": {"conditions": [{"type": "Ready", "status": "False"}]},
    });
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn policy() -> EvictionPolicy {
    EvictionPolicy { timeout: Duration::from_secs(300), unhealthy_percent_max: 55, is_stopped: false }
}

fn observed(node: Arc<Node>, silence_seconds: u64) -> Observed {
    Observed {
        node: Some(node),
        silence: Duration::from_secs(silence_seconds),
        grace: GRACE,
        eviction: policy(),
        ..Observed::default()
    }
}

fn reconcile(observed: &Observed) -> Plan {
    NodeLifecycleController::reconcile(observed, &Context { now: Timestamp::UNIX_EPOCH, last_failure: None })
}

fn written(plan: &Plan) -> &Value {
    match plan.actions.as_slice() {
        [Action { verb: Verb::Update { object, .. }, .. }] => object,
        other => panic!("{other:?}"),
    }
}

#[test]
fn node_is_unknown_only_after_its_grace() {
    let plan = reconcile(&observed(node("True", json!([])), 39));
    assert_eq!((plan.actions.len(), plan.requeue_after), (0, Some(Duration::from_secs(1))));
    let plan = reconcile(&observed(node("True", json!([])), 40));
    let conditions = written(&plan)["status"]["conditions"].as_array().unwrap();
    assert!(conditions.iter().all(|condition| condition["status"] == "Unknown"));
    assert_eq!(conditions.len(), 4);
}

#[test]
fn taints_follow_the_ready_condition_and_leave_others_alone() {
    let theirs = json!({"key": "dedicated", "effect": "NoSchedule", "value": "db"});
    let cases = [
        (
            "Unknown",
            json!([theirs]),
            vec!["dedicated", "node.kubernetes.io/unreachable", "node.kubernetes.io/unreachable"],
        ),
        ("False", json!([]), vec!["node.kubernetes.io/not-ready", "node.kubernetes.io/not-ready"]),
        ("True", unreachable(), vec![]),
    ];
    for (ready, present, expected) in cases {
        let plan = reconcile(&observed(node(ready, present), 0));
        let taints = written(&plan)["spec"]["taints"].as_array().unwrap();
        let keys: Vec<_> = taints.iter().map(|taint| taint["key"].as_str().unwrap()).collect();
        assert_eq!(keys, expected);
    }
}

#[test]
fn pods_leave_when_their_toleration_ends() {
    let for_seconds = |seconds: i64| {
        json!([{"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute",
            "tolerationSeconds": seconds}])
    };
    let for_ever = json!([{"operator": "Exists"}]);
    let mut observed = observed(node("Unknown", unreachable()), 100);
    observed.not_ready_for = Duration::from_secs(60);
    observed.pods = vec![
        pod("soon", for_seconds(60)),
        pod("later", for_seconds(90)),
        pod("default", for_seconds(300)),
        pod("silent", json!([])),
        pod("stays", for_ever),
    ];
    let evicted = |plan: &Plan| plan.actions.iter().map(|action| action.name.clone()).collect::<Vec<_>>();
    let plan = reconcile(&observed);
    assert_eq!(evicted(&plan), ["soon"]);
    assert_eq!(plan.requeue_after, Some(Duration::from_secs(30)));
    observed.eviction.timeout = Duration::from_secs(60);
    assert_eq!(evicted(&reconcile(&observed)), ["soon", "default", "silent"]);
    observed.eviction.is_stopped = true;
    assert_eq!(evicted(&reconcile(&observed)), Vec::<String>::new());
}

#[test]
fn evictions_stop_when_too_many_nodes_are_silent() {
    for (unhealthy, nodes, expected) in
        [(1, 2, false), (1, 1, true), (2, 3, false), (3, 5, true), (3, 10, false)]
    {
        assert_eq!(policy().for_cluster(unhealthy, nodes).is_stopped, expected, "{unhealthy} of {nodes}");
    }
}

#[tokio::test(start_paused = true)]
async fn silence_counts_from_the_last_change_that_was_seen() {
    let monitor = Monitor::default();
    monitor.observe("n1", "a".into(), true);
    tokio::time::advance(Duration::from_secs(30)).await;
    assert_eq!(monitor.observe("n1", "a".into(), true).0, Duration::from_secs(30));
    assert_eq!(monitor.observe("n1", "b".into(), false), (Duration::ZERO, Duration::ZERO));
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(monitor.observe("n1", "b".into(), false).1, Duration::from_secs(5));
}
