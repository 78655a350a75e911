//! A container's environment: literal values, references, service variables, and `$(NAME)` expansion.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, EnvVarSource, ObjectFieldSelector, Pod, ResourceFieldSelector, Service,
};
use proto::api::quantity::Quantity;

use crate::runtime::EnvVar;

/// Why an environment cannot be built; the reason of the waiting state is `CreateContainerConfigError`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    /// A ConfigMap or Secret does not exist.
    #[error("{kind} \"{name}\" not found")]
    NoObject {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// It has no such key.
    #[error("couldn't find key {key} in {kind} {name}")]
    NoKey {
        /// `ConfigMap` or `Secret`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// The key.
        key: String,
    },
    /// A field reference is not known.
    #[error("unsupported fieldPath: {path}")]
    NoField {
        /// The path.
        path: String,
    },
}

/// Where references are looked up. Data of secrets is decoded; bytes that are not UTF-8 are replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct References {
    /// ConfigMaps of the pod's namespace.
    pub config_maps: BTreeMap<String, BTreeMap<String, String>>,
    /// Secrets of the pod's namespace.
    pub secrets: BTreeMap<String, BTreeMap<String, String>>,
}

/// Facts that field references may name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The node's name.
    pub node_name: String,
    /// The node's address.
    pub host_ip: String,
    /// The pod's address.
    pub pod_ip: String,
    /// The node's CPU in thousandths, where a container has no limit.
    pub node_cpu_millis: i64,
    /// The node's memory, where a container has no limit.
    pub node_memory_bytes: i64,
}

/// Returns the environment of a container. Services come first, so that the pod's own variables win.
///
/// # Errors
/// When a required reference cannot be resolved.
pub fn environment(
    pod: &Pod,
    container: &Container,
    facts: &Facts,
    references: &References,
    services: &[(String, String)],
) -> Result<Vec<EnvVar>, EnvError> {
    let mut values: Ordered = Ordered::default();
    for (name, value) in services {
        values.set(name, value.clone());
    }
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let data = if let Some(reference) = &source.config_map_ref {
            object(&references.config_maps, "configmap", &reference.name, reference.optional)?
        } else if let Some(reference) = &source.secret_ref {
            object(&references.secrets, "secret", &reference.name, reference.optional)?
        } else {
            None
        };
        for (key, value) in data.into_iter().flatten() {
            values.set(&format!("{prefix}{key}"), value.clone());
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match &variable.value_from {
            Some(source) => reference(pod, container, source, facts, references)?,
            None => Some(expand(variable.value.as_deref().unwrap_or_default(), |name| values.get(name))),
        };
        if let Some(value) = value {
            values.set(&variable.name, value);
        }
    }
    Ok(values.into_variables())
}

/// Values by name in the order of their first appearance.
#[derive(Default)]
struct Ordered {
    names: Vec<String>,
    values: BTreeMap<String, String>,
}

impl Ordered {
    fn set(&mut self, name: &str, value: String) {
        if self.values.insert(name.to_owned(), value).is_none() {
            self.names.push(name.to_owned());
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    fn into_variables(mut self) -> Vec<EnvVar> {
        let variable = |name: String| {
            let value = self.values.remove(&name)?;
            Some(EnvVar { name, value })
        };
        self.names.into_iter().filter_map(variable).collect()
    }
}

type Objects = BTreeMap<String, BTreeMap<String, String>>;

fn object<'a>(
    objects: &'a Objects,
    kind: &'static str,
    name: &str,
    optional: Option<bool>,
) -> Result<Option<&'a BTreeMap<String, String>>, EnvError> {
    match (objects.get(name), optional) {
        (Some(data), _) => Ok(Some(data)),
        (None, Some(true)) => Ok(None),
        (None, _) => Err(EnvError::NoObject { kind, name: name.to_owned() }),
    }
}

