//! A control group (version 1) of one member's own, under one controller of the kernel.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::RUN_PREFIX;

/// A process that is ending may take a moment to leave.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(2);
const REMOVE_POLL: Duration = Duration::from_millis(5);

/// What the kernel limits for a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Controller {
    Blkio,
    Cpu,
}

impl Controller {
    /// Returns the folder in which the kernel shows its groups; it is the group of all that have none of their own.
    pub(super) fn folder(self) -> &'static Path {
        Path::new(match self {
            Self::Blkio => "/sys/fs/cgroup/blkio",
            Self::Cpu => "/sys/fs/cgroup/cpu",
        })
    }
}

/// A group of the run, until it is dropped.
pub(super) struct ControlGroup {
    controller: Controller,
    folder: PathBuf,
}

impl ControlGroup {
    /// Makes a group without limits. `name` begins with the run's id.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn create(controller: Controller, name: &str) -> anyhow::Result<Self> {
        let folder = controller.folder().join(name);
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(Self { controller, folder })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes one of the kernel's files of the group.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn set(&self, file: &str, value: &str) -> anyhow::Result<()> {
        let path = self.folder.join(file);
        std::fs::write(&path, value).with_context(|| format!("cannot write {value} to {}", path.display()))
    }

    /// Reads one of the kernel's files of the group.
    ///
    /// # Errors
    /// When there is no such file.
    pub(super) fn read(&self, file: &str) -> anyhow::Result<String> {
        let path = self.folder.join(file);
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Moves a process with all of its threads into the group.
    ///
    /// # Errors
    /// When it is not there.
    pub(super) fn take(&self, pid: u32) -> anyhow::Result<()> {
        self.set("cgroup.procs", &pid.to_string())
    }

    /// Lets all processes go.
    fn release(&self) -> anyhow::Result<()> {
        for pid in self.read("cgroup.procs")?.lines() {
            // One that has ended meanwhile is none of ours any more.
            let _ = std::fs::write(self.controller.folder().join("cgroup.procs"), pid);
        }
        Ok(())
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        let _ = self.release();
        let began = Instant::now();
        while let Err(error) = std::fs::remove_dir(&self.folder) {
            if began.elapsed() > REMOVE_TIMEOUT {
                tracing::warn!(group = %self.folder.display(), %error, "a control group of the run stays behind");
                return;
            }
            std::thread::sleep(REMOVE_POLL);
        }
    }
}

/// Removes groups of runs whose harness is gone.
pub(super) fn sweep() {
    for controller in [Controller::Blkio, Controller::Cpu] {
        for entry in std::fs::read_dir(controller.folder()).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let pid = name.strip_prefix(RUN_PREFIX).and_then(|rest| rest.split('-').next());
            if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                let _ = std::fs::remove_dir(entry.path());
            }
        }
    }
}
