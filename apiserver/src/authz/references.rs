//! Whether a pod refers to a secret, a config map or a service account: what its node may read.

use serde_json::Value;

use crate::object;
use crate::registry::Object;

/// Reports whether `pod` refers to the object of that resource and name in its own namespace.
pub(crate) fn refers(pod: &Object, resource: &str, name: &str) -> bool {
    let Some(spec) = pod.get("spec") else { return false };
    match resource {
        "serviceaccounts" => object::str_at(pod, &["spec", "serviceAccountName"]) == name,
        "secrets" => {
            let pulls = list(spec, "imagePullSecrets").iter().any(|secret| text(secret, &["name"]) == name);
            pulls || volumes(spec, "secret", "secretName", name) || environment(spec, "secret", name)
        }
        "configmaps" => volumes(spec, "configMap", "name", name) || environment(spec, "configMap", name),
        _ => false,
    }
}

fn volumes(spec: &Value, source: &str, field: &str, name: &str) -> bool {
    list(spec, "volumes").iter().any(|volume| {
        let projected =
            volume.get("projected").map(|projected| list(projected, "sources")).unwrap_or_default();
        text(volume, &[source, field]) == name
            || projected.iter().any(|projection| text(projection, &[source, "name"]) == name)
    })
}

fn environment(spec: &Value, source: &str, name: &str) -> bool {
    let (key_ref, all_ref) = (format!("{source}KeyRef"), format!("{source}Ref"));
    ["initContainers", "containers", "ephemeralContainers"].iter().any(|field| {
        list(spec, field).iter().any(|container| {
            list(container, "env")
                .iter()
                .any(|variable| text(variable, &["valueFrom", &key_ref, "name"]) == name)
                || list(container, "envFrom").iter().any(|from| text(from, &[&all_ref, "name"]) == name)
        })
    })
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn text<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    path.iter().try_fold(value, |value, key| value.get(key)).and_then(Value::as_str).unwrap_or_default()
}
