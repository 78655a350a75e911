//! The quality-of-service class that a pod's requests and limits put it in.

use std::collections::BTreeMap;

use proto::api::quantity::Quantity;
use serde_json::Value;

use super::super::Object;
use super::super::value::{entries, object, objects};

/// Resources that decide the class.
const COMPUTE: [&str; 2] = ["cpu", "memory"];

/// Returns `Guaranteed`, `Burstable` or `BestEffort` for a pod's spec.
pub(in crate::registry) fn qos_class(spec: &Object) -> &'static str {
    let pod_level = object(spec, &["resources"]).filter(|resources| {
        ["requests", "limits"]
            .iter()
            .any(|part| entries(resources, &[part]).any(|(name, _)| COMPUTE.contains(&name.as_str())))
    });
    let parts: Vec<Option<&Object>> = match pod_level {
        Some(resources) => vec![Some(resources)],
        None => objects(spec, &["containers"])
            .chain(objects(spec, &["initContainers"]))
            .map(|container| object(container, &["resources"]))
            .collect(),
    };
    let (mut any, mut guaranteed) = (false, true);
    for resources in parts {
        let requests = resources.map(|resources| compute(resources, "requests")).unwrap_or_default();
        let limits = resources.map(|resources| compute(resources, "limits")).unwrap_or_default();
        any |= !requests.is_empty() || !limits.is_empty();
        guaranteed &= COMPUTE.iter().all(|name| limits.contains_key(name))
            && requests.iter().all(|(name, amount)| limits.get(name) == Some(amount));
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// Returns the amounts of one part that are not zero.
fn compute(resources: &Object, part: &str) -> BTreeMap<&'static str, Quantity> {
    COMPUTE
        .iter()
        .filter_map(|name| {
            let amount: Quantity = resources.get(part)?.get(name).and_then(Value::as_str)?.parse().ok()?;
            (!amount.is_zero()).then_some((*name, amount))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn classes() {
        let class = |resources: Value| {
            let spec = json!({"containers": [{"resources": resources}]});
            qos_class(spec.as_object().unwrap())
        };
        let full = json!({"cpu": "1", "memory": "1Gi"});
        assert_eq!(class(json!({})), "BestEffort");
        assert_eq!(class(json!({"requests": {"cpu": "0"}})), "BestEffort");
        assert_eq!(class(json!({"limits": full, "requests": full})), "Guaranteed");
        assert_eq!(class(json!({"limits": full})), "Guaranteed");
        assert_eq!(class(json!({"requests": full})), "Burstable");
        assert_eq!(class(json!({"limits": {"cpu": "1"}, "requests": {"cpu": "1"}})), "Burstable");
    }
}
