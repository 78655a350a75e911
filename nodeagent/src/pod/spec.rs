//! What a pod's sandbox and containers are made from. Pure: paths and values come in ready.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Capabilities, Container, Pod, PodSpec, SeccompProfile, SecurityContext};

use super::env::expand;
use super::qos::{self, QosClass};
use crate::runtime::{
    ContainerSpec, DnsConfig, EnvVar, MountSpec, NamespaceMode, Privilege, SandboxSpec, Seccomp, UserSpec,
};

/// Longest hostname that the kernel takes.
const HOSTNAME_BYTES_MAX: usize = 63;

/// Facts of the node that every pod needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    /// The node's name.
    pub name: String,
    /// Cgroup below which all pods live.
    pub cgroup_prefix: String,
    /// Directory of all pods' logs.
    pub log_root: PathBuf,
    /// The node's memory.
    pub memory_bytes: i64,
    /// The node's CPU in thousandths.
    pub cpu_millis: i64,
    /// The cluster's name server; `None` gives pods the node's.
    pub cluster_dns: Option<String>,
    /// The cluster's DNS zone.
    pub cluster_domain: String,
    /// The node's own resolv.conf.
    pub node_dns: DnsConfig,
}

/// Returns the directory of a pod's logs.
#[must_use]
pub fn log_directory(root: &Path, pod: &Pod) -> PathBuf {
    let part = |value: &Option<String>| value.clone().unwrap_or_default();
    let metadata = &pod.metadata;
    root.join(format!("{}_{}_{}", part(&metadata.namespace), part(&metadata.name), part(&metadata.uid)))
}

/// Reports whether the pod lives in the node's network.
#[must_use]
pub fn in_host_network(spec: &PodSpec) -> bool {
    spec.host_network == Some(true)
}

/// Returns what a pod's sandbox is made from.
#[must_use]
pub fn sandbox(pod: &Pod, node: &NodeFacts, attempt: u32) -> SandboxSpec {
    let metadata = &pod.metadata;
    let uid = metadata.uid.clone().unwrap_or_default();
    let spec = pod.spec.clone().unwrap_or_default();
    let mode = |on_node: Option<bool>, otherwise| {
        if on_node == Some(true) { NamespaceMode::Node } else { otherwise }
    };
    let shared_pid = spec.share_process_namespace == Some(true);
    let privileged = spec.containers.iter().chain(spec.init_containers.iter().flatten()).any(is_privileged);
    let sysctls = spec.security_context.as_ref().and_then(|context| context.sysctls.clone());
    SandboxSpec {
        name: metadata.name.clone().unwrap_or_default(),
        namespace: metadata.namespace.clone().unwrap_or_default(),
        hostname: if in_host_network(&spec) { String::new() } else { hostname(pod, &spec) },
        log_directory: log_directory(&node.log_root, pod),
        dns: Some(dns(pod, &spec, node)),
        cgroup_parent: QosClass::of(&spec).cgroup(&node.cgroup_prefix, &uid),
        network: mode(spec.host_network, NamespaceMode::Pod),
        pid: mode(spec.host_pid, if shared_pid { NamespaceMode::Pod } else { NamespaceMode::Container }),
        ipc: mode(spec.host_ipc, NamespaceMode::Pod),
        sysctls: sysctls.into_iter().flatten().map(|sysctl| (sysctl.name, sysctl.value)).collect(),
        privilege: if privileged { Privilege::Privileged } else { Privilege::Confined },
        annotations: BTreeMap::new(),
        uid,
        attempt,
    }
}

/// Returns the pod's hostname: its own choice or its name, cut to what the kernel takes.
#[must_use]
pub fn hostname(pod: &Pod, spec: &PodSpec) -> String {
    let name = spec.hostname.clone().or_else(|| pod.metadata.name.clone()).unwrap_or_default();
    let cut: String = name.chars().take(HOSTNAME_BYTES_MAX).collect();
    cut.trim_end_matches(['-', '.']).to_owned()
}

/// Returns the pod's resolv.conf by its DNS policy.
fn dns(pod: &Pod, spec: &PodSpec, node: &NodeFacts) -> DnsConfig {
    let host_network_default = in_host_network(spec) && spec.dns_policy.as_deref() == Some("ClusterFirst");
    let mut config = match (spec.dns_policy.as_deref().unwrap_or("ClusterFirst"), &node.cluster_dns) {
        ("None", _) => DnsConfig::default(),
        ("ClusterFirst" | "ClusterFirstWithHostNet", Some(server)) if !host_network_default => {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            let domain = &node.cluster_domain;
            let mut searches =
                vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
            searches.extend(node.node_dns.searches.iter().cloned());
            DnsConfig { servers: vec![server.clone()], searches, options: vec!["ndots:5".to_owned()] }
        }
        _ => node.node_dns.clone(),
    };
    if let Some(own) = &spec.dns_config {
        config.servers.extend(own.nameservers.iter().flatten().cloned());
        config.searches.extend(own.searches.iter().flatten().cloned());
        for option in own.options.iter().flatten() {
            let name = option.name.clone().unwrap_or_default();
            config.options.retain(|existing| existing.split(':').next() != Some(name.as_str()));
            config
                .options
                .push(option.value.as_ref().map_or(name.clone(), |value| format!("{name}:{value}")));
        }
    }
    config
}

