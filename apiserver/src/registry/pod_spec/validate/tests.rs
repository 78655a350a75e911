//! What a pod may not say, with the texts that users see.

use serde_json::{Value, json};

use super::super::default_spec;
use super::*;

/// Findings about a pod with one good container, after `change` was written into its spec.
fn findings(change: Value) -> Vec<String> {
    let base = json!({"containers": [{"name": "c", "image": "i"}]});
    let patched = crate::patch::merge::apply(base, change.as_object().unwrap());
    let mut spec = patched.as_object().unwrap().clone();
    default_spec(&mut spec);
    validate_spec("spec", &spec).iter().map(ToString::to_string).collect()
}

fn container(change: Value) -> Vec<String> {
    let base = json!({"name": "c", "image": "i"});
    findings(json!({"containers": [crate::patch::merge::apply(base, change.as_object().unwrap())]}))
}

#[test]
fn a_plain_pod_is_valid() {
    assert_eq!(findings(json!({})), Vec::<String>::new());
}

#[test]
fn containers_need_names_and_images() {
    assert_eq!(findings(json!({"containers": null})), ["spec.containers: Required value"]);
    assert_eq!(container(json!({"name": ""})), ["spec.containers[0].name: Required value"]);
    assert_eq!(container(json!({"image": null})), ["spec.containers[0].image: Required value"]);
    assert_eq!(
        findings(json!({"initContainers": [{"name": "c", "image": "x"}]})),
        ["spec.initContainers[0].name: Duplicate value: \"c\""]
    );
}

#[test]
fn ports_mounts_and_variables() {
    assert_eq!(
        container(json!({"ports": [{"containerPort": 0}]})),
        ["spec.containers[0].ports[0].containerPort: Required value"]
    );
    assert_eq!(
        container(json!({"ports": [{"containerPort": 80, "protocol": "HTTP"}]})),
        [
            "spec.containers[0].ports[0].protocol: Unsupported value: \"HTTP\": supported values: \"SCTP\", \"TCP\", \"UDP\""
        ]
    );
    assert_eq!(
        container(json!({"volumeMounts": [{"name": "x", "mountPath": "/x"}]})),
        ["spec.containers[0].volumeMounts[0].name: Not found: \"x\""]
    );
    assert_eq!(
        container(
            json!({"env": [{"name": ""}, {"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.foo"}}}]})
        ),
        [
            "spec.containers[0].env[0].name: Required value",
            "spec.containers[0].env[1].valueFrom.fieldRef.fieldPath: Invalid value: \"metadata.foo\": error converting \
             fieldPath: field label not supported: metadata.foo"
        ]
    );
}

#[test]
fn volumes_have_one_source() {
    assert_eq!(
        findings(json!({"volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/x"}}]})),
        ["spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"]
    );
}

#[test]
fn requests_stay_within_limits() {
    assert_eq!(
        container(json!({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}})),
        [
            "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1"
        ]
    );
}

#[test]
fn probes_have_one_handler() {
    assert_eq!(
        container(json!({"livenessProbe": {}})),
        ["spec.containers[0].livenessProbe: Required value: must specify a handler type"]
    );
    assert_eq!(
        container(json!({"livenessProbe": {"exec": {"command": ["a"]}, "tcpSocket": {"port": 1}}})),
        ["spec.containers[0].livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type"]
    );
}
