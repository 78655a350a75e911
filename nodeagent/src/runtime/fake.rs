//! A runtime in memory: deterministic, for hollow nodes and tests.
//!
//! It keeps what a real runtime would report and nothing else: no process, no file, no network. Commands of the form
//! `sh -c "echo TEXT; exit N"` are understood, so that exits and probes can be scripted; every other command runs until stopped.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use transport::outside::{Machine, Outside};

use super::{
    ContainerId, ContainerInfo, ContainerSpec, ContainerState, ExecOutput, ExecRequest, Exit, ImageInfo,
    NamespaceMode, Runtime, RuntimeError, RuntimeVersion, SandboxId, SandboxInfo, SandboxSpec, SandboxState,
    StreamRequest,
};
use crate::images;

/// Exit status of a process that SIGTERM ended.
const TERMINATED: i32 = 143;
/// Safety poll, as real runtimes with events have it.
const SAFETY_POLL: Duration = Duration::from_secs(300);

/// Which images a fake runtime holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FakeImages {
    /// Every name exists: hollow nodes run anything.
    All,
    /// Only imported ones.
    Imported,
}

/// How long things take on a fake runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FakeTimes {
    /// From `run_sandbox` to a ready sandbox.
    pub sandbox: Duration,
    /// From `start_container` to a running container.
    pub container: Duration,
}

#[derive(Debug, Default)]
struct State {
    next_id: u64,
    sandboxes: BTreeMap<SandboxId, SandboxInfo>,
    containers: BTreeMap<ContainerId, FakeContainer>,
    images: BTreeMap<String, ImageInfo>,
}

#[derive(Debug, Clone)]
struct FakeContainer {
    info: ContainerInfo,
    script: Option<Script>,
}

/// A runtime in memory.
#[derive(Debug)]
pub struct FakeRuntime {
    state: Mutex<State>,
    changed: Notify,
    images: FakeImages,
    times: FakeTimes,
    first_address: u32,
    has_network: bool,
    cut_off: AtomicUsize,
    failing_stops: AtomicUsize,
    /// Lists of sandboxes that still fail.
    failing_lists: AtomicUsize,
    outside: Arc<dyn Outside>,
}

/// Counts a call that is dropped before its end.
struct Call<'a>(&'a AtomicUsize);