fn is_privileged(container: &Container) -> bool {
    container.security_context.as_ref().and_then(|context| context.privileged) == Some(true)
}

/// Returns what a container is made from; environment and mounts come ready.
#[must_use]
pub fn container(
    pod: &Pod,
    container: &Container,
    node: &NodeFacts,
    attempt: u32,
    env: Vec<EnvVar>,
    mounts: Vec<MountSpec>,
) -> ContainerSpec {
    let own = container.security_context.clone().unwrap_or_default();
    let value = |name: &str| {
        env.iter().find(|variable| variable.name == name).map(|variable| variable.value.as_str())
    };
    let words =
        |words: &Option<Vec<String>>| words.iter().flatten().map(|word| expand(word, value)).collect();
    let capabilities = own.capabilities.clone().unwrap_or_default();
    let Capabilities { add, drop } = capabilities;
    let command = words(&container.command);
    let args = words(&container.args);
    ContainerSpec {
        name: container.name.clone(),
        attempt,
        image: container.image.clone().unwrap_or_default(),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        log_path: format!("{}/{attempt}.log", container.name),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        tty: container.tty == Some(true),
        resources: qos::resources(pod, container, node.memory_bytes),
        user: user(pod, &own),
        privilege: if is_privileged(container) { Privilege::Privileged } else { Privilege::Confined },
        readonly_rootfs: own.read_only_root_filesystem == Some(true),
        no_new_privileges: own.allow_privilege_escalation == Some(false),
        add_capabilities: add.unwrap_or_default(),
        drop_capabilities: drop.unwrap_or_default(),
        seccomp: seccomp(pod, &own),
        annotations: BTreeMap::new(),
        command,
        args,
        env,
        mounts,
    }
}

fn user(pod: &Pod, own: &SecurityContext) -> UserSpec {
    let of_pod = pod.spec.as_ref().and_then(|spec| spec.security_context.clone()).unwrap_or_default();
    let mut supplemental_groups = of_pod.supplemental_groups.unwrap_or_default();
    supplemental_groups.extend(of_pod.fs_group);
    UserSpec {
        uid: own.run_as_user.or(of_pod.run_as_user),
        gid: own.run_as_group.or(of_pod.run_as_group),
        supplemental_groups,
    }
}

fn seccomp(pod: &Pod, own: &SecurityContext) -> Seccomp {
    let of_pod = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let profile: Option<&SeccompProfile> =
        own.seccomp_profile.as_ref().or_else(|| of_pod.and_then(|context| context.seccomp_profile.as_ref()));
    match profile {
        Some(profile) if profile.type_ == "RuntimeDefault" => Seccomp::RuntimeDefault,
        Some(profile) if profile.type_ == "Localhost" => {
            Seccomp::Localhost(profile.localhost_profile.clone().unwrap_or_default())
        }
        _ => Seccomp::Unconfined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node() -> NodeFacts {
        NodeFacts {
            name: "n1".to_owned(),
            cgroup_prefix: "/keelson-00".to_owned(),
            log_root: PathBuf::from("/logs"),
            memory_bytes: 1 << 30,
            cpu_millis: 2000,
            cluster_dns: Some("10.96.0.10".to_owned()),
            cluster_domain: "cluster.local".to_owned(),
            node_dns: DnsConfig { servers: vec!["1.1.1.1".to_owned()], ..DnsConfig::default() },
        }
    }

    #[test]
    fn sandbox_carries_names_cgroup_and_cluster_dns() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "web-1", "namespace": "web", "uid": "u1" }, "spec": { "containers": [{ "name": "c" }] }
        }))
        .unwrap();
        let spec = sandbox(&pod, &node(), 2);
        assert_eq!(spec.cgroup_parent, "/keelson-00/kubepods/besteffort/podu1");
        assert_eq!(spec.log_directory, Path::new("/logs/web_web-1_u1"));
        let dns = spec.dns.unwrap();
        assert_eq!(dns.searches, ["web.svc.cluster.local", "svc.cluster.local", "cluster.local"]);
        assert_eq!((dns.servers, dns.options), (vec!["10.96.0.10".to_owned()], vec!["ndots:5".to_owned()]));
    }

    #[test]
    fn host_network_pods_use_the_nodes_dns_and_name() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "p", "namespace": "n", "uid": "u" },
            "spec": { "hostNetwork": true, "dnsPolicy": "ClusterFirst", "containers": [{ "name": "c" }] }
        }))
        .unwrap();
        let spec = sandbox(&pod, &node(), 0);
        assert_eq!((spec.hostname.as_str(), spec.network), ("", NamespaceMode::Node));
        assert_eq!(spec.dns.unwrap().servers, ["1.1.1.1"]);
    }
}
