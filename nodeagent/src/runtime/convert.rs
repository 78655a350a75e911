//! The only place that knows CRI messages: core types to CRI and back.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_cri::v1 as cri;

use super::model::{
    CONTAINER_NAME_LABEL, ContainerId, ContainerInfo, ContainerSpec, ContainerState, DnsConfig, EnvVar, Exit,
    ImageInfo, MountSpec, NamespaceMode, POD_NAME_LABEL, POD_NAMESPACE_LABEL, POD_UID_LABEL, Privilege,
    Propagation, Resources, SandboxId, SandboxInfo, SandboxSpec, SandboxState, Seccomp,
};

/// Paths that a confined container must not read, as the OCI default set has them.
const MASKED_PATHS: [&str; 9] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
];

/// Paths that a confined container must not write.
const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

fn namespace_mode(mode: NamespaceMode) -> i32 {
    let mode = match mode {
        NamespaceMode::Pod => cri::NamespaceMode::Pod,
        NamespaceMode::Container => cri::NamespaceMode::Container,
        NamespaceMode::Node => cri::NamespaceMode::Node,
    };
    i32::from(mode)
}

fn namespaces(spec: &SandboxSpec) -> cri::NamespaceOption {
    cri::NamespaceOption {
        network: namespace_mode(spec.network),
        pid: namespace_mode(spec.pid),
        ipc: namespace_mode(spec.ipc),
        ..Default::default()
    }
}

fn seccomp(profile: &Seccomp) -> cri::SecurityProfile {
    use cri::security_profile::ProfileType;
    let (kind, file) = match profile {
        Seccomp::Unconfined => (ProfileType::Unconfined, String::new()),
        Seccomp::RuntimeDefault => (ProfileType::RuntimeDefault, String::new()),
        Seccomp::Localhost(file) => (ProfileType::Localhost, file.clone()),
    };
    cri::SecurityProfile { profile_type: i32::from(kind), localhost_ref: file }
}

fn dns(config: &DnsConfig) -> cri::DnsConfig {
    cri::DnsConfig {
        servers: config.servers.clone(),
        searches: config.searches.clone(),
        options: config.options.clone(),
    }
}

fn pod_labels(spec: &SandboxSpec) -> BTreeMap<String, String> {
    BTreeMap::from([
        (POD_NAME_LABEL.to_owned(), spec.name.clone()),
        (POD_NAMESPACE_LABEL.to_owned(), spec.namespace.clone()),
        (POD_UID_LABEL.to_owned(), spec.uid.clone()),
    ])
}

