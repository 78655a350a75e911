//! The runtime's nouns: what is asked of a runtime and what it reports. No CRI message and no API object appears here.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

/// Label on every sandbox and container of ours: the pod's name. The keys are the ones that node tools look for.
pub const POD_NAME_LABEL: &str = "io.kubernetes.pod.name";
/// Label: the pod's namespace.
pub const POD_NAMESPACE_LABEL: &str = "io.kubernetes.pod.namespace";
/// Label: the pod's uid; what carries none is not ours and never touched.
pub const POD_UID_LABEL: &str = "io.kubernetes.pod.uid";
/// Label on containers: the container's name in the pod.
pub const CONTAINER_NAME_LABEL: &str = "io.kubernetes.container.name";

/// A sandbox's id, chosen by the runtime.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SandboxId(pub String);

/// A container's id, chosen by the runtime.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(pub String);

impl fmt::Display for SandboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Name and version of a runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeVersion {
    /// For example `containerd`.
    pub name: String,
    /// For example `1.6.20`.
    pub version: String,
}

/// Whose namespace is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NamespaceMode {
    /// One namespace for the whole pod.
    #[default]
    Pod,
    /// One namespace for each container.
    Container,
    /// The node's own namespace.
    Node,
}

/// Name servers, search list and options for resolv.conf.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DnsConfig {
    /// `nameserver` lines.
    pub servers: Vec<String>,
    /// The `search` line.
    pub searches: Vec<String>,
    /// The `options` line.
    pub options: Vec<String>,
}

/// What a sandbox is made from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SandboxSpec {
    /// The pod's name.
    pub name: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's uid.
    pub uid: String,
    /// Counts sandboxes of this pod, from 0.
    pub attempt: u32,
    /// The pod's hostname; empty for pods in the node's network.
    pub hostname: String,
    /// Directory that holds the logs of all its containers.
    pub log_directory: PathBuf,
    /// What goes into resolv.conf; `None` leaves the node's.
    pub dns: Option<DnsConfig>,
    /// Path of the pod's cgroup below every hierarchy's root.
    pub cgroup_parent: String,
    /// Network namespace.
    pub network: NamespaceMode,
    /// Process namespace.
    pub pid: NamespaceMode,
    /// IPC namespace.
    pub ipc: NamespaceMode,
    /// Kernel settings of the sandbox.
    pub sysctls: BTreeMap<String, String>,
    /// Whether any container of the pod is privileged.
    pub privilege: Privilege,
    /// The pod's own annotations, for network plugins.
    pub annotations: BTreeMap<String, String>,
}

/// Whether a container has the node's full rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Privilege {
    /// Confined.
    #[default]
    Confined,
    /// All capabilities, all devices.
    Privileged,
}

/// Which system-call filter applies.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Seccomp {
    /// None.
    #[default]
    Unconfined,
    /// The runtime's default profile.
    RuntimeDefault,
    /// A profile in a file of the node.
    Localhost(String),
}

/// Who a container runs as.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UserSpec {
    /// Numeric user; `None` takes the image's.
    pub uid: Option<i64>,
    /// Numeric group.
    pub gid: Option<i64>,
    /// Further groups (`fsGroup` and `supplementalGroups`).
    pub supplemental_groups: Vec<i64>,
}

/// How mounts move between node and container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Propagation {
    /// Not at all.
    #[default]
    Private,
    /// From node to container.
    HostToContainer,
    /// Both ways.
    Bidirectional,
}

/// One bind mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountSpec {
    /// Where it appears in the container.
    pub container_path: String,
    /// What is mounted.
    pub host_path: PathBuf,
    /// Whether the container may write.
    pub writable: bool,
    /// Propagation of further mounts.
    pub propagation: Propagation,
}

/// One environment variable.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EnvVar {
    /// Its name.
    pub name: String,
    /// Its value, fully expanded.
    pub value: String,
}

/// Limits of a container in the kernel's units; `None` means unlimited.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resources {
    /// Relative weight (`cpu.shares`), 2 and more.
    pub cpu_shares: Option<i64>,
    /// Microseconds of CPU time in one [`Resources::CPU_PERIOD_US`].
    pub cpu_quota_us: Option<i64>,
    /// Memory limit in bytes.
    pub memory_limit_bytes: Option<i64>,
    /// Inclination of the out-of-memory killer, -1000 to 1000.
    pub oom_score_adj: i64,
}

impl Resources {
    /// The scheduling period to which the quota refers: 100 ms, the kernel's and upstream's default.
    pub const CPU_PERIOD_US: i64 = 100_000;
}

