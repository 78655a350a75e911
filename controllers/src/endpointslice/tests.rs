//! Table tests of slices and endpoints.

use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::runtime::Verb;

fn service(target_port: Value) -> Service {
    serde_json::from_value(json!({
        "metadata": {"namespace": "ns", "name": "web", "uid": "s-uid"},
        "spec": {"selector": {"app": "web"}, "clusterIP": "10.96.0.9",
            "ports": [{"name": "http", "port": 80, "targetPort": target_port}]},
    }))
    .unwrap()
}

/// A pod with address `10.0.0.<number>`; `words` may hold `ready` and `gone`.
fn pod(number: usize, words: &str) -> Arc<Pod> {
    let ready = if words.contains("ready") { "True" } else { "False" };
    let gone = words.contains("gone").then_some("2026-01-01T00:00:00Z");
    let pod = json!({
        "metadata": {"namespace": "ns", "name": format!("p{number:03}"), "uid": format!("u{number}"),
            "labels": {"app": "web"}, "deletionTimestamp": gone},
        "spec": {"nodeName": "n1", "containers": [{"name": "c",
            "ports": [{"name": "web-port", "containerPort": 8000 + number % 2}]}]},
        "status": {"phase": "Running", "podIP": format!("10.0.0.{number}"),
            "conditions": [{"type": "Ready", "status": ready}]},
    });
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn reconcile(observed: &Observed) -> Plan {
    let context = Context { now: Timestamp::UNIX_EPOCH, last_failure: None };
    EndpointSliceController::reconcile(observed, &context)
}

fn observed(target_port: Value, pods: Vec<Arc<Pod>>) -> Observed {
    Observed { service: Some(Arc::new(service(target_port))), pods, ..Observed::default() }
}

/// Applies a plan's slice writes and returns the slices.
fn applied(observed: &Observed) -> Vec<Arc<EndpointSlice>> {
    let mut slices = observed.slices.clone();
    for (index, action) in reconcile(observed).actions.iter().enumerate() {
        if action.kind.resource != "endpointslices" {
            continue;
        }
        slices.retain(|slice| slice.metadata.name.as_deref() != Some(&action.name));
        if let Verb::Create { object, .. } | Verb::Update { object, .. } = &action.verb {
            let mut slice: EndpointSlice = serde_json::from_value(object.clone()).unwrap();
            slice.metadata.name.get_or_insert(format!("web-{index}"));
            slices.push(Arc::new(slice));
        }
    }
    slices
}

fn sizes(slices: &[Arc<EndpointSlice>]) -> Vec<usize> {
    slices.iter().map(|slice| slice.endpoints.iter().flatten().count()).collect()
}

#[test]
fn conditions_follow_readiness_and_deletion() {
    let slices = applied(&observed(json!(8080), vec![pod(1, "ready"), pod(2, ""), pod(3, "ready gone")]));
    let endpoints = slices[0].endpoints.clone().unwrap();
    let conditions: Vec<_> = endpoints
        .iter()
        .map(|endpoint| endpoint.conditions.clone().unwrap())
        .map(|conditions| (conditions.ready, conditions.serving, conditions.terminating))
        .collect();
    assert_eq!(
        conditions,
        [
            (Some(true), Some(true), Some(false)),
            (Some(false), Some(false), Some(false)),
            (Some(false), Some(true), Some(true)),
        ]
    );
    assert_eq!(slices[0].ports.as_ref().unwrap()[0].port, Some(8080));
}

#[test]
fn slices_hold_a_hundred_and_a_second_look_changes_nothing() {
    let mut observed = observed(json!(8080), (0..250).map(|number| pod(number, "ready")).collect());
    observed.slices = applied(&observed);
    assert_eq!(sizes(&observed.slices), [100, 100, 50]);
    let again: Vec<_> = reconcile(&observed)
        .actions
        .into_iter()
        .filter(|action| action.kind.resource == "endpointslices")
        .collect();
    assert_eq!(again, []);
    observed.pods.remove(7);
    let touched: Vec<_> = reconcile(&observed)
        .actions
        .into_iter()
        .filter(|action| action.kind.resource == "endpointslices")
        .collect();
    assert_eq!(touched.len(), 1, "only the slice that listed the pod changes");
}

#[test]
fn named_ports_that_differ_make_slices_of_their_own() {
    let slices =
        applied(&observed(json!("web-port"), vec![pod(0, "ready"), pod(1, "ready"), pod(2, "ready")]));
    assert_eq!(sizes(&slices), [2, 1]);
}

#[test]
fn service_without_backends_keeps_one_empty_slice() {
    let mut observed = observed(json!(8080), vec![pod(1, "ready")]);
    observed.slices = applied(&observed);
    observed.pods.clear();
    observed.slices = applied(&observed);
    assert_eq!(sizes(&observed.slices), [0]);
    assert_eq!(sizes(&applied(&observed)), [0]);
}

#[test]
fn service_without_selector_is_left_alone() {
    let mut observed = observed(json!(8080), vec![pod(1, "ready")]);
    let service = Arc::make_mut(observed.service.as_mut().unwrap());
    service.spec.as_mut().unwrap().selector = None;
    assert_eq!(reconcile(&observed), Plan::nothing());
}

#[test]
fn endpoints_list_ready_and_other_addresses() {
    let plan = reconcile(&observed(json!(8080), vec![pod(1, "ready"), pod(2, ""), pod(3, "ready gone")]));
    let written = plan.actions.iter().find(|action| action.kind.resource == "endpoints").unwrap();
    let Verb::Create { object, .. } = &written.verb else { panic!("{written:?}") };
    let subset = &object["subsets"][0];
    assert_eq!(subset["addresses"][0]["ip"], "10.0.0.1");
    assert_eq!(subset["notReadyAddresses"][0]["ip"], "10.0.0.2");
    assert_eq!(subset["addresses"].as_array().unwrap().len(), 1);
}
