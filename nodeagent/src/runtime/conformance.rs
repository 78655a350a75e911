//! What every runtime must do, as one suite. A test runs it on `fake` always, and on `cri` where containers can run.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::{
    ContainerId, ContainerInfo, ContainerSpec, ContainerState, ExecRequest, Runtime, RuntimeError, SandboxId,
    SandboxSpec, SandboxState,
};
use crate::images::pack;

/// The runtime's lists may lag behind its answers; a second is normal, more than this is not.
const EVENTUALLY: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);
/// Grace in the suite: long enough to tell TERM from KILL, short enough for a test.
const GRACE: Duration = Duration::from_secs(1);

/// What the suite may use.
#[derive(Debug, Clone)]
pub struct Fixture {
    /// A directory for archives and logs.
    pub scratch: PathBuf,
    /// Where the suite's pods are put in the cgroup hierarchies.
    pub cgroup_parent: String,
}

/// A rule that the runtime broke.
#[derive(Debug, thiserror::Error)]
pub enum Violation {
    /// A statement of the suite is not true.
    #[error("{0}")]
    Rule(String),
    /// A call that must work did not.
    #[error("{step}: {source}")]
    Call {
        /// Where.
        step: &'static str,
        /// The runtime's error.
        source: RuntimeError,
    },
}

trait Step<T> {
    fn step(self, step: &'static str) -> Result<T, Violation>;
}

impl<T> Step<T> for Result<T, RuntimeError> {
    fn step(self, step: &'static str) -> Result<T, Violation> {
        self.map_err(|source| Violation::Call { step, source })
    }
}

fn rule(holds: bool, text: impl Into<String>) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation::Rule(text.into())) }
}

/// Runs the suite; it removes everything that it made.
///
/// # Errors
/// The first broken rule.
pub async fn run(runtime: &dyn Runtime, fixture: &Fixture) -> Result<(), Violation> {
    let version = runtime.version().await.step("version")?;
    rule(!version.name.is_empty() && !version.version.is_empty(), "a runtime has a name and a version")?;
    let image = images(runtime, fixture).await?;
    let suite = Suite { runtime, fixture, image };
    suite.unknown_ids().await?;
    let spec = suite.sandbox_spec();
    let sandbox = suite.sandbox_starts(&spec).await?;
    suite.container_lives_and_is_stopped(&sandbox, &spec).await?;
    suite.exit_code_is_reported(&sandbox, &spec).await?;
    suite.missing_image_is_refused(&sandbox, &spec).await?;
    suite.sandbox_ends(&sandbox, &spec).await
}

async fn images(runtime: &dyn Runtime, fixture: &Fixture) -> Result<String, Violation> {
    let image = format!("{}:1", pack::WEB_IMAGE);
    rule(runtime.image("localhost/absent:1").await.step("image")?.is_none(), "an absent image is None")?;
    let pulled = runtime.pull_image("localhost/absent:1").await;
    rule(pulled.is_err(), "pulling what no registry has is an error")?;
    let archive = fixture.scratch.join("web.tar");
    let packed = pack::web_image(1).and_then(|image| image.to_archive(pack::Format::Docker));
    let bytes = packed.map_err(|error| Violation::Rule(error.to_string()))?;
    std::fs::write(&archive, bytes).map_err(|error| Violation::Rule(error.to_string()))?;
    for round in ["import", "import again"] {
        let names = runtime.import_image(&archive).await.step(round)?;
        rule(names == [image.clone()], format!("{round} brings {image}, got {names:?}"))?;
    }
    let deadline = Instant::now() + EVENTUALLY;
    while runtime.image(&image).await.step("image")?.is_none() {
        rule(Instant::now() < deadline, "an imported image appears")?;
        tokio::time::sleep(POLL).await;
    }
    Ok(image)
}

struct Suite<'a> {
    runtime: &'a dyn Runtime,
    fixture: &'a Fixture,
    image: String,
}

