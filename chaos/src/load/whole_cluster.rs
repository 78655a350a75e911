//! A whole cluster on this machine: how soon it runs a pod, and how much memory it takes when nothing happens.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::task::JoinSet;

use super::{Folder, process};
use crate::run::say;

/// Longest wait for a cluster, and for its first pod.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// Containers stop with their grace period; nothing takes longer than this.
const STOP_TIMEOUT: Duration = Duration::from_secs(90);
/// Pause between two looks whether it has ended.
const STOP_POLL: Duration = Duration::from_millis(50);
/// How long a cluster is left alone before its memory is looked at.
pub(super) const IDLE: Duration = Duration::from_secs(60);
/// What `keelson up` says once all nodes are Ready.
const READY: &str = "keelson: Ready after";
/// What it says when it runs hollow nodes instead of containers.
const HOLLOW: &str = "containers cannot run here";
/// Prints `True` whenever a pod is Ready.
const READINESS: &str = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}{"\n"}"#;

/// What was measured.
#[derive(Clone, Debug, Default)]
pub(super) struct WholeCluster {
    pub starts: Vec<Start>,
    pub idle: Vec<Idle>,
    /// Real containers cannot run on this machine.
    pub is_hollow: bool,
}

/// One start on an empty directory with one server and one node, counted from the command.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    pub node_ready: Duration,
    /// `None` without kubectl.
    pub pod_ready: Option<Duration>,
}

/// Memory (PSS) of a cluster with one node that runs no pod.
#[derive(Clone, Copy, Debug)]
pub(super) struct Idle {
    pub servers: u32,
    pub processes: usize,
    pub keelson_bytes: u64,
    /// The node's container runtime.
    pub runtime_bytes: u64,
}

/// Measures starts first, then idle clusters of one and three servers.
///
/// # Errors
/// When a cluster does not become Ready or does not run its pods.
pub(super) async fn measure(
    binary: &Path,
    manifest: &Path,
    data: &Path,
    starts: u32,
) -> anyhow::Result<WholeCluster> {
    let manifest = manifest.canonicalize().with_context(|| manifest.display().to_string())?;
    let mut measured = WholeCluster::default();
    for _ in 0..starts {
        let folder = Folder::create(data)?;
        let mut up = Up::start(binary, &folder.0.join("cluster"), 1).await?;
        measured.is_hollow |= up.is_hollow;
        let pod_ready = first_pod(&up, &folder.0, &manifest).await;
        up.stop().await?;
        let start = Start { node_ready: up.ready_after, pod_ready: pod_ready? };
        say(&format!(
            "start: node Ready after {:?}, first pod after {:?}",
            start.node_ready, start.pod_ready
        ));
        measured.starts.push(start);
    }
    for servers in [1, 3] {
        let folder = Folder::create(data)?;
        let mut up = Up::start(binary, &folder.0.join("cluster"), servers).await?;
        tokio::time::sleep(IDLE).await;
        let idle = up.memory(servers, binary);
        up.stop().await?;
        say(&format!("idle: {:?}", idle.as_ref().ok()));
        measured.idle.push(idle?);
    }
    Ok(measured)
}

/// A running `keelson up` with one node.
struct Up {
    child: Child,
    pid: u32,
    began: Instant,
    ready_after: Duration,
    is_hollow: bool,
    /// Reads on, so that the cluster never waits for a full pipe.
    rest: JoinSet<()>,
}

