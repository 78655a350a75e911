//! Creates: defaults of minimal objects, and findings about invalid ones.

use serde_json::{Value, json};

use super::{Case, cases, message, prepare, report, strip};

/// Set by admission or allocation, which are not the registry's.
fn without_admission(mut object: Value) -> Value {
    let Some(spec) = object["spec"].as_object_mut() else { return object };
    for field in [
        "serviceAccountName",
        "serviceAccount",
        "tolerations",
        "priority",
        "preemptionPolicy",
        "clusterIP",
        "clusterIPs",
        "healthCheckNodePort",
        "taints",
    ] {
        spec.remove(field);
    }
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(port) = port.as_object_mut() {
            port.remove("nodePort");
        }
    }
    let is_token =
        |volume: &Value| volume["name"].as_str().is_some_and(|name| name.starts_with("kube-api-access"));
    for list in ["volumes"] {
        if let Some(volumes) = spec.get_mut(list).and_then(Value::as_array_mut) {
            volumes.retain(|volume| !is_token(volume));
            if volumes.is_empty() {
                spec.remove(list);
            }
        }
    }
    for list in ["containers", "initContainers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(mounts) = container["volumeMounts"].as_array_mut() {
                mounts.retain(|mount| !is_token(mount));
            }
            if container["volumeMounts"].as_array().is_none_or(Vec::is_empty)
                && let Some(container) = container.as_object_mut()
            {
                container.remove("volumeMounts");
            }
        }
    }
    object
}

#[test]
fn minimal_objects_gain_the_same_defaults() {
    const KNOWN: &[&str] = &[
        // Volume types that the node agent does not have.
        "create v1 Pod (volumes)",
        // The time of a condition.
        "create v1 Pod (topology)",
    ];
    let (mut replayed, mut differences) = (0, Vec::new());
    for case in cases("defaults.json.gz") {
        let Some((kind, namespace, tail)) = case.target() else { continue };
        if case.method != "POST" || case.status != 201 || !tail.is_empty() || !case.body.is_object() {
            continue;
        }
        replayed += 1;
        let ours = match prepare(kind, &namespace, &case.body) {
            Ok(object) => without_admission(strip(Value::Object(object))),
            Err(error) => json!(error),
        };
        let theirs = without_admission(strip(case.answer));
        if ours != theirs {
            differences.push((case.name, format!("ours   {ours}\ntheirs {theirs}")));
        }
    }
    report(replayed, differences, KNOWN);
}

/// What we would answer to a create.
fn answer(case: &Case) -> Option<String> {
    let (kind, namespace, _) = case.target()?;
    let name = case.body["metadata"]["name"].as_str().unwrap_or_default();
    Some(match prepare(kind, &namespace, &case.body) {
        Err(error) => format!(
            "{} in version \"{}\" cannot be handled as a {}: {error}",
            kind.kind, kind.version, kind.kind
        ),
        Ok(object) => {
            let errors = kind.strategy.validate(&object);
            if errors.is_empty() { "ok".to_owned() } else { message(kind, name, &errors) }
        }
    })
}