impl Call<'_> {
    fn end(self) {
        std::mem::forget(self);
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl FakeRuntime {
    /// Returns an empty runtime; `first_address` is where its pod addresses begin.
    #[must_use]
    pub fn new(images: FakeImages, times: FakeTimes, first_address: Ipv4Addr) -> Self {
        Self {
            state: Mutex::new(State::default()),
            changed: Notify::new(),
            images,
            times,
            first_address: first_address.to_bits(),
            has_network: true,
            cut_off: AtomicUsize::new(0),
            failing_stops: AtomicUsize::new(0),
            failing_lists: AtomicUsize::new(0),
            outside: Machine::shared(),
        }
    }

    /// Makes the next stops of sandboxes fail, as those of a runtime that is too busy.
    pub fn fail_stops(&self, count: usize) {
        self.failing_stops.store(count, Ordering::Relaxed);
    }

    /// Makes the next lists of sandboxes fail, as those of a runtime that is starting again.
    pub fn fail_lists(&self, count: usize) {
        self.failing_lists.store(count, Ordering::Relaxed);
    }

    /// Returns how many calls that make something were dropped in the middle. A real runtime may keep what they had made so far.
    #[must_use]
    pub fn cut_off(&self) -> usize {
        self.cut_off.load(Ordering::Relaxed)
    }

    async fn take(&self, time: Duration) {
        let call = Call(&self.cut_off);
        tokio::time::sleep(time).await;
        call.end();
    }

    /// Says of its containers that nothing can connect to them. Tests that listen themselves leave this out.
    #[must_use]
    pub fn without_network(self) -> Self {
        Self { has_network: false, ..self }
    }

    /// Says when things happened by the clock of this outside.
    #[must_use]
    pub fn in_time_of(self, outside: Arc<dyn Outside>) -> Self {
        Self { outside, ..self }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notify(&self) {
        self.changed.notify_one();
    }

    /// Ends a container as a crash would, for tests and crash-rate scripts.
    ///
    /// # Errors
    /// When the container is not known.
    pub fn crash(&self, id: &ContainerId, code: i32) -> Result<(), RuntimeError> {
        self.end(id, exit(code))
    }

    fn end(&self, id: &ContainerId, exit: Exit) -> Result<(), RuntimeError> {
        let mut state = self.state();
        let container = state.containers.get_mut(id).ok_or_else(|| unknown("container", &id.0))?;
        if container.info.is_live() {
            container.info.state = ContainerState::Exited(exit);
            container.info.finished_at = Some(self.outside.now());
        }
        drop(state);
        self.notify();
        Ok(())
    }

    fn holds(&self, state: &State, image: &str) -> bool {
        self.images == FakeImages::All || state.images.contains_key(image)
    }

    fn address(&self, number: u64) -> IpAddr {
        let offset = u32::try_from(number % u64::from(u16::MAX)).unwrap_or(0);
        IpAddr::V4(Ipv4Addr::from_bits(self.first_address.wrapping_add(offset)))
    }
}

impl State {
    fn next(&mut self, prefix: &str) -> (u64, String) {
        self.next_id += 1;
        (self.next_id, format!("{prefix}{:016x}", self.next_id))
    }
}

/// What a scripted command prints and how it ends.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Script {
    output: ExecOutput,
}

impl Script {
    /// Understands `sh -c "echo A; echo B >&2; exit N"`; `None` for anything else.
    fn parse(command: &[String]) -> Option<Self> {
        let [shell, flag, text] = command else { return None };
        if !shell.ends_with("sh") || flag != "-c" {
            return None;
        }
        let mut output = ExecOutput::default();
        for statement in text.split(';').map(str::trim) {
            if let Some(code) = statement.strip_prefix("exit ") {
                output.code = code.parse().ok()?;
            } else if let Some(words) = statement.strip_prefix("echo ") {
                let (words, to) = match words.strip_suffix(" >&2") {
                    Some(words) => (words, &mut output.stderr),
                    None => (words, &mut output.stdout),
                };
                to.extend_from_slice(words.as_bytes());
                to.push(b'\n');
            } else {
                return None;
            }
        }
        Some(Self { output })
    }
}

fn exit(code: i32) -> Exit {
    let reason = if code == 0 { "Completed" } else { "Error" };
    Exit { code, reason: reason.to_owned(), message: String::new() }
}

fn unknown(what: &str, id: &str) -> RuntimeError {
    RuntimeError::NotFound { what: format!("{what} {id}") }
}

fn failed(call: &'static str, message: String) -> RuntimeError {
    RuntimeError::Failed { call, message }
}

#[async_trait]
impl Runtime for FakeRuntime {
    fn has_network(&self) -> bool {
        self.has_network
    }

    async fn version(&self) -> Result<RuntimeVersion, RuntimeError> {
        Ok(RuntimeVersion { name: "fake".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() })
    }

    async fn run_sandbox(&self, spec: &SandboxSpec) -> Result<SandboxId, RuntimeError> {
        self.take(self.times.sandbox).await;
        let mut state = self.state();
        let (number, id) = state.next("sandbox-");
        let ip = (spec.network == NamespaceMode::Pod).then(|| self.address(number));
        let info = SandboxInfo {
            id: SandboxId(id),
            name: spec.name.clone(),
            namespace: spec.namespace.clone(),
            uid: spec.uid.clone(),
            attempt: spec.attempt,
            state: SandboxState::Ready,
            created_at: self.outside.now(),
            ip,
        };
        let id = info.id.clone();
        state.sandboxes.insert(id.clone(), info);
        drop(state);
        self.notify();
        Ok(id)
    }

    async fn stop_sandbox(&self, id: &SandboxId) -> Result<(), RuntimeError> {
        let left = |count: usize| count.checked_sub(1);
        if self.failing_stops.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left).is_ok() {
            return Err(failed("StopPodSandbox", "the runtime is busy".to_owned()));
        }
        let inside: Vec<ContainerId> = {
            let mut state = self.state();
            let Some(sandbox) = state.sandboxes.get_mut(id) else { return Ok(()) };
            sandbox.state = SandboxState::NotReady;
            let inside = state.containers.values().filter(|container| container.info.sandbox == *id);
            inside.map(|container| container.info.id.clone()).collect()
        };
        for container in inside {
            self.end(&container, exit(137))?;
        }
        self.notify();
        Ok(())
    }

    async fn remove_sandbox(&self, id: &SandboxId) -> Result<(), RuntimeError> {
        self.stop_sandbox(id).await?;
        let mut state = self.state();
        state.sandboxes.remove(id);
        state.containers.retain(|_, container| container.info.sandbox != *id);
        drop(state);
        self.notify();
        Ok(())
    }

    async fn sandboxes(&self) -> Result<Vec<SandboxInfo>, RuntimeError> {
        let take_one = |count: usize| count.checked_sub(1);
        if self.failing_lists.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take_one).is_ok() {
            return Err(failed("ListPodSandbox", "not ready".to_owned()));
        }
        let without_address = |info: &SandboxInfo| SandboxInfo { ip: None, ..info.clone() };
        Ok(self.state().sandboxes.values().map(without_address).collect())
    }

    async fn sandbox(&self, id: &SandboxId) -> Result<SandboxInfo, RuntimeError> {
        self.state().sandboxes.get(id).cloned().ok_or_else(|| unknown("sandbox", &id.0))
    }

    async fn create_container(
        &self,
        sandbox: &SandboxId,
        sandbox_spec: &SandboxSpec,
        spec: &ContainerSpec,
    ) -> Result<ContainerId, RuntimeError> {
        let mut state = self.state();
        match state.sandboxes.get(sandbox).map(|info| info.state) {
            Some(SandboxState::Ready) => {}
            Some(SandboxState::NotReady) => {
                return Err(failed("CreateContainer", format!("sandbox {sandbox} is not ready")));
            }
            None => return Err(unknown("sandbox", &sandbox.0)),
        }
        if !self.holds(&state, &spec.image) {
            return Err(unknown("image", &spec.image));
        }
        let (_, id) = state.next("container-");
        let info = ContainerInfo {
            id: ContainerId(id),
            sandbox: sandbox.clone(),
            pod_uid: sandbox_spec.uid.clone(),
            name: spec.name.clone(),
            attempt: spec.attempt,
            state: ContainerState::Created,
            created_at: self.outside.now(),
            started_at: None,
            finished_at: None,
            image: spec.image.clone(),
            image_id: format!("fake:{}", spec.image),
            annotations: spec.annotations.clone(),
        };
        let id = info.id.clone();
        state.containers.insert(id.clone(), FakeContainer { info, script: Script::parse(&spec.command) });
        drop(state);
        self.notify();
        Ok(id)
    }

    async fn start_container(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        self.take(self.times.container).await;
        let script = {
            let mut state = self.state();
            let container = state.containers.get_mut(id).ok_or_else(|| unknown("container", &id.0))?;
            if container.info.state != ContainerState::Created {
                return Err(failed("StartContainer", format!("container {id} was started before")));
            }
            container.info.state = ContainerState::Running;
            container.info.started_at = Some(self.outside.now());
            container.script.clone()
        };
        self.notify();
        match script {
            Some(script) => self.end(id, exit(script.output.code)),
            None => Ok(()),
        }
    }

    async fn stop_container(&self, id: &ContainerId, _grace: Duration) -> Result<(), RuntimeError> {
        match self.end(id, exit(TERMINATED)) {
            Err(error) if error.is_not_found() => Ok(()),
            other => other,
        }
    }

    async fn remove_container(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        let mut state = self.state();
        if state.containers.get(id).is_some_and(|container| container.info.state == ContainerState::Running) {
            return Err(failed("RemoveContainer", format!("container {id} is running")));
        }
        state.containers.remove(id);
        drop(state);
        self.notify();
        Ok(())
    }

    async fn containers(&self) -> Result<Vec<ContainerInfo>, RuntimeError> {
        Ok(self.state().containers.values().map(|container| container.info.clone()).collect())
    }

    async fn container(&self, id: &ContainerId) -> Result<ContainerInfo, RuntimeError> {
        let state = self.state();
        state
            .containers
            .get(id)
            .map(|container| container.info.clone())
            .ok_or_else(|| unknown("container", &id.0))
    }

    async fn reopen_log(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        self.container(id).await.map(drop)
    }

    async fn exec_sync(&self, request: &ExecRequest) -> Result<ExecOutput, RuntimeError> {
        let info = self.container(&request.container).await?;
        if info.state != ContainerState::Running {
            return Err(failed("ExecSync", format!("container {} is not running", request.container)));
        }
        Ok(Script::parse(&request.command).unwrap_or_default().output)
    }

    async fn stream_url(&self, _request: &StreamRequest) -> Result<String, RuntimeError> {
        Err(RuntimeError::Unimplemented { call: "Exec" })
    }

    async fn image(&self, name: &str) -> Result<Option<ImageInfo>, RuntimeError> {
        let state = self.state();
        if !self.holds(&state, name) {
            return Ok(None);
        }
        let made_up =
            ImageInfo { id: format!("fake:{name}"), tags: vec![name.to_owned()], ..ImageInfo::default() };
        Ok(Some(state.images.get(name).cloned().unwrap_or(made_up)))
    }

    async fn pull_image(&self, name: &str) -> Result<(), RuntimeError> {
        if self.image(name).await?.is_some() {
            return Ok(());
        }
        Err(failed("PullImage", format!("a fake runtime has no registry for {name}")))
    }

    async fn images(&self) -> Result<Vec<ImageInfo>, RuntimeError> {
        Ok(self.state().images.values().cloned().collect())
    }

    async fn import_image(&self, archive: &Path) -> Result<Vec<String>, RuntimeError> {
        let info = images::inspect(archive).map_err(|error| failed("import", error.to_string()))?;
        let mut state = self.state();
        for name in &info.names {
            let image =
                ImageInfo { id: format!("fake:{name}"), tags: vec![name.clone()], ..ImageInfo::default() };
            state.images.insert(name.clone(), image);
        }
        Ok(info.names)
    }

    async fn changed(&self) {
        let _safety_poll = tokio::time::timeout(SAFETY_POLL, self.changed.notified()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::conformance;

    #[tokio::test]
    async fn fake_passes_the_conformance_suite() {
        let times = FakeTimes { sandbox: Duration::from_millis(5), container: Duration::from_millis(2) };
        let runtime = FakeRuntime::new(FakeImages::Imported, times, Ipv4Addr::new(10, 0, 0, 1));
        let dir = tempfile::tempdir().unwrap();
        let fixture =
            conformance::Fixture { scratch: dir.path().to_owned(), cgroup_parent: "/none".to_owned() };
        conformance::run(&runtime, &fixture).await.unwrap();
    }

    #[test]
    fn scripts_are_understood() {
        let script = |text: &str| Script::parse(&["/bin/sh".to_owned(), "-c".to_owned(), text.to_owned()]);
        let parsed = script("echo a b; echo c >&2; exit 3").unwrap().output;
        assert_eq!(
            (parsed.code, parsed.stdout.as_slice(), parsed.stderr.as_slice()),
            (3, &b"a b\n"[..], &b"c\n"[..])
        );
        assert_eq!(script("while true"), None);
    }
}