impl Up {
    /// Starts a cluster on an empty directory that holds the example images, and waits until its node is Ready.
    async fn start(binary: &Path, data_dir: &Path, servers: u32) -> anyhow::Result<Self> {
        let packed = Command::new(binary)
            .args(["image", "pack", "--output"])
            .arg(data_dir.join("images"))
            .status()
            .await?;
        anyhow::ensure!(packed.success(), "the example images cannot be packed");
        let began = Instant::now();
        let mut child = Command::new(binary)
            .args(["up", "--api-port", "0", "--servers", &servers.to_string(), "--data-dir"])
            .arg(data_dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let pid = child.id().context("the cluster ended at once")?;
        let mut lines = BufReader::new(child.stderr.take().context("no pipe")?).lines();
        let waiting = tokio::time::timeout(READY_TIMEOUT, wait_ready(&mut lines)).await;
        let ready_after = began.elapsed();
        let mut rest = JoinSet::new();
        rest.spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let mut up = Self { child, pid, began, ready_after, is_hollow: false, rest };
        match waiting.context("not Ready in time").and_then(|ready| ready) {
            Ok(is_hollow) => up.is_hollow = is_hollow,
            Err(error) => {
                up.stop().await?;
                return Err(error);
            }
        }
        Ok(up)
    }

    /// Stops the cluster as Ctrl-C does.
    async fn stop(&mut self) -> anyhow::Result<()> {
        self.interrupt();
        let ended = tokio::time::timeout(STOP_TIMEOUT, self.child.wait()).await;
        ended.context("the cluster does not stop")??;
        while self.rest.join_next().await.is_some() {}
        Ok(())
    }

    fn interrupt(&self) {
        if let Ok(pid) = i32::try_from(self.pid) {
            // It may have ended by itself; waiting tells.
            let _ended_already = kill(Pid::from_raw(pid), Signal::SIGINT);
        }
    }

    fn memory(&self, servers: u32, binary: &Path) -> anyhow::Result<Idle> {
        let name = binary.file_name().unwrap_or_default().to_string_lossy();
        let mut idle = Idle { servers, processes: 0, keelson_bytes: 0, runtime_bytes: 0 };
        for (pid, program) in process::family(self.pid)? {
            let bytes = process::memory(pid)?;
            // The kernel keeps the first 15 bytes of a name.
            if !program.is_empty() && name.starts_with(&program) {
                idle.processes += 1;
                idle.keelson_bytes += bytes;
            } else {
                idle.runtime_bytes += bytes;
            }
        }
        anyhow::ensure!(idle.keelson_bytes > 0, "no process is called {name}");
        Ok(idle)
    }
}

impl Drop for Up {
    /// A measurement that is cut short leaves no cluster behind.
    fn drop(&mut self) {
        let deadline = Instant::now() + STOP_TIMEOUT;
        if matches!(self.child.try_wait(), Ok(None)) {
            self.interrupt();
        }
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::park_timeout(STOP_POLL);
        }
    }
}

/// Reads what `up` says until it is Ready. Returns whether its nodes are hollow.
async fn wait_ready(lines: &mut Lines<BufReader<ChildStderr>>) -> anyhow::Result<bool> {
    let mut is_hollow = false;
    let mut last = String::new();
    while let Some(line) = lines.next_line().await? {
        if line.contains(READY) {
            return Ok(is_hollow);
        }
        is_hollow |= line.contains(HOLLOW);
        last = line;
    }
    anyhow::bail!("the cluster ended: {last}")
}

/// Applies the manifest and waits for its first Ready pod; returns the time since the cluster was started.
async fn first_pod(up: &Up, folder: &Path, manifest: &Path) -> anyhow::Result<Option<Duration>> {
    let program = std::env::var_os("KUBECTL").unwrap_or_else(|| OsString::from("kubectl"));
    let kubectl = || {
        let mut command = Command::new(&program);
        command
            .env("KUBECONFIG", folder.join("cluster/admin.kubeconfig"))
            .env("HOME", folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        command
    };
    let applied = match kubectl().args(["apply", "--filename"]).arg(manifest).output().await {
        Ok(applied) => applied,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let words = String::from_utf8_lossy(&applied.stderr).into_owned();
    anyhow::ensure!(applied.status.success(), "kubectl apply: {}", words.trim());
    let arguments = ["get", "pods", "--all-namespaces", "--watch", "--output", READINESS];
    let mut watching = kubectl().args(arguments).spawn()?;
    let lines = BufReader::new(watching.stdout.take().context("no pipe")?).lines();
    let seen = tokio::time::timeout(READY_TIMEOUT, wait_true(lines)).await;
    let after = up.began.elapsed();
    watching.kill().await?;
    seen.context("no pod is Ready in time")??;
    Ok(Some(after))
}

async fn wait_true(mut lines: Lines<BufReader<ChildStdout>>) -> anyhow::Result<()> {
    while let Some(line) = lines.next_line().await? {
        if line.trim() == "True" {
            return Ok(());
        }
    }
    anyhow::bail!("kubectl get --watch ended")
}