/// Creates that we answer differently, or not yet.
const KNOWN_FINDINGS: &[&str] = &[
    // Said by the API machinery: names given by the path, kinds, generated names, request checks.
    "create invalid v1 ConfigMap: metadata.generateName",
    "create invalid v1 ConfigMap: metadata.namespace",
    "create invalid v1 ConfigMap: kind=",
    "create invalid v1 ConfigMap: apiVersion=\"v2\"",
    // Said by allocation, which happens inside the commit.
    "create invalid v1 Service: metadata.name=\"\"",
    "create invalid v1 Service: metadata.name=\"a/b\"",
    "create invalid v1 Service: metadata.name=\"a%b\"",
    "create invalid v1 Service: metadata.name=\".\"",
    "create invalid v1 Service: spec.clusterIP=\"1",
    "create invalid v1 Service: spec.type=\"NodePort\"; spec.ports",
    // Same finding, shown in another order of fields or in another parser's words.
    "create invalid v1 ConfigMap: metadata.ownerReferences",
    "create invalid v1 Secret: type=\"kubernetes.io/dockerconfigjson\"",
    "create invalid v1 Node: spec.taints=[{\"key\": \"a\", \"effect\": \"NoSchedule\"}, ",
    "create invalid v1 Service: spec.ports=[{\"port\": 80, \"name\": \"a\"}",
    "create invalid v1 Endpoints: subsets.0.addresses.0.ip=\"x\"",
    "create invalid events.k8s.io/v1 Event",
    // Pod security labels are admission's.
    "create invalid v1 Namespace: metadata.labels={\"pod-security",
    // Not checked yet.
    "create invalid v1 Node: spec.podCIDRs=[",
    "create invalid v1 Node: status.capacity=",
    "create invalid v1 Pod: metadata.annotations=",
    "create invalid v1 Pod: spec.affinity=",
    "create invalid v1 Pod: spec.containers.0.env=[{\"name\": \"a\", \"valueFrom\": {\"resourceFieldRef",
    "create invalid v1 Pod: spec.containers.0.livenessProbe={\"httpGet\": {\"path\": \"\", \"port\": 80, \"httpHeaders",
    "create invalid v1 Pod: spec.containers.0.resizePolicy=",
    "create invalid v1 Pod: spec.containers.0.resources={\"claims\"",
    "create invalid v1 Pod: spec.containers.0.securityContext={\"privileged",
    "create invalid v1 Pod: spec.containers.0.securityContext={\"capabilities",
    "create invalid v1 Pod: spec.containers.0.volumeDevices=",
    "create invalid v1 Pod: spec.containers.0.volumeMounts=[{\"name\": \"v\", \"mountPath\": \"/x\", \"subPath\": \"y\", \"subPathEx",
    "create invalid v1 Pod: spec.dnsConfig=",
    "create invalid v1 Pod: spec.hostAliases=",
    "create invalid v1 Pod: spec.hostUsers=",
    "create invalid v1 Pod: spec.os=",
    "create invalid v1 Pod: spec.resourceClaims=",
    "create invalid v1 Pod: spec.resources=",
    "create invalid v1 Pod: spec.securityContext={\"appArmorProfile",
    "create invalid v1 Pod: spec.securityContext={\"sysctls",
    "create invalid v1 Pod: spec.securityContext={\"windowsOptions",
    "create invalid v1 Pod: spec.topologySpreadConstraints=[{\"maxSkew\": 1",
    "create invalid v1 Pod: spec.volumes=[{\"name\": \"v\", \"downwardAPI",
    "create invalid v1 Pod: spec.volumes=[{\"name\": \"v\", \"ephemeral",
    "create invalid v1 Pod: spec.volumes=[{\"name\": \"v\", \"image",
    "create invalid v1 Pod: spec.volumes=[{\"name\": \"v\", \"iscsi",
    "create invalid v1 Pod: spec.volumes=[{\"name\": \"v\", \"nfs",
    "create invalid v1 Service: spec.loadBalancerClass=\"a b\"",
    "create invalid v1 Service: spec.loadBalancerSourceRanges=[\"x\"]",
    "create invalid rbac.authorization.k8s.io/v1 ClusterRole: aggregationRule=",
];

#[test]
fn invalid_objects_get_the_same_findings() {
    let (mut replayed, mut differences) = (0, Vec::new());
    for case in cases("validation.json.gz") {
        let shortened = case.body.to_string().contains(" characters)");
        if !case.name.starts_with("create invalid")
            || case.method != "POST"
            || !case.body.is_object()
            || shortened
        {
            continue;
        }
        if !matches!(case.status, 201 | 400 | 422) {
            continue;
        }
        let Some(ours) = answer(&case) else { continue };
        replayed += 1;
        let theirs =
            if case.status == 201 { "ok" } else { case.answer["message"].as_str().unwrap_or_default() };
        if ours != theirs {
            differences.push((case.name.clone(), format!("ours   {ours}\ntheirs {theirs}")));
        }
    }
    report(replayed, differences, KNOWN_FINDINGS);
}
