//! Keeps log files small: a full one is renamed, the runtime opens a new one, the oldest go.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use client::Cache;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio_util::sync::CancellationToken;

use crate::pod::spec::log_directory;
use crate::runtime::{ContainerInfo, ContainerState, Runtime};

/// Size at which a file is rotated (upstream's default).
const FILE_BYTES_MAX: u64 = 10 << 20;
/// Files of one container, the current one included (upstream's default).
const FILES_MAX: usize = 5;
/// How often sizes are looked at (upstream's default).
const INTERVAL: Duration = Duration::from_secs(10);

/// Rotates the logs of all running containers until the token is cancelled.
pub async fn run(runtime: Arc<dyn Runtime>, pods: Cache<Pod>, root: PathBuf, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
        let containers = match runtime.containers().await {
            Ok(containers) => containers,
            Err(error) => {
                tracing::debug!(%error, "logs are not rotated");
                continue;
            }
        };
        let pods = pods.list();
        for container in containers.iter().filter(|container| container.state == ContainerState::Running) {
            let uid = Some(container.pod_uid.as_str());
            let Some(pod) = pods.iter().find(|pod| pod.metadata.uid.as_deref() == uid) else { continue };
            let path =
                log_directory(&root, pod).join(&container.name).join(format!("{}.log", container.attempt));
            if let Err(error) = rotate(runtime.as_ref(), container, &path, FILE_BYTES_MAX).await {
                tracing::warn!(%error, path = %path.display(), "log is not rotated");
            }
        }
    }
}

async fn rotate(
    runtime: &dyn Runtime,
    container: &ContainerInfo,
    path: &Path,
    bytes_max: u64,
) -> anyhow::Result<()> {
    let size = std::fs::metadata(path).map(|metadata| metadata.len()).unwrap_or_default();
    if size < bytes_max {
        return Ok(());
    }
    let full = path.with_extension(format!("log.{}", Timestamp::now().strftime("%Y%m%d-%H%M%S%.6f")));
    std::fs::rename(path, &full)?;
    if let Err(error) = runtime.reopen_log(&container.id).await {
        // The runtime still writes to the old file: it keeps its name.
        std::fs::rename(&full, path)?;
        return Err(error.into());
    }
    let mut old = old_files(path)?;
    old.sort();
    let surplus = old.len().saturating_sub(FILES_MAX - 1);
    for file in old.iter().take(surplus) {
        std::fs::remove_file(file)?;
    }
    Ok(())
}

/// Returns the rotated files of a log; their names sort by age.
fn old_files(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return Ok(Vec::new()) };
    let prefix = format!("{}.", name.to_string_lossy());
    let entries = std::fs::read_dir(directory)?.flatten().map(|entry| entry.path());
    let is_old =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix));
    Ok(entries.filter(is_old).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::fake::{FakeImages, FakeRuntime, FakeTimes};
    use crate::runtime::{ContainerSpec, SandboxSpec};
    use std::net::Ipv4Addr;

    #[tokio::test]
    async fn full_files_are_renamed_and_the_oldest_go() {
        let times = FakeTimes { sandbox: Duration::ZERO, container: Duration::ZERO };
        let runtime = FakeRuntime::new(FakeImages::All, times, Ipv4Addr::new(10, 0, 0, 1));
        let sandbox = runtime.run_sandbox(&SandboxSpec::default()).await.unwrap();
        let id = runtime
            .create_container(&sandbox, &SandboxSpec::default(), &ContainerSpec::default())
            .await
            .unwrap();
        let container = runtime.container(&id).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        for round in 0..7 {
            std::fs::write(&path, format!("round {round}")).unwrap();
            rotate(&runtime, &container, &path, 100).await.unwrap();
            assert!(path.exists(), "a small file stays");
            rotate(&runtime, &container, &path, 1).await.unwrap();
            assert!(!path.exists());
        }
        let mut old = old_files(&path).unwrap();
        old.sort();
        let texts: Vec<String> = old.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
        assert_eq!(texts, ["round 3", "round 4", "round 5", "round 6"]);
    }
}