/// Returns the CRI form of a sandbox.
pub(super) fn sandbox_config(spec: &SandboxSpec) -> cri::PodSandboxConfig {
    cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata {
            name: spec.name.clone(),
            uid: spec.uid.clone(),
            namespace: spec.namespace.clone(),
            attempt: spec.attempt,
        }),
        hostname: spec.hostname.clone(),
        log_directory: spec.log_directory.to_string_lossy().into_owned(),
        dns_config: spec.dns.as_ref().map(dns),
        labels: pod_labels(spec).into_iter().collect(),
        annotations: spec.annotations.clone().into_iter().collect(),
        linux: Some(cri::LinuxPodSandboxConfig {
            cgroup_parent: spec.cgroup_parent.clone(),
            security_context: Some(cri::LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces(spec)),
                privileged: spec.privilege == Privilege::Privileged,
                seccomp: Some(seccomp(&Seccomp::Unconfined)),
                ..Default::default()
            }),
            sysctls: spec.sysctls.clone().into_iter().collect(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn mount(mount: &MountSpec) -> cri::Mount {
    let propagation = match mount.propagation {
        Propagation::Private => cri::MountPropagation::PropagationPrivate,
        Propagation::HostToContainer => cri::MountPropagation::PropagationHostToContainer,
        Propagation::Bidirectional => cri::MountPropagation::PropagationBidirectional,
    };
    cri::Mount {
        container_path: mount.container_path.clone(),
        host_path: mount.host_path.to_string_lossy().into_owned(),
        readonly: !mount.writable,
        propagation: i32::from(propagation),
        ..Default::default()
    }
}

fn env(variable: &EnvVar) -> cri::KeyValue {
    cri::KeyValue { key: variable.name.clone(), value: variable.value.clone() }
}

fn resources(limits: &Resources) -> cri::LinuxContainerResources {
    cri::LinuxContainerResources {
        cpu_period: limits.cpu_quota_us.map_or(0, |_| Resources::CPU_PERIOD_US),
        cpu_quota: limits.cpu_quota_us.unwrap_or(0),
        cpu_shares: limits.cpu_shares.unwrap_or(0),
        memory_limit_in_bytes: limits.memory_limit_bytes.unwrap_or(0),
        oom_score_adj: limits.oom_score_adj,
        ..Default::default()
    }
}

fn container_security(sandbox: &SandboxSpec, spec: &ContainerSpec) -> cri::LinuxContainerSecurityContext {
    let confined = spec.privilege == Privilege::Confined;
    let paths = |all: &[&str]| -> Vec<String> {
        if confined { all.iter().map(|path| (*path).to_owned()).collect() } else { Vec::new() }
    };
    cri::LinuxContainerSecurityContext {
        capabilities: Some(cri::Capability {
            add_capabilities: spec.add_capabilities.clone(),
            drop_capabilities: spec.drop_capabilities.clone(),
            add_ambient_capabilities: Vec::new(),
        }),
        privileged: !confined,
        namespace_options: Some(namespaces(sandbox)),
        run_as_user: spec.user.uid.map(|value| cri::Int64Value { value }),
        run_as_group: spec.user.gid.map(|value| cri::Int64Value { value }),
        readonly_rootfs: spec.readonly_rootfs,
        supplemental_groups: spec.user.supplemental_groups.clone(),
        no_new_privs: spec.no_new_privileges,
        masked_paths: paths(&MASKED_PATHS),
        readonly_paths: paths(&READONLY_PATHS),
        seccomp: Some(seccomp(&spec.seccomp)),
        ..Default::default()
    }
}

/// Returns the CRI form of a container.
pub(super) fn container_config(sandbox: &SandboxSpec, spec: &ContainerSpec) -> cri::ContainerConfig {
    let mut labels = pod_labels(sandbox);
    labels.insert(CONTAINER_NAME_LABEL.to_owned(), spec.name.clone());
    cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata { name: spec.name.clone(), attempt: spec.attempt }),
        image: Some(image_spec(&spec.image)),
        command: spec.command.clone(),
        args: spec.args.clone(),
        working_dir: spec.working_dir.clone(),
        envs: spec.env.iter().map(env).collect(),
        mounts: spec.mounts.iter().map(mount).collect(),
        labels: labels.into_iter().collect(),
        annotations: spec.annotations.clone().into_iter().collect(),
        log_path: spec.log_path.clone(),
        stdin: spec.stdin,
        stdin_once: spec.stdin_once,
        tty: spec.tty,
        linux: Some(cri::LinuxContainerConfig {
            resources: Some(resources(&spec.resources)),
            security_context: Some(container_security(sandbox, spec)),
        }),
        ..Default::default()
    }
}

/// Returns the CRI form of an image name.
pub(super) fn image_spec(name: &str) -> cri::ImageSpec {
    cri::ImageSpec { image: name.to_owned(), ..Default::default() }
}

/// Nanoseconds since 1970 as CRI reports them; 0 means "never".
fn time(nanoseconds: i64) -> Option<Timestamp> {
    if nanoseconds == 0 {
        return None;
    }
    Timestamp::from_nanosecond(i128::from(nanoseconds)).ok()
}