fn reference(
    pod: &Pod,
    container: &Container,
    source: &EnvVarSource,
    facts: &Facts,
    references: &References,
) -> Result<Option<String>, EnvError> {
    let key_of =
        |data: Option<&BTreeMap<String, String>>, kind, name: &str, key: &str, optional: Option<bool>| {
            let value = data.and_then(|data| data.get(key)).cloned();
            if value.is_none() && optional != Some(true) {
                return Err(EnvError::NoKey { kind, name: name.to_owned(), key: key.to_owned() });
            }
            Ok(value)
        };
    if let Some(selector) = &source.config_map_key_ref {
        let data = object(&references.config_maps, "configmap", &selector.name, selector.optional)?;
        return key_of(data, "ConfigMap", &selector.name, &selector.key, selector.optional);
    }
    if let Some(selector) = &source.secret_key_ref {
        let data = object(&references.secrets, "secret", &selector.name, selector.optional)?;
        return key_of(data, "Secret", &selector.name, &selector.key, selector.optional);
    }
    if let Some(selector) = &source.field_ref {
        return field(pod, selector, facts).map(Some);
    }
    if let Some(selector) = &source.resource_field_ref {
        return resource_field(pod, container, selector, facts).map(Some);
    }
    Ok(None)
}

/// Returns the value of a downward API field.
///
/// # Errors
/// When the field is not one that pods may read.
pub fn field(pod: &Pod, selector: &ObjectFieldSelector, facts: &Facts) -> Result<String, EnvError> {
    let metadata = &pod.metadata;
    let path = selector.field_path.as_str();
    let map = |map: &Option<BTreeMap<String, String>>| {
        let lines: Vec<String> =
            map.iter().flatten().map(|(key, value)| format!("{key}={value:?}")).collect();
        lines.join("\n")
    };
    let value = match path {
        "metadata.name" => metadata.name.clone().unwrap_or_default(),
        "metadata.namespace" => metadata.namespace.clone().unwrap_or_default(),
        "metadata.uid" => metadata.uid.clone().unwrap_or_default(),
        "metadata.labels" => map(&metadata.labels),
        "metadata.annotations" => map(&metadata.annotations),
        "spec.nodeName" => facts.node_name.clone(),
        "spec.serviceAccountName" => {
            pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone()).unwrap_or_default()
        }
        "status.hostIP" | "status.hostIPs" => facts.host_ip.clone(),
        "status.podIP" | "status.podIPs" => facts.pod_ip.clone(),
        _ => {
            let unknown = || EnvError::NoField { path: path.to_owned() };
            let (map, key) =
                path.strip_suffix("']").and_then(|path| path.split_once("['")).ok_or_else(unknown)?;
            let map = match map {
                "metadata.labels" => &metadata.labels,
                "metadata.annotations" => &metadata.annotations,
                _ => return Err(unknown()),
            };
            map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default()
        }
    };
    Ok(value)
}

/// Returns the value of a resource field: the container's limit or request, or the node's amount.
///
/// # Errors
/// When the resource is not known.
pub fn resource_field(
    pod: &Pod,
    container: &Container,
    selector: &ResourceFieldSelector,
    facts: &Facts,
) -> Result<String, EnvError> {
    let unknown = || EnvError::NoField { path: selector.resource.clone() };
    let (group, name) = selector.resource.split_once('.').ok_or_else(unknown)?;
    let all =
        pod.spec.iter().flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    let named = all.into_iter().find(|item| Some(&item.name) == selector.container_name.as_ref());
    let resources = named.unwrap_or(container).resources.as_ref();
    let amounts = match group {
        "limits" => resources.and_then(|resources| resources.limits.as_ref()),
        "requests" => resources.and_then(|resources| resources.requests.as_ref()),
        _ => return Err(unknown()),
    };
    let own: Option<Quantity> =
        amounts.and_then(|amounts| amounts.get(name)).and_then(|amount| amount.0.parse().ok());
    let nanos = match (own, group, name) {
        (Some(own), _, _) => own.nanos(),
        (None, "limits", "cpu") => Quantity::from_millis(facts.node_cpu_millis).nanos(),
        (None, "limits", "memory") => i128::from(facts.node_memory_bytes) * 1_000_000_000,
        (None, _, _) => 0,
    };
    let divisor: i128 = selector
        .divisor
        .as_ref()
        .and_then(|divisor| divisor.0.parse::<Quantity>().ok())
        .map_or(0, Quantity::nanos);
    let divisor = if divisor <= 0 { 1_000_000_000 } else { divisor };
    // Upstream rounds up.
    Ok(((nanos + divisor - 1) / divisor).to_string())
}