/// What a container is made from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContainerSpec {
    /// Its name in the pod.
    pub name: String,
    /// Counts containers of this name in the pod, from 0.
    pub attempt: u32,
    /// Image name as the runtime knows it.
    pub image: String,
    /// Replaces the image's entrypoint when not empty.
    pub command: Vec<String>,
    /// Replaces the image's arguments when not empty.
    pub args: Vec<String>,
    /// Replaces the image's working directory when not empty.
    pub working_dir: String,
    /// Its environment.
    pub env: Vec<EnvVar>,
    /// Its mounts.
    pub mounts: Vec<MountSpec>,
    /// Log file, relative to the sandbox's log directory.
    pub log_path: String,
    /// Whether a stdin pipe is kept.
    pub stdin: bool,
    /// Whether stdin closes after the first attach.
    pub stdin_once: bool,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Limits.
    pub resources: Resources,
    /// User and groups.
    pub user: UserSpec,
    /// Full rights or not.
    pub privilege: Privilege,
    /// Whether the root file system is read-only.
    pub readonly_rootfs: bool,
    /// Whether `no_new_privs` is set.
    pub no_new_privileges: bool,
    /// Capabilities added to the runtime's default set.
    pub add_capabilities: Vec<String>,
    /// Capabilities taken away.
    pub drop_capabilities: Vec<String>,
    /// System-call filter.
    pub seccomp: Seccomp,
    /// Annotations that outlive the agent: grace period, termination message path.
    pub annotations: BTreeMap<String, String>,
}

/// State of a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxState {
    /// Its namespaces live.
    Ready,
    /// It was stopped or died.
    NotReady,
}

/// What a runtime reports about a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxInfo {
    /// The runtime's id.
    pub id: SandboxId,
    /// Pod name.
    pub name: String,
    /// Pod namespace.
    pub namespace: String,
    /// Pod uid.
    pub uid: String,
    /// Which sandbox of this pod.
    pub attempt: u32,
    /// Ready or not.
    pub state: SandboxState,
    /// When it was made.
    pub created_at: Timestamp,
    /// The pod's address; `None` for pods in the node's network and in lists.
    pub ip: Option<IpAddr>,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exit {
    /// Exit status; 128 + signal for killed ones.
    pub code: i32,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`, ….
    pub reason: String,
    /// More words, for failed starts.
    pub message: String,
}

/// State of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerState {
    /// Made, not started.
    Created,
    /// Running.
    Running,
    /// Ended.
    Exited(Exit),
    /// The runtime cannot say. It may still run, so it is stopped like one that does, and counts as ended with code 137.
    Unknown,
}

/// What a runtime reports about a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerInfo {
    /// The runtime's id.
    pub id: ContainerId,
    /// Sandbox in which it lives.
    pub sandbox: SandboxId,
    /// Pod uid, from the label.
    pub pod_uid: String,
    /// Name in the pod.
    pub name: String,
    /// Which container of this name.
    pub attempt: u32,
    /// Its state.
    pub state: ContainerState,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// The image as asked for.
    pub image: String,
    /// The image's digest or id.
    pub image_id: String,
    /// Annotations given at creation.
    pub annotations: BTreeMap<String, String>,
}

impl ContainerInfo {
    /// Reports whether its process may be alive.
    #[must_use]
    pub fn is_live(&self) -> bool {
        match self.state {
            ContainerState::Created | ContainerState::Running | ContainerState::Unknown => true,
            ContainerState::Exited(_) => false,
        }
    }
}

/// A command to run to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecRequest {
    /// Where.
    pub container: ContainerId,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Deadline.
    pub timeout: Duration,
}

/// What a command printed and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExecOutput {
    /// Exit status.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

/// An exec (with a command) or attach (without) whose streams a client will carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamRequest {
    /// Where.
    pub container: ContainerId,
    /// Program and arguments; `None` attaches to the running process.
    pub command: Option<Vec<String>>,
    /// Whether the client sends input.
    pub stdin: bool,
    /// Whether the client takes output.
    pub stdout: bool,
    /// Whether the client takes errors; must be false with a terminal.
    pub stderr: bool,
    /// Whether a terminal is allocated.
    pub tty: bool,
}

/// What a runtime reports about an image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageInfo {
    /// Digest of its configuration.
    pub id: String,
    /// Tags.
    pub tags: Vec<String>,
    /// Digests under which registries know it.
    pub digests: Vec<String>,
    /// Size in bytes.
    pub size_bytes: u64,
    /// The user that the image runs as, when it is numeric.
    pub uid: Option<i64>,
    /// The user's name otherwise.
    pub username: String,
}
