//! The `cri` runtime on a real containerd that the test starts itself, in directories of its own. Needs root.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use nodeagent::cni::{CniServer, NetworkProvider, PodAddress, SandboxNetwork};
use nodeagent::containerd::{Containerd, Paths};
use nodeagent::runtime::conformance::{self, Fixture};
use nodeagent::runtime::cri::CriRuntime;
use tokio_util::sync::CancellationToken;

/// Gives every sandbox the same address and makes no device: the suite only needs the contract.
#[derive(Debug)]
struct NoNetwork;

#[async_trait]
impl NetworkProvider for NoNetwork {
    async fn add(&self, sandbox: &SandboxNetwork) -> anyhow::Result<PodAddress> {
        anyhow::ensure!(sandbox.netns.as_deref().is_some_and(Path::exists), "the namespace must exist");
        Ok(PodAddress { ip: IpAddr::V4(Ipv4Addr::new(10, 255, 0, 1)), prefix: 32, gateway: None })
    }

    async fn remove(&self, _sandbox: &SandboxNetwork) -> anyhow::Result<()> {
        Ok(())
    }
}

/// Reports whether containers can run here; says in one line why not.
fn containers_can_run() -> bool {
    if !nix::unistd::geteuid().is_root() {
        // Past the capture of output: the test runner counts these lines.
        std::io::stderr().write_all(b"skipped: it needs root to start containerd\n").unwrap();
        return false;
    }
    true
}

#[tokio::test]
async fn containerd_passes_the_conformance_suite_and_is_adopted() {
    if !containers_can_run() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let paths = Paths::new(dir.path());
    let plugin = Path::new(env!("CARGO_BIN_EXE_keelson-cni"));
    let containerd = Containerd::start(paths.clone(), plugin).await.unwrap();
    let shutdown = CancellationToken::new();
    let server = CniServer::bind(&paths.cni_socket()).unwrap();
    let serving = tokio::spawn(server.serve(Arc::new(NoNetwork), shutdown.clone()));

    let runtime = CriRuntime::new(&paths.socket());
    let cgroup_parent = format!("{}/kubepods/besteffort/podx", paths.cgroup_prefix());
    let fixture = Fixture { scratch: dir.path().to_owned(), cgroup_parent };
    let outcome = conformance::run(&runtime, &fixture).await;

    // Dropping the handle is what a killed agent leaves; the next one finds the same process.
    let pid = containerd.pid();
    drop(containerd);
    let adopted = Containerd::start(paths.clone(), plugin).await.unwrap();
    let adopted_pid = adopted.pid();
    adopted.stop().await;
    shutdown.cancel();
    serving.await.unwrap();

    outcome.unwrap();
    assert_eq!(adopted_pid, pid);
    assert!(!paths.run().exists(), "the run directory is left behind");
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(paths.id()), "mounts are left behind");
    let prefix = paths.cgroup_prefix();
    assert!(!Path::new(&format!("/sys/fs/cgroup/memory{prefix}")).exists(), "cgroups are left behind");
}