/// Replaces `$(NAME)` by its value; unknown names stay as they are, `$$` is a dollar sign.
pub fn expand<'a>(text: &str, value: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut output = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        output.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            output.push('$');
            rest = after;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match value(name) {
                Some(value) => output.push_str(value),
                None => output.push_str(&format!("$({name})")),
            }
            rest = tail;
        } else {
            output.push('$');
            rest = after;
        }
    }
    output.push_str(rest);
    output
}

/// Returns the variables that announce a service, as container links once did.
#[must_use]
pub fn service_variables(services: &[&Service]) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    for service in services {
        let Some(spec) = &service.spec else { continue };
        let Some(ip) = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None") else {
            continue;
        };
        let name = service.metadata.name.as_deref().unwrap_or_default().to_uppercase().replace('-', "_");
        let ports = spec.ports.as_deref().unwrap_or_default();
        let Some(first) = ports.first() else { continue };
        variables.push((format!("{name}_SERVICE_HOST"), ip.to_owned()));
        variables.push((format!("{name}_SERVICE_PORT"), first.port.to_string()));
        for port in ports.iter().filter(|port| port.name.is_some()) {
            let port_name = port.name.as_deref().unwrap_or_default().to_uppercase().replace('-', "_");
            variables.push((format!("{name}_SERVICE_PORT_{port_name}"), port.port.to_string()));
        }
        let url = |port: i32, protocol: &str| format!("{}://{ip}:{port}", protocol.to_lowercase());
        let protocol = |name: &Option<String>| name.clone().unwrap_or_else(|| "TCP".to_owned());
        variables.push((format!("{name}_PORT"), url(first.port, &protocol(&first.protocol))));
        for port in ports {
            let protocol = protocol(&port.protocol);
            let prefix = format!("{name}_PORT_{}_{protocol}", port.port);
            variables.push((prefix.clone(), url(port.port, &protocol)));
            variables.push((format!("{prefix}_PROTO"), protocol.to_lowercase()));
            variables.push((format!("{prefix}_PORT"), port.port.to_string()));
            variables.push((format!("{prefix}_ADDR"), ip.to_owned()));
        }
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn expansion_follows_upstream() {
        let value = |name: &str| (name == "A").then_some("1");
        for (text, expected) in [
            ("$(A)", "1"),
            ("x$(A)y", "x1y"),
            ("$$(A)", "$(A)"),
            ("$(B)", "$(B)"),
            ("$A $", "$A $"),
            ("$(A", "$(A"),
            ("$$$(A)", "$1"),
        ] {
            assert_eq!(expand(text, value), expected, "{text}");
        }
    }

    #[test]
    fn later_sources_win_and_references_resolve() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "p", "namespace": "n", "labels": { "app": "x" } },
            "spec": { "containers": [{ "name": "c",
                "envFrom": [{ "configMapRef": { "name": "cm" }, "prefix": "P_" }],
                "env": [
                    { "name": "P_A", "value": "own" },
                    { "name": "B", "value": "$(P_A)-$(S)" },
                    { "name": "N", "valueFrom": { "fieldRef": { "fieldPath": "metadata.labels['app']" } } },
                    { "name": "M", "valueFrom": { "resourceFieldRef": { "resource": "limits.memory", "divisor": "1Mi" } } },
                    { "name": "O", "valueFrom": { "secretKeyRef": { "name": "none", "key": "k", "optional": true } } }
                ] }] }
        }))
        .unwrap();
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let mut references = References::default();
        references.config_maps.insert("cm".to_owned(), BTreeMap::from([("A".to_owned(), "cm".to_owned())]));
        let facts = Facts { node_memory_bytes: 1 << 30, ..Facts::default() };
        let services = [("S".to_owned(), "svc".to_owned())];
        let variables = environment(&pod, container, &facts, &references, &services).unwrap();
        let found: Vec<(&str, &str)> =
            variables.iter().map(|v| (v.name.as_str(), v.value.as_str())).collect();
        assert_eq!(found, [("S", "svc"), ("P_A", "own"), ("B", "own-svc"), ("N", "x"), ("M", "1024")]);
        let missing = environment(&pod, container, &facts, &References::default(), &services).unwrap_err();
        assert_eq!(missing.to_string(), "configmap \"cm\" not found");
    }
}