fn sandbox_state(state: i32) -> SandboxState {
    if state == i32::from(cri::PodSandboxState::SandboxReady) {
        SandboxState::Ready
    } else {
        SandboxState::NotReady
    }
}

/// Returns a listed sandbox, or `None` when it is not ours.
pub(super) fn listed_sandbox(item: cri::PodSandbox) -> Option<SandboxInfo> {
    let metadata = item.metadata?;
    item.labels.get(POD_UID_LABEL)?;
    Some(SandboxInfo {
        id: SandboxId(item.id),
        name: metadata.name,
        namespace: metadata.namespace,
        uid: metadata.uid,
        attempt: metadata.attempt,
        state: sandbox_state(item.state),
        created_at: time(item.created_at).unwrap_or_default(),
        ip: None,
    })
}

/// Returns a sandbox with its address.
pub(super) fn sandbox(status: cri::PodSandboxStatus) -> Option<SandboxInfo> {
    let metadata = status.metadata?;
    Some(SandboxInfo {
        id: SandboxId(status.id),
        name: metadata.name,
        namespace: metadata.namespace,
        uid: metadata.uid,
        attempt: metadata.attempt,
        state: sandbox_state(status.state),
        created_at: time(status.created_at).unwrap_or_default(),
        ip: status.network.and_then(|network| network.ip.parse().ok()),
    })
}

/// Returns a listed container, or `None` when it is not ours. Its exit is not filled.
pub(super) fn listed_container(item: cri::Container) -> Option<ContainerInfo> {
    let metadata = item.metadata?;
    let pod_uid = item.labels.get(POD_UID_LABEL)?.clone();
    Some(ContainerInfo {
        id: ContainerId(item.id),
        sandbox: SandboxId(item.pod_sandbox_id),
        pod_uid,
        name: metadata.name,
        attempt: metadata.attempt,
        state: container_state(item.state, Exit::default),
        created_at: time(item.created_at).unwrap_or_default(),
        started_at: None,
        finished_at: None,
        image: item.image.map(|image| image.image).unwrap_or_default(),
        image_id: item.image_ref,
        annotations: item.annotations.into_iter().collect(),
    })
}

fn container_state(state: i32, exit: impl FnOnce() -> Exit) -> ContainerState {
    match cri::ContainerState::try_from(state) {
        Ok(cri::ContainerState::ContainerCreated) => ContainerState::Created,
        Ok(cri::ContainerState::ContainerRunning) => ContainerState::Running,
        Ok(cri::ContainerState::ContainerExited) => ContainerState::Exited(exit()),
        Ok(cri::ContainerState::ContainerUnknown) | Err(_) => ContainerState::Unknown,
    }
}

/// Returns a container with times and exit; the status does not carry the sandbox, so the caller gives it.
pub(super) fn container(status: cri::ContainerStatus, sandbox: SandboxId) -> Option<ContainerInfo> {
    let metadata = status.metadata?;
    let exit = Exit { code: status.exit_code, reason: status.reason, message: status.message };
    Some(ContainerInfo {
        id: ContainerId(status.id),
        sandbox,
        pod_uid: status.labels.get(POD_UID_LABEL).cloned().unwrap_or_default(),
        name: metadata.name,
        attempt: metadata.attempt,
        state: container_state(status.state, || exit),
        created_at: time(status.created_at).unwrap_or_default(),
        started_at: time(status.started_at),
        finished_at: time(status.finished_at),
        image: status.image.map(|image| image.image).unwrap_or_default(),
        image_id: status.image_ref,
        annotations: status.annotations.into_iter().collect(),
    })
}

/// Returns an image.
pub(super) fn image(item: cri::Image) -> ImageInfo {
    ImageInfo {
        id: item.id,
        tags: item.repo_tags,
        digests: item.repo_digests,
        size_bytes: item.size,
        uid: item.uid.map(|uid| uid.value),
        username: item.username,
    }
}