impl Suite<'_> {
    fn sandbox_spec(&self) -> SandboxSpec {
        SandboxSpec {
            name: "conformance".to_owned(),
            namespace: "test".to_owned(),
            uid: "0d1f1d7e-uid".to_owned(),
            attempt: 3,
            hostname: "conformance".to_owned(),
            log_directory: self.fixture.scratch.join("logs"),
            cgroup_parent: self.fixture.cgroup_parent.clone(),
            ..SandboxSpec::default()
        }
    }

    fn container_spec(&self, name: &str, command: &[&str]) -> ContainerSpec {
        ContainerSpec {
            name: name.to_owned(),
            attempt: 2,
            image: self.image.clone(),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            log_path: format!("{name}/2.log"),
            ..ContainerSpec::default()
        }
    }

    async fn unknown_ids(&self) -> Result<(), Violation> {
        let container = ContainerId("unknown".to_owned());
        let sandbox = SandboxId("unknown".to_owned());
        let status = self.runtime.container(&container).await;
        rule(status.is_err_and(|error| error.is_not_found()), "an unknown container is NotFound")?;
        let status = self.runtime.sandbox(&sandbox).await;
        rule(status.is_err_and(|error| error.is_not_found()), "an unknown sandbox is NotFound")?;
        self.runtime.stop_container(&container, GRACE).await.step("stop of an unknown container")?;
        self.runtime.remove_container(&container).await.step("removal of an unknown container")?;
        self.runtime.stop_sandbox(&sandbox).await.step("stop of an unknown sandbox")?;
        self.runtime.remove_sandbox(&sandbox).await.step("removal of an unknown sandbox")
    }

    async fn sandbox_starts(&self, spec: &SandboxSpec) -> Result<SandboxId, Violation> {
        std::fs::create_dir_all(&spec.log_directory).map_err(|error| Violation::Rule(error.to_string()))?;
        let id = self.runtime.run_sandbox(spec).await.step("run_sandbox")?;
        let info = self.runtime.sandbox(&id).await.step("sandbox")?;
        rule(info.state == SandboxState::Ready, "a new sandbox is ready")?;
        rule(info.ip.is_some(), "a sandbox in the pod network has an address")?;
        rule(
            info.uid == spec.uid && info.name == spec.name && info.attempt == 3,
            "a sandbox keeps its pod's names",
        )?;
        let listed = self.runtime.sandboxes().await.step("sandboxes")?;
        rule(listed.iter().filter(|item| item.id == id).count() == 1, "a sandbox is listed once")?;
        Ok(id)
    }

    async fn container_lives_and_is_stopped(
        &self,
        sandbox: &SandboxId,
        spec: &SandboxSpec,
    ) -> Result<(), Violation> {
        let container = self.container_spec("server", &[]);
        let id = self.runtime.create_container(sandbox, spec, &container).await.step("create_container")?;
        let info = self.runtime.container(&id).await.step("container")?;
        rule(
            info.state == ContainerState::Created && info.started_at.is_none(),
            "a new container is created, not started",
        )?;
        self.runtime.start_container(&id).await.step("start_container")?;
        let info = self.runtime.container(&id).await.step("container")?;
        rule(info.state == ContainerState::Running && info.started_at.is_some(), "a started container runs")?;
        rule(
            info.name == "server" && info.attempt == 2 && info.pod_uid == spec.uid,
            "a container keeps its names",
        )?;
        rule(info.sandbox == *sandbox, "a container knows its sandbox")?;
        self.commands(&id).await?;
        self.runtime.stop_container(&id, GRACE).await.step("stop_container")?;
        let info = self.until(&id, "a stopped container exits", |info| !info.is_live()).await?;
        rule(
            info.finished_at >= info.started_at && info.finished_at.is_some(),
            "the end is after the start",
        )?;
        self.runtime.stop_container(&id, GRACE).await.step("second stop")?;
        self.runtime.remove_container(&id).await.step("remove_container")?;
        self.runtime.remove_container(&id).await.step("second removal")?;
        let status = self.runtime.container(&id).await;
        rule(status.is_err_and(|error| error.is_not_found()), "a removed container is NotFound")
    }

    async fn commands(&self, id: &ContainerId) -> Result<(), Violation> {
        let command = ["/bin/sh", "-c", "echo out; echo err >&2; exit 3"].map(str::to_owned).to_vec();
        let request = ExecRequest { container: id.clone(), command, timeout: EVENTUALLY };
        let output = self.runtime.exec_sync(&request).await.step("exec_sync")?;
        let parts = (output.code, output.stdout.as_slice(), output.stderr.as_slice());
        rule(
            parts == (3, b"out\n", b"err\n"),
            format!("a command's exit and output are kept apart, got {output:?}"),
        )
    }

    async fn exit_code_is_reported(&self, sandbox: &SandboxId, spec: &SandboxSpec) -> Result<(), Violation> {
        let container = self.container_spec("short", &["/bin/sh", "-c", "exit 7"]);
        let id = self.runtime.create_container(sandbox, spec, &container).await.step("create_container")?;
        self.runtime.start_container(&id).await.step("start_container")?;
        let info = self.until(&id, "a container that ends is reported", |info| !info.is_live()).await?;
        let ContainerState::Exited(exit) = info.state else {
            return Err(Violation::Rule(format!("exited, got {:?}", info.state)));
        };
        rule(
            exit.code == 7 && exit.reason == "Error",
            format!("exit code 7 with reason Error, got {exit:?}"),
        )?;
        self.runtime.remove_container(&id).await.step("remove_container")
    }

    async fn missing_image_is_refused(
        &self,
        sandbox: &SandboxId,
        spec: &SandboxSpec,
    ) -> Result<(), Violation> {
        let mut container = self.container_spec("missing", &[]);
        container.image = "localhost/absent:1".to_owned();
        let created = self.runtime.create_container(sandbox, spec, &container).await;
        rule(created.is_err(), "a container of an absent image is refused")
    }

    async fn sandbox_ends(&self, id: &SandboxId, spec: &SandboxSpec) -> Result<(), Violation> {
        let container = self.container_spec("left", &[]);
        let left = self.runtime.create_container(id, spec, &container).await.step("create_container")?;
        self.runtime.start_container(&left).await.step("start_container")?;
        self.runtime.stop_sandbox(id).await.step("stop_sandbox")?;
        self.runtime.stop_sandbox(id).await.step("second stop_sandbox")?;
        self.until(&left, "stopping a sandbox ends its containers", |info| !info.is_live()).await?;
        let info = self.runtime.sandbox(id).await.step("sandbox")?;
        rule(info.state == SandboxState::NotReady, "a stopped sandbox is not ready")?;
        self.runtime.remove_sandbox(id).await.step("remove_sandbox")?;
        self.runtime.remove_sandbox(id).await.step("second remove_sandbox")?;
        let listed = self.runtime.sandboxes().await.step("sandboxes")?;
        rule(listed.iter().all(|item| item.id != *id), "a removed sandbox is not listed")?;
        let containers = self.runtime.containers().await.step("containers")?;
        rule(
            containers.iter().all(|item| item.sandbox != *id),
            "a removed sandbox takes its containers along",
        )
    }

    async fn until(
        &self,
        id: &ContainerId,
        text: &str,
        condition: impl Fn(&ContainerInfo) -> bool + Send,
    ) -> Result<ContainerInfo, Violation> {
        let deadline = Instant::now() + EVENTUALLY;
        loop {
            let info = self.runtime.container(id).await.step("container")?;
            if condition(&info) {
                return Ok(info);
            }
            rule(Instant::now() < deadline, format!("{text}, got {:?}", info.state))?;
            tokio::time::sleep(POLL).await;
        }
    }
}
